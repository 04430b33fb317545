"""A task once it is posted on a ledger: what its programs need of it, without anybody's training data."""

from __future__ import annotations

from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

import numpy as np

from fedledger.aggregator.round.inputs import TrustedUpdate
from fedledger.aggregator.round.measurer import Measurer
from fedledger.aggregator.round.validation import fetch
from fedledger.contracts.ledger.checks import auditors_hash
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.scores import recommenders_hash
from fedledger.contracts.ledger.state import LedgerState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.learning.data import Dataset
from fedledger.learning.posted_model import PostedModel
from fedledger.learning.schemas.draft import Draft
from fedledger.learning.schemas.statistics import require_statistics, with_constants
from fedledger.learning.validation_set import read_validation
from fedledger.ledger_tools.audit.measuring import live_measure
from fedledger.node.own_training import local_trainer, trusted_update
from fedledger.node.training import LocalTrainer
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.kept_validation import KeptValidation
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, TrustError
from fedledger.protocol.records.data_schema import (
    MAX_SCHEMA_BYTES,
    DataSchema,
    NumberColumn,
    StatisticsSchema,
    TableSchema,
    read_schema,
)
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.protocol.records.update import DELTA, UpdateRefusedError, decode
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore, Readable


def read_spec(ledger: Ledger, store: ContentStore, task: int) -> TaskSpec:
    """Return a posted task's spec.

    Raises
    ------
    ConfigError
        If the ledger has other terms for the task than its spec, or the spec cannot be read.
    StoreError
        If the store does not have it.
    """
    params = ledger.task(task).params
    spec = TaskSpec.decode(store.get(params.spec, MAX_SPEC_BYTES))
    said = spec.rounds, int(spec.randomness == "beacon"), spec.seal_digest
    if (params.rounds, params.randomness, params.seal) != said:
        raise ConfigError(
            f"Task {task} was posted with another number of rounds, randomness or seal than its spec says.",
            "Do not take part: no history of this task can pass an audit.",
        )
    checks = () if spec.spot_checks is None else spec.spot_checks.accounts
    if (params.auditor_count, params.auditors, params.check_rate != 0) != (
        len(checks),
        auditors_hash(checks),
        bool(checks),
    ):
        raise ConfigError(
            f"Task {task} was posted with other auditors than its spec names.",
            "Do not take part: its spot checks cannot be answered.",
        )
    reputation = spec.reputation
    if (params.recommenders, params.recommender_trust) != (
        recommenders_hash(reputation.recommenders),
        reputation.trust,
    ):
        raise ConfigError(
            f"Task {task} was posted with other recommenders, or another trust in them, than its spec has.",
            "Do not take part: no history of this task can pass an audit.",
        )
    return spec


def read_data_schema(spec: TaskSpec, store: ContentStore) -> DataSchema | None:
    """Return a task's data schema, if it has one.

    Raises
    ------
    ConfigError
        If it cannot be read.
    StoreError
        If the store does not have it.
    """
    return None if spec.data_schema is None else read_schema(store.get(spec.data_schema.ref, MAX_SCHEMA_BYTES))


def found_constants(history: LedgerState, store: ContentStore, task: int, table: TableSchema) -> Draft:
    """Return a table's schema with the constants that a task of statistics found by its last settled round.

    What is only proposed counts for nothing: it may still fall.

    Parameters
    ----------
    history, store, task
        Where the task is.
    table
        The schema before.

    Raises
    ------
    ConfigError
        If it is no such task, fewer than two rounds of it were settled, or it has no column of the table.
    StoreError
        If the store lacks what the task names.
    """
    found = history.task(task)
    spec = TaskSpec.decode(store.get(found.spec, MAX_SPEC_BYTES))
    told = read_data_schema(spec, store)
    if not isinstance(told, StatisticsSchema):
        raise ConfigError(f"Task {task} is none of statistics.", "Draft one with `fedledger task statistics`.")
    require_statistics(told, spec, ModelFile.decode(store.get(spec.initial_model.ref), spec.tensors))
    models = [settled.proposal.model for settled in found.counted if settled.proposal is not None]
    if len(models) < 2:
        raise ConfigError(
            f"Task {task} has {len(models)} settled rounds, and the spreads come with the second one.",
            "Wait for it, or post another task if this one has ended.",
        )
    model = ModelFile.decode(store.get(models[-1]), spec.tensors).named()
    mean, spread = (model.get(name, np.zeros(0)).astype(np.float64) for name in ("mean", "spread"))
    if not mean.shape == spread.shape == (told.width,):
        raise ConfigError(f"The model of task {task} is none of its statistics.", "Post another task.")
    draft = with_constants(table, told, mean, spread)
    return replace(draft, notes=draft.notes | _little_told(told, spec, found, store))


def _little_told(told: StatisticsSchema, spec: TaskSpec, task: TaskHistory, store: ContentStore) -> dict[str, str]:
    """Return a note on each number of which half of a first round's participants or fewer told something.

    Who tells nothing of a number leaves the model as it is; updates that the store does not have any more say nothing.
    """
    first = task.counted[0]
    revealed = first.delivered if task.batched else {i: reveal.update for i, reveal in first.reveals.items()}
    moved = []
    for participant, ref in revealed.items():
        if first.verdicts.get(participant) is Verdict.ACCEPTED:
            with suppress(UpdateRefusedError):
                delta = decode(fetch(store, ref, spec.limits.max_update_bytes)).vectors.get(DELTA)
                if delta is not None and delta.shape == (2 * told.width,):
                    moved.append(delta.reshape(2, -1).any(0))
    counts = np.array(moved, bool).reshape(-1, told.width).sum(0)
    starts = np.cumsum([0, *(column.width for column in told.columns)])
    return {
        column.name: f"only {counts[start]} of {len(moved)} participants told something of it, too few against a liar"
        for column, start in zip(told.columns, starts, strict=False)
        if isinstance(column, NumberColumn) and moved and counts[start] * 2 <= len(moved)
    }


def posted_spec(
    ledger: Ledger, store: ContentStore, task: int, experiment: Experiment, holds_key: bool = True
) -> TaskSpec:
    """Return a posted task's spec, which an experiment must be of.

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
    spec = read_spec(ledger, store, task)
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


class PostedAggregation:
    """What an aggregator needs of a posted task: how its models are measured, and the update that some rules trust.

    Parameters
    ----------
    spec, store
        The task's spec, and where the content that it names is.
    trusted
        The CIDs of code that may run here.
    seal_key
        The key of a validation set that is sealed.
    kept
        A validation set that is opened in blocks, of which the store has none yet.
    """

    def __init__(
        self,
        spec: TaskSpec,
        store: ContentStore,
        trusted: Set[str],
        seal_key: bytes | None = None,
        kept: KeptValidation | None = None,
    ) -> None:
        self._spec, self._store, self._trusted = spec, store, frozenset(trusted)
        self._key, self._kept = seal_key, kept

    def measurer(self) -> Measurer:
        """Return a measurer on the task's validation set.

        Raises
        ------
        ConfigError, DivergenceError
            If what the spec names does not fit together, or the set's key or its blocks are missing.
        TrustError
            If the task brings code of its own that is not trusted.
        """
        seal, code = self._spec.seal, self._spec.code
        if code is not None and code.cid not in self._trusted:
            raise TrustError(
                f"The task brings its own code, {code.cid}, and it is not trusted.",
                f"Pass --trust-code {code.cid} to run it here, once you have read it.",
            )
        store: Readable = self._store
        if seal is not None and seal.is_sealed and self._key is None:
            raise ConfigError("The task's validation set is sealed.", "Give the key of its publisher with --seal-key.")
        if seal is not None and not seal.is_sealed:
            if self._kept is None:
                raise ConfigError(
                    "The task's validation set is opened block by block, and the blocks are not there.",
                    "Give the file and the key of its publisher with --validation and --seal-key.",
                )
            store = _With(store, self._kept.blocks)
        measure = live_measure(self._spec, store, self._trusted, 0, self._key, in_threads=True)
        if measure is None:
            raise ConfigError("The task's measurements cannot be made here.", "Ask its publisher what they take.")
        return measure

    @property
    def trusted_update(self) -> TrustedUpdate:
        """Makes the update that an aggregator trusts, on the public validation set."""
        return self._trained

    def _trained(self, index: int, base: ModelFile) -> bytes:
        return trusted_update(self._spec, self._trainer, index, base)

    @cached_property
    def _trainer(self) -> LocalTrainer:
        inputs, targets = read_validation(self._store.get(self._spec.validation.ref))
        classes = int(targets.max()) + 1 if targets.dtype == np.int64 and targets.ndim == 1 else None
        posted = PostedModel.read(self._spec, self._store, self._trusted)
        return local_trainer(posted, Dataset(inputs, targets, None if classes is None else max(2, classes)))


class _With:
    """A store that has some content besides, which nobody else may see yet."""

    def __init__(self, store: Readable, contents: Iterable[bytes]) -> None:
        self._store = store
        self._own = {ContentRef.of(content): content for content in contents}

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return own content, else the store's."""
        own = self._own.get(ref)
        return self._store.get(ref, limit) if own is None else own
