"""How an aggregator opens rounds for those whom the task's selection chooses, and ends the task after the last one."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.records import Phase, TaskRecord
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.errors import RoundError


class Opening:
    """Opens rounds, and ends the task; ``planner`` says which participants a round asks."""

    def __init__(self, access: TaskAccess) -> None:
        self.access = access
        self.planner = RoundPlanner(access.store)

    def selection(self, task: TaskHistory, index: int) -> list[int] | None:
        """Return the ids that a round is for, or None for everybody who is enrolled: the ledger need not write them."""
        beacon = task.beacons[max(task.beacons)] if task.beacons else bytes(32)
        chosen = self.planner.selected(self.access.history, task, self.access.spec, index, beacon)
        return None if set(chosen) == set(task.enrolled) and not task.params.open_enrolment else chosen

    def may_join(self, task: TaskHistory, settled: Sequence[RoundHistory], pending: Sequence[RoundHistory]) -> bool:
        """Return whether the next round may be opened in the transaction that settles or proposes others.

        Not one of open enrolment, where who comes or goes could hold up what the round needs; nor where a beacon's
        selection follows from what the settlement makes of the beacon.
        """
        alone = task.params.open_enrolment or self.access.spec.randomness != "spec"
        return not alone and self.may_open(task, settled, pending)

    def may_open(self, task: TaskHistory, settled: Sequence[RoundHistory], pending: Sequence[RoundHistory]) -> bool:
        """Return whether the next round may be opened after some have been settled and while others are pending."""
        counted = len(task.counted) + sum(not r.bidding and not task.is_empty(r) for r in settled)
        stops = any(r.proposal is not None and r.proposal.stop for r in (*settled, *pending))
        room = len(pending) < task.params.max_unfinal
        return room and not stops and counted + len(pending) < self.access.spec.rounds

    def open_or_finish(self, task: TaskHistory, phase: Phase) -> Step | None:
        """Open the next round, or end the task: after the last round, or if too few participants came for too long.

        Raises
        ------
        RoundError
            If the task's selection leaves too few participants.
        """
        access, index = self.access, max(task.rounds, default=0) + 1
        proposals = [r.proposal for r in task.settled if r.proposal is not None]
        if any(proposal.stop for proposal in proposals) or len(task.counted) >= access.spec.rounds:
            access.ledger.finish_task(access.account, access.task)
            return Step(Action.FINISHED, access.task, index - 1)
        if index == 1 or task.params.open_enrolment:
            record = access.ledger.task(access.task)
            if record.lacks_participants:
                return self._give_up(record)
            full = record.enrolled == record.params.max_participants
            # Somebody may have enrolled since the history was read: a selection among fewer would be a lie.
            if len(task.enrolled) != record.enrolled or (phase is Phase.ENROLLING and not full):
                return None
        return self._open(task, index)

    def _open(self, task: TaskHistory, index: int) -> Step:
        access, enrolled = self.access, task.enrolled if task.params.open_enrolment else None
        try:
            access.ledger.open_round(access.account, access.task, index, self.selection(task, index), enrolled)
        except RevertedError as error:
            # While a task enrols, who was enrolled and is not any more may still come back.
            if error.name == "TooFewParticipants" and access.ledger.phase(access.task) is not Phase.ENROLLING:
                raise RoundError(
                    f"Round {index} has {error.arguments[0]} participants and needs {error.arguments[1]}.",
                    "Start more nodes, or end the task.",
                ) from error
            raise
        return Step(Action.OPENED, access.task, index)

    def _give_up(self, record: TaskRecord) -> Step | None:
        """End a task for which too few participants came in time, which returns its budget; before that, wait."""
        access = self.access
        if access.ledger.chain.now() <= record.idle_until:
            return None
        access.ledger.finish_task(access.account, access.task)
        least = record.params.min_participants
        too_few = f"it has {record.enrolled} of the {least} participants that it needs; its budget returns"
        return Step(Action.FINISHED, access.task, record.current_round, detail=too_few)
