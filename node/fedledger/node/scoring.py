"""How a participant scores the updates of a round: by what they do to the loss on examples of its own.

Scores are a scorer's own word, which nobody replays: they rest on data that nobody else sees, and nothing of these
leaves the machine but a number between 1 and 32,766 for each update.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
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
from fedledger.protocol.records.scores import score_of
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.storage.base import Readable

log = logging.getLogger(__name__)

NO_SCORE = 0
"""Of an update that cannot be had or read, and of a scorer's own."""
MOST_EXAMPLES = 1_024
"""Own examples on which updates are scored: more of them change no median, and take longer."""
GROUP_BYTES = 1 << 26
MOST_IN_GROUP = 64
"""Bytes and models that are measured in one pass at most."""
SHARE = np.float32(0.25)
"""Share of an update that is measured: all of it, trained on one participant's data alone, raises others' loss whether
or not it is honest. A power of two, so that the product is exact."""


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
    """Scores updates by what a share of each does to the loss on own examples, on which all classes count the same.

    Of an honest update that was trained on few classes, the loss on a scorer's own mix of classes says little: it says
    mostly whether the two have the same ones.

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
        """Measure each update that can be had and read; of the scorer's own, and of the others, there is no score."""
        scores = [NO_SCORE] * len(asked.owners)
        try:
            own = HeldOut(self.examples.inputs, self.examples.targets, self.objective)
            base = evaluate(self.model, [asked.base.vector], own)[0].loss
            for places, models in _grouped(_moved(asked, store)):
                for place, found in zip(places, evaluate(self.model, models, own), strict=True):
                    scores[place] = score_of(found.loss, base)
        except ConfigError as error:
            # Such as a loss that needs examples of two classes, where the scorer has one.
            log.warning("round %d: the updates cannot be measured on these examples: %s", asked.index, error)
            return None
        return scores


def _chosen(examples: Dataset, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of the examples to score on: equally many of each class, some of them more than once."""
    order = rng.permutation(len(examples))
    if examples.classes is None:
        return np.sort(order[:MOST_EXAMPLES])
    classes = [order[examples.targets[order] == label] for label in np.unique(examples.targets)]
    each = max(1, min(max(map(len, classes)), MOST_EXAMPLES // len(classes)))
    return np.sort(np.concatenate([np.resize(rows, each) for rows in classes]))


def _moved(asked: ScoredRound, store: Readable) -> Iterator[tuple[int, Float32Array]]:
    """Yield the place of each update that can be had and read, with the model float32[d + s] that it leads to."""
    for place, (owner, ref) in enumerate(zip(asked.owners, asked.updates, strict=False)):
        if owner == asked.scorer or ref.length > asked.spec.limits.max_update_bytes:
            continue
        try:
            yield place, moved_by(store.get(ref, asked.spec.limits.max_update_bytes), asked)
        except (ContentUnavailableError, ContentCorruptError, ContentUnreadableError, UpdateRefusedError) as error:
            log.warning("round %d: no score for the update of %s: %s", asked.index, owner, error)


def moved_by(data: bytes, asked: ScoredRound) -> Float32Array:
    """Return the model float32[d + s] to which a share of an update leads from the round's base.

    Raises
    ------
    UpdateRefusedError
        If it is no update of the task's form.
    """
    spec, base = asked.spec, asked.base
    decoded = decode_vectors(wire.decode(data).vectors, spec, base.dimension)
    start = base.vector[: base.dimension]
    moved: Float32Array = start + SHARE * spec.fixed.to_float32(decoded[wire.DELTA])
    if not spec.statistics:
        return moved
    before = base.vector[base.dimension :]
    values = Statistics.of(spec.tensors).to_float32(decoded[wire.STATISTICS])
    return np.concatenate([moved, before + SHARE * (values - before)])


def _grouped(
    moved: Iterable[tuple[int, Float32Array]],
) -> Iterator[tuple[tuple[int, ...], tuple[Float32Array, ...]]]:
    """Yield places and models, as many at once as may be measured together."""
    rest = iter(moved)
    for first in rest:
        count = max(1, min(MOST_IN_GROUP, GROUP_BYTES // max(1, first[1].nbytes)))
        places, models = zip(first, *islice(rest, count - 1), strict=True)
        yield places, models
