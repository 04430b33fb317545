"""How far a run without a ledger has come: all that its next round follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.reputation.base import Standing
from fedledger.aggregator.round.state import State
from fedledger.platform.agents.agent import Experience
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict


class ParticipantHistory(NamedTuple):
    """What earlier rounds tell of a participant: the evidence a ledger would hold, and what a selection may look at."""

    evidence: Evidence = Evidence()
    last_round: int = 0
    examples: int = 0
    utility: int = 0


NEWCOMER = ParticipantHistory()


@dataclass
class Progress:
    """All that the next round follows from, besides the participants' states.

    Parameters
    ----------
    base, earlier
        float32[d] each: the newest model, and the bases of the rounds before, the nearest first, as far back as an
        update may be stale or a participant looks.
    state
        What the aggregator carries.
    index
        The last round that is closed; 0 before the first.
    counted
        Rounds that were not below quorum.
    voids
        Rounds below quorum in a row.
    stopped
        Whether the task's stopping rule ended it.
    histories
        Of each participant that was selected, by number.
    asked
        The numbers of those whom a schedule asked each time; a resumed run plays its timetable again.
    names_left
        How many names each participant has left that came back under another one, by number.
    last_bidding, reports
        The last round that asked for bids, 0 before the first, and what was heard in it, by number; nothing if it was
        below quorum.
    absent, in_vain
        The numbers of who was absent since its bid was heard, and of whom rounds have asked since the last one that
        counted.
    unspent
        Units that rounds have left of theirs.
    experiences
        What agents have seen of the task, by number; nothing without agents.
    standings, standings_at_opening
        By the task's reputation model, now and when the newest round was opened, by the number of a name: that of its
        participant plus as many times the number of all participants as it has left names. Empty without a model.
    """

    base: NDArray[np.float32]
    state: State
    earlier: list[NDArray[np.float32]] = field(default_factory=list)
    index: int = 0
    counted: int = 0
    voids: int = 0
    stopped: bool = False
    histories: dict[int, ParticipantHistory] = field(default_factory=dict)
    asked: list[list[int]] = field(default_factory=list)
    names_left: dict[int, int] = field(default_factory=dict)
    last_bidding: int = 0
    reports: dict[int, dict[str, int]] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    in_vain: set[int] = field(default_factory=set)
    unspent: int = 0
    experiences: dict[int, Experience] = field(default_factory=dict)
    standings: dict[int, Standing] = field(default_factory=dict)
    standings_at_opening: dict[int, Standing] = field(default_factory=dict)

    def history(self, number: int) -> ParticipantHistory:
        """Return what earlier rounds tell of a participant."""
        return self.histories.get(number, NEWCOMER)

    def reputation(self, number: int) -> int:
        """Return a participant's reputation in ppm, by the evidence that a ledger would hold."""
        return self.history(number).evidence.reputation

    def hear(self, index: int, bids: Mapping[int, dict[str, int] | None], quorum: int) -> bool:
        """Take the bids of a round by number, None of who made none; return whether there are too few to stand."""
        self.reports = {number: bid for number, bid in bids.items() if bid is not None}
        self.last_bidding, self.index, self.absent = index, index, set()
        if len(self.reports) >= quorum:
            # It brings the task no further, so it ends no row of rounds below quorum.
            return False
        self.reports, self.voids = {}, self.voids + 1
        return True

    def note_absent(self, verdicts: Mapping[int, Verdict]) -> None:
        """Take who was absent from a round that counts, by its verdicts."""
        self.in_vain = set()
        if self.last_bidding:
            self.absent |= {number for number, verdict in verdicts.items() if verdict.absent}

    def leave_name(self, number: int) -> None:
        """Have a participant go on under a new name, of which nothing is known."""
        self.names_left[number] = self.names_left.get(number, 0) + 1
        self.histories[number] = NEWCOMER
