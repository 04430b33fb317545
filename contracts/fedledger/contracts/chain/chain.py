"""A chain that survives faults: reading it, sending to it, and bringing a development chain to a state again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import checksum_address
from fedledger.contracts.chain.answers import octets, quantity, typed
from fedledger.contracts.chain.connection import EMBEDDED, connect, probe, unanswered
from fedledger.contracts.chain.journal import Block, ChainJournal, Entry, read_journal
from fedledger.contracts.chain.logs import place_of, read_logs
from fedledger.contracts.chain.records import MAX_GAS, PAYMENT_GAS, Head, Receipt, Transaction
from fedledger.contracts.chain.repeating import do_again
from fedledger.contracts.chain.reverts import Explain, RefusedError, revert_data
from fedledger.contracts.chain.sender import SENT_AT_ONCE, Sender, Sent
from fedledger.protocol.errors import ChainError, ConfigError

ATTEMPTS = 5


class Chain:
    """A chain that one can read and send transactions to, embedded or behind a node.

    ``connection`` asks it whatever else there is to be asked; ``sender`` knows fees and nonces.

    Parameters
    ----------
    where
        ``"embedded"``, or the URL of a node.
    confirmations
        Blocks on top of a transaction before it counts.
    poll
        Seconds between two looks for a receipt, at most: the first ones come sooner after each other.

    Raises
    ------
    ChainError
        If no node answers, or the chain lacks what the contracts need.
    """

    def __init__(self, where: str = EMBEDDED, confirmations: int = 0, poll: float = 0.01) -> None:
        self.where = where
        self.confirmations = confirmations
        self.connection = connect(where)
        self.capabilities = probe(self.connection)
        self.sender = Sender(self.connection, self.capabilities, confirmations, poll)
        self._gas: dict[int, int] = {}
        self._faucet: str | None = None
        self._journal: ChainJournal | None = None
        self.has_other_blocks = False
        """Whether a journal was repeated on it that does not say what hashes its blocks had."""

    @property
    def chain_id(self) -> int:
        """The chain's id (``eth_chainId``)."""
        return self.capabilities.chain_id

    @property
    def development(self) -> bool:
        """Whether this is a development chain, whose accounts and time are free to use."""
        return self.capabilities.development

    def block_number(self) -> int:
        """Return the number of the newest block."""
        return quantity(self.connection.ask("eth_blockNumber", []))

    def head(self) -> Head:
        """Return the newest block that has enough blocks on top of it."""
        if not self.confirmations:
            return self.connection.head()
        number = self.block_number() - self.confirmations
        return Head(number, self.connection.hash(max(0, number)) or b"")

    def has(self, block: Head) -> bool:
        """Return whether a block is still part of the chain."""
        for pause in (*self.connection.pauses, 0.0):
            found = self.connection.hash(max(0, block.number))
            if found is not None:
                return found == block.hash
            # There is no such block, or whoever answered does not know it yet.
            time.sleep(pause)
        return False

    def forget(self) -> None:
        """Forget what was learnt of blocks that may be gone: who noticed a reorganisation says so."""
        self.sender.forget()
        self._gas.clear()

    def block(self, number: int | str = "latest", full: bool = False) -> dict[str, Any]:
        """Return a block's fields as the node gives them; ``full`` gives its transactions instead of their hashes."""
        shown = number if isinstance(number, str) else hex(number)
        return self._found("eth_getBlockByNumber", [shown, full], f"block {number}")

    def transaction(self, digest: bytes) -> dict[str, Any]:
        """Return a transaction's fields as the node gives them."""
        return self._found("eth_getTransactionByHash", ["0x" + digest.hex()], "the transaction")

    def receipt(self, transaction: bytes) -> dict[str, Any]:
        """Return a transaction's receipt as the node gives it."""
        return self._found("eth_getTransactionReceipt", ["0x" + transaction.hex()], "the receipt")

    def _found(self, method: str, params: list[Any], what: str) -> dict[str, Any]:
        for pause in (*self.connection.pauses, None):
            answer = self.connection.ask(method, params)
            if answer is not None:
                return dict(typed(answer))
            if pause is not None:
                # One of several nodes may not have it yet.
                time.sleep(pause)
        raise ChainError(f"The chain at {self.where} does not know {what}.")

    def gas_used(self, number: int) -> int:
        """Return the gas that a block used: as far as known from receipts that were waited for, else by asking."""
        if number not in self._gas:
            self._gas[number] = int(self.block(number)["gasUsed"])
        return self._gas[number]

    def now(self) -> int:
        """Return the time of the newest block, in seconds."""
        return int(self.block()["timestamp"])

    def balance(self, address: str, block: int | str = "latest") -> int:
        """Return the balance of an address in wei."""
        shown = block if isinstance(block, str) else hex(block)
        return quantity(self.connection.ask("eth_getBalance", [checksum_address(address), shown]))

    def genesis(self) -> dict[str, int]:
        """Return the balances that a development chain's own accounts began with; none if it has forgotten them."""
        if not self.development:
            return {}
        try:
            accounts = map(checksum_address, self.connection.ask_once("eth_accounts", []))
            return {str(account): self.balance(account, 0) for account in accounts}
        except ChainError:
            return {}

    def code(self, address: str) -> bytes:
        """Return the code at an address."""
        return octets(self.connection.ask_once("eth_getCode", [checksum_address(address), "latest"]))

    def call(self, to: str, data: bytes) -> bytes:
        """Return what a call answers."""
        call = {"to": checksum_address(to), "data": "0x" + data.hex()}
        return octets(self.connection.ask("eth_call", [call, "latest"]))

    def would_succeed(self, account: LocalAccount, to: str, data: bytes) -> bool:
        """Return whether a transaction would succeed now, with at most the gas that :meth:`send` allows."""
        call = Transaction(account, to, data).call | {"gas": hex(MAX_GAS)}
        try:
            self.connection.ask_once("eth_call", [call, "latest"])
        except ChainError as error:
            if unanswered(error):
                raise
            return False
        return True

    def logs(
        self, address: str, topics: Sequence[Any], first: int, last: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the logs of a contract in order, asking for a limited number of blocks at a time."""
        last = self.block_number() if last is None else last
        yield from read_logs(self.connection, place_of(address, topics), first, last)

    def send(self, transaction: Transaction, doing: str = "a transaction", explain: Explain | None = None) -> Receipt:
        """Sign and send one transaction and wait until it is mined.

        It survives outages and reorganisations, see :class:`Sender`; it is signed anew only when it failed, or can
        never run because another has its nonce. So nothing runs twice.

        Raises
        ------
        ChainError
            If the chain refuses the transaction, or it fails, or is not mined in time; ``explain`` turns revert data
            into the error.
        """
        for _ in range(ATTEMPTS):
            done = self._finish(transaction, self._begin(transaction, doing, explain), None, doing, explain)
            if done is not None:
                return done
        raise ChainError(f"The chain refused {doing} {ATTEMPTS} times, for reasons that no longer hold.")

    def send_all(
        self,
        transactions: Sequence[Transaction],
        doing: str = "one of many transactions",
        explain: Explain | None = None,
    ) -> list[Receipt]:
        """Sign and send many transactions, none of which waits for the one before, and wait until all are mined.

        Those of one account follow each other; those of several may be mined in any order. Each survives what one
        that is sent alone survives.

        Raises
        ------
        ChainError
            As :meth:`send`; other transactions may have been mined.
        """
        receipts: list[Receipt] = []
        for start in range(0, len(transactions), SENT_AT_ONCE):
            page = transactions[start : start + SENT_AT_ONCE]
            with self.sender.mining_together():
                posted = [self._begin(t, doing, explain) for t in page]
            mined = self.sender.receipts([sent.hash for sent in posted])
            for t, sent in zip(page, posted, strict=True):
                done = self._finish(t, sent, mined.get(sent.hash), doing, explain)
                receipts.append(done or self.send(t, doing, explain))
                # Others may stand behind it in its block.
                self._gas.pop(receipts[-1].block, None)
        return receipts

    def _begin(self, transaction: Transaction, doing: str, explain: Explain | None) -> Sent:
        """Send a transaction; a refusal becomes the error that tells why."""
        try:
            return self.sender.post(transaction)
        except RefusedError as error:
            reason = self._reason(transaction, doing, explain)
            raise reason or ChainError(f"The chain refused {doing}: {error}.") from error

    def _finish(
        self, transaction: Transaction, sent: Sent, receipt: dict[str, Any] | None, doing: str, explain: Explain | None
    ) -> Receipt | None:
        """Wait for a transaction unless its receipt is there; None if it never ran, or would not fail any more."""
        receipt = receipt or self._mined(sent.hash, sent, doing)
        if receipt is None:
            return None
        if receipt["status"] != 1:
            # It is signed anew only if the chain says twice that it failed.
            receipt = self.sender.mined(sent.hash) or receipt
        self._write_down("transaction", sent.raw.hex())
        if receipt["status"] == 1:
            return Receipt(sent.hash, int(receipt["blockNumber"]), int(receipt["gasUsed"]))
        reason = self._reason(transaction, doing, explain)
        if reason is not None:
            raise reason
        return None

    def _mined(self, digest: bytes, sent: Sent | None, doing: str) -> dict[str, Any] | None:
        """Wait for a transaction's receipt and remember what its block used as far as it tells."""
        receipt = self.sender.receipt(digest, sent, doing)
        if receipt is not None:
            number, gas = int(receipt["blockNumber"]), int(receipt["cumulativeGasUsed"])
            self._gas[number] = max(gas, self._gas.get(number, 0))
        return receipt

    def _reason(self, transaction: Transaction, doing: str, explain: Explain | None) -> ChainError | None:
        """Return why a transaction fails, by trying it out; None if it would not fail now."""
        try:
            self.connection.ask_once("eth_call", [transaction.call, "latest"])
        except ChainError as error:
            reverted = revert_data(error.__cause__)
            if reverted and explain is not None:
                return explain(reverted, doing)
            return ChainError(f"The chain refused {doing}: {error.__cause__ or error}.")
        return None

    def advance(self, seconds: int) -> None:
        """Move a development chain's time forward and mine a block.

        Raises
        ------
        ChainError
            If the chain is not a development chain.
        """
        if not self.development:
            raise ChainError("Only a development chain's time can be moved.", "Wait for the deadline instead.")
        self.connection.advance(seconds)
        self._write_down("advance", seconds)

    def fund(self, address: str, wei: int) -> None:
        """Bring an address to a balance of at least ``wei`` from a development chain's own accounts."""
        if not self.development:
            raise ChainError(f"{address} has too little money.", "Send it some; only development chains hand it out.")
        for _ in range(ATTEMPTS):
            missing = wei - self.balance(address)
            if missing <= 0:
                return
            if self.pay(address, missing):
                self._write_down("payment", [address, missing])
                return
        raise ChainError(f"The chain at {self.where} loses every payment to {address}.", "Is it still being restarted?")

    def pay(self, address: str, wei: int) -> bool:
        """Pay from the development chain's first account; False if the payment vanished."""
        if self._faucet is None:
            self._faucet = checksum_address(self.connection.ask_once("eth_accounts", [])[0])
        places = {"from": self._faucet, "to": checksum_address(address)}
        payment = {**places, "value": hex(wei), "gas": hex(PAYMENT_GAS)}
        # Not asked again if it is answered with an error: the payment may be on its way.
        digest = octets(self.connection.ask_once("eth_sendTransaction", [payment]))
        return self._mined(digest, None, "a payment") is not None

    def keep_journal(self, path: Path) -> None:
        """Repeat on this chain what a journal says, and write down what is done from now on.

        A development chain ends with its program. An embedded one's journal holds blocks, made again with their hashes;
        others, as before version 0.2, hold payments, transactions and steps in time, which lead to the same state.

        Raises
        ------
        StoreError
            If the journal cannot be read.
        ConfigError
            If a block that is made again has another hash than it had, or this kind of chain makes none again.
        RefusedError
            If the chain refuses what the journal says.
        """
        known = read_journal(path)
        blocks = [entry for entry in known if isinstance(entry, Block)]
        done = [entry for entry in known if isinstance(entry, Entry)]
        if not done and self.connection.keep_blocks(blocks, ChainJournal(path).write_block):
            self.forget()
            return
        if blocks:
            raise ConfigError(f"The journal {path} is that of an embedded chain.", "Resume with --chain embedded.")
        self.has_other_blocks = bool(done)
        self._journal = ChainJournal(path, do_again(self, done))

    def _write_down(self, kind: str, value: Any) -> None:
        if self._journal is not None:
            self._journal.write(kind, value)
