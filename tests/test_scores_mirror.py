"""Scores in Python and on the ledger: differential tests against the deployed bytecode in another EVM (revm)."""

from __future__ import annotations

import random

import pytest

from fedledger.contracts.abi import RevertedError
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import (
    WORST_SCORE,
    Scored,
    barred_scorers,
    draw_scorers,
    heard,
    score_commitment,
    scorer_seed,
    tally_scores,
    unheard,
    unpack_scores,
)
from support.evm import Evm, block_hash
from support.scored_task import AGGREGATOR, PERIOD, PUBLISHER, ScoredTask


@pytest.fixture(scope="module")
def empty() -> Evm:
    return Evm(1, 1, [PUBLISHER, AGGREGATOR])


def test_every_commitment_is_the_ledgers(empty: Evm) -> None:
    draw = random.Random(1)
    for count in (0, 1, 2, 17):
        words = tuple(draw.getrandbits(256) for _ in range(count))
        task, index, participant, salt = (
            draw.getrandbits(256),
            draw.getrandbits(32),
            draw.getrandbits(32),
            draw.randbytes(32),
        )
        found = empty.view("scoreCommitment", task, index, participant, salt, words)
        assert found == score_commitment((1, empty.address, task), index, participant, salt, words)


def some_scores(draw: random.Random, count: int) -> list[int]:
    """Return scores as somebody may give them: near the truth, all over the place, alike, or of few updates."""
    kind = draw.choice(["near", "near", "near", "any", "alike", "few", "wild"])
    if kind == "near":
        return [min(WORST_SCORE, max(1, 16_000 + 997 * (i % 7 == 3) * 9 + draw.randint(-60, 60))) for i in range(count)]
    if kind == "any":
        return [draw.randint(0, WORST_SCORE) for _ in range(count)]
    if kind == "alike":
        return [16_000] * count
    if kind == "few":
        return [draw.choice([0, 16_000 + draw.randint(-100, 100)]) for _ in range(count)]
    return [draw.choice([1, WORST_SCORE]) for _ in range(count)]


def play(task: ScoredTask, draw: random.Random) -> None:
    """Play the scoring of a round in which scorers do anything, and check all of it against Python."""
    selected = sorted(draw.sample(range(len(task.accounts)), draw.randint(1, len(task.accounts))))
    task.train(selected, draw.sample(selected, draw.choice([0, 0, len(selected) // 3])))
    before = {i: task.state.scorer_evidence(PUBLISHER, i) for i in range(len(task.accounts))}
    task.call()
    called = task.evm.block - 1
    scorers = task.draw()
    scoring = task.current.scoring
    seed = scorer_seed(block_hash(called, task.evm.block), 1, task.index)
    assert scoring.seed == seed
    assert scorers == draw_scorers(seed, selected, task.terms.scorers, before)
    assert list(scoring.present) == task.there
    assert task.current.listed == {i: task.update(i) for i in task.there}

    count = len(task.there)
    committed = [place for place in range(len(scorers)) if draw.random() < 0.9]
    given = {place: task.scored(place, some_scores(draw, count)) for place in committed}
    listed = [place for place in committed if task.terms.batched and draw.random() < 0.7]
    task.commit(given, listed)
    task.evm.wait(PERIOD)
    commitments = [task.commitment_of(given[place]) for place in sorted(listed)]
    revealed = [given[place] for place in committed if draw.random() < 0.9]
    for one in revealed:
        if draw.random() < 0.5:
            task.reveal(one, commitments if one.place in listed else ())
    task.evm.wait(PERIOD)
    places = {one.place for one in revealed}
    unopened = [task.commitment_of(given[place]) for place in sorted(listed) if place not in places]
    task.tally(revealed, unopened)
    check(task, revealed, before)
    task.propose()


def check(task: ScoredTask, revealed: list[Scored], before: dict[int, Evidence]) -> None:
    scoring, terms = task.current.scoring, task.terms
    rows, excused, unheard_of = [], [], []
    for scorer in scoring.scorers:
        known = {task.accounts.index(owner): task.state.evidence(owner, scorer) for owner in task.recommenders}
        unheard_of.append(unheard(scorer, known))
    for one in revealed:
        ignored = unheard_of[one.place]
        rows.append(heard(unpack_scores(one.words, len(task.there)), task.there, ignored))
        excused.append(len(ignored.intersection(task.there)))
    barred = barred_scorers(task.there, unheard_of)
    found = tally_scores(rows, len(unheard_of), terms.score_spread, terms.score_floor, excused, barred)
    assert scoring.limit == found.limit
    assert scoring.outvoted == tuple(task.there[place] for place in found.outvoted)
    assert scoring.far == tuple(scoring.scorers[revealed[place].place] for place in found.far)
    places = {one.place for one in revealed}
    assert scoring.silent == tuple(i for place, i in enumerate(scoring.scorers) if place not in places)
    for word in range(len(task.accounts) // 256 + 1):
        bits = sum(1 << i % 256 for i in scoring.outvoted if i // 256 == word)
        assert task.evm.view("outvotedWord", 1, task.index, word) == bits
    for i in range(len(task.accounts)):
        evidence = task.state.scorer_evidence(PUBLISHER, i)
        assert task.evm.view("scorerEvidence", PUBLISHER, i) == (evidence.positive, evidence.negative, evidence.missed)
        if i not in scoring.scorers:
            assert evidence == before[i]
        elif before[i] == Evidence() and i not in (*scoring.silent, *scoring.far):
            assert evidence == Evidence()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_random_rounds_are_scored_as_on_the_ledger(batched: bool, seed: int) -> None:
    draw = random.Random(seed)
    terms = {
        "scorers": draw.choice([3, 5, 9]),
        "score_spread": draw.choice([4, 12]),
        "score_floor": draw.choice([1, 300]),
    }
    task = ScoredTask(21, recommenders=(2, 5), batched=batched, **terms)
    for i in range(21):
        if draw.random() < 0.5:
            task.known(task.recommenders[i % 2], i, Evidence(positive=draw.randint(0, 300)))
    for _ in range(12):
        play(task, draw)
    outvoted = [r.outvoted for r in task.state.tasks[1].rounds.values()]
    assert any(outvoted) and task.state.scoring_words


def test_participants_of_several_words_are_scored() -> None:
    task, draw = ScoredTask(300, scorers=7), random.Random(7)
    task.train(sorted({*draw.sample(range(299), 90), 299}))
    task.call()
    scorers = task.draw()
    bad = set(task.there[::9])
    given = {
        place: task.scored(place, [(25_000 if i in bad else 16_000) + draw.randint(-20, 20) for i in task.there])
        for place in range(len(scorers))
    }
    task.commit(given, ())
    task.tally(list(given.values()))
    check(task, list(given.values()), {i: Evidence() for i in range(300)})
    assert set(task.current.outvoted) == bad and not task.current.scoring.far
    task.propose()


def test_a_chain_that_forgot_the_block_draws_nobody() -> None:
    task = ScoredTask(5, scorers=3)
    task.train(range(5))
    task.call()
    task.evm.wait(1, 300)
    assert task.draw() == () and task.current.scoring.seed == bytes(32)
    task.evm.wait(2 * PERIOD)
    task.tally([])
    scoring = task.current.scoring
    assert scoring.tallied and (scoring.limit, scoring.outvoted, scoring.silent) == (0, (), ())
    task.propose()


def test_nobody_is_called_outvoted_who_is_not_and_the_tally_comes_first() -> None:
    task = ScoredTask(5, scorers=3)
    task.train(range(5))
    with pytest.raises(RevertedError, match="NotTallied") as error:
        task.propose()
    assert "scorers of round 1" in error.value.remedy
    task.call()
    with pytest.raises(RevertedError, match="NotTallied"):
        task.propose()
