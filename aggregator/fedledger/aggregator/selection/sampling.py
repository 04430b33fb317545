"""Sampling in proportion to whole weights."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.aggregator.selection.base import Candidate
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.errors import ConfigError


def weighted_sample(weights: Sequence[int], count: int, stream: Stream) -> list[int]:
    """Return ``count`` distinct places, drawn one by one with probability in proportion to what is left of the weights.

    A weight below 1 counts as 1, so that there is always somebody to draw.
    """
    # A binary indexed tree: a draw and a removal each take a logarithm of the number of weights.
    size = len(weights)
    left = [max(1, weight) for weight in weights]
    tree = [0, *left]
    for node in range(1, size + 1):
        parent = node + (node & -node)
        if parent <= size:
            tree[parent] += tree[node]
    total, drawn = sum(left), []
    for _ in range(count):
        aim, place = stream.below(total), 0
        step = 1 << size.bit_length()
        while step:
            if place + step <= size and tree[place + step] <= aim:
                place += step
                aim -= tree[place]
            step >>= 1
        drawn.append(place)
        total -= left[place]
        node = place + 1
        while node <= size:
            tree[node] -= left[place]
            node += node & -node
    return drawn


def require_count(count: int, candidates: Sequence[Candidate]) -> None:
    """Raise ConfigError if a selection asks for more participants than there are."""
    if count > len(candidates):
        raise ConfigError(
            f"The selection asks for {count} participants of {len(candidates)}.",
            "Lower the count, or enrol more participants.",
        )
