"""The validation set of a task, as it is stored: tensors ``inputs`` float32 or int64[n, …] and ``labels``.

The labels are what the task's objective makes of them: int64[n] classes, or int64 or float32 of other shapes. A set, or
a block of one, that is not public from the start holds a ``salt`` besides, so that its content id tells nobody which
examples it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.metrics import HeldOut
from fedledger.learning.objectives.base import Objective
from fedledger.protocol.arithmetic.random_streams import Stream, stream
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.encryption import derived
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.seal import PURPOSE, SealSpec, drawn_block

INPUTS, LABELS, SALT = "inputs", "labels", "salt"
SALT_BYTES = 32
_TYPES = (np.dtype(np.float32), np.dtype(np.int64))


def write_validation(inputs: NDArray[Any], labels: NDArray[Any], salt: bytes = b"") -> bytes:
    """Return a validation set, or a block of one, as it is stored; with a salt unless it is public from the start."""
    salted = {SALT: np.frombuffer(salt, np.uint8)} if salt else {}
    return tensors.encode({INPUTS: inputs, LABELS: labels, **salted})


def read_validation(data: bytes, salted: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the inputs [n, …] and labels [n, …] of a stored validation set, n ≥ 1, as arrays of their own.

    Whether the labels are any for the task's objective, and within the model's outputs, is the objective's to check.

    Parameters
    ----------
    data
        The stored bytes.
    salted
        Whether it holds a salt.

    Raises
    ------
    ContentUnreadableError
        If it is none: other tensors, types or shapes, an example without a number, or a number that is not finite.
    """
    try:
        named = tensors.decode(data)
        if set(named) != {INPUTS, LABELS, *([SALT] if salted else [])}:
            raise ValueError(f"it holds other tensors than {INPUTS} and {LABELS}{' and a salt' if salted else ''}")
        if salted and (named[SALT].dtype != np.uint8 or named[SALT].shape != (SALT_BYTES,)):
            raise ValueError(f"the salt is no uint8[{SALT_BYTES}]")
        inputs, labels = named[INPUTS], named[LABELS]
        _check(INPUTS, inputs, 2)
        _check(LABELS, labels, 1)
        if len(labels) != len(inputs):
            raise ValueError(f"it has {len(inputs)} {INPUTS} and {len(labels)} {LABELS}")
    except ValueError as error:
        raise ContentUnreadableError(f"The validation set cannot be read: {error}.") from error
    return np.array(inputs), np.array(labels)


def _check(name: str, tensor: NDArray[Any], least: int) -> None:
    if tensor.dtype not in _TYPES or tensor.ndim < least or not tensor.size:
        wanted = f"float32 or int64[n{', ...' * (least - 1)}]"
        raise ValueError(f"{name} are {tensor.dtype}{list(tensor.shape)}, not {wanted}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"a number among the {name} is not finite")


def read_part(data: bytes, size: int, objective: Objective) -> HeldOut:
    """Return a salted set, or a block of one, which must have so many examples.

    Raises
    ------
    ContentUnreadableError
        If it is none, or has another number of them.
    """
    inputs, labels = read_validation(data, salted=True)
    if len(labels) != size:
        raise ContentUnreadableError(f"The validation set has {len(labels)} examples here, its task says {size}.")
    return HeldOut(inputs, labels, objective)


def dealt(labels: NDArray[Any], blocks: int, key: bytes) -> list[NDArray[np.int64]]:
    """Deal examples to blocks in an order that follows from a key; each gets its part of every class.

    Parameters
    ----------
    labels
        Of all n examples.
    blocks
        How many, at most n.
    key
        The publisher's secret.

    Returns
    -------
    list of numpy.ndarray
        The examples of each block, int64.
    """
    drawn = Stream(derived(key, "order of examples"))
    order = [place for group in by_class(labels) for place in drawn.sample(group, len(group))]
    return [np.array(order[block::blocks], np.int64) for block in range(blocks)]


def write_blocks(inputs: NDArray[Any], labels: NDArray[Any], seal: SealSpec, key: bytes) -> tuple[bytes, ...]:
    """Return the blocks of a set that is opened block by block, each with a salt of its own, as they are stored."""
    return tuple(
        write_validation(inputs[places], labels[places], derived(key, f"salt of block {number}"))
        for number, places in enumerate(dealt(labels, seal.blocks, key))
    )


def by_class(labels: NDArray[Any]) -> list[list[int]]:
    """Return the places of each class's examples, in order; those without classes are one class."""
    if labels.dtype != np.int64 or labels.ndim != 1:
        return [list(range(len(labels)))]
    _, classes = np.unique(labels, return_inverse=True)
    order = np.argsort(classes, kind="stable")
    return [group.tolist() for group in np.split(order, np.cumsum(np.bincount(classes))[:-1])]


def drawn_slice(groups: Sequence[Sequence[int]], size: int, draws: Stream) -> list[int]:
    """Draw examples: of each class as many as of the others, as far as it has them.

    Parameters
    ----------
    groups
        The places of each class's examples.
    size
        How many to draw, at most as many as there are.
    draws
        The random stream.

    Returns
    -------
    list of int
        Their places, in order.
    """
    left = [draws.sample(group, min(size, len(group))) for group in draws.sample(groups, len(groups))]
    drawn: list[int] = []
    while len(drawn) < size:
        left = [group for group in left if group]
        drawn += [group.pop() for group in left[: size - len(drawn)]]
    return sorted(drawn)


class RoundExamples(Protocol):
    """Says on which held-out examples a round is judged."""

    def judging(self, index: int) -> HeldOut:
        """Return the examples on which a round's base model and updates are measured."""
        ...

    def final(self, index: int) -> HeldOut:
        """Return those on which its new model is measured."""
        ...

    def opened(self, index: int) -> bytes | None:
        """Return the content that a round opens, if it opens some."""
        ...


class WholeSet:
    """All examples in every round."""

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out

    @classmethod
    def read(cls, validation: bytes, objective: Objective) -> WholeSet:
        """Return a public set as it is stored; see :func:`read_validation`."""
        return cls(HeldOut(*read_validation(validation), objective))

    def judging(self, index: int) -> HeldOut:
        return self._held_out

    def final(self, index: int) -> HeldOut:
        return self._held_out

    def opened(self, index: int) -> bytes | None:
        return None


class DrawnSlices:
    """A slice of a whole set, which the task's stream draws for each round; new models are measured on all of it.

    Parameters
    ----------
    whole
        All examples.
    size
        How many a slice has, at most as many as there are.
    spec_digest
        Of the task's spec.
    """

    def __init__(self, whole: HeldOut, size: int, spec_digest: bytes) -> None:
        self._whole, self._size, self._digest = whole, size, spec_digest
        self._groups = by_class(whole.targets.numpy())
        self._last = 0, whole

    def judging(self, index: int) -> HeldOut:
        if self._size < len(self._whole) and index != self._last[0]:
            places = drawn_slice(self._groups, self._size, stream(self._digest, PURPOSE, index))
            self._last = index, self._whole.part(places)
        return self._last[1]

    def final(self, index: int) -> HeldOut:
        return self._whole

    def opened(self, index: int) -> bytes | None:
        return None


class OpenedBlocks:
    """A block of the set, which the task's stream draws for each round.

    Parameters
    ----------
    seal
        How the set is kept.
    load
        Returns a block as it is stored, by its number.
    spec_digest
        Of the task's spec.
    objective
        The task's.
    check
        Is shown each block, with its round, before anything is measured on it.
    """

    def __init__(
        self,
        seal: SealSpec,
        load: Callable[[int], bytes],
        spec_digest: bytes,
        objective: Objective,
        check: Callable[[int, HeldOut], None] = lambda index, block: None,
    ) -> None:
        self._seal, self._load, self._digest = seal, load, spec_digest
        self._objective, self._check = objective, check
        self._last: tuple[int, bytes, HeldOut] | None = None

    def judging(self, index: int) -> HeldOut:
        return self._read(index)[1]

    def final(self, index: int) -> HeldOut:
        return self._read(index)[1]

    def opened(self, index: int) -> bytes | None:
        return self._read(index)[0]

    def _read(self, index: int) -> tuple[bytes, HeldOut]:
        number = drawn_block(self._digest, index, self._seal.blocks)
        if self._last is None or self._last[0] != number:
            data = self._load(number)
            block = read_part(data, self._seal.block_size(number), self._objective)
            self._check(index, block)
            self._last = number, data, block
        return self._last[1:]
