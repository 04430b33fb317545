"""From a configuration to what everybody shares: the spec with its contents, and each participant's data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.aggregator.round.measurement import INPUTS, LABELS, LiveMeasurer
from fedledger.aggregator.round.methods import check_memory, check_work
from fedledger.aggregator.round.state import State
from fedledger.learning.code_bundle import read_code
from fedledger.learning.data import Dataset, Parts, Prepared
from fedledger.learning.hold_out import hold_out
from fedledger.learning.label_counts import LabelCounts
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.models.base import build_model
from fedledger.learning.models.initial import initial_model, require_in_bounds, require_reproducible
from fedledger.learning.objectives.base import Objective, build_objective
from fedledger.learning.partitions.base import partition as divide
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.task_code import load_task_code
from fedledger.learning.vectors import FlatModel
from fedledger.node.compression import CompressingTrainer
from fedledger.node.solvers.base import Solver, computed_by, sent_by
from fedledger.node.solvers.build import build_solver
from fedledger.node.training import LocalTrainer, Trainer, TrainingContext
from fedledger.node.transforms.base import Transform, build_transforms
from fedledger.platform.attacks.base import attacker
from fedledger.platform.devices.fleet import draw_fleet, update_size
from fedledger.platform.experiment.accounts import AGGREGATOR, experiment_address, participant_role, standby_role
from fedledger.platform.experiment.config import GWEI, ExperimentConfig
from fedledger.platform.experiment.payload import checked_payload
from fedledger.platform.experiment.tested import ObjectiveSummary, Tested, objective_summary
from fedledger.protocol.codecs.payload import Slot, payload_slots, statistics_slots
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import Ref, TaskSpec
from fedledger.protocol.records.trusted_update import write_trusted
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.schedules.timetable import require_schedule
from fedledger.storage.base import ContentStore
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import Settings, TaskParams

HONEST = "honest"
NOBODY = "0x" + "00" * 20
"""Whose training the trusted update is, for its random stream."""
MAX_PARTICIPANTS = 4096
"""Of a task, as the contract has it."""

SPREAD = 2048
"""Examples, at most, on which is tried out what training makes of a model."""
MEASURERS = 8
"""Threads that measure at most, each with a model of its own."""


@dataclass(frozen=True)
class Experiment:
    """An experiment before it starts.

    Parameters
    ----------
    config, spec
        The configuration and the spec that follows from it.
    contents
        What the spec names by CID: initial model, validation set, then code and device table, if there are any.
    parts
        Each participant's examples.
    test
        Examples behind the reported losses and scores; nobody trains or measures on them.
    behaviours
        Each participant's behaviour: ``honest`` or the attack's name.
    make_model
        Makes a fresh module of the task's model.
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
    device: str = "cpu"

    def __getstate__(self) -> dict[str, Any]:
        # The model of one process is not that of another: a copy's gradients would not be where its optimiser looks.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def objective(self) -> Objective:
        """What training minimises, and how models are measured."""
        named = self.spec.objective
        if named is None:
            raise ConfigError("The task's spec names no objective.", "Name one under [training].")
        return build_objective(named.method, named.params)

    @property
    def objective_summary(self) -> ObjectiveSummary:
        """What a run's summary says of the objective."""
        return objective_summary(self.objective, self.spec.objective)

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

    def address(self, number: int) -> str:
        """Return a participant's address."""
        return self._addresses[number]

    def examples(self, number: int) -> int:
        """Return how many examples a participant has."""
        return self.parts.size(number)

    def on(self, device: str) -> Experiment:
        """Return the same experiment, with training on a torch device; its bits are the device's own."""
        return replace(self, device=device)

    def publish(self, store: ContentStore) -> ContentRef:
        """Store the spec and all it names; return the spec's reference."""
        for content in self.contents:
            store.put(content)
        return store.put(self.spec.encode())

    def trainer(self, number: int) -> Trainer:
        """Return what makes the updates of a participant, honest or not; all of them use one model."""
        trainer = self._behaving(number)
        return CompressingTrainer(trainer) if self.spec.payload else trainer

    def _behaving(self, number: int) -> Trainer:
        honest = self._local(number)
        behaviour = self.behaviours[number]
        if behaviour == HONEST:
            return honest
        method = next(g.attack for g in self.config.attackers if g.attack.method.split("@")[0] == behaviour)
        params = dict(method.params)
        if behaviour == "duplicate":
            accomplice = next((i for i, b in enumerate(self.behaviours) if b == HONEST), None)
            if accomplice is None:
                raise ConfigError(
                    "A duplicate copies the work of an honest participant, but there is none.", "Reduce a count."
                )
            address = experiment_address(self.config.seed, participant_role(accomplice))
            return attacker(method.method, {**params, "accomplice_address": address}, self._local(accomplice))
        return attacker(method.method, params, honest)

    def trusted_update(self, index: int, base: ModelFile) -> bytes:
        """Return the update that the aggregator trusts in a round, as content.

        The task's solver makes it from the round's base model on the validation examples, which everybody knows.
        """
        trainer = LocalTrainer(self._model, self._solver, self._validation)
        trained = trainer(TrainingContext(self.spec, index, NOBODY, base, None))
        return write_trusted(trained.delta)

    def flat_model(self, device: str = "cpu") -> FlatModel:
        """Return a fresh module of the task's model, flat; what no update moves is the initial model's."""
        return FlatModel(self.make_model(), device, self.spec.tensors, self.initial.fixed)

    def state(self, model: ModelFile) -> bytes:
        """Return a model as a file that a fresh module of its kind loads strictly, tied and fixed tensors included."""
        self._evaluated.load(model.vector)
        return tensors.encode(self._evaluated.state())

    def measurer(self) -> LiveMeasurer:
        """Return a measurer on the task's validation set."""
        # A task's own code may hold what threads must not share.
        others = 0 if self.config.code is not None else min(processors(), MEASURERS) - 1
        models = [self.flat_model() for _ in range(1 + others)]
        return LiveMeasurer(models[0], self.contents[1], models[1:])

    def tested(self, model: ModelFile) -> Tested:
        """Return a model's loss and score on the test set."""
        found = evaluate(self._evaluated, [model.vector], self._tested)[0]
        return Tested(found.loss, found.share if found.full_score else float(found.score))

    def task_params(self, spec: ContentRef) -> TaskParams:
        """Return what the publisher posts.

        Raises
        ------
        ConfigError
            If there are more participants than a ledger takes.
        """
        from fedledger.contracts.ledger.records import TaskParams

        ledger, config = self.config.ledger, self.config
        if config.participants > MAX_PARTICIPANTS:
            raise ConfigError(
                f"The task has {config.participants:,} participants; a ledger takes at most {MAX_PARTICIPANTS:,}.",
                "Reduce their number, or run with --no-ledger.",
            )
        return TaskParams(
            spec=spec,
            model=self.spec.initial_model.ref,
            aggregator=experiment_address(config.seed, AGGREGATOR),
            rounds=self.spec.rounds,
            quorum=config.quorum,
            min_participants=config.participants,
            max_participants=config.participants,
            enrol_period=ledger.enrol_period,
            commit_period=ledger.commit_period,
            reveal_period=ledger.reveal_period,
            propose_period=ledger.propose_period,
            challenge_window=ledger.challenge_window,
            max_unfinal=ledger.max_unfinal,
            max_staleness=ledger.max_staleness,
            randomness=int(self.spec.randomness == "beacon"),
            batched=ledger.batched,
            grace_period=ledger.grace_period,
            min_stake=ledger.stake_gwei * GWEI,
            min_reputation=ledger.min_reputation,
            bond=ledger.bond_gwei * GWEI,
            credit_unit=ledger.credit_unit_gwei * GWEI,
            units_per_round=ledger.units_per_round,
            penalty=ledger.penalty_gwei * GWEI,
        )

    def standbys(self) -> list[str]:
        """Return the addresses of the experiment's standby aggregators, in their order."""
        numbers = range(self.config.ledger.standbys)
        return [experiment_address(self.config.seed, standby_role(number)) for number in numbers]

    def ledger_settings(self) -> Settings:
        """Return what the ledger is deployed with."""
        from fedledger.contracts.ledger.records import Settings

        ledger = self.config.ledger
        return Settings(
            min_stake=ledger.stake_gwei * GWEI,
            exit_delay=ledger.exit_delay,
            min_verifier_stake=ledger.verifier_stake_gwei * GWEI,
            juror_penalty=ledger.juror_penalty_gwei * GWEI,
            dispute_period=ledger.dispute_period,
        )

    def _local(self, number: int) -> LocalTrainer:
        return LocalTrainer(self._model, self._solver, self.parts[number], self._transforms)

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
    def _evaluated(self) -> FlatModel:
        return self._model if self.device == "cpu" else self.flat_model()

    @cached_property
    def _validation(self) -> Dataset:
        named = tensors.decode(self.contents[1])
        return Dataset.of(named[INPUTS].copy(), named[LABELS].copy(), classes=self.test.classes)

    @cached_property
    def _tested(self) -> HeldOut:
        return HeldOut(self.test.inputs, self.test.targets, self.objective)

    @cached_property
    def _addresses(self) -> list[str]:
        numbers = range(self.config.participants)
        return [experiment_address(self.config.seed, participant_role(number)) for number in numbers]


def make_experiment(config: ExperimentConfig, folder: Path) -> Experiment:
    """Load the data, divide it, draw the attackers and write the spec; all of it follows from the configuration.

    Parameters
    ----------
    config
        The configuration.
    folder
        Paths in the configuration are relative to it.
    """
    rng = np.random.Generator(np.random.PCG64(config.seed))
    own = None if config.code is None else _own_code(folder / config.code)
    if own is None and config.model is None:
        raise ConfigError("The configuration has neither model nor code.", "Give one of them.")
    prepared = Prepared(_dataset(config, folder)) if own is None or own.data is None else own.data()
    train, validation, test = hold_out(prepared, config.data.test_fraction, config.data.validation_fraction, rng)
    parts = train if isinstance(train, Parts) else _dealt(train, config, rng)
    if len(parts) != config.participants:
        raise ConfigError(
            f"The data are divided among {len(parts)} participants, but the configuration has {config.participants}.",
            f"Set participants = {len(parts)}.",
        )
    behaviours = [HONEST] * config.participants
    drawn = iter(rng.permutation(config.participants).tolist())
    for group in config.attackers:
        for _ in range(group.count):
            behaviours[next(drawn)] = group.attack.method.split("@")[0]
    return assemble(config, parts, validation, test, own, behaviours, folder)


@dataclass(frozen=True)
class OwnCode:
    """A task's own code.

    Parameters
    ----------
    content
        The file's bytes, or the bundle of it and its modules.
    model
        Makes a fresh module.
    data
        Makes the data; None if the code does not say.
    """

    content: bytes
    model: Callable[[], torch.nn.Module]
    data: Callable[[], Prepared] | None = None


def assemble(
    config: ExperimentConfig,
    parts: Parts,
    validation: Dataset,
    test: Dataset,
    own: OwnCode | None = None,
    behaviours: Sequence[str] = (),
    folder: Path = Path(),
) -> Experiment:
    """Write the spec of an experiment whose data are there.

    Parameters
    ----------
    config
        The configuration.
    parts
        Each participant's examples.
    validation, test
        Examples on which updates are measured, and those behind the reported losses and scores.
    own
        The task's own code, if it has some; else the model is the configuration's.
    behaviours
        Each participant's behaviour; honest unless given.
    folder
        Paths in the configuration are relative to it.

    Raises
    ------
    ConfigError
        If there is no model, or the configuration does not suit its schedule.
    """
    make_model = _configured_model(config) if own is None else own.model
    begins = initial_model(make_model, config.seed, parts.spread(SPREAD).inputs)
    require_in_bounds(begins, config.training.fixed_point)
    if own is not None:
        require_reproducible(make_model, config.seed, validation.inputs)
    initial, dimension = begins.file.encode_whole(), begins.file.dimension
    measured = tensors.encode({INPUTS: validation.inputs, LABELS: validation.targets})
    solver = build_solver(config.training.solver.method, config.training.solver.params)
    payload = checked_payload(config, solver, dimension)
    build_transforms(config.training.transforms)
    slots = (*payload_slots(payload, list(sent_by(solver)), dimension), *statistics_slots(begins.tensors))
    code, devices = None if own is None else own.content, _devices(config, solver, slots, initial, parts, folder)
    _require_schedulable(config)
    spec = TaskSpec(
        name=config.name,
        seed=config.seed,
        model=config.model,
        code=_ref(code),
        initial_model=Ref.of(ContentRef.of(initial)),
        tensors=begins.tensors,
        validation=Ref.of(ContentRef.of(measured)),
        vectors=list(sent_by(solver)),
        devices=_ref(devices),
        **{name: getattr(config.training, name) for name in type(config.training).model_fields} | {"payload": payload},
    )
    check_memory(spec, config.participants, dimension)
    check_work(spec, min(config.participants, spec.selection.params.get("count", config.participants)), dimension)
    return Experiment(
        config=config,
        spec=spec,
        contents=tuple(content for content in (initial, measured, code, devices) if content is not None),
        parts=parts,
        test=test,
        behaviours=tuple(behaviours) or (HONEST,) * config.participants,
        make_model=make_model,
    )


def _own_code(path: Path) -> OwnCode:
    content = read_code(path)
    cid = ContentRef.of(content).cid
    code = load_task_code(content, cid, {cid}, path)
    return OwnCode(content, code.model, code.data if code.has_data else None)


def _configured_model(config: ExperimentConfig) -> Callable[[], torch.nn.Module]:
    if config.model is None:
        raise ConfigError("The configuration has no model.", "Give one.")
    return partial(build_model, config.model.method, config.model.params)


def _ref(content: bytes | None) -> Ref | None:
    return None if content is None else Ref.of(ContentRef.of(content))


def _dealt(dataset: Dataset, config: ExperimentConfig, rng: np.random.Generator) -> Parts:
    division = config.data.partition
    return Parts(dataset, divide(division.method, division.params, dataset, config.participants, rng))


def _require_schedulable(config: ExperimentConfig) -> None:
    schedule = config.training.schedule
    if schedule is None:
        return
    if config.devices is None:
        raise ConfigError(
            f"The schedule {schedule.method} needs to know the participants' devices.",
            'Describe them, for example: devices = { kinds = [{ link = "4g" }] }.',
        )
    require_schedule(schedule, config.quorum, config.ledger.max_staleness)


def _devices(
    config: ExperimentConfig, solver: Solver, payload: Sequence[Slot], initial: bytes, parts: Parts, folder: Path
) -> bytes | None:
    """Draw the participants' devices, if there are any, and find out what a round sends each way.

    A participant downloads the model and, if its solver is told more by the aggregator, the state that holds that. It
    uploads its update.
    """
    if config.devices is None:
        return None
    down = len(initial)
    if len(payload) > 1:
        nothing = np.zeros(payload[0].length, np.int64)
        optimiser = build(OPTIMISERS, config.training.optimiser.method, config.training.optimiser.params)
        _, moments = optimiser(nothing, {}, 1 << config.training.fixed_point.fraction_bits)
        published = {slot.name: np.zeros(slot.length, np.int64) for slot in payload[1:]}
        down += len(State(nothing, moments, published=published).encode())
    table = draw_fleet(
        config.devices,
        [experiment_address(config.seed, participant_role(number)) for number in range(config.participants)],
        [computed_by(solver, parts.size(number)) for number in range(config.participants)],
        bytes_down=down,
        bytes_up=update_size(payload, config.training.rounds),
        seed=config.seed,
        folder=folder,
    )
    return table.encode()


def _dataset(config: ExperimentConfig, folder: Path) -> Dataset:
    params = dict(config.data.source.params)
    for key in ("path", "folder"):
        # Anything else than a text is the source's to refuse.
        if isinstance(params.get(key), str):
            params[key] = str(folder / params[key])
    return load_dataset(config.data.source.method, params)
