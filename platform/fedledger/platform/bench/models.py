"""What the examples come to: each is trained without a ledger and with one, and audited."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.bench.tables import between_marks, markdown_table
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import MODEL_FILE
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.results import write_results
from fedledger.platform.runs.summary import MetricsRow
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.methods.catalogue import Method
from fedledger.storage.local import LocalStore

DATA = "FEDLEDGER_DATA"
"""Environment variable with the folder of data sets that are not part of the repository; task code reads it, too."""
REPRODUCED = "reproduced"
_BESIDE = "../data/"
"""How an example's configuration begins the path of such a data set."""
COMMAND = "fedledger bench models"


@dataclass(frozen=True)
class ModelRow:
    """What an example came to.

    Parameters
    ----------
    example
        Its folder, and the configuration's name where it is not the usual one.
    objective
        The method, with the parameters that the example gives it.
    loss_name, loss, score_name, score
        Of the final model on the test set; the score as a share or a multiple of the objective's full score.
    seconds_per_round, ledger_seconds_per_round
        Medians over the rounds, in one process; with the ledger all parties and the chain are in it.
    update_bytes
        The largest update of the run with a ledger.
    trained, statistics, fixed
        How many numbers move by updates, are aggregated by value, and stay as they are.
    audit
        ``reproduced``, or where the audit diverged first.
    """

    example: str
    objective: str
    loss_name: str
    loss: float
    score_name: str
    score: float
    seconds_per_round: float
    ledger_seconds_per_round: float
    update_bytes: int
    trained: int
    statistics: int
    fixed: int
    audit: str


@dataclass(frozen=True)
class Examples:
    """The examples of a checkout, and the data that some of them need.

    Parameters
    ----------
    folder
        The folder with one folder for each example.
    data
        The folder of data sets.
    """

    folder: Path
    data: Path

    @classmethod
    def find(cls, data: Path | None = None) -> Examples:
        """Return the examples of this checkout, with the data in a folder, or else where `DATA` says or beside them.

        Raises
        ------
        ConfigError
            If they are not there.
        """
        for root in (Path(__file__).parents[4], Path.cwd()):
            folder = root / "examples"
            if (folder / "README.md").exists():
                return cls(folder, (data or Path(os.environ.get(DATA, folder / "data"))).absolute())
        raise ConfigError(
            "The examples are not part of the installed package.", "Run this in a checkout of the repository."
        )

    @property
    def paths(self) -> dict[str, Path]:
        """Configurations by the example's name."""
        configurations = (path for path in self.folder.glob("*/*.toml") if (path.parent / "config.toml").exists())
        found = sorted(configurations, key=lambda path: (path.parent.name, path.stem != "config", path))
        return {path.parent.name + ("" if path.stem == "config" else f"/{path.stem}"): path for path in found}

    def lacks(self, name: str) -> str | None:
        """Return the name of a data set that an example needs and that is not there."""
        path = self.paths[name]
        texts = [file.read_text(encoding="utf-8") for file in (path, *path.parent.glob("*.py"))]
        needed = {found for text in texts for found in re.findall(r"heart_disease|tiny_shakespeare", text)}
        return next((each for each in sorted(needed) if not (self.data / each).exists()), None)

    def experiment(self, name: str, rounds: int | None = None) -> Experiment:
        """Return an example's experiment, with another number of rounds if one is given."""
        path = self.paths[name]
        config = load_config(path, compare_with_mean=False)
        source = config.data.source.params.get("path")
        if isinstance(source, str) and source.startswith(_BESIDE):
            moved = {**config.data.source.params, "path": str(self.data / source.removeprefix(_BESIDE))}
            method = Method(method=config.data.source.method, params=moved)
            config = config.model_copy(update={"data": config.data.model_copy(update={"source": method})})
        if rounds is not None:
            config = config.model_copy(update={"training": config.training.model_copy(update={"rounds": rounds})})
        with self._environment():
            return make_experiment(config, path.parent)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        before = os.environ.get(DATA)
        os.environ[DATA] = str(self.data)
        try:
            yield
        finally:
            if before is None:
                del os.environ[DATA]
            else:
                os.environ[DATA] = before


def try_examples(
    examples: Examples,
    names: Sequence[str] = (),
    rounds: int | None = None,
    announce: Callable[[str], None] = lambda doing: None,
) -> tuple[list[ModelRow], dict[str, str]]:
    """Try examples one after another.

    Parameters
    ----------
    examples
        Where they are.
    names
        Which; all unless given.
    rounds
        How many rounds; each example's own number unless given.
    announce
        Is told what is going on.

    Returns
    -------
    tuple
        A row for each, and what those lack that were left out, by name.

    Raises
    ------
    ConfigError
        If there is no example of a name, or it is refused.
    FedledgerError
        If its runs with and without a ledger end with different models.
    """
    unknown = [name for name in names if name not in examples.paths]
    if unknown:
        raise ConfigError(f"There is no example {unknown[0]!r}.", f"There are: {', '.join(examples.paths)}.")
    rows, left_out = [], {}
    for name in names or examples.paths:
        lacking = examples.lacks(name)
        if lacking is not None:
            left_out[name] = lacking
            continue
        announce(name)
        with TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
            rows.append(try_out(name, examples.experiment(name, rounds), Path(folder)))
    return rows, left_out


def try_out(name: str, experiment: Experiment, folder: Path) -> ModelRow:
    """Train without a ledger and with one on the embedded chain, audit, and return what came of it.

    Parameters
    ----------
    name
        What its row is called.
    experiment
        The experiment.
    folder
        An empty folder for the run.

    Raises
    ------
    FedledgerError
        If the runs end with different models, or no round counts.
    """
    rows: list[MetricsRow] = []
    plain = run_without_ledger(experiment, _made(folder / "plain"), "serial", watch=rows.append)
    seconds = [row["seconds"] for row in rows]
    times = [perf_counter()]
    store = LocalStore(folder / "store")
    finished = run(experiment, Chain(), store, folder, lambda _: times.append(perf_counter()))
    write_results(finished, experiment, store, folder, [])
    files = [(where / MODEL_FILE).read_bytes() for where in (folder, folder / "plain")]
    if ContentRef.of(finished.final.encode()).cid != plain["final_model"] or files[0] != files[1]:
        raise FedledgerError(f"{name}: the runs with and without a ledger end with different models.")
    code = experiment.spec.code
    audit = audit_run(folder, store, frozenset() if code is None else frozenset({code.cid}))
    tested = finished.tested
    trained, statistics, fixed = numbers(experiment)
    return ModelRow(
        example=name,
        objective=_named(experiment.config),
        loss_name=experiment.objective.loss_name,
        loss=tested.loss,
        score_name=experiment.objective.score_name,
        score=tested.score,
        seconds_per_round=median(seconds[1:] or seconds),
        ledger_seconds_per_round=_usual(times),
        update_bytes=_largest_update(finished),
        trained=trained,
        statistics=statistics,
        fixed=fixed,
        audit=REPRODUCED if audit.reproduced else f"not reproduced: {audit.first_divergence}",
    )


def numbers(experiment: Experiment) -> tuple[int, int, int]:
    """Return how many numbers of a model move by updates, are aggregated by value, and stay as they are."""
    listed = experiment.spec.tensors
    sizes = {name: prod(tensor.shape) for name, tensor in tensors.decode(experiment.contents[0], further=True).items()}
    statistics = set() if listed is None else {statistic.name for statistic in listed.statistics}
    fixed = set() if listed is None else set(listed.fixed)
    counts = [sum(sizes[name] for name in part) for part in (sizes.keys() - statistics - fixed, statistics, fixed)]
    return counts[0], counts[1], counts[2]


def with_table(document: str, rows: Sequence[ModelRow]) -> str:
    """Return a document in Markdown with the table of these rows between its marks.

    Raises
    ------
    ConfigError
        If it has no such marks, or there are no rows.
    """
    if not rows:
        raise ConfigError("There is nothing to write: no example has its data.", "Give their folder with --data.")
    return between_marks(document, COMMAND, markdown_table([table_cells(row) for row in rows]))


def table_cells(row: ModelRow) -> Mapping[str, str]:
    """Return a row's cells by their titles."""
    return {
        "example": row.example,
        "objective": row.objective,
        "loss": f"{row.loss_name} {row.loss:.3f}",
        "score": f"{row.score_name} {row.score:.3f}",
        "s per round": f"{row.seconds_per_round:.3f}",
        "with a ledger": f"{row.ledger_seconds_per_round:.3f}",
        "bytes per update": f"{row.update_bytes:,}",
        "trained": f"{row.trained:,}",
        "statistics": f"{row.statistics:,}",
        "fixed": f"{row.fixed:,}",
        "audit": row.audit,
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _usual(times: Sequence[float]) -> float:
    """Return the median seconds of the rounds after the first, which has all set-up in it; of that if there is one."""
    taken = [later - earlier for earlier, later in pairwise(times)]
    return median(taken[1:] or taken)


def _largest_update(finished: Run) -> int:
    rounds = finished.task.settled
    return max(reveal.update.length for settled in rounds for reveal in settled.reveals.values())


def _named(config: ExperimentConfig) -> str:
    objective = config.training.objective
    if objective is None:
        return "the task's own"
    given = ", ".join(str(value) for value in objective.params.values())
    return f"{objective.method} ({given})" if given else objective.method
