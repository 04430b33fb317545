"""What a participant trains on: its own examples without those on which updates are measured, and what it offers."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.posted_model import PostedModel
from fedledger.learning.schemas.fit import Fit
from fedledger.learning.schemas.offered import chosen_rows, read_offered, write_offered
from fedledger.learning.schemas.statistics import require_statistics
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.sources.tables import read_tables
from fedledger.learning.validation_set import read_validation
from fedledger.node.held_out import HeldOut
from fedledger.node.own_data import NodeConfig, fit_own_data
from fedledger.node.own_training import own_trainer
from fedledger.node.scoring import OwnScorer
from fedledger.node.solvers.base import cautions_of
from fedledger.node.solvers.build import build_solver
from fedledger.node.training import Trainer
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import ArraySchema, DataSchema, StatisticsSchema, TableSchema
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.vocabulary import MAX_BYTES, Vocabulary
from fedledger.protocol.units import in_gwei
from fedledger.storage.base import Readable

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import TaskParams

log = logging.getLogger("fedledger.node")

STATISTICS = "Everybody will be able to read the mean and the spread of each column, and the share of each category."


@dataclass(frozen=True)
class OwnExamples:
    """One's own examples in a posted task.

    Parameters
    ----------
    fit
        How one's data fit; its examples are prepared by the task's objective, without those that are held out.
    posted
        The task's model; None if nothing fits, so that it was not looked at.
    held
        Which examples are held out; None if nothing fits.
    published
        What of the data everybody will be able to read, if the task asks for more than training.
    """

    fit: Fit
    posted: PostedModel | None
    held: HeldOut | None = None
    published: str = ""

    @property
    def left_out(self) -> int:
        """How many examples are held out."""
        return 0 if self.held is None else len(self.held)

    def trainer(self, device: str = "cpu") -> Trainer:
        """Return what trains on the examples; see :func:`~fedledger.node.own_training.own_trainer`.

        Raises
        ------
        ConfigError
            If the data do not fit, or the model does not take them.
        """
        examples = self.fit.required()
        if self.posted is None or self.held is None:
            raise ConfigError("The task's model was not read.", "Correct the data first.")
        return own_trainer(self.posted, self.held.filled(examples), device)

    def scorer(self, key: bytes) -> OwnScorer:
        """Return what scores others' updates on some of the examples, chosen by a secret of 32 bytes.

        Raises
        ------
        ConfigError
            If the data do not fit.
        """
        examples = self.fit.required()
        if self.posted is None:
            raise ConfigError("The task's model was not read.", "Correct the data first.")
        return OwnScorer.of(self.posted.flat(), examples, self.posted.objective, key)


def own_examples(
    config: NodeConfig, folder: Path, schema: DataSchema | None, spec: TaskSpec, store: Readable
) -> OwnExamples:
    """Read one's own examples, and leave out those that are in a public validation set or were offered for one.

    Parameters
    ----------
    config, folder
        Where the data are; paths are relative to the folder.
    schema
        The task's data schema, if it has one.
    spec, store
        The task's spec, and where the content that it names is.

    Raises
    ------
    ConfigError, StoreError, TrustError
        If the data, or what the spec names, cannot be read, or do not fit each other; or if a task whose schema is one
        of statistics could ask for more.
    """
    fit = fit_own_data(config.data, folder, schema, posted_vocabulary(schema, store))
    if fit.examples is None:
        return OwnExamples(fit, None)
    published = STATISTICS if isinstance(schema, StatisticsSchema) else ""
    posted = PostedModel.read(spec, store, frozenset(config.trust_code))
    if isinstance(schema, StatisticsSchema):
        require_statistics(schema, spec, posted.initial)
    public, offered = Counter[bytes](), Counter[bytes]()
    # Statistics are of all rows, whatever is measured.
    if spec.seal is None and not isinstance(schema, StatisticsSchema):
        public.update(example_keys(*read_validation(store.get(spec.validation.ref))))
    if isinstance(schema, TableSchema):
        for each in offered_examples(folder / config.offered, schema):
            given = posted.objective.prepared(each)
            offered.update(example_keys(given.inputs, given.targets))
    examples, share = posted.objective.prepared(fit.examples), config.most_held_out
    if spec.spot_checks is not None:
        # A check fails on any of them.
        public, share = Counter(dict.fromkeys(public, len(examples))), 1.0
    held = HeldOut.of(examples, offered, public, share)
    least = 1 if schema is None else schema.least_examples
    return OwnExamples(_cautioned(held.fit_without(fit, least), spec), posted, held, published)


def seen_by_auditors(spec: TaskSpec) -> str | None:
    """Say who may see one's examples, beside oneself; None if nobody does."""
    checks = spec.spot_checks
    if checks is None:
        return None
    some = "some of your examples, or all of them if training takes few steps"
    what = "all of your examples" if checks.windows is None else some
    names = ", ".join(checks.accounts)
    return f"Where your update is drawn for a spot check, one of the task's auditors sees {what}: {names}."


def asked_by_checks(spec: TaskSpec, params: TaskParams) -> str | None:
    """Say who may see one's examples, and what a task's spot checks ask of a node besides; None if it has none."""
    seen = seen_by_auditors(spec)
    if seen is None:
        return None
    within = timedelta(seconds=2 * params.check_period)
    return (
        f"{seen} Keep the node running until it ends: it answers a check by itself, and has to within two check "
        f"periods ({within}) of the round's proposal. A failed check costs {in_gwei(params.check_penalty)}."
    )


def posted_vocabulary(schema: DataSchema | None, store: Readable) -> Vocabulary | None:
    """Return the vocabulary that a task's data schema names, if it does.

    Raises
    ------
    ConfigError
        If it is none.
    StoreError
        If the store does not have it.
    """
    if not isinstance(schema, ArraySchema) or schema.vocabulary is None:
        return None
    return Vocabulary.decode(store.get(schema.vocabulary.ref, MAX_BYTES), schema.unknown)


def offered_examples(folder: Path, schema: TableSchema) -> list[Dataset]:
    """Return what was offered before, file by file, as far as it suits a task: what does not is no part of it."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        try:
            found.append(read_offered(path, schema))
        except ConfigError as error:
            log.warning("%s is not of this task, so that its rows are not left out: %s", path, error)
    return found


def offer_rows(config: NodeConfig, folder: Path, schema: DataSchema | None, count: int) -> tuple[Path, Dataset]:
    """Write some of one's own rows for the publisher's validation set; this node does not train on them any more.

    Parameters
    ----------
    config, folder
        Where the data are; paths are relative to the folder.
    schema
        The task's data schema, posted or drafted.
    count
        How many rows; each class has its share.

    Returns
    -------
    tuple
        The new file, which is also what tells the node that they were offered, and what they hold.

    Raises
    ------
    ConfigError
        If the task is not about tables, the data do not fit it, or there are too few rows that were not offered yet.
    """
    if not isinstance(schema, TableSchema) or config.data.table is None:
        raise ConfigError(
            "Rows are offered of a table, for a task about tables.",
            'Give a task with a data schema of tables, and table = "MINE.csv" under [data].',
        )
    tables, reading = read_tables(folder / config.data.table, config.data.delimiter), config.data.reading
    examples = fit_tables(schema, tables, reading).required()
    target = folder / config.offered
    known = {key for each in offered_examples(target, schema) for key in example_keys(each.inputs, each.targets)}
    keys = example_keys(examples.inputs, examples.targets)
    left = np.array([place for place, key in enumerate(keys) if key not in known], np.int64)
    rows = left[chosen_rows(examples.take(left), count, np.random.default_rng())]
    target.mkdir(parents=True, exist_ok=True)
    path = next(path for number in count_from(1) if not (path := target / f"rows-{number}.csv").exists())
    write_offered(path, schema, tables, reading, rows.tolist())
    return path, examples.take(rows)


def _cautioned(fit: Fit, spec: TaskSpec) -> Fit:
    """Return a fit with what the task's solver makes of the examples that one should know."""
    if fit.examples is None:
        return fit
    solver = build_solver(spec.solver.method, spec.solver.params)
    return replace(fit, misfits=(*fit.misfits, *cautions_of(solver, fit.examples)))
