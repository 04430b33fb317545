"""The objective of a task, from its configuration or its own code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Objective, Settling, build_objective
from fedledger.learning.objectives.classification import Classification
from fedledger.learning.objectives.multilabel import Multilabel
from fedledger.learning.replayable.measurement import ExactObjective
from fedledger.learning.task_code import TaskCode
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.spec import Tolerance


class TaskObjective(NamedTuple):
    """An objective, and how the task's spec names it: None if it is the code's own."""

    objective: Objective
    method: Method | None


def task_objective(config: ExperimentConfig, own: TaskCode | None, validation: Dataset | None = None) -> TaskObjective:
    """Return a task's objective.

    Parameters
    ----------
    config, own
        The configuration, and the task's own code, if it has some.
    validation
        The held-out examples, from which parameters follow that the configuration leaves out; unless given, they stay
        open.

    Raises
    ------
    ConfigError
        If neither names one, both do, or its parameters do not suit.
    """
    found = _named(config, own, validation)
    if config.training.measurement == "exact":
        return found._replace(objective=ExactObjective(found.objective))
    return found


def _named(config: ExperimentConfig, own: TaskCode | None, validation: Dataset | None) -> TaskObjective:
    method = config.training.objective
    if own is not None and own.has_objective:
        if "objective" in config.training.model_fields_set and method is not None:
            raise ConfigError(
                f"The configuration names the objective {method.method}, and the task.py defines objective().",
                "Leave one of them out.",
            )
        return TaskObjective(own.objective(), None)
    if method is None:
        raise ConfigError("The task has no objective.", "Name one under [training], or define objective() in task.py.")
    objective = build_objective(method.method, method.params)
    if validation is not None and isinstance(objective, Settling):
        method = Method(method=method.method, params=dict(objective.settled(validation)))
        objective = build_objective(method.method, method.params)
    return TaskObjective(objective, method)


def require_pairs(
    objective: Objective, validation: Dataset, test: Dataset, judged: Sequence[NDArray[Any]] = ()
) -> None:
    """Raise ConfigError if an area under the curve is the score of held-out examples that have no pair to count.

    ``judged`` are targets of parts of the validation set on which rounds are judged.
    """
    if isinstance(objective, ExactObjective):
        objective = objective.own
    if not isinstance(objective, Classification | Multilabel):
        return
    for name, held_out in (("validation", validation), ("test", test)):
        if not objective.full_score(torch.from_numpy(held_out.targets)):
            raise ConfigError(
                f"The {name} set has {len(held_out)} examples that are all alike in their targets, so that there is no "
                f"pair to count for the {objective.score_name}.",
                f"Give more examples of the rare class, a larger data.{name}_fraction, or another score.",
            )
    for targets in judged:
        if not objective.full_score(torch.from_numpy(targets)):
            raise ConfigError(
                f"A round may be judged on {len(targets)} examples that are all alike in their targets, so that there "
                f"is no pair to count for the {objective.score_name}.",
                "Give a larger data.validation_slice, more examples of the rare class, or another score.",
            )


def task_tolerance(given: Tolerance, found: TaskObjective, judged: Sequence[NDArray[Any]]) -> Tolerance:
    """Return a task's tolerance: that of its objective for scores on any of some examples' targets, unless given."""
    is_classes = found.method == Method(method="classification@1")
    if isinstance(found.objective, ExactObjective):
        none = Tolerance.none(not is_classes)
        if given not in (Tolerance(), none):
            raise ConfigError("Exact measurements tolerate nothing.", "Leave out the tolerance.")
        return none
    if is_classes or given.score is not None:
        return given
    most = max(found.objective.tolerance(torch.from_numpy(targets)) for targets in judged)
    return given.model_copy(update={"score": most})
