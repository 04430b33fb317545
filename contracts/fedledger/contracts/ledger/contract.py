"""The ledger as a contract: what it was deployed with, its logs, and how it is asked and sent to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    Log,
    checksum_address,
    decode_log,
    events,
    explain_revert,
    functions,
)
from fedledger.contracts.chain.answers import ContradictionError, quantity
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.logs import check_complete, place_of
from fedledger.contracts.chain.records import DEFAULT_GAS, Receipt, Transaction
from fedledger.contracts.chain.reverts import revert_data
from fedledger.contracts.chain.signed_bytes import rebuilt
from fedledger.contracts.ledger.calls import WORD_BITS, needs_input
from fedledger.contracts.ledger.records import (
    COIN,
    Settings,
)
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError


class LedgerContract:
    """A deployed ledger as something to ask and to send to; what it is asked and sent is in the classes built on it.

    Parameters
    ----------
    chain
        The chain that it is deployed on.
    address
        Its address.
    first_block
        The block of its deployment, from which logs are read.
    """

    def __init__(self, chain: Chain, address: str, first_block: int = 0) -> None:
        self.chain = chain
        self.address = checksum_address(address)
        self.first_block = first_block

    def settings(self) -> Settings:
        """Return what the ledger was deployed with."""
        s = self._view("settings")
        return Settings(
            min_stake=s.minStake,
            exit_delay=s.exitDelay,
            min_verifier_stake=s.minVerifierStake,
            juror_penalty=s.jurorPenalty,
            dispute_period=s.disputePeriod,
            stake_currency=s.stakeCurrency,
            guardian=s.guardian,
            predecessor=s.predecessor,
            verifier_age=s.verifierAge,
            least_pool=s.leastPool,
            jury_size=s.jurySize,
            appeals=s.appeals,
            least_window=s.leastWindow,
            least_window_blocks=s.leastWindowBlocks,
            most_penalty=s.mostPenalty,
        )

    def stake_currency(self) -> str:
        """Return the currency of stakes, bonds and penalties."""
        return self._settings.stake_currency

    @cached_property
    def _settings(self) -> Settings:
        return self.settings()

    def free_balance(self, address: str, currency: str = COIN) -> int:
        """Return what an address may withdraw of a currency."""
        return int(self._view("balanceOf", currency, checksum_address(address)))

    def events(
        self,
        names: Sequence[str] = (),
        first: int | None = None,
        last: int | None = None,
        task: int | None = None,
        round_index: int | None = None,
    ) -> Iterator[Log]:
        """Yield decoded events in order; all of them unless names, a task or a round are given."""
        chosen = [events()[name] for name in names] or list(events().values())
        topics: list[Any] = [["0x" + event.topic.hex() for event in chosen]]
        if task is not None:
            topics.append("0x" + task.to_bytes(32, "big").hex())
            if round_index is not None:
                topics.append("0x" + round_index.to_bytes(32, "big").hex())
        start = self.first_block if first is None else first
        for raw in self.chain.logs(self.address, topics, start, last):
            yield self._decoded(raw)

    def _input(self, digest: bytes) -> bytes:
        """Return the data of a transaction, which its hash covers."""
        transaction = self.chain.transaction(digest)
        raw = rebuilt(transaction)
        if raw is not None and keccak(raw) != digest:
            raise ContradictionError(f"The chain shows another transaction than 0x{digest.hex()}.")
        return bytes(transaction["input"])

    def all_events(self, first: int, last: int) -> list[Log]:
        """Return all decoded events of some blocks in order.

        Raises
        ------
        ContradictionError
            If the chain has more of them than it tells.
        """
        topics = [["0x" + event.topic.hex() for event in events().values()]]
        found = list(self.chain.logs(self.address, topics, first, last))
        check_complete(self.chain.connection, place_of(self.address, topics), range(first, last + 1), found)
        return [self._decoded(raw) for raw in found]

    def _decoded(self, raw: dict[str, Any]) -> Log:
        log = decode_log(raw)
        return replace(log, input=self._input(log.transaction)) if needs_input(log) else log

    def check_there(self) -> None:
        """Check that the chain is still the same, and has the ledger.

        Raises
        ------
        ChainError
            If it is another one by now.
        """
        connection, found = self.chain.connection, self.chain.chain_id
        for pause in (*connection.pauses, 0.0):
            found = quantity(connection.ask("eth_chainId", []))
            if found == self.chain.chain_id and self.chain.code(self.address):
                return
            time.sleep(pause)
        raise ChainError(
            f"The chain at {self.chain.where}, with id {found}, is another one by now, or lost the ledger "
            f"{self.address} of chain {self.chain.chain_id}.",
            "Give the URL of a node of the right chain; on a new development chain, deploy again.",
        )

    def _lacking(self, account: LocalAccount, amount: int, currency: str | None = None) -> int:
        """Return the coin that must be sent along so that the free balance suffices; tokens are deposited first."""
        currency = self.stake_currency() if currency is None else currency
        return max(0, amount - self.free_balance(account.address)) if currency == COIN and amount else 0

    def _members(self, view: str, *arguments: int) -> list[int]:
        members: list[int] = []
        for word in range(-(-int(self._view("participantCount")) // WORD_BITS)):
            bits = int(self._view(view, *arguments, word))
            members += [word * WORD_BITS + bit for bit in range(bits.bit_length()) if bits >> bit & 1]
        return members

    def _view(self, name: str, *arguments: Any) -> Any:
        function = functions()[name]
        try:
            return function.decode(self.chain.call(self.address, function.encode(arguments)))
        except ChainError as error:
            reverted = revert_data(error.__cause__)
            if reverted:
                raise explain_revert(reverted, f"the question {name}") from error
            raise

    def _send(
        self, account: LocalAccount, name: str, *arguments: Any, value: int = 0, gas: int = DEFAULT_GAS
    ) -> Receipt:
        return self._transact(account, name, functions()[name].encode(arguments), value, gas)

    def _send_all(
        self, accounts: Sequence[LocalAccount], name: str, calls: Sequence[bytes], value: int = 0
    ) -> list[Receipt]:
        transactions = [
            Transaction(account, self.address, data, value) for account, data in zip(accounts, calls, strict=True)
        ]
        return self.chain.send_all(transactions, name, explain_revert)

    def _transact(
        self, account: LocalAccount, name: str, data: bytes, value: int = 0, gas: int = DEFAULT_GAS
    ) -> Receipt:
        return self.chain.send(Transaction(account, self.address, data, value, gas), name, explain_revert)
