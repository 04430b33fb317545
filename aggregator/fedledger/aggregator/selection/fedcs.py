"""FedCS: ask as many as are done by a deadline."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.selection.base import DEVICES, SELECTIONS, Candidate, SelectionContext
from fedledger.aggregator.selection.sampling import require_count
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Whole


@SELECTIONS.register("fedcs@1")
@dataclass(frozen=True)
class FedCS(Checked):
    """Ask as many as can finish by a deadline, chosen greedily (Nishio and Yonetani 2019, algorithm 2).

    Uploads are thought to follow each other on a shared channel: with Θ the time when those chosen so far are done, one
    more, ready to upload after r and uploading for u, would be done at max(Θ, r) + u. The one that adds least is
    chosen next, the earlier address if equal, as long as that is within the deadline. Times come from the task's
    device table; who is not in it is not asked.

    Parameters
    ----------
    deadline_us
        The deadline.
    asked
        A uniform random sample of so many is considered; None: everybody.
    most
        At most so many are chosen; None: all that fit.
    """

    deadline_us: Annotated[int, Whole(1, 2**53 - 1)]
    asked: Annotated[int | None, Whole(1, 1_000_000)] = None
    most: Annotated[int | None, Whole(1, 1_000_000)] = None
    looks_at: ClassVar[frozenset[str]] = frozenset({DEVICES})

    def __call__(self, context: SelectionContext) -> list[str]:
        candidates, stream = context.candidates, context.stream
        places = list(range(len(candidates)))
        if self.asked is not None:
            require_count(self.asked, candidates)
            places = stream.sample(places, self.asked)
        chosen = self._fill(candidates, [place for place in places if candidates[place].duration is not None])
        if not chosen:
            raise ConfigError(
                f"No participant can be done within the selection's deadline of {self.deadline_us} µs.",
                "Give a later deadline, or a device table that names the participants.",
            )
        return sorted(candidates[place].address for place in chosen)

    def _fill(self, candidates: Sequence[Candidate], places: Sequence[int]) -> list[int]:
        """Return the places of those chosen, one after another, while the next one is done by the deadline."""
        # Who is not ready yet would be done at its duration, whatever Θ is; who is, adds its upload.
        waiting = [(candidates[place].duration or 0, place) for place in places]
        starting = [(time - candidates[place].upload, place) for time, place in waiting]
        heapq.heapify(waiting)
        heapq.heapify(starting)
        ready: list[tuple[int, int]] = []
        moved, chosen, done = set[int](), list[int](), 0
        while self.most is None or len(chosen) < self.most:
            while starting and starting[0][0] <= done:
                place = heapq.heappop(starting)[1]
                if place not in moved:
                    moved.add(place)
                    heapq.heappush(ready, (candidates[place].upload, place))
            while waiting and waiting[0][1] in moved:
                heapq.heappop(waiting)
            options = [(done + upload, place) for upload, place in ready[:1]] + waiting[:1]
            if not options or min(options)[0] > self.deadline_us:
                break
            done, place = min(options)
            heapq.heappop(waiting if waiting[:1] == [(done, place)] else ready)
            moved.add(place)
            chosen.append(place)
        return chosen
