"""Data sets: what a model learns from, and how it is loaded and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real, real, whole

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Attributes
    ----------
    inputs
        float32[n, ...], finite.
    targets
        What is to be predicted of each: for classes int64[n], each in [0, classes).
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
    targets: NDArray[np.int64]
    classes: int
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.float32 or self.inputs.ndim < 2:
            raise _invalid(f"inputs are {self.inputs.dtype}{list(self.inputs.shape)}, not float32[n, ...]")
        if self.targets.dtype != np.int64 or self.targets.shape != self.inputs.shape[:1]:
            raise _invalid(f"labels are {self.targets.dtype}{list(self.targets.shape)}, not int64[{len(self)}]")
        if self.groups is not None and self.groups.shape != self.targets.shape:
            raise _invalid(f"groups have shape {list(self.groups.shape)}, not [{len(self)}]")
        whole("classes", self.classes, 2, 2**31)
        if len(self) and not 0 <= self.targets.min() <= self.targets.max() < self.classes:
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

        return torch.from_numpy(self.inputs), torch.from_numpy(self.targets)

    @cached_property
    def place(self) -> tuple[Dataset, int]:
        """The data set of which this is a stretch, and where that starts; itself and 0 if it is none."""
        return self, 0

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the examples at ``indices``, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return Dataset(self.inputs[indices], self.targets[indices], self.classes, groups)

    def stretch(self, start: int, stop: int) -> Dataset:
        """Return the examples from ``start`` to ``stop`` as a view."""
        part = object.__new__(Dataset)
        groups = None if self.groups is None else self.groups[start:stop]
        fields = {"inputs": self.inputs[start:stop], "targets": self.targets[start:stop], "groups": groups}
        # Nothing is checked again: what holds for all examples holds for some.
        whole, before = self.place
        vars(part).update(fields, classes=self.classes, place=(whole, before + start))
        return part


class Split(NamedTuple):
    """Three disjoint data sets."""

    train: Dataset
    validation: Dataset
    test: Dataset


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
    fractions = [
        real(name, value, Real(0, 1, below=True))
        for name, value in (("test_fraction", test_fraction), ("validation_fraction", validation_fraction))
    ]
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
    for label in np.unique(dataset.targets):
        members = rng.permutation(np.flatnonzero(dataset.targets == label))
        position[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    order = np.argsort(position, kind="stable")
    test, validation, train = np.split(order, np.cumsum(sizes))
    return Split(*(dataset.take(rng.permutation(part)) for part in (train, validation, test)))


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

    def spread(self, count: int) -> Dataset:
        """Return at most so many examples, some of every part."""
        n = len(self._whole)
        return self._whole.take(np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64)))

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
        numbered = Dataset(whole.inputs, whole.targets, whole.classes, np.arange(len(whole)))
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
        counts = np.bincount(owners * classes + self._whole.targets, minlength=len(self) * classes)
        return counts.reshape(len(self), classes)


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
                require_examples(f"The part of participant {number}", self.train.size(number))
        for name, dataset in (("test", self.test), ("validation", self.validation)):
            require_examples(f"The {name} set", 1 if dataset is None else len(dataset))


def _invalid(what: str) -> ConfigError:
    return ConfigError(f"Not a data set: {what}.", "Correct what makes it.")


def require_examples(what: str, examples: int) -> None:
    """Raise ConfigError if a part of the data has no examples."""
    if not examples:
        raise ConfigError(f"{what} has no example.", "Give it some, or leave it out.")
