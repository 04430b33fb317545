"""Rounds with the replayable solver beside those with SGD, in one run and turn by turn.

Usage: python replayable_rounds.py WORKLOAD ROUNDS [WORKERS]
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack

from fedledger_engine import WORKERS, ask_floors_clients, workload_experiment
from workloads import load

from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord

METHODS = "sgd@1", "replayable_sgd@1"
SKIPPED = 5
"""First rounds, which do not count."""


def main() -> None:
    """Print the median and least seconds of both, and their ratios."""
    name, rounds = sys.argv[1], int(sys.argv[2])
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else WORKERS
    workload = load(name)
    with ExitStack() as stack:
        games = []
        for method in METHODS:
            experiment = workload_experiment(workload, rounds, method)
            record = MemoryRecord(experiment)
            ask_floors_clients(record, workload)
            games.append(play(record, stack.enter_context(Pool(experiment, workers))))
        turns = [[played.seconds for played in turn] for turn in zip(*games, strict=True)][SKIPPED:]
    columns = list(zip(*turns, strict=True))
    for figure in (statistics.median, min):
        plain, exact = map(figure, columns)
        print(f"{name} {figure.__name__}: {plain * 1e3:.2f} ms, {exact * 1e3:.2f} ms, ratio {exact / plain:.2f}")


if __name__ == "__main__":
    main()
