"""How much an update counts that is relative to an earlier model than the one its round starts from.

Each validated update is scaled by its weight s(τ) before anything looks at it, τ being how many models back its base
lies. With the mean this is the aggregate of FedBuff, Σ wᵢ s(τᵢ) δᵢ / Σ wᵢ (Nguyen et al. 2022,
https://arxiv.org/abs/2106.06639, algorithm 1): stale updates are damped, and the fresh ones do not get what they lose.
Any other rule sees the same vectors. An update of staleness 0 is never touched.

With ``mix_models`` an update stands for the model that it was trained to, as in FedAsync (Xie et al. 2019,
https://arxiv.org/abs/1903.03934): x ← (1 − α s) x + α s (x_base + δ) = x + α s ((x_base − x) + δ), so the difference of
the two base models is added before the weight applies, and α is the server's learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.exact import IntArray, scaled
from fedledger.protocol.parameters import build, real, whole
from fedledger.protocol.registry import Registry
from fedledger.protocol.spec import TaskSpec

ONE = 1 << 30
"""The integer that stands for a weight of 1."""
MAX_HALVES = 64


class StalenessWeight(Protocol):
    """The weight of a stale update; a frozen dataclass of its parameters."""

    @property
    def mix_models(self) -> bool:
        """Whether an update stands for the model that it was trained to, not for a difference."""
        ...

    def __call__(self, staleness: int) -> int:
        """Return the weight out of 2^30, from 0 to 2^30, for a staleness of at least 0."""
        ...


STALENESS: Registry[Callable[..., StalenessWeight]] = Registry("staleness weight", "fedledger.staleness")


@STALENESS.register("constant@1")
@dataclass(frozen=True)
class Constant:
    """s(τ) = 1: a stale update counts like a fresh one (Xie et al. 2019, section 5.2).

    Parameters
    ----------
    mix_models
        See the module.
    """

    mix_models: bool = False

    def __call__(self, staleness: int) -> int:
        return ONE


@STALENESS.register("polynomial@1")
@dataclass(frozen=True)
class Polynomial:
    """s(τ) = (1 + τ)^−a (Xie et al. 2019, section 5.2).

    Parameters
    ----------
    exponent
        a, a multiple of ½ up to 32: so that products, quotients and square roots suffice.
    mix_models
        See the module.
    """

    exponent: float = 0.5
    mix_models: bool = False

    def __post_init__(self) -> None:
        halves = 2 * real("exponent", self.exponent)
        if halves != int(halves) or halves > MAX_HALVES:
            raise ConfigError(f"exponent is {self.exponent!r}.", "Give a multiple of 0.5, up to 32.")

    def __call__(self, staleness: int) -> int:
        value, age = 1.0, float(1 + staleness)
        wholes, half = divmod(int(2 * self.exponent), 2)
        for _ in range(wholes):
            value /= age
        return round(ONE * (value / sqrt(age) if half else value))


@STALENESS.register("hinge@1")
@dataclass(frozen=True)
class Hinge:
    """s(τ) = 1 up to τ = b, and 1 / (a (τ − b) + 1) beyond (Xie et al. 2019, section 5.2).

    Parameters
    ----------
    a
        How fast the weight falls, above 0.
    b
        Largest staleness that costs nothing.
    mix_models
        See the module.
    """

    a: float = 10.0
    b: int = 4
    mix_models: bool = False

    def __post_init__(self) -> None:
        real("a", self.a, above=True)
        whole("b", self.b, 0)

    def __call__(self, staleness: int) -> int:
        return ONE if staleness <= self.b else round(ONE / (self.a * (staleness - self.b) + 1.0))


@STALENESS.register("fedbuff@1")
@dataclass(frozen=True)
class FedBuff:
    """s(τ) = 1 / √(1 + τ) (Nguyen et al. 2022, section 5).

    Parameters
    ----------
    mix_models
        See the module.
    """

    mix_models: bool = False

    def __call__(self, staleness: int) -> int:
        return round(ONE / sqrt(1.0 + staleness))


def staleness_weight(spec: TaskSpec) -> StalenessWeight:
    """Return the weight that a spec names; without one every update counts alike."""
    return Constant() if spec.staleness is None else build(STALENESS, spec.staleness.method, spec.staleness.params)


def shifts(spec: TaskSpec) -> bool:
    """Return whether the base models of stale updates are needed, and not their digests alone."""
    return spec.staleness is not None and staleness_weight(spec).mix_models


def damped(delta: IntArray, weight: int, shift: IntArray | None = None, limit: int | None = None) -> IntArray:
    """Return a stale update as the round sees it: (shift + delta) · weight / 2^30, rounded once, halves to even.

    Parameters
    ----------
    delta
        The update, int64[d] in fixed point.
    weight
        Its weight out of 2^30.
    shift
        What its base model exceeds the round's by, int64[d]; None: it stands for a difference.
    limit
        Largest magnitude of a coordinate of their sum, beyond which it is cut; a spec's bound in fixed point.

    Raises
    ------
    ConfigError
        If the weight is not from 0 to 1.
    """
    if not 0 <= weight <= ONE:
        raise ConfigError(f"A staleness weight of {weight} / 2^30 is not from 0 to 1.", "Choose another method.")
    if shift is not None:
        moved = delta + shift
        delta = moved if limit is None else np.clip(moved, -limit, limit)
    return scaled(delta, weight, ONE)
