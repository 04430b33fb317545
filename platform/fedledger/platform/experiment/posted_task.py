"""An experiment's task once it is posted on a ledger."""

from __future__ import annotations

from fedledger.contracts.ledger.client import Ledger
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.storage.base import ContentStore


def posted_spec(
    ledger: Ledger, store: ContentStore, task: int, experiment: Experiment, holds_key: bool = True
) -> TaskSpec:
    """Return a posted task's spec.

    Parameters
    ----------
    ledger, store, task
        Where it is.
    experiment
        The experiment that it should be of.
    holds_key
        Whether the experiment has the publisher's validation set, and its key; else what the spec says of these is
        taken as it is.

    Raises
    ------
    ConfigError
        If it is not the experiment's spec, or the ledger has other terms for the task than its spec.
    """
    params = ledger.task(task).params
    spec = TaskSpec.decode(store.get(params.spec, MAX_SPEC_BYTES))
    said = spec.rounds, int(spec.randomness == "beacon"), spec.seal_digest
    if (params.rounds, params.randomness, params.seal) != said:
        raise ConfigError(
            f"Task {task} was posted with another number of rounds, randomness or seal than its spec says.",
            "Do not take part: no history of this task can pass an audit.",
        )
    if _public(spec) != _public(experiment.spec):
        raise ConfigError(
            f"The spec of task {task} differs from the one that this configuration makes.",
            "Use the configuration and the seed that the task was posted with.",
        )
    if holds_key and spec != experiment.spec:
        raise ConfigError(
            f"The validation set of task {task} is kept under another key than this program has.",
            "Give the key of the task's publisher with --seal-key.",
        )
    return spec


def _public(spec: TaskSpec) -> TaskSpec:
    """Return a spec without what only follows for whoever has the publisher's validation set and key."""
    if spec.seal is None:
        return spec
    seal = spec.seal.model_copy(update={"key": None, "plaintext": None})
    return spec.model_copy(update={"seal": seal, "validation": None})
