"""Execute an exported ledger again, on the embedded EVM (py-evm), and compare everything with the export."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.state import PragueTransactionExecutor
from eth_keys.exceptions import BadSignature
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.address import to_canonical_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from trie.hexary import HexaryTrie

from fedledger.contracts.abi import Log, checksum_address, decode_log
from fedledger.contracts.chain.signed_bytes import BLOB
from fedledger.contracts.compile import PARTS, parts
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError
from fedledger.ledger_tools.audit.export import ExportedBlock, ExportedTransaction, Header, LedgerExport
from fedledger.ledger_tools.audit.fast_opcodes import replaying_vm
from fedledger.ledger_tools.audit.receipts import Unchecked, Unexecuted, receipts_root, type_of
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError

SETTINGS_BYTES = 8 * 32
ADDRESS_BYTES = 20
KNOWN_HASHES = 256
BLOB_GAS = 2**17


@dataclass(frozen=True)
class Executed:
    """What executing an export came to: the ledger's logs, and what could not be executed or checked."""

    logs: list[Log]
    unchecked: Unchecked


def execute(
    export: LedgerExport,
    watch: Callable[[int, int], None] = lambda done, of: None,
    told: Sequence[Log] = (),
) -> list[Log]:
    """Return the ledger's logs alone; see :func:`execute_all`."""
    return execute_all(export, watch, told).logs


def execute_all(
    export: LedgerExport,
    watch: Callable[[int, int], None] = lambda done, of: None,
    told: Sequence[Log] = (),
) -> Executed:
    """Execute every transaction again and return the ledger's logs.

    ``told`` is what :func:`claimed` returned, if anybody has asked: logs that turn out as they are told need not be
    decoded again.

    Headers must link and name their transactions, transactions must have their hashes and valid signatures, and each
    must end with the status and the logs that its exported receipt has. One of them must deploy this release's
    contract at the ledger's address.

    Anybody may send transactions that this machine does not know or executes otherwise than the chain. Such a one is
    named, and its receipt is believed if the block's header commits to it. Whoever calls the ledger directly, with a
    transaction of a known type, is executed in any case, as long as the ledger's state is known.

    Raises
    ------
    DivergenceError
        At the first thing that differs.
    """
    machine = _Machine(export)
    logs: list[Log] = []
    rootless: list[int] = []
    parent: Header | None = None
    for done, block in enumerate(export.blocks):
        header = _header(block, done)
        if parent is not None and (header.parent, header.number) != (parent.hash, parent.number + 1):
            _differ(f"block {header.number} parentHash", parent.hash, header.parent)
        parent = header
        machine.hashes.append(Hash32(bytes(HexBytes(header.parent))))
        if not _check_transactions(header, block):
            rootless.append(header.number)
        index, unexecuted = 0, len(machine.unexecuted)
        for transaction in block.transactions:
            for address, topics, data in machine.run(header, transaction):
                if address == export.address:
                    if told:
                        logs.append(told[len(logs)])
                    else:
                        log = _decoded(header.number, transaction, index, topics, data)
                        logs.append(replace(log, input=machine.input))
                index += 1
        if machine.since is not None or len(machine.unexecuted) > unexecuted or header.number in rootless[-1:]:
            _check_receipts(header, block)
        watch(done + 1, len(export.blocks))
    _check_contract(machine.created, export.address)
    return Executed(logs, Unchecked(tuple(machine.unexecuted), machine.since, tuple(rootless)))


def claimed(export: LedgerExport) -> list[Log]:
    """Return the ledger's logs as the export tells them, in which nothing is checked.

    Raises
    ------
    DivergenceError, ValueError, ValidationError
        If they cannot be read. :func:`execute` finds out what is wrong with them.
    """
    logs: list[Log] = []
    for block in export.blocks:
        number = Header.decode(bytes(HexBytes(block.header))).number
        index = 0
        for transaction in block.transactions:
            given: bytes | None = None
            for address, topics, data in transaction.logs:
                if address == export.address:
                    if given is None:
                        given = _input(transaction, _read(transaction))
                    logs.append(replace(_decoded(number, transaction, index, topics, data), input=given))
                index += 1
    return logs


def head(export: LedgerExport) -> str | None:
    """Return the hash of the newest exported block, which stands for all of them."""
    return _header(export.blocks[-1], len(export.blocks) - 1).hash if export.blocks else None


class _WithoutFloor(PragueTransactionExecutor):
    """Executes transactions of a chain before Prague, in which data has no least price."""

    @staticmethod
    def calc_data_floor_gas(transaction: Any, gas_used: int, gas_refund: int) -> int:
        return 0


class _DiffersError(Exception):
    """A transaction that this machine does not execute as its receipt says."""

    def __init__(self, field: str, expected: Any, found: Any) -> None:
        super().__init__(f"another {field} than the chain's" if field in ("status", "logs") else str(found))
        self.field, self.expected, self.found = field, expected, found


class _Machine:
    """The EVM's state between transactions; rules of a fork that all supported chains agree with on our contracts.

    ``unexecuted`` are transactions whose receipts were believed instead; ``since`` is the first of them that changed
    the ledger, or one called directly that this machine executes otherwise after them. From there on nothing is
    executed any more.
    """

    def __init__(self, export: LedgerExport) -> None:
        kind = MiningChain.configure("Replay", vm_configuration=((0, replaying_vm()),), chain_id=export.chain_id)
        genesis: Any = {
            to_canonical_address(address): {"balance": int(wei), "nonce": 0, "code": b"", "storage": {}}
            for address, wei in export.genesis.items()
        }
        header: Any = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": 0, "base_fee_per_gas": 1}
        self._vm: Any = kind.from_genesis(AtomicDB(), header, genesis).get_vm()
        self._export = export
        self._seen: set[bytes] = set()
        # Before a chain's first block nobody has sent anything.
        self._is_young = bool(export.blocks) and _header(export.blocks[0], 0).number <= 1
        self.created: dict[str, bytes] = {}
        self.hashes: deque[Hash32] = deque(maxlen=KNOWN_HASHES)
        self.input = b""
        self.unexecuted: list[Unexecuted] = []
        self.since: Unexecuted | None = None
        # One state serves all transactions and lives in memory: nobody asks for the roots in between.
        self._state: Any = self._vm.state

    def run(self, header: Header, transaction: ExportedTransaction) -> list[tuple[str, list[str], str]]:
        """Execute a transaction, or believe its receipt, and return its logs."""
        raw = bytes(HexBytes(transaction.raw))
        where = f"block {header.number} transaction {transaction.hash}"
        found = "0x" + keccak(raw).hex()
        if raw and found != transaction.hash:
            _differ(f"{where} hash", transaction.hash, found)
        exported = [(address, topics, data) for address, topics, data in transaction.logs]
        decoded = _read(transaction)
        self.input = _input(transaction, decoded)
        if self.since is not None:
            return exported
        if decoded is None:
            reason = f"of type {_type(transaction)}" if raw else "its bytes are missing"
            self._believe(header, transaction, None, reason)
            return exported
        self._state.execution_context = self._context(header)
        self._state.transaction_executor_class = PragueTransactionExecutor if header.has_data_floor else _WithoutFloor
        before = self._state.snapshot()
        try:
            self._supply(decoded)
            self._execute(transaction, decoded, exported)
            self._state.commit(before)
        except _DiffersError as error:
            if self._must_agree(transaction, decoded, error):
                raise DivergenceError(Divergence(0, f"{where} {error.field}", error.expected, error.found)) from error
            self._state.revert(before)
            self._state.clear_transient_storage()
            self._believe(header, transaction, decoded, str(error))
        self._state.lock_changes()
        return exported

    def _execute(
        self, transaction: ExportedTransaction, decoded: Any, exported: list[tuple[str, list[str], str]]
    ) -> None:
        """Execute a transaction; raises _DiffersError unless it ends as its receipt says."""
        try:
            computation = self._state.apply_transaction(decoded)
        except Exception as error:
            # Whatever a stranger's transaction does to this machine, it is no reason to end here.
            raise _DiffersError("validity", "valid", f"{error or type(error).__name__}") from error
        logs = [
            (checksum_address(address), ["0x" + t.to_bytes(32, "big").hex() for t in topics], "0x" + data.hex())
            for address, topics, data in computation.get_log_entries()
        ]
        status = int(computation.is_success)
        if status != transaction.status:
            raise _DiffersError("status", transaction.status, status)
        if logs != exported:
            raise _DiffersError("logs", exported, logs)
        if computation.msg.is_create and computation.is_success:
            self.created[checksum_address(computation.msg.storage_address)] = bytes(decoded.data)

    def _must_agree(self, transaction: ExportedTransaction, decoded: Any, error: _DiffersError) -> bool:
        """Return whether a transaction that ends otherwise here is a lie: whether all that it needs is known here.

        Another fork's rules, or a contract that is older than the export, may end otherwise what does not call the
        ledger directly, and what has no effect on it.
        """
        try:
            signed, to = bool(decoded.sender), bytes(decoded.to)
        except (BadSignature, ValidationError, ValueError):
            return True
        ledger = self._export.address
        here = error.found if error.field == "logs" else ()
        acts = any(address == ledger for address, *_ in (*transaction.logs, *here))
        return not signed or (acts and to == to_canonical_address(ledger) and not self.unexecuted)

    def _believe(self, header: Header, transaction: ExportedTransaction, decoded: Any, reason: str) -> None:
        """Take a transaction's effects from its receipt: its logs, and what it took of its sender's nonces."""
        unexecuted = Unexecuted(header.number, transaction.hash, reason)
        self.unexecuted.append(unexecuted)
        ledger = self._export.address
        if any(address == ledger for address, *_ in transaction.logs):
            self.since = unexecuted
        told = transaction.told or {}
        try:
            sender = bytes(decoded.sender) if decoded else to_canonical_address(told["sender"])
            nonce = int(decoded.nonce if decoded else told["nonce"])
            self._state.set_nonce(sender, nonce + 1)
        except (KeyError, TypeError, ValueError, ValidationError):
            # Nobody tells whose it is; the sender's next one is given what it needs.
            return

    def _supply(self, decoded: Any) -> None:
        """Give a sender the nonce and the balance that the chain found, where this machine cannot know them."""
        try:
            sender = bytes(decoded.sender)
        except (BadSignature, ValidationError, ValueError):
            return
        is_new = sender not in self._seen
        self._seen.add(sender)
        if self.unexecuted or (is_new and not self._is_young):
            self._state.set_nonce(sender, decoded.nonce)
        if self.unexecuted:
            blobs = len(getattr(decoded, "blob_versioned_hashes", ())) if decoded.type_id == BLOB else 0
            fee = BLOB_GAS * blobs * decoded.max_fee_per_blob_gas if blobs else 0
            needed = decoded.gas * decoded.max_fee_per_gas + decoded.value + fee
            if self._state.get_balance(sender) < needed:
                self._state.set_balance(sender, needed)

    def _context(self, header: Header) -> ExecutionContext:
        return ExecutionContext(
            coinbase=Address(header.miner),
            timestamp=header.timestamp,
            block_number=BlockNumber(header.number),
            difficulty=0,
            mix_hash=Hash32(header.mix_hash),
            gas_limit=header.gas_limit,
            prev_hashes=tuple(reversed(self.hashes)),
            chain_id=self._export.chain_id,
            base_fee_per_gas=header.base_fee,
            excess_blob_gas=header.excess_blob_gas,
        )


def _check_contract(created: dict[str, bytes], address: str) -> None:
    """Check that a known version's parts were deployed at the ledger's address, each made with the same settings."""
    code = created.get(address)
    if code is None:
        _differ("contract", f"a transaction that deploys {address}", None)
        return
    known = [parts(version) for version in PARTS]
    expected = next((p for p in known if code.startswith(bytes.fromhex(p[0].bytecode[2:]))), known[-1])
    settings: bytes | None = None
    for part in expected:
        creation = bytes.fromhex(part.bytecode[2:])
        found = created.get(address, b"")
        if not found.startswith(creation):
            digests = ("0x" + keccak(code).hex() for code in (creation, found[: len(creation)]))
            _differ(f"contract {part.name}", *digests)
        arguments = found[len(creation) :]
        if len(expected) == 1:
            return
        own, following = arguments[:SETTINGS_BYTES], arguments[SETTINGS_BYTES:]
        settings = settings or own
        if own != settings:
            _differ(f"settings of {part.name}", settings.hex(), own.hex())
        address = checksum_address(following[-ADDRESS_BYTES:]) if following else ""


def _header(block: ExportedBlock, place: int) -> Header:
    try:
        return Header.decode(bytes(HexBytes(block.header)))
    except ValueError as error:
        raise DivergenceError(Divergence(0, f"header of exported block {place}", "a header", str(error))) from error


def _check_transactions(header: Header, block: ExportedBlock) -> bool:
    """Check a block's list of transactions; False if that is impossible.

    Bytes of some may be missing, and Anvil counts the blobs, which no block has, among the bytes of their transactions.
    """
    raws = [bytes(HexBytes(transaction.raw)) for transaction in block.transactions]
    if not all(raws):
        return False
    trie = HexaryTrie({})
    for index, raw in enumerate(raws):
        trie[rlp.encode(index)] = raw
    if trie.root_hash != header.transactions_root:
        if any(raw[0] == BLOB for raw in raws):
            return False
        names = ("0x" + root.hex() for root in (header.transactions_root, trie.root_hash))
        _differ(f"block {header.number} transactionsRoot", *names)
    return True


def _check_receipts(header: Header, block: ExportedBlock) -> None:
    """Check that the receipts of a block are those that its header commits to."""
    try:
        root = receipts_root(block.transactions)
    except (ValueError, TypeError, rlp.exceptions.RLPException) as error:
        raise DivergenceError(
            Divergence(0, f"block {header.number} receipts", "receipts of known types", str(error))
        ) from error
    if root != header.receipts_root:
        _differ(f"block {header.number} receiptsRoot", *("0x" + each.hex() for each in (header.receipts_root, root)))


def _read(transaction: ExportedTransaction) -> Any:
    """Return a transaction as this machine executes it; None if it does not know its like."""
    raw = bytes(HexBytes(transaction.raw))
    try:
        return PragueVM.get_transaction_builder().decode(raw) if raw else None
    except Exception:
        # It is in a block, so its bytes are those that the chain accepted.
        return None


def _input(transaction: ExportedTransaction, decoded: Any) -> bytes:
    """Return the data of a transaction; nothing if nobody tells it."""
    if decoded is not None:
        return bytes(decoded.data)
    try:
        return bytes(HexBytes((transaction.told or {}).get("input", b"")))
    except (ValueError, TypeError):
        return b""


def _type(transaction: ExportedTransaction) -> str:
    try:
        return str(type_of(transaction))
    except (ValueError, TypeError):
        return "unknown"


def _decoded(number: int, transaction: ExportedTransaction, index: int, topics: list[str], data: str) -> Log:
    try:
        return decode_log(
            {
                "topics": [HexBytes(topic) for topic in topics],
                "data": HexBytes(data),
                "blockNumber": number,
                "transactionHash": HexBytes(transaction.hash),
                "logIndex": index,
            }
        )
    except ChainError as error:
        raise DivergenceError(Divergence(0, f"block {number} log {index}", "a known event", str(error))) from error


def _differ(field: str, expected: Any, found: Any) -> None:
    raise DivergenceError(Divergence(0, field, expected, found))
