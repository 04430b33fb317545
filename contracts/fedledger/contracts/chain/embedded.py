"""The embedded chain: eth-tester over py-evm, in this process."""

from __future__ import annotations

from typing import Any

from eth.exceptions import TransactionNotFound
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.backends.pyevm.serializers import serialize_transaction, serialize_transaction_receipt

MNEMONIC = "test test test test test test test test test test test junk"


class IndexedBackend(PyEVMBackend):  # type: ignore[misc]
    """py-evm, finding transactions by its index: eth-tester searches all blocks, which makes an export quadratic."""

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


def embedded_tester() -> EthereumTester:
    """Return a new chain with one rich account that it can send from."""
    rich = {"balance": 10**24}
    return EthereumTester(IndexedBackend.from_mnemonic(MNEMONIC, num_accounts=1, genesis_state_overrides=rich))
