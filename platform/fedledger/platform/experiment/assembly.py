"""From a configuration to an experiment: the data loaded and divided, the model tried out, and the spec written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedledger.aggregator.mechanisms.trade import require_quorum
from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.aggregator.round.methods import check_memory, check_rows, check_work
from fedledger.aggregator.round.state import State
from fedledger.aggregator.rules.base import RULES
from fedledger.aggregator.selection.base import SELECTIONS
from fedledger.learning.code_bundle import read_code
from fedledger.learning.data import Dataset, Parts, Prepared
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.hold_out import hold_out
from fedledger.learning.metrics import check_model
from fedledger.learning.models.base import build_model
from fedledger.learning.models.initial import (
    InitialModel,
    initial_model,
    outputs,
    require_in_bounds,
    require_reproducible,
)
from fedledger.learning.partitions.base import partition as divide
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.task_code import TaskCode, load_task_code, model_of_code_alone
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.base import Solver, computed_by, require_suited
from fedledger.node.solvers.build import build_solver
from fedledger.node.transforms.base import build_transforms
from fedledger.platform.agents.agent import groups_of, trained_on
from fedledger.platform.agents.config import AgentConfig
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.devices.fleet import draw_fleet, update_size
from fedledger.platform.experiment.accounts import experiment_address, participant_role
from fedledger.platform.experiment.checked_data import checked_data
from fedledger.platform.experiment.config import DataConfig, ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.experiment.kept_validation import KeptValidation, experiment_seal_key
from fedledger.platform.experiment.payload import checked_payload, sent_vectors
from fedledger.platform.experiment.scoring_terms import require_candidates
from fedledger.platform.experiment.sizes import fitting_limits, published, require_sizes
from fedledger.platform.experiment.task_objective import TaskObjective, require_pairs, task_objective, task_tolerance
from fedledger.protocol.codecs.payload import Slot, payload_slots, statistics_slots
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build, require_parameters
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import PUBLIC
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.schedules.base import build_schedule
from fedledger.protocol.schedules.timetable import require_schedule

SPREAD = 2048
"""Examples, at most, on which is tried out what training makes of a model."""
TRIED = 8
"""Examples on which is tried out what inputs a model takes."""


def make_experiment(config: ExperimentConfig, folder: Path, own: TaskCode | None = None) -> Experiment:
    """Load the data, divide it, draw the attackers and write the spec; all of it follows from the configuration.

    Parameters
    ----------
    config
        The configuration.
    folder
        Paths in the configuration are relative to it.
    own
        The task's own code; unless given, it is run from where the configuration says.

    Raises
    ------
    ConfigError
        If an attack, a method, the data or their division cannot be.
    """
    _require_attacks(config)
    rng = np.random.Generator(np.random.PCG64(config.seed))
    if own is None and config.code is not None:
        own = own_code(folder / config.code)
    if own is None and config.model is None:
        raise ConfigError("The configuration has neither model nor code.", "Give one of them.")
    prepared = _prepared(config, own, folder)
    prepared = _suited(prepared.changed(task_objective(config, own).objective.prepared), _model(config, own))
    train, validation, test = hold_out(prepared, config.data.test_fraction, config.data.validation_fraction, rng)
    parts = train if isinstance(train, Parts) else _dealt(train, config, rng)
    if len(parts) != config.participants:
        raise ConfigError(
            f"The data are divided among {len(parts)} participants, but the configuration has {config.participants}.",
            f"Set participants = {len(parts)}.",
        )
    if config.ledger.check_rate and config.data.validation_access == PUBLIC:
        # A check fails on any of them.
        public = frozenset(example_keys(validation.inputs, validation.targets))
        keys = example_keys(parts.whole.inputs, parts.whole.targets)
        parts = parts.kept(np.array([key not in public for key in keys]))
    agents = groups_of(config.agents, config.participants, config.seed)
    if agents:
        parts = parts.kept(trained_on(agents, [parts.size(number) for number in range(len(parts))], config.seed))
    return assemble(config, parts, validation, test, own, _behaviours(config, agents, rng), folder)


def _behaviours(config: ExperimentConfig, agents: Sequence[AgentConfig], rng: np.random.Generator) -> list[str]:
    """Return each participant's behaviour: that of its group of agents, or what is drawn for it."""
    attacks = [None if agent.attack is None else agent.attack.method.split("@")[0] for agent in agents]
    behaviours = [attack or HONEST for attack in attacks] or [HONEST] * config.participants
    drawn = iter(rng.permutation(config.participants).tolist())
    for group in config.attackers:
        for _ in range(group.count):
            behaviours[next(drawn)] = group.attack.method.split("@")[0]
    return behaviours


def _require_attacks(config: ExperimentConfig) -> None:
    for attack in [*(each.attack for each in config.attackers), *(each.attack for each in config.agents)]:
        if attack is not None:
            _require_attack(attack.method, attack.params)


def _require_attack(method: str, params: Mapping[str, Any]) -> None:
    """Raise ConfigError if there is no such attack, or its parameters or those of the attack in it are wrong."""
    require_parameters(ATTACKS, method, params)
    if params.get("attack"):
        _require_attack(params["attack"], params.get("params", {}))


def assemble(
    config: ExperimentConfig,
    parts: Parts,
    validation: Dataset,
    test: Dataset,
    own: TaskCode | None = None,
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
    make_model, found = _model(config, own), task_objective(config, own, validation)
    kept = _kept(config, validation)
    judged = kept.judged()
    require_pairs(found.objective, validation, test, judged)
    solver = build_solver(config.training.solver.method, config.training.solver.params)
    begins = _tried(make_model, config, parts, validation, found, solver)
    if own is not None:
        require_reproducible(make_model, partial(model_of_code_alone, own), config.seed, validation.inputs)
    initial, dimension = begins.file.encode_whole(), begins.file.dimension
    training = config.training
    payload = checked_payload(config, solver, dimension)
    build_transforms(training.transforms)
    slots = (*payload_slots(payload, list(sent_vectors(config, solver)), dimension), *statistics_slots(begins.tensors))
    require_sizes(initial, slots, training.optimiser)
    code = None if own is None else own.content
    devices = _devices(config, solver, slots, begins, parts, folder)
    _require_schedulable(config)
    fields = {
        **{name: value for name, value in training if name != "pipeline"},
        "payload": payload,
        "objective": found.method,
        "limits": fitting_limits(training.limits, slots, training.rounds),
        "tolerance": task_tolerance(training.tolerance, found, judged),
        **checked_data(config),
        "name": config.name,
        "seed": config.seed,
        "model": config.model,
        "code": _ref(code),
        "initial_model": Ref.of(ContentRef.of(initial)),
        "tensors": begins.tensors,
        "lower_is_better": found.objective.lower_is_better,
        "validation": Ref.of(ContentRef.of(kept.content)),
        "seal": kept.seal,
        "vectors": list(sent_vectors(config, solver)),
        "devices": _ref(devices),
    }
    spec = validated(TaskSpec, fields, "The task's spec")
    _require_rounds(spec, config.participants, dimension)
    require_quorum(spec, config.quorum)
    require_candidates(config, asked_at_most(spec, config.ledger.min_participants or config.participants))
    return Experiment(
        config=config,
        spec=spec,
        contents=tuple(content for content in (initial, kept.content, code, devices) if content is not None),
        parts=parts,
        test=test,
        behaviours=tuple(behaviours) or (HONEST,) * config.participants,
        make_model=make_model,
        objective=found.objective,
        validation=kept,
    )


def _require_rounds(spec: TaskSpec, participants: int, dimension: int) -> None:
    """Raise ConfigError if a task's rounds are too much work, keep too much, or have too few updates."""
    asked = asked_at_most(spec, participants)
    check_memory(spec, participants, dimension)
    check_work(spec, asked, dimension)
    check_rows(spec, most_updates(spec, asked))


def asked_at_most(spec: TaskSpec, participants: int) -> int:
    """Return how many participants a round asks at most."""
    selection = build(SELECTIONS, spec.selection.method, spec.selection.params)
    limits = [getattr(selection, name, None) for name in ("count", "asked", "most")]
    return min(participants, *(limit for limit in limits if isinstance(limit, int)), participants)


def most_updates(spec: TaskSpec, asked: int) -> int:
    """Return how many updates a round has at most, which asks so many participants."""
    most = None if spec.schedule is None else build_schedule(spec.schedule).most_updates
    return asked if most is None else min(asked, most)


def _kept(config: ExperimentConfig, validation: Dataset) -> KeptValidation:
    """Return the validation set as it is kept; a rule whose aggregator trains on it would tell what it holds."""
    access, rule = config.data.validation_access, config.training.aggregation
    if access != PUBLIC and build(RULES, rule.method, rule.params).needs_trusted:
        raise ConfigError(
            f"The rule {rule.method} publishes what the aggregator learns from the validation set, which is {access}.",
            'Set validation_access = "public", or choose another rule.',
        )
    examples = validation.inputs, validation.targets
    return KeptValidation.of(examples, access, config.data.validation_slice, experiment_seal_key(config.seed))


def _tried(
    make_model: Callable[[], torch.nn.Module],
    config: ExperimentConfig,
    parts: Parts,
    validation: Dataset,
    found: TaskObjective,
    solver: Solver,
) -> InitialModel:
    """Return the initial model, once it has been seen to suit data, objective and number format."""
    begins = initial_model(make_model, config.seed, parts.spread(SPREAD).inputs)
    require_in_bounds(begins, config.training.fixed_point)
    model = FlatModel(make_model(), described=begins.tensors, fixed=begins.file.fixed)
    check_model(model, begins.file.vector, validation, found.objective)
    require_suited(solver, model, validation, map(parts.size, range(len(parts))), found.objective.loss)
    return begins


def _prepared(config: ExperimentConfig, own: TaskCode | None, folder: Path) -> Prepared:
    if own is None or not own.has_data:
        return Prepared(_dataset(config, folder))
    source = config.data.source
    if source != DataConfig().source:
        raise ConfigError(
            f"The configuration names the data source {source.method}, and the task.py defines data().",
            "Leave one of them out.",
        )
    return own.data()


def _suited(prepared: Prepared, make_model: Callable[[], torch.nn.Module]) -> Prepared:
    """Return data with whole numbers as inputs where the model takes such, and else with the same as float32."""
    train = prepared.train.whole if isinstance(prepared.train, Parts) else prepared.train
    if train.inputs.dtype == np.float32 or not len(train):
        return prepared
    module = make_model()
    try:
        outputs(module, train.inputs[:TRIED])
    except ConfigError as whole:
        changed = prepared.changed(Dataset.as_float)
        try:
            outputs(module, train.inputs[:TRIED].astype(np.float32))
        except ConfigError:
            raise whole from None
        return changed
    return prepared


def _model(config: ExperimentConfig, own: TaskCode | None) -> Callable[[], torch.nn.Module]:
    return _configured_model(config) if own is None else own.model


def own_code(path: Path) -> TaskCode:
    """Run one's own ``task.py``, which is trusted; raises ConfigError if it cannot be read or run."""
    content = read_code(path)
    cid = ContentRef.of(content).cid
    return load_task_code(content, cid, {cid}, path)


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
    config: ExperimentConfig, solver: Solver, payload: Sequence[Slot], begins: InitialModel, parts: Parts, folder: Path
) -> bytes | None:
    """Draw the participants' devices, if there are any, and find out what a round sends each way.

    A participant downloads the model and, if its solver is told more by the aggregator, the state that holds that. It
    uploads its update.
    """
    if config.devices is None:
        return None
    down, told = len(begins.file.encode()), published(payload)
    if told:
        nothing = np.zeros(payload[0].length, np.int64)
        optimiser = build(OPTIMISERS, config.training.optimiser.method, config.training.optimiser.params)
        _, moments = optimiser(nothing, {}, 1 << config.training.fixed_point.fraction_bits)
        zeros = {name: np.zeros(length, np.int64) for name, length in told.items()}
        down += len(State(nothing, moments, published=zeros).encode())
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
    source, objective = config.data.source, config.training.objective
    numbers = objective is not None and objective.method.startswith("regression@")
    return load_dataset(source.method, source.params, numbers, folder)
