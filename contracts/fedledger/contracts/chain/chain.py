"""The one module that speaks web3: chains, what they hold, and transactions that survive faults.

A :class:`Chain` works alike on an embedded chain and over HTTP.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_tester.exceptions import TransactionFailed
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    ExtraDataLengthError,
    TransactionNotFound,
    Web3Exception,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import RPCEndpoint, Wei

from fedledger.contracts.abi import checksum_address
from fedledger.contracts.chain.loopback_rpc import LOOPBACK, NearNode, is_near
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError
from fedledger.storage import durable_files

T = TypeVar("T")
Explain = Callable[[bytes, str], ChainError]
"""Turns revert data, and what was being done, into an error."""

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
DEVELOPMENT_CLIENTS = ("anvil", "ganache", "ethereumjs", "eth-tester", "ethereumtester", "hardhat")
DEFAULT_GAS = 1_500_000
MAX_GAS = 16_000_000
PAYMENT_GAS = 21_000
LOG_PAGE = 2_000
RECEIPT_TIMEOUT = 120.0
FIRST_POLL = 0.0005
"""Seconds to the second look for a receipt; a development chain has it almost at once."""
CONNECT_PATIENCE, OUTAGE_PATIENCE = 3.0, 30.0
"""Seconds in which a chain must answer: when a program starts, and when it answered before."""
LOOK_AFTER, LOOK_AT_MOST = 0.5, 16.0
"""Seconds without a receipt after which a transaction is looked up and sent again; doubled each time."""
UNSETTLED = (0.02, 0.1, 0.3)
"""Pauses before a question that was answered with an error is asked again."""
ATTEMPTS = 5
SENT_KEPT = SENT_AT_ONCE = 64
"""Transactions of an account whose bytes are kept, and most that are sent before their receipts are asked for."""
# Answered by eth_call on init code.
PUSH0_PROBE, STOP = "0x5f", "0x00"
HEADER_FIELDS = (
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty"),
    *("number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas"),
    *("withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"),
)
"""Fields of a block's header up to Prague, in the order of its RLP; older forks have fewer at the end."""
HEADER_NONCE_BYTES = 8
QUANTITIES = frozenset(
    {
        *("number", "gasLimit", "gasUsed", "timestamp", "difficulty", "baseFeePerGas", "blobGasUsed", "excessBlobGas"),
        *("blockNumber", "logIndex", "transactionIndex", "status", "cumulativeGasUsed", "type", "chainId", "nonce"),
        *("gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "v"),
    }
)
ADDRESSES = frozenset({"address", "contractAddress", "from", "to", "miner"})
FEES_LAST = 2.0
JOURNAL_LAG = 30
REFUSALS = (Web3Exception, ValueError, TransactionFailed)


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction."""

    hash: bytes
    block: int
    gas: int


@dataclass(frozen=True)
class Head:
    """The newest block that counts; the hash is empty on an embedded chain, which has no reorganisations."""

    number: int
    hash: bytes


@dataclass(frozen=True)
class Sent:
    """A signed transaction that was sent."""

    account: LocalAccount
    nonce: int
    raw: bytes
    hash: bytes


@dataclass(frozen=True)
class Transaction:
    """What an account wants to send; ``to`` is None for a new contract."""

    account: LocalAccount
    to: str | None
    data: bytes = b""
    value: int = 0
    gas: int = DEFAULT_GAS

    @property
    def fields(self) -> dict[str, Any]:
        """What is signed, besides nonce, fees and chain id."""
        fields: dict[str, Any] = {"gas": min(self.gas, MAX_GAS), "value": self.value, "data": self.data}
        return fields if self.to is None else fields | {"to": checksum_address(self.to)}


@dataclass(frozen=True)
class Capabilities:
    """What a chain is and can do."""

    client: str
    chain_id: int
    development: bool
    shanghai: bool
    fee_market: bool
    proof_of_authority: bool


class Chain:
    """A chain that one can read and send transactions to.

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
        self.poll = poll
        self._tester: Any = None
        self._patience = CONNECT_PATIENCE
        self._near = NearNode(where) if is_near(where) else None
        if where == EMBEDDED:
            self.web3, self._tester = _embedded()
        else:
            self.web3 = _remote(where)
        self.capabilities = self._probe()
        self._patience = OUTAGE_PATIENCE
        self._nonces: dict[str, int] = {}
        self._sent: dict[str, dict[int, bytes]] = {}
        self._lock = threading.RLock()
        self._fees_known: tuple[float, dict[str, int]] = (-FEES_LAST, {})
        self._gas: dict[int, int] = {}
        self._faucet: str | None = None
        self._journal: Path | None = None
        self._journal_began = 0.0

    @property
    def chain_id(self) -> int:
        """The chain's id (``eth_chainId``)."""
        return self.capabilities.chain_id

    @property
    def development(self) -> bool:
        """Whether this is a development chain, whose accounts and time are free to use."""
        return self.capabilities.development

    def keep_journal(self, path: Path) -> None:
        """Repeat on this chain what a journal says, and write down what is done from now on.

        A development chain ends with the program that started it. Its journal holds every payment, transaction and
        step in time, so that a chain of the same kind can be brought to the same state.
        """
        began, elapsed, advanced = time.monotonic(), 0.0, 0
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    # The last line may be cut off: what it was about never counted.
                    continue
                elapsed = float(entry["elapsed"])
                waited = int(elapsed - advanced - (time.monotonic() - began))
                if waited > JOURNAL_LAG:
                    # Deadlines must have passed again where they had passed.
                    self.advance(waited)
                    advanced += waited
                self._repeat(entry["kind"], entry["value"])
        self._journal, self._journal_began = path, time.monotonic() - elapsed

    def _repeat(self, kind: str, value: Any) -> None:
        if kind == "advance":
            self.advance(int(value))
        elif kind == "payment":
            self._pay(str(value[0]), int(value[1]))
        else:
            raw = bytes.fromhex(value)
            self._submit(raw, keccak(raw))
            self._await(keccak(raw), None, "a transaction of the journal")

    def _write_down(self, kind: str, value: Any) -> None:
        if self._journal is not None:
            elapsed = round(time.monotonic() - self._journal_began, 1)
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, "value": value, "elapsed": elapsed}) + "\n")

    def block_number(self) -> int:
        """Return the number of the newest block."""
        if self._tester is not None:
            return self._ask(lambda: int(self.web3.eth.block_number))
        return int(self._rpc("eth_blockNumber", []), 16)

    def head(self) -> Head:
        """Return the newest block that has enough blocks on top of it."""
        if self._tester is not None or self.confirmations:
            number = self.block_number() - self.confirmations
            return Head(number, self._hash(max(0, number)) or b"")
        newest = self._rpc("eth_getBlockByNumber", ["latest", False])
        return Head(int(newest["number"], 16), bytes.fromhex(newest["hash"][2:]))

    def has(self, block: Head) -> bool:
        """Return whether a block is still part of the chain."""
        return self._hash(max(0, block.number)) == block.hash

    def forget(self) -> None:
        """Forget what was learnt of blocks that may be gone: who noticed a reorganisation says so."""
        with self._lock:
            self._nonces.clear()
            self._gas.clear()
            self._fees_known = (-FEES_LAST, {})

    def _hash(self, number: int) -> bytes | None:
        if self._tester is not None:
            return b""
        found = self._rpc("eth_getBlockByNumber", [hex(number), False])
        return None if found is None else bytes.fromhex(found["hash"][2:])

    def block(self, number: int | str = "latest", full: bool = False) -> dict[str, Any]:
        """Return a block's fields as the node gives them; ``full`` gives its transactions instead of their hashes."""
        if self._tester is None:
            shown = number if isinstance(number, str) else hex(number)
            return self._found("eth_getBlockByNumber", [shown, full], f"block {number}")
        block = dict(self._ask(lambda: self.web3.eth.get_block(number)))  # type: ignore[arg-type]
        if full:
            # eth-tester names the fields of nested transactions otherwise.
            digests: list[HexBytes] = block["transactions"]  # type: ignore[assignment]
            block["transactions"] = [self.transaction(bytes(digest)) for digest in digests]
        return block

    def header(self, block: dict[str, Any]) -> bytes:
        """Return the RLP of a block's header, whose hash is the block's.

        Raises
        ------
        ChainError
            If the header has fields that this release does not know.
        """
        if self._tester is not None:
            # eth-tester shows neither the bloom filter nor the extra data as they are.
            mined = self._tester.backend.chain.get_canonical_block_by_number(int(block["number"]))
            return bytes(rlp.encode(mined.header))
        fields = {**block, "nonce": int(block["nonce"]).to_bytes(HEADER_NONCE_BYTES, "big")}
        values = (fields[name] for name in HEADER_FIELDS if fields.get(name) is not None)
        raw = bytes(rlp.encode([value if isinstance(value, int) else bytes(HexBytes(value)) for value in values]))
        if keccak(raw) != bytes(HexBytes(block["hash"])):
            raise ChainError(
                f"The header of block {block['number']} does not hash to the block's hash.",
                "This chain has headers that cannot be exported: use Anvil, Ganache or the embedded chain.",
            )
        return raw

    def transaction(self, digest: bytes) -> dict[str, Any]:
        """Return a transaction's fields as the node gives them."""
        if self._tester is None:
            return self._found("eth_getTransactionByHash", ["0x" + digest.hex()], "the transaction")
        return dict(self._ask(lambda: self.web3.eth.get_transaction(HexBytes(digest))))

    def receipt(self, transaction: bytes) -> dict[str, Any]:
        """Return a transaction's receipt as the node gives it."""
        if self._tester is None:
            return self._found("eth_getTransactionReceipt", ["0x" + transaction.hex()], "the receipt")
        return dict(self._ask(lambda: self.web3.eth.get_transaction_receipt(HexBytes(transaction))))

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
        if self._tester is None:
            shown = block if isinstance(block, str) else hex(block)
            return int(self._rpc("eth_getBalance", [checksum_address(address), shown]), 16)
        return self._ask(lambda: int(self.web3.eth.get_balance(checksum_address(address), block)))  # type: ignore[arg-type]

    def genesis(self) -> dict[str, int]:
        """Return the balances that a development chain's own accounts began with; none if it has forgotten them."""
        if not self.development:
            return {}
        try:
            return {str(a): self.balance(a, 0) for a in self._ask(lambda: self.web3.eth.accounts)}
        except ChainError:
            return {}

    def code(self, address: str) -> bytes:
        """Return the code at an address."""
        return self._ask(lambda: bytes(self.web3.eth.get_code(checksum_address(address))))

    def storage(self, address: str, slot: int) -> bytes:
        """Return the 32 bytes of a storage slot."""
        return self._ask(lambda: bytes(self.web3.eth.get_storage_at(checksum_address(address), slot)))

    def advance(self, seconds: int) -> None:
        """Move a development chain's time forward and mine a block.

        Raises
        ------
        ChainError
            If the chain is not a development chain.
        """
        if not self.development:
            raise ChainError("Only a development chain's time can be moved.", "Wait for the deadline instead.")
        if self._tester is not None:
            self._tester.time_travel(self.now() + max(1, seconds))
            self._tester.mine_block()
        else:
            self._rpc("evm_increaseTime", [seconds])
            self._rpc("evm_mine", [])
        self._write_down("advance", seconds)

    def fund(self, address: str, wei: int) -> None:
        """Bring an address to a balance of at least ``wei`` from a development chain's own accounts."""
        if not self.development:
            raise ChainError(f"{address} has too little money.", "Send it some; only development chains hand it out.")
        for _ in range(ATTEMPTS):
            missing = wei - self.balance(address)
            if missing <= 0:
                return
            if self._pay(address, missing):
                self._write_down("payment", [address, missing])
                return
        raise ChainError(f"The chain at {self.where} loses every payment to {address}.", "Is it still being restarted?")

    def _pay(self, address: str, wei: int) -> bool:
        """Pay from the development chain's first account; False if the payment vanished."""
        if self._faucet is None:
            self._faucet = str(self._ask(lambda: self.web3.eth.accounts[0]))
        places = {"from": self._faucet, "to": checksum_address(address)}
        if self._tester is None:
            # Not asked again if it is answered with an error: the payment may be on its way.
            raw = {**places, "value": hex(wei), "gas": hex(PAYMENT_GAS)}
            digest = bytes.fromhex(self._ask(lambda: self._request("eth_sendTransaction", [raw]))[2:])
        else:
            payment: Any = {**places, "value": Wei(wei), "gas": PAYMENT_GAS}
            digest = bytes(self._ask(lambda: self.web3.eth.send_transaction(payment)))
        return self._await(digest, None, "a payment") is not None

    def send(
        self,
        account: LocalAccount,
        to: str | None,
        data: bytes,
        value: int = 0,
        gas: int = DEFAULT_GAS,
        doing: str = "a transaction",
        explain: Explain | None = None,
    ) -> Receipt:
        """Sign and send one transaction and wait until it is mined.

        The transaction's hash is known before it is sent: when the connection breaks, the hash is looked up before
        anything is sent again. A transaction that is lost, by its node or by a reorganisation, is sent again in the
        same bytes; it is signed anew only when it failed, or can never run because another has its nonce. So nothing
        runs twice.

        Raises
        ------
        ChainError
            If the chain refuses the transaction, or it fails, or is not mined in time; ``explain`` turns revert data
            into the error.
        """
        transaction = Transaction(account, to, data, value, gas)
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
        that is sent alone survives. Anvil does not mine while it takes them: a block for each would be slow.

        Raises
        ------
        ChainError
            As :meth:`send`; other transactions may have been mined.
        """
        receipts: list[Receipt] = []
        for start in range(0, len(transactions), SENT_AT_ONCE):
            page = transactions[start : start + SENT_AT_ONCE]
            with self._mining_together():
                posted = [self._begin(t, doing, explain) for t in page]
            mined = self._mined_all([sent.hash for sent in posted])
            for t, sent in zip(page, posted, strict=True):
                done = self._finish(t, sent, mined.get(sent.hash), doing, explain)
                receipts.append(done or self.send(t.account, t.to, t.data, t.value, t.gas, doing, explain))
                # Others may stand behind it in its block.
                self._gas.pop(receipts[-1].block, None)
        return receipts

    def call(self, to: str, data: bytes) -> bytes:
        """Return what a call answers."""
        if self._tester is not None:
            return self._ask(lambda: bytes(self.web3.eth.call({"to": checksum_address(to), "data": HexBytes(data)})))
        call = {"to": checksum_address(to), "data": "0x" + data.hex()}
        return bytes.fromhex(self._rpc("eth_call", [call, "latest"])[2:])

    def would_succeed(self, account: LocalAccount, to: str, data: bytes) -> bool:
        """Return whether a transaction would succeed now, with at most the gas that :meth:`send` allows."""
        call = {"from": account.address, "to": checksum_address(to), "data": "0x" + data.hex(), "gas": hex(MAX_GAS)}
        try:
            if self._tester is None:
                self._ask(lambda: self._request("eth_call", [call, "latest"]))
            else:
                self._ask(lambda: self.web3.eth.call(call))  # type: ignore[arg-type]
        except ChainError as error:
            if isinstance(error.__cause__, RequestException):
                raise
            return False
        return True

    def logs(
        self, address: str, topics: Sequence[Any], first: int, last: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the logs of a contract in order, asking for a limited number of blocks at a time."""
        last = self.block_number() if last is None else last
        page = LOG_PAGE
        while first <= last:
            until = min(last, first + page - 1)
            query: Any = {
                "address": checksum_address(address),
                "fromBlock": hex(first),
                "toBlock": hex(until),
                "topics": list(topics),
            }
            try:
                if self._tester is None:
                    found = _typed(self._rpc("eth_getLogs", [query]))
                else:
                    found = self._ask(partial(self.web3.eth.get_logs, query))
            except ChainError as error:
                # Who does not answer at all would not answer less either.
                if page == 1 or isinstance(error.__cause__, RequestException):
                    raise
                page = max(1, page // 4)
                continue
            yield from (dict(log) for log in found)
            first = until + 1

    def _post(self, account: LocalAccount, transaction: dict[str, Any]) -> Sent:
        """Sign a transaction with the account's next nonce and send it.

        Whatever reason a node gives, it refuses a nonce if the chain's is another one by now. Else it means it, if it
        says so again: a reorganisation may just have made the nonce right.
        """
        with self._lock:
            for pause in (*UNSETTLED, 0.0):
                nonce = self._nonces.get(account.address)
                if nonce is None:
                    nonce = self._count(account.address)
                sent = self._sign(account, {**transaction, "nonce": nonce})
                try:
                    self._submit(sent.raw, sent.hash)
                except REFUSALS:
                    self._nonces.pop(account.address, None)
                    self._fees_known = (-FEES_LAST, {})
                    if not self._known(sent.hash):
                        if self._count(account.address) == nonce:
                            if self._tester is not None or not pause:
                                raise
                            time.sleep(pause)
                        continue
                self._nonces[account.address] = nonce + 1
                kept = self._sent.setdefault(account.address, {})
                kept[nonce] = sent.raw
                kept.pop(nonce - SENT_KEPT, None)
                return sent
        raise ChainError(
            f"The chain refuses the nonces of {account.address}, which it gives itself.",
            "Does another program send with this account?",
        )

    @contextmanager
    def _mining_together(self) -> Iterator[None]:
        if not self.capabilities.client.lower().startswith("anvil"):
            yield
            return
        self._rpc("evm_setAutomine", [False])
        try:
            yield
        finally:
            self._rpc("evm_setAutomine", [True])
            self._rpc("evm_mine", [])

    def _begin(self, transaction: Transaction, doing: str, explain: Explain | None) -> Sent:
        """Send a transaction; a refusal becomes the error that tells why."""
        try:
            return self._post(transaction.account, transaction.fields)
        except REFUSALS as error:
            reason = self._reason(transaction, doing, explain)
            raise reason or ChainError(f"The chain refused {doing}: {error}.") from error

    def _finish(
        self, transaction: Transaction, sent: Sent, receipt: dict[str, Any] | None, doing: str, explain: Explain | None
    ) -> Receipt | None:
        """Wait for a transaction unless its receipt is there; None if it never ran, or would not fail any more."""
        receipt = receipt or self._await(sent.hash, sent, doing)
        if receipt is None:
            return None
        self._write_down("transaction", sent.raw.hex())
        if receipt["status"] == 1:
            return Receipt(sent.hash, int(receipt["blockNumber"]), int(receipt["gasUsed"]))
        reason = self._reason(transaction, doing, explain)
        if reason is not None:
            raise reason
        return None

    def _mined_all(self, digests: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """Return the receipts of those transactions that need no more waiting for."""
        if self._tester is not None or self.confirmations:
            return {}
        questions = [["0x" + digest.hex()] for digest in digests]
        answers = self._ask(lambda: self._request_all("eth_getTransactionReceipt", questions))
        found = ((digest, answer.get("result")) for digest, answer in zip(digests, answers, strict=True))
        return {digest: dict(_typed(receipt)) for digest, receipt in found if receipt}

    def _sign(self, account: LocalAccount, transaction: dict[str, Any]) -> Sent:
        signed = account.sign_transaction({"chainId": self.chain_id, **transaction, **self._fees()})
        return Sent(account, int(transaction["nonce"]), bytes(signed.raw_transaction), bytes(signed.hash))

    def _submit(self, raw: bytes, digest: bytes) -> None:
        # It may name content, or tell what a journal must not forget.
        durable_files.flush()
        deadline, pause = time.monotonic() + self._patience, 0.1
        while True:
            try:
                if self._tester is None:
                    self._request("eth_sendRawTransaction", ["0x" + raw.hex()])
                else:
                    self.web3.eth.send_raw_transaction(raw)
                return
            except RequestException as error:
                if time.monotonic() > deadline:
                    raise ChainError(
                        f"The chain at {self.where} does not answer.", "Start it again, then resume."
                    ) from error
                time.sleep(pause)
                pause *= 2
                if self._known(digest):
                    return

    def _count(self, address: str, block: str = "pending") -> int:
        """Return how many transactions of an account the chain counts, which is the next nonce."""
        if self._tester is not None:
            return self._ask(lambda: int(self.web3.eth.get_transaction_count(checksum_address(address), block)))  # type: ignore[arg-type]
        return int(self._rpc("eth_getTransactionCount", [address, block]), 16)

    def _known(self, digest: bytes) -> bool:
        """Return whether the node has a transaction, in a block or waiting."""
        if self._tester is None:
            return self._rpc("eth_getTransactionByHash", ["0x" + digest.hex()]) is not None
        try:
            self.web3.eth.get_transaction(HexBytes(digest))
        except TransactionNotFound:
            return False
        return True

    def _mined(self, digest: bytes) -> dict[str, Any] | None:
        """Return the receipt of a transaction that is in a block, else None."""
        if self._tester is None:
            found = self._rpc("eth_getTransactionReceipt", ["0x" + digest.hex()])
            return None if found is None else dict(_typed(found))
        try:
            return dict(self.web3.eth.get_transaction_receipt(HexBytes(digest)))
        except TransactionNotFound:
            return None

    def _await(self, digest: bytes, sent: Sent | None, doing: str) -> dict[str, Any] | None:
        """Return a transaction's receipt, sending it again if it is lost; None if it can never be mined.

        Raises
        ------
        ChainError
            If it is not mined within ``RECEIPT_TIMEOUT``.
        """
        began = time.monotonic()
        look, pause, poll = began + LOOK_AFTER, LOOK_AFTER, FIRST_POLL
        while True:
            receipt = self._mined(digest)
            if receipt is not None:
                number, gas = int(receipt["blockNumber"]), int(receipt["cumulativeGasUsed"])
                if not self.confirmations or self.block_number() >= number + self.confirmations:
                    self._gas[number] = max(gas, self._gas.get(number, 0))
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
            time.sleep(min(poll, self.poll))
            poll *= 2

    def _rescue(self, sent: Sent) -> bool:
        """Send a transaction that has no receipt again, after those before it; False if another has its nonce."""
        address = sent.account.address
        with self._lock:
            if self._count(address, "latest") > sent.nonce:
                if self._mined(sent.hash) is not None or self._count(address, "latest") <= sent.nonce:
                    return True
                self._nonces.pop(address, None)
                self._sent.get(address, {}).pop(sent.nonce, None)
                return False
            # A node keeps what comes after a gap and says nothing. What another program sent cannot be sent again:
            # an empty payment to oneself takes its place, and its author finds it missing.
            for nonce in range(self._count(address), sent.nonce):
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
            self._submit(raw, keccak(raw))
        except REFUSALS as error:
            # Its nonce may have been taken meanwhile; the next look finds out.
            log.debug("sent again and refused: %s", error)

    def _reason(self, transaction: Transaction, doing: str, explain: Explain | None) -> ChainError | None:
        """Return why a transaction fails, by trying it out; None if it would not fail now."""
        call: Any = {"from": transaction.account.address}
        call |= {name: value for name, value in transaction.fields.items() if name != "gas"}
        try:
            self._ask(lambda: self.web3.eth.call(call))
        except Exception as error:
            reverted = revert_data(error.__cause__ or error)
            if reverted and explain is not None:
                return explain(reverted, doing)
            return ChainError(f"The chain refused {doing}: {error.__cause__ or error}.")
        return None

    def price(self) -> int:
        """Return what a unit of gas costs now at most, in wei."""
        fees = self._fees()
        return fees["maxFeePerGas"] if "maxFeePerGas" in fees else fees["gasPrice"]

    def _fees(self) -> dict[str, int]:
        asked, fees = self._fees_known
        if time.monotonic() - asked < FEES_LAST:
            return fees
        if self.capabilities.fee_market:
            base = int(self.block().get("baseFeePerGas", 0))
            tip = 0 if base == 0 else 10**9
            # Twice the base fee is enough for five full blocks.
            fees = {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip, "type": 2}
        else:
            fees = {"gasPrice": self._ask(lambda: int(self.web3.eth.gas_price))}
        self._fees_known = (time.monotonic(), fees)
        return fees

    def _probe(self) -> Capabilities:
        client = str(self._ask(lambda: self.web3.client_version))
        authority = False
        try:
            block = self._ask(lambda: self.web3.eth.get_block("latest"))
        except ChainError as error:
            if not isinstance(error.__cause__, ExtraDataLengthError):
                raise
            self.web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
            authority = True
            block = self._ask(lambda: self.web3.eth.get_block("latest"))
        capabilities = Capabilities(
            client=client,
            chain_id=self._ask(lambda: int(self.web3.eth.chain_id)),
            development=client.lower().startswith(DEVELOPMENT_CLIENTS),
            shanghai=self._executes(PUSH0_PROBE),
            fee_market="baseFeePerGas" in block,
            proof_of_authority=authority,
        )
        if not capabilities.shanghai:
            raise ChainError(f"The chain ({client}) lacks PUSH0.", "Use one with the Shanghai upgrade or a later one.")
        return capabilities

    def _executes(self, init_code: str) -> bool:
        """Return whether the chain knows the code's instructions; nodes report that they do not in many ways."""
        for pause in (*UNSETTLED, 0):
            if self._runs(init_code):
                return True
            if self._runs(STOP):
                return False
            # It executes nothing at all just now.
            time.sleep(pause)
        raise ChainError(f"The chain at {self.where} does not execute calls.", "Is it in order? Try again later.")

    def _runs(self, init_code: str) -> bool:
        try:
            self._ask(lambda: self.web3.eth.call({"data": init_code}))  # type: ignore[typeddict-item]
        except Exception as error:
            if isinstance(error.__cause__, RequestException):
                raise
            return False
        return True

    def _request(self, method: str, params: list[Any]) -> Any:
        # Past web3's middleware and formatters, which take several times as long as a node's answer.
        if self._near is not None:
            answer = self._near.ask(method, params)
        else:
            answer = dict(self.web3.provider.make_request(RPCEndpoint(method), params))
        if "error" in answer:
            error = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
            raise ContractLogicError(f"{method}: {error.get('message')}", data=error.get("data"))
        return answer.get("result")

    def _request_all(self, method: str, params: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Ask one kind of question many times in one request."""
        if self._near is not None:
            return self._near.ask_all([(method, each) for each in params])
        provider: Any = self.web3.provider
        answers = provider.make_batch_request([(RPCEndpoint(method), each) for each in params])
        if not isinstance(answers, list) or len(answers) != len(params):
            raise ChainError(f"The chain at {self.where} does not answer {method} {len(params)} times at once.")
        return [dict(answer) for answer in answers]

    def _rpc(self, method: str, params: list[Any]) -> Any:
        for pause in UNSETTLED:
            try:
                return self._ask(lambda: self._request(method, params))
            except ChainError as error:
                if isinstance(error.__cause__, RequestException) or revert_data(error.__cause__):
                    raise
                # In the middle of a reorganisation a node contradicts itself.
                time.sleep(pause)
        return self._ask(lambda: self._request(method, params))

    def _found(self, method: str, params: list[Any], what: str) -> dict[str, Any]:
        answer = self._rpc(method, params)
        if answer is None:
            raise ChainError(f"The chain at {self.where} does not know {what}.")
        return dict(_typed(answer))

    def _ask(self, question: Callable[[], T]) -> T:
        deadline, pause = time.monotonic() + self._patience, 0.1
        while True:
            try:
                return question()
            except RequestException as error:
                if time.monotonic() > deadline:
                    raise ChainError(
                        f"No chain answers at {self.where}.",
                        "Start one with `fedledger chain up anvil`, or check the URL.",
                    ) from error
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
            except REFUSALS as error:
                raise ChainError(f"The chain at {self.where} answered with an error: {error}.") from error


def load_account(key: bytes) -> LocalAccount:
    """Return the account of a private key."""
    account: LocalAccount = Account.from_key(key)
    return account


def _typed(answer: Any, name: str = "") -> Any:
    """Return a node's answer with quantities as integers, addresses with checksums and all else as bytes."""
    if isinstance(answer, dict):
        return {key: _typed(value, key) for key, value in answer.items()}
    if isinstance(answer, list):
        return [_typed(value, name) for value in answer]
    if not isinstance(answer, str):
        return answer
    if name in QUANTITIES:
        return int(answer, 16)
    return checksum_address(answer) if name in ADDRESSES else HexBytes(answer)


def _embedded() -> tuple[Web3, Any]:
    from web3 import EthereumTesterProvider

    from fedledger.contracts.chain.embedded import embedded_tester

    tester = embedded_tester()
    return Web3(EthereumTesterProvider(tester)), tester


def _remote(url: str) -> Web3:
    if not url.startswith(("http://", "https://")):
        raise ChainError(
            f"{url!r} is no chain.", "Give embedded, anvil, ganache, or a URL such as http://127.0.0.1:8545."
        )
    session = requests.Session()
    # Looking for a proxy in the environment takes longer than a node on this machine takes to answer.
    session.trust_env = urlsplit(url).hostname not in LOOPBACK
    provider = Web3.HTTPProvider(
        url, request_kwargs={"timeout": 30}, exception_retry_configuration=None, session=session
    )
    return Web3(provider)


def revert_data(error: BaseException | None) -> bytes:
    """Return the data with which a call reverted, as an error tells it; nothing if it tells none."""
    candidates: list[Any] = []
    if isinstance(error, ContractLogicError):
        candidates += [error.data]
    candidates += list(getattr(error, "args", ()))
    for candidate in candidates:
        found = candidate.get("result", candidate.get("data")) if isinstance(candidate, dict) else candidate
        if isinstance(found, str) and found.startswith("0x") and len(found) >= 10:
            return bytes.fromhex(found[2:])
        if isinstance(found, bytes) and len(found) >= 4:
            return bytes(found)
        # eth-tester hands the bytes over as their Python literal.
        literal = re.fullmatch(r"execution reverted: (b'.*'|b\".*\")", str(found), re.DOTALL)
        if literal is not None:
            return bytes(ast.literal_eval(literal[1]))
    return b""
