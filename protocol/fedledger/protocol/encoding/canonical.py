"""Canonical JSON (RFC 8785): equal documents have equal bytes, so they have equal content ids."""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

from fedledger.protocol.errors import ConfigError

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
_MAX_WHOLE = 2**53 - 1
_PLAINLY = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def encode(document: Any) -> bytes:
    """Return the canonical bytes of a JSON document.

    Raises
    ------
    ConfigError
        If the document holds something JSON cannot: NaN, an infinity, an integer beyond 2^53, a lone surrogate.
    """
    try:
        return _canonical(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ConfigError(f"The document has no canonical form: {error}.") from error


def decode(data: bytes, limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """Return the document of canonical bytes.

    Raises
    ------
    ValueError
        If the bytes are longer than ``limit``, are not JSON, or are not in canonical form.
    """
    if len(data) > limit:
        raise ValueError(f"the document has {len(data)} bytes, the limit is {limit}")
    try:
        document = parse(data.decode("utf-8"))
        canonical = _canonical(document)
    except (UnicodeDecodeError, rfc8785.CanonicalizationError) as error:
        raise ValueError(f"not canonical JSON: {error}") from error
    if canonical != data:
        raise ValueError("not canonical JSON: the same document has other canonical bytes")
    return document


def parse(text: str) -> Any:
    """Return the value of a stranger's JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, or is nested deeper than ``MAX_DEPTH``.
    """
    require_shallow(text)
    return json.loads(text, parse_constant=_refuse_constant)


def require_shallow(text: str) -> None:
    """Raise ValueError if a JSON text is nested deeper than ``MAX_DEPTH``."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    # Python's parser recurses, and where a library has raised the recursion limit a deep text overflows the stack.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    depth = 0
    for bracket in re.finditer(r"[][{}]", outside):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _canonical(document: Any) -> bytes:
    return _PLAINLY(document).encode() if _is_plain(document) else rfc8785.dumps(document)


def _is_plain(value: Any) -> bool:
    """Return whether the standard library writes a value as RFC 8785 does: but for fractions, and odd keys, it does."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_MAX_WHOLE <= value <= _MAX_WHOLE)
    if kind is dict:
        # The standard orders keys by UTF-16 units.
        return all(type(key) is str and key.isascii() for key in value) and all(map(_is_plain, value.values()))
    return (kind is list or kind is tuple) and all(map(_is_plain, value))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
