"""Local SGD against torch.optim, and its determinism."""

import hashlib
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.models.base import build_model
from fedledger.learning.models.initial import initial_model
from fedledger.learning.vectors import FlatModel, repeatable, single_thread
from fedledger.node.solvers.base import SOLVERS, Memory, sent_by
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.fedprox import FedProx
from fedledger.node.solvers.scaffold import Scaffold
from fedledger.node.solvers.sgd import SGD
from fedledger.protocol.errors import ConfigError


def examples(n=45):
    rng = np.random.default_rng(2)
    return Dataset(rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n), 3)


def module():
    torch.manual_seed(9)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def trained_by_torch(solver, dataset, seed, mu=0.0):
    """Return the state dict after training with torch.optim.SGD on the same batches, the proximal term in the loss."""
    model = module().train()
    start = [parameter.detach().clone() for parameter in model.parameters()]
    optimiser = torch.optim.SGD(
        model.parameters(), solver.learning_rate, solver.momentum, weight_decay=solver.weight_decay
    )
    rng = np.random.default_rng(seed)
    rng.integers(2**63)
    for batch in solver.batches(len(dataset), rng):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(
            model(torch.from_numpy(dataset.inputs)[batch]), torch.from_numpy(dataset.targets)[batch]
        )
        for parameter, at in zip(model.parameters(), start, strict=True):
            loss = loss + mu / 2 * (parameter - at).square().sum()
        loss.backward()
        if solver.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), solver.max_gradient_norm)
        optimiser.step()
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "weight_decay": 0.05},
        {"max_gradient_norm": 0.2},
        {"momentum": 0.9, "weight_decay": 0.01, "max_gradient_norm": 0.5},
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_each_step_equals_torch_optim(options, steps):
    solver = SGD(learning_rate=0.1, batch_size=16, local_steps=steps, **options)
    dataset, flat = examples(), FlatModel(module())
    base = flat.vector()
    update = solver(flat, base, dataset, np.random.default_rng(4))
    assert update.delta.dtype == np.float32
    assert (update.steps, update.examples) == (steps, 45)
    expected = trained_by_torch(solver, dataset, 4)
    for name, value in flat.named(base + update.delta).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.05}])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_fedprox_equals_torch_optim_with_the_penalty_in_the_loss(options, steps):
    solver = FedProx(learning_rate=0.1, batch_size=16, local_steps=steps, mu=0.7, **options)
    dataset, flat = examples(), FlatModel(module())
    base = flat.vector()
    update = solver(flat, base, dataset, np.random.default_rng(4))
    expected = trained_by_torch(solver, dataset, 4, mu=0.7)
    for name, value in flat.named(base + update.delta).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6, err_msg=name)
    plain = SGD(learning_rate=0.1, batch_size=16, local_steps=steps, **options)
    far, near = plain(flat, base, dataset, np.random.default_rng(4)).delta, update.delta
    assert (np.linalg.norm(near) < np.linalg.norm(far)) == (steps > 1), "it holds back from the second step on"


def test_fedprox_without_a_penalty_is_sgd_to_the_byte():
    dataset, flat = examples(), FlatModel(module())
    base, common = flat.vector(), {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 16, "local_epochs": 2}
    deltas = [
        made(flat, base, dataset, np.random.default_rng(4)).delta for made in (SGD(**common), FedProx(mu=0, **common))
    ]
    assert deltas[0].tobytes() == deltas[1].tobytes()


def scaffold(flat, memory, steps=5, **options):
    solver = Scaffold(learning_rate=0.1, batch_size=16, local_steps=steps, **options)
    return solver(flat, flat.vector(), examples(), np.random.default_rng(4), memory)


def test_scaffold_with_zero_controls_is_sgd_and_learns_its_mean_gradient():
    flat = FlatModel(module())
    base = flat.vector()
    made = scaffold(flat, Memory())
    plain = SGD(learning_rate=0.1, batch_size=16, local_steps=5)(flat, base, examples(), np.random.default_rng(4))
    assert made.delta.tobytes() == plain.delta.tobytes()
    assert set(made.vectors) == set(made.state) == {"control"}
    assert made.vectors["control"].tobytes() == made.state["control"].tobytes()
    for name, control in flat.named(made.state["control"]).items():
        expected = 0 if "running" in name else -flat.named(plain.delta)[name] / (5 * 0.1)
        np.testing.assert_allclose(control, expected, rtol=1e-4, atol=1e-7, err_msg=name)


def test_scaffold_follows_option_two():
    """One step by hand: y = x - lr(g + c - c_i), c_i+ = c_i - c + (x - y) / lr."""
    flat = FlatModel(module())
    base, trained = flat.vector(), flat.packed(torch.ones_like(flat.trainable))
    rng = np.random.default_rng(1)
    server, own = (rng.normal(size=len(base)).astype(np.float32) for _ in range(2))
    plain = scaffold(flat, Memory(), steps=1).delta
    flat.load(base)
    made = scaffold(flat, Memory({"control": own}, {"control": server}), steps=1)
    np.testing.assert_allclose(made.delta, plain - 0.1 * (server - own) * trained, atol=1e-6)
    # After one step the new control is the gradient itself, whatever the controls were.
    np.testing.assert_allclose(made.state["control"], -plain / 0.1 * trained, atol=1e-5)
    np.testing.assert_allclose(made.vectors["control"], (made.state["control"] - own) * trained, atol=1e-6)


def test_a_diverged_scaffold_round_leaves_the_control_as_it_was():
    flat = FlatModel(module())
    own = flat.packed(torch.ones_like(flat.trainable))
    flat.load(np.full(flat.layout.dimension, 1e38, np.float32))
    made = scaffold(flat, Memory({"control": own}))
    assert not np.isfinite(made.vectors["control"]).all()
    assert made.state["control"].tobytes() == own.tobytes()


def test_what_a_solver_sends_is_what_it_says():
    flat = FlatModel(build_model("mlp@1", {"inputs": 6, "hidden": [8], "classes": 3}))
    # One of them trains nothing.
    for key in sorted({*SOLVERS} - {"column_statistics@1"}):
        solver = build_solver(key, {"learning_rate": 0.1, "local_steps": 1})
        made = solver(flat, flat.vector(), examples(), np.random.default_rng(0), Memory())
        assert dict.fromkeys(sorted(made.vectors)) == sent_by(solver)
    assert sent_by(lambda *arguments: made) == {}


def test_an_epoch_visits_every_example_once_and_epochs_differ():
    solver = SGD(learning_rate=0.1, batch_size=16, local_epochs=2)
    batches = [batch.numpy() for batch in solver.batches(45, np.random.default_rng(0))]
    assert [len(batch) for batch in batches] == [16, 16, 13] * 2
    cut = SGD(learning_rate=0.1, batch_size=16, local_steps=4)
    assert [len(batch) for batch in cut.batches(45, np.random.default_rng(0))] == [16, 16, 13, 16]
    epochs = np.concatenate(batches).reshape(2, 45)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(45), (2, 1)))
    assert (epochs[0] != epochs[1]).any()


def test_one_step_of_logistic_regression_by_hand():
    flat = FlatModel(build_model("logistic_regression@1", {"inputs": 2, "classes": 2}))
    dataset = Dataset(np.array([[1, 2]], np.float32), np.array([0]), 2)
    zero = np.zeros(flat.layout.dimension, np.float32)
    update = SGD(learning_rate=0.5, local_steps=1)(flat, zero, dataset, np.random.default_rng(0))
    step = {"bias": [0.25, -0.25], "weight": [[0.25, 0.5], [-0.25, -0.5]]}
    for name, value in flat.named(update.delta).items():
        np.testing.assert_allclose(value, step[name.split(".")[1]], atol=1e-7)
    assert update.loss == pytest.approx(np.log(2))


def test_training_learns():
    dataset = examples(200)
    dataset = Dataset(dataset.inputs, dataset.inputs[:, :3].argmax(axis=1), 3)
    flat = FlatModel(module())
    solver = SGD(learning_rate=0.2, momentum=0.9, local_epochs=10)
    base = flat.vector()
    before = evaluate(flat, [base], HeldOut(dataset.inputs, dataset.targets))[0]
    update = solver(flat, base, dataset, np.random.default_rng(0))
    after = evaluate(flat, [base + update.delta], HeldOut(dataset.inputs, dataset.targets))[0]
    assert after.loss < update.loss < before.loss
    assert after.share > 0.9 > before.share


def test_frozen_parameters_stay_and_their_decay_too():
    network = module()
    network[0].weight.requires_grad_(False)
    flat = FlatModel(network)
    solver = SGD(learning_rate=0.1, weight_decay=0.1, local_steps=3)
    delta = flat.named(solver(flat, flat.vector(), examples(), np.random.default_rng(0)).delta)
    assert not delta["0.weight"].any()
    assert delta["0.bias"].any()
    assert delta["1.running_mean"].any()


def test_calls_repeat_to_the_byte_whatever_happened_before():
    flat = FlatModel(
        nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64, momentum=None), nn.Dropout(0.5), nn.Linear(64, 3))
    )
    base, dataset = flat.vector(), examples()
    solver = SGD(learning_rate=0.1, momentum=0.9, batch_size=16, local_epochs=3)
    deltas = []
    for seed in range(3):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        with repeatable():
            deltas.append(solver(flat, base, dataset, np.random.default_rng(3)).delta.tobytes())
        assert torch.equal(torch.get_rng_state(), state)
    assert len(set(deltas)) == 1
    assert solver(flat, base, dataset, np.random.default_rng(4)).delta.tobytes() != deltas[0]


def mlp_digest():
    params = {"inputs": 6, "hidden": [32], "classes": 3}
    base = initial_model(lambda: build_model("mlp@1", params), 1).file.vector
    solver = build_solver("sgd@1", {"learning_rate": 0.1, "momentum": 0.9, "local_epochs": 1})
    update = solver(FlatModel(build_model("mlp@1", params)), base, examples(500), np.random.default_rng(6))
    return hashlib.sha256(update.delta.tobytes()).hexdigest()


def test_a_new_process_repeats_to_the_byte():
    code = "import test_solver; print(test_solver.mlp_digest())"
    here = Path(__file__).parent
    output = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True).stdout
    assert output.strip() == mlp_digest()


def test_single_thread_is_restored_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), single_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_the_outermost_guard_puts_back_what_it_found_even_after_an_error():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    for _ in range(2):
        with pytest.raises(KeyError), repeatable():
            with repeatable():
                torch.default_generator.manual_seed(1)
            within = torch.get_rng_state()
            assert torch.get_num_threads() == 1
            assert not torch.equal(within, state)
            raise KeyError
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 0, "local_steps": 1},
        {"learning_rate": float("inf"), "local_steps": 1},
        {"learning_rate": 0.1},
        {"learning_rate": 0.1, "local_steps": 1, "local_epochs": 1},
        {"learning_rate": 0.1, "local_epochs": 0},
        {"learning_rate": 0.1, "local_steps": 0},
        {"learning_rate": 0.1, "local_steps": 1, "momentum": 1.0},
        {"learning_rate": 0.1, "local_steps": 1, "batch_size": 0},
        {"learning_rate": 0.1, "local_steps": 1, "weight_decay": -1},
        {"learning_rate": 0.1, "local_steps": 1, "max_gradient_norm": 0},
        {"learning_rate": 0.1, "local_steps": 1, "nesterov": True},
    ],
)
def test_wrong_parameters_are_refused(params):
    with pytest.raises(ConfigError):
        build_solver("sgd@1", params)


@pytest.mark.parametrize(("key", "more"), [("fedprox@1", {"mu": -1}), ("scaffold@1", {"momentum": 0.9})])
def test_wrong_parameters_of_other_solvers_are_refused(key, more):
    with pytest.raises(ConfigError):
        build_solver(key, {"learning_rate": 0.1, "local_steps": 1, **more})


def test_an_empty_data_set_or_a_wrong_base_is_refused():
    flat, solver = FlatModel(module()), SGD(learning_rate=0.1, local_steps=1)
    with pytest.raises(ConfigError, match="no example"):
        solver(flat, flat.vector(), examples().take(np.array([], np.int64)), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="float32"):
        solver(flat, flat.vector()[:-1], examples(), np.random.default_rng(0))


def test_an_error_names_the_batch():
    calls = []

    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, inputs):
            calls.append(len(inputs))
            if len(calls) == 3:
                raise ValueError("broken")
            return self.layer(inputs)

    solver = SGD(learning_rate=0.1, local_epochs=1, batch_size=10)
    with pytest.raises(ValueError, match="broken") as caught:
        solver(FlatModel(Fragile()), FlatModel(Fragile()).vector(), examples(), np.random.default_rng(0))
    assert caught.value.__notes__ == ["in batch 3 of the 45 examples"]


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("duration", [{"local_epochs": 1}, {"local_steps": 2}, {"local_steps": 9}])
def test_single_examples_are_found_before_training(n: int, drop_last: bool, duration: dict[str, int]) -> None:
    solver = SGD(learning_rate=0.1, batch_size=4, drop_last=drop_last, **duration)
    model = FlatModel(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    inputs = np.ones((5, 3), np.float32)
    is_single = any(len(order) == 1 for order in solver.orders(n, np.random.default_rng(0)))
    with pytest.raises(ConfigError, match=rf"{n} example") if is_single else nullcontext():
        solver.require_batches(model, inputs, [8, n, 4])
    solver.require_batches(FlatModel(torch.nn.Linear(3, 2)), inputs, [n])
