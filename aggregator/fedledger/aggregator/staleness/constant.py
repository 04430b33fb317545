"""Stale updates count like fresh ones."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.aggregator.staleness.base import ONE, STALENESS


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
