"""Looks for the rows of owners' tables where they do not belong, in whatever form they may have been written."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fedledger.learning.schemas.tables import Reading, fit_tables
from fedledger.learning.sources.tables import read_tables
from fedledger.protocol.records.data_schema import TableSchema

CELLS = 8
"""The first cells of a row, by which it is known; fewer may be several rows' own."""
MISSING = "?"
WORD = 8
HEXADECIMAL = re.compile(rb"(?:[0-9a-f]{2}){16,}|(?:[0-9A-F]{2}){16,}")


def row_forms(table: Path, schema: TableSchema | None = None) -> set[bytes]:
    """Return the bytes that would betray a table's rows.

    Their cells as text and as numbers, and, with the schema of a task, the inputs that a node makes of them: each as
    text, as 32-bit and as 64-bit floats.
    """
    with table.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    forms = {",".join(row[:CELLS]).encode() for row in rows}
    forms |= _number_forms(row[:CELLS] for row in rows if MISSING not in row[:CELLS])
    if schema is not None:
        inputs = fit_tables(schema, read_tables(table, ","), Reading({MISSING})).required().inputs
        forms |= _number_forms(row[:CELLS] for row in np.asarray(inputs).tolist())
    return forms


def _number_forms(rows: Iterable[Sequence[str | float]]) -> set[bytes]:
    forms = set()
    for row in rows:
        numbers = np.array(row, np.float64)
        forms |= {numbers.tobytes(), numbers.astype(np.float32).tobytes()}
        forms |= {mark.join(map(repr, numbers.tolist())).encode() for mark in (",", ", ")}
    return forms


class RowSearch:
    """Searches bytes for any of many forms at once.

    Parameters
    ----------
    forms
        Of at least eight bytes each.
    """

    def __init__(self, forms: set[bytes]) -> None:
        self._forms: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for form in forms:
            # The part of a form that few others have: no zeros, which are everywhere.
            place = max(range(len(form) - WORD + 1), key=lambda at: len(set(form[at : at + WORD])))
            self._forms[int.from_bytes(form[place : place + WORD], "little")].append((place, form))
        self._words = np.array(sorted(self._forms), np.uint64)
        self._ends = np.zeros(1 << 16, np.bool_)
        self._ends[[word & 0xFFFF for word in self._forms]] = True

    def is_in(self, content: bytes) -> bool:
        """Return whether a form is in some content, as it is or in hexadecimal digits."""
        runs = b"".join(bytes.fromhex(run.decode()) for run in HEXADECIMAL.findall(content))
        return self._is_in(content) or self._is_in(runs)

    def _is_in(self, content: bytes) -> bool:
        for shift in range(min(WORD, max(0, len(content) - WORD + 1))):
            words = np.frombuffer(content, "<u8", (len(content) - shift) // WORD, shift)
            # Few words end like one that is looked for, which is quick to see.
            alike = np.flatnonzero(self._ends[words & 0xFFFF])
            for index in alike[np.isin(words[alike], self._words)].tolist():
                at = shift + WORD * index
                for place, form in self._forms[int(words[index])]:
                    if at >= place and content.startswith(form, at - place):
                        return True
        return False


def files_with(forms: set[bytes], files: Iterable[Path]) -> list[Path]:
    """Return the files that have one of the forms."""
    search = RowSearch(forms)
    return [path for path in files if path.is_file() and search.is_in(path.read_bytes())]


def outside(files: Iterable[Path], folder: Path) -> list[Path]:
    """Return the files that are not in a folder."""
    return [path for path in sorted(files) if not path.is_relative_to(folder)]


def rows_elsewhere(folder: Path, owner: Path) -> list[Path]:
    """Return the files in a folder, but outside of an owner's own, that hold a row of its table."""
    return files_with(row_forms(owner / "own.csv"), outside(folder.rglob("*"), owner))
