"""How a participant joins: it registers with a stake, then enrols in its task."""

from __future__ import annotations

import logging

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import WAITED, Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.pools import pool_of
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.duties.checks import CommittedData
from fedledger.protocol.errors import ChainError
from fedledger.protocol.units import in_gwei

log = logging.getLogger(__name__)


def usual_stake(ledger: Ledger, task: TaskHistory) -> int:
    """Return what a participant stakes: one penalty more than the least, so that a mishap does not end it."""
    return max(task.params.min_stake, ledger.settings().min_stake) + task.params.penalty


class Joining:
    """The duty to register and to enrol.

    Parameters
    ----------
    access
        The task and the account.
    rejoins
        Whether to enrol again where the participant has left the task before. It does so once: who leaves while the
        program runs means it.
    data
        What the participant commits to when it enrols, if the task asks for that.
    """

    def __init__(self, access: TaskAccess, rejoins: bool = False, data: CommittedData | None = None) -> None:
        self.access, self.rejoins, self.data = access, rejoins, data
        self._told = ""

    def __call__(self, seen: Situation) -> Step | None:
        """Register or enrol, if that is not done."""
        participant = self.access.participant
        if participant is None:
            stake, address = usual_stake(self.access.ledger, seen.task), self.access.address
            self.access.ledger.register(self.access.account, address, address, stake)
            return Step(Action.REGISTERED, self.access.task, detail=f"with a stake of {in_gwei(stake)}")
        if participant in seen.task.enrolled:
            self.rejoins = False
        if participant in seen.task.enrolled or self.has_left(seen.task):
            return None
        return self._enrol(seen.task, seen.phase)

    def has_left(self, task: TaskHistory) -> bool:
        """Return whether the participant was enrolled in a task, has left it, and does not mean to come back."""
        participant = self.access.participant
        return not self.rejoins and participant in task.joined and participant not in task.enrolled

    def _enrol(self, task: TaskHistory, phase: Phase) -> Step:
        access = self.access
        if phase is Phase.ENROLLING or (task.params.open_enrolment and not task.complete):
            judged = self._judged_by(task)
            try:
                word = None if self.data is None else self.data.missing(task)
                access.ledger.enrol(access.account, access.task, word, access.spec.reputation.recommenders)
                return Step(Action.ENROLLED, access.task, detail=judged)
            except RevertedError as error:
                if (waits := self._waits(task, error)) is not None:
                    return waits
                # An earlier enrolment may have come back, and with it have filled the task, and have gone again.
                told = error.name in ("TaskFull", "EnrolmentClosed")
                if not told or not (self._is_enrolled() or self._may_enrol()):
                    raise
        elif not self._is_enrolled():
            raise ChainError(
                f"Task {access.task} does not enrol any more.",
                "Join another task, or ask its publisher to post it again.",
            )
        return WAITED

    def _waits(self, task: TaskHistory, error: RevertedError) -> Step | None:
        """Return the step of who may enrol later, and says once why not now; None if it never may."""
        if error.name == "TooEarlyToReturn":
            self._tell(f"task {task.id}: who has left it may enrol again once round {error.arguments[1]} is open")
            return WAITED
        if error.name == "NotActive":
            raise ChainError(
                f"{self.access.address} is leaving the ledger, or has too small a stake to take part.",
                "Add to the stake with `fedledger node stake`, take part with another account, or register again once "
                "it has left.",
            ) from error
        if error.name != "TaskFull" or not task.params.open_enrolment:
            return None
        for participant in task.enrolled:
            stake = self.access.ledger.participant(participant).stake
            if stake < max(task.params.min_stake, self.access.ledger.settings().min_stake):
                self.access.ledger.leave_task(self.access.account, task.id, participant)
                return Step(Action.STRUCK, task.id, detail=f"participant {participant} has no stake, and makes room")
        self._tell(f"task {task.id} is full: it has its {task.params.max_participants} participants; one has to leave")
        return WAITED

    def _tell(self, waits: str) -> None:
        if waits != self._told:
            log.warning("%s", waits)
        self._told = waits

    def _judged_by(self, task: TaskHistory) -> str:
        """Say who judges a task's disputes, with a warning where nobody does; nothing where there are none."""
        if not task.params.challenge_window:
            return ""
        pool = pool_of(self.access.ledger, task.id, self.access.history)
        if not pool.suffices:
            log.warning("task %d: %s", task.id, pool.told())
            return ""
        return pool.told()

    def _may_enrol(self) -> bool:
        ledger, number = self.access.ledger, self.access.task
        task = ledger.task(number)
        enrols = task.params.open_enrolment or ledger.phase(number) is Phase.ENROLLING
        return enrols and task.enrolled < task.params.max_participants

    def _is_enrolled(self) -> bool:
        """Return whether the participant is enrolled by now; the phase may be newer than the history."""
        task = self.access.history.update().task(self.access.task)
        return self.access.participant in task.enrolled
