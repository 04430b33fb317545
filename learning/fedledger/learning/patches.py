"""The first convolution of a network, for examples that many models look at.

Convolutions of images with one to three channels leave most of a vector unit idle: in LeNet they take a third of the
time of a forward pass. Where the examples stay the same, the patches that a kernel sees can be cut out once. What is
left for each model is one product of matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fedledger.learning.direct import is_hooked
from fedledger.learning.models import HalvingMaxPool2d

MOST_CHANNELS = 3
MOST_BYTES = 64 * 1024 * 1024
"""Of all patches; more would not pay, as they are read once a model."""
RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity)


@dataclass(frozen=True)
class Patches:
    """What the first convolution of a network sees.

    Parameters
    ----------
    columns
        float32[channels · kernel area, n · positions].
    place
        Which part of the network it is.
    height, width
        Of what comes out of it.
    """

    columns: torch.Tensor
    place: int
    height: int
    width: int

    @classmethod
    def of(cls, layers: Sequence[nn.Module], inputs: torch.Tensor) -> Patches | None:
        """Cut out the patches of float32[n, ...], given :func:`first_layers`; None if they would be too large."""
        if not layers:
            return None
        *before, convolution = layers
        assert isinstance(convolution, nn.Conv2d)
        with torch.inference_mode():
            images = inputs
            for part in before:
                images = part(images)
            if images.ndim != 4:
                return None
            height, width = convolution(images[:1]).shape[2:]
            if 4 * convolution.weight[0].numel() * height * width * len(images) > MOST_BYTES:
                return None
            size, padding, stride = convolution.kernel_size, convolution.padding, convolution.stride
            unfolded = functional.unfold(images, size, padding=padding, stride=stride)  # type: ignore[arg-type]
            return cls(unfolded.transpose(0, 1).reshape(unfolded.shape[1], -1), len(before), height, width)

    def __call__(self, module: nn.Module, start: int, stop: int) -> torch.Tensor:
        """Return the outputs of a module of the same kind for the examples from ``start`` to ``stop``."""
        convolution, *after = _ordered(itertools.islice(module.children(), self.place, None))
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        positions = self.height * self.width
        columns = self.columns[:, start * positions : stop * positions]
        outputs = torch.addmm(convolution.bias.unsqueeze(1), convolution.weight.flatten(1), columns)
        outputs = outputs.view(-1, stop - start, self.height, self.width).transpose(0, 1)
        for part in after:
            outputs = part(outputs)
        return outputs


def _ordered(parts: Iterable[nn.Module]) -> list[nn.Module]:
    """Return parts with pooling before what rectifies: that keeps the order of values, so the result is the same.

    Only a fourth of the values are left to be rectified then.
    """
    ordered = list(parts)
    for place in range(len(ordered) - 1):
        rectifier, pooling = ordered[place : place + 2]
        if type(rectifier) is nn.ReLU and type(pooling) is HalvingMaxPool2d and not is_hooked(rectifier):
            ordered[place : place + 2] = pooling, rectifier
    return ordered


def first_layers(module: nn.Module) -> Sequence[nn.Module]:
    """Return a sequence's parts up to its first layer, if that is a plain convolution of a few channels; else none."""
    parts = list(module.children())
    place = next((i for i, part in enumerate(parts) if not isinstance(part, RESHAPING)), len(parts))
    layers = parts[: place + 1]
    if type(module) is not nn.Sequential or any(map(is_hooked, [module, *layers])):
        return ()
    first = layers[-1] if layers else None
    if type(first) is not nn.Conv2d or first.bias is None or isinstance(first.padding, str):
        return ()
    is_plain = first.groups == 1 and first.dilation == (1, 1) and first.padding_mode == "zeros"
    return layers if is_plain and first.in_channels <= MOST_CHANNELS else ()
