"""Objectives that a task's own code brings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import PPM, Batch, Evaluated, Loss, Objective
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.records.measurement import MAX_SCORE

T = TypeVar("T")

LONGEST_NAME = 100
_CALLED = ("prepared", "check", "loss", "measure", "full_score", "tolerance")


class OwnObjective:
    """What a task's own objective may extend: all that is left to say is the loss.

    The score is the mean loss in millionths, and lower is better.

    Attributes
    ----------
    lowest
        A number that no loss is below, such as −10 of a log-density. It is subtracted where a model is measured, since
        a ledger holds no loss below 0.
    """

    lowest = 0.0
    loss_name = "loss"
    lower_is_better = True

    @property
    def score_name(self) -> str:
        """What a page calls the score: the loss."""
        return self.loss_name

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set as it is."""
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Take any outputs."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch."""
        raise NotImplementedError("an objective says its loss")

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Return the mean loss of the batches above the lowest in double precision, and the same in millionths."""
        total, count = 0.0, 0
        for outputs, targets, inputs in batches:
            total += float(self.loss(outputs.double(), _double(targets), _double(inputs))) * len(outputs)
            count += len(outputs)
        mean = total / count - self.lowest
        if not math.isfinite(mean):
            # Python takes 0 for the larger of 0 and NaN, which would be the best loss that there is.
            return Evaluated(mean, MAX_SCORE)
        return Evaluated(mean, round(max(0.0, mean) * PPM) if mean < 2.0**30 else MAX_SCORE)

    def full_score(self, targets: torch.Tensor) -> int:
        """Return a million: a score is shown as a loss."""
        return PPM

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return two thousandths of the full score, and at least 1."""
        return max(1, self.full_score(targets) // 500)


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _float(value: float) -> float:
    """Return a number as a double; infinite where it is a whole number beyond all doubles."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@dataclass(frozen=True)
class Guarded:
    """An objective of a task's own code, whose mistakes are told in sentences.

    Parameters
    ----------
    own
        What the code returned.
    what
        What it is called in messages.
    loss_name, score_name, lower_is_better
        As it says.
    """

    own: Objective
    what: str
    loss_name: str
    score_name: str
    lower_is_better: bool

    @classmethod
    def of(cls, made: Any, what: str) -> Guarded:
        """Return a task's own objective.

        Raises
        ------
        ConfigError
            If it lacks anything of `Objective`.
        """
        remedy = "Return an instance of a class that extends fedledger.learning.objectives.own.OwnObjective."
        lacking = [name for name in _CALLED if not callable(getattr(made, name, None))]
        if isinstance(made, type) or lacking:
            kind = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
            tells = "" if isinstance(made, type) else f", which has no {lacking[0]}()"
            raise ConfigError(f"{what} returned {kind}{tells}.", remedy)
        names = [getattr(made, name, None) for name in ("loss_name", "score_name")]
        if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() for name in names):
            raise ConfigError(
                f"{what} returned an objective without loss_name or score_name.",
                f"Give each as a text of at most {LONGEST_NAME} characters.",
            )
        lower = getattr(made, "lower_is_better", None)
        if not isinstance(lower, bool):
            raise ConfigError(f"{what} returned an objective without lower_is_better.", "Give true or false.")
        return cls(made, what, str(names[0]), str(names[1]), lower)

    @property
    def loss(self) -> Loss:
        """The loss, as the task's code computes it."""
        return self.own.loss

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return what the code makes of a data set."""
        found = self._call("prepared", self.own.prepared, dataset)
        if not isinstance(found, Dataset):
            raise self._wrong("prepared", found, "a Dataset")
        return found

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check outputs as the code does."""
        self._call("check", self.own.check, outputs, targets, inputs, classes)

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model as the code does."""
        found = self._call("measure", self.own.measure, batches)
        if not isinstance(found, tuple) or not 2 <= len(found) <= 3:
            raise self._wrong("measure", found, "a loss and a score")
        loss, score, margin = found if len(found) == 3 else (*found, None)
        if isinstance(loss, bool) or not isinstance(loss, Real):
            raise self._wrong("measure", loss, "a loss that is a number")
        if margin is not None and (isinstance(margin, bool) or not isinstance(margin, Real)):
            raise self._wrong("measure", margin, "a margin that is a number")
        return Evaluated(_float(loss), self._whole("measure", score), None if margin is None else _float(margin))

    def full_score(self, targets: torch.Tensor) -> int:
        """Return what the code says a score is divided by."""
        return self._whole("full_score", self._call("full_score", self.own.full_score, targets))

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return how far the code says that a score may be off."""
        return self._whole("tolerance", self._call("tolerance", self.own.tolerance, targets))

    def _call(self, name: str, call: Callable[..., T], *arguments: object) -> T:
        try:
            return call(*arguments)
        except (FedledgerError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise ConfigError(
                f"{name}() of the objective of {self.what} raised {type(error).__name__}: {error}.",
                "Correct the task's code.",
            ) from error

    def _whole(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise self._wrong(name, value, "a whole number of at least 0 as a score")
        return min(int(value), MAX_SCORE)

    def _wrong(self, name: str, value: object, wanted: str) -> ConfigError:
        return ConfigError(
            f"{name}() of the objective of {self.what} returned {type(value).__name__}.", f"Make it return {wanted}."
        )
