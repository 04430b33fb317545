"""Texts become windows, and interactions lists of candidates, with nothing lost, leaked or invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.hold_out import hold_out
from fedledger.learning.implicit_feedback import leave_one_out
from fedledger.learning.objectives.base import build_objective
from fedledger.learning.partitions.base import partition
from fedledger.learning.sequences import PADDING, characters, token_windows
from fedledger.protocol.errors import ConfigError
from support.examples import examples


def test_windows_by_hand() -> None:
    found = token_windows({"ann": "abcab", "bob": "ba", "eve": "c"}, 3)
    assert found.inputs.tolist() == [[0, 1, 2], [0, 0, 0], [1, 0, 0]]
    assert found.targets.tolist() == [[1, 2, 0], [1, PADDING, PADDING], [0, PADDING, PADDING]]
    assert found.groups is not None and found.groups.tolist() == ["ann", "ann", "bob"]
    assert found.inputs.dtype == found.targets.dtype == np.int64 and found.classes is None
    assert build_objective("tokens@1", {}).prepared(found) is found
    tokens = token_windows({"a": [4, 5, 6]}, 2, step=1)
    assert (tokens.inputs.tolist(), tokens.targets.tolist()) == ([[4, 5]], [[5, 6]])


@examples(200)
@given(st.dictionaries(st.sampled_from("pqrs"), st.text("abcd", max_size=30), min_size=1), st.integers(1, 9), st.data())
def test_every_token_after_the_first_is_a_target_and_windows_overlap_by_the_step(
    texts: dict[str, str], length: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(1, length) | st.none())
    if all(len(text) < 2 for text in texts.values()):
        with pytest.raises(ConfigError, match="No text"):
            token_windows(texts, length, "abcd", step)
        return
    found = token_windows(texts, length, "abcd", step)
    assert found.groups is not None
    for name, text in texts.items():
        rows = found.groups == name
        assert rows.any() == (len(text) > 1)
        covered = set()
        for row, (inputs, targets) in enumerate(zip(found.inputs[rows], found.targets[rows], strict=True)):
            start = row * (step or length)
            for place, (token, following) in enumerate(zip(inputs, targets, strict=True)):
                if following == PADDING:
                    assert token == 0 and start + place >= len(text) - 1
                else:
                    assert text[start + place : start + place + 2] == "abcd"[token] + "abcd"[following]
                    covered.add(start + place + 1)
        assert covered == set(range(1, len(text)))
        if step is None and len(text) > 1:
            assert (found.targets[rows] != PADDING).sum() == len(text) - 1


@pytest.mark.parametrize(
    ("texts", "options", "told"),
    [
        ({"a": "abc"}, {"vocabulary": "ab"}, "'c'"),
        ({"a": "abc"}, {"vocabulary": "abca"}, "twice"),
        ({"a": [0.5, 1]}, {}, "not a sequence of tokens"),
        ({"a": [-1, 1]}, {}, "not a sequence of tokens"),
        ({"a": [None, 1]}, {}, "None"),
        ({"a": "abc"}, {"length": 0}, "length is 0"),
        ({"a": "abc"}, {"step": 4}, "step is 4"),
        ({}, {}, "No text"),
    ],
)
def test_what_is_no_text_is_refused(texts: dict[str, object], options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        token_windows(texts, **({"length": 3} | options))  # type: ignore[arg-type]


def test_characters_are_those_of_all_texts() -> None:
    assert characters(["ba", "cb", ""]) == "abc" and characters([]) == ""


INTERACTIONS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 11)), min_size=1, max_size=60)


@examples(200)
@given(INTERACTIONS, st.integers(1, 4), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_lists_have_one_chosen_item_and_others_that_the_user_never_chose(
    pairs: list[tuple[int, int]], negatives: int, candidates: int, last: bool, seed: int
) -> None:
    users, items = np.array(pairs).T
    chosen: dict[int, list[int]] = {}
    for user, item in pairs:
        own = chosen.setdefault(user, [])
        if item in own:
            own.remove(item)
        own.append(item)
    several = [user for user, own in chosen.items() if len(own) > 1]
    # With 30 items nobody runs out of others.
    if not several:
        with pytest.raises(ConfigError, match="No user chose two"):
            leave_one_out(users, items, negatives, candidates, last, 30, seed)
        return
    prepared = leave_one_out(users, items, negatives, candidates, last, 30, seed)
    assert isinstance(prepared.train, Dataset) and prepared.test is not None
    learned = {user: set[int]() for user in chosen}
    for dataset, width in ((prepared.train, 1 + negatives), (prepared.test, 1 + candidates)):
        assert dataset.inputs.shape[1:] == (width, 2) and dataset.classes == width
        assert dataset.groups is not None and (dataset.inputs[:, :, 0] == dataset.groups[:, None]).all()
        for lists, place, user in zip(dataset.inputs, dataset.targets, dataset.groups, strict=True):
            item, others = int(lists[place, 1]), np.delete(lists[:, 1], place)
            assert item in chosen[user] and not set(others) & set(chosen[user]) and others.max() < 30
            if dataset is prepared.test:
                assert item not in learned[user] and len(set(others)) == candidates
                assert not last or item == chosen[user][-1]
            else:
                assert item not in learned[user]
                learned[user].add(item)
    assert sorted(prepared.test.groups) == sorted(several)
    assert sum(map(len, learned.values())) == sum(map(len, chosen.values())) - len(several)
    again = leave_one_out(users, items, negatives, candidates, last, 30, seed)
    assert again.test is not None and again.test.inputs.tobytes() == prepared.test.inputs.tobytes()


def test_others_are_drawn_from_all_unseen_items_and_places_from_all_places() -> None:
    users, items = np.repeat(np.arange(400), 2), np.tile([3, 7], 400)
    prepared = leave_one_out(users, items, negatives=4, candidates=8, item_count=10)
    assert prepared.test is not None and isinstance(prepared.train, Dataset)
    for row, place in zip(prepared.test.inputs, prepared.test.targets, strict=True):
        assert sorted(np.delete(row[:, 1], place)) == [0, 1, 2, 4, 5, 6, 8, 9]
    drawn = np.bincount(prepared.train.inputs[:, :, 1].reshape(-1), minlength=10)
    assert (np.abs(drawn[[0, 1, 2, 4, 5, 6, 8, 9]] - 200) < 80).all() and drawn[[3, 7]].tolist() == [400, 0]
    assert (np.abs(np.bincount(prepared.test.targets, minlength=9) - 400 / 9) < 40).all()


def test_interactions_can_be_held_out_dealt_and_ranked() -> None:
    rng = np.random.default_rng(0)
    prepared = leave_one_out(rng.integers(0, 50, 1000), rng.integers(0, 300, 1000))
    train, validation, test = hold_out(prepared, 0.2, 0.3, rng)
    assert isinstance(train, Dataset) and len(validation) == 15 and len(test) == 35
    parts = partition("natural@1", {}, train, 50, rng)
    assert train.groups is not None and all(len(set(train.groups[part])) == 1 for part in parts)
    ranking = build_objective("ranking@1", {})
    assert all(ranking.prepared(dataset) is dataset for dataset in (train, validation, test))


@pytest.mark.parametrize(
    ("users", "items", "options", "told"),
    [
        ([0, 0], [1], {}, "2 users and 1 items"),
        ([], [], {}, "0 users"),
        ([0, 0], [1, -1], {}, "Number them from 0"),
        ([0.5, 0], [1, 2], {}, "Number them from 0"),
        ([0, 0], [1, 2], {"item_count": 2}, "An item is 2"),
        ([0, 0], [0, 1], {}, "User 0 never chose 0 items"),
        ([0, 0], [0, 50], {}, "User 0 never chose 49 items, and 99 are wanted.*Reduce `candidates`"),
        ([0, 1], [0, 1], {"candidates": 1, "item_count": 9}, "No user chose two"),
        ([0, 0], [0, 1], {"negatives": 0}, "negatives is 0"),
        (["a", "b"], [0, 1], {}, "texts"),
    ],
)
def test_what_is_no_interaction_is_refused(
    users: list[object], items: list[object], options: dict[str, int], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        leave_one_out(users, items, **options)  # type: ignore[arg-type]
