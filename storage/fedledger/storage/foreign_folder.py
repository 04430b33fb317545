"""Folders that somebody else may have made: what is read from them lies in them, and is a file."""

from __future__ import annotations

from pathlib import Path

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import shown


def inner_file(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder, which need not be there.

    Raises
    ------
    ConfigError
        If it is a link that leads out of the folder, or no plain file: a pipe would never end.
    """
    return _inner(folder, name, (folder / name).is_file(), "a plain file")


def inner_folder(folder: Path, name: str) -> Path:
    """Return the path of a folder in a folder, which need not be there; see :func:`inner_file`."""
    return _inner(folder, name, (folder / name).is_dir(), "a folder")


def _inner(folder: Path, name: str, is_one: bool, kind: str) -> Path:
    path = folder / name
    exists = path.is_symlink() or path.exists()
    if exists and not (is_one and path.resolve().is_relative_to(folder.resolve())):
        raise ConfigError(
            f"{shown(path)} is not {kind} in that folder.", "Copy there what it links to, if you trust who made it."
        )
    return path
