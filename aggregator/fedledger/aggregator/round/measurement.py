"""Live measurements on a task's validation set."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.round.measurer import MOST_AHEAD, Named
from fedledger.learning.metrics import HeldOut, measure
from fedledger.learning.validation_set import RoundExamples
from fedledger.learning.vectors import FlatModel
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.report import BASE, MODEL
from fedledger.storage.machine import processors

LONG = 1e-3
"""Seconds from which on a measurement is worth another thread: a shorter one is mostly Python, which runs in one."""
MEASURERS = 8
"""Threads that measure at most, each with a model of its own."""
EXAMPLES_PER_PASS = 2048
"""Examples per joint pass of several models on one thread: for tiny models the overhead of a pass dominates."""


def other_measurers(has_own_code: bool) -> int:
    """Return how many more models to measure with: a task's own code may hold what threads must not share."""
    return 0 if has_own_code else min(processors(), MEASURERS) - 1


class LiveMeasurer:
    """Measures models by forward passes over held-out examples.

    Parameters
    ----------
    model
        The task's model; its parameters are overwritten.
    examples
        Which of the validation set a round is judged on.
    others
        More of the same model, each for one more thread; every forward pass is one thread's, so the bits are the same.
    """

    def __init__(self, model: FlatModel, examples: RoundExamples, others: Iterable[FlatModel] = ()) -> None:
        self._examples, self._index = examples, 0
        self._models = [model, *others]
        for each in self._models:
            each.module.eval()
        self._threads: ThreadPoolExecutor | None = None
        self._last: tuple[NDArray[np.float32], HeldOut, Measurement] | None = None
        self._ahead: dict[str, tuple[NDArray[np.float32], Measurement]] = {}

    def at(self, index: int) -> LiveMeasurer:
        """Turn to the examples of a round, which are loaded now."""
        if index != self._index:
            self._examples.judging(index)
            self._index = index
            self._ahead.clear()
        return self

    def opened(self, index: int) -> bytes | None:
        """Return the block of the validation set that is opened with a round, if one is."""
        return self._examples.opened(index)

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        """Measure a packed vector; a round's base model has been measured already where it is the last one's."""
        if what == MODEL:
            return self._measure_model(vector)
        if what == BASE and self._last is not None and np.array_equal(self._last[0], vector):
            _, held_out, known = self._last
            if held_out is self._held_out:
                return known
        return self._measure(self._models[0], what, vector)

    def _measure_model(self, vector: NDArray[np.float32]) -> Measurement:
        """Measure a round's new model, which the next round may start from."""
        held_out = self._examples.final(self._index)
        measured = measure(self._models[0], [vector], held_out)[0]
        self._last = vector.copy(), held_out, measured
        self._ahead.clear()
        return measured

    @property
    def _held_out(self) -> HeldOut:
        return self._examples.judging(self._index)

    def ahead(self, what: str, vector: NDArray[np.float32] | None) -> None:
        """Measure a vector, if there is one, for whoever asks for it before the round's model is measured.

        Nothing else may be measured at the same time. Nothing happens where threads may not share the model's code, or
        have one processor.
        """
        if vector is None or len(self._models) < 2 or (len(self._ahead) + 1) * vector.nbytes > MOST_AHEAD:
            return
        self._ahead[what] = vector, self._measure(self._models[0], what, vector)

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        """Measure many vectors, several at the same time where that is faster."""
        rest = iter(named)
        measured: list[Measurement] = []
        took = 0.0
        # The first one after other work takes longer than those that follow.
        for what, vector in itertools.islice(rest, 2):
            began = time.perf_counter()
            measured.append(self(what, vector))
            took = time.perf_counter() - began
        is_long = took >= LONG and len(self._models) > 1
        measured += self._beside(rest) if is_long else self._in_groups(rest)
        return measured

    def _in_groups(self, named: Iterator[Named]) -> Iterator[Measurement]:
        while group := list(itertools.islice(named, max(1, EXAMPLES_PER_PASS // len(self._held_out)))):
            known = [self._known(*one) for one in group]
            new = [vector for (_, vector), found in zip(group, known, strict=True) if found is None]
            measured = iter(measure(self._models[0], new, self._held_out))
            yield from (next(measured) if found is None else found for found in known)

    def _beside(self, named: Iterator[Named]) -> Iterator[Measurement]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(self._models) - 1, "measure")
        while group := list(itertools.islice(named, len(self._models))):
            others = zip(self._models[1:], group[1:], strict=False)
            beside = [self._threads.submit(self._measure, model, *one) for model, one in others]
            yield self._measure(self._models[0], *group[0])
            yield from (one.result() for one in beside)

    def _measure(self, model: FlatModel, what: str, vector: NDArray[np.float32]) -> Measurement:
        return self._known(what, vector) or measure(model, [vector], self._held_out)[0]

    def _known(self, what: str, vector: NDArray[np.float32]) -> Measurement | None:
        known = self._ahead.get(what)
        return known[1] if known is not None and np.array_equal(known[0], vector) else None
