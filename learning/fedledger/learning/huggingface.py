"""From Hugging Face ``datasets``, and partitions that Flower's ``flwr-datasets`` made of them, to this package's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.arrays import Numbers, as_inputs
from fedledger.learning.data import Dataset, Parts, Prepared
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    import datasets

_LABELS = ("label", "labels")
_FILES = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".arrow": "arrow"}


def dataset_from_huggingface(
    source: datasets.Dataset,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    groups: str | None = None,
) -> Dataset:
    """Return a ``datasets.Dataset`` as a data set.

    Images become float32[n, channels, rows, columns] in [0, 1]. Other columns, of numbers or of equally long sequences
    of them, keep their values: whole numbers of 32 or 64 bits as int64, others as float32. Several are flattened and
    put behind each other, [n, ...].

    Parameters
    ----------
    source
        The examples.
    inputs
        The column or columns that a model sees; by default the only column of images, else all but ``labels`` and
        ``groups``.
    labels
        The column to predict; by default the only one of class labels, else ``label`` or ``labels``. Class labels are
        as many classes as they name; the distinct values of a column of text are the classes, in their order. Fractions
        are numbers to predict, sequences of numbers are labels or tokens; see
        :func:`fedledger.learning.arrays.as_targets`.
    groups
        The column that holds each example's natural key.

    Raises
    ------
    ConfigError
        If a column is missing or ambiguous, or does not hold what is needed of it; the message lists the columns.
    """
    return _converted(source, inputs, labels, groups)


def _converted(
    source: datasets.Dataset,
    inputs: str | Sequence[str] | None,
    labels: str | None,
    groups: str | None = None,
    names: NDArray[Any] | None = None,
) -> Dataset:
    """Return a data set; the classes of a column of text are ``names`` where these are given."""
    if not is_huggingface(source):
        raise ConfigError(
            f"{type(source).__name__} is not a datasets.Dataset.", "Load a whole split: datasets are not streamed."
        )
    labels = labels or _label_column(source)
    chosen = [inputs] if isinstance(inputs, str) else list(inputs or _input_columns(source, labels, groups))
    wanted = [*chosen, labels, *([] if groups is None else [groups])]
    for column in wanted:
        if column not in source.column_names:
            raise _unsuitable(source, f"There is no column {column!r}", "Name one that there is")
    values = source.select_columns(list(dict.fromkeys(wanted))).with_format("numpy")[:]
    arrays = [_array(source, column, values[column]) for column in chosen]
    if len(arrays) > 1:
        arrays = [np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)]
    codes, classes = _classes(source, labels, values[labels], names)
    return Dataset.of(arrays[0], codes, None if groups is None else np.asarray(values[groups]), classes)


def partitions_from_huggingface(
    partitions: Sequence[datasets.Dataset],
    test: datasets.Dataset | None = None,
    validation: datasets.Dataset | None = None,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
) -> Prepared:
    """Return partitions as participants' data: the first is participant 0's, and so on.

    With Flower's data sets: ``[federated.load_partition(i) for i in range(n)]`` and ``federated.load_split("test")``.

    Parameters
    ----------
    partitions
        A data set a participant, none of them empty.
    test, validation
        Held-out examples. Without ``test`` both are taken from the partitions, else ``validation`` is taken from it.
    inputs, labels
        As in :func:`dataset_from_huggingface`.
    """
    ends = np.cumsum([len(each) for each in partitions]).tolist()
    names = _class_names([*partitions, test, validation], labels)
    whole = _converted(_joined(partitions), inputs, labels, names=names)
    held_out = [None if each is None else _converted(each, inputs, labels, names=names) for each in (test, validation)]
    return Prepared(Parts.stretches(whole, ends), *held_out)


def prepared_from_huggingface(made: Any) -> Prepared | None:
    """Return what a task's ``data()`` made of ``datasets``, or None if it is something else.

    It may be a data set; a list of them, one a participant; or a dictionary with either as ``train``, perhaps with
    ``test`` and ``validation``, such as a ``datasets.DatasetDict``.
    """
    if is_huggingface(made):
        return Prepared(dataset_from_huggingface(made))
    if _is_list(made):
        return partitions_from_huggingface(made)
    if isinstance(made, Mapping) and (is_huggingface(made.get("train")) or _is_list(made.get("train"))):
        unknown = sorted(set(made) - {"train", "test", "validation"})
        if unknown:
            raise ConfigError(
                f"{', '.join(map(str, unknown))}: neither train, test nor validation.", "Leave out other splits."
            )
        train, held_out = made["train"], {name: made[name] for name in ("test", "validation") if name in made}
        if _is_list(train):
            return partitions_from_huggingface(train, **held_out)
        names = _class_names([train, *held_out.values()], None)
        splits = {
            name: _converted(each, None, None, names=names) for name, each in {"train": train, **held_out}.items()
        }
        return Prepared(**splits)
    return None


def load_huggingface(
    path: str | None = None, name: str | None = None, split: str = "train", subset: str | None = None
) -> datasets.Dataset:
    """Load a split from a folder that ``save_to_disk`` wrote, from files, or from the hub.

    Parameters
    ----------
    path
        A folder that was saved, or a Parquet, CSV, JSON or Arrow file, or a folder of such files of one kind.
    name
        Of a data set on the hub, instead.
    split
        Such as ``train``.
    subset
        Of a data set on the hub that has several configurations.

    Raises
    ------
    ConfigError
        If neither or both of ``path`` and ``name`` are given, if there is nothing of that kind, or if ``datasets`` is
        not installed.
    """
    if (path is None) == (name is None):
        raise ConfigError("huggingface@1 takes either path or name.", "Give one of them.")
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("datasets is not installed.", "pip install 'fedledger[huggingface]'") from error
    where = path or name
    try:
        if name is not None:
            return datasets.load_dataset(name, subset, split=split)
        found: Any = _load_path(Path(str(path)), split)
    except (OSError, ValueError, LookupError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ConfigError(f"{where} cannot be loaded: {error}.", "Check its name or path, and its splits.") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise ConfigError(f"{where} has no split {split!r}.", f"There are: {', '.join(map(str, found))}.")
        found = found[split]
    return found


def is_huggingface(value: Any) -> bool:
    """Return whether a value is a ``datasets.Dataset``, without loading that package."""
    module = sys.modules.get("datasets")
    return module is not None and isinstance(value, module.Dataset)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_huggingface(each) for each in value)


def _joined(partitions: Sequence[datasets.Dataset]) -> datasets.Dataset:
    import datasets

    try:
        return datasets.concatenate_datasets(list(partitions))
    except ValueError as error:
        raise ConfigError(f"The partitions do not have the same columns: {error}.", "Make them alike.") from error


def _load_path(path: Path, split: str) -> Any:
    import datasets

    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(path))
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.suffix in _FILES)
    kinds = {_FILES.get(file.suffix) for file in files}
    if len(kinds) != 1 or None in kinds:
        raise ConfigError(
            f"There is no data set at {path}.",
            f"Give a folder that save_to_disk wrote, or files of one kind of {', '.join(_FILES)}.",
        )
    return datasets.load_dataset(str(kinds.pop()), data_files={split: [str(file) for file in files]}, split=split)


def _label_column(source: datasets.Dataset) -> str:
    import datasets

    found = [column for column, feature in source.features.items() if isinstance(feature, datasets.ClassLabel)]
    found = found or [column for column in _LABELS if column in source.features]
    if len(found) != 1:
        raise _unsuitable(source, f"{len(found) or 'No'} columns could be the labels", "Name one as `labels`")
    return str(found[0])


def _input_columns(source: datasets.Dataset, labels: str, groups: str | None) -> list[str]:
    import datasets

    images = [column for column, feature in source.features.items() if isinstance(feature, datasets.Image)]
    if len(images) > 1:
        raise _unsuitable(source, f"{len(images)} columns are images", "Name one as `inputs`")
    found = images or [column for column in source.column_names if column not in (labels, groups)]
    if not found:
        raise _unsuitable(source, "There is no column but the labels", "Add inputs")
    return found


def _array(source: datasets.Dataset, column: str, values: NDArray[Any]) -> Numbers:
    """Return a column as float32[n, ...] or int64[n, ...]."""
    import datasets

    image = isinstance(source.features[column], datasets.Image)
    ragged = (
        isinstance(values, np.ndarray) and values.dtype == object and len({np.shape(value) for value in values}) > 1
    )
    if ragged:
        shapes = sorted({np.shape(value) for value in values})
        what, remedy = ("images have", "Make") if image else ("values have", "Pad or cut")
        raise _unsuitable(
            source,
            f"{column!r} is not an array of numbers: its {what} the shapes {shapes[:3]}",
            f"{remedy} them alike with map()",
        )
    if not image:
        try:
            array = as_inputs(values)
        except ConfigError as error:
            raise _unsuitable(
                source, f"{column!r} is not an array of numbers: {error}", "Name columns of numbers as `inputs`"
            ) from error
        return array[:, None] if array.ndim == 1 else array
    if values.dtype == object:
        raise _unsuitable(source, f"An image of {column!r} is missing", "Filter such rows out")
    top = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
    scaled = np.divide(values, np.float32(top), dtype=np.float32)
    return np.asarray(scaled[:, None] if scaled.ndim == 3 else np.moveaxis(scaled, -1, 1), np.float32)


def _classes(
    source: datasets.Dataset, column: str, values: NDArray[Any], names: NDArray[Any] | None
) -> tuple[NDArray[Any], int | None]:
    import datasets

    feature, found = source.features[column], np.asarray(values)
    if isinstance(feature, datasets.ClassLabel):
        return found, int(feature.num_classes)
    if found.dtype.kind in "biuf":
        return found, None
    if found.dtype == object and len(found) and isinstance(found[0], np.ndarray):
        raise _unsuitable(source, f"{column!r} has sequences of several lengths", "Pad or cut them alike with map()")
    try:
        known = np.unique(found) if names is None else names
        codes = np.searchsorted(known, found)
    except TypeError as error:
        raise _unsuitable(source, f"A label of {column!r} is missing", "Filter such rows out") from error
    return codes, max(2, len(known))


def _class_names(sources: Sequence[datasets.Dataset | None], labels: str | None) -> NDArray[Any] | None:
    """Return the distinct texts of a column of text in all data sets, so that each means the same class in all."""
    import datasets

    given = [source for source in sources if source is not None and is_huggingface(source)]
    if not given:
        return None
    first = given[0]
    column = labels or _label_column(first)
    feature = first.features.get(column)
    if not isinstance(feature, datasets.Value) or feature.dtype not in ("string", "large_string"):
        return None
    values = [value for source in given if column in source.column_names for value in source[column]]
    if any(value is None for value in values):
        raise _unsuitable(first, f"A label of {column!r} is missing", "Filter such rows out")
    return np.unique(np.array(values))


def _unsuitable(source: datasets.Dataset, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"{what}.", f"{remedy}; the columns are {', '.join(source.column_names)}.")
