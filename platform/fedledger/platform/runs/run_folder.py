"""A run's folder: made before the first round, filled as the run begins and ends, and read afterwards."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter

from fedledger.ledger_tools.report.device_tables import as_csv
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.pipelines import PLAIN
from fedledger.platform.experiment.provenance import flat, provenance
from fedledger.platform.experiment.run_files import (
    CHAIN_FILE,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    METRICS_TABLE,
    PARTITION_FILE,
    PARTITION_PAGE,
    SUMMARY_FILE,
)
from fedledger.platform.experiment.tested import ACCURACY
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import file_name, shown
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.foreign_files import MAX_TABLE_BYTES, read_json, shaped
from fedledger.storage.foreign_folder import inner_file

if TYPE_CHECKING:
    from fedledger.learning.label_counts import LabelCounts
    from fedledger.platform.experiment.experiment import Experiment


def new_run_folder(config: ExperimentConfig, where: Path) -> Path:
    """Make a folder for a run that begins now.

    Parameters
    ----------
    config
        The configuration; its name and seed are part of the folder's name.
    where
        The folder in which it is made.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    where.mkdir(parents=True, exist_ok=True)
    for place in itertools.count(1):
        folder = where / f"{file_name(config.name)}-{config.seed}-{stamp}{'' if place == 1 else f'-{place}'}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def resumed_run_folder(folder: Path, ledger: bool) -> Path:
    """Return the folder of an interrupted run that may go on with (or without) a ledger.

    Raises
    ------
    ConfigError
        If there is no such folder, or its run began the other way.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not the folder of a run.", "Give a folder that `fedledger run` made.")
    if (folder / (CHECKPOINT_FILE if ledger else CHAIN_FILE)).exists():
        other, remedy = ("without", "Add") if ledger else ("with", "Leave out")
        raise ConfigError(f"The run in {folder} began {other} a ledger.", f"{remedy} --no-ledger.")
    return folder


def begin_run(experiment: Experiment, folder: Path) -> LabelCounts:
    """Write a run's configuration and how its examples are divided, before the first round or when it is resumed.

    Parameters
    ----------
    experiment
        The experiment.
    folder
        The run's folder; it gets ``config.json`` (canonical), ``partition.json`` and ``partition.html``.

    Returns
    -------
    LabelCounts
        What was written about the examples.

    Raises
    ------
    ConfigError
        If the folder is that of a run of another configuration, data set or code.
    """
    from fedledger.ledger_tools.report.page import heat_map, write_page

    labels, spec = experiment.label_counts, ContentRef.of(experiment.spec.encode()).cid
    _require_same(folder, experiment.config, spec)
    write_atomically(folder / CONFIG_FILE, canonical.encode({**provenance(experiment.config), "spec": spec}))
    write_atomically(folder / PARTITION_FILE, (json.dumps(labels.document(), indent=1) + "\n").encode())
    write_page(folder / PARTITION_PAGE, experiment.config.name, "how the examples are divided", [heat_map(labels)])
    return labels


def write_record(folder: Path, summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> None:
    """Write what :meth:`RunRecord.read` reads, and the metrics as CSV.

    Parameters
    ----------
    folder
        The run's folder.
    summary
        What the run came to; written last, as it stands for a run that has ended.
    metrics
        One row per round.
    """
    write_atomically(folder / METRICS_FILE, (json.dumps(metrics, indent=1) + "\n").encode())
    write_atomically(folder / METRICS_TABLE, as_csv(metrics, list(metrics[0]) if metrics else ()).encode())
    write_atomically(folder / SUMMARY_FILE, (json.dumps(summary, indent=1) + "\n").encode())


class _MadeFrom(BaseModel):
    """What ``config.json`` says; versions before 0.2 did not name the spec."""

    config: dict[str, Any]
    spec: str | None = None


_MADE_FROM = TypeAdapter(_MadeFrom)
_PIPELINE = {"training": {"pipeline"}}
"""Only a name for methods that the configuration has, too."""


def _require_same(folder: Path, config: ExperimentConfig, spec: str) -> None:
    """Raise ConfigError if a folder is already that of a run which was made from something else."""
    if not inner_file(folder, CONFIG_FILE).exists():
        return
    known, found = recorded_config(folder)
    before, now = (flat(each.model_dump(mode="json", exclude=_PIPELINE)) for each in (known, config))
    for key in [*now, *(key for key in before if key not in now)]:
        if before.get(key) != now.get(key):
            was, is_now = (shown(json.dumps(values.get(key)), 100) for values in (before, now))
            raise ConfigError(
                f"The run in {folder} began with {shown(key, 200)} = {was}; the configuration has {is_now}.",
                "Resume with the configuration and seed that it was started with, or start a new run.",
            )
    if found not in (None, spec):
        raise ConfigError(
            f"The run in {folder} began with other data, or with another model or task.py: its spec is {found}.",
            "Resume with what it was started with, or start a new run.",
        )


def recorded_config(folder: Path) -> tuple[ExperimentConfig, str | None]:
    """Return the configuration that a run was made from, and its spec's CID, which versions before 0.2 did not write.

    Raises
    ------
    ConfigError
        If the run's folder does not tell.
    """
    file = inner_file(folder, CONFIG_FILE)
    try:
        found = shaped(_MADE_FROM, read_json(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} does not say what the run was made from: {error}.", "Start the run anew.") from error
    # A key that the other version did not know has its default.
    return validated(ExperimentConfig, _filled_in_by_nothing(found.config), str(file)), found.spec


def _filled_in_by_nothing(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run; in versions before 0.2 no pipeline filled in methods."""
    training = config.get("training")
    return {**config, "training": {"pipeline": PLAIN, **training}} if isinstance(training, dict) else config


class _Objective(BaseModel):
    loss_name: str
    score_name: str
    lower_is_better: bool


_ACCURACY = _Objective(loss_name="cross-entropy (nats)", score_name=ACCURACY, lower_is_better=False)
"""What runs of version 0.1.0 had: only accuracies were kept."""


class _Fairness(BaseModel):
    """What a record is read for of how evenly something is spread."""

    variance: float | None = None
    worst_tenth: float | None = None
    jain: float | None = None


class _Spread(BaseModel):
    """What of a run is spread over participants; earlier versions did not tell."""

    score: _Fairness = _Fairness()
    pay: _Fairness = _Fairness()
    pay_per_example: _Fairness = _Fairness()


class _Scored(BaseModel):
    """A loss and a score; in folders of version 0.1.0 an accuracy alone."""

    loss: float | None = None
    score: float = Field(validation_alias=AliasChoices("score", ACCURACY))


class _Summary(_Scored):
    """What every run's summary has, as far as it is read here."""

    name: str
    seed: int
    rounds: int
    final_model: str
    seconds: float
    gas: int | None = None
    spent: int | None = None
    objective: _Objective = _ACCURACY
    fairness: _Spread = _Spread()


class _Row(_Scored):
    round: int


_SHAPES: TypeAdapter[tuple[_Summary, list[_Row], dict[str, Any]]] = TypeAdapter(
    tuple[_Summary, list[_Row], dict[str, Any]]
)
"""What the files of a run's folder must be, whoever wrote them."""


@dataclass(frozen=True)
class RunRecord:
    """A run that has ended, as its folder tells it.

    Parameters
    ----------
    folder
        The folder.
    summary
        Its ``run.json``.
    metrics
        Its ``metrics.json``: one row per round.
    made_from
        Its ``config.json``; empty in folders of versions that did not write it.
    """

    folder: Path
    summary: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    made_from: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read a run's folder.

        Raises
        ------
        ConfigError
            If it is not that of a run that has ended.
        """
        try:
            names = (SUMMARY_FILE, METRICS_FILE)
            found = [read_json(inner_file(folder, name), MAX_TABLE_BYTES) for name in names]
            file = inner_file(folder, CONFIG_FILE)
            found.append(read_json(file) if file.exists() else {})
            shaped(_SHAPES, found)
            summary, metrics, made_from = found
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder} is not the folder of a run that has ended: {error}.",
                "Give a folder that `fedledger run` made.",
            ) from error
        return cls(folder, summary, tuple(metrics), made_from)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.summary["name"])

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.summary["seed"])

    @property
    def rounds(self) -> int:
        """Number of rounds that counted."""
        return int(self.summary["rounds"])

    @property
    def loss(self) -> float | None:
        """Loss of the final model on the test set; None if it was not kept, or is not finite."""
        return _Scored.model_validate(self.summary).loss

    @property
    def score(self) -> float:
        """Score of the final model on the test set."""
        return _Scored.model_validate(self.summary).score

    @property
    def score_name(self) -> str:
        """What the score is called."""
        return self._objective.score_name

    @property
    def lower_is_better(self) -> bool:
        """Whether the smaller of two scores is better."""
        return self._objective.lower_is_better

    @property
    def final_model(self) -> str:
        """CID of the final model."""
        return str(self.summary["final_model"])

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return float(self.summary["seconds"])

    @property
    def gas(self) -> int | None:
        """Gas of all transactions; None without a ledger."""
        return self.summary.get("gas")

    @property
    def spent(self) -> int | None:
        """What the rounds have paid, in units; None where no updates were judged, and of runs of earlier versions."""
        return self.summary.get("spent")

    @property
    def ledger(self) -> bool:
        """Whether the run had a ledger."""
        return bool(self.summary.get("ledger", True))

    @property
    def fairness(self) -> dict[str, float | None]:
        """How fair the run was: figures of the scores on participants' own examples, and Jain's indices of pay.

        What is not known is None: of runs of earlier versions all of it, without a ledger that of pay.
        """
        found = _Spread.model_validate(self.summary.get("fairness", {}))
        return {
            "variance": found.score.variance,
            "worst_tenth": found.score.worst_tenth,
            "jain": found.score.jain,
            "jain_pay": found.pay.jain,
            "jain_pay_per_example": found.pay_per_example.jain,
        }

    @property
    def scores(self) -> list[tuple[int, float]]:
        """Round and score on the test set after it, for each round that counted."""
        return [(row.round, row.score) for row in map(_Row.model_validate, self.metrics)]

    @property
    def best_score(self) -> float:
        """The best score of all rounds."""
        scores = [score for _, score in self.scores] or [self.score]
        return min(scores) if self.lower_is_better else max(scores)

    @property
    def _objective(self) -> _Objective:
        return _Objective.model_validate(self.summary["objective"]) if "objective" in self.summary else _ACCURACY

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted paths."""
        return flat(self.made_from.get("config", {}))
