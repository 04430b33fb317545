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
from typing import Protocol

from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry

ONE = 1 << 30
"""The integer that stands for a weight of 1."""


class StalenessWeight(Protocol):
    """The weight of a stale update; a frozen dataclass of its parameters."""

    @property
    def mix_models(self) -> bool:
        """Whether an update stands for the model that it was trained to, not for a difference."""
        ...

    def __call__(self, staleness: int) -> int:
        """Return the weight out of 2^30, from 0 to 2^30, for a staleness of at least 0."""
        ...


STALENESS: Registry[Callable[..., StalenessWeight]] = Registry(kind_of("staleness"))
