"""Files that are there whole or not at all, also if the program is killed or the power fails.

Making a file durable costs a wait for the disk, which is longer than all else that a round of a small model costs.
Where one process plays many parties, what they write is made durable together: within :func:`together` a file is held
in memory until :func:`flush`, which who is about to tell somebody outside the process calls first. So content is on
the disk before the ledger names it, and a commitment before it is posted. Everybody in the process sees what is held.
Threads write it meanwhile, under other names: so most of the disk's time passes beside other work.
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
"""A file's path; where there are many, a text, as pathlib takes several times as long over it as the system."""
TEMPORARY = ".tmp-"
"""What the name of a file begins with until all of it is on the disk."""
STALE_SECONDS = 3600.0
"""Age from which on such a file is nobody's: a program was killed before all of it was on the disk."""
_numbers, _own = itertools.count(), secrets.token_hex(8)
MOST_HELD = 64 * 1024 * 1024
"""Bytes that are held at most; more are made durable at once."""
AT_ONCE = 8
"""Threads that wait for the disk: what they wait for at the same time a file system makes durable in one step."""
SYNCED_AT_ONCE = 4
"""Threads that wait for folders: once one is on the disk, most file systems have all of them there."""
MOST_OPEN = 32
"""Files that a thread has open at the same time."""
BEGUN_AT = 1024 * 1024
"""Bytes, or ``MOST_OPEN`` files, that are written before anybody waits for them."""


def write_atomically(path: Name, data: bytes) -> None:
    """Write a file; its folder must be there.

    Raises
    ------
    OSError
        If it cannot be written.
    StoreError
        If what is held with it cannot be.
    """
    held = _held()
    if held is None:
        _rename(_written([(str(path), data)]))
        _sync_folder(_folder(path))
    else:
        held.write(path, data)


def link(path: Name, source: Name, data: bytes) -> None:
    """Give a file of this module another name, or replace what has that name; ``data`` is what the file holds.

    It costs a fraction of another file, and no space. Where the file system has no such links, it is written again.

    Raises
    ------
    OSError
        If it cannot be written.
    StoreError
        If what is held with it cannot be.
    """
    held = _held()
    if held is not None:
        held.link(path, source, data)
    elif _link(str(source), str(path)):
        _sync_folder(_folder(path))
    else:
        write_atomically(path, data)


def append(path: Name, text: str) -> None:
    """Append to a text file, after all that was written before; a line that is cut off may be left by a kill.

    It is not waited for until it is on the disk.
    """
    held = _held()
    if held is None:
        _append([(str(path), text)])
    else:
        held.append(path, text)


def make_folder(path: Path) -> None:
    """Make a folder in one that is there, unless it is there."""
    if path.is_dir():
        return
    path.mkdir(exist_ok=True)
    held = _held()
    if held is None:
        _sync_folder(path.parent)
    else:
        held.folders.add(str(path.parent))


def read(path: Name, limit: int = -1) -> bytes:
    """Return a file's bytes, at most ``limit`` of them unless it is negative; raises OSError as reading does."""
    held = _held()
    found = None if held is None else held.files.get(str(path))
    if found is not None:
        return found if limit < 0 else found[:limit]
    with open(path, "rb", buffering=0) as file:
        return file.read(limit)


def held(path: Name) -> bytes | None:
    """Return a file's bytes if this process holds them, and has not written them yet."""
    waiting = _held()
    return None if waiting is None else waiting.files.get(str(path))


def exists(path: Name) -> bool:
    """Return whether there is such a file."""
    held = _held()
    return (held is not None and str(path) in held.files) or os.path.exists(path)


def remove(path: Name) -> None:
    """Remove a file, if it is there."""
    held = _held()
    if held is not None:
        held.remove(path)
    _unlink(str(path))


def listed(folder: Path, pattern: str) -> set[Path]:
    """Return the files of a folder whose names match a pattern."""
    held = _held()
    unwritten = () if held is None else held.names.get(str(folder), ())
    return {*folder.glob(pattern), *(folder / name for name in unwritten if fnmatchcase(name, pattern))}


def remove_stale(folder: Path, part: str = "") -> None:
    """Remove what killed programs have left unfinished in a folder, or in those of it whose names match ``part``."""
    for file in folder.glob(f"{part}/{TEMPORARY}*" if part else f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()


def begin() -> None:
    """Begin to write what is held: somebody will call :func:`flush` soon."""
    held = _held()
    if held is not None:
        held.begin()


def flush() -> None:
    """Make durable what is held.

    Raises
    ------
    StoreError
        If it cannot be written; it is still held then.
    """
    held = _held()
    if held is not None:
        held.flush()


@contextmanager
def together() -> Iterator[None]:
    """Hold what this process writes until somebody calls :func:`flush`, and at the latest until the end.

    One in another changes nothing. Processes that are forked within do not take part.
    """
    if _held() is not None:
        yield
        return
    _Held.current = held = _Held()
    try:
        yield
    finally:
        try:
            held.flush()
        finally:
            _Held.current = None
            held.close()


class _Held:
    """Files that wait, by path, their names by folder, and other names of files and lines that follow them.

    Paths are texts here: those of pathlib take several times as long to be looked up.
    """

    current: _Held | None = None

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
            key = self._hold(path, data)
            self._links.pop(key, None)
            self._next.append((key, data))
            self._next_size += len(data)
            if len(self._next) == MOST_OPEN or self._next_size > BEGUN_AT:
                self._begin(self._next)
                self._next, self._next_size = [], 0
            self._bound()

    def link(self, path: Name, source: Name, data: bytes) -> None:
        with self._lock:
            self._links[self._hold(path, data)] = str(source)
            self._bound()

    def _hold(self, path: Name, data: bytes) -> str:
        key = str(path)
        self.files[key] = data
        self.names.setdefault(_folder(key), set()).add(os.path.basename(key))
        self._size += len(data)
        return key

    def _bound(self) -> None:
        if self._size > MOST_HELD:
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
        """Wait until all files are on the disk, and name them."""
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
        """Give files their other names, now that all are there."""
        others = []
        for path, source in self._links.items():
            data = self.files[path]
            # What lies there may have been replaced since.
            if self.files.get(source, data) != data or not _link(source, path):
                others.append((path, data))
        _rename(_written(others))


def _held() -> _Held | None:
    held = _Held.current
    return held if held is not None and held.process == os.getpid() else None


@dataclass
class _Written:
    """A file that is on the disk under another name, until it has its own."""

    path: str
    data: bytes
    temporary: str
    named: bool = False


def _written(files: Sequence[tuple[str, bytes]]) -> list[_Written]:
    """Write files under other names, and wait until they are on the disk; none is left if one cannot be written."""
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
    """Return a name that nobody else takes, nor this process again."""
    return f"{folder}/{TEMPORARY}{_own}-{os.getpid()}-{next(_numbers)}"


def _rename(written: Iterable[_Written]) -> None:
    for one in written:
        os.replace(one.temporary, one.path)
        one.named = True


def _link(source: str, path: str) -> bool:
    """Give a file another name; return whether that can be done, which some file systems cannot."""
    if path == source:
        return True
    temporary = _temporary(_folder(path))
    try:
        os.link(source, temporary)
    except OSError:
        return False
    os.replace(temporary, path)
    # Where both are names of one file already, the step before does nothing.
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
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(texts))


def _sync_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        _sync_folder(folder)


def _sync_folder(folder: Name) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
