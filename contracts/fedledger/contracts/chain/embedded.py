"""The embedded chain: eth-tester over py-evm, in this process."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import rlp
from eth.constants import ZERO_ADDRESS
from eth.exceptions import PyEVMError, TransactionNotFound
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.backends.pyevm.serializers import serialize_transaction, serialize_transaction_receipt
from eth_tester.exceptions import BlockNotFound, TransactionFailed
from eth_tester.exceptions import ValidationError as InvalidRequestError
from eth_utils.exceptions import ValidationError as InvalidTransactionError
from rlp.exceptions import RLPException
from web3 import EthereumTesterProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from fedledger.contracts.chain.answers import quantity
from fedledger.contracts.chain.connection import EMBEDDED, Connection
from fedledger.contracts.chain.journal import Block
from fedledger.contracts.chain.records import Head
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.protocol.errors import ConfigError

MNEMONIC = "test test test test test test test test test test test junk"
REFUSALS = (
    *(Web3Exception, ValueError, TransactionFailed, BlockNotFound, InvalidRequestError, InvalidTransactionError),
)

UNREPEATABLE = (*REFUSALS, PyEVMError, RLPException)


class JournalledBackend(PyEVMBackend):  # type: ignore[misc]
    """py-evm, telling of every block, and making the same blocks again.

    It finds transactions by its index: eth-tester searches all blocks, which makes an export quadratic.
    """

    keep: Callable[[Block], None] | None = None
    """Called with each block that is mined."""

    def mine_blocks(self, num_blocks: int = 1, coinbase: bytes = ZERO_ADDRESS) -> tuple[bytes, ...]:
        return tuple(self._mine(os.urandom(32), coinbase).hash for _ in range(num_blocks))

    def block(self, number: int) -> Block:
        """Return a block, as a journal keeps it."""
        return _kept(self.chain.get_canonical_block_by_number(number))

    def repeat(self, block: Block) -> Block:
        """Mine what comes next as it was mined, and return what came of it."""
        self.chain.set_header_timestamp(block.timestamp)
        for raw in block.transactions:
            self.send_raw_transaction(raw)
        return _kept(self._mine(block.mix))

    def _mine(self, mix: bytes, coinbase: bytes = ZERO_ADDRESS) -> Any:
        # No transaction has blobs.
        mined = self.chain.mine_block(coinbase=coinbase, mix_hash=mix, blob_gas_used=0)
        if self.keep is not None:
            self.keep(_kept(mined))
        return mined

    def get_transaction_by_hash(self, transaction_hash: bytes) -> Any:
        found = self._mined(transaction_hash)
        return (
            super().get_transaction_by_hash(transaction_hash) if found is None else serialize_transaction(*found, False)
        )

    def get_transaction_receipt(self, transaction_hash: bytes) -> Any:
        found = self._mined(transaction_hash)
        if found is None:
            return super().get_transaction_receipt(transaction_hash)
        block, transaction, index = found
        receipts = block.get_receipts(self.chain.chaindb)
        return serialize_transaction_receipt(block, receipts, transaction, index, False, self.chain.get_vm())

    def _mined(self, transaction_hash: bytes) -> tuple[Any, Any, int] | None:
        try:
            number, index = self.chain.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        block = self.chain.get_canonical_block_by_number(number)
        return block, block.transactions[index], index


class EmbeddedConnection(Connection):
    """A new chain in this process, with one rich account that it can send from; it has no reorganisations."""

    pauses = ()
    is_doubtful = False

    def __init__(self) -> None:
        super().__init__(EMBEDDED)
        self._begin()

    def _begin(self, began: int | None = None) -> None:
        """Make a new chain, whose first block is of now unless a time is given (seconds since 1970)."""
        rich = {"balance": 10**24}
        overrides = {} if began is None else {"timestamp": began}
        self._backend = JournalledBackend.from_mnemonic(
            MNEMONIC,
            num_accounts=1,
            genesis_state_overrides=rich,
            genesis_parameters=PyEVMBackend.generate_genesis_params(overrides),
        )
        self._tester = EthereumTester(self._backend)
        self._manager = Web3(EthereumTesterProvider(self._tester), middleware=[]).manager

    def request(self, method: str, params: list[Any]) -> Any:
        full = method == "eth_getBlockByNumber" and params[1]
        try:
            answer: Any = self._manager.request_blocking(RPCEndpoint(method), [params[0], False] if full else params)
        except REFUSALS as error:
            raise RefusedError(str(error), _reverted(error)) from error
        if full and answer is not None:
            # eth-tester names the fields of nested transactions otherwise.
            digests = [[digest] for digest in answer["transactions"]]
            return {**answer, "transactions": self.request_all("eth_getTransactionByHash", digests)}
        return answer

    def request_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        return [self.request(method, each) for each in params]

    def head(self) -> Head:
        return Head(quantity(self.ask("eth_blockNumber", [])), b"")

    def hash(self, number: int) -> bytes:
        return b""

    def header(self, block: dict[str, Any]) -> bytes:
        # eth-tester shows neither the bloom filter nor the extra data as they are.
        mined = self._tester.backend.chain.get_canonical_block_by_number(int(block["number"]))
        return bytes(rlp.encode(mined.header))

    def keep_blocks(self, blocks: Sequence[Block], keep: Callable[[Block], None]) -> bool:
        if blocks:
            self._begin(blocks[0].timestamp)
        else:
            for number in range(self.head().number + 1):
                keep(self._backend.block(number))
        for number, block in enumerate(blocks):
            try:
                made = self._backend.repeat(block) if number else self._backend.block(0)
            except UNREPEATABLE as error:
                raise RefusedError(str(error)) from error
            if made.hash != block.hash:
                raise ConfigError(
                    f"Block {number} of the run's chain had the hash {block.hash.hex()}; made again, it has "
                    f"{made.hash.hex()}, so that the run would go on with another history.",
                    "Resume with the version of fedledger and of its packages that it began with, or start a new run.",
                )
        self._backend.keep = keep
        return True

    def advance(self, seconds: int) -> None:
        newest = self.ask("eth_getBlockByNumber", ["latest", False])
        try:
            self._tester.time_travel(int(newest["timestamp"]) + max(1, seconds))
            self._tester.mine_block()
        except REFUSALS as error:
            raise RefusedError(str(error)) from error


def _kept(block: Any) -> Block:
    header = block.header
    transactions = tuple(transaction.encode() for transaction in block.transactions)
    return Block(int(header.timestamp), bytes(header.mix_hash), bytes(header.hash), transactions)


def _reverted(error: Exception) -> str | None:
    """Return the data with which a call reverted, which eth-tester hands over as their Python literal."""
    literal = re.fullmatch(r"execution reverted: (b'.*'|b\".*\")", str(error), re.DOTALL)
    return None if literal is None else "0x" + bytes(ast.literal_eval(literal[1])).hex()
