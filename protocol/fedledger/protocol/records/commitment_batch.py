"""A batched round's commitments: each one signed, all of them posted as one Merkle root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fedledger.protocol.encoding import canonical, strict
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import MerkleTree

BATCH_VERSION = 1
EMPTY_ROOT = bytes(32)
MAX_PARTICIPANT = 2**32 - 1
MAX_STALENESS = 64
"""Most models before a round's base that an update may be relative to; the ledger's own bound."""


@dataclass(frozen=True)
class SignedCommitment:
    """A commitment (32 bytes) with the EIP-712 signature (65 bytes) of the participant's signer."""

    participant: int
    commitment: bytes
    signature: bytes

    @property
    def leaf(self) -> bytes:
        """ABI encoding of the leaf in the round's tree: the participant's id and the commitment."""
        return leaf(self.participant, self.commitment)


@dataclass(frozen=True)
class Opening:
    """What opens a commitment: the update, the salt (32 bytes), and how many models back the update's base lies."""

    update: ContentRef
    salt: bytes
    staleness: int = 0


@dataclass(frozen=True)
class Batch:
    """The commitments of a round by ascending participant id, and what opens them besides the updates.

    Salts (32 bytes) are there of all who revealed to the aggregator, also of those who committed on chain; their
    staleness, too, where it is not 0.
    """

    commitments: tuple[SignedCommitment, ...]
    salts: Mapping[int, bytes] = field(default_factory=dict)
    staleness: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def by_participant(self) -> dict[int, SignedCommitment]:
        """The commitments by participant id."""
        return {signed.participant: signed for signed in self.commitments}

    @property
    def root(self) -> bytes:
        """The root that the ledger holds; zero for no commitment."""
        return self._tree.root if self.commitments else EMPTY_ROOT

    def proof(self, participant: int) -> list[bytes] | None:
        """Return the way from a participant's commitment to the root, or None if it is not there."""
        if participant not in self.by_participant:
            return None
        return self.proof_at(self._places[participant])

    def proof_at(self, place: int) -> list[bytes]:
        """Return the way from the commitment at a place of this batch to the root."""
        return self._tree.proof(place)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        rows = [
            {
                "participant": signed.participant,
                "commitment": signed.commitment.hex(),
                "signature": signed.signature.hex(),
            }
            for signed in self.commitments
        ]
        salts = {str(participant): salt.hex() for participant, salt in self.salts.items()}
        document: dict[str, object] = {"version": BATCH_VERSION, "commitments": rows, "salts": salts}
        # Left out where nothing is stale, so that such a batch has the bytes that it always had.
        if stale := {str(participant): steps for participant, steps in self.staleness.items() if steps}:
            document["staleness"] = stale
        return canonical.encode(document)

    @classmethod
    def decode(cls, data: bytes) -> Batch:
        """Read a batch from its canonical bytes.

        Raises
        ------
        ValueError
            If the bytes are no batch, or its participants do not ascend.
        """
        batch = cls.read(data)
        ids = [row.participant for row in batch.commitments]
        if ids != sorted(set(ids)):
            raise ValueError("the participants of a batch must ascend")
        return batch

    @classmethod
    def read(cls, data: bytes) -> Batch:
        """Read what may be a dishonest batch: its participants come in any order, and perhaps twice.

        Raises
        ------
        ValueError
            If the bytes are no batch.
        """
        document = canonical.decode(data)
        try:
            known = set(document) - {"staleness"} == {"version", "commitments", "salts"}
            if not known or document["version"] != BATCH_VERSION:
                raise ValueError("this release does not know its fields or its version")
            rows = [
                SignedCommitment(
                    strict.whole(row["participant"], 0, MAX_PARTICIPANT),
                    strict.hexadecimal(row["commitment"], 32),
                    strict.hexadecimal(row["signature"], 65),
                )
                for row in document["commitments"]
            ]
            salts = {_id(key): strict.hexadecimal(salt, 32) for key, salt in document["salts"].items()}
            stale = {
                _id(key): strict.whole(steps, 1, MAX_STALENESS) for key, steps in document.get("staleness", {}).items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no batch of commitments: {error}") from error
        batch = cls(tuple(rows), salts, stale)
        # Whatever was overlooked above, such as a field too many: a batch has the bytes that it is written in.
        if batch.encode() != data:
            raise ValueError("no batch of commitments: it has other canonical bytes")
        return batch

    @cached_property
    def _places(self) -> dict[int, int]:
        return {signed.participant: place for place, signed in enumerate(self.commitments)}

    @cached_property
    def _tree(self) -> MerkleTree:
        return MerkleTree([signed.leaf for signed in self.commitments])


def leaf(participant: int, commitment: bytes) -> bytes:
    """Return the ABI encoding of a leaf in a round's tree."""
    if participant >> 32 or len(commitment) != 32:
        raise ValueError(f"{participant} and {commitment.hex()} are no leaf")
    return participant.to_bytes(32, "big") + commitment


def _id(key: str) -> int:
    return strict.decimal(key, MAX_PARTICIPANT)
