"""What brings checks on: an auditor names who was drawn, and ends checks whose time is over."""

from __future__ import annotations

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.check_times import KNOWN_BLOCKS, CheckTimes
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.checks import drawn_of

MOST_AT_ONCE = 40
"""Participants that one transaction names, or ends the checks of."""
TURNS = 8
"""Parts of a check period after each of which the next auditor does what the ones before it have not done."""


class Summoning:
    """The duties to name who was drawn, and to end checks whose time is over, as anybody may.

    The auditors take turns, so that they do not all pay for the same.

    Parameters
    ----------
    access
        The task, and an auditor's account.
    place
        The auditor's place among those of the task.
    times
        Knows the deadlines.
    """

    def __init__(self, access: TaskAccess, place: int, times: CheckTimes) -> None:
        self.access = access
        self.place = place
        self.times = times
        self._named: set[tuple[int, int, bytes]] = set()

    def summon(self, seen: Situation) -> Step | None:
        """Name those who were drawn in a round."""
        task, chain = seen.task, self.access.ledger.chain
        if not task.params.check_rate:
            return None
        waiting = [current for current in task.proposed if self._key(current) not in self._named]
        if not waiting:
            return None
        now, block = chain.now(), chain.block_number()
        for current in waiting:
            if not self.times.draws(task, current, now, block):
                self._named.add(self._key(current))
            elif current.proposed_at is not None and self._may(task, current, now, block):
                step = self._name(task, current, current.proposed_at.block)
                if step is not None:
                    return step
        return None

    def _name(self, task: TaskHistory, current: RoundHistory, block: int) -> Step | None:
        # As contracts see it, also on a chain within this process.
        access, seed = self.access, bytes(self.access.ledger.chain.block(block)["hash"])
        if current.proposal is None:
            return None
        missing = sorted(drawn_of(task, current, seed) - set(current.checks))[:MOST_AT_ONCE]
        if not missing:
            self._named.add(self._key(current))
            return None
        access.ledger.summon(access.account, task.id, current.index, missing, current.proposal)
        return Step(Action.SUMMONED, task.id, current.index, detail=_participants(missing))

    def _may(self, task: TaskHistory, current: RoundHistory, now: int, block: int) -> bool:
        """Return whether it is this auditor's turn: the first is another one in each round."""
        turn = (self.place - current.index) % task.params.auditor_count
        waited = now - self.times.until(task, current, 0)
        begun = 0 if current.proposed_at is None else current.proposed_at.block
        late = block - begun >= KNOWN_BLOCKS // 2
        return late or waited >= turn * max(1, task.params.check_period // TURNS)

    def end(self, seen: Situation) -> Step | None:
        """End the checks of a round whose time is over."""
        task, chain = seen.task, self.access.ledger.chain
        if not task.checks:
            return None
        now = chain.now()
        due: dict[int, list[int]] = {}
        for check in task.checks:
            if self.times.is_due(task, check, now) and self._ends(task, check, now):
                due.setdefault(check.round, []).append(check.participant)
        for index, participants in due.items():
            some, access = participants[:MOST_AT_ONCE], self.access
            checks = access.spec.spot_checks
            accounts = () if checks is None else checks.accounts
            access.ledger.end_checks(access.account, task.id, index, some, accounts)
            return Step(Action.ENDED_CHECKS, task.id, index, detail=_participants(some))
        return None

    def _ends(self, task: TaskHistory, check: CheckHistory, now: int) -> bool:
        """Return whether it is this auditor's turn; the one before it may have failed to act for a while."""
        turn = (self.place - check.round) % task.params.auditor_count
        return now >= (self.times.waits_until(task, check) or 0) + turn * max(1, task.params.check_period // TURNS)

    def _key(self, current: RoundHistory) -> tuple[int, int, bytes]:
        at = current.proposed_at
        return (current.index, 0, b"") if at is None else (current.index, at.block, at.transaction)


def _participants(some: list[int]) -> str:
    names = ", ".join(map(str, some))
    return f"participant{'s' if len(some) > 1 else ''} {names}"
