"""Replayable training on weights, inputs and rates of all magnitudes: exact products, or an update that says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.replayable.arithmetic import Singles
from fedledger.learning.replayable.descent import Rates, Replayable, descend, replayable
from fedledger.learning.replayable.network import Network
from support.examples import examples
from support.replayable_reference import with_reference
from support.replayable_tasks import TASKS, Task, task

LARGE = [name for name in TASKS if name not in {"small", "numbers in doubles"}]
LEAST, MOST = 1e-9, 1e3
"""What learning rates the solver takes."""


@dataclass(frozen=True)
class Case:
    """A task, and how training goes on it.

    Parameters
    ----------
    task, base
        The task, and where its weights begin.
    orders
        Examples of each step.
    rates
        What a step is.
    """

    task: Task
    base: np.ndarray
    orders: list[np.ndarray]
    rates: Rates


def _spread(rng: np.random.Generator, values: np.ndarray, power: int, spread: int, zeros: float) -> np.ndarray:
    """Return values of another magnitude, 2^power and less by up to 2^spread, of which some are 0."""
    powers = power - rng.integers(0, spread + 1, values.shape)
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(values.astype(np.float64), powers).astype(np.float32)
    return np.nan_to_num(np.where(rng.random(values.shape) < zeros, np.float32(0), found))


@st.composite
def cases(draw: st.DrawFn, names: list[str], least: int, most: int, steps: int) -> Case:
    """Draw a case whose weights and inputs are between 2^least and 2^most, or 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    own = task(draw(st.sampled_from(names)), 12)
    bounds = st.sampled_from([power for power in (-12, -10, -8, -4, 0, 2, 4, 8, 10, 11) if least <= power <= most])
    powers = bounds | st.integers(least, most)
    spreads, zeros = st.sampled_from([0, 2, 12, 24]), st.sampled_from([0.0, 0.5, 1.0])
    parts = own.model.named(own.model.vector())
    for name, values in parts.items():
        parts[name] = _spread(rng, values, draw(powers), draw(spreads), draw(zeros))
    base = np.concatenate([part.reshape(-1) for part in parts.values()])
    inputs = own.dataset.inputs
    if inputs.dtype == np.float32:
        inputs = _spread(rng, inputs, draw(powers), draw(spreads), draw(zeros))
    rates = Rates(
        draw(st.floats(LEAST, MOST) | st.sampled_from([LEAST, 0.1, 1.0, MOST])),
        draw(st.sampled_from([0.0, 0.0625, 0.9, 0.999])),
        draw(st.sampled_from([0.0, 0.01, 1e3])),
        draw(st.sampled_from([0.0, 0.01, 1e3])),
    )
    size = draw(st.integers(1, 12))
    orders = [rng.permutation(12)[:size] for _ in range(steps)]
    return Case(replace(own, dataset=Dataset(inputs, own.dataset.targets, own.dataset.classes)), base, orders, rates)


@examples(40)
@given(cases(LARGE, -149, 127, 18))
def test_float32_gives_the_bits_of_doubles_on_any_magnitudes(case: Case) -> None:
    model, dataset = case.task.model, case.task.dataset
    plan = replayable(model, dataset.tensors[0]).network.plan
    found = []
    for short in (True, False):
        own = Replayable.of(model, Network(plan, Singles(short)))
        found.append(descend(own, case.base, [dataset], [case.orders], case.rates, case.task.loss))
    event("diverged" if np.isnan(found[0].deltas).any() else "trained")
    assert found[0].deltas.tobytes() == found[1].deltas.tobytes()
    assert repr(found[0].means()) == repr(found[1].means())


@examples(40)
@given(cases([*TASKS], -60, 9, 2))
def test_updates_are_those_of_python_integers_on_any_magnitudes(case: Case) -> None:
    found, expected = with_reference(case.task, case.base, case.orders, case.rates)
    assume(np.isfinite(found).all())
    assert found.tolist() == expected


@examples(60)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    st.integers(-12, 60),
    st.sampled_from([0, 2, 12, 24]),
    st.none() | st.integers(0, 12),
    st.none() | st.integers(-10, 11),
)
def test_gradients_on_their_grid_have_exact_products(
    seed: int, shape: tuple[int, int], power: int, spread: int, seen: int | None, weight: int | None
) -> None:
    # What is seen has so many bits, of which 8 are behind the point; None stands for a table's 1.
    rng = np.random.default_rng(seed)
    delta = torch.from_numpy(_spread(rng, np.ldexp(np.rint(rng.normal(size=shape) * 2**24), -24), power, spread, 0.1))
    highest, bits = (1.0, 0) if seen is None else (2.0 ** (seen - 8), 8)
    matrix = None if weight is None else torch.full((shape[0], 2), 2.0**weight)
    found = Singles().gridded(delta, highest, bits, matrix)[0].double().numpy()
    whole = [[int(value * 2**200) for value in row] for row in found]
    unit = math.gcd(*(value for row in whole for value in row)) or 1
    unit &= -unit
    rows, columns = (
        max(sum(map(abs, values)) for values in sums) // unit for sums in (whole, zip(*whole, strict=True))
    )
    assert rows * highest * 2**bits <= 2**24
    assert weight is None or columns * 2 ** (weight + 10) <= 2**24


@pytest.mark.parametrize("name", ["wide", "table", "small"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_base_that_is_no_number_gives_an_update_that_is_none(name: str, value: float) -> None:
    own = task(name)
    base = own.model.vector()
    base[0] = value
    trained = descend(own.model, base, [own.dataset], [[np.arange(4)]], Rates(0.1), own.loss)
    assert np.isnan(trained.deltas).all() and np.isnan(trained.means()[0])
