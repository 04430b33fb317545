"""Execute an exported ledger again, on the embedded EVM (py-evm), and compare everything with the export."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth_keys.exceptions import BadSignature
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.address import to_canonical_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from trie.hexary import HexaryTrie

from fedledger.contracts.abi import Log, checksum_address, decode_log
from fedledger.contracts.compile import PARTS, parts
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError
from fedledger.ledger_tools.audit.export import ExportedBlock, ExportedTransaction, Header, LedgerExport
from fedledger.ledger_tools.audit.fast_opcodes import replaying_vm
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError

SETTINGS_BYTES = 8 * 32
ADDRESS_BYTES = 20
KNOWN_HASHES = 256


def execute(
    export: LedgerExport,
    watch: Callable[[int, int], None] = lambda done, of: None,
    told: Sequence[Log] = (),
) -> list[Log]:
    """Execute every transaction again and return the ledger's logs.

    ``told`` is what :func:`claimed` returned, if anybody has asked: logs that turn out as they are told need not be
    decoded again.

    Headers must link and name their transactions, transactions must have their hashes and valid signatures, and each
    must end with the status and the logs that its exported receipt has. One of them must deploy this release's
    contract at the ledger's address.

    Raises
    ------
    DivergenceError
        At the first thing that differs.
    """
    machine = _Machine(export)
    logs: list[Log] = []
    parent: Header | None = None
    for done, block in enumerate(export.blocks):
        header = _header(block, done)
        if parent is not None and (header.parent, header.number) != (parent.hash, parent.number + 1):
            _differ(f"block {header.number} parentHash", parent.hash, header.parent)
        parent = header
        machine.hashes.append(Hash32(bytes(HexBytes(header.parent))))
        _check_transactions(header, block)
        index = 0
        for transaction in block.transactions:
            for address, topics, data in machine.run(header, transaction):
                if address == export.address:
                    if told:
                        logs.append(told[len(logs)])
                    else:
                        log = _decoded(header.number, transaction, index, topics, data)
                        logs.append(replace(log, input=machine.input))
                index += 1
        watch(done + 1, len(export.blocks))
    _check_contract(machine.created, export.address)
    return logs


def claimed(export: LedgerExport) -> list[Log]:
    """Return the ledger's logs as the export tells them, in which nothing is checked.

    Raises
    ------
    DivergenceError, ValueError, ValidationError
        If they cannot be read. :func:`execute` finds out what is wrong with them.
    """
    build = PragueVM.get_transaction_builder()
    logs: list[Log] = []
    for block in export.blocks:
        number = Header.decode(bytes(HexBytes(block.header))).number
        index = 0
        for transaction in block.transactions:
            given: bytes | None = None
            for address, topics, data in transaction.logs:
                if address == export.address:
                    if given is None:
                        given = bytes(build.decode(bytes(HexBytes(transaction.raw))).data)
                    logs.append(replace(_decoded(number, transaction, index, topics, data), input=given))
                index += 1
    return logs


def head(export: LedgerExport) -> str | None:
    """Return the hash of the newest exported block, which stands for all of them."""
    return _header(export.blocks[-1], len(export.blocks) - 1).hash if export.blocks else None


class _Machine:
    """The EVM's state between transactions; rules of a fork that all supported chains agree with on our contracts."""

    def __init__(self, export: LedgerExport) -> None:
        kind = MiningChain.configure("Replay", vm_configuration=((0, replaying_vm()),), chain_id=export.chain_id)
        genesis: Any = {
            to_canonical_address(address): {"balance": int(wei), "nonce": 0, "code": b"", "storage": {}}
            for address, wei in export.genesis.items()
        }
        header: Any = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": 0, "base_fee_per_gas": 1}
        self._vm: Any = kind.from_genesis(AtomicDB(), header, genesis).get_vm()
        self._chain_id = export.chain_id
        self.created: dict[str, bytes] = {}
        self.hashes: deque[Hash32] = deque(maxlen=KNOWN_HASHES)
        self.input = b""
        # One state serves all transactions and lives in memory: nobody asks for the roots in between.
        self._state: Any = self._vm.state

    def run(self, header: Header, transaction: ExportedTransaction) -> list[tuple[str, list[str], str]]:
        raw = bytes(HexBytes(transaction.raw))
        found = "0x" + keccak(raw).hex()
        where = f"block {header.number} transaction {transaction.hash}"
        if found != transaction.hash:
            _differ(f"{where} hash", transaction.hash, found)
        self._state.execution_context = self._context(header)
        try:
            decoded = self._vm.get_transaction_builder().decode(raw)
            self.input = bytes(decoded.data)
            computation = self._state.apply_transaction(decoded)
        except (ValidationError, BadSignature, ValueError) as error:
            raise DivergenceError(Divergence(0, f"{where} validity", "valid", str(error))) from error
        self._state.lock_changes()
        if computation.msg.is_create and computation.is_success:
            self.created[checksum_address(computation.msg.storage_address)] = bytes(decoded.data)
        status = int(computation.is_success)
        if status != transaction.status:
            _differ(f"{where} status", transaction.status, status)
        logs: list[tuple[str, list[str], str]] = [
            (
                checksum_address(address),
                ["0x" + t.to_bytes(32, "big").hex() for t in topics],
                "0x" + data.hex(),
            )
            for address, topics, data in computation.get_log_entries()
        ]
        exported = [(address, topics, data) for address, topics, data in transaction.logs]
        if logs != exported:
            _differ(f"{where} logs", logs, exported)
        return logs

    def _context(self, header: Header) -> ExecutionContext:
        return ExecutionContext(
            coinbase=Address(header.miner),
            timestamp=header.timestamp,
            block_number=BlockNumber(header.number),
            difficulty=0,
            mix_hash=Hash32(header.mix_hash),
            gas_limit=header.gas_limit,
            prev_hashes=tuple(reversed(self.hashes)),
            chain_id=self._chain_id,
            base_fee_per_gas=header.base_fee,
            excess_blob_gas=0,
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


def _check_transactions(header: Header, block: ExportedBlock) -> None:
    trie = HexaryTrie({})
    for index, transaction in enumerate(block.transactions):
        trie[rlp.encode(index)] = bytes(HexBytes(transaction.raw))
    if trie.root_hash != header.transactions_root:
        names = ("0x" + root.hex() for root in (header.transactions_root, trie.root_hash))
        _differ(f"block {header.number} transactionsRoot", *names)


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
