"""Methods at both ends of each of their parameters: what a stranger's task may name ends in bounded work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.stage_context import Remembering, StageContext
from fedledger.aggregator.context.work import MAX_PAIR_STEPS
from fedledger.aggregator.contributions.base import Coalitional
from fedledger.aggregator.evidence.base import EVIDENCE
from fedledger.aggregator.evidence.work import Work
from fedledger.aggregator.mechanisms.base import Learning, Market, Offer, Seen
from fedledger.aggregator.reputation.base import Asked
from fedledger.aggregator.round.methods import check_work
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import RULES, RuleContext
from fedledger.aggregator.selection.base import Candidate, SelectionContext
from fedledger.learning.data import Dataset
from fedledger.learning.models.base import MODELS, build_model, dimension_of
from fedledger.learning.objectives.base import Batch
from fedledger.learning.partitions.base import partition
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.base import BLANK, LocalUpdate
from fedledger.node.solvers.minibatch import MAX_STEPS
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.coalition import Coalition, Colleague
from fedledger.protocol.arithmetic.exact import LIMIT, MAX_ROWS, OutOfRangeError, gram
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, ContentRef
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.methods.catalogue import Method, kinds
from fedledger.protocol.methods.parameters import (
    AnyOf,
    Bound,
    Entries,
    Flag,
    ListOf,
    OneOf,
    Parameter,
    Real,
    Text,
    Whole,
    build,
    parameters_of,
)
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.measurement import LOSS_CAP, Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import PPM, Evidence
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.devices import Device, DeviceTable, Link
from fedledger.protocol.schedules.play import simulate
from support.decoders import FIXED
from support.limits import within

SECONDS = 60
"""For one method at one value; the slowest take a few."""
OWN = {"datasets", "backends", "trackers"}
"""What only a machine's own configuration names."""
BASE: dict[str, dict[str, Any]] = {
    "solvers": {"local_epochs": 1, "learning_rate": 0.1},
    "mechanisms": {"items": [[1, 1], [2**53 - 1, 2**53 - 1]], "rewards": [0, 2**40]},
}
METHODS = [(plural, key) for plural, kind in kinds().items() if plural not in OWN for key in registry_of(kind)]
N, D = 9, 6
ADDRESSES = [f"0x{i + 1:040x}" for i in range(N)]


def ends(bound: Bound | None) -> list[Any]:
    """Return the smallest and the largest value within a bound."""
    match bound:
        case Whole(minimum, maximum):
            return [minimum, maximum]
        case Real(minimum, maximum, above, below):
            low = math.nextafter(minimum, math.inf) if above else minimum
            return [low, math.nextafter(maximum, -math.inf) if below else maximum]
        case Text(length):
            return ["", "x" * length]
        case OneOf(values):
            return list(values)
        case ListOf(each, most):
            low, *_, high = ends(each)
            return [[], [low], [high], [low] * most, [high] * most]
        case AnyOf(bounds):
            return [value for one in bounds for value in ends(one)]
        case Entries(most):
            return [{}, {f"key{i}": i for i in range(most)}]
        case Flag():
            return [False, True]
    raise AssertionError(f"{bound} says not what its ends are")


def usual(parameter: Parameter) -> Any:
    """Return a value of a parameter that has no default."""
    low, *_, high = ends(parameter.bound)
    if isinstance(parameter.bound, Whole):
        return max(low, min(high, 4))
    return max(low, min(high, 0.3)) if isinstance(parameter.bound, Real) else low


def settings(plural: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield parameters of a method: each one at its ends with the others as usual, and all at one end."""
    kind = kinds()[plural]
    parameters = [p for p in parameters_of(registry_of(kind).get(key)) if p.name not in kind.supplied]
    known = {parameter.name for parameter in parameters}
    required = {p.name: usual(p) for p in parameters if p.is_required}
    base = required | {name: value for name, value in BASE.get(plural, {}).items() if name in known}
    yield base
    for parameter in parameters:
        for value in [*ends(parameter.bound), *([None] if parameter.optional else [])]:
            yield {**base, parameter.name: value}
            yield {**required, parameter.name: value}
    for end in (0, -1):
        yield {p.name: ends(p.bound)[end] for p in parameters}
        yield {p.name: ends(p.bound)[end] for p in parameters if p.is_required}


ROWS = np.random.default_rng(5).integers(-(1 << 28), 1 << 28, (N, D))
HUGE = np.where(ROWS > 0, LIMIT, -LIMIT)


def stage(rows: np.ndarray) -> StageContext:
    base, harm = Measurement(1000, 5), [Measurement(int(loss), 5) for loss in np.linspace(0, LOSS_CAP, len(rows))]
    features = RoundFeatures(base, harm, [500_000] * len(rows), gram(np.vstack([rows, rows[:1], rows[-1:]])))
    known = StageContext(
        features,
        ADDRESSES[: len(rows)],
        [10] * len(rows),
        rows,
        rows[0],
        unit=FIXED.unit,
        trusted=rows[0],
        draws=lambda: Stream(bytes(32)),
        start_losses=[-LIMIT, LIMIT, 0, 1, *range(len(rows))][: len(rows)],
    )
    return replace(known, work=Work()(known)(known.accepted))


@cache
def learner() -> tuple[FlatModel, Dataset]:
    rng = np.random.default_rng(6)
    dataset = Dataset.of(rng.normal(size=(64, 4)).astype(np.float32), rng.integers(0, 2, 64), np.arange(64) % 4)
    return FlatModel(build_model("mlp@1", {"inputs": 4, "hidden": [3], "classes": 2})), dataset


def train(solver: Any) -> LocalUpdate:
    model, dataset = learner()
    update: LocalUpdate = solver(model, np.zeros(model.layout.dimension, np.float32), dataset, generator(), BLANK)
    return update


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def solve(key: str, params: dict[str, Any]) -> None:
    assert train(build(registry_of(kinds()["solvers"]), key, params)).steps <= MAX_STEPS


def transform(key: str, params: dict[str, Any]) -> None:
    made = build(registry_of(kinds()["transforms"]), key, params)
    for scale in (0, 1, 1e30, np.inf):
        made(LocalUpdate(np.full(D, scale, np.float32), 10, 1), generator())


def code(key: str, params: dict[str, Any]) -> None:
    codec = build(registry_of(kinds()["codecs"]), key, params)
    for values in (np.linspace(-1, 1, 40), np.zeros(40), np.full(40, 64.0)):
        codec.check(40)
        codec.decode(codec.encode(values.astype(np.float32), FIXED), 40, FIXED)


def select(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["selections"]), key, params)
    rich = [Candidate(a, 10**6, 10, 2**80, i, 2**120 + i, 2**100) for i, a in enumerate(ADDRESSES)]
    poor = [Candidate(a, 0) for a in ADDRESSES]
    quick = [Candidate(a, 10**6, 10, i, 1, 1, 1) for i, a in enumerate(ADDRESSES)]
    for candidates in (rich, poor, quick):
        for index in (1, 65_535):
            # Nobody may be quick enough.
            with suppress(ConfigError):
                assert set(method(SelectionContext(candidates, index, Stream(bytes(32))))) <= set(ADDRESSES)


def schedule(key: str, params: dict[str, Any]) -> None:
    link = Link(rates=((0, 5, 5), (10, 0, 0)), period_us=2**50)
    device = Device(examples=10, cycles_per_second=1, cycles_per_example=2**52, link=link, online=((0, 2**52),))
    quick = Device(examples=1, cycles_per_second=2**52, cycles_per_example=1, link=Link(rates=((0, 9, 9),)))
    table = DeviceTable(bytes_down=9, bytes_up=9, devices=dict(zip(ADDRESSES, [device, quick] * 4, strict=False)))
    for quorum in (0, 3):
        # Too few may come for a step.
        with suppress(ConfigError):
            list(islice(simulate(table, Method(method=key, params=params), bytes(32), quorum=quorum), 3))


def normalise(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["normalisations"]), key, params)
    for rows in (ROWS, HUGE):
        steps = [0, 1, 2**32 - 1, *[5] * (N - 3)]
        assert np.abs(method(rows, steps, [2**20 - 1] * N, LIMIT)).max() <= LIMIT


def detect(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["detectors"]), key, params)
    for rows in (ROWS, HUGE, ROWS[:1], np.zeros_like(ROWS)):
        assert len(method(stage(rows))) == len(rows)


def witness(key: str, params: dict[str, Any]) -> None:
    method = build(EVIDENCE, key, params)
    for rows in (ROWS, HUGE, ROWS[:1], np.zeros_like(ROWS)):
        known = stage(rows)
        for _ in range(2):
            for accepted in (np.ones(len(rows), bool), np.zeros(len(rows), bool), np.arange(len(rows)) % 2 > 0):
                seen = method(known)(accepted)
                assert all(np.isfinite(value).all() for value in vars(seen).values() if value is not seen.keep)
            known = replace(known, memory=seen.keep())


def mix(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["mixings"]), key, params)
    coefficients = method.coefficients(gram(ROWS), [1 << 20] * N)
    assert coefficients.min() >= 0 and (coefficients.sum(axis=1) > 0).all() and 1 <= method.near(N) <= N


def weaken(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["staleness"]), key, params)
    assert all(0 <= method(staleness) <= 1 << 30 for staleness in (0, 1, 64, 65_535))


def combine(key: str, params: dict[str, Any]) -> None:
    rule = build(RULES, key, params)
    for rows in (ROWS, HUGE, ROWS[: max(1, rule.least_rows)], np.zeros_like(ROWS), np.repeat(ROWS[:1], N, axis=0)):
        for weight in (1, 1 << 20):
            aggregate(rule, Rows(rows, [weight] * len(rows), rows[0]), FIXED.unit, None, stage(rows))


def optimise(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["optimisers"]), key, params)
    state: dict[str, np.ndarray] = {}
    for delta in (np.zeros(D, np.int64), np.full(D, LIMIT), np.full(D, -LIMIT), np.arange(D)):
        step, state = method(delta, state, FIXED.unit)
        assert step.dtype == np.int64 and np.abs(step).max() <= LIMIT
    # A state that nobody honest left.
    for extreme in (1 << 62, -(1 << 62)):
        with suppress(OutOfRangeError):
            step, after = method(delta, {name: np.full(D, extreme) for name in state}, FIXED.unit)
            assert np.abs(step).max() <= LIMIT
            assert all(np.abs(vector).max() <= 1 << 50 for vector in after.values())


def score(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["contributions"]), key, params)
    for rows in (ROWS, HUGE, np.zeros_like(ROWS)):
        context, weights = stage(rows), [1 << 20] * N
        for _ in range(2):
            found: dict[tuple[int, ...], Measurement] = {}
            while isinstance(method, Coalitional):
                new = set(method.coalitions(replace(context, coalitions=found), weights)) - found.keys()
                if not new:
                    break
                found |= {members: Measurement(hash(members) % LOSS_CAP, 1) for members in new}
                assert len(found) <= method.most_coalitions(N)
            context = replace(context, coalitions=found)
            assert min(method(context, weights)) >= 0
            if isinstance(method, Remembering):
                kept = method.remember(context, weights)
                assert sum(values.size for values in kept.values()) <= method.memory_size(N, D)
                context = replace(context, memory=kept)


def hire(key: str, params: dict[str, Any]) -> None:
    method = build(registry_of(kinds()["mechanisms"]), key, params)
    tables: dict[str, Any] = {}
    for told, reputation, time in ((0, 0, None), (2**53 - 1, PPM, 2**120), (-(2**53) + 1, 1, 0), (1, PPM, 1)):
        report = dict.fromkeys(("cost", "price", "power", "item"), told)
        offers = [Offer(a, report, reputation, 2**53 - 1, 1, time, time) for a in ADDRESSES]
        for budget in (0, 2**53 - 1):
            market = Market(offers, budget, 3, 65_535, lambda: Stream(bytes(32)), tables)
            terms = method.select(market)
            for size in (0, 2**53 - 1, 2**80):
                seen = {a: Seen(True, size, size, size, size) for a in terms}
                paid = method.pay(market, terms, seen)
                assert min(paid.values(), default=0) >= 0 and sum(paid.values()) <= budget
                if isinstance(method, Learning):
                    tables = dict(method.learn(market, terms, seen, paid))
                    assert sum(table.size for table in tables.values()) <= method.table_size(N)


def trust(key: str, params: dict[str, Any]) -> None:
    made = build(registry_of(kinds()["reputations"]), key, params)
    publisher, recommender = "0x" + "11" * 20, "0x" + "22" * 20
    standings = {publisher: {0: made.unknown}, recommender: {0: made.adopted(Evidence(4095, 4095, 255))}}
    asked = Asked(publisher, (0, 1), (recommender,), PPM, {recommender: 1})
    for verdict in (*[Verdict.ACCEPTED] * 300, *[Verdict.HARM] * 300, Verdict.MISSED, Verdict.LATE, Verdict.NONE):
        standings[publisher] = {0: made.after(standings[publisher][0], verdict)}
        assert all(0 <= reputation <= PPM for reputation in made(standings, asked))
    standings[publisher] = {0: made.after_failed_check(standings[publisher][0])}
    assert all(0 <= reputation <= PPM for reputation in made(standings, asked))


def model(key: str, params: dict[str, Any]) -> None:
    assert 4 * sum(p.numel() for p in build_model(key, params).parameters()) <= MAX_OBJECT_BYTES


def deal(key: str, params: dict[str, Any]) -> None:
    parts = partition(key, params, learner()[1], 4, generator())
    assert sorted(np.concatenate(parts).tolist()) == list(range(64))


def attack(key: str, params: dict[str, Any]) -> None:
    flat, dataset = learner()
    solver = build(registry_of(kinds()["solvers"]), "sgd@1", BASE["solvers"])
    given = {"accomplice_address": ADDRESSES[0]} if key.startswith("duplicate") else {}
    base = ModelFile.of(flat.named(np.zeros(flat.layout.dimension, np.float32)))
    ref = Ref.of(ContentRef.of(b"x"))
    spec = TaskSpec(name="a", rounds=1, initial_model=ref, validation=ref)
    honest = LocalTrainer(flat, solver, dataset)
    coalition = Coalition([0, 1], [2, 3, 4], lambda number: Colleague(ADDRESSES[number], honest), lambda index: dataset)
    made = attacker(key, {**params, **given}, honest, coalition)
    made(TrainingContext(spec, 2, ADDRESSES[1], base, base, earlier=(base,)))


def judge(key: str, params: dict[str, Any]) -> None:
    objective = build(registry_of(kinds()["objectives"]), key, params)
    rng = np.random.default_rng(8)
    outputs: list[Any] = [np.zeros, np.ones, lambda shape: np.full(shape, 3e38), lambda shape: np.full(shape, np.nan)]
    outputs.append(lambda shape: rng.normal(size=shape))
    targets = [np.arange(8) % 2, np.zeros(8, np.int64), np.full((8, 2), 3e38), np.eye(8, dtype=np.int64), np.zeros(8)]
    suited = 0
    for target, make in itertools.product(targets, outputs):
        given = torch.from_numpy(target if target.dtype == np.int64 else target.astype(np.float32))
        inputs = torch.from_numpy(rng.normal(size=(8, 2)).astype(np.float32))
        for shape in ((8, 2), (8, 8), (8, 1), (8, 8, 3)):
            found = torch.from_numpy(np.asarray(make(shape), np.float32)).requires_grad_()
            # Which targets it takes depends on the parameters, too.
            try:
                objective.check(found, given, inputs)
            except ConfigError as error:
                refused = error
                continue
            objective.loss(found, given, inputs).backward()
            measured = objective.measure([Batch(found.detach(), given, inputs)])
            most = LOSS_CAP if objective.lower_is_better else objective.full_score(given)
            assert 0 <= measured.score <= most and not measured.loss < 0
            suited += 1
    if not suited:
        raise refused


EVALUATE: dict[str, Callable[[str, dict[str, Any]], None]] = {
    "solvers": solve,
    "objectives": judge,
    "transforms": transform,
    "codecs": code,
    "selections": select,
    "schedules": schedule,
    "normalisations": normalise,
    "evidence": witness,
    "detectors": detect,
    "mixings": mix,
    "staleness": weaken,
    "rules": combine,
    "optimisers": optimise,
    "contributions": score,
    "mechanisms": hire,
    "reputations": trust,
    "models": model,
    "partitions": deal,
    "attacks": attack,
}


def test_each_kind_is_tried_here() -> None:
    assert set(EVALUATE) | OWN == set(kinds())


@pytest.mark.parametrize(("plural", "key"), METHODS)
def test_a_method_at_its_extremes_ends_or_says_why_not(plural: str, key: str) -> None:
    worked = 0
    for params in settings(plural, key):
        with within(SECONDS, (key, str(params)[:300])):
            try:
                EVALUATE[plural](key, params)
                worked += 1
            except FedledgerError as error:
                assert error.message
    # Others have data that cannot be had here, or take no data of others.
    assert worked or key in ("flower@1", "column_statistics@1")


@pytest.mark.parametrize(
    ("rule", "most", "too_many"),
    [
        ("geometric_median@1", {"iterations": 1024}, {"iterations": 1025}),
        ("geometric_median@2", {"iterations": 1024}, {"iterations": 1025}),
        ("centred_clipping@1", {"tau": 1.0, "iterations": 1024}, {"tau": 1.0, "iterations": 1025}),
        ("dnc@1", {"f": 1, "iterations": 5}, {"f": 1, "iterations": 7}),
        ("dnc@2", {"f": 1, "iterations": 5}, {"f": 1, "iterations": 7}),
    ],
)
def test_a_task_whose_rounds_are_too_much_work_is_not_posted(
    rule: str, most: dict[str, Any], too_many: dict[str, Any]
) -> None:
    ref = Ref.of(ContentRef.of(b"x"))

    def posted(params: dict[str, Any]) -> TaskSpec:
        method = Method(method=rule, params=params)
        return TaskSpec(name="a", rounds=1, initial_model=ref, validation=ref, aggregation=method)

    check_work(posted(most), 100_000, 1_000_000)
    check_work(posted(too_many), MAX_ROWS // 2, 1_000_000)
    with pytest.raises(ConfigError, match="the limit is"):
        check_work(posted(too_many), 100_000, 1_000_000)


@pytest.mark.parametrize("rule", [pytest.param("geometric_median@1", marks=pytest.mark.long), "centred_clipping@1"])
def test_a_round_that_is_too_much_work_ends_before_it(rule: str) -> None:
    n = 1400
    rows = np.zeros((n, 1), np.int64)
    # Two heaps of equal weight: the median between them takes for ever to settle at a tolerance of 0.
    rows[::2] = np.arange(n // 2)[:, None] ** 2
    params = {"tolerance": 0.0} if rule.startswith("geometric") else {"tau": 1.0}
    made = build(RULES, rule, {**params, "iterations": 10_000})
    assert 10_000 * n * n > MAX_PAIR_STEPS
    products = gram(rows if rule.startswith("geometric") else np.vstack([rows, rows[:1]]))
    given = RuleContext([1 + i % 7 for i in range(n)], FIXED.unit, products)
    with within(1_500, rule):
        try:
            made(given)
        except ConfigError as error:
            assert "the limit is" in error.message
        else:
            assert rule.startswith("geometric")


def test_a_model_is_counted_before_it_is_made() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    huge = {"inputs": 2**31, "hidden": [1_000_000] * 256, "classes": 1_000_000}
    with within(SECONDS), pytest.raises(ConfigError, match="take more than the"):
        build_model("mlp@1", huge)
    assert torch.equal(torch.get_rng_state(), before)
    small = {
        "mlp@1": {"inputs": 4, "hidden": [3], "classes": 2},
        "logistic_regression@1": {"inputs": 2, "classes": 2},
        "column_statistics@1": {"columns": 3},
    }
    for key in MODELS:
        params = small.get(key, {})
        assert dimension_of(key, params) == FlatModel(build_model(key, params)).layout.dimension
