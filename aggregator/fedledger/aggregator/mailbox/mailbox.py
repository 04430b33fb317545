"""Where participants of a batched task leave their signed commitments, and later what opens them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedledger.aggregator.mailbox.score_box import RevealedScores, ScoreBox
from fedledger.aggregator.round.batches import posted_batch
from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding import canonical, strict
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import RoundError, StoreError
from fedledger.protocol.records.commitment_batch import MAX_PARTICIPANT, MAX_STALENESS, Batch, Opening, SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.protocol.records.signatures import commitment, commitment_message, recover
from fedledger.storage import durable_files
from fedledger.storage.base import ContentStore
from fedledger.storage.deadlines import within

log = logging.getLogger(__name__)

MAX_LENGTH = 2**32 - 1
LOOK_AGAIN = 1.0
"""Seconds after which content that could not be had is looked for again."""
STORE_SECONDS, WAIT_FOR_STORE = 30.0, 1.0
"""Seconds that the store has to fetch a batch, and for which nobody else is answered meanwhile."""
ASK_AGAIN, ASK_AGAIN_AT_LAST, REST = 0.1, 2.0, 4.0
"""Seconds after which the ledger is asked again for what it did not have, as anybody may ask for anything.

A slow node is asked later, so that answering messages has ``REST`` times as long as asking it in vain.
"""


@dataclass
class _Round:
    commitments: dict[int, SignedCommitment] = field(default_factory=dict)
    openings: dict[int, Opening] = field(default_factory=dict)
    equivocated: dict[int, SignedCommitment] = field(default_factory=dict)
    sealed: Batch | None = None
    posted: Batch | None = None
    look_at: float = 0.0
    fetching: threading.Thread | None = None


class Mailbox:
    """Keeps what was left for each round, on disk, so that a crash of the aggregator loses none of it.

    Parameters
    ----------
    ledger, history
        The ledger, and its state from logs; shared at most with who runs in the same thread.
    task
        The task's id.
    folder
        Where messages are kept.
    store
        Where the commitments of a posted root are looked for, of which some may never have come here: a standby's
        mailbox may have been away. Without one nothing is looked for.
    """

    def __init__(
        self, ledger: Ledger, history: History, task: int, folder: Path, store: ContentStore | None = None
    ) -> None:
        self._history, self._task, self._folder, self._store = history, task, folder, store
        self._place = place_of(ledger, task)
        self._rounds: dict[int, _Round] = {}
        self._lock = threading.RLock()
        self._ask_at = 0.0
        self._scores = ScoreBox(history, task, self._place, lambda index: self._path(index, "scores"))
        folder.mkdir(parents=True, exist_ok=True)

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Take a signed commitment; the same one may come again.

        Raises
        ------
        PostRefusedError
            If the round's commit phase is over, the participant is not selected, its signer did not sign this, or it
            signed something else before.
        """
        with self._lock:
            current, kept = self._open(index, signed.participant)
            known = kept.commitments.get(signed.participant)
            if known is not None and known.commitment == signed.commitment:
                return
            message = commitment_message(self._place, index, signed.participant, signed.commitment)
            if recover(message, signed.signature) != self._history.signers[signed.participant]:
                raise MailboxRefusedError(
                    f"The commitment for round {index} is not signed by participant {signed.participant}'s signer.",
                    "Sign with the key of the registered signer, for this chain, ledger and task.",
                )
            if known is not None:
                # One is proof enough, and no more may fill the disk.
                if signed.participant not in kept.equivocated:
                    self._write(index, "equivocation", signed)
                    kept.equivocated[signed.participant] = signed
                raise MailboxRefusedError(f"Participant {signed.participant} signed two commitments for round {index}.")
            if kept.sealed is not None or current.root is not None:
                raise MailboxRefusedError(f"The commitments of round {index} are closed.", "Commit on chain.")
            self._write(index, "commitment", signed)
            kept.commitments[signed.participant] = signed

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        """Return what a participant has signed for a round, if that was left here."""
        with self._lock:
            return self._open(index, participant)[1].commitments.get(participant)

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        """Take what opens a participant's commitment; the same may come again.

        Returns
        -------
        bool
            True, as nobody else needs it.

        Raises
        ------
        PostRefusedError
            If it opens nothing that the participant committed to.
        """
        with self._lock:
            current, kept = self._open(index, participant)
            signed, signer = kept.commitments.get(participant), self._history.signers[participant]
            if not 0 <= staleness < len(current.bases):
                most = len(current.earlier)
                raise MailboxRefusedError(f"Round {index} takes no staleness of {staleness}, but {most} at most.")
            base = current.bases[staleness].digest
            opened = commitment(self._place, index, signer, base, update, salt)
            if (signed is None or signed.commitment != opened) and not self._is_known(index, participant, opened):
                raise MailboxRefusedError(f"This opens no commitment of participant {participant} in round {index}.")
            if update.length > MAX_LENGTH:
                raise MailboxRefusedError(f"The update has {update.length} bytes, more than a proposal can name.")
            if participant not in kept.openings:
                # The nearest, where two bases are the same model: nobody may be called staler than it is.
                opening = Opening(update, salt, current.staleness_of(base) or 0)
                self._write(index, "opening", participant, opening)
                kept.openings[participant] = opening
            return True

    def commit_scores(self, index: int, signed: SignedCommitment) -> None:
        """Take a scorer's signed commitment; see :meth:`ScoreBox.commit`."""
        with self._lock:
            self._asked(lambda: self._scores.is_scorer(index, signed.participant))
            self._scores.commit(index, signed)

    def reveal_scores(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> bool:
        """Take a scorer's scores; see :meth:`ScoreBox.reveal`. True is returned, as nobody else needs them."""
        with self._lock:
            self._asked(lambda: self._scores.is_scorer(index, participant))
            self._scores.reveal(index, participant, salt, words)
            return True

    def score_commitments(self, index: int) -> Mapping[int, SignedCommitment]:
        """Return the scorers' commitments that came for a round, by participant id."""
        with self._lock:
            return self._scores.commitments(index)

    def revealed_scores(self, index: int) -> Mapping[int, RevealedScores]:
        """Return the scores that came for a round, by participant id."""
        with self._lock:
            return self._scores.revealed(index)

    def _is_known(self, index: int, participant: int, opened: bytes) -> bool:
        """Return whether a commitment is on chain, or in the root that was posted."""
        kept = self._kept(index)

        def is_on_chain() -> bool:
            current = self._round(index)
            return current is not None and current.commitments.get(participant) == opened

        if self._asked(is_on_chain):
            return True
        current = self._round(index)
        if self._store is None or current is None or current.root is None:
            return False
        if kept.posted is None or kept.posted.root != current.root:
            self._fetch(self._store, current, kept)
        posted = kept.posted if kept.posted and kept.posted.root == current.root else None
        signed = posted.by_participant.get(participant) if posted else None
        return signed is not None and signed.commitment == opened

    def _fetch(self, store: ContentStore, current: RoundHistory, kept: _Round) -> None:
        """Fetch the commitments of the posted root; somebody else posted them, and they may come slowly or never."""

        def fetch() -> None:
            try:
                with within(lambda: STORE_SECONDS):
                    kept.posted = posted_batch(store, current)
            except (RoundError, StoreError) as error:
                log.warning("round %d: %s", current.index, error)
            finally:
                kept.look_at = time.monotonic() + LOOK_AGAIN

        if kept.fetching is None or not (kept.fetching.is_alive() or time.monotonic() < kept.look_at):
            kept.fetching = threading.Thread(target=fetch, daemon=True)
            kept.fetching.start()
            kept.fetching.join(WAIT_FOR_STORE)

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the round's root, or None if it is not in it.

        Nor is there one to a round that does not exist or is final, for which nobody needs it.
        """
        with self._lock:
            current = self._round(index)
            if current is None or current.settled or current.voided:
                return None
            sealed = self._kept(index).sealed
            return None if sealed is None else sealed.proof(participant)

    def seal(self, index: int) -> Batch:
        """Take no more commitments for a round and return those that came; always the same for a round."""
        with self._lock:
            kept = self._kept(index)
            if kept.sealed is None:
                batch = Batch(tuple(kept.commitments[i] for i in sorted(kept.commitments)))
                # Before the root is posted, so that a program that starts again cannot mean another one.
                durable_files.write_atomically(self._path(index, "sealed"), batch.encode())
                kept.sealed = batch
            return kept.sealed

    def sealed(self, index: int) -> Batch | None:
        """Return what :meth:`seal` returned for a round, or None if it was not called."""
        with self._lock:
            return self._kept(index).sealed

    def committed(self, index: int) -> set[int]:
        """Return the participants whose commitments came."""
        with self._lock:
            return set(self._kept(index).commitments)

    def openings(self, index: int) -> dict[int, Opening]:
        """Return what was revealed, by participant id."""
        with self._lock:
            return dict(self._kept(index).openings)

    def equivocations(self, index: int) -> list[tuple[SignedCommitment, SignedCommitment]]:
        """Return what was signed by who signed two commitments for a round."""
        with self._lock:
            kept = self._kept(index)
            return [(kept.commitments[i], second) for i, second in sorted(kept.equivocated.items())]

    def _open(self, index: int, participant: int) -> tuple[RoundHistory, _Round]:
        def is_known() -> bool:
            task = self._history.tasks.get(self._task)
            return task is not None and index <= max(task.rounds, default=0)

        self._asked(is_known)
        task = self._history.task(self._task)
        current = task.rounds.get(index)
        if current is None or index != max(task.rounds) or current.proposal is not None or current.voided:
            raise MailboxRefusedError(f"Round {index} of task {self._task} is not open.")
        if participant not in current.owners:
            raise MailboxRefusedError(f"Participant {participant} is not selected for round {index}.")
        return current, self._kept(index)

    def _round(self, index: int) -> RoundHistory | None:
        task = self._history.tasks.get(self._task)
        return None if task is None else task.rounds.get(index)

    def _asked(self, is_there: Callable[[], bool]) -> bool:
        """Return whether the ledger has something; it is asked if that is not known, but not too often in vain."""
        if is_there():
            return True
        began = time.monotonic()
        if began < self._ask_at:
            return False
        try:
            self._history.update()
        finally:
            found, now = is_there(), time.monotonic()
            if not found:
                self._ask_at = now + min(ASK_AGAIN_AT_LAST, max(ASK_AGAIN, REST * (now - began)))
        return found

    def _kept(self, index: int) -> _Round:
        if index not in self._rounds:
            self._forget()
            kept = self._rounds[index] = _Round()
            for entry in self._read(index):
                _remember(kept, entry)
            sealed = self._path(index, "sealed")
            kept.sealed = Batch.decode(durable_files.read(sealed)) if durable_files.exists(sealed) else None
        return self._rounds[index]

    def _forget(self) -> None:
        """Forget the rounds that are final; all is on disk."""
        task = self._history.tasks.get(self._task)
        unfinal = {current.index for current in task.unfinal} if task is not None else set()
        self._rounds = {index: kept for index, kept in self._rounds.items() if index in unfinal}

    def _path(self, index: int, kind: str) -> Path:
        chain, address, task = self._place
        return self._folder / f"{chain}-{address}-{task}-{index}.{kind}"

    def _read(self, index: int) -> Iterator[dict[str, Any]]:
        path = self._path(index, "jsonl")
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                yield canonical.parse(line)
            except ValueError:
                # The last line may be cut off; its sender was never told that it was taken.
                continue

    def _write(self, index: int, kind: str, *content: object) -> None:
        match content:
            case (SignedCommitment() as signed,):
                entry: dict[str, object] = {
                    "participant": signed.participant,
                    "commitment": signed.commitment.hex(),
                    "signature": signed.signature.hex(),
                }
            case (int() as participant, Opening() as opening):
                entry = {
                    "participant": participant,
                    "digest": opening.update.digest.hex(),
                    "length": opening.update.length,
                    "salt": opening.salt.hex(),
                    "staleness": opening.staleness,
                }
            case _:
                raise TypeError(f"{kind} cannot be written down")
        durable_files.append(self._path(index, "jsonl"), json.dumps({"kind": kind, **entry}) + "\n")


def _remember(kept: _Round, entry: dict[str, Any]) -> None:
    """Keep what a line of the mailbox's file says.

    Raises
    ------
    StoreError
        If it says nothing that a mailbox writes.
    """
    try:
        participant = strict.whole(entry["participant"], 0, MAX_PARTICIPANT)
        if entry["kind"] == "opening":
            length = strict.whole(entry["length"], 0, MAX_LENGTH)
            update = ContentRef(strict.hexadecimal(entry["digest"], 32), length)
            steps = strict.whole(entry.get("staleness", 0), 0, MAX_STALENESS)
            kept.openings[participant] = Opening(update, strict.hexadecimal(entry["salt"], 32), steps)
            return
        parts = strict.hexadecimal(entry["commitment"], 32), strict.hexadecimal(entry["signature"], 65)
        known = {"commitment": kept.commitments, "equivocation": kept.equivocated}[entry["kind"]]
        known[participant] = SignedCommitment(participant, *parts)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"The mailbox's file has a line that no mailbox writes: {error}.") from error
