"""The data that a participant commits to: a Merkle root over its examples, and their number, in one word.

A leaf hashes an example's canonical bytes with its place and a salt, so that nobody can guess examples from hashes. The
salts follow from one seed. The order counts, as training takes examples by their places.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fedledger.protocol.encoding.ordered_merkle import OrderedTree, top_of
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.signatures import Place

ROOT_BYTES, COUNT_BYTES, SALT_BYTES, SEED_BYTES = 28, 4, 32, 32
MOST_EXAMPLES = 2**32 - 1
_LEAF, _SALT, _ROOT = b"\x00fedledger example\0", b"fedledger salt of an example\0", b"fedledger data root\0"


@dataclass(frozen=True)
class DataRoot:
    """What a ledger holds of a participant's data.

    Parameters
    ----------
    root
        28 bytes.
    count
        How many examples there are, from 1.

    Raises
    ------
    ConfigError
        If they are none.
    """

    root: bytes
    count: int

    def __post_init__(self) -> None:
        if len(self.root) != ROOT_BYTES or not 1 <= self.count <= MOST_EXAMPLES:
            raise ConfigError(
                f"{self.count:,} examples with a root of {len(self.root)} bytes are no committed data.",
                f"Commit to 1 to {MOST_EXAMPLES:,} examples.",
            )

    @property
    def word(self) -> int:
        """The root's 224 bits, followed by the count's 32."""
        return int.from_bytes(self.root, "big") << 8 * COUNT_BYTES | self.count

    @classmethod
    def of_word(cls, word: int) -> DataRoot:
        """Return what a word of the ledger says; raises ConfigError if it says that there are no examples."""
        raw = word.to_bytes(ROOT_BYTES + COUNT_BYTES, "big")
        return cls(raw[:ROOT_BYTES], int.from_bytes(raw[ROOT_BYTES:], "big"))

    @classmethod
    def of_top(cls, top: bytes, count: int) -> DataRoot:
        """Return the root of a tree with so many leaves."""
        return cls(hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest()[:ROOT_BYTES], count)

    def holds(self, examples: Mapping[int, tuple[bytes, bytes]], siblings: Sequence[bytes]) -> bool:
        """Return whether some examples are among the committed ones.

        Parameters
        ----------
        examples
            Salt and canonical bytes of each, by its place.
        siblings
            What :meth:`CommittedExamples.siblings` gave for these places.
        """
        leaves = {place: leaf(place, salt, row) for place, (salt, row) in examples.items()}
        top = top_of(leaves, siblings, self.count)
        return top is not None and DataRoot.of_top(top, self.count) == self


@dataclass(frozen=True)
class CommittedExamples:
    """Examples to which a participant commits.

    Parameters
    ----------
    rows
        Canonical bytes of each, at least one.
    seed
        32 bytes from which the salts follow; see :func:`salt_seed`.

    Raises
    ------
    ConfigError
        If there are no examples, or too many.
    """

    rows: Sequence[bytes | memoryview]
    seed: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.rows) <= MOST_EXAMPLES:
            raise ConfigError(f"Nobody can commit to {len(self.rows):,} examples.", "Give at least one.")

    @cached_property
    def _tree(self) -> OrderedTree:
        salts = salts_of(self.seed, range(len(self.rows)))
        return OrderedTree(
            [leaf(place, salt, row) for place, (salt, row) in enumerate(zip(salts, self.rows, strict=True))]
        )

    @property
    def root(self) -> DataRoot:
        """What goes to the ledger."""
        return DataRoot.of_top(self._tree.top, len(self.rows))

    def siblings(self, places: Iterable[int]) -> list[bytes]:
        """Return what, beside the examples at some places, shows that they are among these; 32 bytes each."""
        return self._tree.siblings(places)


def commit_examples(rows: Sequence[bytes | memoryview], seed: bytes) -> DataRoot:
    """Return the root of examples, given the canonical bytes of each and the seed of their salts.

    Raises
    ------
    ConfigError
        If there are none, or too many.
    """
    return CommittedExamples(rows, seed).root


def salt_seed(account_key: bytes, place: Place, number: int) -> bytes:
    """Return the seed of a participant's salts, 32 bytes: a function of its key, so that no crash can lose it.

    Parameters
    ----------
    account_key
        Of the participant's account.
    place
        Where the task is.
    number
        Of the participant's words in this task, from 1: each root has salts of its own.
    """
    chain_id, contract, task = place
    message = f"fedledger data salts|{chain_id}|{contract.lower()}|{task}|{number}"
    return hmac.digest(account_key, message.encode(), "sha256")


def salts_of(seed: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the salts of the examples at some places, 32 bytes each."""
    begun = hashlib.sha256(_SALT + seed)
    salts = []
    for place in places:
        each = begun.copy()
        each.update(place.to_bytes(8, "big"))
        salts.append(each.digest())
    return salts


def leaf(place: int, salt: bytes, row: bytes | memoryview) -> bytes:
    """Return the hash that stands for an example, 32 bytes, given its place, salt and canonical bytes."""
    digest = hashlib.sha256(_LEAF + place.to_bytes(8, "big") + salt)
    digest.update(row)
    return digest.digest()
