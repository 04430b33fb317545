"""What a batched round's record lacks on chain, completed from its batch of commitments and checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedledger.contracts.client import Ledger, Reveal
from fedledger.contracts.history import RoundHistory
from fedledger.protocol.batch import Batch
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import RoundError
from fedledger.protocol.messages import LEDGER_VERSION, commitment, commitment_message, recover

Place = tuple[int, str, int]
"""Chain id, ledger address and task: what all commitments of a task are bound to besides the round."""


class BatchError(RoundError):
    """A batch that does not follow from the ledger; ``field`` names the first thing that differs."""

    def __init__(self, field: str, expected: Any, found: Any) -> None:
        super().__init__(f"The batch of commitments does not follow from the ledger: {field}.")
        self.field, self.expected, self.found = field, expected, found


def place_of(ledger: Ledger, task: int) -> Place:
    """Return what a task's commitments are bound to."""
    return ledger.chain.chain_id, ledger.address, task


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
        If root, count or a signature is another one, or an update is not what its participant committed to.
    """
    if batch.root != current.root:
        raise BatchError("root of commitments", current.root and current.root.hex(), batch.root.hex())
    if len(batch.commitments) != current.count:
        raise BatchError("count of commitments", current.count, len(batch.commitments))
    commits, commitments = dict(current.commits), dict(current.commitments)
    for signed in batch.commitments:
        owner = current.owners.get(signed.participant)
        if owner is None:
            raise BatchError(f"commitment of participant {signed.participant}", "a selected participant", None)
        message = commitment_message(*place, current.index, signed.participant, signed.commitment, version)
        signers, found = current.signers[signed.participant], recover(message, signed.signature)
        if found is None or found not in signers:
            raise BatchError(f"signature of {owner}", signers[0], found)
        # Who is in the root and on chain, too, has both: any one of them can be opened.
        commits[signed.participant] = found
        commitments.setdefault(signed.participant, signed.commitment)
    reveals = dict(current.reveals)
    for participant, update in updates.items():
        owner = current.owners.get(participant, f"participant {participant}")
        if participant not in commits:
            raise BatchError(f"commitment of {owner}", "one, before its update", None)
        salt = reveals[participant].salt if participant in reveals else batch.salts.get(participant, b"")
        known = {commitments[participant]}
        if participant in batch.by_participant:
            known.add(batch.by_participant[participant].commitment)
        opened = commitment(*place, current.index, commits[participant], current.base.digest, update, salt or bytes(32))
        if opened not in known:
            raise BatchError(f"commitment of {owner}", sorted(k.hex() for k in known)[0], opened.hex())
        reveals[participant] = Reveal(participant, update, salt)
    return replace(current, commits=commits, commitments=commitments, reveals=reveals)
