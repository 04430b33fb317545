"""What a participant does in rounds in which each commits and reveals by transactions of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.updates import Updates, acts_elsewhere

log = logging.getLogger(__name__)


def awaited(seen: Situation, participant: int | None) -> RoundHistory | None:
    """Return the current round if it asks a participant that has not revealed on the ledger yet."""
    current = seen.current
    if current is None or participant not in current.owners or participant in current.reveals:
        return None
    return current


class DirectRounds:
    """The duties to commit to an update and to reveal it, on the ledger."""

    def __init__(self, access: TaskAccess, updates: Updates) -> None:
        self.access = access
        self.updates = updates
        self._sent: set[int] = set()
        self._first: int | None = None
        self._missed: set[int] = set()

    def __call__(self, seen: Situation) -> Step | None:
        """Commit or reveal, if the current round asks for it."""
        if seen.task.batched:
            return None
        participant = self.access.participant
        current = awaited(seen, participant)
        if current is None:
            return None
        self.require_alone(current, participant)
        if seen.phase is Phase.COMMITTING and participant not in current.commits:
            return self.commit(seen.task, current)
        if seen.phase is Phase.REVEALING and participant in current.commits and self._knows(seen.task, current):
            return self.reveal(seen.task, current)
        return None

    def require_alone(self, current: RoundHistory, participant: int | None) -> None:
        """Raise ActsElsewhereError if the ledger has this account's commitment, and this program did not send it.

        What a round has that was open when the program was started may be from before it was.
        """
        if self._first is None:
            self._first = current.index
        is_own = participant is not None and current.commits.get(participant) == self.access.address
        if is_own and current.index > self._first and current.index not in self._sent:
            raise acts_elsewhere(current.index, self.access.address)

    def commit(self, task: TaskHistory, current: RoundHistory) -> Step | None:
        """Commit to the round's update, which is made if need be, unless it would cost a penalty."""
        if self.updates.costs(task, current):
            return None
        digest = self.updates.commitment(task, current)
        self._sent.add(current.index)
        self.access.ledger.commit_update(self.access.account, self.access.task, current.index, digest)
        return Step(Action.COMMITTED, self.access.task, current.index)

    def _knows(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether the round's commitment on the ledger is to the update that this journal has."""
        posted = current.commitments.get(self.access.participant or 0)
        if posted is None or posted == self.updates.commitment(task, current):
            return True
        if current.index not in self._missed:
            self._missed.add(current.index)
            log.warning(
                "round %d: missed, as what was committed to is no update of this journal; was it another one, or is a "
                "copy of this node running?",
                current.index,
            )
        return False

    def reveal(self, task: TaskHistory, current: RoundHistory, proof: Sequence[bytes] = ()) -> Step | None:
        """Store the round's update, and reveal which it is; ``proof`` leads from its commitment to a round's root."""
        access, entry = self.access, self.updates.made(task, current)
        update, steps = self.updates.put(current, entry), entry.staleness(current)
        salt = self.updates.salt(current)
        access.ledger.reveal_update(access.account, access.task, current.index, update, salt, proof, steps)
        return Step(Action.REVEALED, access.task, current.index)
