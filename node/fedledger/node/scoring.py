"""How a participant scores the updates of a round: by what they do to the loss on examples of its own.

Scores are a scorer's own word, which nobody replays: they rest on data that nobody else sees, and nothing of these
leaves the machine but a number between 1 and 32,766 for each update.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import isfinite
from statistics import median
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.objectives.base import Objective
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.codecs.payload import decode_vectors
from fedledger.protocol.codecs.statistics import Statistics
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ContentCorruptError, ContentUnavailableError, ContentUnreadableError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.scores import LEAST_LOSS, WORST_SCORE, score_of
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.storage.base import Readable
from fedledger.storage.deadlines import end_of, within

log = logging.getLogger(__name__)

NO_SCORE = 0
"""Of an update that is none, which the aggregator refuses, too, and of a scorer's own."""
MOST_EXAMPLES = 1_024
"""Own examples on which updates are scored: more of them change no median, and take longer."""
GROUP_BYTES = 1 << 26
MOST_IN_GROUP = 64
"""Bytes and models that are measured in one pass at most."""
KEPT_BYTES = 1 << 28
"""Bytes of decoded updates that are kept; what is beyond is read again."""
SHARE = np.float32(0.1)
"""Share of an update that is measured: all of it, trained on one participant's data alone, raises the loss whether or
not it is honest."""
USUAL = 4.0
"""How many times the usual change is one base loss in the formula of scores, so that they reach sixteen times it."""


@dataclass(frozen=True)
class ScoredRound:
    """A round whose updates are scored.

    Parameters
    ----------
    spec, index
        The task's spec, and the round.
    base
        Its base model.
    owners
        Owners of the updates that are scored, by ascending participant id.
    updates
        Where each of them is, in the same order; empty if nobody can read where.
    scorer
        The scorer's own address.
    before
        What a scorer revealed of each owner's update in the round before; only attackers in experiments look at it.
    """

    spec: TaskSpec
    index: int
    base: ModelFile
    owners: Sequence[str]
    updates: Sequence[ContentRef]
    scorer: str
    before: Mapping[str, int] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores the updates of a round."""

    def __call__(self, asked: ScoredRound, store: Readable) -> list[int] | None:
        """Return a score for each owner's update, 0 for none: less is better; None to be silent."""
        ...


@dataclass(frozen=True)
class OwnScorer:
    """Scores updates by what each does to the loss on own examples, besides all the others.

    Let x be the base model moved by the mean of the other updates, none of which counts with more than the median of
    all norms. The change by an update u is loss(x + u / 10) - loss(x). Its score is 16,384 and 1,024 for each time that
    it is the usual change, the median of all changes' magnitudes. So a score says the same whatever the learning rate
    and however little is left to learn, and an honest update that was trained on few classes is seen where others have
    the other ones. All classes count the same: a scorer's own mix would say mostly who has the same.

    Parameters
    ----------
    model
        The task's model, whose parameters are overwritten.
    examples
        What updates are measured on; see :meth:`of`.
    objective
        The task's.
    """

    model: FlatModel
    examples: Dataset
    objective: Objective

    @classmethod
    def of(cls, model: FlatModel, examples: Dataset, objective: Objective, key: bytes) -> OwnScorer:
        """Return a scorer on some of a participant's examples, chosen once by its key: nobody else knows which.

        Parameters
        ----------
        model
            The task's model.
        examples
            The participant's own, as the task's objective prepared them.
        objective
            The task's.
        key
            The participant's secret.
        """
        return cls(model, examples.take(_chosen(examples, generator(key, "examples to score on"))), objective)

    def __call__(self, asked: ScoredRound, store: Readable) -> list[int] | None:
        """Measure each update that can be had and read; the scorer's own, and what is no update, have no score.

        One of a few updates that cannot be had has the worst: else whoever shows it to the aggregator alone would pass.
        """
        changes = dict[int, float]()
        updates = _Updates(asked, store)
        try:
            own = HeldOut(self.examples.inputs, self.examples.targets, self.objective)
            for places, models in _grouped(updates.beside_others()):
                found = [one.loss for one in evaluate(self.model, models, own)]
                for place, before, after in zip(places, found[::2], found[1::2], strict=True):
                    changes[place] = after - before
        except ConfigError as error:
            # Such as a loss that needs examples of two classes, where the scorer has one.
            log.warning("round %d: the updates cannot be measured on these examples: %s", asked.index, error)
            return None
        scores = _scores(len(asked.owners), changes)
        # Where most updates cannot be had it is this scorer that is cut off, and nobody's update is the worse for it.
        if 2 * len(updates.withheld) < updates.count:
            for place in updates.withheld:
                scores[place] = WORST_SCORE
        return scores


def _scores(count: int, changes: Mapping[int, float]) -> list[int]:
    """Return the score of each of so many updates, given the changes of the loss by those that were measured."""
    scores = [NO_SCORE] * count
    finite = [abs(change) for change in changes.values() if isfinite(change)]
    usual = USUAL * median(finite) if finite else LEAST_LOSS
    for place, change in changes.items():
        scores[place] = score_of(usual + change, usual)
    return scores


def _chosen(examples: Dataset, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of the examples to score on: equally many of each class, some of them more than once."""
    order = rng.permutation(len(examples))
    if examples.classes is None:
        return np.sort(order[:MOST_EXAMPLES])
    classes = [order[examples.targets[order] == label] for label in np.unique(examples.targets)]
    each = max(1, min(max(map(len, classes)), MOST_EXAMPLES // len(classes)))
    return np.sort(np.concatenate([np.resize(rows, each) for rows in classes]))


class _Updates:
    """The updates of a round, each as what it adds to the base model, float32[d + s]; a scorer's own is left out.

    What cannot be had or read is left out as well, and told once. Each may take an equal part of the time that is left,
    so that one that comes slowly or never costs no other its score. They are read in another order by each scorer:
    where time is short for all of them, none of the updates is the last everywhere.
    """

    def __init__(self, asked: ScoredRound, store: Readable) -> None:
        self._asked, self._store = asked, store
        self._kept: dict[int, Float32Array] = {}
        self._left_out: set[int] = set()
        self._bytes = 0
        self.withheld: set[int] = set()
        places = range(min(len(asked.owners), len(asked.updates)))
        self._order = sorted((place for place in places if asked.owners[place] != asked.scorer), key=self._turn)

    @property
    def count(self) -> int:
        """How many updates there are besides the scorer's own."""
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[int, Float32Array]]:
        end = end_of(math.inf)
        for number, place in enumerate(self._order):
            with within(partial(_part, end, len(self._order) - number)):
                added = self._read(place, self._asked.owners[place], self._asked.updates[place])
            if added is not None:
                yield place, added

    def _turn(self, place: int) -> bytes:
        asked = self._asked
        return hashlib.sha256(f"{asked.scorer}|{asked.index}|{asked.owners[place]}".encode()).digest()

    def beside_others(self) -> Iterator[tuple[int, tuple[Float32Array, Float32Array]]]:
        """Yield the place of each update, with the models float32[d + s] without it and with a share of it."""
        norms = {place: float(np.linalg.norm(added.astype(np.float64))) for place, added in self}
        most, base = median(norms.values()) if norms else 0.0, self._asked.base.vector
        total = np.zeros(len(base))
        for place, added in self:
            total += _clipped(added, norms[place], most)
        others = max(1, len(norms) - 1)
        for place, added in self:
            without = base + ((total - _clipped(added, norms[place], most)) / others).astype(np.float32)
            yield place, (without, without + SHARE * added)

    def _read(self, place: int, owner: str, ref: ContentRef) -> Float32Array | None:
        limit = self._asked.spec.limits.max_update_bytes
        if place in self._kept or place in self._left_out or ref.length > limit:
            return self._kept.get(place)
        try:
            added = added_by(self._store.get(ref, limit), self._asked)
        except (ContentUnavailableError, ContentCorruptError, ContentUnreadableError, UpdateRefusedError) as error:
            log.warning("round %d: the update of %s cannot be measured: %s", self._asked.index, owner, error)
            self._left_out.add(place)
            if isinstance(error, ContentUnavailableError | ContentCorruptError):
                self.withheld.add(place)
            return None
        if self._bytes + added.nbytes <= KEPT_BYTES:
            self._kept[place] = added
            self._bytes += added.nbytes
        return added


def _part(end: float, count: int) -> float:
    """Return the seconds that the next of so many things may take that are to be over by a time."""
    return max(0.0, end - time.monotonic()) / count


def added_by(data: bytes, asked: ScoredRound) -> Float32Array:
    """Return what an update adds to the round's base model, float32[d + s].

    Raises
    ------
    UpdateRefusedError
        If it is no update of the task's form.
    """
    spec, base = asked.spec, asked.base
    decoded = decode_vectors(wire.decode(data).vectors, spec, base.dimension)
    added: Float32Array = spec.fixed.to_float32(decoded[wire.DELTA])
    if not spec.statistics:
        return added
    values = Statistics.of(spec.tensors).to_float32(decoded[wire.STATISTICS])
    return np.concatenate([added, values - base.vector[base.dimension :]])


def _clipped(added: Float32Array, norm: float, most: float) -> NDArray[np.float64]:
    """Return a vector, shortened to a norm if it is longer."""
    return added.astype(np.float64) * (most / norm if norm > most else 1.0)


def _grouped(
    pairs: Iterable[tuple[int, tuple[Float32Array, Float32Array]]],
) -> Iterator[tuple[list[int], list[Float32Array]]]:
    """Yield places and the models of each, as many at once as may be measured together."""
    rest = iter(pairs)
    for first in rest:
        count = max(1, min(MOST_IN_GROUP, GROUP_BYTES // max(1, 2 * first[1][0].nbytes)))
        group = [first, *islice(rest, count - 1)]
        yield [place for place, _ in group], [model for _, models in group for model in models]
