"""What programs take part with: an experiment's part or one's own data, and what an aggregator needs of a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedledger.platform.cli.context import SealOptions, open_experiment, warn_of
from fedledger.platform.cli.options import ExperimentSeedOption, SeedOption, TrackOption, TrustOption
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.actor import Actor
    from fedledger.contracts.ledger.client import Ledger
    from fedledger.node.own_data import NodeConfig
    from fedledger.node.own_examples import OwnExamples
    from fedledger.node.scoring import Scorer
    from fedledger.node.training import Trainer
    from fedledger.node.updates import Bidder
    from fedledger.platform.experiment.experiment import Experiment
    from fedledger.platform.experiment.kept_validation import KeptValidation
    from fedledger.platform.experiment.posted_task import PostedAggregation
    from fedledger.platform.experiment.task_config import OpenedTask
    from fedledger.protocol.records.spec import TaskSpec
    from fedledger.storage.base import ContentStore


@dataclass(frozen=True)
class AggregationOptions:
    """An experiment whose aggregator it is, or what the publisher gave to its aggregators."""

    config: Annotated[
        Path | None, typer.Argument(help="configuration of an experiment, whose accounts are used and code is trusted")
    ] = None
    seed: SeedOption = None
    experiment_seed: ExperimentSeedOption = None
    trust_code: TrustOption = None
    validation: Annotated[
        Path | None, typer.Option(help="file of a validation set that is opened in blocks, made by `task post`")
    ] = None

    def open(self, ledger: Ledger, store: ContentStore, spec: TaskSpec, seal: SealOptions) -> Aggregation:
        """Return what an aggregator needs of a posted task.

        Raises
        ------
        ConfigError
            If the key of its validation set, or the set itself, is missing or another one.
        """
        from fedledger.platform.experiment.posted_task import PostedAggregation

        named = None if self.config is None else AggregatedExperiment.read(self.config, self.seed)
        seed = self.experiment_seed if named is None else named.seed
        key = seal.of(spec, seed if ledger.chain.development else None)
        kept = None if key is None else kept_validation(spec, self.validation, key, named)
        trusted = frozenset(self.trust_code or ()) | (frozenset() if named is None else named.code)
        return Aggregation(PostedAggregation(spec, store, trusted, key, kept), seed, key)


@dataclass(frozen=True)
class Aggregation:
    """What an aggregator needs of a posted task.

    Parameters
    ----------
    posted
        Its measurer, and the update that some rules trust.
    seed
        Of the experiment whose accounts are used, if it is one.
    seal_key
        The key of its validation set, unless that is public.
    """

    posted: PostedAggregation
    seed: int | None
    seal_key: bytes | None


@dataclass(frozen=True)
class AggregatedExperiment:
    """What an aggregator takes from an experiment's configuration: nobody's data.

    Parameters
    ----------
    path, seed
        The configuration, and the seed from which accounts follow.
    code
        The CIDs of its own code, which is trusted.
    """

    path: Path
    seed: int
    code: frozenset[str]

    @classmethod
    def read(cls, path: Path, seed: int | None) -> AggregatedExperiment:
        """Read a configuration; a seed replaces its own."""
        from fedledger.learning.code_bundle import read_code
        from fedledger.platform.experiment.config import load_config
        from fedledger.protocol.encoding.cid import ContentRef

        config = load_config(path, seed=seed)
        code = () if config.code is None else (ContentRef.of(read_code(path.parent / config.code)).cid,)
        return cls(path, config.seed, frozenset(code))


def kept_validation(
    spec: TaskSpec, file: Path | None, key: bytes, experiment: AggregatedExperiment | None
) -> KeptValidation | None:
    """Return a validation set that is opened in blocks as its publisher keeps it; None where the store has it.

    Parameters
    ----------
    spec
        The task's.
    file
        The set, as `task post` wrote it.
    key
        The publisher's secret.
    experiment
        An experiment whose data have the set, if there is no file.

    Raises
    ------
    ConfigError
        If it is not the task's set under this key, or cannot be had.
    """
    from fedledger.learning.validation_set import read_validation
    from fedledger.platform.experiment.kept_validation import KeptValidation
    from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, ContentRef
    from fedledger.storage.foreign_files import read_file

    if spec.seal is None or spec.seal.is_sealed:
        return None
    if file is not None:
        try:
            examples = read_validation(read_file(file, MAX_OBJECT_BYTES))
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror or error}.", "Correct --validation.") from error
        kept = KeptValidation.of(examples, spec.seal.mode, spec.seal.slice, key)
    elif experiment is not None:
        kept = open_experiment(experiment.path, experiment.seed).validation.under(key)
    else:
        raise ConfigError(
            "The task's validation set is opened block by block, and the blocks are not in the store yet.",
            "Give the file of its publisher with --validation.",
        )
    if ContentRef.of(kept.content) != spec.validation.ref:
        raise ConfigError(
            "That is not the task's validation set, or it is kept under another key.",
            "Give the file and the key of the task's publisher with --validation and --seal-key.",
        )
    return kept


@dataclass(frozen=True)
class ExperimentPart:
    """A participant's part of an experiment that somebody plays with separate programs.

    Parameters
    ----------
    experiment, number
        The experiment, and which of its participants it is.
    """

    experiment: Experiment
    number: int

    @property
    def seed(self) -> int:
        """The experiment's seed, from which its accounts follow."""
        return self.experiment.config.seed

    def trainer(self, ledger: Ledger, store: ContentStore, task: int) -> Trainer:
        """Return what trains on the part; whoever is honest trains as any node does on its own data.

        Raises
        ------
        ConfigError
            If the task is another one's than the experiment's, or there is no such participant.
        """
        from fedledger.learning.posted_model import PostedModel
        from fedledger.node.own_training import own_trainer
        from fedledger.platform.experiment.experiment import HONEST
        from fedledger.platform.experiment.posted_task import posted_spec

        spec = posted_spec(ledger, store, task, self.experiment, holds_key=False)
        count = len(self.experiment.parts)
        if not 0 <= self.number < count:
            raise ConfigError(
                f"The experiment has no participant {self.number}.", f"Its participants are 0 to {count - 1}."
            )
        if self.experiment.behaviours[self.number] != HONEST:
            return self.experiment.trainer(self.number)
        trusted = frozenset() if spec.code is None else frozenset({spec.code.cid})
        return own_trainer(PostedModel.read(spec, store, trusted), self.experiment.parts[self.number])

    def bidder(self, spec: TaskSpec, bids: Mapping[str, int]) -> Bidder | None:
        """Return what the participant reports in bidding rounds: what is given, or else as the experiment has it."""
        from fedledger.node.bidding import own_bidder

        return own_bidder(spec, bids) or partial(self.experiment.report, self.number)

    def scorer(self, key: bytes) -> Scorer:
        """Return what scores updates on the part, by a secret of the participant."""
        from fedledger.platform.experiment.scorers import ParticipantScorer

        return ParticipantScorer(self.experiment, self.number, key)


@dataclass(frozen=True)
class OwnPart:
    """What a node has on its own: its data, which fit the task.

    Parameters
    ----------
    examples, device
        The data, and where training takes place.
    seed
        Of the experiment whose accounts are used, if it is one.
    bids
        What is reported in bidding rounds, by name.
    """

    examples: OwnExamples
    device: str
    seed: int | None
    bids: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, spec: TaskSpec, store: ContentStore, seed: int | None, name: str) -> OwnPart:
        """Read what a program's configuration names, and log under a name how it fits the task.

        Raises
        ------
        ConfigError
            If it cannot be read.
        """
        from fedledger.node.own_examples import own_examples
        from fedledger.platform.experiment.posted_task import read_data_schema

        config = read_node_config(path)
        own = own_examples(config, path.parent, read_data_schema(spec, store), spec, store)
        log = logging.getLogger(f"fedledger.{name}")
        for misfit in own.fit.misfits:
            if not misfit.is_serious:
                log.warning("%s", misfit)
        log.info("%s has %s examples", path, f"{own.fit.count:,}")
        if own.published:
            log.info("%s", own.published)
        return cls(own, config.device, seed, config.bids)

    def trainer(self, ledger: Ledger, store: ContentStore, task: int) -> Trainer:
        """Return what trains on the data; raises ConfigError if they do not fit."""
        return self.examples.trainer(self.device)

    def bidder(self, spec: TaskSpec, bids: Mapping[str, int]) -> Bidder | None:
        """Return what is reported in bidding rounds: what is given, or else as the configuration has it."""
        from fedledger.node.bidding import asked_by_reports, own_bidder

        bids = bids or self.bids
        if (asked := asked_by_reports(spec, bids)) is not None:
            logging.getLogger("fedledger.node").info("%s", asked)
        return own_bidder(spec, bids)

    def scorer(self, key: bytes) -> Scorer:
        """Return what scores updates on the data, by a secret of their owner; raises ConfigError if they do not fit."""
        return self.examples.scorer(key)


def experiment_part(path: Path, seed: int | None, number: int) -> ExperimentPart | None:
    """Return a participant's part of an experiment, if a file is an experiment's configuration: that has a name."""
    from fedledger.platform.experiment.config import read_document

    if "name" not in read_document(path):
        return None
    return ExperimentPart(open_experiment(path, seed), number)


def read_node_config(path: Path) -> NodeConfig:
    """Read what says where a node's own data are.

    Raises
    ------
    ConfigError
        If the file cannot be read, or says something else.
    """
    from fedledger.node.own_data import NodeConfig
    from fedledger.platform.experiment.config import read_document
    from fedledger.protocol.documents import validated

    document = read_document(path)
    if "name" in document:
        raise ConfigError(
            f"{path} is an experiment's configuration.",
            'Give a node\'s own, which says where its data are: [data] table = "MINE.csv".',
        )
    return validated(NodeConfig, document, str(path))


def open_task(path: Path, seed: int | None) -> OpenedTask:
    """Read the configuration of a task, or of an experiment, and make its spec, warning on stderr.

    Raises
    ------
    ConfigError
        If it is neither, or cannot be.
    """
    from fedledger.platform.experiment.config import read_document
    from fedledger.platform.experiment.task_config import OpenedTask, make_task, read_task_config

    if not read_document(path).keys() & {"validation", "data_schema"}:
        return OpenedTask(open_experiment(path, seed))
    opened = make_task(read_task_config(path, seed), path.parent)
    warn_of(opened.experiment)
    return opened


@dataclass(frozen=True)
class TrackOptions:
    """Who else is told of a task's rounds while a program plays its part in it."""

    track: TrackOption = None
    track_dir: Annotated[Path, typer.Option(help="folder for what --track writes")] = Path("tracked")

    def run(self, actor: Actor[Any], access: TaskAccess, poll: float, name: str) -> bool:
        """Run a task's program as ``run_program`` does, and return whether it has nothing left to do."""
        from fedledger.platform.cli.watcher import run_program
        from fedledger.platform.runs.trackers.base import tracking
        from fedledger.platform.runs.trackers.live_task import LiveTask

        with tracking(self.track or (), access.spec, self.track_dir) as tracked:
            live = LiveTask(access, tracked)
            ended, _ = run_program(actor, poll, name, live)
            live()
        return ended
