"""A node's answers as Python values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import rlp
from hexbytes import HexBytes

from fedledger.contracts.abi import checksum_address
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.encoding.strict import SpellingError, hexadecimal_data, hexadecimal_number, is_address, shown
from fedledger.protocol.errors import ChainError

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
BLOOM_BYTES, BLOOM_HASHES = 256, 3
ADDRESSES = frozenset({"address", "contractAddress", "from", "to", "miner"})


QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
REMEDY = "Is the node in order, and the same one as before? Try another one."


class ContradictionError(ChainError):
    """A node that says what cannot be, or contradicts what it said."""

    def __init__(self, message: str) -> None:
        super().__init__(message, REMEDY)


def quantity(answer: Any, most_digits: int = 64) -> int:
    """Return a number, which nodes write in hexadecimal.

    Raises
    ------
    ContradictionError
        If it is none.
    """
    if type(answer) is int and answer >= 0:
        return answer
    if isinstance(answer, bytes) and 2 * len(answer) <= most_digits:
        return int.from_bytes(answer, "big")
    try:
        return hexadecimal_number(answer, 16**most_digits - 1)
    except SpellingError as error:
        raise _unreadable(error) from error


def octets(answer: Any) -> bytes:
    """Return bytes, which nodes write in hexadecimal.

    Raises
    ------
    ContradictionError
        If they are none.
    """
    try:
        return hexadecimal_data(answer)
    except SpellingError as error:
        raise _unreadable(error) from error


def _unreadable(error: SpellingError) -> ContradictionError:
    return ContradictionError(f"The chain's node answers with what is none: {error}.")


def typed(answer: Any, name: str = "") -> Any:
    """Return an answer with quantities as integers, addresses with checksums and other hexadecimals as bytes."""
    if isinstance(answer, str):
        if not answer.startswith("0x"):
            # eth-tester writes no address as nothing, and what kind of log it is in words.
            return answer
        if name in QUANTITIES:
            return quantity(answer)
        if name not in ADDRESSES:
            return HexBytes(octets(answer))
        if not is_address(answer):
            raise _unreadable(SpellingError(f"{shown(answer)} is no address"))
        return checksum_address(answer)
    if isinstance(answer, Mapping):
        return {key: typed(value, key) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [typed(value, name) for value in answer]
    return answer


def bloom_bits(value: bytes) -> int:
    """Return the bits that an address or a topic sets in the bloom filter of logs, as one number."""
    digest, bits = keccak(value), 0
    for place in range(0, 2 * BLOOM_HASHES, 2):
        bits |= 1 << (int.from_bytes(digest[place : place + 2], "big") % (8 * BLOOM_BYTES))
    return bits


def encoded_header(block: dict[str, Any]) -> bytes:
    """Return the RLP of the header of a block that :func:`typed` gave.

    Raises
    ------
    ChainError
        If the header has fields that this release does not know.
    """
    fields = {**block, "nonce": int(block["nonce"]).to_bytes(HEADER_NONCE_BYTES, "big")}
    values = (fields[name] for name in HEADER_FIELDS if fields.get(name) is not None)
    raw = bytes(rlp.encode([value if isinstance(value, int) else bytes(HexBytes(value)) for value in values]))
    if keccak(raw) != bytes(HexBytes(block["hash"])):
        raise ChainError(
            f"The header of block {block['number']} does not hash to the block's hash.",
            "This chain has headers that cannot be exported: use Anvil, Ganache or the embedded chain.",
        )
    return raw
