"""FLAME (Nguyen et al. 2022, https://arxiv.org/abs/2101.02281)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.clusters import majority_cluster
from fedledger.aggregator.context.geometry import cosines
from fedledger.aggregator.rules.base import ONE, RULES, Combination, LinearRule, RuleContext
from fedledger.protocol.arithmetic.exact import LIMIT, IntArray, divide_round
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.parameters import Checked, Real

_TOSSES = 64
_STEPS = 1 << 16
_DEVIATION = 262_826
"""√(64 / 4 + 1 / 12) · 2^16, the standard deviation of the sum that stands for a Gaussian number."""
_AT_ONCE = 1 << 10
_MOST = LIMIT >> 2
"""Largest standard deviation, whose products with a sum fit."""


@RULES.register("flame@1")
@dataclass(frozen=True)
class Flame(Checked, LinearRule):
    """The weighted mean of the majority that points one way, clipped to the median norm, plus a little noise.

    Admitted are the rows of the closest cluster of more than half of the rows, by cosine distance, as HDBSCAN finds it.
    An admitted row longer than the median of all norms (the mean of the middle two for an even number) is shortened to
    that, and each coordinate of the mean gets Gaussian noise of a standard deviation of ``noise`` times the median
    norm, from the round's random stream. Statistics of a model are neither shortened nor noised.

    Parameters
    ----------
    noise
        The noise's standard deviation in each coordinate, as a share of the median norm.
    """

    noise: Annotated[float, Real(0, 1)] = 0.001

    def __call__(self, context: RuleContext) -> Combination:
        admitted = majority_cluster(1.0 - cosines(context.gram))
        norms = np.sqrt(context.gram.diagonal().astype(np.float64)).tolist()
        ordered = sorted(norms)
        median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        total = sum(context.weights[place] for place in admitted)
        coefficients = [0] * len(norms)
        for place in admitted:
            scale = 1.0 if context.by_value or norms[place] <= median else median / norms[place]
            coefficients[place] = context.weights[place] * round(scale * ONE)
        deviation = 0 if context.by_value else min(_MOST, round(self.noise * median / self._shared(context)))
        plus = _gaussian(context.round.draws(), context.dimension, deviation) if deviation else None
        return Combination(coefficients, total * ONE, {"selected": admitted, "deviation": deviation}, plus)

    @staticmethod
    def _shared(context: RuleContext) -> int:
        """Return how many times as long the rows are in whole numbers, as mixed ones are kept."""
        return 1 if context.mixture is None else context.mixture.share


def _gaussian(stream: Stream, count: int, deviation: int) -> IntArray:
    """Return int64[count] of nearly Gaussian numbers with a standard deviation of at most 2^38, from bits alone.

    Each is the number of heads of 64 tosses, about its mean, and a uniform fraction: a smooth binomial distribution,
    whose excess kurtosis is -.03 and which ends at eight standard deviations.
    """
    drawn = []
    for start in range(0, count, _AT_ONCE):
        some = min(_AT_ONCE, count - start)
        tosses = np.frombuffer(stream.bytes(8 * some), ">u8")
        fractions = np.frombuffer(stream.bytes(2 * some), ">u2").astype(np.int64)
        heads = np.bitwise_count(tosses).astype(np.int64)
        # In halves of a step, so that the mean is 0.
        halves = 2 * _STEPS * (heads - _TOSSES // 2) + 2 * fractions - (_STEPS - 1)
        drawn.append(divide_round(halves * deviation, 2 * _DEVIATION))
    return np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
