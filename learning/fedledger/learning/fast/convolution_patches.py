"""The first convolution of a network, for examples that many models look at.

Convolutions of images with one to three channels leave most of a vector unit idle: in LeNet they take a third of the
time of a forward pass. Where the examples stay the same, the patches that a kernel sees can be cut out once. What is
left for each model is one product of matrices; and what is left for several models is one product, too, which takes
half the time of theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn import functional

from fedledger.learning.fast.perceptron_gradients import is_hooked
from fedledger.learning.fast.pooling import HalvingMaxPool2d

MOST_CHANNELS = 3
MOST_BYTES = 64 * 1024 * 1024
"""Of all patches; more would not pay, as they are read once a model."""
MOST_AT_ONCE = 2 * 1024 * 1024
"""Bytes of what comes out for several models at once: as much as stays near a processor."""
RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity)


@dataclass(frozen=True)
class ConvolutionPatches:
    """What the first convolution of a network sees.

    Parameters
    ----------
    columns
        float32[q, channels · kernel area, n · positions]. Where four values that come out are pooled to one, q is 4, so
        that those that are compared lie in whole matrices; else it is 1.
    place
        Which part of the network the convolution is.
    height, width
        Of what comes out of it, once pooled.
    proved
        For how many kernels at once, and how many columns, it is known whether each kernel gets the bits that it gets
        by itself, and whether it does.
    """

    columns: torch.Tensor
    place: int
    height: int
    width: int
    proved: dict[tuple[int, int], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, layers: Sequence[nn.Module], inputs: torch.Tensor) -> ConvolutionPatches | None:
        """Cut out the patches of float32[n, ...], given :func:`first_layers`; None if they would be too large."""
        if not layers:
            return None
        pools = _pools(layers[-1])
        *before, convolution = layers[:-1] if pools else layers
        assert isinstance(convolution, nn.Conv2d)
        with torch.inference_mode():
            images = inputs
            for part in before:
                images = part(images)
            if images.ndim != 4:
                return None
            height, width = convolution(images[:1]).shape[2:]
            apart = 2 if pools else 1
            rows, columns = height // apart, width // apart
            size = 4 * convolution.weight[0].numel() * height * width * len(images)
            if not rows * columns or size > MOST_BYTES:
                return None
            kernel, padding, stride = convolution.kernel_size, convolution.padding, convolution.stride
            unfolded = functional.unfold(images, kernel, padding=padding, stride=stride)  # type: ignore[arg-type]
            cells = unfolded.view(len(images), -1, height, width)[..., : rows * apart, : columns * apart]
            cells = cells.reshape(len(images), -1, rows, apart, columns, apart).permute(3, 5, 1, 0, 2, 4)
            return cls(cells.reshape(apart * apart, unfolded.shape[1], -1), len(before), rows, columns)

    def part(self, places: torch.Tensor) -> ConvolutionPatches:
        """Return the patches of some of the examples, by their places int64[m]."""
        positions = self.height * self.width
        columns = self.columns.view(*self.columns.shape[:2], -1, positions)[:, :, places]
        return replace(self, columns=columns.flatten(2))

    @property
    def kernel(self) -> str:
        """Name of the convolution's weight in the network."""
        return f"{self.place}.weight"

    def convolve(self, kernels: Sequence[torch.Tensor], start: int, stop: int) -> Iterator[torch.Tensor]:
        """Yield what each kernel makes of the examples from ``start`` to ``stop``.

        It is float32[n', c, height, width] without a bias, and pooled.
        """
        positions = self.height * self.width
        seen = self.columns[:, :, start * positions : stop * positions]
        joint = max(1, MOST_AT_ONCE // (4 * len(kernels[0]) * seen.shape[2]))
        for first in range(0, len(kernels), joint):
            matrices = [kernel.flatten(1) for kernel in kernels[first : first + joint]]
            largest = self._products(matrices, seen[0])
            for columns in seen[1:]:
                torch.maximum(largest, self._products(matrices, columns), out=largest)
            for outputs in largest.chunk(len(matrices)):
                yield outputs.view(-1, stop - start, self.height, self.width).transpose(0, 1)

    def _products(self, matrices: Sequence[torch.Tensor], columns: torch.Tensor) -> torch.Tensor:
        """Multiply matrices with columns, all at once where that gives the bits of one after another."""
        place = len(matrices), columns.shape[1]
        if len(matrices) == 1:
            return torch.mm(matrices[0], columns)
        if self.proved.get(place, True):
            joint = torch.mm(torch.cat(list(matrices)), columns)
            if place in self.proved:
                return joint
        alone = torch.cat([torch.mm(matrix, columns) for matrix in matrices])
        if place not in self.proved:
            self.proved[place] = torch.equal(joint.view(torch.int32), alone.view(torch.int32))
        return alone

    def rest(self, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what makes the outputs of a module of the same kind of what :meth:`convolve` yields for its kernel."""
        convolution, *after = _ordered(itertools.islice(module.children(), self.place, None))
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        bias = convolution.bias[:, None, None]
        parts = after[1:] if len(self.columns) > 1 else after

        def finish(convolved: torch.Tensor) -> torch.Tensor:
            # The largest of several values stays the largest when the same is added to all of them.
            outputs = convolved + bias
            for part in parts:
                outputs = part(outputs)
            return outputs

        return finish


def _pools(part: nn.Module) -> bool:
    return type(part) is HalvingMaxPool2d and not is_hooked(part)


def _ordered(parts: Iterable[nn.Module]) -> list[nn.Module]:
    """Return parts with pooling before what rectifies: that keeps the order of values, so the result is the same.

    Only a fourth of the values are left to be rectified then.
    """
    ordered = list(parts)
    for place in range(len(ordered) - 1):
        rectifier, pooling = ordered[place : place + 2]
        if type(rectifier) is nn.ReLU and not is_hooked(rectifier) and _pools(pooling):
            ordered[place : place + 2] = pooling, rectifier
    return ordered


def first_layers(module: nn.Module) -> Sequence[nn.Module]:
    """Return a sequence's parts up to its first layer, if that is a plain convolution of a few channels; else none.

    If what comes out is pooled first of all, or may be, the last part is what pools.
    """
    parts = _ordered(module.children())
    place = next((i for i, part in enumerate(parts) if not isinstance(part, RESHAPING)), len(parts))
    layers = parts[: place + 1]
    if type(module) is not nn.Sequential or any(map(is_hooked, [module, *layers])):
        return ()
    first = layers[-1] if layers else None
    if type(first) is not nn.Conv2d or first.bias is None or isinstance(first.padding, str):
        return ()
    is_plain = first.groups == 1 and first.dilation == (1, 1) and first.padding_mode == "zeros"
    if not is_plain or first.in_channels > MOST_CHANNELS:
        return ()
    return parts[: place + 2] if any(map(_pools, parts[place + 1 : place + 2])) else layers
