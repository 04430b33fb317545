"""Training for noisy channels, and the noise itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from fedledger.contracts.chain.chain import Chain
from fedledger.learning.data import Dataset
from fedledger.learning.metrics import predict
from fedledger.learning.models.base import build_model
from fedledger.learning.models.initial import initial_model
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.tokens import Tokens
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.vectors import FlatModel, repeatable
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.node.batched_clients import batched_clients
from fedledger.node.solvers.base import SOLVERS, LocalUpdate, Memory, Solver, require_suited
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.expected_noise import ExpectedNoise
from fedledger.node.solvers.sgd import SGD
from fedledger.node.solvers.worst_case_noise import WorstCaseNoise
from fedledger.node.training import LocalTrainer
from fedledger.node.transforms.base import TRANSFORMS
from fedledger.node.transforms.channel_noise import ChannelNoise
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from support.small import run_small

ONCE: dict[str, Any] = {"learning_rate": 0.5, "local_steps": 1}


def examples(n: int = 45) -> Dataset:
    rng = np.random.default_rng(2)
    return Dataset(rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n), 3)


def normalising() -> FlatModel:
    torch.manual_seed(9)
    return FlatModel(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)))


def perceptron() -> FlatModel:
    params = {"inputs": 6, "hidden": [5], "classes": 3}
    flat = FlatModel(build_model("mlp@1", params))
    flat.load(initial_model(lambda: build_model("mlp@1", params), 3).file.vector)
    return flat


def trained(
    solver: Solver,
    flat: FlatModel,
    base: np.ndarray | None = None,
    dataset: Dataset | None = None,
    seed: int = 4,
    memory: Memory | None = None,
    loss: Loss = cross_entropy,
) -> LocalUpdate:
    with repeatable():
        return solver(
            flat,
            flat.vector() if base is None else base,
            dataset or examples(),
            np.random.default_rng(seed),
            memory or Memory(),
            loss,
        )


class Point(nn.Module):
    """A model whose outputs are its parameters, so that a loss may be any function of them."""

    def __init__(self, at: list[float]) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.at


def quadratic(matrix: Any, linear: Any) -> Loss:
    """F(θ) = ½ θ·Aθ − b·θ."""
    a, b = torch.tensor(matrix, dtype=torch.float32), torch.tensor(linear, dtype=torch.float32)
    return lambda outputs, targets, inputs: outputs @ a @ outputs / 2 - b @ outputs


class TestExpectedNoise:
    def test_a_step_on_a_quadratic_by_hand(self) -> None:
        """∇F = Aθ − b = (−1, −6), A∇F = (−8, −19), and so ∇F + 2·¼·A∇F = (−5, −15.5)."""
        flat, loss = FlatModel(Point([1.0, -2.0])), quadratic([[2, 1], [1, 3]], [1, 1])
        made = trained(ExpectedNoise(deviation=0.5, **ONCE), flat, loss=loss)
        assert made.delta.tolist() == [2.5, 7.75]
        assert made.loss == 2 * 1 / 2 + 3 * 4 / 2 - 2 - (1 - 2), "F alone is reported"

    @pytest.mark.parametrize("seed", range(5))
    def test_the_gradient_on_quadratics_is_the_formula(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        root, linear, at = rng.normal(size=(7, 7)), rng.normal(size=7), rng.normal(size=7)
        matrix, deviation = root @ root.T, 0.3
        gradient = matrix @ at - linear
        expected = gradient + 2 * deviation**2 * matrix @ gradient
        flat = FlatModel(Point(at.tolist()))
        made = trained(ExpectedNoise(deviation=deviation, **ONCE), flat, loss=quadratic(matrix, linear))
        np.testing.assert_allclose(-made.delta / 0.5, expected, rtol=1e-4, atol=1e-4)

    def test_the_gradient_of_a_perceptron_is_that_of_finite_differences(self) -> None:
        """Of F + σ²‖∇F‖² in double precision, by first derivatives alone."""
        flat, dataset, deviation = perceptron(), examples(), 0.7
        base = flat.vector()
        module = build_model("mlp@1", {"inputs": 6, "hidden": [5], "classes": 3}).double()
        inputs, targets = torch.from_numpy(dataset.inputs).double(), torch.from_numpy(dataset.targets)

        def penalised(vector: np.ndarray) -> float:
            named = {}
            for name, shape, (place, _) in zip(flat.layout.names, flat.layout.shapes, flat.layout.places, strict=True):
                named[name] = torch.tensor(vector[place]).view(shape).requires_grad_()
            value = cross_entropy(functional_call(module, named, (inputs,)), targets, inputs)
            gradients = torch.autograd.grad(value, list(named.values()))
            return value.item() + deviation**2 * sum(each.square().sum().item() for each in gradients)

        step, exact = 1e-6, base.astype(np.float64)
        expected = np.array(
            [(penalised(exact + step * one) - penalised(exact - step * one)) / (2 * step) for one in np.eye(len(base))]
        )
        made = trained(ExpectedNoise(deviation=deviation, batch_size=45, **ONCE), flat, base)
        np.testing.assert_allclose(-made.delta / 0.5, expected, atol=2e-6)
        plain = trained(SGD(batch_size=45, **ONCE), flat, base)
        assert np.abs(plain.delta - made.delta).max() > 1e-2, "the penalty counts"

    def test_bound_decay_and_momentum_come_after_the_penalty(self) -> None:
        """‖(−5, −15.5)‖ is bounded to 1, then 0.1·θ is added; the second step goes on with half of the first."""
        flat, loss = FlatModel(Point([1.0, -2.0])), quadratic([[2, 1], [1, 3]], [1, 1])
        common: dict[str, Any] = {"deviation": 0.5, "learning_rate": 0.5, "weight_decay": 0.1, "max_gradient_norm": 1.0}
        at, velocity = np.array([1.0, -2.0]), np.zeros(2)
        for steps in (1, 2):
            gradient = np.array([[2, 1], [1, 3]]) @ at - 1
            gradient = gradient + 0.5 * np.array([[2, 1], [1, 3]]) @ gradient
            velocity = 0.5 * velocity + gradient / max(1.0, np.linalg.norm(gradient)) + 0.1 * at
            at = at - 0.5 * velocity
            solver = ExpectedNoise(local_steps=steps, momentum=0.5, **common)
            made = trained(solver, flat, np.array([1, -2], np.float32), loss=loss)
            np.testing.assert_allclose(made.delta, at - [1, -2], rtol=1e-5)

    def test_statistics_move_as_in_sgd(self) -> None:
        flat = normalising()
        base, solvers = flat.vector(), (SGD(**ONCE), ExpectedNoise(deviation=0.5, **ONCE))
        plain, made = (flat.named(trained(solver, flat, base).delta) for solver in solvers)
        for name in plain:
            assert (plain[name].tobytes() == made[name].tobytes()) == ("running" in name), name

    def test_attention_can_be_trained(self) -> None:
        class Attentive(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention, self.head = nn.MultiheadAttention(2, 1, batch_first=True), nn.Linear(2, 3)

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                rows = inputs.view(-1, 3, 2)
                return self.head(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))  # type: ignore[no-any-return]

        flat, solver = FlatModel(Attentive()), ExpectedNoise(learning_rate=0.1, local_epochs=1)
        require_suited(solver, flat, examples(), [45], cross_entropy)
        assert np.isfinite(trained(solver, flat).delta).all()

    def test_a_model_without_a_second_derivative_is_told_beforehand(self) -> None:
        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(inputs)
                return inputs**2

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx: Any, *gradients: Any) -> Any:
                return 2 * ctx.saved_tensors[0] * gradients[0]

        class Squaring(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(6, 3)

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                return Once.apply(self.layer(inputs))  # type: ignore[no-any-return, no-untyped-call]

        flat = FlatModel(Squaring())
        solver = ExpectedNoise(**ONCE)
        with pytest.raises(ConfigError, match="second derivative") as told:
            require_suited(solver, flat, examples(), [45], cross_entropy)
        assert "worst_case_noise@1" in str(told.value.remedy)
        with pytest.raises(ConfigError, match="second derivative"):
            trained(solver, flat)
        require_suited(ExpectedNoise(deviation=0.0, **ONCE), flat, examples(), [45], cross_entropy)
        require_suited(WorstCaseNoise(**ONCE), flat, examples(), [45], cross_entropy)

    def test_what_sgd_does_not_take_is_told_as_in_sgd(self) -> None:
        with pytest.raises(ConfigError, match="a single one"):
            require_suited(ExpectedNoise(batch_size=44, **ONCE), normalising(), examples(1), [1], cross_entropy)
        require_suited(ExpectedNoise(batch_size=44, **ONCE), normalising(), examples(1), [40], cross_entropy)


def noise_of(flat: FlatModel, seed: int = 4, scale: float = 3.0, **params: Any) -> np.ndarray:
    """The noise of a solver's only step on scale/2·‖θ‖²: a step is −½·scale·(θ + e)."""
    base = flat.vector()
    loss = quadratic(scale * np.eye(len(base)), np.zeros(len(base)))
    made = trained(WorstCaseNoise(**ONCE, **params), flat, base, seed=seed, loss=loss)
    noise: np.ndarray = -made.delta / (0.5 * scale) - base
    return noise


class TestWorstCaseNoise:
    def test_noise_lies_on_the_sphere_in_any_direction(self) -> None:
        at = [3.0, 4.0] + [0.0] * 18
        drawn = np.stack([noise_of(FlatModel(Point(at)), seed, radius=2.0) for seed in range(200)])
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 2.0, rtol=1e-5)
        # Each coordinate has mean 0 and deviation 2/√20, so that the mean of 200 has 0.032.
        assert np.abs(drawn.mean(0)).max() < 0.15
        np.testing.assert_allclose(drawn.std(0), 2 / np.sqrt(20), atol=0.1)

    def test_of_several_draws_the_worst_is_taken(self) -> None:
        """On ‖θ‖² the worst noise points away from 0: along θ."""
        along = {}
        for draws in (1, 4, 64):
            drawn = [noise_of(FlatModel(Point([3.0, 4.0])), seed, radius=1.0, draws=draws) for seed in range(20)]
            along[draws] = [float(each @ [0.6, 0.8]) for each in drawn]
        assert abs(np.mean(along[1])) < 0.5 < np.mean(along[4]) < np.mean(along[64])
        assert min(along[64]) > 0.9

    def test_the_surrogate_averages_gradients_by_hand(self) -> None:
        """Second round: ρ = γ = ½, so d = ½·(2, 6) + ½·∇F, and a step is −0.25·(d + 0.5·θ)."""
        flat, loss = FlatModel(Point([1.0, -2.0])), quadratic([[2, 1], [1, 3]], [1, 1])
        memory = Memory({"surrogate": np.array([2, 6], np.float32), "rounds": np.array([1], np.float32)})
        solver = WorstCaseNoise(radius=0.0, averaging=1.0, diminishing=1.0, weight_decay=0.5, **ONCE)
        made = trained(solver, flat, memory=memory, loss=loss)
        average = np.array([2, 6]) / 2 + np.array([-1, -6]) / 2
        assert made.delta.tolist() == (-0.25 * (average + 0.5 * np.array([1, -2]))).tolist()
        assert made.state["surrogate"].tolist() == average.tolist() and made.state["rounds"].tolist() == [2]
        first = trained(solver, flat, np.array([1, -2], np.float32), loss=loss)
        assert first.delta.tolist() == [-0.5 * (-1 + 0.5), -0.5 * (-6 - 1)], "the first round has nothing to average"
        assert first.state["rounds"].tolist() == [1]

    @pytest.mark.parametrize("draws", [1, 3])
    def test_without_noise_worth_the_name_it_is_sgd_whatever_the_model(self, draws: int) -> None:
        """Noise that rounds to nothing: neither the comparison of draws nor its own stream leaves a trace."""
        common: dict[str, Any] = {"learning_rate": 0.1, "batch_size": 16, "local_epochs": 2}
        solver = WorstCaseNoise(radius=1e-30, draws=draws, averaging=0.0, diminishing=0.0, **common)
        for flat in (normalising(), perceptron()):
            base = flat.vector()
            made, plain = trained(solver, flat, base), trained(SGD(**common), flat, base)
            assert made.delta.tobytes() == plain.delta.tobytes()
            assert made.loss == plain.loss

    def test_frozen_parameters_and_padding_have_no_noise_and_an_error_leaves_none(self) -> None:
        class Watching(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.frozen, self.layer, self.calls = nn.Linear(6, 6), nn.Linear(6, 3), 0
                self.frozen.requires_grad_(False)
                self.seen: list[torch.Tensor] = []

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                self.seen.append(self.layer.weight.detach().clone())
                assert bool((self.frozen.weight == kept).all())
                assert not flat.trainable[[3, 15, 34, 47]].any(), "the padding behind bias and weight"
                if self.calls == 2:
                    raise KeyError("broken")
                return self.layer(self.frozen(inputs))  # type: ignore[no-any-return]

        module = Watching()
        kept = module.frozen.weight.detach().clone()
        flat = FlatModel(module)
        start = flat.named(flat.vector())["layer.weight"].copy()
        with pytest.raises(KeyError):
            trained(WorstCaseNoise(learning_rate=1e-30, local_steps=2, radius=1.0), flat)
        assert all((seen.numpy() != start).all() for seen in module.seen) and len(module.seen) == 2
        assert flat.named(flat.vector())["layer.weight"].tobytes() == start.tobytes()


@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.05, "max_gradient_norm": 0.5, "drop_last": True}])
@pytest.mark.parametrize("made", [normalising, perceptron])
def test_without_noise_both_are_sgd_to_the_byte(made: Any, more: dict[str, Any]) -> None:
    flat, common = made(), {"learning_rate": 0.1, "batch_size": 16, "local_epochs": 2, **more}
    base = flat.vector()
    plain = trained(SGD(**common), flat, base)
    steady = WorstCaseNoise(radius=0.0, averaging=0.0, diminishing=0.0, **common)
    for solver in (ExpectedNoise(deviation=0.0, **common), steady):
        update = trained(solver, flat, base)
        assert update.delta.tobytes() == plain.delta.tobytes()
        assert (update.loss, update.steps) == (plain.loss, plain.steps)
    first = trained(WorstCaseNoise(radius=0.0, **common), flat, base)
    assert first.delta.tobytes() == plain.delta.tobytes(), "in a first round nothing is averaged yet"
    momentum = {"momentum": 0.9, **common}
    pair = [trained(kind(**momentum), flat, base) for kind in (SGD, lambda **p: ExpectedNoise(deviation=0, **p))]
    assert pair[0].delta.tobytes() == pair[1].delta.tobytes()


COMMON: dict[str, Any] = {"learning_rate": 0.1, "local_epochs": 2}


@pytest.mark.parametrize("solver", [ExpectedNoise(deviation=0.3, **COMMON), WorstCaseNoise(draws=2, **COMMON)])
def test_updates_follow_from_the_participants_stream(solver: Solver) -> None:
    flat = normalising()
    base, deltas = flat.vector(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        deltas.append(trained(solver, flat, base).delta.tobytes())
        assert torch.equal(torch.get_rng_state(), state)
    assert deltas[0] == deltas[1] != trained(solver, flat, base, seed=5).delta.tobytes()
    assert batched_clients(LocalTrainer(perceptron(), solver, examples())) is None


@pytest.mark.parametrize("key", ["expected_noise@1", "worst_case_noise@1"])
def test_other_objectives_are_trained_too(key: str) -> None:
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
    solver = build_solver(key, {"learning_rate": 0.5, "local_epochs": 40, "batch_size": 8})
    require_suited(solver, flat, dataset, [40], Tokens().loss)
    first = trained(solver, flat, dataset=dataset, loss=Tokens().loss)
    again = trained(solver, flat, dataset=dataset, loss=Tokens().loss, memory=Memory(first.state))
    assert again.loss < first.loss / 3


@pytest.mark.parametrize(
    ("key", "params"),
    [
        ("expected_noise@1", {"deviation": -0.1}),
        ("expected_noise@1", {"deviation": 1001}),
        ("worst_case_noise@1", {"radius": -1}),
        ("worst_case_noise@1", {"draws": 0}),
        ("worst_case_noise@1", {"draws": 65}),
        ("worst_case_noise@1", {"averaging": 1.1}),
        ("worst_case_noise@1", {"diminishing": -0.1}),
        ("worst_case_noise@1", {"momentum": 0.9}),
    ],
)
def test_wrong_parameters_are_refused(key: str, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(SOLVERS, key, {**ONCE, **params})


class TestChannelNoise:
    def received(self, update: LocalUpdate, deviation: float, seed: int = 0) -> LocalUpdate:
        made = build(TRANSFORMS, "channel_noise@1", {"deviation": deviation})(update, np.random.default_rng(seed))
        assert isinstance(made, LocalUpdate)
        return made

    def test_noise_has_its_deviation_and_is_independent(self) -> None:
        n, vector = 100_000, np.linspace(-1, 1, 100_000).astype(np.float32)
        kept = vector.tobytes()
        given = LocalUpdate(vector, 7, 3, vectors={"control": vector}, state={"control": vector}, statistics=vector[:5])
        made = self.received(given, 0.25)
        noises = np.stack([made.delta, made.vectors["control"]]) - vector
        # Of n draws the mean deviates by σ/√n and the deviation by σ/√(2n): five times that.
        assert np.abs(noises.mean(1)).max() < 5 * 0.25 / np.sqrt(n)
        np.testing.assert_allclose(noises.std(1), 0.25, atol=5 * 0.25 / np.sqrt(2 * n))
        assert abs(np.corrcoef(noises)[0, 1]) < 5 / np.sqrt(n)
        assert made.delta.dtype == made.vectors["control"].dtype == np.float32
        assert vector.tobytes() == kept == made.state["control"].tobytes()
        assert made.statistics.tobytes() == vector[:5].tobytes() and (made.examples, made.steps) == (7, 3)
        assert self.received(given, 0.25).delta.tobytes() == made.delta.tobytes()
        assert self.received(given, 0.25, seed=1).delta.tobytes() != made.delta.tobytes()

    def test_no_noise_changes_nothing_and_what_is_not_finite_stays_so(self) -> None:
        given = LocalUpdate(np.array([1, np.inf, np.nan], np.float32), 1, 1)
        assert self.received(given, 0) is given
        assert np.isfinite(self.received(given, 1).delta).tolist() == [True, False, False]
        with pytest.raises(ConfigError):
            self.received(given, -1)

    def test_a_run_over_a_channel_is_audited_and_the_same_without_a_ledger(self, tmp_path: Path) -> None:
        solver = 'method = "worst_case_noise@1", params = { learning_rate = 0.3, local_epochs = 1, radius = 2.0 }'
        extra = (
            f'solver = {{ {solver} }}\ntransforms = [{{ method = "channel_noise@1", params = {{ deviation = 0.1 }} }}]'
        )
        done = run_small(tmp_path, Chain(), extra=extra)
        assert len(done.run.task.settled) == 3
        assert audit_run(tmp_path).reproduced
        record = MemoryRecord(done.experiment)
        with Serial(done.experiment) as trains:
            list(play(record, trains))
        assert np.array_equal(record.model.vector, done.run.final.vector)


HELD_OUT = 597
FOUND = {
    # Accuracy after training in quiet, the same under noise of deviation 0.2 afterwards, and after training over a
    # channel of deviation 0.5, as docs/methods.md has them.
    "sgd@1": (0.954, 0.769, 0.802),
    "expected_noise@1": (0.957, 0.827, 0.835),
    "worst_case_noise@1": (0.932, 0.856, 0.853),
}
PARAMS: dict[str, dict[str, Any]] = {"expected_noise@1": {"deviation": 0.5}, "worst_case_noise@1": {"radius": 10.0}}


def federated(key: str, deviation: float, seed: int, rounds: int = 20) -> tuple[float, float, float]:
    """Return the last model's accuracy, the same under noise, and the mean of the last five rounds'."""
    data, rng, params = load_dataset("digits@1", {}), np.random.default_rng(seed), {"inputs": 64, "classes": 10}
    order = rng.permutation(len(data))
    test, parts = data.take(np.sort(order[:HELD_OUT])), [data.take(part) for part in np.split(order[HELD_OUT:], 10)]
    flat = FlatModel(build_model("mlp@1", {"hidden": [32], **params}))
    base = initial_model(lambda: build_model("mlp@1", {"hidden": [32], **params}), seed).file.vector
    solver = build_solver(key, {"learning_rate": 0.3, "local_epochs": 4, **PARAMS.get(key, {})})
    noise, states, shares = ChannelNoise(deviation), [Memory()] * len(parts), []

    def share(vector: np.ndarray) -> float:
        return float((predict(flat, vector.astype(np.float32), test.inputs) == test.targets).mean())

    for number in range(rounds):
        sent = []
        for place, part in enumerate(parts):
            stream = np.random.default_rng([seed, number, place])
            with repeatable():
                update = solver(flat, base, part, stream, states[place], cross_entropy)
            states[place] = Memory(update.state)
            sent.append(noise(update, stream).delta)
        base = (base + np.mean(sent, 0, dtype=np.float64)).astype(np.float32)
        shares.append(share(base))
    noisy = [share(base + rng.normal(0, 0.2, base.shape)) for _ in range(10)]
    return shares[-1], float(np.mean(noisy)), float(np.mean(shares[-5:]))


@pytest.mark.long
def test_noise_costs_models_less_that_were_trained_for_it() -> None:
    quiet, noisy, over = {}, {}, {}
    for key, found in FOUND.items():
        apart = np.mean([federated(key, 0.0, seed) for seed in range(5)], axis=0)
        quiet[key], noisy[key] = apart[0], apart[1]
        over[key] = np.mean([federated(key, 0.5, seed)[2] for seed in range(5)])
        assert (quiet[key], noisy[key], over[key]) == pytest.approx(found, abs=0.02), key
    for key in PARAMS:
        assert quiet[key] - noisy[key] < quiet["sgd@1"] - noisy["sgd@1"] - 0.03
        assert over[key] > over["sgd@1"] + 0.02
