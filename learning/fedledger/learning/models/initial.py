"""A task's initial model: all that its code makes, sorted into what updates move, statistics and what is fixed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedledger.learning.global_generators import seeded
from fedledger.learning.models.whole_state import require_forgetful, require_tensors
from fedledger.learning.vectors import single_thread, state_tensors
from fedledger.protocol.arithmetic.exact import magnitude
from fedledger.protocol.encoding.tensors import NAMES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import MAX_TENSORS, FixedPointSpec, StatisticSpec, TensorsSpec

BATCH, FEW, PASSES = 64, 3, 30
"""Examples of a forward pass that tells which buffers follow from data; after how many passes it is clear that none
does, and how many there are at most."""
TRIED = 8
"""Examples on which two models are compared."""
ROOM = 16
"""How many times what it is after the passes a statistic may become."""
USUAL_BITS, MOST_BITS = 16, 38
_NOT_NEGATIVE = ("var", "variance", "count", "size")
"""How the names of statistics end that are not negative by their meaning."""

Examples = NDArray[np.generic]


@dataclass(frozen=True)
class InitialModel:
    """An initial model.

    Parameters
    ----------
    file
        Its tensors.
    tensors
        What of them updates do not move; None if they move all.
    """

    file: ModelFile
    tensors: TensorsSpec | None


def initial_model(factory: Callable[[], nn.Module], seed: int, examples: Examples | None = None) -> InitialModel:
    """Make a task's initial model.

    Parameters trained with gradients are moved by updates; buffers that a forward pass in training mode changes are
    statistics; frozen parameters and all other persistent buffers are fixed.

    Parameters
    ----------
    factory
        Makes a fresh module; all its randomness is seeded, that of NumPy and of Python included.
    seed
        The seed. The result repeats on one machine and torch version; what parties share is the bytes, not the seed.
    examples
        Inputs [n, ...] of training examples, in random order; without them no buffer is taken for a statistic.

    Raises
    ------
    ConfigError
        If the module does not take the examples, or has a tensor that cannot travel.
    """
    with seeded(seed):
        module = factory()
    require_tensors(module)
    module.train()
    arrays = {name: _array(name, tensor) for name, tensor in state_tensors(module).items()}
    tensors = _described(module, arrays, examples)
    frozen = {name: tensor.dtype for name, tensor in state_tensors(module).items() if tensor.requires_grad}
    for name, dtype in frozen.items():
        if dtype != torch.float32:
            raise ConfigError(f"The tensor {name} is {dtype}.", "Train in float32: call .float() on the model.")
    if not frozen:
        raise ConfigError("The model has no trainable parameter.", "Add one, or set requires_grad.")
    return InitialModel(ModelFile.of(arrays, tensors), tensors)


def require_in_bounds(model: InitialModel, fixed_point: FixedPointSpec) -> None:
    """Raise ConfigError if a number that moves is beyond its bound; the message names the bound that would do."""
    largest = magnitude(model.file.trained)
    if not np.isfinite(largest):
        raise ConfigError("The initial model has a number that is not finite.", "Correct how the model begins.")
    if largest > fixed_point.bound:
        enough = 2 ** ceil(log2(2 * largest))
        bits = min(fixed_point.fraction_bits, 40 - ceil(log2(enough)))
        others = "" if bits == fixed_point.fraction_bits else f" and fixed_point.fraction_bits = {bits}"
        remedy = f"Set fixed_point.bound = {enough}{others}" if bits >= 8 else "Scale the model's parameters"
        raise ConfigError(
            f"The initial model has a number of {largest:g}, beyond ±{fixed_point.bound:g}.",
            f"{remedy}, or have the model begin with smaller numbers.",
        )


def require_reproducible(
    factory: Callable[[], nn.Module], elsewhere: Callable[[], nn.Module], seed: int, examples: Examples
) -> None:
    """Check that a model is a function of its state: that a fresh one with the same state gives the same outputs.

    Parameters
    ----------
    factory, elsewhere
        Make a fresh module, here and where there is nothing but its code.
    seed
        What is random in them is seeded with it, differently in the second.
    examples
        Inputs [n, ...].

    Raises
    ------
    ConfigError
        If it is not, or if outputs are random in evaluation.
    """
    with seeded(seed):
        first = factory()
    with seeded(seed + 1):
        second = elsewhere()
    try:
        second.load_state_dict(first.state_dict(), strict=True)
    except RuntimeError as error:
        raise ConfigError(
            f"A fresh model does not take another one's state: {error}.",
            "Have model() return the same layers each time.",
        ) from error
    before = outputs(first, examples[:TRIED], seed)
    for module, other, remedy in (
        (first, "in one evaluation and the next", "Let forward draw random numbers in training mode alone."),
        (
            second,
            "in two models with the same state",
            "Register what model() draws at random as a buffer with persistent=True, so that it belongs to the state.",
        ),
    ):
        if not _same(before, outputs(module, examples[:TRIED], seed + 1)):
            raise ConfigError(f"The model's outputs for the same examples differ {other}.", remedy)
    require_forgetful(factory, seed, examples[:TRIED])


def outputs(module: nn.Module, examples: Examples, seed: int = 0) -> object:
    """Return what a module makes of some examples in evaluation.

    Raises
    ------
    ConfigError
        If it takes none such.
    """
    training = module.training
    module.eval()
    try:
        with seeded(seed), single_thread(), torch.inference_mode():
            return module(torch.from_numpy(np.ascontiguousarray(examples)))
    except Exception as error:
        raise unsuited(examples, error) from error
    finally:
        module.train(training)


def unsuited(examples: Examples, error: Exception) -> ConfigError:
    """Return the error that a model does not take some examples."""
    remedy = "Make its forward suit the inputs of the data: a batch of them is [examples, ...]."
    if isinstance(error, IndexError) and examples.size:
        remedy = (
            f"Give each embedding a row for every number among the inputs, which are {examples.min()} to "
            f"{examples.max()}: as many as the largest one, and one more."
        )
    elif "dtype" in str(error) or " type " in str(error):
        remedy = "Call .float() on frozen parts in another precision, or convert the inputs in forward()."
    return ConfigError(
        f"The model does not take examples of {examples.dtype}{list(examples.shape[1:])}: "
        f"{type(error).__name__}: {error}.",
        remedy,
    )


def _array(name: str, tensor: torch.Tensor) -> NDArray[np.generic]:
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        raise ConfigError(f"The tensor {name} is uninitialised.", "Give lazy modules their sizes.")
    try:
        array: NDArray[np.generic] = tensor.detach().numpy().copy()
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"The tensor {name} is {tensor.dtype}.", "Make it float32, or whole numbers.") from error
    if array.dtype not in NAMES:
        raise ConfigError(f"The tensor {name} is {tensor.dtype}.", "Make it float32, or whole numbers.")
    return array


def _described(
    module: nn.Module, arrays: dict[str, NDArray[np.generic]], examples: Examples | None
) -> TensorsSpec | None:
    still = [name for name, tensor in state_tensors(module).items() if not tensor.requires_grad]
    if len(still) > MAX_TENSORS:
        raise ConfigError(
            f"The model has {len(still):,} tensors without gradients; at most {MAX_TENSORS:,} can be named.",
            "Merge some of them.",
        )
    buffers = [name for name, _ in module.named_buffers() if name in arrays and arrays[name].dtype.kind == "f"]
    after = _after_training(module, examples, arrays, buffers) if buffers and examples is not None else {}
    moved = sorted(name for name in after if arrays[name].tobytes() != after[name].tobytes())
    statistics = [_statistic(name, arrays[name], after[name]) for name in moved]
    fixed = sorted(set(still) - set(moved))
    return TensorsSpec(statistics=statistics, fixed=fixed) if still else None


def _after_training(
    module: nn.Module, examples: Examples, before: Mapping[str, NDArray[np.generic]], names: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Return a copy's buffers by name after forward passes in training mode."""
    copied = copy.deepcopy(module).train()
    after = {name: np.array(before[name]) for name in names}
    batches = np.array_split(examples, max(1, len(examples) // BATCH))
    try:
        with seeded(0), single_thread(), torch.no_grad():
            for place in range(PASSES):
                copied(torch.from_numpy(np.ascontiguousarray(batches[place % len(batches)])))
                after = {name: copied.get_buffer(name).numpy() for name in names}
                if place == FEW and all(after[name].tobytes() == before[name].tobytes() for name in names):
                    break
    except Exception as error:
        raise unsuited(examples, error) from error
    return after


def _statistic(name: str, before: NDArray[np.generic], after: NDArray[np.generic]) -> StatisticSpec:
    """Return the description of a statistic, with room for what it may become."""
    if before.dtype != np.float32 or after.dtype != np.float32 or before.shape != after.shape:
        raise ConfigError(
            f"The buffer {name} changes in training, and is {before.dtype}{list(before.shape)}.",
            "Make it float32, of one shape.",
        )
    values = np.concatenate([np.ravel(before), np.ravel(after)]).astype(np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest) or largest > 2.0**MOST_BITS:
        raise ConfigError(
            f"The statistic {name} becomes {largest:g} on the training data.",
            "Scale the inputs, or the model's layers.",
        )
    bits = max(USUAL_BITS, ceil(log2(ROOM * largest)) if largest else 0)
    is_positive = name.rpartition(".")[2].rpartition("_")[2] in _NOT_NEGATIVE and values.min(initial=0.0) >= 0
    return StatisticSpec(
        name=name, length=before.size, least=0.0 if is_positive else None, bound_bits=min(bits, MOST_BITS)
    )


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return True
