"""What the ledger's logs tell of stakes, one event after another."""

from __future__ import annotations

from typing import Any

from fedledger.contracts.abi import Log


class StakeLogs:
    """The part of a ledger's state that is about stakes, in the smallest unit of their currency, by participant.

    ``stakes`` back what participants do; what is ``unbonding`` backs nothing new, and pays for offences all the same.
    """

    stakes: dict[int, int]
    unbonding: dict[int, int]

    def _on_StakeAdded(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.stakes[a["participant"]] = a["stake"]

    def _on_ExitRequested(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.unbonding[a["participant"]] = self.stakes.pop(a["participant"], 0)

    def _on_ExitCancelled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.stakes[a["participant"]] = self.unbonding.pop(a["participant"], 0)

    def _on_ExitCompleted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.unbonding.pop(a["participant"], None)

    def _slash(self, participant: int, amount: int) -> None:
        """Take what an offence cost: of the stake first."""
        for held in (self.stakes, self.unbonding):
            taken = min(amount, held.get(participant, 0))
            if taken:
                held[participant] -= taken
                amount -= taken
