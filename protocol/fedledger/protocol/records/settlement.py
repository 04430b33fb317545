"""Integer pay and the packed words in which a proposal carries verdicts and pay shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.reputation import LANE_BITS, LANES
from fedledger.protocol.records.verdicts import Verdict


def apportion(units: int, scores: Sequence[int]) -> list[int]:
    """Divide units in proportion to scores by the largest-remainder method.

    Parameters
    ----------
    units
        What there is to divide.
    scores
        Non-negative integers, one a participant, in address order.

    Returns
    -------
    list of int
        Shares that sum to exactly ``units`` (to 0 if all scores are 0), each within one unit of its exact quota.
        Equal remainders go to the earlier address.
    """
    total = sum(scores)
    if total == 0:
        return [0] * len(scores)
    shares = [units * score // total for score in scores]
    by_remainder = sorted(range(len(scores)), key=lambda i: (-(units * scores[i] % total), i))
    for i in by_remainder[: units - sum(shares)]:
        shares[i] += 1
    return shares


def pack_words(verdicts: Mapping[int, Verdict], shares: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Pack verdicts and pay shares by participant id into the ledger's words, eight participants a slot.

    Returns
    -------
    tuple
        Verdict words ``slot << 64 | verdict bytes`` and share words (eight 32-bit shares), in slot order.
    """
    slots = sorted({participant // LANES for participant in verdicts})
    verdict_words, share_words = [], []
    for slot in slots:
        verdict_word, share_word = slot << 64, 0
        for lane in range(LANES):
            participant = slot * LANES + lane
            verdict_word |= int(verdicts.get(participant, Verdict.NONE)) << 8 * lane
            share_word |= shares.get(participant, 0) << LANE_BITS * lane
        verdict_words.append(verdict_word)
        share_words.append(share_word)
    return verdict_words, share_words


def pack_lengths(updates: Sequence[ContentRef]) -> list[int]:
    """Pack the lengths of a batched round's updates, eight 32-bit lanes a word."""
    words = [0] * -(-len(updates) // LANES)
    for i, update in enumerate(updates):
        words[i // LANES] |= update.length << LANE_BITS * (i % LANES)
    return words


def unpack_lengths(words: Sequence[int], count: int) -> list[int]:
    """Return the ``count`` lengths that words hold; the inverse of :func:`pack_lengths`.

    Raises
    ------
    ValueError
        If there are more or fewer words than that takes.
    """
    if len(words) != -(-count // LANES):
        raise ValueError(f"{len(words)} words hold no {count} lengths")
    return [words[i // LANES] >> LANE_BITS * (i % LANES) & 0xFFFFFFFF for i in range(count)]


def updates_hash(updates: Sequence[ContentRef]) -> bytes:
    """Return the hash that binds a proposal to a batched round's updates, as the ledger computes it."""
    words = b"".join(word.to_bytes(32, "big") for word in pack_lengths(updates))
    return keccak(b"".join(update.digest for update in updates) + words)


def unpack_words(verdict_words: Sequence[int], share_words: Sequence[int]) -> tuple[dict[int, Verdict], dict[int, int]]:
    """Return the verdicts and pay shares by participant id; the inverse of :func:`pack_words`.

    Raises
    ------
    ValueError
        If a verdict byte is no known code.
    """
    verdicts: dict[int, Verdict] = {}
    shares: dict[int, int] = {}
    for verdict_word, share_word in zip(verdict_words, share_words, strict=True):
        slot = verdict_word >> 64
        for lane in range(LANES):
            code = verdict_word >> 8 * lane & 0xFF
            if code:
                participant = slot * LANES + lane
                verdicts[participant] = Verdict(code)
                shares[participant] = share_word >> LANE_BITS * lane & 0xFFFFFFFF
    return verdicts, shares
