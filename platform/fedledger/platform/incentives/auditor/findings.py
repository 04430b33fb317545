"""What an audit finds: how far each property holds, and an example that a person can play again where it does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, ClassVar

from fedledger.aggregator.mechanisms.base import Mechanism, Seen, Terms
from fedledger.platform.incentives.auditor.settings.base import Action, Instance, Units
from fedledger.platform.incentives.auditor.settings.play import Game, Outcome, RoundPlayed


@dataclass(frozen=True)
class Observation:
    """What an instance says of a property.

    Parameters
    ----------
    values
        Figures of the instance; what they are, the property says. Infinite where the mechanism failed.
    example
        An example as JSON, where the property does not hold there.
    """

    values: tuple[float, ...]
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """What all instances say of a property.

    Parameters
    ----------
    name
        The property's name.
    promised
        Whether the mechanism promises it, or has to have it.
    holds
        Whether it held everywhere; None where it does not apply.
    worst
        How far it is from holding at the worst, in the unit that ``figure`` says; None where it does not apply, or the
        mechanism failed.
    figure
        What that is, in words.
    counter_example
        Where it does not hold: an example as JSON.
    """

    name: str
    promised: bool
    holds: bool | None
    worst: float | None
    figure: str
    counter_example: Mapping[str, Any] | None = None

    @property
    def broken(self) -> bool:
        """Whether it is a promise that is not kept."""
        return self.promised and self.holds is False

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "property": self.name,
            "promised": self.promised,
            "holds": self.holds,
            "worst": self.worst,
            "figure": self.figure,
            "counter_example": self.counter_example,
        }


class Property(ABC):
    """A property that an audit looks for."""

    name: ClassVar[str]
    demanded: ClassVar[bool] = False
    """Whether every mechanism has to have it."""

    def promised_by(self, mechanism: Mechanism) -> bool:
        """Return whether a mechanism promises it, or has to have it."""
        return self.demanded or self.name in mechanism.promises

    @abstractmethod
    def observe(self, game: Game, misreports: int) -> Observation | None:
        """Return what an instance says; None if the property does not apply.

        Raises
        ------
        FaultyMechanismError
            If the mechanism fails.
        """

    @abstractmethod
    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        """Return whether the property holds by what at least one instance says, how far from it, and in what figure."""

    def finding(self, mechanism: Mechanism, observations: Sequence[Observation | None]) -> Finding:
        """Return what all instances say."""
        told = [each for each in observations if each is not None]
        promised = self.promised_by(mechanism)
        if not told:
            return Finding(self.name, promised, None, None, "")
        failed = next((each for each in told if inf in each.values), None)
        if failed is not None:
            return Finding(self.name, promised, False, None, "it fails", failed.example)
        holds, worst, figure = self.judge(told)
        examples = (each for each in told if each.example is not None)
        example = None if holds else max(examples, key=lambda each: max(each.values), default=None)
        # A zero has no sign.
        shown = worst + 0.0 if isfinite(worst) else None
        return Finding(self.name, promised, holds, shown, figure, None if example is None else example.example)


def failure(instance: Instance, reason: str) -> Observation:
    """Return that a mechanism failed in an instance."""
    return Observation((inf,), {**market_document(instance), "failure": reason})


def market_document(instance: Instance, actions: Sequence[Action] = ()) -> dict[str, Any]:
    """Return a market as JSON: what everybody knows, what each knows of itself, and what each does."""
    players, tables = [], {name: table.tolist() for name, table in instance.tables.items()}
    for place, player in enumerate(instance.players):
        known: dict[str, Any] = {"address": player.address, "private": dict(player.private)}
        known |= {"reputation": player.reputation, "examples": player.examples}
        players.append(known | (action_document(actions[place]) if actions else {}))
    return {
        "seed": instance.seed,
        "instance": instance.index,
        "rounds": instance.rounds,
        **({"before": instance.before, "tables": tables} if instance.before else {}),
        "budget": instance.budget,
        "least": instance.least,
        "players": players,
    }


def action_document(action: Action) -> dict[str, Any]:
    """Return what a player does as JSON."""
    effort = {} if action.effort is None else {"effort": action.effort}
    return {"report": dict(action.report), **effort}


def round_document(played: RoundPlayed) -> dict[str, Any]:
    """Return what a round came to as JSON."""
    return {
        "terms": {address: _terms(each) for address, each in played.terms.items()},
        "seen": {address: _seen(each) for address, each in played.seen.items()},
        "paid": dict(played.paid),
    }


def outcome_document(outcome: Outcome, place: int) -> dict[str, Any]:
    """Return what a market came to as JSON, and the utility of one of its players."""
    return {"rounds": [round_document(each) for each in outcome.rounds], "utility": told(outcome.utility(place))}


def told(value: Units) -> int | float:
    """Return units as JSON has them: whole where they are whole."""
    return int(value) if value == int(value) else float(value)


def _terms(terms: Terms) -> dict[str, Any]:
    return {"price": terms.price, "asked": dict(terms.asked)}


def _seen(seen: Seen) -> dict[str, Any]:
    return {"accepted": seen.accepted, "weight": seen.weight, "score": seen.score, "examples": seen.examples}
