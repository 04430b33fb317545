"""Casts from floats to integers: each has a rule, whatever the float, so that processors cannot differ in it."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.arithmetic.exact import (
    LIMIT,
    FixedPoint,
    NotFiniteError,
    OutOfRangeError,
    saturate,
    to_whole,
    within,
)
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.codecs.top_k import TopK
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.model import LARGEST, ModelFile, fixed_model
from support.examples import examples

doubles = st.lists(st.floats(), min_size=1, max_size=5)
singles = st.lists(st.floats(width=32), min_size=1, max_size=5)
formats = st.builds(FixedPoint, st.integers(8, 36), st.sampled_from((0.1, 1.0, 16.0)))


def nearest(x: float, limit: int) -> int:
    """Return what a float is rounded to, in Python's own integers."""
    if np.isinf(x):
        return limit if x > 0 else -limit
    return max(-limit, min(limit, round(Fraction(x))))


@examples(300)
@given(doubles, st.integers(1, 1 << 62))
def test_doubles_are_rounded_and_limited(values: list[float], limit: int) -> None:
    given_ = np.array(values)
    if np.isnan(given_).any():
        with pytest.raises(NotFiniteError):
            to_whole(given_, limit)
        return
    assert to_whole(given_, limit).tolist() == [nearest(x, limit) for x in values]
    assert saturate(given_).tolist() == [nearest(x, LIMIT) for x in values]


@examples(200)
@given(singles, st.integers(1, 1 << 62))
def test_singles_are_rounded_and_limited(values: list[float], limit: int) -> None:
    given_ = np.array(values, np.float32)
    if not np.isnan(given_).any():
        assert to_whole(given_, limit).tolist() == [nearest(float(x), limit) for x in given_]


def test_a_limit_is_one_that_an_int64_holds() -> None:
    assert to_whole(np.array([1e300, -np.inf]), 1 << 62).tolist() == [1 << 62, -(1 << 62)]
    with pytest.raises(OutOfRangeError):
        to_whole(np.zeros(1), (1 << 62) + 1)


@examples(200)
@given(singles, formats)
def test_a_model_has_a_value_or_is_refused(values: list[float], fixed: FixedPoint) -> None:
    vector = np.array(values, np.float32)
    exact = [None if not np.isfinite(x) else Fraction(float(x)) * fixed.unit for x in vector]
    if any(x is None or abs(x) > LARGEST for x in exact):
        with pytest.raises(ContentUnreadableError):
            fixed_model(vector, fixed)
        return
    assert fixed_model(vector, fixed).tolist() == [round(x) for x in exact if x is not None]
    assert within(fixed_model(vector, fixed) - fixed_model(-vector, fixed), 1 << 62)


@examples(200)
@given(singles)
def test_a_model_file_is_finite_and_keeps_the_sign_of_zeros(values: list[float]) -> None:
    data = ModelFile.of({"w": np.array(values, np.float32)}).encode()
    if np.isfinite(values).all():
        assert ModelFile.decode(data).encode() == data
    else:
        with pytest.raises(ContentUnreadableError, match="not finite"):
            ModelFile.decode(data)


def test_both_zeros_and_the_smallest_floats_are_0_in_the_exact_layer() -> None:
    vector = np.array([0.0, -0.0, 1e-45, -1e-45], np.float32)
    assert fixed_model(vector, FixedPoint(36, 16.0)).tolist() == [0, 0, 0, 0]
    assert FixedPoint(36, 16.0).quantise(vector).tolist() == [0, 0, 0, 0]


@examples(200)
@given(singles, formats)
def test_sums_take_what_is_within_the_bound_and_refuse_the_rest(values: list[float], fixed: FixedPoint) -> None:
    vector = np.array(values, np.float32)
    whole, rows = WeightedSum(fixed, len(vector), 8), WeightedSum(fixed, len(vector), 8)
    if not np.isfinite(vector).all() or float(np.abs(vector).max()) > fixed.bound:
        for add in (lambda: whole.add(vector, 3), lambda: rows.add_rows(vector[None], [3])):
            with pytest.raises((NotFiniteError, OutOfRangeError)):
                add()
        return
    whole.add(vector, 3)
    rows.add_rows(vector[None], [3])
    assert whole.mean().tolist() == rows.mean().tolist() == fixed.quantise(vector).tolist()


@examples(200)
@given(st.lists(st.floats(width=32), min_size=4, max_size=4), formats)
def test_a_codec_limits_what_is_beyond_the_bound(values: list[float], fixed: FixedPoint) -> None:
    codec, vector = TopK(k=4, bits=32, shift=24), np.array(values, np.float32)
    sent = codec.encode(vector, fixed)
    if not np.isfinite(vector).all():
        assert not len(sent)
        return
    found, most = codec.decode(sent, 4, fixed), int(fixed.bound * fixed.unit)
    assert all(abs(x - nearest(float(v) * fixed.unit, most)) <= 1 << 24 for x, v in zip(found, vector, strict=True))


CAST = re.compile(r"\.astype\((?:np\.)?int|np\.rint\(.*out=|np\.as\w*array\([^)]*np\.int|np\.array\([^)]*np\.int")
EXPECTED = {
    # Casts of whole doubles below 2^53, and of floats that are checked or limited right before.
    "protocol/fedledger/protocol/arithmetic/exact.py": 15,
    "protocol/fedledger/protocol/arithmetic/division.py": 2,
    "protocol/fedledger/protocol/codecs/statistics.py": 3,
    "aggregator/fedledger/aggregator/context/sketches.py": 4,
    "aggregator/fedledger/aggregator/mixings/mixture.py": 1,
    "protocol/fedledger/protocol/arithmetic/weighted_sum.py": 4,
    "aggregator/fedledger/aggregator/context/columns.py": 3,
    "aggregator/fedledger/aggregator/context/distances.py": 1,
    "aggregator/fedledger/aggregator/games/correlated_agreement.py": 1,
    # Casts of integers.
    "aggregator/fedledger/aggregator/mechanisms/tables.py": 1,
    "aggregator/fedledger/aggregator/round/pipeline.py": 1,
    "protocol/fedledger/protocol/records/bids.py": 1,
    "aggregator/fedledger/aggregator/contributions/cgsv.py": 1,
    "aggregator/fedledger/aggregator/contributions/comfedsv.py": 1,
    "aggregator/fedledger/aggregator/context/ranks.py": 1,
    "protocol/fedledger/protocol/codecs/top_k.py": 1,
    "protocol/fedledger/protocol/records/published_vectors.py": 1,
    "protocol/fedledger/protocol/records/seal.py": 1,
    "aggregator/fedledger/aggregator/context/geometry.py": 1,
    "aggregator/fedledger/aggregator/evidence/tallies.py": 1,
    "aggregator/fedledger/aggregator/mechanisms/whole_tallies.py": 1,
    "aggregator/fedledger/aggregator/mechanisms/zhan_learned.py": 1,
    "aggregator/fedledger/aggregator/mixings/nearest_neighbour_mixing.py": 1,
    "aggregator/fedledger/aggregator/round/methods.py": 1,
    "aggregator/fedledger/aggregator/round/state.py": 2,
    "aggregator/fedledger/aggregator/rules/agnostic.py": 1,
    "aggregator/fedledger/aggregator/rules/base.py": 2,
    "aggregator/fedledger/aggregator/rules/flame.py": 2,
    "aggregator/fedledger/aggregator/rules/near_median.py": 3,
    "aggregator/fedledger/aggregator/rules/supported_mean.py": 1,
}


def test_no_cast_is_added_without_a_look_at_its_range(root: Path) -> None:
    """Whoever adds one to what decides about a round writes down here that its range is known, or uses `to_whole`."""
    found = {}
    for folder in ("protocol", "aggregator"):
        for path in sorted((root / folder).rglob("*.py")):
            count = len(CAST.findall(path.read_text()))
            if count:
                found[str(path.relative_to(root))] = count
    assert found == EXPECTED
