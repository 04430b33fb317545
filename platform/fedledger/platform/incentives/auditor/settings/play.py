"""Play a market: what a mechanism asks and pays, and what that leaves each player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fedledger.aggregator.mechanisms.base import Learning, Market, Mechanism, Offer, Seen, Terms
from fedledger.platform.incentives.auditor.settings.base import Action, Instance, Player, Setting, Units
from fedledger.protocol.arithmetic.exact import IntArray

MOST_TABLE = 1 << 22
"""Integers that a mechanism may keep in an audit."""


class FaultyMechanismError(Exception):
    """A mechanism raised an error, or returned what it must not."""


@dataclass(frozen=True)
class RoundPlayed:
    """What a round came to.

    Parameters
    ----------
    market
        What the mechanism saw of it.
    terms
        Of those whom it asked.
    seen
        What it made of their updates.
    paid
        Units by address.
    """

    market: Market
    terms: Mapping[str, Terms]
    seen: Mapping[str, Seen]
    paid: Mapping[str, int]

    @property
    def counts(self) -> bool:
        """Whether enough were asked; if not, everybody is asked for nothing, and whoever is rational does nothing."""
        return len(self.terms) >= self.market.least


@dataclass(frozen=True)
class Outcome:
    """What a market came to.

    Parameters
    ----------
    setting
        The setting.
    players
        The market's players.
    actions
        What each of them did.
    rounds
        The market's rounds.
    """

    setting: Setting
    players: Sequence[Player]
    actions: Sequence[Action]
    rounds: tuple[RoundPlayed, ...]

    def utility(self, place: int) -> Units:
        """Return what a player is left with over all rounds: its pay less what its work has cost."""
        player, action = self.players[place], self.actions[place]
        left: Units = 0
        for played in self.rounds:
            terms = played.terms.get(player.address)
            if terms is not None and played.counts:
                left += played.paid.get(player.address, 0) - self.setting.cost(player, action, terms)
        return left

    @property
    def utilities(self) -> list[Units]:
        """What each player is left with."""
        return [self.utility(place) for place in range(len(self.players))]


class NoEquilibriumError(FaultyMechanismError):
    """No equilibrium was found in which a mechanism could be looked at."""


class Game:
    """A market that is played again and again while one of its players deviates.

    Parameters
    ----------
    setting
        The setting, with its mechanism.
    instance
        The market.
    actions
        What each player does unless it deviates; None: what the setting says.
    """

    def __init__(self, setting: Setting, instance: Instance, actions: Sequence[Action] | None = None) -> None:
        self.setting, self.instance = setting, instance
        self.actions = setting.honest(instance) if actions is None else list(actions)
        self._offers = [_offer(player, action) for player, action in zip(instance.players, self.actions, strict=True)]
        self._places = {player.address: place for place, player in enumerate(instance.players)}
        self._seen: dict[tuple[int, int | None], Seen] = {}

    def outcome(self) -> Outcome:
        """Return what the market comes to if nobody deviates."""
        return self._played(-1, None)

    def deviated(self, place: int, action: Action) -> Outcome:
        """Return what it comes to if one player deviates."""
        return self._played(place, action)

    def _played(self, deviator: int, deviation: Action | None) -> Outcome:
        players, offers, actions = self.instance.players, list(self._offers), list(self.actions)
        if deviation is not None:
            offers[deviator] = _offer(players[deviator], deviation)
            actions[deviator] = deviation
        tables, first = self.instance.tables, self.instance.before + 1
        rounds = []
        for index in range(first, first + self.instance.rounds):
            market = market_of(self.instance, offers, index, tables)
            terms = chosen(self.setting.mechanism, market)
            seen = {}
            for address, each in terms.items():
                place = self._place(address)
                seen[address] = self._delivered(place, each, deviation if place == deviator else None)
            enough = len(terms) >= market.least
            paid = paid_by(self.setting.mechanism, market, terms, seen) if enough else {}
            rounds.append(RoundPlayed(market, terms, seen, paid))
            if len(rounds) < self.instance.rounds and enough:
                tables = learned(self.setting.mechanism, rounds[-1])
                offers = [replace(offer, last_round=index) if offer.address in terms else offer for offer in offers]
        return Outcome(self.setting, players, actions, tuple(rounds))

    def _place(self, address: str) -> int:
        if address not in self._places:
            raise FaultyMechanismError(f"It asks {address}, who has made no offer.")
        return self._places[address]

    def _delivered(self, place: int, terms: Terms, deviation: Action | None) -> Seen:
        player = self.instance.players[place]
        if deviation is not None:
            return self.setting.delivered(player, deviation, terms)
        key = place, terms.asked.get("examples")
        if key not in self._seen:
            self._seen[key] = self.setting.delivered(player, self.actions[place], terms)
        return self._seen[key]


def market_of(
    instance: Instance, offers: Sequence[Offer], index: int, tables: Mapping[str, IntArray] | None = None
) -> Market:
    """Return what a mechanism sees of a market in a round."""
    draws = partial(instance.stream, "mechanism", index)
    return Market(offers, instance.budget, instance.least, index, draws, {} if tables is None else tables)


def chosen(mechanism: Mechanism, market: Market) -> dict[str, Terms]:
    """Return whom the round asks: by the mechanism if it chooses, else everybody on empty terms.

    Raises
    ------
    FaultyMechanismError
        If the mechanism raises an error.
    """
    if not mechanism.chooses:
        return {offer.address: Terms() for offer in market.offers}
    try:
        return mechanism.select(market)
    except Exception as error:
        raise FaultyMechanismError(f"Its choice raises {type(error).__name__}: {error}") from error


def paid_by(
    mechanism: Mechanism, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]
) -> dict[str, int]:
    """Return what the round pays.

    Raises
    ------
    FaultyMechanismError
        If the mechanism raises an error.
    """
    try:
        return mechanism.pay(market, terms, seen)
    except Exception as error:
        raise FaultyMechanismError(f"Its pay raises {type(error).__name__}: {error}") from error


def learned(mechanism: Mechanism, played: RoundPlayed) -> Mapping[str, IntArray]:
    """Return what it keeps after a round that counts; nothing if it keeps nothing.

    Raises
    ------
    FaultyMechanismError
        If the mechanism raises an error, or keeps more than it says.
    """
    if not isinstance(mechanism, Learning):
        return {}
    try:
        tables = mechanism.learn(played.market, played.terms, played.seen, played.paid)
        room = min(mechanism.table_size(len(played.market.offers)), MOST_TABLE)
    except Exception as error:
        raise FaultyMechanismError(f"What it learns raises {type(error).__name__}: {error}") from error
    if sum(table.size for table in tables.values()) > room:
        raise FaultyMechanismError(f"It keeps more than the {room:,} integers that it says.")
    return tables


def _offer(player: Player, action: Action) -> Offer:
    return Offer(player.address, action.report, player.reputation, player.examples)
