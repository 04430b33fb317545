"""Normalisations: exact, and bounded whatever somebody claims or sends."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_validation import BASE, BASE_REF, EXPECTED, OWNERS, SPEC, UNITS, measure, participations, update

from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.normalisations.fednova import MOST_STEPS, FedNova, MedianNova
from fedledger.aggregator.normalisations.median_clip import MedianClip
from fedledger.aggregator.round.methods import RoundMethods, check_rows
from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome, round_outcome
from fedledger.ledger_tools.audit.replay import require_methods
from fedledger.protocol.arithmetic.exact import LIMIT
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples

CLAIMS = st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1))


def by_fractions(deltas: list[list[int]], steps: list[int], examples: list[int], most: int, bound: int) -> list:
    tau = [min(max(1, claimed), most) for claimed in steps]
    effective = Fraction(sum(n * t for n, t in zip(examples, tau, strict=True)), sum(examples))
    # round() of a fraction is exact, halves to even.
    return [
        [max(-bound, min(bound, round(x * effective / t))) for x in row] for row, t in zip(deltas, tau, strict=True)
    ]


@examples(60)
@given(data=st.data(), n=st.integers(1, 5), bound=st.sampled_from([7, 2**24, LIMIT]))
def test_rows_are_those_of_exact_fractions(data: st.DataObject, n: int, bound: int) -> None:
    values = st.integers(-bound, bound)
    deltas = data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=n, max_size=n))
    steps = data.draw(st.lists(CLAIMS, min_size=n, max_size=n))
    examples = data.draw(st.lists(st.integers(0, 2**20 - 1), min_size=n, max_size=n).filter(any))
    most = data.draw(st.one_of(st.integers(1, 50), st.just(MOST_STEPS)))
    made = FedNova(most)(np.array(deltas), steps, examples, bound)
    assert made.tolist() == by_fractions(deltas, steps, examples, most, bound)


def test_equal_steps_change_nothing_and_nothing_is_changed_in_place() -> None:
    deltas = np.array([[5, -3, LIMIT], [1, 2, -LIMIT]])
    before = deltas.copy()
    assert (FedNova(10)(deltas, [4, 4], [3, 9], LIMIT) == before).all()
    FedNova(10)(deltas, [1, 4], [3, 9], LIMIT)
    assert (deltas == before).all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 3)])
def test_without_any_example_updates_stay(shape: tuple[int, int]) -> None:
    deltas = np.ones(shape, np.int64)
    assert (FedNova(10)(deltas, [1, 9][: shape[0]], [0, 0][: shape[0]], LIMIT) == deltas).all()


@pytest.mark.parametrize("claim", [0, 1, 10, 11, 2**32 - 1])
@pytest.mark.parametrize("examples", [1, 2**20 - 1])
def test_a_liar_moves_the_others_by_no_more_than_the_cap_allows(claim: int, examples: int) -> None:
    """Honest participants take 5 steps; the task allows 10."""
    unit = 1 << 24
    deltas = np.full((4, 3), unit // 10)
    made = FedNova(10)(deltas, [5, 5, 5, claim], [20, 20, 20, examples], unit)
    honest = made[:3] / deltas[:3]
    assert (honest == honest[0, 0]).all(), "all alike, and in the same direction"
    assert 1 / 5 <= honest[0, 0] <= 10 / 5
    assert np.abs(made).max() <= unit
    fixed = FedNova(10, effective_steps=5)(deltas, [5, 5, 5, claim], [20, 20, 20, examples], unit)
    assert (fixed[:3] == deltas[:3]).all(), "with fixed effective steps a claim is nobody else's business"


@examples(80)
@given(data=st.data(), n=st.integers(1, 7))
def test_a_claim_of_steps_magnifies_nothing(data: st.DataObject, n: int) -> None:
    """Rows are those of fractions; and who states more steps than before never counts for more than before."""
    deltas = np.array(
        data.draw(st.lists(st.lists(st.integers(-LIMIT, LIMIT), min_size=3, max_size=3), min_size=n, max_size=n))
    )
    steps = data.draw(st.lists(CLAIMS, min_size=n, max_size=n))
    ignored = [0] * n
    made = MedianNova()(deltas, steps, ignored, LIMIT)
    tau = [max(1, claimed) for claimed in steps]
    middle = sorted(tau)[n // 2]
    expected = [
        [round(int(x) * min(Fraction(1), Fraction(middle, t))) for x in r] for r, t in zip(deltas, tau, strict=True)
    ]
    assert made.tolist() == expected
    assert (np.abs(made) <= np.abs(deltas)).all()
    more = MedianNova()(deltas, [steps[0] + data.draw(st.integers(0, 2**31)), *steps[1:]], ignored, LIMIT)
    assert (np.abs(more[0]) <= np.abs(made[0])).all()


def test_equal_steps_are_no_reason_to_rescale() -> None:
    deltas = np.array([[5, -3, LIMIT], [1, 2, -LIMIT]])
    assert (MedianNova()(deltas, [7, 7], [1, 1], LIMIT) == deltas).all()
    assert MedianNova()(deltas[:0], [], [], LIMIT).shape == (0, 3)


@examples(150)
@given(data=st.data(), n=st.integers(1, 9), d=st.sampled_from([1, 3, 60]), factor=st.sampled_from([0.5, 1.0, 1.5, 4.0]))
def test_no_update_is_longer_than_the_bound_and_short_ones_stay(
    data: st.DataObject, n: int, d: int, factor: float
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bits = data.draw(st.lists(st.integers(0, 40), min_size=n, max_size=n))
    deltas = np.stack([rng.integers(-(1 << b), 1 << b, d, np.int64, endpoint=True) for b in bits])
    for i in data.draw(st.lists(st.integers(0, n - 1), max_size=4)):
        deltas[i] = 0
    before = deltas.copy()
    made = MedianClip(factor)(deltas, [1] * n, [1] * n, LIMIT)
    assert (deltas == before).all()
    squares = [sum(int(x) ** 2 for x in row) for row in deltas]
    norms = sorted(sqrt(square) for square in squares if square) or [0.0]
    bound = factor * (norms[(len(norms) - 1) // 2] + norms[len(norms) // 2]) / 2
    for row, was, square in zip(made, deltas, squares, strict=True):
        if square <= (bound - factor - 1) ** 2 and bound > factor + 1:
            assert (row == was).all()
        # Each coordinate is rounded by half a unit at most, and a norm to a whole one.
        assert sqrt(sum(int(x) ** 2 for x in row)) <= bound * (1 + 2**-40) + sqrt(d) / 2
        assert (np.sign(row) * np.sign(was) >= 0).all() and (np.abs(row) <= np.abs(was)).all()


def test_a_clipped_update_keeps_its_direction_and_reaches_the_bound() -> None:
    deltas = np.array([[300, 400, 0], [0, 0, 500], [30_000, -40_000, 0], [0, 0, 0]]) << 20
    made = MedianClip()(deltas, [1] * 4, [1] * 4, LIMIT)
    assert (made[[0, 1, 3]] == deltas[[0, 1, 3]]).all()
    assert made[2] / (1 << 20) == pytest.approx([450, -600, 0], rel=1e-5)


@pytest.mark.parametrize("rows", [np.zeros((0, 3), np.int64), np.zeros((4, 3), np.int64), np.full((1, 3), -LIMIT)])
def test_without_a_longer_update_nothing_is_clipped(rows: np.ndarray) -> None:
    assert (MedianClip()(rows, [1] * len(rows), [1] * len(rows), LIMIT) == rows).all()


def test_blank_updates_do_not_lower_the_bound() -> None:
    deltas = np.array([[100, 0], [0, 120], [0, 0], [0, 0], [0, 0]])
    assert (MedianClip(1.1)(deltas, [1] * 5, [1] * 5, LIMIT) == deltas).all()


@pytest.mark.parametrize("factor", [0, -1, 1001, float("nan"), "1"])
def test_a_wrong_factor_is_refused(factor: object) -> None:
    with pytest.raises(ConfigError, match="factor is"):
        build(NORMALISATIONS, "median_clip@1", {"factor": factor})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_steps": 0},
        {"max_steps": 2.5},
        {"max_steps": MOST_STEPS + 1},
        {"max_steps": 5, "effective_steps": 6},
        {"max_steps": 5, "effective_steps": 0},
    ],
)
def test_wrong_parameters_are_refused(params: dict) -> None:
    with pytest.raises(ConfigError):
        build(NORMALISATIONS, "fednova@1", params)


NOVA = SPEC.model_copy(update={"normalisation": Method(method="fednova@1", params={"max_steps": 10})})


def judged(spec, steps: list[int]) -> tuple[RoundOutcome, dict[str, np.ndarray]]:
    """Return the outcome of a round whose participants claim these steps, and what an observer sees."""
    data: dict[str, bytes | UpdateRefusedError] = {
        owner: update(i, spec=spec.digest.hex(), steps=steps[i]) for i, owner in enumerate(OWNERS)
    }
    refs = {i: ContentRef.of(data[owner]) for i, owner in enumerate(OWNERS)}
    seen = {}
    given_ = RoundInput(spec, EXPECTED.round, BASE, BASE_REF, b"", participations(refs), data, UNITS)
    return round_outcome(given_, measure, lambda what, values: seen.setdefault(what, np.array(values, object))), seen


def test_the_judge_looks_at_rescaled_updates_only() -> None:
    plain, as_sent = judged(SPEC, [1, 2, 3, 2])
    nova, seen = judged(NOVA, [1, 2, 3, 2])
    for i, steps in enumerate([1, 2, 3, 2]):
        sent = [int(x) for x in as_sent[f"update of {OWNERS[i]}"]]
        assert list(seen[f"update of {OWNERS[i]}"]) == [round(Fraction(2 * x, steps)) for x in sent]
    rows = [np.array(seen[f"update of {participation}"], np.int64) for participation in sorted(OWNERS, key=str.lower)]
    assert seen["inner products"][0][0] == int(rows[0] @ rows[0])
    # Equal weights, so the aggregate is the mean of the rescaled rows.
    assert list(seen["aggregate"]) == [round(Fraction(int(x), 4)) for x in np.sum(rows, axis=0)]
    assert plain.model != nova.model


def test_a_magnified_update_ends_at_the_bound_and_the_round_goes_on() -> None:
    outcome, seen = judged(NOVA, [0, 2**32 - 1, 2**32 - 1, 2**32 - 1])
    bound = int(SPEC.fixed_point.bound * (1 << SPEC.fixed_point.fraction_bits))
    assert max(seen[f"update of {OWNERS[0]}"]) == bound
    assert set(outcome.verdicts.values()) == {Verdict.ACCEPTED}


def test_an_audit_names_a_normalisation_that_it_lacks() -> None:
    spec = SPEC.model_copy(update={"normalisation": Method(method="other@1")})
    with pytest.raises(ConfigError, match=r"no normalisation 'other@1'"):
        require_methods(spec)


@examples(60)
@given(data=st.data(), n=st.integers(1, 9), bits=st.sampled_from([3, 20, 40]))
def test_a_fixed_norm_is_never_exceeded(data: st.DataObject, n: int, bits: int) -> None:
    values = st.integers(-(1 << bits), 1 << bits)
    deltas = np.array(data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=n, max_size=n)))
    most = data.draw(st.integers(1, 1 << (bits + 1)))
    before = deltas.copy()
    made = build(NORMALISATIONS, "norm_clip@1", {"norm": most / 16})(deltas, [1] * n, [1] * n, LIMIT, 16)
    assert (deltas == before).all()
    for row, short in zip(deltas.tolist(), made.tolist(), strict=True):
        norm = sqrt(sum(x * x for x in row))
        expected = row if norm <= most else [x * most / norm for x in row]
        # Halves go to even, so of three coordinates it is at most √3 / 2 longer.
        assert all(abs(a - b) <= 0.5 + 1e-9 * abs(b) for a, b in zip(short, expected, strict=True))


def test_adaptive_clipping_shortens_the_longest_to_the_next() -> None:
    """Of 10 updates with f = 2 they are ⌊2 · 2 / 10 · 8⌋ = 3, whatever they are."""
    lengths = [5, 900, 40, 10, 70, 2, 70, 1 << 39, 30, 60]
    deltas = np.array([[length, 0] for length in lengths])
    clip = build(NORMALISATIONS, "arc@1", {"f": 2})
    assert clip(deltas, [1] * 10, [1] * 10, LIMIT)[:, 0].tolist() == [5, 70, 40, 10, 70, 2, 70, 70, 30, 60]
    assert (clip(np.zeros((5, 2), np.int64), [1] * 5, [1] * 5, LIMIT) == 0).all()
    assert clip(deltas[:4], [1] * 4, [1] * 4, LIMIT) is not None and clip.least_rows == 5
    none = build(NORMALISATIONS, "arc@1", {"f": 0})
    assert (none(deltas, [1] * 10, [1] * 10, LIMIT) == deltas).all()


def test_a_round_of_too_few_for_adaptive_clipping_moves_nothing() -> None:
    clipped = {"normalisation": Method(method="arc@1", params={"f": 3})}
    spec = SPEC.model_copy(update={**clipped, "aggregation": Method(method="mean@1", params={})})
    assert RoundMethods.of(spec).least_rows == 7
    assert RoundMethods.of(spec).lack([1] * 6) == {"counted": 6, "needed": 7} and not RoundMethods.of(spec).lack(
        [1] * 7
    )
    with pytest.raises(ConfigError, match="arc@1 with f = 3 needs 7"):
        check_rows(spec, 6)
