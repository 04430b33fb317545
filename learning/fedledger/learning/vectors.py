"""A model's parameters as views of one flat vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.fast.perceptron_gradients import PerceptronGradient
from fedledger.learning.global_generators import GeneratorStates
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spec import TensorsSpec

ALIGNMENT = 16
"""Alignment of each tensor in the flat vector, in float32 elements (64 bytes)."""

Float32Array = NDArray[np.float32]

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a model lie that training moves: packed without padding, and each on a 64-byte boundary.

    The packed vector holds the tensors that updates move, in the order of their names, then the statistics, in theirs.
    The aligned vector holds the trainable parameters first, so that one slice of it is everything that a solver may
    change.

    Attributes
    ----------
    names
        Names of the tensors in the packed vector.
    shapes
        Their shapes.
    offsets
        Their first elements in the aligned vector.
    trainable
        Length of the aligned vector's prefix that holds the trainable parameters.
    length
        Length of the aligned vector.
    statistics
        Number of coordinates s of the statistics.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    trainable: int
    length: int
    statistics: int = 0

    @classmethod
    def of(cls, module: torch.nn.Module, described: TensorsSpec | None = None) -> Layout:
        """Return the layout of a module, as a task describes its tensors.

        Without a description, updates move all parameters and persistent float buffers.

        Raises
        ------
        ConfigError
            If the module has no trainable parameter, a tensor to move that is not float32, or other tensors than those
            described.
        """
        tensors, statistics = _moving(module, described)
        offsets: dict[str, int] = {}
        end = trainable = 0
        for name in sorted(tensors, key=lambda name: (not tensors[name].requires_grad, name)):
            offsets[name] = end
            end += -(-tensors[name].numel() // ALIGNMENT) * ALIGNMENT
            trainable = end if tensors[name].requires_grad else trainable
        if not trainable:
            raise ConfigError("The model has no trainable parameter.", "Add one, or set requires_grad.")
        names = (*sorted(set(tensors) - set(statistics)), *statistics)
        shapes = tuple(tuple(tensors[name].shape) for name in names)
        values = sum(tensors[name].numel() for name in statistics)
        return cls(names, shapes, tuple(offsets[name] for name in names), trainable, end, values)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each tensor."""
        return tuple(prod(shape) for shape in self.shapes)

    @cached_property
    def places(self) -> list[tuple[slice, slice]]:
        """Slice of each tensor in the packed vector, and in the aligned one."""
        starts = accumulate(self.sizes[:-1], initial=0)
        parts = zip(starts, self.offsets, self.sizes, strict=True)
        return [(slice(start, start + n), slice(offset, offset + n)) for start, offset, n in parts]

    @cached_property
    def runs(self) -> list[tuple[slice, slice]]:
        """Slices of the packed vector, and of the aligned one, that hold the same tensors: as few as there can be."""
        return _joined(self.places)

    @cached_property
    def trainable_runs(self) -> list[tuple[slice, slice]]:
        """The runs of the trainable parameters alone."""
        return _joined([place for place in self.places if place[1].start < self.trainable])

    @cached_property
    def size(self) -> int:
        """Number of coordinates d + s of the packed vector."""
        return sum(self.sizes)

    @cached_property
    def dimension(self) -> int:
        """Number of coordinates d that updates move: the first ones of the packed vector."""
        return self.size - self.statistics

    def named(self, vector: Float32Array) -> dict[str, Float32Array]:
        """Return the tensors of a packed vector as views of it.

        Raises
        ------
        ConfigError
            If the vector is not float32 of length ``size``.
        """
        self.check(vector)
        parts = zip(self.names, self.shapes, self.places, strict=True)
        return {name: vector[packed].reshape(shape) for name, shape, (packed, _) in parts}

    def from_named(self, tensors: Mapping[str, NDArray[Any]]) -> Float32Array:
        """Return the packed vector of named float32 tensors.

        Raises
        ------
        ConfigError
            If a name, shape or dtype is not the layout's.
        """
        if set(tensors) != set(self.names):
            odd = ", ".join(sorted(set(tensors) ^ set(self.names)))
            raise ConfigError(f"The model and the tensors differ in {odd}.", "Use the model of the task's spec.")
        for name, shape in zip(self.names, self.shapes, strict=True):
            given = tensors[name]
            if given.shape != shape or given.dtype != np.float32:
                found = f"{given.dtype}{list(given.shape)}, not float32{list(shape)}"
                raise ConfigError(f"The tensor {name} is {found}.", "Use the model of the task's spec.")
        return np.concatenate([tensors[name].ravel() for name in self.names]).astype(np.float32, copy=False)

    def check(self, vector: NDArray[Any]) -> None:
        """Raise ConfigError unless ``vector`` is float32 of length ``size``."""
        _check(vector, self.size)


class FlatModel:
    """A module whose parameters, float buffers and gradients are views of two flat tensors.

    The module is moved to the device and changed in place. Tied parameters stay tied. Whatever training does not move
    is the same after each `load`, so that a model is a function of its vector alone.

    Parameters
    ----------
    module
        The module; keep using it through this object.
    device
        Where it computes. Packed vectors are always the host's.
    described
        How the task describes the model's tensors; without a description, updates move all that are float32.
    fixed
        What the tensors are that no update moves, by name: those of the task's initial model. As the module has them
        unless given.

    Attributes
    ----------
    module
        The module.
    layout
        Where its tensors lie.
    trainable
        float32[layout.trainable]: the trainable parameters and their padding, which stays zero.
    gradient
        Of the same shape: what ``backward`` adds to.

    Raises
    ------
    ConfigError
        If a tensor to move is not float32, none is trainable, or the tensors are not as described.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        device: str = "cpu",
        described: TensorsSpec | None = None,
        fixed: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self._is_away = self.device.type != "cpu"
        # In one mode throughout, as evaluation puts back what it finds.
        self.module = module.to(self.device).train()
        self.layout = Layout.of(module, described)
        if fixed is not None:
            _require_all_fixed(fixed, described)
            _set_fixed(module, fixed)
        self._flat = torch.zeros(self.layout.length, device=self.device)
        self._values: Float32Array = np.zeros(self.layout.length, np.float32) if self._is_away else self._flat.numpy()
        self.trainable = self._flat[: self.layout.trainable]
        self.gradient = torch.zeros(self.layout.trainable, device=self.device)
        self._runs, self._trainable_runs = self.layout.runs, self.layout.trainable_runs
        self._buffers: list[tuple[torch.nn.Module, str, torch.Tensor]] = []
        tensors, _ = _moving(module, described)
        for name, shape, (_, place) in zip(self.layout.names, self.layout.shapes, self.layout.places, strict=True):
            tensor, view = tensors[name], self._flat[place].view(shape)
            view.copy_(tensor.detach())
            if isinstance(tensor, torch.nn.Parameter):
                tensor.data = view
                tensor.grad = self.gradient[place].view(shape) if tensor.requires_grad else None
            else:
                owner, key = _owner(module, name)
                owner._buffers[key] = view
                self._buffers.append((owner, key, view))
        self._kept = [
            (*_owner(module, name), buffer.detach().clone())
            for name, buffer in module.named_buffers()
            if name not in tensors
        ]

    @cached_property
    def perceptron_gradient(self) -> PerceptronGradient | None:
        """Computes mean cross-entropy and its gradient without autograd, with the same bits; None if there is no way.

        There is none for a module that is no plain perceptron, or elsewhere than on the CPU.
        """
        if self._is_away:
            return None
        try:
            return PerceptronGradient(self.module, self.gradient)
        except ValueError:
            return None

    def vector(self) -> Float32Array:
        """Return a copy of the model as a packed float32[d + s]."""
        if self._buffers:
            self._rejoin()
        if self._is_away:
            torch.from_numpy(self._values).copy_(self._flat)
        packed = np.empty(self.layout.size, np.float32)
        for packed_at, aligned_at in self._runs:
            packed[packed_at] = self._values[aligned_at]
        return packed

    def load(self, vector: Float32Array) -> None:
        """Set the model to a packed float32[d + s]; raises ConfigError if it is anything else."""
        self.layout.check(vector)
        if self._buffers:
            self._rejoin()
        for packed_at, aligned_at in self._runs:
            self._values[aligned_at] = vector[packed_at]
        if self._is_away:
            self._flat.copy_(torch.from_numpy(self._values))
        for owner, key, buffer in self._kept:
            current = owner._buffers[key]
            if current is None or current.dtype != buffer.dtype or not torch.equal(current, buffer):
                # A tensor that is made while a model is only evaluated could not be trained with.
                with torch.inference_mode(False):
                    owner._buffers[key] = buffer.clone()

    def aligned(self, vector: Float32Array) -> torch.Tensor:
        """Return float32[d], one number for each that updates move, as ``trainable`` is laid out.

        Raises
        ------
        ConfigError
            If it is anything else.
        """
        _check(vector, self.layout.dimension)
        values = np.zeros(self.layout.trainable, np.float32)
        for packed_at, aligned_at in self._trainable_runs:
            values[aligned_at] = vector[packed_at]
        return torch.from_numpy(values).to(self.device)

    def packed(self, trainable: torch.Tensor) -> Float32Array:
        """Return what is laid out as ``trainable`` is as float32[d], zero where nothing is trained."""
        values: Float32Array = trainable.cpu().numpy()
        packed = np.zeros(self.layout.dimension, np.float32)
        for packed_at, aligned_at in self._trainable_runs:
            packed[packed_at] = values[aligned_at]
        return packed

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the module's whole state by name, which a fresh module of the kind loads strictly."""
        if self._buffers:
            self._rejoin()
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.module.state_dict().items()}

    def named(self, vector: Float32Array) -> dict[str, Float32Array]:
        """Return the tensors of a packed vector; see `Layout.named`."""
        return self.layout.named(vector)

    def from_named(self, tensors: Mapping[str, NDArray[Any]]) -> Float32Array:
        """Return the packed vector of named tensors; see `Layout.from_named`."""
        return self.layout.from_named(tensors)

    def lost(self) -> list[str]:
        """Return the trained parameters that are no views of the flat tensors any more, or whose gradients are none."""
        values, gradients = (tensor.untyped_storage().data_ptr() for tensor in (self._flat, self.gradient))
        return [
            name
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
            and (
                parameter.untyped_storage().data_ptr() != values
                or parameter.grad is None
                or parameter.grad.untyped_storage().data_ptr() != gradients
            )
        ]

    def _rejoin(self) -> None:
        # A forward pass may assign a buffer instead of writing into it; the new value must not get lost.
        for owner, key, view in self._buffers:
            current = owner._buffers[key]
            if current is not view:
                if current is None or current.shape != view.shape:
                    raise ConfigError(f"The buffer {key} changed its shape.", "Keep float buffers' shapes fixed.")
                view.copy_(current.detach())
                owner._buffers[key] = view


def _owner(module: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    path, _, key = name.rpartition(".")
    return module.get_submodule(path), key


def state_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's parameters and persistent buffers, each once, by name."""
    persistent = module.state_dict(keep_vars=True).keys()
    buffers = ((name, buffer) for name, buffer in module.named_buffers() if name in persistent)
    return {**dict(module.named_parameters()), **dict(buffers)}


def _moving(module: torch.nn.Module, described: TensorsSpec | None) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Return the tensors that training moves, by name, and which of them are statistics."""
    tensors = state_tensors(module)
    statistics: tuple[str, ...] = ()
    if described is None:
        moving = {
            name: tensor
            for name, tensor in tensors.items()
            if isinstance(tensor, torch.nn.Parameter) or tensor.is_floating_point() or tensor.is_complex()
        }
    else:
        statistics = tuple(statistic.name for statistic in described.statistics)
        moving = {name: tensor for name, tensor in tensors.items() if name not in set(described.fixed)}
        _require_described(tensors, moving, described)
    for name, tensor in moving.items():
        if tensor.dtype != torch.float32 or isinstance(tensor, torch.nn.UninitializedParameter):
            kind = "uninitialised" if isinstance(tensor, torch.nn.UninitializedParameter) else tensor.dtype
            raise ConfigError(f"The tensor {name} is {kind}.", "Build the model with float32 tensors of fixed shape.")
    return moving, statistics


def _require_described(
    tensors: Mapping[str, torch.Tensor], moving: Mapping[str, torch.Tensor], described: TensorsSpec
) -> None:
    lengths = {statistic.name: statistic.length for statistic in described.statistics}
    odd = {name for name in moving if moving[name].requires_grad == (name in lengths)}
    odd |= {name for name, length in lengths.items() if name not in moving or moving[name].numel() != length}
    odd |= set(described.fixed) - set(tensors)
    if odd:
        raise ConfigError(
            f"The model and the description of its tensors differ in {', '.join(sorted(odd)[:5])}.",
            "Use the model of the task's spec.",
        )


def _require_all_fixed(fixed: Mapping[str, object], described: TensorsSpec | None) -> None:
    """Raise ConfigError unless all is given that no update moves: what is not would be random, and so all that follows.

    Two honest parties would measure different losses of one model, and one of them would be punished for it.
    """
    lacking = set(() if described is None else described.fixed) - set(fixed)
    if lacking:
        raise ConfigError(
            f"The initial model lacks {', '.join(sorted(lacking)[:5])}, which no update moves.",
            "Use the model of the task's spec.",
        )


def _set_fixed(module: torch.nn.Module, fixed: Mapping[str, NDArray[np.generic]]) -> None:
    """Give tensors that no update moves their values."""
    tensors = state_tensors(module)
    for name, values in fixed.items():
        given = torch.from_numpy(np.array(values))
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != given.shape or tensor.dtype != given.dtype:
            raise ConfigError(f"The initial model's {name} is not the model's.", "Use the model of the task's spec.")
        with torch.no_grad():
            tensor.copy_(given)


def _check(vector: NDArray[Any], length: int) -> None:
    if vector.dtype != _FLOAT32 or vector.shape != (length,):
        found = f"{vector.dtype}{list(vector.shape)}"
        raise ConfigError(
            f"The vector is {found}, the model's is float32[{length}].", "Use the model of the task's spec."
        )


def _joined(places: Sequence[tuple[slice, slice]]) -> list[tuple[slice, slice]]:
    joined: list[tuple[slice, slice]] = []
    for packed, aligned in places:
        if joined and joined[-1][0].stop == packed.start and joined[-1][1].stop == aligned.start:
            first = joined.pop()
            joined.append((slice(first[0].start, packed.stop), slice(first[1].start, aligned.stop)))
        else:
            joined.append((packed, aligned))
    return joined


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute with one thread, so that sums are taken in one order; restored on leaving."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class repeatable(AbstractContextManager[None]):  # noqa: N801  (it is used like a function)
    """Guards the process around local training: torch has one thread, and global generators are put back on leaving.

    A solver seeds torch's generator, NumPy's and Python's, and leaves them so. Whoever calls many solvers does so
    within one guard; one in another costs nothing.
    """

    _depth = 0

    def __enter__(self) -> None:
        if not repeatable._depth:
            self._threads, self._states = torch.get_num_threads(), GeneratorStates()
            if self._threads != 1:
                torch.set_num_threads(1)
        repeatable._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        repeatable._depth -= 1
        if not repeatable._depth:
            self._states.restore()
            if self._threads != 1:
                torch.set_num_threads(self._threads)
