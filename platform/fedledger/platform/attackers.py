"""Attackers for experiments: what they send instead of honest work. Detection never sees who they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.node.training import LocalTrainer, RoundContext, Trained, Trainer
from fedledger.protocol.parameters import build, real
from fedledger.protocol.registry import Registry
from fedledger.protocol.streams import generator

Attack = Callable[..., Trainer]

ATTACKS: Registry[Attack] = Registry("attack", "fedledger.attacks")


@ATTACKS.register("sign_flip@1")
@dataclass(frozen=True)
class SignFlip:
    """Sends the opposite of an honest update, times ``factor``."""

    honest: LocalTrainer
    factor: float = 1.0

    def __post_init__(self) -> None:
        real("factor", self.factor)

    def __call__(self, context: RoundContext) -> Trained:
        trained = self.honest(context)
        return replace(trained, delta=np.float32(-self.factor) * trained.delta)


@ATTACKS.register("label_flip@1")
@dataclass(frozen=True)
class LabelFlip:
    """Trains on labels that are turned round: class c becomes the last class minus c."""

    honest: LocalTrainer

    def __call__(self, context: RoundContext) -> Trained:
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

    def __call__(self, context: RoundContext) -> Trained:
        rng = generator(context.spec.digest, "attack", context.index, context.owner)
        noise = rng.standard_normal(len(context.base.vector)) * self.deviation
        return Trained(noise.astype(np.float32), len(self.honest.dataset), 1)


@ATTACKS.register("free_rider@1")
@dataclass(frozen=True)
class FreeRider:
    """Does not train: sends the last round's step, hidden under a little noise; in the first round noise alone."""

    honest: LocalTrainer
    deviation: float = 1e-3

    def __post_init__(self) -> None:
        real("deviation", self.deviation)

    def __call__(self, context: RoundContext) -> Trained:
        rng = generator(context.spec.digest, "attack", context.index, context.owner)
        noise = (rng.standard_normal(len(context.base.vector)) * self.deviation).astype(np.float32)
        last = 0 if context.before is None else context.base.vector - context.before.vector
        return Trained(last + noise, len(self.honest.dataset), 1)


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

    def __call__(self, context: RoundContext) -> Trained:
        rng = generator(context.spec.digest, "attack", context.index, context.owner)
        trained = self.honest(replace(context, owner=self.accomplice_address))
        noise = rng.standard_normal(len(trained.delta)) * self.deviation
        return replace(trained, delta=trained.delta + noise.astype(np.float32))


def attacker(method: str, params: dict[str, Any], honest: LocalTrainer) -> Trainer:
    """Return an attacker that could have been honest."""
    return build(ATTACKS, method, {**params, "honest": honest})
