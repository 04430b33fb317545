"""Small perceptrons in exact doubles, several copies at once.

What takes the time of a tiny network is the number of calls, so copies of one network, each with weights and examples
of its own, share them. As all products are exact, a copy gets the bits that it gets by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedledger.learning.replayable.grids import ACTIVATION_LIMIT, rounder
from fedledger.learning.replayable.plan import Plan

Tensor = torch.Tensor
_bmm = torch.bmm
_threshold_backward = torch.ops.aten.threshold_backward.default

MOST_PARAMETERS, MOST_INPUTS, MOST_OUTPUTS, MOST_EXAMPLES = 20_000, (1 << 15) - 1, 1 << 8, 1 << 18
WEIGHT_BITS, ACTIVATION_BITS, DELTA_BITS = 22, 10, 20
WEIGHT_LIMIT, DELTA_LIMIT = 4.0, 2.0
_ALL = slice(None)
_WEIGHT, _ACTIVATION, _DELTA = map(rounder, (WEIGHT_BITS, ACTIVATION_BITS, DELTA_BITS))


def suits(plan: Plan) -> bool:
    """Return whether the bounds of this module hold for a network."""
    plain = all(
        block.kind == "linear"
        and len(block.before) == 1
        and block.bias is not None
        and block.inputs <= MOST_INPUTS
        and block.outputs <= MOST_OUTPUTS
        for block in plan.blocks
    )
    return plain and plan.parameters <= MOST_PARAMETERS


@dataclass(frozen=True)
class _Layer:
    """Weights [c, o, i + 1] with the biases last, those without them transposed [c, i, o], and the gradient's place."""

    matrix: Tensor
    transposed: Tensor
    gradient: Tensor
    low: float


class Perceptrons:
    """Copies of a perceptron.

    Weights are multiples of 2^−22 within ±4, activations of 2^−10 within ±16, gradients of 2^−20 within ±2. So a sum of
    k < 2^15 terms in a forward pass stays below 2^(24 + 14 + 15) units, one over o ≤ 2^8 outputs in a backward pass
    below 2^(24 + 21 + 8), and one over 2^18 examples below 2^(21 + 14 + 18): doubles hold all of them.

    A weight w is kept as w + 1.5 · 2^30, where doubles are 2^−22 apart: whatever is subtracted, the result is rounded.

    Parameters
    ----------
    plan
        The network, for which :func:`suits` holds.
    copies
        How many.

    Attributes
    ----------
    stored, gradient
        float64[c · d], each layer's of all copies beside each other: weights as they are kept, and their gradients.
    """

    velocity_grid = rounder(60)

    def __init__(self, plan: Plan, copies: int) -> None:
        self.plan, self.copies = plan, copies
        self.stored = torch.zeros(copies * plan.parameters, dtype=torch.float64)
        self.operand, self.gradient = torch.zeros_like(self.stored), torch.zeros_like(self.stored)
        self._layers: list[_Layer] = []
        start = 0
        for block in plan.blocks:
            shape = copies, block.outputs, block.inputs + 1
            stop = start + shape[0] * shape[1] * shape[2]
            matrix, gradient = (flat[start:stop].view(shape) for flat in (self.operand, self.gradient))
            low = 0.0 if block.rectified else -ACTIVATION_LIMIT
            self._layers.append(_Layer(matrix, matrix[..., :-1].transpose(1, 2), gradient, low))
            start = stop
        self._rooms: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._seen: list[tuple[Tensor, Tensor]] = []

    def prepared(self, inputs: Tensor) -> Tensor:
        """Return examples float32[n, ...] as float64[n, i + 1], rounded and cut; beside each is the bias's 1."""
        made = torch.ones(inputs.shape[0], self.plan.blocks[0].inputs + 1, dtype=torch.float64)
        rest = made[:, :-1]
        rest.copy_(inputs.flatten(1)).clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).add_(_ACTIVATION).sub_(_ACTIVATION)
        return made

    def places(self) -> tuple[Tensor, Tensor]:
        """Return of each number in ``stored`` its place in the plan's flat array and its copy, int64[c · d] both."""
        sizes = [layer.matrix[0].numel() for layer in self._layers]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        pairs = zip(starts, sizes, strict=True)
        own = [torch.arange(start, start + size).repeat(self.copies) for start, size in pairs]
        copies = [torch.arange(self.copies).repeat_interleave(size) for size in sizes]
        return torch.cat(own), torch.cat(copies)

    def load(self, weights: Tensor) -> None:
        """Set the weights to float32[c · d], which are finite."""
        self.stored.copy_(weights).clamp_(-WEIGHT_LIMIT, WEIGHT_LIMIT).add_(_WEIGHT)

    def weights(self, part: slice) -> Tensor:
        """Return a part of the weights as they are."""
        return self.stored[part] - _WEIGHT

    def refresh(self, part: slice) -> None:
        """Cut all weights to what products take, and let them take these."""
        self.stored.clamp_(_WEIGHT - WEIGHT_LIMIT, _WEIGHT + WEIGHT_LIMIT)
        torch.sub(self.stored, _WEIGHT, out=self.operand)

    def batch(self, prepared: Tensor) -> Tensor:
        """Return prepared examples of all copies [c · n, ...] as each copy takes its own."""
        return prepared.view(self.copies, -1, *prepared.shape[1:])

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return exact outputs [c, o, n] of prepared examples [c, n, i + 1]."""
        rooms = self._room(inputs.shape[1])
        seen = inputs.transpose(1, 2)
        self._seen = [(seen, inputs)]
        for layer, (room, turned, goal) in zip(self._layers, rooms, strict=False):
            torch.clamp(_bmm(layer.matrix, seen), layer.low, ACTIVATION_LIMIT, out=goal).add_(_ACTIVATION).sub_(
                _ACTIVATION
            )
            self._seen.append((room, turned))
            seen = room
        return _bmm(self._layers[-1].matrix, seen)

    def backward(self, delta: Tensor, step: Callable[[slice], None]) -> None:
        """Leave the gradients, given those of the outputs within ±1, and take a step with all of them."""
        layers, seen = self._layers, self._seen
        # The outputs' own are within the bound.
        delta = torch.add(delta, _DELTA).sub_(_DELTA)
        for place in range(len(layers) - 1, -1, -1):
            layer = layers[place]
            _bmm(delta, seen[place][1], out=layer.gradient)
            if place:
                delta = _bmm(layer.transposed, delta)
                if not layers[place - 1].low:
                    delta = _threshold_backward(delta, seen[place][0][:, :-1], 0)
                delta.clamp_(-DELTA_LIMIT, DELTA_LIMIT).add_(_DELTA).sub_(_DELTA)
        step(_ALL)

    def moved(self, scale: float, momentum: float, is_pulled: bool) -> None:
        """There is nothing to do: the bounds hold however weights move."""

    def _room(self, examples: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return where each layer's activations go, with the bias's 1 beside them; transposed; and without it."""
        rooms = self._rooms.get(examples)
        if rooms is None:
            if len(self._rooms) > 8:
                self._rooms.clear()
            rooms = []
            for layer in self._layers[:-1]:
                room = torch.ones(self.copies, layer.matrix.shape[1] + 1, examples, dtype=torch.float64)
                rooms.append((room, room.transpose(1, 2), room[:, :-1]))
            self._rooms[examples] = rooms
        return rooms
