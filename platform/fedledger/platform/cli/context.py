"""What commands work on, opened from the options that several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedledger.platform.cli.console import err
from fedledger.platform.cli.options import (
    AllowNetworkOption,
    ConfigArgument,
    DeploymentOption,
    ExperimentSeedOption,
    KeystoreOption,
    PasswordOption,
    RpcOption,
    SealKeyOption,
    SeedOption,
    StoreFolderOption,
    StoreOption,
)
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from fedledger.contracts.chain.chain import Chain
    from fedledger.contracts.ledger.client import Ledger
    from fedledger.node.own_data import NodeConfig
    from fedledger.node.training import Trainer
    from fedledger.platform.experiment.experiment import Experiment
    from fedledger.platform.experiment.kept_validation import KeptValidation
    from fedledger.protocol.records.spec import TaskSpec
    from fedledger.storage.addresses import Networks
    from fedledger.storage.base import ContentStore


@dataclass(frozen=True)
class LedgerOptions:
    """A deployed ledger."""

    rpc: RpcOption
    deployment: DeploymentOption = Path("deployment.json")

    def open(self, reading: bool = False) -> Ledger:
        """Open the ledger, with ``reading`` also one of an earlier version."""
        return open_ledger(self.rpc, self.deployment, reading)


@dataclass(frozen=True)
class KeyOptions:
    """An account's encrypted key."""

    keystore: KeystoreOption = None
    password_file: PasswordOption = None

    def require_one(self, experiment_seed: int | None) -> None:
        """Raise ConfigError if both a key and the seed of an experiment's account were given."""
        if self.keystore is not None and experiment_seed is not None:
            raise ConfigError(
                "--keystore and --experiment-seed name two accounts.",
                "Give the one that signs, and leave the other out.",
            )

    def account(self, chain: Chain, seed: int | None, role: str, funds: int = 0) -> LocalAccount:
        """Return the account of the key or, without one, the experiment's account of a seed and a role.

        Parameters
        ----------
        chain
            The chain on which it is used.
        seed, role
            See :func:`~fedledger.platform.experiment.accounts.experiment_account`.
        funds
            Wei that a development chain gives the account.

        Raises
        ------
        ConfigError
            If there is neither a key nor a seed.
        """
        from fedledger.platform.experiment.accounts import experiment_account
        from fedledger.platform.experiment.key_store import read_key

        if self.keystore is not None:
            account = read_key(self.keystore, self.password_file)
        elif seed is not None:
            account = experiment_account(seed, role, chain)
        else:
            raise ConfigError("No account was given.", "Give --keystore, or --experiment-seed on a development chain.")
        if funds and chain.development:
            chain.fund(account.address, funds)
        return account


@dataclass(frozen=True)
class SignerOptions:
    """A deployed ledger, and the account that signs transactions to it."""

    rpc: RpcOption
    deployment: DeploymentOption = Path("deployment.json")
    keystore: KeystoreOption = None
    password_file: PasswordOption = None
    experiment_seed: ExperimentSeedOption = None

    def open(self) -> Ledger:
        """Open the ledger."""
        return open_ledger(self.rpc, self.deployment)

    def account(self, ledger: Ledger, role: str, funds: int = 0) -> LocalAccount:
        """Return the account; see :meth:`KeyOptions.account`."""
        key = KeyOptions(self.keystore, self.password_file)
        key.require_one(self.experiment_seed)
        return key.account(ledger.chain, self.experiment_seed, role, funds)


@dataclass(frozen=True)
class StoreOptions:
    """A content store."""

    store: StoreOption = "local"
    store_dir: StoreFolderOption = Path("store")

    def open(self) -> ContentStore:
        """Open the store."""
        from fedledger.storage.open import open_store

        return open_store(self.store, self.store_dir)


@dataclass(frozen=True)
class NetworkOptions:
    """Where mailboxes may be."""

    allow_network: AllowNetworkOption = None

    def open(self, chain: Chain, *services: str) -> Networks:
        """Return where mailboxes may be on a chain; the ports of the operator's own services stay closed."""
        from fedledger.storage.addresses import DEVELOPMENT, Networks, port_of

        usual = DEVELOPMENT if chain.development else ()
        ports = (port_of(service) for service in services)
        allowed = usual if self.allow_network is None else self.allow_network
        return Networks.read(allowed, [port for port in ports if port is not None])


@dataclass(frozen=True)
class ExperimentOptions:
    """An experiment."""

    config: ConfigArgument
    seed: SeedOption = None

    def open(self) -> Experiment:
        """Read the configuration and make its experiment."""
        return open_experiment(self.config, self.seed)


@dataclass(frozen=True)
class SealOptions:
    """The key of a validation set that is sealed, or opened in blocks."""

    seal_key: SealKeyOption = None

    def apply(self, experiment: Experiment) -> Experiment:
        """Return the experiment with its validation set under the key, if one was given."""
        key = self.read()
        if key is not None and experiment.spec.seal is None:
            raise ConfigError("The validation set is public and has no key.", "Leave --seal-key out.")
        return experiment if key is None else experiment.under(key)

    def of(self, spec: TaskSpec, seed: int | None) -> bytes | None:
        """Return the key of a posted task's validation set, or None where it is public.

        Parameters
        ----------
        spec
            The task's.
        seed
            Of an experiment on a development chain, whose key anybody can derive.

        Raises
        ------
        ConfigError
            If a key is missing, is another one, or was given for a public set.
        """
        from fedledger.platform.experiment.kept_validation import experiment_seal_key
        from fedledger.protocol.records.seal import key_digest

        key = self.read()
        if spec.seal is None:
            if key is not None:
                raise ConfigError("The validation set is public and has no key.", "Leave --seal-key out.")
            return None
        if key is None and seed is not None:
            key = experiment_seal_key(seed)
        if key is None:
            raise ConfigError(
                f"The task's validation set is {spec.seal.mode}, which takes a key.",
                "Give the key of the task's publisher with --seal-key.",
            )
        if spec.seal.is_sealed and key_digest(key) != spec.seal_digest:
            raise ConfigError(
                "The validation set of the task is kept under another key than this program has.",
                "Give the key of the task's publisher with --seal-key.",
            )
        return key

    def read(self) -> bytes | None:
        """Return the key, if one was given."""
        from fedledger.platform.experiment.kept_validation import read_seal_key

        return None if self.seal_key is None else read_seal_key(self.seal_key)

    def made(self, experiment: Experiment, chain: Chain) -> Experiment:
        """Return the experiment with its validation set under the key, which is made if the file is not there.

        Raises
        ------
        ConfigError
            If no file was given, and the chain is none for development: anybody can derive the experiment's own key.
        """
        from fedledger.platform.experiment.kept_validation import new_seal_key

        if experiment.spec.seal is not None and self.seal_key is None and not chain.development:
            raise ConfigError(
                f"The validation set is {experiment.spec.seal.mode}, which takes a key of its own.",
                "Give --seal-key FILE; the file is made.",
            )
        if experiment.spec.seal is not None and self.seal_key is not None and not self.seal_key.exists():
            return experiment.under(new_seal_key(self.seal_key))
        return self.apply(experiment)


def open_ledger(rpc: str, deployment: Path, reading: bool = False) -> Ledger:
    """Open the ledger of a deployment record, with ``reading`` also one of an earlier version."""
    from fedledger.contracts.chain.chain import Chain
    from fedledger.ledger_tools.deploy import Deployment

    return Deployment.read(deployment).open(Chain(rpc), reading)


def open_experiment(path: Path, seed: int | None) -> Experiment:
    """Read a configuration and make its experiment, warning on stderr; a seed replaces the configuration's."""
    from fedledger.platform.experiment.assembly import make_experiment
    from fedledger.platform.experiment.config import load_config

    experiment = make_experiment(load_config(path, seed=seed), path.parent)
    for caution in experiment.cautions():
        err.print(f"Warning: {caution}", markup=False, highlight=False)
    return experiment


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


def open_task(path: Path, seed: int | None) -> Experiment:
    """Read the configuration of a task, or of an experiment, and make its spec.

    Raises
    ------
    ConfigError
        If it is neither, or cannot be.
    """
    from fedledger.platform.experiment.config import read_document
    from fedledger.platform.experiment.task_config import TaskConfig, make_task
    from fedledger.protocol.documents import validated

    document = read_document(path)
    if "validation" not in document:
        return open_experiment(path, seed)
    given = document if seed is None else document | {"seed": seed}
    return make_task(validated(TaskConfig, given, str(path)), path.parent)
