"""Ironing: the best non-decreasing values where each has an objective of its own."""

from __future__ import annotations

from collections.abc import Callable

Block = tuple[int, int]
"""Neighbours that share a value: the first of them, and one past the last."""


def pool_adjacent_violators(count: int, optimum: Callable[[int, int], float]) -> list[float]:
    """Return the non-decreasing values with the largest sum of strictly concave objectives, one objective a value.

    Neighbours whose own optima decrease are pooled into a block, which has the optimum of its summed objectives, until
    no optimum is below the one before it (Barlow, Bartholomew, Bremner and Brunk 1972; in contract theory, the ironing
    of Myerson 1981).

    Parameters
    ----------
    count
        Number of values.
    optimum
        Where the sum of the objectives ``first``, …, ``end`` − 1 is largest, by ``first`` and ``end``.
    """
    blocks: list[tuple[Block, float]] = []
    for place in range(count):
        blocks.append(((place, place + 1), optimum(place, place + 1)))
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            (_, end), _ = blocks.pop()
            (first, _), _ = blocks.pop()
            blocks.append(((first, end), optimum(first, end)))
    return [value for (first, end), value in blocks for _ in range(first, end)]
