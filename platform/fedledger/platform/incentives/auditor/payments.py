"""What every mechanism has to have: payments that are whole, within the budget, for work that counts, and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from fedledger.aggregator.mechanisms.base import Market, Offer, Seen
from fedledger.platform.incentives.auditor.findings import Observation, Property, market_document, round_document
from fedledger.platform.incentives.auditor.settings.play import (
    FaultyMechanismError,
    Game,
    RoundPlayed,
    chosen,
    learned,
    market_of,
    paid_by,
)
from fedledger.protocol.arithmetic.random_streams import Stream

MOST_BUDGET = (1 << 32) - 1
"""A share on the ledger has 32 bits."""
AMOUNTS = (0, 1, 7, 1_000, (1 << 31) - 1, 1 << 40)
"""Of examples, weights, scores and steps that others may claim."""
FINER = 1_000_000

V = TypeVar("V")


class Budget(Property):
    """No round pays more than it may, whatever is reported and delivered."""

    name = "budget"
    demanded = True

    def observe(self, game: Game, misreports: int) -> Observation | None:
        return _largest(game, lambda played: sum(played.paid.values()) - played.market.budget)

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        most = max(each.values[0] for each in observations)
        return most <= 0, most, "most paid beyond the budget, units"


class PayForWork(Property):
    """Who was not asked, or whose update does not count, is paid nothing."""

    name = "pay for accepted work alone"
    demanded = True

    def observe(self, game: Game, misreports: int) -> Observation | None:
        return _largest(game, _unearned)

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        most = max(each.values[0] for each in observations)
        return most <= 0, most, "most paid for nothing, units"


class Replay(Property):
    """Whoever replays a round makes the same of it, whatever order its tables of participants happen to have."""

    name = "replay"
    demanded = True

    def observe(self, game: Game, misreports: int) -> Observation | None:
        stream = game.instance.stream("orders")
        mechanism, differ, example = game.setting.mechanism, 0, None
        for played in (*game.outcome().rounds, *hostile_rounds(game)):
            market = replace(played.market, offers=[_reordered_report(offer) for offer in played.market.offers])
            terms = chosen(mechanism, market)
            reordered = RoundPlayed(
                market, _shuffled(played.terms, stream), _shuffled(played.seen, stream), _shuffled(played.paid, stream)
            )
            again = paid_by(mechanism, market, reordered.terms, reordered.seen) if played.paid else {}
            same = terms == played.terms and again == played.paid and _same_tables(game, played, reordered)
            if not same and example is None:
                example = market_document(game.instance, game.actions) | round_document(played)
                example["again"] = round_document(replace(reordered, terms=terms, paid=again))
            differ += not same
        return Observation((float(differ),), example)

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        differ = sum(each.values[0] for each in observations)
        return differ == 0, differ, "rounds that come out otherwise in another order"


class Rounding(Property):
    """Where the whole budget is divided, everybody's whole units are less than one unit off its exact quota.

    The quota is what the mechanism pays from a million times the budget, divided by a million.
    """

    name = "rounding"

    def observe(self, game: Game, misreports: int) -> Observation | None:
        played = game.outcome().rounds[0]
        market = played.market
        # Where pay goes by reports, it does not grow with the budget alone.
        if game.setting.mechanism.reports or sum(played.paid.values()) != market.budget:
            return None
        finer = replace(market, budget=market.budget * FINER)
        quotas = paid_by(game.setting.mechanism, finer, played.terms, played.seen)
        if sum(quotas.values()) != finer.budget:
            return None
        off = max(abs(units - quotas.get(address, 0) / FINER) for address, units in played.paid.items())
        return Observation((off,), market_document(game.instance, game.actions) | round_document(played))

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        most = max(each.values[0] for each in observations)
        return most < 1, most, "most units off an exact quota"


def hostile_rounds(game: Game) -> Iterator[RoundPlayed]:
    """Yield rounds with reports at their bounds, work that is missing, refused or claimed to be vast, and odd budgets.

    Raises
    ------
    FaultyMechanismError
        If the mechanism fails in one.
    """
    stream, mechanism = game.instance.stream("hostile"), game.setting.mechanism
    honest = game.outcome().rounds[-1].market
    for budget in (0, 1, len(honest.offers) - 1, honest.budget, MOST_BUDGET):
        for wild in (False, True):
            offers = [_wild_offer(game, offer, stream) for offer in honest.offers] if wild else list(honest.offers)
            market = replace(market_of(game.instance, offers, honest.round, honest.tables), budget=budget)
            terms = chosen(mechanism, market)
            if len(terms) < market.least:
                continue
            seen = {address: _wild_work(stream) for address in terms if stream.below(8)}
            paid = paid_by(mechanism, market, terms, seen)
            _require_units(market, paid)
            yield RoundPlayed(market, terms, seen, paid)


def _require_units(market: Market, paid: Mapping[str, Any]) -> None:
    known = {offer.address for offer in market.offers}
    for address, units in paid.items():
        if address not in known:
            raise FaultyMechanismError(f"It pays {address}, who has made no offer.")
        if type(units) is not int or units < 0:
            raise FaultyMechanismError(f"It pays {units!r}, which is no whole number of units.")


def _largest(game: Game, amount: Callable[[RoundPlayed], int]) -> Observation:
    rounds = list(game.outcome().rounds)
    for played in rounds:
        _require_units(played.market, played.paid)
    worst = max((*rounds, *hostile_rounds(game)), key=amount)
    if amount(worst) <= 0:
        return Observation((float(amount(worst)),))
    example = market_document(game.instance) | {"budget": worst.market.budget} | round_document(worst)
    example["reports"] = {offer.address: dict(offer.report) for offer in worst.market.offers}
    return Observation((float(amount(worst)),), example)


def _unearned(played: RoundPlayed) -> int:
    earned = {address for address in played.terms if address in played.seen and played.seen[address].accepted}
    return max((units for address, units in played.paid.items() if address not in earned), default=0)


def _wild_offer(game: Game, offer: Offer, stream: Stream) -> Offer:
    report = {}
    for name, bounds in game.setting.bounds.items():
        span = bounds.most - bounds.least
        report[name] = (bounds.least, bounds.most, bounds.least + stream.below(span + 1))[stream.below(3)]
    reputation = (0, 1, 1_000_000)[stream.below(3)]
    return replace(offer, report=report, reputation=reputation, examples=AMOUNTS[stream.below(len(AMOUNTS))])


def _wild_work(stream: Stream) -> Seen:
    weight, score, examples, steps = (AMOUNTS[stream.below(len(AMOUNTS))] for _ in range(4))
    return Seen(accepted=stream.below(4) > 0, weight=weight, score=score, examples=examples, steps=steps)


def _reordered_report(offer: Offer) -> Offer:
    return replace(offer, report=dict(reversed(list(offer.report.items()))))


def _shuffled(table: Mapping[str, V], stream: Stream) -> dict[str, V]:
    return dict(stream.sample(list(table.items()), len(table)))


def _same_tables(game: Game, first: RoundPlayed, second: RoundPlayed) -> bool:
    one, other = learned(game.setting.mechanism, first), learned(game.setting.mechanism, second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
