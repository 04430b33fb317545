"""The commitments of batched rounds: an aggregator posts their root, and completes rounds from its mailbox."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.batches import complete, opened, opens, posted_batch
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnavailableError, RoundError
from fedledger.protocol.records.commitment_batch import Batch, Opening

log = logging.getLogger(__name__)


def scored(current: RoundHistory, openings: Mapping[int, Opening]) -> dict[int, Opening]:
    """Return what opens the updates to which a round's scorers were called: it is made of them, and of no others.

    Raises
    ------
    RoundError
        If some of it is not there.
    """
    found = {i: openings[i] for i, update in current.listed.items() if i in openings and openings[i].update == update}
    if current.scoring is not None and len(found) != len(current.scoring.present):
        raise RoundError("What opens some of the updates that were scored has not come here.")
    return found


class Commitments:
    """The duty to post the root of a batched round's commitments.

    Parameters
    ----------
    access
        The task, and the aggregator's account.
    mailbox
        Where participants of a batched task leave their commitments; a direct task needs none.
    """

    def __init__(self, access: TaskAccess, mailbox: Mailbox | None) -> None:
        self.access = access
        self.mailbox = mailbox
        self._unusable: set[int] = set()

    def __call__(self, seen: Situation) -> Step | None:
        """Post the root of the current round's commitments, if it is due."""
        current, phase = seen.current, seen.phase
        if current is None or not seen.task.batched or phase not in (Phase.COMMITTING, Phase.CLOSING):
            return None
        return self.close(current, phase)

    def close(self, current: RoundHistory, phase: Phase) -> Step | None:
        """Post the root once all commitments are in, or the time for them is over."""
        mailbox, access = self.opened_mailbox(), self.access
        if phase is Phase.COMMITTING and not mailbox.committed(current.index).issuperset(current.selected):
            return None
        batch = mailbox.seal(current.index)
        content, count = access.store.put(batch.encode()), len(batch.commitments)
        access.ledger.close_commits(access.account, access.task, current.index, batch.root, count, content)
        return Step(Action.CLOSED, access.task, current.index)

    def completed(self, current: RoundHistory, phase: Phase) -> tuple[RoundHistory, ContentRef] | None:
        """Return a batched round with all that was left in the mailbox, and its batch; None if that takes time."""
        if current.root is None:
            # The ledger was reorganised after it told the phase.
            return None
        access, openings = self.access, self.opened_mailbox().openings(current.index)
        openings |= {i: Opening(r.update, r.salt, r.staleness) for i, r in current.reveals.items()}
        try:
            sealed = self.batch(current)
            committed = set(sealed.by_participant) | set(current.commits)
            openings = {
                i: opening
                for i, opening in openings.items()
                if i in committed and (i in current.reveals or opens(current, sealed, i, opening, access.place))
            }
            if current.scoring is not None:
                openings = scored(current, openings)
            elif phase is Phase.REVEALING and committed - set(openings):
                return None
            batch = opened(sealed, openings)
            updates = {i: opening.update for i, opening in openings.items()}
            return complete(current, batch, updates, access.place), access.store.put(batch.encode())
        except (RoundError, ContentUnavailableError) as error:
            # If another aggregator posted what nobody can propose anything for, the round will be voided.
            if current.index not in self._unusable:
                self._unusable.add(current.index)
                log.error("round %d cannot be proposed: %s", current.index, error)
            return None

    def batch(self, current: RoundHistory) -> Batch:
        """Return the batch of the root that was posted: this aggregator's own, or the one that another one stored.

        Raises
        ------
        RoundError
            If the one that was stored is of another root, or cannot be read.
        StoreError
            If it cannot be had.
        """
        sealed = self.opened_mailbox().sealed(current.index)
        if sealed is not None and sealed.root == current.root:
            return sealed
        return posted_batch(self.access.store, current)

    def opened_mailbox(self) -> Mailbox:
        """Return the mailbox.

        Raises
        ------
        RoundError
            If there is none.
        """
        if self.mailbox is None:
            raise RoundError("A batched task needs a mailbox.", "Start the aggregator with --listen HOST:PORT.")
        return self.mailbox
