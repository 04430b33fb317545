"""Files that somebody else may have written: read up to a limit, and only if they are files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

T = TypeVar("T")

MAX_RECORD_BYTES = 1024 * 1024
"""Longest key file, deployment record, or the like."""
MAX_TABLE_BYTES = 1024 * 1024 * 1024
"""Longest table of a run."""


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a file.

    Nothing waits for a pipe, and no more than ``limit`` bytes are read, whatever length a file claims.

    Raises
    ------
    OSError
        If it cannot be read, is no regular file, or is longer than ``limit``.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a file")
        if found.st_size > limit:
            raise OSError(f"{path} has {found.st_size:,} bytes, the limit is {limit:,}")
        return file.read(limit)


def read_text(path: Path, limit: int = MAX_RECORD_BYTES) -> str:
    """Return the text of a file in UTF-8; raises as :func:`read_file`, or ValueError if it is none."""
    return read_file(path, limit).decode("utf-8")


def read_json(path: Path, limit: int = MAX_RECORD_BYTES) -> Any:
    """Return the value of a JSON file, which may hold NaN as Python writes it.

    Python's own parser recurses: a text that is nested deeply ends the process where the stack ends.

    Raises
    ------
    OSError
        As :func:`read_file`.
    ValueError
        If the file is not JSON, or is nested too deeply.
    """
    return from_json(read_file(path, limit))


def shaped(shape: TypeAdapter[T], value: Any) -> T:
    """Return a value as what it must be; raises ValueError, in one line, if it is not."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place or 'it'}: {first['msg']}") from None
