"""Merkle trees over leaves in their order, of SHA-256, and what shows that some leaves are in one.

Neighbours are hashed in pairs, level by level; a last one without a neighbour moves up as it is. A node's hash begins
with another byte than any leaf's, so that none passes for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

DIGEST_BYTES = 32
_NODE = b"\x01fedledger node\0"


class OrderedTree:
    """A tree.

    Parameters
    ----------
    leaves
        Their hashes, 32 bytes each, at least one.

    Raises
    ------
    ValueError
        If there are none.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("A Merkle tree needs at least one leaf.")
        self._levels = [list(leaves)]
        sha256 = hashlib.sha256
        while len(level := self._levels[-1]) > 1:
            above = [
                sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
            ]
            self._levels.append(above + level[len(above) * 2 :])

    @property
    def top(self) -> bytes:
        """The hash of all leaves, 32 bytes."""
        return self._levels[-1][0]

    def siblings(self, places: Iterable[int]) -> list[bytes]:
        """Return the hashes that, beside the leaves at some places, are needed to compute the top; 32 bytes each.

        Raises
        ------
        IndexError
            If there is no such leaf.
        """
        known = _checked(places, len(self._levels[0]))
        found = []
        for level in self._levels[:-1]:
            found += [level[place] for place in _missing(known, len(level))]
            known = sorted({place // 2 for place in known})
        return found


def sibling_count(places: Iterable[int], count: int) -> int:
    """Return how many hashes show some leaves of a tree that has ``count``; raises IndexError for another place."""
    known, total = _checked(places, count), 0
    while count > 1:
        total += len(_missing(known, count))
        known, count = sorted({place // 2 for place in known}), -(-count // 2)
    return total


def top_of(leaves: Mapping[int, bytes], siblings: Sequence[bytes], count: int) -> bytes | None:
    """Return the top that follows from some leaves and what is beside them.

    Parameters
    ----------
    leaves
        Their hashes by their places, at least one.
    siblings
        What :meth:`OrderedTree.siblings` gave for these places.
    count
        How many leaves the tree has.

    Returns
    -------
    bytes or None
        The top; None if there are too few siblings or too many, or a place is none.
    """
    if not leaves or not all(0 <= place < count for place in leaves):
        return None
    rest, level = iter(siblings), dict(leaves)
    while count > 1:
        for place in _missing(sorted(level), count):
            sibling = next(rest, None)
            if sibling is None:
                return None
            level[place] = sibling
        above = {}
        for place in {known // 2 for known in level}:
            left, right = level[2 * place], level.get(2 * place + 1)
            above[place] = left if right is None else hashlib.sha256(_NODE + left + right).digest()
        level, count = above, -(-count // 2)
    return level[0] if next(rest, None) is None else None


def _checked(places: Iterable[int], count: int) -> list[int]:
    known = sorted(set(places))
    if not known or known[0] < 0 or known[-1] >= count:
        raise IndexError(f"The tree has leaves 0 to {count - 1}; {known} are none of them.")
    return known


def _missing(known: Sequence[int], count: int) -> list[int]:
    """Return the places beside known ones, in a level of so many, that are not known themselves; ascending."""
    there = set(known)
    beside = (place ^ 1 for place in known)
    return [place for place in beside if place not in there and place < count]
