"""What Flower's rules make of rows, for support/oracles.py, which runs this in the environment that has Flower.

It reads a JSON list of ``{"rows": [[…], …], "f": …}`` from the standard input, and writes a list of results by name.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from flwr.server.strategy import aggregate as flower


def results(rows: np.ndarray, f: int) -> dict[str, np.ndarray]:
    """Return what each rule makes of float64[n, d], each row of one example, with f hostile rows."""
    n = len(rows)
    given = [([row], 1) for row in rows]
    found = {
        "mean": flower.aggregate(given),
        "median": flower.aggregate_median(given),
        # It rounds the share of n down to whole rows.
        "trimmed_mean": flower.aggregate_trimmed_avg(given, (f + 0.5) / n),
        "krum": flower.aggregate_krum(given, f, 0),
        "multi_krum": flower.aggregate_krum(given, f, n - f),
    }
    if n >= 4 * f + 3:
        # It takes the rows that it has chosen off the list.
        found["bulyan"] = flower.aggregate_bulyan(list(given), f, flower.aggregate_krum, to_keep=0)
    return {name: vectors[0] for name, vectors in found.items()}


def main() -> None:
    cases = json.load(sys.stdin)
    found = [results(np.array(case["rows"]), case["f"]) for case in cases]
    json.dump([{name: vector.tolist() for name, vector in one.items()} for one in found], sys.stdout)


if __name__ == "__main__":
    main()
