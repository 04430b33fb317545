"""Opinions of several publishers about one participant: the mirror of the ledger's ``Opinions`` library.

Subjective logic (Josang 2016, *Subjective Logic*: trust discounting and cumulative fusion) with the weights of Kang et
al. (2019, *Incentive mechanism for reliable federated learning*, IEEE IoT Journal 6(6)). A publisher has an opinion of
its own; publishers that it names recommend theirs. Recommendations are weighed by how often each recommender has dealt
with the participant, discounted by the trust that the publisher puts in them, and fused with its own opinion.

All values are integers in parts per million, and belief + disbelief + uncertainty = 1,000,000 after each step. Each
step says how it rounds: belief always down.

Kang divides a recommender's interactions with a participant by the mean of its interactions with *all* of its
participants. That would let a recommender raise its own weight by many idle names, so here the mean is taken over the
recommenders of this one participant. It is the same for all of them and cancels: the weight is the number of
interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from fedledger.protocol.records.reputation import PPM, Evidence, Opinion

MAX_RECOMMENDERS = 8
"""How many recommenders a task may name."""
DEFAULT_RECOMMENDER_TRUST = 500_000
"""The trust in recommenders where a task states none, in parts per million: what they say counts half."""
VACUOUS = Opinion(0, 0, PPM)
"""The opinion of a publisher that knows nothing."""


def recommended(evidence: Sequence[Evidence]) -> Opinion:
    """Return what recommenders say together about a participant.

    Each recommender counts by its interactions N = positive + negative, that is by the decayed rounds in which it saw
    an update. Missed rounds make its opinion uncertain, and give it no weight.

    Parameters
    ----------
    evidence
        One for each recommender.

    Returns
    -------
    Opinion
        b = sum(N b) / sum(N) and d = sum(N d) / sum(N), both rounded down, and u = 1 - b - d, which is thereby rounded
        up. Vacuous if nobody has seen an update.
    """
    interactions = [one.positive + one.negative for one in evidence]
    total = sum(interactions)
    if total == 0:
        return VACUOUS
    opinions = [one.opinion for one in evidence]
    belief = sum(count * one.belief for count, one in zip(interactions, opinions, strict=True)) // total
    disbelief = sum(count * one.disbelief for count, one in zip(interactions, opinions, strict=True)) // total
    return Opinion(belief, disbelief, PPM - belief - disbelief)


def discount(opinion: Opinion, trust: int) -> Opinion:
    """Return an opinion as one sees it who trusts its source so far.

    Parameters
    ----------
    opinion
        What the source says.
    trust
        In parts per million, at most 1,000,000.

    Returns
    -------
    Opinion
        b' = b * trust, rounded down; d' = d * trust, rounded up, but at most 1 - b'; u' = 1 - b' - d'.
    """
    belief = opinion.belief * trust // PPM
    disbelief = min(-(-opinion.disbelief * trust // PPM), PPM - belief)
    return Opinion(belief, disbelief, PPM - belief - disbelief)


def fuse(left: Opinion, right: Opinion) -> Opinion:
    """Return the cumulative fusion of two opinions that rest on different interactions.

    Returns
    -------
    Opinion
        With k = u_l + u_r - u_l u_r: b = (b_l u_r + b_r u_l) / k, rounded down; u = u_l u_r / k, rounded up, but at
        most 1 - b; d = 1 - b - u. If neither opinion leaves any uncertainty: the mean belief, rounded down, and no
        uncertainty. A vacuous opinion changes nothing.
    """
    if left.uncertainty == 0 and right.uncertainty == 0:
        belief = (left.belief + right.belief) // 2
        return Opinion(belief, PPM - belief, 0)
    both = left.uncertainty * right.uncertainty
    scale = (left.uncertainty + right.uncertainty) * PPM - both
    belief = (left.belief * right.uncertainty + right.belief * left.uncertainty) * PPM // scale
    uncertainty = min(-(-both * PPM // scale), PPM - belief)
    return Opinion(belief, PPM - belief - uncertainty, uncertainty)


def opinion_with(own: Evidence, recommendations: Sequence[Evidence], trust: int) -> Opinion:
    """Return a publisher's opinion about a participant, fused with what its recommenders say.

    Parameters
    ----------
    own
        The publisher's own evidence.
    recommendations
        The evidence of each recommender, at most eight.
    trust
        How far recommenders are trusted, in parts per million.

    Returns
    -------
    Opinion
        The publisher's own opinion, unchanged, if no recommender has seen an update.

    Notes
    -----
    Evidence against a participant never raises its reputation. Evidence for it does, except where recommenders praise a
    participant of which the publisher has refused much: each interaction of the publisher's own, also a good one, moves
    weight from the recommenders to the publisher, which can cost up to half a hundredth.
    """
    return fuse(own.opinion, discount(recommended(recommendations), trust))


class KangWeights(NamedTuple):
    """The parameters of Kang's opinion.

    Parameters
    ----------
    good, bad
        Weights of good and bad interactions, kappa and eta; their sum is 1, and bad ones weigh at least as much.
    recent, past
        Weights of recent and past interactions, zeta and sigma.
    uncertain
        The part of the uncertainty that counts as trust, gamma.
    """

    good: Fraction = Fraction(2, 5)
    bad: Fraction = Fraction(3, 5)
    recent: Fraction = Fraction(3, 5)
    past: Fraction = Fraction(2, 5)
    uncertain: Fraction = Fraction(1, 2)


class KangOpinion(NamedTuple):
    """An opinion in exact fractions of one, and the reputation that follows."""

    belief: Fraction
    disbelief: Fraction
    uncertainty: Fraction
    reputation: Fraction


def kang_opinion(
    recent: tuple[int, int],
    past: tuple[int, int],
    delivered: Fraction,
    weights: KangWeights | None = None,
) -> KangOpinion:
    """Return the opinion of Kang et al. (2019) in exact fractions, for comparison with the ledger's.

    Parameters
    ----------
    recent, past
        Good and bad interactions, each in recent and in past rounds.
    delivered
        The share of rounds in which the participant delivered, q.
    weights
        The parameters; those of the paper if absent.

    Returns
    -------
    KangOpinion
        u = 1 - q; b = q kappa alpha / (kappa alpha + eta beta); d = q - b; reputation b + gamma u. Without interactions
        nothing is known: u = 1.
    """
    chosen = weights or KangWeights()
    good = chosen.good * (chosen.recent * recent[0] + chosen.past * past[0])
    bad = chosen.bad * (chosen.recent * recent[1] + chosen.past * past[1])
    if good + bad == 0:
        return KangOpinion(Fraction(0), Fraction(0), Fraction(1), chosen.uncertain)
    uncertainty = 1 - delivered
    belief = delivered * good / (good + bad)
    return KangOpinion(belief, delivered - belief, uncertainty, belief + chosen.uncertain * uncertainty)
