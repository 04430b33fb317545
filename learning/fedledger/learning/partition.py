"""How a data set is dealt to participants.

A partitioner maps (data set, number of participants, generator) to one array of indices a participant:
disjoint, covering everything, none empty, each shuffled. Every one of them ends for every input.
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, real, whole
from fedledger.protocol.registry import Registry

Indices: TypeAlias = NDArray[np.int64]
Partitioner: TypeAlias = Callable[[Dataset, int, np.random.Generator], list[Indices]]

PARTITIONS: Registry[Callable[..., Partitioner]] = Registry("partition", "fedledger.partitions")


def partition(
    key: str, params: Mapping[str, Any], dataset: Dataset, participants: int, rng: np.random.Generator
) -> list[Indices]:
    """Deal a data set by a registered method.

    Raises
    ------
    ConfigError
        If there is no such method, if the parameters do not suit it, or if there are too few examples.
    """
    return build(PARTITIONS, key, params)(dataset, participants, rng)


@PARTITIONS.register("iid@1")
@dataclass(frozen=True)
class Iid:
    """Deals a random permutation in parts whose sizes differ by at most one."""

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        _require(dataset, participants)
        return list(np.array_split(rng.permutation(len(dataset)), participants))


@PARTITIONS.register("dirichlet@1")
@dataclass(frozen=True)
class Dirichlet:
    """Deals each class by its own draw of Dirichlet proportions (Hsu, Qi and Brown, 2019).

    Drawn once; participants left with fewer than ``min_examples`` then receive examples from whoever holds
    the most.

    Parameters
    ----------
    alpha
        Concentration: near 0, each class goes to one participant; large, everyone gets the same mixture.
    min_examples
        The fewest examples that a participant ends up with.
    """

    alpha: float
    min_examples: int = 1

    def __post_init__(self) -> None:
        real("alpha", self.alpha, above=True)
        whole("min_examples", self.min_examples)

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        _require(dataset, participants, self.min_examples)
        pieces: list[list[Indices]] = [[] for _ in range(participants)]
        for label in np.unique(dataset.labels):
            members = rng.permutation(np.flatnonzero(dataset.labels == label))
            ends = np.rint(np.cumsum(self._proportions(participants, rng)) * len(members)).astype(np.int64)
            for piece, part in zip(pieces, np.split(members, ends[:-1]), strict=True):
                piece.append(part)
        return _top_up([np.concatenate(piece) for piece in pieces], self.min_examples, rng)

    def _proportions(self, participants: int, rng: np.random.Generator) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            drawn: NDArray[np.float64] = rng.dirichlet(np.full(participants, float(self.alpha)))
        if np.isfinite(drawn).all() and abs(drawn.sum() - 1) < 1e-6:
            return drawn
        # Beyond what doubles can draw, the distribution is at its limit: a corner or the centre.
        if self.alpha < 1:
            corner = np.zeros(participants)
            corner[rng.integers(participants)] = 1
            return corner
        return np.full(participants, 1 / participants)


@PARTITIONS.register("shards@1")
@dataclass(frozen=True)
class Shards:
    """Sorts by label, cuts into equal shards and deals these at random (McMahan et al., 2017).

    Parameters
    ----------
    shards_per_participant
        How many shards each participant gets; about the number of classes it sees.
    """

    shards_per_participant: int = 2

    def __post_init__(self) -> None:
        whole("shards_per_participant", self.shards_per_participant)

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        _require(dataset, participants)
        # More shards than examples would be empty ones, however large the parameter.
        each = min(self.shards_per_participant, len(dataset))
        mixed = rng.permutation(len(dataset))
        by_label = mixed[np.argsort(dataset.labels[mixed], kind="stable")]
        count = min(participants * each, len(dataset))
        shards = np.array_split(by_label, count)
        owners = rng.permutation(np.arange(count) % participants)
        parts = [
            np.concatenate([shards[i] for i in np.flatnonzero(owners == participant)])
            for participant in range(participants)
        ]
        return _top_up(parts, 1, rng)


@PARTITIONS.register("natural@1")
@dataclass(frozen=True)
class Natural:
    """Deals by the data set's own groups (hospitals, speakers, …), in the order of their names.

    With more groups than participants, the largest group left goes to the participant with the fewest
    examples. With fewer, the largest piece is halved until there is one for each.
    """

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        _require(dataset, participants)
        if dataset.groups is None:
            raise ConfigError("The data set has no groups.", "Use iid@1, dirichlet@1 or shards@1.")
        _, codes = np.unique(dataset.groups, return_inverse=True)
        mixed = rng.permutation(len(dataset))
        by_group = mixed[np.argsort(codes[mixed], kind="stable")]
        parts: list[Indices] = np.split(by_group, np.cumsum(np.bincount(codes))[:-1])
        if len(parts) > participants:
            parts = _merge(parts, participants)
        while len(parts) < participants:
            largest = max(range(len(parts)), key=lambda index: len(parts[index]))
            parts[largest : largest + 1] = np.array_split(parts[largest], 2)
        return [rng.permutation(part) for part in parts]


@PARTITIONS.register("flower@1")
@dataclass(frozen=True)
class Flower:
    """Deals by a partitioner of Flower's ``flwr-datasets``, which must be installed.

    It sees the columns ``label`` and, where the data set has groups, ``group``. Some of them leave examples out, which
    nobody gets then.

    Parameters
    ----------
    partitioner
        Name of its class, such as ``"DirichletPartitioner"``.
    params
        Its parameters. ``num_partitions``, ``seed`` and ``partition_by = "label"`` are given to it where it takes them
        and they are not here.
    """

    partitioner: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        _require(dataset, participants)
        try:
            import datasets
            from flwr_datasets import partitioner
        except ImportError as error:
            raise ConfigError("flwr-datasets is not installed.", "pip install flwr-datasets") from error
        kind = getattr(partitioner, self.partitioner, None)
        if not isinstance(kind, type) or not issubclass(kind, partitioner.Partitioner):
            known = sorted(name for name in vars(partitioner) if name.endswith("Partitioner") and name != "Partitioner")
            raise ConfigError(f"flwr-datasets has no {self.partitioner!r}.", f"There are: {', '.join(known)}.")
        given = {"num_partitions": participants, "partition_by": "label", "seed": int(rng.integers(2**32))}
        taken = inspect.signature(kind).parameters
        columns = {"index": np.arange(len(dataset)), "label": dataset.labels}
        if dataset.groups is not None:
            columns["group"] = dataset.groups
        try:
            made = kind(**{name: value for name, value in given.items() if name in taken} | dict(self.params))
            made.dataset = datasets.Dataset.from_dict(columns)
            parts = [np.asarray(made.load_partition(i)["index"][:], np.int64) for i in range(made.num_partitions)]
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{self.partitioner} cannot deal the data: {error}.", "Change its parameters.") from error
        if len(parts) != participants or not all(len(part) for part in parts):
            raise ConfigError(
                f"{self.partitioner} makes {sum(len(part) > 0 for part in parts)} parts with examples for "
                f"{participants} participants.",
                "Change its parameters, or the number of participants.",
            )
        return [rng.permutation(part) for part in parts]


def _require(dataset: Dataset, participants: int, each: int = 1) -> None:
    whole("participants", participants)
    if len(dataset) < participants * each:
        raise ConfigError(
            f"{len(dataset)} examples cannot give {participants} participants {each} each.",
            f"Use at most {len(dataset) // each} participants, or more data.",
        )


def _merge(parts: list[Indices], participants: int) -> list[Indices]:
    bins = [(0, index) for index in range(participants)]
    merged: list[list[Indices]] = [[] for _ in range(participants)]
    for part in sorted(parts, key=len, reverse=True):
        size, index = heapq.heappop(bins)
        merged[index].append(part)
        heapq.heappush(bins, (size + len(part), index))
    return [np.concatenate(pieces) for pieces in merged]


def _top_up(parts: list[Indices], minimum: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle the parts, moving examples from the largest to those with fewer than ``minimum``."""
    lists: list[list[int]] = [rng.permutation(part).tolist() for part in parts]
    richest = [(-len(part), index) for index, part in enumerate(lists) if len(part) > minimum]
    heapq.heapify(richest)
    for part in lists:
        while len(part) < minimum:
            size, donor = richest[0]
            part.append(lists[donor].pop())
            heapq.heapreplace(richest, (size + 1, donor))
    return [rng.permutation(np.asarray(part, np.int64)) for part in lists]
