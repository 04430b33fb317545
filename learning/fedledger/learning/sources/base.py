"""Data sources: where a configuration's examples come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedledger.learning.data import Dataset
from fedledger.protocol.methods.catalogue import DATA_SOURCE
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry

DATASETS: Registry[Callable[..., Dataset]] = Registry(DATA_SOURCE)


def load_dataset(key: str, params: Mapping[str, Any]) -> Dataset:
    """Load a data set of a registered kind.

    Raises
    ------
    ConfigError
        If there is no such kind, if the parameters do not suit it, or if a file is missing or malformed.
    """
    return build(DATASETS, key, params)
