"""What detectors compare an update with: the updates of its round that are not refused."""

from __future__ import annotations

import numpy as np

from fedledger.aggregator.context.round_features import median
from fedledger.aggregator.context.stage_context import StageContext


def reference_rows(context: StageContext) -> list[int]:
    """Return the places of the updates that are not refused; of all where all are."""
    standing: list[int] = np.flatnonzero(context.accepted).tolist()
    return standing or list(range(context.count))


def harm_limits(context: StageContext, factor: float) -> list[float]:
    """Return for each update the harm above which it stands out, in millionths of the loss's unit, never below 0.

    It is the median harm of the updates that are not refused plus ``factor`` median absolute deviations. Trust below
    that in a newcomer lowers it in proportion; a good name never raises it, since an attacker may earn one first.
    """
    seen = context.features
    harms = [seen.harm(i) for i in reference_rows(context)]
    middle = median(harms)
    spread = median([abs(harm - middle) for harm in harms])
    return [max(0.0, middle + factor * min(1.0, seen.trust(i)) * spread) for i in range(seen.count)]
