"""Files that exist completely or not at all, even if the program is killed or the power fails.

Making a file durable means waiting for the disk, which takes longer than the rest of a round of a small model.
A process that plays many parties makes their files durable in batches: within :func:`batched_writes` a file stays in
memory until :func:`flush`, which a party calls before it sends anything to another process. So content is on the disk
before the ledger names it, and a commitment before it is posted. Everybody in the process sees unwritten files. Threads
write them in the background, under temporary names, so most of the disk's time passes beside other work.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fedledger.protocol.errors import StoreError

Name = Path | str
"""A file's path; a string where there are many, because pathlib takes several times as long as the system call."""
TEMPORARY = ".tmp-"
"""Prefix of a file's name until all of it is on the disk."""
STALE_SECONDS = 3600.0
"""Age at which such a file is abandoned: its program was killed before all of it was on the disk."""
_numbers, _own = itertools.count(), secrets.token_hex(8)
MAX_BATCH_BYTES = 64 * 1024 * 1024
"""Most bytes of unwritten files; beyond them a batch is made durable at once."""
AT_ONCE = 8
"""Threads that wait for the disk: a file system makes durable in one step what they wait for at the same time."""
SYNCED_AT_ONCE = 4
"""Threads that wait for folders: once one is on the disk, most file systems have all of them there."""
MOST_OPEN = 32
"""Most files that a thread has open at the same time."""
BEGUN_AT = 1024 * 1024
"""Bytes after which a thread begins to write, as it does after ``MOST_OPEN`` files."""


def write_atomically(path: Name, data: bytes) -> None:
    """Write a file; its folder must be there.

    Raises
    ------
    OSError
        If it cannot be written.
    StoreError
        If another file of the batch cannot be written.
    """
    batch = _batch()
    if batch is None:
        _rename(_written([(str(path), data)]))
        _sync_folder(_folder(path))
    else:
        batch.write(path, data)


def link(path: Name, source: Name, data: bytes) -> None:
    """Link a file of this module to another name, replacing any file of that name; ``data`` is its content.

    A link takes a fraction of the time of another file, and no space. Without hard links the file is written again.

    Raises
    ------
    OSError
        If it cannot be written.
    StoreError
        If another file of the batch cannot be written.
    """
    batch = _batch()
    if batch is not None:
        batch.link(path, source, data)
    elif _link(str(source), str(path)):
        _sync_folder(_folder(path))
    else:
        write_atomically(path, data)


def append(path: Name, text: str) -> None:
    """Append to a text file, after all earlier writes; a kill may leave an incomplete line.

    Nobody waits until the text is on the disk.
    """
    batch = _batch()
    if batch is None:
        _append([(str(path), text)])
    else:
        batch.append(path, text)


def make_folder(path: Path) -> None:
    """Make a folder in an existing one, unless it exists."""
    if path.is_dir():
        return
    path.mkdir(exist_ok=True)
    batch = _batch()
    if batch is None:
        _sync_folder(path.parent)
    else:
        batch.folders.add(str(path.parent))


def read(path: Name, limit: int = -1) -> bytes:
    """Return a file's bytes, at most ``limit`` of them unless it is negative; raises OSError as reading does."""
    batch = _batch()
    found = None if batch is None else batch.files.get(str(path))
    if found is not None:
        return found if limit < 0 else found[:limit]
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        return file.read(limit) or b""


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe in its place, which somebody else may have put there, is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def unwritten(path: Name) -> bytes | None:
    """Return a file's bytes if this process has not written them yet, and otherwise None."""
    batch = _batch()
    return None if batch is None else batch.files.get(str(path))


def exists(path: Name) -> bool:
    """Return whether the file exists."""
    batch = _batch()
    return (batch is not None and str(path) in batch.files) or os.path.exists(path)


def remove(path: Name) -> None:
    """Remove a file if it exists."""
    batch = _batch()
    if batch is not None:
        batch.remove(path)
    _unlink(str(path))


def listed(folder: Path, pattern: str) -> set[Path]:
    """Return the files of a folder whose names match a pattern."""
    batch = _batch()
    unwritten = () if batch is None else batch.names.get(str(folder), ())
    return {*folder.glob(pattern), *(folder / name for name in unwritten if fnmatchcase(name, pattern))}


def remove_stale(folder: Path, part: str = "") -> None:
    """Remove unfinished files of killed programs from a folder, or from its subfolders that match ``part``."""
    for file in folder.glob(f"{part}/{TEMPORARY}*" if part else f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()


def begin() -> None:
    """Begin to write the batch: somebody will call :func:`flush` soon."""
    batch = _batch()
    if batch is not None:
        batch.begin()


def flush() -> None:
    """Make the batch durable.

    Raises
    ------
    StoreError
        If it cannot be written; its files then stay in memory.
    """
    batch = _batch()
    if batch is not None:
        batch.flush()


@contextmanager
def batched_writes() -> Iterator[None]:
    """Batch what this process writes until somebody calls :func:`flush`, or until the end of the context.

    A nested context changes nothing. Processes that are forked within it do not take part.
    """
    if _batch() is not None:
        yield
        return
    _Batch.current = batch = _Batch()
    try:
        yield
    finally:
        try:
            batch.flush()
        finally:
            _Batch.current = None
            batch.close()


class _Batch:
    """Unwritten files by path, their names by folder, and the links and lines that follow them.

    Paths are strings here: those of pathlib take several times as long to look up.
    """

    current: _Batch | None = None

    def __init__(self) -> None:
        self.process = os.getpid()
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = set()
        self.names: dict[str, set[str]] = {}
        self._links: dict[str, str] = {}
        self._lines: list[tuple[str, str]] = []
        self._size = 0
        self._next: list[tuple[str, bytes]] = []
        self._next_size = 0
        self._begun: list[Future[list[_Written]]] = []
        self._lock = threading.RLock()
        self._threads = ThreadPoolExecutor(AT_ONCE, "disk")

    def write(self, path: Name, data: bytes) -> None:
        with self._lock:
            key = self._add(path, data)
            self._links.pop(key, None)
            self._next.append((key, data))
            self._next_size += len(data)
            if len(self._next) == MOST_OPEN or self._next_size > BEGUN_AT:
                self._begin(self._next)
                self._next, self._next_size = [], 0
            self._bound()

    def link(self, path: Name, source: Name, data: bytes) -> None:
        with self._lock:
            self._links[self._add(path, data)] = str(source)
            self._bound()

    def _add(self, path: Name, data: bytes) -> str:
        key = str(path)
        self.files[key] = data
        self.names.setdefault(_folder(key), set()).add(os.path.basename(key))
        self._size += len(data)
        return key

    def _bound(self) -> None:
        if self._size > MAX_BATCH_BYTES:
            self.flush()

    def remove(self, path: Name) -> None:
        with self._lock:
            key = str(path)
            if self.files.pop(key, None) is not None:
                self.names[_folder(key)].discard(os.path.basename(key))
                self._links.pop(key, None)

    def append(self, path: Name, text: str) -> None:
        with self._lock:
            self._lines.append((str(path), text))

    def flush(self) -> None:
        with self._lock:
            try:
                self._write()
                _append(self._lines)
            except OSError as error:
                raise StoreError(
                    f"{len(self.files)} files could not be written, such as {error.filename}: {error.strerror}.",
                    "Free some space or choose another folder, then resume.",
                ) from error
            self.files, self.folders, self.names, self._size = {}, set(), {}, 0
            self._links, self._lines = {}, []

    def close(self) -> None:
        self._threads.shutdown()

    def begin(self) -> None:
        with self._lock:
            for place in range(min(AT_ONCE, len(self._next))):
                self._begin(self._next[place::AT_ONCE])
            self._next, self._next_size = [], 0

    def _begin(self, files: Sequence[tuple[str, bytes]]) -> None:
        self._begun.append(self._threads.submit(_written, files))

    def _write(self) -> None:
        """Wait until all files are on the disk, and give them their names."""
        self.begin()
        begun, self._begun = self._begun, []
        try:
            for future in begun:
                _rename(one for one in future.result() if self._is_newest(one))
            self._link_all()
            folders = [*{*self.folders, *(folder for folder, names in self.names.items() if names)}]
            shares = (folders[place::SYNCED_AT_ONCE] for place in range(min(SYNCED_AT_ONCE, len(folders))))
            for waiting in [self._threads.submit(_sync_folders, share) for share in shares]:
                waiting.result()
        except OSError:
            self._next, self._links = list(self.files.items()), {}
            raise
        finally:
            wait(begun)
            for written in (one for future in begun if future.exception() is None for one in future.result()):
                if not written.named:
                    _unlink(written.temporary)

    def _is_newest(self, written: _Written) -> bool:
        return self.files.get(written.path) is written.data and written.path not in self._links

    def _link_all(self) -> None:
        """Link files to their other names, now that all exist."""
        others = []
        for path, source in self._links.items():
            data = self.files[path]
            # The source may have been replaced since.
            if self.files.get(source, data) != data or not _link(source, path):
                others.append((path, data))
        _rename(_written(others))


def _batch() -> _Batch | None:
    batch = _Batch.current
    return batch if batch is not None and batch.process == os.getpid() else None


@dataclass
class _Written:
    """A file that is on the disk under a temporary name."""

    path: str
    data: bytes
    temporary: str
    named: bool = False


def _written(files: Sequence[tuple[str, bytes]]) -> list[_Written]:
    """Write files under temporary names and wait until they are on the disk; if one fails, none is left."""
    written: list[_Written] = []
    handles: list[int] = []
    try:
        for path, data in files:
            temporary = _temporary(_folder(path))
            handles.append(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            written.append(_Written(path, data, temporary))
            _write_all(handles[-1], data)
        for handle in handles:
            os.fsync(handle)
    except BaseException:
        for one in written:
            _unlink(one.temporary)
        raise
    finally:
        for handle in handles:
            os.close(handle)
    return written


def _folder(path: Name) -> str:
    return os.path.dirname(path) or os.curdir


def _temporary(folder: str) -> str:
    """Return a name that no other process uses, and this one never again."""
    return f"{folder}/{TEMPORARY}{_own}-{os.getpid()}-{next(_numbers)}"


def _rename(written: Iterable[_Written]) -> None:
    for one in written:
        os.replace(one.temporary, one.path)
        one.named = True


def _link(source: str, path: str) -> bool:
    """Link a file to another name; return whether the file system can do this."""
    if path == source:
        return True
    temporary = _temporary(_folder(path))
    try:
        os.link(source, temporary)
    except OSError:
        return False
    os.replace(temporary, path)
    # If both already are names of one file, the step before does nothing.
    _unlink(temporary)
    return True


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _append(lines: Iterable[tuple[str, str]]) -> None:
    by_path: dict[str, list[str]] = {}
    for path, text in lines:
        by_path.setdefault(path, []).append(text)
    for path, texts in by_path.items():
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # A kill has cut the last line off; what comes after it is a line of its own.
                    texts.insert(0, "\n")
            file.write("".join(texts).encode())


def _sync_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        _sync_folder(folder)


def _sync_folder(folder: Name) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
