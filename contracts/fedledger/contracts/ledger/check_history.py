"""Committed data and spot checks as the ledger's logs tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedledger.contracts.ledger.records import CheckState
from fedledger.protocol.encoding.cid import ContentRef


@dataclass(frozen=True)
class Answer:
    """What a participant shows of an update.

    Parameters
    ----------
    box
        Content that only the auditor can open.
    opening
        SHA-256 of what is in the box.
    claim
        Hash of the transcript that who makes the update again finds.
    """

    box: ContentRef
    opening: bytes
    claim: bytes


@dataclass
class CheckHistory:
    """The check of a participant's update of a round.

    ``auditor`` is the place of the one who decides it now. ``answers`` are the first one and, after an appeal, the one
    to the second auditor; ``transcript`` is what who passed it found.
    """

    round: int
    participant: int
    auditor: int
    state: CheckState = CheckState.SUMMONED
    answers: list[Answer] = field(default_factory=list)
    transcript: bytes | None = None

    def said(self, passes: bool, transcript: bytes | None) -> None:
        """Note what its auditor found."""
        if self.state is CheckState.APPEALED:
            self.state = CheckState.CLEARED if passes else CheckState.CONFIRMED
        else:
            self.state = CheckState.PASSED if passes else CheckState.FAILED
        self.transcript = transcript


@dataclass(frozen=True)
class DataWord:
    """A commitment to a participant's data.

    Parameters
    ----------
    posted
        The round that was the next one to be opened.
    word
        Root (224 bits) and number (32 bits) of the examples.
    """

    posted: int
    word: int


def acting(words: Sequence[DataWord], index: int, every: int) -> int | None:
    """Return the place of the commitment that holds for a participant in a round; None if there is none yet.

    The first one holds from the next opened round on, a later one from the next round r where (r - 1) % every is 0.

    Parameters
    ----------
    words
        What the participant posted, in the ledger's order.
    index
        The round.
    every
        See ``CommittedData`` of the task's spec.
    """
    found: int | None = None
    for place, known in enumerate(words):
        acts = known.posted + (1 - known.posted) % every if place else known.posted
        if acts <= index:
            found = place
    return found
