"""Columns of Hugging Face's data sets become inputs and targets of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedledger.learning.data import Dataset, Parts
from fedledger.learning.huggingface import (
    dataset_from_huggingface,
    partitions_from_huggingface,
    prepared_from_huggingface,
)
from fedledger.protocol.errors import ConfigError

datasets = pytest.importorskip("datasets", reason="datasets is not installed")


def table(**columns: Any) -> Any:
    return datasets.Dataset.from_dict(columns)


def test_whole_numbers_stay_whole_and_fractions_are_numbers_to_predict() -> None:
    found = dataset_from_huggingface(table(user=[2**40, 2**40 + 1], item=[1, 2], label=[0.5, 3.0]))
    assert found.inputs.dtype == np.int64 and found.inputs.tolist() == [[2**40, 1], [2**40 + 1, 2]]
    assert found.classes is None and found.targets.dtype == np.float32 and found.targets.tolist() == [0.5, 3.0]
    mixed = dataset_from_huggingface(table(a=[1, 2], b=[0.5, 1.5], label=[0, 1]))
    assert mixed.inputs.dtype == np.float32 and mixed.inputs.tolist() == [[1, 0.5], [2, 1.5]]
    with pytest.raises(ConfigError, match="beyond 2"):
        dataset_from_huggingface(table(user=[2**40, 2**40 + 1], age=[0.5, 1.5], label=[0, 1]))
    ratings = dataset_from_huggingface(table(x=[1.5, 2.5], label=[4, 1]))
    assert (ratings.classes, ratings.targets.tolist()) == (5, [4, 1])


def test_sequences_are_tokens_and_several_labels() -> None:
    tokens = dataset_from_huggingface(table(input_ids=[[5, 6, 7], [6, 7, 8]], labels=[[6, 7, 8], [7, 8, 9]]))
    assert tokens.inputs.dtype == np.int64 and tokens.inputs.tolist() == [[5, 6, 7], [6, 7, 8]]
    assert tokens.classes is None and tokens.targets.dtype == np.int64 and tokens.targets.shape == (2, 3)
    several = dataset_from_huggingface(table(x=[0.5, 1.5], labels=[[True, False], [True, True]]))
    assert several.targets.tolist() == [[1, 0], [1, 1]] and several.classes is None
    soft = dataset_from_huggingface(table(x=[0.5, 1.5], labels=[[0.5, 0.5], [1.0, 0.0]]))
    assert soft.targets.dtype == np.float32 and soft.targets.shape == (2, 2)


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        ({"x": [[1, 2], [1]], "label": [0, 1]}, {}, "Pad or cut them alike"),
        ({"x": [1.0, 2.0], "label": [[1, 2], [1]]}, {}, "Pad or cut them alike"),
        ({"x": [1.0, 2.0], "label": [1.0, None]}, {}, "target is NaN"),
        ({"x": [1, None], "label": [0, 1]}, {}, "NaN"),
        ({"x": [1.0, 2.0], "label": [0, 1], "g": ["a", None]}, {"groups": "g", "inputs": "x"}, "no group"),
        ({"x": [1.0, 2.0], "label": [0, 1], "g": [1, None]}, {"groups": "g", "inputs": "x"}, "no group"),
        ({"x": ["1", "2"], "label": [0, 1]}, {}, "'x' is not an array of numbers"),
    ],
)
def test_columns_of_other_kinds_are_told(columns: dict[str, Any], options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataset_from_huggingface(table(**columns), **options)


def test_text_labels_mean_the_same_in_every_split() -> None:
    train, test = table(x=[1.0, 2.0, 3.0], label=["b", "c", "d"]), table(x=[1.0, 2.0], label=["c", "a"])
    for prepared in (
        prepared_from_huggingface({"train": train, "test": test}),
        prepared_from_huggingface({"train": [train], "test": test}),
        partitions_from_huggingface([train.select([0]), train.select([1, 2])], test),
    ):
        assert prepared is not None and prepared.test is not None
        whole = prepared.train.whole if isinstance(prepared.train, Parts) else prepared.train
        assert isinstance(whole, Dataset) and whole.targets.tolist() == [1, 2, 3] and whole.classes == 4
        assert prepared.test.targets.tolist() == [2, 0] and prepared.test.classes == 4
    with pytest.raises(ConfigError, match=r"label.* is missing"):
        prepared_from_huggingface({"train": train, "test": table(x=[1.0], label=[None]).cast(train.features)})
