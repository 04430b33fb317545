"""What the attackers of an experiment know together: their own work, and that of the honest as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate, Memory
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.protocol.methods.parameters import OneOf

OWN, PROTOCOL, OMNISCIENT = "own", "protocol", "omniscient"
KNOWLEDGE = OneOf((PROTOCOL, OMNISCIENT))
"""What attackers know of the round that they attack: what commit and reveal grant, or also what the honest send."""
ESTIMATED_FROM = OneOf((OWN, PROTOCOL, OMNISCIENT))
"""From what attackers estimate the honest updates: also from no more than what they would send if they were honest."""


Found = TypeVar("Found")


class Colleague(NamedTuple):
    """A participant as it trains if it is honest."""

    address: str
    trainer: LocalTrainer


class Coalition:
    """The attackers of an experiment, who share all that each of them knows.

    They know their own data, and of earlier rounds all that is public: models and every update that was revealed. What
    an honest participant sent can be had by training it again, as that is a function of its data, address and round;
    of a solver that keeps a state, as if there were none. Each update is computed once in a process for as long as it
    is asked for.

    Parameters
    ----------
    members, others
        Numbers of the attackers, and of those who are honest.
    colleague
        Gives the participant of a number.
    public_validation
        Gives the examples of the task's validation set that are public when a round begins; None: there are none.

    Attributes
    ----------
    looks_back
        How many rounds before the current one are remembered; None: nobody looks at anybody's update.
    """

    def __init__(
        self,
        members: Sequence[int],
        others: Sequence[int],
        colleague: Callable[[int], Colleague],
        public_validation: Callable[[int], Dataset | None] = lambda index: None,
    ) -> None:
        self.members, self.others, self.public_validation = tuple(members), tuple(others), public_validation
        self.looks_back: int | None = None
        self.colleague = colleague
        self._known: dict[tuple[int, int, int], LocalUpdate] = {}
        self._found: dict[tuple[Hashable, int, int], Any] = {}
        self._newest = 0

    def look_back(self, rounds: int) -> None:
        """Remember updates of at least so many rounds before the current one."""
        self.looks_back = max(rounds, self.looks_back or 0)

    def place(self, address: str) -> int:
        """Return which of the members has an address: the first is 0. Of a stranger it is 0, too."""
        addresses = (self.colleague(number).address for number in self.members)
        return next((place for place, each in enumerate(addresses) if each == address), 0)

    def dataset(self, number: int) -> Dataset:
        """Return a participant's examples."""
        return self.colleague(number).trainer.dataset

    def trained(self, number: int, context: TrainingContext) -> LocalUpdate:
        """Return what a participant sends in a round if it is honest; ``context`` is that of anybody in the round."""
        self._forget_before(context.index)
        key = number, *_round(context)
        if key not in self._known:
            address, trainer = self.colleague(number)
            memory = Memory(server=context.memory.server)
            self._known[key] = trainer(replace(context, owner=address, memory=memory))
        return self._known[key]

    def once(self, what: Hashable, context: TrainingContext, find: Callable[[], Found]) -> Found:
        """Return what attackers find out together in a round; it is found once in a process."""
        self._forget_before(context.index)
        key = what, *_round(context)
        if key not in self._found:
            self._found[key] = find()
        found: Found = self._found[key]
        return found

    def _forget_before(self, index: int) -> None:
        """Forget what lies farther back than anybody looks, as a round is new."""
        if index > self._newest:
            self._newest = index
            oldest = self._newest - (self.looks_back or 0)
            self._known = {key: update for key, update in self._known.items() if key[1] >= oldest}
            self._found = {key: found for key, found in self._found.items() if key[1] >= oldest}

    def own(self, context: TrainingContext) -> list[LocalUpdate]:
        """Return what each member would send if it were honest."""
        return [self.trained(number, context) for number in self.members]

    def revealed(self, context: TrainingContext, rounds: int = 1) -> list[LocalUpdate]:
        """Return the honest updates of a round before: of the last one, or of ``rounds`` before; none before them."""
        if len(context.earlier) < rounds_ago(context, rounds):
            return []
        then = earlier_round(context, rounds)
        return [self.trained(number, then) for number in self.others]

    def estimates(self, context: TrainingContext, knowledge: str) -> list[LocalUpdate]:
        """Return the updates from which attackers estimate what the honest send in a round; at least one.

        Who is omniscient has them themselves. Others take what the coalition would send if it were honest, and a
        single attacker also what was revealed in the last round, unless it knows no more than its own data.
        """
        if knowledge == OMNISCIENT and self.others:
            return [self.trained(number, context) for number in self.others]
        own = self.own(context)
        return own if len(own) > 1 or knowledge == OWN else [*own, *self.revealed(context)]


def _round(context: TrainingContext) -> tuple[int, int]:
    """Return what tells a round of one run from those of others: its number, and the hash of its base model."""
    return context.index, hash(context.base.vector.tobytes())


def rounds_ago(context: TrainingContext, rounds: int) -> int:
    """Return how many rounds ago the last one was, or one of those before, that asked for updates and not for bids.

    Where no bidding round is voided, they are the first round and each that comes ``bidding`` rounds later.
    """
    every, ago = context.spec.bidding, 0
    for _ in range(rounds):
        ago += 1
        if every is not None and (context.index - ago - 1) % every == 0:
            ago += 1
    return ago


def earlier_round(context: TrainingContext, rounds: int) -> TrainingContext:
    """Return the context of a round so many rounds with updates before, as far as ``context`` knows the models."""
    rounds = min(rounds_ago(context, rounds), len(context.earlier))
    left = context.earlier[rounds:]
    return replace(
        context,
        index=context.index - rounds,
        base=context.earlier[rounds - 1] if rounds else context.base,
        before=left[0] if left else None,
        earlier=left,
    )


@dataclass(frozen=True)
class Remembered:
    """An honest participant whose update the coalition may want, too: it is trained once.

    Parameters
    ----------
    honest
        The participant's trainer.
    number
        Its number.
    coalition
        The attackers.
    """

    honest: LocalTrainer
    number: int
    coalition: Coalition

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the update for a round."""
        return self.honest(context) if context.memory.own else self.coalition.trained(self.number, context)
