"""A network's outputs and gradients, with examples in the innermost dimension of every array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch

from fedledger.learning.replayable.arithmetic import (
    ACTIVATION_BITS,
    WEIGHT_BITS,
    WEIGHT_LIMIT,
    DivergedError,
    RowBound,
    Singles,
    magnitude,
)
from fedledger.learning.replayable.grids import ACTIVATION_LIMIT, rounder
from fedledger.learning.replayable.plan import Block, Plan

Tensor = torch.Tensor
_ACTIVATION, _WEIGHT = rounder(ACTIVATION_BITS, torch.float32), rounder(WEIGHT_BITS, torch.float32)
_threshold_backward = torch.ops.aten.threshold_backward.default


class Network:
    """A network of any size and kind of layers that a plan may have.

    Parameters
    ----------
    plan, arithmetic
        What is computed, and how.

    Attributes
    ----------
    stored, gradient
        float32[d], laid out alike: the weights, and the gradient that :meth:`backward` leaves.
    """

    copies = 1
    velocity_grid = rounder(50, torch.float32)

    def __init__(self, plan: Plan, arithmetic: Singles) -> None:
        self.plan, self.arithmetic = plan, arithmetic
        self.stored = torch.zeros(plan.parameters)
        self.operand, self.gradient = torch.zeros_like(self.stored), torch.zeros_like(self.stored)
        self._layers: list[_Layer] = []
        start = 0
        for block in plan.blocks:
            place = slice(start, start + prod(block.matrix))
            views = (flat[place].view(block.matrix) for flat in (self.operand, self.gradient))
            self._layers.append(_KINDS[block.kind](block, arithmetic, *views))
            self._layers[-1].part = place
            start = place.stop

    def places(self) -> tuple[Tensor, Tensor]:
        """Return of each number in ``stored`` its place in the plan's flat array, and its copy: the one that is."""
        return torch.arange(len(self.stored)), torch.zeros(len(self.stored), dtype=torch.int64)

    def load(self, weights: Tensor) -> None:
        """Set the weights to float32[d], which are finite."""
        # Adding 0 makes −0 to 0: which of them a product's zero is depends on the processor.
        torch.add(weights, 0.0, out=self.stored)
        for layer in self._layers:
            layer.rows.reset()

    def weights(self, part: slice) -> Tensor:
        """Return a part of the weights as they are."""
        return self.stored[part].clone()

    def moved(self, scale: float, momentum: float, is_pulled: bool) -> None:
        """Take notice of a step: momentum times the last one, plus the gradient times a scale, and what pulls."""
        for layer in self._layers:
            if is_pulled:
                layer.rows.forget()
            else:
                layer.rows.moved(momentum, scale * layer.longest)

    def prepared(self, inputs: Tensor) -> Tensor:
        """Return examples [n, ...] as the network takes them: numbers on the activations' grid, within ±16."""
        if self.plan.whole:
            return inputs.reshape(len(inputs), -1)
        numbers = inputs.reshape(len(inputs), *self.plan.inputs)
        first = self.plan.blocks[0]
        if numbers.ndim > 2 or first.bias is None:
            found = numbers.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        else:
            # Beside each example is the 1 that the bias is multiplied with.
            found = torch.empty(len(numbers), first.inputs + 1)
            found[:, -1] = 1.0
            torch.clamp(numbers, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, out=found[:, :-1])
        return found.add_(_ACTIVATION).sub_(_ACTIVATION)

    def refresh(self, part: slice) -> None:
        """Let products take a part of the weights as it is now."""
        torch.add(self.stored[part], _WEIGHT, out=self.operand[part]).sub_(_WEIGHT)

    def batch(self, prepared: Tensor) -> Tensor:
        """Return prepared examples, or their targets, as they are."""
        return prepared

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return exact outputs [outputs, positions · n] of prepared examples [n, ...]."""
        layers = self._layers
        layers[0].take(inputs)
        last = len(layers) - 1
        for place, layer in enumerate(layers):
            made = layer.outputs()
            if place < last:
                layer.hand_on(made, layers[place + 1], inputs.shape[0])
        return made

    def backward(self, delta: Tensor, step: Callable[[slice], None]) -> None:
        """Leave each layer's gradient, given that of the outputs, and take a step with it.

        A step follows at once, while what it needs is near the processor.
        """
        for place in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[place]
            delta = layer.back(delta, place > 0)
            step(layer.part)
            if place:
                delta = self._layers[place - 1].taken_back(delta)


class _Layer:
    """A layer with weights and what follows it.

    ``seen`` is the matrix that the weights are multiplied with; ``intake`` is where the layer before writes its part
    of that.
    """

    def __init__(self, block: Block, arithmetic: Singles, weight: Tensor, gradient: Tensor) -> None:
        self.block, self.arithmetic = block, arithmetic
        self.matrix, self.gradient = weight, gradient
        self.weight = weight if block.bias is None else weight[:, :-1]
        self.transposed = self.weight.t()
        self.low = 0.0 if block.rectified else -ACTIVATION_LIMIT
        self.seen = self.kept = self._contiguous = weight
        self._intakes: dict[int, tuple[Tensor, Tensor]] = {}
        self._pooled: tuple[list[Tensor], Tensor] = [], weight
        self.rows = RowBound(weight.shape[1])
        self.part = slice(None)
        self.highest = 1.0
        """Largest magnitude of what is seen."""
        self.longest = 0.0
        """Bound on the norm of a row of the gradient."""

    def take(self, inputs: Tensor) -> None:
        """Take prepared examples [n, ...]."""
        n = inputs.shape[0]
        if inputs.ndim == 2:
            self.seen = inputs.t()
            self._contiguous = inputs
            return
        self.intake(n).copy_(inputs.permute((1, 2, 3, 0) if inputs.ndim == 4 else (2, 1, 0)))

    def intake(self, n: int) -> Tensor:
        """Return where [*before, n] is to be written; ``seen`` follows from it."""
        kept = self._intakes.get(n)
        if kept is None:
            kept = self._intakes[n] = self._made(n)
        self.seen, intake = kept
        self._contiguous = self.seen
        return intake

    def _made(self, n: int) -> tuple[Tensor, Tensor]:
        block = self.block
        seen = torch.ones(self.matrix.shape[1], prod(block.before[1:]) * n)
        return seen, seen[: block.inputs].view(*block.before, n)

    def outputs(self) -> Tensor:
        """Return what the layer makes, [outputs, places · n]."""
        self.highest = magnitude(self._contiguous)
        return self.arithmetic.outputs(self.matrix, self.seen, self.rows, self.highest)

    def hand_on(self, made: Tensor, after: _Layer, n: int) -> None:
        """Pool, rectify and round, into where the next layer takes it."""
        block = self.block
        made = made.view(*block.after, n)
        if block.pool > 1:
            made = self._largest(made)
        goal = after.intake(n)
        if block.turned:
            goal = goal.view(*block.handed[1:], block.handed[0], n).movedim(-2, 0)
        elif goal.ndim != len(block.handed) + 1:
            goal = goal.view(*block.handed, n)
        if block.average > 1:
            self.kept = torch.empty(*block.pooled, n, dtype=goal.dtype)
            self._settle(made, self.kept)
            self._mean(self.kept, goal)
        else:
            self._settle(made, goal)
            self.kept = goal

    def _settle(self, made: Tensor, goal: Tensor) -> None:
        if made.dtype == goal.dtype:
            torch.clamp(made, self.low, ACTIVATION_LIMIT, out=goal).add_(_ACTIVATION).sub_(_ACTIVATION)
        else:
            # Rounded before its type changes, or it would be rounded twice.
            exact = rounder(ACTIVATION_BITS, made.dtype)
            goal.copy_(made.clamp(self.low, ACTIVATION_LIMIT).add_(exact).sub_(exact))

    def taken_back(self, delta: Tensor) -> Tensor:
        """Return gradients [outputs, ...] of what the maxima are, given those of what was handed on."""
        block, n = self.block, delta.shape[-1]
        if block.turned:
            delta = delta.view(*block.handed[1:], block.handed[0], n).movedim(-2, 0)
        else:
            delta = delta.view(*block.handed, n)
        if block.average > 1:
            delta = self._spread(delta)
        return _threshold_backward(delta, self.kept, 0) if block.rectified else delta

    def back(self, delta: Tensor, further: bool) -> Tensor:
        """Leave the gradient of the weights; return that of the intake, if it is wanted."""
        arithmetic, block = self.arithmetic, self.block
        delta, total = arithmetic.gridded(delta, self.highest, ACTIVATION_BITS, self.matrix if further else None)
        # A row is a sum of what is seen times gradients, which rounding at most doubles.
        self.longest = 2 * total * self.highest * self.matrix.shape[1] ** 0.5
        if block.pool > 1:
            delta = self._returned(delta)
        delta = delta.reshape(block.outputs, -1)
        arithmetic.multiplied(delta, self.seen.t(), out=self.gradient)
        return self._of_intake(arithmetic.multiplied(self.transposed, delta)) if further else delta

    def _of_intake(self, delta: Tensor) -> Tensor:
        n = delta.numel() // prod(self.block.before)
        return delta.view(-1, n)

    def _parts(self, made: Tensor, side: int) -> list[Tensor]:
        """Return the places of squares [c, y, x, n] as arrays [c, y / side, x / side, n], row by row."""
        height, width = (size // side * side for size in made.shape[1:3])
        return [made[:, i:height:side, j:width:side] for i in range(side) for j in range(side)]

    def _largest(self, made: Tensor) -> Tensor:
        parts = self._parts(made, self.block.pool)
        largest = torch.maximum(parts[0], parts[1])
        for part in parts[2:]:
            torch.maximum(largest, part, out=largest)
        self._pooled = parts, largest
        return largest

    def _returned(self, delta: Tensor) -> Tensor:
        """Give each gradient to the first place of its square that is the largest."""
        full = delta.new_zeros(*self.block.after, delta.shape[-1])
        parts = self._parts(full, self.block.pool)
        made, largest = self._pooled
        for own, part in zip(made[:-1], parts, strict=False):
            torch.mul(delta, own == largest, out=part)
            delta = delta.sub_(part)
        parts[-1].copy_(delta)
        return full

    def _mean(self, values: Tensor, goal: Tensor) -> None:
        first, *rest = self._parts(values, self.block.average)
        total = first.clone()
        for part in rest:
            total.add_(part)
        goal.copy_(total.mul_(self.block.average**-2).add_(_ACTIVATION).sub_(_ACTIVATION))

    def _spread(self, delta: Tensor) -> Tensor:
        full = delta.new_zeros(*self.block.pooled, delta.shape[-1])
        share = delta * self.block.average**-2
        for part in self._parts(full, self.block.average):
            part.copy_(share)
        return full


class _Convolution(_Layer):
    """A convolution: a product with the patches that the kernels see."""

    def __init__(self, block: Block, arithmetic: Singles, weight: Tensor, gradient: Tensor) -> None:
        super().__init__(block, arithmetic, weight, gradient)
        self._padded: dict[int, Tensor] = {}

    def _made(self, n: int) -> tuple[Tensor, Tensor]:
        block = self.block
        channels, height, width = block.before
        around, beside = block.padding
        padded = torch.zeros(channels, height + 2 * around, width + 2 * beside, n)
        seen = torch.ones(self.matrix.shape[1], prod(block.after[1:]) * n)
        self._padded[n] = padded
        return seen, padded[:, around : around + height, beside : beside + width]

    def outputs(self) -> Tensor:
        block = self.block
        n = self.seen.shape[1] // prod(block.after[1:])
        padded = self._padded[n]
        channel, row, column, _ = padded.stride()
        (high, wide), (down, right) = block.kernel, block.stride
        sizes = block.before[0], high, wide, *block.after[1:], n
        strides = channel, row, column, row * down, column * right, 1
        self.seen[: block.inputs].view(sizes).copy_(padded.as_strided(sizes, strides))
        self.highest = max(magnitude(padded), 1.0)
        return self.arithmetic.outputs(self.matrix, self.seen, self.rows, self.highest)

    def _of_intake(self, delta: Tensor) -> Tensor:
        block = self.block
        channels, height, width = block.before
        (high, wide), (down, right), (around, beside) = block.kernel, block.stride, block.padding
        _, rows, columns = block.after
        parts = delta.view(channels, high, wide, rows, columns, -1)
        full = delta.new_zeros(channels, height + 2 * around, width + 2 * beside, parts.shape[-1])
        for i in range(high):
            for j in range(wide):
                goal = full[:, i : i + down * (rows - 1) + 1 : down, j : j + right * (columns - 1) + 1 : right]
                goal.add_(parts[:, i, j])
        return full[:, around : around + height, beside : beside + width].contiguous()


class _Embedding(_Layer):
    """A row of a table for each whole number."""

    def take(self, inputs: Tensor) -> None:
        self._places = inputs.t().flatten()

    def outputs(self) -> Tensor:
        found = self.matrix.index_select(0, self._places)
        if not magnitude(found) <= WEIGHT_LIMIT:
            raise DivergedError
        return found.t().contiguous()

    def back(self, delta: Tensor, further: bool) -> Tensor:
        delta = self.arithmetic.gridded(delta, self.highest, 0, None)[0]
        self.gradient.zero_().index_add_(0, self._places, delta.reshape(self.block.outputs, -1).t())
        return delta


_KINDS: Mapping[str, type[_Layer]] = {"linear": _Layer, "convolution": _Convolution, "embedding": _Embedding}
