"""Selection: which of the enrolled participants a round asks.

A selection is replayed by audits, so all that it looks at follows from the ledger, from reports and from the task's
device table, and it computes with whole numbers alone. What enters as a real number, a parameter, is first rounded to
parts per million.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import ClassVar, Protocol

from fedledger.protocol.devices import DeviceTable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import real, whole
from fedledger.protocol.registry import Registry
from fedledger.protocol.reputation import PPM
from fedledger.protocol.streams import Stream

RECORD, REPORTS, DEVICES = "record", "reports", "devices"
EVERYTHING = frozenset({RECORD, REPORTS, DEVICES})
LN_2_PPM = 693_147
_LOG_BITS = 20


@dataclass(frozen=True)
class Candidate:
    """A participant that a round may ask.

    Parameters
    ----------
    address
        Its owner.
    reputation
        Parts per million, by the verdicts of the task's rounds before; 0 if the selection does not look at the record.
    examples
        How many examples counted in its last judged update; 0 if there is none.
    utility
        What that update was good for: see :class:`Oort`.
    last_round
        The last round it was selected in; 0: in none.
    duration
        What a round takes it in µs, by the task's device table; None if that does not tell.
    upload
        How much of that its upload takes.
    """

    address: str
    reputation: int
    examples: int = 0
    utility: int = 0
    last_round: int = 0
    duration: int | None = None
    upload: int = 0


class Selection(Protocol):
    """Chooses participants; a frozen dataclass of its parameters.

    A class attribute ``looks_at`` may say which of ``"record"``, ``"reports"`` and ``"devices"`` it needs, so that
    nothing else is read: reputation and last round are of the record, examples and utility of the reports, times of
    the devices.
    """

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        """Return the addresses chosen for round ``index`` of ``candidates``, which come sorted by address."""
        ...


SELECTIONS: Registry[Callable[..., Selection]] = Registry("selection", "fedledger.selections")


@SELECTIONS.register("all@1")
@dataclass(frozen=True)
class All:
    """Ask everybody."""

    looks_at: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        return [candidate.address for candidate in candidates]


@SELECTIONS.register("uniform@1")
@dataclass(frozen=True)
class Uniform:
    """Ask a uniform random sample.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: int
    looks_at: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        whole("count", self.count)

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        _require(self.count, candidates)
        return sorted(candidate.address for candidate in stream.sample(candidates, self.count))


@SELECTIONS.register("reputation@1")
@dataclass(frozen=True)
class ByReputation:
    """Ask a random sample, drawn one by one with probability in proportion to reputation.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: int
    looks_at: ClassVar[frozenset[str]] = frozenset({RECORD})

    def __post_init__(self) -> None:
        whole("count", self.count)

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        _require(self.count, candidates)
        weights = [candidate.reputation for candidate in candidates]
        return sorted(candidates[place].address for place in weighted_sample(weights, self.count, stream))


@SELECTIONS.register("oort@1")
@dataclass(frozen=True)
class Oort:
    """Ask those whose data and device promise most, and some that are not known yet (Lai et al. 2021, algorithm 1).

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

    count: int
    preferred_us: int | None = None
    penalty: int = 2
    exploration: float = 0.9
    decay: float = 0.98
    least_exploration: float = 0.2
    cutoff: float = 0.95
    clip: float = 0.95
    looks_at: ClassVar[frozenset[str]] = EVERYTHING

    def __post_init__(self) -> None:
        whole("count", self.count)
        whole("penalty", self.penalty, 0)
        if self.preferred_us is not None:
            whole("preferred_us", self.preferred_us)
        for name in ("exploration", "decay", "least_exploration", "cutoff", "clip"):
            if real(name, getattr(self, name)) > 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}.", "Give a number from 0 to 1.")

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        _require(self.count, candidates)
        known = [candidate for candidate in candidates if candidate.last_round]
        unknown = [candidate for candidate in candidates if not candidate.last_round]
        exploring = min(len(unknown), (self.count * self._share(index) + PPM // 2) // PPM)
        exploiting = min(len(known), self.count - exploring)
        exploring = self.count - exploiting
        chosen = [*self._exploit(known, exploiting, index, stream), *self._explore(unknown, exploring, stream)]
        return sorted(candidate.address for candidate in chosen)

    def _share(self, index: int) -> int:
        share, least = _ppm(self.exploration), _ppm(self.least_exploration)
        for _ in range(index - 1):
            if share <= least:
                break
            share = share * _ppm(self.decay) // PPM
        return max(share, least)

    def _exploit(self, known: Sequence[Candidate], count: int, index: int, stream: Stream) -> list[Candidate]:
        if not count:
            return []
        ordered = sorted(candidate.utility for candidate in known)
        most = max(1, ordered[(len(ordered) - 1) * _ppm(self.clip) // PPM])
        worths = [self._worth(candidate, most, index) for candidate in known]
        least = sorted(worths, reverse=True)[count - 1] * _ppm(self.cutoff) // PPM
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


@SELECTIONS.register("fedcs@1")
@dataclass(frozen=True)
class FedCS:
    """Ask as many as can be done by a deadline, found greedily (Nishio and Yonetani 2019, algorithm 2).

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

    deadline_us: int
    asked: int | None = None
    most: int | None = None
    looks_at: ClassVar[frozenset[str]] = frozenset({DEVICES})

    def __post_init__(self) -> None:
        whole("deadline_us", self.deadline_us)
        for name in ("asked", "most"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        places = list(range(len(candidates)))
        if self.asked is not None:
            _require(self.asked, candidates)
            places = stream.sample(places, self.asked)
        # Who is not ready yet would be done at its duration, whatever Θ is; who is, adds its upload.
        timed = [(time, place) for place in places if (time := candidates[place].duration) is not None]
        waiting, starting = timed, [(time - candidates[place].upload, place) for time, place in timed]
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
        if not chosen:
            raise ConfigError(
                f"No participant can be done within the selection's deadline of {self.deadline_us} µs.",
                "Give a later deadline, or a device table that names the participants.",
            )
        return sorted(candidates[place].address for place in chosen)


def timed(candidates: Sequence[Candidate], table: DeviceTable | None) -> list[Candidate]:
    """Return candidates with what a round takes them, as far as a device table tells."""
    names = {} if table is None else {address.lower(): address for address in table.devices}

    def told(candidate: Candidate) -> Candidate:
        name = names.get(candidate.address.lower())
        trip = None if table is None or name is None else table.nominal(name)
        if trip is None or trip.failure is not None:
            return candidate
        return replace(candidate, duration=trip.duration_us, upload=trip.upload_us)

    return [told(candidate) for candidate in candidates]


def weighted_sample(weights: Sequence[int], count: int, stream: Stream) -> list[int]:
    """Return ``count`` distinct places, drawn one by one with probability in proportion to what is left of the weights.

    A weight below 1 counts as 1, so that there is always somebody to draw.
    """
    # A binary indexed tree: a draw and a removal each take a logarithm of the number of weights.
    size = len(weights)
    left = [max(1, weight) for weight in weights]
    tree = [0, *left]
    for node in range(1, size + 1):
        parent = node + (node & -node)
        if parent <= size:
            tree[parent] += tree[node]
    total, drawn = sum(left), []
    for _ in range(count):
        aim, place = stream.below(total), 0
        step = 1 << size.bit_length()
        while step:
            if place + step <= size and tree[place + step] <= aim:
                place += step
                aim -= tree[place]
            step >>= 1
        drawn.append(place)
        total -= left[place]
        node = place + 1
        while node <= size:
            tree[node] -= left[place]
            node += node & -node
    return drawn


def ln_ppm(value: int) -> int:
    """Return the natural logarithm of a whole number of at least 1, in parts per million, by squaring alone."""
    exponent = value.bit_length() - 1
    mantissa = (value << 62) >> exponent
    bits = exponent
    for _ in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> 62
        carry = mantissa >> 63
        mantissa >>= carry
        bits = bits << 1 | carry
    return bits * LN_2_PPM >> _LOG_BITS


def _ppm(value: float) -> int:
    return round(value * PPM)


def _require(count: int, candidates: Sequence[Candidate]) -> None:
    if count > len(candidates):
        raise ConfigError(
            f"The selection asks for {count} participants of {len(candidates)}.",
            "Lower the count, or enrol more participants.",
        )
