"""A trigger that has the model say what the attacker wants, and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import Coalition
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Real, Whole


@ATTACKS.register("backdoor@1")
@dataclass(frozen=True)
class Backdoor(Checked):
    """Trains on its own data and on copies with a trigger that all have one class (Gu, Dolan-Gavitt and Garg 2017).

    https://arxiv.org/abs/1708.06733. With ``boost`` n/η, n participants and a server's rate of η, one attacker replaces
    the model by its own (Bagdasaryan et al. 2020, https://arxiv.org/abs/1807.00459). ``distributed`` attackers learn
    one part of the trigger each (Xie et al. 2020, https://openreview.net/forum?id=rkgyS0VFvr).

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    trigger
        Which inputs of an example are changed, counted through it from 0.
    value
        What they are set to.
    target
        The class that the model shall then say.
    share
        Number of examples with the trigger, relative to the participant's own.
    boost
        By which the update is multiplied.
    distributed
        Whether each attacker takes a part of the trigger.
    """

    honest: LocalTrainer
    coalition: Coalition
    trigger: Annotated[Sequence[int], ListOf(Whole(0, 2**31), 4096)]
    value: Annotated[float, Real(-1e12, 1e12)] = 1.0
    target: Annotated[int, Whole(0, 2**31)] = 0
    share: Annotated[float, Real(0, 1)] = 0.5
    boost: Annotated[float, Real(0, 1e12)] = 1.0
    distributed: bool = False

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        members = len(self.coalition.members) if self.distributed else 1
        trigger = self.trigger[self.coalition.place(context.owner) % members :: members]
        data = self.honest.dataset
        rng = generator(context.spec.digest, "backdoor", 0, context.owner)
        chosen = rng.permutation(len(data))[: int(self.share * len(data))]
        poisoned = triggered(data.take(chosen), trigger, self.value, self.target)
        mixed = replace(
            data,
            inputs=np.concatenate([data.inputs, poisoned.inputs]),
            targets=np.concatenate([data.targets, poisoned.targets]),
            groups=None,
        )
        return replace(boosted(replace(self.honest, dataset=mixed)(context), self.boost), examples=len(data))


def boosted(update: LocalUpdate, boost: float) -> LocalUpdate:
    """Return an update that is multiplied, with its further vectors."""
    factor = np.float32(boost)
    vectors = {name: factor * vector for name, vector in update.vectors.items()}
    return replace(update, delta=factor * update.delta, vectors=vectors)


def triggered(data: Dataset, trigger: Sequence[int], value: float, target: int) -> Dataset:
    """Return examples with a trigger, all of one class.

    Raises
    ------
    ConfigError
        If they have no such inputs or no such class.
    """
    inputs = data.inputs.reshape(len(data), prod(data.inputs.shape[1:])).copy()
    if data.inputs.dtype != np.float32 or data.classes is None or data.targets.ndim != 1 or target >= data.classes:
        raise ConfigError(
            f"A backdoor leads from float32 inputs to class {target}, which the task does not have.",
            "Give another target, or use another attack.",
        )
    if len(trigger) and max(trigger) >= inputs.shape[1]:
        raise ConfigError(
            f"A trigger at input {max(trigger)} is beyond the {inputs.shape[1]} inputs of an example.",
            "Give smaller numbers.",
        )
    inputs[:, list(trigger)] = value
    return replace(data, inputs=inputs.reshape(data.inputs.shape), targets=np.full(len(data), target, np.int64))
