"""What commands open: ledgers, stores, accounts and experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedledger.protocol.errors import ConfigError


def open_experiment(path: Path, seed: int | None) -> Any:
    """Read a configuration and make its experiment."""
    from fedledger.platform.experiment.config import load_config
    from fedledger.platform.experiment.experiment import make_experiment

    return make_experiment(load_config(path, seed=seed), path.parent)


def checked_spec(ledger: Any, store: Any, task: int, setting: Any) -> Any:
    """Return the spec of a task, once it is known to be the experiment's."""
    from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec

    params = ledger.task(task).params
    spec = TaskSpec.decode(store.get(params.spec, MAX_SPEC_BYTES))
    if (params.rounds, params.randomness) != (spec.rounds, int(spec.randomness == "beacon")):
        raise ConfigError(
            f"Task {task} was posted with other rounds or another randomness than its spec has.",
            "Do not take part: no history of it can pass an audit.",
        )
    if spec != setting.spec:
        raise ConfigError(
            f"Task {task} has another spec than this configuration makes.",
            "Use the configuration and seed that the task was posted with.",
        )
    return spec


def open_ledger(rpc: str, deployment: Path, reading: bool = False) -> Any:
    """Open the ledger of a deployment record."""
    from fedledger.contracts.chain.chain import Chain
    from fedledger.ledger_tools.deploy import Deployment

    return Deployment.read(deployment).open(Chain(rpc), reading)


def own_record(ledger: Any, account: Any) -> Any:
    """Return the participant that an account owns."""
    participant = ledger.participant_id(account.address)
    if participant is None:
        raise ConfigError(f"{account.address} is no participant of this ledger.", "Give the key of its owner.")
    return ledger.participant(participant)


def open_content(where: str, folder: Path) -> Any:
    """Open a content store."""
    from fedledger.storage.open import open_store

    return open_store(where, folder)


def open_account(chain: Any, keystore: Path | None, password_file: Path | None, seed: int | None, role: str) -> Any:
    """Open the account of a keystore, or the experiment's account of a role."""
    from fedledger.platform.experiment.accounts import experiment_account
    from fedledger.platform.experiment.key_store import read_key

    if keystore is not None:
        return read_key(keystore, password_file)
    if seed is None:
        raise ConfigError("No account was given.", "Give --keystore, or --experiment-seed on a development chain.")
    return experiment_account(seed, role, chain)
