"""A run on the contracts: everybody's programs on the embedded chain, the actor's among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import Access, TaskAccess
from fedledger.ledger_tools.verifier.context import Service
from fedledger.ledger_tools.verifier.verifier import Verifier
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.engine.backends.base import Job
from fedledger.platform.engine.with_ledger import TASK, LedgerRecord
from fedledger.platform.experiment.accounts import AGGREGATOR, experiment_account, verifier_role
from fedledger.platform.incentives.pnl.cases import VERIFIERS
from fedledger.platform.incentives.pnl.hostile import FavouringAggregator, SleepingVerifier, WakefulVerifier
from fedledger.platform.incentives.pnl.population import Population
from fedledger.storage.base import ContentStore

LEAVES_BELOW = 400_000
"""The reputation in ppm below which a whitewasher leaves a name; a newcomer has half a million."""
SLEEPER = VERIFIERS - 1
"""Which verifier is the actor, where that is one: the last one, as the first one objects to what it replays."""


class StagedRecord(LedgerRecord):
    """The rounds of a run in which somebody follows a strategy.

    Parameters
    ----------
    population
        Who takes part.
    chain, store, folder
        Where the ledger, its content and the journals are.

    Attributes
    ----------
    sent
        What names of the actor sent, with what it should follow from, by round and number.
    uploads
        Bytes of everybody's updates, by round and number.
    """

    def __init__(self, population: Population, chain: Chain, store: ContentStore, folder: Path) -> None:
        self.population, self._strategy = population, population.case.played
        self._names = population.case.names
        self._later = set(self._names[1:]) if self._strategy.dealing == "later" else set[int]()
        self.sent: dict[tuple[int, int], tuple[TrainingContext, LocalUpdate]] = {}
        self.uploads: dict[tuple[int, int], int] = {}
        super().__init__(population.experiment, chain, store, folder)
        for number, participant in enumerate(self._participants):
            participant.updates.bidder = partial(population.report, number)
        if self._strategy.lies:
            self._corrupt(chain)
        self.verifiers = [
            self._verifier(number, chain, folder) for number in range(VERIFIERS if self._strategy.verified else 0)
        ]

    @property
    def acting(self) -> Sequence[Participant]:
        """Those who take part by now."""
        return [each for number, each in enumerate(self._participants) if number not in self._later]

    @property
    def accounts(self) -> Sequence[str]:
        """The addresses of all participants, by number."""
        return [participant.access.address for participant in self._participants]

    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Take one update, and remember what the actor's should follow from."""
        index, participant = self._current.index, self._participants[job.number]
        if job.number in self._names and not isinstance(self.population.experiment.trainer(job.number), LocalTrainer):
            context = participant.updates.context(self._open.task, self._current)
            if context is not None:
                self.sent[index, job.number] = context, trained
        super().keep(job, trained)
        self.uploads[index, job.number] = len(participant.updates.journal.content(index))

    def deliver(self) -> None:
        """Have everybody do what comes next, verifiers after all others."""
        self._whitewash()
        super().deliver()
        self._steps += [verifier.step() for verifier in self.verifiers]

    def close_verifiers(self) -> None:
        """End the processes in which rounds are replayed."""
        for verifier in self.verifiers:
            verifier.close()

    def _corrupt(self, chain: Chain) -> None:
        """Have the aggregator lie for a friend: its accomplice, or, where the actor is another one, anybody."""
        experiment = self.population.experiment
        account = experiment_account(experiment.config.seed, AGGREGATOR, chain)
        access = TaskAccess(self.ledger, self.history, account, self._store, TASK, experiment.spec)
        lying = FavouringAggregator(access, experiment.measurer(), self._mailbox, trusted=experiment.trusted_update)
        lying.befriend(experiment.address(self._names[0] if self._names else 0))
        self._aggregator = lying

    def _verifier(self, number: int, chain: Chain, folder: Path) -> Verifier:
        account = experiment_account(self.population.experiment.config.seed, verifier_role(number), chain)
        access = Access(self.ledger, self.history, account, self._store)
        sleeps = self._strategy.role == "verifier" and number == SLEEPER
        kind = SleepingVerifier if sleeps else WakefulVerifier
        objects = not sleeps and number != SLEEPER
        service = Service(patience=0.0, courtesy=0.0, jobs=1, challenge=objects, appeal=objects)
        return kind(access, service, folder / "votes")

    def _whitewash(self) -> None:
        """Leave a name whose reputation is low, and let the next one join."""
        if not self._later or self._seen is None:
            return
        number = min(self._later) - 1 if min(self._later) > self.population.case.size.owners else self._names[0]
        access = self._participants[number].access
        task, known = self._seen.task, access.participant
        if known is None or known not in task.enrolled or task.finished:
            return
        if self.history.evidence(task.publisher, known).reputation < LEAVES_BELOW or known in self.history.slashed:
            self.ledger.leave_task(access.account, TASK, known)
            self._later.discard(min(self._later))
