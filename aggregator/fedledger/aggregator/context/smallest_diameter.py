"""The rows of a given number that lie closest together: the subset of least diameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 256
"""A step takes longer with more rows."""


@dataclass(frozen=True)
class Closest:
    """Rows that lie close together.

    Parameters
    ----------
    places
        Which rows, ascending.
    steps
        How many rows the search looked at.
    is_exact
        Whether they are the first subset of least diameter, in lexicographic order. If not, the search took too many
        steps, and their diameter is at most twice the least.
    """

    places: list[int]
    steps: int
    is_exact: bool


class _TooManyStepsError(Exception):
    pass


def smallest_diameter(distances: NDArray[Any], count: int, most_steps: int) -> Closest:
    """Return ``count`` of n rows whose largest distance is least, by branch and bound.

    Rows of a diameter of at most D are those that are left when a vertex cover of the pairs further apart than D has
    gone. So the least D is found by bisection over all distances, with a search for a cover of n − ``count`` rows
    (Chen et al. 2001, https://doi.org/10.1006/jagm.2001.1186, with the simplest of its rules) at each. The rows that
    are nearest to one row bound it: the diameter of the closest such group is at most twice the least.

    Parameters
    ----------
    distances
        Distances of all pairs, or numbers in their order such as squared distances, [n, n]; symmetric, 0 on the
        diagonal.
    count
        How many rows, from 1 to n.
    most_steps
        How many rows the search looks at, at most, of up to 255 rows; of more it is a part of that. Then the best
        that was found so far is returned.
    """
    n = len(distances)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
    radii = np.take_along_axis(distances, nearest[:, -1:], axis=1)[:, 0]
    middle = min(range(n), key=radii.tolist().__getitem__)
    places = sorted(nearest[middle].tolist())
    low, high = radii[middle], distances[np.ix_(places, places)].max()
    diameters = np.unique(distances[(distances >= low) & (distances <= high)])
    search, cover = _Search(most_steps // (1 + n // _LARGE)), _bits(set(range(n)).difference(places))
    first, last = 0, len(diameters) - 1
    try:
        while first < last:
            between = (first + last) // 2
            found = search.cover(_neighbours(distances > diameters[between]), (1 << n) - 1, n - count)
            if found is None:
                first = between + 1
            else:
                last, cover = between, found
        places = search.first_kept(_neighbours(distances > diameters[last]), cover, n - count)[:count]
    except _TooManyStepsError:
        kept = [place for place in range(n) if not cover >> place & 1]
        return Closest(kept[:count], search.steps, False)
    return Closest(places, search.steps, True)


def _neighbours(is_apart: NDArray[np.bool_]) -> list[int]:
    """Return the neighbours of each vertex of a graph, as the bits of an integer."""
    packed = np.packbits(is_apart, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _bits(places: set[int]) -> int:
    return sum(1 << place for place in places)


def _places(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class _Search:
    """Vertex covers of graphs, in a limited number of steps together."""

    def __init__(self, most_steps: int) -> None:
        self.steps = 0
        self._most = most_steps

    def cover(self, neighbours: Sequence[int], left: int, size: int) -> int | None:
        """Return a cover of at most ``size`` vertices of the graph on the vertices ``left``, or None if there is none.

        Raises
        ------
        _TooManyStepsError
            If the search has taken too many steps.
        """
        open_branches = [(left, 0, size)]
        while open_branches:
            left, taken, size = open_branches.pop()
            while True:
                degrees = {v: (neighbours[v] & left).bit_count() for v in _places(left)}
                self._count(len(degrees))
                # The first vertex of the highest degree, and the first with one neighbour.
                busiest = max(degrees, key=degrees.__getitem__, default=0)
                most = degrees.get(busiest, 0)
                if not most:
                    return taken
                if sum(degrees.values()) > 2 * size * most:
                    break
                leaf = next((v for v, degree in degrees.items() if degree == 1), None)
                if leaf is not None:
                    # A leaf's neighbour covers no less than the leaf.
                    gone = neighbours[leaf] & left
                else:
                    # Of a cycle any vertex will do; a vertex of more neighbours than may go has to go itself.
                    gone = 1 << busiest
                    if 2 < most <= size:
                        around = neighbours[busiest] & left
                        open_branches.append((left & ~around & ~gone, taken | around, size - most))
                left, taken, size = left & ~gone, taken | gone, size - 1
        return None

    def first_kept(self, neighbours: Sequence[int], cover: int, size: int) -> list[int]:
        """Return the vertices that are left by the cover of at most ``size`` that leaves the first ones.

        Parameters
        ----------
        neighbours
            The neighbours of each vertex.
        cover
            A cover of at most ``size`` vertices.
        size
            How many vertices may go.
        """
        left, kept = (1 << len(neighbours)) - 1, []
        for vertex in range(len(neighbours)):
            own = 1 << vertex
            if not left & own:
                continue
            around = neighbours[vertex] & left
            rest = left & ~own & ~around
            if cover & own:
                spare = size - around.bit_count()
                found = self.cover(neighbours, rest, spare) if spare >= 0 else None
                if found is None:
                    left, cover, size = left & ~own, cover & ~own, size - 1
                    continue
                cover = found
            else:
                cover &= ~around
            kept.append(vertex)
            left, size = rest, size - around.bit_count()
        return kept

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self._most:
            raise _TooManyStepsError
