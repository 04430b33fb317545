"""What participants claim of their own losses, cut so that a claim is worth little more than the median one.

No one can check F_k, the loss of a round's starting model on a participant's own examples. So a claim counts between a
64th of the round's median and twice it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.protocol.errors import ConfigError

MOST, LEAST = 2, 64
"""A loss counts as at most so many times the median, and at least as this part of it."""


def start_losses(known: StageContext, places: Sequence[int]) -> tuple[list[int], int]:
    """Return the losses of some of a round's updates as they count, and their median, in fixed point, all above 0.

    Of an even number the median is the lower of the two in the middle, so that at least half of all others claim as
    much as it or more.

    Parameters
    ----------
    known
        The round.
    places
        The updates, at least one.

    Raises
    ------
    ConfigError
        If the round's updates do not tell their losses.
    """
    if not known.start_losses:
        raise ConfigError(
            "The aggregation rule rests on participants' own losses, which the round's updates do not tell.",
            "Choose another rule, or have updates carry the vector start_loss.",
        )
    claimed = [known.start_losses[place] for place in places]
    median = max(1, sorted(claimed)[(len(claimed) - 1) // 2])
    least = -(-median // LEAST)
    return [min(max(loss, least), MOST * median) for loss in claimed], median
