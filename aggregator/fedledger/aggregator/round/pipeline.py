"""A round's updates appraised: from their values to verdicts, weights, the next model and pay.

What this looks at is the same whether or not there is a ledger: updates in fixed point, reputations, measurements, and
the state that the round before left. Everything after the measurements is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.contributions.base import CONTRIBUTIONS
from fedledger.aggregator.detectors.base import detect
from fedledger.aggregator.features.round_features import RoundFeatures
from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.round.measurer import Measurer, measured
from fedledger.aggregator.round.server_step import fixed_model, take_step, weigh
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import ValidUpdate
from fedledger.aggregator.rules.aggregate import aggregate, doubles
from fedledger.aggregator.staleness.damping import damped, staleness_weight
from fedledger.protocol.arithmetic.exact import FixedPoint, Gram, IntArray, gram, scaled
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.report import BASE, MODEL
from fedledger.protocol.records.settlement import apportion
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict

PROBE = np.float32(0.125)
"""Share of an update that is measured: about its share in the aggregate. All of it, trained on one participant's data
alone, raises the held-out loss whether or not it is honest. A power of two, so that the product is exact."""


CENTRE = Method(method="median@1")


class Observer(Protocol):
    """Sees integers of the exact layer that neither the proposal nor the report tells."""

    def __call__(self, what: str, values: IntArray | Gram) -> None:
        """Look at the vector or matrix that is called ``what``; it must not be changed."""
        ...


def null_observer(what: str, values: IntArray | Gram) -> None:
    """Ignore the value."""


@dataclass(frozen=True)
class Entry:
    """An update that may count: who made it, what the ledger holds of them in ppm, and how stale it is."""

    owner: str
    reputation: int
    update: ValidUpdate
    staleness: int = 0


@dataclass(frozen=True)
class RoundContext:
    """What a round's outcome follows from, besides its updates.

    Parameters
    ----------
    spec
        The task's spec.
    base
        The round's base model, float32[d].
    state
        What the round before left.
    reputations
        In ppm, of all whom the round asked.
    everybody
        Number of participants of the task, or of the round if that is more.
    enough
        Whether so many updates were revealed that the round counts; if not, the model stays as it is.
    units
        Credit units that the round may pay.
    earlier
        The base models of stale updates, float32[d] by staleness, if the spec's weight mixes models.
    """

    spec: TaskSpec
    base: NDArray[np.float32]
    state: State
    reputations: Sequence[int]
    everybody: int
    enough: bool = True
    units: int = 0
    earlier: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundResult:
    """What came of a round; lists are in the order of the entries.

    Parameters
    ----------
    verdicts, measurements
        Of each update.
    base_measurement, model_measurement
        Of the round's base model and of the new one.
    model, state
        The new model, float32[d], and the new state.
    weights, scores, shares
        Of each update in the aggregate, for its contribution, and in credit units; empty in a round that does not
        count.
    diagnostics
        What the rules tell of themselves.
    stop
        Whether the task ends.
    """

    verdicts: list[Verdict]
    measurements: list[Measurement]
    base_measurement: Measurement
    model_measurement: Measurement
    model: NDArray[np.float32]
    state: State
    weights: Sequence[int] = ()
    scores: Sequence[int] = ()
    shares: Sequence[int] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    stop: bool = False


def evaluate_round(
    given: RoundContext, entries: Sequence[Entry], measure: Measurer, observe: Observer = null_observer
) -> RoundResult:
    """Judge, weigh, aggregate and pay the valid updates of one round.

    ``observe`` is shown each update in fixed point, normalised and as its staleness leaves it, before anything is
    measured, and its further vectors; then, as far as the round gets, the inner products, the aggregate, the
    optimiser's step, the new model before it is cut and rounded, and what is published.

    Parameters
    ----------
    given
        The round.
    entries
        Its valid updates, in the order of their owners' addresses.
    measure
        Measures models.
    observe
        Sees values on the way.
    """
    spec, state = given.spec, given.state
    fixed = spec.fixed
    bound = int(fixed.bound * fixed.unit)
    deltas = _normalised(spec, [entry.update for entry in entries], len(given.base), bound)
    deltas = _damped(given, [entry.staleness for entry in entries], deltas, fixed)
    for entry, delta in zip(entries, deltas, strict=True):
        observe(f"update of {entry.owner}", delta)
        for name, vector in entry.update.vectors.items():
            observe(f"{name} of {entry.owner}", vector)

    base_measurement = measure(BASE, given.base)
    measurements = measured(
        measure,
        ((entry.owner, probe(given.base, delta, fixed)) for entry, delta in zip(entries, deltas, strict=True)),
    )
    seen = _look(base_measurement, measurements, [entry.reputation for entry in entries], deltas, state.previous)
    observe("inner products", seen.gram)
    verdicts = detect(spec.detection, seen)
    if not given.enough:
        return RoundResult(verdicts, measurements, base_measurement, base_measurement, given.base, state)

    counting = [
        entry.update.examples if verdict is Verdict.ACCEPTED else 0
        for entry, verdict in zip(entries, verdicts, strict=True)
    ]
    weights = weigh(seen.reputations, counting, given.reputations, spec.reputation)
    delta, diagnostics = _aggregate(spec, deltas, weights, state.previous, seen.without_centre)
    stepped = take_step(spec, given.base, delta, state.moments)
    for what, values in (("aggregate", delta), ("step", stepped.step), ("model", stepped.moved)):
        observe(what, values)
    model_measurement = measure(MODEL, stepped.model)
    published, notes = _publish(given, entries, weights, bound)
    for name, vector in published.items():
        observe(f"published {name}", vector)
    state, stop = state.after(stepped.step, stepped.moments, published, model_measurement, spec)

    contribution = build(CONTRIBUTIONS, spec.contribution.method, spec.contribution.params)
    scores = contribution(seen, weights) if entries else []
    return RoundResult(
        verdicts=verdicts,
        measurements=measurements,
        base_measurement=base_measurement,
        model_measurement=model_measurement,
        model=stepped.model,
        state=state,
        weights=weights,
        scores=scores,
        shares=apportion(given.units, scores),
        diagnostics={**diagnostics, **notes},
        stop=stop,
    )


def probe(base: NDArray[np.float32], delta: IntArray, fixed: FixedPoint) -> NDArray[np.float32]:
    """Return the model float32[d] that tells what an update int64[d] to the base model is worth."""
    probed: NDArray[np.float32] = base + PROBE * fixed.to_float32(delta)
    return probed


def foreseen(spec: TaskSpec, base: NDArray[np.float32], delta: IntArray, staleness: int) -> NDArray[np.float32] | None:
    """Return the model that will be measured for an update, where that can be told before its round is complete."""
    if staleness or spec.normalisation is not None:
        return None
    return probe(base, delta, spec.fixed)


def _normalised(spec: TaskSpec, updates: Sequence[ValidUpdate], dimension: int, bound: int) -> IntArray:
    deltas = _stack([update.delta for update in updates], dimension)
    if spec.normalisation is None:
        return deltas
    normalise = build(NORMALISATIONS, spec.normalisation.method, spec.normalisation.params)
    return normalise(deltas, [update.steps for update in updates], [update.examples for update in updates], bound)


def _damped(given: RoundContext, staleness: Sequence[int], deltas: IntArray, fixed: FixedPoint) -> IntArray:
    """Return updates as their staleness leaves them; fresh ones are as they were."""
    weight, bound = staleness_weight(given.spec), int(fixed.bound * fixed.unit)

    def left(delta: IntArray, steps: int) -> IntArray:
        shift = None
        if weight.mix_models:
            shift = fixed_model(given.earlier[steps], fixed) - fixed_model(given.base, fixed)
        return damped(delta, weight(steps), shift, bound)

    if not any(staleness):
        return deltas
    return np.vstack([left(delta, s) if s else delta for delta, s in zip(deltas, staleness, strict=True)])


def _look(
    base: Measurement,
    measured: Sequence[Measurement],
    reputations: Sequence[int],
    deltas: IntArray,
    previous: IntArray,
) -> RoundFeatures:
    if not len(deltas):
        return RoundFeatures(base, measured, reputations, np.zeros((0, 0), np.int64))
    centre = aggregate(CENTRE, deltas, [1] * len(deltas), unit=1).delta
    return RoundFeatures(base, measured, reputations, gram(doubles([*deltas, centre, previous])))


def _aggregate(
    spec: TaskSpec, deltas: IntArray, weights: Sequence[int], previous: IntArray, gram: Gram | None = None
) -> tuple[IntArray, dict[str, Any]]:
    if not any(weights):
        return np.zeros(len(previous), np.int64), {}
    unit = 1 << spec.fixed_point.fraction_bits
    outcome = aggregate(spec.aggregation, deltas, weights, previous, unit=unit, mixing=spec.mixing, gram=gram)
    return outcome.delta, dict(outcome.diagnostics)


def _publish(
    given: RoundContext, entries: Sequence[Entry], weights: Sequence[int], bound: int
) -> tuple[dict[str, IntArray], dict[str, Any]]:
    """Add to each published vector |S|/N times the aggregate of what the |S| updates that count sent for it.

    N are all participants, so that with a plain mean a vector stays the mean of what each has sent so far
    (Karimireddy et al. 2020, algorithm 1). An aggregate is what the task's rule makes of these vectors by themselves.
    """
    counting, everybody = sum(weight > 0 for weight in weights), max(given.everybody, 1)
    zeros = np.zeros(len(given.base), np.int64)
    published, notes = {}, {}
    for name in given.spec.vectors:
        vectors = _stack([entry.update.vectors[name] for entry in entries], len(zeros))
        aggregated, notes[name] = _aggregate(given.spec, vectors, weights, zeros)
        step = scaled(aggregated, counting, everybody)
        published[name] = np.clip(given.state.published.get(name, zeros) + step, -bound, bound)
    return published, {"vectors": notes} if notes else {}


def _stack(deltas: Sequence[IntArray], dimension: int) -> IntArray:
    return np.vstack(deltas) if deltas else np.zeros((0, dimension), np.int64)
