"""Merkle trees whose proofs OpenZeppelin's ``MerkleProof`` verifies on chain."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.protocol.encoding.keccak import keccak


class MerkleTree:
    """A tree over ABI-encoded leaves, laid out as OpenZeppelin's ``StandardMerkleTree`` lays it out.

    The nodes are a complete binary tree in an array: node i has the children 2i + 1 and 2i + 2, the root comes
    first, and the leaves' hashes, sorted, fill the array from its end. The root depends on the set of leaves,
    not on their order.

    Parameters
    ----------
    leaves
        The ABI encodings, in the order in which :meth:`proof` counts them.

    Raises
    ------
    ValueError
        If there are none.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("A Merkle tree needs at least one leaf.")
        hashes = [leaf_hash(leaf) for leaf in leaves]
        order = sorted(range(len(leaves)), key=hashes.__getitem__)
        last = 2 * len(leaves) - 2
        self._place = {index: last - rank for rank, index in enumerate(order)}
        self._nodes = [b""] * (len(leaves) - 1) + [hashes[index] for index in reversed(order)]
        for i in reversed(range(len(leaves) - 1)):
            self._nodes[i] = _pair_hash(self._nodes[2 * i + 1], self._nodes[2 * i + 2])

    @property
    def root(self) -> bytes:
        """The root, 32 bytes."""
        return self._nodes[0]

    def proof(self, index: int) -> list[bytes]:
        """Return the siblings (32 bytes each) on the way from leaf ``index`` up to the root.

        Raises
        ------
        IndexError
            If there is no such leaf.
        """
        if index not in self._place:
            raise IndexError(f"The tree has leaves 0 to {len(self._place) - 1}, not {index}.")
        siblings, node = [], self._place[index]
        while node:
            siblings.append(self._nodes[node - 1 if node % 2 == 0 else node + 1])
            node = (node - 1) // 2
        return siblings


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether the proof leads from an ABI-encoded leaf to the root, as ``MerkleProof.verify`` does."""
    node = leaf_hash(leaf)
    for sibling in proof:
        node = _pair_hash(node, sibling)
    return node == root


def leaf_hash(leaf: bytes) -> bytes:
    """Return keccak256(keccak256(leaf)); hashing twice keeps a leaf from passing for an inner node."""
    return keccak(keccak(leaf))


def _pair_hash(a: bytes, b: bytes) -> bytes:
    return keccak(min(a, b) + max(a, b))
