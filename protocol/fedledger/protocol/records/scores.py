"""Scores of updates: how they are packed, drawn for, committed to and tallied, equal to the ledger's to the unit.

Of a task with scorers, some participants or verifiers are drawn in each round. Each measures every update on data of
its own; they commit to their scores, reveal them, and the contract takes medians and decides which updates do not count
(after Liu et al. 2020, *A secure federated learning framework for 5G networks*, where contracts recognise the
malicious). What a scorer measures is private, and never replayed; everything after it is integers.

A score is 1 to 32,766, and less is better; 0 is none. Sixteen scores are in a word of 256 bits, by ascending
participant id of the updates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.signatures import Place

SCORE_LANES, SCORE_BITS = 16, 16
"""Scores a word, and bits that each has."""
BEST_SCORE, SAME_SCORE, WORST_SCORE = 1, 16_384, 32_766
"""The least and the greatest score, and that of an update which changes nothing."""
SCORE_UNIT = 4_096
"""By how much the score rises where the loss rises by as much as it was."""
LEAST_LOSS = 2.0**-10
"""A base's loss counts as at least that where changes are divided by it."""
LEAST_SCORERS, MOST_SCORERS = 3, 15
"""How many a task with scorers has drawn a round."""
MOST_DRAWS = 64
"""Draws of a round's seed that may name scorers."""
MOST_PLACES = 64
"""Places of a pool of verifiers from which scorers are drawn."""
FULL_SCORER = 500_000
"""Who has a reputation as a scorer below this, in parts per million, may be passed over: what nobody has failed has."""
LEAST_MEDIAN = 3
"""Fewest scorers, and fewest updates, of which a median says something."""
FAR_PART = 4
"""A scorer fails whose scores are far from the medians in more than one of so many."""
SPREAD_PARTS = 4
"""Of how many parts of the spread a task's ``score_spread`` is."""


def score_of(loss: float, base: float) -> int:
    """Return the score of an update by what it does to a loss.

    Parameters
    ----------
    loss, base
        Mean losses of the base model moved by the whole update, and of the base model, on a scorer's own examples.

    Returns
    -------
    int
        16,384 + 4,096 · (loss - base) / max(base, 2^-10), rounded, and no less than 1 or more than 32,766. A loss that
        is not finite is the worst there is.
    """
    if not isfinite(loss):
        return WORST_SCORE
    if not isfinite(base):
        return BEST_SCORE
    most = (WORST_SCORE - SAME_SCORE + 1) / SCORE_UNIT
    change = max(-most, min(most, (loss - base) / max(base, LEAST_LOSS)))
    return max(BEST_SCORE, min(WORST_SCORE, SAME_SCORE + round(SCORE_UNIT * change)))


@dataclass(frozen=True)
class Scored:
    """What a scorer reveals.

    Parameters
    ----------
    place
        Its place among the drawn.
    salt
        32 bytes with which it committed to its scores.
    words
        Its scores, see :func:`pack_scores`.
    """

    place: int
    salt: bytes
    words: tuple[int, ...]


def pack_scores(scores: Sequence[int]) -> tuple[int, ...]:
    """Pack scores into words, sixteen each.

    Raises
    ------
    ValueError
        If one is no score: not 0, and not 1 to 32,766.
    """
    if any(not 0 <= score <= WORST_SCORE for score in scores):
        raise ValueError(f"a score is 0 to {WORST_SCORE}")
    words = [0] * score_words(len(scores))
    for i, score in enumerate(scores):
        words[i // SCORE_LANES] |= score << SCORE_BITS * (i % SCORE_LANES)
    return tuple(words)


def unpack_scores(words: Sequence[int], count: int) -> list[int]:
    """Return the ``count`` scores that words hold; the inverse of :func:`pack_scores`.

    Raises
    ------
    ValueError
        If there are more or fewer words than that takes, or one is no word of scores: the ledger takes it from nobody.
    """
    if len(words) != score_words(count):
        raise ValueError(f"{len(words)} words hold no {count} scores")
    scores = [word >> SCORE_BITS * lane & (1 << SCORE_BITS) - 1 for word in words for lane in range(SCORE_LANES)]
    is_whole = all(0 <= word < 1 << SCORE_BITS * SCORE_LANES for word in words)
    if not is_whole or any(scores[count:]) or max(scores, default=0) > WORST_SCORE:
        raise ValueError(f"the words hold something else than {count} scores of at most {WORST_SCORE}")
    return scores[:count]


def score_words(count: int) -> int:
    """Return how many words hold so many scores."""
    return -(-count // SCORE_LANES)


def score_commitment(place: Place, round_index: int, participant: int, salt: bytes, words: Sequence[int]) -> bytes:
    """Return what a scorer commits to; equal to the ledger's ``scoreCommitment``.

    Parameters
    ----------
    place
        The task.
    round_index, participant
        The round and the scorer.
    salt
        32 bytes.
    words
        Its scores.

    Raises
    ------
    ValueError
        If the salt is not 32 bytes.
    """
    if len(salt) != 32:
        raise ValueError(f"the salt has {len(salt)} bytes, not 32")
    chain_id, contract, task = place
    # ``abi.encode``: the words are behind the seven values before them, the last of which says where.
    head = (chain_id, int(contract, 16), task, round_index, participant, int.from_bytes(salt), 7 * 32)
    return keccak(b"".join(value.to_bytes(32) for value in (*head, len(words), *words)))


def scorer_seed(block_hash: bytes, task: int, round_index: int) -> bytes:
    """Return what draws a round's scorers, from the hash of the block in which they were called, 32 bytes."""
    return keccak(block_hash + task.to_bytes(32) + round_index.to_bytes(32))


def draw_scorers(
    seed: bytes, pool: Sequence[int | None], count: int, evidence: Mapping[int, Evidence]
) -> tuple[int, ...]:
    """Return the participants that score a round, by their places.

    Whom the seed names, and who was drawn before or may not score, is passed over; so is who has failed as a scorer, as
    often as it has lost of its reputation.

    Parameters
    ----------
    seed
        See :func:`scorer_seed`.
    pool
        Who may be drawn: the round's selected participants by ascending id, or the first places of the task's pool of
        verifiers, with None for those that do not serve it.
    count
        How many are drawn if there are enough.
    evidence
        Of those who have failed as scorers of the task's publisher.
    """
    found: list[int] = []
    for attempt in range(MOST_DRAWS if pool else 0):
        if len(found) == count:
            break
        value = int.from_bytes(keccak(seed + attempt.to_bytes(32)))
        candidate = pool[value % len(pool)]
        if candidate is None or candidate in found:
            continue
        known = evidence.get(candidate)
        if known is not None and known.pack() and (value >> 128) % FULL_SCORER >= known.reputation:
            continue
        found.append(candidate)
    return tuple(found)


def unheard(scorer: int, recommenders: Mapping[int, Evidence]) -> frozenset[int]:
    """Return the participants of whose updates a scorer's scores do not count.

    Parameters
    ----------
    scorer
        The scorer: its own.
    recommenders
        What those of the task's recommenders that are participants know of it, by their ids: who has judged a scorer is
        not scored by it.
    """
    return frozenset({scorer, *(participant for participant, known in recommenders.items() if known.pack())})


def heard(scores: Sequence[int], present: Sequence[int], ignored: Collection[int]) -> list[int]:
    """Return a scorer's scores without those of some participants' updates.

    Parameters
    ----------
    scores
        One for each of the ``present`` participants.
    ignored
        Whose are taken out.
    """
    return [0 if participant in ignored else score for participant, score in zip(present, scores, strict=True)]


def barred_scorers(present: Sequence[int], ignored: Iterable[Collection[int]]) -> list[int]:
    """Return how many scorers may not score the update of each of the ``present`` participants.

    Parameters
    ----------
    ignored
        Of each drawn scorer, whether or not it revealed, the participants it is not heard of, see :func:`unheard`.
    """
    counts = Counter(participant for each in ignored for participant in each)
    return [counts[participant] for participant in present]


@dataclass(frozen=True)
class Tally:
    """What scores make together.

    Parameters
    ----------
    medians
        Of each update; 0: too few scored it.
    limit
        Greatest median of an update that counts; 0: all do.
    outvoted
        Places of the updates that do not count, ascending.
    far
        Places among those who revealed of who scored far from the medians, ascending.
    """

    medians: tuple[int, ...] = ()
    limit: int = 0
    outvoted: tuple[int, ...] = ()
    far: tuple[int, ...] = ()


def tally_scores(
    scores: Sequence[Sequence[int]],
    drawn: int,
    spread: int,
    floor: int,
    excused: Sequence[int] = (),
    barred: Sequence[int] = (),
) -> Tally:
    """Return the medians of what scorers revealed, and what follows.

    Parameters
    ----------
    scores
        Of each scorer that revealed, of each update; 0: none. See :func:`heard`.
    drawn
        How many scorers the round has: more than half of them must have scored for anything to follow.
    spread
        How far above the updates' median a median may be, in quarters of the spread: of the median distance from it.
    floor
        How far it may be at least.
    excused
        Of how many updates each scorer was not heard, whether or not it scored them; none unless given.
    barred
        How many of the drawn scorers may not score each update, see :func:`barred_scorers`; none unless given.

    Notes
    -----
    All medians are lower ones. An update has one if more than half of the drawn scorers that may score it did, and more
    than one of them. With scores of no more than half of the drawn, with fewer than three drawn, or with
    fewer than three medians, all updates count, and nobody was far from them. Who gave no score of an update that has a
    median, and was not excused, counts as far from that.
    """
    half = drawn // 2
    if drawn < LEAST_MEDIAN or len(scores) <= half:
        return Tally()
    medians = _medians(scores, drawn, barred or [0] * len(scores[0]))
    given = [median for median in medians if median]
    if len(given) < LEAST_MEDIAN:
        return Tally(medians)
    middle = _lower_median(given)
    deviation = _lower_median([abs(median - middle) for median in given])
    band = min(max(spread * deviation // SPREAD_PARTS, floor), WORST_SCORE)
    limit = min(middle + band, WORST_SCORE)
    outvoted = tuple(place for place, median in enumerate(medians) if median > limit)
    asked = [len(given) - excuses for excuses in excused] if excused else [len(given)] * len(scores)
    far = tuple(place for place, row in enumerate(scores) if _is_far(row, medians, band, asked[place]))
    return Tally(medians, limit, outvoted, far)


def _medians(scores: Sequence[Sequence[int]], drawn: int, barred: Sequence[int]) -> tuple[int, ...]:
    """Return the lower median of each update's scores, 0 where no more than half of those that may gave one."""
    columns = [[score for score in column if score] for column in zip(*scores, strict=True)]
    return tuple(
        _lower_median(column) if len(column) > max(1, (drawn - few) // 2) else 0
        for column, few in zip(columns, barred, strict=True)
    )


def _is_far(scores: Sequence[int], medians: Sequence[int], band: int, asked: int) -> bool:
    """Return whether more than a quarter of a scorer's scores are missing, or farther from medians than the band."""
    both = [(score, median) for score, median in zip(scores, medians, strict=True) if score and median]
    missing = max(0, asked - len(both))
    far = sum(abs(score - median) > band for score, median in both) + missing
    return FAR_PART * far > len(both) + missing


def _lower_median(values: Sequence[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]
