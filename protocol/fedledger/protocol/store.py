"""The content store: bytes by content id, re-hashed whenever they are read."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from fedledger.protocol import disk
from fedledger.protocol.cid import MAX_OBJECT_BYTES, ContentRef
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError

T = TypeVar("T")

log = logging.getLogger(__name__)

STORE_PATIENCE, STORE_PAUSE = 300.0, 0.5


class ContentStore(Protocol):
    """Where updates, models, states and reports lie."""

    def put(self, data: bytes, file: disk.Name | None = None, ref: ContentRef | None = None) -> ContentRef:
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


class LocalStore:
    """A content store in a folder, which several programs may share.

    A file appears under its name only when all of it is on disk, so a program killed in the middle of a write
    leaves nothing but a temporary file, which a later one removes.

    Parameters
    ----------
    folder
        Made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store's folder {folder} cannot be made: {error.strerror}.", "Choose another folder."
            ) from error
        disk.remove_stale(folder, "*")

    def put(self, data: bytes, file: disk.Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        """Store bytes and return their reference; a damaged copy is replaced."""
        ref = ref or ContentRef.of(data)
        path = self._path(ref)
        if disk.exists(path):
            with contextlib.suppress(StoreError):
                self.get(ref)
                return ref
        try:
            self._make_part(ref.cid[-2:])
            if file is None:
                disk.write_atomically(path, data)
            else:
                disk.link(path, file, data)
        except OSError as error:
            raise StoreError(
                f"{len(data)} bytes could not be stored in {self.folder}: {error.strerror}.",
                "Free some space or choose another folder, then resume.",
            ) from error
        return ref

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return the bytes of a reference; see :meth:`ContentStore.get`."""
        check_limit(ref, limit)
        # What is held under this name was put there by its reference, in this process.
        if (held := disk.held(self._path(ref))) is not None:
            return held
        try:
            data = disk.read(self._path(ref), ref.length + 1)
        except FileNotFoundError as error:
            raise ContentUnavailableError(
                f"{ref.cid} is not in the store {self.folder}.", "Fetch it from whoever pins it."
            ) from error
        except OSError as error:
            raise StoreError(
                f"{ref.cid} cannot be read from {self.folder}: {error.strerror}.",
                "Make the folder readable, then resume.",
            ) from error
        return checked(ref, data, str(self.folder))

    def has(self, ref: ContentRef) -> bool:
        """Return whether an undamaged copy is there."""
        try:
            self.get(ref)
        except (ContentUnavailableError, ContentCorruptError):
            return False
        return True

    def pin(self, ref: ContentRef) -> None:
        """Check that an undamaged copy is there; it stays until it is unpinned."""
        self.get(ref)

    def unpin(self, ref: ContentRef) -> None:
        """Remove the copy, for all who share the folder."""
        disk.remove(self._path(ref))

    def _make_part(self, name: str) -> None:
        if name not in self._parts:
            disk.make_folder(self.folder / name)
            self._parts.add(name)

    def _path(self, ref: ContentRef) -> str:
        return f"{self.folder}/{ref.cid[-2:]}/{ref.cid}"


def outlast(step: Callable[[], T], patience: float = STORE_PATIENCE) -> T:
    """Return what a step gives; it is taken again, for ``patience`` seconds, while the store lacks what it needs."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return step()
        except StoreError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s", error)
            time.sleep(STORE_PAUSE)


def open_store(where: str, folder: Path) -> ContentStore:
    """Open a store: ``local`` (in ``folder``), or an IPFS daemon by multiaddr or URL."""
    if where == "local":
        return LocalStore(folder)
    from fedledger.protocol.ipfs import IpfsStore

    return IpfsStore(where)


def check_limit(ref: ContentRef, limit: int | None) -> None:
    """Raise ContentUnavailableError if the content is longer than the limit, before anything is read."""
    limit = MAX_OBJECT_BYTES if limit is None else min(limit, MAX_OBJECT_BYTES)
    if ref.length > limit:
        raise ContentUnavailableError(
            f"{ref.cid} has {ref.length} bytes, the limit is {limit}.", "Ask its author for a smaller one."
        )


def checked(ref: ContentRef, data: bytes, where: str) -> bytes:
    """Return the data if it hashes to the reference, else raise ContentCorruptError."""
    if len(data) != ref.length or ContentRef.of(data) != ref:
        raise ContentCorruptError(f"What {where} returns for {ref.cid} is something else.", "Fetch it from elsewhere.")
    return data
