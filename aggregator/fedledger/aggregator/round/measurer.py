"""What measures models for a round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.spec import TaskSpec

MOST_AHEAD = 64 * 1024 * 1024
"""Bytes of vectors, at most, that are looked at before their round is complete."""


Named = tuple[str, NDArray[np.float32]]
"""What is measured, as a measurer is told, and the vector."""


class Measurer(Protocol):
    """Measures a model on the task's validation set."""

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        """Measure ``vector``; ``what`` is ``"base"``, ``"model"`` or the owner of the update that it includes."""
        ...


@runtime_checkable
class ManyMeasurer(Protocol):
    """A measurer that takes many models at once."""

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        """Return what calling this with each of them would."""
        ...


@runtime_checkable
class ForesightedMeasurer(Protocol):
    """A measurer that may be told of models before it is asked."""

    def ahead(self, what: str, vector: NDArray[np.float32] | None) -> None:
        """Measure a vector, if there is one, for whoever asks for it before the round's model is measured."""
        ...


@runtime_checkable
class RoundMeasurer(Protocol):
    """A measurer that measures each round on held-out examples of its own."""

    def at(self, index: int) -> Measurer:
        """Return what measures a round; rounds are measured one after another."""
        ...

    def opened(self, index: int) -> bytes | None:
        """Return the block of the validation set that is opened with a round, as content, if one is."""
        ...


def in_round(measure: Measurer, index: int) -> Measurer:
    """Return what measures a round."""
    return measure.at(index) if isinstance(measure, RoundMeasurer) else measure


def measured(measure: Measurer, named: Iterable[Named]) -> list[Measurement]:
    """Measure many vectors, at once where the measurer takes them so."""
    if isinstance(measure, ManyMeasurer):
        return measure.each(named)
    return [measure(what, vector) for what, vector in named]


def as_reported(measure: Measurer, spec: TaskSpec) -> Measurer:
    """Return what measures as much as a task's reports hold, so that nothing rests on what nobody can check."""
    return measure if spec.evidence is not None else _WithoutMargins(measure)


class _WithoutMargins:
    """Measures as another measurer does, without margins."""

    def __init__(self, measure: Measurer) -> None:
        self._measure = measure

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        return replace(self._measure(what, vector), margin=None)

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        return [replace(one, margin=None) for one in measured(self._measure, named)]
