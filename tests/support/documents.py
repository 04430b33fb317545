"""The documents: their generated tables and their blocks of code. Run as a program it writes the tables anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.description import markdown

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TABLE = re.compile(r"(<!-- fedledger methods (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code in a document."""

    file: Path
    line: int
    language: str
    code: str


def with_tables(text: str) -> str:
    """Return a document with its tables of methods as they are now."""
    return _TABLE.sub(lambda found: found[1] + markdown(kinds()[found[2]]) + found[3], text)


def blocks(language: str) -> Iterator[Block]:
    """Yield the documents' blocks of a language."""
    for file in DOCUMENTS:
        text = file.read_text()
        for found in _BLOCK.finditer(text):
            if found[1] == language:
                yield Block(file, text.count("\n", 0, found.start()) + 1, language, found[2])


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))
