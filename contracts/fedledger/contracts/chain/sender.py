"""A transaction's way into a block: nonces, fees, sending, sending again, receipts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException

from fedledger.contracts.chain.answers import quantity, typed
from fedledger.contracts.chain.connection import UNSETTLED, Connection
from fedledger.contracts.chain.records import PAYMENT_GAS, Capabilities, Transaction
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError
from fedledger.storage import durable_files

log = logging.getLogger(__name__)

RECEIPT_TIMEOUT = 120.0
FIRST_POLL = 0.0005
"""Seconds to the second look for a receipt; a development chain has it almost at once."""
LOOK_AFTER, LOOK_AT_MOST = 0.5, 16.0
"""Seconds without a receipt after which a transaction is looked up and sent again; doubled each time."""
SENT_CACHED = SENT_AT_ONCE = 64
"""Transactions of an account whose bytes are kept, and most that are sent before their receipts are asked for."""
FEES_LAST = 2.0


@dataclass(frozen=True)
class Sent:
    """A signed transaction that was sent."""

    account: LocalAccount
    nonce: int
    raw: bytes
    hash: bytes


class Sender:
    """Signs and sends transactions and follows them until they are mined or can never be.

    A transaction's hash is known before it is sent: when the connection breaks, the hash is looked up before anything
    is sent again. A transaction that is lost, by its node or by a reorganisation, is sent again in the same bytes.

    Parameters
    ----------
    connection, capabilities
        The chain.
    confirmations
        Blocks on top of a transaction before it counts.
    poll
        Seconds between two looks for a receipt, at most: the first ones come sooner after each other.
    """

    def __init__(self, connection: Connection, capabilities: Capabilities, confirmations: int, poll: float) -> None:
        self._connection = connection
        self._capabilities = capabilities
        self._confirmations = confirmations
        self._poll = poll
        self._nonces: dict[str, int] = {}
        self._sent: dict[str, dict[int, bytes]] = {}
        self._lock = threading.RLock()
        self._fees_known: tuple[float, dict[str, int]] = (-FEES_LAST, {})

    def forget(self) -> None:
        """Forget what was learnt of blocks that may be gone."""
        with self._lock:
            self._nonces.clear()
            self._fees_known = (-FEES_LAST, {})

    def post(self, transaction: Transaction) -> Sent:
        """Sign a transaction with its account's next nonce and send it.

        Whatever reason a node gives, it refuses a nonce if the chain's is another one by now. Else it means it, if it
        says so again: a reorganisation may just have made the nonce right.

        Raises
        ------
        RefusedError
            If the chain refuses the transaction.
        ChainError
            If it does not answer, or refuses the nonces that it gives itself.
        """
        account = transaction.account
        with self._lock:
            for pause in (*UNSETTLED, 0.0):
                nonce = self._nonces.get(account.address)
                if nonce is None:
                    nonce = self.next_nonce(account.address)
                sent = self._sign(account, {**transaction.fields, "nonce": nonce})
                try:
                    self.submit(sent.raw, sent.hash)
                except RefusedError:
                    self._nonces.pop(account.address, None)
                    self._fees_known = (-FEES_LAST, {})
                    if not self._known(sent.hash):
                        if self.next_nonce(account.address) == nonce:
                            if not pause or not self._connection.pauses:
                                raise
                            time.sleep(pause)
                        continue
                self._nonces[account.address] = nonce + 1
                kept = self._sent.setdefault(account.address, {})
                kept[nonce] = sent.raw
                kept.pop(nonce - SENT_CACHED, None)
                return sent
        raise ChainError(
            f"The chain refuses the nonces of {account.address}, which it gives itself.",
            "Does another program send with this account?",
        )

    def submit(self, raw: bytes, digest: bytes) -> None:
        """Hand a signed transaction to the node, again and again while nobody answers.

        Raises
        ------
        RefusedError
            If the node refuses it.
        ChainError
            If nobody answers.
        """
        # It may name content, or tell what a journal must not forget.
        durable_files.flush()
        deadline, pause, is_again = time.monotonic() + self._connection.patience, 0.1, False
        while True:
            try:
                self._connection.request("eth_sendRawTransaction", ["0x" + raw.hex()])
                return
            except RequestException as error:
                if is_again and time.monotonic() > deadline:
                    raise ChainError(
                        f"The chain at {self._connection.where} does not answer.", "Start it again, then resume."
                    ) from error
                time.sleep(pause)
                pause, is_again = 2 * pause, True
                if self._known(digest):
                    return

    @contextmanager
    def mining_together(self) -> Iterator[None]:
        """Keep Anvil from mining while it takes many transactions: a block for each would be slow."""
        if not self._capabilities.client.lower().startswith("anvil"):
            yield
            return
        self._connection.ask("evm_setAutomine", [False])
        try:
            yield
        finally:
            self._connection.ask("evm_setAutomine", [True])
            self._connection.ask("evm_mine", [])

    def receipt(self, digest: bytes, sent: Sent | None, doing: str) -> dict[str, Any] | None:
        """Wait for a transaction's receipt, sending it again if it is lost; None if it can never be mined.

        Parameters
        ----------
        digest
            The transaction's hash.
        sent
            The transaction; None if this program cannot send it again.
        doing
            What it does, for an error.

        Raises
        ------
        ChainError
            If it is not mined within ``RECEIPT_TIMEOUT``.
        """
        began = time.monotonic()
        look, pause, poll = began + LOOK_AFTER, LOOK_AFTER, FIRST_POLL
        while True:
            receipt = self.mined(digest)
            if receipt is not None and self._counts(receipt):
                return receipt
            now = time.monotonic()
            if now > began + RECEIPT_TIMEOUT:
                raise ChainError(
                    f"{doing} was not mined within {RECEIPT_TIMEOUT:.0f} s.", "Is the chain producing blocks?"
                )
            if receipt is None and now > look:
                if not (self._known(digest) if sent is None else self._rescue(sent)):
                    return None
                pause = min(2 * pause, LOOK_AT_MOST)
                look = time.monotonic() + pause
            time.sleep(min(poll, self._poll))
            poll *= 2

    def receipts(self, digests: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """Return the receipts of those transactions that need no more waiting for."""
        if self._confirmations:
            return {}
        answers = self._connection.ask_all("eth_getTransactionReceipt", [["0x" + digest.hex()] for digest in digests])
        return {digest: typed(receipt) for digest, receipt in zip(digests, answers, strict=True) if receipt}

    def price(self) -> int:
        """Return what a unit of gas costs now at most, in wei."""
        fees = self._fees()
        return fees["maxFeePerGas"] if "maxFeePerGas" in fees else fees["gasPrice"]

    def next_nonce(self, address: str, block: str = "pending") -> int:
        """Return how many transactions of an account the chain counts, which is the next nonce."""
        return quantity(self._connection.ask("eth_getTransactionCount", [address, block]))

    def _sign(self, account: LocalAccount, transaction: dict[str, Any]) -> Sent:
        signed = account.sign_transaction({"chainId": self._capabilities.chain_id, **transaction, **self._fees()})
        return Sent(account, int(transaction["nonce"]), bytes(signed.raw_transaction), bytes(signed.hash))

    def _fees(self) -> dict[str, int]:
        asked, fees = self._fees_known
        if time.monotonic() - asked < FEES_LAST:
            return fees
        if self._capabilities.fee_market:
            base = quantity(self._connection.newest().get("baseFeePerGas", 0))
            tip = 0 if base == 0 else 10**9
            # Twice the base fee is enough for five full blocks.
            fees = {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip, "type": 2}
        else:
            fees = {"gasPrice": quantity(self._connection.ask("eth_gasPrice", []))}
        self._fees_known = (time.monotonic(), fees)
        return fees

    def _known(self, digest: bytes) -> bool:
        """Return whether the node has a transaction, in a block or waiting."""
        return self._connection.ask("eth_getTransactionByHash", ["0x" + digest.hex()]) is not None

    def mined(self, digest: bytes) -> dict[str, Any] | None:
        """Return the receipt of a transaction that is in a block, else None."""
        found = self._connection.ask("eth_getTransactionReceipt", ["0x" + digest.hex()])
        return None if found is None else typed(found)

    def _counts(self, receipt: dict[str, Any]) -> bool:
        """Return whether a mined transaction has enough blocks on top of it."""
        if not self._confirmations:
            return True
        newest = quantity(self._connection.ask("eth_blockNumber", []))
        return newest >= int(receipt["blockNumber"]) + self._confirmations

    def _rescue(self, sent: Sent) -> bool:
        """Send a transaction that has no receipt again, after those before it; False if another has its nonce."""
        address = sent.account.address
        with self._lock:
            if self.next_nonce(address, "latest") > sent.nonce:
                if self.mined(sent.hash) is not None or self.next_nonce(address, "latest") <= sent.nonce:
                    return True
                self._nonces.pop(address, None)
                self._sent.get(address, {}).pop(sent.nonce, None)
                return False
            # A node keeps what comes after a gap and says nothing. What another program sent cannot be sent again:
            # an empty payment to oneself takes its place, and its author finds it missing.
            for nonce in range(self.next_nonce(address), sent.nonce):
                raw = self._sent.get(address, {}).get(nonce)
                if raw is None:
                    empty = {"nonce": nonce, "to": address, "gas": PAYMENT_GAS, "value": 0, "data": b""}
                    raw = self._sign(sent.account, empty).raw
                self._send_again(raw)
            if not self._known(sent.hash):
                self._send_again(sent.raw)
        return True

    def _send_again(self, raw: bytes) -> None:
        try:
            self.submit(raw, keccak(raw))
        except RefusedError as error:
            # Its nonce may have been taken meanwhile; the next look finds out.
            log.debug("sent again and refused: %s", error)
