"""Every partition is disjoint, complete, without an empty part, repeatable, and ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import partition
from fedledger.protocol.errors import ConfigError
from support.examples import examples


def labelled(labels, groups=None):
    labels = np.asarray(labels, np.int64)
    return Dataset(np.zeros((len(labels), 1), np.float32), labels, max(2, labels.max(initial=0) + 1), groups)


METHODS = st.one_of(
    st.just(("iid@1", {})),
    st.tuples(
        st.just("dirichlet@1"),
        st.fixed_dictionaries(
            {"alpha": st.sampled_from([5e-324, 1e-300, 1e-6, 0.01, 0.5, 1.0, 100.0, 1e9, 1e300, 1.7e308])}
        ),
    ),
    st.tuples(
        st.just("shards@1"),
        st.fixed_dictionaries({"shards_per_participant": st.sampled_from([1, 2, 5, 10**9])}),
    ),
    st.just(("natural@1", {})),
)


@examples(300)
@given(
    METHODS,
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=120),
    st.data(),
    st.integers(0, 2**32),
)
def test_partitions_are_disjoint_complete_without_empty_parts_and_repeat(method, examples, data, seed):
    labels, groups = np.array(examples).T
    participants = data.draw(st.integers(1, len(labels)))
    dataset = labelled(labels, groups.astype(str))
    parts = partition(*method, dataset, participants, np.random.default_rng(seed))
    assert len(parts) == participants
    assert all(len(part) for part in parts)
    assert all(part.dtype == np.int64 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    again = partition(*method, dataset, participants, np.random.default_rng(seed))
    assert [part.tobytes() for part in parts] == [part.tobytes() for part in again]


def test_tiny_alpha_still_gives_everyone_the_minimum():
    dataset = labelled(np.arange(5000) % 10)
    params = {"alpha": 1e-6, "min_examples": 4}
    parts = partition("dirichlet@1", params, dataset, 1000, np.random.default_rng(0))
    assert min(len(part) for part in parts) >= 4


@pytest.mark.parametrize("alpha", [0.1, 1.0, 50.0])
def test_dirichlet_shares_have_the_variance_of_the_distribution(alpha):
    participants, classes = 10, 400
    dataset = labelled(np.repeat(np.arange(classes), 200))
    parts = partition("dirichlet@1", {"alpha": alpha}, dataset, participants, np.random.default_rng(5))
    shares = np.array([np.bincount(dataset.targets[part], minlength=classes) for part in parts]) / 200
    mean = 1 / participants
    variance = mean * (1 - mean) / (participants * alpha + 1)
    assert shares.mean() == pytest.approx(mean)
    assert shares.var() == pytest.approx(variance, rel=0.15)


def test_iid_parts_differ_by_at_most_one_example():
    parts = partition("iid@1", {}, labelled(np.zeros(103)), 10, np.random.default_rng(0))
    assert {len(part) for part in parts} == {10, 11}


def test_shards_limit_the_classes_that_a_participant_sees():
    dataset = labelled(np.arange(2000) % 10)
    parts = partition("shards@1", {"shards_per_participant": 2}, dataset, 100, np.random.default_rng(0))
    assert {len(part) for part in parts} == {20}
    assert max(len(np.unique(dataset.targets[part])) for part in parts) == 2


def test_natural_groups_stay_whole_and_in_order_where_there_is_one_each():
    groups = np.array(["b", "a", "c", "a", "b", "b"])
    dataset = labelled(np.zeros(6), groups)
    parts = partition("natural@1", {}, dataset, 3, np.random.default_rng(0))
    assert [set(groups[part]) for part in parts] == [{"a"}, {"b"}, {"c"}]
    two = partition("natural@1", {}, dataset, 2, np.random.default_rng(0))
    assert [set(groups[part]) for part in two] == [{"b"}, {"a", "c"}]
    five = partition("natural@1", {}, dataset, 5, np.random.default_rng(0))
    assert all(len(set(groups[part])) == 1 for part in five)


@pytest.mark.parametrize(
    ("key", "params", "participants", "message"),
    [
        ("iid@1", {}, 7, "6 examples cannot give 7 participants"),
        ("iid@1", {}, 0, "participants is 0"),
        ("dirichlet@1", {"alpha": 1, "min_examples": 3}, 3, "3 each"),
        ("dirichlet@1", {"alpha": 0}, 3, "alpha is 0"),
        ("dirichlet@1", {"alpha": float("nan")}, 3, "alpha is nan"),
        ("dirichlet@1", {}, 3, "missing a required argument"),
        ("shards@1", {"shards_per_participant": 0}, 3, "shards_per_participant is 0"),
        ("natural@1", {}, 3, "no groups"),
        ("random@1", {}, 3, "no partition"),
    ],
)
def test_what_cannot_be_dealt_is_refused(key, params, participants, message):
    with pytest.raises(ConfigError, match=message):
        partition(key, params, labelled(np.zeros(6)), participants, np.random.default_rng(0))
