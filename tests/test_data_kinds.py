"""Data sets of every kind: what their arrays become, what is refused, and that nothing divides them by position."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import STRATA, Dataset, Parts, Prepared, split
from fedledger.learning.hold_out import hold_out
from fedledger.learning.label_counts import LabelCounts
from fedledger.learning.partitions.base import partition
from fedledger.ledger_tools.report.page import heat_map
from fedledger.platform.attacks.label_flip import flipped
from fedledger.protocol.errors import ConfigError
from support.examples import examples

SEEDS = st.integers(0, 2**32)


def of_kind(kind: str, n: int) -> Dataset:
    """Return n examples whose only input is their place."""
    rng = np.random.default_rng(n)
    targets = {
        "classes": np.arange(n) * 3 // max(n, 1),
        "numbers": rng.normal(size=n),
        "columns": rng.normal(size=(n, 2)),
        "labels": rng.integers(0, 2, (n, 3)),
        "tokens": rng.integers(0, 50, (n, 4)),
    }[kind]
    return Dataset.of(np.arange(n)[:, None], targets, np.arange(n) % 4, 3 if kind == "classes" else None)


KINDS = st.sampled_from(["classes", "numbers", "columns", "labels", "tokens"])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.array([[2**40 + 1]]), np.int64),
        (np.array([[7]], np.int32), np.int64),
        (np.array([[7]], np.uint32), np.int64),
        (np.array([[7]], ">i8"), np.int64),
        (np.array([[7]], np.uint8), np.float32),
        (np.array([[-7]], np.int16), np.float32),
        (np.array([[True]]), np.float32),
        (np.array([[0.1]]), np.float32),
        (np.array([[0.5]], np.float16), np.float32),
        (np.array([[0.5]], ">f8"), np.float32),
        (torch.ones(1, 1), np.float32),
        (torch.ones(1, 1, dtype=torch.long), np.int64),
        ([[1, 2]], np.int64),
        ([[1, 0.5]], np.float32),
    ],
)
def test_inputs_keep_whole_numbers_and_round_others(given: Any, kept: type) -> None:
    found = Dataset.of(given, [1]).inputs
    assert found.dtype == kept and found.dtype.isnative and found.tolist() == np.asarray(given).astype(kept).tolist()


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([[None]], "is None"),
        ([["1"]], "texts, such as '1'"),
        ([[b"1"]], "texts"),
        ([[1j]], "complex128"),
        (np.array([[1, "a"]], object), "Python objects of type int"),
        ([[1], [1, 2]], "no array"),
        ((i for i in range(3)), "generator, not an array"),
        (np.array([["2026-01-01"]], "M8[D]"), "datetime64"),
        (np.zeros(1, [("a", int)]), "not numbers"),
        (np.ma.array([[1.0]], mask=True), "masked"),
        (np.array([[2**63]], np.uint64), "beyond 2"),
        ([[2**70]], "Python objects"),
        ([[float("nan")]], "NaN or infinite"),
        ([[1e39]], "NaN or infinite"),
        ([[2.0**24 + 1, 0.5]], "16777217, which float32 changes"),
        (torch.ones(1, 1, requires_grad=True), "no array"),
        ([1.0], r"float32\[1\]"),
    ],
)
def test_other_inputs_are_refused_in_a_sentence(inputs: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Dataset.of(inputs, [1])


@pytest.mark.parametrize(
    ("targets", "kind", "classes"),
    [
        ([0, 2, 1], np.int64, 3),
        ([0.0, 2.0, 1.0], np.int64, 3),
        ([False, True, True], np.int64, 2),
        (np.array([0, 2, 1], np.uint8), np.int64, 3),
        ([0.5, 2.0, 1.0], np.float32, None),
        ([-1, 2, 1], np.float32, None),
        ([-1.0, 2.0, 1.0], np.float32, None),
        ([[0.0], [1.0], [1.0]], np.float32, None),
        ([[0, 1], [1, 1], [0, 0]], np.int64, None),
        ([[True], [False], [False]], np.int64, None),
    ],
)
def test_targets_are_classes_or_numbers(targets: Any, kind: type, classes: int | None) -> None:
    found = Dataset.of(np.zeros((3, 1)), targets)
    assert found.targets.dtype == kind and found.classes == classes
    assert found.targets.tolist() == np.asarray(targets).astype(kind).tolist()


@pytest.mark.parametrize(
    ("targets", "classes", "told"),
    [
        ([0, float("nan"), 1], None, "target is NaN"),
        ([0, None, 1], None, "is None"),
        (["no", "yes", "no"], None, "texts"),
        ([0, 1, 2], 2, "outside .0, 2.: they are 0 to 2"),
        ([0.5, 1, 1], 2, "not one whole number each"),
        ([[0], [1], [1]], 2, "not one whole number each"),
        ([0, 1], None, "labels"),
        ([0, 1], 2, "labels"),
        ([[[0.5]]] * 3, None, "targets are float32"),
        ([0, 2**63, 1], 3, "beyond"),
    ],
)
def test_other_targets_are_refused_in_a_sentence(targets: Any, classes: int | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Dataset.of(np.zeros((3, 1)), targets, classes=classes)


def drawn(count: int, n: int, low: int = 0, power: float = 0.0) -> np.ndarray[Any, Any]:
    """Draw n classes of ``count``, with a long tail where a power is given."""
    shares = (1.0 + np.arange(count)) ** -power
    return low + np.random.default_rng(1).choice(count, n, p=shares / shares.sum())


@pytest.mark.parametrize(
    ("what", "targets", "is_numbers"),
    [
        ("digits", drawn(10, 1797), False),
        ("letters from 1", drawn(26, 2000, 1), False),
        ("a hundred classes, few examples", drawn(100, 1000), False),
        ("forty faces, ten of each", np.repeat(np.arange(40), 10), False),
        ("people with a long tail", np.concatenate([np.arange(500), drawn(500, 700)]), False),
        ("seven classes of ten examples", [0, 1, 2, 3, 4, 5, 6, 0, 1, 2], False),
        ("a handful, all distinct", [0, 1, 2, 3], False),
        ("whole numbers of a wide range", np.random.default_rng(0).integers(25, 347, 442), True),
        ("prices", np.random.default_rng(0).lognormal(13, 0.5, 5000).round(-2), True),
        ("numbers of examples", np.arange(100), True),
        ("fractions", np.random.default_rng(0).normal(size=100), True),
        ("half stars", drawn(10, 1000) / 2, False),
    ],
)
def test_numbers_to_predict_are_told_from_classes(what: str, targets: Any, is_numbers: bool) -> None:
    targets = np.asarray(targets)
    if what == "half stars":
        # As a table's labels they can be classes, of which numpy's fractions never are the numbers.
        from fedledger.learning.arrays import look_like_numbers

        assert look_like_numbers(targets) is is_numbers
        return
    found = Dataset.of(np.zeros((len(targets), 1)), targets)
    assert (found.classes is None) is is_numbers, what
    assert np.array_equal(found.targets, targets.astype(np.float32))
    if is_numbers and (targets == targets.astype(int)).all():
        assert Dataset.of(np.zeros((len(targets), 1)), targets, classes=int(targets.max()) + 1).classes


@pytest.mark.parametrize(
    "groups",
    [
        [None, "north", "south"],
        np.array([None, "north", "south"]),
        [1.0, float("nan"), 2.0],
        np.array([1.0, np.nan, 2.0]),
        np.array(["2026-01-01", "NaT", "2026-01-02"], "M8[D]"),
        ["north", float("nan"), "south"],
        np.array(["north", np.nan, "south"]),
        np.array(["north", np.nan, "south"], object),
        np.array(["north", None, "south"]).astype(str),
        np.array(["north", "<NA>", "south"]),
    ],
)
def test_groups_that_are_missing_are_refused(groups: Any) -> None:
    with pytest.raises(ConfigError, match=r"1 example has no group.*group of their own"):
        Dataset.of(np.zeros((3, 1)), [0, 1, 1], groups)


@pytest.mark.parametrize("groups", [[1, "1", 2], np.array([1, "1", 2], object), ["a", b"a", "b"], [True, 1, 0]])
def test_groups_of_several_types_are_refused(groups: Any) -> None:
    with pytest.raises(ConfigError, match="several types"):
        Dataset.of(np.zeros((3, 1)), [0, 1, 1], groups)


@pytest.mark.parametrize(
    "groups",
    [["a", "b", "a"], [3, 1, 3], np.array(["a", "b", "a"], object), [2**80, 1, 2], [0.5, 1.5, 0.5], [b"a"] * 3],
)
def test_groups_of_one_type_can_be_dealt(groups: Any) -> None:
    found = Dataset.of(np.zeros((3, 1)), [0, 1, 1], groups)
    parts = partition("natural@1", {}, found, 2, np.random.default_rng(0))
    assert sorted(np.concatenate(parts)) == [0, 1, 2]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**25), 2**25), min_size=1, max_size=5))
def test_as_float_keeps_every_number_or_refuses(values: list[int]) -> None:
    dataset = Dataset.of(np.array(values, np.int64)[:, None], np.zeros(len(values)))
    exact = all(int(np.float32(value)) == value for value in values)
    safe = exact and max(map(abs, values)) <= 2**53
    if safe:
        assert [int(x) for x in dataset.as_float().inputs[:, 0]] == values
    else:
        with pytest.raises(ConfigError, match="float32 would change"):
            dataset.as_float()


@examples(100)
@given(KINDS, st.integers(12, 200), SEEDS)
def test_split_takes_every_part_at_random_whatever_the_order(kind: str, n: int, seed: int) -> None:
    dataset = of_kind(kind, n)
    train, validation, test = split(dataset, 0.25, 0.25, np.random.default_rng(seed))
    places = [part.inputs[:, 0] for part in (train, validation, test)]
    assert sorted(np.concatenate(places)) == list(range(n))
    for part in (train, validation, test):
        assert part.classes == dataset.classes and part.targets.dtype == dataset.targets.dtype
        assert np.array_equal(part.targets, dataset.targets[part.inputs[:, 0]])
    strata = dataset.strata
    if strata is not None:
        wanted = np.bincount(strata) / 4
        assert (np.abs(np.bincount(strata[places[2]], minlength=len(wanted)) - wanted) < 2).all()


@pytest.mark.parametrize("kind", ["classes", "numbers", "columns", "labels", "tokens"])
@pytest.mark.parametrize("given", ["nothing", "test", "parts", "parts and test"])
def test_what_is_held_out_comes_from_all_of_an_ordered_file(kind: str, given: str) -> None:
    n = 2000
    whole = of_kind(kind, n)
    parts = Parts.stretches(whole, [n // 2, n])
    prepared = {
        "nothing": Prepared(whole),
        "test": Prepared(whole, test=whole),
        "parts": Prepared(parts),
        "parts and test": Prepared(parts, test=whole),
    }[given]
    train, validation, test = hold_out(prepared, 0.2, 0.1, np.random.default_rng(3))
    for part in (validation, test):
        places = part.inputs[:, 0] / n
        # The mean place of 200 drawn at random is within six standard errors of the middle; a cut by place is not.
        assert abs(places.mean() - 0.5) < 6 * np.sqrt(1 / 12 / len(part)) and np.abs(np.diff(places)).mean() > 0.2
    if given == "nothing":
        assert isinstance(train, Dataset) and np.abs(np.diff(train.inputs[:, 0])).mean() > 0.2 * n


@pytest.mark.parametrize("method", ["iid@1", "dirichlet@1", "shards@1", "natural@1"])
def test_partitions_shuffle_each_part(method: str) -> None:
    dataset = of_kind("classes", 1000)
    params = {"alpha": 1.0} if method == "dirichlet@1" else {}
    for part in partition(method, params, dataset, 4, np.random.default_rng(0)):
        assert np.abs(np.diff(part)).mean() > len(part) / 5


@given(KINDS, st.integers(8, 60))
def test_parts_views_and_copies_agree(kind: str, n: int) -> None:
    dataset = of_kind(kind, n)
    parts = Parts(dataset, np.array_split(np.arange(n)[::-1], 3))
    for part in (parts[1], pickle.loads(pickle.dumps(parts[1]))):
        places = part.inputs[:, 0]
        assert np.array_equal(part.targets, dataset.targets[places]) and np.array_equal(part.groups, places % 4)
        inputs, targets = part.tensors
        assert inputs.dtype == torch.int64 and targets.numpy().tobytes() == part.targets.tobytes()
        assert part.as_float().tensors[0].dtype == torch.float32
    changed = parts.changed(Dataset.as_float)
    assert changed.size(1) == parts.size(1) and np.array_equal(changed[1].inputs, parts[1].inputs)


@examples(60)
@given(st.sampled_from(["dirichlet@1", "shards@1"]), st.integers(20, 200), st.integers(1, 9), SEEDS)
def test_numbers_are_divided_by_tenths(method: str, n: int, participants: int, seed: int) -> None:
    dataset = of_kind("numbers", n)
    params = {"alpha": 0.1} if method == "dirichlet@1" else {}
    parts = partition(method, params, dataset, participants, np.random.default_rng(seed))
    assert sorted(np.concatenate(parts)) == list(range(n)) and all(map(len, parts))
    assert dataset.strata is not None
    counts = np.bincount(dataset.strata)
    assert len(counts) == STRATA and counts.max() - counts.min() <= n // STRATA
    if method == "shards@1" and participants == 9 and n >= 180:
        # Two shards of consecutive numbers are in few tenths.
        assert max(len(set(dataset.strata[part])) for part in parts) <= 6


@pytest.mark.parametrize("kind", ["columns", "labels", "tokens"])
@pytest.mark.parametrize("method", ["dirichlet@1", "shards@1"])
def test_what_has_no_one_target_is_not_divided_by_class(kind: str, method: str) -> None:
    params = {"alpha": 0.1} if method == "dirichlet@1" else {}
    with pytest.raises(ConfigError, match=r"iid@1, or natural@1"):
        partition(method, params, of_kind(kind, 30), 3, np.random.default_rng(0))
    for other in ("iid@1", "natural@1"):
        assert len(partition(other, {}, of_kind(kind, 30), 3, np.random.default_rng(0))) == 3


def test_counts_of_numbers_are_by_tenths_and_of_others_by_size() -> None:
    numbers = Dataset.of(np.zeros((40, 1)), np.arange(40) / 2 + 0.25)
    counted = LabelCounts.of(Parts(numbers, [np.arange(4), np.arange(4, 40)]))
    assert counted.kind == "tenth" and counted.counts.sum() == 40 and counted.counts[0].tolist() == [3, 1] + [0] * 8
    document = counted.document()
    assert document["tenths"][0] == "below 1.75" and document["tenths"][-1] == "from 17.75"
    assert document["each"][0]["counts"] == counted.counts[0].tolist() and "effective_tenths" in document["each"][0]
    tokens = LabelCounts.of(Parts(of_kind("tokens", 30), [np.arange(10), np.arange(10, 30)]))
    assert tokens.document()["each"] == [{"participant": 0, "examples": 10}, {"participant": 1, "examples": 20}]
    assert "tenths" not in tokens.document() and "classes" not in tokens.document()
    page = heat_map(counted)
    assert "tenth" in page and "below 1.75" in page and "effective" in page
    assert "20" in heat_map(tokens) and "effective" not in heat_map(tokens)


def test_very_many_classes_are_counted_in_bounded_memory() -> None:
    labels = np.array([5, 10**9, 10**9, 7, 7, 7])
    dataset = Dataset.of(np.zeros((6, 1)), labels, classes=10**9 + 1)
    counted = LabelCounts.of(Parts.stretches(dataset, [3, 6]))
    assert counted.counts.sum() == 6 and counted.counts.size < 100 and counted.names[:3] == ["5", "7", "1000000000"]
    assert len(split(dataset, 0.34, 0, np.random.default_rng(0)).test) == 2


def test_held_out_examples_get_the_types_of_the_others() -> None:
    many, few = np.random.default_rng(0).integers(0, 300, 200), [3, 1]
    regression = Prepared(Dataset.of(np.zeros((200, 1)), many), test=Dataset.of(np.zeros((2, 1), int), few))
    assert regression.test is not None and regression.test.targets.tolist() == [3.0, 1.0]
    assert regression.test.classes is None and regression.test.inputs.dtype == np.float32
    classes = Prepared(Dataset.of(np.zeros((4, 1)), [0, 1, 2, 3]), test=Dataset.of(np.zeros((2, 1)), [0, 1]))
    assert classes.test is not None and classes.test.classes == 4
    fewer = Prepared(Parts.stretches(Dataset.of(np.zeros((2, 1)), [0, 1]), [1, 2]), Dataset.of(np.zeros((1, 1)), [7]))
    assert isinstance(fewer.train, Parts) and fewer.train[0].classes == 8
    rare = Prepared(Dataset.of(np.zeros((60, 1)), np.arange(60) % 30), test=Dataset.of(np.zeros((21, 1)), range(21)))
    assert rare.test is not None and rare.test.classes == 30
    with pytest.raises(ConfigError, match=r"targets of the test set are int64\[2, 1\]"):
        Prepared(Dataset.of(np.zeros((2, 1)), [0.5, 1.5]), test=Dataset.of(np.zeros((2, 1)), [[0], [1]]))
    ranking = Prepared(
        Dataset.of(np.zeros((4, 5, 2)), [0, 1, 2, 4], classes=5), test=Dataset.of(np.zeros((1, 99, 2)), [98])
    )
    assert isinstance(ranking.train, Dataset) and ranking.train.classes == 5


def test_flipped_targets_are_reversed_once_and_the_same_when_reversed_twice() -> None:
    for kind, wanted in [
        (Dataset.of(np.zeros((3, 1)), [0, 1, 4], classes=5), [4, 3, 0]),
        (Dataset.of(np.zeros((3, 1)), [0.5, 1.0, 4.5]), [4.5, 4.0, 0.5]),
        (Dataset.of(np.zeros((3, 1)), [[0.5, 1], [1, 2], [4.5, 1]]), [[4.5, 2], [4, 1], [0.5, 2]]),
        (Dataset.of(np.zeros((2, 1)), [[0, 1], [1, 1]]), [[1, 0], [0, 0]]),
    ]:
        once = flipped(kind)
        assert once.tolist() == wanted and once.dtype == kind.targets.dtype
    extremes = Dataset.of(
        np.zeros((2, 1)),
        np.array(
            [
                -3e38,
                3e38,
            ],
            np.float32,
        ),
    )
    assert np.array_equal(flipped(extremes), extremes.targets[::-1])
    with pytest.raises(ConfigError, match="another attack"):
        flipped(Dataset.of(np.zeros((1, 1)), [[0, 1, 2]]))
