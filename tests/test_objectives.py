"""Objectives: losses and scores against scikit-learn, torch and brute force."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle
from torch import nn
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import LOGITS_TOGETHER, HeldOut, evaluate, measure
from fedledger.learning.objectives.base import PPM, Batch, Evaluated, Objective, build_objective
from fedledger.learning.objectives.classification import Classification
from fedledger.learning.objectives.half_pairs import all_half_pairs, half_pairs
from fedledger.learning.objectives.multilabel import Multilabel
from fedledger.learning.objectives.ranking import Ranking
from fedledger.learning.objectives.reconstruction import Reconstruction
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import Tokens
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.fedprox import FedProx
from fedledger.node.solvers.scaffold import Scaffold
from fedledger.node.solvers.sgd import SGD
from fedledger.protocol.records.measurement import LOSS_CAP

N = 60


@dataclass(frozen=True)
class Case:
    """An objective with outputs, targets and inputs for it."""

    objective: Objective
    outputs: torch.Tensor
    targets: torch.Tensor
    inputs: torch.Tensor

    def batches(self, size: int = N) -> Iterator[Batch]:
        for start in range(0, N, size):
            part = slice(start, start + size)
            yield Batch(self.outputs[part], self.targets[part], self.inputs[part])

    def measured(self, size: int = N) -> Evaluated:
        return self.objective.measure(self.batches(size))


def case(key: str, seed: int = 0, **params: Any) -> Case:
    """Return random outputs for an objective."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(N, 7)).astype(np.float32)

    def logits(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=(N, *shape)).astype(np.float32)

    made: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "classification@1": (logits(2), rng.integers(0, 2, N)),
        "regression@1": (logits(3), logits(3)),
        "multilabel@1": (logits(4), rng.integers(0, 2, (N, 4))),
        "tokens@1": (logits(5, 6), rng.integers(-1, 6, (N, 5))),
        "reconstruction@1": (inputs + logits(7), rng.integers(0, 2, N)),
        "column_statistics@1": (logits(2, 7), rng.integers(0, 2, (N, 7)).astype(np.float32)),
        "ranking@1": (logits(7), rng.integers(0, 7, N)),
    }
    outputs, targets = made[key]
    return Case(build_objective(key, params), *map(torch.from_numpy, (outputs, targets, inputs)))


CASES: dict[str, dict[str, Any]] = {
    "classification@1": {"score": ["accuracy", "auc"]},
    "regression@1": {"criterion": ["squared", "absolute", "huber"], "offset": [0.5], "scale": [None, [2.0, 1.0, 0.5]]},
    "multilabel@1": {"score": ["auc", "f1"]},
    "tokens@1": {},
    "reconstruction@1": {"normal_only": [True, False]},
    "column_statistics@1": {},
    "ranking@1": {"criterion": ["pairwise", "softmax"], "score": ["hit_rate", "ndcg"], "at": [1, 3]},
}
ALL = [
    (key, dict(zip(options, values, strict=True)))
    for key, options in CASES.items()
    for values in product(*options.values())
]


def brute_half_pairs(scores: NDArray[np.float64], flags: NDArray[np.bool_]) -> int:
    pairs = [(a, b) for a in scores[flags] for b in scores[~flags]]
    return sum(2 * bool(a > b) + bool(a == b) for a, b in pairs)


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, -0.0, 0.5, math.inf, -math.inf, math.nan]), st.booleans())))
def test_half_pairs_are_counted_as_by_comparing_every_pair(examples: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in examples], np.float64)
    flags = np.array([flag for _, flag in examples], np.bool_)
    assert half_pairs(scores, flags) == brute_half_pairs(scores, flags)
    assert half_pairs(scores, flags) <= all_half_pairs(int(flags.sum()), len(flags))


def test_half_pairs_of_many_examples_are_exact() -> None:
    n = 200_000
    flags = np.arange(n) % 2 == 0
    assert half_pairs(np.zeros(n), flags) == (n // 2) ** 2
    assert half_pairs(flags.astype(np.float64), flags) == all_half_pairs(n // 2, n) == 2 * (n // 2) ** 2


@pytest.mark.parametrize(("key", "params"), ALL)
def test_what_a_model_is_worth_does_not_depend_on_the_batches(key: str, params: dict[str, Any]) -> None:
    given_ = case(key, **params)
    whole = given_.measured()
    for size in (1, 7, 59):
        found = given_.measured(size)
        assert found.score == pytest.approx(whole.score, abs=given_.objective.lower_is_better)
        assert found.loss == pytest.approx(whole.loss, rel=1e-12)
    assert 0 <= whole.score <= given_.objective.full_score(given_.targets) or given_.objective.lower_is_better


@pytest.mark.parametrize(("key", "params"), ALL)
def test_the_measured_loss_is_the_one_that_training_minimises(key: str, params: dict[str, Any]) -> None:
    given_ = case(key, **params)
    trained = given_.objective.loss(given_.outputs, given_.targets, given_.inputs)
    assert float(trained) == pytest.approx(given_.measured().loss, rel=1e-5)


@pytest.mark.parametrize(("key", "params"), ALL)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_is_not_a_number_is_never_good(key: str, params: dict[str, Any], share: float) -> None:
    given_ = case(key, **params)
    broken = given_.outputs.clone()
    broken[: int(N * share)] = math.nan
    objective = build_objective(key, {**params, **({"at": 1_000_000} if key == "ranking@1" else {})})
    found = Case(objective, broken, given_.targets, given_.inputs).measured(7)
    assert math.isnan(found.loss)
    if objective.lower_is_better:
        assert found.score == LOSS_CAP
    elif share == 1:
        assert found.score == 0
    else:
        assert found.score < objective.full_score(given_.targets)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    binary = case("classification@1", seed)
    flags, margin = binary.targets.numpy(), (binary.outputs[:, 1] - binary.outputs[:, 0]).numpy()
    assert binary.measured().score == oracle.accuracy_score(flags, margin > 0, normalize=False)
    auc = case("classification@1", seed, score="auc")
    share = auc.measured().score / auc.objective.full_score(auc.targets)
    assert share == pytest.approx(oracle.roc_auc_score(flags, margin))

    labels = case("multilabel@1", seed)
    parts = [all_half_pairs(int(column.sum()), N) for column in labels.targets.T]
    areas = [oracle.roc_auc_score(t, o) for t, o in zip(labels.targets.T, labels.outputs.T, strict=True)]
    assert labels.measured().score == pytest.approx(np.dot(parts, areas))
    assert labels.objective.full_score(labels.targets) == sum(parts)
    micro = oracle.f1_score(labels.targets.numpy(), labels.outputs.numpy() > 0, average="micro")
    assert case("multilabel@1", seed, score="f1").measured().score == int(PPM * micro)

    numbers = case("regression@1", seed)
    error = oracle.mean_absolute_error(numbers.targets, numbers.outputs)
    assert numbers.measured().score == pytest.approx(PPM * error, abs=1)
    assert numbers.measured().loss == pytest.approx(oracle.mean_squared_error(numbers.targets, numbers.outputs))

    lists = case("ranking@1", seed, score="ndcg", at=3)
    relevant = functional.one_hot(lists.targets, 7).numpy()
    assert lists.measured().score == pytest.approx(PPM * oracle.ndcg_score(relevant, lists.outputs.numpy(), k=3), abs=1)
    hits = oracle.top_k_accuracy_score(lists.targets, lists.outputs, k=3, normalize=False, labels=range(7))
    assert case("ranking@1", seed, at=3).measured().score == hits

    unlike = case("reconstruction@1", seed)
    errors = (unlike.outputs - unlike.inputs).square().mean(1)
    area = unlike.measured().score / unlike.objective.full_score(unlike.targets)
    assert area == pytest.approx(oracle.roc_auc_score(unlike.targets, errors))

    tokens = case("tokens@1", seed)
    known = tokens.targets != -1
    right = oracle.accuracy_score(tokens.targets[known], tokens.outputs.argmax(2)[known], normalize=False)
    assert tokens.measured().score == right
    assert tokens.objective.full_score(tokens.targets) == int(known.sum())


def test_losses_are_those_of_torch() -> None:
    def value(given_: Case) -> torch.Tensor:
        return given_.objective.loss(given_.outputs, given_.targets, given_.inputs)

    for criterion, wanted in (("squared", nn.MSELoss()), ("absolute", nn.L1Loss()), ("huber", nn.HuberLoss(delta=0.3))):
        numbers = case("regression@1", criterion=criterion, delta=0.3)
        assert torch.equal(value(numbers), wanted(numbers.outputs, numbers.targets))
    scaled = case("regression@1", offset=[1.0, 2.0, 3.0], scale=[1.0, 2.0, 4.0])
    units = (scaled.targets - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([1.0, 2.0, 4.0])
    assert torch.equal(value(scaled), functional.mse_loss(scaled.outputs, units))
    labels = case("multilabel@1")
    assert torch.equal(value(labels), nn.BCEWithLogitsLoss()(labels.outputs, labels.targets.float()))
    tokens = case("tokens@1")
    flat = tokens.outputs.flatten(0, 1), tokens.targets.flatten()
    torch.testing.assert_close(value(tokens), functional.cross_entropy(*flat, ignore_index=-1))
    lists = case("ranking@1")
    pairs = [
        -functional.logsigmoid(row[t] - row[[i for i in range(7) if i != t]]).mean()
        for row, t in zip(lists.outputs, lists.targets.tolist(), strict=True)
    ]
    torch.testing.assert_close(value(lists), torch.stack(pairs).mean())
    unlike = case("reconstruction@1")
    normal = unlike.targets == 0
    torch.testing.assert_close(value(unlike), functional.mse_loss(unlike.outputs[normal], unlike.inputs[normal]))


def test_batches_in_which_nothing_counts_leave_the_model_as_it_is() -> None:
    for objective, outputs, targets in (
        (Tokens(), torch.ones(2, 3, 4), torch.full((2, 3), -1)),
        (Reconstruction(), torch.ones(2, 4), torch.ones(2, dtype=torch.int64)),
    ):
        outputs.requires_grad_()
        loss = objective.loss(outputs, targets, torch.zeros(2, 4))
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0 and outputs.grad is not None and not outputs.grad.any()


def test_a_constant_model_ranks_the_chosen_one_last() -> None:
    targets, inputs = torch.arange(N) % 7, torch.zeros(N, 7, 2)
    for score in ("hit_rate", "ndcg"):
        given_ = Case(Ranking(score=score, at=6), torch.zeros(N, 7), targets, inputs)
        assert given_.measured().score == 0
        perfect = Case(Ranking(score=score, at=1), functional.one_hot(targets, 7).float(), targets, inputs)
        assert perfect.measured().score == perfect.objective.full_score(targets)


def test_anomalies_need_not_be_there() -> None:
    zeros = torch.zeros(N, dtype=torch.int64)
    given_ = Case(Reconstruction(), torch.zeros(N, 4), zeros, torch.ones(N, 4))
    assert given_.measured() == (1.0, 0, None) and given_.objective.full_score(zeros) == 0


def test_an_example_may_be_given_back_flat() -> None:
    inputs, zeros = torch.randn(N, 1, 2, 4), torch.zeros(N, dtype=torch.int64)
    flat, shaped = (Case(Reconstruction(), outputs, zeros, inputs) for outputs in (inputs.flatten(1) + 1, inputs + 1))
    flat.objective.check(flat.outputs, zeros, inputs)
    assert flat.measured() == shaped.measured()


def test_one_number_an_example_is_never_compared_with_those_of_others() -> None:
    targets, outputs = torch.randn(N), torch.randn(N, 1)
    inputs = torch.zeros(N, 1)
    wanted = functional.mse_loss(outputs[:, 0], targets)
    for a, b in ((outputs, targets), (outputs[:, 0], targets[:, None]), (outputs, targets[:, None])):
        Regression().check(a, b, inputs)
        assert torch.equal(Regression().loss(a, b, inputs), wanted)


@given(
    st.floats(-1e6, 1e6),
    st.sampled_from([1e-6, 1e-3, 1.0, 37.0, 1e6]),
    st.sampled_from([(9,), (9, 1), (9, 3), (9, 300)]),
)
def test_what_knows_the_mean_alone_loses_about_one(mean: float, spread: float, shape: tuple[int, ...]) -> None:
    numbers = (mean + spread * np.random.default_rng(1).normal(size=shape)).astype(np.float32)
    dataset = Dataset(np.zeros((9, 2), np.float32), numbers, None)
    settled = Regression(criterion="huber").settled(dataset)
    objective = build_objective("regression@1", settled)
    assert build_objective("regression@1", objective.settled(dataset)) == objective  # type: ignore[attr-defined]
    outputs = torch.zeros(shape)
    squared = build_objective("regression@1", settled | {"criterion": "squared"})
    found = squared.measure([Batch(outputs, torch.from_numpy(numbers), outputs)])
    if spread > 1e-5 * abs(mean):
        assert found.loss == pytest.approx(1, rel=0.02)
    else:
        assert found.loss < 1.02


def test_targets_that_are_all_the_same_have_a_scale_of_one() -> None:
    dataset = Dataset(np.zeros((9, 2), np.float32), np.full(9, 0.1, np.float32), None)
    assert Regression().settled(dataset) == {"criterion": "squared", "offset": 0.1, "scale": 1.0}
    given_ = {"offset": 3.0, "scale": 2.0}
    assert Regression(**given_).settled(dataset) == {"criterion": "squared", **given_}


def models(outputs: int, seed: int = 0) -> tuple[FlatModel, list[NDArray[np.float32]]]:
    torch.manual_seed(seed)
    flat = FlatModel(nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, outputs)))
    return flat, [(flat.vector() * scale).astype(np.float32) for scale in (1, 3, -2)]


@pytest.mark.parametrize(("key", "params"), [one for one in ALL if one[0] not in {"tokens@1", "column_statistics@1"}])
def test_a_model_is_measured_as_its_outputs_are(key: str, params: dict[str, Any]) -> None:
    given_ = case(key, **params)
    flat, vectors = models(given_.outputs.shape[1])
    held_out = HeldOut(given_.inputs.numpy(), given_.targets.numpy(), given_.objective)
    found = evaluate(flat, vectors, held_out, batch=7)
    assert [evaluate(flat, [vector], held_out, batch=7)[0] for vector in vectors] == found
    for vector, one in zip(vectors, found, strict=True):
        flat.load(vector)
        with torch.inference_mode():
            outputs = flat.module(given_.inputs)
        wanted = Case(given_.objective, outputs, given_.targets, given_.inputs).measured()
        assert one.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert abs(one.score - wanted.score) <= max(2, 10 * given_.objective.lower_is_better)
        assert one.full_score == given_.objective.full_score(given_.targets)


@pytest.mark.parametrize("score", ["accuracy", "auc"])
@pytest.mark.parametrize("together", [1, 3 * 2 * N, 5 * 2 * N])
def test_classes_have_the_bits_that_they_have_together(
    monkeypatch: pytest.MonkeyPatch, score: str, together: int
) -> None:
    given_ = case("classification@1", score=score)
    flat, vectors = models(2)

    def found() -> list[tuple[int, int]]:
        return measure(flat, vectors, HeldOut(given_.inputs.numpy(), given_.targets.numpy(), given_.objective))

    wanted = found()
    assert together < LOGITS_TOGETHER
    monkeypatch.setattr("fedledger.learning.metrics.LOGITS_TOGETHER", together)
    assert found() == wanted


def test_large_outputs_are_taken_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = case("multilabel@1")
    flat, vectors = models(4)
    sizes: list[int] = []
    flat.module.register_forward_hook(lambda _, inputs, outputs: sizes.append(len(outputs)))
    held_out = HeldOut(given_.inputs.numpy(), given_.targets.numpy(), given_.objective)
    wanted = evaluate(flat, vectors[:1], held_out)
    assert sizes == [1, N]
    monkeypatch.setattr("fedledger.learning.metrics.OUTPUT_BYTES", 4 * 4 * 8)
    found = evaluate(flat, vectors[:1], held_out)
    assert sizes[2:] == [8] * 7 + [4]
    assert found[0].loss == pytest.approx(wanted[0].loss, rel=1e-6)


@pytest.mark.parametrize("made", [SGD, FedProx, Scaffold])
@pytest.mark.parametrize(("key", "params"), [one for one in ALL if one[0] not in {"tokens@1", "column_statistics@1"}])
def test_a_step_goes_down_the_gradient_of_the_loss(key: str, params: dict[str, Any], made: Any) -> None:
    given_ = case(key, **params)
    flat, [base, *_] = models(given_.outputs.shape[1])
    is_place = given_.targets.dtype == torch.int64 and given_.targets.ndim == 1
    dataset = Dataset(given_.inputs.numpy(), given_.targets.numpy(), 7 if is_place else None)
    solver = made(learning_rate=0.5, batch_size=N, local_steps=1)
    update = solver(flat, base, dataset, np.random.default_rng(1), loss=given_.objective.loss)
    flat.load(base)
    flat.gradient.zero_()
    loss = given_.objective.loss(flat.module(given_.inputs), given_.targets, given_.inputs)
    loss.backward()
    np.testing.assert_allclose(update.delta, -0.5 * flat.packed(flat.gradient), atol=2e-6)
    assert update.loss == pytest.approx(float(loss.detach()), rel=1e-5)


def test_names_follow_the_parameters() -> None:
    names = {(o.loss_name, o.score_name) for o in (build_objective(key, params) for key, params in ALL)}
    # A regression's error is in the targets' unit, or in scales where each target has its own.
    assert len(names) == 2 + 3 * 2 + 2 + 1 + 1 + 1 + 8
    assert all(text.isprintable() for pair in names for text in pair)
    assert Multilabel().score_name == Classification(score="auc").score_name == "AUC"
