"""Work beyond what is public: what an update adds to all that was seen before, and whether others found the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.round_features import median_of_array
from fedledger.aggregator.context.sketches import Residuals, overlaps, packed, sketched, unpacked
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.support import supported_shares
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.context.work_seen import CHANCE, NO_CHANCE, WorkSeen, ramp
from fedledger.aggregator.evidence.base import EVIDENCE, Judged
from fedledger.aggregator.evidence.tallies import Tallies, from_fixed, to_fixed
from fedledger.protocol.arithmetic.exact import Float64Array, IntArray, divide_round
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real, Whole
from fedledger.protocol.records.reputation import PPM

NOTHING = 1e-3
"""A residual below this share of an update is rounding."""
DIMENSIONS = 8
"""For each step, and for each update that is remembered, a model has so many numbers at least."""
LARGEST_GAIN = 1.5
"""A gain counts as so many usual ones at most towards harm, so that one round does not stand for many."""
LARGEST_OVERLAP = 1e6
LARGEST_CORROBORATION = 2.0
"""Corroboration counts as so much at most towards what is lasting."""
LARGEST_COMMON, LARGEST_DIFFERENCE = 0.6, 2.0
"""A larger loss is not common, whatever the gains are; more where updates never agreed."""
PARDON, HARDLY, WELL = 0.9, 0.2, 0.7
"""A loss up to the first is pardoned once the median sender's lasting gain is the second; none if it is the third. When
a model hardly gains, honest updates lose as often as they gain, and some senders' always do."""
UNCLEAR_PARDON, UNCLEAR_HARDLY, UNCLEAR_WELL = 1.5, 0.4, 0.9
"""Likewise where directions say nothing."""
DOUBTED, BELIEVED = 0.2, 0.6
"""Of a lasting corroboration, over the median one: nothing is pardoned up to the former, all from the latter on."""
UNCLEAR, CLEAR = 0.2, 0.4
"""Directions say nothing of who works if the median update's mean cosine, over the size of two updates' cosine, is the
former of late, and all that they can if it is the latter."""
STEADY = 0.7
"""What the rounds before count in that."""
LEAST_COSINE = 0.01
"""A smaller mean cosine is noise."""
LEAST_DOUBTS = 4.0
"""A usual gain of fewer times what may be no difference at all says nothing."""
LEAST_LASTING = 0.5
"""A smaller lasting corroboration of the median sender says nothing of the others."""
LARGEST_HARM = 4.0
"""Harm adds up to this at most, so that who does none any more is soon believed."""
_ROUNDS, _WORK, _WORK_SQUARE, _DIRECTION, _DIRECTION_SQUARE, _GAIN, _HARM, _SUPPORT = range(8)
_COLUMNS = 8
_UPDATES, _STEPS, _COMMON = "updates", "steps", "common"
_GAINS, _COSINES, _COMMON_ROUNDS, _SHARES, _AGREEMENT, _DIRECTED = range(6)
_COMMON_SIZE = 6
LARGEST_LIKENESS = 0.1
"""Where updates never agreed, copies are closer than this."""
_SAME = 1e-6
"""One minus the cosine of what differs by no more than rounding."""
_PALE = 0.3
"""Where updates have less in common than this share of what they had on average, it says less."""
_TINY = 1.0 / (1 << 30)


@EVIDENCE.register("work@1")
@dataclass(frozen=True)
class Work(Checked):
    """What an update adds beyond all that is public, corroborated by the others and by held-out examples.

    Public is what was seen before the round: the last steps of the model and the updates of the last rounds. What an
    update has beyond them, its *residual*, cannot be made without work: noise in d dimensions has cosines of about
    1 / √d with everything, and of an old update nothing is left. So what residuals have in common shows who worked. The
    largest cosines of each, as many as updates may be hostile, do not count, as fellows would vouch for each other.
    Besides, a share of each update is measured on the held-out examples.

    Parameters
    ----------
    hostile
        Which share of a round's updates may be hostile.
    fading
        What of a sender's tally is left from one round to the next.
    rounds
        The updates of so many rounds are remembered.
    vectors
        How many updates are remembered at most, those of the last round first; of more, one mean of each round.
    steps
        How many of the model's steps are remembered.
    length
        Number of coordinates by which vectors are remembered at most; longer ones are folded.
    copies
        Updates are copies of each other whose residuals are closer, as one minus their cosine, than this share of the
        lower quartile of all pairs.
    allowance
        A loss by an update, over the usual gain, that is not held against its sender.
    spread
        Nor is a loss that is no further from the median sender's gain than so many times what better senders are.
    disagreeing, agreeing
        The mean inner product of two updates over the mean square, of all rounds, up to which updates do not agree, and
        from which on they do.
    """

    hostile: Annotated[float, Real(0, 0.5, below=True)] = 0.3
    fading: Annotated[float, Real(0, 1, below=True)] = 0.85
    rounds: Annotated[int, Whole(0, 64)] = 4
    vectors: Annotated[int, Whole(0, 1024)] = 128
    steps: Annotated[int, Whole(0, 256)] = 24
    length: Annotated[int, Whole(256, 1 << 14)] = 8192
    copies: Annotated[float, Real(0, 1)] = 0.5
    allowance: Annotated[float, Real(0, 100)] = 0.1
    spread: Annotated[float, Real(0, 100)] = 2.5
    disagreeing: Annotated[float, Real(0, 1)] = 0.06
    agreeing: Annotated[float, Real(0, 1)] = 0.15

    def __call__(self, context: StageContext) -> Judged:
        return _Round(self, context).judged

    def memory_size(self, participants: int, dimension: int) -> int:
        """Short copies of public vectors, and a tally for each participant."""
        words = -(-min(dimension, self.length) // 4)
        return (self.vectors + self.steps) * (words + 1) + Tallies.size(participants, _COLUMNS) + _COMMON_SIZE

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if public vectors and updates are too many to be told apart."""
        public = self.vectors + self.steps
        require_work("work@1", public * (rows + public) ** 2, MAX_PAIR_STEPS)

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return public vectors and tallies."""
        return {} if context.work is None else context.work.keep()


class _Round:
    """What is known of a round before anything is judged."""

    def __init__(self, method: Work, context: StageContext) -> None:
        self._method, self._context, self._n = method, context, context.count
        self._length = min(len(context.previous), method.length)
        # Public vectors that span the whole space leave nothing to be new.
        self._room = self._length // DIMENSIONS
        self._tallies = _read_tallies(context.memory)
        self._before = self._tallies.of(context.owners)
        self._common = _read_common(context.memory)
        self._sketches = sketched(context.updates, method.length)
        # The first number of each is its age in rounds.
        self._updates = _read_updates(context.memory, method, self._length)
        steps = _read_sketches(context.memory, _STEPS, self._length, method.steps)
        last = sketched(context.previous[None], method.length) if context.previous.any() else steps[:0]
        steps = np.concatenate([steps, last])
        self._steps = steps[max(0, len(steps) - min(method.steps, self._room)) :]
        found = Residuals(self._sketches, np.concatenate([self._steps, self._updates[:, 1:]]))
        squares = np.maximum(found.products.diagonal(), 0.0)
        self._absent: NDArray[np.bool_] = squares < NOTHING * NOTHING
        lengths = np.where(self._absent, 1.0, np.sqrt(squares))
        cosines = found.products / (lengths[:, None] * lengths[None, :])
        present = ~self._absent
        self._cosines: Float64Array = np.where(present[:, None] & present[None, :], cosines, 0.0)
        np.fill_diagonal(self._cosines, 0.0)
        self._random = overlaps(found.energies())

    def judged(self, accepted: NDArray[np.bool_]) -> WorkSeen:
        """Return what the round shows, as the accepted updates judge it."""
        method, n = self._method, self._n
        spare = max(0, int(method.hostile * n) - int((~accepted).sum()))
        alike = self._copies(accepted)
        voices = self._voices(accepted, alike)
        overlap, cosine = self._beside(voices, alike, spare)
        directed_now, directed = self._directed(voices, cosine)
        clarity = ramp(directed, UNCLEAR, CLEAR)
        clarity_now = min(clarity, ramp(directed_now, UNCLEAR, CLEAR))
        typical = max(_median(cosine[voices]), _PALE * self._known(_COSINES), LEAST_COSINE)
        corroboration = cosine / typical
        gain, usual = self._gains(voices)
        support = supported_shares(self._context.updates, accepted, spare, method.length)
        support = support / max(_median(support[voices]), _TINY)
        pointing = np.clip(corroboration, -LARGEST_CORROBORATION, LARGEST_CORROBORATION)
        shared = np.clip((overlap - CHANCE) / (NO_CHANCE - CHANCE), 0.0, 1.0)
        worked = clarity_now * pointing + (1.0 - clarity_now) * shared
        # Nor does a round that says nothing count against anybody.
        pointing = pointing * ramp(directed_now, 0.0, UNCLEAR)
        columns = [np.ones(n), worked, worked * worked, pointing, pointing * pointing, gain, np.zeros(n), support]
        now = np.stack(columns, axis=1) + method.fading * self._before
        rounds = now[:, _ROUNDS]
        lasting, lasting_error = _mean(now, _WORK, voices)
        direction, direction_error = _mean(now, _DIRECTION, voices)
        lasting_gain = now[:, _GAIN] / rounds
        likely = direction + (1.0 - clarity) * direction_error
        pardon = _pardon(likely, clarity * corroboration, _median(lasting_gain[voices]), clarity)
        now[:, _HARM] = self._harm(gain, lasting_gain[voices], pardon)
        common = self._common_after(usual, _median(cosine[voices]), directed, voices)
        return WorkSeen(
            absent=self._absent,
            overlap=overlap,
            corroboration=corroboration,
            lasting=lasting,
            lasting_error=lasting_error,
            direction=direction,
            direction_error=direction_error,
            likely=likely,
            rounds=rounds,
            clarity=clarity,
            clarity_now=clarity_now,
            gain=gain,
            lasting_gain=lasting_gain,
            harm=now[:, _HARM],
            common_loss=np.minimum(-method.allowance, -pardon),
            support=now[:, _SUPPORT] / rounds,
            alike=alike,
            agreement=float(common[_AGREEMENT]),
            keep=lambda: self._kept(now, common, cosine),
        )

    def _copies(self, accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which updates are copies of each other: much closer than even the closer pairs of a round are."""
        apart = 1.0 - self._cosines
        pairs = np.sort(apart[np.tri(self._n, k=-1, dtype=np.bool_) & accepted[:, None] & accepted[None, :]])
        limit = self._method.copies * float(pairs[len(pairs) // 4]) if len(pairs) else _SAME
        # Where updates never agreed, two that work on the same rare class are close to each other.
        agreement = float(self._common[_AGREEMENT])
        limit = agreement * limit + (1.0 - agreement) * min(LARGEST_LIKENESS, limit)
        alike: NDArray[np.bool_] = apart < max(limit, _SAME)
        np.fill_diagonal(alike, False)
        return alike

    def _voices(self, accepted: NDArray[np.bool_], alike: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the accepted updates, of copies only the one that has most in common with all others."""
        voices = np.zeros(self._n, np.bool_)
        # Equal updates have equal sums in this order; of those, what is known of their senders tells.
        common = np.sort(self._cosines, axis=0).sum(axis=0)
        for i in np.lexsort((*self._before.T, -common)):
            voices[i] = accepted[i] and not (alike[i] & voices).any()
        return voices

    def _beside(
        self, voices: NDArray[np.bool_], alike: NDArray[np.bool_], spare: int
    ) -> tuple[Float64Array, Float64Array]:
        """Return each row's overlap with the voices of others, and its mean cosine without extremes, float64[n]."""
        others = voices[None, :] & ~alike & ~np.eye(self._n, dtype=np.bool_)
        counts = others.sum(axis=1)
        squares = np.where(others, self._cosines * self._cosines, np.inf)
        order = np.argsort(squares, axis=1, kind="stable")
        overlap, cosine = np.zeros(self._n), np.zeros(self._n)
        found = np.cumsum(np.take_along_axis(squares, order, axis=1), axis=1)
        random = np.cumsum(np.take_along_axis(self._random, order, axis=1), axis=1)
        ranked = np.sort(np.where(others, self._cosines, np.inf), axis=1)
        for i, count in enumerate(counts.tolist()):
            if count < 2:
                # There is nobody to compare with, so nothing is held against the sender.
                overlap[i], cosine[i] = LARGEST_OVERLAP, 1.0
                continue
            last = max(1, count - spare) - 1
            overlap[i] = min(LARGEST_OVERLAP, found[i, last] / max(random[i, last], _TINY))
            cut = min(spare, (count - 1) // 2)
            cosine[i] = ranked[i, cut : count - cut].cumsum()[-1] / (count - 2 * cut)
        return overlap, cosine

    def _directed(self, voices: NDArray[np.bool_], cosine: Float64Array) -> tuple[float, float]:
        """Return what updates have in common over what two have in either direction: in this round, and of late.

        Where the model still learns, cosines are above 0; where it does not, they have either sign, however large they
        are.
        """
        pairs = np.abs(self._cosines[voices][:, voices][np.tri(int(voices.sum()), k=-1, dtype=np.bool_)])
        now = _median(cosine[voices]) / max(_median(pairs), _TINY) if len(pairs) > 1 else 1.0
        now = min(1.0, max(-1.0, now))
        # Before the first round it is taken for clear.
        before = float(self._common[_DIRECTED]) if self._common[_COMMON_ROUNDS] else 1.0
        return now, STEADY * before + (1.0 - STEADY) * now

    def _gains(self, accepted: NDArray[np.bool_]) -> tuple[Float64Array, float]:
        """Return what each update gains over what is usual, float64[n], and what was usual in this round."""
        seen, doubt = self._context.features, self._context.doubt
        worths = np.array(seen.worths, np.float64).reshape(-1)
        # What may be no difference at all on another machine is none.
        sure = np.sign(worths) * np.maximum(np.abs(worths) - doubt, 0.0)
        usual = _median(np.abs(sure[accepted]))
        return sure / max(usual, self._known(_GAINS) * PPM, LEAST_DOUBTS * doubt, 1.0), usual

    def _known(self, place: int) -> float:
        """Return the mean over the rounds before of what is common."""
        rounds = float(self._common[_COMMON_ROUNDS])
        return float(self._common[place]) / rounds if rounds else 0.0

    def _common_loss(self, lasting: Float64Array, differing: float) -> float:
        """Return the lowest lasting gain that is common among the voices' float64[m].

        More is common where updates never agreed, where ``differing`` is 1.
        """
        middle = _median(lasting)
        better = _median(lasting[lasting >= middle] - middle)
        largest = LARGEST_COMMON + differing * LARGEST_DIFFERENCE
        return min(-self._method.allowance, max(-largest, middle - self._method.spread * (1.0 + differing) * better))

    def _harm(self, gain: Float64Array, lasting: Float64Array, pardon: Float64Array) -> Float64Array:
        """Return the cumulative sums of losses beyond what is common, float64[n], given the voices' lasting gains."""
        common: Float64Array = np.minimum(self._common_loss(lasting, 1.0 - float(self._common[_AGREEMENT])), -pardon)
        loss = common - np.clip(gain, -LARGEST_GAIN, LARGEST_GAIN)
        return np.clip(self._before[:, _HARM] + loss, 0.0, LARGEST_HARM)

    def _common_after(self, usual: float, typical: float, directed: float, voices: NDArray[np.bool_]) -> Float64Array:
        """Return sums over rounds, and the largest agreement so far.

        Summed are usual gains and cosines, rounds, and mean inner products of two updates over mean squares.
        """
        count = int(voices.sum())
        gram = self._context.features.products[: self._n, : self._n][np.ix_(voices, voices)]
        square = float(gram.diagonal().cumsum()[-1]) / count if count else 0.0
        whole = float(gram.sum(axis=0).cumsum()[-1]) if count else 0.0
        pairs = (whole - square * count) / (count * (count - 1)) if count > 1 else 0.0
        share = pairs / square if square > 0 else 0.0
        after: Float64Array = self._common + np.array([usual / PPM, typical, 1.0, share, 0.0, 0.0])
        after[_DIRECTED] = directed
        share = float(after[_SHARES] / after[_COMMON_ROUNDS])
        # What was agreed once cannot be talked away.
        after[_AGREEMENT] = max(after[_AGREEMENT], ramp(share, self._method.disagreeing, self._method.agreeing))
        return after

    def _kept(self, now: Float64Array, common: Float64Array, cosine: Float64Array) -> dict[str, IntArray]:
        """Return what the next round needs to know."""
        method = self._method
        # The newest and, of those, the most corroborated first.
        newest = np.argsort(-cosine, kind="stable")
        new = np.insert(self._sketches[newest], 0, 1, axis=1)
        aged = self._updates + np.eye(1, self._updates.shape[1], dtype=np.int64)
        updates = np.concatenate([new, aged])
        updates = _fitting(updates[updates[:, 0] <= method.rounds], min(method.vectors, self._room), method.rounds)
        return {
            _UPDATES: packed(updates),
            _STEPS: packed(self._steps),
            _COMMON: to_fixed(common),
            **self._tallies.updated(self._context.owners, now).stored(),
        }


def _read_tallies(memory: Mapping[str, IntArray]) -> Tallies:
    tallies = Tallies.read(memory, _COLUMNS)
    if (tallies.values[:, _ROUNDS] < 0).any():
        raise ConfigError("What work@1 kept counts fewer rounds than none.", "Use the state of the last round.")
    return tallies


def _read_updates(memory: Mapping[str, IntArray], method: Work, length: int) -> IntArray:
    updates = _read_sketches(memory, _UPDATES, 1 + length, method.vectors)
    if ((updates[:, 0] < 1) | (updates[:, 0] > method.rounds)).any():
        raise ConfigError("What work@1 kept is older than it may be.", "Use the state of the last round.")
    return updates


def _fitting(updates: IntArray, most: int, rounds: int) -> IntArray:
    """Return ``most`` of the sketches int64[m, 1 + k] at most, the first ones, and the mean of the others of each age.

    Without these means, the mean of what is forgotten would count as new.
    """
    if len(updates) <= most:
        return updates
    room = max(0, most - rounds)
    others = updates[room:]
    of_ages = [others[others[:, 0] == age] for age in np.unique(others[:, 0])]
    means = [divide_round(rows.sum(axis=0), len(rows)) for rows in of_ages]
    return np.concatenate([updates[:room], np.stack(means)])[:most]


def _read_sketches(memory: Mapping[str, IntArray], name: str, length: int, most: int) -> IntArray:
    words = memory.get(name)
    if words is None:
        return np.zeros((0, length), np.int64)
    if words.ndim != 2 or words.shape[1] != -(-length // 4) or len(words) > most:
        raise ConfigError("What work@1 kept is of another model.", "Use the state of the last round.")
    return unpacked(words, length)


def _read_common(memory: Mapping[str, IntArray]) -> Float64Array:
    kept = memory.get(_COMMON, np.zeros(_COMMON_SIZE, np.int64))
    if kept.shape != (_COMMON_SIZE,):
        raise ConfigError("What work@1 kept is of another method.", "Use the state of the last round.")
    common = from_fixed(kept)
    if common[_COMMON_ROUNDS] < 0:
        raise ConfigError("What work@1 kept counts fewer rounds than none.", "Use the state of the last round.")
    if not 0 <= common[_AGREEMENT] <= 1:
        raise ConfigError("What work@1 kept is no agreement.", "Use the state of the last round.")
    if not -1 <= common[_DIRECTED] <= 1:
        raise ConfigError("What work@1 kept is no share of two directions.", "Use the state of the last round.")
    return common


def _pardon(lasting: Float64Array, now: Float64Array, gain: float, clarity: float) -> Float64Array:
    """Return the losses that are pardoned, float64[n].

    Given are corroborations, lasting ones and this round's, the median lasting gain and the clarity of directions.
    """
    whole = PARDON * (1.0 - ramp(gain, HARDLY, WELL))
    unclear = UNCLEAR_PARDON * (1.0 - clarity) * (1.0 - ramp(gain, UNCLEAR_HARDLY, UNCLEAR_WELL))
    believed = ((lasting - DOUBTED) / (BELIEVED - DOUBTED)).clip(0.0, 1.0) * (now + 1.0).clip(0.0, 1.0)
    pardoned: Float64Array = believed * max(whole, unclear)
    return pardoned


def _mean(tallies: Float64Array, column: int, voices: NDArray[np.bool_]) -> tuple[Float64Array, Float64Array]:
    """Return a lasting mean over the median voice's, and its error; sums of squares are in the column beside."""
    rounds = tallies[:, _ROUNDS]
    mean = tallies[:, column] / rounds
    variance = np.maximum(tallies[:, column + 1] / rounds - mean * mean, 0.0)
    middle = max(_median(mean[voices]), LEAST_LASTING)
    return mean / middle, np.sqrt(variance / rounds) / middle


def _median(values: Float64Array) -> float:
    return median_of_array(values) if len(values) else 0.0
