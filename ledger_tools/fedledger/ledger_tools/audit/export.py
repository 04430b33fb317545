"""Export a ledger: genesis, headers, raw transactions and receipts, enough to execute it again without the chain."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rlp
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from fedledger.contracts.chain.answers import HEADER_FIELDS
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.signed_bytes import KNOWN_TYPES, kind_of, number, signed_bytes
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.ledger_tools.audit.chain_words import chain_state
from fedledger.ledger_tools.deploy import Deployment
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError, ConfigError

EXPORT_VERSION = 2
"""Since version 2 a transaction may be of any type, and lack its bytes; an export that needs neither has version 1."""
PLAIN_VERSION = 1
log = logging.getLogger(__name__)

LEDGER_FILE, DEPLOYMENT_FILE = "ledger.jsonl", "deployment.json"


@dataclass(frozen=True)
class ExportedTransaction:
    """A transaction as it was signed, and what its receipt says: logs as [address, topics, data].

    Parameters
    ----------
    raw
        The bytes that were signed; ``0x`` if nobody could tell them.
    told
        What the chain says of a transaction whose bytes are missing, or of a type that this release does not know:
        its type, sender and nonce, and its data if it reached the ledger. None for all others.
    """

    hash: str
    raw: str
    status: int
    gas: int
    logs: list[list[Any]]
    told: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return this as JSON, without what is not told."""
        return {name: value for name, value in asdict(self).items() if name != "told" or value is not None}


@dataclass(frozen=True)
class Header:
    """What execution needs of a block's header, and what binds the header to its chain."""

    hash: str
    parent: str
    miner: bytes
    transactions_root: bytes
    receipts_root: bytes
    number: int
    gas_limit: int
    timestamp: int
    mix_hash: bytes
    base_fee: int
    excess_blob_gas: int
    has_data_floor: bool

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Decode a header's RLP.

        Raises
        ------
        ValueError
            If the bytes are no header.
        """
        try:
            fields = dict(zip(HEADER_FIELDS, rlp.decode(raw), strict=False))
            number, gas_limit, timestamp, base_fee = (
                int.from_bytes(fields[name], "big") for name in ("number", "gasLimit", "timestamp", "baseFeePerGas")
            )
            return cls(
                hash="0x" + keccak(raw).hex(),
                parent="0x" + fields["parentHash"].hex(),
                miner=fields["miner"],
                transactions_root=fields["transactionsRoot"],
                receipts_root=fields["receiptsRoot"],
                number=number,
                gas_limit=gas_limit,
                timestamp=timestamp,
                mix_hash=fields["mixHash"],
                base_fee=base_fee,
                excess_blob_gas=int.from_bytes(fields.get("excessBlobGas", b""), "big"),
                has_data_floor="requestsHash" in fields,
            )
        except (rlp.exceptions.DecodingError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no block header: {error}") from error


@dataclass(frozen=True)
class ExportedBlock:
    """A block: its header's RLP (0x…), and its transactions."""

    header: str
    transactions: list[ExportedTransaction]

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {"header": self.header, "transactions": [each.document() for each in self.transactions]}


@dataclass(frozen=True)
class LedgerExport:
    """A ledger's history.

    Parameters
    ----------
    genesis
        Balances in wei, at the first block's parent, of all accounts that send transactions.
    blocks
        Blocks from the first to the newest, in order.
    state
        What the chain itself says at the end: evidence words by publisher, credit words by task, and spot checks by
        task, if there are any.
    """

    version: int
    chain_id: int
    address: str
    genesis: dict[str, str]
    blocks: list[ExportedBlock]
    state: dict[str, dict[str, dict[str, str]]]

    def write(self, path: Path) -> None:
        """Write one JSON document a line: the head, the blocks, and the digest of all lines before it."""
        head = {key: getattr(self, key) for key in ("version", "chain_id", "address", "genesis", "state")}
        lines = [_line(head), *(_line(block.document()) for block in self.blocks)]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        path.write_text("".join([*lines, _line({"sha256": digest})]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> LedgerExport:
        """Read an export.

        Raises
        ------
        ConfigError
            If the file is not an export, or was changed since it was written.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            head, *blocks, end = (canonical.parse(line) for line in lines)
            digest = hashlib.sha256("".join(lines[:-1]).encode()).hexdigest()
            if end != {"sha256": digest}:
                raise ValueError(f"its lines have digest {digest}, it says {end.get('sha256')}")
            found = [
                ExportedBlock(block["header"], [ExportedTransaction(**t) for t in block["transactions"]])
                for block in blocks
            ]
            export = cls(blocks=found, **head)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path.parent} has no {path.name}: its run had no ledger, or was interrupted.",
                "Run the experiment with a ledger to its end.",
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"The exported ledger {path} cannot be read: {error}.", "Get an unchanged copy."
            ) from error
        if export.version not in (PLAIN_VERSION, EXPORT_VERSION):
            raise ConfigError(
                f"{path} has version {export.version}; this release reads versions up to {EXPORT_VERSION}.",
                "Use a newer release.",
            )
        return export


def export_ledger(ledger: Ledger, deployment: Deployment, history: History) -> LedgerExport:
    """Read everything from the deployment, or a development chain's first block, to the newest block.

    Raises
    ------
    ConfigError
        If the chain has forgotten the balances before that.
    """
    chain = ledger.chain
    blocks: list[ExportedBlock] = []
    senders: set[str] = set()
    first = deployment.block if not chain.development else 1
    for height in range(first, chain.block_number() + 1):
        block = chain.block(height, full=True)
        transactions = []
        for transaction in block["transactions"]:
            senders.add(to_checksum_address(transaction["from"]))
            transactions.append(_exported(chain, transaction, ledger.address))
        blocks.append(ExportedBlock("0x" + chain.connection.header(block).hex(), transactions))
    genesis = {sender: _first_balance(chain, deployment, sender, first - 1) for sender in sorted(senders)}
    plain = all(transaction.told is None for block in blocks for transaction in block.transactions)
    version = PLAIN_VERSION if plain else EXPORT_VERSION
    return LedgerExport(version, chain.chain_id, ledger.address, genesis, blocks, chain_state(ledger, history))


def _first_balance(chain: Chain, deployment: Deployment, address: str, block: int) -> str:
    if chain.development and deployment.genesis:
        # All money of such a chain comes from its own accounts.
        return deployment.genesis.get(address, "0")
    try:
        return str(chain.balance(address, block))
    except ChainError as error:
        raise ConfigError(
            f"The chain does not know any more what {address} had in block {block}: {error.message}",
            "Deploy the ledger when the chain is young, or keep its old states.",
        ) from error


def _exported(chain: Chain, transaction: dict[str, Any], ledger: str) -> ExportedTransaction:
    receipt = chain.receipt(transaction["hash"])
    logs = [
        [to_checksum_address(each["address"]), [_plain(t) for t in each["topics"]], _plain(each["data"])]
        for each in receipt["logs"]
    ]
    raw, kind = signed_bytes(chain, transaction), kind_of(transaction)
    told: dict[str, Any] | None = None
    if raw is None or kind not in KNOWN_TYPES:
        told = {"type": kind, "sender": to_checksum_address(transaction["from"]), "nonce": number(transaction["nonce"])}
        if any(address == ledger for address, *_ in logs):
            told["input"] = _plain(transaction["input"])
        log.warning(
            "the transaction %s of type %d is exported as one that cannot be executed",
            _plain(receipt["transactionHash"]),
            kind,
        )
    digest, status, gas = _plain(transaction["hash"]), receipt["status"], receipt["gasUsed"]
    return ExportedTransaction(digest, "0x" + (raw or b"").hex(), status, gas, logs, told)


def _line(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def _plain(value: Any) -> Any:
    return HexBytes(value).to_0x_hex() if isinstance(value, bytes) else value
