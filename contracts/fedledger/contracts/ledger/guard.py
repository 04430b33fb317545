"""What stands between a program and whatever strangers wrote: a fault over one thing stops nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.connection import unanswered
from fedledger.protocol.errors import (
    ActsElsewhereError,
    ChainError,
    ContentCorruptError,
    ContentUnavailableError,
    ContentUnreadableError,
    FedledgerError,
    StoreError,
)

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds for which a thing is left alone after its second fault; twice as many each time, up to the longest."""
MOST_KNOWN = 10_000
OF_CONTENT = (ContentUnavailableError, ContentCorruptError, ContentUnreadableError)
T = TypeVar("T")


@dataclass
class _Fault:
    until: float = 0.0
    pause: float = 0.0
    told: str = ""


class Guard:
    """Does things one by one, of which each may go wrong because of what a stranger wrote.

    What goes wrong is told, and left alone for longer each time, while all else goes on. Only what says that the
    program's own chain or store is away is raised.

    Parameters
    ----------
    races
        Refusals that mean that the ledger has moved between the question and the transaction.
    lost
        Is told of such a refusal.
    """

    def __init__(self, races: frozenset[str], lost: Callable[[RevertedError], None] | None = None) -> None:
        self._races, self._lost = races, lost
        self._faults: dict[Hashable, _Fault] = {}

    def __call__(self, what: Hashable, act: Callable[[], T | None], place: str = "") -> T | None:
        """Return what ``act`` does; None where it went wrong, and while it is left alone for that.

        Parameters
        ----------
        what
            Names the thing, among all that are guarded here.
        act
            Does it.
        place
            What users call it.

        Raises
        ------
        ChainError
            If the chain does not answer.
        StoreError
            If the store does not work.
        ActsElsewhereError
            If another copy of the program acts for its account.
        """
        fault = self._faults.get(what)
        if fault is not None and time.monotonic() < fault.until:
            return None
        try:
            done = act()
        except Exception as error:
            if _is_own(error):
                raise
            self._tell(what, error, place or str(what))
            return None
        self._faults.pop(what, None)
        return done

    def _tell(self, what: Hashable, error: Exception, place: str) -> None:
        if what not in self._faults and len(self._faults) >= MOST_KNOWN:
            self._faults.pop(next(iter(self._faults)))
        fault = self._faults.setdefault(what, _Fault())
        fault.until = time.monotonic() + fault.pause
        fault.pause = min(LONGEST_PAUSE, 2 * fault.pause or FIRST_PAUSE)
        is_race = isinstance(error, RevertedError) and error.name in self._races
        if is_race and self._lost is not None and isinstance(error, RevertedError):
            self._lost(error)
            return
        told, fault.told = fault.told, f"{type(error).__name__}: {error}"
        if told == fault.told:
            return
        if is_race:
            log.warning("%s: %s", place, error)
        elif isinstance(error, FedledgerError):
            log.error("%s: %s All else goes on.", place, error)
        else:
            log.error("%s: failed with %s. All else goes on.", place, fault.told, exc_info=error)


def _is_own(error: Exception) -> bool:
    """Return whether an error concerns all that the program does: its chain or store is away, or a copy of it runs."""
    if isinstance(error, ActsElsewhereError):
        return True
    if isinstance(error, ChainError):
        return unanswered(error)
    return isinstance(error, StoreError) and not isinstance(error, OF_CONTENT)
