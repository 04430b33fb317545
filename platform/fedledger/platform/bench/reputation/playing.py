"""A scenario played without a ledger: real training, and participants who look at their reputation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedledger.aggregator.mechanisms.trade import Trade
from fedledger.aggregator.round.server_step import reputation_gate
from fedledger.aggregator.round.state import State
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import Trainer, TrainingContext
from fedledger.platform.bench.reputation.experiments import Setting, make_setting
from fedledger.platform.bench.reputation.scenarios import PRAISE, SLANDER
from fedledger.platform.bench.reputation.strategies import Seen
from fedledger.platform.bench.reputation.trust import Trust, trust_of
from fedledger.platform.engine.backends.base import Population
from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.progress import Progress
from fedledger.platform.engine.reputations import Reputations
from fedledger.platform.engine.round_plan import RoundPlan
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.accounts import PUBLISHER, experiment_address
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.events import ServerStep

LIAR = "recommender"
EARLIER, EACH = 32, 4
"""Rounds that a lying publisher has judged before the task begins, and judges during each of its rounds."""


@dataclass(frozen=True)
class PlayedRound:
    """What a round came to; lists are by participant number, with None for those who do not take part yet.

    Parameters
    ----------
    trust
        Reputations in ppm when it was opened.
    gate
        Below it an update weighs and earns nothing.
    attacking
        Who attacked.
    verdicts, weights, shares
        Verdicts, weights in the aggregate, and credit units earned.
    """

    trust: list[int | None]
    gate: int
    attacking: list[bool]
    verdicts: list[int | None]
    weights: list[int]
    shares: list[int]


@dataclass(frozen=True)
class Play:
    """A scenario that was played.

    Parameters
    ----------
    rounds
        Its rounds.
    accuracy
        Of the last model, on the test set.
    names
        How many names each participant has had.
    """

    rounds: list[PlayedRound]
    accuracy: float
    names: list[int]


def played(setting: Setting, model: Method | None) -> Play:
    """Play a setting under a model of reputation; None: the ledger's own evidence alone."""
    experiment = make_setting(setting)
    stage = Stage(setting, experiment, model)
    with Batched(Directed(experiment, stage)) as backend:
        for closed in play(StagedRecord(experiment, stage), backend):
            stage.close(closed)
            last = closed.model
    count = setting.scenario.participants
    names = [1 + stage.progress.names_left.get(number, 0) for number in range(count)]
    return Play(stage.played, experiment.tested(last).score, names)


@dataclass
class StagedProgress(Progress):
    """A run's progress whose reputations are those of the round that is open."""

    reputations: dict[int, int] = field(default_factory=dict)

    def reputation(self, number: int) -> int:
        """Return a participant's reputation in ppm when the round was opened."""
        return self.reputations[number]


class Stage:
    """Who takes part in each round, who attacks in it, and what becomes of reputations.

    Parameters
    ----------
    setting
        What is played.
    experiment
        Its experiment.
    model
        The model of reputation; None: the ledger's own evidence alone.
    """

    def __init__(self, setting: Setting, experiment: Experiment, model: Method | None) -> None:
        self._setting, self._scenario, self._experiment = setting, setting.scenario, experiment
        initial = experiment.initial
        self.progress = StagedProgress(initial.vector, State(np.zeros(initial.dimension, np.int64)))
        self.attacking: set[int] = set()
        self.played: list[PlayedRound] = []
        self._gate = 0
        self._liar = experiment_address(setting.seed, LIAR)
        self._trust: Trust = trust_of(model, self._publisher, [self._liar] if self._scenario.lie else [])
        for _ in range(EARLIER):
            self._lie()

    def open(self, index: int) -> list[int]:
        """Begin a round: return who takes part, and know who attacks."""
        begins = self._scenario.begins(self._setting.rounds)
        present = [n for n in range(self._scenario.participants) if index >= begins or n not in self._scenario.numbers]
        standing = self._standing(present)
        newcomer = self._newcomer(present)
        seen = {n: self._seen(index, n, standing, newcomer) for n in present if n in self._scenario.numbers}
        leaving = [n for n, known in seen.items() if self._scenario.strategy.leaves(known)]
        for number in leaving:
            self.progress.leave_name(number)
        if leaving:
            standing = self._standing(present)
            seen = {n: self._seen(index, n, standing, newcomer) for n in seen}
        self.attacking = {n for n, known in seen.items() if self._scenario.strategy.attacks(known)}
        self._gate = self._gate_of(standing)
        self.progress.reputations = standing
        return present

    def close(self, done: Round) -> None:
        """Take what a round came to."""
        self._trust.rate(self._publisher, {self.name(n): verdict for n, verdict in done.verdicts.items()})
        for _ in range(EACH):
            self._lie()
        numbers = range(self._scenario.participants)
        verdicts = [done.verdicts.get(n) for n in numbers]
        self.played.append(
            PlayedRound(
                trust=[self.progress.reputations.get(n) for n in numbers],
                gate=self._gate,
                attacking=[n in self.attacking for n in numbers],
                verdicts=[None if verdict is None else int(verdict) for verdict in verdicts],
                weights=[done.weights.get(n, 0) for n in numbers],
                shares=[done.shares.get(n, 0) for n in numbers],
            )
        )

    def name(self, number: int) -> str:
        """Return the address under which a participant takes part now."""
        return self._experiment.later_address(number, self.progress.names_left.get(number, 0))

    def _standing(self, present: list[int]) -> dict[int, int]:
        return dict(zip(present, self._trust.reputations([self.name(n) for n in present]), strict=True))

    def _newcomer(self, present: list[int]) -> int:
        """Return what a name of which nothing is known would be worth beside those who take part."""
        if not self._scenario.hostile:
            return 0
        fresh = experiment_address(self._setting.seed, "somebody of whom nothing is known")
        return self._trust.reputations([*map(self.name, present), fresh])[-1]

    def _seen(self, index: int, number: int, standing: dict[int, int], newcomer: int) -> Seen:
        return Seen(
            index=index,
            rounds=self._setting.rounds,
            place=number - self._scenario.numbers.start,
            reputation=standing[number],
            newcomer=newcomer,
            gate=self._gate_of(standing),
            highest=max(standing.values()),
            attacked=number in self.attacking,
        )

    def _gate_of(self, standing: dict[int, int]) -> int:
        return reputation_gate([*standing.values()], self._experiment.spec.reputation)

    def _lie(self) -> None:
        """Let the lying recommender judge a round, and the praised judge one another."""
        subjects = [self.name(number) for number in self._scenario.numbers]
        praise = dict.fromkeys(subjects, Verdict.ACCEPTED)
        if self._scenario.lie == PRAISE:
            self._trust.rate(self._liar, praise)
            for publisher in subjects:
                self._trust.rate(publisher, {name: verdict for name, verdict in praise.items() if name != publisher})
        elif self._scenario.lie == SLANDER:
            others = (n for n in range(self._scenario.participants) if n not in self._scenario.numbers)
            self._trust.rate(self._liar, {**praise, **{self.name(n): Verdict.HARM for n in others}})

    @cached_property
    def _publisher(self) -> str:
        return experiment_address(self._setting.seed, PUBLISHER)


class StagedPlan(RoundPlan):
    """Asks those who take part."""

    def __init__(self, experiment: Experiment, stage: Stage, reputations: Reputations) -> None:
        super().__init__(experiment, stage.progress, reputations)
        self._stage = stage

    def round(self, index: int, trade: Trade | None = None) -> tuple[dict[int, int], ServerStep | None]:
        """Return those whom the round asks, in the order of addresses."""
        present = set(self._stage.open(index))
        selected, step = super().round(index, trade)
        return {number: stale for number, stale in selected.items() if number in present}, step


class StagedRecord(MemoryRecord):
    """The rounds of a scenario."""

    def __init__(self, experiment: Experiment, stage: Stage) -> None:
        super().__init__(experiment, stage.progress, judged=True)
        self.plan = StagedPlan(experiment, stage, self.reputations)


@dataclass(frozen=True)
class Directed:
    """The participants of a scenario, as backends see them.

    Parameters
    ----------
    experiment
        The experiment.
    stage
        Says who attacks in the current round.
    """

    experiment: Experiment
    stage: Stage

    @property
    def spec(self) -> TaskSpec:
        """The task's spec."""
        return self.experiment.spec

    @property
    def initial(self) -> ModelFile:
        """The initial model."""
        return self.experiment.initial

    def address(self, number: int) -> str:
        """Return a participant's first address."""
        return self.experiment.address(number)

    def examples(self, number: int) -> int:
        """Return how many examples a participant has."""
        return self.experiment.examples(number)

    def trainer(self, number: int) -> Trainer:
        """Return what makes a participant's updates: honest ones, or attacks where it attacks."""
        usual, honest = self.experiment.trainer(number), self.experiment.trainer(number, honest=True)
        return usual if type(usual) is type(honest) else Undecided(number, honest, usual, self.stage)

    def on(self, device: str) -> Population:
        """Return the same participants, training on a torch device."""
        return Directed(self.experiment.on(device), self.stage)


@dataclass(frozen=True)
class Undecided:
    """A participant that attacks in some rounds.

    Parameters
    ----------
    number
        The participant.
    honest, other
        What it trains with in either case.
    stage
        Says in which rounds it attacks.
    """

    number: int
    honest: Trainer
    other: Trainer
    stage: Stage

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the update for a round."""
        return (self.other if self.number in self.stage.attacking else self.honest)(context)
