"""Who earns how much for what: contribution against pay, and what is earned without work or under several names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median

from fedledger.aggregator.mechanisms.base import Seen
from fedledger.platform.incentives.auditor.findings import Observation, Property
from fedledger.platform.incentives.auditor.settings.base import Action, Player, Units, addresses
from fedledger.platform.incentives.auditor.settings.play import Game, Outcome, RoundPlayed, paid_by
from fedledger.platform.incentives.theory.properties import pearson, spearman
from fedledger.protocol.errors import ConfigError

FAIR = 0.95
MOST_RIDE = 0.05
"""Of the median reward of those honest participants that are rewarded."""
RIDES = {"zero": 0.0, "noise": 0.05, "replayed": 0.5, "duplicate": 1.0}
"""What an update without work is assumed to score, as a share of the honest median, where nobody notices.

It claims as many examples as the honest median has.
"""
IDENTITIES = 4


class Fairness(Property):
    """Pay goes by contribution: both correlations are at least .95 in the mean."""

    name = "fairness"

    def observe(self, game: Game, misreports: int) -> Observation | None:
        played = game.outcome().rounds[-1]
        contributions = [float(played.seen[address].score) for address in played.terms]
        rewards = [float(played.paid.get(address, 0)) for address in played.terms]
        if len(rewards) < 3:
            return None
        try:
            return Observation((-pearson(contributions, rewards), -spearman(contributions, rewards)))
        except ConfigError:
            # Equal pay for unequal work correlates with nothing.
            return Observation((0.0, 0.0)) if len(set(contributions)) > 1 else None

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        linear, ranks = (-fmean(each.values[column] for each in observations) for column in range(2))
        least = min(linear, ranks)
        return least >= FAIR, least, f"mean correlations: Pearson {linear:.2f}, Spearman {ranks:.2f}"


class FreeRiding(Property):
    """Who sends an update without work earns next to nothing, also where nobody notices."""

    name = "free riding"

    def observe(self, game: Game, misreports: int) -> Observation | None:
        played = game.outcome().rounds[-1]
        asked = sorted(played.terms)
        if len(asked) < 3:
            return None
        rider = asked[game.instance.stream("rider").below(len(asked))]
        others = [address for address in asked if address != rider and played.paid.get(address, 0) > 0]
        if not others:
            return None
        score = median(played.seen[address].score for address in others)
        examples = int(median(played.seen[address].examples for address in others))
        claimed = Seen(accepted=True, weight=examples, examples=examples, steps=examples)
        shares = []
        for share in RIDES.values():
            seen = {**played.seen, rider: replace(claimed, score=int(share * score))}
            paid = paid_by(game.setting.mechanism, played.market, played.terms, seen)
            usual = median(paid.get(address, 0) for address in others)
            if usual <= 0:
                return None
            shares.append(paid.get(rider, 0) / usual)
        return Observation(tuple(shares))

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        means = [fmean(each.values[column] for each in observations) for column in range(len(RIDES))]
        told = ", ".join(f"{name} {mean:.0%}" for name, mean in zip(RIDES, means, strict=True))
        return max(means) <= MOST_RIDE, max(means), f"mean reward over the honest median: {told}"


class Replication(Property):
    """Nobody gains by taking part under several names, be it with copies of its work or with parts of it."""

    name = "replication"

    def observe(self, game: Game, misreports: int) -> Observation | None:
        outcome = game.outcome()
        earning = [place for place, units in enumerate(_earned(game, outcome)) if units > 0]
        if not earning:
            return None
        place = earning[game.instance.stream("replicated").below(len(earning))]
        player, action = game.instance.players[place], game.actions[place]
        before, pay = outcome.utility(place), _earned(game, outcome)[place]
        copies = _total(game, place, (player, action), once=True)
        part = game.setting.part(player, action, IDENTITIES)
        parts = before if part is None else _total(game, place, part, once=False)
        return Observation((float(copies - before), float(parts - before), float(pay)))

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        copies, parts, pay = (fmean(each.values[column] for each in observations) for column in range(3))
        # Whole units are rounded once for each identity.
        holds = max(copies, parts) <= IDENTITIES
        told = f"copies {copies / pay:+.0%}, parts {parts / pay:+.0%}"
        return holds, max(copies, parts) / pay, f"mean gain of {IDENTITIES} identities over the pay of one: {told}"


def _earned(game: Game, outcome: Outcome) -> list[int]:
    return [sum(played.paid.get(player.address, 0) for played in outcome.rounds) for player in game.instance.players]


def _total(game: Game, place: int, identity: tuple[Player, Action], *, once: bool) -> Units:
    """Return what a player is left with as several identities; where they copy, the work is done ``once``."""
    names = addresses(game.instance.stream("identities"), IDENTITIES)
    others = [pair for at, pair in enumerate(zip(game.instance.players, game.actions, strict=True)) if at != place]
    pairs = [*others, *((replace(identity[0], address=name), identity[1]) for name in names)]
    pairs.sort(key=lambda pair: pair[0].address)
    instance = replace(game.instance, players=tuple(player for player, _ in pairs))
    played = Game(game.setting, instance, [action for _, action in pairs])
    outcome = played.outcome()
    if not once:
        return sum(outcome.utility(at) for at, (player, _) in enumerate(pairs) if player.address in names)
    return sum(_once(game, each, identity, names) for each in outcome.rounds)


def _once(game: Game, played: RoundPlayed, identity: tuple[Player, Action], names: Sequence[str]) -> Units:
    paid = sum(played.paid.get(name, 0) for name in names)
    costs = [game.setting.cost(*identity, played.terms[name]) for name in names if name in played.terms]
    return paid - max(costs, default=0)
