"""Whether all that a model is lies in its parameters and buffers, each in memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedledger.learning.global_generators import seeded
from fedledger.learning.vectors import single_thread, state_tensors
from fedledger.protocol.errors import ConfigError

PASSES = 4
"""Forward passes after which a model that remembers something outside its state is another one."""
_CHANGED = "The model remembers earlier batches outside its parameters and buffers"


def require_tensors(module: nn.Module) -> None:
    """Check that a module's state consists of tensors that can be set one by one.

    Raises
    ------
    ConfigError
        If it has extra state, is compiled by ``torch.jit`` and has buffers, or if two of its tensors share memory.
    """
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"The model's state has {name} of type {type(value).__name__}.",
                "Only tensors travel: make it a buffer, or leave get_extra_state() out.",
            )
    has_buffer = next(module.buffers(), None) is not None
    if has_buffer and any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ConfigError(
            "The model is compiled by torch.jit, and its buffers cannot be set.", "Return the module as it was before."
        )
    _require_own_memory(
        {
            name: tensor
            for name, tensor in state_tensors(module).items()
            if not isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
        }
    )


def require_forgetful(factory: Callable[[], nn.Module], seed: int, examples: NDArray[np.generic]) -> None:
    """Check that a model that has seen batches is a fresh one again once its parameters and buffers are.

    Else what a participant trains would depend on who trained before in the same process, and the saved model would be
    another one than the one that was measured.

    Parameters
    ----------
    factory
        Makes a fresh module.
    seed
        A seed for what the model draws.
    examples
        A batch of inputs.

    Raises
    ------
    ConfigError
        If it is not.
    """
    batch = torch.from_numpy(np.ascontiguousarray(examples))
    with seeded(seed):
        used = factory()
    with seeded(seed), single_thread(), torch.no_grad():
        # From the same seed: what a model draws besides its state is not what it remembers.
        fresh = factory()
        fresh.load_state_dict(used.state_dict())
        state = {name: tensor.clone() for name, tensor in used.state_dict().items()}
        buffers = {name: buffer.clone() for name, buffer in used.named_buffers()}
        counters = list(_passes(used, batch))
        added = sorted(set(used.state_dict()) - set(state))
        if added:
            raise ConfigError(
                f"The buffer {added[0]} is not there before a forward pass.", "Register it with a value from the start."
            )
        used.load_state_dict(state)
        for name, buffer in used.named_buffers():
            if name in buffers and buffer.shape == buffers[name].shape:
                buffer.copy_(buffers[name])
        same = all(
            _outputs(used, batch, seed, is_training).equal(_outputs(fresh, batch, seed, is_training))
            for is_training in (True, False)
        )
    counting = [name for name in counters[0] if all(a.get(name) != b.get(name) for a, b in pairwise(counters))]
    if counting or not same:
        raise ConfigError(
            f"{_CHANGED}{f', in {counting[0]}' if counting else ''}.",
            "Register what it remembers as a float32 buffer with a value from the start: each round goes on with it.",
        )


def _require_own_memory(tensors: Mapping[str, torch.Tensor]) -> None:
    memories: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if any(length > 1 and not stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True)):
            raise ConfigError(
                f"Numbers of the tensor {name} share memory, as expand() leaves them.", "Add .clone() where it is made."
            )
        if tensor.numel():
            memories.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    for one, other in (pair for names in memories.values() for pair in combinations(names, 2)):
        if np.intersect1d(_places(tensors[one]), _places(tensors[other])).size:
            raise ConfigError(
                f"The tensors {one} and {other} share memory without being the same.",
                "To tie weights give both modules the same parameter, and transpose or cut it in forward(); else add "
                ".clone().",
            )


def _passes(module: nn.Module, batch: torch.Tensor) -> Iterator[dict[str, int]]:
    """Yield what a module's attributes count after each of some forward passes, of which the last one evaluates."""
    for place in range(PASSES):
        _outputs(module, batch, place, is_training=True)
        yield {
            f"{name}.{key}".lstrip("."): value
            for name, part in module.named_modules()
            for key, value in vars(part).items()
            if type(value) is int
        }
    _outputs(module, batch, PASSES, is_training=False)


def _outputs(module: nn.Module, batch: torch.Tensor, seed: int, is_training: bool) -> torch.Tensor:
    module.train(is_training)
    with seeded(seed):
        outputs: torch.Tensor = module(batch)
    # NaN is no other than NaN.
    return outputs.nan_to_num()


def _places(tensor: torch.Tensor) -> NDArray[np.int64]:
    """Return where in its storage a tensor's numbers lie, in bytes."""
    places: NDArray[np.int64] = np.full((), tensor.storage_offset(), np.int64)
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = places[..., None] + stride * np.arange(length)
    return places.ravel() * tensor.element_size()
