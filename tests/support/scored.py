"""A task with scorers on the embedded chain, or another development chain: its programs, one step each in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.deploy import Deployment, deploy
from fedledger.node.duties.scoring import Scoring
from fedledger.node.participant import Participant
from fedledger.node.scoring import Scorer
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    experiment_account,
    participant_role,
    standby_role,
)
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.scorers import ParticipantScorer
from fedledger.storage.local import LocalStore
from support.small import write_config

TERMS = """
[ledger]
scorers = {scorers}
score_period = 600
batched = {batched}
challenge_window = 60
standbys = {standbys}
"""
PURSE = 10**20


@dataclass
class Scored:
    """The task, and whoever plays it; ``steps`` are what was done, in order, each with who did it."""

    folder: Path
    experiment: Experiment
    ledger: Ledger
    deployment: Deployment
    history: History
    store: LocalStore
    number: int
    aggregators: list[Aggregator] = field(default_factory=list)
    people: list[Participant] = field(default_factory=list)
    steps: list[tuple[object, Step]] = field(default_factory=list)

    @property
    def task(self) -> TaskHistory:
        """The task, as it is now."""
        return self.history.update().task(self.number)

    @property
    def current(self) -> RoundHistory:
        """The newest round."""
        return self.task.rounds[max(self.task.rounds)]

    @property
    def scoring(self) -> ScoringHistory:
        """How the newest round is scored."""
        scoring = self.current.scoring
        assert scoring is not None
        return scoring

    def account(self, role: str) -> LocalAccount:
        """Return an account with money."""
        account = experiment_account(0, role, self.ledger.chain)
        self.ledger.chain.fund(account.address, PURSE)
        return account

    def access(self, account: LocalAccount) -> TaskAccess:
        """Return an account's access to the task."""
        return TaskAccess(self.ledger, self.history, account, self.store, self.number, self.experiment.spec)

    def person(self, number: int, scorer: Scorer | None = None, is_silent: bool = False) -> Participant:
        """Return a participant that scores as it behaves, or with a scorer, or not at all."""
        account = self.account(participant_role(number))
        mailbox = self.aggregators[0].commitments.mailbox
        person = Participant(
            self.access(account), self.folder / f"journal{number}", self.experiment.trainer(number), mailbox
        )
        if not is_silent:
            person.score_with(scorer or ParticipantScorer(self.experiment, number, bytes(account.key)))
        return person

    def scorers(self) -> list[Participant]:
        """Return the participants that the newest round has drawn, by their places."""
        by_id = {person.access.participant: person for person in self.people}
        return [by_id[participant] for participant in self.scoring.scorers]

    def play(self, until: Callable[[], bool], pause: int = 60) -> None:
        """Let the programs play until something is so; time passes when nobody has anything to do."""
        for _ in range(600):
            is_idle = True
            for program in (*self.aggregators, *self.people):
                if until():
                    return
                step = program.step()
                if not step.is_idle:
                    is_idle = False
                    self.steps.append((program, step))
            if is_idle:
                self.ledger.chain.advance(pause)
        raise AssertionError("not over")

    def play_to(self, *actions: Action) -> None:
        """Play until each of these was done in the newest round."""
        index = [max(self.task.rounds, default=1)]

        def done() -> set[Action]:
            index[0] = max(self.task.rounds, default=1)
            return {action for _, step in self.steps for action, each in step.actions if each == index[0]}

        self.play(lambda: set(actions) <= done())

    def end(self) -> Path:
        """Play to the end of the task, export it, and return the folder."""
        self.play(lambda: self.task.finished)
        return self.export()

    def export(self) -> Path:
        """Export the ledger to the folder, and return this."""
        export_ledger(self.ledger, self.deployment, self.history.update()).write(self.folder / LEDGER_FILE)
        self.deployment.write(self.folder / "deployment.json")
        return self.folder


def scoring_of(person: Participant) -> Scoring:
    """Return a participant's duty to score."""
    return next(duty for duty in person.duties if isinstance(duty, Scoring))


def post_scored(
    folder: Path,
    *,
    participants: int = 5,
    rounds: int = 1,
    scorers: int = 3,
    batched: bool = False,
    standbys: int = 0,
    extra: str = "",
    terms: str = "",
    chain: Chain | None = None,
) -> Scored:
    """Deploy a ledger on a chain, and post a task with scorers; ``terms`` are more of its terms."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, store = chain or Chain(), LocalStore(folder / "store")
    text = TERMS.format(scorers=scorers, batched=str(batched).lower(), standbys=standbys)
    config = write_config(folder, participants, rounds, extra + text + terms)
    experiment = make_experiment(load_config(config), folder)

    def purse(role: str) -> LocalAccount:
        account = experiment_account(0, role, chain)
        chain.fund(account.address, PURSE)
        return account

    ledger, deployment = deploy(chain, purse(DEPLOYER), experiment.ledger_settings())
    params = experiment.task_params(experiment.publish(store))
    number = ledger.post_task(purse(PUBLISHER), params, experiment.standbys())
    world = Scored(folder, experiment, ledger, deployment, History(ledger), store, number)
    for place, role in enumerate([AGGREGATOR, *map(standby_role, range(standbys))]):
        account = purse(role)
        mailbox = Mailbox(ledger, world.history, number, folder / f"mailbox{place}") if batched else None
        world.aggregators.append(Aggregator(world.access(account), experiment.measurer(), mailbox))
    world.people = [world.person(n) for n in range(participants)]
    return world


def owed_by(ledger: Ledger, history: History, number: int) -> int:
    """Return what a ledger of one task, in the chain's coin, holds for everybody, and what was burned in it."""
    known = history.update()
    task, record = known.task(number), ledger.task(number)
    accounts = {*known.owners.values(), *task.seats, task.publisher}
    owed = sum(ledger.free_balance(account) for account in accounts)
    for participant in known.owners:
        told = ledger.participant(participant)
        owed += told.stake + told.unbonding + ledger.credit(number, participant) * task.params.credit_unit
    owed += sum(seat.deposit + ledger.held(number, place) for place, seat in enumerate(ledger.seats(number)))
    if not task.finished:
        owed += task.params.budget - record.spent_units * task.params.credit_unit
    return owed + sum(log.arguments["amount"] for log in ledger.events(["Burned"]))
