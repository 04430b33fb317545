"""One's own arrays under a task's data schema."""

from __future__ import annotations

import math

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.fit import Fit, Misfit, fit_of, require_few_numbers
from fedledger.learning.schemas.resizing import averaged
from fedledger.learning.sequences import PADDING
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import ArraySchema
from fedledger.protocol.records.vocabulary import Vocabulary

MOST_ENLARGED = 16
"""How many times as long or as wide images may become: what they show does not become more."""


def fit_arrays(schema: ArraySchema, given: Dataset, vocabulary: Vocabulary | None = None) -> Fit:
    """Make examples of arrays.

    Parameters
    ----------
    schema
        The task's.
    given
        One's own, with inputs as they are before they are scaled.
    vocabulary
        The one that the schema names, if it does.

    Raises
    ------
    ConfigError
        If the task's size of images would make very much of them.
    """
    resized = _resized(schema, given)
    misfits = [] if resized is given else [_told_size(schema, given)]
    given = resized
    misfits += [*_shape(schema, given), *_targets(schema, given)]
    examples = None
    if not any(misfit.is_serious for misfit in misfits):
        try:
            examples = _examples(schema, given)
        except ConfigError as error:
            misfits.append(Misfit("", error.message, error.remedy))
    if examples is not None:
        misfits += [*_range(schema, given), *(() if vocabulary is None else _strange_tokens(vocabulary, given))]
    return fit_of(examples, len(given), schema.least_examples, misfits)


def _resized(schema: ArraySchema, given: Dataset) -> Dataset:
    """Return images of the task's height and width, if it says how they are made of others that are alike otherwise.

    Raises
    ------
    ConfigError
        If they would be very much larger, or have more numbers than there may be.
    """
    shape = given.inputs.shape[1:]
    if (
        schema.resize is None
        or shape == schema.shape
        or len(shape) != len(schema.shape)
        or shape[:-2] != schema.shape[:-2]
    ):
        return given
    if not given.inputs.size:
        return given
    if any(wanted > MOST_ENLARGED * had for wanted, had in zip(schema.shape[-2:], shape[-2:], strict=True)):
        raise ConfigError(
            f"The task makes images of {' × '.join(map(str, schema.shape[-2:]))} of yours, which are "
            f"{' × '.join(map(str, shape[-2:]))}: they would be more than {MOST_ENLARGED} times as long or as wide.",
            "Bring larger images, or do not take part.",
        )
    if math.prod(schema.shape) > math.prod(shape):
        require_few_numbers(len(given), math.prod(schema.shape))
    return Dataset(averaged(given.inputs, *schema.shape[-2:]), given.targets, given.classes)


def _told_size(schema: ArraySchema, given: Dataset) -> Misfit:
    (rows, columns), (height, width) = given.inputs.shape[-2:], schema.shape[-2:]
    stretched = "" if rows * width == columns * height else ", which stretches them"
    return Misfit(
        "",
        f"Images are {rows} × {columns}, and are averaged to the task's {height} × {width}{stretched}.",
        "Cut them to the task's proportions first if what they show must keep its own." if stretched else "",
        is_serious=False,
    )


def _shape(schema: ArraySchema, given: Dataset) -> list[Misfit]:
    shape = given.inputs.shape[1:]
    if shape != schema.shape:
        return [
            Misfit(
                "",
                f"Examples have the shape {list(shape)}, and the task's have {list(schema.shape)}.",
                f"Bring them to that shape; images are [channels, height, width]{_rule(schema, shape)}.",
            )
        ]
    if schema.whole and given.inputs.dtype != np.int64:
        return [
            Misfit("", "Inputs are fractions, and the task's are whole numbers.", "Give tokens or ids as integers.")
        ]
    return []


def _rule(schema: ArraySchema, shape: tuple[int, ...]) -> str:
    """Say that a task does not resize, to somebody whose images differ in nothing else."""
    is_size = len(shape) == len(schema.shape) > 1 and shape[:-2] == schema.shape[:-2] and not schema.whole
    return ", and the task has no rule for other sizes, so that you choose how" if is_size else ""


def _targets(schema: ArraySchema, given: Dataset) -> list[Misfit]:
    targets = given.targets
    if schema.classes is not None:
        if given.classes is None or targets.ndim != 1:
            return [Misfit("", "Targets are no classes, and the task's are.", "Give each example its class's number.")]
        largest = int(targets.max(initial=0))
        if largest >= schema.classes:
            return [
                Misfit(
                    "",
                    f"An example is of class {largest}, and the task's classes are 0 to {schema.classes - 1}.",
                    "Number the classes as the task does.",
                )
            ]
        return []
    shape, is_whole = targets.shape[1:], targets.dtype == np.int64
    if shape != schema.target_shape:
        return [
            Misfit(
                "",
                f"Targets have the shape {list(shape)}, and the task's have {list(schema.target_shape)}.",
                "Bring them to that shape.",
            )
        ]
    if schema.whole_targets and not is_whole:
        return [Misfit("", "Targets are fractions, and the task's are whole numbers.", "Give them as integers.")]
    return []


def _range(schema: ArraySchema, given: Dataset) -> list[Misfit]:
    if not given.inputs.size:
        return []
    lowest, highest = float(given.inputs.min()), float(given.inputs.max())
    low, high = schema.least, schema.most
    if (low is not None and lowest < low) or (high is not None and highest > high):
        unit = f" {schema.unit}" if schema.unit else ""
        bounds = f"{'-∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}{unit}"
        return [
            Misfit(
                "",
                f"Inputs are {lowest:g} to {highest:g}, and the task's are {bounds}.",
                "Scale them as the task does; grey values of 0 to 255 may have to be divided by 255.",
            )
        ]
    if low is not None and high is not None and not schema.whole and highest - lowest < (high - low) / 8:
        return [
            Misfit(
                "",
                f"Inputs are {lowest:g} to {highest:g}, a small part of the task's range, {low:g} to {high:g}.",
                "Look whether they were scaled twice.",
                is_serious=False,
            )
        ]
    return []


def _strange_tokens(vocabulary: Vocabulary, given: Dataset) -> list[Misfit]:
    """Tell of tokens that the vocabulary does not have."""
    count, lowest = len(vocabulary.texts), 0 if given.classes is not None else PADDING
    found = []
    for name, tokens, least in (("Inputs", given.inputs, 0), ("Targets", given.targets, lowest)):
        is_told = given.classes is None or name == "Inputs"
        if is_told and tokens.size and tokens.dtype == np.int64 and not least <= tokens.min() <= tokens.max() < count:
            found.append(
                Misfit(
                    "",
                    f"{name} are tokens {tokens.min()} to {tokens.max()}; the task's vocabulary has 0 to {count - 1}.",
                    'Make them of the text by the task\'s vocabulary: text = "MINE.txt" under [data] does.',
                )
            )
    return found


def _examples(schema: ArraySchema, given: Dataset) -> Dataset:
    examples = given if schema.whole else given.as_float()
    if not schema.whole and (schema.mean, schema.deviation) != (0.0, 1.0):
        scaled = (examples.inputs.astype(np.float64) - schema.mean) / schema.deviation
        examples = Dataset(scaled.astype(np.float32), examples.targets, examples.classes)
    if schema.classes is not None:
        return examples.as_classes(schema.classes)
    targets = examples.targets if schema.whole_targets else examples.targets.astype(np.float32)
    return Dataset(examples.inputs, targets, None)
