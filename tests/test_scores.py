"""Scores in Python alone: what they are, how they are packed, drawn for and tallied, against naive reckoning."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import (
    BEST_SCORE,
    SAME_SCORE,
    WORST_SCORE,
    Tally,
    barred_scorers,
    draw_scorers,
    heard,
    pack_scores,
    score_of,
    scorer_seed,
    tally_scores,
    unheard,
    unpack_scores,
)
from fedledger.protocol.records.signatures import recover, score_salt, scores_message, sign
from fedledger.protocol.records.verdicts import Verdict
from support.counted_scores import counted
from support.examples import examples

scores = st.sampled_from([0, BEST_SCORE, SAME_SCORE, WORST_SCORE]) | st.integers(0, WORST_SCORE)
losses = st.floats(allow_nan=True, allow_infinity=True)
rows = st.integers(0, 15).flatmap(
    lambda scorers: st.integers(1, 40).flatmap(
        lambda updates: st.lists(
            st.lists(scores, min_size=updates, max_size=updates), min_size=scorers, max_size=scorers
        )
    )
)
near = st.integers(1, 20) | st.just(0)
"""Scores that often are alike."""
close = st.integers(1, 15).flatmap(
    lambda scorers: st.integers(1, 12).flatmap(
        lambda updates: st.lists(st.lists(near, min_size=updates, max_size=updates), min_size=scorers, max_size=scorers)
    )
)


def test_a_score_says_what_an_update_does_to_the_loss() -> None:
    assert score_of(1.0, 1.0) == SAME_SCORE
    assert score_of(2.0, 1.0) == SAME_SCORE + 4096 and score_of(0.5, 1.0) == SAME_SCORE - 2048
    assert score_of(0.0, 0.0) == SAME_SCORE and score_of(2.0**-10, 0.0) == SAME_SCORE + 4096
    assert score_of(1e300, 1.0) == WORST_SCORE and score_of(-1e300, 1.0) == BEST_SCORE
    assert score_of(math.nan, 1.0) == score_of(math.inf, math.inf) == WORST_SCORE
    assert score_of(1.0, math.inf) == BEST_SCORE


@examples(300)
@given(losses, losses, losses)
def test_any_score_is_one_and_a_greater_loss_never_has_a_better_one(loss: float, other: float, base: float) -> None:
    found = score_of(loss, base)
    assert BEST_SCORE <= found <= WORST_SCORE
    if math.isfinite(loss) and math.isfinite(other) and loss <= other:
        assert found <= score_of(other, base)


@examples(300)
@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6))
def test_a_score_is_rounded_once(change: int, base: int) -> None:
    exact = SAME_SCORE + Fraction(4096 * change, base)
    clipped = min(max(exact, Fraction(BEST_SCORE)), Fraction(WORST_SCORE))
    assert abs(score_of(float(base + change), float(base)) - clipped) <= Fraction(1, 2) + Fraction(1, 10**6)


@examples(200)
@given(st.lists(scores, max_size=70))
def test_packed_scores_are_unpacked(given_: list[int]) -> None:
    words = pack_scores(given_)
    assert len(words) == (len(given_) + 15) // 16 and unpack_scores(words, len(given_)) == given_


@pytest.mark.parametrize("words", [(), (0, 0), (1 << 16 * 15,), (32_767,), (1 << 256,), (-1,)])
def test_what_the_ledger_takes_from_nobody_is_no_scores(words: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scores"):
        unpack_scores(words, 15)


@pytest.mark.parametrize("score", [-1, WORST_SCORE + 1])
def test_nothing_else_is_packed(score: int) -> None:
    with pytest.raises(ValueError, match="score"):
        pack_scores([score])


@examples(400)
@given(
    rows | close, st.integers(0, 15), st.integers(4, 255), st.integers(1, WORST_SCORE) | st.integers(1, 5), st.data()
)
def test_a_tally_is_what_counting_says(
    given_: list[list[int]], more: int, spread: int, floor: int, data: st.DataObject
) -> None:
    drawn = min(15, len(given_) + more)
    excused = data.draw(st.lists(st.integers(0, 3), min_size=len(given_), max_size=len(given_)))
    # Of those who gave a score of an update nobody is among those that may not.
    barred = [data.draw(st.integers(0, drawn - sum(map(bool, column)))) for column in zip(*given_, strict=True)]
    expected = counted(given_, drawn, spread, floor, excused, barred)
    assert tally_scores(given_, drawn, spread, floor, excused, barred) == expected
    nobody, none = [0] * len(given_), [0] * len(barred)
    assert tally_scores(given_, drawn, spread, floor) == counted(given_, drawn, spread, floor, nobody, none)


@examples(200)
@given(close, st.integers(4, 12), st.integers(1, 4), st.randoms())
def test_nobodys_place_matters(given_: list[list[int]], spread: int, floor: int, draw: object) -> None:
    order = list(range(len(given_[0])))
    draw.shuffle(order)  # type: ignore[attr-defined]
    straight = tally_scores(given_, len(given_), spread, floor)
    turned = tally_scores([[row[i] for i in order] for row in reversed(given_)], len(given_), spread, floor)
    assert turned.limit == straight.limit
    assert sorted(order[i] for i in turned.outvoted) == list(straight.outvoted)


@examples(200)
@given(st.lists(st.integers(15_000, 17_000), min_size=4, max_size=12), st.data())
def test_less_than_half_of_the_scorers_move_no_median_out_of_the_others(honest: list[int], data: st.DataObject) -> None:
    """Whatever a minority says, a median lies among what the others said, or the update is not excluded."""
    scorers = data.draw(st.integers(3, 15))
    liars = data.draw(st.integers(0, (scorers - 1) // 2))
    lies = data.draw(
        st.lists(st.lists(scores, min_size=len(honest), max_size=len(honest)), min_size=liars, max_size=liars)
    )
    found = tally_scores([honest] * (scorers - liars) + lies, scorers, 8, 100)
    assert all(median in (0, score) for median, score in zip(found.medians, honest, strict=True))


def test_of_fewer_than_a_majority_nothing_follows() -> None:
    row = [100, 100, 100, 30_000]
    assert tally_scores([row, row], 4, 8, 10) == Tally()
    assert tally_scores([row, row], 2, 8, 10) == Tally()
    assert tally_scores([row, row, row], 4, 8, 10) == Tally((100, 100, 100, 30_000), 110, (3,), ())
    assert tally_scores([], 0, 8, 10) == Tally()


def test_who_may_not_score_an_update_is_none_of_those_of_whom_most_must() -> None:
    """Of five scorers, three may not score the last update: one of them is its sender, two it has judged."""
    present, ignored = (10, 11, 12, 13), [{13}, {13, 77}, {13}, set(), set()]
    barred = barred_scorers(present, ignored)
    assert barred == [0, 0, 0, 3]
    fair, liar = [100, 100, 100, 30_000], [100, 100, 100, 0]
    excused = [1, 1, 1, 0, 0]
    assert tally_scores([liar] * 3 + [fair] * 2, 5, 8, 10, excused).outvoted == ()
    assert tally_scores([liar] * 3 + [fair] * 2, 5, 8, 10, excused, barred).outvoted == (3,)
    # Nobody decides alone: not if the other one is silent, and not if all others may not.
    assert tally_scores([liar] * 3 + [fair], 5, 8, 10, excused[:4], barred).outvoted == ()
    assert tally_scores([liar] * 4 + [fair], 5, 8, 10, [1] * 4 + [0], [0, 0, 0, 4]).outvoted == ()


def test_ones_own_update_and_those_of_who_recommends_one_are_not_heard() -> None:
    seen, unseen = Evidence(positive=1), Evidence()
    ignored = unheard(7, {3: seen, 9: unseen})
    assert ignored == {3, 7}
    assert heard([5, 6, 7, 8], [3, 4, 7, 9], ignored) == [0, 6, 0, 8]


class TestDraws:
    SEED = scorer_seed(bytes(32), 1, 1)

    def test_nobody_is_drawn_twice_and_only_who_is_there(self) -> None:
        found = draw_scorers(self.SEED, [4, None, 8, 15, 16], 15, {})
        assert sorted(found) == [4, 8, 15, 16]
        assert draw_scorers(self.SEED, [], 3, {}) == () and draw_scorers(self.SEED, [None], 3, {}) == ()

    def test_another_round_draws_others(self) -> None:
        drawn = {draw_scorers(scorer_seed(bytes(32), 1, index), range(100), 5, {}) for index in range(50)}
        assert len(drawn) == 50

    def test_who_has_failed_is_passed_over_as_often_as_it_has_lost(self) -> None:
        failed = Evidence()
        for _ in range(3):
            failed = failed.after(Verdict.OUTVOTED)
        absent = Evidence().after(Verdict.MISSED)
        seeds = [scorer_seed(index.to_bytes(32), 1, 1) for index in range(600)]
        first = [draw_scorers(seed, [0, 1, 2], 1, {0: failed, 2: absent}) for seed in seeds]
        share = failed.reputation / 500_000
        assert 0 < share < 0.7 and absent.reputation == 500_000
        expected = 600 * share / (2 + share)
        assert abs(first.count((0,)) - expected) < 50
        assert abs(first.count((1,)) - first.count((2,))) < 60


def test_a_signature_over_scores_is_bound_to_all_it_names() -> None:
    key, place = b"\7" * 32, (31337, "0x0000000000000000000000000000000000000001", 1)
    signature = sign(scores_message(place, 1, 0, b"c" * 32), key)
    signer = recover(scores_message(place, 1, 0, b"c" * 32), signature)
    others = [((1, *place[1:]), 1, 0, b"c"), ((*place[:2], 2), 1, 0, b"c"), (place, 2, 0, b"c"), (place, 1, 1, b"c")]
    assert all(recover(scores_message(*other[:3], other[3] * 32), signature) != signer for other in others)
    with pytest.raises(ValueError, match="32"):
        scores_message(place, 1, 0, b"short")
    assert score_salt(key, place, 1) != score_salt(key, place, 2)
