"""How an aggregator settles rounds: together where it can, as rounds that settle in one transaction share its cost."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

from fedledger.aggregator.duties.opening import Opening
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.calls import open_call, settle_call
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory

log = logging.getLogger(__name__)


class Settlement:
    """The duties to settle rounds, to void those that are overdue, and to go on to the next."""

    def __init__(self, access: TaskAccess, opening: Opening) -> None:
        self.access = access
        self.opening = opening

    def __call__(self, seen: Situation) -> Step | None:
        """Settle what has to be, and open a round or end the task where the current one is out of hand."""
        task, phase = seen.task, seen.phase
        proposed = [r for r in task.unfinal if r.proposal is not None]
        due = self.due(task, proposed)
        if due:
            return self._settle(task, due)
        idle = phase in (Phase.ENROLLING, Phase.IDLE)
        if proposed:
            idle = len(proposed) == len(task.unfinal) and self.opening.may_open(task, [], proposed)
        return self.opening.open_or_finish(task, phase) if idle else None

    def void(self, seen: Situation) -> Step | None:
        """Void the current round if it is overdue."""
        current = seen.current
        if current is None or seen.phase is not Phase.OVERDUE:
            return None
        self.access.ledger.void_round(self.access.account, self.access.task, current.index)
        log.warning("round %d voided: too few committed, or not proposed in time", current.index)
        return Step(Action.VOIDED, self.access.task, current.index)

    def due(self, task: TaskHistory, proposed: Sequence[RoundHistory]) -> list[RoundHistory]:
        """Return the proposed rounds that are settled now, in order: all that can be, and none before one has to be.

        Rounds that settle in one transaction share the cost of what they write. One has to be settled before another
        one can be opened, before the task can end, and before somebody else earns a bounty for it.
        """
        may_wait = self.opening.may_open(task, [], proposed)
        if not proposed or (may_wait and not self._is_late(task, proposed[0])):
            return []
        return list(itertools.takewhile(lambda r: self._can_settle(task, r), proposed))

    def call(self, due: RoundHistory) -> bytes:
        """Return the call that settles a round in full."""
        if due.proposal is None:
            raise ValueError("only proposed rounds are settled")
        words = len(due.proposal.verdict_words) - due.applied
        return settle_call(self.access.task, due.index, due.proposal, words)

    def _is_late(self, task: TaskHistory, oldest: RoundHistory) -> bool:
        """Return whether a round could have been settled half a propose period ago; after a whole one it costs."""
        ledger, number = self.access.ledger, self.access.task
        if ledger.settleable(number) != oldest.index:
            return False
        grace = task.params.challenge_window + task.params.propose_period // 2
        return ledger.chain.now() >= ledger.round(number, oldest.index).proposed_at + grace

    def _can_settle(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a round can be settled now, if those before it are."""
        ledger, number = self.access.ledger, self.access.task
        window, known = task.params.challenge_window, task.rounds[current.index].proposal
        if known is None:
            # It is being proposed in the same transaction.
            return not window
        if not known.is_readable:
            return False
        if ledger.settleable(number) == current.index:
            return True
        record = ledger.round(number, current.index)
        return not record.disputes and ledger.chain.now() >= record.proposed_at + window

    def _settle(self, task: TaskHistory, due: Sequence[RoundHistory]) -> Step:
        """Settle rounds, as many as fit one transaction, and open the next one in it if that may be."""
        access = self.access
        for count in range(len(due), 0, -1):
            settled, pending = due[:count], task.unfinal[count:]
            calls, actions = [self.call(r) for r in settled], [(Action.SETTLED, r.index) for r in settled]
            free = all(r.proposal is not None for r in pending)
            if free and self.opening.may_join(task, settled, pending):
                following = max(task.rounds) + 1
                calls.append(open_call(access.task, following, self.opening.selection(task, following)))
                actions.append((Action.OPENED, following))
            if len(calls) > 1 and access.ledger.send_calls(access.account, calls) is not None:
                return Step(Action.SETTLED, access.task, actions[0][1], also=tuple(actions[1:]))
        first = due[0]
        if first.proposal is None:
            raise ValueError("only proposed rounds are settled")
        done = access.ledger.settle_round(access.account, access.task, first.index, first.proposal, first.applied)
        is_whole = done == len(first.proposal.verdict_words)
        return Step(Action.SETTLED if is_whole else Action.ADVANCED, access.task, first.index)
