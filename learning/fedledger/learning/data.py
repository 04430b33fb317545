"""Data sets: what a model learns from, and how it is loaded and split."""

from __future__ import annotations

import csv
import gzip
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, real, whole
from fedledger.protocol.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Attributes
    ----------
    inputs
        float32[n, ...], finite.
    labels
        int64[n], each in [0, classes).
    classes
        Number of classes, at least 2.
    groups
        The natural key of each example (hospital, speaker, …), or None.

    Raises
    ------
    ConfigError
        If any of this does not hold.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.float32 or self.inputs.ndim < 2:
            raise _invalid(f"inputs are {self.inputs.dtype}{list(self.inputs.shape)}, not float32[n, ...]")
        if self.labels.dtype != np.int64 or self.labels.shape != self.inputs.shape[:1]:
            raise _invalid(f"labels are {self.labels.dtype}{list(self.labels.shape)}, not int64[{len(self)}]")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise _invalid(f"groups have shape {list(self.groups.shape)}, not [{len(self)}]")
        whole("classes", self.classes, 2)
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise _invalid(f"a label is outside [0, {self.classes})")
        if not np.isfinite(self.inputs).all():
            raise _invalid("an input is NaN or infinite")

    @classmethod
    def of(
        cls, inputs: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, classes: int | None = None
    ) -> Dataset:
        """Return a data set from anything that numpy can convert, counting the classes where not told."""
        try:
            converted = np.ascontiguousarray(np.asarray(inputs), np.float32)
            given = np.asarray(labels)
            whole_labels = np.ascontiguousarray(given, np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise _invalid(str(error)) from error
        if not np.array_equal(given, whole_labels):
            raise _invalid("labels are not whole numbers")
        if classes is None:
            classes = max(2, int(whole_labels.max(initial=0)) + 1)
        keys = None if groups is None else np.asarray(groups)
        return cls(converted, whole_labels, classes, keys)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getstate__(self) -> dict[str, Any]:
        # Other processes make their own tensors, and need not see the rest of a whole.
        return {name: value for name, value in vars(self).items() if name not in ("tensors", "place")}

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels as tensors that share their memory."""
        import torch

        return torch.from_numpy(self.inputs), torch.from_numpy(self.labels)

    @cached_property
    def place(self) -> tuple[Dataset, int]:
        """The data set of which this is a stretch, and where that starts; itself and 0 if it is none."""
        return self, 0

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the examples at ``indices``, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return Dataset(self.inputs[indices], self.labels[indices], self.classes, groups)

    def stretch(self, start: int, stop: int) -> Dataset:
        """Return the examples from ``start`` to ``stop`` as a view."""
        part = object.__new__(Dataset)
        groups = None if self.groups is None else self.groups[start:stop]
        fields = {"inputs": self.inputs[start:stop], "labels": self.labels[start:stop], "groups": groups}
        # Nothing is checked again: what holds for all examples holds for some.
        whole, before = self.place
        vars(part).update(fields, classes=self.classes, place=(whole, before + start))
        return part


class Parts(Sequence[Dataset]):
    """A data set dealt out: each part is a view of one stretch of it, made when it is asked for.

    Parameters
    ----------
    dataset
        What is dealt; it is copied once, part after part.
    indices
        The examples of each part.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[NDArray[np.int64]]) -> None:
        self._whole = dataset.take(np.concatenate(indices))
        self._ends = np.cumsum([0, *(len(part) for part in indices)]).tolist()

    @classmethod
    def stretches(cls, dataset: Dataset, ends: Sequence[int]) -> Parts:
        """Return the parts of a data set that lies in their order already, without a copy of it.

        Parameters
        ----------
        dataset
            What is dealt.
        ends
            Where each part ends; it starts where the one before it ended, the first at 0.

        Raises
        ------
        ConfigError
            If the ends decrease, or the last is not the data set's.
        """
        bounds = [0, *(int(end) for end in ends)]
        if bounds != sorted(bounds) or bounds[-1] != len(dataset):
            raise ConfigError(
                f"Parts that end at {list(ends)} are not {len(dataset)} examples.",
                "Give ends that do not decrease, the last of which is the data set's length.",
            )
        parts = object.__new__(cls)
        parts._whole, parts._ends = dataset, bounds
        return parts

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Dataset: ...

    @overload
    def __getitem__(self, index: slice) -> list[Dataset]: ...

    def __getitem__(self, index: int | slice) -> Dataset | list[Dataset]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = range(len(self))[index]
        return self._whole.stretch(self._ends[place], self._ends[place + 1])

    def size(self, index: int) -> int:
        """Return the number of examples of a part."""
        return int(self._ends[index + 1] - self._ends[index])

    def split(
        self, test_fraction: float, validation_fraction: float, rng: np.random.Generator
    ) -> tuple[Parts, Dataset, Dataset]:
        """Take validation and test sets from all parts together; see :func:`split`.

        Returns
        -------
        tuple
            The parts without them, the validation set and the test set.

        Raises
        ------
        ConfigError
            If a part would be left without an example, or the fractions do not suit.
        """
        whole = self._whole
        numbered = Dataset(whole.inputs, whole.labels, whole.classes, np.arange(len(whole)))
        divided = split(numbered, test_fraction, validation_fraction, rng)
        left, validation, test = (np.asarray(part.groups, np.int64) for part in divided)
        places = np.split(np.sort(left), np.searchsorted(np.sort(left), self._ends[1:-1]))
        if not all(len(part) for part in places):
            empty = next(number for number, part in enumerate(places) if not len(part))
            raise ConfigError(
                f"All examples of participant {empty} are held out.", "Choose smaller fractions, or give a test set."
            )
        return Parts(whole, places), whole.take(validation), whole.take(test)

    def label_counts(self) -> NDArray[np.int64]:
        """Return how many examples of each class each part has, int64[parts, classes]."""
        classes = self._whole.classes
        owners = np.repeat(np.arange(len(self)), np.diff(self._ends))
        counts = np.bincount(owners * classes + self._whole.labels, minlength=len(self) * classes)
        return counts.reshape(len(self), classes)


class Split(NamedTuple):
    """Three disjoint data sets."""

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True)
class Prepared:
    """Examples as a task brings them: perhaps divided already, perhaps with held-out ones.

    Parameters
    ----------
    train
        What participants learn from; with parts, each participant's.
    test, validation
        Held-out examples, or None where they are yet to be taken.
    """

    train: Dataset | Parts
    test: Dataset | None = None
    validation: Dataset | None = None

    def __post_init__(self) -> None:
        if isinstance(self.train, Parts):
            for number in range(len(self.train)):
                _require_examples(f"The part of participant {number}", self.train.size(number))
        for name, dataset in (("test", self.test), ("validation", self.validation)):
            _require_examples(f"The {name} set", 1 if dataset is None else len(dataset))


DATASETS: Registry[Callable[..., Dataset]] = Registry("data set", "fedledger.datasets")


def load_dataset(key: str, params: Mapping[str, Any]) -> Dataset:
    """Load a data set of a registered kind.

    Raises
    ------
    ConfigError
        If there is no such kind, if the parameters do not suit it, or if a file is missing or malformed.
    """
    return build(DATASETS, key, params)


def split(dataset: Dataset, test_fraction: float, validation_fraction: float, rng: np.random.Generator) -> Split:
    """Split a data set at random, keeping every class's share nearly the same in each part.

    Parameters
    ----------
    dataset
        What to split.
    test_fraction, validation_fraction
        Shares of the whole, each in [0, 1), together below 1.
    rng
        Decides everything that is random.

    Raises
    ------
    ConfigError
        If the fractions are out of range, or would leave a part that was asked for without an example.
    """
    fractions = (real("test_fraction", test_fraction), real("validation_fraction", validation_fraction))
    n = len(dataset)
    sizes = [round(fraction * n) for fraction in fractions]
    empty = any(fraction > 0 and size == 0 for fraction, size in zip(fractions, sizes, strict=True))
    if empty or sum(sizes) >= n:
        raise ConfigError(
            f"{n} examples cannot be split by the fractions {fractions[0]:g} (test) and {fractions[1]:g} (validation).",
            "Choose fractions that leave at least one example in each part.",
        )
    # Spreading each class evenly over [0, 1) makes every stretch of the order a stratified sample.
    position = np.empty(n)
    for label in np.unique(dataset.labels):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        position[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    order = np.argsort(position, kind="stable")
    test, validation, train = np.split(order, np.cumsum(sizes))
    return Split(*(dataset.take(rng.permutation(part)) for part in (train, validation, test)))


def hold_out(
    prepared: Prepared, test_fraction: float, validation_fraction: float, rng: np.random.Generator
) -> tuple[Dataset | Parts, Dataset, Dataset]:
    """Return what participants learn from, the validation set and the test set.

    What is missing of the last two is taken from the first, at random as in :func:`split`; but a validation set that is
    missing beside a test set is taken from that one. Parts keep their other examples, in their order.

    Parameters
    ----------
    prepared
        The examples.
    test_fraction, validation_fraction
        Shares of what they are taken from.
    rng
        Decides everything that is random.

    Raises
    ------
    ConfigError
        If the fractions do not suit, or a part would be left without an example.
    """
    train, test, validation = prepared.train, prepared.test, prepared.validation
    if test is not None:
        if validation is None:
            test, validation, _ = split(test, 0.0, validation_fraction, rng)
        return train, validation, test
    fractions = test_fraction, 0.0 if validation is not None else validation_fraction
    if isinstance(train, Dataset):
        divided: tuple[Dataset | Parts, Dataset, Dataset] = split(train, *fractions, rng)
    else:
        divided = train.split(*fractions, rng)
    return divided[0], divided[1] if validation is None else validation, divided[2]


@DATASETS.register("digits@1")
def digits() -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits: float32[n, 64] in [0, 1], ten classes."""
    # The file that sklearn.datasets.load_digits reads, whose import takes every process two seconds.
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(path), delimiter=",")
    return Dataset.of(table[:, :-1] / 16, table[:, -1], classes=10)


@DATASETS.register("breast_cancer@1")
def breast_cancer() -> Dataset:
    """Load scikit-learn's 569 breast tumours: float32[n, 30], standardised, two classes."""
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    return Dataset.of(_standardised(inputs), labels, classes=2)


@DATASETS.register("mnist_idx@1")
def mnist_idx(folder: str, images: str | None = None, labels: str | None = None, classes: int = 10) -> Dataset:
    """Load images and labels in MNIST's IDX format, gzipped or not: float32[n, 1, rows, columns] in [0, 1].

    Parameters
    ----------
    folder
        Where the files lie.
    images, labels
        Their names; by default the folder's only pair, or the one whose name starts with ``train``.
    classes
        Number of classes.

    Raises
    ------
    ConfigError
        If a file is missing, is not such a file, or does not match the other.
    """
    root = Path(folder)
    pixels = read_idx(_idx_file(root, images, "images"))
    targets = read_idx(_idx_file(root, labels, "labels"))
    if pixels.ndim != 3 or targets.shape != pixels.shape[:1]:
        raise ConfigError(
            f"{root}: images have shape {list(pixels.shape)}, labels {list(targets.shape)}.",
            "Name an images file [n, rows, columns] and its labels file [n].",
        )
    scaled = np.divide(pixels[:, None], np.float32(255), dtype=np.float32)
    return Dataset.of(scaled, targets, classes=classes)


@DATASETS.register("csv@1")
def csv_tables(
    path: str,
    label: str,
    threshold: float | None = None,
    group: str | None = None,
    missing: str = "?",
    delimiter: str = ",",
) -> Dataset:
    """Load numeric tables with a header: float32[n, columns], standardised over all tables together.

    A missing cell (empty, ``missing`` or ``nan``) takes its column's median; a column without any value is 0.

    Parameters
    ----------
    path
        One table, or a folder whose ``.csv`` and ``.data`` files are read in the order of their names.
    label
        The column to predict. Its distinct values are the classes, in their order, unless ``threshold`` is
        given.
    threshold
        Makes two classes: 1 where the label is above it, 0 elsewhere.
    group
        The column that holds each row's natural key; by default, in a folder, the file's name.
    missing
        What stands for a missing value.
    delimiter
        What separates cells.

    Raises
    ------
    ConfigError
        If a file or column is missing, or a cell is not a float32 number; the message names the place.
    """
    tables = [_read_table(file, delimiter) for file in _table_files(Path(path))]
    header = tables[0].header
    for table in tables:
        if table.header != header:
            raise ConfigError(f"{table.file} and {tables[0].file} have different headers.", "Make them equal.")
    for column in filter(None, (label, group)):
        if column not in header:
            raise ConfigError(f"{tables[0].file} has no column {column!r}.", f"There are: {', '.join(header)}.")
    features = [column for column in header if column not in {label, group}]
    if not features:
        raise ConfigError(f"{tables[0].file} has no column but label and group.", "Add inputs.")
    values = np.array([row for table in tables for row in table.numbers(features, missing)], np.float64)
    cells = [cell for table in tables for cell in table.column(label)]
    if not cells or any(_is_missing(cell, missing) for cell in cells):
        raise ConfigError(f"{path}: a label is missing.", f"Give every row a value of {label}.")
    if threshold is None:
        targets, classes = _classes(cells)
    else:
        limit = real("threshold", threshold, -math.inf)
        marks = [table.numbers([label], missing) for table in tables]
        targets, classes = np.array([mark > limit for rows in marks for (mark,) in rows], np.int64), 2
    keys = None
    if group is not None:
        keys = np.array([key for table in tables for key in table.column(group)])
    elif Path(path).is_dir():
        keys = np.array([table.file.name for table in tables for _ in table.rows])
    return Dataset.of(_standardised(_imputed(values)), targets, keys, classes)


@DATASETS.register("huggingface@1")
def huggingface(
    path: str | None = None,
    name: str | None = None,
    split: str = "train",
    subset: str | None = None,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    groups: str | None = None,
) -> Dataset:
    """Load a split of a Hugging Face data set; needs the package ``datasets``.

    Parameters
    ----------
    path, name, split, subset
        Where it is; see :func:`fedledger.learning.huggingface.load_huggingface`.
    inputs, labels, groups
        Its columns; see :func:`fedledger.learning.huggingface.dataset_from_huggingface`.
    """
    from fedledger.learning.huggingface import dataset_from_huggingface, load_huggingface

    return dataset_from_huggingface(load_huggingface(path, name, split, subset), inputs, labels, groups)


def read_idx(path: Path, max_bytes: int = 2**31) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Nothing larger than the file's own header announces, or than ``max_bytes``, is ever read.

    Raises
    ------
    ConfigError
        If the file is missing or is anything else.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return _parse_idx(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw, max_bytes)
    except (OSError, EOFError, zlib.error, ValueError, struct.error) as error:
        raise ConfigError(f"{path} cannot be read as IDX: {error}.", "Fetch the file again.") from error


def _parse_idx(stream: BinaryIO, max_bytes: int) -> NDArray[np.uint8]:
    zeros, kind, ndim = struct.unpack(">HBB", stream.read(4))
    if zeros != 0 or kind != 8 or not 1 <= ndim <= 4:
        raise ValueError("its header is not that of an array of unsigned bytes")
    shape = struct.unpack(f">{ndim}I", stream.read(4 * ndim))
    size = math.prod(shape)
    if size > max_bytes:
        raise ValueError(f"it announces {size} bytes")
    content = bytearray()
    while len(content) <= size and (chunk := stream.read(min(2**20, size + 1 - len(content)))):
        content += chunk
    if len(content) != size:
        raise ValueError(f"its header announces {size} bytes, there are {'more' if len(content) > size else 'fewer'}")
    return np.frombuffer(bytes(content), np.uint8).reshape(shape)


def _idx_file(folder: Path, name: str | None, kind: str) -> Path:
    if name is not None:
        return folder / name
    found = sorted(folder.glob(f"*{kind}*idx*"))
    chosen = [path for path in found if path.name.startswith("train")] or found
    if len(chosen) != 1:
        raise ConfigError(f"{folder} has {len(chosen)} files of {kind} in IDX format.", f"Name one as {kind}.")
    return chosen[0]


@dataclass(frozen=True)
class _Table:
    file: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[str]:
        index = self.header.index(name)
        return [cells[index] for _, cells in self.rows]

    def numbers(self, names: list[str], missing: str) -> list[list[float]]:
        places = [(name, self.header.index(name)) for name in names]
        return [
            [
                math.nan if _is_missing(cells[index], missing) else self._number(line, name, cells[index])
                for name, index in places
            ]
            for line, cells in self.rows
        ]

    def _number(self, line: int, name: str, cell: str) -> float:
        try:
            number = float(cell)
        except ValueError:
            number = math.inf
        if abs(number) > float(np.finfo(np.float32).max):
            raise ConfigError(
                f"{self.file}, line {line}, column {name}: {cell!r} is not a float32 number.",
                "Encode it as a number, or name what stands for a missing value.",
            )
        return number


def _table_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*") if file.suffix in {".csv", ".data"} and file.is_file())
    if not found:
        raise ConfigError(f"There is no table at {path}.", "Give a CSV file, or a folder of .csv or .data files.")
    return found


def _read_table(file: Path, delimiter: str) -> _Table:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as CSV: {error}.", "Give UTF-8 text with a header.") from error
    if len(lines) < 2:
        raise ConfigError(f"{file} holds no row.", "Give a header and at least one row.")
    header = tuple(lines[0][1])
    if len(set(header)) != len(header):
        raise ConfigError(f"{file} names a column twice.", "Give every column its own name.")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise ConfigError(
                f"{file}, line {line}: {len(cells)} cells under {len(header)} names.", "Complete the row."
            )
    return _Table(file, header, lines[1:])


def _is_missing(cell: str, missing: str) -> bool:
    return cell in {"", missing} or cell.lower() == "nan"


def _classes(cells: list[str]) -> tuple[NDArray[np.int64], int]:
    try:
        keys: NDArray[Any] = np.array([float(cell) for cell in cells])
    except ValueError:
        keys = np.array(cells)
    names, codes = np.unique(keys, return_inverse=True)
    return codes.astype(np.int64), max(2, len(names))


def _imputed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    filled = values.copy()
    for column in filled.T:
        known = column[~np.isnan(column)]
        column[np.isnan(column)] = np.median(known) if len(known) else 0.0
    return filled


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        spread = values.std(axis=0)
        return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _require_examples(what: str, examples: int) -> None:
    if not examples:
        raise ConfigError(f"{what} has no example.", "Give it some, or leave it out.")


def _invalid(what: str) -> ConfigError:
    return ConfigError(f"Not a data set: {what}.", "Correct what makes it.")
