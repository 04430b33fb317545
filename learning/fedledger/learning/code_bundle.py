"""A task's code as content: its ``task.py`` alone or, where that imports modules beside it, all of these in one bundle.

A bundle is a canonical tensor file (see :mod:`fedledger.protocol.encoding.tensors`) of uint8 vectors: the bytes of each
file by its name, such as ``helper.py`` or ``layers/attention.py``, and those of the task's own file as ``task.py``. Its
bytes after the header are the files' text, one after another, so any pager shows them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ConfigError, ContentUnreadableError
from fedledger.protocol.text import shown
from fedledger.storage.foreign_files import read_file
from fedledger.storage.foreign_folder import inner_file

MAIN = "task.py"
"""Name of the task's own file in a bundle."""
MAX_FILES = 100
MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of all files of a task's code."""
MAX_DEPTH = 8
_PART = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_NAME = re.compile(rf"(?:{_PART}/){{0,{MAX_DEPTH - 1}}}{_PART}\.py")
_PACKAGE = "__init__"
_ELSEWHERE = frozenset(sys.stdlib_module_names) | {"fedledger"}
"""Modules that a file beside a ``task.py`` does not replace."""


def read_code(path: Path) -> bytes:
    """Return the content that a task's code is: the file at ``path``, bundled with the modules that it imports.

    Its own modules are those in its folder (and in folders in that) which an ``import`` statement of the file, or of
    one of these modules, names. A file that imports none of them is its own content.

    Raises
    ------
    ConfigError
        If a file cannot be read or is too large, or there are too many.
    """
    main = _read(path)
    files = {MAIN: main}
    waiting = [(MAIN, main)]
    while waiting:
        name, source = waiting.pop()
        for module in _imported(source, name):
            for found in _files_of(path.parent, module):
                if found in files or (file := inner_file(path.parent, found)).resolve() == path.resolve():
                    continue
                files[found] = _read(file)
                waiting.append((found, files[found]))
                if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
                    raise ConfigError(
                        f"{path} imports more than {MAX_FILES} files, or {MAX_BYTES:,} bytes, from its folder.",
                        "Make a package of them that everybody installs, or leave out what the task does not need.",
                    )
    return main if len(files) == 1 else encode_bundle(files)


def encode_bundle(files: Mapping[str, bytes]) -> bytes:
    """Return the bundle of several files, ``task.py`` among them."""
    return tensors.encode({name: np.array(list(source), np.uint8) for name, source in files.items()})


def decode_code(content: bytes) -> dict[str, bytes]:
    """Return the files of a task's code by name, ``task.py`` among them.

    Raises
    ------
    ContentUnreadableError
        If the content is a bundle, but not a canonical one of at most ``MAX_FILES`` files of ``MAX_BYTES`` together, or
        if it is a single file that is longer.
    """
    try:
        if not _is_bundle(content):
            if len(content) > MAX_BYTES:
                raise ValueError(f"the file has {len(content):,} bytes, the limit is {MAX_BYTES:,}")
            return {MAIN: content}
        if len(content) > MAX_BYTES + tensors.MAX_HEADER_BYTES:
            raise ValueError(f"the bundle has {len(content):,} bytes")
        named = tensors.decode(content)
        if not 2 <= len(named) <= MAX_FILES:
            raise ValueError(f"a bundle has 2 to {MAX_FILES} files, this one {len(named)}")
        files = {}
        for name, vector in named.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{shown(name, 100)!r} is not the name of a module's file")
            if vector.dtype != np.uint8 or vector.ndim != 1:
                raise ValueError(f"{name} is not a vector of bytes")
            files[name] = vector.tobytes()
        if MAIN not in files or sum(map(len, files.values())) > MAX_BYTES:
            raise ValueError(f"there is no {MAIN}, or the files have more than {MAX_BYTES:,} bytes")
    except ValueError as error:
        raise ContentUnreadableError(f"The task's code cannot be read: {error}.") from error
    return files


def _is_bundle(content: bytes) -> bool:
    """Return whether content begins with the length of a tensor file's header; no Python file has such bytes."""
    return len(content) >= 8 and content[3:8] == bytes(5)


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}.", "Check `code` in the configuration."
        ) from error


def _imported(source: bytes, name: str) -> Iterator[str]:
    """Yield the dotted names of the modules that a file's import statements may mean."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Running it will say what is wrong; the parser takes code that is nested too deeply for a lack of memory.
        return
    inside = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(inside) + 1:
            outer = inside[: len(inside) + 1 - node.level] if node.level else []
            module = ".".join([*outer, *([node.module] if node.module else [])])
            if module:
                yield module
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def _files_of(folder: Path, module: str) -> Iterator[str]:
    """Yield the names of the files that make up a module in a folder: its own, and those of the packages around it."""
    parts = module.split(".")
    if parts[0] in _ELSEWHERE or len(parts) > MAX_DEPTH or not all(re.fullmatch(_PART, part) for part in parts):
        return
    packages = [f"{'/'.join(parts[:depth])}/{_PACKAGE}.py" for depth in range(1, len(parts) + 1)]
    own = f"{'/'.join(parts)}.py"
    yield from (name for name in [*packages, own] if (folder / name).is_symlink() or (folder / name).exists())
