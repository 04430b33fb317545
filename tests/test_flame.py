"""FLAME: who is admitted, what is clipped, and noise that is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, normaltest
from test_rules import POINT, a_round, fixed, run

from fedledger.aggregator.context.clusters import majority_cluster
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build


def crowd(seed: int, n: int, f: int, d: int = 40) -> np.ndarray:
    """Return n rows that point about one way, f of which point another way and are long."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=d) + 0.5 * rng.normal(size=(n, d))
    rows[:f] = -5 * rows[f:].mean(axis=0) + rng.normal(size=(f, d))
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_clipped_mean_of_the_majority(seed: int) -> None:
    """Against the formula in floating point."""
    rows = crowd(seed, 12, 4)
    rows[7] *= 3
    outcome = run("flame@1", fixed(rows))
    admitted = outcome.diagnostics["selected"]
    # HDBSCAN takes no more of the honest rows than it needs.
    assert len(admitted) > 6 and set(admitted) <= set(range(4, 12))
    lengths = np.linalg.norm(rows, axis=1)
    clipped = rows * np.minimum(1, np.median(lengths) / lengths)[:, None]
    np.testing.assert_allclose(outcome.delta / POINT.unit, clipped[admitted].mean(axis=0), atol=1e-7)
    weights = np.arange(1, 13)
    weighted = run("flame@1", fixed(rows), weights=weights.tolist()).delta / POINT.unit
    expected = np.average(clipped[admitted], axis=0, weights=weights[admitted])
    np.testing.assert_allclose(weighted, expected, atol=1e-7)


def test_values_are_neither_clipped_nor_noised() -> None:
    rows = fixed(crowd(1, 9, 0))
    rows[3] *= 4
    rule = build(RULES, "flame@1", {"noise": 0.1})
    found = aggregate(rule, Rows(rows, [1] * 9, by_value=True), POINT.unit, None, a_round(rows))
    chosen = rows[found.diagnostics["selected"]]
    assert (found.delta == np.rint(chosen.sum(axis=0) / len(chosen))).all()


def test_noise_is_gaussian_and_follows_from_the_round() -> None:
    rows = fixed(np.repeat(crowd(2, 1, 0, 60_000), 5, axis=0))
    draws = [lambda seed=seed: Stream(bytes([seed] * 32)) for seed in range(2)]
    found = [
        run("flame@1", rows, params={"noise": 0.01}, stage=a_round(rows, draws=draws[i]), columns=columns)
        for i, columns in ((0, None), (0, 77), (1, None))
    ]
    assert (found[0].delta == found[1].delta).all() and (found[0].delta != found[2].delta).any()
    noise = found[0].delta - rows[0]
    deviation = found[0].diagnostics["deviation"]
    assert deviation == round(0.01 * np.linalg.norm(rows[0].astype(float)))
    # Three standard errors of a mean, of a deviation, and of the share beyond two deviations.
    n = len(noise)
    assert abs(noise.mean()) < 3 * deviation / np.sqrt(n)
    assert abs(noise.std() / deviation - 1) < 3 / np.sqrt(2 * n)
    for z in (0.5, 1, 2, 3):
        share = norm.sf(z)
        assert abs((noise > z * deviation).mean() - share) < 4 * np.sqrt(share / n) + 0.002 * (z < 2)
    assert normaltest(noise[:5000]).pvalue > 1e-4
    other = found[2].delta - rows[0]
    assert abs(np.corrcoef(noise, other)[0, 1]) < 4 / np.sqrt(n)


def test_noise_of_mixed_rows_is_in_the_units_of_the_rows() -> None:
    rows = fixed(np.repeat(crowd(2, 1, 0, 4000), 6, axis=0))
    plain, mixed = (run("flame@1", rows, params={"noise": 0.01}, mix=mix) for mix in (None, 2))
    assert abs(plain.diagnostics["deviation"] - mixed.diagnostics["deviation"]) <= 1
    assert np.abs(plain.delta - mixed.delta).max() <= 10


def test_noise_needs_a_round() -> None:
    rows = fixed(crowd(1, 5, 0))
    with pytest.raises(ConfigError, match="round's updates only"):
        aggregate(build(RULES, "flame@1", {}), Rows(rows, [1] * 5), POINT.unit)
    aggregate(build(RULES, "flame@1", {"noise": 0.0}), Rows(rows, [1] * 5), POINT.unit)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_links_of_one_length_count_together(n: int) -> None:
    """So that the order of the rows does not decide."""
    assert majority_cluster(np.ones((n, n)) - np.eye(n)) == list(range(n))


def test_a_majority_is_more_than_half() -> None:
    """Three and three: neither half is admitted without the other."""
    distances = np.full((6, 6), 0.9)
    distances[:3, :3] = distances[3:, 3:] = 0.1
    assert majority_cluster(distances) == list(range(6))
    distances[2, 3] = distances[3, 2] = 0.5
    assert majority_cluster(distances) == list(range(6))
    assert majority_cluster(distances[:5, :5]) == [0, 1, 2]
    assert majority_cluster(np.pad(distances[:4, :4], (0, 1), constant_values=2.0)) == [0, 1, 2]
