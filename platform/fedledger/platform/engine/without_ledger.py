"""Federated training without a ledger: the same rounds, and the same final model to the bit, at the speed of training.

A round's model follows from the updates' values, the participants' reputations and the spec. Signatures, content ids,
commitments and payments bind parties that do not trust each other; whoever plays all parts on one machine can leave
them out, and gets what a run of the same configuration with a ledger would get.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.mechanisms.trade import Trade
from fedledger.aggregator.round.measurement import LiveMeasurer
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round, foreseen
from fedledger.aggregator.round.server_step import take_step, weigh
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import require_committed, validate_vectors
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.engine.backends.base import Job, Total, Work
from fedledger.platform.engine.federation import Record, Round, require_quorum
from fedledger.platform.engine.participant_states import ParticipantStates, Vectors
from fedledger.platform.engine.progress import ParticipantHistory, Progress
from fedledger.platform.engine.reputations import Reputations
from fedledger.platform.engine.round_plan import RoundPlan
from fedledger.platform.engine.update_limit import UpdateLimit
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.exact import MAX_ROWS, IntArray
from fedledger.protocol.codecs.payload import published_lengths
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.records.bids import bids_are_due
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.trusted_update import read_trusted
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.events import ServerStep


@dataclass
class _OpenRound:
    """A round that is trained for.

    Parameters
    ----------
    index, step
        Its number, and the server step of the task's schedule.
    selected
        How stale each participant's update is, by number.
    enough
        Whether it has a quorum.
    began
        When, by the performance counter.
    reputations
        Of those whom it asks, by number, in ppm.
    verdicts
        Of the updates so far; NONE where none was refused.
    details
        What is said of refused updates.
    entries
        Valid updates, by participant number.
    states
        What participants keep if their updates count, by number.
    shares, weights
        What was earned, and what updates weighed, by participant number.
    total
        Their sum, once none of them has to be left out.
    bidding, trade
        Whether it asks for bids, and what the task's mechanism chose, if it has one.
    away
        Which agents stay away.
    """

    index: int
    step: ServerStep | None
    selected: Mapping[int, int]
    enough: bool
    began: float
    reputations: Mapping[int, int]
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    details: dict[int, str] = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)
    states: dict[int, Vectors] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)
    total: Total | None = None
    bidding: bool = False
    trade: Trade | None = None
    away: frozenset[int] = frozenset()

    @property
    def voided(self) -> bool:
        """Whether too few come, as a ledger voids a round to which too few commit."""
        return bool(self.away) and not self.enough


class MemoryRecord(Record[Round]):
    """The rounds of a task, kept in memory alone.

    Where a round is the mean of its updates, these are summed as they come, and nobody holds them.

    Parameters
    ----------
    experiment
        The experiment.
    progress
        Where to go on; the task's start unless given.
    participant_states
        What participants keep between rounds; in a temporary folder unless given.
    judged
        Whether each round is judged and paid, even if its model is the mean of all updates.

    Raises
    ------
    ConfigError
        If the task asks for what only a ledger gives.
    """

    def __init__(
        self,
        experiment: Experiment,
        progress: Progress | None = None,
        participant_states: ParticipantStates | None = None,
        judged: bool = False,
    ) -> None:
        _require_no_ledger(experiment)
        self.experiment, self.spec = experiment, experiment.spec
        initial = experiment.initial
        self.progress = progress or Progress(initial.vector, State(np.zeros(initial.dimension, np.int64)))
        self.participant_states = participant_states or ParticipantStates()
        self.reputations = Reputations(experiment, self.progress)
        self._looks_back = experiment.looks_back
        self._limit = UpdateLimit(self.spec, initial.dimension)
        self.attendance = Attendance(experiment.agents, self.progress.experiences)
        self.plan = RoundPlan(experiment, self.progress, self.reputations, self.attendance)
        mean = _is_plain_mean(self.spec) and not self.plan.looks_at_reports
        self.sums = mean and not judged and not experiment.agents
        # Before anybody trains: to make a model draws from the generators that dropout draws from.
        self._measurer = None if self.sums else experiment.measurer()
        self.is_done = self._is_done()
        self._open: _OpenRound | None = None

    @property
    def model(self) -> ModelFile:
        """The newest model."""
        return self.experiment.initial.moved(self.progress.base)

    def ask(self) -> Work | None:
        """Return the training of the next round; once more, with other weights, if an update has to be left out."""
        current = self._open = self._open or self._opened()
        if current.bidding or current.voided:
            return None
        if not self.sums:
            coming = {number: stale for number, stale in current.selected.items() if number not in current.away}
            return self._work(current.index, coming, [0] * len(coming))
        reputations = current.reputations
        left = {n: stale for n, stale in current.selected.items() if n not in current.verdicts}
        limit = self.spec.limits.max_examples
        examples = [min(self.experiment.examples(number), limit) for number in left]
        # As a ledger's aggregator weighs them.
        known = [reputations[number] for number in left]
        weights = weigh(known, examples, list(reputations.values()), self.spec.reputation)
        return self._work(current.index, left, weights)

    def add(self, total: Total) -> None:
        """Take the sum, unless an update has to be left out: without it, the weights of the others are other ones."""
        current = self._current
        current.states = {number: done.state for number, done in total.done.items()}
        refused = total.refused.items()
        found = {number: UpdateRefusedError(fault, _detail(fault, self.spec)) for number, fault in refused}
        if self._limit.binds:
            found |= self._oversized(total)
        self._refuse(found)
        current.total = None if found else total

    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Take one update; one that is not valid has its verdict."""
        current, number = self._current, job.number
        current.states[number] = trained.state
        try:
            dimension, owner = self.experiment.initial.dimension, self._name(number)
            self._limit.require(current.index, owner, trained.examples, trained.steps, trained.sent)
            if self.spec.committed_data is not None:
                require_committed(trained.examples, self.experiment.examples(number))
            update = validate_vectors(trained.sent, self.spec, dimension, trained.examples, trained.steps)
        except UpdateRefusedError as error:
            self._refuse({number: error})
            return
        current.entries[number] = Entry(owner, current.reputations[number], update, job.staleness)

    def look(self, job: Job) -> None:
        """Measure an update ahead."""
        entry = self._current.entries.get(job.number)
        if entry is not None:
            vector = foreseen(self.spec, self.progress.base, entry.update, job.staleness)
            self._measure.at(self._current.index).ahead(entry.owner, vector)

    def close(self) -> Iterator[Round]:
        """Yield the round, unless it is asked for once more."""
        current, now = self._current, self.progress
        if current.bidding or current.voided:
            yield self._heard(current) if current.bidding else self._voided(current)
            return
        if self.sums and current.total is None:
            return
        verdicts, model = self._step(current) if self.sums else self._evaluate(current)
        for number, state in current.states.items():
            if state and current.enough and verdicts[number] is Verdict.ACCEPTED:
                self.participant_states.put(number, current.index, state)
        now.earlier = [now.base, *now.earlier][: max(self._looks_back, self.plan.most_stale)]
        now.base = model
        for number, verdict in verdicts.items():
            evidence, _, examples, utility = now.history(number)
            now.histories[number] = ParticipantHistory(evidence.after(verdict), current.index, examples, utility)
        now.note_absent(verdicts)
        self.reputations.judged(verdicts)
        for number, reputation in self.reputations.of(verdicts).items():
            if self.experiment.leaves(number, reputation):
                now.leave_name(number)
        self.attendance.learn(current.index, current.selected, current.away, current.shares)
        now.counted += current.enough
        if current.enough:
            now.unspent += self.experiment.config.ledger.units_per_round - sum(current.shares.values())
        now.index = current.index
        self._open, self.is_done = None, self._is_done()
        seconds = time.perf_counter() - current.began
        yield Round(
            index=current.index,
            model=self.model,
            verdicts=verdicts,
            seconds=seconds,
            empty=not current.enough,
            step=current.step,
            details=current.details,
            shares=current.shares,
            weights=current.weights,
        )

    def _heard(self, current: _OpenRound) -> Round:
        """Hear the bids of a round, and close it."""
        now, base = self.progress, self.progress.base
        bids = {number: self.experiment.report(number, current.index) for number in current.selected}
        verdicts = {number: Verdict.MISSED if bid is None else Verdict.HEARD for number, bid in bids.items()}
        empty = now.hear(current.index, bids, self.experiment.config.quorum)
        now.earlier = [base, *now.earlier][: max(self._looks_back, self.plan.most_stale)]
        # With fewer bids than the quorum the ledger voids the round, and nobody has missed it.
        for number, verdict in () if empty else verdicts.items():
            known = now.history(number)
            now.histories[number] = known._replace(evidence=known.evidence.after(verdict))
        self.reputations.judged({} if empty else verdicts)
        self._open = None
        seconds = time.perf_counter() - current.began
        return Round(current.index, self.model, verdicts, seconds, empty=empty, bidding=True)

    def _voided(self, current: _OpenRound) -> Round:
        """Close a round to which too few come: it leaves no trace but that it was."""
        now, base = self.progress, self.progress.base
        now.index, now.earlier = current.index, [base, *now.earlier][: max(self._looks_back, self.plan.most_stale)]
        self.attendance.learn(current.index, current.selected, current.away, None)
        now.in_vain |= set(current.selected)
        self._open = None
        return Round(current.index, self.model, {}, time.perf_counter() - current.began, empty=True)

    @property
    def _current(self) -> _OpenRound:
        assert self._open is not None, "a round is asked for first"
        return self._open

    def _name(self, number: int) -> str:
        """Return the address under which a participant takes part now."""
        return self.experiment.later_address(number, self.progress.names_left.get(number, 0))

    def _refuse(self, found: Mapping[int, UpdateRefusedError]) -> None:
        for number, error in found.items():
            self._current.verdicts[number], self._current.details[number] = error.verdict, error.detail

    def _oversized(self, total: Total) -> dict[int, UpdateRefusedError]:
        found = {}
        for number, done in total.done.items():
            try:
                self._limit.require(self._current.index, self._name(number), done.examples, done.steps)
            except UpdateRefusedError as error:
                found[number] = error
        return found

    def _is_done(self) -> bool:
        return self.progress.stopped or self.progress.counted >= self.spec.rounds

    def _opened(self) -> _OpenRound:
        began, now, quorum = time.perf_counter(), self.progress, self.experiment.config.quorum
        index = now.index + 1
        if bids_are_due(self.spec.bidding or 0, index, now.last_bidding, bool(now.reports)):
            require_quorum(now.voids, quorum, "Lower the quorum, or have more participants report.")
            self.reputations.opened()
            everybody = dict.fromkeys(self.attendance.enrolled(self.experiment.config.participants), 0)
            return _OpenRound(index, None, everybody, True, began, {}, bidding=True)
        trade = self.plan.trade(index, now.state, self._units)
        selected, step = self.plan.round(index, trade)
        if len(selected) > MAX_ROWS:
            raise RoundError(
                f"{len(selected)} updates cannot be summed exactly.", f"Select at most {MAX_ROWS} participants a round."
            )
        terms = {} if trade is None else trade.terms
        prices = {n: terms[owner].price for n in selected if (owner := self.experiment.address(n)) in terms}
        away = self.attendance.staying_away(index, selected, prices)
        enough = len(selected) - len(away) >= quorum
        now.voids = 0 if enough else now.voids + 1
        require_quorum(now.voids, quorum, "Lower the quorum, or let the selection ask more participants.")
        self.reputations.opened()
        known = self.reputations.of(selected)
        verdicts = dict.fromkeys(away, Verdict.MISSED)
        return _OpenRound(index, step, selected, enough, began, known, verdicts, trade=trade, away=away)

    def evaluated(self, given: RoundContext, entries: Sequence[Entry]) -> RoundResult:
        """Evaluate a round's updates, which are in the order of their owners' addresses."""
        return evaluate_round(given, entries, self._measure.at(given.index))

    def _step(self, current: _OpenRound) -> tuple[dict[int, Verdict], NDArray[np.float32]]:
        """Return the verdicts of a round that is the mean of its updates, and its model."""
        now, total = self.progress, current.total
        verdicts = dict.fromkeys(current.selected, Verdict.ACCEPTED) | current.verdicts
        if total is None or not current.enough:
            return verdicts, now.base
        delta = total.sum.mean() if total.sum.weight else np.zeros(self.experiment.initial.dimension, np.int64)
        stepped = take_step(self.spec, now.base, delta, now.state.moments)
        now.state = State(stepped.step, stepped.moments)
        return verdicts, stepped.model

    def _evaluate(self, current: _OpenRound) -> tuple[dict[int, Verdict], NDArray[np.float32]]:
        """Return the verdicts of a round as an aggregator evaluates one, and its model."""
        now, entries = self.progress, current.entries
        verdicts = dict.fromkeys(current.selected, Verdict.NONE) | current.verdicts
        numbers = sorted(entries, key=lambda number: entries[number].owner.lower())
        given = RoundContext(
            spec=self.spec,
            base=now.base,
            state=now.state,
            reputations=[current.reputations[number] for number in current.selected],
            everybody=self.experiment.config.participants,
            index=current.index,
            enough=current.enough,
            units=self._units,
            trade=current.trade,
            earlier=dict(enumerate(now.earlier, start=1)),
            trusted=self._trusted(current.index),
        )
        result = self.evaluated(given, [entries[number] for number in numbers])
        seen = zip(numbers, result.verdicts, result.examples, result.measurements, strict=True)
        for number, verdict, examples, measured in seen:
            verdicts[number] = verdict
            gain = max(0, result.base_measurement.loss - measured.loss)
            utility = examples * gain if verdict is Verdict.ACCEPTED else 0
            now.histories[number] = now.history(number)._replace(examples=examples, utility=utility)
        why = zip(numbers, result.findings, strict=True)
        current.details |= {number: str(finding.told) for number, finding in why if finding is not None}
        # In a round that does not count nobody has a weight or a share.
        current.shares = dict(zip(numbers, result.shares, strict=False))
        current.weights = dict(zip(numbers, result.weights, strict=False))
        now.state, now.stopped = result.state, result.stop
        return verdicts, result.model

    @property
    def _units(self) -> int:
        """Units that the next round may pay."""
        ledger = self.experiment.config.ledger
        return ledger.units_per_round + (self.progress.unspent if ledger.pools_pay else 0)

    def _trusted(self, index: int) -> IntArray | None:
        """Return the update that the aggregator trusts, if the task's rule asks for one."""
        if not RoundMethods.of(self.spec).rule.method.needs_trusted:
            return None
        base = replace(self.experiment.initial, vector=self.progress.base)
        return read_trusted(self.experiment.trusted_update(index, base), self.spec, base.dimension)

    def _work(self, index: int, selected: Mapping[int, int], weights: list[int]) -> Work:
        now = self.progress
        jobs = [
            Job(number, staleness, weight, self.participant_states.get(number))
            for (number, staleness), weight in zip(selected.items(), weights, strict=True)
        ]
        bases = [now.base, *now.earlier[: max([self._looks_back, *selected.values()])]]
        return Work(
            index,
            bases,
            jobs,
            1 if now.earlier else None,
            _published(self.experiment, now.state),
        )

    @property
    def _measure(self) -> LiveMeasurer:
        assert self._measurer is not None, "a sum is not measured"
        return self._measurer


def _detail(verdict: Verdict, spec: TaskSpec) -> str:
    """Say what is wrong with a coordinate of an update that was to be summed, as its codec does."""
    finite = verdict is not Verdict.NOT_FINITE
    return f"a coordinate is beyond ±{spec.fixed.bound}" if finite else "a coordinate is not a finite number"


def _published(experiment: Experiment, state: State) -> Mapping[str, NDArray[np.float32]]:
    """Return the vectors that the aggregator publishes, by name; zeros before the first round."""
    spec = experiment.spec
    if not spec.vectors:
        return {}
    lengths = published_lengths(spec, experiment.initial.dimension)
    vectors = {name: state.published.get(name, np.zeros(length, np.int64)) for name, length in lengths.items()}
    return {name: spec.fixed.to_float32(vector) for name, vector in vectors.items()}


def _is_plain_mean(spec: TaskSpec) -> bool:
    """Return whether nothing but the mean of the updates enters a round's model."""
    beyond = (
        spec.judgement,
        spec.detection,
        spec.mixing,
        spec.normalisation,
        spec.staleness,
        spec.vectors,
        spec.payload,
        spec.statistics,
        spec.mechanism,
    )
    stops = spec.stopping.target is not None or spec.stopping.patience is not None
    return spec.aggregation.method == "mean@1" and not any(beyond) and not stops


def _require_no_ledger(experiment: Experiment) -> None:
    """Raise ConfigError if a task asks for what only a ledger gives."""
    if experiment.spec.randomness != "spec":
        raise ConfigError(
            "The task draws its randomness from a beacon, which only a ledger has.",
            'Give randomness = "spec", or run with a ledger.',
        )
    if experiment.config.ledger.scorers:
        raise ConfigError(
            "Whose updates do not count is decided by scorers, whom only a ledger draws.",
            "Leave scorers out, or run with a ledger.",
        )
    if experiment.config.ledger.max_unfinal > 1:
        raise ConfigError(
            "Several rounds may wait to be final; when each of them counts towards reputations, only a ledger tells.",
            "Give max_unfinal = 1, or run with a ledger.",
        )
