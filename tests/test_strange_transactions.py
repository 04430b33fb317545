"""Transactions that only strangers send: of newer types, through contracts, or executed otherwise by the chain.

None of them ends an export or an audit, and none is believed silently.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from trie.hexary import HexaryTrie

from fedledger.contracts.abi import checksum_address, functions
from fedledger.contracts.chain.records import Transaction
from fedledger.contracts.chain.signed_bytes import rebuilt, signed_bytes
from fedledger.ledger_tools.audit.audit import AuditResult, audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE, ExportedTransaction, LedgerExport, export_ledger
from fedledger.ledger_tools.audit.receipts import receipts_root
from fedledger.protocol.encoding.keccak import keccak
from support.world import World, world

DEPLOYER = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""A contract that Anvil has from the beginning, and exports do not."""
PARENT, TRANSACTIONS_ROOT, RECEIPTS_ROOT = 0, 4, 5
BLOB_BYTES = 131_072
INFINITY = b"\xc0".ljust(48, b"\0")
URL = "http://203.0.113.7:1"


def forwarder(to: str) -> bytes:
    """Return the init code of a contract that calls the ledger with whatever it is called with."""
    runtime = bytes.fromhex(f"365f5f375f5f365f34{'73' + to[2:].lower()}5af1005b00")
    return bytes.fromhex(f"60{len(runtime):02x}600b5f3960{len(runtime):02x}5ff3").ljust(11, b"\0") + runtime


class Stranger:
    """An account with an Anvil chain of its own tastes."""

    def __init__(self, w: World) -> None:
        self.w, self.account = w, w.purse("eve")

    def sign(self, account: LocalAccount | None = None, **fields: Any) -> bytes:
        account = account or self.account
        nonce = self.w.chain.sender.next_nonce(account.address, "latest")
        base = {
            "chainId": self.w.chain.chain_id,
            "nonce": nonce,
            "gas": 300_000,
            "maxFeePerGas": 10**9,
            "maxPriorityFeePerGas": 0,
            "to": self.account.address,
            "value": 0,
            "data": b"",
        }
        return bytes(account.sign_transaction({**base, **fields}).raw_transaction)

    def send(self, raw: bytes) -> dict[str, Any]:
        # Anvil computes for long before it answers the first blob, on a busy machine longer than a program waits.
        question = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
        digest = HexBytes(requests.post(self.w.chain.where, json=question, timeout=240).json()["result"])
        receipt = self.w.chain.sender.receipt(bytes(digest), None, "a stranger's transaction")
        assert receipt is not None
        return receipt

    def send_blob(self) -> dict[str, Any]:
        """Send a blob of zeros, whose commitment and proof are the point at infinity."""
        hashes = [b"\x01" + hashlib.sha256(INFINITY).digest()[1:]]
        raw = self.sign(type=3, maxFeePerBlobGas=10**10, accessList=[], blobVersionedHashes=hashes)
        return self.send(b"\x03" + rlp.encode([rlp.decode(raw[1:]), [bytes(BLOB_BYTES)], [INFINITY], [INFINITY]]))

    def delegate(self, authority: LocalAccount, to: str) -> dict[str, Any]:
        """Have an account behave like a contract from now on."""
        nonce = self.w.chain.sender.next_nonce(authority.address, "latest") + (authority == self.account)
        terms = {"chainId": self.w.chain.chain_id, "address": to, "nonce": nonce}
        signed = authority.sign_authorization(terms)
        self.w.chain.forget()
        return self.send(self.sign(type=4, accessList=[], authorizationList=[signed]))

    def create(self, init: bytes) -> str:
        sent = self.w.chain.send(Transaction(self.account, None, init))
        return checksum_address(self.w.chain.receipt(sent.hash)["contractAddress"])

    def call(self, to: str, data: bytes) -> dict[str, Any]:
        return self.w.chain.receipt(self.w.chain.send(Transaction(self.account, to, data)).hash)


def announcement() -> bytes:
    return functions()["announce"].encode([URL])


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A task in which strangers send all that they can think of between everybody's steps."""
    with world(tmp_path_factory.mktemp("played"), rounds=2, verifiers=0, participants=3) as w:
        eve = Stranger(w)
        eve.send_blob()
        w.join()
        # The call of an account with the ledger's code reverts, and the account keeps the code.
        assert eve.delegate(eve.account, w.ledger.address)["status"] == 0
        participant = w.accounts["participant 1"]
        eve.delegate(participant, w.ledger.address)
        assert w.chain.code(participant.address).startswith(b"\xef\x01\x00")
        through = eve.create(forwarder(w.ledger.address))
        receipt = eve.call(through, announcement())
        assert [checksum_address(each["address"]) for each in receipt["logs"]] == [w.ledger.address]
        w.play()
        eve.send_blob()
        yield w


@pytest.fixture(scope="module")
def folder(played: World) -> Path:
    export_ledger(played.ledger, played.deployment, played.history.update()).write(played.folder / LEDGER_FILE)
    return played.folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    shutil.copytree(folder / "store", tmp_path / "run" / "store")
    return Path(shutil.copy(folder / LEDGER_FILE, tmp_path / "run")).parent


def audited(folder: Path) -> AuditResult:
    result = audit_run(folder)
    assert audit_run(folder, jobs=2).document() == result.document()
    return result


def types(export: LedgerExport) -> set[int]:
    return {HexBytes(t.raw)[0] for block in export.blocks for t in block.transactions}


def test_blobs_and_delegations_are_exported_and_executed(folder: Path) -> None:
    export = LedgerExport.read(folder / LEDGER_FILE)
    assert {2, 3, 4} <= types(export) and export.version == 1
    result = audited(folder)
    assert result.reproduced, result.first_divergence
    assert result.rounds == 2 and not result.unchecked.transactions
    # Anvil makes the roots of these blocks of more than the transactions.
    assert len(result.unchecked.rootless) == 2


def test_every_type_is_rebuilt_as_the_node_tells_it(played: World) -> None:
    """Whether a node tells bytes or only fields, an export has the same."""
    chain, found = played.chain, set()
    for number in range(1, chain.block_number() + 1):
        for transaction in chain.block(number, full=True)["transactions"]:
            raw = rebuilt(transaction)
            assert raw is not None and keccak(raw) == bytes(transaction["hash"])
            bare = {name: transaction[name] for name in ("hash", "type", "blockHash", "transactionIndex")}
            assert signed_bytes(chain, bare) == raw
            found.add(transaction["type"])
    assert {2, 3, 4} <= found


def test_the_receipts_are_those_of_the_headers(folder: Path) -> None:
    for block in LedgerExport.read(folder / LEDGER_FILE).blocks:
        assert receipts_root(block.transactions) == rlp.decode(HexBytes(block.header))[RECEIPTS_ROOT]


def strangers(export: LedgerExport, kind: int) -> Iterator[tuple[int, int]]:
    for place, block in enumerate(export.blocks):
        for index, transaction in enumerate(block.transactions):
            if HexBytes(transaction.raw)[0] == kind:
                yield place, index


def relinked(
    export: LedgerExport, change: Callable[[ExportedTransaction], ExportedTransaction], at: int
) -> LedgerExport:
    """Return the export of a chain that had another transaction, the first of its block, and is in order."""
    blocks, parent = [], None
    for place, block in enumerate(export.blocks):
        header, transactions = rlp.decode(HexBytes(block.header)), list(block.transactions)
        if place == at:
            transactions[0] = change(transactions[0])
        if parent is not None:
            header[PARENT] = parent
        trie = HexaryTrie({})
        for index, transaction in enumerate(transactions):
            trie[rlp.encode(index)] = bytes(HexBytes(transaction.raw))
        header[TRANSACTIONS_ROOT] = trie.root_hash
        header[RECEIPTS_ROOT] = receipts_root(transactions)
        raw = rlp.encode(header)
        parent = keccak(raw)
        blocks.append(replace(block, header="0x" + raw.hex(), transactions=transactions))
    return replace(export, blocks=blocks, version=2)


def of_type_127(sender: str, nonce: int, data: bytes = b"") -> Callable[[ExportedTransaction], ExportedTransaction]:
    def change(transaction: ExportedTransaction) -> ExportedTransaction:
        raw = b"\x7f" + bytes(HexBytes(transaction.raw))[1:]
        told = {"type": 127, "sender": sender, "nonce": nonce, "input": "0x" + data.hex()}
        return replace(transaction, raw="0x" + raw.hex(), hash="0x" + keccak(raw).hex(), told=told)

    return change


def test_a_type_that_nobody_knows_is_named_and_the_rest_is_executed(played: World, copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    place, _ = next(strangers(export, 4))
    nonce = rlp.decode(HexBytes(export.blocks[place].transactions[0].raw)[1:])[1]
    eve = played.accounts["eve"].address
    relinked(export, of_type_127(eve, int.from_bytes(nonce, "big")), place).write(copy / LEDGER_FILE)
    result = audited(copy)
    assert result.reproduced and result.rounds == 2, result.first_divergence
    unexecuted, *others = result.unchecked.transactions
    assert unexecuted.reason == "of type 127" and result.unchecked.since is None
    # Those that need the code which the first one gave to its sender.
    assert [other.reason for other in others] == ["another status than the chain's"] * 2
    assert any(unexecuted.transaction in note for note in result.notes)
    assert result.document()["unchecked"]["transactions"][0]["transaction"] == unexecuted.transaction


def calls(export: LedgerExport) -> int:
    """Return the block in which a stranger's contract called the ledger."""
    for place, block in enumerate(export.blocks):
        for transaction in block.transactions:
            if any(URL.encode().hex() in data for _, _, data in transaction.logs):
                return place
    raise AssertionError


def test_what_an_unknown_type_did_to_the_ledger_is_taken_from_its_receipt(played: World, copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    place = calls(export)
    relinked(export, of_type_127(played.accounts["eve"].address, 3), place).write(copy / LEDGER_FILE)
    result = audited(copy)
    assert result.reproduced and result.rounds == 2, result.first_divergence
    assert result.unchecked.since == result.unchecked.transactions[0]
    assert any("From transaction" in note for note in result.notes)


@pytest.mark.parametrize("what", ["logs", "status", "gas"])
def test_a_receipt_that_its_header_does_not_commit_to_is_no_excuse(played: World, copy: Path, what: str) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    place = calls(export)
    export = relinked(export, of_type_127(played.accounts["eve"].address, 3), place)
    transaction = export.blocks[place].transactions[0]
    lies: dict[str, Any] = {"logs": [], "status": 0, "gas": transaction.gas + 1}
    export.blocks[place].transactions[0] = replace(transaction, **{what: lies[what]})
    export.write(copy / LEDGER_FILE)
    divergence = audited(copy).first_divergence
    assert divergence is not None and "receiptsRoot" in divergence.field


def test_a_direct_call_of_the_ledger_is_executed_whatever_its_receipt_says(copy: Path) -> None:
    """A forged chain that is in order: its receipts alone do not speak for a call that can be executed."""
    export = LedgerExport.read(copy / LEDGER_FILE)
    ledger = bytes.fromhex(export.address[2:])
    place = next(
        place
        for place, block in enumerate(export.blocks)
        for t in block.transactions
        if HexBytes(t.raw)[0] == 2 and rlp.decode(HexBytes(t.raw)[1:])[5] == ledger and t.logs
    )
    relinked(export, lambda t: replace(t, logs=t.logs * 2), place).write(copy / LEDGER_FILE)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.field.endswith("logs")


def test_a_transaction_without_bytes_is_named_and_so_is_what_cannot_be_checked(played: World, copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    place, _ = next(strangers(export, 3))
    block = export.blocks[place]
    told = {"type": 3, "sender": played.accounts["eve"].address, "nonce": 0}
    block.transactions[0] = replace(block.transactions[0], raw="0x", told=told)
    replace(export, version=2).write(copy / LEDGER_FILE)
    result = audited(copy)
    assert result.reproduced and result.rounds == 2, result.first_divergence
    assert result.unchecked.transactions[0].reason == "its bytes are missing"
    assert len(result.unchecked.rootless) == 2 and any("Lists of transactions" in note for note in result.notes)


def test_what_calls_contracts_that_exports_lack_is_named(tmp_path: Path) -> None:
    """Anvil's own contract creates one that calls the ledger: no export has the code of either."""
    with world(tmp_path, rounds=1, verifiers=0, participants=3) as w:
        eve = Stranger(w)
        w.join()
        init, salt = forwarder(w.ledger.address), bytes(32)
        eve.call(DEPLOYER, salt + init)
        place = keccak(b"\xff" + bytes.fromhex(DEPLOYER[2:]) + salt + keccak(init))[-20:]
        through = checksum_address("0x" + place.hex())
        assert w.chain.code(through)
        assert len(eve.call(through, announcement())["logs"]) == 1
        w.play()
        export_ledger(w.ledger, w.deployment, w.history.update()).write(tmp_path / LEDGER_FILE)
        result = audited(tmp_path)
        assert result.reproduced and result.rounds == 1, result.first_divergence
        assert result.unchecked.since is not None
        assert w.history.update().endpoints[through] == URL


def test_of_an_unknown_account_nothing_can_be_replayed_but_its_receipts() -> None:
    """A told sender that is none does no harm."""
    nobody = Account.create()
    assert rebuilt({"hash": b"", "type": "0x7e", "from": nobody.address}) is None
    assert rebuilt({"type": 2, "nonce": "x"}) is None
