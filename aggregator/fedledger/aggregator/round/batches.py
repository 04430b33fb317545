"""What a batched round's record lacks on chain, completed from its batch of commitments and checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedledger.contracts.ledger.records import Reveal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding.canonical import MAX_DOCUMENT_BYTES
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.commitment_batch import Batch, Opening
from fedledger.protocol.records.signatures import LEDGER_VERSION, Place, commitment, commitment_message, recover
from fedledger.storage.base import ContentStore


class BatchError(RoundError):
    """A batch that does not follow from the ledger; ``field`` names the first thing that differs."""

    def __init__(self, field: str, expected: Any, found: Any) -> None:
        super().__init__(f"The batch of commitments does not follow from the ledger: {field}.")
        self.field, self.expected, self.found = field, expected, found


def posted_batch(store: ContentStore, current: RoundHistory) -> Batch:
    """Return the commitments that a round's root is of, from the content that was posted with it.

    Raises
    ------
    RoundError
        If nothing was posted, or it cannot be read, or is of another root.
    StoreError
        If it cannot be had.
    """
    if current.batch is None:
        raise RoundError(f"The commitments of round {current.index} are not stored.", "Let the round be voided.")
    try:
        found = Batch.decode(store.get(current.batch, MAX_DOCUMENT_BYTES))
    except ValueError as error:
        raise RoundError(f"The commitments of round {current.index} cannot be read: {error}.") from error
    if found.root != current.root:
        raise RoundError(f"The commitments of round {current.index} are not those of its root.")
    return found


def opened(sealed: Batch, openings: Mapping[int, Opening]) -> Batch:
    """Return a round's commitments with all that opens them besides the updates."""
    salts = {i: opening.salt for i, opening in openings.items()}
    return replace(sealed, salts=salts, staleness={i: o.staleness for i, o in openings.items() if o.staleness})


def opens(
    current: RoundHistory,
    sealed: Batch,
    participant: int,
    opening: Opening,
    place: Place,
    version: int = LEDGER_VERSION,
) -> bool:
    """Return whether an opening is of what a participant committed to on chain or in the round's root.

    Who signed two commitments may have left with this mailbox what opens the other one.
    """
    signed = sealed.by_participant.get(participant)
    batch = opened(Batch(() if signed is None else (signed,)), {participant: opening})
    try:
        committed = _with_commitments(current, batch, place, version)
        return _reveal(committed, batch, participant, opening.update, place) is not None
    except BatchError:
        return False


def complete(
    current: RoundHistory,
    batch: Batch,
    updates: Mapping[int, ContentRef],
    place: Place,
    version: int = LEDGER_VERSION,
) -> RoundHistory:
    """Return a batched round as if every commitment and reveal had been a transaction.

    Parameters
    ----------
    current
        The round, as the ledger tells it; its commit phase is closed.
    batch
        All signed commitments and the salts.
    updates
        The revealed updates by participant id.
    place
        What the commitments are bound to.
    version
        Version of the ledger.

    Raises
    ------
    BatchError
        If root, count or a signature is another one, or an update is not what its participant committed to, relative to
        a base model of the staleness that the batch says.
    """
    if batch.root != current.root:
        raise BatchError("root of commitments", current.root and current.root.hex(), batch.root.hex())
    if len(batch.commitments) != current.count:
        raise BatchError("count of commitments", current.count, len(batch.commitments))
    signed = _with_commitments(current, batch, place, version)
    reveals = dict(current.reveals)
    for participant, update in updates.items():
        reveals[participant] = _reveal(signed, batch, participant, update, place)
    return replace(signed, reveals=reveals)


def _with_commitments(current: RoundHistory, batch: Batch, place: Place, version: int) -> RoundHistory:
    """Return the round with the commitments of the batch, whose signatures are checked."""
    commits, commitments = dict(current.commits), dict(current.commitments)
    for signed in batch.commitments:
        owner = current.owners.get(signed.participant)
        if owner is None:
            raise BatchError(f"commitment of participant {signed.participant}", "a selected participant", None)
        message = commitment_message(place, current.index, signed.participant, signed.commitment, version)
        signers, found = current.signers[signed.participant], recover(message, signed.signature)
        if found is None or found not in signers:
            raise BatchError(f"signature of {owner}", signers[0], found)
        # Who is in the root and on chain, too, has both: any one of them can be opened.
        commits[signed.participant] = found
        commitments.setdefault(signed.participant, signed.commitment)
    return replace(current, commits=commits, commitments=commitments)


def _reveal(signed: RoundHistory, batch: Batch, participant: int, update: ContentRef, place: Place) -> Reveal:
    """Return the reveal of an update, which its participant must have committed to."""
    owner = signed.owners.get(participant, f"participant {participant}")
    if participant not in signed.commits:
        raise BatchError(f"commitment of {owner}", "one, before its update", None)
    told = signed.reveals.get(participant)
    salt = batch.salts.get(participant, b"") if told is None else told.salt
    staleness = batch.staleness.get(participant, 0) if told is None else told.staleness
    reveal = Reveal(participant, update, salt, staleness)
    known = {signed.commitments[participant]}
    if participant in batch.by_participant:
        known.add(batch.by_participant[participant].commitment)
    fresh = _commitment(signed, reveal, signed.base, place)
    if not staleness and fresh in known:
        return reveal
    fitting = [steps for steps, base in enumerate(signed.bases) if _commitment(signed, reveal, base, place) in known]
    if not fitting:
        raise BatchError(f"commitment of {owner}", sorted(k.hex() for k in known)[0], fresh.hex())
    # Whose base is the same model as a nearer one is not staler for it; who says so on chain has its way.
    if staleness not in (fitting if told else fitting[:1]):
        raise BatchError(f"staleness of {owner}", fitting[0], staleness)
    return reveal


def _commitment(signed: RoundHistory, reveal: Reveal, base: ContentRef, place: Place) -> bytes:
    """Return the commitment to what a participant has revealed, if it is relative to a base model."""
    signer, salt = signed.commits[reveal.participant], reveal.salt or bytes(32)
    return commitment(place, signed.index, signer, base.digest, reveal.update, salt)
