"""A round evaluated: from the values of its updates to verdicts, weights, the next model and pay.

What this looks at is the same whether or not there is a ledger: updates in fixed point, reputations, measurements, and
the state that the round before left. Everything after the measurements is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import Coalition, Contribution, Estimate, Estimating
from fedledger.aggregator.detectors.base import Finding
from fedledger.aggregator.mechanisms.base import Learning, Seen
from fedledger.aggregator.mechanisms.tables import NAME
from fedledger.aggregator.mechanisms.trade import Trade, pay
from fedledger.aggregator.round.aggregation import aggregate_round, aggregate_statistics
from fedledger.aggregator.round.coalitions import CoalitionModels, measure_coalitions
from fedledger.aggregator.round.judging import judge
from fedledger.aggregator.round.measurer import Measurer, as_reported, measured
from fedledger.aggregator.round.methods import RoundMethods, Staged
from fedledger.aggregator.round.observer import Observer, null_observer
from fedledger.aggregator.round.server_step import counted_examples, take_step, weigh
from fedledger.aggregator.round.state import Moved, State
from fedledger.aggregator.round.statistic_rows import StatisticRows
from fedledger.aggregator.round.validation import ValidUpdate
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.median import Median
from fedledger.aggregator.staleness.damping import damped, staleness_weight
from fedledger.protocol.arithmetic.exact import Gram, IntArray, scaled
from fedledger.protocol.codecs.payload import published_lengths
from fedledger.protocol.codecs.statistics import Statistics
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import fixed_model
from fedledger.protocol.records.report import BASE, MODEL
from fedledger.protocol.records.settlement import apportion
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import START_LOSS
from fedledger.protocol.records.verdicts import Verdict

PROBE = np.float32(0.125)
"""Share of an update that is measured: about its share in the aggregate. All of it, trained on one participant's data
alone, raises the held-out loss whether or not it is honest. A power of two, so that the product is exact."""


CENTRE = Median()
"""The robust centre of a round's updates."""


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
        The round's base model, float32[d + s].
    state
        What the round before left.
    reputations
        In ppm, of all whom the round asked.
    everybody
        Number of participants of the task, or of the round if that is more.
    index, beacon
        The round, and the task's beacon when it was opened.
    enough
        Whether so many updates were revealed that the round counts; if not, the model stays as it is.
    units
        Credit units that the round may pay.
    earlier
        The base models of stale updates, float32[d + s] by staleness, if the spec's weight mixes models.
    trusted
        The update that the aggregator trusts, int64[d], if the rule asks for one.
    trade
        What the task's mechanism chose, if it has one, which pays then.
    """

    spec: TaskSpec
    base: NDArray[np.float32]
    state: State
    reputations: Sequence[int]
    everybody: int
    index: int = 1
    beacon: bytes = b""
    enough: bool = True
    units: int = 0
    earlier: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    trusted: IntArray | None = None
    trade: Trade | None = None

    @property
    def dimension(self) -> int:
        """Number of coordinates d that updates move; the model's s statistics follow them."""
        return len(self.base) - self.spec.statistics

    @property
    def bound(self) -> int:
        """Largest magnitude of a coordinate in fixed point."""
        return int(self.spec.fixed.bound * self.spec.fixed.unit)


@dataclass(frozen=True)
class RoundResult:
    """What came of a round; lists are in the order of the entries.

    Parameters
    ----------
    verdicts, findings, examples, measurements
        Of each update; what its refusal rests on, where a detector says that; how many examples count for it.
    base_measurement, model_measurement
        Of the round's base model and of the new one.
    model, state
        The new model, float32[d + s], and the new state.
    weights, scores, shares
        Of each update in the aggregate, for its contribution, and in credit units; empty in a round that does not
        count, or in which too few updates do.
    diagnostics
        What the rules tell of themselves.
    stop
        Whether the task ends.
    coalitions
        What was measured of coalitions, by the places of their members.
    estimates
        The values of the updates from which their scores follow, if the contribution tells them; None where one does
        not count.
    """

    verdicts: list[Verdict]
    findings: list[Finding | None]
    examples: Sequence[int]
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
    coalitions: Mapping[Coalition, Measurement] = field(default_factory=dict)
    estimates: Sequence[Estimate | None] = ()


def evaluate_round(
    given: RoundContext, entries: Sequence[Entry], measure: Measurer, observe: Observer = null_observer
) -> RoundResult:
    """Evaluate the valid updates of one round, stage by stage.

    normalise → damp → measure → detect → weigh → aggregate → take the server's step → measure coalitions → publish →
    reward. A round that does not count ends after the detectors, and one in which fewer updates count than its rule
    or its mixing needs ends after the weights: its model and state stay, nobody is paid, and its diagnostics say how
    many ``counted`` and were ``needed``.

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

    Raises
    ------
    ConfigError
        If the spec's methods cannot be made.
    RoundError
        If the rule needs an update that the aggregator trusts, and there is none.
    """
    methods, measure = RoundMethods.of(given.spec), as_reported(measure, given.spec)
    rows = _damped(given, entries, _normalised(given, methods, entries))
    statistics = StatisticRows.of(given.spec, given.base, [(e.update.statistics, e.staleness) for e in entries])
    _show(entries, rows, statistics, observe)
    base, measurements = measure(BASE, given.base), _measured(given, entries, rows, statistics, measure)
    known = _known(given, entries, rows, base, measurements)
    observe("inner products", known.features.gram)
    judged, contexts = judge(methods, given.spec.judgement, len(entries), _Contexts(given, methods, known).judged_by)
    verdicts, findings = [one.verdict for one in judged], [one.finding for one in judged]
    unmoved = RoundResult(verdicts, findings, known.examples, measurements, base, base, given.base, given.state)
    if not given.enough:
        return unmoved

    context = contexts[methods.rule.name]
    weights = _weights(given, context, verdicts)
    if lack := methods.lack(weights):
        return replace(unmoved, diagnostics=lack)
    counted = Rows(rows, weights, given.state.previous, known.features.without_centre)
    delta, diagnostics = aggregate_round(methods, context, counted)
    stepped = take_step(given.spec, given.base[: given.dimension], delta, given.state.moments)
    for what, values in (("aggregate", delta), ("step", stepped.step), ("model", stepped.moved)):
        observe(what, values)
    values, told = aggregate_statistics(methods, context, statistics, weights)
    if len(values):
        observe("statistics", values)
    model = statistics.behind(stepped.model, values)
    alone = CoalitionModels(given.spec, given.base, methods, context, counted, statistics)
    coalitions = measure_coalitions(alone, contexts[methods.contribution.name], measure, observe)
    paying = contexts[methods.contribution.name] = replace(contexts[methods.contribution.name], coalitions=coalitions)
    model_measurement = measure(MODEL, model)
    published, notes = _publish(given, methods, context, entries, weights)
    for name, vector in published.items():
        observe(f"published {name}", vector)
    scores, estimates = _scored(methods.contribution.method, paying, weights)
    shares, tables = _paid(given, methods, entries, verdicts, weights, scores)
    kept: dict[str, IntArray] = {}
    for staged in methods:
        kept |= staged.remembered(contexts[staged.name], weights)
    moved = Moved(stepped.step, stepped.moments, published, kept | tables)
    state, stop = given.state.after(moved, model_measurement, given.spec)
    return RoundResult(
        verdicts=verdicts,
        findings=findings,
        examples=known.examples,
        measurements=measurements,
        base_measurement=base,
        model_measurement=model_measurement,
        model=model,
        state=state,
        weights=weights,
        scores=scores,
        shares=shares,
        coalitions=coalitions,
        estimates=estimates,
        diagnostics={**diagnostics, **notes, **told},
        stop=stop,
    )


def probe(spec: TaskSpec, base: NDArray[np.float32], delta: IntArray, statistics: IntArray) -> NDArray[np.float32]:
    """Return the model float32[d + s] that tells what an update to the base model is worth.

    Parameters
    ----------
    spec
        The task's spec.
    base
        The base model, float32[d + s].
    delta, statistics
        The update int64[d], and its statistics int64[s].
    """
    d = len(delta)
    probed: NDArray[np.float32] = base[:d] + PROBE * spec.fixed.to_float32(delta)
    if not len(statistics):
        return probed
    before = base[d:]
    values = before + PROBE * (Statistics.of(spec.tensors).to_float32(statistics) - before)
    return np.concatenate([probed, values])


def foreseen(
    spec: TaskSpec, base: NDArray[np.float32], update: ValidUpdate, staleness: int
) -> NDArray[np.float32] | None:
    """Return the model that will be measured for an update, where that can be told before its round is complete."""
    if staleness or spec.normalisation is not None:
        return None
    return probe(spec, base, update.delta, update.statistics)


def _normalised(given: RoundContext, methods: RoundMethods, entries: Sequence[Entry]) -> IntArray:
    updates = [entry.update for entry in entries]
    deltas = _stack([update.delta for update in updates], given.dimension)
    if methods.normalisation is None:
        return deltas
    examples = counted_examples(given.spec.judgement, [update.examples for update in updates])
    steps, unit = [update.steps for update in updates], given.spec.fixed.unit
    return methods.normalisation(deltas, steps, examples, given.bound, unit)


def _damped(given: RoundContext, entries: Sequence[Entry], deltas: IntArray) -> IntArray:
    """Return updates as their staleness leaves them; fresh ones are as they were."""
    weight, fixed = staleness_weight(given.spec), given.spec.fixed

    def left(delta: IntArray, steps: int) -> IntArray:
        shift = None
        if weight.mix_models:
            earlier, base = (model[: given.dimension] for model in (given.earlier[steps], given.base))
            shift = fixed_model(earlier, fixed) - fixed_model(base, fixed)
        return damped(delta, weight(steps), shift, given.bound)

    if not any(entry.staleness for entry in entries):
        return deltas
    rows = zip(deltas, entries, strict=True)
    return np.vstack([left(delta, entry.staleness) if entry.staleness else delta for delta, entry in rows])


def _show(entries: Sequence[Entry], rows: IntArray, statistics: StatisticRows, observe: Observer) -> None:
    for entry, delta, values in zip(entries, rows, statistics.rows, strict=True):
        observe(f"update of {entry.owner}", delta)
        for name, vector in entry.update.vectors.items():
            observe(f"{name} of {entry.owner}", vector)
        if len(values):
            observe(f"statistics of {entry.owner}", values)


def _measured(
    given: RoundContext, entries: Sequence[Entry], rows: IntArray, statistics: StatisticRows, measure: Measurer
) -> list[Measurement]:
    probes = (
        (entry.owner, probe(given.spec, given.base, delta, values))
        for entry, delta, values in zip(entries, rows, statistics.rows, strict=True)
    )
    return measured(measure, probes)


def _known(
    given: RoundContext,
    entries: Sequence[Entry],
    rows: IntArray,
    base: Measurement,
    measurements: Sequence[Measurement],
) -> StageContext:
    """Return what all methods of the round may know, as all updates judge each other."""
    tolerance = given.spec.tolerance
    return StageContext(
        features=RoundFeatures(
            base,
            measurements,
            [entry.reputation for entry in entries],
            _products(given, rows, np.ones(len(rows), np.bool_)),
            given.spec.lower_is_better,
        ),
        owners=[entry.owner for entry in entries],
        examples=counted_examples(given.spec.judgement, [entry.update.examples for entry in entries]),
        updates=rows,
        previous=given.state.previous,
        round=given.index,
        unit=given.spec.fixed.unit,
        trusted=given.trusted,
        doubt=2 * (tolerance.loss if base.margin is None else tolerance.margin),
        accepted=np.ones(len(rows), np.bool_),
        start_losses=[
            int(entry.update.vectors[START_LOSS][0]) for entry in entries if START_LOSS in given.spec.vectors
        ],
    )


def _products(given: RoundContext, rows: IntArray, accepted: NDArray[np.bool_]) -> Gram:
    """Return the inner products of the updates, followed by the centre of those accepted and the last step."""
    if not len(rows):
        return np.zeros((0, 0), np.int64)
    centred = rows[accepted] if accepted.any() else rows
    centre = aggregate(CENTRE, Rows(centred, [1] * len(centred)), unit=1).delta
    return exact_products([*rows, centre, given.state.previous])


class _Contexts:
    """What each method of a round may know, given which updates judge the others."""

    def __init__(self, given: RoundContext, methods: RoundMethods, known: StageContext) -> None:
        self._given, self._methods, self._known = given, methods, known
        evidence = methods.evidence
        self._work = None if evidence is None else evidence.method(self._own(evidence, known))

    def judged_by(self, accepted: NDArray[np.bool_]) -> dict[str, StageContext]:
        """Return what each method may know, by its name."""
        known = self._known
        if self._methods.needs_centre and not (accepted == known.accepted).all():
            features = replace(known.features, gram=_products(self._given, known.updates, accepted))
            known = replace(known, features=features)
        work = None if self._work is None else self._work(accepted)
        known = replace(known, accepted=accepted, work=work)
        return {staged.name: self._own(staged, known) for staged in self._methods}

    def _own(self, staged: Staged[Any], known: StageContext) -> StageContext:
        given = self._given
        return staged.context(known, given.spec, given.beacon, given.state.memories)


def _weights(given: RoundContext, known: StageContext, verdicts: Sequence[Verdict]) -> list[int]:
    counting = [
        count if verdict is Verdict.ACCEPTED else 0 for count, verdict in zip(known.examples, verdicts, strict=True)
    ]
    weights = weigh(known.features.reputations, counting, given.reputations, given.spec.reputation)
    if known.work is None:
        return weights
    # Copies have the weight of one.
    copies = known.work.copies(np.array(weights) > 0)
    return [max(1, weight // shared) if weight else 0 for weight, shared in zip(weights, copies, strict=True)]


def _paid(
    given: RoundContext,
    methods: RoundMethods,
    entries: Sequence[Entry],
    verdicts: Sequence[Verdict],
    weights: Sequence[int],
    scores: Sequence[int],
) -> tuple[list[int], dict[str, IntArray]]:
    """Return what each update is paid, and what the task's mechanism keeps of the round, by its names in the state."""
    mechanism, trade = methods.mechanism, given.trade
    if mechanism is None or trade is None:
        return apportion(given.units, scores), {}
    owners = [entry.owner for entry in entries]
    # Who is below the reputation gate is accepted, weighs nothing and earns nothing.
    seen = [
        Seen(verdict is Verdict.ACCEPTED and weight > 0, weight, score, entry.update.examples, entry.update.steps)
        for entry, verdict, weight, score in zip(entries, verdicts, weights, scores, strict=True)
    ]
    shares = pay(mechanism, trade, owners, seen)
    if not isinstance(mechanism, Learning):
        return shares, {}
    known = {owner: each for owner, each in zip(owners, seen, strict=True) if owner in trade.terms}
    tables = mechanism.learn(trade.market, trade.terms, known, dict(zip(owners, shares, strict=True)))
    return shares, {f"{NAME}.{name}": np.asarray(values, np.int64) for name, values in tables.items()}


def _scored(
    contribution: Contribution, context: StageContext, weights: Sequence[int]
) -> tuple[Sequence[int], Sequence[Estimate | None]]:
    """Return the updates' scores, and the values from which they follow, if the contribution tells them."""
    if not context.count:
        return [], []
    told = contribution.estimates(context, weights) if isinstance(contribution, Estimating) else []
    return contribution(context, weights), told


def _publish(
    given: RoundContext, methods: RoundMethods, context: StageContext, entries: Sequence[Entry], weights: Sequence[int]
) -> tuple[dict[str, IntArray], dict[str, Any]]:
    """Add to each published vector |S|/N times the aggregate of what the |S| updates that count sent for it.

    N are all participants, so that with a plain mean a vector stays the mean of what each has sent so far
    (Karimireddy et al. 2020, algorithm 1). An aggregate is what the task's rule makes of these vectors by themselves.
    """
    counting, everybody = sum(weight > 0 for weight in weights), max(given.everybody, 1)
    published, notes = {}, {}
    for name, length in published_lengths(given.spec, given.dimension).items():
        zeros = np.zeros(length, np.int64)
        vectors = _stack([entry.update.vectors[name] for entry in entries], length)
        aggregated, notes[name] = aggregate_round(methods, context, Rows(vectors, weights, zeros))
        step = scaled(aggregated, counting, everybody)
        published[name] = np.clip(given.state.published.get(name, zeros) + step, -given.bound, given.bound)
    return published, {"vectors": notes} if notes else {}


def _stack(deltas: Sequence[IntArray], dimension: int) -> IntArray:
    return np.vstack(deltas) if deltas else np.zeros((0, dimension), np.int64)
