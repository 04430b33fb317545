"""Content ids: the CIDs that IPFS gives the same bytes under the profile ``unixfs-v1-2025``.

A CID is a function of the bytes and of the import parameters, so those are fixed: CIDv1, raw leaves, chunks of
1 MiB, at most 1024 links a node, balanced. On the ledger a CID is its 32-byte SHA-256 digest and the content's
length: up to 1 MiB the codec is ``raw``, above it ``dag-pb``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fedledger.protocol.errors import StoreError

MIB = 1024 * 1024
MAX_OBJECT_BYTES = 174 * MIB
"""Of a model or an update."""
MAX_STATE_BYTES = 1024 * MIB
"""Of an aggregator's state, which holds several vectors of eight bytes a coordinate: one level of links is enough."""
RAW, DAG_PB = 0x55, 0x70
SHA2_256 = b"\x12\x20"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True)
class Profile:
    """Import parameters of UnixFS: CID version, chunk size in bytes, links a node, whether leaves are raw."""

    version: int
    chunk: int
    width: int
    raw_leaves: bool


UNIXFS_V1_2025 = Profile(version=1, chunk=MIB, width=1024, raw_leaves=True)
UNIXFS_V0_2015 = Profile(version=0, chunk=256 * 1024, width=174, raw_leaves=False)


@dataclass(frozen=True)
class ContentRef:
    """Content by digest and length, as the ledger names it.

    Parameters
    ----------
    digest
        32 bytes: SHA-256 of the root block, which up to 1 MiB is the content itself.
    length
        Length of the content in bytes.
    """

    digest: bytes
    length: int

    def __post_init__(self) -> None:
        if len(self.digest) != 32 or self.length < 0:
            raise StoreError(
                f"{self.digest.hex()} of {self.length} bytes names no content.",
                "Give a SHA-256 digest of 32 bytes and a length that is not negative.",
            )

    @classmethod
    def of(cls, data: bytes) -> ContentRef:
        """Return the reference of some bytes."""
        return cls(unixfs_root(data)[-32:], len(data))

    @classmethod
    def parse(cls, cid: str, length: int) -> ContentRef:
        """Return the reference of a CID and a length.

        Raises
        ------
        StoreError
            If it is not a CID of content of that length under the profile.
        """
        decoded = cid_bytes(cid)
        ref = cls(decoded[-32:], length)
        if decoded != ref._bytes:
            raise StoreError(
                f"{cid} is not a CID of {length} bytes.", "Import content with the profile unixfs-v1-2025."
            )
        return ref

    @cached_property
    def cid(self) -> str:
        """The CIDv1 in base32."""
        return _base32(self._bytes)

    @property
    def _bytes(self) -> bytes:
        return bytes([1, RAW if self.length <= MIB else DAG_PB]) + SHA2_256 + self.digest


def cid_bytes(cid: str) -> bytes:
    """Decode a CID in base32 (``b…``), base58 (``z…``) or version 0 (``Qm…``) to its bytes.

    Raises
    ------
    StoreError
        If it is not the canonical spelling of a file's CID with a SHA-256 digest.
    """
    remedy = "Give a CIDv1 such as bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4."
    version_0 = cid.startswith("Qm")
    try:
        if len(cid) > 64:
            raise ValueError("too long")
        if version_0:
            decoded = _base58(cid)
        elif cid.startswith("z"):
            decoded = _base58(cid[1:])
        elif cid.startswith("b"):
            decoded = base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))
            if _base32(decoded) != cid:
                raise ValueError("not canonical")
        else:
            raise ValueError("unknown base")
    except ValueError as error:
        raise StoreError(f"{cid[:64]!r} is not a CID.", remedy) from error
    prefixes = [b""] if version_0 else [bytes([1, RAW]), bytes([1, DAG_PB])]
    if decoded[-34:-32] != SHA2_256 or decoded[:-34] not in prefixes:
        raise StoreError(f"{cid!r} is not a CID of a file with a SHA-256 digest.", remedy)
    return decoded


def unixfs_root(data: bytes, profile: Profile = UNIXFS_V1_2025) -> bytes:
    """Return the root CID, as bytes, that IPFS gives ``data`` under an import profile.

    Raises
    ------
    StoreError
        If the data is longer than 1 GiB, beyond which a root has no room for all links.

    Notes
    -----
    Daemons that know nothing of the profile give content beyond 174 MiB another root, which the store notices.
    """
    if len(data) > MAX_STATE_BYTES:
        raise StoreError(
            f"{len(data)} bytes are too many for one object.", f"Split it: the limit is {MAX_STATE_BYTES}."
        )
    view = memoryview(data)
    level = [_leaf(view[start : start + profile.chunk], profile) for start in range(0, len(data) or 1, profile.chunk)]
    while len(level) > 1:
        level = [_parent(level[i : i + profile.width], profile) for i in range(0, len(level), profile.width)]
    return level[0].cid


@dataclass(frozen=True)
class _Node:
    cid: bytes
    size: int
    cumulative: int


def _leaf(chunk: memoryview, profile: Profile) -> _Node:
    if profile.raw_leaves:
        return _Node(bytes([1, RAW]) + SHA2_256 + hashlib.sha256(chunk).digest(), len(chunk), len(chunk))
    body = _field(1, 2) + (_bytes_field(2, bytes(chunk)) if len(chunk) else b"") + _field(3, len(chunk))
    return _block([], body, len(chunk), profile)


def _parent(children: Sequence[_Node], profile: Profile) -> _Node:
    size = sum(child.size for child in children)
    body = _field(1, 2) + _field(3, size) + b"".join(_field(4, child.size) for child in children)
    return _block(children, body, size, profile)


def _block(children: Sequence[_Node], unixfs: bytes, size: int, profile: Profile) -> _Node:
    links = (
        _bytes_field(2, _bytes_field(1, child.cid) + _bytes_field(2, b"") + _field(3, child.cumulative))
        for child in children
    )
    block = b"".join(links) + _bytes_field(1, unixfs)
    prefix = bytes([1, DAG_PB]) if profile.version == 1 else b""
    digest = hashlib.sha256(block).digest()
    return _Node(prefix + SHA2_256 + digest, size, len(block) + sum(child.cumulative for child in children))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _base32(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def _base58(text: str) -> bytes:
    value = 0
    for character in text:
        value = value * 58 + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + value.to_bytes((value.bit_length() + 7) // 8, "big")
