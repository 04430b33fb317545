"""Readers of what another party wrote, each of which accepts one spelling of a value.

The standard library reads more than it writes: ``bytes.fromhex`` skips white space, ``int`` takes ``" 7"``, ``"1_0"``
and ``"٣"``, and ``True`` is a whole number. Of two programs that read such a text in two ways one is tricked.
"""

from __future__ import annotations

import re

MAX_SHOWN = 40
"""How much of a value a message repeats."""
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})*")
_DIGITS = re.compile(r"0|[1-9][0-9]*")
_ANSWER = re.compile(r"0x[0-9a-fA-F]*")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class SpellingError(ValueError):
    """A value that is not there, is of another type, is out of bounds or is spelt in another way."""


def hexadecimal(value: object, length: int | None = None) -> bytes:
    """Return the bytes of a text in lower-case hexadecimal.

    Parameters
    ----------
    value
        What should be such a text.
    length
        Number of bytes; any unless given.

    Raises
    ------
    SpellingError
        If it is anything else.
    """
    fits = isinstance(value, str) and (length is None or len(value) == 2 * length)
    if not fits or not _HEXADECIMAL.fullmatch(str(value)):
        raise SpellingError(f"{shown(value)} is not {'' if length is None else f'{length} '}bytes in hexadecimal")
    return bytes.fromhex(str(value))


def prefixed(value: object, length: int | None = None) -> bytes:
    """Return the bytes of ``0x`` and lower-case hexadecimal; see :func:`hexadecimal`."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise SpellingError(f"{shown(value)} does not begin with 0x")
    return hexadecimal(value[2:], length)


def whole(value: object, minimum: int, maximum: int) -> int:
    """Return a whole number within bounds; raises SpellingError for anything else, such as True, 1.0 and "1"."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise SpellingError(f"{shown(value)} is no whole number from {minimum} to {maximum}")
    return value


def decimal(value: object, maximum: int) -> int:
    """Return the whole number from 0 to ``maximum`` that a text of decimal digits stands for.

    Raises
    ------
    SpellingError
        For anything else: a sign, white space, zeros in front, digits of other scripts, or a larger number.
    """
    # So many digits at most are read, however long the text is.
    if isinstance(value, str) and len(value) <= len(str(maximum)) and _DIGITS.fullmatch(value):
        number = int(value)
        if number <= maximum:
            return number
    raise SpellingError(f"{shown(value)} is no whole number from 0 to {maximum} in decimal digits")


def hexadecimal_number(value: object, maximum: int) -> int:
    """Return the number from 0 to ``maximum`` that ``0x`` and hexadecimal digits stand for.

    Zeros in front and capitals are allowed: chains' nodes differ in them.

    Raises
    ------
    SpellingError
        For anything else.
    """
    if isinstance(value, str) and len(value) > 2 and _ANSWER.fullmatch(value):
        digits = value[2:].lstrip("0") or "0"
        if len(digits) <= maximum.bit_length() and (number := int(digits, 16)) <= maximum:
            return number
    raise SpellingError(f"{shown(value)} is no number up to {maximum:#x} in hexadecimal")


def hexadecimal_data(value: object) -> bytes:
    """Return the bytes that ``0x`` and hexadecimal digits of either case stand for, half a byte filled up in front.

    Raises
    ------
    SpellingError
        For anything else.
    """
    if not isinstance(value, str) or not _ANSWER.fullmatch(value):
        raise SpellingError(f"{shown(value)} is not 0x and hexadecimal digits")
    return bytes.fromhex("0" * (len(value) % 2) + value[2:])


def is_address(value: object) -> bool:
    """Return whether a value is a text of ``0x`` and 40 hexadecimal digits, of whatever case."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def is_text(value: str) -> bool:
    """Return whether a text is one in Unicode: it has no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def shown(value: object) -> str:
    """Return a value as a message repeats it: not as long as a stranger likes."""
    # A list or number is not written out: that might take longer than reading it.
    text = ascii(value[:MAX_SHOWN]) if isinstance(value, str | bytes) else f"a {type(value).__name__}"
    return text + "…" if isinstance(value, str | bytes) and len(value) > MAX_SHOWN else text
