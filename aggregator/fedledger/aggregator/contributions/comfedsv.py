"""Completed federated Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition, worth_of
from fedledger.aggregator.contributions.game_value import MOST_EXACT, ExactValue, counted, earned
from fedledger.aggregator.games.completion import completed
from fedledger.aggregator.games.game import Game, Steps, members
from fedledger.aggregator.games.semivalues import shapley
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real, Whole

_ROUND = "round."
_WORTH = 1 << 33
"""No coalition's gain is beyond."""


@CONTRIBUTIONS.register("comfedsv@1")
@dataclass(frozen=True)
class ComFedSV(ExactValue):
    """Pay by Shapley values over the last rounds, in which what absent updates would have added is completed.

    u_t(S) = v_t(S) − v_t(∅) is a table of rounds and coalitions of this round's senders. Where a coalition was not
    whole in a round, the table is completed as a product of low rank, min Σ_observed (u_t(S) − w_t · h_S)² + λ (‖W‖² +
    ‖H‖²), and the value is that of the game Σ_t u_t(S) (Fan et al. 2022, https://arxiv.org/abs/2109.09046), so that
    who is asked seldom earns as much for the same data. Here it is minimised by a fixed number of alternating least
    squares, on doubles by + − × ÷ alone, so it may be short of the minimum; observed entries stay as they are. It
    measures all 2^n − 1 coalitions, of ten updates at most.

    Known failures: those of exact Shapley values; what nobody saw is a guess, which is good only as far as rounds are
    alike; pay of a round goes by the rounds before it, too, so who has worked may rest for some rounds; a rank of r
    needs rounds in which at least r kinds of participants met.

    Parameters
    ----------
    window
        How many rounds there are in the table, with this one.
    rank
        The rank of W H.
    penalty
        λ, with the table's largest magnitude as 1.
    iterations
        How often W and H are solved for.
    """

    window: Annotated[int, Whole(1, 32)] = 8
    rank: Annotated[int, Whole(1, 4)] = 2
    penalty: Annotated[float, Real(1e-6, 1000)] = 0.01
    iterations: Annotated[int, Whole(1, 100)] = 20

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Compute the values of the game of all rounds."""
        coalitions = range(1 << len(players))
        yield coalitions[1:]
        past = self._past(context)
        table = np.zeros((1 + len(past), len(coalitions)), np.int64)
        observed = np.ones_like(table, np.bool_)
        table[0] = [value(mask) - value(0) for mask in coalitions]
        for row, (worths, seats) in enumerate(past, start=1):
            bits = [seats.get(context.owners[place], 0) for place in players]
            for mask in coalitions:
                taken = [bits[player] for player in members(mask)]
                observed[row, mask] = all(taken)
                table[row, mask] = worths[sum(taken)] if all(taken) else 0
        together = completed(table, observed, self.rank, self.penalty, self.iterations).sum(axis=0).tolist()
        return (yield from shapley(len(players), together.__getitem__))

    def scores(self, context: StageContext, weights: Sequence[int], values: Sequence[Fraction]) -> list[int]:
        """Return what is beyond doubt in all rounds of the table."""
        scores, rounds = [0] * len(weights), 1 + len(self._past(context))
        for place, value in zip(counted(weights), values, strict=True):
            scores[place] = earned(value, rounds * context.doubt)
        return scores

    def memory_size(self, participants: int, dimension: int) -> int:
        """Return the number of all coalitions' worths and of owners' bits in the rounds before."""
        return (self.window - 1) * (participants + (1 << MOST_EXACT))

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return what coalitions added in the last rounds, ``round.k``, and the bits of owners in them, int64[rounds].

        The last round is ``round.0``; the bit of who did not count in a round is 0.
        """
        players, kept = counted(weights), self.window - 1
        if not kept or not 0 < len(players) <= self.most_players:
            return context.memory
        worths = [worth_of(context, tuple(players[i] for i in members(mask))) for mask in range(1 << len(players))]
        rounds = [np.array(worths, np.int64) - worths[0], *(told for told, _ in self._past(context))][:kept]
        seats = [{context.owners[place]: 1 << player for player, place in enumerate(players)}]
        seats = [*seats, *(taken for _, taken in self._past(context))][:kept]
        owners = sorted({owner for taken in seats for owner in taken})
        bits = {owner: np.array([taken.get(owner, 0) for taken in seats], np.int64) for owner in owners}
        return {**{f"{_ROUND}{k}": told for k, told in enumerate(rounds)}, **bits}

    def _past(self, context: StageContext) -> list[tuple[IntArray, dict[str, int]]]:
        """Return what coalitions added in each round that is remembered, the last one first, and the owners' bits."""
        memory = context.memory
        rounds = [memory[f"{_ROUND}{k}"] for k in range(self.window - 1) if f"{_ROUND}{k}" in memory]
        taken = {owner: bits for owner, bits in memory.items() if not owner.startswith(_ROUND)}
        past = []
        for k, worths in enumerate(rounds):
            if any(bits.shape != (len(rounds),) for bits in taken.values()):
                raise _wrong()
            seats = {owner: int(bits[k]) for owner, bits in taken.items() if bits[k]}
            fits = worths.ndim == 1 and len(worths) <= 1 << MOST_EXACT
            if (
                not fits
                or sorted(seats.values()) != [1 << i for i in range(len(seats))]
                or len(worths) != 1 << len(seats)
            ):
                raise _wrong()
            past.append((np.clip(worths, -_WORTH, _WORTH), seats))
        return past


def _wrong() -> ConfigError:
    return ConfigError("What comfedsv@1 kept is of another shape.", "Use the state of the last round.")
