"""Where the time of a round without a ledger goes, by a profile in one process.

Usage: python profile_round.py WORKLOAD ROUNDS [serial|batched]

A profiler slows small calls down most, so shares are a hint and not a measurement: the second column is what the rounds
take without it.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from fedledger_engine import workload_experiment
from workloads import load

from fedledger.aggregator.round import server_step
from fedledger.learning.fast.perceptron_gradients import PerceptronGradient, Stack, by_autograd
from fedledger.node import training
from fedledger.node.batched_clients import BatchedClients
from fedledger.node.solvers.minibatch import Minibatches
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.round_plan import RoundPlan
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum

WARM_UP = 5
STAGES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("round", play),
    ("  whom it asks", MemoryRecord.ask),
    ("    their selection", RoundPlan.select),
    ("  training and sum", Serial.total),
    ("    batched participants", BatchedClients._train),
    ("      their batches", BatchedClients._begun),
    ("      losses and gradients", Stack.__call__),
    ("    participants one by one", Minibatches.train),
    ("      losses and gradients, direct", PerceptronGradient._compute),
    ("      losses and gradients, autograd", by_autograd),
    ("    random seeds", training.training_seed),
    ("    exact sums of many", WeightedSum.add_rows),
    ("    exact sums of one", WeightedSum.add),
    ("  mean, rounded once", WeightedSum.mean),
    ("  server's step and new model", server_step.take_step),
)


def main() -> None:
    """Play rounds twice, and profile the second time."""
    name, rounds = sys.argv[1], int(sys.argv[2])
    experiment = workload_experiment(load(name), WARM_UP + 2 * rounds)
    with open_backend(sys.argv[3] if len(sys.argv) > 3 else "batched", experiment) as backend:
        played = play(MemoryRecord(experiment), backend)
        _play(played, WARM_UP)
        plain = _play(played, rounds)
        profiler = cProfile.Profile()
        profiler.enable()
        profiled = _play(played, rounds)
        profiler.disable()
    print(f"{name}: {1e3 * plain / rounds:.3f} ms a round, {1e3 * profiled / rounds:.3f} ms with the profiler")
    times = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    whole = None
    for label, function in STAGES:
        code = function.__code__
        found = times.get((code.co_filename, code.co_firstlineno, code.co_name))
        if found is None:
            continue
        calls, cumulative = found[1], found[3]
        whole = whole or cumulative
        print(f"{label:36s} {1e3 * cumulative / rounds:8.3f} ms {cumulative / whole:7.1%} {calls / rounds:8.1f} calls")


def _play(rounds: Iterator[Round], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        next(rounds)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
