"""What a round of training costs in this engine, in bare torch and in other frameworks, all in one run.

Each engine is a script in ``benchmarks/engine`` that trains a workload and prints how long its rounds took. They take
turns, so that what else the machine does meets all alike, and a ratio is that of neighbours in time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.storage.process_memory import ProcessTree, measurable

WARM_UP = 5
"""Rounds that are not counted in the seconds a round."""
PATIENCE = 900.0
"""Seconds after which an engine is given up."""
MEGABYTE = 1e6


@dataclass(frozen=True)
class Engine:
    """A script that trains a workload.

    Parameters
    ----------
    name
        Its name, and that of its rows.
    needs
        Modules that a peer's interpreter must have; ours needs none but itself.
    most_rounds
        Rounds beyond which more would take long and tell nothing.
    """

    name: str
    needs: tuple[str, ...] = ()
    most_rounds: int | None = None

    @property
    def script(self) -> str:
        """Name of the file."""
        return "floor.py" if self.name == FLOOR else f"{self.name}_engine.py"

    def rounds(self, rounds: int) -> int:
        """Return how many it plays where others play ``rounds``."""
        return rounds if self.most_rounds is None else min(rounds, self.most_rounds)


FLOOR, OURS = "floor", "fedledger"
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(FLOOR),
        Engine(OURS),
        Engine("flwr", ("flwr", "ray", "torch"), most_rounds=40),
        Engine("pfl", ("pfl", "torch")),
    )
}
PEERS = tuple(engine.name for engine in ENGINES.values() if engine.needs)
ROUNDS = {"digits": 300, "mlp": 30, "cnn": 20, "gru": 40}
QUICK_ROUNDS = {"digits": 40, "mlp": 10, "cnn": 8, "gru": 12}


@dataclass(frozen=True)
class Figures:
    """What one repetition of an engine gave.

    Parameters
    ----------
    seconds_per_round, mean_seconds_per_round
        Median and mean over the rounds after the first ``WARM_UP``.
    first_round_seconds
        From the start of the command to the end of its first round.
    """

    seconds_per_round: float
    mean_seconds_per_round: float
    first_round_seconds: float


@dataclass(frozen=True)
class Row:
    """What an engine took for a workload: medians over the repetitions.

    Parameters
    ----------
    engine, workload
        Which.
    seconds_per_round, mean_seconds_per_round, first_round_seconds
        Medians over the repetitions of their `Figures`.
    peak_pss_mb
        Largest sum of the proportional set sizes of all processes, in 10⁶ bytes, in a run of its own; None where the
        system does not tell it.
    rounds
        How many were played in a repetition.
    about
        Versions and processes.
    repetitions
        Each repetition's figures.
    """

    engine: str
    workload: str
    seconds_per_round: float
    mean_seconds_per_round: float
    first_round_seconds: float
    peak_pss_mb: float | None
    rounds: int
    about: str
    repetitions: tuple[Figures, ...]


@dataclass(frozen=True)
class Target:
    """What is compared, and what is to come out.

    Parameters
    ----------
    figure
        The figure of a row.
    over, under
        The engines whose figures are divided; without ``under`` the figure itself is looked at.
    workloads
        Where something is wanted; elsewhere the ratio is only told.
    at_most, at_least, above
        What is wanted.
    """

    figure: str
    over: str
    under: str | None
    workloads: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None
    above: float | None = None

    def met(self, value: float) -> bool:
        """Return whether a value is as wanted."""
        return (
            (self.at_most is None or value <= self.at_most)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        bounds = (("≤", self.at_most), ("≥", self.at_least), (">", self.above))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


MEDIAN, MEAN, FIRST, MEMORY = "seconds_per_round", "mean_seconds_per_round", "first_round_seconds", "peak_pss_mb"
ALL = tuple(ROUNDS)
TARGETS = (
    Target(MEDIAN, OURS, FLOOR, ALL, at_most=1.10),
    Target(MEAN, OURS, FLOOR),
    Target(MEDIAN, "flwr", OURS, ("digits",), at_least=100),
    Target(MEDIAN, "flwr", OURS, ("mlp",), at_least=3.5),
    Target(MEDIAN, "flwr", OURS),
    Target(MEAN, "flwr", OURS),
    Target(MEDIAN, "pfl", OURS, ("digits", "mlp"), above=1),
    Target(MEDIAN, "pfl", OURS),
    Target(MEAN, "pfl", OURS),
    Target(FIRST, OURS, None, ALL, at_most=4.0),
    Target(MEMORY, OURS, FLOOR, ALL, at_most=1.25),
)


@dataclass(frozen=True)
class Ratio:
    """A comparison as it came out.

    Parameters
    ----------
    ratio
        The engines: ``over/under``, or one alone where its figure itself is looked at.
    workload, figure
        Of which.
    value
        Median over the repetitions of the ratio of that repetition's figures.
    target
        What is wanted; empty where nothing is.
    met
        Whether it is so; None where nothing is wanted.
    """

    ratio: str
    workload: str
    figure: str
    value: float
    target: str
    met: bool | None


@dataclass
class Comparison:
    """All that came out.

    Parameters
    ----------
    rows
        An engine and workload each.
    ratios
        Between them.
    """

    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """Where the scripts and the interpreters are.

    Parameters
    ----------
    scripts
        Folder of the engines' scripts.
    peer_python
        Interpreter with the peers.
    """

    scripts: Path
    peer_python: Path

    @classmethod
    def find(cls, peer_python: Path | None = None) -> Bench:
        """Return the scripts of this checkout, and the interpreter that was named or the one that `make bench` makes.

        Raises
        ------
        ConfigError
            If the scripts are not there.
        """
        for root in (Path(__file__).parents[4], Path.cwd()):
            scripts = root / "benchmarks" / "engine"
            if (scripts / "floor.py").exists():
                python = peer_python or root / ".venv-bench" / "bin" / "python"
                # Not resolved: a link is how an interpreter knows its environment.
                return cls(scripts.absolute(), python.absolute())
        raise ConfigError(
            "The scripts of the other engines are not part of the installed package.",
            "Run this in a checkout of the repository.",
        )

    def compare(
        self,
        peers: Sequence[str] = (),
        rounds: Mapping[str, int] = ROUNDS,
        repetitions: int = 5,
        announce: Callable[[str], None] = lambda doing: None,
    ) -> Comparison:
        """Train each workload with each engine, several times in turn, and once more to watch the memory.

        Parameters
        ----------
        peers
            Names out of ``PEERS``, compared besides the floor.
        rounds
            Rounds of each workload; above ``WARM_UP``.
        repetitions
            How often, at least once.
        announce
            Is told what is going on.

        Raises
        ------
        ConfigError
            If a peer or workload is not known, there are too few rounds, or the peers are not installed.
        FedledgerError
            If an engine fails.
        """
        engines = self._engines(peers)
        _check_plan(rounds, repetitions)
        self._check_peers([engine for engine in engines if engine.needs])
        result = Comparison()
        for workload, count in rounds.items():
            rows = self._measure(engines, workload, count, repetitions, announce)
            result.rows += rows
            result.ratios += _ratios(workload, {row.engine: row for row in rows})
        return result

    def _measure(
        self,
        engines: Sequence[Engine],
        workload: str,
        rounds: int,
        repetitions: int,
        announce: Callable[[str], None],
    ) -> list[Row]:
        """Train a workload with each engine in turn, repeatedly, and once more to watch the memory."""
        figures: dict[str, list[Figures]] = {engine.name: [] for engine in engines}
        abouts: dict[str, str] = {}
        for repetition in range(1, repetitions + 1):
            for engine in engines:
                announce(f"{workload}, {repetition} of {repetitions}: {engine.name}")
                report, _ = self._run_patiently(engine, workload, rounds)
                figures[engine.name].append(_figures(report))
                abouts[engine.name] = str(report["about"])
        rows = []
        for engine in engines:
            announce(f"{workload}, memory: {engine.name}")
            peak = self._run_patiently(engine, workload, rounds, watch=True)[1] if measurable() else None
            rows.append(_row(engine, workload, figures[engine.name], peak, rounds, abouts[engine.name]))
        return rows

    def _engines(self, peers: Sequence[str]) -> list[Engine]:
        for peer in peers:
            if peer not in PEERS:
                raise ConfigError(f"There is no peer {peer!r}.", f"There are: {', '.join(PEERS)}.")
        return [engine for engine in ENGINES.values() if not engine.needs or engine.name in peers]

    def _check_peers(self, peers: Sequence[Engine]) -> None:
        if not peers:
            return
        remedy = "Install them with `make bench`, or name an interpreter that has them with --peer-python PATH."
        if not self.peer_python.exists():
            raise ConfigError(f"The interpreter of the peers, {self.peer_python}, does not exist.", remedy)
        needs = sorted({need for peer in peers for need in peer.needs})
        code = "import importlib.util as u, sys; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"
        asked = subprocess.run(
            [self.peer_python, "-c", code, *needs], capture_output=True, text=True, env=_environment(True), check=False
        )
        if asked.returncode or asked.stdout.strip():
            lacks = ", ".join(asked.stdout.split()) or "what it needs to start"
            raise ConfigError(f"The interpreter of the peers, {self.peer_python}, lacks {lacks}.", remedy)

    def _run_patiently(
        self, engine: Engine, workload: str, rounds: int, watch: bool = False
    ) -> tuple[dict[str, object], float | None]:
        """Run an engine; a peer that fails, as one does now and then in its communication, is run once more."""
        try:
            return self._run(engine, workload, rounds, watch)
        except FedledgerError:
            if not engine.needs:
                raise
            return self._run(engine, workload, rounds, watch)

    def _run(
        self, engine: Engine, workload: str, rounds: int, watch: bool = False
    ) -> tuple[dict[str, object], float | None]:
        """Run an engine, and return what it printed and, if it was watched, its peak memory in megabytes."""
        python = self.peer_python if engine.needs else Path(sys.executable)
        command = [str(python), str(self.scripts / engine.script), workload, str(engine.rounds(rounds))]
        peak = None
        with TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
            answer, errors = Path(folder, "out"), Path(folder, "err")
            with answer.open("wb") as out, errors.open("wb") as err:
                began = time.time()
                process = subprocess.Popen(
                    [*command, repr(began), str(_digits())],
                    cwd=folder,
                    env=_environment(bool(engine.needs)) | {"RAY_TMPDIR": folder},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                )
            tree = ProcessTree(process.pid) if measurable() else None
            try:
                if watch and tree is not None:
                    peak = tree.peak(PATIENCE) / MEGABYTE
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired as error:
                raise FedledgerError(
                    f"{engine.name} did not finish {workload} within {PATIENCE:g} seconds.", "Give fewer --rounds."
                ) from error
            finally:
                _end(process, tree)
            report = _last_document(answer.read_text(errors="replace"))
            if process.returncode or report is None:
                said = errors.read_text(errors="replace").strip().splitlines()
                raise FedledgerError(
                    f"{engine.name} failed on {workload} (exit code {process.returncode}): "
                    f"{said[-1] if said else 'it said nothing'}.",
                    f"Run {' '.join(command)} 0 {_digits()}",
                )
        return report, peak


def _check_plan(rounds: Mapping[str, int], repetitions: int) -> None:
    for workload, count in rounds.items():
        if workload not in ROUNDS:
            raise ConfigError(f"There is no workload {workload!r}.", f"There are: {', '.join(ROUNDS)}.")
        if count <= WARM_UP:
            raise ConfigError(
                f"{count} rounds are too few: the first {WARM_UP} are not counted.", f"Give more than {WARM_UP}."
            )
    if repetitions < 1:
        raise ConfigError(f"{repetitions} repetitions measure nothing.", "Give at least 1.")


def _digits() -> Path:
    """Return the file of scikit-learn's digits, which the peers' environment does not have."""
    return Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))


def _environment(peer: bool) -> dict[str, str]:
    # What is on the path of this interpreter is not for another one.
    return {name: value for name, value in os.environ.items() if not (peer and name == "PYTHONPATH")}


def _end(process: subprocess.Popen[bytes], tree: ProcessTree | None) -> None:
    """End an engine that was given up, with all that it has started."""
    left = tree.members() if tree is not None and process.poll() is None else []
    if process.poll() is None:
        process.kill()
        process.wait()
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _last_document(text: str) -> dict[str, object] | None:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            document: dict[str, object] = json.loads(line)
            return document
    return None


def _figures(report: Mapping[str, object]) -> Figures:
    rounds, first = report["rounds"], report["first_round_seconds"]
    assert isinstance(rounds, list) and isinstance(first, float)
    counted = rounds[WARM_UP:]
    return Figures(median(counted), fmean(counted), first)


def _row(engine: Engine, workload: str, figures: Sequence[Figures], peak: float | None, rounds: int, about: str) -> Row:
    return Row(
        engine.name,
        workload,
        median(each.seconds_per_round for each in figures),
        median(each.mean_seconds_per_round for each in figures),
        median(each.first_round_seconds for each in figures),
        peak,
        engine.rounds(rounds),
        about,
        tuple(figures),
    )


def _ratios(workload: str, rows: Mapping[str, Row]) -> list[Ratio]:
    """Return how the engines of a workload compare; what is wanted of a ratio comes before what is only told."""
    ratios: dict[tuple[str, str], Ratio] = {}
    for target in TARGETS:
        names = [target.over] if target.under is None else [target.over, target.under]
        wanted = workload in target.workloads
        key = ("/".join(names), target.figure)
        if (target.workloads and not wanted) or key in ratios or any(name not in rows for name in names):
            continue
        values = [_values(rows[name], target.figure) for name in names]
        if not all(values):
            continue
        value = median(values[0] if len(values) == 1 else [over / under for over, under in zip(*values, strict=True)])
        met = target.met(value) if wanted else None
        ratios[key] = Ratio(key[0], workload, target.figure, value, str(target), met)
    return list(ratios.values())


def _values(row: Row, figure: str) -> list[float]:
    """Return a figure of each repetition, or the only one that there is."""
    if figure == MEMORY:
        return [] if row.peak_pss_mb is None else [row.peak_pss_mb]
    return [float(getattr(each, figure)) for each in row.repetitions]
