"""What objectives refuse, in sentences that name the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, check_model, evaluate, loss_in_millionths, measure
from fedledger.learning.objectives.base import (
    OBJECTIVES,
    PPM,
    Batch,
    Evaluated,
    Objective,
    Settling,
    build_objective,
    fits,
)
from fedledger.learning.objectives.classification import CLASSIFICATION, Classification
from fedledger.learning.objectives.multilabel import Multilabel
from fedledger.learning.objectives.own import Guarded, OwnObjective
from fedledger.learning.objectives.ranking import Ranking
from fedledger.learning.objectives.reconstruction import Reconstruction
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import Tokens
from fedledger.learning.task_code import load_task_code
from fedledger.learning.validation_set import INPUTS, LABELS, read_validation
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.sgd import SGD
from fedledger.platform.experiment.task_objective import require_pairs
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ConfigError, ContentUnreadableError
from fedledger.protocol.records.measurement import LOSS_CAP, MAX_SCORE, Measurement

FLOATS, WHOLE = np.float32, np.int64
X = np.random.default_rng(0).normal(size=(12, 4)).astype(FLOATS)
PLACES = np.arange(12) % 3
FLAGS = np.arange(24).reshape(12, 2) % 2
SEQUENCES = np.arange(60).reshape(12, 5) % 7
NUMBERS = X[:, 0] * 3
KINDS = {
    "classification@1": (PLACES, 3),
    "regression@1": (NUMBERS, None),
    "multilabel@1": (FLAGS, None),
    "tokens@1": (SEQUENCES, None),
}


@pytest.mark.parametrize("key", list(OBJECTIVES))
@pytest.mark.parametrize("of", list(KINDS))
def test_targets_of_another_kind_are_refused_by_the_name_of_what_they_suit(key: str, of: str) -> None:
    dataset, objective = Dataset(X, *KINDS[of]), build_objective(key, {})
    try:
        prepared = objective.prepared(dataset)
    except ConfigError as error:
        assert of in str(error.remedy) and key in error.message
        assert key != of
    else:
        # Numbers may be classes, zeros and ones flags, and flags are numbers or tokens.
        assert key == of or (key, of) in {
            ("regression@1", "classification@1"),
            ("ranking@1", "classification@1"),
            ("regression@1", "multilabel@1"),
            ("regression@1", "tokens@1"),
            ("tokens@1", "multilabel@1"),
        }
        assert objective.prepared(prepared) is prepared
        assert len(prepared) == 12 and np.array_equal(prepared.targets, dataset.targets)


def test_two_classes_are_a_label_and_what_is_normal() -> None:
    two = Dataset(X, PLACES % 2, 2)
    assert Multilabel().prepared(two).targets.tolist() == (PLACES % 2)[:, None].tolist()
    assert Reconstruction().prepared(two) is two
    flags = Dataset(X, FLAGS.astype(FLOATS), None)
    assert Multilabel().prepared(flags).targets.dtype == WHOLE


REFUSED: list[tuple[Any, tuple[int, ...], NDArray[Any], str]] = [
    (Classification(), (1, 2), PLACES, "2 classes, a label is 2"),
    (Classification(), (1, 4, 3), PLACES, "examples, classes"),
    (Classification(), (1,), PLACES, "examples, classes"),
    (Classification(), (1, 4), PLACES - 1, "A label is -1"),
    (Classification(), (1, 3), NUMBERS, "one class per example"),
    (Classification(), (1, 3), FLAGS, "one class per example"),
    (Classification(score="auc"), (1, 3), PLACES, "for two classes"),
    (Regression(), (1, 2), NUMBERS, r"\[examples, 1\]"),
    (Regression(), (1, 1, 1), NUMBERS, r"\[examples, 1\]"),
    (Regression(), (1, 1), PLACES, "float32 targets"),
    (Regression(), (1, 1), X[:, :2], r"\[examples, 2\]"),
    (Regression(offset=[1.0, 2.0]), (1, 1), NUMBERS, "offset has 2 numbers"),
    (Regression(scale=[1.0]), (1, 2), X[:, :2], "scale has 1 numbers"),
    (Multilabel(), (1, 3), FLAGS, "2 labels"),
    (Multilabel(), (1, 2), FLAGS + 1, "zeros and ones"),
    (Multilabel(), (1, 1), PLACES, "zeros and ones"),
    (Tokens(), (1, 5, 6), SEQUENCES, "vocabulary has 6 tokens, a target is 6"),
    (Tokens(), (1, 4, 7), SEQUENCES, "5 tokens an example"),
    (Tokens(), (1, 7), SEQUENCES, "5 tokens an example"),
    (Tokens(), (1, 5, 0), SEQUENCES, "vocabulary has 0 tokens"),
    (Tokens(), (1, 5, 7), SEQUENCES - 2, "a target is"),
    (Tokens(), (1, 5, 7), np.full((12, 5), -1), "are padding"),
    (Tokens(), (1, 5, 7), SEQUENCES[:, :0], "a token at each place"),
    (Reconstruction(), (1, 5), PLACES % 2, "an example"),
    (Reconstruction(), (1, 4), PLACES, "0 for each normal"),
    (Reconstruction(), (1, 4), PLACES * 0 + 1, "No example is normal"),
    (Ranking(), (1, 3), PLACES, "4 candidates"),
    (Ranking(), (1, 4, 1), PLACES, "4 candidates"),
    (Ranking(), (1, 4), PLACES + 2, "outside the 4 candidates"),
    (Ranking(), (1, 4), PLACES - 1, "outside the 4 candidates"),
    (Ranking(), (1, 4), NUMBERS, "place of the chosen"),
]


@pytest.mark.parametrize(("objective", "outputs", "targets", "message"), REFUSED)
def test_outputs_that_do_not_suit_are_refused(
    objective: Any, outputs: tuple[int, ...], targets: NDArray[Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        fits(objective, outputs, torch.from_numpy(targets), torch.from_numpy(X))
    assert refused.value.remedy


@pytest.mark.parametrize("key", list(OBJECTIVES))
@pytest.mark.parametrize("shape", [(1,), (1, 0), (1, 4), (1, 5, 7), (1, 2, 2, 2), ()])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_fits_can_be_measured(key: str, shape: tuple[int, ...], seed: int) -> None:
    """A stranger's set and model end in a sentence or a measurement."""
    rng = np.random.default_rng(seed)
    some: list[NDArray[Any]] = [
        rng.integers(-2, 6, 12),
        rng.integers(0, 2, 12),
        rng.integers(0, 2, (12, 4)),
        rng.integers(-1, 7, (12, 5)),
        rng.integers(-(2**63), 2**63 - 1, (12, 5)),
        np.full((12, 4), 3e38, FLOATS),
        np.zeros(12, FLOATS),
    ]
    for targets, inputs in [(t, i) for t in some for i in (X, X[:, :1], np.zeros((12, 4), WHOLE))]:
        objective, given = build_objective(key, {}), (torch.from_numpy(targets), torch.from_numpy(inputs))
        try:
            fits(objective, shape, *given)
        except ConfigError:
            continue
        outputs = torch.from_numpy(rng.normal(size=(12, *shape[1:])).astype(FLOATS))
        found = objective.measure([Batch(outputs, *given)])
        assert found.score >= 0
        assert objective.lower_is_better or found.score <= objective.full_score(given[0])
        assert objective.tolerance(given[0]) >= 0


class Gives(nn.Module):
    """A model that puts out what a function makes of its inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(1)), function

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.function(inputs * self.weight)


@pytest.mark.parametrize(
    ("function", "message", "remedy"),
    [
        (lambda x: (x[:, :3], x), "of type tuple, not a tensor", "one tensor from forward"),
        (lambda x: {"logits": x[:, :3]}, "of type dict", "one tensor from forward"),
        (lambda x: x[:, :3].sum(), r"shape \[\] for 8 examples", "the examples first"),
        (lambda x: x[0], "examples", "the examples first"),
        (lambda x: x, "4 classes, the data set has 3", "reconstruction@1"),
        (lambda x: x[:, :2], "2 classes, a label is 2", "as many classes"),
        (lambda x: torch.cat([x, x], 1), "8 classes, the data set has 3", "as many classes"),
        (lambda x: x[:, :3].argmax(1), "int64", "one logit a class"),
        (lambda x: torch.dropout(x[:, :3], 0.5, True), "differ from one evaluation", "self.training"),
        (lambda x: x[:, :3] + np.random.random(), "differ from one evaluation", "self.training"),
        (lambda x: x[:, :3] * 1e9, "at the cap", "Scale the targets"),
        (lambda x: x @ torch.ones(5), "cannot compute the examples: RuntimeError", "examples of this shape"),
        (lambda x: x[:, :3].detach(), "does not follow from what is trained", "requires_grad"),
        (lambda x: (x[:, :3],) if torch.is_grad_enabled() else x[:, :3], "of type tuple", "one tensor"),
        (lambda x: x[:, :3] if len(x) < 9 else 1 / 0, "cannot compute the examples: ZeroDivision", "this shape"),
        (lambda x: x[:, :3] * torch.nan, "at the cap", "Scale the targets"),
    ],
)
def test_a_model_that_cannot_be_measured_is_refused_before_it_trains(function: Any, message: str, remedy: str) -> None:
    flat = FlatModel(Gives(function))
    with pytest.raises(ConfigError, match=message) as refused:
        check_model(flat, flat.vector(), Dataset(X, PLACES, 3), CLASSIFICATION)
    assert remedy in str(refused.value.remedy)


def test_a_model_that_suits_is_not_refused() -> None:
    for key, (targets, classes) in KINDS.items():
        outputs = {"classification@1": 3, "regression@1": 1, "multilabel@1": 2, "tokens@1": 35}[key]
        layers = [nn.Linear(4, outputs), nn.Dropout(), nn.BatchNorm1d(outputs)]
        flat = FlatModel(nn.Sequential(*layers, *([nn.Unflatten(1, (5, 7))] if key == "tokens@1" else [])))
        check_model(flat, flat.vector(), Dataset(X, targets, classes), build_objective(key, {}))


def test_outputs_of_another_shape_in_a_later_batch_are_refused() -> None:
    flat = FlatModel(Gives(lambda x: x[:, : 2 + len(x) % 2]))
    with pytest.raises(ConfigError, match=r"labels|after|classes"):
        evaluate(flat, [flat.vector()], HeldOut(X[:11], FLAGS[:11], Multilabel()), batch=2)
    flat = FlatModel(Gives(lambda x: x[:, :3] if len(x) > 1 else (x[:, :3],)))
    with pytest.raises(ConfigError, match="of type tuple"):
        evaluate(flat, [flat.vector()], HeldOut(X[:11], PLACES[:11]), batch=2)


def test_a_stored_validation_set_holds_any_targets() -> None:
    for targets in (PLACES, FLAGS, SEQUENCES - 1, NUMBERS, X):
        for inputs in (X, SEQUENCES + 2**40):
            found = read_validation(tensors.encode({INPUTS: inputs, LABELS: targets}))
            for one, wanted in zip(found, (inputs, targets), strict=True):
                assert one.dtype == wanted.dtype and np.array_equal(one, wanted) and one.flags.writeable
    for inputs, targets in (
        (X, PLACES[:5]),
        (X, PLACES.astype(np.uint8)),
        (X[:0], PLACES[:0]),
        (X[:, :0], PLACES),
        (X[:, 0], PLACES),
        (X, SEQUENCES[:, :0]),
        (X, X * FLOATS(np.inf)),
        (X * FLOATS(np.nan), PLACES),
    ):
        with pytest.raises(ContentUnreadableError):
            read_validation(tensors.encode({INPUTS: inputs, LABELS: targets}))


class Quantile(OwnObjective):
    """The pinball loss of the ninth decile."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        error = targets - outputs[:, 0]
        return torch.maximum(0.9 * error, -0.1 * error).mean()


@given(st.lists(st.floats(width=32) | st.just(math.nan), min_size=1, max_size=3))
def test_the_worst_is_never_taken_for_the_best(losses: list[float]) -> None:
    """A mean that is no number, or beyond all, is the worst loss and the worst score."""

    class Given(OwnObjective):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
            return outputs.mean()

    batches = [Batch(torch.full((2, 1), loss), torch.zeros(2), torch.zeros(2, 1)) for loss in losses]
    found = Given().measure(batches)
    mean = math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan
    if math.isnan(mean) or mean > 2**31:
        assert loss_in_millionths(found.loss) == LOSS_CAP and found.score == MAX_SCORE
    assert 0 <= found.score <= MAX_SCORE


@pytest.mark.parametrize(
    ("loss", "score"), [("10**400", "10**400"), ("-10**400", "2**60"), ("1e305", "0"), ("math.nan", "1")]
)
def test_numbers_beyond_a_document_are_limited(loss: str, score: str) -> None:
    """Whatever a task's own objective returns, a report can hold it."""

    class Boundless(OwnObjective):
        def measure(self, batches: Iterable[Batch]) -> Evaluated:
            return Evaluated(eval(loss), eval(score))

        def tolerance(self, targets: torch.Tensor) -> int:
            return 2**70

    guarded = Guarded.of(Boundless(), "task.py")
    model = FlatModel(nn.Linear(4, 1))
    found = measure(model, [model.vector()], HeldOut(X, NUMBERS, guarded))
    assert found == [Measurement(LOSS_CAP, min(eval(score), MAX_SCORE))]
    assert guarded.tolerance(torch.zeros(1)) == MAX_SCORE


@pytest.mark.parametrize(
    ("margin", "found"), [(None, None), (0.25, 250_000), (-1e30, -LOSS_CAP), (math.nan, -LOSS_CAP)]
)
def test_a_task_s_own_objective_may_measure_a_margin(margin: float | None, found: int | None) -> None:
    class Sure(OwnObjective):
        def measure(self, batches: Iterable[Batch]) -> Evaluated:
            return Evaluated(1.0, 1, margin)

    model = FlatModel(nn.Linear(4, 1))
    [measured] = measure(model, [model.vector()], HeldOut(X, NUMBERS, Guarded.of(Sure(), "task.py")))
    assert measured == Measurement(1_000_000, 1, found)


OWN = b"""
import torch
from torch import nn
from fedledger.learning.objectives.own import OwnObjective
class Mine(OwnObjective):
    loss_name = "mine"
    def loss(self, outputs, targets, inputs):
        return (outputs[:, 0] - targets).abs().mean()
def model():
    return nn.Linear(4, 1)
def objective():
    return %s
"""


def own(expression: str) -> Any:
    return load_task_code(OWN % expression.encode(), "cid", {"cid"}).objective()


def test_a_task_s_own_objective_trains_and_measures() -> None:
    objective = own("Mine()")
    assert (objective.loss_name, objective.score_name, objective.lower_is_better) == ("mine", "mine", True)
    assert not isinstance(objective, Settling)
    dataset = objective.prepared(Dataset(X, NUMBERS, None))
    flat = FlatModel(nn.Linear(4, 1))
    check_model(flat, flat.vector(), dataset, objective)
    base, held_out = flat.vector(), HeldOut(dataset.inputs, dataset.targets, objective)
    update = SGD(learning_rate=0.1, local_epochs=40)(flat, base, dataset, np.random.default_rng(0), loss=objective.loss)
    before, after = measure(flat, [base, base + update.delta], held_out)
    assert 0 < after.loss < before.loss and after.loss == after.score and after.margin is None
    assert evaluate(flat, [base], held_out)[0].full_score == PPM


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("Mine", "returned the class Mine"),
        ("None", "NoneType, which has no prepared"),
        ("object()", "has no prepared"),
        ("setattr(Mine, 'loss_name', 'x' * 101) or Mine()", "without loss_name"),
        ("setattr(Mine, 'score_name', '\\n') or Mine()", "without loss_name or score_name"),
        ("setattr(Mine, 'lower_is_better', 1) or Mine()", "without lower_is_better"),
        ("setattr(Mine, 'measure', 3) or Mine()", "which has no measure"),
        ("undefined", "raised NameError"),
    ],
)
def test_what_is_no_objective_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own(expression)


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("measure", 3.0, "returned float"),
        ("measure", (torch.ones(1), 2), "returned Tensor"),
        ("measure", (1.0, -1), "returned int"),
        ("measure", (1.0, 1.5), "returned float"),
        ("full_score", -1, "returned int"),
        ("tolerance", None, "returned NoneType"),
        ("prepared", None, "returned NoneType"),
    ],
)
def test_what_an_objective_returns_is_checked(name: str, result: Any, message: str) -> None:
    objective, targets = own("Mine()"), torch.from_numpy(NUMBERS)
    arguments: dict[str, Any] = {"measure": [], "prepared": Dataset(X, NUMBERS, None)}
    setattr(objective.own, name, lambda *_: result)
    with pytest.raises(ConfigError, match=message):
        getattr(objective, name)(arguments.get(name, targets))
    setattr(objective.own, name, lambda *_: 1 / 0)
    with pytest.raises(ConfigError, match=f"{name}.. of the objective .* raised ZeroDivisionError"):
        getattr(objective, name)(arguments.get(name, targets))


class Odd(Quantile):
    """Measures what it is told."""

    def __init__(self, loss: float, score: int) -> None:
        self.found = Evaluated(loss, score)

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        return self.found


@pytest.mark.parametrize(
    ("loss", "score", "found"),
    [
        (-3.0, 5, (0, 5)),
        (1e30, 2**80, (LOSS_CAP, 2**53 - 1)),
        (float("-inf"), 0, (LOSS_CAP, 0)),
        (1.5, 1, (1500000, 1)),
    ],
)
def test_measurements_are_kept_within_what_a_report_holds(loss: float, score: int, found: tuple[int, int]) -> None:
    flat = FlatModel(nn.Linear(4, 1))
    assert measure(flat, [flat.vector()], HeldOut(X, NUMBERS, Odd(loss, score))) == [Measurement(*found)]


class GaussianLikelihood(OwnObjective):
    """Negative where the model is sure and right."""

    def __init__(self, lowest: float) -> None:
        self.lowest = lowest

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.gaussian_nll_loss(outputs[:, 0], targets, outputs[:, 1].exp(), full=True)


def test_a_loss_below_zero_is_told_and_counts_above_its_lowest() -> None:
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.tensor([0.0, -9.0]))
    flat, dataset = FlatModel(module), Dataset(X, np.zeros(12, FLOATS), None)
    with pytest.raises(ConfigError, match=r"loss.* is -3\.5.*lowest"):
        check_model(flat, flat.vector(), dataset, GaussianLikelihood(0.0))
    check_model(flat, flat.vector(), dataset, GaussianLikelihood(-10.0))
    held_out = HeldOut(X, dataset.targets, GaussianLikelihood(-10.0))
    found, exact = evaluate(flat, [flat.vector()], held_out)[0], 10 + 0.5 * (math.log(2 * math.pi) - 9)
    assert found.loss == pytest.approx(exact) and found.score == round(found.loss * PPM)


class Peeking(nn.Module):
    """Looks at the whole batch, in training alone or always; else it is linear."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.layer, self.always = nn.Linear(4, 3), always

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(inputs - inputs.mean(0) if self.always or self.training else inputs)
        return outputs


class Resetting(nn.Linear):
    """Loses its gradients, or its place in the flat tensors, in each forward pass."""

    def __init__(self, how: str) -> None:
        super().__init__(4, 3)
        self.how = how

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.how == "gradient":
            self.zero_grad(set_to_none=True)
        else:
            self.weight.data = self.weight.data.clone()
        return super().forward(inputs)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Peeking(always=True), "depend on the others.*track_running_stats"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), "single example.*running_stats"),
        (Resetting("gradient"), "weight.*in place"),
        (Resetting("place"), "weight.*in place"),
        (Peeking(always=False), None),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), None),
    ],
)
def test_a_model_that_cannot_be_measured_or_trained_is_told_so(module: nn.Module, said: str | None) -> None:
    flat, dataset = FlatModel(module), Dataset(X, PLACES, 3)
    with nullcontext() if said is None else pytest.raises(ConfigError, match=said):
        check_model(flat, flat.vector(), dataset, CLASSIFICATION)


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(
    ("objective", "alike"),
    [(Classification("auc"), PLACES * 0), (Multilabel(), FLAGS * 0), (Multilabel(), FLAGS * 0 + 1)],
)
def test_an_area_without_pairs_is_refused(part: str, objective: Objective, alike: NDArray[Any]) -> None:
    mixed = alike.copy()
    mixed[:6] = 1 - mixed[:6]
    classes = 2 if alike.ndim == 1 else None
    given = {name: Dataset(X, alike if name == part else mixed, classes) for name in ("validation", "test")}
    with pytest.raises(ConfigError, match=rf"The {part} set.*no pair.*{part}_fraction"):
        require_pairs(objective, **given)
    require_pairs(objective, Dataset(X, mixed, classes), Dataset(X, mixed, classes))
    require_pairs(Reconstruction(), **given)
