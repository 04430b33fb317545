"""Data sets: what a model learns from, and how it is loaded and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedledger.learning.arrays import MAX_CLASSES, Numbers, as_groups, as_inputs, as_targets, check_groups, invalid
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real, real, whole

if TYPE_CHECKING:
    import torch

STRATA = 10
"""Groups of numbers to predict, by their quantiles."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples with what is to be predicted of each.

    Attributes
    ----------
    inputs
        float32[n, ...], finite, or int64[n, ...] such as ids and tokens.
    targets
        What is to be predicted of each: its class int64[n] in [0, classes), numbers float32[n] or float32[n, k],
        finite, or whole numbers int64[n, k], such as the labels that apply or the tokens that follow.
    classes
        Number of classes, at least 2; None where targets are no classes.
    groups
        The natural key of each example (hospital, speaker, …), none of them missing; or None.

    Raises
    ------
    ConfigError
        If any of this does not hold.
    """

    inputs: Numbers
    targets: Numbers
    classes: int | None
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype not in (np.float32, np.int64) or self.inputs.ndim < 2:
            raise invalid(f"inputs are {_shown(self.inputs)}, not float32[n, ...] or int64[n, ...]")
        if self.classes is None:
            self._check_numbers()
        else:
            self._check_classes(self.classes)
        if self.groups is not None and self.groups.shape != (len(self),):
            raise invalid(f"groups have shape {list(self.groups.shape)}, not [{len(self)}]")
        if self.groups is not None:
            check_groups(self.groups)
        if not np.isfinite(self.inputs).all():
            raise invalid("an input is NaN or infinite", "Fill in what is missing, or leave such examples out.")

    def _check_classes(self, classes: int) -> None:
        if self.targets.dtype != np.int64 or self.targets.shape != (len(self),):
            raise invalid(f"labels are {_shown(self.targets)}, not int64[{len(self)}]")
        whole("classes", classes, 2, MAX_CLASSES)
        if len(self) and not 0 <= self.targets.min() <= self.targets.max() < classes:
            raise invalid(
                f"a label is outside [0, {classes}): they are {self.targets.min()} to {self.targets.max()}",
                "Number classes from 0, or correct `classes`.",
            )

    def _check_numbers(self) -> None:
        kind, shape = self.targets.dtype, self.targets.shape
        suits = len(shape) in (1, 2) if kind == np.float32 else kind == np.int64 and len(shape) >= 2
        if not suits or shape[0] != len(self):
            n = len(self)
            raise invalid(f"targets are {_shown(self.targets)}, not float32[{n}], float32[{n}, k] or int64[{n}, k]")
        if not np.isfinite(self.targets).all():
            raise invalid("a target is NaN or infinite", "Leave out examples whose target is missing.")

    @classmethod
    def of(
        cls, inputs: ArrayLike, targets: ArrayLike, groups: ArrayLike | None = None, classes: int | None = None
    ) -> Dataset:
        """Return a data set from anything that numpy can convert.

        Parameters
        ----------
        inputs
            [n, ...]; see :func:`fedledger.learning.arrays.as_inputs`.
        targets
            [n] or [n, k]; one whole number per example is its class, unless they look like numbers to predict; see
            :func:`fedledger.learning.arrays.as_targets`.
        groups
            The natural key of each example.
        classes
            Number of classes, where targets are classes; counted where not told.

        Raises
        ------
        ConfigError
            If they are no data set, or a value would change its meaning.
        """
        converted = as_inputs(inputs)
        found, counted = as_targets(targets, classes)
        return cls(converted, found, counted, as_groups(groups))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getstate__(self) -> dict[str, Any]:
        # Other processes make their own tensors, and need not see the rest of a whole.
        return {name: value for name, value in vars(self).items() if name not in ("tensors", "place")}

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets as tensors that share their memory."""
        import torch

        return torch.from_numpy(self.inputs), torch.from_numpy(self.targets)

    @cached_property
    def place(self) -> tuple[Dataset, int]:
        """The data set of which this is a stretch, and where that starts; itself and 0 if it is none."""
        return self, 0

    @property
    def strata(self) -> NDArray[np.int64] | None:
        """The classes, or which tenth of the targets each number is in, int64[n]; None where there is no one target."""
        if self.classes is not None:
            return np.asarray(self.targets, np.int64)
        if self.targets.dtype != np.float32 or self.targets.shape not in ((len(self),), (len(self), 1)):
            return None
        numbers = self.targets.reshape(-1)
        if not len(numbers):
            return np.zeros(0, np.int64)
        return np.asarray(np.searchsorted(tenths(numbers), numbers, side="right"), np.int64)

    def as_float(self) -> Dataset:
        """Return the data set with float32 inputs.

        Raises
        ------
        ConfigError
            If float32 would change a whole number.
        """
        if self.inputs.dtype == np.float32:
            return self
        changed = self.inputs.astype(np.float32)
        # Both are compared as doubles, which hold every whole number up to 2^53.
        limit = 2**53
        if self.inputs.size and not (
            -limit <= self.inputs.min() and self.inputs.max() <= limit and np.array_equal(changed, self.inputs)
        ):
            raise ConfigError(
                f"Inputs are whole numbers from {self.inputs.min()} to {self.inputs.max()}, and float32 would change "
                "some of them.",
                "Number ids from 0, scale quantities, or have the model take int64 inputs, as an embedding does.",
            )
        return self._with(inputs=changed)

    def as_numbers(self) -> Dataset:
        """Return the data set with classes as numbers to predict, float32[n]; others as they are."""
        if self.classes is None:
            return self
        return self._with(targets=self.targets.astype(np.float32), classes=None)

    def as_classes(self, classes: int) -> Dataset:
        """Return the data set with numbers as classes.

        Raises
        ------
        ConfigError
            If they are not one whole number in [0, classes) per example.
        """
        return self if self.classes == classes else Dataset.of(self.inputs, self.targets, self.groups, classes)

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the examples at ``indices``, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return self._with(inputs=self.inputs[indices], targets=self.targets[indices], groups=groups)

    def stretch(self, start: int, stop: int) -> Dataset:
        """Return the examples from ``start`` to ``stop`` as a view."""
        groups = None if self.groups is None else self.groups[start:stop]
        part = self._with(inputs=self.inputs[start:stop], targets=self.targets[start:stop], groups=groups)
        whole, before = self.place
        vars(part)["place"] = whole, before + start
        return part

    def _with(self, **changed: Any) -> Dataset:
        """Return another data set; nothing is checked again, as what holds for all examples holds for some."""
        other = object.__new__(Dataset)
        kept = {name: getattr(self, name) for name in ("inputs", "targets", "classes", "groups")}
        vars(other).update(kept, **changed)
        return other


class Split(NamedTuple):
    """Three disjoint data sets."""

    train: Dataset
    validation: Dataset
    test: Dataset


def split(dataset: Dataset, test_fraction: float, validation_fraction: float, rng: np.random.Generator) -> Split:
    """Split a data set at random, whatever its order, keeping every class's share nearly the same in each part.

    Of numbers to predict every tenth of their range of quantiles is kept instead; other targets are not looked at.

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
    order = stratified_order(dataset, rng)
    test, validation, train = np.split(order, np.cumsum(sizes))
    return Split(*(dataset.take(rng.permutation(part)) for part in (train, validation, test)))


def stratified_order(dataset: Dataset, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of a data set's n examples, int64[n], of which every stretch has each stratum's share nearly."""
    strata = dataset.strata
    if strata is None:
        strata = np.zeros(len(dataset), np.int64)
    # Spreading each class evenly over [0, 1) makes every stretch of the order a stratified sample.
    position = np.empty(len(dataset))
    for stratum in members_of(strata):
        members = rng.permutation(stratum)
        position[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(position, kind="stable")


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

    def kept(self, kept: NDArray[np.bool_]) -> Parts:
        """Return the parts with those of their examples alone that bool[n] over all of them, part after part, names."""
        if kept.all():
            return self
        ends = [int(kept[:end].sum()) for end in self._ends[1:]]
        return Parts.stretches(self._whole.take(np.flatnonzero(kept)), ends)

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
        numbered = replace(whole, groups=np.arange(len(whole)))
        divided = split(numbered, test_fraction, validation_fraction, rng)
        left, validation, test = (np.asarray(part.groups, np.int64) for part in divided)
        places = np.split(np.sort(left), np.searchsorted(np.sort(left), self._ends[1:-1]))
        if not all(len(part) for part in places):
            empty = next(number for number, part in enumerate(places) if not len(part))
            raise ConfigError(
                f"All examples of participant {empty} are held out.", "Choose smaller fractions, or give a test set."
            )
        return Parts(whole, places), whole.take(validation), whole.take(test)

    def changed(self, change: Callable[[Dataset], Dataset]) -> Parts:
        """Return the same parts of a changed data set; the change keeps every example in its place."""
        return Parts.stretches(change(self._whole), self._ends[1:])

    @property
    def whole(self) -> Dataset:
        """The parts behind each other."""
        return self._whole

    @property
    def owners(self) -> NDArray[np.int64]:
        """Which part each example of the whole belongs to, int64[n]."""
        return np.repeat(np.arange(len(self)), np.diff(self._ends))


@dataclass(frozen=True)
class Prepared:
    """Examples as a task brings them: perhaps divided already, perhaps with held-out ones.

    Held-out examples get the types of the others: float32 inputs if any are, as many classes as any have, and numbers
    to predict where the others have them.

    Parameters
    ----------
    train
        What participants learn from; with parts, each participant's.
    test, validation
        Held-out examples, or None where they are yet to be taken.

    Raises
    ------
    ConfigError
        If one has no example, or held-out targets are of another kind than the others.
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
        if self._differ(lambda dataset: dataset.inputs.dtype):
            self._change(Dataset.as_float)
        if self._differ(lambda dataset: dataset.classes is None) or self._every[0].classes is None:
            self._agree_on_numbers()
        elif not self._differ(lambda dataset: dataset.inputs.shape[1:]):
            # Of candidates, which are the classes of a ranking, each may have as many as it likes.
            classes = max(dataset.classes or 0 for dataset in self._every)
            self._change(lambda dataset: replace(dataset, classes=classes) if dataset.classes != classes else dataset)

    def changed(self, change: Callable[[Dataset], Dataset]) -> Prepared:
        """Return all of it changed; the change keeps every example in its place."""
        return Prepared(*(_changed(each, change) for each in (self.train, self.test, self.validation)))

    @property
    def _every(self) -> list[Dataset]:
        train = self.train.whole if isinstance(self.train, Parts) else self.train
        return [dataset for dataset in (train, self.test, self.validation) if dataset is not None]

    def _differ(self, what: Callable[[Dataset], object]) -> bool:
        return len({what(dataset) for dataset in self._every}) > 1

    def _change(self, change: Callable[[Dataset], Dataset]) -> None:
        for name in ("train", "test", "validation"):
            object.__setattr__(self, name, _changed(getattr(self, name), change))

    def _agree_on_numbers(self) -> None:
        """Give held-out targets, which look like classes or do not by accident, the kind that the others have."""
        wanted = self._every[0]
        for name in ("test", "validation"):
            dataset: Dataset | None = getattr(self, name)
            if dataset is None:
                continue
            alike = dataset.as_numbers() if wanted.classes is None else dataset.as_classes(wanted.classes)
            if (alike.targets.dtype, alike.targets.ndim) != (wanted.targets.dtype, wanted.targets.ndim):
                raise ConfigError(
                    f"The targets of the {name} set are {_shown(dataset.targets)}, those learned from "
                    f"{_shown(wanted.targets)}.",
                    "Make them alike.",
                )
            object.__setattr__(self, name, alike)


def tenths(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return where the second to last tenth of some numbers begin, ascending; fewer where many are equal.

    The limits are numbers that occur, so that equal ones are in one tenth and no rounding decides.
    """
    return np.unique(np.quantile(numbers, np.arange(1, STRATA) / STRATA, method="lower"))


def members_of(strata: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the places of each value that occurs, ascending, in the values' order."""
    order = np.argsort(strata, kind="stable")
    _, counts = np.unique(strata, return_counts=True)
    return np.split(order, np.cumsum(counts)[:-1]) if len(strata) else []


def _changed(examples: Any, change: Callable[[Dataset], Dataset]) -> Any:
    """Return a data set, parts or None changed."""
    if examples is None:
        return None
    return examples.changed(change) if isinstance(examples, Parts) else change(examples)


def _shown(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


def require_examples(what: str, examples: int) -> None:
    """Raise ConfigError if a part of the data has no examples."""
    if not examples:
        raise ConfigError(f"{what} has no example.", "Give it some, or leave it out.")
