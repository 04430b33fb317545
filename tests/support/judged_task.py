"""A task whose updates judge each other: a model that is to come near a point, and participants who train or do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import ValidUpdate
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import JudgementSpec, TaskSpec
from support.work_rounds import addresses

NEWCOMER, UNITS = 500_000, 1_000_000
CONTENT = Ref.of(ContentRef.of(b"content"))
SPEC = TaskSpec(
    name="judged",
    rounds=40,
    initial_model=CONTENT,
    validation=CONTENT,
    evidence=Method(method="work@1"),
    judgement=JudgementSpec(),
    normalisation=Method(method="median_clip@1"),
    detection=[Method(method="no_work@1"), Method(method="harm@1")],
    aggregation=Method(method="supported_mean@1"),
    contribution=Method(method="corroborated@1"),
)


def changed(**changes: object) -> TaskSpec:
    return TaskSpec.model_validate({**SPEC.model_dump(), **changes})


@dataclass
class Task:
    """Rounds of a task, each of which goes on from the one before.

    Parameters
    ----------
    spec
        The task's.
    dimension
        Number of coordinates d.
    seed
        Of everything that is drawn.
    """

    spec: TaskSpec = SPEC
    dimension: int = 400
    seed: int = 0
    state: State = field(init=False)
    model: np.ndarray = field(init=False)
    index: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.target = self.rng.normal(size=self.dimension)
        self.state = State(np.zeros(self.dimension, np.int64))
        self.model = np.zeros(self.dimension, np.float32)

    def measure(self, what: str, vector: np.ndarray) -> Measurement:
        """Tell how far a model is from the point."""
        apart = float(((vector - self.target) ** 2).mean())
        return Measurement(round(1e6 * apart), 0, round(-1e6 * apart))

    def trained(self, count: int, noise: float = 1.0) -> np.ndarray:
        """What so many participants send who train: a step towards the point, each with noise of its own."""
        steps = 0.3 * (self.target - self.model)
        length = np.linalg.norm(steps) / self.dimension**0.5
        return steps + noise * length * self.rng.normal(size=(count, self.dimension))

    def whole(self, rows: np.ndarray) -> IntArray:
        bound = self.spec.fixed.bound
        return np.rint(np.clip(rows, -bound, bound) * self.spec.fixed.unit).astype(np.int64)

    def evaluated(
        self, rows: np.ndarray | IntArray, claims: Sequence[int] = (), reputations: Sequence[int] = ()
    ) -> RoundResult:
        """Evaluate a round without going on."""
        deltas = rows if rows.dtype == np.int64 else self.whole(rows)
        n = len(deltas)
        known = list(reputations or [NEWCOMER] * n)
        updates = [ValidUpdate(delta, claim) for delta, claim in zip(deltas, claims or [10] * n, strict=True)]
        entries = [Entry(*each) for each in zip(addresses(range(1, n + 1)), known, updates, strict=True)]
        context = RoundContext(self.spec, self.model, self.state, known, n, index=self.index + 1, units=UNITS)
        return evaluate_round(context, entries, self.measure)

    def next(
        self, rows: np.ndarray | IntArray, claims: Sequence[int] = (), reputations: Sequence[int] = ()
    ) -> RoundResult:
        """Evaluate a round, and go on."""
        result = self.evaluated(rows, claims, reputations)
        self.state, self.model, self.index = result.state, result.model, self.index + 1
        return result

    def copy(self) -> Task:
        """Return the task as it stands, with random draws of its own."""
        again = replace(self)
        again.state, again.model, again.index = self.state, self.model, self.index
        return again
