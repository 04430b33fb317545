"""What an update carries: its vectors by name, length and codec, as a task's spec describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.codecs.base import CODECS, Codec, Tensor
from fedledger.protocol.codecs.dense import Dense
from fedledger.protocol.codecs.statistics import Statistics
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import VectorSpec
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import TaskSpec, TensorsSpec
from fedledger.protocol.records.update import DELTA, START_LOSS, STATISTICS, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict


@dataclass(frozen=True)
class Slot:
    """A vector that an update carries.

    Parameters
    ----------
    name
        Its name.
    length
        Its number of coordinates.
    codec
        Writes and reads it.
    error_feedback
        Whether a participant adds what the codec left out to its next update.
    """

    name: str
    length: int
    codec: Codec
    error_feedback: bool = False


def payload_slots(payload: Sequence[VectorSpec], vectors: Sequence[str], dimension: int) -> tuple[Slot, ...]:
    """Return the vectors of an update, its delta first.

    Parameters
    ----------
    payload
        What a spec describes; if that is nothing, every vector is dense and has the model's length.
    vectors
        Names of what an update holds besides its delta.
    dimension
        Number of coordinates d of the model.

    Raises
    ------
    ConfigError
        If there is no such codec, if it does not suit its vector, or if the aggregator could not publish the vectors.
    """
    if not payload:
        return tuple(Slot(name, dimension, Dense()) for name in (DELTA, *vectors))
    slots = []
    for vector in payload:
        codec = build(CODECS, vector.codec.method, vector.codec.params)
        length = vector.length or dimension
        codec.check(length)
        slots.append(Slot(vector.name, length, codec, vector.error_feedback))
    published = 8 * sum(slot.length for slot in slots[1:])
    if published > MAX_OBJECT_BYTES:
        raise ConfigError(
            f"The vectors of the payload take {published:,} bytes of the aggregator's state; content has at most "
            f"{MAX_OBJECT_BYTES:,}.",
            "Make them shorter.",
        )
    return tuple(slots)


def statistics_slots(tensors: TensorsSpec | None) -> tuple[Slot, ...]:
    """Return the vector of a model's statistics, if it has any."""
    length = 0 if tensors is None else tensors.length
    return (Slot(STATISTICS, length, Statistics.of(tensors)),) if length else ()


def slots(spec: TaskSpec, dimension: int) -> tuple[Slot, ...]:
    """Return the vectors of a task's updates: those of :func:`payload_slots`, then its model's statistics, if any."""
    return (*described_slots(spec, dimension), *statistics_slots(spec.tensors))


def described_slots(spec: TaskSpec, dimension: int) -> tuple[Slot, ...]:
    """Return the vectors of a task's updates without its model's statistics; see :func:`payload_slots`."""
    key = spec.digest, dimension
    return _slots.get(key) or _slots.keep(key, payload_slots(spec.payload, spec.vectors, dimension))


_slots: BoundedCache[tuple[bytes, int], tuple[Slot, ...]] = BoundedCache(16)


def published_lengths(spec: TaskSpec, dimension: int) -> dict[str, int]:
    """Return the number of coordinates of each vector that an aggregator publishes, by name; start losses are none."""
    return {slot.name: slot.length for slot in described_slots(spec, dimension)[1:] if slot.name != START_LOSS}


def decode_vectors(vectors: Mapping[str, Tensor], spec: TaskSpec, dimension: int) -> dict[str, IntArray]:
    """Return the vectors of an update in fixed point, by name.

    Raises
    ------
    UpdateRefusedError
        With the reason: other vectors than the spec's, or the gravest fault of one.
    """
    payload = slots(spec, dimension)
    if set(vectors) != {slot.name for slot in payload}:
        names = ", ".join(slot.name for slot in payload)
        wanted = f"the vectors {names}" if len(payload) > 1 else f"the one vector {DELTA!r}"
        raise UpdateRefusedError(Verdict.WRONG_SHAPE, f"the update must hold {wanted}")
    fixed = spec.fixed
    decoded: dict[str, IntArray] = {}
    refusals: list[UpdateRefusedError] = []
    for slot in payload:
        try:
            decoded[slot.name] = slot.codec.decode(vectors[slot.name], slot.length, fixed)
        except UpdateRefusedError as error:
            refusals.append(error)
    if refusals:
        raise min(refusals, key=lambda refusal: _FAULTS.index(refusal.verdict))
    return decoded


_FAULTS = (Verdict.WRONG_SHAPE, Verdict.MALFORMED, Verdict.NOT_FINITE, Verdict.OUT_OF_RANGE)
"""Faults of a vector; of several vectors' faults the first of these applies, and of equal ones that of the first."""


def header_codec(spec: TaskSpec) -> Literal["dense", "coded"]:
    """Return what the headers of a task's updates say of their codecs."""
    return "dense" if all(vector.codec.method == "dense@1" for vector in spec.payload) else "coded"
