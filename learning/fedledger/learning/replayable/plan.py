"""What a network computes, layer by layer, if it is one whose products can be exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import nn

from fedledger.learning.fast.perceptron_gradients import is_hooked
from fedledger.learning.fast.pooling import HalvingMaxPool2d
from fedledger.protocol.errors import ConfigError

MOST_INPUTS = 1 << 20
"""Terms of a sum in a forward pass."""
MOST_AVERAGED = 16
REMEDY = (
    "Make the model an nn.Sequential of nn.Linear, nn.Conv2d and nn.Embedding, each followed by nn.ReLU, nn.MaxPool2d, "
    "nn.AvgPool2d or nn.Flatten where wanted; or train and measure in floating point."
)

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A layer with weights, and what follows it up to the next one.

    Parameters
    ----------
    kind
        Which layer.
    weight, bias
        Names of its tensors.
    inputs, outputs
        Terms of each of its sums, without the bias, and numbers that it makes at each place.
    before, after
        Shapes of one example as the layer takes it and as it makes it, features first.
    kernel, stride, padding
        Of a convolution.
    pool, average
        Sides of the squares that are pooled to their maximum, and to their mean.
    rectified
        Whether what is below 0 becomes 0.
    turned
        Whether what is handed on has the places before the features.
    """

    kind: Literal["linear", "convolution", "embedding"]
    weight: str
    bias: str | None
    inputs: int
    outputs: int
    before: Shape
    after: Shape
    kernel: Shape = (1, 1)
    stride: Shape = (1, 1)
    padding: Shape = (0, 0)
    pool: int = 1
    average: int = 1
    rectified: bool = False
    turned: bool = False

    @property
    def matrix(self) -> Shape:
        """Shape of its weights as one matrix, with the biases as its last column."""
        if self.kind == "embedding":
            return self.inputs, self.outputs
        return self.outputs, self.inputs + (self.bias is not None)

    @property
    def pooled(self) -> Shape:
        """Shape of one example after the maxima."""
        return self._shrunk(self.after, self.pool)

    @property
    def handed(self) -> Shape:
        """Shape of one example as it is handed on, features first."""
        return self._shrunk(self.pooled, self.average)

    @staticmethod
    def _shrunk(shape: Shape, side: int) -> Shape:
        return (shape[0], *(size // side for size in shape[1:])) if side > 1 else shape


@dataclass(frozen=True)
class Plan:
    """A network.

    Parameters
    ----------
    inputs
        Shape of one example as the first layer takes it, in torch's order.
    whole
        Whether inputs are whole numbers, which the first layer looks up.
    blocks
        Its layers.
    """

    inputs: Shape
    whole: bool
    blocks: tuple[Block, ...]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(prod(block.matrix) for block in self.blocks)

    def flat(self, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return named tensors as one array [d], each layer's biases beside its weights."""
        parts = []
        for block in self.blocks:
            weight = named[block.weight].flatten(1)
            parts.append(weight if block.bias is None else torch.cat([weight, named[block.bias][:, None]], 1))
        return torch.cat([part.flatten() for part in parts])

    @classmethod
    def of(cls, module: nn.Module, inputs: torch.Tensor) -> Plan:
        """Return the plan of a module for examples such as [n, ...]; only shape and type of them count.

        Raises
        ------
        ConfigError
            If a part of it has no exact form, or does not take such examples.
        """
        maker = _Maker(tuple(inputs.shape[1:]), not inputs.is_floating_point())
        for name, layer in _layers(module):
            maker.add(name, layer)
        plan = maker.plan()
        trained = {name for block in plan.blocks for name in (block.weight, block.bias) if name is not None}
        others = {*module.state_dict()} - trained
        frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
        if others or frozen or len(trained) != len(list(module.parameters())):
            odd = sorted({*others, *frozen})[:3]
            raise ConfigError(
                f"A replayable network trains each of its tensors once; not so {', '.join(odd) or 'tied ones'}.",
                REMEDY,
            )
        return plan


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    if is_hooked(module):
        raise ConfigError(f"The model has hooks, in {prefix or 'the whole of it'}.", REMEDY)
    if type(module) is nn.Sequential:
        for name, child in module.named_children():
            yield from _layers(child, f"{prefix}{name}.")
    else:
        yield prefix, module


class _Maker:
    """Takes a network's layers in order."""

    def __init__(self, shape: Shape, whole: bool) -> None:
        self._shape, self._inputs, self._whole = shape, shape, whole
        self._blocks: list[Block] = []
        self._flat = False

    def plan(self) -> Plan:
        if not self._blocks:
            raise ConfigError("The model has no layer with weights.", REMEDY)
        last = self._blocks[-1]
        if last.rectified or last.pool > 1 or last.average > 1 or self._flat:
            raise ConfigError("The model does not end with a layer that has weights.", REMEDY)
        return Plan(self._inputs, self._whole, tuple(self._blocks))

    def add(self, name: str, layer: nn.Module) -> None:
        kind = type(layer)
        if isinstance(layer, nn.Linear) and kind is nn.Linear:
            self._linear(name, layer)
        elif isinstance(layer, nn.Conv2d) and kind is nn.Conv2d:
            self._convolution(name, layer)
        elif isinstance(layer, nn.Embedding) and kind is nn.Embedding:
            self._embedding(name, layer)
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            self._flatten()
        elif isinstance(layer, nn.Unflatten) and not self._blocks and layer.dim == 1 and len(self._shape) == 1:
            self._reshaped(tuple(layer.unflattened_size))
        elif kind is not nn.Identity:
            self._follow(name, layer)

    def _follow(self, name: str, layer: nn.Module) -> None:
        """Take what follows a layer with weights."""
        last = self._blocks[-1] if self._blocks and not self._flat else None
        changed = None
        if last is not None and last.kind != "embedding" and last.average == 1:
            if type(layer) is nn.ReLU and not last.rectified:
                changed = replace(last, rectified=True)
            elif last.kind == "convolution" and last.pool == 1 and type(layer) in (nn.MaxPool2d, HalvingMaxPool2d):
                changed = replace(last, pool=_square(name, layer))
            elif last.kind == "convolution" and type(layer) is nn.AvgPool2d:
                changed = replace(last, average=_square(name, layer))
        if changed is None:
            raise ConfigError(f"The layer {name.rstrip('.')}, {layer}, has no replayable form in its place.", REMEDY)
        if min(changed.handed) < 1:
            raise ConfigError(f"Nothing is left of an image after the layer {name.rstrip('.')}.", "Pool less.")
        self._blocks[-1] = changed
        self._shape = changed.handed

    def _flatten(self) -> None:
        if not self._blocks:
            self._reshaped((prod(self._shape),))
            return
        if self._blocks[-1].kind != "convolution" and len(self._shape) > 1:
            self._blocks[-1] = replace(self._blocks[-1], turned=True)
        self._flat = True
        self._shape = (prod(self._shape),)

    def _reshaped(self, shape: Shape) -> None:
        if self._whole and len(shape) != 1:
            raise ConfigError("Whole numbers are looked up in an nn.Embedding first.", REMEDY)
        self._shape = self._inputs = shape

    def _add(self, name: str, layer: nn.Linear | nn.Conv2d | nn.Embedding, block: Block) -> None:
        if block.inputs > MOST_INPUTS:
            raise ConfigError(f"The layer {name.rstrip('.')} adds {block.inputs:,} terms; at most {MOST_INPUTS:,}.")
        if (block.kind == "embedding") != (self._whole and not self._blocks):
            raise ConfigError(
                "Whole numbers, and they alone, are looked up in an nn.Embedding, which comes first.", REMEDY
            )
        self._blocks.append(block)
        self._shape, self._flat = block.after, False

    def _linear(self, name: str, layer: nn.Linear) -> None:
        shape = self._shape
        # Between layers, features come first; examples as they are given have them last.
        found = shape[-1] if not self._blocks else shape[0]
        if found != layer.in_features or len(shape) > 2:
            raise self._unsuited(name, layer)
        places = (shape[:-1] if not self._blocks else shape[1:]) if len(shape) > 1 else ()
        self._add(
            name,
            layer,
            Block(
                kind="linear",
                weight=f"{name}weight",
                bias=None if layer.bias is None else f"{name}bias",
                inputs=layer.in_features,
                outputs=layer.out_features,
                before=(layer.in_features, *places),
                after=(layer.out_features, *places),
            ),
        )

    def _convolution(self, name: str, layer: nn.Conv2d) -> None:
        if len(self._shape) != 3 or self._shape[0] != layer.in_channels or self._flat:
            raise self._unsuited(name, layer)
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        if not plain or isinstance(layer.padding, str):
            raise ConfigError(f"The layer {name.rstrip('.')}, {layer}, has no replayable form.", REMEDY)
        kernel, stride, padding = tuple(layer.kernel_size), tuple(layer.stride), tuple(layer.padding)
        sizes = zip(self._shape[1:], kernel, stride, padding, strict=True)
        side = tuple((size + 2 * around - width) // apart + 1 for size, width, apart, around in sizes)
        if min(side) < 1:
            raise self._unsuited(name, layer)
        self._add(
            name,
            layer,
            Block(
                kind="convolution",
                weight=f"{name}weight",
                bias=None if layer.bias is None else f"{name}bias",
                inputs=layer.in_channels * prod(kernel),
                outputs=layer.out_channels,
                before=self._shape,
                after=(layer.out_channels, *side),
                kernel=kernel,
                stride=stride,
                padding=padding,
            ),
        )

    def _embedding(self, name: str, layer: nn.Embedding) -> None:
        odd = layer.padding_idx is not None or layer.max_norm is not None or layer.sparse or layer.scale_grad_by_freq
        if len(self._shape) != 1 or odd:
            raise ConfigError(f"The layer {name.rstrip('.')}, {layer}, has no replayable form in its place.", REMEDY)
        self._add(
            name,
            layer,
            Block(
                kind="embedding",
                weight=f"{name}weight",
                bias=None,
                inputs=layer.num_embeddings,
                outputs=layer.embedding_dim,
                before=self._shape,
                after=(layer.embedding_dim, *self._shape),
            ),
        )

    def _unsuited(self, name: str, layer: nn.Module) -> ConfigError:
        return ConfigError(
            f"The layer {name.rstrip('.')}, {layer}, does not take {list(self._shape)} an example.", REMEDY
        )


def _square(name: str, layer: nn.Module) -> int:
    """Return the side of the squares that a layer pools, which do not overlap."""
    size, stride, padding = (_sides(getattr(layer, part)) for part in ("kernel_size", "stride", "padding"))
    side = size[0]
    plain = {*size, *stride} == {side} and set(padding) == {0} and not layer.ceil_mode
    if isinstance(layer, nn.AvgPool2d):
        plain = plain and side & (side - 1) == 0 and side <= MOST_AVERAGED and layer.divisor_override is None
    elif plain:
        plain = layer.dilation in (1, (1, 1)) and not layer.return_indices
    if not plain:
        raise ConfigError(
            f"The layer {name.rstrip('.')}, {layer}, has no replayable form.",
            "Pool squares that do not overlap; means of squares with a side of 2, 4, 8 or 16.",
        )
    return side


def _sides(size: int | Sequence[int]) -> Sequence[int]:
    return (size,) if isinstance(size, int) else size
