"""Evidence packed into the lanes of a word."""

from __future__ import annotations

from fedledger.protocol.records.reputation import LANE_BITS, LANES


def lane(words: dict[int, int], participant: int) -> int:
    """Return a participant's 32 bits in words of eight lanes; 0 where no word was written."""
    return words.get(participant // LANES, 0) >> LANE_BITS * (participant % LANES) & 0xFFFFFFFF


def put_lane(words: dict[int, int], participant: int, value: int) -> None:
    """Write a participant's 32 bits into words of eight lanes."""
    slot, shift = participant // LANES, LANE_BITS * (participant % LANES)
    words[slot] = words.get(slot, 0) & ~(0xFFFFFFFF << shift) | value << shift
