"""Oort: ask those whose data and device promise most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, ClassVar

from fedledger.aggregator.selection.base import EVERYTHING, SELECTIONS, Candidate, SelectionContext
from fedledger.aggregator.selection.sampling import require_count, weighted_sample
from fedledger.protocol.arithmetic.logarithm import ln_ppm
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.parameters import Checked, Real, Whole
from fedledger.protocol.records.reputation import PPM, ppm


@SELECTIONS.register("oort@1")
@dataclass(frozen=True)
class Oort(Checked):
    """Ask those whose data and device promise most, and some unexplored ones (Lai et al. 2021, algorithm 1).

    Of the ``count``, a share ε is *explored*: drawn from those never selected, in proportion to their speed. The others
    are *exploited*. Candidate i, last selected in round L, has in round R the worth

        (U(i) / max U + √(0.1 ln R / L)) · (T / t(i))^α, the last factor only if its time t(i) is longer than T,

    with U above its ``clip`` quantile cut to that. They are drawn in proportion to their worth from those whose worth
    is at least ``cutoff`` times that of the last one that would be taken by rank.

    U is **not** the training loss of the paper, which only a participant knows and could make up. For an accepted
    update it is its examples × how much an eighth of it lowered the held-out loss (micro-nats): both are in the report.
    The loss can be measured again by anybody; the examples are self-reported and signed, and the spec caps them. An
    update that was refused, or did not lower the loss, has the utility 0. Of the paper this lacks the pacer (T is
    fixed) and the list of participants that were selected too often.

    Parameters
    ----------
    count
        How many are asked.
    preferred_us
        T; None: time does not matter.
    penalty
        α, a whole number.
    exploration, decay, least_exploration
        ε of the first round, its factor each round, and what it does not fall below.
    cutoff
        See above.
    clip
        Quantile of U above which it does not count.
    """

    count: Annotated[int, Whole(1, 1_000_000)]
    preferred_us: Annotated[int | None, Whole(1, 2**53 - 1)] = None
    penalty: Annotated[int, Whole(0, 1000)] = 2
    exploration: Annotated[float, Real(0, 1)] = 0.9
    decay: Annotated[float, Real(0, 1)] = 0.98
    least_exploration: Annotated[float, Real(0, 1)] = 0.2
    cutoff: Annotated[float, Real(0, 1)] = 0.95
    clip: Annotated[float, Real(0, 1)] = 0.95
    looks_at: ClassVar[frozenset[str]] = EVERYTHING

    def __call__(self, context: SelectionContext) -> list[str]:
        candidates, index, stream = context.candidates, context.round, context.stream
        require_count(self.count, candidates)
        known = [candidate for candidate in candidates if candidate.last_round]
        unknown = [candidate for candidate in candidates if not candidate.last_round]
        exploring = min(len(unknown), (self.count * self._share(index) + PPM // 2) // PPM)
        exploiting = min(len(known), self.count - exploring)
        exploring = self.count - exploiting
        chosen = [*self._exploit(known, exploiting, index, stream), *self._explore(unknown, exploring, stream)]
        return sorted(candidate.address for candidate in chosen)

    def _share(self, index: int) -> int:
        share, least = ppm(self.exploration), ppm(self.least_exploration)
        for _ in range(index - 1):
            if share <= least:
                break
            share = share * ppm(self.decay) // PPM
        return max(share, least)

    def _exploit(self, known: Sequence[Candidate], count: int, index: int, stream: Stream) -> list[Candidate]:
        if not count:
            return []
        ordered = sorted(candidate.utility for candidate in known)
        most = max(1, ordered[(len(ordered) - 1) * ppm(self.clip) // PPM])
        worths = [self._worth(candidate, most, index) for candidate in known]
        least = sorted(worths, reverse=True)[count - 1] * ppm(self.cutoff) // PPM
        pool = [place for place, worth in enumerate(worths) if worth >= least]
        drawn = weighted_sample([worths[place] for place in pool], count, stream)
        return [known[pool[place]] for place in drawn]

    def _worth(self, candidate: Candidate, most: int, index: int) -> int:
        """Return a candidate's worth in parts per million."""
        # √(0.1 ln R / L) in ppm is the root of 0.1 · (ln R in ppm) · PPM / L.
        bonus = isqrt(ln_ppm(index) * PPM // (10 * candidate.last_round))
        worth = min(candidate.utility, most) * PPM // most + bonus
        late = self.preferred_us is not None and (candidate.duration or 0) > self.preferred_us
        if late and self.preferred_us is not None and candidate.duration is not None:
            worth = worth * self.preferred_us**self.penalty // candidate.duration**self.penalty
        return worth

    def _explore(self, unknown: Sequence[Candidate], count: int, stream: Stream) -> list[Candidate]:
        times = [candidate.duration for candidate in unknown]
        slowest = max((time for time in times if time is not None), default=1)
        # Who tells no time counts as the slowest.
        speeds = [PPM * slowest // max(1, slowest if time is None else time) for time in times]
        return [unknown[place] for place in weighted_sample(speeds, count, stream)]
