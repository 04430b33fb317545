"""A contract's logs as a node tells them, and whether blocks have more of them than it tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedledger.contracts.abi import checksum_address
from fedledger.contracts.chain.answers import BLOOM_BYTES, ContradictionError, bloom_bits, octets, quantity, typed
from fedledger.contracts.chain.connection import Connection, unanswered
from fedledger.protocol.errors import ChainError

LOG_PAGE = 2_000
BLOOM_BLOCKS = 256
"""Newest blocks of a range whose headers are asked for; older ones have been told by now, if they ever are."""
HEADERS_AT_ONCE = 64
SECOND_LOOKS, RECEIPTS_AT_MOST = 16, 16
"""Newest blocks that are looked at again where filters say so, and most receipts that are asked for of each.

Filters of busy chains have bits of nearly everything, so every block there seems to have more logs than were told.
"""


def place_of(address: str, topics: Sequence[Any]) -> dict[str, Any]:
    """Return what a node is asked for: a contract's logs of some topics."""
    return {"address": checksum_address(address), "topics": list(topics)}


def read_logs(connection: Connection, place: Mapping[str, Any], first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield logs in order, asking for a limited number of blocks at a time.

    Raises
    ------
    ContradictionError
        If two different logs have the same place.
    ChainError
        If the node does not tell them.
    """
    page = LOG_PAGE
    while first <= last:
        until = min(last, first + page - 1)
        try:
            found = connection.ask("eth_getLogs", [{**place, "fromBlock": hex(first), "toBlock": hex(until)}])
        except ChainError as error:
            # Who does not answer at all would not answer less either.
            if page == 1 or unanswered(error):
                raise
            page = max(1, page // 4)
            continue
        yield from _in_order(typed(found))
        first = until + 1


def _in_order(logs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    before: dict[str, Any] | None = None
    for log in sorted(logs, key=lambda each: (each["blockNumber"], each["logIndex"])):
        if before is not None and _where(before) == _where(log):
            if before != log:
                raise ContradictionError(f"The chain shows two logs {log['logIndex']} of block {log['blockNumber']}.")
            continue
        before = log
        yield log


def _where(log: Mapping[str, Any]) -> tuple[int, int]:
    return log["blockNumber"], log["logIndex"]


def check_complete(
    connection: Connection, place: Mapping[str, Any], blocks: range, told: Sequence[Mapping[str, Any]]
) -> None:
    """Check that a node has told the logs of all blocks that have some, as far as this costs little.

    A header's bloom filter has the address and the topics of each log, and those of other contracts. Where it has what
    no log that was told explains, the block's own logs are asked for, and its receipts if they are few.

    Parameters
    ----------
    connection
        The node.
    place
        What it was asked for; see :func:`place_of`.
    blocks
        The blocks; only the newest ``BLOOM_BLOCKS`` are looked at.
    told
        The logs that it told.

    Raises
    ------
    ContradictionError
        If a block has logs that were not told.
    ChainError
        If the node does not show a block.
    """
    if not connection.is_doubtful:
        return
    newest, by_block = blocks[-BLOOM_BLOCKS:], defaultdict[int, list[Mapping[str, Any]]](list)
    for log in told:
        by_block[log["blockNumber"]].append(log)
    address, doubtful = octets(place["address"]), list[dict[str, Any]]()
    for start in range(0, len(newest), HEADERS_AT_ONCE):
        numbers = newest[start : start + HEADERS_AT_ONCE]
        headers = connection.ask_all("eth_getBlockByNumber", [[hex(number), False] for number in numbers])
        for number, header in zip(numbers, headers, strict=True):
            shown = header or connection.ask("eth_getBlockByNumber", [hex(number), False])
            if shown is None:
                raise ContradictionError(f"The chain at {connection.where} shows no block {number} of its own.")
            filled = _bloom(shown)
            if by_block[number] and not _has(filled, address):
                # Such a chain fills in no filters.
                return
            if _has(filled, address) and filled != _explained(by_block[number]):
                doubtful.append(shown)
    for shown in doubtful[-SECOND_LOOKS:]:
        number = quantity(shown["number"])
        if _logs_of(connection, place, shown) - {log["logIndex"] for log in by_block[number]}:
            raise ContradictionError(f"The chain at {connection.where} keeps logs of block {number} back.")


def _bloom(header: Mapping[str, Any]) -> int:
    return quantity(header.get("logsBloom") or "0x0", most_digits=2 * BLOOM_BYTES)


def _has(bloom: int, value: bytes) -> bool:
    bits = bloom_bits(value)
    return bloom & bits == bits


def _explained(logs: Sequence[Mapping[str, Any]]) -> int:
    """Return the bloom filter of a block that has these logs alone."""
    bits = 0
    for log in logs:
        for value in (octets(log["address"]), *map(bytes, log["topics"])):
            bits |= bloom_bits(value)
    return bits


def _logs_of(connection: Connection, place: Mapping[str, Any], header: Mapping[str, Any]) -> set[int]:
    """Return the indices of such logs of a block, by its own hash and by its transactions' receipts if they are few."""
    found: list[Any] = []
    try:
        found += connection.ask_once("eth_getLogs", [{**place, "blockHash": header["hash"]}])
    except ChainError as error:
        if unanswered(error):
            raise
    digests = header.get("transactions", [])
    if len(digests) > RECEIPTS_AT_MOST:
        digests = []
    receipts = connection.ask_all("eth_getTransactionReceipt", [[digest] for digest in digests])
    wanted = {topic.lower() for topic in place["topics"][0]}
    found += [
        log
        for receipt in receipts
        if receipt is not None
        for log in receipt["logs"]
        if log["address"].lower() == place["address"].lower() and log["topics"] and log["topics"][0].lower() in wanted
    ]
    return {quantity(log["logIndex"]) for log in found}
