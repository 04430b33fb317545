"""An experiment: what everybody shares, the spec with its contents, and each participant's data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from fedledger.aggregator.round.measurement import LiveMeasurer, other_measurers
from fedledger.learning.data import Dataset, Parts
from fedledger.learning.label_counts import LabelCounts
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.objectives.base import Objective
from fedledger.learning.vectors import FlatModel
from fedledger.node.compression import CompressingTrainer
from fedledger.node.own_training import trusted_update
from fedledger.node.solvers.base import Solver
from fedledger.node.solvers.build import build_solver
from fedledger.node.spot_checks.showing import Showing
from fedledger.node.training import LocalTrainer, Trainer
from fedledger.node.transforms.base import Transform, build_transforms
from fedledger.platform.agents.agent import Agent, groups_of
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.coalition import Coalition, Colleague, Remembered
from fedledger.platform.attacks.whitewashing import Whitewashing
from fedledger.platform.experiment.accounts import experiment_address, participant_role, standby_role
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.kept_validation import KeptValidation
from fedledger.platform.experiment.tested import ObjectiveSummary, Tested, objective_summary
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import DataSchema
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.units import GWEI
from fedledger.storage.base import ContentStore

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import Settings, TaskParams

HONEST = "honest"
MAX_PARTICIPANTS = 4096
"""Of a task, as the contract has it."""


@dataclass(frozen=True)
class Experiment:
    """An experiment before it starts.

    Parameters
    ----------
    config, spec
        The configuration and the spec that follows from it.
    contents
        What the spec names by CID: initial model, validation set as it is kept, then data schema, code and device
        table, if there are any.
    parts
        Each participant's examples.
    test
        Examples behind the reported losses and scores; nobody trains or measures on them.
    behaviours
        Each participant's behaviour: ``honest`` or the attack's name.
    make_model
        Makes a fresh module of the task's model.
    objective
        What training minimises, and how a model is measured.
    validation
        The validation set as its publisher keeps it.
    device
        Where participants train, as torch names it.
    """

    config: ExperimentConfig
    spec: TaskSpec
    contents: tuple[bytes, ...]
    parts: Parts
    test: Dataset
    behaviours: tuple[str, ...]
    make_model: Callable[[], torch.nn.Module]
    objective: Objective
    validation: KeptValidation
    device: str = "cpu"

    def __getstate__(self) -> dict[str, Any]:
        # The model of one process is not that of another: a copy's gradients would not be where its optimiser looks.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def objective_summary(self) -> ObjectiveSummary:
        """What a run's summary says of the objective."""
        return objective_summary(self.objective, self.spec.objective)

    @property
    def seal_key(self) -> bytes | None:
        """The key of the validation set, if that is sealed."""
        seal = self.validation.seal
        return self.validation.key if seal is not None and seal.is_sealed else None

    @cached_property
    def label_counts(self) -> LabelCounts:
        """How many examples of each class each participant has."""
        return LabelCounts.of(self.parts)

    @cached_property
    def initial(self) -> ModelFile:
        """The initial model."""
        return ModelFile.decode(self.contents[0], self.spec.tensors)

    @cached_property
    def device_table(self) -> DeviceTable | None:
        """The participants' devices, if the task names them."""
        return None if self.spec.devices is None else DeviceTable.decode(self.contents[-1])

    @cached_property
    def agents(self) -> tuple[Agent, ...]:
        """The participants that decide for themselves, by number: all of them, or none without groups of agents."""
        config, table = self.config, self.device_table
        trips = [None if table is None else table.nominal(address) for address in self._addresses]
        groups = groups_of(config.agents, config.participants, config.seed)
        return tuple(
            Agent(group, config.seed, number, trip)
            for number, (group, trip) in enumerate(zip(groups, trips, strict=False))
        )

    def address(self, number: int) -> str:
        """Return a participant's address."""
        return self._addresses[number]

    def later_address(self, number: int, left: int) -> str:
        """Return the address under which a participant takes part that has left so many names, 0 or more."""
        name = f"{participant_role(number)}, name {left}"
        return experiment_address(self.config.seed, name) if left else self.address(number)

    def leaves(self, number: int, reputation: int) -> bool:
        """Return whether a participant leaves its name for a new one, given its reputation in ppm."""
        attack = self._attackers.get(number)
        return isinstance(attack, Whitewashing) and attack.leaves(reputation)

    def examples(self, number: int) -> int:
        """Return how many examples a participant has."""
        return self.parts.size(number)

    def on(self, device: str) -> Experiment:
        """Return the same experiment, with training on a torch device; its bits are the device's own."""
        return replace(self, device=device)

    def under(self, key: bytes) -> Experiment:
        """Return the same experiment with its validation set under another key, unless that is public."""
        kept = self.validation.under(key)
        named = {"validation": Ref.of(ContentRef.of(kept.content)), "seal": kept.seal}
        contents = (self.contents[0], kept.content, *self.contents[2:])
        return replace(self, spec=self.spec.model_copy(update=named), contents=contents, validation=kept)

    def described(self, schema: DataSchema) -> Experiment:
        """Return the same with a spec that says how participants make examples of their own data."""
        content = schema.encode()
        spec = self.spec.model_copy(update={"data_schema": Ref.of(ContentRef.of(content))})
        return replace(self, spec=spec, contents=(*self.contents[:2], content, *self.contents[2:]))

    def report(self, number: int, index: int) -> dict[str, int] | None:
        """Return what a participant reports in a bidding round; None if that is not all that the task asks for."""
        if self.agents:
            return self.agents[number].report(self.spec.report, index)
        numbers, ranges = self.spec.report, self.config.reports
        if not numbers or any(asked.name not in ranges for asked in numbers):
            return None
        drawn = stream(self.spec.digest, "reports", 0, self.address(number))
        return {
            asked.name: ranges[asked.name][0] + drawn.below(ranges[asked.name][1] - ranges[asked.name][0] + 1)
            for asked in numbers
        }

    def publish(self, store: ContentStore) -> ContentRef:
        """Store the spec and all it names; return the spec's reference."""
        for content in self.contents:
            store.put(content)
        return store.put(self.spec.encode())

    def trainer(self, number: int, honest: bool = False) -> Trainer:
        """Return what makes the updates of a participant, as it behaves or as if honest; all of them use one model."""
        trainer = self._local(number) if honest else self._behaving(number)
        made = CompressingTrainer(trainer) if self.spec.payload else trainer
        if isinstance(trainer, LocalTrainer) or self.spec.committed_data is None:
            return made
        # Attackers commit to their data, too, and show what honest training makes of them.
        return Showing(made, self.trainer(number, honest=True), self.behaviours[number] == HONEST)

    @cached_property
    def looks_back(self) -> int:
        """How many models of rounds before a participant is shown, at least one: as many as an attacker looks at."""
        rounds = max(1, self._coalition.looks_back or 0) if self._attackers else 1
        # At most every second round asks for bids, and nobody learns anything there.
        return rounds if self.spec.bidding is None else 2 * rounds + 1

    def attack(self, number: int) -> Trainer | None:
        """Return the attack of a participant; None if it is honest."""
        return self._attackers.get(number)

    def _behaving(self, number: int) -> Trainer:
        if number in self._attackers:
            return self._attackers[number]
        honest = self._local(number)
        watched = self._attackers and self._coalition.looks_back is not None
        return Remembered(honest, number, self._coalition) if watched else honest

    @cached_property
    def _attackers(self) -> dict[int, Trainer]:
        return {number: self._attacker(number) for number, name in enumerate(self.behaviours) if name != HONEST}

    @cached_property
    def _coalition(self) -> Coalition:
        numbers = range(len(self.behaviours))
        return Coalition(
            [number for number in numbers if self.behaviours[number] != HONEST],
            [number for number in numbers if self.behaviours[number] == HONEST],
            lambda number: Colleague(self.address(number), self._local(number)),
            self._public_validation,
        )

    def _public_validation(self, index: int) -> Dataset | None:
        if self.spec.seal is None:
            return self._validation
        known = self.validation.public(self.spec, index)
        return None if known is None else Dataset(*known, self.test.classes)

    def _attacker(self, number: int) -> Trainer:
        behaviour = self.behaviours[number]
        own = self.agents[number].group.attack if self.agents else None
        method = own or self.config.attack(behaviour, self.behaviours[:number].count(behaviour))
        params = dict(method.params)
        if behaviour == "duplicate":
            accomplice = next((i for i, b in enumerate(self.behaviours) if b == HONEST), None)
            if accomplice is None:
                raise ConfigError("A duplicate copies an honest participant, but there is none.", "Reduce a count.")
            params["accomplice_address"] = self.address(accomplice)
            return attacker(method.method, params, self._local(accomplice))
        return attacker(method.method, params, self._local(number), self._coalition)

    def trusted_update(self, index: int, base: ModelFile) -> bytes:
        """Return the update that the aggregator trusts in a round, as content.

        The task's solver makes it from the round's base model on the validation examples, which everybody knows.
        """
        trainer = LocalTrainer(self._model, self._solver, self._validation, objective=self.objective)
        return trusted_update(self.spec, trainer, index, base)

    def flat_model(self, device: str = "cpu") -> FlatModel:
        """Return a fresh module of the task's model, flat; what no update moves is the initial model's."""
        return FlatModel(self.make_model(), device, self.spec.tensors, self.initial.fixed)

    def state(self, model: ModelFile) -> bytes:
        """Return a model as a file that a fresh module of its kind loads strictly, tied and fixed tensors included."""
        self.evaluated.load(model.vector)
        return tensors.encode(self.evaluated.state(), further=True)

    def measurer(self) -> LiveMeasurer:
        """Return a measurer on the task's validation set."""
        models = [self.flat_model() for _ in range(1 + other_measurers(self.config.code is not None))]
        return LiveMeasurer(models[0], self.validation.by_round(self.spec, self.objective), models[1:])

    def tested(self, model: ModelFile) -> Tested:
        """Return a model's loss and score on the test set."""
        found = evaluate(self.evaluated, [model.vector], self._tested)[0]
        return Tested(found.loss, found.share if found.full_score else float(found.score))

    def task_params(self, spec: ContentRef) -> TaskParams:
        """Return what the publisher posts.

        Raises
        ------
        ConfigError
            If there are more participants than a ledger takes, or an attacker takes new names.
        """
        from fedledger.platform.experiment.ledger_terms import ledger_terms

        config = self.config
        if config.participants > MAX_PARTICIPANTS:
            raise ConfigError(
                f"The task has {config.participants:,} participants; a ledger takes at most {MAX_PARTICIPANTS:,}.",
                "Reduce their number, or run with --no-ledger.",
            )
        if any(isinstance(attack, Whitewashing) for attack in self._attackers.values()):
            raise ConfigError("An attacker takes new names, which no ledger is played with.", "Run with --no-ledger.")
        return ledger_terms(config, self.spec, spec)

    def standbys(self) -> list[str]:
        """Return the addresses of the experiment's standby aggregators, in their order."""
        return [experiment_address(self.config.seed, standby_role(n)) for n in range(self.config.ledger.standbys)]

    def ledger_settings(self) -> Settings:
        """Return what the ledger is deployed with."""
        from fedledger.contracts.ledger.records import Settings

        ledger = self.config.ledger
        return Settings(
            min_stake=least_stake(self.config) * GWEI,
            exit_delay=ledger.exit_delay,
            min_verifier_stake=ledger.verifier_stake_gwei * GWEI,
            juror_penalty=ledger.juror_penalty_gwei * GWEI,
            dispute_period=ledger.dispute_period,
            jury_size=ledger.jury_size,
            appeals=ledger.appeals,
            least_pool=ledger.least_pool,
        )

    def _local(self, number: int) -> LocalTrainer:
        return LocalTrainer(self._model, self._solver, self.parts[number], self._transforms, self.objective)

    @cached_property
    def _solver(self) -> Solver:
        return build_solver(self.spec.solver.method, self.spec.solver.params)

    @cached_property
    def _transforms(self) -> tuple[Transform, ...]:
        return build_transforms(self.spec.transforms)

    @cached_property
    def _model(self) -> FlatModel:
        return self.flat_model(self.device)

    @cached_property
    def evaluated(self) -> FlatModel:
        """The task's model on the processor, to measure with; its parameters are overwritten."""
        return self._model if self.device == "cpu" else self.flat_model()

    @cached_property
    def _validation(self) -> Dataset:
        return Dataset(*self.validation.examples(), self.test.classes)

    @cached_property
    def _tested(self) -> HeldOut:
        return HeldOut(self.test.inputs, self.test.targets, self.objective)

    @cached_property
    def _addresses(self) -> list[str]:
        numbers = range(self.config.participants)
        return [experiment_address(self.config.seed, participant_role(number)) for number in numbers]
