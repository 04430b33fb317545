"""Mutants of valid documents and bytes: what a stranger might send in their place."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = (
    *(0, -1, 1, 2, 64, 65, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53 - 1, 2**53, 2**63, 2**64),
    *(-(2**63), 10**40, 10**400, 0.5, -0.0, 1.0, 1e30, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
)
TEXTS = (
    *("", " ", "\n", "0", "007", "1_0", "+1", "-0", "٣", "²", "１", "0x", "0X1", "NaN", "null", "true", "x" * 100_000),
    *("\ud800", "\udfff", "\u202e", "\ufeff", "\x00", "\x1b[2J", "../../etc/x", "=1+1", "<b>", "é", "e\u0301", "ﬀ"),
)
SPELLINGS = (
    str.upper,
    str.title,
    str.swapcase,
    *(lambda text: text + "\n", lambda text: " " + text, lambda text: text + " ", lambda text: "\ufeff" + text),
    *(lambda text: text[:2] + " " + text[2:], lambda text: text[:2] + "_" + text[2:], lambda text: text[1:]),
    *(lambda text: "0" + text, lambda text: "0x" + text, lambda text: text[:-1], lambda text: text + "="),
    *(lambda text: "  " + text[2:], lambda text: text[:-2] + "\t\n", lambda text: text[:-1] + "٣"),
    *(lambda text: text.replace("0", "o"), lambda text: text.replace("a", "а"), lambda text: text[::-1]),
)
FLOATS = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0, 1e-45, 3.4e38, 64.0, 64.00001, 2.0**38], np.float32)
SIZES = (0, 1, 7, 8, 255, 2**16, 2**20, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)

Mutate = Callable[[bytes, random.Random], bytes]


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes that were cut, lengthened, overwritten, moved, or given other sizes or floats."""
    at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    match rng.randrange(9):
        case 0:
            return data[:at]
        case 1:
            return data + rng.randbytes(rng.choice((1, 8, 64)))
        case 2:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 3:
            return data[:at] + data[to:]
        case 4:
            return data[:to] + data[at:]
        case 5:
            return data[:at] + rng.randbytes(rng.randrange(9)) + data[at:]
        case 6:
            width = rng.choice((1, 2, 4, 8, 32))
            size = rng.choice(SIZES) % 256**width
            return data[:at] + size.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]
        case 7:
            # Floats lie at the end of a file, each at a multiple of four bytes from it.
            place = max(0, len(data) - 4 * rng.randrange(1, 9))
            return data[:place] + rng.choice(list(FLOATS)).tobytes() + data[place + 4 :]
        case _:
            return data.swapcase()


def of_json(data: bytes, rng: random.Random) -> bytes:
    """Return a JSON document with another value somewhere, or with the same one in another spelling."""
    match rng.randrange(4):
        case 0:
            return of_bytes(data, rng)
        case 1:
            return _respelt(data.decode(), rng)
        case _:
            return written(of_document(json.loads(data), rng))


def written(document: Any) -> bytes:
    """Return a document as canonical JSON writes it, as far as it can be; halves of surrogate pairs are escaped."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def of_document(document: Any, rng: random.Random) -> Any:
    """Return a document with another value in one or two places."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        document = _changed(document, rng)
    return document


def _changed(value: Any, rng: random.Random) -> Any:
    inner = isinstance(value, dict | list) and bool(value)
    if inner and rng.random() < 0.8:
        place = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[place] = _changed(value[place], rng)
        return copy
    if rng.random() < 0.3:
        return rng.choice((None, True, False, 1, "a", [], {}, [value], {"a": value}, rng.choice(NUMBERS), _deep(rng)))
    if isinstance(value, dict):
        return _table(value, rng)
    if isinstance(value, list):
        return rng.choice(
            (value + value[-1:], value[:-1], value[::-1], value * 50, [*value, None], dict.fromkeys("ab"))
        )
    if isinstance(value, str):
        return rng.choice((rng.choice(SPELLINGS)(value), rng.choice(TEXTS), value + rng.choice(TEXTS)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        near = value + 1, -value, value + 0.5 if abs(value) < 2**63 else value - 1
        return rng.choice((*near, str(value), bool(value), [value], rng.choice(NUMBERS)))
    return rng.choice(NUMBERS + TEXTS)


def _table(value: dict[str, Any], rng: random.Random) -> Any:
    copy = dict(value)
    if not copy or rng.random() < 0.2:
        copy[rng.choice((*TEXTS, "version", "extra"))] = rng.choice(NUMBERS)
        return copy
    key = rng.choice(list(copy))
    kept = copy.pop(key)
    if rng.random() < 0.6:
        copy[rng.choice((rng.choice(SPELLINGS)(key), rng.choice(TEXTS)))] = kept
    return copy


def _deep(rng: random.Random) -> Any:
    value: Any = 1
    for _ in range(rng.choice((10, 63, 64, 65, 300))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _respelt(text: str, rng: random.Random) -> bytes:
    """Return the text of a document in another spelling; most say the same."""
    numbers = list(re.finditer(r"(?<=[:,\[])-?\d+(?=[,}\]])", text))
    match rng.randrange(8):
        case 0 if numbers:
            found = rng.choice(numbers)
            digits = found[0]
            same = f"{digits}.0", f"{digits}e0", f"{digits}E+0", f"0{digits}", f"+{digits}", f" {digits}", f'"{digits}"'
            other = rng.choice((*same, "-0", "NaN", "Infinity", "1e999", digits + "0" * 5000))
            return (text[: found.start()] + other + text[found.end() :]).encode()
        case 1:
            place = rng.choice([i for i, c in enumerate(text) if c in "{}[]:,"] or [0])
            return (text[:place] + rng.choice((" ", "\n", "\t", "\r", "\u00a0", ",")) + text[place:]).encode()
        case 2:
            return b"\xef\xbb\xbf" + text.encode()
        case 3:
            return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32-le")))
        case 4:
            # The same key twice.
            return re.sub(r'("[a-z_]+":(?:\d+|"[^"]*")),', r"\1,\1,", text, count=rng.randrange(1, 4)).encode()
        case 5:
            place = rng.randrange(len(text))
            character = text[place]
            escaped = f"\\u{ord(character) & 0xFFFF:04x}" if character.isalnum() else character
            return (text[:place] + escaped + text[place + 1 :]).encode()
        case 6:
            return (text + rng.choice(("\n", " ", text, "null", "\x00"))).encode()
        case _:
            return b"[" * rng.choice((65, 1_000, 100_000)) + text.encode()


def of_tensors(data: bytes, rng: random.Random) -> bytes:
    """Return a file of tensors with another header of the right length, or other bytes."""
    if rng.random() < 0.5:
        return of_bytes(data, rng)
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    changed = _tensors_header(header, rng) if rng.random() < 0.7 else _respelt(header.decode().rstrip(), rng)
    changed += b" " * (-len(changed) % 8)
    return len(changed).to_bytes(8, "little") + changed + body


def _tensors_header(header: bytes, rng: random.Random) -> bytes:
    document = json.loads(header)
    entry = document[rng.choice(list(document))]
    match rng.randrange(5):
        case 0:
            entry["shape"] = rng.choice(([], [2**40, 0], [2**24, 2**24], [1] * 9, [-1], [1, *entry["shape"]]))
        case 1:
            entry["dtype"] = rng.choice(("F64", "F32", "I64", "U8", "BOOL", "f32", " F32"))
        case 2:
            entry["data_offsets"] = rng.choice(([0, 2**60], entry["data_offsets"][::-1], [0, 0], [0.0, 8]))
        case _:
            document = of_document(document, rng)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=rng.random() < 0.9).encode("utf-8", "replace")


def of_text(data: bytes, rng: random.Random) -> bytes:
    """Return a text in another spelling, or another text."""
    text = data.decode()
    other = rng.choice(
        (rng.choice(SPELLINGS)(text), rng.choice(TEXTS), text + rng.choice(TEXTS), rng.choice(TEXTS) + text)
    )
    place = rng.randrange(len(text) + 1)
    other = rng.choice((other, text[:place] + rng.choice("0123456789abzZ1lIO_ \n") + text[place + 1 :]))
    return other.encode("utf-8", "surrogatepass")
