"""The round driver: an aggregator that asks the ledger where its task is, and does what comes next."""

from __future__ import annotations

import logging

from fedledger.aggregator.duties.commitments import Commitments
from fedledger.aggregator.duties.defence import Defence
from fedledger.aggregator.duties.opening import Opening
from fedledger.aggregator.duties.proposing import Proposing
from fedledger.aggregator.duties.scoring import Scoring
from fedledger.aggregator.duties.seat import Seat
from fedledger.aggregator.duties.settlement import Settlement
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.inputs import TrustedUpdate
from fedledger.aggregator.round.measurer import Measurer
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import DONE, Actor, Situation, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.waits import Wait, task_wait

log = logging.getLogger(__name__)

RACES = frozenset(
    {
        *("PreviousRoundOpen", "RoundNotOpen", "NotProposed", "WrongRound", "NotOverdue", "ProposalOverdue"),
        *("CommitsAreOpen", "RevealsAreOpen", "BelowQuorum", "WindowOpen", "InsufficientBalance", "EnrolmentOpen"),
        *("TooManyUnfinal", "TaskAlreadyFinished", "NotEnrolled", "TooFewParticipants", "NotYourTurn", "NotClosing"),
        "EnrolmentChanged",
        *("AlreadyCalled", "NotCalled", "AlreadyTallied", "NotTallied", "NotInTime", "AlreadyCommitted"),
        *("MissingScores", "WrongScores"),
        *("DisputesOpen", "RoundsExhausted", "TaskNotFinishable", "DisputeIsClosed", "AlreadyPunished"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction."""


class Aggregator(Actor[Situation]):
    """One of a task's aggregators. It keeps nothing that the ledger and the store do not hold.

    The active one does what its task needs next. A standby does the same as soon as it is its turn: one propose period
    after the one before it should have acted. A subclass may name other kinds of duties.

    Parameters
    ----------
    access
        The task, and the aggregator's account.
    measure
        The measurer of the task's validation set.
    mailbox
        Where participants of a batched task leave their commitments; a direct task needs none.
    patience
        Seconds for which a revealed update that cannot be had is waited for; after them, or after a quarter of the
        propose period, its verdict is unavailable.
    url
        Where participants reach the mailbox; it is announced on the ledger.
    trusted
        Makes the update that the aggregator trusts, for aggregation rules that ask for one.
    """

    commitments_kind: type[Commitments] = Commitments
    opening_kind: type[Opening] = Opening
    proposing_kind: type[Proposing] = Proposing

    def __init__(
        self,
        access: TaskAccess,
        measure: Measurer,
        mailbox: Mailbox | None = None,
        patience: float = 0.0,
        url: str | None = None,
        trusted: TrustedUpdate | None = None,
    ) -> None:
        self.task = access.task
        self.seat = Seat(access, url)
        self.commitments = self.commitments_kind(access, mailbox)
        self.settlement = Settlement(access, self.opening_kind(access))
        self.proposing = self.proposing_kind(access, self.commitments, self.settlement, measure, patience, trusted)
        defence = Defence(access, self.commitments)
        own = (defence.answer, defence.report, self.seat)
        self.scoring = Scoring(access, self.commitments)
        due = (self.commitments, self.scoring, self.proposing, self.settlement.void, self.settlement)
        super().__init__(access, (_end, *own, *due), RACES, essential=(_end, self.seat))

    def look(self) -> Situation:
        """Return where the task is. The phase is asked for first, so that the logs may be newer."""
        phase = self.access.ledger.phase(self.task)
        return Situation(self.access.history.update().task(self.task), phase)

    def wait(self) -> Wait:
        """Return what the task waits for."""
        return task_wait(self.access.ledger, self.task)

    def lost(self, error: RevertedError) -> None:
        """Take the seat again, as what it held may have been forfeited, or a reorganisation took it back."""
        self.seat.is_taken = self.seat.is_taken and error.name != "InsufficientBalance"
        current = None if self.seen is None else self.seen.current
        log.warning("round %d: %s", 0 if current is None else current.index, error)


def _end(seen: Situation) -> Step | None:
    return DONE if seen.phase is Phase.FINISHED else None
