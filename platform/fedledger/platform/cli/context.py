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
    from fedledger.platform.experiment.experiment import Experiment
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
    warn_of(experiment)
    return experiment


def warn_of(experiment: Experiment) -> None:
    """Say on stderr what whoever runs an experiment or posts a task should know."""
    from fedledger.platform.experiment.cautions import cautions

    for caution in cautions(experiment):
        err.print(f"Warning: {caution}", markup=False, highlight=False)
