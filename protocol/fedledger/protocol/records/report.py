"""What a round's report tells, besides numbers: names of what was measured, and why an update was refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from fedledger.protocol.encoding import strict

BASE, MODEL = "base", "model"
MAX_SIGNAL = 100
"""Characters of a signal's name."""
_PPM = 1_000_000
_MOST = 2**53 - 1
_DIGITS = 3
"""Significant digits that are shown where they tell two numbers apart."""


def of_coalition(number: int) -> str:
    """Return the name of what was measured of a coalition, by its number in the report's list, from 1."""
    return f"coalition {number}"


@dataclass(frozen=True)
class ToldFinding:
    """What a refusal rests on, as a report tells it.

    Parameters
    ----------
    signal
        What was looked at, in a word or two.
    value, threshold
        What it was, and what it was compared with, in millionths.
    """

    signal: str
    value: int
    threshold: int

    @classmethod
    def of(cls, signal: str, value: float, threshold: float) -> ToldFinding:
        """Return a finding; numbers that documents cannot hold are cut."""
        return cls(signal, _millionths(value), _millionths(threshold))

    @classmethod
    def read(cls, document: object) -> ToldFinding | None:
        """Return the finding of a stranger's report; None where there is none, or one that cannot be read."""
        if not isinstance(document, dict) or document.keys() != {"signal", "value", "threshold"}:
            return None
        signal = document["signal"]
        if not isinstance(signal, str) or len(signal) > MAX_SIGNAL or not strict.is_text(signal):
            return None
        try:
            value, threshold = (strict.whole(document[key], -_MOST, _MOST) for key in ("value", "threshold"))
        except strict.SpellingError:
            return None
        return cls(signal, value, threshold)

    def document(self) -> dict[str, str | int]:
        """Return this as a report holds it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value == self.threshold:
            return self.signal
        sign = ">" if self.value > self.threshold else "<"
        value, threshold = (f"{number / _PPM:.{_DIGITS}g}" for number in (self.value, self.threshold))
        if value == threshold:
            value, threshold = _all_digits(self.value), _all_digits(self.threshold)
        return f"{self.signal} {value} {sign} {threshold}"


def _millionths(value: float) -> int:
    return round(min(max(value * _PPM, -_MOST), _MOST))


def _all_digits(number: int) -> str:
    whole, rest = divmod(abs(number), _PPM)
    return f"{'-' if number < 0 else ''}{whole}.{rest:06d}".rstrip("0").rstrip(".")
