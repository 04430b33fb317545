"""What an objective is: the loss that training minimises, and how a model is measured on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch

from fedledger.learning.data import Dataset
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry


class Evaluated(NamedTuple):
    """What a model is worth on some examples.

    Parameters
    ----------
    loss
        Mean loss in the objective's unit, not negative; NaN or infinite where the model's outputs are.
    score
        What the objective counts, a whole number of at least 0.
    """

    loss: float
    score: int


class Objective(Protocol):
    """A frozen dataclass of its parameters."""

    loss_name: ClassVar[str]
    """What a page calls the loss, with its unit, such as ``"cross-entropy (nats)"``."""
    score_name: ClassVar[str]
    """What a page calls the score, such as ``"accuracy"``."""
    lower_is_better: ClassVar[bool]
    """Whether the smaller of two scores is better."""

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return a data set whose targets have the type that this objective computes with.

        Raises
        ------
        ConfigError
            If they are none of this objective's; the message names the objective that they suit.
        """
        ...

    def check(self, outputs: torch.Tensor, dataset: Dataset) -> None:
        """Raise ConfigError unless these are a model's outputs for the first examples of a data set."""
        ...

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch, which training minimises."""
        ...

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> Evaluated:
        """Measure a model by its outputs for all held-out examples, in double precision."""
        ...

    def full_score(self, targets: torch.Tensor) -> int:
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
