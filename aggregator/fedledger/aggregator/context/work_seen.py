"""What is known of everybody's work in a round, and over the rounds before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import Float64Array, IntArray

CHANCE, NO_CHANCE = 1.0, 1.6
"""An overlap that is chance, and one that is work."""
MANY_OTHERS = 9
"""With so many others, one round says all that it can."""


@dataclass(frozen=True)
class WorkSeen:
    """What a round shows of each update beyond what is public, as the accepted updates judge it.

    All arrays have one entry an update. What is *lasting* is a mean over the sender's rounds that fades, so that a
    recent round weighs more than an earlier one.

    Parameters
    ----------
    absent
        Whether an update holds nothing beyond what is public, bool[n].
    overlap
        How much more it has in common with the others than coordinates of random signs would have, as a ratio.
    corroboration
        Its mean cosine to the others beyond what is public, without the largest and the smallest ones, over the median
        one of this round or of all, whichever is larger.
    lasting, lasting_error
        Its sender's lasting work over the median sender's, and the standard error: corroboration, or, as far as
        directions say nothing, whether the overlap is more than chance.
    direction, direction_error
        Likewise, of corroboration alone.
    likely
        The lasting direction, with its error added as far as directions say nothing.
    rounds
        Over how many rounds that is, less than there were as it fades.
    clarity, clarity_now
        How much the directions of updates say of who works, of late and in this round, from 0 to 1: nothing once the
        model learns no more.
    gain
        How far a share of the update moves what is measured, over what updates usually do.
    lasting_gain
        Its lasting mean.
    harm
        The cumulative sum of losses beyond what is common (Page 1954).
    common_loss
        A lasting gain below 0 down to which nothing is held against the sender where updates agree.
    support
        The lasting share of the update that more others support than may be hostile, over the median update's.
    alike
        Whether two updates are copies of each other, bool[n, n].
    agreement
        How far all that was accepted up to some round pointed one way, from 0 to 1: the most so far.
    keep
        Returns what the next round needs to know, int64 arrays by name.
    """

    absent: NDArray[np.bool_]
    overlap: Float64Array
    corroboration: Float64Array
    lasting: Float64Array
    lasting_error: Float64Array
    direction: Float64Array
    direction_error: Float64Array
    likely: Float64Array
    rounds: Float64Array
    clarity: float
    clarity_now: float
    gain: Float64Array
    lasting_gain: Float64Array
    harm: Float64Array
    common_loss: Float64Array
    support: Float64Array
    alike: NDArray[np.bool_]
    agreement: float
    keep: Callable[[], Mapping[str, IntArray]]

    def copies(self, counted: NDArray[np.bool_]) -> list[int]:
        """Return how many of the updates that count are copies of each one, itself included."""
        others = self.alike & counted[None, :]
        np.fill_diagonal(others, False)
        return [1 + int(count) for count in others.sum(axis=1)]


def certainty(count: int) -> float:
    """Return how much one round says of one of so many updates, up to 1: few others agree by chance, or do not."""
    return min(1.0, max(1, count - 1) / MANY_OTHERS)


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to ``low``, 1 from ``high`` on, and what is on the straight line in between."""
    if value >= high:
        return 1.0
    return 0.0 if value <= low else (value - low) / (high - low)
