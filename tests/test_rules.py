from itertools import combinations
from math import sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.rules.aggregate import Outcome, aggregate
from fedledger.aggregator.rules.base import NETWORK_ROWS, RULES, sum_of_ranks
from fedledger.protocol.arithmetic.exact import LIMIT, FixedPoint, gram
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method

POINT = FixedPoint(28, 4096.0)
NNM = "nearest_neighbour_mixing@1"
DEFAULTS = {
    "mean@1": {},
    "median@1": {},
    "trimmed_mean@1": {"f": 2},
    "multi_krum@1": {"f": 2},
    "geometric_median@1": {},
    "centred_clipping@1": {"tau": 1.0},
}
ROBUST = [name for name in DEFAULTS if name not in ("mean@1", "centred_clipping@1")]


def run(name: str, rows: np.ndarray, f: int | None = None, mix: int | None = None, **options: object) -> Outcome:
    params = dict(DEFAULTS[name])
    if f is not None and "f" in params:
        params["f"] = f
    params |= options.pop("params", {})
    weights = options.pop("weights", [1] * len(rows))
    mixing = None if mix is None else Method(method=NNM, params={"f": mix})
    method = Method(method=name, params=params)
    return aggregate(method, rows, weights, unit=POINT.unit, mixing=mixing, **options)


def fixed(rows: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(rows) * POINT.unit).astype(np.int64)


def frozen() -> np.ndarray:
    X = np.array([[sin(1 + 3 * i + 5 * j) for j in range(5)] for i in range(11)])
    X[9] = 10 * X[9] + 5
    X[10] = -8 * X[10] - 4
    return X


def hostile(seed: int, n: int, f: int, d: int = 4) -> np.ndarray:
    """Honest rows about a point, and f rows that are far, near or collude."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) + rng.normal(size=d) * 3
    rows[:f] = rows[f:].mean(axis=0) + rng.choice([0.5, 3.0, 300.0]) * rng.normal(size=(1, d))
    return fixed(rng.permutation(rows))


def test_every_rule_is_tested_here() -> None:
    assert set(RULES) == set(DEFAULTS)
    assert set(MIXINGS) == {NNM}


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("trimmed_mean@1", {"f": 2}, [0.03627191, 0.18406603, -0.09607201, -0.15084274, -0.16542504]),
        ("median@1", {}, [-0.00885131, 0.41211849, -0.42818267, -0.13235175, -0.90557836]),
        ("multi_krum@1", {"f": 2, "m": 1}, frozen()[6]),
        ("geometric_median@1", {}, [0.01316125, 0.30463407, 0.15976125, -0.21390146, -0.28101664]),
        ("centred_clipping@1", {"tau": 1.0}, [0.0874379, 0.15848891, 0.00268865, -0.15675165, -0.09140575]),
    ],
)
def test_published_vectors(name: str, params: dict, expected: list[float]) -> None:
    outcome = run(name, fixed(frozen()), params=params)
    np.testing.assert_allclose(outcome.delta / POINT.unit, expected, atol=3e-8)


def test_mean_weighs_and_rounds_once() -> None:
    rows = np.array([[3, -3, 1], [0, 0, 2], [7, 7, 7]], np.int64)
    outcome = run("mean@1", rows, weights=[1, 5, 0])
    assert outcome.delta.tolist() == [0, 0, 2]  # 3/6 and −3/6 go to the even 0, 11/6 to 2
    assert outcome.diagnostics["rows"] == [0, 1]
    assert (outcome.diagnostics["coefficients"], outcome.diagnostics["denominator"]) == ([1, 5], 6)


def test_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    rows = np.array([[9], [1], [4], [-50]], np.int64)
    assert run("median@1", rows).delta.tolist() == [2]  # 2.5 goes to the even 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_krum_scores_are_over_n_minus_f_minus_2_others(seed: int, m: int) -> None:
    """Against the definition in Python integers, on a small grid where scores often tie."""
    n, f = 9, 2
    rows = np.random.default_rng(seed).integers(-3, 4, (n, 2))
    scores = []
    for i in range(n):
        others = [
            sum((int(a) - int(b)) ** 2 for a, b in zip(rows[i], rows[j], strict=True)) for j in range(n) if j != i
        ]
        scores.append(sum(sorted(others)[: n - f - 2]))
    selected = sorted(sorted(range(n), key=lambda i: (scores[i], i))[:m])
    outcome = run("multi_krum@1", rows, f=f, params={"m": m})
    assert outcome.diagnostics["selected"] == selected
    assert (outcome.delta == np.rint(rows[selected].sum(axis=0) / m)).all()


def test_geometric_median_honours_weights() -> None:
    rows = fixed([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    repeated = np.concatenate([rows[:1], rows[:1], rows[:1], rows[1:]])
    weighted = run("geometric_median@1", rows, weights=[3, 1, 1, 1]).delta
    np.testing.assert_allclose(weighted, run("geometric_median@1", repeated).delta, atol=8)


def test_centred_clipping_starts_at_the_previous_aggregate() -> None:
    rows, previous = fixed([[103.0], [99.0]]), fixed([100.0])
    outcome = run("centred_clipping@1", rows, params={"iterations": 1}, previous=previous)
    assert outcome.delta.tolist() == fixed([100.0]).tolist()  # pulls of +1 (clipped) and −1
    assert outcome.diagnostics["clipped"] == [0]
    far = run("centred_clipping@1", rows, params={"iterations": 3})
    np.testing.assert_allclose(far.delta / POINT.unit, [3.0], atol=1e-6)  # from 0, at most τ a step


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(5, 1), (8, 2), (9, 3)]), st.sampled_from(ROBUST), st.booleans())
def test_rules_are_robust(seed: int, size: tuple[int, int], name: str, mixed: bool) -> None:
    """(f, κ)-robustness with the published κ, for every choice of n − f rows."""
    n, f = size
    rows = hostile(seed, n, f)
    r = f / (n - 2 * f)
    kappa = {
        "trimmed_mean@1": 6 * r * (1 + r),
        "multi_krum@1": 6 * (1 + r),
        "median@1": 4 * (1 + r) ** 2,
        "geometric_median@1": 4 * (1 + r) ** 2,
    }[name]
    if mixed:
        kappa = 8 * f / (n - f) * (kappa + 1)
    params = {"m": 1} if name == "multi_krum@1" else {}
    result = run(name, rows, f=f, mix=f if mixed else None, params=params).delta / POINT.unit
    for subset in combinations(rows / POINT.unit, n - f):
        honest = np.array(subset)
        centre = honest.mean(axis=0)
        spread = ((honest - centre) ** 2).sum() / len(honest)
        assert ((result - centre) ** 2).sum() <= kappa * spread + 1e-9


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("mix", [None, 2])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_blocks_and_known_products_do_not_matter(name: str, mix: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = hostile(seed, 9, 2, d=7)
    before, previous = rows.copy(), rows[0] // 2
    weights = [int(w) for w in rng.integers(1, 1 << 20, 9)]
    order = rng.permutation(9)
    first = run(name, rows, mix=mix, weights=weights, previous=previous)
    shuffled = run(name, rows[order], mix=mix, weights=[weights[i] for i in order], previous=previous)
    np.testing.assert_allclose(shuffled.delta, first.delta, atol=2)
    if name in ("mean@1", "median@1", "trimmed_mean@1", "multi_krum@1"):
        assert (shuffled.delta == first.delta).all()
    known = gram(np.vstack([rows, previous]))
    for same in (
        run(name, rows, mix=mix, weights=weights, previous=previous, columns=3),
        run(name, list(rows), mix=mix, weights=weights, previous=previous, gram=known),
    ):
        assert (same.delta == first.delta).all()
        assert same.diagnostics == first.diagnostics
    assert (rows == before).all()


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("mix", [None, 1])
def test_a_row_without_weight_takes_no_part(name: str, mix: int | None) -> None:
    rows = hostile(3, 8, 2)
    spoilt = np.insert(rows, 4, LIMIT, axis=0)
    previous = rows[0] // 2
    without = run(name, rows, mix=mix, previous=previous)
    for known in (None, gram(np.vstack([spoilt, previous]))):
        weights = [1, 1, 1, 1, 0, 1, 1, 1, 1]
        outcome = run(name, spoilt, mix=mix, weights=weights, previous=previous, gram=known)
        assert (outcome.delta == without.delta).all()
        assert outcome.diagnostics["rows"] == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("name", ["mean@1", "median@1", "trimmed_mean@1", "multi_krum@1"])
def test_a_shift_of_all_rows_shifts_the_result(name: str) -> None:
    rows = hostile(5, 9, 2)
    shift = fixed([5.0, -70.0, 0.0, 600.0])
    assert (run(name, rows + shift).delta == run(name, rows).delta + shift).all()


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("mix", [None, 2])
def test_one_hostile_magnitude_leaves_the_others_exact(name: str, mix: int | None) -> None:
    rows = hostile(7, 9, 0)
    rows[4], far = LIMIT, rows.copy()
    far[4] = LIMIT - 1
    results = [run(name, x, mix=mix).delta for x in (rows, far)]
    honest = np.delete(rows, 4, axis=0)
    np.testing.assert_allclose(results[0], results[1], atol=2)
    for result in results:
        spread = honest.max(axis=0) - honest.min(axis=0)
        assert (result >= honest.min(axis=0) - spread).all()
        assert (result <= honest.max(axis=0) + spread).all()


def test_mixing_is_the_mean_of_the_nearest_rows() -> None:
    """Against plain numpy on integers, for a coordinate-wise and a linear rule."""
    rows = hostile(11, 9, 2)
    squared = [[sum((int(a) - int(b)) ** 2 for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    members = [sorted(range(9), key=row.__getitem__)[:7] for row in squared]
    sums = np.array([rows[m].sum(axis=0) for m in members])
    assert (run("median@1", rows, mix=2).delta == np.rint(np.median(sums, axis=0) / 7)).all()
    assert (run("mean@1", rows, mix=2).delta == np.rint(sums.sum(axis=0) / 63)).all()
    krum = run("multi_krum@1", rows, mix=2)
    averaged = sums / 7
    distances = np.sort(((averaged[:, None] - averaged) ** 2).sum(axis=2), axis=1)
    chosen = np.sort(np.argsort(distances[:, 1:6].sum(axis=1), kind="stable")[:7])
    assert krum.diagnostics["selected"] == chosen.tolist()
    geometric = run("geometric_median@1", rows, mix=2).delta
    np.testing.assert_allclose(geometric, run("geometric_median@1", np.rint(averaged).astype(np.int64)).delta, atol=4)
    clipping = run("centred_clipping@1", rows, mix=2, previous=rows[0]).delta
    plain = run("centred_clipping@1", np.rint(averaged).astype(np.int64), previous=rows[0]).delta
    np.testing.assert_allclose(clipping, plain, atol=4)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("mix", [None, 3])
def test_few_rows(name: str, mix: int | None) -> None:
    row = fixed([[0.25, -0.5]])
    assert (run(name, row, mix=mix).delta == row[0]).all()
    two = run(name, np.concatenate([row, row]), mix=mix)
    assert np.abs(two.delta - row[0]).max() <= 1
    assert two.diagnostics.get("f", 0) == 0
    with pytest.raises(RoundError):
        run(name, row, weights=[0])


def test_largest_values_of_many_mixed_rows_do_not_overflow() -> None:
    rows = np.full((2048, 1), -LIMIT, np.int64)
    for name in ("mean@1", "trimmed_mean@1"):
        members = Method(method=NNM, params={"f": 0})
        outcome = aggregate(
            Method(method=name, params=DEFAULTS[name]),
            rows,
            [1 << 40] * 2048,
            unit=1,
            mixing=members,
            gram=np.zeros((2048, 2048), np.int64),
        )
        assert outcome.delta.tolist() == [-LIMIT]
    with pytest.raises(ConfigError, match="2048"):
        run("mean@1", np.zeros((2049, 1), np.int64), mix=0)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("trimmed_mean@1", {"f": -1}),
        ("trimmed_mean@1", {}),
        ("multi_krum@1", {"f": 1, "m": 0}),
        ("geometric_median@1", {"smoothing": 0.0}),
        ("geometric_median@1", {"iterations": 0}),
        ("centred_clipping@1", {"tau": float("nan")}),
        ("mean@1", {"f": 1}),
        ("meen@1", {}),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict) -> None:
    with pytest.raises(ConfigError):
        aggregate(Method(method=name, params=params), np.zeros((3, 1), np.int64), [1, 1, 1], unit=1)


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="negative"):
        run("mean@1", np.zeros((2, 1), np.int64), weights=[2, -1])


@given(st.data())
@settings(max_examples=150)
def test_nearest_neighbours_are_those_of_python_integers(data: st.DataObject) -> None:
    """Whether squared distances fit in 64 bits or not, and equal ones in the order of the rows."""
    n, d = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 3, 70]))
    bits = data.draw(st.sampled_from([0, 1, 20, 28, 40]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    products = gram(rng.integers(-(1 << bits), 1 << bits, (n, d), np.int64, endpoint=True))
    exact = products.astype(object)
    distances = [[exact[i][i] + exact[j][j] - 2 * exact[i][j] for j in range(n)] for i in range(n)]
    assert squared_distances(products).tolist() == distances
    f = data.draw(st.integers(0, 4))
    near = n - min(f, (n - 1) // 2)
    nearest = [sorted(range(n), key=lambda j: (row[j], j))[:near] for row in distances]
    assert MIXINGS.get(NNM)(f=f)(products) == nearest


@pytest.mark.parametrize("n", range(1, NETWORK_ROWS + 2))
def test_ranks_of_all_columns_of_zeros_and_ones_are_those_of_a_sort(n: int) -> None:
    # A network that sorts all of them sorts everything (Knuth 1998, section 5.3.4, theorem Z).
    columns = np.arange(1 << n) >> np.arange(n)[:, None] & 1
    for low in range(n):
        assert (sum_of_ranks(columns, low, low + 1) == np.sort(columns, axis=0)[low]).all()
    assert (sum_of_ranks(columns, 0, n) == columns.sum(axis=0)).all()
