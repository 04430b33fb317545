"""Selection: which of the enrolled participants a round asks.

A selection is replayed by audits, so all that it looks at follows from the ledger, from reports and from the task's
device table, and it computes with whole numbers alone. What enters as a real number, a parameter, is first rounded to
parts per million.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.schedules.devices import DeviceTable

RECORD, REPORTS, DEVICES = "record", "reports", "devices"


EVERYTHING = frozenset({RECORD, REPORTS, DEVICES})


@dataclass(frozen=True)
class Candidate:
    """A participant that a round may ask.

    Parameters
    ----------
    address
        Its owner.
    reputation
        Parts per million, by the verdicts of the task's rounds before, or by the task's reputation model; 0 if the
        selection does not look at the record.
    examples
        How many examples counted in its last evaluated update; 0 if there is none.
    utility
        What that update was good for: see :class:`Oort`.
    last_round
        The last round it was selected in; 0: in none.
    duration
        What a round takes it in µs, by the task's device table; None if that does not tell.
    upload
        How much of that its upload takes.
    """

    address: str
    reputation: int
    examples: int = 0
    utility: int = 0
    last_round: int = 0
    duration: int | None = None
    upload: int = 0


@dataclass(frozen=True)
class SelectionContext:
    """What a selection may know.

    Parameters
    ----------
    candidates
        Whom the round may ask, sorted by address.
    round
        The round's index.
    stream
        The round's random stream for selection.
    """

    candidates: Sequence[Candidate]
    round: int
    stream: Stream


class Selection(Protocol):
    """Chooses participants; a frozen dataclass of its parameters.

    A class attribute ``looks_at`` may say which of ``"record"``, ``"reports"`` and ``"devices"`` it needs, so that
    nothing else is read: reputation and last round are of the record, examples and utility of the reports, times of
    the devices.
    """

    def __call__(self, context: SelectionContext) -> list[str]:
        """Return the addresses of the candidates that the round asks."""
        ...


SELECTIONS: Registry[Callable[..., Selection]] = Registry(kind_of("selection"))


def timed(candidates: Sequence[Candidate], table: DeviceTable | None) -> list[Candidate]:
    """Return candidates with what a round takes them, as far as a device table tells."""
    names = {} if table is None else {address.lower(): address for address in table.devices}

    def told(candidate: Candidate) -> Candidate:
        name = names.get(candidate.address.lower())
        trip = None if table is None or name is None else table.nominal(name)
        if trip is None or trip.failure is not None:
            return candidate
        return replace(candidate, duration=trip.duration_us, upload=trip.upload_us)

    return [told(candidate) for candidate in candidates]
