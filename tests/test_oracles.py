"""The rules beside other implementations of them: ByzFL, Flower, SciPy and scikit-learn, live and as frozen vectors."""

from __future__ import annotations

import subprocess
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN
from test_rules import POINT, a_round, fixed, frozen

from fedledger.aggregator.context.clusters import majority_cluster
from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.mixings.mixture import Mixture
from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.arithmetic.exact import LIMIT, gram
from fedledger.protocol.methods.parameters import build
from support import oracles
from support.peers import byzfl_aggregators, byzfl_preaggregators

DRAWS = 60
NOTHING = np.zeros((0, 0), np.int64)


def computed(ours: oracles.Ours, rows: np.ndarray, f: int) -> np.ndarray:
    """Return what fedledger makes of float64[n, d]; the first row is the one that the aggregator trusts."""
    whole, params = fixed(rows), ours.params(len(rows), f)
    before = whole.copy()
    if ours.kind == "normalisations":
        found = build(NORMALISATIONS, ours.name, params)(whole, [1] * len(rows), [1] * len(rows), LIMIT, POINT.unit)
    elif ours.kind == "mixings":
        mixture = Mixture.of(build(MIXINGS, ours.name, params), gram(whole), [1] * len(rows))
        found = mixture.rows(whole) / mixture.share
    else:
        given = Rows(whole, [1] * len(rows), np.zeros(rows.shape[1], np.int64))
        found = aggregate(build(RULES, ours.name, params), given, POINT.unit, None, a_round(whole)).delta
    assert (whole == before).all()
    return np.asarray(found) / POINT.unit


def random_rows(seed: int, spare: int = 3, least: int = 1) -> tuple[np.ndarray, int]:
    """Return float64[n, d] in fixed point of which f rows are elsewhere, n ≥ 2f + ``spare``, d ≥ ``least``."""
    rng = np.random.default_rng(seed)
    f = int(rng.integers(1, 4))
    n, d = 2 * f + spare + int(rng.integers(0, 4)), int(rng.integers(least, 8))
    rows = rng.normal(size=(n, d)) + rng.normal(size=d)
    rows[rng.permutation(n)[:f]] += rng.choice([0.1, 2.0, 50.0]) * rng.normal(size=d)
    return fixed(rows) / POINT.unit, f


def assert_same(found: np.ndarray, expected: np.ndarray, accuracy: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=accuracy * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", oracles.BYZFL)
def test_byzfl_computes_the_same(name: str) -> None:
    pair = oracles.BYZFL[name]
    for seed in range(DRAWS if name != "GeometricMedian" else 8):
        rows, f = random_rows(seed)
        # Between the middle two of an even number every point is a geometric median.
        if name == "GeometricMedian" and rows.shape[1] == 1:
            continue
        assert_same(computed(pair.ours, rows, f), pair.theirs(rows, f), pair.ours.accuracy)


@pytest.mark.parametrize("name", oracles.BYZFL)
def test_the_frozen_vectors_of_byzfl(name: str) -> None:
    ours = oracles.BYZFL[name].ours
    for (rows, f), vectors in zip(oracles.matrices(), oracles.frozen("byzfl"), strict=True):
        assert_same(computed(ours, rows, f), np.array(vectors[name]), ours.accuracy)


@pytest.mark.parametrize("name", oracles.FLOWER)
def test_the_frozen_vectors_of_flower(name: str) -> None:
    ours = oracles.FLOWER[name]
    for (rows, f), vectors in zip(oracles.matrices(), oracles.frozen("flower"), strict=True):
        if len(rows) >= ours.least(f):
            assert_same(computed(ours, rows, f), np.array(vectors[name]), ours.accuracy)


@pytest.fixture(scope="session")
def with_flower(root: Path) -> Path:
    """Return an interpreter that has Flower; its environment is made if there is none, which takes minutes."""
    if not (root / ".venv-bench/.installed").exists():
        made = subprocess.run(["make", ".venv-bench/.installed"], cwd=root, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"Flower cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    return root / ".venv-bench/bin/python"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_flower_computes_the_same(with_flower: Path) -> None:
    """By a process in an environment of its own, as Flower's pins of libraries are not those of the project."""
    cases = [random_rows(seed, spare=9, least=2) for seed in range(DRAWS)]
    for (rows, f), vectors in zip(cases, oracles.flower(with_flower, cases), strict=True):
        for name, ours in oracles.FLOWER.items():
            if len(rows) >= ours.least(f):
                assert_same(computed(ours, rows, f), np.array(vectors[name]), ours.accuracy)


@pytest.mark.parametrize("s", [1, 2, 3, 5, 30])
def test_byzfl_has_the_same_buckets(s: int) -> None:
    """On rows in the order that it draws."""
    for seed in range(20):
        rows, _ = random_rows(seed)
        np.random.seed(seed)
        expected = byzfl_preaggregators().Bucketing(s)(rows.copy())
        np.random.seed(seed)
        whole = fixed(rows)[np.random.permutation(len(rows))]
        mixture = Mixture.of(build(MIXINGS, "bucketing@1", {"s": s}), NOTHING, [1] * len(rows))
        assert_same(mixture.rows(whole) / mixture.share / POINT.unit, expected, 1e-12)


@pytest.mark.parametrize(("n", "f"), [(9, 2), (242, 33), (450, 165), (1000, 350)])
def test_arc_counts_exactly(n: int, f: int) -> None:
    """⌊2 (f / n) (n − f)⌋, which is whole for the last three, where ByzFL's double is a little less."""
    clipped = 2 * f * (n - f) // n
    assert int(2 * f / n * (n - f)) == clipped - (n > 9)
    rows = np.arange(1, n + 1)[:, None] * 10
    found = build(NORMALISATIONS, "arc@1", {"f": f})(rows, [1] * n, [1] * n, LIMIT)
    assert found[:, 0].tolist() == [10 * min(i, n - clipped) for i in range(1, n + 1)]


def caf(rows: np.ndarray, f: int, most: int = 500) -> tuple[np.ndarray, int]:
    """The filter by NumPy's eigenvectors."""
    n = len(rows)
    c, best, least, steps = np.ones(n), None, np.inf, 0
    while c.sum() > n - 2 * f and steps < most:
        mean = c @ rows / c.sum()
        apart = rows - mean
        values, vectors = np.linalg.eigh((apart * c[:, None]).T @ apart / c.sum())
        if values[-1] < least:
            best, least = mean, values[-1]
        t = (apart @ vectors[:, -1]) ** 2
        c, steps = np.maximum(0, c * (1 - t / t.max())), steps + 1
    assert best is not None
    return best, steps


def test_caf_follows_numpy() -> None:
    for seed in range(DRAWS):
        rows, f = random_rows(seed)
        ours = oracles.Ours("rules", "caf@1", lambda n, f: {"f": f, "settled": 0.0, "iterations": 500})
        expected, steps = caf(rows, f)
        # Some take thousands of ever smaller steps.
        if steps < 500:
            assert_same(computed(ours, rows, f), expected, 1e-6)


def test_caf_follows_byzfl_on_a_line() -> None:
    """ByzFL takes one step from a random vector, which is an eigenvector where there is one coordinate alone."""
    ours = oracles.Ours("rules", "caf@1", lambda n, f: {"f": f, "settled": 0.0, "iterations": 10_000})
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        f = int(rng.integers(1, 4))
        rows = fixed(rng.normal(size=(2 * f + 3, 1)) + 3 * (np.arange(2 * f + 3) < f)[:, None]) / POINT.unit
        assert_same(computed(ours, rows, f), byzfl_aggregators().CAF(f)(rows.copy()), 1e-6)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("caf@1", {"f": 2}, [0.04368968, -0.06875736, -0.08269741, 0.0218411, 0.0950884]),
        ("geometric_median@1", {}, [0.01316124, 0.30463411, 0.15976126, -0.21390151, -0.28101666]),
    ],
)
def test_the_vectors_of_the_reference(name: str, params: dict, expected: list[float]) -> None:
    found = computed(oracles.Ours("rules", name, lambda n, f: params), frozen(), 2)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_reference_of_foolsgold_and_fltrust() -> None:
    a = [0.9, 0.8, -0.7, 1]
    rows = fixed(np.array([[1, 0, 0, 0.2], [0, 1, 0, -0.1], [0, 0, 1, 0.3], a, a]))
    rates = aggregate(build(RULES, "foolsgold@1", {}), Rows(rows, [1] * 5), POINT.unit, None, a_round(rows))
    np.testing.assert_allclose(np.array(rates.diagnostics["rates"]) / (1 << 30), [0.93610582, 1, 1, 0, 0], atol=1e-5)
    rows = fixed(np.array([[2.0, 4, 4], [3, 0, 0], [-1, -2, -2], [0, 3, 4]]))
    stage = a_round(rows, trusted=fixed(np.array([1.0, 2, 2])))
    found = aggregate(build(RULES, "fltrust@1", {}), Rows(rows, [1] * 4), POINT.unit, None, stage).delta
    np.testing.assert_allclose(found / POINT.unit, [0.88235294, 1.62352941, 1.87058824], atol=1e-7)


def test_the_majority_is_that_of_hdbscan() -> None:
    """Against scikit-learn's, on continuous cosine distances, where no two links are equally long."""
    admitted = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(3, 40)), int(rng.integers(2, 30))
        rows = rng.normal(size=(n, d)) + rng.choice([0, 1, 3]) * rng.normal(size=d)
        rows[: n // 3] -= rng.choice([0, 2]) * rng.normal(size=d)
        unit = rows / np.linalg.norm(rows, axis=1)[:, None]
        distances = np.maximum(0, 1 - unit @ unit.T)
        np.fill_diagonal(distances, 0)
        labels = (
            HDBSCAN(
                min_cluster_size=n // 2 + 1, min_samples=1, metric="precomputed", allow_single_cluster=True, copy=True
            )
            .fit(distances)
            .labels_
        )
        found = majority_cluster(distances)
        assert found == np.flatnonzero(labels == 0).tolist()
        admitted.append(len(found) / n)
    assert min(admitted) < 0.6 and max(admitted) > 0.8


def test_clipping_is_to_the_norm_and_nothing_else() -> None:
    """To the last unit of the fixed point, whatever the ratio of the lengths."""
    rng = np.random.default_rng(1)
    rows = np.vstack(
        [fixed(rng.normal(size=(3, 4))), np.full((1, 4), LIMIT), np.zeros((1, 4), np.int64), [[3, 4, 0, 0]]]
    )
    found = build(NORMALISATIONS, "norm_clip@1", {"norm": 0.5})(rows, [1] * 6, [1] * 6, LIMIT, POINT.unit)
    most = POINT.unit // 2
    for row, short in zip(rows.tolist(), found.tolist(), strict=True):
        norm = sqrt(sum(x * x for x in row))
        expected = row if norm <= most else [x * most / norm for x in row]
        assert max(abs(a - b) for a, b in zip(short, expected, strict=True)) <= 1
