"""Pay follows work: none for what is public or noise, one for all copies, and none by an aggregator's leeway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.corroborated import SCALE, Corroborated
from fedledger.aggregator.detectors.harm import Harm
from fedledger.aggregator.detectors.no_work import NoWork
from fedledger.aggregator.evidence.work import Work
from fedledger.aggregator.round.pipeline import RoundResult
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.measurement import Measurement
from support.examples import examples
from support.judged_task import SPEC, Task
from support.work_rounds import Training, a_round, honest, whole

HONEST = 8
ROUNDS = 12


def scored(context: StageContext, method: Work | None = None) -> list[int]:
    known = replace(context, work=(method or Work())(context)(context.accepted))
    return Corroborated()(known, [1] * context.count)


Sender = Callable[[Task, np.ndarray], np.ndarray]
"""Makes an update, given the task and what the honest send."""


def noise(task: Task, rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows[0]) / task.dimension**0.5 * task.rng.normal(size=task.dimension)


def last_step(task: Task) -> np.ndarray:
    return task.state.previous / task.spec.fixed.unit


IDLE: dict[str, Sender] = {
    "nothing": lambda task, rows: np.zeros(task.dimension),
    "noise": noise,
    "the last step": lambda task, rows: 1.3 * last_step(task),
    "the last step and noise": lambda task, rows: last_step(task) + 0.3 * noise(task, rows),
    "a model of the first round": lambda task, rows: 0.1 * task.model.astype(float),
}
HARMFUL: dict[str, Sender] = {
    "turned around": lambda task, rows: -rows.mean(axis=0) + 0.3 * noise(task, rows),
    "turned around, and long": lambda task, rows: -10 * rows.mean(axis=0),
}


def earned(sender: Sender, count: int, seed: int) -> tuple[np.ndarray, list[RoundResult]]:
    """Return what everybody earns in all rounds, those who do not work last."""
    task, results = Task(seed=seed), []
    for _ in range(ROUNDS):
        rows = task.trained(HONEST)
        results.append(task.next(np.vstack([rows, *(sender(task, rows) for _ in range(count))])))
    return np.array([result.shares for result in results]).sum(axis=0), results


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("what", [*IDLE, *HARMFUL])
def test_who_does_not_work_or_does_harm_earns_next_to_nothing(what: str, count: int) -> None:
    pay = np.sum([earned((IDLE | HARMFUL)[what], count, seed)[0] for seed in range(3)], axis=0)
    worker = np.median(pay[:HONEST])
    assert pay[HONEST:].max() <= 0.1 * worker
    assert pay[:HONEST].min() >= 0.5 * worker


def test_what_is_public_earns_nothing_at_all() -> None:
    for what in ("nothing", "the last step"):
        _, results = earned(IDLE[what], 1, 7)
        assert not any(result.shares[HONEST] for result in results[1:])


@examples(20)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_copies_share_one_pay(seed: int, copies: int, scaled: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = honest(rng, HONEST + copies, 200)
    for k in range(copies):
        rows[HONEST + k] = rows[0] * (1 + k if scaled else 1)
    group = [0, *range(HONEST, HONEST + copies)]
    scores = scored(a_round(rows))
    shared = [scores[i] for i in group]
    assert sum(shared) <= SCALE and (scaled or max(shared) - min(shared) <= 1)
    assert sum(shared) <= max(scores[i] for i in range(1, HONEST))
    # Who copies nobody does not share.
    alone = scored(a_round(rows[:HONEST]))
    assert sum(shared) <= alone[0] + copies


def test_copies_share_one_pay_in_every_round_of_a_task() -> None:
    pay, _ = earned(lambda task, rows: rows[0], 2, 3)
    group, others = pay[[0, HONEST, HONEST + 1]].sum(), np.median(pay[1:HONEST])
    assert 0.5 * others <= group <= 1.1 * others


@examples(30)
@given(st.integers(0, 2**32), st.integers(1, 10**6))
def test_differences_within_doubt_pay_alike(seed: int, doubt: int) -> None:
    rng = np.random.default_rng(seed)
    training = Training(Work(), 200)
    training.judged(training.next(honest(rng, 6, 200), rng.integers(0, 10**6, 6).tolist(), doubt=doubt))
    rows = honest(rng, 6, 200)
    worths = rng.integers(-doubt, doubt, 6, endpoint=True).tolist()
    found = [scored(training.next(rows, given_, doubt=doubt)) for given_ in ([0] * 6, worths)]
    assert found[0] == found[1]


@dataclass
class Leeway(Task):
    """A task whose aggregator tells measurements that are off by as much as is tolerated, as it likes."""

    liking: int = 0

    def measure(self, what: str, vector: np.ndarray) -> Measurement:
        found = super().measure(what, vector)
        draws = np.random.default_rng([self.liking, self.index, *what.encode()])
        most = self.spec.tolerance.margin if self.liking else 0
        margin = (found.margin or 0) + int(draws.choice([-most, most]))
        return replace(found, margin=margin)


@examples(10)
@given(st.integers(0, 100), st.integers(1, 1000))
def test_what_an_aggregator_may_lie_changes_little_pay(seed: int, liking: int) -> None:
    """Usual gains are a hundred tolerances and more here; no share changes by more than a fiftieth of the median."""
    found = []
    for like in (0, liking):
        task, shares = Leeway(seed=seed, liking=like), []
        for _ in range(3):
            rows = task.trained(HONEST)
            gains = [task.measure("base", task.model), task.measure("one", task.model + rows[0].astype(np.float32) / 8)]
            assert (gains[1].margin or 0) - (gains[0].margin or 0) > 100 * SPEC.tolerance.margin
            result = task.next(np.vstack([rows, noise(task, rows)]))
            shares.append([*result.shares, *(verdict.value for verdict in result.verdicts)])
        found.append(np.array(shares))
    honest_, liked = found
    assert (honest_[:, HONEST + 1 :] == liked[:, HONEST + 1 :]).all()
    middle = np.median(honest_[:, :HONEST])
    assert np.abs(honest_ - liked)[:, : HONEST + 1].max() <= middle / 50


@dataclass
class WithoutMargin(Task):
    """A task whose objective has no margin."""

    def measure(self, what: str, vector: np.ndarray) -> Measurement:
        return replace(super().measure(what, vector), margin=None)


def test_a_loss_does_where_there_is_no_margin() -> None:
    found = []
    for kind in (Task, WithoutMargin):
        task = kind(spec=SPEC.model_copy(update={"tolerance": SPEC.tolerance.model_copy(update={"loss": 50})}))
        found.append([task.next(np.vstack([task.trained(HONEST), np.zeros(400)])).shares for _ in range(4)])
    assert found[0] == found[1] and any(found[0][-1])


@examples(30)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 1 << 20), min_size=7, max_size=7))
def test_scores_are_whole_within_bounds_and_of_those_alone_who_weigh(seed: int, weights: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = honest(rng, 7, 60)
    rows[int(rng.integers(7))] = whole(5 * rng.normal(size=60))
    context = a_round(rows, rng.integers(-(10**6), 10**6, 7).tolist())
    known = replace(context, work=Work()(context)(context.accepted))
    scores = Corroborated()(known, weights)
    assert all(type(score) is int and 0 <= score <= SCALE for score in scores)
    assert all(weight or not score for weight, score in zip(weights, scores, strict=True))
    # How much somebody weighs does not matter.
    assert Corroborated()(known, [1 if weight else 0 for weight in weights]) == scores


def test_methods_that_need_evidence_say_so() -> None:
    context = a_round(honest(np.random.default_rng(1), 3, 5))
    for method in (NoWork(), Harm(), lambda known: Corroborated()(known, [1] * 3)):
        with pytest.raises(ConfigError, match="work@1"):
            method(context)


def test_a_copy_that_does_not_count_takes_no_share() -> None:
    rows = honest(np.random.default_rng(2), 7, 200)
    rows[6] = rows[0]
    context = a_round(rows)
    known = replace(context, work=Work()(context)(context.accepted))
    together, alone = Corroborated()(known, [1] * 7), Corroborated()(known, [1] * 6 + [0])
    assert together[0] == together[6] == alone[0] // 2 and alone[6] == 0
    assert together[1:6] == alone[1:6]
