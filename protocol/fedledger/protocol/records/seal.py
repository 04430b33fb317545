"""How a task keeps its validation set from those whose updates are measured on it.

A set may be *sealed*: the spec names its ciphertext, which is stored from the start, and the digest of the key that
opens it once the task has ended. Each round is judged on a slice that the task's stream draws. Or it is *opened* block
by block: the spec names an index of salted blocks, and each round is judged on the one that the task's stream draws,
without replacement until all were used. A task whose spec says nothing of the kind has a public validation set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.documents import Document
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.ref import Ref

SEALED, OPENED, PUBLIC = "sealed", "opened", "public"
PURPOSE = "validation"
"""Of the random stream that draws what a round is judged on."""
MAX_EXAMPLES = 2**31
MAX_BLOCKS = 65_535
"""As many as a task has rounds at most."""
DIGEST_BYTES = 32
_DIGESTS, _LENGTHS = "digests", "lengths"


class SealSpec(Document):
    """How the validation set is kept; a spec without it has a public one."""

    mode: Literal["sealed", "opened"]
    examples: int = Field(ge=1, lt=MAX_EXAMPLES, description="of the whole set")
    slice: int = Field(ge=1, lt=MAX_EXAMPLES, description="examples, at most, that a round is judged on")
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Keccak-256 of the key that opens a sealed set"
    )
    plaintext: Ref | None = Field(None, description="what the key opens the ciphertext of a sealed set to")

    @model_validator(mode="after")
    def _complete(self) -> SealSpec:
        if self.slice > self.examples:
            raise ValueError(f"a slice has {self.slice} examples, and the whole set {self.examples}")
        if (self.key is not None, self.plaintext is not None) != (self.mode == SEALED,) * 2:
            raise ValueError("a sealed set has a key and a plaintext, an opened one neither")
        if self.mode == OPENED and self.blocks > MAX_BLOCKS:
            raise ValueError(f"{self.blocks} blocks are too many: the limit is {MAX_BLOCKS}")
        return self

    @property
    def is_sealed(self) -> bool:
        """Whether nothing of the set can be read before its key is opened."""
        return self.mode == SEALED

    @property
    def blocks(self) -> int:
        """How many blocks an opened set has."""
        return -(-self.examples // self.slice)

    def block_size(self, number: int) -> int:
        """Return how many examples a block of an opened set has; the first ones have one more than the others."""
        return self.examples // self.blocks + (number < self.examples % self.blocks)

    def fits(self, key: bytes) -> bool:
        """Return whether a key is the one that opens the set."""
        return self.key == key_digest(key).hex()


def key_digest(key: bytes) -> bytes:
    """Return what the ledger holds of a seal's key before it is opened: its Keccak-256, 32 bytes."""
    return keccak(key)


def drawn_block(spec_digest: bytes, index: int, blocks: int) -> int:
    """Return the block that round ``index``, from 1, of the task with a spec is judged on.

    Blocks are drawn without replacement; once all were used, they are drawn in another order.
    """
    cycle, place = divmod(max(index, 1) - 1, blocks)
    return _order(spec_digest, cycle, blocks)[place]


@lru_cache(maxsize=16)
def _order(spec_digest: bytes, cycle: int, blocks: int) -> Sequence[int]:
    return stream(spec_digest, PURPOSE, cycle).sample(range(blocks), blocks)


@dataclass(frozen=True)
class BlockIndex:
    """The index of an opened validation set: its blocks by content, in order.

    It is stored as tensors ``digests`` uint8[n, 32] and ``lengths`` int64[n].
    """

    refs: tuple[ContentRef, ...]

    @classmethod
    def of(cls, blocks: Iterable[bytes]) -> BlockIndex:
        """Return the index of some blocks."""
        return cls(tuple(map(ContentRef.of, blocks)))

    def encode(self) -> bytes:
        """Return the bytes whose content id a spec names."""
        digests = np.frombuffer(b"".join(ref.digest for ref in self.refs), np.uint8).reshape(-1, DIGEST_BYTES)
        return tensors.encode({_DIGESTS: digests, _LENGTHS: np.array([ref.length for ref in self.refs], np.int64)})

    @classmethod
    def decode(cls, data: bytes, seal: SealSpec) -> BlockIndex:
        """Read the index of an opened validation set.

        Raises
        ------
        ContentUnreadableError
            If the bytes are no index, or one of another number of blocks than the spec says.
        """
        try:
            named = tensors.decode(data)
            if set(named) != {_DIGESTS, _LENGTHS}:
                raise ValueError(f"it holds other tensors than {_DIGESTS} and {_LENGTHS}")
            digests, lengths = named[_DIGESTS], named[_LENGTHS]
            if digests.dtype != np.uint8 or digests.shape != (seal.blocks, DIGEST_BYTES):
                raise ValueError(f"{_DIGESTS} are {digests.dtype}{list(digests.shape)}; the spec says {seal.blocks}")
            if lengths.dtype != np.int64 or lengths.shape != (seal.blocks,):
                raise ValueError(f"{_LENGTHS} are {lengths.dtype}{list(lengths.shape)}; the spec says {seal.blocks}")
            if not all(0 <= length <= MAX_OBJECT_BYTES for length in lengths.tolist()):
                raise ValueError("a block has a length that no content may have")
        except ValueError as error:
            raise ContentUnreadableError(f"The index of the validation set cannot be read: {error}.") from error
        refs = zip(digests, lengths.tolist(), strict=True)
        return cls(tuple(ContentRef(digest.tobytes(), length) for digest, length in refs))
