"""Receipts that a block's header commits to, and transactions whose effects are known from these alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import rlp
from hexbytes import HexBytes
from trie.hexary import HexaryTrie

from fedledger.contracts.chain.answers import BLOOM_BYTES, bloom_bits
from fedledger.ledger_tools.audit.export import ExportedTransaction

TYPED_BELOW = 0x80
"""The first byte of a transaction that has a type; older ones begin with that of a list."""
NAMED = 5
"""Transactions that a note names; a document has all of them."""


@dataclass(frozen=True)
class Unexecuted:
    """A transaction whose effects on the ledger were taken from its receipt, and why."""

    block: int
    transaction: str
    reason: str

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Unchecked:
    """What an execution could not do itself.

    Parameters
    ----------
    transactions
        Those that were not executed as the chain did.
    since
        The first transaction, if there is one, after which the ledger's own state was not known: from there on all
        of the ledger's logs are those of receipts.
    rootless
        Blocks whose list of transactions could not be checked, as bytes are missing.
    """

    transactions: tuple[Unexecuted, ...] = ()
    since: Unexecuted | None = None
    rootless: tuple[int, ...] = ()

    def notes(self) -> list[str]:
        """Say so in words."""
        notes = []
        if self.transactions:
            shown = "; ".join(
                f"{each.transaction} in block {each.block} ({each.reason})" for each in self.transactions[:NAMED]
            )
            more = len(self.transactions) - NAMED
            notes.append(
                f"{len(self.transactions)} transactions were not executed: {shown}"
                f"{f'; and {more} more' if more > 0 else ''}. Their effects are those of their receipts, which the "
                "blocks' headers commit to: compare the newest block with the chain's own."
            )
        if self.since is not None:
            notes.append(
                f"From transaction {self.since.transaction} in block {self.since.block} on, the ledger's logs are "
                "those of receipts, and not executed: an earlier transaction changed the ledger in a way that only "
                "the chain knows. Only the newest block's hash speaks for them."
            )
        if self.rootless:
            notes.append(
                f"Lists of transactions in blocks {list(self.rootless)[:NAMED]} could not be checked: bytes of some "
                "are missing, or were counted with their blobs. Signatures and receipts were."
            )
        return notes


def receipts_root(transactions: Sequence[ExportedTransaction]) -> bytes:
    """Return the root by which a header commits to the receipts of a block's transactions.

    Raises
    ------
    ValueError
        If they have fields that are none.
    """
    trie, cumulative = HexaryTrie({}), 0
    for index, transaction in enumerate(transactions):
        cumulative += transaction.gas
        logs = [
            [bytes(HexBytes(address)), [bytes(HexBytes(topic)) for topic in topics], bytes(HexBytes(data))]
            for address, topics, data in transaction.logs
        ]
        body = rlp.encode([transaction.status, cumulative, _bloom(logs), logs])
        kind = type_of(transaction)
        trie[rlp.encode(index)] = (bytes([kind]) if kind else b"") + body
    return bytes(trie.root_hash)


def type_of(transaction: ExportedTransaction) -> int:
    """Return a transaction's type, which its first byte tells, or else the export.

    Raises
    ------
    ValueError
        If neither tells.
    """
    raw = bytes(HexBytes(transaction.raw))
    if raw:
        return raw[0] if raw[0] < TYPED_BELOW else 0
    kind = transaction.told.get("type") if transaction.told else None
    if not isinstance(kind, int) or not 0 <= kind < TYPED_BELOW:
        raise ValueError(f"the type {kind!r} of {transaction.hash}")
    return kind


def _bloom(logs: Sequence[tuple[bytes, list[bytes], bytes]] | Sequence[list[Any]]) -> bytes:
    bits = 0
    for address, topics, _ in logs:
        for value in (address, *topics):
            bits |= bloom_bits(value)
    return bits.to_bytes(BLOOM_BYTES, "big")
