"""Who takes part in a run: data, devices, behaviours, bids and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fedledger.learning.data import Dataset, Parts
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.spot_checks.showing import Showing
from fedledger.node.training import LocalTrainer, Trainer, TrainingContext
from fedledger.platform.attacks.duplicate import Duplicate
from fedledger.platform.experiment.assembly import assemble, make_experiment
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.incentives.pnl.cases import COST, EPOCHS, UNITS, Case
from fedledger.platform.incentives.pnl.devices import DeviceClass, device_class, training_cost, upload_cost
from fedledger.platform.incentives.pnl.strategies import OVER_COST, turn_of

PADDED = 1_000
"""Examples to which who claims too many has committed, by repeating its own."""


@dataclass(frozen=True)
class Padding:
    """Trains on its own examples once, and claims as many as it has committed to.

    Parameters
    ----------
    honest
        Trains on its own.
    claimed
        How many it has committed to.
    """

    honest: LocalTrainer
    claimed: int

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the update for a round."""
        return replace(self.honest(context), examples=self.claimed)


@dataclass(frozen=True)
class PlayedExperiment(Experiment):
    """An experiment in which some do what none of the platform's attacks does.

    Parameters
    ----------
    padding
        Who has committed to its data over and over again, and its own data, by number.
    copied
        Whose update somebody sends, by number.
    """

    padding: Mapping[int, Dataset] = field(default_factory=dict)
    copied: Mapping[int, int] = field(default_factory=dict)

    def trainer(self, number: int, honest: bool = False) -> Trainer:
        """Return what makes the updates of a participant, as it behaves or as if honest."""
        if honest or not (number in self.padding or number in self.copied):
            return super().trainer(number, honest)
        shown = self.trainer(number, honest=True)
        if number in self.copied:
            other = self.copied[number]
            return Showing(Duplicate(self._local(other), self.address(other), 0.0), shown)
        own = replace(self._local(number), dataset=self.padding[number])
        return Showing(Padding(own, self.examples(number)), shown)


@dataclass(frozen=True)
class Population:
    """The people of a run.

    Parameters
    ----------
    case
        What is played.
    experiment
        Its experiment.
    own
        How many examples each owner has, whatever is made of them.
    """

    case: Case
    experiment: PlayedExperiment
    own: tuple[int, ...]

    @classmethod
    def of(cls, case: Case) -> Population:
        """Deal the data out, and decide who does what."""
        honest = replace(case, strategy=HONEST)
        dealt = make_experiment(honest.config(), Path())
        parts, padding, copied = _dealt(case, dealt.parts)
        behaviours = [HONEST] * case.count
        strategy = case.played
        for name in case.names if strategy.attack else ():
            behaviours[name] = strategy.attack.split("@")[0]
        validation = Dataset(*dealt.validation.examples(), dealt.test.classes)
        made = assemble(case.config(), parts, validation, dealt.test, None, behaviours)
        given = {each.name: getattr(made, each.name) for each in fields(made)}
        played = PlayedExperiment(**given, padding=padding, copied=copied)
        return cls(case, played, tuple(dealt.examples(number) for number in range(case.size.owners)))

    def owner(self, number: int) -> int:
        """Return whose name a participant is."""
        return number if number < self.case.size.owners else self.case.members[0]

    def device(self, number: int) -> DeviceClass:
        """Return the class of a participant's device."""
        return device_class(self.owner(number))

    def effort(self, number: int, index: int) -> int:
        """Return on how many examples a participant really trains when it sends an update in a round, each once."""
        strategy, names = self.case.played, self.case.names
        if number not in names:
            return self.own[number]
        if strategy.effort == "none" or (strategy.effort == "first" and number != names[0]):
            return 0
        if strategy.effort == "until_turn" and index >= turn_of(self.case.size.rounds):
            return 0
        if strategy.effort == "validation":
            return len(self.experiment.validation.examples()[1])
        return self.experiment.examples(number) if strategy.dealing == "split" else self.own[self.owner(number)]

    def cost(self, number: int, index: int, size: int) -> int:
        """Return what a round costs a participant that sends an update of so many bytes, in credit units."""
        prices, device = self.case.size.prices, self.device(number)
        trained = training_cost(device, EPOCHS * self.effort(number, index), prices)
        return trained + upload_cost(device, size, prices)

    def report(self, number: int, index: int) -> dict[str, int] | None:
        """Return what a participant bids in a round: its cost, or what an over-reporter makes of it."""
        if not self.case.asks:
            return None
        if self.case.strategy == OVER_COST and number in self.case.names:
            return {COST: min(UNITS, 2 * self.case.size.share)}
        return {COST: min(UNITS, self.honest_cost(number))}

    def honest_cost(self, number: int) -> int:
        """Return what a round of honest work costs a participant, in credit units."""
        prices, device = self.case.size.prices, self.device(number)
        trained = training_cost(device, EPOCHS * self.own[self.owner(number)], prices)
        return trained + upload_cost(device, self._usual_size, prices)

    def replay_cost(self, updates: int) -> int:
        """Return what it costs a verifier to replay a round: to measure its updates and the model on validation data.

        Measuring takes a third of the cycles of training, which also goes backwards and changes weights.
        """
        examples = len(self.experiment.validation.examples()[1])
        return training_cost(device_class(1), (updates + 1) * examples / 3, self.case.size.prices)

    @cached_property
    def _usual_size(self) -> int:
        return 4 * self.experiment.initial.dimension


def _dealt(case: Case, owned: Parts) -> tuple[Parts, dict[int, Dataset], dict[int, int]]:
    """Return what each name commits to, who has repeated its own data, and who copies whom."""
    strategy, parts = case.played, list(owned)
    padding, copied = dict[int, Dataset](), dict[int, int]()
    if strategy.dealing == "split":
        data, names = parts[case.members[0]], case.names
        parts += [data] * strategy.extra
        for place, name in enumerate(names):
            parts[name] = data.take(np.arange(place, len(data), len(names), dtype=np.int64))
    elif strategy.dealing == "shared":
        first, second = case.members
        parts[second], copied[second] = parts[first], first
    elif strategy.dealing == "padded":
        name = case.members[0]
        padding[name] = parts[name]
        parts[name] = parts[name].take(np.arange(PADDED, dtype=np.int64) % len(parts[name]))
    elif strategy.dealing == "later":
        parts += [parts[case.members[0]]] * strategy.extra
    return _joined(parts), padding, copied


def _joined(parts: list[Dataset]) -> Parts:
    """Return parts that were made apart, as one division."""
    whole = replace(
        parts[0],
        inputs=np.concatenate([part.inputs for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        groups=None,
    )
    return Parts.stretches(whole, np.cumsum([len(part) for part in parts]).tolist())
