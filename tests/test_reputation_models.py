"""Reputation models: hand-checked values, what each resists, and bounds on what strangers can do to them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.reputation.base import REPUTATION_MODELS, Asked, ReputationModel, Standing, Standings
from fedledger.aggregator.reputation.beta import Beta
from fedledger.aggregator.reputation.eigentrust import EigenTrust
from fedledger.aggregator.reputation.moving_average import MovingAverage
from fedledger.aggregator.reputation.standings import Fold
from fedledger.aggregator.reputation.subjective_logic import SubjectiveLogic
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.task_history import Applied
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.opinions import opinion_with
from fedledger.protocol.records.reputation import PPM, UNIT, Evidence
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples

A, B, C = ("0x" + digit * 40 for digit in "abc")
KEYS = ["beta@1", "eigentrust@1", "moving_average@1", "subjective_logic@1"]
GOOD, BAD, MISSED = Verdict.ACCEPTED, Verdict.NORM, Verdict.MISSED
NEWCOMER = PPM // 2
GATE = 800_000
"""The usual relative gate."""

verdicts = st.sampled_from([GOOD, GOOD, BAD, MISSED, Verdict.LATE])
every_model = pytest.mark.parametrize("key", KEYS)


def made(key: str) -> ReputationModel:
    return build(REPUTATION_MODELS, key, {})


def folded(model: ReputationModel, history: Sequence[Verdict], start: Standing | None = None) -> Standing:
    standing = model.unknown if start is None else start
    for verdict in history:
        standing = model.after(standing, verdict)
    return standing


def beside_honest(model: ReputationModel, own: Standing, honest: Standing, names: int = 9) -> tuple[int, int]:
    """Return the reputation of one participant, and of an honest one, in a round of ten."""
    standings = {A: {0: own, **dict.fromkeys(range(1, names + 1), honest)}}
    found = model(standings, Asked(A, range(names + 1)))
    return found[0], found[1]


def test_there_are_these_models() -> None:
    assert list(REPUTATION_MODELS) == KEYS


# Values worked out by hand.


def test_beta_of_the_paper() -> None:
    plain = Beta(forgetting=1.0, loss=1)
    standings = {A: {0: folded(plain, [GOOD] * 7 + [BAD]), 1: folded(plain, [BAD])}}
    assert plain(standings, Asked(A, [0, 1, 2])) == [800_000, 333_333, 500_000]
    faded = Beta(forgetting=0.5, loss=2)
    # Good: 1, 1.5, .75; bad: 0, 0, 2.
    assert folded(faded, [GOOD, GOOD, BAD]) == (750_000, 2_000_000)
    assert folded(faded, [MISSED], (750_000, 2_000_000)) == (375_000, 2_000_000)
    assert faded({A: {0: (750_000, 2_000_000)}}, Asked(A, [0])) == [1_750_000 * PPM // 4_750_000]


def test_an_average_falls_faster_than_it_rises() -> None:
    model = MovingAverage()
    assert folded(model, [GOOD]) == (550_000,)
    assert folded(model, [GOOD, GOOD]) == (595_000,)
    assert folded(model, [GOOD, GOOD, BAD]) == (297_500,)
    # Who stays away comes back to a newcomer's, and never above.
    assert folded(model, [MISSED], (900_000,)) == (860_000,)
    assert folded(model, [MISSED], (297_500,)) == (297_500,)
    assert model.after_failed_check((900_000,)) == (250_000,)
    assert model.after_failed_check((100_000,)) == (50_000,)


@examples(50)
@given(st.lists(verdicts, max_size=40), st.lists(verdicts, max_size=40), st.integers(0, PPM))
def test_subjective_logic_is_the_ledgers_opinion(own: list[Verdict], other: list[Verdict], trust: int) -> None:
    model, mine, theirs = SubjectiveLogic(), Evidence(), Evidence()
    for verdict in own:
        mine = mine.after(verdict)
    for verdict in other:
        theirs = theirs.after(verdict)
    standings = {A: {5: folded(model, own)}, B: {5: folded(model, other)}}
    assert model(standings, Asked(A, [5])) == [mine.reputation]
    assert model(standings, Asked(A, [5], [B, C], trust)) == [opinion_with(mine, [theirs], trust).reputation]
    assert model.after_failed_check(standings[A][5]) == model.adopted(mine.after_failed_check())


def exact_trust(rows: dict[str, dict[str, int]], first: dict[str, Fraction], model: EigenTrust) -> dict[str, Fraction]:
    """EigenTrust in exact fractions, by nodes' names; only those in ``first`` pass on all of their trust."""
    restart, passed_on = Fraction(str(model.restart)), Fraction(str(model.passed_on))
    names = {*first, *rows, *(name for row in rows.values() for name in row)}
    trust = {name: first.get(name, Fraction(0)) for name in names}
    for _ in range(model.steps):
        following = dict.fromkeys(names, Fraction(0))
        for name in names:
            rated = {each: rating for each, rating in rows.get(name, {}).items() if rating > 0 and each != name}
            for each, rating in rated.items():
                share = Fraction(rating, sum(rated.values())) * (1 if name in first else passed_on)
                following[each] += (1 - restart) * trust[name] * share
        left = 1 - sum(following.values())
        trust = {name: following[name] + left * first.get(name, Fraction(0)) for name in names}
    return trust


@examples(40)
@given(st.integers(0, 2**32), st.integers(0, PPM))
def test_eigentrust_is_the_power_iteration(seed: int, recommended: int) -> None:
    """Against exact fractions: three publishers, one of whom takes part, and a fourth whom nobody rates."""
    draw, model = random.Random(seed), EigenTrust(steps=6)
    stranger, ids = "0x" + "d" * 40, {C: 2}
    standings: Standings = {
        address: {each: (draw.randrange(20) * PPM, draw.randrange(10) * PPM) for each in draw.sample(range(8), 5)}
        for address in (A, B, C, stranger)
    }
    total = PPM + recommended
    first = {A: Fraction(PPM, total)} | ({B: Fraction(recommended, total)} if recommended else {})
    nodes = {A: "A", B: "B", C: "2"}
    rows = {
        nodes[address]: {str(each): good - bad for each, (good, bad) in standings[address].items()}
        for address in (A, B, C)
    }
    exact = exact_trust(rows, {nodes[address]: share for address, share in first.items()}, model)
    seen: dict[int, list[Fraction]] = {each: [Fraction(0), Fraction(0)] for each in range(8)}
    for address in (A, B, C):
        name = nodes[address]
        weight = exact[name] * (1 if address in first else Fraction(1, 4))
        for each, (good, bad) in standings[address].items():
            if weight and str(each) != name:
                seen[each][0] += weight * good / PPM
                seen[each][1] += weight * bad / PPM
    known = {each: standings[A].get(each, (0, 0)) for each in range(8)}
    refused = {each for each, (good, bad) in known.items() if bad and good <= bad and str(each) != nodes[A]}
    positive = sorted(exact[str(each)] for each in range(8) if exact.get(str(each), 0) > 0 and each not in refused)
    expected = []
    for each in range(8):
        (good, bad), own = seen[each], exact.get(str(each), Fraction(0))
        if good + bad == 0:
            expected.append(Fraction(1, 2))
        elif own > 0 and each not in refused:
            typical = positive[len(positive) // 2]
            expected.append(Fraction(1, 2) + min(own / typical, Fraction(1)) * good / (good + 2 * exact["A"]) / 2)
        else:
            expected.append((exact["A"] + good) / (exact["A"] + good + bad) / 2)
    found = model(standings, Asked(A, range(8), [B] if recommended else [], recommended, ids))
    for got, wanted in zip(found, expected, strict=True):
        assert abs(got - PPM * wanted) <= 2


# What every model promises.


@every_model
@examples(60)
@given(history=st.lists(verdicts, max_size=60))
def test_reputations_are_within_bounds_and_move_the_right_way(key: str, history: list[Verdict]) -> None:
    model = made(key)
    standing = folded(model, history)
    honest = folded(model, [GOOD] * 20)
    now, _ = beside_honest(model, standing, honest)
    assert 0 <= now <= PPM
    good, bad = (beside_honest(model, model.after(standing, verdict), honest)[0] for verdict in (GOOD, BAD))
    failed, _ = beside_honest(model, model.after_failed_check(standing), honest)
    assert bad <= min(now, good)
    assert failed <= min(now, NEWCOMER - 1)
    assert model.after(standing, Verdict.NONE) == standing


@every_model
def test_a_newcomer_is_below_everybody_who_delivers_and_passes_no_gate_beside_them(key: str) -> None:
    model = made(key)
    newcomer, honest = beside_honest(model, model.unknown, folded(model, [GOOD] * 30))
    assert newcomer == NEWCOMER
    assert newcomer < honest * GATE // PPM
    # One who delivers passes it in time.
    fresh = [beside_honest(model, folded(model, [GOOD] * n), folded(model, [GOOD] * (30 + n)))[0] for n in range(1, 25)]
    assert fresh == sorted(fresh) and fresh[-1] > honest * GATE // PPM


@every_model
def test_a_new_name_never_pays(key: str) -> None:
    """Whitewashing: for all histories of an attacker that it would leave, its new name is gated beside the others."""
    model = made(key)
    for rounds in range(1, 40):
        honest = folded(model, [GOOD] * (10 + rounds))
        newcomer, others = beside_honest(model, model.unknown, honest)
        assert newcomer < others * GATE // PPM
        # And it beats no name that delivered once.
        assert newcomer < beside_honest(model, folded(model, [GOOD]), honest)[0]


@every_model
def test_trust_is_lost_faster_than_it_was_won(key: str) -> None:
    """On-off: a trusted participant that turns falls below the gate at once, or soon, and comes back more slowly."""
    model = made(key)
    honest, standing = folded(model, [GOOD] * 40), folded(model, [GOOD] * 40)
    lost = 0
    while beside_honest(model, standing, honest)[0] >= beside_honest(model, standing, honest)[1] * GATE // PPM:
        standing, lost = model.after(standing, BAD), lost + 1
    won, back = 0, standing
    while beside_honest(model, back, honest)[0] < beside_honest(model, back, honest)[1] * GATE // PPM:
        back, won = model.after(back, GOOD), won + 1
    fresh = 0
    begun = model.unknown
    while beside_honest(model, begun, honest)[0] < beside_honest(model, begun, honest)[1] * GATE // PPM:
        begun, fresh = model.after(begun, GOOD), fresh + 1
    assert 1 <= lost <= 3
    assert lost <= fresh
    # Who goes on attacking until nobody trusts it has a longer way than a stranger's.
    ruined, way = folded(model, [BAD] * 6, standing), 0
    while beside_honest(model, ruined, honest)[0] < beside_honest(model, ruined, honest)[1] * GATE // PPM:
        ruined, way = model.after(ruined, GOOD), way + 1
    assert way > fresh and way >= won


@every_model
def test_staying_away_launders_nothing(key: str) -> None:
    model = made(key)
    refused = folded(model, [BAD] * 4)
    honest = folded(model, [GOOD] * 30)
    before, _ = beside_honest(model, refused, honest)
    after, _ = beside_honest(model, folded(model, [MISSED] * 60, refused), honest)
    assert before < 300_000 and after < NEWCOMER
    idle, working = beside_honest(model, folded(model, [MISSED] * 60, honest), honest)
    assert idle < working * GATE // PPM


@every_model
def test_splitting_helps_no_name(key: str) -> None:
    """Sybils: a name that delivers every fifth round is worth less than one that always does."""
    model = made(key)
    split, whole = beside_honest(
        model, folded(model, [GOOD, MISSED, MISSED, MISSED, MISSED] * 8), folded(model, [GOOD] * 40)
    )
    assert split < whole


@every_model
def test_evidence_that_was_adopted_is_worth_what_it_says(key: str) -> None:
    model = made(key)
    honest = folded(model, [GOOD] * 20)
    values = [
        beside_honest(model, model.adopted(evidence), honest)[0]
        for evidence in (Evidence(0, 6 * UNIT), Evidence(UNIT, UNIT), Evidence(UNIT), Evidence(10 * UNIT))
    ]
    assert values == sorted(values) and values[0] < NEWCOMER < values[-1]
    assert beside_honest(model, model.adopted(Evidence()), honest)[0] == NEWCOMER


# EigenTrust among hostile publishers.


def hostile(count: int, victims: Sequence[int], friends: Sequence[int]) -> Standings:
    """Publishers of the attackers that rate their own names well and everybody else badly."""
    praise: dict[int, Standing] = dict.fromkeys(friends, (20 * PPM, 0))
    blame: dict[int, Standing] = dict.fromkeys(victims, (0, 80 * PPM))
    return {f"0x{number:040x}": {**praise, **blame} for number in range(count)}


def test_publishers_whom_nobody_trusts_change_nothing() -> None:
    model, people = EigenTrust(), range(10)
    standings: Standings = {A: {each: (each * PPM, 0) for each in range(8)}}
    alone = model(standings, Asked(A, people))
    crowd = hostile(300, range(8), [8, 9])
    # They take part, too: but nobody has accepted an update of theirs.
    ids = {address: 100 + place for place, address in enumerate(crowd)}
    assert model({**standings, **crowd}, Asked(A, people, ids=ids)) == alone
    assert alone[8] == alone[9] == NEWCOMER


def test_ten_thousand_ratings_are_soon_reckoned() -> None:
    draw = random.Random(0)
    model, people = EigenTrust(), range(200)
    standings = {A: {each: (PPM * draw.randrange(1, 20), 0) for each in people}}
    for publisher in range(1000):
        rated = draw.sample(people, 10)
        standings[f"0x{publisher:040x}"] = dict.fromkeys(rated, (PPM, 0))
    # All of them take part and are trusted, so that all rows count.
    ids = {f"0x{publisher:040x}": publisher % 200 for publisher in range(1000)}
    began = time.perf_counter()
    found = model(standings, Asked(A, people, ids=ids))
    assert time.perf_counter() - began < 10
    assert len(found) == 200 and all(0 <= each <= PPM for each in found)


def test_what_is_looked_at_is_bounded_and_the_publishers_own_row_is_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedledger.aggregator.reputation.eigentrust.MAX_RATINGS", 12)
    model = EigenTrust()
    own = dict.fromkeys(range(20), (10 * PPM, 0))
    short: dict[int, Standing] = {30: (PPM, 0)}
    long: dict[int, Standing] = dict.fromkeys(range(31, 44), (PPM, 0))
    ids = {B: 0, C: 1}
    found = model({A: own, B: short, C: long}, Asked(A, range(44), ids=ids))
    assert min(found[:20]) > NEWCOMER and found[30] > NEWCOMER
    assert found[31:] == [NEWCOMER] * 13


def test_what_participants_say_of_themselves_and_of_each_other_opens_no_gate() -> None:
    """A trusted participant that publishes praises itself and a friend that never delivered anything."""
    model, people = EigenTrust(), range(11)
    standings = {A: dict.fromkeys(range(10), (20 * PPM, 0))}
    honest = model(standings, Asked(A, people))
    praise: dict[int, Standing] = {0: (10**6 * PPM, 0), 10: (20 * PPM, 0)}
    back: dict[int, Standing] = {0: (20 * PPM, 0)}
    praised = model({**standings, B: praise, C: back}, Asked(A, people, ids={B: 0, C: 10}))
    # Nobody else loses anything, and who praises gains a thousandth at most, though its friend praises it, too.
    assert praised[1:10] == honest[1:10] and 0 <= praised[0] - honest[0] < PPM // 1000
    assert NEWCOMER < praised[10] < honest[0] * GATE // PPM


def test_whom_the_publisher_refuses_more_than_recommenders_praise_has_no_trust() -> None:
    model, refused = EigenTrust(), (0, 80 * PPM)
    standings: dict[str, dict[int, Standing]] = {
        A: {0: (20 * PPM, 0), 1: refused},
        B: {0: (20 * PPM, 0), 1: (20 * PPM, 0)},
    }
    honest, praised = model(standings, Asked(A, [0, 1], [B], PPM // 2))
    assert praised < honest * GATE // PPM and praised < NEWCOMER // 4
    # Nor does a recommender's blame count against whom the publisher accepts.
    standings[B] = {0: (20 * PPM, 0), 1: refused}
    standings[A] = {0: (20 * PPM, 0), 1: (2 * PPM, 0)}
    assert model(standings, Asked(A, [0, 1], [B], PPM // 2))[1] > NEWCOMER


def test_a_recommender_counts_by_the_tasks_trust() -> None:
    model = EigenTrust()
    standings = {A: {0: (20 * PPM, 0)}, B: {1: (20 * PPM, 0)}}
    worth = [model(standings, Asked(A, [0, 1], [B], trust))[1] for trust in (1, 10_000, 100_000, 500_000, PPM)]
    assert worth == sorted(worth) and worth[0] == NEWCOMER and worth[-1] > 900_000
    assert model(standings, Asked(A, [0, 1]))[1] == NEWCOMER


# Folding.


def entry(publisher: str, verdicts: dict[int, Verdict]) -> Applied:
    return Applied(publisher, None, None, verdicts, {})


@every_model
def test_a_fold_goes_on_from_where_it_is_and_back(key: str) -> None:
    model, history = made(key), History()
    history.applied = [entry(A, {0: GOOD, 1: BAD}), entry(B, {0: BAD}), entry(A, {0: GOOD})]
    history.applied.append(Applied(A, None, None, {}, {0: Evidence(0, UNIT)}, check_failed=True))
    history.applied.append(Applied(A, None, None, {}, {1: Evidence(UNIT)}))
    fold = Fold(model, frozenset({A}))

    def at(place: int) -> dict[int, Standing]:
        return dict(fold.at(history, place).get(A, {}))

    twice = folded(model, [GOOD, GOOD])
    assert at(0) == {} and B not in fold.at(history, 5)
    assert at(3) == {0: twice, 1: folded(model, [BAD])}
    assert at(4)[0] == model.after_failed_check(twice)
    assert at(5)[1] == model.adopted(Evidence(UNIT))
    assert at(1) == {0: folded(model, [GOOD]), 1: folded(model, [BAD])}
    # A history that was folded again has another order, though as many entries.
    history.applied = [entry(A, {0: BAD}), *history.applied[1:]]
    assert at(1) == {0: folded(model, [BAD])}
    assert Fold(model, None).at(history, 2)[B] == {0: folded(model, [BAD])}


# Parameters.


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Beta(forgetting=1.01), "forgetting"),
        (lambda: Beta(loss=0), "loss"),
        (lambda: EigenTrust(restart=0.0), "restart"),
        (lambda: EigenTrust(steps=51), "steps"),
        (lambda: EigenTrust(newcomer=0.6), "newcomer"),
        (lambda: MovingAverage(fall=0.0), "fall"),
        (lambda: MovingAverage(newcomer=0.51), "newcomer"),
    ],
)
def test_parameters_are_bounded(make: Callable[[], ReputationModel], name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is"):
        make()
