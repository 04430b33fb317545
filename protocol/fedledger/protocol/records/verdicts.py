"""Verdicts on updates: accepted, absent, or refused for a reason; the ledger records each as one byte."""

from __future__ import annotations

from enum import IntEnum

FIRST_REFUSAL = 16
FIRST_STATISTICAL = 32


class Verdict(IntEnum):
    """Codes of a verdict; 16 and above refuse an update that was revealed. ``UNKNOWN`` is any that has no name.

    ``HEARD`` is said of a bid: it is there, and neither evidence nor paid.
    """

    NONE = 0
    ACCEPTED = 1
    MISSED = 2
    LATE = 3
    HEARD = 4
    MALFORMED = 16
    WRONG_SHAPE = 17
    NOT_FINITE = 18
    OUT_OF_RANGE = 19
    OVERSIZE = 20
    WRONG_BASE = 21
    BAD_DIGEST = 22
    BAD_SIGNATURE = 23
    REPLAYED = 24
    UNAVAILABLE = 25
    UNCOMMITTED = 26
    UNSTAKED = 27
    HELD_OUT = 32
    COSINE = 33
    NORM = 34
    DUPLICATE = 35
    NO_WORK = 36
    HARM = 37
    OUTVOTED = 38
    UNKNOWN = 255

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        """Read a code that this release does not know, and that the ledger takes for a refusal, as such."""
        return cls.UNKNOWN if isinstance(value, int) and FIRST_REFUSAL <= value < cls.UNKNOWN else None

    @property
    def refused(self) -> bool:
        """Whether an update was revealed and refused."""
        return self >= FIRST_REFUSAL

    @property
    def statistical(self) -> bool:
        """Whether an update was refused by a statistical judgement, which may err about an honest one."""
        return self >= FIRST_STATISTICAL

    @property
    def absent(self) -> bool:
        """Whether no update was revealed."""
        return self in (Verdict.MISSED, Verdict.LATE)

    @property
    def label(self) -> str:
        """The verdict in words, as tables and reports show it."""
        return self.name.lower()
