"""How an experiment keeps its validation set, and who may know what of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.metrics import HeldOut
from fedledger.learning.objectives.base import Objective
from fedledger.learning.validation_set import (
    DrawnSlices,
    OpenedBlocks,
    RoundExamples,
    WholeSet,
    by_class,
    drawn_slice,
    read_validation,
    write_blocks,
    write_validation,
)
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.encryption import KEY_BYTES, derived, encrypt
from fedledger.protocol.encoding.strict import SpellingError, hexadecimal
from fedledger.protocol.errors import ConfigError, KeyStoreError
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import MAX_BLOCKS, PUBLIC, SEALED, BlockIndex, SealSpec, drawn_block, key_digest
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.foreign_files import read_text

Examples = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class KeptValidation:
    """A validation set as its publisher keeps it.

    Parameters
    ----------
    whole
        The whole set, without a salt.
    content
        What the spec names: the set itself, its ciphertext, or the index of its blocks.
    seal
        How it is kept; None: it is public.
    key
        The publisher's secret, 32 bytes; empty where the set is public.
    blocks
        Of a set that is opened in blocks, as they are stored one after another.
    """

    whole: bytes
    content: bytes
    seal: SealSpec | None = None
    key: bytes = b""
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, examples: Examples, access: str, size: int, key: bytes) -> KeptValidation:
        """Return a set of n examples as it is kept.

        Parameters
        ----------
        examples
            Inputs and labels.
        access
            Who may read it: public, opened or sealed.
        size
            How many of them a round is judged on, unless it is public.
        key
            The publisher's secret, 32 bytes.

        Raises
        ------
        ConfigError
            If there are none, or they make too many blocks.
        """
        n, (inputs, labels) = len(examples[1]), examples
        whole = write_validation(inputs, labels)
        if access == PUBLIC:
            return cls(whole, whole)
        if not n:
            raise ConfigError("The validation set has no example.", "Give a larger data.validation_fraction.")
        size = min(size, n)
        if access == SEALED:
            plaintext = write_validation(inputs, labels, derived(key, "salt of all examples"))
            named = Ref.of(ContentRef.of(plaintext))
            seal = SealSpec(mode="sealed", examples=n, slice=size, key=key_digest(key).hex(), plaintext=named)
            return cls(whole, encrypt(key, plaintext), seal, key)
        if -(-n // size) > MAX_BLOCKS:
            raise ConfigError(
                f"{n:,} validation examples make more than {MAX_BLOCKS:,} blocks of {size}.",
                "Give a larger data.validation_slice.",
            )
        seal = SealSpec(mode="opened", examples=n, slice=size)
        blocks = write_blocks(inputs, labels, seal, key)
        return cls(whole, BlockIndex.of(blocks).encode(), seal, key, blocks)

    def under(self, key: bytes) -> KeptValidation:
        """Return the same set under another key."""
        if self.seal is None:
            return self
        return self.of(self.examples(), self.seal.mode, self.seal.slice, key)

    def examples(self) -> Examples:
        """Return all inputs and labels, which the publisher knows."""
        return read_validation(self.whole)

    def public(self, spec: TaskSpec, index: int) -> Examples | None:
        """Return the inputs and labels that everybody knows when a round begins; None where nobody knows any.

        Parameters
        ----------
        spec
            The task's spec.
        index
            The round.
        """
        if self.seal is None:
            return self.examples()
        known = {drawn_block(spec.digest, before, len(self.blocks)) for before in range(1, index) if self.blocks}
        parts = [read_validation(self.blocks[number], salted=True) for number in sorted(known)]
        if not parts:
            return None
        inputs, labels = zip(*parts, strict=True)
        return np.concatenate(inputs), np.concatenate(labels)

    def judged(self) -> list[NDArray[Any]]:
        """Return labels such as models are measured on: all, or those of blocks or a slice of this size.

        They do not depend on the key, so that what a spec says for their sake is the same for whoever lacks it.
        """
        _, labels = self.examples()
        if self.seal is None:
            return [labels]
        groups = by_class(labels)
        if self.seal.is_sealed:
            return [labels, labels[drawn_slice(groups, self.seal.slice, Stream(bytes(32)))]]
        ordered = labels[np.concatenate(groups)]
        return [ordered[number :: self.seal.blocks] for number in range(self.seal.blocks)]

    def by_round(self, spec: TaskSpec, objective: Objective) -> RoundExamples:
        """Return the examples on which each round of a task is judged."""
        if self.seal is None:
            return WholeSet.read(self.content, objective)
        if self.seal.is_sealed:
            return DrawnSlices(HeldOut(*self.examples(), objective), self.seal.slice, spec.digest)
        return OpenedBlocks(self.seal, self.blocks.__getitem__, spec.digest, objective)


def experiment_seal_key(seed: int) -> bytes:
    """Return the key of an experiment's validation set: anybody can derive it, as it can be repeated."""
    return hashlib.sha256(f"fedledger experiment|{seed}|seal".encode()).digest()


def new_seal_key(path: Path) -> bytes:
    """Make the key of a validation set, write it for its owner's eyes only, and return it.

    Raises
    ------
    KeyStoreError
        If the file exists already, or cannot be written.
    """
    key = os.urandom(KEY_BYTES)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be written: {error.strerror}.", "Choose another file.") from error
    return key


def read_seal_key(path: Path) -> bytes:
    """Return the key of a validation set.

    Raises
    ------
    KeyStoreError
        If the file cannot be read, or holds no key.
    """
    try:
        return hexadecimal(read_text(path).strip(), KEY_BYTES)
    except (OSError, SpellingError, ValueError) as error:
        # What it holds may be a key that was damaged: it is not repeated.
        reason = getattr(error, "strerror", None) or f"it does not hold {KEY_BYTES} bytes in hexadecimal"
        raise KeyStoreError(
            f"The key of the validation set cannot be read from {path}: {reason}.", "Ask the task's publisher for it."
        ) from error
