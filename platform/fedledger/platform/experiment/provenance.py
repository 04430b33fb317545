"""What a run was made from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Protocol


class Described(Protocol):
    """A configuration of an experiment, or a task's spec: it has a name, and is a document."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return it as a document."""
        ...


def provenance(config: Described) -> dict[str, Any]:
    """Return what a run is made from: the configuration with all defaults, and the version that runs it."""
    return {"fedledger": version("fedledger"), "config": config.model_dump(mode="json")}


def flat(document: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables and lists by dotted paths; an empty one is a leaf."""
    if isinstance(document, Mapping):
        items = [(str(key), value) for key, value in document.items()]
    elif isinstance(document, list):
        items = [(str(place), value) for place, value in enumerate(document)]
    else:
        return {path: document}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flat(value, f"{path}.{key}" if path else key)
    return leaves or ({path: document} if path else {})
