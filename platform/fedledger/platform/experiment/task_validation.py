"""The publisher's validation examples: its own, and those that participants offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.schemas.fit import require_few_numbers
from fedledger.learning.schemas.offered import read_offered
from fedledger.learning.schemas.statistics import middle_row
from fedledger.node.own_data import OwnData, fit_own_data
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import DataSchema, StatisticsSchema, TableSchema
from fedledger.protocol.records.vocabulary import Vocabulary

MAX_OFFERS = 256
"""Tables of offered rows that one validation set takes."""


@dataclass(frozen=True)
class ValidationSource:
    """Where some validation examples come from.

    Parameters
    ----------
    name
        The file, or what else it is.
    classes
        How many examples of each class it adds, by the class's number; empty where targets are no classes.
    examples
        How many examples it adds.
    repeated
        How many more it has, which are in the set already.
    common
        How many of all rows that it offers have the same inputs as another row that somebody gives.
    """

    name: str
    classes: Mapping[str, int]
    examples: int
    repeated: int
    common: int = 0

    def line(self) -> str:
        """Return it in a sentence."""
        repeated = f"; {self.repeated:,} more were there already" if self.repeated else ""
        rows = self.examples + self.repeated
        told = ""
        if self.common * 2 > rows:
            told = (
                f" {self.common:,} of its {rows:,} rows have the same inputs as others: participants have many such "
                "rows, and updates that are measured on them say little. Leave it out unless the table has few columns."
            )
        return f"{self.name}: {self.examples:,} examples{told_classes(self.classes)}{repeated}.{told}"

    def document(self) -> dict[str, object]:
        """Return it as a document."""
        counts = {"examples": self.examples, "repeated": self.repeated, "common": self.common}
        return {"name": self.name, "classes": self.classes, **counts}


def validation_examples(
    own: OwnData | None,
    offered: Sequence[str],
    folder: Path,
    schema: DataSchema | None,
    vocabulary: Vocabulary | None = None,
) -> tuple[Dataset, list[ValidationSource]]:
    """Read all validation examples; of those that are equal in two files, or twice in an offered one, one counts.

    A task of statistics needs none: its models are measured on one row that nobody has.

    Parameters
    ----------
    own, offered
        The publisher's own, and the tables that participants offer.
    folder
        Paths are relative to it.
    schema
        The task's data schema, if it has one.
    vocabulary
        The one that it names, if it does.

    Returns
    -------
    tuple
        The examples, and where they come from, in their order.

    Raises
    ------
    ConfigError
        If a file does not fit the schema, offers nothing new, or cannot be read; it is named.
    """
    parts: list[Dataset] = []
    sources: list[ValidationSource] = []
    seen: set[bytes] = set()
    inputs: list[list[bytes]] = []
    if own is not None:
        examples = fit_own_data(own, folder, schema, vocabulary).required()
        parts.append(examples)
        sources.append(_source(own.table or own.text or own.script or "the publisher's own", examples, 0))
        seen.update(example_keys(examples.inputs, examples.targets) if offered else ())
        inputs.append(_input_keys(examples) if offered else [])
    for name in offered:
        if not isinstance(schema, TableSchema):
            raise ConfigError(
                f"{name} is a table of offered rows, and the task has no data schema of tables.",
                "Describe the columns under [data_schema].",
            )
        given = read_offered(folder / name, schema)
        require_few_numbers(len(given) + sum(map(len, parts)), schema.width)
        new = _new_places(given, seen)
        if not len(new):
            raise ConfigError(f"All rows that {name} offers are in the validation set already.", "Leave it out.")
        parts.append(given.take(new))
        inputs.append(_input_keys(given))
        sources.append(_source(name, parts[-1], len(given) - len(new)))
    sources = _with_common(sources, inputs, 0 if own is None else 1)
    if not parts and isinstance(schema, StatisticsSchema):
        parts.append(middle_row(schema))
        sources.append(_source("one row in the middle of the bounds, which nobody has", parts[0], 0))
    if not parts:
        raise ConfigError(
            "The task has no validation examples.",
            'Give data or offered under [validation], such as offered = ["A.csv"].',
        )
    return _joined(parts), sources


def class_counts(targets: NDArray[Any]) -> dict[str, int]:
    """Return how many of some targets are of each class, by its number; nothing where they are no classes."""
    if targets.ndim != 1 or targets.dtype != np.int64:
        return {}
    names, counts = np.unique(targets, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def told_classes(counts: Mapping[str, int]) -> str:
    """Return the counts of classes as the end of a sentence."""
    return ": " + ", ".join(f"{count:,} of class {name}" for name, count in counts.items()) if counts else ""


def _new_places(given: Dataset, seen: set[bytes]) -> NDArray[np.int64]:
    """Return where examples are that were not seen, and count them as seen."""
    new = []
    for place, key in enumerate(example_keys(given.inputs, given.targets)):
        if key not in seen:
            seen.add(key)
            new.append(place)
    return np.array(new, np.int64)


def _with_common(
    sources: Sequence[ValidationSource], inputs: Sequence[Sequence[bytes]], own: int
) -> list[ValidationSource]:
    """Return sources with the number of their common rows, from the keys of all inputs; own ones come first."""
    counts = Counter(key for keys in inputs for key in keys)
    common = [sum(counts[key] > 1 for key in keys) for keys in inputs]
    common[:own] = [0] * own
    return [replace(source, common=count) for source, count in zip(sources, common, strict=True)]


def _input_keys(examples: Dataset) -> list[bytes]:
    return list(example_keys(examples.inputs, np.zeros((len(examples), 0), np.int64)))


def _source(name: str, examples: Dataset, repeated: int) -> ValidationSource:
    return ValidationSource(name, class_counts(examples.targets), len(examples), repeated)


def _joined(parts: Sequence[Dataset]) -> Dataset:
    if len(parts) == 1:
        return parts[0]
    inputs, targets = (np.concatenate(each) for each in zip(*((p.inputs, p.targets) for p in parts), strict=True))
    return Dataset(inputs, targets, parts[0].classes)
