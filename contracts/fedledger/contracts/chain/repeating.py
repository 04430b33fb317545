"""Bringing a development chain to a state again by doing what was done, in blocks with other hashes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedledger.contracts.chain.journal import Entry
from fedledger.protocol.encoding.keccak import keccak

if TYPE_CHECKING:
    from fedledger.contracts.chain.chain import Chain

JOURNAL_LAG = 30


def do_again(chain: Chain, done: Sequence[Entry]) -> float:
    """Do on a new chain what was done on another, and return how many seconds the other had been there."""
    began, elapsed, advanced = time.monotonic(), 0.0, 0
    for entry in done:
        elapsed = entry.elapsed
        waited = int(elapsed - advanced - (time.monotonic() - began))
        if waited > JOURNAL_LAG:
            # Deadlines must have passed again where they had passed.
            chain.advance(waited)
            advanced += waited
        _repeat(chain, entry)
    return elapsed


def _repeat(chain: Chain, entry: Entry) -> None:
    if entry.kind == "advance":
        chain.advance(int(entry.value))
    elif entry.kind == "payment":
        chain.pay(str(entry.value[0]), int(entry.value[1]))
    else:
        raw = bytes.fromhex(entry.value)
        chain.sender.submit(raw, keccak(raw))
        chain.sender.receipt(keccak(raw), None, "a transaction of the journal")
