"""The one encoding of tensors: the safetensors format, restricted so that equal tensors have equal bytes.

Names are sorted, offsets are contiguous in that order, numbers are little endian, the JSON header has no
white space and is padded with spaces to a multiple of eight bytes. Any safetensors reader opens the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.encoding import canonical, strict

DTYPES: dict[str, np.dtype[np.generic]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("<u1")}
FURTHER_DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("<i1"),
}
"""What a model may hold besides: tensors that nobody computes with but the model itself."""
_ALL = {**DTYPES, **FURTHER_DTYPES}
NAMES = {dtype: name for name, dtype in _ALL.items()}
MAX_HEADER_BYTES = 1024 * 1024
MAX_RANK = 8
HEADERS_CACHED = 16
_RESERVED = "__metadata__"


class TensorFormatError(ValueError):
    """The bytes are not a canonical tensor file."""


def encode(tensors: Mapping[str, NDArray[np.generic]], further: bool = False) -> bytes:
    """Return the canonical bytes of named tensors.

    Parameters
    ----------
    tensors
        Arrays by name, of a type in ``DTYPES``.
    further
        Whether they may have types in ``FURTHER_DTYPES``, too.

    Raises
    ------
    TypeError
        If a tensor has another dtype.
    ValueError
        If a tensor has more than 8 axes, or a name that the format reserves or that is no text in Unicode.
    """
    places, arrays = _placed(tensors, further)
    return b"".join((_header_bytes(places), *(array.tobytes() for array in arrays)))


def encoded_length(tensors: Mapping[str, NDArray[np.generic]]) -> int:
    """Return how many bytes :func:`encode` would give, without making them."""
    places, _ = _placed(tensors, further=True)
    return len(_header_bytes(places)) + sum(size for *_, size in places)


def _placed(
    tensors: Mapping[str, NDArray[np.generic]], further: bool
) -> tuple[tuple[_Place, ...], list[NDArray[np.generic]]]:
    """Return where tensors will be, and the tensors in that order and in the byte order of the file."""
    places: list[_Place] = []
    arrays: list[NDArray[np.generic]] = []
    offset = 0
    for name in sorted(tensors):
        if np.ndim(tensors[name]) > MAX_RANK or name == _RESERVED:
            raise ValueError(f"tensor {name!r} has more than {MAX_RANK} axes or a reserved name")
        if not strict.is_text(name):
            raise ValueError(f"tensor {name!r} has a name that is no text")
        array = np.ascontiguousarray(tensors[name])
        dtype = array.dtype.newbyteorder("<")
        allowed = _ALL if further else DTYPES
        if dtype not in allowed.values():
            names = ", ".join(map(str, allowed.values()))
            raise TypeError(f"tensor {name!r} has dtype {array.dtype}; allowed are {names}")
        arrays.append(array.astype(dtype, copy=False))
        places.append((name, dtype, np.shape(tensors[name]), offset, array.nbytes))
        offset += array.nbytes
    return tuple(places), arrays


def decode(data: bytes | memoryview, further: bool = False) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a canonical file as read-only views of its bytes, in name order.

    Parameters
    ----------
    data
        The file.
    further
        Whether tensors may have types in ``FURTHER_DTYPES``, too.

    Raises
    ------
    TensorFormatError
        If the bytes are anything but the canonical encoding of some tensors. Nothing is allocated from sizes
        that the header claims.
    """
    view = memoryview(data)
    if len(view) < 8:
        raise TensorFormatError("shorter than the header's length field")
    length = int.from_bytes(view[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > len(view):
        raise TensorFormatError(f"the header claims {length} bytes")
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, dtype, shape, offset, size in _places(bytes(view[: 8 + length]), len(view) - 8 - length, further):
        start = 8 + length + offset
        array = np.frombuffer(view[start : start + size], dtype=dtype).reshape(shape)
        array.flags.writeable = False
        if dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
            raise TensorFormatError(f"tensor {name!r} holds a truth value that is neither 0 nor 1")
        tensors[name] = array
    return tensors


_Place = tuple[str, np.dtype[np.generic], tuple[int, ...], int, int]
"""A tensor's name, type, shape, offset and size in bytes."""


@lru_cache(maxsize=HEADERS_CACHED)
def _places(start: bytes, size: int, further: bool) -> tuple[_Place, ...]:
    """Return where tensors are in so many bytes that follow a header; updates of one model have one in common.

    Raises
    ------
    TensorFormatError
        If the header is not the canonical one of tensors that take so many bytes.
    """
    try:
        header = canonical.parse(start[8:].decode("ascii"))
    except ValueError as error:
        raise TensorFormatError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise TensorFormatError("the header is not an object")
    places: list[_Place] = []
    offset = 0
    for name, entry in header.items():
        if not strict.is_text(name):
            raise TensorFormatError("a tensor's name is no text")
        dtype, shape = _dtype_and_shape(name, entry, _ALL if further else DTYPES)
        length = prod(shape) * dtype.itemsize
        if offset + length > size:
            raise TensorFormatError(f"tensor {name!r} ends after the file")
        places.append((name, dtype, shape, offset, length))
        offset += length
    if offset != size:
        raise TensorFormatError(f"{size - offset} bytes follow the last tensor")
    if list(header) != sorted(header) or _header_bytes(tuple(places)) != start:
        raise TensorFormatError("the header is not in canonical form")
    return tuple(places)


@lru_cache(maxsize=HEADERS_CACHED)
def _header_bytes(places: tuple[_Place, ...]) -> bytes:
    header = {
        name: {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        for name, dtype, shape, offset, size in places
    }
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _dtype_and_shape(
    name: str, entry: object, allowed: Mapping[str, np.dtype[np.generic]]
) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    if name == _RESERVED:
        raise TensorFormatError("metadata are not allowed")
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str) or entry["dtype"] not in allowed:
        raise TensorFormatError(f"tensor {name!r} has no dtype that is allowed")
    shape = entry.get("shape")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise TensorFormatError(f"tensor {name!r} has no shape")
    if not all(type(extent) is int and 0 <= extent < 2**40 for extent in shape):
        raise TensorFormatError(f"tensor {name!r} has an impossible shape")
    # NumPy refuses such shapes even where another axis is empty.
    if prod(extent or 1 for extent in shape) >= 2**48:
        raise TensorFormatError(f"tensor {name!r} has an impossible shape")
    return allowed[entry["dtype"]], tuple(shape)
