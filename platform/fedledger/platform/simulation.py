"""Federated training without a ledger: the same rounds, and the same final model to the bit, at the speed of training.

A round's model follows from the updates' values, the participants' reputations and the spec. Signatures, content ids,
commitments and payments bind parties that do not trust each other; who plays all parts on one machine can leave them
out, and gets what a run of the same configuration with a ledger would get.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.selection import EVERYTHING, RECORD, SELECTIONS, Candidate
from fedledger.aggregator.step import take_step, weigh
from fedledger.platform.backends.base import Backend, Done, Job, Total, Work
from fedledger.platform.setting import Setting
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.exact import MAX_ROWS, IntArray
from fedledger.protocol.model import ModelFile
from fedledger.protocol.parameters import build
from fedledger.protocol.reputation import Evidence
from fedledger.protocol.spec import TaskSpec
from fedledger.protocol.streams import stream
from fedledger.protocol.verdicts import Verdict

MAX_VOIDS = 3
"""Rounds below quorum in a row after which a run ends with an error."""


@dataclass
class Progress:
    """Where a simulation is, and all that its next round follows from.

    Parameters
    ----------
    index
        Last round that is done; 0 before the first.
    counted
        Rounds that were not below quorum.
    base, before
        float32[d]: the newest model and the one before it.
    moments
        The server optimiser's state.
    step
        The last step, int64[d].
    evidence
        What the ledger would hold of each participant that took part, by number.
    voids
        Rounds below quorum in a row.
    """

    base: NDArray[np.float32]
    index: int = 0
    counted: int = 0
    before: NDArray[np.float32] | None = None
    moments: dict[str, IntArray] = field(default_factory=dict)
    step: IntArray | None = None
    evidence: dict[int, Evidence] = field(default_factory=dict)
    voids: int = 0


@dataclass(frozen=True)
class Round:
    """A round that is done.

    Parameters
    ----------
    index
        Its number, from 1.
    verdicts
        By participant number.
    seconds
        How long it took.
    empty
        Whether it was below quorum, and so left the model as it was.
    """

    index: int
    verdicts: dict[int, Verdict]
    seconds: float
    empty: bool = False

    @property
    def accepted(self) -> int:
        """How many updates were accepted."""
        return sum(verdict is Verdict.ACCEPTED for verdict in self.verdicts.values())


class Simulation:
    """The rounds of a task, one after another.

    Parameters
    ----------
    setting
        The experiment.
    backend
        Where participants are trained.
    progress
        Where to go on; the task's start unless given.

    Raises
    ------
    ConfigError
        If the task asks for what only a run with a ledger does so far, or if its selection looks at more than who took
        part in the rounds before.
    """

    def __init__(self, setting: Setting, backend: Backend, progress: Progress | None = None) -> None:
        self.setting, self.spec = setting, setting.spec
        _require_plain(self.spec)
        self.progress = progress or Progress(setting.initial.vector)
        self._backend = backend
        self._select = build(SELECTIONS, self.spec.selection.method, self.spec.selection.params)
        if getattr(self._select, "looks_at", EVERYTHING) - {RECORD}:
            raise ConfigError(
                f"The selection {self.spec.selection.method} looks at reports or devices, which a run without a ledger "
                "does not have.",
                "Choose another selection, or run with a ledger.",
            )

    @property
    def model(self) -> ModelFile:
        """The newest model."""
        initial = self.setting.initial
        return ModelFile(initial.names, initial.shapes, self.progress.base)

    def rounds(self) -> Iterator[Round]:
        """Play the rounds that are left, and yield each when it is done.

        Raises
        ------
        RoundError
            If several rounds in a row have too few updates.
        """
        while self.progress.counted < self.spec.rounds:
            began = time.perf_counter()
            verdicts, empty = self._play(self.progress.index + 1)
            yield Round(self.progress.index, verdicts, time.perf_counter() - began, empty)

    def _play(self, index: int) -> tuple[dict[int, Verdict], bool]:
        now = self.progress
        selected = self._selection(index)
        if len(selected) > MAX_ROWS:
            raise RoundError(
                f"{len(selected)} updates cannot be summed exactly.", f"Select at most {MAX_ROWS} participants a round."
            )
        total = self._sum(index, selected)
        verdicts = {n: total.refused.get(n, Verdict.ACCEPTED) for n in selected}
        empty = len(selected) < self.setting.config.quorum
        now.before = now.base
        if empty:
            now.voids += 1
            if now.voids >= MAX_VOIDS:
                raise RoundError(
                    f"{now.voids} rounds in a row were below the quorum of {self.setting.config.quorum}.",
                    "Lower the quorum, or let the selection ask more participants.",
                )
        else:
            delta = total.sum.mean() if total.sum.weight else np.zeros(len(now.base), np.int64)
            stepped = take_step(self.spec, now.base, delta, now.moments)
            now.base, now.moments, now.step = stepped.model, stepped.moments, stepped.step
            now.counted += 1
            now.voids = 0
        for number, verdict in verdicts.items():
            now.evidence[number] = now.evidence.get(number, Evidence()).after(verdict)
        now.index = index
        return verdicts, empty

    def _selection(self, index: int) -> list[int]:
        """Return the numbers of those whom a round asks, by address."""
        evidence = self.progress.evidence
        candidates = [
            Candidate(owner, evidence.get(self._numbers[owner], _NEWCOMER).reputation) for owner in self._owners
        ]
        chosen = self._select(candidates, index, stream(self.spec.digest, "selection", index))
        return [self._numbers[owner] for owner in chosen]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self.setting.address(number): number for number in range(self.setting.config.participants)}

    @cached_property
    def _owners(self) -> list[str]:
        return sorted(self._numbers, key=str.lower)

    def _sum(self, index: int, selected: list[int]) -> Total:
        """Train those who were selected and sum their updates, by weights as a ledger's aggregator gives them."""
        now = self.progress
        bases = [now.base] if now.before is None else [now.base, now.before]
        reputations = {n: now.evidence.get(n, _NEWCOMER).reputation for n in selected}
        limit = self.spec.limits.max_examples
        refused: dict[int, Done] = {}
        while True:
            left = [n for n in selected if n not in refused]
            examples = [min(self.setting.examples(n), limit) for n in left]
            known = [reputations[n] for n in left]
            weights = weigh(known, examples, list(reputations.values()), self.spec.reputation)
            jobs = [Job(number, weight=weight) for number, weight in zip(left, weights, strict=True)]
            total = self._backend.total(Work(index, bases, jobs))
            bad = {n: done for n, done in total.done.items() if done.refused is not None}
            # Without them, the weights of the others are other ones.
            refused |= bad
            if not bad:
                total.done |= refused
                return total


_NEWCOMER = Evidence()


def _require_plain(spec: TaskSpec) -> None:
    """Raise ConfigError if more than the mean of the updates enters a round: another model would be the result."""
    beyond = {
        "detection": spec.detection,
        "mixing": spec.mixing,
        "normalisation": spec.normalisation,
        "staleness": spec.staleness,
        "a solver that sends further vectors": spec.vectors,
        "stopping": spec.stopping.target_correct or spec.stopping.patience,
        "randomness from a beacon": spec.randomness != "spec",
        f"the rule {spec.aggregation.method}": spec.aggregation.method != "mean@1",
    }
    found = [what for what, asked in beyond.items() if asked]
    if found:
        raise ConfigError(
            f"Without a ledger a round is the mean of its updates; this task asks for {', '.join(found)}.",
            "Leave it out, or run with a ledger.",
        )
