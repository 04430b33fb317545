"""Scenarios in which reputation is put to the test: who takes part, who attacks when, and who lies about whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fedledger.platform.bench.reputation.strategies import (
    Always,
    Honest,
    OnOff,
    Strategy,
    Turning,
    Whitewasher,
    turning_round,
)
from fedledger.protocol.errors import ConfigError

Dealing = Literal["usual", "split", "rare"]
PRAISE, SLANDER = "praise", "slander"
ATTACKERS, NEWCOMERS, RARE, ACCOMPLICES, SPLIT = "attackers", "newcomers", "rare data", "accomplices", "one owner"
"""What those are called whom a scenario is about."""


HONEST = Honest()


@dataclass(frozen=True)
class Scenario:
    """A population, and what some of it do.

    Parameters
    ----------
    name, about
        Its name, and what happens in a few words.
    subjects
        What those are called whom it is about: the last participants by number.
    count
        How many they are.
    owners
        How many people take part; of those under several names each counts once.
    strategy
        What the subjects do; all others are honest.
    lie
        What a lying publisher does whom the task names as a recommender: ``praise`` the subjects, or ``slander`` all
        others as well; None: there is no recommender.
    joins
        The share of the rounds after which the subjects join.
    dealing
        How the data are dealt: ``usual``; ``split``: the subjects are names of one owner, who shares its data out
        among them; ``rare``: the last subject alone has a class of examples.
    """

    name: str
    about: str
    subjects: str = ATTACKERS
    count: int = 3
    owners: int = 12
    strategy: Strategy = HONEST
    lie: str | None = None
    joins: float = 0.0
    dealing: Dealing = "usual"

    @property
    def participants(self) -> int:
        """How many names take part."""
        return self.owners + (self.count - 1 if self.dealing == "split" else 0)

    @property
    def numbers(self) -> range:
        """The subjects' numbers."""
        return range(self.participants - self.count, self.participants)

    @property
    def hostile(self) -> bool:
        """Whether the subjects ever attack."""
        return not isinstance(self.strategy, Honest)

    @property
    def differs(self) -> bool:
        """Whether anything is other than in its honest play."""
        return self.hostile or self.lie is not None or self.dealing == "split"

    def begins(self, rounds: int) -> int:
        """Return the first round in which the subjects take part."""
        return turning_round(self.joins, rounds) if self.joins else 1

    @property
    def honest(self) -> Scenario:
        """The same people with the same data if all are honest, each of them under one name."""
        same = replace(self, name="honest", about="", strategy=HONEST, lie=None)
        if self.dealing == "split":
            return replace(same, count=1, dealing="usual")
        # Who is looked at afterwards makes no difference to what is played.
        return replace(same, count=0, subjects="") if self.dealing == "usual" and not self.joins else same

    @property
    def document(self) -> dict[str, Any]:
        """What of it makes a difference to what is played."""
        shown = {key: value for key, value in asdict(self).items() if key not in {"name", "about", "subjects"}}
        return {**shown, "strategy": [type(self.strategy).__name__, asdict(self.strategy)]}  # type: ignore[call-overload]


_ALL = (
    Scenario(
        "whitewashing", "attack, and come back under a new name when the old one is worth less", strategy=Whitewasher()
    ),
    Scenario(
        "on_off", "attack until they weigh nothing, behave until they are trusted, attack again", strategy=OnOff()
    ),
    Scenario(
        "sybil_split",
        "shares its data out over three names, and attacks with all of them",
        SPLIT,
        owners=10,
        strategy=Always(),
        dealing="split",
    ),
    Scenario(
        "split_honest",
        "shares its data out over three names, and trains with all of them",
        SPLIT,
        owners=10,
        dealing="split",
    ),
    Scenario(
        "collusion",
        "attack like on_off, praised by a recommender of the task and by one another",
        strategy=OnOff(),
        lie=PRAISE,
    ),
    Scenario(
        "slander", "are honest, while a recommender of the task speaks against all others", ACCOMPLICES, lie=SLANDER
    ),
    Scenario("newcomers", "are honest, and join after a third of the rounds", NEWCOMERS, joins=1 / 3),
    Scenario("turns_bad", "are honest for two thirds of the rounds, and attack in all others", strategy=Turning()),
    Scenario("rare_data", "is honest, and alone has examples of a class", RARE, count=1, dealing="rare"),
)
SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
"""The scenarios by name."""


def scenario_of(name: str) -> Scenario:
    """Return the scenario of a name, or raise ConfigError if there is none."""
    if name not in SCENARIOS:
        raise ConfigError(f"There is no scenario {name!r}.", f"There are: {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]
