"""The first thing in which a replay and a record differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fedledger.protocol.errors import ExitCode, FedledgerError


@dataclass(frozen=True)
class Divergence:
    """Where a record departs from what follows: the round (0 for the ledger itself), the field, and both values."""

    round: int
    field: str
    expected: Any
    found: Any

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        place = f"round {self.round}, " if self.round else ""
        return f"{place}{self.field}: expected {_short(self.expected)}, found {_short(self.found)}"


class DivergenceError(FedledgerError):
    """A replay that found the first lie."""

    exit_code = ExitCode.NOT_REPRODUCED

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(f"The history is not reproduced: {divergence}.")
        self.divergence = divergence


def expect(index: int, name: str, expected: Any, found: Any) -> None:
    """Raise DivergenceError unless both are the same."""
    if expected != found:
        raise DivergenceError(Divergence(index, name, expected, found))


@contextmanager
def reading(index: int, what: str, expected: str = "one that can be read") -> Iterator[None]:
    """Take whatever goes wrong with a stranger's bytes for a divergence of what they should be.

    What the machine refuses, memory for example, is none.
    """
    try:
        yield
    except DivergenceError:
        raise
    except (FedledgerError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DivergenceError(Divergence(index, what, expected, str(error))) from error


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "…"
