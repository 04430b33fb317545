"""What an audit makes of scores: whole rounds follow, and each lie about them is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fedledger.aggregator.round.inputs import outvoted
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.divergence import DivergenceError
from fedledger.ledger_tools.audit.score_view import FAR, SCORED, SILENT, ScoresView, told_own, told_scores, totals_of
from fedledger.ledger_tools.audit.scores import audit_scores, replay_scores
from fedledger.ledger_tools.report.tables import scorers_frame, scores_frame
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import WORST_SCORE, pack_scores
from support.evm import block_hash
from support.scored_task import PERIOD, PUBLISHER, ScoredTask

BAD = 3
"""The participant whose update is bad."""


def clock_of(task: ScoredTask) -> Clock:
    hash_of = lambda number: block_hash(number, number + 1)  # noqa: E731
    return Clock(cast(Any, None), task.evm.now, task.evm.block, hash_of)


def play(task: ScoredTask, silent: int | None = None, far: int | None = None) -> ScoringHistory:
    """Play a round in which all but some scorers are honest; these are given by place."""
    draw = random.Random(task.index)
    task.train(range(len(task.accounts)))
    task.call()
    scorers, given = task.draw(), {}
    for place in range(len(scorers)):
        scores = [(25_000 if i == BAD else 16_000) + draw.randint(-20, 20) for i in task.there]
        given[place] = task.scored(place, [WORST_SCORE] * len(scores) if place == far else scores)
    revealed = [one for place, one in given.items() if place != silent]
    listed = [place for place in given if task.terms.batched and place % 2]
    task.commit(given, listed)
    if silent is not None:
        task.evm.wait(2 * PERIOD)
    unopened = [task.commitment_of(given[place]) for place in listed if place == silent]
    task.tally(revealed, unopened)
    task.propose()
    return cast(ScoringHistory, task.current.scoring)


@pytest.fixture(scope="module", params=[False, True])
def played(request: pytest.FixtureRequest) -> ScoredTask:
    task = ScoredTask(12, recommenders=(5,), batched=request.param)
    for i in range(0, 12, 2):
        task.known(task.recommenders[0], i, Evidence(positive=240))
    # What the recommender knows must follow from its own settlements, of which the history has none.
    task.state.applied.append(
        SimpleNamespace(
            publisher=task.recommenders[0], adopted={i: Evidence(positive=240) for i in range(0, 12, 2)}, verdicts={}
        )
    )
    play(task)
    play(task, silent=1)
    play(task, far=2)
    play(task, silent=0, far=4)
    return task


def replay(task: ScoredTask, index: int = 4) -> None:
    known = task.state.tasks[1]
    replay_scores(task.state, known, known.rounds[index], task.recommenders, task.place)


def test_whole_rounds_follow(played: ScoredTask) -> None:
    known = played.state.tasks[1]
    for index in known.rounds:
        replay(played, index)
        assert known.rounds[index].outvoted == (BAD,)
        # A batched round's reveals are in no transaction.
        completed = replace(known.rounds[index], reveals=cast(Any, known.rounds[index].listed))
        assert outvoted(cast(Any, known), completed) == {played.accounts[BAD]}
    notes = audit_scores(played.state, known, played.recommenders, played.place, clock_of(played))
    assert notes and "18 times in 4 rounds" in notes[0]


Change = Callable[[ScoringHistory], dict[str, Any]]


def other_words(scoring: ScoringHistory) -> dict[str, Any]:
    place = max(scoring.scores)
    changed = replace(scoring.scores[place], words=pack_scores([16_000] * len(scoring.present)))
    return {"scores": {**scoring.scores, place: changed}}


LIES: dict[str, tuple[str, Change]] = {
    "others are drawn": ("scorers", lambda s: {"scorers": (*s.scorers[1:], s.scorers[0])}),
    "another seed": ("scorers", lambda s: {"seed": bytes(range(32))}),
    "who failed is drawn as if it had not": (
        "scorers",
        lambda s: {"failed": dict.fromkeys(s.scorers, Evidence(negative=4095))},
    ),
    "other scores than were committed to": ("scores of", other_words),
    "a scorer that never committed": ("scores of", lambda s: {"commitments": {}}),
    "a scorer that is none": (
        "place of a scorer",
        lambda s: {"scores": {15: replace(s.scores[max(s.scores)], place=15)}},
    ),
    "somebody is not outvoted": ("outvoted participants", lambda s: {"outvoted": ()}),
    "somebody else is outvoted": ("outvoted participants", lambda s: {"outvoted": (BAD, BAD + 1)}),
    "another limit": ("limit of the scores", lambda s: {"limit": s.limit + 1}),
    "nobody is silent": ("silent scorers", lambda s: {"silent": ()}),
    "nobody is far": ("scorers far from the medians", lambda s: {"far": ()}),
    "there is no tally": ("tally of the scores", lambda s: {"tallied": False}),
    "other updates": ("updates to score", lambda s: {"present": s.present[1:], "updates": s.updates[1:]}),
    "no tally where there must be one": ("tally of the scores of a whole round", lambda s: {"tallied_at": None}),
    "a reveal on chain is left out": (
        "revealed scores that the tally lacks",
        lambda s: {"revealed": {0: next(iter(s.scores.values()))}},
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_named(played: ScoredTask, lie: str) -> None:
    field, change = LIES[lie]
    current: RoundHistory = played.state.tasks[1].rounds[4]
    true = current.scoring
    assert true is not None
    current.scoring = replace(true, **change(true))
    try:
        with pytest.raises(DivergenceError) as error:
            replay(played)
    finally:
        current.scoring = true
    assert error.value.divergence.field.startswith(field) and error.value.divergence.round == 4


def test_a_seed_of_another_block_is_named(played: ScoredTask) -> None:
    known, clock = played.state.tasks[1], clock_of(played)
    wrong = replace(clock, hash_of=lambda number: clock.hash_of(number + 1))
    with pytest.raises(DivergenceError) as error:
        audit_scores(played.state, known, played.recommenders, played.place, wrong)
    assert error.value.divergence.field == "seed of the scorers"


def test_a_round_that_is_not_tallied_is_not_proposed() -> None:
    task = ScoredTask(5, scorers=3)
    task.train(range(5))
    known = cast(Any, task.state.tasks[1])
    with pytest.raises(RoundError, match="not tallied"):
        outvoted(known, task.current)
    task.call()
    with pytest.raises(RoundError, match="not tallied"):
        outvoted(known, task.current)
    with pytest.raises(DivergenceError, match="tally"):
        replay(task, 1)
    task.draw()
    task.evm.wait(2 * PERIOD)
    task.tally([])
    assert outvoted(known, task.current) == frozenset()
    with pytest.raises(RoundError, match="other ones"):
        outvoted(known, replace(task.current, reveals={}))


def test_too_few_updates_are_not_scored() -> None:
    task = ScoredTask(5, scorers=3, quorum=4, min_participants=4)
    task.train(range(5), late=(0, 1))
    task.call()
    assert task.current.scoring.tallied and task.current.scoring.tallied_at is None
    assert task.evm.view("scoring", 1)[10]
    replay(task, 1)
    assert outvoted(cast(Any, task.state.tasks[1]), task.current) == frozenset()


def test_the_view_tells_who_did_what(played: ScoredTask) -> None:
    view = ScoresView.of(cast(Any, played.state), 1)
    assert view is not None and totals_of(view) == {"rounds": 4, "drawn": 20, "silent": 2, "far": 2, "outvoted": 4}
    assert "4 rounds scored; 20 times a scorer was drawn" in told_scores(totals_of(view))
    row = view.rows[3]
    assert row.state == "tallied" and len(row.scorers) == 5 and len(row.revealed) == 4
    assert row.outvoted == (played.accounts[BAD],)
    assert row.of_scorers()[row.scorers[0]] == SILENT and row.of_scorers()[row.scorers[4]] == FAR
    counts = [view.counts(account) for account in played.accounts]
    assert sum(each.get(SCORED, 0) for each in counts) == 16
    assert "far from the others" in told_own({FAR: 1})
    assert view.status()["round"] == 4 and PUBLISHER not in row.scorers
    assert set(view.facts) == {"scorers", "scores"}


def test_a_table_has_a_row_for_each_scored_round(played: ScoredTask) -> None:
    view = TaskView.of(cast(Any, played.state), 1)
    frame = scores_frame(view.scores)
    assert list(frame["round"]) == [1, 2, 3, 4] and list(frame["outvoted"]) == [[played.accounts[BAD]]] * 4
    assert len(scores_frame(None)) == 0 and list(scores_frame(None).columns) == list(frame.columns)
    told = scorers_frame(view)
    assert told.notna().to_numpy().sum() == 20 and (told.to_numpy() == SILENT).sum() == 2
    refused = {row.address: dict(row.refused) for row in view.participants}
    assert refused[played.accounts[BAD]] == {"outvoted": 4}
