"""The content store: bytes by content id, re-hashed whenever they are read."""

from __future__ import annotations

from typing import Protocol

from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, MAX_STATE_BYTES, ContentRef
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError
from fedledger.storage import durable_files


class Readable(Protocol):
    """Where content can be read."""

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return the bytes of a reference.

        Raises
        ------
        ContentUnavailableError
            If no copy can be had in time, or the content is longer than ``limit`` bytes.
        ContentCorruptError
            If what the store returns does not hash to the reference.
        """
        ...


class ContentStore(Readable, Protocol):
    """Where updates, models, states and reports lie."""

    def put(self, data: bytes, file: durable_files.Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        """Store bytes, pinned, and return their reference; storing them again changes nothing.

        Parameters
        ----------
        data
            The bytes.
        file
            Where they lie for good, if they do: a store on the same disk need not write them again.
        ref
            Their reference, where it has been worked out before; a wrong one makes content that nobody can read.
        """
        ...

    def has(self, ref: ContentRef) -> bool:
        """Return whether the content can be read now."""
        ...

    def pin(self, ref: ContentRef) -> None:
        """Keep content, fetching it first where the store is part of a network.

        Raises
        ------
        ContentUnavailableError
            If no copy can be had in time.
        """
        ...

    def unpin(self, ref: ContentRef) -> None:
        """Let go of content, so that the store may forget it; nothing happens if it is not pinned."""
        ...


def check_limit(ref: ContentRef, limit: int | None) -> None:
    """Raise ContentUnavailableError if the content is longer than the limit, before anything is read."""
    limit = MAX_OBJECT_BYTES if limit is None else min(limit, MAX_STATE_BYTES)
    if ref.length > limit:
        raise ContentUnavailableError(
            f"{ref.cid} has {ref.length} bytes, the limit is {limit}.", "Ask its author for a smaller one."
        )


def checked(ref: ContentRef, data: bytes, where: str) -> bytes:
    """Return the data if it hashes to the reference, else raise ContentCorruptError."""
    if len(data) != ref.length or ContentRef.of(data) != ref:
        raise ContentCorruptError(f"What {where} returns for {ref.cid} is something else.", "Fetch it from elsewhere.")
    return data
