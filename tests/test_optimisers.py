from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.protocol.arithmetic.exact import LIMIT
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from support.examples import examples

BITS = 26
UNIT = 1 << BITS


def fedavg(deltas: np.ndarray) -> list[np.ndarray]:
    return [0.7 * delta for delta in deltas]


def fedavgm(deltas: np.ndarray) -> list[np.ndarray]:
    velocity, steps = np.zeros_like(deltas[0]), []
    for delta in deltas:
        velocity = 0.9 * velocity + delta
        steps.append(0.5 * velocity)
    return steps


def fedadam(deltas: np.ndarray) -> list[np.ndarray]:
    m, v, steps = np.zeros_like(deltas[0]), np.full_like(deltas[0], 0.01**2), []
    for delta in deltas:
        m = 0.9 * m + 0.1 * delta
        v = 0.99 * v + 0.01 * delta**2
        steps.append(0.03 * m / (np.sqrt(v) + 0.01))
    return steps


def fedyogi(deltas: np.ndarray) -> list[np.ndarray]:
    m, v, steps = np.zeros_like(deltas[0]), np.full_like(deltas[0], 0.05**2), []
    for delta in deltas:
        m = 0.9 * m + 0.1 * delta
        v = v - 0.01 * delta**2 * np.sign(v - delta**2)
        steps.append(0.03 * m / (np.sqrt(v) + 0.01))
    return steps


def fedadagrad(deltas: np.ndarray) -> list[np.ndarray]:
    v, steps = np.full_like(deltas[0], 0.01**2), []
    for delta in deltas:
        v = v + delta**2
        steps.append(0.03 * delta / (np.sqrt(v) + 0.01))
    return steps


CASES = {
    "fedavg@1": ({"server_learning_rate": 0.7}, fedavg),
    "fedavgm@1": ({"server_learning_rate": 0.5, "momentum": 0.9}, fedavgm),
    "fedadam@1": ({"server_learning_rate": 0.03, "beta1": 0.9, "beta2": 0.99, "tau": 0.01}, fedadam),
    "fedyogi@1": ({"server_learning_rate": 0.03, "tau": 0.01, "initial_root": 0.05}, fedyogi),
    "fedadagrad@1": ({"server_learning_rate": 0.03, "tau": 0.01}, fedadagrad),
}


def steps(name: str, deltas: np.ndarray) -> tuple[list[np.ndarray], dict]:
    optimiser, state, made = build(OPTIMISERS, name, CASES[name][0]), {}, []
    for delta in deltas:
        # The state travels between rounds as bytes.
        state = {key: np.frombuffer(value.tobytes(), np.int64) for key, value in state.items()}
        step, state = optimiser(delta, state, UNIT)
        made.append(step)
    return made, state


def test_every_optimiser_is_tested_here() -> None:
    assert set(OPTIMISERS) == set(CASES)


@pytest.mark.parametrize("name", CASES)
@examples(25)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-4, 0.02, 3.0]))
def test_steps_are_those_of_the_paper_in_doubles(name: str, seed: int, scale: float) -> None:
    reference: Callable[[np.ndarray], list[np.ndarray]] = CASES[name][1]
    deltas = np.rint(np.random.default_rng(seed).normal(size=(30, 8)) * scale * UNIT).astype(np.int64)
    before = deltas.copy()
    made, state = steps(name, deltas)
    np.testing.assert_allclose(np.array(made) / UNIT, reference(deltas / UNIT), atol=1e-6, rtol=1e-7)
    assert (deltas == before).all()
    assert all(step.dtype == np.int64 for step in made)
    assert all(value.dtype == np.int64 for value in state.values())


@pytest.mark.parametrize("name", CASES)
def test_coordinates_do_not_touch_each_other(name: str) -> None:
    """So a step does not depend on how long a vector or a processor's register is."""
    deltas = np.random.default_rng(1).integers(-LIMIT, LIMIT, (5, 37))
    together, _ = steps(name, deltas)
    for i in (0, 17, 36):
        alone, _ = steps(name, deltas[:, i : i + 1])
        assert [int(step[0]) for step in alone] == [int(step[i]) for step in together]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [LIMIT, -LIMIT, 0])
def test_extreme_aggregates_stay_in_range(name: str, value: int) -> None:
    made, state = steps(name, np.full((40, 2), value, np.int64))
    assert max(np.abs(step).max() for step in made) <= LIMIT
    assert all(np.sign(step).tolist() == [np.sign(value)] * 2 for step in made)
    assert all(np.abs(vector).max() <= LIMIT << 10 for vector in state.values())


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        # m = .05, v = .01 · .25 = .0025: .1 · .05 / (.05 + .001)
        ("fedadam@1", {"initial_root": 0.0}, 0.098039),
        # v = .99 · 1e-6 + .0025 = .00250099: .1 · .05 / (.0500099 + .001)
        ("fedadam@1", {}, 0.098020),
        # v = 1e-6 + .01 · .25, as v < Δ²: .1 · .05 / (√.002501 + .001)
        ("fedyogi@1", {}, 0.098020),
        # v = 1 − .01 · .25, as v > Δ²: .1 · .05 / (√.9975 + .001)
        ("fedyogi@1", {"initial_root": 1.0}, 0.005001253),
        # v = 1e-6 + .25, m = Δ: .1 · .5 / (√.250001 + .001)
        ("fedadagrad@1", {}, 0.0998002),
        # m = .1 · .5: .1 · .05 / (√.250001 + .001)
        ("fedadagrad@1", {"beta1": 0.9}, 0.00998002),
    ],
)
def test_one_step_by_hand(name: str, params: dict, expected: float) -> None:
    """On Δ = .5, with β .9/.99 where there are any, τ 1e-3, rate .1 and no bias correction."""
    optimiser = build(OPTIMISERS, name, {"server_learning_rate": 0.1, "tau": 1e-3, **params})
    step, _ = optimiser(np.array([UNIT // 2, -UNIT // 2]), {}, UNIT)
    assert step / UNIT == pytest.approx([expected, -expected], abs=5e-7)


def test_fedadagrad_shrinks_its_steps_and_yogi_remembers_a_large_update_longer_than_adam() -> None:
    deltas = np.array([[UNIT], *[[UNIT // 100]] * 20])
    made = {}
    for name in ("fedadagrad@1", "fedadam@1", "fedyogi@1"):
        optimiser, state = build(OPTIMISERS, name, {"tau": 1e-3}), {}
        for delta in deltas:
            _, state = optimiser(delta, state, UNIT)
        made[name] = int(state["root"][0])
    assert made["fedadam@1"] < made["fedyogi@1"] < made["fedadagrad@1"]


def test_fedavg_with_rate_one_is_the_aggregate() -> None:
    delta = np.array([LIMIT, -1, 0, 12345], np.int64)
    step, state = build(OPTIMISERS, "fedavg@1", {})(delta, {}, UNIT)
    assert (step == delta).all()
    assert state == {}


@pytest.mark.parametrize("name", ["fedavgm@1", "fedadam@1", "fedyogi@1", "fedadagrad@1"])
def test_a_state_of_another_model_or_optimiser_is_refused(name: str) -> None:
    _, state = steps(name, np.ones((1, 3), np.int64))
    optimiser = build(OPTIMISERS, name, CASES[name][0])
    with pytest.raises(ConfigError, match="state"):
        optimiser(np.ones(4, np.int64), state, UNIT)
    with pytest.raises(ConfigError, match="state"):
        optimiser(np.ones(3, np.int64), {"other": np.ones(3, np.int64)}, UNIT)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fedavg@1", {"server_learning_rate": 0.0}),
        ("fedavg@1", {"server_learning_rate": float("inf")}),
        ("fedavgm@1", {"momentum": 1.0}),
        ("fedadam@1", {"beta2": -0.1}),
        ("fedadam@1", {"tau": 0.0}),
        ("fedadam@1", {"initial_root": -1.0}),
        ("fedyogi@1", {"beta2": 1.0}),
        ("fedadagrad@1", {"beta2": 0.9}),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict) -> None:
    with pytest.raises(ConfigError):
        build(OPTIMISERS, name, params)
