"""Errors that name their remedy, and the exit code that each family gives the command line."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of the ``fedledger`` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFIG = 3
    CHAIN = 4
    STORE = 5
    NOT_REPRODUCED = 6
    ROUND = 7
    TRUST = 8
    KEYS = 9


class FedledgerError(Exception):
    """Base of all errors that a user can do something about.

    Parameters
    ----------
    message
        One sentence saying what is wrong.
    remedy
        One sentence saying what to do about it; appended to the message.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # An error crosses to another process as it is, whatever its constructor takes.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[FedledgerError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> FedledgerError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class ConfigError(FedledgerError):
    """A configuration, spec or method parameter is wrong."""

    exit_code = ExitCode.CONFIG


class ChainError(FedledgerError):
    """The chain is not there, is another one, or refused a transaction."""

    exit_code = ExitCode.CHAIN


class StoreError(FedledgerError):
    """Content could not be stored or fetched."""

    exit_code = ExitCode.STORE


class ContentUnavailableError(StoreError):
    """No copy of a CID could be fetched."""


class ContentCorruptError(StoreError):
    """The bytes that a store returned do not hash to the CID that was asked for."""


class ContentUnreadableError(StoreError):
    """Content that is there, with the right hash, and is not what it should be: whoever posted it is to blame."""


class RoundError(FedledgerError):
    """A round could not be completed (too few participants, too many voided rounds)."""

    exit_code = ExitCode.ROUND


class ActsElsewhereError(FedledgerError):
    """Another copy of a program acts for the same account: this one must stop before both sign."""

    exit_code = ExitCode.CONFIG


class TrustError(FedledgerError):
    """Running a stranger's code was not allowed."""

    exit_code = ExitCode.TRUST


class KeyStoreError(FedledgerError):
    """A key store or its password is wrong."""

    exit_code = ExitCode.KEYS
