"""Everybody's money, read from the chain: what was paid in, what came back, and what gas took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.client import Ledger
from fedledger.ledger_tools.upkeep import withdraw_all


@dataclass(frozen=True)
class Books:
    """What a run has moved, in wei.

    Parameters
    ----------
    gains
        What each address has more than it was given when it has collected all that is its; gas is not counted.
    gas
        What each address has paid for gas.
    burned
        What nobody has any more.
    held
        What the ledger still holds when everybody has collected.
    """

    gains: Mapping[str, int]
    gas: Mapping[str, int]
    burned: int
    held: int

    @property
    def difference(self) -> int:
        """What gains and losses do not account for; 0, or something was counted wrong."""
        return sum(self.gains.values()) + self.burned

    @property
    def unowned(self) -> int:
        """What the ledger holds that was not burned; 0, as everybody has collected."""
        return self.held - self.burned


def collect(ledger: Ledger, accounts: Sequence[LocalAccount]) -> None:
    """Have everybody leave the ledger, and withdraw stakes, pay and refunds, once the exit delay is over."""
    leaving = []
    for account in accounts:
        participant = ledger.participant_id(account.address)
        if participant is not None and not ledger.participant(participant).exit_at:
            ledger.request_exit(account)
            leaving.append(account)
    ledger.chain.advance(ledger.settings().exit_delay + 1)
    for account in leaving:
        ledger.complete_exit(account)
    for account in accounts:
        withdraw_all(ledger, account)


def books(ledger: Ledger, accounts: Sequence[LocalAccount]) -> Books:
    """Return what a run has moved; everybody has collected.

    Parameters
    ----------
    ledger
        On a chain that was made for the run.
    accounts
        Of all who took part.
    """
    chain, own = ledger.chain, {str(account.address) for account in accounts}
    given, gas = dict.fromkeys(own, 0), dict.fromkeys(own, 0)
    for number in range(chain.block_number() + 1):
        for transaction in chain.block(number, full=True)["transactions"]:
            _count(chain, transaction, given, gas)
    gains = {address: chain.balance(address) + gas[address] - given[address] for address in sorted(own)}
    burned = sum(int(log.arguments["amount"]) for log in ledger.events(["Burned"]))
    return Books(gains, {address: gas[address] for address in sorted(own)}, burned, chain.balance(ledger.address))


def _count(chain: Chain, transaction: Mapping[str, object], given: dict[str, int], gas: dict[str, int]) -> None:
    """Count a transaction: what a development chain's own account gave to somebody, or what somebody paid for gas."""
    sender, to, digest, value = (transaction[name] for name in ("from", "to", "hash", "value"))
    assert isinstance(sender, str) and isinstance(digest, bytes) and isinstance(value, int | str)
    if sender in gas:
        receipt = chain.receipt(bytes(digest))
        gas[sender] += int(receipt["gasUsed"]) * int(receipt["effectiveGasPrice"])
    elif isinstance(to, str) and to in given:
        given[to] += int(value)
