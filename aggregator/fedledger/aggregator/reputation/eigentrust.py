"""EigenTrust: trust that flows from the publisher along verdicts of all publishers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.reputation.base import NEWCOMER, REPUTATION_MODELS, Asked, Counts, Standing, Standings
from fedledger.protocol.methods.parameters import Real, Whole
from fedledger.protocol.records.reputation import PPM, ppm

UNIT = 1 << 60
"""All trust that there is."""
MAX_RATINGS = 100_000
"""How many standings are looked at, at most."""

Node = int | str
"""A participant by its id, or a publisher that is none by its address."""


@REPUTATION_MODELS.register("eigentrust@1")
@dataclass(frozen=True)
class EigenTrust(Counts):
    """Trust that flows from the publisher and its recommenders along everybody's verdicts (Kamvar et al. 2003).

    A publisher i rates participant j by max(0, good - bad); its ratings, divided by their sum, are its row of C. Trust
    follows from a fixed number of steps t <- (1 - a) C^T t + a p in integers of 1/2^60, from t = p: the pre-trusted p
    are the publisher, with weight 1, and each recommender, with the task's trust in it. Who has no ratings passes its
    trust on to p. A participant that publishes tasks rates, too, but passes on only ``passed_on`` of its trust, the
    rest going to p; what anybody says about itself does not count. Ratings are looked at outwards from p, 100,000 at
    most besides the publisher's own: of those who are equally far, shorter rows come first.

    A reputation of 0 to 1 follows by how far trusted publishers (weights w: their t, times ``passed_on`` unless they
    are pre-trusted) have seen good updates G = sum(w good) and bad ones B = sum(w bad), w0 being the publisher's:

        with trust:  newcomer + (1 - newcomer) · min(t, T) / T · G / (G + 2 w0)
        without:     newcomer · (w0 + G) / (w0 + G + B)

    T is the upper median trust of those asked for who have any: beyond it trust buys nothing, so nobody is lowered by
    another's praise. Whoever nobody trusted has judged has ``newcomer``. Whoever else praises a participant, it loses
    its trust once ``loss`` times its refusals by the publisher outweigh what that publisher remembers of its accepted
    updates.

    It resists new names, staying away, and publishers that nobody trusted has rated: with however many ratings of each
    other, they have no trust and change no reputation. Praise among participants that publish is cut by ``passed_on``
    and by G, but not to nothing. It does not resist names that each deliver, nor a majority of those asked for.

    Parameters
    ----------
    restart
        The part a of all trust that returns to the pre-trusted in each step.
    steps
        How many steps there are.
    passed_on
        The part of its trust that a participant passes on to those whom it rates as a publisher.
    newcomer
        The reputation of whom nobody trusted has judged.
    """

    forgetting: Annotated[float, Real(0, 1)] = 0.9
    restart: Annotated[float, Real(0, 1, above=True)] = 0.2
    steps: Annotated[int, Whole(1, 50)] = 20
    passed_on: Annotated[float, Real(0, 1)] = 0.25
    newcomer: Annotated[float, NEWCOMER] = 0.5
    heeds_recommenders: ClassVar[bool] = True
    heeds_everybody: ClassVar[bool] = True

    def __call__(self, standings: Standings, asked: Asked) -> list[int]:
        """Return the reputations that follow from everybody's trust, rounded down."""
        first = _pretrusted(asked)
        own = asked.ids.get(asked.publisher, asked.publisher)
        rows = _reached(standings, asked.ids, first, own)
        trust = self.trust(rows, first)
        seen = self._seen(rows, trust, first, frozenset(asked.participants))
        # Nobody's praise outweighs what the publisher itself has seen: whom it refuses more has no trust.
        for participant, (good, bad) in rows.get(own, {}).items():
            if bad and good <= bad and participant != own:
                trust[participant] = 0
        positive = sorted(trust[participant] for participant in asked.participants if trust[participant] > 0)
        typical = positive[len(positive) // 2] if positive else 1
        # One update that the publisher would have seen: what less is known outweighs nothing.
        doubt = trust[own] * PPM
        return [
            self._reputation(min(trust[participant], typical), typical, seen.get(participant, (0, 0)), doubt)
            for participant in asked.participants
        ]

    def trust(self, rows: Mapping[Node, Mapping[int, Standing]], first: Mapping[Node, int]) -> Counter[Node]:
        """Return everybody's trust, in parts of 2^60.

        Parameters
        ----------
        rows
            The standings with each publisher.
        first
            The trust of the pre-trusted, which sums to 2^60.
        """
        ratings = {node: _ratings(node, row) for node, row in rows.items()}
        onwards = PPM - ppm(self.restart)
        trust = Counter(first)
        for _ in range(self.steps):
            following: Counter[Node] = Counter()
            for node, mass in trust.items():
                rated, total = ratings.get(node, ((), 1))
                passed = mass * onwards * self._weight(node, first) // PPM**2
                for participant, rating in rated:
                    following[participant] += passed * rating // total
            left = UNIT - following.total()
            for node, share in first.items():
                following[node] += left * share // UNIT
            trust = following
        return trust

    def _weight(self, node: Node, first: Mapping[Node, int]) -> int:
        """Return how much what a node says counts, in parts per million."""
        return PPM if node in first else ppm(self.passed_on)

    def _seen(
        self,
        rows: Mapping[Node, Mapping[int, Standing]],
        trust: Mapping[Node, int],
        first: Mapping[Node, int],
        asked: frozenset[int],
    ) -> dict[int, tuple[int, int]]:
        """Return what trusted publishers have seen of each participant: good and bad, times their trust."""
        seen: dict[int, tuple[int, int]] = {}
        for node, row in rows.items():
            weight = trust[node] * self._weight(node, first) // PPM
            for participant, (good, bad) in row.items():
                if participant in asked and participant != node:
                    before = seen.get(participant, (0, 0))
                    seen[participant] = before[0] + weight * good, before[1] + weight * bad
        return seen

    def _reputation(self, trust: int, typical: int, seen: tuple[int, int], doubt: int) -> int:
        good, bad = seen
        newcomer = ppm(self.newcomer)
        if good + bad == 0:
            return newcomer
        if trust > 0:
            return newcomer + (PPM - newcomer) * trust * good // (typical * (good + 2 * doubt))
        return newcomer * (doubt + good) // (doubt + good + bad)


def _pretrusted(asked: Asked) -> dict[Node, int]:
    """Return the trust with which everything begins, which sums to 2^60."""
    weights: Counter[Node] = Counter()
    for address, weight in ((asked.publisher, PPM), *((each, asked.trust) for each in asked.recommenders)):
        weights[asked.ids.get(address, address)] += weight
    total = weights.total()
    first = {node: UNIT * weight // total for node, weight in weights.items()}
    # What rounding leaves goes to the publisher.
    first[asked.ids.get(asked.publisher, asked.publisher)] += UNIT - sum(first.values())
    return first


def _reached(
    standings: Standings, ids: Mapping[str, int], first: Mapping[Node, int], own: Node
) -> dict[Node, Mapping[int, Standing]]:
    """Return the rows of those publishers whom trust reaches: the publisher's own, and at most so many standings."""
    addresses: dict[Node, str] = {ids.get(address, address): address for address in standings}
    rows: dict[Node, Mapping[int, Standing]] = {}
    room, level, known = MAX_RATINGS, list(first), set(first)
    while level:
        publishers = [(node, addresses[node], standings[addresses[node]]) for node in level if node in addresses]
        level = []
        for node, _, row in sorted(publishers, key=lambda found: (len(found[2]), found[1].lower())):
            if node != own:
                if len(row) > room:
                    continue
                room -= len(row)
            rows[node] = row
            for participant, (good, bad) in row.items():
                if good > bad and participant not in known:
                    known.add(participant)
                    level.append(participant)
    return rows


def _ratings(node: Node, row: Mapping[int, Standing]) -> tuple[Sequence[tuple[int, int]], int]:
    """Return whom a publisher rates above nothing, how much, and the sum; nobody rates itself."""
    rated = [(each, good - bad) for each, (good, bad) in row.items() if good > bad and each != node]
    return rated, sum(rating for _, rating in rated) or 1
