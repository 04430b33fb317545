"""From whatever numpy can convert to the arrays of a data set; a value that would change its meaning is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.protocol.errors import ConfigError

Numbers: TypeAlias = NDArray[np.float32] | NDArray[np.int64]

EXACT = 2**24
"""Up to it float32 holds every whole number."""
FEW_CLASSES = 20
"""So few distinct whole numbers are always taken for classes."""
MAX_CLASSES = 2**31

_ABSENT = ("nan", "None", "<NA>", "NaT")
"""How pandas and numpy write a missing value once it is text."""


def invalid(what: str, remedy: str = "Correct what makes it.") -> ConfigError:
    """Return the error that something is no data set."""
    return ConfigError(f"Not a data set: {what}.", remedy)


def as_inputs(value: ArrayLike) -> Numbers:
    """Return inputs as float32 or int64.

    Whole numbers of 32 or 64 bits stay whole, as float32 would merge ids and tokens beyond 2^24; all others become
    float32.

    Raises
    ------
    ConfigError
        If they are no array of numbers, or hold ids as floats that float32 would merge.
    """
    found = _numbers(value, "inputs")
    if found.dtype.kind in "iu" and found.dtype.itemsize >= 4:
        return _as_int64(found, "inputs")
    if found.dtype.itemsize > 4:
        _require_no_merged_ids(found)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, np.float32)


def as_targets(value: ArrayLike, classes: int | None) -> tuple[Numbers, int | None]:
    """Return targets as int64 or float32, and the number of classes where they are classes.

    Parameters
    ----------
    value
        One whole number per example: its class. Anything else is numbers to predict: float32 where there are floats,
        int64 of more than one dimension where there are none.
    classes
        The number of classes; None to count them. Then whole numbers that :func:`look_like_numbers`, or are negative,
        are numbers to predict, too.

    Raises
    ------
    ConfigError
        If they are no array of numbers, or ``classes`` is given and they are no classes.
    """
    found = _numbers(value, "targets")
    if found.dtype.kind != "f":
        found = _as_int64(found, "targets")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(found, np.float32)
    is_whole = found.dtype.kind != "f" or bool(np.isfinite(found).all() and (found == np.floor(found)).all())
    if found.ndim == 1 and is_whole and (classes is not None or _are_classes(found)):
        if found.size and not -(2**63) <= found.min() <= found.max() < 2**63:
            raise invalid("a target is beyond 64 bits")
        codes = np.ascontiguousarray(found, np.int64)
        return codes, max(2, int(codes.max(initial=0)) + 1) if classes is None else classes
    if classes is not None:
        raise invalid(
            f"classes = {classes}, but the targets are {found.dtype}{list(found.shape)}, not one whole number each",
            "Give each example the number of its class, or leave out classes.",
        )
    return (np.ascontiguousarray(found) if found.dtype == np.int64 and found.ndim > 1 else numbers), None


def look_like_numbers(values: NDArray[Any]) -> bool:
    """Return whether one value per example looks like a number to predict rather than a class.

    A class comes more than once, and classes are mostly numbered without gaps. So more than ``FEW_CLASSES`` distinct
    whole numbers are taken for numbers if there are gaps and they are more than a third of the examples, or half of
    them come at most twice; and without gaps if they are more than half of the examples. Fractions are taken for
    numbers if more than ``FEW_CLASSES`` are distinct, or more than a third of the examples.

    Parameters
    ----------
    values
        Finite numbers, [n].
    """
    distinct, counts = np.unique(values, return_counts=True)
    n, found = len(values), len(distinct)
    if not (distinct == np.floor(distinct)).all():
        return found > FEW_CLASSES or 3 * found > n
    if found <= FEW_CLASSES:
        return False
    if int(distinct[-1]) - int(distinct[0]) + 1 == found:
        return 2 * found > n
    return 3 * found > n or float(np.median(counts)) <= 2


def as_groups(value: ArrayLike | None) -> NDArray[Any] | None:
    """Return groups as an array of one type, whose values can be put in order.

    Raises
    ------
    ConfigError
        If one is missing (None, NaN, or the text that pandas makes of them), or they are of several types, which numpy
        would make equal texts of.
    """
    if value is None:
        return None
    if isinstance(value, list | tuple):
        _require_one_type(value)
    return np.asarray(value)


def check_groups(groups: NDArray[Any]) -> None:
    """Raise ConfigError if a group is missing, or groups are of several types."""
    kind = groups.dtype.kind
    if kind == "O":
        _require_one_type(groups.ravel().tolist())
        missing = int(np.isin(groups.astype(str), _ABSENT).sum())
    elif kind in "fcmM":
        missing = int(np.isnat(groups).sum()) if kind in "mM" else int(np.isnan(groups).sum())
    elif kind == "U":
        missing = int(np.isin(groups, _ABSENT).sum())
    elif kind in "iubS":
        missing = 0
    else:
        raise invalid(f"groups are {groups.dtype}", "Give one name or whole number per example.")
    if missing:
        raise _missing_groups(missing)


def _missing_groups(count: int) -> ConfigError:
    return invalid(
        f"{count:,} {'example has' if count == 1 else 'examples have'} no group (None, NaN or a text like them)",
        "Leave such examples out, or put them into a group of their own.",
    )


def _require_one_type(values: Sequence[Any]) -> None:
    """Raise ConfigError unless all values are of one type that has an order, and none is missing."""
    missing = sum(value is None or value is np.ma.masked or _is_nan(value) for value in values)
    if missing:
        raise _missing_groups(missing)
    kinds = sorted({_kind(value) for value in values})
    if len(kinds) > 1:
        raise invalid(f"groups are of several types: {', '.join(kinds)}", "Make all of them texts, or whole numbers.")


def _is_nan(value: Any) -> bool:
    # Only what is not a number differs from itself; pandas' NA is not to be compared at all.
    try:
        return not bool(value == value)  # noqa: PLR0124
    except (TypeError, ValueError):
        return True


def _kind(value: Any) -> str:
    for kind in (str, bytes, bool, int, float):
        if isinstance(value, kind):
            return kind.__name__
    if isinstance(value, np.generic):
        return type(value.item()).__name__
    return type(value).__name__


def _numbers(value: ArrayLike, what: str) -> NDArray[Any]:
    """Return an array of bools, whole numbers or floats."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise invalid(f"{what} have masked values", "Fill them in, or leave such examples out.")
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise invalid(f"{what} are no array: {error}") from error
    if found.dtype.kind in "biuf":
        return found
    if found.dtype.kind in "US":
        raise invalid(f"{what} are texts, such as {found.ravel()[0].item()!r}", "Encode them as numbers.")
    if found.dtype == object and found.ndim == 0:
        raise invalid(f"{what} are a {type(value).__name__}, not an array", "Convert them to a numpy array.")
    if found.dtype == object and any(one is None for one in found.ravel().tolist()):
        raise invalid(f"a value of the {what} is None", "Fill it in, or leave the example out.")
    if found.dtype == object:
        raise invalid(
            f"{what} are Python objects of type {_kind(found.ravel()[0]) if found.size else 'object'}",
            "Convert them to one type of number, for example by .astype(np.float32).",
        )
    raise invalid(f"{what} are {found.dtype}, not numbers", "Convert them to numbers.")


def _as_int64(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and values.size and values.max() > np.uint64(2**63 - 1):
        raise invalid(f"{what} have a number beyond 2^63 − 1", "Number ids from 0.")
    return np.ascontiguousarray(values, np.int64)


def _require_no_merged_ids(values: NDArray[Any]) -> None:
    """Raise ConfigError if a column of floats holds only whole numbers, and float32 would change one.

    These are ids that became floats, for example beside a column of fractions; other floats are rounded.
    """
    if values.ndim == 0 or not values.size or not (values.max() > EXACT or values.min() < -EXACT):
        return
    columns = values.reshape(len(values), -1) if values.ndim > 1 else values[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(columns).max(axis=0)
        # What is no 64-bit number is no id either.
        for column in columns.T[(largest > EXACT) & (largest <= 2.0**64)]:
            changed = column != column.astype(np.float32)
            if (column == np.floor(column)).all() and changed.any():
                raise invalid(
                    f"inputs have whole numbers beyond 2^24, such as {float(column[changed][0]):.0f}, which float32 "
                    "changes",
                    "Give ids as whole numbers (int64) or number them from 0; scale or standardise quantities.",
                )


def _are_classes(values: NDArray[Any]) -> bool:
    if not len(values):
        return True
    return bool(values.min() >= 0 and values.max() < MAX_CLASSES) and not look_like_numbers(values)
