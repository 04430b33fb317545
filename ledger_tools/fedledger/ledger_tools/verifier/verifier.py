"""The verifier: replays what is proposed, objects to what does not follow, and serves on juries.

It asks the ledger where things are. What it keeps in memory are replays, which it can make again; its votes' salts
follow from its key, and a vote is in the journal before it is committed to. So it may be killed at any time.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.actor import DONE, Actor, Duty, Step
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.waits import Wait, task_wait
from fedledger.ledger_tools.verifier.context import Context, Service
from fedledger.ledger_tools.verifier.disputes import Disputes
from fedledger.ledger_tools.verifier.joining import Joining
from fedledger.ledger_tools.verifier.juries import Juries
from fedledger.ledger_tools.verifier.objections import Objections
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.ledger_tools.verifier.serving import Serving
from fedledger.ledger_tools.verifier.striking import Striking

RACES = frozenset(
    {
        *("AlreadyRegistered", "AlreadyServing", "NotChallengeable", "AlreadyChallenged", "TooFewVerifiers"),
        *("NotInTime", "DisputeIsClosed", "NotProposed", "AlreadyVoted", "NotJuror", "NoHigherJury", "NotRefuted"),
        *("AlreadyPunished", "TooManyDisputes", "InsufficientBalance", "JuryNotDrawn", "NotServing", "NobodyStruck"),
        *("TaskAlreadyFinished", "TooEarlyToEnlist"),
        *("AlreadyCalled", "NotCalled", "AlreadyTallied", "AlreadyRevealed", "AlreadyCommitted", "NotScorer"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction."""
MOST_WAITS = 20
"""Tasks, and disputes, that are looked at to say what is waited for."""


class Verifier(Actor[History]):
    """A verifier. A subclass may name other kinds of replays and juries.

    Parameters
    ----------
    access
        The ledger, and the account of a participant, which the verifier registers if it has to.
    service
        What it serves for, and how.
    journal
        Folder in which votes wait until they are revealed. Without one they are made again, which fails where a
        measurement is about as wrong as the tolerance allows.
    """

    replays_kind: type[Replays] = Replays
    juries_kind: type[Juries] = Juries

    def __init__(self, access: Access, service: Service | None = None, journal: Path | None = None) -> None:
        self.context = Context(access, service or Service(), Guard(RACES))
        self.replays = self.replays_kind(self.context)
        self.disputes = Disputes(self.context, self.replays)
        juries = self.juries_kind(self.context, self.replays, journal)
        striking = Striking(self.context)
        objections = Objections(self.context, self.replays, striking)
        joining, serving = Joining(self.context), Serving(self.context, self.replays, striking)
        duties = (self._end, joining, juries, objections, serving, self.disputes)
        super().__init__(access, duties, RACES, essential=(self._end, joining))

    def also(self, duty: Duty[History]) -> None:
        """Have the verifier do something besides, after all that it does for the tasks that it serves."""
        self.duties = (*self.duties, duty)

    def look(self) -> History:
        """Return the ledger's newest state."""
        return self.access.history.update()

    def wait(self) -> Wait:
        """Return what the verifier waits for: what comes first of the disputes and tasks that concern it."""
        open_ = (dispute for dispute in self.context.disputes() if self.context.concerns(dispute))
        waits = [self.disputes.wait(dispute) for dispute in islice(open_, MOST_WAITS)]
        # Each costs questions to the chain, and anybody may post a task.
        waits += [task_wait(self.access.ledger, task.id) for task in islice(self.context.watched(), MOST_WAITS)]
        waits.sort(key=lambda wait: (wait.until is None, wait.until))
        return waits[0] if waits else Wait("a task that can be challenged, or a dispute")

    def close(self) -> None:
        """End the processes that replay rounds."""
        self.replays.workers.close()

    def _end(self, _: History) -> Step | None:
        return DONE if self.context.is_over() else None
