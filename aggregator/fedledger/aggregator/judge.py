"""A round judged: a pure function of the ledger's record, the updates' bytes and the posted measurements.

The aggregator calls :func:`judge` with a live measurer to make a proposal; an audit calls it with the measurements
that were posted and must get the same bytes. Everything after the measurements is exact. Who has to prove that it
judged a round, a juror, observes the values on the way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.aggregate import aggregate
from fedledger.aggregator.contribution import CONTRIBUTIONS
from fedledger.aggregator.detection import Evidences, Measurement, detect
from fedledger.aggregator.normalisation import NORMALISATIONS
from fedledger.aggregator.optimisers import (  # noqa: F401  (each registers itself)
    fedadagrad,
    fedadam,
    fedavg,
    fedavgm,
    fedyogi,
)
from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.aggregator.staleness import damped, staleness_weight
from fedledger.aggregator.validation import Expected, ValidUpdate, validate
from fedledger.contracts.history import Seat
from fedledger.protocol import canonical, tensors
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.exact import FixedPoint, gram, weighted_mean
from fedledger.protocol.model import ModelFile
from fedledger.protocol.parameters import build
from fedledger.protocol.published import PREFIX
from fedledger.protocol.reputation import PPM
from fedledger.protocol.settlement import apportion
from fedledger.protocol.spec import Method, Ref, ReputationSpec, TaskSpec
from fedledger.protocol.update import UpdateRefusedError
from fedledger.protocol.verdicts import Verdict

REPORT_VERSION = 1
MAX_WEIGHT = 1 << 20
PROBE = np.float32(0.125)
"""Share of an update that is measured: about its share in the aggregate. All of it, trained on one participant's data
alone, raises the held-out loss whether or not it is honest. A power of two, so that the product is exact."""
BASE, MODEL = "base", "model"
CENTRE = Method(method="median@1")
_PREVIOUS = "previous"
_BEST_LOSS, _STALE = "best_loss", "stale_rounds"

Int64 = NDArray[np.int64]


class Measurer(Protocol):
    """Measures a model on the task's validation set."""

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        """Measure ``vector``; ``what`` is ``"base"``, ``"model"`` or the owner of the update that it includes."""
        ...


class Observer(Protocol):
    """Sees integers of the exact layer that neither the proposal nor the report tells."""

    def __call__(self, what: str, values: Int64 | Sequence[Sequence[int]]) -> None:
        """Look at the vector or matrix that is called ``what``; it must not be changed."""
        ...


def _unobserved(what: str, values: Int64 | Sequence[Sequence[int]]) -> None:
    pass


@dataclass(frozen=True)
class RoundInput:
    """What a round's outcome follows from.

    Parameters
    ----------
    spec
        The task's spec.
    index
        The round.
    base, base_ref
        The round's base model and its reference.
    state
        The aggregator's state after the round before, encoded; empty before the first.
    seats
        The selected participants, by owner address.
    updates
        What was fetched for each revealed update, by owner: bytes, or why there are none.
    units
        Credit units that the round may pay.
    commitments
        The batch of commitments of a batched round, stored as content.
    quorum
        With fewer updates the model stays as it is and nobody is paid.
    enrolled
        Number of participants that are enrolled in the task.
    max_staleness
        How many models before its base an update may be relative to; the report speaks of it unless it is 0.
    earlier
        These models' references, the nearest first.
    earlier_models
        Those that stale updates are relative to, by staleness, if the spec's weight mixes models.
    """

    spec: TaskSpec
    index: int
    base: ModelFile
    base_ref: ContentRef
    state: bytes
    seats: Sequence[Seat]
    updates: Mapping[str, bytes | UpdateRefusedError]
    units: int
    commitments: ContentRef | None = None
    quorum: int = 0
    enrolled: int = 0
    max_staleness: int = 0
    earlier: Sequence[ContentRef] = ()
    earlier_models: Mapping[int, ModelFile] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundOutcome:
    """What a round proposes: encoded model, state and report, verdicts and pay by participant id."""

    model: bytes
    state: bytes
    report: bytes
    verdicts: dict[int, Verdict]
    shares: dict[int, int]
    stop: bool
    document: dict[str, Any]


def judge(given: RoundInput, measure: Measurer, observe: Observer = _unobserved) -> RoundOutcome:
    """Judge, weigh, aggregate and pay one round.

    ``observe`` is shown each valid update in fixed point, normalised and as its staleness leaves it, before anything is
    measured, and its further vectors; then, as far as the round gets, the inner products, the aggregate, the
    optimiser's step, the new model before it is cut and rounded, and what is published.
    """
    expected = Expected(given.spec, given.index, given.base_ref.digest, len(given.base.vector))
    fixed = expected.fixed_point
    rows = {seat.owner: _Row(seat) for seat in given.seats}
    bases = (given.base_ref, *given.earlier)
    for row in rows.values():
        row.judge_bytes(given.updates, replace(expected, base=bases[row.seat.staleness].digest))
    valid = [row for row in rows.values() if row.valid is not None]
    accepted = [row.valid for row in valid if row.valid is not None]
    bound = int(fixed.bound * (1 << fixed.fraction_bits))
    deltas = _normalised(given.spec, accepted, expected.dimension, bound)
    deltas = _damped(given, [row.seat.staleness for row in valid], deltas, fixed)
    for row, delta in zip(valid, deltas, strict=True):
        observe(f"update of {row.seat.owner}", delta)
        for name, vector in row.vectors.items():
            observe(f"{name} of {row.seat.owner}", vector)
    state = _State.decode(given.state, expected.dimension)

    base_measurement = measure(BASE, given.base.vector)
    for row, delta in zip(valid, deltas, strict=True):
        row.measurement = measure(row.seat.owner, given.base.vector + PROBE * fixed.to_float32(delta))
    seen = _look(base_measurement, valid, deltas, state.previous)
    observe("inner products", seen.gram)
    for row, verdict in zip(valid, detect(given.spec.detection, seen), strict=True):
        row.verdict = verdict

    if sum(seat.update is not None for seat in given.seats) < given.quorum:
        return _empty(given, rows.values(), base_measurement, state)
    weights = _weights(valid, given.seats, given.spec.reputation)
    delta, diagnostics = _aggregate(given.spec, deltas, weights, state.previous)
    optimiser = build(OPTIMISERS, given.spec.optimiser.method, given.spec.optimiser.params)
    step, moments = optimiser(delta, state.moments, 1 << fixed.fraction_bits)
    base = _fixed(given.base.vector, fixed)
    for what, values in (("aggregate", delta), ("step", step), ("model", base + step)):
        observe(what, values)
    model = fixed.to_float32(np.clip(base + step, -bound, bound))
    model_measurement = measure(MODEL, model)
    published, notes = _publish(given, accepted, weights, state.published, bound)
    for name, vector in published.items():
        observe(f"published {name}", vector)
    state, stop = state.after(step, moments, published, model_measurement, given.spec)

    contribution = build(CONTRIBUTIONS, given.spec.contribution.method, given.spec.contribution.params)
    scores = contribution(seen, weights) if valid else []
    for row, weight, score, share in zip(valid, weights, scores, apportion(given.units, scores), strict=True):
        row.weight, row.score, row.share = weight, score, share

    measured = {BASE: _shown(base_measurement), MODEL: _shown(model_measurement)}
    return _outcome(given, rows.values(), given.base.encode(model), state, measured, {**diagnostics, **notes}, stop)


def _empty(given: RoundInput, rows: Collection[_Row], base_measurement: Measurement, state: _State) -> RoundOutcome:
    """Return the outcome of a round below quorum: who did what, and nothing else."""
    measured = {BASE: _shown(base_measurement), MODEL: _shown(base_measurement)}
    return _outcome(given, rows, given.base.encode(given.base.vector), state, measured, {}, stop=False)


def _outcome(
    given: RoundInput,
    rows: Collection[_Row],
    model: bytes,
    state: _State,
    measured: dict[str, Any],
    diagnostics: Mapping[str, Any],
    stop: bool,
) -> RoundOutcome:
    state_bytes = state.encode()
    document = {
        "version": REPORT_VERSION,
        "spec": given.spec.digest.hex(),
        "round": given.index,
        "base": Ref.of(given.base_ref).model_dump(),
        "model": Ref.of(ContentRef.of(model)).model_dump(),
        "state": Ref.of(ContentRef.of(state_bytes)).model_dump(),
        "measurements": measured,
        "updates": [row.document(given.max_staleness > 0) for row in rows],
        "aggregation": diagnostics,
        "stop": stop,
    }
    if given.commitments is not None:
        document["commitments"] = Ref.of(given.commitments).model_dump()
    return RoundOutcome(
        model=model,
        state=state_bytes,
        report=canonical.encode(document),
        verdicts={row.seat.id: row.verdict for row in rows},
        shares={row.seat.id: row.share for row in rows if row.share},
        stop=stop,
        document=document,
    )


class _Row:
    """One participant's line of the report while it is being filled in."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.verdict = Verdict.NONE
        self.detail = ""
        self.valid: ValidUpdate | None = None
        self.measurement: Measurement | None = None
        self.weight = self.score = self.share = 0

    def judge_bytes(self, updates: Mapping[str, bytes | UpdateRefusedError], expected: Expected) -> None:
        seat = self.seat
        if seat.update is None or seat.sender is None:
            self.verdict = Verdict.MISSED if seat.sender is None else Verdict.LATE
            return
        try:
            data = updates[seat.owner]
            if isinstance(data, UpdateRefusedError):
                raise data
            self.valid = validate(data, expected, seat.owner, seat.sender)
        except UpdateRefusedError as error:
            self.verdict = error.verdict
            # What a store says of missing content is an accident of the place, so it stays out of the report.
            self.detail = "" if error.verdict is Verdict.UNAVAILABLE else error.detail

    @property
    def vectors(self) -> Mapping[str, Int64]:
        return {} if self.valid is None else self.valid.vectors

    def document(self, with_staleness: bool) -> dict[str, Any]:
        update = self.seat.update
        staleness = {"staleness": self.seat.staleness} if with_staleness else {}
        return {
            "participant": self.seat.owner,
            "update": None if update is None else {"cid": update.cid, "length": _number(update.length)},
            "verdict": self.verdict.label,
            "detail": self.detail,
            "reputation": self.seat.evidence.reputation,
            "examples": 0 if self.valid is None else self.valid.examples,
            "measurement": None if self.measurement is None else _shown(self.measurement),
            "weight": self.weight,
            "score": _number(self.score),
            "share": self.share,
            **staleness,
        }


@dataclass(frozen=True)
class _State:
    """What the aggregator carries from round to round."""

    previous: Int64
    moments: dict[str, Int64]
    best_loss: int
    stale: int
    published: dict[str, Int64]

    @classmethod
    def decode(cls, data: bytes, dimension: int) -> _State:
        if not data:
            return cls(np.zeros(dimension, np.int64), {}, -1, 0, {})
        named = {name: tensor.astype(np.int64) for name, tensor in tensors.decode(data).items()}
        counts, previous = named.pop("counts"), named.pop(_PREVIOUS)
        published = {name[len(PREFIX) :]: named.pop(name) for name in list(named) if name.startswith(PREFIX)}
        return cls(previous, named, int(counts[0]), int(counts[1]), published)

    def encode(self) -> bytes:
        counts = np.array([self.best_loss, self.stale], np.int64)
        published = {PREFIX + name: vector for name, vector in self.published.items()}
        return tensors.encode({**self.moments, **published, _PREVIOUS: self.previous, "counts": counts})

    def after(
        self,
        step: Int64,
        moments: dict[str, Int64],
        published: dict[str, Int64],
        measured: Measurement,
        spec: TaskSpec,
    ) -> tuple[_State, bool]:
        better = self.best_loss < 0 or measured.loss < self.best_loss
        best, stale = (measured.loss, 0) if better else (self.best_loss, self.stale + 1)
        rule = spec.stopping
        stop = rule.target_correct is not None and measured.correct >= rule.target_correct
        stop = stop or (rule.patience is not None and stale >= rule.patience)
        return _State(step, dict(moments), best, stale, published), stop


def _damped(given: RoundInput, staleness: Sequence[int], deltas: Int64, fixed: FixedPoint) -> Int64:
    """Return updates as their staleness leaves them; fresh ones are as they were."""
    weight, bound = staleness_weight(given.spec), int(fixed.bound * fixed.unit)

    def left(delta: Int64, steps: int) -> Int64:
        shift = None
        if weight.mix_models:
            shift = _fixed(given.earlier_models[steps].vector, fixed) - _fixed(given.base.vector, fixed)
        return damped(delta, weight(steps), shift, bound)

    if not any(staleness):
        return deltas
    return np.vstack([left(delta, s) if s else delta for delta, s in zip(deltas, staleness, strict=True)])


def _fixed(vector: NDArray[np.float32], fixed: FixedPoint) -> Int64:
    """Return a model in fixed point; of what is beyond the bound, too."""
    return np.rint(vector.astype(np.float64) * fixed.unit).astype(np.int64)


def _look(base: Measurement, valid: Sequence[_Row], deltas: Int64, previous: Int64) -> Evidences:
    measured = [row.measurement for row in valid if row.measurement is not None]
    reputations = [row.seat.evidence.reputation for row in valid]
    if not valid:
        return Evidences(base, measured, reputations, [])
    centre = aggregate(CENTRE, deltas, [1] * len(deltas), unit=1).delta
    return Evidences(base, measured, reputations, gram(np.vstack([deltas, centre, previous])))


def _weights(rows: Sequence[_Row], seats: Sequence[Seat], rule: ReputationSpec) -> list[int]:
    """Reputation times examples, scaled so that the largest is 2^20; 0 below a gate or if refused."""
    ordered = sorted(seat.evidence.reputation for seat in seats)
    # The upper median: integers need no rounding rule then.
    typical = ordered[len(ordered) // 2] if ordered else 0
    gate = max(rule.gate, typical * rule.relative_gate // PPM)
    raw = [
        row.seat.evidence.reputation * row.valid.examples
        if row.verdict is Verdict.ACCEPTED and row.valid is not None and row.seat.evidence.reputation >= gate
        else 0
        for row in rows
    ]
    largest = max(raw, default=0)
    return [max(1, weight * MAX_WEIGHT // largest) if weight else 0 for weight in raw]


def _aggregate(spec: TaskSpec, deltas: Int64, weights: Sequence[int], previous: Int64) -> tuple[Int64, dict[str, Any]]:
    if not any(weights):
        return np.zeros(len(previous), np.int64), {}
    unit = 1 << spec.fixed_point.fraction_bits
    outcome = aggregate(spec.aggregation, deltas, weights, previous, unit=unit, mixing=spec.mixing)
    return outcome.delta, dict(outcome.diagnostics)


def _normalised(spec: TaskSpec, valid: Sequence[ValidUpdate], dimension: int, bound: int) -> Int64:
    deltas = _stack([update.delta for update in valid], dimension)
    if spec.normalisation is None:
        return deltas
    normalise = build(NORMALISATIONS, spec.normalisation.method, spec.normalisation.params)
    return normalise(deltas, [update.steps for update in valid], [update.examples for update in valid], bound)


def _publish(
    given: RoundInput, valid: Sequence[ValidUpdate], weights: Sequence[int], before: Mapping[str, Int64], bound: int
) -> tuple[dict[str, Int64], dict[str, Any]]:
    """Add to each published vector |S|/N times the aggregate of what the |S| updates that count sent for it.

    N are all participants, so that with a plain mean a vector stays the mean of what each has sent so far
    (Karimireddy et al. 2020, algorithm 1). An aggregate is what the task's rule makes of these vectors by themselves.
    """
    counting, everybody = sum(weight > 0 for weight in weights), max(given.enrolled, len(given.seats), 1)
    zeros = np.zeros(len(given.base.vector), np.int64)
    published, notes = {}, {}
    for name in given.spec.vectors:
        vectors = _stack([update.vectors[name] for update in valid], len(zeros))
        aggregated, notes[name] = _aggregate(given.spec, vectors, weights, zeros)
        step = weighted_mean(aggregated[None], [counting], everybody)
        published[name] = np.clip(before.get(name, zeros) + step, -bound, bound)
    return published, {"vectors": notes} if notes else {}


def _stack(deltas: Sequence[Int64], dimension: int) -> Int64:
    return np.vstack(deltas) if deltas else np.zeros((0, dimension), np.int64)


def _number(value: int) -> int | str:
    """Return a whole number as canonical JSON holds it: as text where a double could not."""
    return value if value < 2**53 else str(value)


def _shown(measurement: Measurement) -> dict[str, int]:
    return {"loss": measurement.loss, "correct": measurement.correct}
