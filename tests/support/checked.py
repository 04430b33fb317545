"""A task with spot checks on the embedded chain: programs play its rounds, a test what becomes of its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.driver import Aggregator
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.check_history import Answer, CheckHistory
from fedledger.contracts.ledger.checks import RoundFindings, findings_hash
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.deploy import Deployment, deploy
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    auditor_role,
    experiment_account,
    participant_role,
)
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.encoding.keccak import keccak
from fedledger.storage.local import LocalStore
from support.small import write_config

PERIOD = 600
PENALTY = 300_000 * 10**9
CHECKED = """
solver = { method = "replayable_sgd@1", params = { learning_rate = 0.1, batch_size = 32, local_epochs = 1 } }
[ledger]
challenge_window = 60
check_rate = 1000000
check_period = 600
check_penalty_gwei = 300000
"""
"""Every accepted update is drawn."""
SALT = bytes(range(32))
BOX = b"what only an auditor opens"


@dataclass
class Checked:
    """The task, and whoever plays it; ``auditors`` are in the ledger's order."""

    folder: Path
    ledger: Ledger
    deployment: Deployment
    history: History
    store: LocalStore
    aggregator: Aggregator
    people: list[Participant]
    auditors: list[LocalAccount]
    number: int

    @property
    def task(self) -> TaskHistory:
        """The task, as it is now."""
        return self.history.update().task(self.number)

    def play(self, until: Callable[[], bool]) -> None:
        """Let the programs play until something is so."""
        for _ in range(400):
            if until():
                return
            if all(program.step().is_idle for program in (self.aggregator, *self.people)):
                self.ledger.chain.advance(60)
        raise AssertionError("not over")

    def propose(self, index: int) -> RoundHistory:
        """Play until a round is proposed, and return it."""
        self.play(lambda: index in self.task.rounds and self.task.rounds[index].proposal is not None)
        return self.task.rounds[index]

    def pass_time(self, periods: int, index: int) -> None:
        """Let time pass until so many check periods after a round's proposal."""
        chain = self.ledger.chain
        until = self.ledger.round(self.number, index).proposed_at + periods * PERIOD
        chain.advance(until - chain.now())

    def account(self, participant: int) -> LocalAccount:
        """Return the account of a participant."""
        owner = self.history.owners[participant]
        return next(person.access.account for person in self.people if person.access.address == owner)

    def check(self, index: int, participant: int) -> CheckHistory:
        """Return a check, as it is now."""
        return self.task.rounds[index].checks[participant]

    def summon(self, index: int, participants: Sequence[int]) -> None:
        """Name participants who were drawn."""
        proposal = self.task.rounds[index].proposal
        assert proposal is not None
        self.ledger.summon(self.auditors[0], self.number, index, participants, proposal)

    def answer(self, index: int, participant: int, transcript: bytes, appeals: bool = False) -> None:
        """Answer a summons, or appeal, with the claim to a transcript."""
        answer = Answer(self.store.put(BOX), keccak(BOX), keccak(transcript))
        send = self.ledger.appeal_check if appeals else self.ledger.answer_check
        send(self.account(participant), self.number, index, answer)

    def find(self, index: int, passed: Mapping[int, bytes | None], failed: Sequence[int] = ()) -> None:
        """Let auditors commit to findings and reveal them; None: one that passes without a transcript."""
        accounts = [auditor.address for auditor in self.auditors]
        for place, auditor in enumerate(self.auditors):
            own = [i for i in (*passed, *failed) if self.check(index, i).auditor == place]
            good, bad = tuple(i for i in own if i in passed), tuple(i for i in own if i not in passed)
            transcripts = tuple(known for i in good if (known := passed[i]) is not None)
            found = [RoundFindings(index, good, bad, transcripts)]
            if own:
                committed = findings_hash(self.number, place, found, SALT)
                self.ledger.post_findings(auditor, self.number, accounts, (), bytes(32), committed)
                self.ledger.post_findings(auditor, self.number, accounts, found, SALT)

    def end(self, index: int, participants: Sequence[int]) -> None:
        """Settle a round, and end checks."""
        self.play(lambda: self.task.rounds[index].settled)
        accounts = [auditor.address for auditor in self.auditors]
        self.ledger.end_checks(self.auditors[0], self.number, index, participants, accounts)

    def export(self) -> Path:
        """Export the ledger to the folder, and return this."""
        export_ledger(self.ledger, self.deployment, self.history.update()).write(self.folder / LEDGER_FILE)
        self.deployment.write(self.folder / "deployment.json")
        return self.folder


def post_checked(folder: Path, participants: int = 4, rounds: int = 1) -> Checked:
    """Deploy a ledger on a chain of its own, and post a task of which every accepted update is drawn."""
    chain, store = Chain(), LocalStore(folder / "store")
    experiment = make_experiment(load_config(write_config(folder, participants, rounds, CHECKED)), folder)

    def purse(role: str) -> LocalAccount:
        account = experiment_account(0, role, chain)
        chain.fund(account.address, 10**20)
        return account

    ledger, deployment = deploy(chain, purse(DEPLOYER), experiment.ledger_settings())
    number = ledger.post_task(purse(PUBLISHER), experiment.task_params(experiment.publish(store)))
    history = History(ledger)

    def access(role: str) -> TaskAccess:
        return TaskAccess(ledger, history, purse(role), store, number, experiment.spec)

    def person(n: int) -> Participant:
        own, journal = access(participant_role(n)), folder / f"journal{n}"
        return Participant(own, journal, experiment.trainer(n))

    people = [person(n) for n in range(participants)]
    auditors = {account.address: account for account in (purse(auditor_role(n)) for n in range(2))}
    checks = experiment.spec.spot_checks
    assert checks is not None
    ordered = [auditors[account] for account in checks.accounts]
    aggregator = Aggregator(access(AGGREGATOR), experiment.measurer())
    return Checked(folder, ledger, deployment, history, store, aggregator, people, ordered, number)
