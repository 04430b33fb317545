"""What a participant's training loop does with small batches, whole inputs and a model's own randomness."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.tokens import Tokens
from fedledger.learning.vectors import FlatModel, repeatable
from fedledger.node.batched_clients import BatchedClients
from fedledger.node.solvers.expected_noise import ExpectedNoise
from fedledger.node.solvers.fedprox import FedProx
from fedledger.node.solvers.minibatch import Minibatches
from fedledger.node.solvers.scaffold import Scaffold
from fedledger.node.solvers.sgd import SGD
from fedledger.node.solvers.worst_case_noise import WorstCaseNoise
from fedledger.node.training import LocalTrainer
from fedledger.protocol.errors import ConfigError


def examples(n: int, classes: int = 3) -> Dataset:
    rng = np.random.default_rng(3)
    return Dataset(rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, classes, n), classes)


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    epochs=st.integers(1, 4) | st.none(),
    steps=st.integers(1, 30),
    drop_last=st.booleans(),
)
def test_steps_and_examples_are_those_of_the_batches(
    n: int, batch_size: int, epochs: int | None, steps: int, drop_last: bool
) -> None:
    solver = Minibatches(
        learning_rate=1.0,
        batch_size=batch_size,
        local_epochs=epochs,
        local_steps=steps if epochs is None else None,
        drop_last=drop_last,
    )
    batches = [batch.tolist() for batch in solver.batches(n, np.random.default_rng(0))]
    assert len(batches) == solver.steps(n) > 0
    assert sum(map(len, batches)) == solver.computed(n)
    assert all(len(set(batch)) == len(batch) for batch in batches)
    full = min(batch_size, n)
    if drop_last:
        assert {len(batch) for batch in batches} == {full}
    else:
        assert {len(batch) for batch in batches} <= {full, n % batch_size}


def normalising(features: int = 4) -> FlatModel:
    torch.manual_seed(0)
    return FlatModel(nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, 3)))


@pytest.mark.parametrize("made", [SGD, FedProx, Scaffold, ExpectedNoise, WorstCaseNoise])
def test_a_last_batch_of_one_is_told_or_left_out(made: Any) -> None:
    flat, dataset, rng = normalising(), examples(33), np.random.default_rng(0)
    base = flat.vector()
    with pytest.raises(ConfigError, match=r"has 33 example\(s\).* batch_size = 16") as refused:
        made(learning_rate=0.1, batch_size=16, local_epochs=1)(flat, base, dataset, rng)
    assert "drop_last = true" in str(refused.value.remedy) and "GroupNorm" in str(refused.value.remedy)
    update = made(learning_rate=0.1, batch_size=16, local_epochs=2, drop_last=True)(flat, base, dataset, rng)
    assert update.steps == 4 and update.examples == 33 and np.isfinite(update.delta).all()
    for batch_size, n, remedy in ((1, 33, "larger batch_size"), (16, 1, "more examples")):
        with pytest.raises(ConfigError, match="a single one") as refused:
            made(learning_rate=0.1, batch_size=batch_size, local_epochs=1, drop_last=True)(flat, base, examples(n), rng)
        assert remedy in str(refused.value.remedy) and "drop_last" not in str(refused.value.remedy)


def test_whole_inputs_stay_whole() -> None:
    """Ids beyond 2^24, between which floats do not tell."""

    class Ids(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            assert inputs.dtype == torch.int64
            return self.table(inputs[:, 0] - 2**40)  # type: ignore[no-any-return]

    labels = np.arange(64) % 4
    flat = FlatModel(Ids())
    update = SGD(learning_rate=1.0, local_epochs=60, batch_size=8)(
        flat, flat.vector(), Dataset((2**40 + labels)[:, None], labels, 4), np.random.default_rng(0)
    )
    assert update.loss < 0.5 and flat.module.table.weight.argmax(1).tolist() == [0, 1, 2, 3]


def test_a_recurrent_model_learns_sequences() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer, self.head = nn.Embedding(5, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 5)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(self.table(inputs))[0])  # type: ignore[no-any-return]

    torch.manual_seed(1)
    flat, places = FlatModel(Recurrent()), (np.arange(9) + np.arange(40)[:, None]) % 5
    targets = places[:, 1:].copy()
    targets[::3, 4:] = -1
    dataset = Dataset(places[:, :-1], targets, None)
    solver = SGD(learning_rate=0.5, momentum=0.9, local_epochs=20, batch_size=8)
    base = flat.vector()
    first = solver(flat, base, dataset, np.random.default_rng(0), loss=Tokens().loss)
    again = solver(flat, base + first.delta, dataset, np.random.default_rng(1), loss=Tokens().loss)
    assert again.loss < 0.05 < first.loss


class Drawing(nn.Module):
    """A model that draws from all three global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            inputs = inputs * (np.random.random() + random.random() + torch.rand(1))
        return self.layer(inputs)  # type: ignore[no-any-return]


def states() -> list[bytes]:
    numpy = np.random.get_state(legacy=False)
    return [torch.get_rng_state().numpy().tobytes(), repr(numpy).encode(), repr(random.getstate()).encode()]


def test_a_model_s_own_randomness_is_the_participant_s_and_leaves_no_trace() -> None:
    flat = FlatModel(Drawing())
    base, dataset, solver = flat.vector(), examples(40), SGD(learning_rate=0.1, local_epochs=2, batch_size=16)
    deltas = []
    for seed in range(3):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = states()
        with repeatable():
            deltas.append(solver(flat, base, dataset, np.random.default_rng(5)).delta.tobytes())
        assert states() == before
    assert len(set(deltas)) == 1
    assert solver(flat, base, dataset, np.random.default_rng(6)).delta.tobytes() != deltas[0]


def test_participants_are_batched_for_plain_cross_entropy_alone() -> None:
    flat = FlatModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    trainer = LocalTrainer(flat, SGD(learning_rate=0.1, local_epochs=1), examples(40))
    batched = BatchedClients.of(trainer)
    assert batched is not None and batched.trains(trainer)
    other = LocalTrainer(flat, trainer.solver, trainer.dataset, objective=Tokens())
    assert BatchedClients.of(other) is None and not batched.trains(other)
