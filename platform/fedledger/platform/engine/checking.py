"""The auditors of an experiment, in the process that plays all parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.node.participant import Participant
from fedledger.platform.engine.enrolment import ETHER, goes_on
from fedledger.platform.experiment.accounts import auditor_role, experiment_account
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.spot_checks.auditor import Auditor
from fedledger.platform.spot_checks.judge import TaskJudge
from fedledger.protocol.errors import ConfigError
from fedledger.storage.base import ContentStore


class Checking:
    """The spot checks of an experiment's task; there may be none.

    Parameters
    ----------
    experiment
        The experiment.
    chain, ledger, history, task
        Where its task is.
    store
        The content store.
    folder
        Where auditors' journals are kept.

    Raises
    ------
    ConfigError
        If others than the experiment's own accounts are its auditors.
    """

    def __init__(
        self,
        experiment: Experiment,
        chain: Chain,
        ledger: Ledger,
        history: History,
        task: int,
        store: ContentStore,
        folder: Path,
    ) -> None:
        self.history, self.ledger, self.task = history, ledger, task
        self.auditors: list[Auditor] = []
        checks, seed = experiment.spec.spot_checks, experiment.config.seed
        for place, address in enumerate(() if checks is None else checks.accounts):
            account = experiment_account(seed, auditor_role(place), chain)
            if account.address != address:
                raise ConfigError(
                    f"The task's auditor {address} is not the experiment's own, so that it cannot be played here.",
                    "Leave auditors out of spot_checks.",
                )
            if goes_on(ledger, task):
                chain.fund(address, ETHER)
            access = TaskAccess(ledger, history, account, store, task, experiment.spec)
            self.auditors.append(Auditor(access, TaskJudge(access, _trusted(experiment)), folder / "audits"))

    def act(self) -> list[Step]:
        """Have all auditors do what comes next, each after the one before it."""
        return [auditor.step() for auditor in self.auditors]

    def end(self, participants: Sequence[Participant]) -> None:
        """Have auditors and participants act after the last round, until no check goes on."""
        if not self.auditors:
            return
        chain = self.ledger.chain
        while True:
            task = self.history.update().task(self.task)
            seen = Situation(task, self.ledger.phase(self.task))
            steps = self.act()
            steps += [participant.act(seen) for participant in participants if participant.checks is not None]
            if all(step.action is Action.DONE for step in steps):
                return
            if all(step.is_idle for step in steps):
                chain.advance(max(1, task.params.check_period // 2))


def _trusted(experiment: Experiment) -> frozenset[str]:
    """Return the experiment's own code, which runs here already."""
    return frozenset() if experiment.spec.code is None else frozenset({experiment.spec.code.cid})
