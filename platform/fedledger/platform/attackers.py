"""Attackers for experiments: what they send instead of honest work. Detection never sees who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, RoundContext, Trainer
from fedledger.protocol.parameters import build, real
from fedledger.protocol.registry import Registry
from fedledger.protocol.streams import generator

Attack = Callable[..., Trainer]

ATTACKS: Registry[Attack] = Registry("attack", "fedledger.attacks")


@ATTACKS.register("sign_flip@1")
@dataclass(frozen=True)
class SignFlip:
    """Sends the opposite of an honest update, times ``factor``; of its further vectors as well."""

    honest: LocalTrainer
    factor: float = 1.0

    def __post_init__(self) -> None:
        real("factor", self.factor)

    def __call__(self, context: RoundContext) -> LocalUpdate:
        trained, factor = self.honest(context), np.float32(-self.factor)
        vectors = {name: factor * vector for name, vector in trained.vectors.items()}
        return replace(trained, delta=factor * trained.delta, vectors=vectors)


@ATTACKS.register("label_flip@1")
@dataclass(frozen=True)
class LabelFlip:
    """Trains on labels that are turned round: class c becomes the last class minus c."""

    honest: LocalTrainer

    def __call__(self, context: RoundContext) -> LocalUpdate:
        data = self.honest.dataset
        flipped = Dataset.of(data.inputs, data.classes - 1 - data.labels, classes=data.classes)
        return replace(self.honest, dataset=flipped)(context)


@ATTACKS.register("gaussian@1")
@dataclass(frozen=True)
class Gaussian:
    """Sends Gaussian noise of standard deviation ``deviation``."""

    honest: LocalTrainer
    deviation: float = 0.1

    def __post_init__(self) -> None:
        real("deviation", self.deviation)

    def __call__(self, context: RoundContext) -> LocalUpdate:
        noise = _noises(context, self.deviation)
        return LocalUpdate(
            next(noise), len(self.honest.dataset), 1, vectors=dict(zip(context.spec.vectors, noise, strict=False))
        )


@ATTACKS.register("free_rider@1")
@dataclass(frozen=True)
class FreeRider:
    """Does not train: sends the last round's step, hidden under a little noise; in the first round noise alone.

    As is everything that it sends besides.
    """

    honest: LocalTrainer
    deviation: float = 1e-3

    def __post_init__(self) -> None:
        real("deviation", self.deviation)

    def __call__(self, context: RoundContext) -> LocalUpdate:
        noise = _noises(context, self.deviation)
        last = 0 if context.before is None else context.base.vector - context.before.vector
        delta = last + next(noise)
        return LocalUpdate(
            delta, len(self.honest.dataset), 1, vectors=dict(zip(context.spec.vectors, noise, strict=False))
        )


@ATTACKS.register("duplicate@1")
@dataclass(frozen=True)
class Duplicate:
    """Sends what an accomplice sends, hidden under a little noise: one piece of work, two pays.

    The accomplice is ``honest`` of the participant that owns ``accomplice_address``.
    """

    honest: LocalTrainer
    accomplice_address: str
    deviation: float = 1e-4

    def __post_init__(self) -> None:
        real("deviation", self.deviation)

    def __call__(self, context: RoundContext) -> LocalUpdate:
        noise = _noises(context, self.deviation)
        trained = self.honest(replace(context, owner=self.accomplice_address))
        delta = trained.delta + next(noise)
        vectors = {name: trained.vectors[name] + next(noise) for name in sorted(trained.vectors)}
        return replace(trained, delta=delta, vectors=vectors)


def _noises(context: RoundContext, deviation: float) -> Iterator[NDArray[np.float32]]:
    """Yield vectors of Gaussian noise, as many as are asked for."""
    rng = generator(context.spec.digest, "attack", context.index, context.owner)
    while True:
        yield (rng.standard_normal(len(context.base.vector)) * deviation).astype(np.float32)


def attacker(method: str, params: dict[str, Any], honest: LocalTrainer) -> Trainer:
    """Return an attacker that could have been honest."""
    return build(ATTACKS, method, {**params, "honest": honest})
