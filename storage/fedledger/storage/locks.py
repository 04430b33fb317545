"""Locks on files, which a process holds until it ends, however it ends; where the system has such locks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from fedledger.protocol.errors import ConfigError


@contextlib.contextmanager
def locked(path: Path, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a file's lock; raises BlockingIOError if another process has it and it is not waited for."""
    with path.open("a") as file:
        if sys.platform != "win32":
            import fcntl

            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def only_copy(folder: Path, name: str, what: str) -> Iterator[None]:
    """Be the only program that keeps something in a folder under a name.

    Parameters
    ----------
    folder
        The folder, which is made if need be.
    name
        What the program keeps: its ledger, task and account.
    what
        The program, for messages.

    Raises
    ------
    ConfigError
        If another copy of it runs on this machine, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / f"{name}.lock", wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"Another copy of this {what} is running, with the same account and folder {folder}.",
                "Stop it first, or let it go on: two copies would sign for one account.",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be written: {error.strerror or error}.", "Choose another folder, or its owner."
            ) from error
        yield
