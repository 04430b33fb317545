"""What scores come to by counting, where the ledger and Python sort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from fedledger.protocol.records.scores import Tally

WORST = 32_766


def counted(
    given_: Sequence[Sequence[int]],
    drawn: int,
    spread: int,
    floor: int,
    excused: Sequence[int],
    barred: Sequence[int],
) -> Tally:
    """Count instead of sorting: a lower median is the least value that at least half of the values do not exceed."""

    def median(values: list[int]) -> int:
        return min(v for v in values if 2 * sum(other <= v for other in values) >= len(values))

    if drawn < 3 or 2 * len(given_) < drawn + 1:
        return Tally()
    medians = []
    for update in range(len(given_[0]) if given_ else 0):
        valid = [row[update] for row in given_ if row[update] != 0]
        may = drawn - barred[update]
        medians.append(median(valid) if len(valid) > 1 and 2 * len(valid) > may else 0)
    known = [m for m in medians if m]
    if len(known) < 3:
        return Tally(tuple(medians))
    middle = median(known)
    width = max(floor, math.floor(Fraction(spread, 4) * median([abs(m - middle) for m in known])))
    width = min(width, WORST)
    limit = min(WORST, middle + width)
    outvoted = tuple(u for u, m in enumerate(medians) if m > limit)
    far = []
    for place, row in enumerate(given_):
        apart = [abs(s - m) for s, m in zip(row, medians, strict=True) if s and m]
        apart += [WORST + 1] * (len(known) - excused[place] - len(apart))
        if Fraction(sum(a > width for a in apart), max(1, len(apart))) > Fraction(1, 4):
            far.append(place)
    return Tally(tuple(medians), limit, outvoted, tuple(far))
