"""An update on the wire: a signed, versioned header followed by named vectors.

Layout: ``FLU1`` · header length (4 bytes, little endian) · header (canonical JSON) · signature (65 bytes) ·
payload (:mod:`fedledger.protocol.encoding.tensors`). The signature covers the header, which names the payload's digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.records.signatures import checksummed, recover, sign, update_message
from fedledger.protocol.records.verdicts import Verdict

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage

MAGIC = b"FLU1"
MAX_HEADER_BYTES = 4096
SIGNATURE_BYTES = 65
HEADERS_CACHED = 4096
DELTA, STATISTICS = "delta", "statistics"
START_LOSS = "start_loss"
"""A vector of one number: the loss of the model that the update starts from on its sender's examples, as it claims."""
_Digest = Field(pattern="^[0-9a-f]{64}$")


def _is_absent(value: object) -> bool:
    return value is None


class UpdateRefusedError(ValueError):
    """An update that must be refused; carries the verdict.

    The detail enters the report, so it may not depend on a library's wording, nor be as long as a stranger likes.
    """

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(f"{verdict.label}: {detail}")
        self.verdict = verdict
        self.detail = detail


class UpdateHeader(BaseModel):
    """What an update says of itself.

    ``participant`` is the owner's checksummed address; ``base`` the digest of the round's base model; ``examples``
    the number of local training examples; ``steps`` the local optimiser steps; ``vectors`` the tensors sent. ``codec``
    is ``coded`` if the task's payload has a vector that another codec than ``dense@1`` writes. ``trajectory`` commits
    to the states of local training, in tasks whose spot checks replay windows of it; elsewhere it is left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    spec: str = _Digest
    round: int = Field(ge=1, lt=2**32)
    participant: str = Field(pattern="^0x[0-9a-fA-F]{40}$")
    base: str = _Digest
    examples: int = Field(ge=0, lt=2**32)
    steps: int = Field(ge=0, lt=2**32)
    codec: Literal["dense", "coded"] = "dense"
    vectors: list[str] = Field(min_length=1, max_length=8)
    payload: str = _Digest
    trajectory: str | None = Field(None, pattern="^[0-9a-f]{64}$", exclude_if=_is_absent)


def encoded_length(header: UpdateHeader, vectors: Mapping[str, NDArray[np.generic]]) -> int:
    """Return how many bytes :func:`encode` would give for a header whose payload is none yet, without a signature."""
    raw = canonical.encode({**header.model_dump(), "vectors": sorted(vectors)})
    return len(MAGIC) + 4 + len(raw) + SIGNATURE_BYTES + tensors.encoded_length(vectors)


@dataclass(frozen=True)
class Update:
    """A decoded update whose bytes agree with its header, not yet validated.

    Parameters
    ----------
    header
        The signed header.
    signature
        65 bytes by the participant's signer.
    vectors
        Read-only arrays by name.
    raw
        The header's bytes.
    """

    header: UpdateHeader
    signature: bytes
    vectors: dict[str, NDArray[np.generic]]
    raw: bytes

    @property
    def signed_by(self) -> str | None:
        """The address that signed the header, or None if the signature is none."""
        return recover(_message(self.header, self.raw), self.signature)


def encode(header: UpdateHeader, vectors: Mapping[str, NDArray[np.generic]], key: bytes) -> bytes:
    """Return the bytes of an update; ``payload`` and ``vectors`` of the header are set from the vectors.

    Raises
    ------
    ValueError
        If the header is none with them.
    """
    payload = tensors.encode(vectors)
    named = {"vectors": sorted(vectors), "payload": hashlib.sha256(payload).hexdigest()}
    header = UpdateHeader.model_validate({**header.model_dump(), **named})
    raw = canonical.encode(header.model_dump())
    _headers.keep(raw, header)
    signature = sign(_message(header, raw), key)
    return b"".join((MAGIC, len(raw).to_bytes(4, "little"), raw, signature, payload))


def decode(data: bytes) -> Update:
    """Decode a stranger's bytes.

    Raises
    ------
    UpdateRefusedError
        ``malformed`` if the bytes are no update, ``bad_digest`` if the payload is not the one the header names.
    """
    header, end = _read_header(data)
    view = memoryview(data)
    body = end + SIGNATURE_BYTES
    payload = view[body:]
    if hashlib.sha256(payload).hexdigest() != header.payload:
        raise UpdateRefusedError(Verdict.BAD_DIGEST, "the payload is not the one that the header names")
    try:
        vectors = tensors.decode(payload)
    except tensors.TensorFormatError as error:
        raise UpdateRefusedError(Verdict.MALFORMED, "the payload is no canonical tensor file") from error
    if sorted(vectors) != header.vectors:
        raise UpdateRefusedError(Verdict.MALFORMED, "the vectors are not those that the header names")
    return Update(header, bytes(view[end:body]), vectors, bytes(view[len(MAGIC) + 4 : end]))


def read_header(data: bytes) -> UpdateHeader:
    """Return what an update says of itself, without a look at its payload; see :func:`decode`."""
    return _read_header(data)[0]


def _read_header(data: bytes) -> tuple[UpdateHeader, int]:
    """Return the header and where it ends."""
    view = memoryview(data)
    start = len(MAGIC) + 4
    length = int.from_bytes(view[len(MAGIC) : start], "little")
    if bytes(view[: len(MAGIC)]) != MAGIC or length > MAX_HEADER_BYTES or start + length + SIGNATURE_BYTES > len(view):
        raise UpdateRefusedError(Verdict.MALFORMED, "the bytes do not start with an update's header")
    try:
        header = _parsed(bytes(view[start : start + length]))
    except (ValueError, ValidationError) as error:
        raise UpdateRefusedError(Verdict.MALFORMED, "the header is not valid") from error
    return header, start + length


def _parsed(raw: bytes) -> UpdateHeader:
    known = _headers.get(raw)
    if known is not None:
        return known
    header = UpdateHeader.model_validate(canonical.decode(raw, MAX_HEADER_BYTES))
    if canonical.encode(header.model_dump()) != raw:
        raise ValueError("the header leaves out fields that its canonical form has")
    return _headers.keep(raw, header)


_headers: BoundedCache[bytes, UpdateHeader] = BoundedCache(HEADERS_CACHED)
"""Cached headers: a node reads that of its update several times, and an aggregator in the same process once more."""


def _message(header: UpdateHeader, raw: bytes | None = None) -> SignableMessage:
    raw = canonical.encode(header.model_dump()) if raw is None else raw
    return update_message(
        hexadecimal(header.spec, 32),
        header.round,
        checksummed(header.participant),
        hexadecimal(header.base, 32),
        hexadecimal(header.payload, 32),
        hashlib.sha256(raw).digest(),
    )
