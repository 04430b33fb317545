"""An aggregator that favours a friend, verifiers that replay in this process, and one that sleeps."""

from __future__ import annotations

from dataclasses import replace

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.proposing import Proposing
from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome
from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.records import Finding
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.verifier.context import Context
from fedledger.ledger_tools.verifier.juries import Juries, Vote
from fedledger.ledger_tools.verifier.replaying import Able, Found, Job, Order, Replayer, Unable
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.ledger_tools.verifier.verifier import Verifier
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.verdicts import Verdict

FIRST_LIE = 2
"""The first round in which an aggregator lies, unless that asks for bids; it lies once."""


def favoured(outcome: RoundOutcome, friend: int, units: int) -> RoundOutcome:
    """Return an outcome in which a friend's update counts, and earns an equal share of the round as well.

    Parameters
    ----------
    outcome
        What follows from the round.
    friend
        The friend's id.
    units
        What the round may pay.
    """
    paid = 1 + sum(share > 0 for share in outcome.shares.values())
    shares = {each: share * (paid - 1) // paid for each, share in outcome.shares.items()}
    shares[friend] = shares.get(friend, 0) + units // paid
    return replace(outcome, verdicts={**outcome.verdicts, friend: Verdict.ACCEPTED}, shares=shares)


class FavouringProposing(Proposing):
    """Pays a friend in one round, whatever it sent."""

    friend = ""
    lied_in: int | None = None

    def outcome(self, given: RoundInput) -> RoundOutcome:
        """Return what is proposed."""
        outcome, ids = super().outcome(given), self.access.history.ids
        friend = ids.get(self.friend)
        due = self.lied_in is None and given.index >= FIRST_LIE and not given.bidding
        if not due or friend not in outcome.verdicts:
            return outcome
        self.lied_in = given.index
        return favoured(outcome, friend, self.access.history.task(self.access.task).params.units_per_round)


class FavouringAggregator(Aggregator):
    """An aggregator that proposes one lie, for a friend."""

    proposing_kind = FavouringProposing

    def befriend(self, address: str) -> None:
        """Favour the participant of an address."""
        assert isinstance(self.proposing, FavouringProposing)
        self.proposing.friend = address


class OwnReplays(Replays):
    """Replays in this process, at once: whoever plays all parts has nothing to fear from strangers' content."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._replayer = Replayer(context.access.store)
        self._begun = False

    @property
    def busy(self) -> bool:
        """Return False."""
        return False

    def judged(self, task: TaskHistory) -> Able | Unable | None:
        """Return whether a task's rounds can be judged here."""
        found = self._replay(task, 0, Order.TERMS).found
        return found if isinstance(found, Able | Unable) else None

    def _asked(self, task: TaskHistory, current: RoundHistory, seconds: float, order: Order = Order.REPLAY) -> Found:
        return self._replay(task, current.index, order)

    def _replay(self, task: TaskHistory, index: int, order: Order) -> Found:
        # The history is the verifier's own, which goes on by itself.
        access, whole = self.context.access, None if self._begun else self.context.access.history
        self._begun = True
        place = place_of(access.ledger, task.id)
        return self._replayer(Job(task.id, index, place, self.context.service.trusted, whole, (), order))


class WakefulVerifier(Verifier):
    """A verifier that replays all that is proposed."""

    replays_kind = OwnReplays


class SleepingJuries(Juries):
    """Votes that whatever is disputed follows, without a replay."""

    def vote(self, dispute: DisputeHistory, level: int) -> Vote:
        """Return that it follows, with a transcript that is made up."""
        return Finding.VALID, keccak(f"asleep over {dispute.id} on level {level}".encode())


class SleepingVerifier(WakefulVerifier):
    """A verifier that replays nothing."""

    juries_kind = SleepingJuries
