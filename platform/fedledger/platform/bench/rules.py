"""Aggregation rules beside those of byzfl: seconds and memory of each, from vectors of float32 to the aggregate.

Each is measured in a process of its own. Ours quantises its input; byzfl's takes it as NumPy has it or as torch has it,
whichever is faster.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.mixings.base import MIXINGS, Mixing
from fedledger.aggregator.rules.aggregate import Outcome, Rows, aggregate
from fedledger.aggregator.rules.base import RULES, LinearRule, Rule
from fedledger.aggregator.rules.mean import Mean
from fedledger.platform.bench.processes import threads_each
from fedledger.platform.bench.robustness_pipelines import Part, rule_pipeline
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.measurement import Measurement

COMMAND = "fedledger bench rules"
OURS, PEER = "fedledger", "byzfl"
NUMPY, TORCH = "numpy", "torch"
NOTHING = "–"
FIXED = FixedPoint(24, 64.0)
"""The fixed-point format that tasks have by default."""
MEGABYTE = 1 << 20
MDA_ROWS = 15
"""byzfl tries all subsets, which are too many of more rows."""


@dataclass(frozen=True)
class Given:
    """What is aggregated: ``rows`` vectors of ``dimension`` coordinates, normal of the deviation, ``f`` tolerated."""

    rows: int = 50
    dimension: int = 1_000_000
    f: int = 10
    deviation: float = 0.01
    threads: int = 2
    repeats: int = 3
    seed: int = 1

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors, float32[rows, dimension]."""
        drawn = np.random.default_rng(self.seed).standard_normal((self.rows, self.dimension), dtype=np.float32)
        drawn *= np.float32(self.deviation)
        return drawn


@dataclass(frozen=True)
class Step:
    """A rule, or a step in front of one, here and there.

    Parameters
    ----------
    method, params
        Our method, and its parameters in a condition.
    peer, peer_params
        byzfl's class, and its parameters.
    most_rows
        For how many vectors both are tried at most.
    """

    method: str
    params: Callable[[Given], dict[str, Any]]
    peer: str
    peer_params: Callable[[Given], dict[str, Any]]
    most_rows: int = sys.maxsize


def _nothing(given: Given) -> dict[str, Any]:
    return {}


def _f(given: Given) -> dict[str, Any]:
    return {"f": given.f}


def _krum(given: Given) -> dict[str, Any]:
    return {"f": given.f, "m": 1}


def _radius(given: Given) -> float:
    """Return about the length of a vector."""
    return given.deviation * math.sqrt(given.dimension)


def _clipping(given: Given) -> dict[str, Any]:
    return {"tau": _radius(given), "iterations": 5}


def _peer_clipping(given: Given) -> dict[str, Any]:
    return {"tau": _radius(given), "L": 5}


def _bucket(given: Given) -> dict[str, Any]:
    return {"s": 2}


STEPS: Mapping[str, Step] = {
    "mean": Step("mean@1", _nothing, "Average", _nothing),
    "median": Step("median@2", _nothing, "Median", _nothing),
    "trimmed_mean": Step("trimmed_mean@2", _f, "TrMean", _f),
    "krum": Step("multi_krum@3", _krum, "Krum", _f),
    "multi_krum": Step("multi_krum@3", _f, "MultiKrum", _f),
    "geometric_median": Step("geometric_median@2", _nothing, "GeometricMedian", _nothing),
    "centred_clipping": Step("centred_clipping@1", _clipping, "CenteredClipping", _peer_clipping),
    "meamed": Step("meamed@1", _f, "Meamed", _f),
    "caf": Step("caf@1", _f, "CAF", _f),
    "mda": Step("mda@1", _f, "MDA", _f, MDA_ROWS),
}
BEFORE: Mapping[str, Step] = {
    "nnm": Step("nearest_neighbour_mixing@3", _f, "NNM", _f),
    "bucketing": Step("bucketing@1", _bucket, "Bucketing", _bucket),
}
NAMES = (*STEPS, *(f"{before}+{rule}" for before in BEFORE for rule in ("mean", "trimmed_mean", "geometric_median")))


@dataclass(frozen=True)
class RuleRow:
    """What a rule takes.

    Parameters
    ----------
    rule, engine
        The rule, behind the step before it, and whose it is.
    seconds, peak_mb
        The shortest of several runs, and the process's largest memory beyond what it had before it made its input.
    rows, dimension, f
        Number of vectors, of their coordinates, and of hostile ones that are tolerated.
    threads
        Number of threads.
    input
        As what the vectors were given: float32 of NumPy or of torch.
    error
        Why there are no figures.
    """

    rule: str
    engine: str
    seconds: float | None
    peak_mb: float | None
    rows: int
    dimension: int
    f: int
    threads: int
    input: str = NUMPY
    error: str | None = None


@dataclass(frozen=True)
class Bench:
    """Rules by name, each measured in a process of its own.

    Parameters
    ----------
    given
        What is aggregated.
    names
        The rules.
    engines
        Whose.
    announce
        Is told what is being measured.
    """

    given: Given
    names: Sequence[str] = NAMES
    engines: Sequence[str] = (OURS, PEER)
    announce: Callable[[str], None] = field(default=lambda doing: None)

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in NAMES:
                _parts(name)
        if any(engine not in (OURS, PEER) for engine in self.engines):
            raise ConfigError("There is no such engine.", f"There are: {OURS}, {PEER}.")
        if PEER in self.engines and PEER not in sys.modules and find_spec(PEER) is None:
            raise ConfigError(
                "byzfl is not installed.",
                f"Install it by `pip install --no-deps byzfl`, or measure with --engines {OURS} alone.",
            )

    def rows(self) -> Iterator[RuleRow]:
        """Yield the figures of one rule after another."""
        for name in self.names:
            for engine in self.engines if name in NAMES else [each for each in self.engines if each == OURS]:
                self.announce(f"{name} of {engine}")
                yield self._measured(name, engine)

    def _measured(self, name: str, engine: str) -> RuleRow:
        given = _suited(name, self.given)
        kinds = (NUMPY,) if engine == OURS else (NUMPY, TORCH)
        found = [_alone(partial(measure, name, engine, given, kind), given.threads) for kind in kinds]
        # What byzfl cannot do with one type it may do with the other.
        return min(found, key=lambda row: math.inf if row.seconds is None else row.seconds)


def measure(name: str, engine: str, given: Given, kind: str) -> RuleRow:
    """Return the figures of one rule, measured in this process."""
    run = _ours(name, given) if engine == OURS else _theirs(name, given)
    torch.set_num_threads(given.threads)
    before = psutil.Process().memory_info().rss
    vectors = given.vectors()
    rows: Any = torch.from_numpy(vectors) if kind == TORCH else vectors
    about = (given.rows, given.dimension, given.f, given.threads, kind)
    taken = []
    try:
        for _ in range(given.repeats):
            start = perf_counter()
            run(rows)
            taken.append(perf_counter() - start)
    except (FedledgerError, ArithmeticError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        return RuleRow(name, engine, None, None, *about, f"{type(error).__name__}: {error}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return RuleRow(name, engine, min(taken), peak / MEGABYTE, *about)


def table_cells(rows: Sequence[RuleRow]) -> list[dict[str, str]]:
    """Return a table's rows: each rule's figures side by side and the ratio of times; their geometric mean last."""
    table, ratios = [], []
    for name in dict.fromkeys(row.rule for row in rows):
        by_engine = {row.engine: row for row in rows if row.rule == name}
        first = next(iter(by_engine.values()))
        nothing = replace(first, seconds=None, peak_mb=None, input=NOTHING)
        ours, peer = by_engine.get(OURS, nothing), by_engine.get(PEER, nothing)
        ratio = None
        if ours.seconds and peer.seconds:
            ratio = peer.seconds / ours.seconds
            ratios.append(ratio)
        table.append(
            {
                "rule": name,
                "vectors": str(first.rows),
                "fedledger, s": _shown(ours.seconds, 3),
                "byzfl, s": _shown(peer.seconds, 3),
                "byzfl's input": peer.input if peer.seconds else NOTHING,
                "times as fast": _shown(ratio, 2),
                "fedledger, MB": _shown(ours.peak_mb, 0),
                "byzfl, MB": _shown(peer.peak_mb, 0),
            }
        )
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        table.append(dict.fromkeys(table[0], "") | {"rule": "geometric mean", "times as fast": _shown(mean, 2)})
    return table


def peer_module(part: str) -> ModuleType:
    """Return ``byzfl.aggregators.…`` without what byzfl's own start imports: its benchmark needs torchvision."""
    if PEER not in sys.modules:
        found = find_spec(PEER)
        assert found is not None
        assert found.origin is not None
        package = ModuleType(PEER)
        package.__path__ = [str(Path(found.origin).parent)]
        sys.modules[PEER] = package
    return import_module(f"{PEER}.aggregators.{part}")


def _ours(name: str, given: Given) -> Callable[[NDArray[np.float32]], Outcome]:
    mixing, made = _methods(name, given)
    weights, nothing = [1] * given.rows, Measurement(0, 0)
    stage = StageContext(
        RoundFeatures(nothing, [], [], np.zeros((0, 0), np.int64)),
        owners=[f"0x{number:040x}" for number in range(given.rows)],
        draws=lambda: Stream(bytes(32)),
        start_losses=[FIXED.unit] * given.rows,
    )

    def run(rows: NDArray[np.float32]) -> Outcome:
        return aggregate(made, Rows(rows, weights, fixed=FIXED), FIXED.unit, mixing, stage)

    def run_whole(rows: NDArray[np.float32]) -> Outcome:
        # As in a round, where a rule may look at whole updates; the first one stands for the trusted one.
        whole = np.stack([FIXED.quantise(row) for row in rows])
        seen = replace(stage, updates=whole, trusted=whole[0])
        return aggregate(made, Rows(whole, weights), FIXED.unit, mixing, seen)

    is_linear = isinstance(made, LinearRule) and not made.needs_gram and not isinstance(made, Mean)
    return run_whole if is_linear else run


def _methods(name: str, given: Given) -> tuple[Mixing | None, Rule]:
    """Return the mixing and the rule of a name."""
    if name in NAMES:
        before, _, rule = name.rpartition("+")
        mixing = build(MIXINGS, BEFORE[before].method, BEFORE[before].params(given)) if before else None
        return mixing, build(RULES, STEPS[rule].method, STEPS[rule].params(given))
    chosen = {part.slot: part.method(given.rows, given.f) for part in _parts(name)}
    first, rule_ = chosen.get("mixing"), chosen["aggregation"]
    mixing = None if first is None else build(MIXINGS, first["method"], first["params"])
    return mixing, build(RULES, rule_["method"], rule_["params"])


def _parts(name: str) -> Sequence[Part]:
    """Return the methods of a rule's pipeline.

    Raises
    ------
    ConfigError
        If it is none, or has a normalisation.
    """
    pipeline = rule_pipeline(name)
    if pipeline is None or any(part.slot == "normalisation" for part in pipeline.parts):
        raise ConfigError(f"{name!r} is no rule that is timed here.", "Give a rule, perhaps behind a mixing: nnm+krum.")
    return pipeline.parts


def _theirs(name: str, given: Given) -> Callable[[Any], Any]:
    before, _, rule = name.rpartition("+")
    step = STEPS[rule]
    aggregator = getattr(peer_module("aggregators"), step.peer)(**step.peer_params(given))
    if not before:
        return aggregator  # type: ignore[no-any-return]
    first = getattr(peer_module("preaggregators"), BEFORE[before].peer)(**BEFORE[before].peer_params(given))
    return lambda rows: aggregator(first(rows))


def _suited(name: str, given: Given) -> Given:
    """Return the condition with no more vectors than the rule is tried for."""
    step = STEPS.get(name.rpartition("+")[2])
    most = given.rows if step is None else step.most_rows
    if given.rows <= most:
        return given
    return replace(given, rows=most, f=given.f * most // given.rows)


def _alone(work: Callable[[], RuleRow], threads: int) -> RuleRow:
    with threads_each(threads), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work).result()


def _shown(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"
