"""What a participant does in batched rounds: it signs its commitment, and the aggregator posts the root of all.

The ledger takes its commitment and its update all the same, where the aggregator does not do its part.
"""

from __future__ import annotations

import logging

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import seconds_left
from fedledger.node.duties.direct_rounds import DirectRounds, awaited
from fedledger.node.updates import Updates, acts_elsewhere
from fedledger.protocol.encoding.canonical import MAX_DOCUMENT_BYTES
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.errors import ContentUnavailableError, RoundError, StoreError
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment, leaf
from fedledger.protocol.records.mailbox import MailboxClient, MailboxRefusedError
from fedledger.protocol.records.signatures import commitment_message, recover, sign
from fedledger.storage.deadlines import within

log = logging.getLogger(__name__)

SHARE, LEAST = 0.25, 1.0
"""The part of what is left of a phase that others may take to answer, and the least seconds that they have.

However slow all of them are, there is time for what the ledger takes from the participant itself.
"""
PROOFS_KEPT = 64
"""Rounds whose proofs are kept: more than there are that may be disputed."""


class BatchedRounds:
    """The duties to sign a commitment and to open it, off the ledger where that is possible.

    ``signed`` are the rounds whose commitment was left with the aggregator since the program was started.

    Parameters
    ----------
    access
        The task, and the participant's account.
    updates
        Makes the updates.
    direct
        Commits and reveals on the ledger.
    mailbox
        A way to the aggregator's mailbox.
    """

    def __init__(
        self, access: TaskAccess, updates: Updates, direct: DirectRounds, mailbox: MailboxClient | None
    ) -> None:
        self.access = access
        self.updates = updates
        self.direct = direct
        self.mailbox = mailbox
        self.signed: set[int] = set()
        self._missed: set[int] = set()
        self._opened: set[int] = set()
        self._delivered: set[int] = set()
        self._proofs: dict[int, list[bytes]] = {}

    def __call__(self, seen: Situation) -> Step | None:
        """Do what comes next off the ledger, and on it only where the aggregator does not do its part."""
        task, phase = seen.task, seen.phase
        if not task.batched:
            return None
        participant = self.access.participant
        current = awaited(seen, participant)
        if current is None or participant is None:
            return None
        self.direct.require_alone(current, participant)
        if phase is Phase.COMMITTING and current.index not in self.signed and self.stands_by(task, current):
            return self.sign(task, current, participant)
        is_absent = phase is Phase.ADMITTING and participant not in current.commits
        if is_absent and self._is_left_out(task, current, participant):
            log.warning("round %d: left out of the root or its count, so committing on chain", current.index)
            return self.direct.commit(task, current)
        if phase is Phase.REVEALING and current.index not in self._delivered:
            return self.open(task, current, participant)
        return None

    def sign(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
        """Leave a signed commitment with the aggregator."""
        try:
            with within(self._share):
                self._require_alone(task, current, participant)
                signed = self.signed_commitment(task, current, participant)
                self.client().commit(current.index, signed)
        except MailboxRefusedError as error:
            # Tried again while there is time; after that the ledger itself takes the commitment.
            log.warning("round %d: %s", current.index, error)
            return None
        self.signed.add(current.index)
        return Step(Action.COMMITTED, self.access.task, current.index)

    def _require_alone(self, task: TaskHistory, current: RoundHistory, participant: int) -> None:
        """Raise ActsElsewhereError if another copy of this program has signed for the round; an aggregator may lie."""
        known = self.client().commitment(current.index, participant)
        if known is None or known.commitment == self.updates.commitment(task, current):
            return
        message = commitment_message(self.access.place, current.index, participant, known.commitment)
        if recover(message, known.signature) == self.access.address:
            raise acts_elsewhere(current.index, self.access.address)

    def open(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
        """Store the round's update, and tell the aggregators what opens the commitment to it."""
        is_again = current.index in self._opened
        entry = self.updates.made(task, current)
        update = entry.reference if is_again else self.updates.put(current, entry)
        if participant in current.commits:
            # An aggregator that forgot the commitment may forget this as well.
            return self.reveal(task, current, participant)
        try:
            # An aggregator that was away is told when it is back: it would call late whom it has not heard of.
            salt, steps = self.updates.salt(current), entry.staleness(current)
            with within(self._share):
                if self.client().reveal(current.index, participant, update, salt, steps):
                    self._delivered.add(current.index)
        except MailboxRefusedError as error:
            log.warning("round %d: %s", current.index, error)
            return self.reveal(task, current, participant)
        self._opened.add(current.index)
        return None if is_again else Step(Action.REVEALED, self.access.task, current.index)

    def reveal(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
        """Reveal on the ledger, if the commitment is there or can be shown to be in the root."""
        proof = self.proof(task, current, participant)
        if proof is None and participant not in current.commits:
            return None
        return self.direct.reveal(task, current, proof or ())

    def signed_commitment(self, task: TaskHistory, current: RoundHistory, participant: int) -> SignedCommitment:
        """Return the round's commitment, signed."""
        digest = self.updates.commitment(task, current)
        message = commitment_message(self.access.place, current.index, participant, digest)
        return SignedCommitment(participant, digest, sign(message, bytes(self.access.account.key)))

    def proof(self, task: TaskHistory, current: RoundHistory, participant: int) -> list[bytes] | None:
        """Return a way from the commitment to the round's root that holds, or None.

        What was found once is kept: who gave it may not give it again when it is needed.
        """
        root, content = current.root or b"", leaf(participant, self.updates.commitment(task, current))
        known = self._proofs.get(current.index)
        if known is not None and verify(root, content, known):
            # Whoever gave it may hold it back once it is needed against a false proposal.
            return known
        with within(self._share):
            proof = self.client().proof(current.index, participant)
        if proof is None or not verify(root, content, proof):
            batch = self._stored(current)
            proof = None if batch is None else batch.proof(participant)
        if proof is None or not verify(root, content, proof):
            return None
        self._proofs = {index: kept for index, kept in self._proofs.items() if index > current.index - PROOFS_KEPT}
        self._proofs[current.index] = proof
        return proof

    def stands_by(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether to commit: it costs no penalty, and is the round's only commitment; two are equivocation."""
        if self.updates.costs(task, current):
            return False
        stands = self.updates.journal.sign(self.updates.made(task, current))
        if not stands and current.index not in self._missed:
            self._missed.add(current.index)
            log.warning("round %d: missed, as an update of another base model was signed before", current.index)
        return stands

    def client(self) -> MailboxClient:
        """Return the way to the aggregator's mailbox.

        Raises
        ------
        RoundError
            If none was given.
        """
        if self.mailbox is None:
            raise RoundError(
                "A batched task needs a way to its aggregator.",
                "Give the participant a mailbox client, such as HttpMailboxClient.",
            )
        return self.mailbox

    def _share(self) -> float:
        """Return for how many seconds others may be waited for."""
        return max(LEAST, SHARE * seconds_left(self.access.ledger, self.access.task))

    def _is_left_out(self, task: TaskHistory, current: RoundHistory, participant: int) -> bool:
        """Return whether the participant has to commit on the ledger for the round to count it, and may."""
        is_missing = self.proof(task, current, participant) is None or self._is_uncounted(task, current)
        return is_missing and self.stands_by(task, current)

    def _is_uncounted(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a round would end below quorum because its count is lower than its stored commitments are."""
        lacking = task.params.quorum - current.count
        batch = self._stored(current) if lacking > 0 else None
        return batch is not None and batch.root == current.root and len(batch.commitments) > current.count

    def _stored(self, current: RoundHistory) -> Batch | None:
        """Return the batch of commitments that the aggregator stored, if it did."""
        if current.batch is None:
            return None
        try:
            with within(self._share):
                return Batch.decode(self.access.store.get(current.batch, MAX_DOCUMENT_BYTES))
        except ContentUnavailableError:
            return None
        except (ValueError, StoreError) as error:
            log.warning("round %d: the stored commitments cannot be read: %s", current.index, error)
            return None
