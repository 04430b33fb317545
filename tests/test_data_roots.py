"""Committed data: words, leaves and trees against their definitions, and who is drawn to be checked."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from eth_abi import encode as abi_encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.canonical_examples import CanonicalExamples, restored
from fedledger.learning.data import Dataset
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding.ordered_merkle import OrderedTree, sibling_count, top_of
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_root import (
    CommittedExamples,
    DataRoot,
    commit_examples,
    leaf,
    salt_seed,
    salts_of,
)
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.spot_checks import Check, Windows, drawn, second_auditor
from support.spot_checks import AUDITORS, PLACE, REF

SEED = bytes(range(32))


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def top_by_halves(leaves: list[bytes]) -> bytes:
    """The tree of RFC 6962: the left half is the largest power of two that leaves something for the right one."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return sha(b"\x01fedledger node\0", top_by_halves(leaves[:half]), top_by_halves(leaves[half:]))


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
def test_trees_are_those_of_rfc_6962_and_show_any_of_their_leaves(leaves: list[bytes], data: st.DataObject) -> None:
    tree = OrderedTree(leaves)
    assert tree.top == top_by_halves(leaves)
    places = data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1))
    siblings = tree.siblings(places)
    shown = {place: leaves[place] for place in places}
    assert len(siblings) == sibling_count(places, len(leaves))
    assert top_of(shown, siblings, len(leaves)) == tree.top
    # A leaf that is another, one that is elsewhere, and siblings that are too few, too many or in another order.
    changed = data.draw(st.sampled_from(sorted(places)))
    assert top_of({**shown, changed: bytes(32)}, siblings, len(leaves)) != tree.top or leaves[changed] == bytes(32)
    assert top_of(shown, [*siblings, bytes(32)], len(leaves)) is None
    assert not siblings or top_of(shown, siblings[:-1], len(leaves)) is None
    assert top_of({**shown, len(leaves): bytes(32)}, siblings, len(leaves)) is None
    assert top_of({}, siblings, len(leaves)) is None


def test_a_word_follows_from_its_definition() -> None:
    rows = [b"first", b"", b"third"]
    salts = [sha(b"fedledger salt of an example\0", SEED, place.to_bytes(8, "big")) for place in range(3)]
    leaves = [
        sha(b"\x00fedledger example\0", place.to_bytes(8, "big"), salt, row)
        for place, (salt, row) in enumerate(zip(salts, rows, strict=True))
    ]
    root = sha(b"fedledger data root\0", (3).to_bytes(8, "big"), top_by_halves(leaves))[:28]
    found = commit_examples(rows, SEED)
    assert found == DataRoot(root, 3) and found.word == int.from_bytes(root + bytes([0, 0, 0, 3]), "big")
    assert DataRoot.of_word(found.word) == found
    assert salts_of(SEED, range(3)) == salts and leaf(1, salts[1], b"") == leaves[1]
    assert f"{found.word:064x}" == "b337e1d19be3947dfcd32d03b5bca1843af5308729970c307e807a4900000003"


def test_a_root_holds_its_examples_in_their_places_alone() -> None:
    rows = [bytes([place]) * place for place in range(7)]
    committed = CommittedExamples(rows, SEED)
    siblings = committed.siblings([2, 5])
    salts = salts_of(SEED, [2, 5])
    shown = {2: (salts[0], rows[2]), 5: (salts[1], rows[5])}
    assert committed.root.holds(shown, siblings)
    assert not committed.root.holds({2: shown[5], 5: shown[2]}, siblings)
    assert not committed.root.holds({**shown, 5: (salts[1], b"other")}, siblings)
    assert not replace(committed.root, count=8).holds(shown, siblings)
    for word in (0, committed.root.word >> 32 << 32):
        with pytest.raises(ConfigError):
            DataRoot.of_word(word)
    with pytest.raises(ConfigError):
        commit_examples([], SEED)


def test_seeds_differ_by_account_place_and_number() -> None:
    chain, contract, task = PLACE
    places: list[Any] = [PLACE, (chain + 1, contract, task), (chain, contract, task + 1)]
    seeds = {salt_seed(key, place, number) for key in (SEED, bytes(32)) for place in places for number in (1, 2)}
    assert len(seeds) == 12
    assert salt_seed(SEED, (chain, contract.lower(), task), 1) == salt_seed(SEED, PLACE, 1)


def test_a_hundred_thousand_examples_take_no_time() -> None:
    rows = CanonicalExamples(np.zeros((100_000, 784), np.float32), np.zeros(100_000, np.int64))
    began = time.process_time()
    commit_examples(rows, SEED)
    assert time.process_time() - began < 8


def test_canonical_bytes_follow_from_their_definition() -> None:
    dataset = Dataset(np.arange(12, dtype=np.float32).reshape(2, 2, 3), np.array([1, 0]), 4)
    found = CanonicalExamples.of(dataset)
    expected = [
        b"f\x02\x02\0\0\0\x03\0\0\0" + dataset.inputs[i].astype("<f4").tobytes() + b"i\x00" + bytes([1 - i]) + bytes(7)
        for i in range(2)
    ]
    assert list(found) == expected == found[:] and found[1] == expected[1] and len(found) == 2
    back = restored(dataset.inputs, dataset.targets, 4)
    assert (back.classes, list(CanonicalExamples.of(back))) == (4, expected)
    numbers = Dataset(np.array([[1]]), np.array([[0.0, -0.0]], np.float32), None)
    assert list(CanonicalExamples.of(numbers)) == [
        b"i\x01\x01\0\0\0" + bytes([1]) + bytes(7) + b"f\x01\x02\0\0\0" + bytes(7) + b"\x80"
    ]


@given(
    seed=st.binary(min_size=32, max_size=32),
    task=st.integers(0, 2**64),
    index=st.integers(1, 2**32 - 1),
    participant=st.integers(0, 2**32),
    rate=st.sampled_from([0, 50_000, 500_000, 1_000_000]),
    auditors=st.integers(2, 16),
)
def test_draws_are_those_of_the_ledger(
    seed: bytes, task: int, index: int, participant: int, rate: int, auditors: int
) -> None:
    packed = abi_encode(["bytes32", "uint256", "uint256", "uint256"], [seed, task, index, participant])
    value = int.from_bytes(keccak(packed), "big")
    expected = (value >> 128) % auditors if value % 1_000_000 < rate else None
    assert drawn(seed, task, index, participant, rate, auditors) == expected
    if expected is not None:
        assert second_auditor(expected, auditors) != expected


def test_windows_are_drawn_once_and_the_same_for_both_auditors() -> None:
    check = Check(PLACE, 4, 7, 0, SEED)
    assert check.windows(5, 5) == check.windows(5, 9) == [0, 1, 2, 3, 4]
    found = check.windows(100, 6)
    assert found == sorted(set(found)) and len(found) == 6 and found[0] >= 0 and found[-1] < 100
    assert replace(check, auditor=1).windows(100, 6) == found
    assert replace(check, seed=bytes(32)).windows(100, 6) != found != replace(check, participant=8).windows(100, 6)
    assert replace(check, auditor=1).info != check.info
    windows = Windows(steps=4)
    assert [windows.count(steps) for steps in (1, 4, 5)] == [1, 1, 2]


SPEC: dict[str, Any] = {
    "name": "checked",
    "rounds": 3,
    "initial_model": REF.model_dump(),
    "validation": REF.model_dump(),
    "solver": {"method": "replayable_sgd@1"},
    "committed_data": {"every": 2},
    "spot_checks": {"auditors": [auditor.model_dump() for auditor in AUDITORS], "windows": {"steps": 5, "drawn": 2}},
}


def test_a_spec_says_how_updates_are_checked() -> None:
    spec = validated(TaskSpec, SPEC, "here")
    assert TaskSpec.decode(spec.encode()) == spec and spec.windows == Windows(steps=5, drawn=2)
    for field in ("committed_data", "spot_checks"):
        assert field.encode() not in spec.model_copy(update={field: None}).encode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"committed_data": None}, r"add \[committed_data\]"),
        ({"solver": {"method": "sgd@1"}}, "take replayable_sgd@1"),
        ({"payload": [{"name": "delta", "error_feedback": True}]}, "error_feedback = false"),
        ({"vectors": ["control"]}, "leave vectors out"),
        ({"spot_checks": {"auditors": SPEC["spot_checks"]["auditors"][:1]}}, "auditors"),
        ({"spot_checks": {"auditors": SPEC["spot_checks"]["auditors"][:1] * 2}}, "two auditors have the same account"),
        ({"spot_checks": {"auditors": [{"account": PLACE[1].lower(), "key": AUDITORS[0].key}] * 2}}, "mixed-case"),
        ({"spot_checks": {"auditors": [{"account": PLACE[1], "key": "0" * 64}] * 2}}, "no public key"),
        ({"spot_checks": {**SPEC["spot_checks"], "windows": {"steps": 0}}}, "windows.steps"),
        ({"committed_data": {"every": 0}}, "every"),
    ],
)
def test_specs_whose_checks_cannot_be_made_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        validated(TaskSpec, {**SPEC, **change}, "here")
