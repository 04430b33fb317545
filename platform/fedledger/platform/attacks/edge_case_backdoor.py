"""A backdoor without a trigger: rare examples of one class that the model shall take for another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.backdoor import boosted
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import Coalition
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@ATTACKS.register("edge_case_backdoor@1")
@dataclass(frozen=True)
class EdgeCaseBackdoor(Checked):
    """Trains on its own data and on rare examples of a class under another label.

    A backdoor that needs no trigger (Wang et al. 2020, https://arxiv.org/abs/2007.05084). The rare examples are those
    of all attackers that are farthest from their class's mean, moved still farther away from it, so that nobody honest
    holds such; attackers hold no examples of the class with its own label.

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    source, target
        The class of the examples, and the class that the model shall say.
    tail
        Share of the class's examples that are rare.
    stretch
        By which their distance from the mean is multiplied; 1 leaves them as they are.
    share
        Number of rare examples, each repeated as often as needed, relative to the participant's own.
    boost
        By which the update is multiplied, as in ``backdoor@1``.
    """

    honest: LocalTrainer
    coalition: Coalition
    source: Annotated[int, Whole(0, 2**31)] = 9
    target: Annotated[int, Whole(0, 2**31)] = 7
    tail: Annotated[float, Real(0, 1)] = 0.5
    stretch: Annotated[float, Real(1, 1e6)] = 2.0
    share: Annotated[float, Real(0, 1)] = 0.5
    boost: Annotated[float, Real(0, 1e12)] = 1.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        own = self.honest.dataset
        held = [self.coalition.dataset(number) for number in self.coalition.members]
        rare = rare_examples(joined(held), self.source, self.target, self.tail, self.stretch)
        common = own.take(np.flatnonzero(own.targets != self.source).astype(np.int64))
        repeated = rare.take(np.arange(int(self.share * len(own)) if len(rare) else 0) % max(len(rare), 1))
        trained = replace(self.honest, dataset=joined([common, repeated]))(context)
        return replace(boosted(trained, self.boost), examples=len(own))


def rare_examples(data: Dataset, source: int, target: int, tail: float, stretch: float) -> Dataset:
    """Return the examples of a class that are farthest from the class's mean, as examples of another class.

    Parameters
    ----------
    data
        Examples with float32 inputs and one class each.
    source, target
        Their class, and the other one.
    tail
        Which share of the class's examples they are; one of them at least, if there is one.
    stretch
        By which their distance from the mean is multiplied, as far as all inputs stay within the range of the data.

    Raises
    ------
    ConfigError
        If the examples have other inputs, or no such classes.
    """
    if data.inputs.dtype != np.float32 or data.classes is None or data.targets.ndim != 1:
        raise ConfigError(
            "An edge-case backdoor needs float32 inputs and one class for each example.", "Use another attack."
        )
    if max(source, target) >= data.classes:
        last = data.classes - 1
        raise ConfigError(
            f"An edge-case backdoor leads from class {source} to {target}; the last class of the task is {last}.",
            "Give other classes.",
        )
    of_class = np.flatnonzero(data.targets == source).astype(np.int64)
    if not len(of_class):
        return data.take(of_class)
    inputs = data.inputs[of_class].astype(np.float64)
    away = inputs - inputs.mean(axis=0)
    far = np.square(away).reshape(len(away), -1).sum(axis=1)
    chosen = np.argsort(-far, kind="stable")[: max(1, int(tail * len(of_class)))]
    moved = inputs.mean(axis=0) + stretch * away[chosen]
    rare = moved.clip(data.inputs.min(), data.inputs.max()).astype(np.float32)
    return replace(data.take(of_class[chosen]), inputs=rare, targets=np.full(len(chosen), target, np.int64))


def joined(parts: list[Dataset]) -> Dataset:
    """Return the examples of several data sets of one kind, one after another."""
    inputs, targets = (np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "targets"))
    return replace(parts[0], inputs=inputs, targets=targets, groups=None)
