"""Mutants of documents and files: what a stranger may make of something that a program reads.

Each is drawn from a generator with a stated seed, so that a finding can be had again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

LONG = "x" * 10_000
DEEP: Any = 0
for _ in range(400):
    DEEP = [DEEP]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.5, -0.0, 1e-320, 1e30, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "-1", "0x", "0x" + "00" * 20, "nan", "1e400", "../../outside", "/nowhere/outside", "a\nb", "a\0b"),
    *("\x1b[31mred", "\u202egnp.exe", "<script>1</script>", "=1+1", "\ud800", "٣", "mean@1", "mlp@99", LONG),
    *([], {}, [[]], [None], {"": 0}, {"method": "mean@1"}, DEEP, [0] * 10_000),
)
"""Values that stand where others are expected."""

Path_ = tuple[Any, ...]


def places(document: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield where the values of a document are, its outermost left out."""
    entries: Any = ()
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list):
        entries = enumerate(document)
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(document: Any, path: Path_) -> Any:
    """Return the value at a place."""
    for key in path:
        document = document[key]
    return document


def mutated(document: Any, rng: Random, odd: tuple[Any, ...] = ODD) -> Any:
    """Return a copy of a document with one to three changes."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = list(places(document))
        if not found:
            return rng.choice(odd)
        *outer, key = rng.choice(found)
        _change(at(document, tuple(outer)), key, at(document, rng.choice(found)), rng, odd)
    return document


def _change(holder: Any, key: Any, other: Any, rng: Random, odd: tuple[Any, ...]) -> None:
    value, how = holder[key], rng.randrange(10)
    # How 7, 8 and 9: a value of the same kind, which gets further than another.
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "unknown", f"{key} ", str(key).upper()))] = holder.pop(key)
    elif how == 2:
        holder[key] = copy.deepcopy(other)
    elif how == 3 and isinstance(value, list) and value:
        value.append(copy.deepcopy(rng.choice(value)))
    elif how in (4, 5):
        holder[key] = nearby(value, rng)
    else:
        like = [each for each in odd if type(each) is type(value)] if how > 5 else []
        holder[key] = copy.deepcopy(rng.choice(like or odd))


def nearby(value: Any, rng: Random) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 1000, value << 40, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e6, value * 1e-9, round(value, 1), str(value)))
    if isinstance(value, str):
        at_ = rng.randrange(len(value) + 1)
        return rng.choice(
            (
                value[:at_],
                f" {value}",
                f"{value}\n",
                value.upper(),
                value.swapcase(),
                f"{value[:at_]}{rng.choice('z0 -_é٣')}{value[at_ + 1 :]}",
                value * 2,
                f"0x{value}",
            )
        )
    return [value]


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Return other bytes."""
    how, where = rng.randrange(9), rng.randrange(len(data) + 1)
    if how == 0:
        return data[:where]
    if how == 1:
        return data[:where] + rng.randbytes(rng.choice((1, 7, 300))) + data[where:]
    if how == 2:
        return data[:where] + bytes(min(64, len(data) - where)) + data[where + 64 :]
    if how == 3:
        return b""
    if how == 4:
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b" ", b"\0")) + data
    if how == 5:
        return data + rng.choice((b"\n", b"\0", b"{}", data))
    if how == 6:
        return rng.choice((b"null", b"[]", b"{}", b'""', b"0", b"NaN", b"[" * 100_000, b"{" * 10, rng.randbytes(100)))
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 4, 32))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def as_json(document: Any) -> bytes:
    """Write JSON as other programs may: with NaN, and with half a character."""
    return json.dumps(document).encode()


def as_toml(document: dict[str, Any]) -> bytes:
    """Write a document as TOML, every table inline."""
    lines = [f"{_quoted(key)} = {_toml(value)}\n" for key, value in document.items()]
    return "".join(lines).encode("utf-8", "surrogatepass")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '""'
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """Quote a text; TOML knows JSON's escapes, but no halves of characters."""
    return "".join(c if c >= "\ud800" else json.dumps(c)[1:-1] for c in f"\0{text}").replace("\\u0000", '"', 1) + '"'


def mutate_json_file(path: Path, rng: Random) -> None:
    """Change a JSON document, or its bytes."""
    data = path.read_bytes()
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    path.write_bytes(as_json(mutated(document, rng)) if rng.random() < 0.8 else mutated_bytes(data, rng))


def mutate_lines(path: Path, rng: Random, seal: Callable[[list[bytes]], list[bytes]] = list) -> None:
    """Change one line of a file of JSON documents, or the order of its lines; ``seal`` makes it whole again."""
    lines = path.read_bytes().splitlines(keepends=True)
    where, how = rng.randrange(len(lines)), rng.randrange(10)
    if how == 0:
        lines.insert(rng.randrange(len(lines)), lines[where])
    elif how == 1:
        del lines[where]
    elif how == 2:
        lines[where] = mutated_bytes(lines[where], rng)
    else:
        with suppress(ValueError):
            lines[where] = as_json(mutated(json.loads(lines[where]), rng)) + b"\n"
    path.write_bytes(b"".join(seal(lines)))


def mutate_file(path: Path, rng: Random) -> None:
    """Change a file as a whole: its bytes, or what it is."""
    how = rng.randrange(12)
    if how == 0:
        path.unlink()
    elif how == 1:
        path.unlink()
        path.mkdir()
    elif how == 2:
        path.unlink()
        path.symlink_to(path.name)
    elif how == 3:
        with path.open("r+b") as file:
            file.truncate(2**36)
    else:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
