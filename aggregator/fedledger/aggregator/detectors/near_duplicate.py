"""Updates that repeat another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.round_features import Float64, RoundFeatures, median, median_of_array
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS, Finding
from fedledger.aggregator.detectors.reference import reference_rows
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict

_ALIKE = 2.0**-40
"""Far more than what doubles lose of a squared distance, relative to the squares it is the difference of."""


@DETECTORS.register("near_duplicate@1")
@dataclass(frozen=True)
class NearDuplicate(Checked):
    """Flag an update that repeats the last round's step or another update; of copies, the first address is kept.

    Nobody sees an update before it is committed, so two equal ones come from one hand, and paying one is enough.
    What counts as equal follows from how far apart the round's updates are (1 − cosine), since honest ones are
    close to each other where data are alike, and to the last step where training goes straight on.

    Parameters
    ----------
    closeness
        Share of the median distance, to the last step or between two updates, below which two count as one.
    """

    closeness: Annotated[float, Real(0, 1, below=True)] = 0.25
    verdict = Verdict.DUPLICATE

    def __call__(self, context: StageContext) -> list[bool]:
        seen = context.features
        n = seen.count
        apart = 1 - seen.cosines[:n, :n]
        back = 1 - seen.cosines[:n, seen.previous]
        pair = self.closeness * (median_of_array(apart[np.tri(n, k=-1, dtype=bool)]) if n > 1 else 0.0)
        flagged = back < self.closeness * median_of_array(back)
        close, alike = apart < pair, _perhaps_equal(seen)
        for i in np.flatnonzero(~flagged):
            stands = ~flagged[:i]
            others = np.flatnonzero(alike[i, :i] & stands).tolist()
            others += [seen.previous] if alike[i, seen.previous] else []
            flagged[i] = (close[i, :i] & stands).any() or _is_equal(seen, int(i), others)
        return [bool(flag) for flag in flagged]


@DETECTORS.register("near_duplicate@2")
@dataclass(frozen=True)
class RepeatedStep(Checked):
    """Flag an update that repeats the last round's step, which is public; likeness within a round refuses nobody.

    An update repeats the step if it is close to it, and much closer than the updates that are not refused; distances
    are 1 − cosine. Where training goes straight on, all are close, so nobody is flagged for that. Attackers who send
    something far away move the median no further than honest updates spread, and never move ``most``. An update that
    equals the step in every coordinate always repeats it.

    Parameters
    ----------
    closeness
        Share of the median distance to the last step below which an update repeats it.
    most
        Distance from which on no update repeats the step, however far away the others are.
    """

    closeness: Annotated[float, Real(0, 1, below=True)] = 0.25
    most: Annotated[float, Real(0, 1)] = 0.1
    verdict = Verdict.DUPLICATE

    def __call__(self, context: StageContext) -> Sequence[Finding | None]:
        seen = context.features
        # What is lost to rounding may make a cosine more than 1.
        away = np.maximum(1 - seen.cosines[: seen.count, seen.previous], 0.0).tolist()
        limit = min(self.most, self.closeness * median([away[i] for i in reference_rows(context)]))
        found: list[Finding | None] = []
        for i, distance in enumerate(away):
            excess = (limit - distance) / limit if distance < limit else 0.0
            if _is_equal(seen, i, [seen.previous]):
                excess = float("inf")
            found.append(Finding("distance to the last step", distance, limit, excess) if excess else None)
        return found


def _perhaps_equal(seen: RoundFeatures) -> NDArray[np.bool_]:
    """Return for each two rows whether they may be equal; False only where they are not."""
    squares = seen.products.diagonal()
    sums: Float64 = squares[:, None] + squares[None, :]
    alike: NDArray[np.bool_] = np.abs(sums - 2 * seen.products) <= _ALIKE * sums
    return alike


def _is_equal(seen: RoundFeatures, i: int, others: Sequence[int]) -> bool:
    """Whether update i equals one of others in every coordinate."""
    gram = seen.gram
    # The squared distance of two rows, exactly; two zeros are no copies but no work, which is norm's business.
    return bool(gram[i, i] > 0) and any(gram[i, i] + gram[j, j] == 2 * gram[i, j] for j in others)
