"""Clusters of rows by distances of all pairs."""

from __future__ import annotations

import numpy as np

from fedledger.protocol.arithmetic.exact import Float64Array


def majority_cluster(distances: Float64Array) -> list[int]:
    """Return the places of the rows of the closest cluster of more than half of n rows, ascending.

    It is what HDBSCAN (Campello et al. 2013, https://doi.org/10.1007/978-3-642-37456-2_14) finds with a least cluster
    size of ⌊n / 2⌋ + 1, least samples of 1 and one cluster allowed: two clusters would not fit, so it is the component
    of so many rows that chains of the shortest links form first. Links of equal length count together, so no order of
    the rows decides.

    Parameters
    ----------
    distances
        Distances of all pairs, float64[n, n], n at least 1; symmetric.
    """
    n = len(distances)
    links = sorted(_shortest_links(distances))
    group = list(range(n))
    members = [[place] for place in range(n)]
    largest, reached = [0], -1.0
    for length, first, second in links:
        if len(largest) > n // 2 and length > reached:
            break
        into, gone = sorted((group[first], group[second]), key=lambda g: (-len(members[g]), g))
        for place in members[gone]:
            group[place] = into
        members[into] += members[gone]
        members[gone] = []
        if len(members[into]) > n // 2:
            largest, reached = members[into], length
    return sorted(largest)


def _shortest_links(distances: Float64Array) -> list[tuple[float, int, int]]:
    """Return the n − 1 links of a minimum spanning tree: length and the two places (Prim 1957)."""
    n = len(distances)
    is_left = np.ones(n, np.bool_)
    lengths, nearest, links = np.full(n, np.inf), np.zeros(n, np.int64), []
    newest = 0
    for _ in range(n - 1):
        is_left[newest] = False
        closer = distances[newest] < lengths
        lengths = np.where(closer, distances[newest], lengths)
        nearest = np.where(closer, newest, nearest)
        newest = int(np.where(is_left, lengths, np.inf).argmin())
        links.append((float(lengths[newest]), int(nearest[newest]), newest))
    return links
