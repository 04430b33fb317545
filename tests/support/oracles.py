"""What other implementations of the rules compute, beside what fedledger's do.

``python -m support.oracles .venv-bench/bin/python`` writes the frozen vectors of tests/vectors anew: what ByzFL and
Flower, at the versions of tests/oracles.txt and benchmarks/engine/requirements.txt, make of :func:`matrices`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sin
from pathlib import Path
from typing import Any

import numpy as np

from support.peers import byzfl_aggregators, byzfl_preaggregators

VECTORS = Path(__file__).parents[1] / "vectors"
Rows = np.ndarray
MANY = 1 << 20
"""More rows than there are anywhere."""


@dataclass(frozen=True)
class Ours:
    """A method of fedledger that computes what another implementation does.

    Parameters
    ----------
    kind
        ``rules``, ``mixings`` or ``normalisations``.
    name
        Its ``name@version``.
    params
        From n and f to its parameters.
    least
        From f to the fewest rows with which both are defined.
    accuracy
        How far they may be apart, beside the largest value.
    """

    kind: str
    name: str
    params: Callable[[int, int], dict[str, Any]] = lambda n, f: {}
    least: Callable[[int], int] = lambda f: 2 * f + 1
    accuracy: float = 1e-7


@dataclass(frozen=True)
class Pair:
    """A function of rows float64[n, d] and f, and the method of fedledger that does the same."""

    theirs: Callable[[Rows, int], Rows]
    ours: Ours


def matrices(count: int = 6) -> Iterator[tuple[Rows, int]]:
    """Yield rows in multiples of 2^-20 and how many of them, f, are hostile."""
    for k in range(count):
        n, d = 7 + 2 * k, 2 + k
        rows = np.array([[sin(1 + k + 3 * i + 5 * j) for j in range(d)] for i in range(n)])
        f = (n - 3) // 4
        rows[:f] = rows[:f] * 10 ** (k % 3) + k
        yield np.rint(rows * (1 << 20)) / (1 << 20), f


def _byzfl(name: str, **params: Any) -> Callable[[Rows, int], Rows]:
    def theirs(rows: Rows, f: int) -> Rows:
        found = getattr(byzfl_aggregators(), name, None) or getattr(byzfl_preaggregators(), name)
        given = {key: value(f) if callable(value) else value for key, value in params.items()}
        # Some overwrite what they are given.
        return np.asarray(found(**given)(rows.copy()))

    return theirs


def _f(f: int) -> int:
    return f


# ByzFL's Krum takes the n − f − 1 nearest others, as the paper's does with an f of one less.
_KRUM: dict[str, Any] = {"least": lambda f: 2 * f + 3}
BYZFL: dict[str, Pair] = {
    "Average": Pair(_byzfl("Average"), Ours("rules", "mean@1")),
    "Median": Pair(_byzfl("Median"), Ours("rules", "median@1")),
    "TrMean": Pair(_byzfl("TrMean", f=_f), Ours("rules", "trimmed_mean@1", lambda n, f: {"f": f})),
    "GeometricMedian": Pair(
        _byzfl("GeometricMedian", nu=1e-6, T=2_000), Ours("rules", "geometric_median@1", accuracy=1e-5)
    ),
    "Krum": Pair(
        _byzfl("Krum", f=_f), Ours("rules", "multi_krum@1", lambda n, f: {"f": max(f - 1, 0), "m": 1}, **_KRUM)
    ),
    "MultiKrum": Pair(
        _byzfl("MultiKrum", f=_f), Ours("rules", "multi_krum@1", lambda n, f: {"f": max(f - 1, 0), "m": n - f}, **_KRUM)
    ),
    "CenteredClipping": Pair(
        _byzfl("CenteredClipping", L=5, tau=1.0), Ours("rules", "centred_clipping@1", lambda n, f: {"tau": 1.0})
    ),
    "MDA": Pair(_byzfl("MDA", f=_f), Ours("rules", "mda@1", lambda n, f: {"f": f})),
    "MoNNA": Pair(_byzfl("MoNNA", f=_f, idx=0), Ours("rules", "monna@1", lambda n, f: {"f": f})),
    "Meamed": Pair(_byzfl("Meamed", f=_f), Ours("rules", "meamed@1", lambda n, f: {"f": f})),
    "NNM": Pair(_byzfl("NNM", f=_f), Ours("mixings", "nearest_neighbour_mixing@1", lambda n, f: {"f": f})),
    "Clipping": Pair(_byzfl("Clipping", c=1.25), Ours("normalisations", "norm_clip@1", lambda n, f: {"norm": 1.25})),
    "ARC": Pair(_byzfl("ARC", f=_f), Ours("normalisations", "arc@1", lambda n, f: {"f": f})),
}
FLOWER: dict[str, Ours] = {
    "mean": Ours("rules", "mean@1"),
    "median": Ours("rules", "median@1"),
    "trimmed_mean": Ours("rules", "trimmed_mean@1", lambda n, f: {"f": f}),
    "krum": Ours("rules", "multi_krum@1", lambda n, f: {"f": f, "m": 1}, **_KRUM),
    "multi_krum": Ours("rules", "multi_krum@1", lambda n, f: {"f": f}, **_KRUM),
    # With f = 1 its last turn compares nearest neighbours; by the paper it looks at n − f − 2 = 0 others.
    "bulyan": Ours("rules", "bulyan@1", lambda n, f: {"f": f}, lambda f: 4 * f + 3 if f > 1 else MANY),
}
"""Rules of Flower, by the names that support/flower_rules.py gives them."""


def flower(python: Path, cases: list[tuple[Rows, int]]) -> list[dict[str, list[float]]]:
    """Return what Flower's rules make of rows with f hostile ones, by an interpreter that has Flower."""
    given = json.dumps([{"rows": rows.tolist(), "f": f} for rows, f in cases])
    script = Path(__file__).parent / "flower_rules.py"
    done = subprocess.run([python, script], input=given, capture_output=True, text=True, check=True, timeout=120)
    found: list[dict[str, list[float]]] = json.loads(done.stdout)
    return found


def frozen(name: str) -> list[dict[str, Any]]:
    """Return the frozen vectors of ``byzfl`` or ``flower``, in the order of :func:`matrices`."""
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())
    return found


def main() -> None:
    """Write the frozen vectors; the first argument is the interpreter that has Flower."""
    cases = list(matrices())
    byzfl = [{name: pair.theirs(rows, f).tolist() for name, pair in BYZFL.items()} for rows, f in cases]
    found = {"byzfl": byzfl, "flower": flower(Path(sys.argv[1]), cases)}
    VECTORS.mkdir(exist_ok=True)
    for name, vectors in found.items():
        lines = ",\n".join(json.dumps(one) for one in vectors)
        (VECTORS / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
