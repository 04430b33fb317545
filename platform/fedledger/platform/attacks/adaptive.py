"""Any attack, as strong as the task's own defence lets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate, Memory
from fedledger.node.training import Trainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS, attacker
from fedledger.platform.attacks.coalition import KNOWLEDGE, PROTOCOL, earlier_round
from fedledger.platform.attacks.rehearsal import Standing, Updates, rehearse
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import Real, Text, Whole

REMEMBERED = 64
"""In so many rounds, counted from the first, attackers know what the aggregator remembers; then they begin anew."""
SHRINK = 0.5
"""Factor on a step of the search that made the attack no stronger."""


class Members(NamedTuple):
    """What the members of a coalition may send in a round: honest updates, and those of the attack, by address."""

    honest: Updates
    attacking: Updates

    def sent(self, factor: float) -> dict[str, LocalUpdate]:
        """Return honest updates, moved by a factor towards the attack and beyond it."""
        return {address: moved(self.honest[address], self.attacking[address], factor) for address in self.honest}


class _Known(NamedTuple):
    """What attackers know of a round that they play: all updates, and float64[d], where theirs are to lead."""

    members: Members
    others: Updates
    towards: NDArray[np.float64]

    @classmethod
    def of(cls, members: Members, others: Updates) -> _Known:
        pairs = [(members.attacking[one].delta, honest.delta) for one, honest in members.honest.items()]
        return cls(members, others, np.sum([end.astype(np.float64) - start for end, start in pairs], axis=0))


@ATTACKS.register("adaptive@1")
@dataclass(frozen=True)
class Adaptive(Within):
    """Sends h + γ·(a − h), the honest update h moved towards another attack's a, with the γ that does most harm.

    The attackers play the task's own round with what is public, its detectors, rule and parameters, what the aggregator
    remembers and the reputations, and search for the γ with which all of them together move the model farthest along
    a − h: what is refused moves nothing. Steps of the search double while they help, and are halved when
    they do not (Shejwalkar and Houmansadr 2021, https://doi.org/10.14722/ndss.2021.24498, algorithm 1, with the
    model's deviation as its aim). Before anything was revealed the attackers are honest.

    Parameters
    ----------
    knowledge
        ``protocol``: they play the last round, whose updates were revealed, and take the γ that would have been best
        there, less a margin; ``omniscient``: they play the round itself.
    trials
        How often they play a round before they send an update.
    horizon
        How many rounds in a row they play with one γ, up to the last that they know: with several they take into
        account what is remembered of them.
    margin
        Which share of the γ found in the last round they send, as updates grow shorter from round to round.
    """

    attack: Annotated[str, Text(64)] = "sign_flip@1"
    knowledge: Annotated[str, KNOWLEDGE] = PROTOCOL
    trials: Annotated[int, Whole(1, 64)] = 10
    horizon: Annotated[int, Whole(1, 16)] = 1
    margin: Annotated[float, Real(0, 1)] = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.coalition.look_back(REMEMBERED)

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        made = moved(self._honestly(context), self.other(context), self._factor(context))
        return replace(made, examples=len(self.honest.dataset))

    def _factor(self, context: TrainingContext) -> float:
        """Return γ of a round, the same for all members."""
        return self.coalition.once((self._key, "factor"), context, lambda: self._searched(context))

    def _searched(self, context: TrainingContext) -> float:
        if self.knowledge != PROTOCOL:
            return self._best(context)
        return self.margin * self._best(earlier_round(context, 1)) if context.earlier else 0.0

    def _best(self, last: TrainingContext) -> float:
        """Return the γ with which all members together do most harm in the rounds up to one."""
        count = min(self.horizon, (last.index - 1) % REMEMBERED + 1, len(last.earlier) + 1)
        contexts = [earlier_round(last, ago) for ago in reversed(range(count))]
        rounds = [_Known.of(self._members(each), self._others(each)) for each in contexts]

        def harm(factor: float) -> float:
            standing, total = self._standing(contexts[0]), 0.0
            for context, known in zip(contexts, rounds, strict=True):
                sent = {**known.others, **known.members.sent(factor)}
                played = rehearse(context, standing, sent, self.honest, self._held_out(context))
                standing = played.standing
                step = played.result.model[: len(known.towards)] - context.base.trained.astype(np.float64)
                # Element by element, so that it is the same at any number of threads.
                total += float((step * known.towards).sum())
            return total

        return strongest(harm, self.trials)

    def _standing(self, context: TrainingContext) -> Standing:
        """Return what a round begins with, which follows from all that was sent before."""
        if not context.earlier or (context.index - 1) % REMEMBERED == 0:
            return Standing.first(context.base.dimension)
        return self.coalition.once((self._key, "standing"), context, lambda: self._after(earlier_round(context, 1)))

    def _after(self, context: TrainingContext) -> Standing:
        sent = self._others(context) | self._members(context).sent(self._factor(context))
        return rehearse(context, self._standing(context), sent, self.honest, self._held_out(context)).standing

    def _held_out(self, context: TrainingContext) -> Dataset:
        return self.coalition.public_validation(context.index) or self.honest.dataset

    def _members(self, context: TrainingContext) -> Members:
        honest, attacking = dict[str, LocalUpdate](), dict[str, LocalUpdate]()
        for number in self.coalition.members:
            address = self.coalition.colleague(number).address
            theirs = replace(context, owner=address, memory=Memory(server=context.memory.server))
            honest[address] = self.coalition.trained(number, context)
            attacking[address] = self._attackers[address](theirs)
        return Members(honest, attacking)

    def _others(self, context: TrainingContext) -> dict[str, LocalUpdate]:
        numbers = self.coalition.others
        return {self.coalition.colleague(number).address: self.coalition.trained(number, context) for number in numbers}

    def _honestly(self, context: TrainingContext) -> LocalUpdate:
        number = self.coalition.members[self.coalition.place(context.owner)]
        return self.coalition.trained(number, context)

    @cached_property
    def _attackers(self) -> dict[str, Trainer]:
        colleagues = [self.coalition.colleague(number) for number in self.coalition.members]
        return {
            address: attacker(self.attack, self.params, trainer, self.coalition) if self.attack else trainer
            for address, trainer in colleagues
        }

    @property
    def _key(self) -> str:
        return repr((self.attack, sorted(self.params.items()), self.knowledge, self.trials, self.horizon, self.margin))


def moved(honest: LocalUpdate, attacking: LocalUpdate, factor: float) -> LocalUpdate:
    """Return an honest update, moved by a factor towards another one; its statistics stay as they are."""

    def between(start: NDArray[np.float32], end: NDArray[np.float32]) -> NDArray[np.float32]:
        first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(first + factor * (last - first), np.float32)

    vectors = {name: between(vector, attacking.vectors[name]) for name, vector in honest.vectors.items()}
    return replace(honest, delta=between(honest.delta, attacking.delta), vectors=vectors, state={})


def strongest(harm: Callable[[float], float], trials: int) -> float:
    """Return the factor from 0 with the largest harm that was found, and 0 if none is above that of 0.

    Parameters
    ----------
    harm
        What a factor does.
    trials
        How many factors are tried at most, besides 0.
    """
    best, most, step, grows = 0.0, harm(0.0), 1.0, True
    for _ in range(trials):
        found = harm(best + step)
        if np.isfinite(found) and found > most:
            best, most = best + step, found
        else:
            grows = False
        step *= 2 if grows else SHRINK
    return best
