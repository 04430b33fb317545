"""What a model is worth on the test set, and what pages call it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

from fedledger.protocol.methods.catalogue import Method

if TYPE_CHECKING:
    from fedledger.learning.objectives.base import Objective

ACCURACY = "accuracy"
"""Name of the score that tables had before there were others; they still have a column of it."""


class TestedRow(TypedDict):
    """Loss and score in a table: a loss that is not finite is None, and an accuracy is also called so."""

    loss: float | None
    score: float
    accuracy: NotRequired[float]


class Tested(NamedTuple):
    """A model's loss and score on the test set.

    Parameters
    ----------
    loss
        Mean loss in the objective's unit; NaN or infinite where the model's outputs are.
    score
        What the objective counts, divided by its full score where it has one: an accuracy, or an error in units.
    """

    loss: float
    score: float

    def row(self, score_name: str) -> TestedRow:
        """Return them as columns of a table."""
        columns: TestedRow = {"loss": self.loss if math.isfinite(self.loss) else None, "score": self.score}
        if score_name == ACCURACY:
            columns["accuracy"] = self.score
        return columns


class ObjectiveSummary(TypedDict):
    """What ``run.json`` says of a task's objective."""

    name: str
    params: dict[str, Any]
    loss_name: str
    score_name: str
    lower_is_better: bool


def objective_summary(objective: Objective, method: Method | None) -> ObjectiveSummary:
    """Return the names of an objective, which is the code's own if no method is given."""
    return {
        "name": "objective() of task.py" if method is None else method.method,
        "params": {} if method is None else method.params,
        "loss_name": objective.loss_name,
        "score_name": objective.score_name,
        "lower_is_better": objective.lower_is_better,
    }
