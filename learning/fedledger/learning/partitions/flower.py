"""Partitioners of Flower's ``flwr-datasets``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import PARTITIONS, Indices, require_strata
from fedledger.learning.partitions.sizes import require_enough
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Entries, Text


@PARTITIONS.register("flower@1")
@dataclass(frozen=True)
class Flower(Checked):
    """Deals by a partitioner of Flower's ``flwr-datasets``, which must be installed.

    It sees the columns ``label`` (of numbers to predict, which tenth of them each is in) and, where the data set has
    groups, ``group``. Some of them leave examples out, which
    nobody gets then.

    Parameters
    ----------
    partitioner
        Name of its class, such as ``"DirichletPartitioner"``.
    params
        Its parameters. ``num_partitions``, ``seed`` and ``partition_by = "label"`` are given to it where it takes them
        and they are not here.
    """

    partitioner: Annotated[str, Text(100)]
    params: Annotated[Mapping[str, Any], Entries(100)] = field(default_factory=dict)

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        require_enough(dataset, participants)
        kind = _partitioner(self.partitioner)
        given = {"num_partitions": participants, "partition_by": "label", "seed": int(rng.integers(2**32))}
        taken = inspect.signature(kind).parameters
        params = {name: value for name, value in given.items() if name in taken} | dict(self.params)
        try:
            parts = _parts(kind, params, dataset)
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{self.partitioner} cannot deal the data: {error}.", "Change its parameters.") from error
        if len(parts) != participants or not all(len(part) for part in parts):
            raise ConfigError(
                f"{self.partitioner} makes {sum(len(part) > 0 for part in parts)} parts with examples for "
                f"{participants} participants.",
                "Change its parameters, or the number of participants.",
            )
        return [rng.permutation(part) for part in parts]


def _partitioner(name: str) -> type[Any]:
    """Return one of Flower's partitioners."""
    try:
        from flwr_datasets import partitioner
    except ImportError as error:
        raise ConfigError("flwr-datasets is not installed.", "pip install flwr-datasets") from error
    kind = getattr(partitioner, name, None)
    if not isinstance(kind, type) or not issubclass(kind, partitioner.Partitioner):
        known = sorted(name for name in vars(partitioner) if name.endswith("Partitioner") and name != "Partitioner")
        raise ConfigError(f"flwr-datasets has no {name!r}.", f"There are: {', '.join(known)}.")
    return kind


def _parts(kind: type[Any], params: Mapping[str, Any], dataset: Dataset) -> list[Indices]:
    """Return the indices of the parts that a partitioner makes of a data set."""
    import datasets

    columns = {"index": np.arange(len(dataset))}
    if params.get("partition_by") == "label":
        columns["label"] = require_strata(dataset)
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    made = kind(**params)
    made.dataset = datasets.Dataset.from_dict(columns)
    return [np.asarray(made.load_partition(i)["index"][:], np.int64) for i in range(made.num_partitions)]
