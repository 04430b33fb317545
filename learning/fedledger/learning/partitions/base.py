"""How a data set is dealt to participants.

A partitioner maps (data set, number of participants, generator) to one array of indices a participant:
disjoint, covering everything, none empty, each shuffled. Every one of them ends for every input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import PARTITION
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry

Indices: TypeAlias = NDArray[np.int64]


Partitioner: TypeAlias = Callable[[Dataset, int, np.random.Generator], list[Indices]]


PARTITIONS: Registry[Callable[..., Partitioner]] = Registry(PARTITION)


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


def require_strata(dataset: Dataset) -> NDArray[np.int64]:
    """Return the class of each example, or the tenth that its number to predict is in, int64[n].

    Raises
    ------
    ConfigError
        If there is no one target per example.
    """
    strata = dataset.strata
    if strata is None:
        raise ConfigError(
            f"Examples have {dataset.targets.dtype}{list(dataset.targets.shape[1:])} as targets, which cannot be "
            "divided by class.",
            "Use iid@1, or natural@1 where examples have groups.",
        )
    return strata
