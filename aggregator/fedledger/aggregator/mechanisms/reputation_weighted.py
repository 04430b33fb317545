"""Pay in proportion to contribution and reputation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import counted
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.settlement import apportion


@MECHANISMS.register("reputation_weighted@1")
@dataclass(frozen=True)
class ReputationWeighted(Checked, MechanismBase):
    """Divide each round's budget in proportion to score × reputation^power.

    Reputation counts as in the schemes that choose workers by it (Kang et al. 2019,
    https://doi.org/10.1109/JIOT.2019.2940820). Who has built up a reputation earns more by the same update, so a name
    is worth keeping. Largest remainders: all of the budget is paid wherever somebody counts. It promises what the
    contribution method promises of its scores, and no more: costs do not matter to it, and a newcomer earns less than
    it contributes.

    Parameters
    ----------
    power
        How much reputation counts; 0: as in ``proportional@1``.
    least_reputation
        Who has less, in parts per million, earns nothing.
    """

    power: Annotated[int, Whole(0, 8)] = 1
    least_reputation: Annotated[int, Whole(0, PPM)] = 0

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Divide the budget."""
        reputations = {
            offer.address: offer.reputation for offer in market.offers if offer.reputation >= self.least_reputation
        }
        paid = [address for address in counted(terms, seen) if address in reputations]
        weights = [seen[address].score * reputations[address] ** self.power for address in paid]
        return dict(zip(paid, apportion(market.budget, weights), strict=True))
