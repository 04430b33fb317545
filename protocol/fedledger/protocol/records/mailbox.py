"""What a participant of a batched task and its aggregator tell each other off the chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.commitment_batch import SignedCommitment


class MailboxClient(Protocol):
    """What a participant needs of an aggregator off the chain."""

    def commit(self, index: int, signed: SignedCommitment) -> None:
        """Leave a signed commitment for a round."""
        ...

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        """Return what a participant has signed for a round, if that was left here; the caller checks the signature."""
        ...

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the round's root, or None if it is not in it."""
        ...

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        """Leave what opens a commitment; return whether all who may need it have it by now."""
        ...

    def commit_scores(self, index: int, signed: SignedCommitment) -> None:
        """Leave a scorer's signed commitment to its scores of a round."""
        ...

    def reveal_scores(self, index: int, participant: int, salt: bytes, words: Sequence[int]) -> bool:
        """Leave a scorer's scores of a round; return whether all who may need them have them by now."""
        ...


class MailboxRefusedError(RoundError):
    """A message that the aggregator does not take, and why."""
