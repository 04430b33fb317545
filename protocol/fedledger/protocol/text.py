"""Text of strangers: how it is shown, how it names a file, and how it stands in a cell of a spreadsheet."""

from __future__ import annotations

import hashlib
import re
import unicodedata

SHOWN_AT_MOST = 2_000
"""Characters of a text of unknown origin that are worth showing."""
NAME_BYTES = 100
"""Most bytes of a file's name that a text makes, so that there is room for what is put before and after it."""
DIGEST_LETTERS = 12
FORMULA = frozenset("=+-@＝＋－＠")
"""What a cell begins with that spreadsheets compute."""
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Categories of characters that control a terminal or the direction of text, break lines, or are not seen."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that are not seen, though Unicode calls them neither space nor format."""
_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_IN_NAMES = frozenset(" ._@=+,()-")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
"""Names that are devices on some systems, whatever follows the dot."""


def shown(text: object, limit: int = SHOWN_AT_MOST, lines: bool = False) -> str:
    """Return a text as it may be shown: what would not be seen, or do something, stands as its escape.

    Parameters
    ----------
    text
        Anything; its ``str`` is shown.
    limit
        Most characters of the text that are shown.
    lines
        Whether line breaks and tabs stay what they are: those of one's own text.
    """
    told = str(text)
    cut = f"{told[:limit]}…" if len(told) > limit else told
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(letter if _is_seen(letter) or (lines and letter in "\n\t") else _escape(letter) for letter in cut)


def file_name(text: str, limit: int = NAME_BYTES) -> str:
    """Return a name for a file or folder that stays where it is put, on any system.

    Plain texts name themselves. Of any other what is plain stays, and a digest of all of it tells it from the rest.
    """
    if _is_name(text) and len(text.encode()) <= limit:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST_LETTERS]
    plain = "".join(letter if letter.isascii() and letter != "." and _is_in_names(letter) else "_" for letter in text)
    plain = re.sub("_+", "_", plain).strip("_- ")[: limit - DIGEST_LETTERS - 1]
    return f"{plain}-{digest}" if plain else digest


def cell(value: object) -> object:
    """Return a value as a cell of a table that spreadsheets open: none of them computes a text."""
    if not isinstance(value, str):
        return value
    text = shown(value, limit=len(value))
    return f"'{text}" if text[:1] in FORMULA and not _is_number(text) else text


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in _HIDDEN and letter not in _BLANK and not _VARIATION.match(letter)


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_name(text: str) -> bool:
    plain = all(map(_is_in_names, text)) and unicodedata.is_normalized("NFC", text)
    return plain and bool(text) and text[0] not in " .-" and text[-1] not in " ." and not _RESERVED.fullmatch(text)


def _is_in_names(letter: str) -> bool:
    return letter.isalnum() or letter in _IN_NAMES


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", text, re.ASCII) is not None
