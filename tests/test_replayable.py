"""Replayable training against integers, doubles and floating point."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import Tokens
from fedledger.learning.replayable.descent import Rates, Trained, descend
from fedledger.learning.replayable.trajectory import State, Tracing, Trajectory
from fedledger.learning.vectors import FlatModel
from fedledger.node.batched_clients import batched_clients
from fedledger.node.solvers.base import BLANK, require_suited, traced
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.replayable_sgd import ReplayableSGD
from fedledger.node.training import LocalTrainer
from fedledger.protocol.arithmetic.random_streams import Restartable
from fedledger.protocol.errors import ConfigError
from support.replayable import pseudo
from support.replayable_reference import with_reference
from support.replayable_tasks import CLASSES, TASKS, task


def _orders(n: int, steps: int, batch: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.permutation(n)[: batch - step % 2] for step in range(steps)]


@pytest.mark.parametrize(
    ("name", "steps", "rates"),
    [
        ("small", 18, Rates(0.3, 0.9, 0.01, 0.1)),
        ("small", 3, Rates(0.7)),
        ("wide", 2, Rates(0.3, decay=0.1)),
        ("convolutions", 3, Rates(0.2, 0.9, pull=0.2)),
        ("averages", 3, Rates(0.6, 0.5)),
        ("frames", 3, Rates(0.4, 0.5)),
        ("table", 3, Rates(0.4, 0.5)),
        ("tags", 3, Rates(0.4)),
        ("numbers in doubles", 3, Rates(0.3)),
        ("numbers in float32", 2, Rates(0.1)),
    ],
)
def test_updates_are_those_of_python_integers(name: str, steps: int, rates: Rates) -> None:
    own = task(name)
    base = own.model.vector()
    found, expected = with_reference(own, base, _orders(len(own.dataset), steps), rates)
    assert found.tolist() == expected
    assert np.count_nonzero(found) > len(base) // 2


@pytest.mark.parametrize("rates", [Rates(0.2), Rates(0.1, 0.9, 0.01, 0.1)])
@pytest.mark.parametrize("name", TASKS)
def test_training_goes_on_from_any_of_its_states(name: str, rates: Rates) -> None:
    own = task(name)
    base, orders = own.model.vector(), _orders(len(own.dataset), 40)
    by = own.dataset, rates, own.loss
    plain = _descend(own.model, base, orders, *by)
    followed = Trajectory(kept=range(7))
    traced = _descend(own.model, base, orders, *by, Tracing(7, [followed.take]))
    assert traced.deltas.tobytes() == plain.deltas.tobytes() and len(followed.digests) == 7
    for place, state in sorted(followed.states.items())[:-1]:
        ends: list[State] = []
        last = _descend(own.model, base, orders[state.steps :][:7], *by, Tracing(99, [ends.append], state))
        assert [end.digest for end in ends] == followed.digests[place : place + 2]
    assert last.deltas.tobytes() == plain.deltas.tobytes()
    nothing = _descend(own.model, base, [], *by, Tracing(1, [ends.append], followed.states[6]))
    assert nothing.deltas.tobytes() == plain.deltas.tobytes()


def _descend(
    model: FlatModel,
    base: np.ndarray,
    orders: list[np.ndarray],
    dataset: Dataset,
    rates: Rates,
    loss: Loss,
    tracing: Tracing | None = None,
) -> Trained:
    return descend(model, base, [dataset], [orders], rates, loss, tracing)


def test_participants_trained_together_get_the_bits_of_their_own() -> None:
    own = task("small", 60)
    model, dataset = own.model, own.dataset
    solver = build_solver("replayable_sgd@1", {"learning_rate": 0.2, "momentum": 0.9, "mu": 0.1, "local_epochs": 2})
    parts = [dataset.stretch(start, start + 20) for start in (0, 20, 40)]
    base, seeds = model.vector(), [bytes([i]) * 32 for i in range(3)]
    trainer = LocalTrainer(model, solver, parts[0])
    clients = batched_clients(trainer, 4)
    assert clients is not None and clients.trains(trainer)
    together = clients(base, parts, seeds)
    assert together is not None
    for part, seed, update in zip(parts, seeds, together.updates(), strict=True):
        alone = traced(solver, 4)(model, base, part, Restartable().restart(seed), BLANK, cross_entropy)
        assert update.trajectory == alone.trajectory and len(alone.trajectory) == 32
        assert update.delta.tobytes() == alone.delta.tobytes()
        assert (update.steps, update.examples) == (alone.steps, 20)
        assert update.loss == pytest.approx(alone.loss, rel=1e-12)
        assert model.vector().tobytes() == (base + alone.delta).tobytes()


def test_the_order_of_examples_is_pinned() -> None:
    # From the state's definition (O'Neill 2014): a step of the generator, then its output by xor and rotation.
    seed = bytes(range(32))
    state, increment = int.from_bytes(seed[:16], "big"), int.from_bytes(seed[16:], "big") | 1
    words = []
    for _ in range(7):
        state = (state * 0x2360ED051FC65DA44385DF649FCCF645 + increment) % 2**128
        folded, turn = (state >> 64 ^ state) % 2**64, state >> 122
        words.append((folded >> turn | folded << 64 - turn) % 2**64)
    solver = build_solver("replayable_sgd@1", {"learning_rate": 0.2, "batch_size": 7, "local_epochs": 1})
    assert isinstance(solver, ReplayableSGD)
    (order,) = solver.orders(7, Restartable().restart(seed))
    assert order.tolist() == sorted(range(7), key=words.__getitem__) == [5, 1, 6, 4, 2, 3, 0]


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (nn.Sequential(nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, CLASSES)), "Tanh"),
        (nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(7, CLASSES), nn.ReLU()), "does not end with"),
        (nn.Sequential(nn.Linear(7, CLASSES), nn.Dropout(0.5)), "Dropout"),
        (nn.Sequential(nn.Linear(7, 4), nn.Linear(4, CLASSES).requires_grad_(False)), "trains each of its tensors"),
        (nn.GRU(7, CLASSES), "GRU"),
    ],
)
def test_models_without_a_replayable_form_are_refused(module: nn.Module, told: str) -> None:
    dataset = task("small").dataset
    solver = build_solver("replayable_sgd@1", {"learning_rate": 0.1, "local_epochs": 1})
    with pytest.raises(ConfigError, match=told):
        require_suited(solver, FlatModel(module), dataset, [len(dataset)], cross_entropy)


@pytest.mark.parametrize("change", [{"momentum": 0.01}, {"momentum": 1.0}, {"max_gradient_norm": 1.0}])
def test_parameters_without_a_replayable_form_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        build_solver("replayable_sgd@1", {"learning_rate": 0.1, "local_epochs": 1, **change})


def _averages() -> tuple[nn.Module, Dataset, Loss]:
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    module = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Sequential(*layers), nn.Flatten(), nn.Linear(64, CLASSES))
    return module, Dataset(pseudo(40 * 64, 1).reshape(40, 64), np.arange(40) % CLASSES, CLASSES), cross_entropy


def _sequences() -> tuple[nn.Module, Dataset, Loss]:
    module = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 9))
    inputs = np.abs(pseudo(40 * 6, 2).reshape(40, 6) * 9).astype(np.int64)
    targets = np.where(pseudo(40 * 6, 3).reshape(40, 6) > 0.5, -1, (inputs + 1) % 9)
    return module, Dataset(inputs, targets, None), Tokens().loss


def _numbers(hidden: int) -> tuple[nn.Module, Dataset, Loss]:
    module = build_model("mlp@1", {"inputs": 4, "hidden": [hidden], "classes": 2})
    dataset = Dataset(pseudo(160, 4).reshape(40, 4), pseudo(80, 5).reshape(40, 2) * np.float32(5) + 3, None)
    return module, dataset, Regression(offset=[3.0, 2.0], scale=2.5).loss


@pytest.mark.parametrize(
    "task",
    [_averages, _sequences, partial(_numbers, 10), partial(_numbers, 300)],
    ids=["averages", "sequences", "numbers in doubles", "numbers in float32"],
)
def test_updates_are_near_those_of_floating_point(task: Callable[[], tuple[nn.Module, Dataset, Loss]]) -> None:
    torch.manual_seed(0)
    module, dataset, loss = task()
    model = FlatModel(module)
    base, orders = model.vector(), _orders(40, 30, 12)
    rates = Rates(0.05, 0.5, 0.01)
    found = descend(model, base, [dataset], [orders], rates, loss)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.5, weight_decay=0.01)
    inputs, targets = dataset.tensors
    total = 0.0
    for order in orders:
        optimiser.zero_grad(set_to_none=False)
        value = loss(module(inputs[order]), targets[order], inputs[order])
        value.backward()
        optimiser.step()
        total += value.item() * len(order)
    expected = model.vector() - base
    assert np.linalg.norm(found.deltas[0] - expected) < 0.03 * np.linalg.norm(expected)
    assert found.means()[0] == pytest.approx(total / sum(map(len, orders)), rel=1e-3)
