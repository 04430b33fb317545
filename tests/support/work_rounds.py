"""Rounds of vectors, of which the honest share a signal, and what plain doubles say of everybody's work in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import CHANCE, NO_CHANCE, WorkSeen, ramp
from fedledger.aggregator.evidence import work as limits
from fedledger.aggregator.evidence.work import Work
from fedledger.protocol.arithmetic.exact import IntArray, gram
from fedledger.protocol.records.measurement import Measurement

UNIT = 1 << 24
NEWCOMER = 500_000
BASE_WORTH = 7_000_000
MASK = (1 << 64) - 1


def addresses(numbers: Sequence[int]) -> list[str]:
    return [f"0x{number:040x}" for number in numbers]


def honest(rng: np.random.Generator, count: int, dimension: int, own: float = 1.0) -> IntArray:
    """Updates that share a signal, each with something of its own, ``own`` times as long."""
    signal = rng.normal(size=dimension)
    return whole(signal + own * rng.normal(size=(count, dimension)))


def whole(rows: np.ndarray) -> IntArray:
    return np.rint(np.asarray(rows, np.float64) * UNIT).astype(np.int64)


def a_round(
    rows: IntArray,
    worths: Sequence[int] = (),
    numbers: Sequence[int] = (),
    memory: Mapping[str, IntArray] | None = None,
    **known: object,
) -> StageContext:
    """What a method knows of a round: ``worths`` is by how much each update moves the margin, in millionths."""
    n, d = rows.shape
    measured = [Measurement(0, 0, BASE_WORTH + worth) for worth in (worths or [1000] * n)]
    previous = known.pop("previous", np.zeros(d, np.int64))
    reputations = known.pop("reputations", [NEWCOMER] * n)
    products = gram(np.vstack([rows, np.zeros((1, d), np.int64), np.asarray(previous)[None]]))
    features = RoundFeatures(Measurement(0, 0, BASE_WORTH), measured, reputations, products)
    owners = addresses(numbers or range(1, n + 1))
    return StageContext(features, owners, updates=rows, previous=previous, unit=UNIT, memory=memory or {}, **known)


def sign(place: int) -> int:
    """The sign of a coordinate when vectors are folded, from SplitMix64."""
    mixed = (place + 1) * 0x9E3779B97F4A7C15 & MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
    return 2 * ((mixed ^ mixed >> 31) & 1) - 1


def folded(row: np.ndarray, length: int) -> np.ndarray:
    values = row.astype(float)
    if len(row) <= length:
        return values
    short = np.zeros(length)
    for k, value in enumerate(values):
        short[k % length] += sign(k) * value
    return short


def median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else 0.0


@dataclass
class Training:
    """Rounds of a task, of which each knows what the one before kept.

    Parameters
    ----------
    method
        What looks at them.
    dimension
        Number of coordinates d.
    """

    method: Work
    dimension: int
    memory: Mapping[str, IntArray] = field(default_factory=dict)
    previous: IntArray | None = None

    def next(
        self, rows: IntArray, worths: Sequence[int] = (), numbers: Sequence[int] = (), **known: object
    ) -> StageContext:
        """Return what is known of the next round."""
        previous = np.zeros(self.dimension, np.int64) if self.previous is None else self.previous
        return a_round(rows, worths, numbers, self.memory, previous=previous, **known)

    def judged(self, context: StageContext, accepted: Sequence[bool] = ()) -> WorkSeen:
        """Return what a round shows, and go on; the model's step is the mean of what is accepted."""
        judges = np.array(accepted, np.bool_) if len(accepted) else np.ones(context.count, np.bool_)
        seen = self.method(context)(judges)
        self.memory = seen.keep()
        if judges.any():
            self.previous = np.rint(context.updates[judges].mean(axis=0)).astype(np.int64)
        return seen


SIGNALS = (
    "overlap",
    "corroboration",
    "lasting",
    "lasting_error",
    "direction",
    "direction_error",
    "likely",
    "rounds",
    "gain",
    "lasting_gain",
    "harm",
    "common_loss",
    "support",
)


@dataclass
class Seen:
    """What the oracle says of one update."""

    overlap: float = 0.0
    corroboration: float = 0.0
    lasting: float = 0.0
    lasting_error: float = 0.0
    direction: float = 0.0
    direction_error: float = 0.0
    likely: float = 0.0
    clarity: float = 0.0
    clarity_now: float = 0.0
    directed_now: float = 0.0
    rounds: float = 0.0
    gain: float = 0.0
    lasting_gain: float = 0.0
    harm: float = 0.0
    common_loss: float = 0.0
    support: float = 0.0


@dataclass
class Oracle:
    """The definitions of ``work@1`` in plain doubles and loops, by least squares."""

    method: Work
    steps: list[np.ndarray] = field(default_factory=list)
    updates: list[tuple[int, np.ndarray]] = field(default_factory=list)
    tallies: dict[str, dict[str, float]] = field(default_factory=dict)
    usual: list[float] = field(default_factory=list)
    typical: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    agreement: float = 0.0
    directed: float = 1.0
    now: int = 0

    def look(self, context: StageContext, accepted: Sequence[bool]) -> tuple[list[Seen], np.ndarray, float]:
        """Return what a round shows of each update, who are copies, and the agreement; go on to the next."""
        method, n = self.method, context.count
        self.now += 1
        rows = [folded(row, method.length) for row in context.updates]
        if context.previous.any() and method.steps:
            self.steps = [*self.steps, folded(context.previous, method.length)][-method.steps :]
        public = [*self.steps, *(row for _, row in self.updates)]
        residuals = [_beyond(row, public) for row in rows]
        cosines = np.array([[_cosine(a, b) if a is not b else 0.0 for b in residuals] for a in residuals])
        alike = self._copies(cosines, accepted)
        voices = _voices(cosines, alike, accepted)
        spare = max(0, int(method.hostile * n) - sum(not good for good in accepted))
        seen = [Seen() for _ in rows]
        now = []
        for i, one in enumerate(seen):
            others = [j for j in voices if j != i and not alike[i, j]]
            one.overlap, cosine = _beside(i, others, spare, residuals, cosines)
            now.append(cosine)
        typical = median([now[i] for i in voices])
        sizes = [abs(cosines[i, j]) for i in voices for j in voices if i < j]
        ratio = min(1.0, max(-1.0, typical / median(sizes))) if len(sizes) > 1 else 1.0
        self.directed = limits.STEADY * self.directed + (1 - limits.STEADY) * ratio
        for one in seen:
            one.clarity = ramp(self.directed, limits.UNCLEAR, limits.CLEAR)
            one.clarity_now = min(one.clarity, ramp(ratio, limits.UNCLEAR, limits.CLEAR))
            one.directed_now = ratio
        known = sum(self.typical) / len(self.typical) if self.typical else 0.0
        for one, cosine in zip(seen, now, strict=True):
            one.corroboration = cosine / max(typical, limits._PALE * known, limits.LEAST_COSINE)
        self.typical.append(typical)
        self._gains(seen, context, voices)
        self._support(seen, context.updates, accepted, voices, spare)
        self._lasting(seen, [self._tally(owner, one) for owner, one in zip(context.owners, seen, strict=True)], voices)
        self._remember(context, rows, voices)
        agreement = ramp(sum(self.shares) / len(self.shares), method.disagreeing, method.agreeing)
        self.agreement = max(self.agreement, agreement)
        return seen, alike, self.agreement

    def _copies(self, cosines: np.ndarray, accepted: Sequence[bool]) -> np.ndarray:
        n = len(cosines)
        apart = sorted(1 - cosines[i, j] for i in range(n) for j in range(i) if accepted[i] and accepted[j])
        limit = self.method.copies * apart[len(apart) // 4]
        limit = self.agreement * limit + (1 - self.agreement) * min(limits.LARGEST_LIKENESS, limit)
        limit = max(limit, limits._SAME)
        return np.array([[i != j and 1 - cosines[i, j] < limit for j in range(n)] for i in range(n)])

    def _gains(self, seen: list[Seen], context: StageContext, voices: list[int]) -> None:
        sure = []
        for one in context.features.measured:
            worth = one.worth - context.features.base.worth
            sure.append(float(np.sign(worth)) * max(0, abs(worth) - context.doubt))
        usual = median([abs(sure[i]) for i in voices])
        known = sum(self.usual) / len(self.usual) if self.usual else 0.0
        for one, value in zip(seen, sure, strict=True):
            one.gain = value / max(usual, known, limits.LEAST_DOUBTS * context.doubt, 1.0)
        self.usual.append(usual)

    def _support(
        self, seen: list[Seen], updates: IntArray, accepted: Sequence[bool], voices: list[int], spare: int
    ) -> None:
        rows = updates.astype(float)[:, :: -(-updates.shape[1] // self.method.length)]
        judges = [i for i, good in enumerate(accepted) if good]
        spare = min(spare, (len(judges) - 1) // 2)
        shares = [0.0] * len(seen)
        for column in rows.T:
            ordered = sorted(column[judges])
            low, high = min(0.0, ordered[spare]), max(0.0, ordered[len(ordered) - 1 - spare])
            for i, value in enumerate(column):
                shares[i] += min(max(value, low), high) * value
        for i, row in enumerate(rows):
            shares[i] /= max(row @ row, 1.0)
        middle = median([shares[i] for i in voices])
        for one, share in zip(seen, shares, strict=True):
            one.support = share / middle

    def _tally(self, owner: str, seen: Seen) -> dict[str, float]:
        """Add a round to what is known of a sender."""
        names = ("rounds", "work", "work_square", "direction", "direction_square", "gain", "support")
        before = self.tallies.get(owner, dict.fromkeys((*names, "harm"), 0.0))
        counted = min(limits.LARGEST_CORROBORATION, max(-limits.LARGEST_CORROBORATION, seen.corroboration))
        shared = ramp(seen.overlap, CHANCE, NO_CHANCE)
        worked = seen.clarity_now * counted + (1 - seen.clarity_now) * shared
        counted *= ramp(seen.directed_now, 0, limits.UNCLEAR)
        values = (1.0, worked, worked**2, counted, counted**2, seen.gain, seen.support)
        added = dict(zip(names, values, strict=True))
        tally = {name: value + self.method.fading * before[name] for name, value in added.items()}
        self.tallies[owner] = tally | {"harm": before["harm"]}
        return self.tallies[owner]

    def _lasting(self, seen: list[Seen], tallies: list[dict[str, float]], voices: list[int]) -> None:
        gains = [tally["gain"] / tally["rounds"] for tally in tallies]
        for mean in ("work", "direction"):
            means = [tally[mean] / tally["rounds"] for tally in tallies]
            middle = max(limits.LEAST_LASTING, median([means[i] for i in voices]))
            for one, tally, value in zip(seen, tallies, means, strict=True):
                variance = max(0.0, tally[f"{mean}_square"] / tally["rounds"] - value**2)
                name = "lasting" if mean == "work" else mean
                setattr(one, name, value / middle)
                setattr(one, f"{name}_error", (variance / tally["rounds"]) ** 0.5 / middle)
        typical = median([gains[i] for i in voices])
        better = median([gains[i] - typical for i in voices if gains[i] >= typical])
        largest = limits.LARGEST_COMMON + (1 - self.agreement) * limits.LARGEST_DIFFERENCE
        common = min(
            -self.method.allowance, max(-largest, typical - (2 - self.agreement) * self.method.spread * better)
        )
        for one, tally, gain in zip(seen, tallies, gains, strict=True):
            one.rounds, one.lasting_gain = tally["rounds"], gain
            one.likely = one.direction + (1 - one.clarity) * one.direction_error
            pardon = max(
                limits.PARDON * (1 - ramp(typical, limits.HARDLY, limits.WELL)),
                limits.UNCLEAR_PARDON
                * (1 - one.clarity)
                * (1 - ramp(typical, limits.UNCLEAR_HARDLY, limits.UNCLEAR_WELL)),
            )
            pardon *= ramp(one.likely, limits.DOUBTED, limits.BELIEVED) * ramp(one.clarity * one.corroboration, -1, 0)
            one.common_loss = min(-self.method.allowance, -pardon)
            counted = min(limits.LARGEST_GAIN, max(-limits.LARGEST_GAIN, one.gain))
            tally["harm"] = min(limits.LARGEST_HARM, max(0.0, tally["harm"] + min(common, -pardon) - counted))
            one.harm, one.support = tally["harm"], tally["support"] / tally["rounds"]

    def _remember(self, context: StageContext, rows: list[np.ndarray], voices: list[int]) -> None:
        self.updates += [(self.now, row) for row in rows]
        self.updates = [(made, row) for made, row in self.updates if self.now + 1 - made <= self.method.rounds]
        judges = [context.updates[i].astype(float) for i in voices]
        products = [float(a @ b) for i, a in enumerate(judges) for j, b in enumerate(judges) if i != j]
        squares = [float(row @ row) for row in judges]
        self.shares.append(float(np.mean(products) / np.mean(squares)))


def _voices(cosines: np.ndarray, alike: np.ndarray, accepted: Sequence[bool]) -> list[int]:
    """Return the accepted updates, of copies the one that has most in common with all others."""
    voices: list[int] = []
    for i in sorted(range(len(cosines)), key=lambda i: -cosines[i].sum()):
        if accepted[i] and not any(alike[i, j] for j in voices):
            voices.append(i)
    return voices


def _beside(
    i: int, others: list[int], spare: int, residuals: list[np.ndarray], cosines: np.ndarray
) -> tuple[float, float]:
    """Return an update's overlap with others, and its mean cosine without extremes."""
    near_last = sorted(others, key=lambda j: cosines[i, j] ** 2)[: max(1, len(others) - spare)]
    shares = [row**2 / (row @ row) if row @ row > 0 else row * 0 for row in residuals]
    random = sum(float(shares[i] @ shares[j]) for j in near_last)
    cut = min(spare, (len(others) - 1) // 2)
    trimmed = sorted(cosines[i, j] for j in others)[cut : len(others) - cut]
    return sum(cosines[i, j] ** 2 for j in near_last) / random, float(np.mean(trimmed))


def _beyond(row: np.ndarray, public: list[np.ndarray]) -> np.ndarray:
    if not public:
        return row
    basis = np.stack([vector / np.linalg.norm(vector) for vector in public], axis=1)
    return row - basis @ np.linalg.lstsq(basis, row, rcond=1e-4)[0]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0
