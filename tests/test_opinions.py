"""Opinions of several publishers about one participant: vectors, rounding, and what may not happen."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.records.opinions import (
    MAX_RECOMMENDERS,
    VACUOUS,
    KangWeights,
    discount,
    fuse,
    kang_opinion,
    opinion_with,
    recommended,
)
from fedledger.protocol.records.reputation import PPM, Evidence, Opinion
from support.examples import examples

evidences = st.builds(Evidence, st.integers(0, 4095), st.integers(0, 4095), st.integers(0, 255))
trusts = st.integers(0, PPM)


@st.composite
def opinions(draw: st.DrawFn) -> Opinion:
    belief = draw(st.integers(0, PPM))
    uncertainty = draw(st.integers(0, PPM - belief))
    return Opinion(belief, PPM - belief - uncertainty, uncertainty)


def parts(opinion: Opinion) -> tuple[int, int, int]:
    return opinion.belief, opinion.disbelief, opinion.uncertainty


def is_opinion(opinion: Opinion) -> bool:
    return min(parts(opinion)) >= 0 and sum(parts(opinion)) == PPM


def exact_fusion(left: Opinion, right: Opinion) -> tuple[Fraction, Fraction, Fraction]:
    """Cumulative fusion in fractions of one million, by way of the evidence of beta distributions that it adds up."""
    (b1, d1, u1), (b2, d2, u2) = ([Fraction(part) for part in parts(one)] for one in (left, right))
    good, bad = b1 / u1 + b2 / u2, d1 / u1 + d2 / u2
    total = good + bad + 1
    return PPM * good / total, PPM * bad / total, PPM / total


def test_fusions_of_the_literature() -> None:
    first = fuse(Opinion(600_000, 300_000, 100_000), Opinion(91_000, 604_000, 305_000))
    assert parts(first) == (512_950, 405_608, 81_442)
    for found, expected in zip(parts(first), (512_950.6008, 405_607.4766, 81_441.9226), strict=True):
        assert abs(found - expected) <= 1
    second = fuse(Opinion(400_000, 0, 600_000), Opinion(700_000, 0, 300_000))
    assert parts(second) == (750_000, 0, 250_000)


def test_kangs_opinions() -> None:
    even = KangWeights(Fraction(1, 2), Fraction(1, 2), Fraction(1), Fraction(1))
    weighted = even._replace(good=Fraction(2, 5), bad=Fraction(3, 5))
    delivered = Fraction(9, 10)
    assert kang_opinion((8, 2), (0, 0), delivered, even).reputation == Fraction(77, 100)
    assert kang_opinion((8, 2), (0, 0), delivered, weighted).reputation == Fraction(31, 44)
    aged = kang_opinion((5, 3), (10, 1), Fraction(4, 5))
    assert aged.belief == Fraction(56, 103) and aged.reputation == Fraction(56, 103) + Fraction(1, 10)
    assert aged.belief + aged.disbelief + aged.uncertainty == 1
    assert kang_opinion((0, 0), (0, 0), Fraction(1)).reputation == Fraction(1, 2)


def test_certain_opinions_are_averaged_and_outweigh_uncertain_ones() -> None:
    sure, other = Opinion(700_001, 299_999, 0), Opinion(200_000, 800_000, 0)
    assert parts(fuse(sure, other)) == (450_000, 550_000, 0)
    assert fuse(sure, Opinion(0, 500_000, 500_000)) == sure
    assert fuse(VACUOUS, VACUOUS) == VACUOUS


def test_a_recommender_counts_by_the_updates_that_it_saw() -> None:
    praise, blame = Evidence(480, 0, 0), Evidence(0, 1440, 0)
    # Opinions (1/2, 0, 1/2) and (0, 3/4, 1/4), weighed 1 to 3.
    assert parts(recommended([praise, blame])) == (125_000, 562_500, 312_500)
    assert recommended([Evidence(0, 0, 200)]) == VACUOUS
    # Who saw it only miss rounds says nothing about the updates that others saw.
    assert recommended([praise, Evidence(0, 0, 255)]) == recommended([praise])


def test_a_discount_keeps_doubt_rounded_up() -> None:
    assert parts(discount(Opinion(333_333, 333_333, 333_334), 500_000)) == (166_666, 166_667, 666_667)
    assert discount(Opinion(0, 1, 999_999), 1) == Opinion(0, 1, 999_999)
    assert discount(Opinion(600_000, 400_000, 0), PPM) == Opinion(600_000, 400_000, 0)
    assert discount(Opinion(600_000, 400_000, 0), 0) == VACUOUS


@examples(300)
@given(opinions(), opinions())
def test_fusions_are_opinions_and_symmetric(left: Opinion, right: Opinion) -> None:
    fused = fuse(left, right)
    assert is_opinion(fused)
    assert fused == fuse(right, left)
    assert fused.uncertainty <= min(left.uncertainty, right.uncertainty)
    if left.uncertainty and right.uncertainty:
        belief, disbelief, uncertainty = exact_fusion(left, right)
        assert belief - 1 < fused.belief <= belief
        assert uncertainty <= fused.uncertainty < uncertainty + 1 or fused.disbelief == 0
        assert abs(fused.disbelief - disbelief) < 1


@examples(200)
@given(opinions())
def test_an_opinion_that_knows_nothing_changes_nothing(opinion: Opinion) -> None:
    assert fuse(opinion, VACUOUS) == fuse(VACUOUS, opinion) == opinion


@examples(200)
@given(st.lists(evidences, max_size=MAX_RECOMMENDERS), trusts)
def test_recommendations_are_opinions_within_the_recommenders_own(evidence: list[Evidence], trust: int) -> None:
    said = recommended(evidence)
    assert is_opinion(said)
    assert is_opinion(discount(said, trust))
    assert discount(said, trust).uncertainty >= said.uncertainty - 1
    counted = [one.opinion for one in evidence if one.positive + one.negative]
    if counted:
        assert min(one.belief for one in counted) <= said.belief <= max(one.belief for one in counted)
        assert min(one.disbelief for one in counted) <= said.disbelief <= max(one.disbelief for one in counted)


@examples(300)
@given(evidences, st.lists(evidences, max_size=MAX_RECOMMENDERS), trusts, st.integers(0, 600))
def test_evidence_moves_opinions_one_way(own: Evidence, others: list[Evidence], trust: int, more: int) -> None:
    before = opinion_with(own, others, trust)
    assert is_opinion(before)
    assert before.uncertainty <= own.opinion.uncertainty
    worse = Evidence(own.positive, min(4095, own.negative + more), own.missed)
    assert opinion_with(worse, others, trust).reputation <= before.reputation + 1
    better = Evidence(min(4095, own.positive + more), own.negative, own.missed)
    # Praise that the publisher's own good rounds dilute costs little.
    assert opinion_with(better, others, trust).reputation >= before.reputation - 10_000
    assert better.opinion.reputation >= own.opinion.reputation - 1


@examples(300)
@given(evidences, evidences, trusts, st.integers(0, 600), st.booleans())
def test_more_evidence_of_a_recommender_leaves_less_doubt(
    own: Evidence, other: Evidence, trust: int, more: int, good: bool
) -> None:
    positive, negative = other.positive + more * good, other.negative + more * (not good)
    later = Evidence(min(4095, positive), min(4095, negative), other.missed)
    before, after = opinion_with(own, [other], trust), opinion_with(own, [later], trust)
    assert after.uncertainty <= before.uncertainty + 3
    if good:
        assert recommended([later]).reputation >= recommended([other]).reputation - 1
    else:
        assert recommended([later]).reputation <= recommended([other]).reputation + 1


@examples(200)
@given(evidences, st.lists(evidences, max_size=MAX_RECOMMENDERS))
def test_recommenders_that_nobody_trusts_say_nothing(own: Evidence, others: list[Evidence]) -> None:
    assert opinion_with(own, others, 0) == own.opinion


@examples(200)
@given(evidences, evidences)
def test_two_publishers_agree_about_what_they_share(own: Evidence, other: Evidence) -> None:
    """With full trust the fusion of two opinions is the same, whoever asks whom, unless one of them saw no update."""
    if own.positive + own.negative and other.positive + other.negative:
        one, two = opinion_with(own, [other], PPM), opinion_with(other, [own], PPM)
        assert abs(one.belief - two.belief) <= 1 and abs(one.uncertainty - two.uncertainty) <= 2
