"""The backends that come with this package, by their short names."""

from __future__ import annotations

from fedledger.platform.engine.backends.base import BACKENDS, Backend, Population


def open_backend(name: str, population: Population, workers: int | None = None) -> Backend:
    """Start a backend.

    Parameters
    ----------
    name
        Such as ``pool``, or ``pool@1``.
    population
        The participants.
    workers
        Number of processes; the backend's own choice unless given.

    Raises
    ------
    ConfigError
        If there is no such backend, or it lacks what it needs.
    """
    return BACKENDS.get(name if "@" in name else f"{name}@1")(population, workers)
