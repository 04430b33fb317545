"""Plans: whom each round of a task asks, and which model each update is relative to.

Without a schedule the spec's selection chooses anew each round, and every update is relative to the round's base.

With one, rounds are those of the task's timetable (:mod:`fedledger.protocol.schedules.timetable`), and a round selects
those whose updates arrive. Each round that stands is the next one of the timetable, be it below quorum or not. One that
was voided is none: the round after it takes its place, so it asks the same participants. All of this follows from the
spec, the device table, the record and, where the schedule asks whom the selection chooses, from what that looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from fedledger.aggregator.mechanisms.tables import NAME
from fedledger.aggregator.mechanisms.trade import Trade, choose, mechanism_of
from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.aggregator.selection.base import SELECTIONS, SelectionContext
from fedledger.aggregator.selection.candidates import Candidates, device_table
from fedledger.aggregator.selection.markets import market_of
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import Applied, TaskHistory
from fedledger.protocol.arithmetic.random_streams import Stream, derive_seed, stream
from fedledger.protocol.errors import ConfigError, ContentUnreadableError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.schedules.events import ServerStep
from fedledger.protocol.schedules.timetable import Timetable, require_schedule
from fedledger.storage.base import ContentStore


class PlannedRound(NamedTuple):
    """What follows of a round from the task's record, besides whom it asks.

    Parameters
    ----------
    due
        Digests of the models that a schedule has updates relative to, by owner; empty without one.
    reputations
        In ppm, by id, by the task's reputation model; None without one.
    trade
        What the task's mechanism chose, and what it knew; None without one, and in bidding rounds.
    """

    due: Mapping[str, bytes] = MappingProxyType({})
    reputations: Mapping[int, int] | None = None
    trade: Trade | None = None


class RoundPlanner:
    """Finds out whom rounds ask, and when.

    They remember what they have read and played, so that one is enough for a task's whole life.

    Parameters
    ----------
    store
        Where reports and the device table are fetched.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store, self._candidates = store, Candidates(store)
        self._played: _Played | None = None
        self._reputations = TaskReputations()

    def selected(self, history: History, task: TaskHistory, spec: TaskSpec, index: int, beacon: bytes) -> list[int]:
        """Return the ids of those whom a round asks, given the task's beacon when it is opened.

        Raises
        ------
        StoreError
            If a report, or the device table, cannot be had.
        ConfigError
            If nobody can be asked, or the task's terms do not suit its methods.
        """
        by_owner = {history.owners[participant]: participant for participant in task.enrolled_at(index)}
        if _asks_for_bids(task, index):
            return list(by_owner.values())
        mechanism = mechanism_of(spec)
        if mechanism is not None and mechanism.chooses:
            trade = self._trade(history, task, spec, _Place(index, beacon))
            # Whom nobody asks on any terms may work all the same, so that the task goes on to its next bidding round.
            owners = [owner for owner in by_owner if owner in trade.terms or not trade.terms]
        elif spec.schedule is None:
            owners = self._choose(history, task, spec, _Place(index, beacon), index)
        else:
            owners = [arrival.address for arrival in self.round(history, task, spec, index, beacon).arrivals]
        # Of those whose updates a schedule expects, some may have left.
        return [by_owner[owner] for owner in owners if owner in by_owner]

    def bases(self, history: History, task: TaskHistory, spec: TaskSpec, current: RoundHistory) -> dict[str, bytes]:
        """Return the digest of the model that each update of a round is relative to by the task's schedule, by owner.

        Nothing without a schedule: an update may then be relative to any model that the ledger takes. Raises as
        :meth:`selected`.
        """
        if spec.schedule is None:
            return {}
        server_step = self.round(history, task, spec, current.index, current.beacon)
        return {
            arrival.address: current.bases[server_step.staleness(arrival)].digest for arrival in server_step.arrivals
        }

    def reputations(
        self, history: History, task: TaskHistory, spec: TaskSpec, current: RoundHistory
    ) -> dict[int, int] | None:
        """Return the reputations that count in a round by the task's reputation model, in ppm by id.

        They are those at the instant when the round was opened. None if the task has no such model.

        Raises
        ------
        ConfigError
            If this release lacks the model, or its parameters are wrong.
        """
        if spec.reputation_model is None:
            return None
        return self._reputations(history, task, spec, current.applied_before, current.selected)

    def trade(self, history: History, task: TaskHistory, spec: TaskSpec, current: RoundHistory) -> Trade | None:
        """Return what the task's mechanism chose in a round, and what it knew; None without one, and in bidding rounds.

        Raises as :meth:`selected`.
        """
        if spec.mechanism is None or current.bidding:
            return None
        return self._trade(history, task, spec, _Place(current.index, current.beacon))

    def _trade(self, history: History, task: TaskHistory, spec: TaskSpec, place: _Place) -> Trade:
        mechanism, index = mechanism_of(spec), place.round
        if mechanism is None:
            raise RoundError("The task has no mechanism.")
        candidates = self._candidates(history, task, spec, index, None)
        if not mechanism.chooses:
            chosen = set(self._choose(history, task, spec, place, index))
            candidates = [each for each in candidates if each.address in chosen]
        purpose = NAME if spec.randomness == "spec" else f"{NAME} {place.beacon.hex()}"
        draws = partial(stream, spec.digest, purpose, index)
        market = market_of(self._store, task, spec, index, candidates, draws)
        try:
            return choose(mechanism, market, len(task.voids_before(index)), task.passed_over(index))
        except ConfigError as error:
            # It is about the tables in the state that somebody has proposed: whoever opens rounds waits for its end.
            raise ContentUnreadableError(error.message, "Challenge the proposal.") from error

    def base_of(self, history: History, task: int, spec: TaskSpec, owner: str) -> Callable[[int], int]:
        """Return what tells a participant how stale its update of a round is; see :meth:`selected` for its errors."""

        def staleness(index: int) -> int:
            known = history.task(task)
            if spec.schedule is None:
                return 0
            server_step = self.round(history, known, spec, index, known.rounds[index].beacon)
            # Whom the aggregator asked against the schedule trains on the newest model.
            return next(
                (server_step.staleness(arrival) for arrival in server_step.arrivals if arrival.address == owner), 0
            )

        return staleness

    def round(self, history: History, task: TaskHistory, spec: TaskSpec, index: int, beacon: bytes) -> ServerStep:
        """Return a round as the timetable of a task with a schedule has it; raises as :meth:`selected`."""
        places = [_Place(r.index, r.beacon, r.proposal.report.digest) for r in _before(task, index) if r.proposal]
        places.append(_Place(index, beacon))
        played = self._played
        key = (task.publisher, task.id, spec.digest)
        if played is None or played.key != key or not played.holds(history, spec, places):
            played = self._played = self._begin(history, task, spec, key)
        played.history, played.task = history, task
        if len(places) > len(played.places):
            played.places = places
        try:
            return played.timetable.round(len(places))
        except Exception:
            # What could not be read now may be readable later; the schedule cannot go on from where it was left.
            self._played = None
            raise

    def _begin(self, history: History, task: TaskHistory, spec: TaskSpec, key: _Key) -> _Played:
        if spec.schedule is None or spec.devices is None:
            raise ConfigError(
                "The task's spec has a schedule and names no devices.",
                "Post a task with devices, or without a schedule.",
            )
        quorum = task.params.quorum
        require_schedule(spec.schedule, quorum, task.max_staleness)
        owners = [history.owners[participant] for participant in task.enrolled_at(1)]
        table = enrolled_table(device_table(self._store, spec.devices), owners)
        return _Played(self, spec, spec.schedule, key, table, quorum)

    def _choose(self, history: History, task: TaskHistory, spec: TaskSpec, place: _Place, step: int) -> list[str]:
        """Return the owners whom the spec's selection chooses in a step, which a round is to be made of."""
        method = build(SELECTIONS, spec.selection.method, spec.selection.params)
        if spec.randomness == "spec":
            draws = stream(spec.digest, "selection", step)
        else:
            draws = Stream(derive_seed(spec.digest, "selection " + place.beacon.hex(), step))
        return method(SelectionContext(self._candidates(history, task, spec, place.round, method), step, draws))


_Key = tuple[str, int, bytes]


class _Place(NamedTuple):
    """A round of the record: its number, the beacon when it was opened, and its report if that is posted."""

    round: int
    beacon: bytes
    report: bytes | None = None


class _Played:
    """A task's timetable with the record that its choices looked at."""

    def __init__(
        self, planner: RoundPlanner, spec: TaskSpec, schedule: Method, key: _Key, table: DeviceTable, quorum: int
    ) -> None:
        self.key = key
        self.history: History | None = None
        self.task: TaskHistory | None = None
        self.places: Sequence[_Place] = ()
        self.applied: Sequence[Applied] = ()
        self._asked: int | None = None
        self._planner, self._spec = planner, spec
        self.timetable = Timetable(table, schedule, spec.digest, self._choose, quorum)

    def holds(self, history: History, spec: TaskSpec, places: Sequence[_Place]) -> bool:
        """Return whether all choices that were made are the same by another record, as far as it goes."""
        if self._asked is None:
            return True
        if spec.reputation_model is not None and self.applied is not history.applied:
            # It was folded again, and what others have settled may have another order.
            return False
        last = min(self._asked, len(places) - 1)
        same = self.places[last][:2] == places[last][:2]
        return same and list(self.places[:last]) == list(places[:last])

    def _choose(self, step: int, addresses: Sequence[str]) -> list[str]:
        self._asked = self.timetable.played
        if self.history is None or self.task is None:
            raise RoundError("A timetable is played for a task's record.")
        self.applied = self.history.applied
        chosen = self._planner._choose(self.history, self.task, self._spec, self.places[self._asked], step)
        known = set(addresses)
        return [owner for owner in chosen if owner in known]


def enrolled_table(table: DeviceTable, owners: Sequence[str]) -> DeviceTable:
    """Return the part of a device table that is of some owners, by their addresses as they are spelt there.

    Raises
    ------
    ConfigError
        If none of them has a device.
    """
    spelt = {address.lower(): device for address, device in table.devices.items()}
    devices = {owner: spelt[owner.lower()] for owner in owners if owner.lower() in spelt}
    if not devices:
        raise ConfigError(
            "The task's device table names no participant.", "Enrol with the accounts that the table is for."
        )
    return table.model_copy(update={"devices": devices})


def _asks_for_bids(task: TaskHistory, index: int) -> bool:
    return task.rounds[index].bidding if index in task.rounds else task.bids_are_due


def _before(task: TaskHistory, index: int) -> list[RoundHistory]:
    return [r for r in task.proposed if r.index < index]
