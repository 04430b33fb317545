"""What an objective is: the loss that training minimises, and how a model is measured on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch

from fedledger.learning.data import Dataset
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry

PPM = 1_000_000

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a model's outputs for a batch, the batch's targets and its inputs to the mean loss."""


class Batch(NamedTuple):
    """A model's outputs for some held-out examples, beside their targets and inputs."""

    outputs: torch.Tensor
    targets: torch.Tensor
    inputs: torch.Tensor


class Evaluated(NamedTuple):
    """What a model is worth on some examples.

    Parameters
    ----------
    loss
        Mean loss in the objective's unit; NaN or infinite where the model's outputs are. A ledger holds none below
        0.
    score
        What the objective counts, a whole number of at least 0.
    margin
        By how much the outputs prefer what is right, on average; None where the objective has no such measure. A few
        hard examples rule a mean loss, but not this.
    """

    loss: float
    score: int
    margin: float | None = None


class Objective(Protocol):
    """A frozen dataclass of its parameters."""

    @property
    def loss_name(self) -> str:
        """What a page calls the loss, with its unit, such as ``"cross-entropy (nats)"``."""
        ...

    @property
    def score_name(self) -> str:
        """What a page calls the score, such as ``"accuracy"``."""
        ...

    @property
    def lower_is_better(self) -> bool:
        """Whether the smaller of two scores is better."""
        ...

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return a data set whose targets have the type that this objective computes with.

        Raises
        ------
        ConfigError
            If they are none of this objective's; the message names the objective that they suit.
        """
        ...

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check that a model's outputs suit the targets.

        Parameters
        ----------
        outputs
            The model's, for one or more examples. Only type and shape are looked at, so they may be on torch's
            ``meta`` device.
        targets, inputs
            All of them; a stranger may have made them.
        classes
            The number of classes, where it is known beyond the targets.

        Raises
        ------
        ConfigError
            If the model cannot be trained or measured with them.
        """
        ...

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch, which training minimises."""
        ...

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model in double precision by its outputs, which come batch by batch, all examples once in order.

        An objective that is a sum keeps nothing of a batch; see :func:`joined` for one that needs all outputs.
        """
        ...

    def full_score(self, targets: torch.Tensor) -> float:
        """Return what a score is divided by where it is shown, such as the number of examples; 0 if there is none."""
        ...

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return how far a score may be from its reproduction on another machine, unless a task says otherwise."""
        ...


@runtime_checkable
class Settling(Protocol):
    """An objective with parameters that follow from held-out examples where they are not given."""

    def settled(self, validation: Dataset) -> Mapping[str, Any]:
        """Return all its parameters, which the task's spec names."""
        ...


OBJECTIVES: Registry[Callable[..., Objective]] = Registry(kind_of("objective"))


def build_objective(key: str, params: Mapping[str, Any]) -> Objective:
    """Return a registered objective.

    Raises
    ------
    ConfigError
        If there is none of that name, or the parameters do not suit it.
    """
    return build(OBJECTIVES, key, params)


def joined(batches: Iterable[Batch]) -> Batch:
    """Return all batches as one, for an objective that needs all outputs at once."""
    parts = [torch.cat(part) for part in zip(*batches, strict=True)]
    return Batch(*parts)


def fits(objective: Objective, outputs: tuple[int, ...], targets: torch.Tensor, inputs: torch.Tensor) -> None:
    """Check that a model suits held-out examples, by the shape of its outputs for one of them alone.

    Parameters
    ----------
    objective
        The task's objective.
    outputs
        What the model makes of one example: its shape, 1 first.
    targets, inputs
        The examples'.

    Raises
    ------
    ConfigError
        If it does not.
    """
    objective.check(torch.empty(outputs, device="meta"), targets, inputs)


def described(tensor: torch.Tensor) -> str:
    """Return type and shape of a tensor in words, such as ``float32[2, 3]``."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def unsuitable(dataset: Dataset, key: str, wanted: str) -> ConfigError:
    """Return the error that a data set's targets are none of the objective ``key``, which wants others."""
    targets = dataset.targets
    found = f"{targets.dtype}{list(targets.shape)}"
    suits = suiting(dataset)
    remedy = f'Set objective = {{ method = "{suits}" }} under [training]' if suits != key else "Correct the targets"
    if key == "classification@1" and targets.ndim == 1 and (targets % 1 == 0).all():
        remedy += "; if they are classes, say how many: Dataset.of(inputs, targets, classes=…)"
    return ConfigError(f"The objective {key} wants {wanted}; the targets are {found}.", f"{remedy}.")


def suiting(dataset: Dataset) -> str:
    """Return the objective that a data set's targets suit most simply."""
    targets = dataset.targets
    if targets.dtype.kind == "f":
        return "regression@1"
    if targets.ndim == 1:
        return "classification@1"
    is_flags = targets.ndim == 2 and bool(((targets == 0) | (targets == 1)).all())
    return "multilabel@1" if is_flags else "tokens@1"
