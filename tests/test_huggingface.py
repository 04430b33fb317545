"""Data sets and partitions of Hugging Face and Flower arrive as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedledger.learning.data import Dataset, Parts, Prepared
from fedledger.learning.hold_out import hold_out
from fedledger.learning.huggingface import (
    dataset_from_huggingface,
    partitions_from_huggingface,
    prepared_from_huggingface,
)
from fedledger.learning.partitions.base import partition
from fedledger.learning.sources.base import load_dataset
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.errors import ConfigError

datasets = pytest.importorskip("datasets", reason="datasets is not installed")
PIXELS = (load_digits().images * 15).astype(np.uint8)
LABELS = load_digits().target
NAMES = [f"digit {i}" for i in range(10)]


def digits(n: int = 200, start: int = 0) -> Any:
    """Return handwritten digits with the columns image, label and half."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), "half": datasets.Value("string")}
    )
    columns = {
        "image": [image.fromarray(pixels) for pixels in PIXELS[start : start + n]],
        "label": LABELS[start : start + n].tolist(),
        "half": ["left" if i % 2 else "right" for i in range(n)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def table(**columns: Any) -> Any:
    return datasets.Dataset.from_dict(columns)


# Columns


def test_grey_images_get_a_channel_and_class_labels_their_number() -> None:
    converted = dataset_from_huggingface(digits(50).select(range(5)), groups="half")
    assert converted.inputs.shape == (5, 1, 8, 8) and converted.inputs.dtype == np.float32
    assert np.array_equal(converted.inputs[:, 0], PIXELS[:5].astype(np.float32) / np.float32(255))
    assert converted.targets.tolist() == LABELS[:5].tolist() and converted.classes == 10
    assert converted.groups is not None and converted.groups.tolist() == ["right", "left", "right", "left", "right"]


def test_colours_come_first() -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    source = table(img=[image.fromarray(each) for each in pixels], labels=[0, 1])
    converted = dataset_from_huggingface(source)
    assert np.array_equal(converted.inputs, pixels.transpose(0, 3, 1, 2) / np.float32(255))


def test_columns_of_numbers_are_put_behind_each_other() -> None:
    source = table(a=[1.5, 2.5], label=["b", "a"], c=[[1, 2], [3, 4]])
    converted = dataset_from_huggingface(source)
    assert converted.inputs.tolist() == [[1.5, 1, 2], [2.5, 3, 4]]
    assert converted.targets.tolist() == [1, 0] and converted.classes == 2
    assert dataset_from_huggingface(source, inputs="c").inputs.tolist() == [[1, 2], [3, 4]]
    assert dataset_from_huggingface(source, inputs=["c", "a"]).inputs.tolist() == [[1, 2, 1.5], [3, 4, 2.5]]


def test_an_array_keeps_its_shape() -> None:
    features = datasets.Features({"x": datasets.Array2D((2, 3), "float32"), "label": datasets.Value("int64")})
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    source = datasets.Dataset.from_dict({"x": list(values), "label": [0, 1]}, features=features)
    assert np.array_equal(dataset_from_huggingface(source).inputs, values)


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        ({"x": [1.0], "y": [0]}, {}, "No columns could be the labels.*columns are x, y"),
        ({"x": [1.0], "label": [0], "labels": [0]}, {}, "2 columns could be the labels"),
        ({"x": [1.0], "label": [0]}, {"inputs": "z"}, "no column 'z'"),
        ({"x": [1.0], "label": [0]}, {"groups": "z"}, "no column 'z'"),
        ({"label": [0]}, {}, "no column but the labels"),
        ({"x": ["word"], "label": [0]}, {}, "'x' is not an array of numbers"),
        ({"x": [[1], [1, 2]], "label": [0, 1]}, {}, "'x' is not an array of numbers"),
        ({"x": [1.0, None], "label": [0, 1]}, {}, "NaN"),
        ({"x": [1.0, 2.0], "label": ["a", None]}, {}, "label.* is missing"),
    ],
)
def test_columns_that_do_not_do_are_told(columns: dict[str, Any], options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataset_from_huggingface(table(**columns), **options)


def test_images_of_different_sizes_and_streams_are_told() -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    pictures = [image.fromarray(np.zeros((4, size), np.uint8)) for size in (4, 5)]
    with pytest.raises(ConfigError, match=r"shapes \[\(4, 4\), \(4, 5\)\].*map\(\)"):
        dataset_from_huggingface(table(image=pictures, label=[0, 1]))
    with pytest.raises(ConfigError, match=r"not a datasets\.Dataset"):
        dataset_from_huggingface(digits(5).to_iterable_dataset())


# Where they come from


def test_a_saved_folder_a_saved_dictionary_and_files_are_read(tmp_path: Path) -> None:
    expected = dataset_from_huggingface(digits())
    digits().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": digits(), "extra": digits(20)}).save_to_disk(tmp_path / "two")
    (tmp_path / "files").mkdir()
    digits(100).to_parquet(tmp_path / "files" / "a.parquet")
    digits(100, 100).to_parquet(tmp_path / "files" / "b.parquet")
    for place in ("one", "two", "files"):
        read = load_dataset("huggingface@1", {"path": str(tmp_path / place)})
        assert np.array_equal(read.inputs, expected.inputs) and np.array_equal(read.targets, expected.targets)
    assert len(load_dataset("huggingface@1", {"path": str(tmp_path / "two"), "split": "extra"})) == 20
    table(x=[1.0, 2.0], kind=["a", "b"]).to_csv(tmp_path / "t.csv")
    read = load_dataset("huggingface@1", {"path": str(tmp_path / "t.csv"), "labels": "kind"})
    assert read.inputs.tolist() == [[1], [2]]


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.DatasetDict({"train": digits(5)}).save_to_disk(tmp_path / "two")
    (tmp_path / "mixed").mkdir()
    for name in ("a.csv", "b.json"):
        (tmp_path / "mixed" / name).touch()
    for params, told in [
        ({"path": str(tmp_path / "none")}, "no data set at"),
        ({"path": str(tmp_path / "mixed")}, "no data set at"),
        ({"path": str(tmp_path / "two"), "split": "test"}, "no split 'test'.*train"),
        ({}, "either path or name"),
        ({"path": "a", "name": "b"}, "either path or name"),
    ]:
        with pytest.raises(ConfigError, match=told):
            load_dataset("huggingface@1", params)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="fedledger/none cannot be loaded"):
        load_dataset("huggingface@1", {"name": "fedledger/none"})
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedledger\[huggingface\]'"):
        load_dataset("huggingface@1", {"path": str(tmp_path / "two")})


# Partitions


def config(participants: int, **more: Any) -> ExperimentConfig:
    document = {
        "name": "given",
        "participants": participants,
        "code": "task.py",
        "training": {
            "pipeline": "plain",
            "rounds": 1,
            "solver": {"method": "sgd@1", "params": {"learning_rate": 0.1, "local_epochs": 1}},
        },
        **more,
    }
    return ExperimentConfig.model_validate(document)


TASK = """
import datasets, torch
def model():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
def data():
    whole = datasets.load_from_disk({folder!r})
    {data}
"""


def sets(dataset: Dataset) -> set[bytes]:
    return {example.tobytes() for example in dataset.inputs}


@pytest.fixture
def task(tmp_path: Path) -> Callable[[str], Path]:
    digits().save_to_disk(tmp_path / "saved")

    def write(data: str) -> Path:
        (tmp_path / "task.py").write_text(TASK.format(folder=str(tmp_path / "saved"), data=data))
        return tmp_path

    return write


def test_a_task_s_data_may_be_a_data_set_of_theirs(task: Callable[[str], Path]) -> None:
    folder = task("return whole")
    experiment = make_experiment(config(3), folder)
    assert sum(map(len, experiment.parts)) + len(experiment.test) + round(0.1 * 200) == 200
    assert run_without_ledger(experiment, folder, "serial")["rounds"] == 1


def test_given_partitions_are_the_participants_parts_and_their_test_set_is_the_test_set(
    task: Callable[[str], Path],
) -> None:
    folder = task(
        "first, second, test = (whole.select(range(*ends)) for ends in ((0, 60), (60, 80), (80, 200)))\n"
        "    return {'train': [first, second], 'test': test}"
    )
    experiment = make_experiment(config(2), folder)
    whole = dataset_from_huggingface(digits())
    assert [part.inputs.tobytes() for part in experiment.parts] == [
        whole.inputs[:60].tobytes(),
        whole.inputs[60:80].tobytes(),
    ]
    assert [part.targets.tolist() for part in experiment.parts] == [LABELS[:60].tolist(), LABELS[60:80].tolist()]
    # The validation set is a tenth of the test set.
    assert len(experiment.test) == 108 and sets(experiment.test) < sets(whole.take(np.arange(80, 200)))
    with pytest.raises(ConfigError, match="participants = 2"):
        make_experiment(config(3), folder)


def test_without_a_test_set_every_part_keeps_the_order_of_what_it_keeps(task: Callable[[str], Path]) -> None:
    experiment = make_experiment(config(2), task("return [whole.select(range(50, 200)), whole.select(range(0, 50))]"))
    given = [dataset_from_huggingface(digits().select(range(*ends))) for ends in ((50, 200), (0, 50))]
    for part, before in zip(experiment.parts, given, strict=True):
        places = [
            before.inputs.reshape(len(before), -1).tolist().index(x)
            for x in part.inputs.reshape(len(part), -1).tolist()
        ]
        assert places == sorted(set(places)) and before.targets[places].tolist() == part.targets.tolist()
    assert sum(map(len, experiment.parts)) == 200 - 40 - 20 and len(experiment.test) == 40


def test_text_labels_mean_the_same_in_every_partition() -> None:
    pieces = [table(x=[1.0, 2.0], label=["b", "c"]), table(x=[3.0], label=["a"])]
    train = partitions_from_huggingface(pieces).train
    assert isinstance(train, Parts)
    assert [part.targets.tolist() for part in train] == [[1, 2], [0]] and train[1].classes == 3


def test_other_splits_empty_parts_and_other_things_are_told() -> None:
    whole = digits(10)
    with pytest.raises(ConfigError, match="unsupervised: neither"):
        prepared_from_huggingface({"train": whole, "unsupervised": whole})
    with pytest.raises(ConfigError, match="participant 1 has no example"):
        prepared_from_huggingface([whole, whole.select([])])
    with pytest.raises(ConfigError, match="same columns"):
        prepared_from_huggingface([whole, table(x=[1.0], label=["a"])])
    assert prepared_from_huggingface({"a": 1}) is None and prepared_from_huggingface([]) is None
    numbers = Dataset.of(np.zeros((4, 1)), [0, 1, 0, 1])
    with pytest.raises(ConfigError, match="test set has no example"):
        Prepared(numbers, numbers.take(np.array([], np.int64)))
    parts = Parts(numbers, [np.array([0, 1, 2]), np.array([3])])
    with pytest.raises(ConfigError, match="held out"):
        for seed in range(50):
            hold_out(Prepared(parts), 0.5, 0.0, np.random.default_rng(seed))


# Flower


def test_flower_s_federated_data_set_keeps_its_partitions(tmp_path: Path) -> None:
    flower = pytest.importorskip("flwr_datasets", reason="flwr-datasets is not installed: it needs an older rich")
    partitioner = pytest.importorskip("flwr_datasets.partitioner").DirichletPartitioner(4, "label", 0.5, 5)
    (tmp_path / "data").mkdir()
    digits().to_parquet(tmp_path / "data" / "train.parquet")
    digits(60, 200).to_parquet(tmp_path / "data" / "test.parquet")
    federated = flower.FederatedDataset(dataset=str(tmp_path / "data"), partitioners={"train": partitioner})
    given = [federated.load_partition(i) for i in range(4)]
    prepared = prepared_from_huggingface({"train": given, "test": federated.load_split("test")})
    assert prepared is not None and isinstance(prepared.train, Parts)
    train, validation, test = hold_out(prepared, 0.2, 0.1, np.random.default_rng(0))
    assert len(validation) == 6 and len(test) == 54
    for part, dataset in zip(train, given, strict=True):
        assert part.targets.tolist() == dataset["label"][:]
        assert np.array_equal(part.inputs, dataset_from_huggingface(dataset).inputs)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("IidPartitioner", {}),
        ("DirichletPartitioner", {"alpha": 0.5, "min_partition_size": 3}),
        ("PathologicalPartitioner", {"num_classes_per_partition": 3}),
        ("ShardPartitioner", {"num_shards_per_partition": 2}),
        ("LinearPartitioner", {}),
    ],
)
def test_flower_s_partitioners_deal(name: str, params: dict[str, Any]) -> None:
    pytest.importorskip("flwr_datasets", reason="flwr-datasets is not installed: it needs an older rich")
    whole = dataset_from_huggingface(digits(300))
    method = {"partitioner": name, "params": params}
    first, second = (partition("flower@1", method, whole, 5, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    dealt = np.concatenate(first).tolist()
    assert len(set(dealt)) == len(dealt)
    if name == "PathologicalPartitioner":
        # It may leave a class out.
        assert [len(set(whole.targets[part].tolist())) for part in first] == [3] * 5
    else:
        assert sorted(dealt) == list(range(300))


def test_flower_s_natural_partitioner_sees_the_groups_and_what_it_cannot_deal_is_told() -> None:
    pytest.importorskip("flwr_datasets", reason="flwr-datasets is not installed: it needs an older rich")
    whole = dataset_from_huggingface(digits(100), groups="half")
    natural = {"partitioner": "NaturalIdPartitioner", "params": {"partition_by": "group"}}
    parts = partition("flower@1", natural, whole, 2, np.random.default_rng(0))
    assert whole.groups is not None
    assert sorted(
        {str(g) for g in whole.groups[part]} == {side} for part, side in zip(parts, ("left", "right"), strict=True)
    )
    for method, told in [
        (natural, "makes 2 parts"),
        ({"partitioner": "Dirichlet"}, "no 'Dirichlet'.*DirichletPartitioner"),
        ({"partitioner": "DirichletPartitioner"}, "cannot deal"),
    ]:
        with pytest.raises(ConfigError, match=told):
            partition("flower@1", method, whole, 3, np.random.default_rng(0))
