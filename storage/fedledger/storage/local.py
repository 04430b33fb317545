"""A content store in a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.storage import durable_files
from fedledger.storage.base import check_limit, checked


class LocalStore:
    """A content store in a folder, which several programs may share.

    A file appears under its name only when all of it is on disk, so a program killed in the middle of a write
    leaves nothing but a temporary file, which a later one removes.

    Parameters
    ----------
    folder
        Made if it is not there.
    reading
        Whether it is only read, and nothing is made or cleared away: somebody else may have made the folder.
    """

    def __init__(self, folder: Path, reading: bool = False) -> None:
        self.folder = folder
        self._parts: set[str] = set()
        if reading:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store's folder {folder} cannot be made: {error.strerror}.", "Choose another folder."
            ) from error
        durable_files.remove_stale(folder, "*")

    def put(self, data: bytes, file: durable_files.Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        """Store bytes and return their reference; a damaged copy is replaced."""
        ref = ref or ContentRef.of(data)
        path = self._path(ref)
        if durable_files.exists(path):
            with contextlib.suppress(StoreError):
                self.get(ref)
                return ref
        try:
            self._make_part(ref.cid[-2:])
            if file is None:
                durable_files.write_atomically(path, data)
            else:
                durable_files.link(path, file, data)
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
        if (unwritten := durable_files.unwritten(self._path(ref))) is not None:
            return unwritten
        try:
            data = durable_files.read(self._path(ref), ref.length + 1)
        except FileNotFoundError as error:
            raise ContentUnavailableError(
                f"{ref.cid} is not in the store {self.folder}.",
                "Give the store that has it with --store or --store-dir, or fetch it from whoever pins it.",
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
        durable_files.remove(self._path(ref))

    def _make_part(self, name: str) -> None:
        if name not in self._parts:
            durable_files.make_folder(self.folder / name)
            self._parts.add(name)

    def _path(self, ref: ContentRef) -> str:
        return f"{self.folder}/{ref.cid[-2:]}/{ref.cid}"
