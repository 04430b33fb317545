"""Tables that benchmarks write into documents in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedledger.protocol.errors import ConfigError
from fedledger.storage.foreign_files import read_text


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table of rows with the same columns, each line ended; there is at least one row."""
    lines = [_line(list(rows[0])), _line(["---"] * len(rows[0])), *(_line(list(each.values())) for each in rows)]
    return "".join(f"{line}\n" for line in lines)


def marked_document(path: Path, command: str) -> str:
    """Return the text of a document that has a command's marks.

    Raises
    ------
    ConfigError
        If it cannot be read, or has no such marks.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.", "Give --document a file.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not text in UTF-8.", "Give --document a file in Markdown.") from error
    between_marks(text, command, "")
    return text


def between_marks(document: str, command: str, text: str) -> str:
    """Return a document whose text between a command's marks is another one.

    Raises
    ------
    ConfigError
        If it has no such marks.
    """
    place = re.compile(rf"(<!-- {re.escape(command)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(document):
        raise ConfigError(
            "The document has no place for the table.", f"Put <!-- {command} --> and <!-- end --> into it."
        )
    return place.sub(lambda found: found[1] + text + found[2], document)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
