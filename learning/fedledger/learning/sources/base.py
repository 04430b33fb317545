"""Data sources: where a configuration's examples come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fedledger.learning.data import Dataset
from fedledger.protocol.methods.catalogue import DATA_SOURCE
from fedledger.protocol.methods.parameters import build, parameters_of
from fedledger.protocol.methods.registry import Registry

PATHS = ("path", "folder")
"""Parameters of data sources that are paths."""
NUMBERS = "numbers"
"""What the parameter ``targets`` is where they are numbers to predict."""


@runtime_checkable
class Source(Protocol):
    """A data source with many parameters: a frozen dataclass of them."""

    def load(self) -> Dataset:
        """Load the data set."""
        ...


DATASETS: Registry[Callable[..., Dataset | Source]] = Registry(DATA_SOURCE)


def load_dataset(key: str, params: Mapping[str, Any], numbers: bool = False, folder: Path | None = None) -> Dataset:
    """Load a data set of a registered kind.

    Parameters
    ----------
    key, params
        The kind's name and its parameters.
    numbers
        Whether the task's objective predicts numbers; then a source that can tell them from classes, by its parameter
        ``targets``, gives numbers unless the parameters say otherwise.
    folder
        What paths among the parameters are relative to; the working folder unless given.

    Raises
    ------
    ConfigError
        If there is no such kind, if the parameters do not suit it, or if a file is missing or malformed.
    """
    given = dict(params)
    for name in PATHS if folder is not None else ():
        # Anything else than a text is the source's to refuse.
        if isinstance(given.get(name), str):
            given[name] = str(folder / given[name])
    if numbers and any(parameter.name == "targets" for parameter in parameters_of(DATASETS.get(key))):
        given.setdefault("targets", NUMBERS)
    made = build(DATASETS, key, given)
    return made.load() if isinstance(made, Source) else made
