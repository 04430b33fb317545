"""What an actor may do instead of honest work, and what it costs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedledger.protocol.errors import ConfigError

Effort = Literal["own", "none", "first", "until_turn", "validation"]
"""On how many examples each of an actor's names really trains: on its own; on none; only the first name; its own until
the turn; those of the validation set."""
Dealing = Literal["own", "split", "shared", "padded", "later"]
"""What an actor's names commit to: each its own data; parts of one owner's; all the first one's; its own over and over
again; the same under a name that joins when the first has left."""
Role = Literal["participant", "aggregator", "verifier"]
HONEST, HONEST_VERIFIER = "honest", "honest_verifier"
OVER_COST = "over_reporter_cost"
TURNS = 0.5
"""The share of the rounds after which who turns is not honest any more."""


@dataclass(frozen=True)
class Strategy:
    """What an actor does.

    Parameters
    ----------
    name, about
        Its name, and what happens in a few words.
    attack, params
        The platform's attack that each of the actor's names mounts; empty: they train honestly.
    effort, dealing, role
        See above; an aggregator's actor is the aggregator together with its friend.
    owners
        How many owners conspire.
    extra
        Names that they have besides.
    twin
        What the same people play who are honest.
    lies
        Whether the aggregator proposes a lie in one round.
    """

    name: str
    about: str
    attack: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    effort: Effort = "none"
    dealing: Dealing = "own"
    role: Role = "participant"
    owners: int = 1
    extra: int = 0
    twin: str = HONEST
    lies: bool = False

    @property
    def works(self) -> bool:
        """Whether anybody trains, or replays, for what the actor is paid for."""
        return self.effort != "none"

    @property
    def verified(self) -> bool:
        """Whether verifiers replay what is proposed."""
        return self.role != "participant" or self.name == HONEST_VERIFIER


_ALL = (
    Strategy("free_rider_zero", "sends no change at all", "free_rider@1", {"deviation": 0.0, "factor": 0.0}),
    Strategy("free_rider_replay", "sends the best honest update of the round before", "replay@1", {"noise": 0.1}),
    Strategy("free_rider_noise", "sends the last step under noise", "free_rider@1", {"deviation": 0.0, "noise": 0.3}),
    Strategy("poisoner", "trains on reversed labels", "label_flip@1", effort="own"),
    Strategy("plagiarist", "sends somebody's update of the round before under noise", "plagiarism@1"),
    Strategy("sybils", "shares its data out over three names, and trains with each", "", {}, "own", "split", extra=2),
    Strategy(
        "whitewasher",
        "replays, leaves when its reputation is low, and comes back under a new name and stake",
        "replay@1",
        {"noise": 0.1},
        dealing="later",
        extra=1,
    ),
    Strategy(
        "on_off", "is honest for half of the rounds, and sends noise in all others", "on_off@1", effort="until_turn"
    ),
    Strategy(OVER_COST, "bids twice an equal share of a round's budget", effort="own"),
    Strategy(
        "over_reporter_size",
        "commits to its data over and over, and trains on them once",
        effort="own",
        dealing="padded",
    ),
    Strategy("validation_trainer", "trains on the public validation set", "validation_training@1", effort="validation"),
    Strategy(
        "colluding_pair",
        "two have one's data, one trains, and both send it",
        effort="first",
        dealing="shared",
        owners=2,
    ),
    Strategy(
        "coalition", "one of three trains, and all send it under noise", "sybil@1", {"noise": 0.3}, "first", owners=3
    ),
    Strategy(
        "aggregator_favours_friend",
        "the aggregator pays its friend for nothing in one round",
        "free_rider@1",
        {"deviation": 0.0, "factor": 0.0},
        role="aggregator",
        lies=True,
    ),
    Strategy(
        "sleeping_verifier",
        "votes that a lie follows, without a replay",
        role="verifier",
        owners=0,
        twin=HONEST_VERIFIER,
        lies=True,
    ),
)
STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""The strategies by name."""
TWINS: Mapping[str, Strategy] = {
    HONEST: Strategy(HONEST, "everybody trains", effort="own", owners=0),
    HONEST_VERIFIER: Strategy(
        HONEST_VERIFIER, "all verifiers replay, and the aggregator lies once", effort="own", owners=0, lies=True
    ),
}
"""What the same people play who are honest."""


def strategy_of(name: str) -> Strategy:
    """Return the strategy of a name, or raise ConfigError if there is none."""
    known = {**TWINS, **STRATEGIES}
    if name not in known:
        raise ConfigError(f"There is no strategy {name!r}.", f"There are: {', '.join(STRATEGIES)}.")
    return known[name]


def turn_of(rounds: int) -> int:
    """Return the first round in which who turns is not honest any more."""
    return 1 + max(1, round(TURNS * rounds))
