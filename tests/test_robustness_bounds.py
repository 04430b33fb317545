"""What f hostile rows can do, at most, against every choice of honest ones and in every draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from test_rules import NNM, POINT, a_round, fixed

from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.methods.parameters import build


def named(key: str) -> str:
    """Return the name of ``name@version``."""
    return key.partition("@")[0]


STRICT = ("trimmed_mean", "multi_krum")
SIZES = [(5, 1), (7, 1), (7, 2), (9, 3), (11, 4), (13, 5), (15, 3), (15, 6)]
KAPPA: dict[str, Callable[[float], float]] = {
    "trimmed_mean": lambda r: 6 * r * (1 + r),
    "multi_krum": lambda r: 6 * (1 + r),
    "median": lambda r: 4 * (1 + r) ** 2,
    "geometric_median": lambda r: 4 * (1 + r) ** 2,
}
"""κ by r = f / (n − 2f) (Allouah et al. 2023, https://arxiv.org/abs/2302.01772, table 1)."""
PROMISED = sorted(key for key in RULES if named(key) in KAPPA)
"""Every version of the rules that promise a κ."""
RESILIENT = ["mda@1", "meamed@1", "monna@1"]
"""Rules whose result is less than 2f / (n − f) times a diameter away from the honest mean."""
QUICK, ALL = range(100), range(1000)


@cache
def subsets(n: int, f: int) -> np.ndarray:
    """Return the n − f rows of every choice, bool[choices, n]."""
    chosen = np.zeros((len(list(combinations(range(n), f))), n), bool)
    for is_in, left_out in zip(chosen, combinations(range(n), f), strict=True):
        is_in[:] = True
        is_in[list(left_out)] = False
    return chosen


def draw(seed: int) -> tuple[np.ndarray, int]:
    """Return rows int64[n, d], whose order says nothing, and how many of them are hostile."""
    rng = np.random.default_rng(seed)
    n, f = SIZES[seed % len(SIZES)]
    d = int(rng.integers(1, 9))
    honest = rng.normal(size=(n - f, d)) * rng.choice([1.0, 5.0], size=d)
    match seed // len(SIZES) % 4:
        case 1:
            honest = np.round(honest)
        case 2:
            honest[: (n - f) // 2] += 4
        case 3:
            honest *= rng.standard_cauchy(size=(n - f, 1))
    mean, spread = honest.mean(axis=0), honest.std(axis=0)
    along = rng.normal(size=d)
    hostile = [
        mean - 10 * mean * np.ones((f, 1)),
        mean - rng.choice([0.5, 1.5, 3.0]) * spread * np.ones((f, 1)),
        np.repeat(honest[:1], f, axis=0),
        mean + 1000 * along * np.ones((f, 1)),
        mean + 300 * rng.normal(size=(f, d)),
        honest[np.argsort(honest @ along)[-1]] + 0.01 * rng.normal(size=(f, d)),
        mean + along / np.linalg.norm(along) * np.linalg.norm(honest - mean, axis=1).max() * np.ones((f, 1)),
    ][int(rng.integers(0, 7))]
    return fixed(np.clip(rng.permutation(np.vstack([honest, hostile])), -4000, 4000)), f


def result(key: str, rows: np.ndarray, f: int, mixing: str | None = None) -> np.ndarray:
    params: dict[str, int] = {"f": f} if named(key) in (*STRICT, *map(named, RESILIENT)) else {}
    if key.startswith("multi_krum"):
        params["m"] = 1
    mixer = None if mixing is None else build(MIXINGS, mixing, {"f": f})
    given = Rows(rows, [1] * len(rows))
    return aggregate(build(RULES, key, params), given, POINT.unit, mixer, a_round(rows)).delta / POINT.unit


def assert_robust(key: str, seed: int, mixing: str | None) -> None:
    """(f, κ)-robustness: ‖F(x) − mean_S‖² ≤ κ / |S| Σ_S ‖x_i − mean_S‖² for every S of n − f rows."""
    rows, f = draw(seed)
    n = len(rows)
    if key.startswith("multi_krum") and n < 2 * f + 3:
        return
    kappa = KAPPA[named(key)](f / (n - 2 * f))
    if mixing is not None:
        kappa = 8 * f / (n - f) * (kappa + 1)
    # About the median, so that far rows spoil no digits of the others.
    centre = np.median(rows, axis=0) / POINT.unit
    values, found = rows / POINT.unit - centre, result(key, rows, f, mixing) - centre
    chosen = subsets(n, f)
    means = chosen @ values / (n - f)
    squares = (values**2).sum(axis=1)
    spreads = chosen @ squares / (n - f) - (means**2).sum(axis=1)
    rounding = 1e-12 * np.where(chosen, squares, 0).max(axis=1) + 1e-9
    apart = ((found - means) ** 2).sum(axis=1)
    # Geometric medians are found to a tolerance.
    assert (apart <= (kappa + 1e-4) * spreads + 10 * (1 + kappa) * rounding).all(), (seed, n, f)


@pytest.mark.parametrize("mixing", [None, NNM])
@pytest.mark.parametrize("key", PROMISED)
def test_rules_are_robust(key: str, mixing: str | None) -> None:
    for seed in QUICK:
        assert_robust(key, seed, mixing)


@pytest.mark.long
@pytest.mark.parametrize("mixing", [None, NNM])
@pytest.mark.parametrize("key", PROMISED)
def test_rules_are_robust_in_a_thousand_draws(key: str, mixing: str | None) -> None:
    for seed in ALL:
        assert_robust(key, seed, mixing)


def assert_resilient(key: str, seed: int) -> None:
    """A mean of n − f rows differs from that of S in f rows at most, each of which has a counterpart in S.

    A chosen row is no further from a row of both, from the median or from the trusted row than the honest ones are. So
    the distance is at most f / (n − f) times twice a diameter (Farhadkhani et al. 2022, https://arxiv.org/abs/2205.12173).
    """
    rows, f = draw(seed)
    n, values = len(rows), rows / POINT.unit
    found = result(key, rows, f)
    # There are thousands of choices.
    for is_in in subsets(n, f)[:: 1 + len(subsets(n, f)) // 200]:
        honest = values[is_in]
        apart = np.abs(found - honest.mean(axis=0))
        if key == "meamed@1":
            most = np.ptp(honest, axis=0)
        elif key == "monna@1":
            apart, most = np.linalg.norm(apart), np.linalg.norm(honest - values[0], axis=1).max()
        else:
            pairs = honest[:, None] - honest
            apart, most = np.linalg.norm(apart), np.linalg.norm(pairs, axis=2).max()
        assert np.all(apart <= 2 * f / (n - f) * most * (1 + 1e-9) + 1e-8), (seed, n, f)


@pytest.mark.parametrize("key", RESILIENT)
def test_rules_are_resilient(key: str) -> None:
    for seed in QUICK:
        assert_resilient(key, seed)


@pytest.mark.long
@pytest.mark.parametrize("key", RESILIENT)
def test_rules_are_resilient_in_a_thousand_draws(key: str) -> None:
    for seed in ALL:
        assert_resilient(key, seed)


def test_the_mean_promises_nothing() -> None:
    """The draws are hard enough to show it."""
    broken = 0
    for seed in QUICK:
        rows, f = draw(seed)
        values, n = rows / POINT.unit, len(rows)
        chosen = subsets(n, f)
        means = chosen @ values / (n - f)
        spreads = chosen @ (values**2).sum(axis=1) / (n - f) - (means**2).sum(axis=1)
        apart = ((values.mean(axis=0) - means) ** 2).sum(axis=1)
        broken += bool((apart > 4 * (1 + f / (n - 2 * f)) ** 2 * spreads + 1e-6).any())
    assert broken > 20


@pytest.mark.parametrize("iterations", [1, 100])
@pytest.mark.parametrize("far", [1.0, 4000.0])
@pytest.mark.parametrize("decoys", [1, 2])
def test_a_far_row_does_not_shield_a_nearer_one_from_the_filter(decoys: int, far: float, iterations: int) -> None:
    """CAF's steps are relative to the farthest row, even once it has no weight; they do not end before its promise."""
    honest = np.random.default_rng(0).normal(size=(7, 20)) / 1000
    along = np.eye(20)[:1]
    rows = fixed(np.vstack([honest, far * np.repeat(along, decoys, 0), far / 1001 * np.repeat(along, 3 - decoys, 0)]))
    rule = build(RULES, "caf@1", {"f": 3, "iterations": iterations})
    found = aggregate(rule, Rows(rows, [1] * 10), POINT.unit).delta / POINT.unit
    mean = honest.mean(axis=0)
    assert np.linalg.norm(found - mean) <= np.sqrt(np.square(honest - mean).sum(axis=1).mean())
