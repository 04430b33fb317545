"""A participant: asks the ledger where its task is, trains, commits, then stores and reveals.

Nothing is kept in memory that matters: the update is in the journal before it is committed to, the salt follows
from the key, and the ledger says what was done. A participant that was killed starts again and goes on; what a
reorganisation took back is sent again, in the same bytes unless the round has another base model now.
"""

from __future__ import annotations

from pathlib import Path

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import DONE, Actor, Duty, Situation, Step
from fedledger.contracts.ledger.waits import Wait, task_wait
from fedledger.node.duties.batched_rounds import BatchedRounds
from fedledger.node.duties.checks import Checks, CommittedData
from fedledger.node.duties.direct_rounds import DirectRounds
from fedledger.node.duties.joining import Joining
from fedledger.node.duties.objections import Objections
from fedledger.node.duties.scoring import Scoring
from fedledger.node.journal import Journal
from fedledger.node.scoring import Scorer
from fedledger.node.spot_checks.showing import Showing
from fedledger.node.training import Trainer
from fedledger.node.updates import BaseOf, Updates, newest_base
from fedledger.protocol.records.mailbox import MailboxClient
from fedledger.storage.models import Models

RACES = frozenset(
    {
        *("AlreadyRegistered", "AlreadyEnrolled", "AlreadyCommitted", "NotCommitted"),
        *("CommitsAreClosed", "CommitsAreOpen", "RevealsAreClosed", "RoundNotOpen"),
        *("AlreadyRevealed", "NotAdmitting", "StillAdmitting", "NotChallengeable", "NotRefuted", "TooEarlyToReturn"),
        *("AlreadyCalled", "NotCalled", "AlreadyTallied", "NotScorer"),
        *("NotInTask", "WrongCheck", "NotInTime", "NotProposed"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction.

At worst the phase has closed, which is a missed round, no more.
"""


class Participant(Actor[Situation]):
    """A participant of one task.

    A subclass may name other kinds of updates and duties.

    Parameters
    ----------
    access
        The task, and the owner's account, which also signs.
    journal
        Folder in which updates wait until they may be seen.
    trainer
        Makes the updates.
    mailbox
        A way to the aggregator's mailbox, which a batched task needs.
    base_of
        How stale this participant's update of a round is. Where the round takes none so stale, it trains on the oldest
        base that the round takes.
    models
        Reads models from the store; who plays several participants gives them all the same.
    rejoins
        Whether it enrols again where it has left the task.
    """

    updates_kind: type[Updates] = Updates
    direct_kind: type[DirectRounds] = DirectRounds
    batched_kind: type[BatchedRounds] = BatchedRounds
    objections_kind: type[Objections] = Objections

    def __init__(
        self,
        access: TaskAccess,
        journal: Path,
        trainer: Trainer,
        mailbox: MailboxClient | None = None,
        base_of: BaseOf = newest_base,
        models: Models | None = None,
        rejoins: bool = False,
    ) -> None:
        name = "-".join(map(str, access.place))
        models = models or Models(access.store, access.spec.tensors)
        self.task = access.task
        self.updates = self.updates_kind(access, Journal(journal, name), trainer, base_of, models)
        self.direct = self.direct_kind(access, self.updates)
        self.batched = self.batched_kind(access, self.updates, self.direct, mailbox)
        objections = self.objections_kind(access, self.batched)
        shown, appeals = (trainer.shown, trainer.appeals) if isinstance(trainer, Showing) else (trainer, True)
        self.data = CommittedData(access, shown) if access.spec.committed_data is not None else None
        if self.data is not None:
            self.updates.covered = self.data.covers
        self.checks: Checks | None = None
        if self.data is not None and access.spec.spot_checks is not None:
            self.checks = Checks(access, self.updates, self.data, shown, appeals)
        own: list[Duty[Situation]] = [] if self.data is None else [self.data]
        late: list[Duty[Situation]] = [] if self.checks is None else [self.checks]
        self.joining = Joining(access, rejoins, self.data)
        duties: list[Duty[Situation]] = [self._end, self.joining, objections, *own, self.batched, self.direct, *late]
        super().__init__(access, duties, RACES, essential=(self._end, self.joining))
        self._journal, self._models = journal, models

    def score_with(self, scorer: Scorer) -> None:
        """Score updates, too, whenever this participant is drawn for it; without that it is silent then."""
        access, mailbox = self.direct.access, self.batched.mailbox
        self.duties = (*self.duties, Scoring(access, scorer, self._journal, mailbox, self._models))

    def look(self) -> Situation:
        """Return where the task is. The phase is asked for last, so that it may be newer than the logs."""
        task = self.access.history.update().task(self.task)
        return Situation(task, self.access.ledger.phase(self.task))

    def wait(self) -> Wait:
        """Return what the task waits for."""
        task = self.access.history.task(self.task)
        if task.finished and self.checks is not None:
            return Wait(f"spot checks of task {self.task} to be over")
        return task_wait(self.access.ledger, self.task)

    def _end(self, seen: Situation) -> Step | None:
        """End with the task, or once every round that asked a participant that has left it is final."""
        asked = any(self.access.participant in current.selected for current in seen.task.unfinal)
        left = self.joining.has_left(seen.task) and not asked
        if not (seen.task.finished or left):
            return None
        return None if self.checks is not None and self.checks.may_go_on(seen.task) else DONE
