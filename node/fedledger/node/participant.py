"""A participant: asks the ledger where its task is, trains, commits, then stores and reveals.

Nothing is kept in memory that matters: the update is in the journal before it is committed to, the salt follows
from the key, and the ledger says what was done. A participant that was killed starts again and goes on; what a
reorganisation took back is sent again, in the same bytes unless the round has another base model now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount
from numpy.typing import NDArray

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.solvers.base import LocalUpdate, Memory
from fedledger.node.training import Trainer, TrainingContext
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.canonical import MAX_DOCUMENT_BYTES
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.errors import ChainError, ConfigError, RoundError, StoreError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment, leaf
from fedledger.protocol.records.mailbox import MailboxClient, MailboxRefusedError
from fedledger.protocol.records.published_vectors import published
from fedledger.protocol.records.signatures import Place, commitment, commitment_message, salt, sign
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateHeader
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage import durable_files
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.models import Models

log = logging.getLogger(__name__)

UPDATE, SIGNED, STATE = "update", "signed", "state"
"""Kinds of files in a journal: an update, the one of a round that was signed, and the state that came with it."""
KEPT_STATES = 16
"""States that stay in a journal: those of rounds that may be voided together (8), and some for reorganisations."""
_BASE = "base.digest"

RACES = frozenset(
    {
        *("AlreadyRegistered", "AlreadyEnrolled", "AlreadyCommitted", "NotCommitted"),
        *("CommitsAreClosed", "CommitsAreOpen", "RevealsAreClosed", "RoundNotOpen"),
        *("AlreadyRevealed", "NotAdmitting", "StillAdmitting", "NotChallengeable", "NotRefuted"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction."""


BaseOf = Callable[[int], int]
"""Tells how many models before a round's base, given its index, the one lies that a participant trains on."""


def newest_base(index: int) -> int:
    """Return 0: every round is trained for on its own base model."""
    return 0


class Deed(Enum):
    """What a participant did in one step."""

    WAITED = "waited"
    REGISTERED = "registered"
    ENROLLED = "enrolled"
    COMMITTED = "committed"
    REVEALED = "revealed"
    OBJECTED = "objected"
    DONE = "done"


def usual_stake(ledger: Ledger, task: TaskHistory) -> int:
    """Return what a participant stakes: one penalty more than the least, so that a mishap does not end it."""
    return max(task.params.min_stake, ledger.settings().min_stake) + task.params.penalty


@dataclass(frozen=True)
class JournalEntry:
    """An update that is in a journal: its round, the digest of the model that it is relative to, and its content id."""

    round: int
    base: bytes
    reference: ContentRef

    def staleness(self, current: RoundHistory) -> int:
        """Return how many models before the round's base its own lies."""
        return (current.staleness_of(self.base) or 0) if current.earlier else 0


class Participant:
    """A participant of one task.

    Parameters
    ----------
    ledger, history
        The ledger, and its state from logs (may be shared).
    account
        The owner's account, which also signs.
    task
        The task's id.
    store
        Where models are fetched and updates stored.
    journal
        Folder in which updates wait until they may be seen.
    spec
        The task's spec.
    trainer
        Makes the updates.
    post
        The aggregator's mailbox, which a batched task needs.
    base_of
        How stale this participant's update of a round is. Where the round takes none so stale, it trains on the oldest
        base that the round takes.
    models
        Reads models from the store; who plays several participants gives them all the same.
    """

    def __init__(
        self,
        ledger: Ledger,
        history: History,
        account: LocalAccount,
        task: int,
        store: ContentStore,
        journal: Path,
        spec: TaskSpec,
        trainer: Trainer,
        post: MailboxClient | None = None,
        base_of: BaseOf = newest_base,
        models: Models | None = None,
    ) -> None:
        self.ledger = ledger
        self.history = history
        self.account = account
        self.task = task
        self.store = store
        self.spec = spec
        self.trainer = trainer
        self.post = post
        self.base_of = base_of
        self._models = models or Models(store)
        self._committed: tuple[tuple[int | bytes, ...], bytes] | None = None
        self._entry: JournalEntry | None = None
        self._found: dict[str, set[int]] | None = None
        self._left: set[tuple[int, Deed]] = set()
        self._opened: set[int] = set()
        self._journal = journal
        journal.mkdir(parents=True, exist_ok=True)
        durable_files.remove_stale(journal)

    def step(self) -> Deed:
        """Ask the ledger where the task is, and do what comes next, if anything."""
        task = self.history.update().task(self.task)
        return self.act(task, self.ledger.phase(self.task))

    def act(self, task: TaskHistory, phase: Phase) -> Deed:
        """Do what comes next for a task in a phase; whoever plays several participants asks once for all of them."""
        if task.finished:
            return Deed.DONE
        folds = self.history.folds
        try:
            return self._next(task, phase)
        except RevertedError as error:
            # At worst the phase has closed, which is a missed round, no more. Any other refusal stands, unless what
            # was read was reorganised.
            if error.name not in RACES and self.history.update().folds == folds:
                raise
            log.warning("%s", error)
        return Deed.WAITED

    def _next(self, task: TaskHistory, phase: Phase) -> Deed:
        participant = self.history.ids.get(self.account.address)
        if participant is None:
            return self._register(task)
        if participant not in task.joined:
            return self._enrol(phase)
        deed = self._object(task, participant) if task.batched else Deed.WAITED
        current = task.rounds.get(max(task.rounds, default=0))
        if deed is not Deed.WAITED:
            return deed
        if current is None or participant not in current.owners or participant in current.reveals:
            return Deed.WAITED
        if task.batched:
            return self._act_batched(task, current, participant, phase)
        if phase is Phase.COMMITTING and participant not in current.commits:
            return self._commit(task, current)
        if phase is Phase.REVEALING and participant in current.commits:
            return self._reveal(task, current)
        return Deed.WAITED

    def _act_batched(self, task: TaskHistory, current: RoundHistory, participant: int, phase: Phase) -> Deed:
        """Do what comes next off the chain, and on it only where the aggregator does not do its part."""
        left = (current.index, Deed.COMMITTED) in self._left
        if phase is Phase.COMMITTING and not left and self._stands_by(task, current):
            return self._sign(task, current, participant)
        if (
            phase is Phase.ADMITTING
            and participant not in current.commits
            and (self._proof(current, participant) is None or self._is_uncounted(task, current))
            and self._stands_by(task, current)
        ):
            log.warning("round %d: left out of the root or its count, so committing on chain", current.index)
            return self._commit(task, current)
        if phase is Phase.REVEALING and current.index not in self._opened:
            return self._open(task, current, participant)
        return Deed.WAITED

    def _is_uncounted(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a round would end below quorum because its count is lower than its stored commitments are."""
        lacking = task.params.quorum - current.count
        batch = self._stored(current) if lacking > 0 else None
        return batch is not None and batch.root == current.root and len(batch.commitments) > current.count

    def _object(self, task: TaskHistory, participant: int) -> Deed:
        """Object to what proposals that wait for their finality say of this participant, once for each."""
        for current in task.unfinal:
            verdict = current.verdicts.get(participant)
            if verdict is None or (current.index, Deed.OBJECTED) in self._left:
                continue
            self._left.add((current.index, Deed.OBJECTED))
            if verdict is Verdict.LATE and participant not in current.excuses:
                log.warning("round %d: called late, so revealing on chain", current.index)
                return self._reveal_on_chain(task, current, participant)
            if verdict is Verdict.MISSED and (current.index, Deed.COMMITTED) in self._left:
                return self._refute(task, current, participant)
        return Deed.WAITED

    def _refute(self, task: TaskHistory, current: RoundHistory, participant: int) -> Deed:
        """Refute a proposal that says this participant never committed, if it cannot be what the root says."""
        proof, proposal = self._proof(current, participant), current.proposal
        if proposal is None or not task.params.challenge_window:
            return Deed.WAITED
        if proof is not None:
            log.warning("round %d: called missing, so showing that the commitment is in the root", current.index)
            signed = self._signed(task, current, participant)
            self.ledger.refute_missed(self.account, self.task, current.index, signed, proof, proposal)
            return Deed.OBJECTED
        if current.count == len(current.selected):
            log.warning("round %d: left out of a root that is said to be complete, so demanding to see", current.index)
            self.ledger.demand_commitment(self.account, self.task, current.index, participant, proposal)
            return Deed.OBJECTED
        return Deed.WAITED

    def _reveal_on_chain(self, task: TaskHistory, current: RoundHistory, participant: int) -> Deed:
        proof = self._proof(current, participant)
        if proof is None and participant not in current.commits:
            return Deed.WAITED
        return self._reveal(task, current, proof or ())

    def _sign(self, task: TaskHistory, current: RoundHistory, participant: int) -> Deed:
        try:
            self._mailbox().commit(current.index, self._signed(task, current, participant))
        except MailboxRefusedError as error:
            # Tried again while there is time; after that the ledger itself takes the commitment.
            log.warning("round %d: %s", current.index, error)
            return Deed.WAITED
        self._left.add((current.index, Deed.COMMITTED))
        return Deed.COMMITTED

    def _stands_by(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether the round's commitment is the only one ever made for it; two are equivocation."""
        entry, signed = self._update(task, current), self._path(SIGNED, current.index)
        if current.index not in self._rounds_with(SIGNED):
            # Another name of the update, which may be made again relative to another model.
            durable_files.link(signed, self._path(UPDATE, current.index), self.content(current))
            self._rounds_with(SIGNED).add(current.index)
            return True
        same = ContentRef.of(durable_files.read(signed)) == entry.reference
        if not same and (current.index, Deed.WAITED) not in self._left:
            self._left.add((current.index, Deed.WAITED))
            log.warning("round %d: missed, as an update of another base model was signed before", current.index)
        return same

    def _signed(self, task: TaskHistory, current: RoundHistory, participant: int) -> SignedCommitment:
        digest = self._commitment(task, current)
        message = commitment_message(self._place, current.index, participant, digest)
        return SignedCommitment(participant, digest, sign(message, bytes(self.account.key)))

    def _open(self, task: TaskHistory, current: RoundHistory, participant: int) -> Deed:
        again = (current.index, Deed.REVEALED) in self._left
        entry = self._update(task, current)
        update = entry.reference if again else self._put(current, entry)
        if participant in current.commits:
            # An aggregator that forgot the commitment may forget this as well.
            return self._reveal_on_chain(task, current, participant)
        try:
            # An aggregator that was away is told when it is back: it would call late whom it has not heard of.
            salt_, steps = self._salt(current), entry.staleness(current)
            if self._mailbox().reveal(current.index, participant, update, salt_, steps):
                self._opened.add(current.index)
        except MailboxRefusedError as error:
            log.warning("round %d: %s", current.index, error)
            return self._reveal_on_chain(task, current, participant)
        self._left.add((current.index, Deed.REVEALED))
        return Deed.WAITED if again else Deed.REVEALED

    def _proof(self, current: RoundHistory, participant: int) -> list[bytes] | None:
        """Return a way to the round's root that holds, or None."""
        task = self.history.task(self.task)
        content = leaf(participant, self._commitment(task, current))
        proof = self._mailbox().proof(current.index, participant)
        if proof is None or not verify(current.root or b"", content, proof):
            proof = self._stored_proof(current, participant)
        return proof if proof is not None and verify(current.root or b"", content, proof) else None

    def _stored_proof(self, current: RoundHistory, participant: int) -> list[bytes] | None:
        """Return the way to the root from the batch of commitments that the aggregator stored, if it did."""
        batch = self._stored(current)
        return None if batch is None else batch.proof(participant)

    def _stored(self, current: RoundHistory) -> Batch | None:
        """Return the batch of commitments that the aggregator stored, if it did."""
        if current.batch is None or not self.store.has(current.batch):
            return None
        try:
            return Batch.decode(self.store.get(current.batch, MAX_DOCUMENT_BYTES))
        except (ValueError, StoreError) as error:
            log.warning("round %d: the stored commitments cannot be read: %s", current.index, error)
            return None

    def _mailbox(self) -> MailboxClient:
        if self.post is None:
            raise RoundError(
                "A batched task needs a way to its aggregator.", "Give the participant a post, such as HttpPost."
            )
        return self.post

    def _register(self, task: TaskHistory) -> Deed:
        stake = usual_stake(self.ledger, task)
        self.ledger.register(self.account, self.account.address, self.account.address, stake)
        return Deed.REGISTERED

    def _enrol(self, phase: Phase) -> Deed:
        if phase is Phase.ENROLLING:
            try:
                self.ledger.enrol(self.account, self.task)
                return Deed.ENROLLED
            except RevertedError as error:
                # An earlier enrolment may have come back, and with it have filled the task, and have gone again.
                told = error.name in ("TaskFull", "EnrolmentClosed")
                if not told or not (self._is_enrolled() or self._may_enrol()):
                    raise
        elif not self._is_enrolled():
            raise ChainError(
                f"Task {self.task} does not enrol any more.",
                "Join another task, or ask its publisher to post it again.",
            )
        return Deed.WAITED

    def _may_enrol(self) -> bool:
        task = self.ledger.task(self.task)
        return self.ledger.phase(self.task) is Phase.ENROLLING and task.enrolled < task.params.max_participants

    def _is_enrolled(self) -> bool:
        """Return whether the participant is enrolled by now; the phase may be newer than the history."""
        history = self.history.update()
        return history.ids.get(self.account.address) in history.task(self.task).enrolled

    def _commit(self, task: TaskHistory, current: RoundHistory) -> Deed:
        self.ledger.commit_update(self.account, self.task, current.index, self._commitment(task, current))
        return Deed.COMMITTED

    def _reveal(self, task: TaskHistory, current: RoundHistory, proof: Sequence[bytes] = ()) -> Deed:
        entry = self._update(task, current)
        update, steps = self._put(current, entry), entry.staleness(current)
        self.ledger.reveal_update(self.account, self.task, current.index, update, self._salt(current), proof, steps)
        return Deed.REVEALED

    @property
    def _place(self) -> Place:
        return self.ledger.chain.chain_id, self.ledger.address, self.task

    def _commitment(self, task: TaskHistory, current: RoundHistory) -> bytes:
        """Return the commitment to the round's update; it is computed once as long as the round has the same bases."""
        key: tuple[int | bytes, ...] = (current.index, *(base.digest for base in current.bases))
        if self._committed is None or self._committed[0] != key:
            self._committed = key, self._new_commitment(task, current)
        return self._committed[1]

    def _new_commitment(self, task: TaskHistory, current: RoundHistory) -> bytes:
        entry = self._update(task, current)
        base = current.bases[entry.staleness(current)].digest
        owner, salt_ = self.account.address, self._salt(current)
        return commitment(self._place, current.index, owner, base, entry.reference, salt_)

    def _salt(self, current: RoundHistory) -> bytes:
        return salt(bytes(self.account.key), self._place, current.index)

    def _path(self, kind: str, index: int) -> str:
        return f"{self._journal}/{self._name}-{index}.{kind}"

    def _rounds_with(self, kind: str) -> set[int]:
        """Return the rounds that have a file of a kind; looked for once, as nobody else writes any."""
        if self._found is None:
            self._found = {UPDATE: set(), SIGNED: set(), STATE: set()}
            for path in durable_files.listed(self._journal, f"{self._name}-*.*"):
                if (rounds := self._found.get(path.suffix[1:])) is not None:
                    rounds.add(int(path.stem.rpartition("-")[2]))
        return self._found[kind]

    @cached_property
    def _name(self) -> str:
        """What the names of this task's files begin with."""
        return f"{self.ledger.chain.chain_id}-{self.ledger.address}-{self.task}"

    def context(self, task: TaskHistory, current: RoundHistory) -> TrainingContext | None:
        """Return what this participant's update of a round follows from; None if it was made before."""
        return None if self.entry(current) is not None else self._context(task, current)

    def _context(self, task: TaskHistory, current: RoundHistory) -> TrainingContext:
        base = self._models(current.bases[self.staleness(current)])
        before = task.rounds.get(current.index - 1)
        return TrainingContext(
            spec=self.spec,
            index=current.index,
            owner=self.account.address,
            base=base,
            before=None if before is None else self._models(before.base),
            memory=self._memory(task, current, len(base.vector)),
        )

    def staleness(self, current: RoundHistory) -> int:
        """Return how many models before a round's base the one lies that this participant trains on."""
        return min(self.base_of(current.index), len(current.earlier))

    def keep(self, current: RoundHistory, trained: LocalUpdate) -> JournalEntry:
        """Sign what was trained for a round, and keep it in the journal until it may be seen.

        Raises
        ------
        ConfigError
            If it does not hold the vectors that the spec names.
        """
        if sorted(trained.vectors) != self.spec.vectors:
            sent, wanted = (", ".join(names) or "nothing" for names in (sorted(trained.vectors), self.spec.vectors))
            raise ConfigError(
                f"Besides its delta the update holds {sent}; the task's spec takes {wanted}.",
                "Train with the solver that the spec names.",
            )
        base = current.bases[self.staleness(current)]
        header = UpdateHeader(
            spec=self.spec.digest.hex(),
            round=current.index,
            participant=self.account.address,
            base=base.digest.hex(),
            examples=trained.examples,
            steps=trained.steps,
            vectors=[wire.DELTA, *self.spec.vectors],
            payload="0" * 64,
        )
        data = wire.encode(header, {**trained.vectors, wire.DELTA: trained.delta}, bytes(self.account.key))
        # Whoever finds the update must find the state as well. Without the update both are made again, and the same.
        if trained.state:
            base_of = np.frombuffer(base.digest, np.uint8)
            write_atomically(self._path(STATE, current.index), tensors.encode({**trained.state, _BASE: base_of}))
            self._rounds_with(STATE).add(current.index)
        write_atomically(self._path(UPDATE, current.index), data)
        self._rounds_with(UPDATE).add(current.index)
        self._entry = entry = JournalEntry(current.index, base.digest, ContentRef.of(data))
        if trained.state:
            for index in sorted(self._rounds_with(STATE))[:-KEPT_STATES]:
                durable_files.remove(self._path(STATE, index))
                self._rounds_with(STATE).remove(index)
        return entry

    def entry(self, current: RoundHistory) -> JournalEntry | None:
        """Return the round's update if it is in the journal, and relative to a base that the round takes."""
        if self._entry is None or self._entry.round != current.index:
            if current.index not in self._rounds_with(UPDATE):
                return None
            data = self.content(current)
            base = bytes.fromhex(wire.read_header(data).base)
            self._entry = JournalEntry(current.index, base, ContentRef.of(data))
        # A reorganisation may have given the round another base model.
        return None if current.staleness_of(self._entry.base) is None else self._entry

    def _update(self, task: TaskHistory, current: RoundHistory) -> JournalEntry:
        """Return the round's update, which is in the journal; it is made if it is not there."""
        return self.entry(current) or self.keep(current, self.trainer(self._context(task, current)))

    def _put(self, current: RoundHistory, entry: JournalEntry) -> ContentRef:
        """Put the round's update into the store, where everybody may see it from now on."""
        return self.store.put(self.content(current), self._path(UPDATE, current.index), entry.reference)

    def content(self, current: RoundHistory) -> bytes:
        """Return the bytes of the update that was made for a round, from the journal."""
        return durable_files.read(self._path(UPDATE, current.index))

    def _memory(self, task: TaskHistory, current: RoundHistory, dimension: int) -> Memory:
        """Return what this participant kept of the newest round before that stands, and what the aggregator tells."""
        reference = task.state_before(current.index) if self.spec.vectors else None
        state = b"" if reference is None else self.store.get(reference)
        fixed = self.spec.fixed
        server = published(state, self.spec.vectors, dimension, fixed)
        for index in sorted(self._rounds_with(STATE), reverse=True):
            before = task.rounds.get(index)
            if index >= current.index or before is None or before.voided:
                continue
            own = self._state(self._path(STATE, index))
            # A reorganisation may have given that round another base model, and this participant no part in it.
            if before.staleness_of(own.pop(_BASE).tobytes()) is not None:
                return Memory({name: vector.astype(np.float32, copy=False) for name, vector in own.items()}, server)
        return Memory(server=server)

    def _state(self, path: str) -> dict[str, NDArray[np.generic]]:
        try:
            named = tensors.decode(durable_files.read(path))
            named[_BASE] = named[_BASE].astype(np.uint8, copy=False)
        except (OSError, tensors.TensorFormatError, KeyError) as error:
            raise StoreError(f"{path} cannot be read: {error}.", "Delete it: the one before it is used.") from error
        return named
