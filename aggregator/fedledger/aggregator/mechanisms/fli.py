"""Pay in instalments, by contribution, regret and waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms import whole_tallies
from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import bid, counted
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.reputation import PPM, ppm
from fedledger.protocol.records.settlement import apportion

_COLUMNS = 2
_NEW = (0, 0)


@MECHANISMS.register("fli@1")
@dataclass(frozen=True)
class Fli(Checked, MechanismBase):
    """Pay in instalments what participants have contributed, and what their costs still wait for.

    Each round's budget B is divided in proportion to u_i = (ω q_i + Y_i + c_i + Q_i + λ_i) / 2, by largest remainders
    (FLI, Yu et al. 2020, https://doi.org/10.1145/3375627.3375840): q_i is the part of B by score, c_i the reported
    cost, Y_i the regret, by which costs exceed pay so far, and Q_i how much waiting counts. After the round Y_i =
    max(0, Y_i + c_i − paid) and Q_i = max(0, Q_i + λ_i − paid), where λ_i is c_i as long as there was regret, and 0
    otherwise. The queues of those whose update does not count stay as they are.

    Regret does not grow for ever where the budget covers the costs; that is all that it promises. Pay
    grows with the cost that is reported, so whoever reports more is paid more. Whoever contributes nothing, but counts,
    still earns by cost and regret.

    Parameters
    ----------
    omega
        ω.
    waiting
        Whether waiting counts; if not, λ is 0.
    """

    omega: Annotated[float, Real(0, 1_000_000)] = 1.0
    waiting: bool = True
    reports: ClassVar[tuple[str, ...]] = ("cost",)
    believes: ClassVar[str] = "Costs are what each reports, and pay grows with them."

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Divide the budget."""
        paid, costs = counted(terms, seen), _costs(market)
        kept = whole_tallies.read(market.tables, _COLUMNS)
        scores = sum(seen[address].score for address in paid)
        claims = []
        for address in paid:
            regret, waited = kept.get(address.lower(), _NEW)
            cost = costs.get(address, 0)
            quality = ppm(self.omega) * market.budget * seen[address].score // (PPM * max(1, scores))
            claims.append(quality + regret + cost + waited + self._step(regret, cost))
        return dict(zip(paid, apportion(market.budget, claims), strict=True))

    def table_size(self, participants: int) -> int:
        """Two queues for each participant."""
        return whole_tallies.size(participants, _COLUMNS)

    def learn(
        self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen], paid: Mapping[str, int]
    ) -> Mapping[str, IntArray]:
        """Return the queues after the round."""
        kept, costs = whole_tallies.read(market.tables, _COLUMNS), _costs(market)
        for address in counted(terms, seen):
            regret, waited = kept.get(address.lower(), _NEW)
            cost, units = costs.get(address, 0), paid.get(address, 0)
            after = max(0, regret + cost - units), max(0, waited + self._step(regret, cost) - units)
            kept[address.lower()] = after
        return whole_tallies.stored(kept, _COLUMNS)

    def _step(self, regret: int, cost: int) -> int:
        """Return λ."""
        return cost if self.waiting and regret > 0 else 0


def _costs(market: Market) -> dict[str, int]:
    return {offer.address: bid(offer) or 0 for offer in market.offers}
