"""Whose updates make a round of a run without a ledger: the task's selection, or its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial

from fedledger.aggregator.mechanisms.base import Market
from fedledger.aggregator.mechanisms.tables import NAME, tables_of
from fedledger.aggregator.mechanisms.trade import Trade, choose, mechanism_of
from fedledger.aggregator.round.state import State
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
from fedledger.aggregator.selection.markets import offers_of
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.engine.progress import NEWCOMER, Progress
from fedledger.platform.engine.reputations import Reputations
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.schedules.base import build_schedule
from fedledger.protocol.schedules.events import ServerStep
from fedledger.protocol.schedules.timetable import Timetable, require_schedule


class RoundPlan:
    """Tells whose updates make a round.

    Parameters
    ----------
    experiment
        The experiment.
    progress
        How far the run has come; whom a schedule asks is noted in it.
    reputations
        Tells the participants' reputations.
    attendance
        Tells who has left for another task, and is not asked; nobody unless given.

    Attributes
    ----------
    timetable
        The task's rounds by its schedule; None without one.
    most_stale
        The largest staleness of an update.
    """

    def __init__(
        self,
        experiment: Experiment,
        progress: Progress,
        reputations: Reputations,
        attendance: Attendance | None = None,
    ) -> None:
        self._attendance = attendance or Attendance(experiment.agents)
        self._experiment, self._spec, self._progress = experiment, experiment.spec, progress
        self._reputations = reputations
        self._select = build(SELECTIONS, self._spec.selection.method, self._spec.selection.params)
        self._mechanism = mechanism_of(self._spec)
        self._looks_at = EVERYTHING if self._mechanism else getattr(self._select, "looks_at", EVERYTHING)
        self.timetable, self.most_stale = self._scheduled()

    @property
    def looks_at_reports(self) -> bool:
        """Whether the selection depends on how each update was measured."""
        return REPORTS in self._looks_at

    @property
    def server_steps(self) -> list[ServerStep]:
        """The server steps of all closed rounds; none without a schedule."""
        return [self.timetable.round(index) for index in range(1, self._progress.index + 1)] if self.timetable else []

    def trade(self, index: int, state: State, units: int) -> Trade | None:
        """Return what the task's mechanism chooses in a round that may pay so many units; None without one."""
        mechanism, spec = self._mechanism, self._spec
        if mechanism is None:
            return None
        candidates, progress = self._known(), self._progress
        if not mechanism.chooses:
            chosen = set(self.select(index))
            candidates = [each for each in candidates if each.address in chosen]
        reports = {self._experiment.address(number): report for number, report in progress.reports.items()}
        market = Market(
            offers=offers_of(candidates, reports if spec.report else None),
            budget=units,
            least=self._experiment.config.quorum,
            round=index,
            draws=partial(stream, spec.digest, NAME, index),
            tables=tables_of(state.memories),
        )
        passed_over = {self._experiment.address(number) for number in (*progress.in_vain, *progress.absent)}
        return choose(mechanism, market, progress.voids, passed_over)

    def round(self, index: int, trade: Trade | None = None) -> tuple[dict[int, int], ServerStep | None]:
        """Return how stale the update of each participant of a round is, by number and in the order of addresses.

        With it comes the round's server step, if the task has a schedule.
        """
        if trade is not None and self._mechanism is not None and self._mechanism.chooses:
            here = self._here(self._candidates)
            owners = [each.address for each in here if each.address in trade.terms or not trade.terms]
            return {self._numbers[owner]: 0 for owner in owners}, None
        if self.timetable is None:
            return dict.fromkeys([self._numbers[owner] for owner in self.select(index)], 0), None
        step = self.timetable.round(index)
        arrivals = sorted(step.arrivals, key=lambda arrival: arrival.address.lower())
        return {self._numbers[arrival.address]: step.staleness(arrival) for arrival in arrivals}, step

    def select(self, index: int) -> list[str]:
        """Return the addresses that the task's selection chooses."""
        candidates = self._known()
        return self._select(SelectionContext(candidates, index, stream(self._spec.digest, "selection", index)))

    def _known(self) -> list[Candidate]:
        """Return all participants that are here by address, with what is looked at."""
        candidates = self._candidates
        if self._looks_at & {RECORD, REPORTS}:
            if self._reputations.modelled:
                known = self._reputations.for_selection(self._places)
                candidates = [replace(each, reputation=known[self._numbers[each.address]]) for each in candidates]
            for number, history in self._progress.histories.items():
                examples, utility = (history.examples, history.utility) if self.looks_at_reports else (0, 0)
                place = self._places[number]
                candidates[place] = replace(
                    candidates[place],
                    reputation=candidates[place].reputation
                    if self._reputations.modelled
                    else history.evidence.reputation,
                    examples=examples,
                    utility=utility,
                    last_round=history.last_round,
                )
        return self._here(candidates)

    def _here(self, candidates: list[Candidate]) -> list[Candidate]:
        return [each for each in candidates if not self._attendance.is_elsewhere(self._numbers[each.address])]

    def _scheduled(self) -> tuple[Timetable | None, int]:
        schedule, table = self._spec.schedule, self._experiment.device_table
        if schedule is None or table is None:
            return None, 0
        config = self._experiment.config
        require_schedule(schedule, config.quorum, config.ledger.max_staleness)
        timetable = Timetable(table, schedule, self._spec.digest, self._asked, config.quorum)
        return timetable, build_schedule(schedule).most_stale or 0

    def _asked(self, time: int, addresses: Sequence[str]) -> list[str]:
        """Return whom a schedule asks, as it did before if it is played again."""
        asked = self._progress.asked
        if time > len(asked):
            asked.append([self._numbers[owner] for owner in self.select(time)])
        return [self._experiment.address(number) for number in asked[time - 1]]

    @cached_property
    def _candidates(self) -> list[Candidate]:
        """All participants by address, as they are before the first round."""
        reputation = NEWCOMER.evidence.reputation if self._looks_at & {RECORD, REPORTS} else 0
        candidates = [Candidate(owner, reputation) for owner in sorted(self._numbers, key=str.lower)]
        return timed(candidates, self._experiment.device_table) if DEVICES in self._looks_at else candidates

    @cached_property
    def _places(self) -> dict[int, int]:
        return {self._numbers[candidate.address]: place for place, candidate in enumerate(self._candidates)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self._experiment.address(number): number for number in range(self._experiment.config.participants)}
