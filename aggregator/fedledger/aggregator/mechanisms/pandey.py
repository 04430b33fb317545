"""A price for local accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import affordable, counted
from fedledger.protocol.methods.parameters import Checked, Whole


@MECHANISMS.register("pandey@1")
@dataclass(frozen=True)
class Pandey(Checked, MechanismBase):
    """Pay a price for how far each has solved its local problem (Pandey et al. 2020, https://arxiv.org/abs/1911.01046).

    A client that leaves θ of its local problem's gap is paid r · (1 − θ). The paper's client, with the weight ν of
    communication, its time T, and the cost γ of computing, does best with θ = −1 / W_{−1}(−e^{−g}),
    g = (r + νT) / ((1 − ν) γ) − 1.

    Only a client knows its θ. What can be checked in its place is the task's contribution score: 1 − θ is
    min(1, score / full). With a score that is a gain in the loss on the held-out set this is what the round has seen of
    its work; the equilibrium above is promised as far as that gain grows with 1 − θ, in the same way for everybody. It
    does not: whoever has data that are like the others' gains less by the same work. Scores that are shares of a whole,
    or that have no fixed scale, do not suit it. Where the budget falls short, all earn less in proportion.

    Parameters
    ----------
    price
        r, in units for a problem that is solved.
    full
        The score that stands for it.
    """

    price: Annotated[int, Whole(0, 2**53 - 1)]
    full: Annotated[int, Whole(1, 2**62)]
    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay for what scores show of accuracy."""
        pays = {a: self.price * min(self.full, seen[a].score) // self.full for a in counted(terms, seen)}
        return affordable(market.budget, pays)
