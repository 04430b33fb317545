"""Transactions of any type as the bytes that were signed: asked of the node, or rebuilt from the fields it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rlp
from hexbytes import HexBytes

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import unanswered
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError

LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE = range(5)
KNOWN_TYPES = range(SET_CODE + 1)
"""Types whose fields this release knows; a chain may have others."""
ODD_SIGNATURE = 27


def signed_bytes(chain: Chain, transaction: Mapping[str, Any]) -> bytes | None:
    """Return a transaction's signed bytes, which have its hash; None if nobody can tell them.

    Parameters
    ----------
    chain
        Is asked for what cannot be rebuilt.
    transaction
        Its fields as the chain shows them.
    """
    digest = bytes(HexBytes(transaction["hash"]))
    raw = rebuilt(transaction)
    if raw is not None and keccak(raw) == digest:
        return raw
    shown = "0x" + digest.hex()
    places = [("eth_getRawTransactionByHash", [shown]), ("debug_getRawTransaction", [shown])]
    if transaction.get("blockHash") is not None and isinstance(transaction.get("transactionIndex"), int):
        block = HexBytes(transaction["blockHash"]).to_0x_hex()
        places.append(("eth_getRawTransactionByBlockHashAndIndex", [block, hex(transaction["transactionIndex"])]))
    for method, params in places:
        try:
            answer = chain.connection.ask_once(method, params)
            told = bytes(HexBytes(answer)) if answer else b""
        except ChainError as error:
            if unanswered(error):
                raise
            continue
        except (ValueError, TypeError):
            continue
        for found in (told, _without_blobs(told)):
            if keccak(found) == digest:
                return found
    return None


def kind_of(transaction: Mapping[str, Any]) -> int:
    """Return a transaction's type; 0 if the node tells none, as older ones do."""
    told = transaction.get("type")
    return LEGACY if told is None else number(told)


def number(value: Any) -> int:
    """Return a number that a node shows as one, or as bytes, or in hexadecimal.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    if isinstance(value, bytes):
        return int.from_bytes(value, "big")
    return int(value, 0) if isinstance(value, str) else int(value)


def rebuilt(transaction: Mapping[str, Any]) -> bytes | None:
    """Return what a transaction's fields encode to, which need not have its hash; None if they encode to nothing."""
    try:
        kind = kind_of(transaction)
        if kind == LEGACY:
            names = ("nonce", "gasPrice", "gas", "to", "value", "input", "v", "r", "s")
            return bytes(rlp.encode([_field(transaction, name) for name in names]))
        if kind not in KNOWN_TYPES:
            return None
        fees = ("gasPrice",) if kind == ACCESS_LIST else ("maxPriorityFeePerGas", "maxFeePerGas")
        own = {BLOB: ("maxFeePerBlobGas", "blobVersionedHashes"), SET_CODE: ("authorizationList",)}.get(kind, ())
        names = ("chainId", "nonce", *fees, "gas", "to", "value", "input", "accessList", *own, "v", "r", "s")
        fields = {**transaction, "v": number(transaction["v"]) % ODD_SIGNATURE}
        return bytes([kind]) + bytes(rlp.encode([_field(fields, name) for name in names]))
    except (KeyError, TypeError, ValueError, AttributeError, rlp.exceptions.RLPException):
        # A node may show a stranger's transaction in any way.
        return None


def _field(transaction: Mapping[str, Any], name: str) -> Any:
    """Return a field as its RLP has it."""
    value = transaction.get(name)
    if name == "to":
        return b"" if value is None else bytes(HexBytes(value))
    if name == "input":
        return bytes(HexBytes(transaction["input"]))
    if name == "accessList":
        return [
            [bytes(HexBytes(entry["address"])), [bytes(HexBytes(key)) for key in entry["storageKeys"]]]
            for entry in value or ()
        ]
    if name == "blobVersionedHashes":
        return [bytes(HexBytes(each)) for each in transaction[name]]
    if name == "authorizationList":
        return [_authorization(entry) for entry in transaction[name]]
    return number(value)


def _authorization(entry: Mapping[str, Any]) -> list[Any]:
    parity = entry["yParity"] if "yParity" in entry else entry["v"]
    account = bytes(HexBytes(entry["address"]))
    return [number(entry["chainId"]), account, number(entry["nonce"]), *map(number, (parity, entry["r"], entry["s"]))]


def _without_blobs(raw: bytes) -> bytes:
    """Return a blob transaction as blocks have it, of one that is told as peers pass it on: with its blobs."""
    if raw[:1] != bytes([BLOB]):
        return b""
    try:
        body = rlp.decode(raw[1:])[0]
        return bytes([BLOB]) + bytes(rlp.encode(body)) if isinstance(body, list) else b""
    except (rlp.exceptions.RLPException, IndexError, TypeError):
        return b""
