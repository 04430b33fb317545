"""Federated training without a ledger: the same rounds, and the same final model to the bit, at the speed of training.

A round's model follows from the updates' values, the participants' reputations and the spec. Signatures, content ids,
commitments and payments bind parties that do not trust each other; who plays all parts on one machine can leave them
out, and gets what a run of the same configuration with a ledger would get.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.round.measurement import LiveMeasurer
from fedledger.aggregator.round.pipeline import Entry, RoundContext, evaluate_round, foreseen
from fedledger.aggregator.round.server_step import take_step, weigh
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import validate_vectors
from fedledger.aggregator.selection.base import (
    DEVICES,
    EVERYTHING,
    RECORD,
    REPORTS,
    SELECTIONS,
    Candidate,
    SelectionContext,
    timed,
)
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import Backend, Done, Job, Total, Work
from fedledger.platform.engine.background import Background
from fedledger.platform.engine.participant_states import States
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.exact import MAX_ROWS
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import DELTA, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.base import build_schedule
from fedledger.protocol.schedules.events import ServerStep
from fedledger.protocol.schedules.timetable import Timetable, require_schedule

MAX_VOIDS = 3
"""Rounds below quorum in a row after which a run ends with an error."""


class Standing(NamedTuple):
    """What earlier rounds tell of a participant: the ledger's evidence, and what a selection may look at."""

    evidence: Evidence = Evidence()
    last_round: int = 0
    examples: int = 0
    utility: int = 0


NEWCOMER = Standing()


@dataclass
class Progress:
    """Where a simulation is, and all that its next round follows from, besides the states that participants keep.

    Parameters
    ----------
    base, earlier
        float32[d] each: the newest model, and the bases of the rounds before, the nearest first, as far back as an
        update may be stale or a participant looks.
    state
        What the aggregator carries.
    index
        Last round that is done; 0 before the first.
    counted
        Rounds that were not below quorum.
    voids
        Rounds below quorum in a row.
    stopped
        Whether the task's stopping rule ended it.
    standings
        Of each participant that was selected, by number.
    asked
        The numbers of those whom a schedule asked each time; a resumed run plays its timetable again.
    """

    base: NDArray[np.float32]
    state: State
    earlier: list[NDArray[np.float32]] = field(default_factory=list)
    index: int = 0
    counted: int = 0
    voids: int = 0
    stopped: bool = False
    standings: dict[int, Standing] = field(default_factory=dict)
    asked: list[list[int]] = field(default_factory=list)


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
    flush
        What the task's schedule says of it, if there is one.
    """

    index: int
    verdicts: dict[int, Verdict]
    seconds: float
    empty: bool = False
    flush: ServerStep | None = None

    @property
    def accepted(self) -> int:
        """How many updates were accepted."""
        return sum(verdict is Verdict.ACCEPTED for verdict in self.verdicts.values())


class Simulation:
    """The rounds of a task, one after another.

    Where a round is the mean of its updates, these are summed as they come, and nobody holds them.

    Parameters
    ----------
    setting
        The experiment.
    backend
        Where participants are trained.
    progress
        Where to go on; the task's start unless given.
    states
        What participants keep between rounds; in a temporary folder unless given.

    Attributes
    ----------
    timetable
        The task's rounds as its schedule has them; None without one.

    Raises
    ------
    ConfigError
        If the task asks for what only a ledger gives.
    """

    def __init__(
        self, setting: Experiment, backend: Backend, progress: Progress | None = None, states: States | None = None
    ) -> None:
        self.setting, self.spec = setting, setting.spec
        self._select = build(SELECTIONS, self.spec.selection.method, self.spec.selection.params)
        self._looks_at = getattr(self._select, "looks_at", EVERYTHING)
        _require_no_ledger(setting)
        initial = setting.initial.vector
        self.progress = progress or Progress(initial, State(np.zeros(len(initial), np.int64)))
        self.states = states or States()
        self._backend = backend
        self._fixed = self.spec.fixed
        self._is_plain = _is_plain_mean(self.spec) and REPORTS not in self._looks_at
        self.timetable, self._reach = self._scheduled()

    @property
    def model(self) -> ModelFile:
        """The newest model."""
        initial = self.setting.initial
        return ModelFile(initial.names, initial.shapes, self.progress.base)

    @property
    def flushes(self) -> list[ServerStep]:
        """All rounds so far as the task's schedule has them; none without one."""
        if self.timetable is None:
            return []
        return [self.timetable.round(index) for index in range(1, self.progress.index + 1)]

    @property
    def is_done(self) -> bool:
        """Whether no round is left."""
        return self.progress.stopped or self.progress.counted >= self.spec.rounds

    def rounds(self) -> Iterator[Round]:
        """Play the rounds that are left, and yield each when it is done.

        Raises
        ------
        RoundError
            If several rounds in a row have too few updates.
        """
        while not self.is_done:
            began = time.perf_counter()
            index = self.progress.index + 1
            flush = None if self.timetable is None else self.timetable.round(index)
            verdicts, empty = self._play(index, self._jobs(index, flush))
            yield Round(index, verdicts, time.perf_counter() - began, empty, flush)

    def _play(self, index: int, selected: dict[int, int]) -> tuple[dict[int, Verdict], bool]:
        now = self.progress
        if len(selected) > MAX_ROWS:
            raise RoundError(
                f"{len(selected)} updates cannot be summed exactly.", f"Select at most {MAX_ROWS} participants a round."
            )
        enough = len(selected) >= self.setting.config.quorum
        now.voids = 0 if enough else now.voids + 1
        if now.voids >= MAX_VOIDS:
            raise RoundError(
                f"{now.voids} rounds in a row were below the quorum of {self.setting.config.quorum}.",
                "Lower the quorum, or let the selection ask more participants.",
            )
        play = self._sum if self._is_plain else self._appraise
        verdicts, model = play(index, selected, enough)
        now.earlier = [now.base, *now.earlier][: max(1, self._reach)]
        now.base = model
        for number, verdict in verdicts.items():
            evidence, _, examples, utility = self._standing(number)
            now.standings[number] = Standing(evidence.after(verdict), index, examples, utility)
        now.counted += enough
        now.index = index
        return verdicts, not enough

    def _sum(
        self, index: int, selected: dict[int, int], enough: bool
    ) -> tuple[dict[int, Verdict], NDArray[np.float32]]:
        """Play a round that is the mean of its updates; return verdicts and model."""
        now = self.progress
        total = self._total(index, selected)
        for number, done in total.done.items():
            if done.state:
                self.states.put(number, index, done.state)
        verdicts = dict.fromkeys(selected, Verdict.ACCEPTED) | total.refused
        if not enough:
            return verdicts, now.base
        delta = total.sum.mean() if total.sum.weight else np.zeros(len(now.base), np.int64)
        stepped = take_step(self.spec, now.base, delta, now.state.moments)
        now.state = State(stepped.step, stepped.moments)
        return verdicts, stepped.model

    def _total(self, index: int, selected: dict[int, int]) -> Total:
        """Train those who were selected and sum their updates, by weights as a ledger's aggregator gives them."""
        reputations = {n: self._standing(n).evidence.reputation for n in selected}
        limit = self.spec.limits.max_examples
        refused: dict[int, Done] = {}
        while True:
            left = {n: staleness for n, staleness in selected.items() if n not in refused}
            examples = [min(self.setting.examples(n), limit) for n in left]
            known = [reputations[n] for n in left]
            weights = weigh(known, examples, list(reputations.values()), self.spec.reputation)
            total = self._backend.total(self._work(index, left, weights))
            bad = {n: done for n, done in total.done.items() if done.refused is not None}
            # Without them, the weights of the others are other ones.
            refused |= bad
            if not bad:
                total.done |= refused
                return total

    def _appraise(
        self, index: int, selected: dict[int, int], enough: bool
    ) -> tuple[dict[int, Verdict], NDArray[np.float32]]:
        """Play a round as an aggregator judges one; return verdicts and model."""
        now, dimension = self.progress, len(self.progress.base)
        verdicts, entries = dict.fromkeys(selected, Verdict.NONE), dict[int, Entry]()

        def keep(job: Job, trained: LocalUpdate) -> None:
            if trained.state:
                self.states.put(job.number, index, trained.state)
            try:
                vectors = {**trained.vectors, DELTA: trained.delta}
                update = validate_vectors(vectors, self.spec, dimension, trained.examples, trained.steps)
            except UpdateRefusedError as error:
                verdicts[job.number] = error.verdict
                return
            reputation = self._standing(job.number).evidence.reputation
            entries[job.number] = Entry(self.setting.address(job.number), reputation, update, job.staleness)

        def look(job: Job) -> None:
            entry = entries.get(job.number)
            if entry is not None:
                vector = foreseen(self.spec, now.base, entry.update.delta, job.staleness)
                self._measure.ahead(entry.owner, vector)

        with Background() as meanwhile:
            for job, trained in self._backend.train(self._work(index, selected)):
                meanwhile(partial(keep, job, trained), partial(look, job))
        numbers = sorted(entries, key=lambda number: entries[number].owner.lower())
        given = RoundContext(
            spec=self.spec,
            base=now.base,
            state=now.state,
            reputations=[self._standing(number).evidence.reputation for number in selected],
            everybody=self.setting.config.participants,
            enough=enough,
            earlier=dict(enumerate(now.earlier, start=1)),
        )
        appraisal = evaluate_round(given, [entries[number] for number in numbers], self._measure)
        for number, verdict, measured in zip(numbers, appraisal.verdicts, appraisal.measurements, strict=True):
            verdicts[number] = verdict
            examples = entries[number].update.examples
            gain = max(0, appraisal.base_measurement.loss - measured.loss)
            utility = examples * gain if verdict is Verdict.ACCEPTED else 0
            now.standings[number] = self._standing(number)._replace(examples=examples, utility=utility)
        now.state, now.stopped = appraisal.state, appraisal.stop
        return verdicts, appraisal.model

    def _work(self, index: int, selected: dict[int, int], weights: list[int] | None = None) -> Work:
        now = self.progress
        jobs = [
            Job(number, staleness, weight, self.states.get(number))
            for (number, staleness), weight in zip(selected.items(), weights or [0] * len(selected), strict=True)
        ]
        bases = [now.base, *now.earlier[: max(1, *selected.values())]]
        return Work(index, bases, jobs, 1 if now.earlier else None, self._published())

    def _published(self) -> Mapping[str, NDArray[np.float32]]:
        if not self.spec.vectors:
            return {}
        zeros, published = np.zeros(len(self.progress.base), np.int64), self.progress.state.published
        return {name: self._fixed.to_float32(published.get(name, zeros)) for name in self.spec.vectors}

    def _standing(self, number: int) -> Standing:
        return self.progress.standings.get(number, NEWCOMER)

    def _scheduled(self) -> tuple[Timetable | None, int]:
        """Return the task's timetable, if it has one, and the largest staleness of an update."""
        schedule, table = self.spec.schedule, self.setting.device_table
        if schedule is None or table is None:
            return None, 0
        config = self.setting.config
        require_schedule(schedule, config.quorum, config.ledger.max_staleness)
        timetable = Timetable(table, schedule, self.spec.digest, self._asked, config.quorum)
        return timetable, build_schedule(schedule).most_stale or 0

    def _asked(self, time: int, addresses: Sequence[str]) -> list[str]:
        """Return whom a schedule asks, as it did before if it is played again."""
        asked = self.progress.asked
        if time > len(asked):
            asked.append([self._numbers[owner] for owner in self._selection(time)])
        return [self.setting.address(number) for number in asked[time - 1]]

    def _jobs(self, index: int, flush: ServerStep | None) -> dict[int, int]:
        """Return the numbers of those whose updates a round is made of, by address, and how stale these are."""
        if flush is None:
            return {self._numbers[owner]: 0 for owner in self._selection(index)}
        arrivals = sorted(flush.arrivals, key=lambda arrival: arrival.address.lower())
        return {self._numbers[arrival.address]: flush.staleness(arrival) for arrival in arrivals}

    def _selection(self, index: int) -> list[str]:
        """Return whom the task's selection chooses."""
        candidates = self._candidates
        if self._looks_at & {RECORD, REPORTS}:
            for number, known in self.progress.standings.items():
                told = (known.examples, known.utility) if REPORTS in self._looks_at else (0, 0)
                place = self._places[number]
                candidates[place] = replace(
                    candidates[place],
                    reputation=known.evidence.reputation,
                    examples=told[0],
                    utility=told[1],
                    last_round=known.last_round,
                )
        return self._select(SelectionContext(candidates, index, stream(self.spec.digest, "selection", index)))

    @cached_property
    def _measure(self) -> LiveMeasurer:
        return self.setting.measurer()

    @cached_property
    def _candidates(self) -> list[Candidate]:
        """All participants by address, as they are before the first round."""
        reputation = NEWCOMER.evidence.reputation if self._looks_at & {RECORD, REPORTS} else 0
        candidates = [Candidate(owner, reputation) for owner in sorted(self._numbers, key=str.lower)]
        return timed(candidates, self.setting.device_table) if DEVICES in self._looks_at else candidates

    @cached_property
    def _places(self) -> dict[int, int]:
        return {self._numbers[candidate.address]: place for place, candidate in enumerate(self._candidates)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self.setting.address(number): number for number in range(self.setting.config.participants)}


def _is_plain_mean(spec: TaskSpec) -> bool:
    """Return whether nothing but the mean of the updates enters a round's model."""
    beyond = spec.detection, spec.mixing, spec.normalisation, spec.staleness, spec.vectors
    stops = spec.stopping.target_correct is not None or spec.stopping.patience is not None
    return spec.aggregation.method == "mean@1" and not any(beyond) and not stops


def _require_no_ledger(setting: Experiment) -> None:
    """Raise ConfigError if a task asks for what only a ledger gives."""
    if setting.spec.randomness != "spec":
        raise ConfigError(
            "The task draws its randomness from a beacon, which is the ledger's.",
            'Give randomness = "spec", or run with a ledger.',
        )
    if setting.config.ledger.max_unfinal > 1:
        raise ConfigError(
            "Several rounds may wait for their finality, and what they tell of participants counts once they are "
            "settled: when, is the ledger's.",
            "Give max_unfinal = 1, or run with a ledger.",
        )
