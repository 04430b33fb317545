"""Replayable training in Python's integers: slow, and without any library's arithmetic.

A number v stands for v / 2^SCALE. Sums are exact; whatever is rounded is rounded here, halves to even, to a grid or to
as many binary digits as float32 or float64 have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import torch

from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.replayable.descent import Rates, descend, replayable
from fedledger.learning.replayable.perceptrons import Perceptrons
from fedledger.learning.replayable.plan import Block, Plan
from support.replayable_tasks import Task

SCALE = 320
ONE = 1 << SCALE
DOUBLE, SINGLE = 53, 24
Values = dict[tuple[int, ...], list[int]]
"""What an example is at each place, feature by feature."""


def number(value: float) -> int:
    """Return a float as it is."""
    top, bottom = float(value).as_integer_ratio()
    scaled, rest = divmod(top << SCALE, bottom)
    assert not rest
    return scaled


def _shifted(value: int, bits: int) -> int:
    """Return value / 2^bits to the nearest whole number, halves to even."""
    if bits <= 0:
        return value << -bits
    half, low = 1 << bits - 1, value & (1 << bits) - 1
    found = value >> bits
    return found + (low > half or (low == half and bool(found & 1)))


def on_grid(value: int, bits: int) -> int:
    """Round to a multiple of 2^−bits."""
    return _shifted(value, SCALE - bits) << SCALE - bits


def digits(value: int, count: int, scale: int = SCALE) -> int:
    """Round what stands for value / 2^scale to so many binary digits."""
    surplus = max(0, value.bit_length() - count)
    found = _shifted(value, surplus) << surplus
    whole, rest = divmod(found, 1 << scale - SCALE)
    assert not rest, "a number is too small for the reference"
    return whole


def times(a: int, b: int, count: int) -> int:
    return digits(a * b, count, 2 * SCALE)


def over(a: int, b: int, count: int) -> int:
    extra = 200
    quotient, rest = divmod(a << SCALE + extra, b)
    return digits(quotient << 1 | bool(rest), count, SCALE + extra + 1)


def cut(value: int, low: float, high: float) -> int:
    return min(max(value, number(low)), number(high))


@cache
def power_of_e(units: int) -> int:
    """Return e^(−units / 4096), rounded to a multiple of 2^−36."""
    with localcontext() as context:
        context.prec = 60
        return int(((-Decimal(units) / 4096).exp() * 2**36 + Decimal("0.5")) // 1) << SCALE - 36


@dataclass
class Layer:
    """A layer's block, its weights [o][k (+ 1)], and their gradient."""

    block: Block
    weights: list[list[int]]
    gradient: list[list[int]] = field(default_factory=list)
    seen: list[Values] = field(default_factory=list)
    made: list[Values] = field(default_factory=list)
    settled: list[Values] = field(default_factory=list)
    handed: list[Values] = field(default_factory=list)

    def sources(self, place: tuple[int, ...]) -> Iterable[tuple[int, tuple[int, ...], int]]:
        """Yield which column of the weights a place multiplies with which feature of which place."""
        block = self.block
        if block.kind == "linear":
            for column in range(block.inputs):
                yield column, place, column
            return
        (high, wide), (down, right), (around, beside) = block.kernel, block.stride, block.padding
        channels, height, width = block.before
        for i in range(high):
            for j in range(wide):
                y, x = place[0] * down + i - around, place[1] * right + j - beside
                if 0 <= y < height and 0 <= x < width:
                    for c in range(channels):
                        yield (c * high + i) * wide + j, (y, x), c

    def cells(self, values: Values, side: int) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
        """Return which places each square has, row by row; what is left at the borders belongs to none."""
        height, width = (max(place[axis] for place in values) + 1 for axis in (0, 1))
        cells: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for place in sorted(values):
            if place[0] < height // side * side and place[1] < width // side * side:
                cells.setdefault((place[0] // side, place[1] // side), []).append(place)
        return cells


class Reference:
    """A network whose weights move as those of :mod:`fedledger.learning.replayable`.

    Parameters
    ----------
    plan
        The network.
    flat
        float32[d], as ``Plan.flat`` lays it out.
    small
        Whether the arithmetic is that of small perceptrons.
    loss
        The objective's.
    """

    def __init__(self, plan: Plan, flat: Sequence[float], small: bool, loss: Loss = cross_entropy) -> None:
        self.small, self.loss = small, loss
        self.precision = DOUBLE if small else SINGLE
        self.activation_bits, self.weight_bits = (10, 22) if small else (8, 10)
        values = [number(value) for value in flat]
        if small:
            values = [on_grid(cut(value, -4, 4), 22) for value in values]
        self.layers, start = [], 0
        for block in plan.blocks:
            rows, columns = block.matrix
            self.layers.append(
                Layer(block, [values[start + row * columns : start + (row + 1) * columns] for row in range(rows)])
            )
            start += rows * columns
        self.begun, self.velocity, self.steps = values, [0] * len(values), 0

    def flat(self) -> list[int]:
        return [value for layer in self.layers for row in layer.weights for value in row]

    def step(self, inputs: np.ndarray, targets: np.ndarray, rates: Rates) -> None:
        """Take one step on float32[n, ...] or int64[n, ...], already shaped as the first layer takes them."""
        deltas, exponent = self._of_outputs(self.outputs(inputs), targets, rates.rate)
        if not self.small:
            deltas = [{place: [on_grid(v, 30) for v in row] for place, row in one.items()} for one in deltas]
        self._backward(deltas)
        self._move(math.ldexp(1.0, exponent), rates)

    def outputs(self, inputs: np.ndarray) -> list[Values]:
        """Return what the network makes of float32[n, ...] or int64[n, ...]."""
        current = [self._taken(example) for example in inputs]
        for place, layer in enumerate(self.layers):
            layer.seen = current
            operands = [[on_grid(w, self.weight_bits) for w in row] for row in layer.weights]
            layer.made = [self._made(layer, operands, values) for values in current]
            if place < len(self.layers) - 1:
                layer.settled = [self._settled(layer, values) for values in layer.made]
                layer.handed = [self._handed(layer, values) for values in layer.settled]
                current = [self._next(layer, values, self.layers[place + 1]) for values in layer.handed]
        return self.layers[-1].made

    def _taken(self, example: np.ndarray) -> Values:
        if example.dtype == np.int64:
            return {(place,): [int(value)] for place, value in enumerate(example)}
        rounded = np.vectorize(lambda v: on_grid(cut(number(v), -16, 16), self.activation_bits), otypes=[object])
        values = rounded(example)
        if example.ndim == 1:
            return {(): list(values)}
        if example.ndim == 2:
            return {(place,): list(row) for place, row in enumerate(values)}
        return {(y, x): list(values[:, y, x]) for y in range(example.shape[1]) for x in range(example.shape[2])}

    def _made(self, layer: Layer, operands: list[list[int]], values: Values) -> Values:
        block = layer.block
        if block.kind == "embedding":
            return {place: list(operands[one[0]]) for place, one in values.items()}
        made: Values = {}
        places = [()] if len(block.after) == 1 else list(np.ndindex(*block.after[1:]))
        for place in places:
            sources = list(layer.sources(place))
            made[place] = [
                sum(row[column] * values[source][feature] for column, source, feature in sources) // ONE
                + (row[-1] if block.bias else 0)
                for row in operands
            ]
        return made

    def _settled(self, layer: Layer, values: Values) -> Values:
        if layer.block.pool > 1:
            cells = layer.cells(values, layer.block.pool)
            values = {
                cell: [max(column) for column in zip(*(values[place] for place in places), strict=True)]
                for cell, places in cells.items()
            }
        low = 0 if layer.block.rectified else -16
        bits = self.activation_bits
        return {place: [on_grid(cut(v, low, 16), bits) for v in row] for place, row in values.items()}

    def _handed(self, layer: Layer, values: Values) -> Values:
        side = layer.block.average
        if side == 1:
            return values
        return {
            cell: [
                on_grid(_shared(sum(column), side), self.activation_bits)
                for column in zip(*(values[place] for place in places), strict=True)
            ]
            for cell, places in layer.cells(values, side).items()
        }

    @staticmethod
    def _next(layer: Layer, values: Values, after: Layer) -> Values:
        """Flatten, where the next layer takes one list of features."""
        if len(after.block.before) > 1 or () in values:
            return values
        places = sorted(values)
        if layer.block.turned:
            return {(): [v for place in places for v in values[place]]}
        return {(): [values[place][c] for c in range(len(values[places[0]])) for place in places]}

    def _of_outputs(self, outputs: list[Values], targets: np.ndarray, rate: float) -> tuple[list[Values], int]:
        """Return gradients, and the exponent of what they are still to be multiplied with."""
        owner = getattr(self.loss, "__self__", None)
        rows = targets.reshape(len(targets), -1)
        if isinstance(owner, Regression):
            fraction, exponent = math.frexp(rate / rows.size)
            pairs = zip(outputs, rows, strict=True)
            return [{(): _errors(z[()], row, owner, fraction)} for z, row in pairs], exponent + 5
        fraction, exponent = math.frexp(rate / max(1, int((rows >= 0).sum())))
        deltas = [
            {place: _shares(made[place], label, fraction) for place, label in zip(sorted(made), row, strict=True)}
            for made, row in zip(outputs, rows.tolist(), strict=True)
        ]
        return deltas, exponent

    def _backward(self, deltas: list[Values]) -> None:
        for place in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[place]
            deltas = self._gridded(layer, deltas, place > 0)
            if layer.block.pool > 1:
                deltas = [self._returned(layer, *pair) for pair in zip(layer.made, deltas, strict=True)]
            self._weigh(layer, deltas)
            if place:
                operands = [[on_grid(w, self.weight_bits) for w in row] for row in layer.weights]
                deltas = [self._of_seen(layer, operands, one) for one in deltas]
                before = self.layers[place - 1]
                deltas = [
                    self._taken_back(before, *each) for each in zip(before.settled, before.handed, deltas, strict=True)
                ]

    def _gridded(self, layer: Layer, deltas: list[Values], further: bool) -> list[Values]:
        if self.small:
            bits = 20
            deltas = [{place: [cut(v, -2, 2) for v in row] for place, row in one.items()} for one in deltas]
        else:
            bits = self._finest(layer, deltas, further)
        return [{place: [on_grid(v, bits) for v in row] for place, row in one.items()} for one in deltas]

    def _finest(self, layer: Layer, deltas: list[Values], further: bool) -> int:
        block, found = layer.block, 40
        columns = [row for one in deltas for row in one.values()]
        highest = ONE
        if block.kind != "embedding":
            seen = [abs(v) for one in layer.seen for row in one.values() for v in row]
            highest = max([*seen, ONE] if block.bias or block.kind == "convolution" else seen)
        bits = 0 if block.kind == "embedding" else 8
        totals = [sum(map(abs, row)) for row in zip(*columns, strict=True)]
        if highest:
            found = _exponent(max(totals), 2.0 ** (24 - bits) / (highest / ONE), len(columns), found)
        if further:
            largest = max(abs(on_grid(w, 10)) for row in layer.weights for w in row)
            totals = [sum(map(abs, row)) for row in columns]
            if largest:
                found = _exponent(max(totals), 2.0**14 / (largest / ONE), block.outputs, found)
        return found

    @staticmethod
    def _returned(layer: Layer, made: Values, delta: Values) -> Values:
        full = {place: [0] * len(row) for place, row in made.items()}
        for cell, places in layer.cells(made, layer.block.pool).items():
            for c, value in enumerate(delta[cell]):
                largest = max(made[place][c] for place in places)
                first = next(place for place in places if made[place][c] == largest)
                full[first][c] = value
        return full

    @staticmethod
    def _weigh(layer: Layer, deltas: list[Values]) -> None:
        gradient = [[0] * len(row) for row in layer.weights]
        for values, one in zip(layer.seen, deltas, strict=True):
            for place, row in one.items():
                if layer.block.kind == "embedding":
                    goal = gradient[values[place][0]]
                    goal[:] = [a + b for a, b in zip(goal, row, strict=True)]
                    continue
                sources = list(layer.sources(place))
                for own, delta in zip(gradient, row, strict=True):
                    for column, source, feature in sources:
                        own[column] += delta * values[source][feature] // ONE
                    if layer.block.bias:
                        own[-1] += delta
        layer.gradient = gradient

    def _of_seen(self, layer: Layer, operands: list[list[int]], delta: Values) -> Values:
        block = layer.block
        places = [()] if len(block.before) == 1 else list(np.ndindex(*block.before[1:]))
        found = {place: [0] * block.before[0] for place in places}
        # Taps of a convolution are added one after the other, as float32.
        taps: dict[int, list[tuple[tuple[int, ...], int, int]]] = {}
        area = math.prod(block.kernel)
        for place, row in delta.items():
            for column, source, feature in layer.sources(place):
                exact = sum(own[column] * value for own, value in zip(operands, row, strict=True)) // ONE
                taps.setdefault(column % area if block.kind == "convolution" else 0, []).append(
                    (source, feature, exact)
                )
        for tap in sorted(taps):
            for source, feature, exact in taps[tap]:
                found[source][feature] = digits(found[source][feature] + exact, self.precision)
        return found

    @staticmethod
    def _taken_back(layer: Layer, settled: Values, handed: Values, delta: Values) -> Values:
        if set(delta) != set(handed):
            row, places = delta[()], sorted(handed)
            width = len(row) // len(places)
            if layer.block.turned:
                delta = {place: row[i * width : (i + 1) * width] for i, place in enumerate(places)}
            else:
                delta = {place: row[i :: len(places)] for i, place in enumerate(places)}
        side = layer.block.average
        if side > 1:
            spread = {place: [0] * len(row) for place, row in settled.items()}
            for cell, places in layer.cells(settled, side).items():
                spread |= {place: [_shared(value, side) for value in delta[cell]] for place in places}
            delta = spread
        if not layer.block.rectified:
            return delta
        return {
            place: [d if s > 0 else 0 for d, s in zip(delta[place], row, strict=True)] for place, row in settled.items()
        }

    def _move(self, scale: float, rates: Rates) -> None:
        decay, pull = rates.rate * rates.decay, rates.rate * rates.pull
        single = [number(np.float32(value)) for value in (rates.momentum, decay, pull)]
        count, weights = self.precision, self.flat()
        gradient = [value for layer in self.layers for row in layer.gradient for value in row]
        moved = []
        self.steps += 1
        for place, (weight, own) in enumerate(zip(weights, gradient, strict=True)):
            velocity = digits(times(self.velocity[place], single[0], count) + times(own, number(scale), 400), count)
            if pull:
                apart = digits(weight - self.begun[place], count)
                velocity = digits(velocity + times(apart, single[2], count), count)
            if decay:
                velocity = digits(velocity + times(weight, single[1], count), count)
            value = weight - velocity
            if self.steps % 16 == 0:
                coarse = number(math.ldexp(1.5, -8 if self.small else -27))
                velocity = digits(digits(velocity + coarse, count) - coarse, count)
            self.velocity[place] = velocity if rates.momentum else 0
            moved.append(cut(on_grid(value, 22), -4, 4) if self.small else digits(value, SINGLE))
        start = 0
        for layer in self.layers:
            for row in layer.weights:
                row[:] = moved[start : start + len(row)]
                start += len(row)

    def delta(self) -> list[float]:
        """Return by how much the weights moved, as float32."""
        pairs = zip(self.flat(), self.begun, strict=True)
        return [float(np.float32(digits(a - b, SINGLE) / ONE)) for a, b in pairs]


def _shared(value: int, side: int) -> int:
    """Return one of the equal parts that a square's places have, which is exact."""
    share, rest = divmod(value, side * side)
    assert not rest, "a number is too small for the reference"
    return share


def _shares(z: list[int], label: int, fraction: float) -> list[int]:
    """Return the gradient of one place's cross-entropy by its logits, times a fraction; 0 if it is padding."""
    if label < 0:
        return [0] * len(z)
    units = [_shifted(value << 12, SCALE) for value in z]
    shares = [power_of_e(min(max(units) - unit, 65_535)) for unit in units]
    total = over(sum(shares), number(fraction), DOUBLE)
    found = [over(share, total, DOUBLE) for share in shares]
    found[label] = digits(found[label] - number(fraction), DOUBLE)
    return found


def _errors(z: list[int], targets: np.ndarray, objective: Regression, fraction: float) -> list[int]:
    """Return the gradient of one example's squared errors by its outputs, times a fraction / 2^5."""
    found = []
    for i, (value, target) in enumerate(zip(z, targets.tolist(), strict=True)):
        offset, scale = (
            number(each[i] if isinstance(each, list) else each) for each in (objective.offset, objective.scale)
        )
        wanted = over(digits(number(target) - offset, DOUBLE), scale, DOUBLE)
        error = cut(digits(value - wanted, DOUBLE), -16, 16)
        found.append(times(error, number(fraction / 16), DOUBLE))
    return found


def _exponent(total: int, room: float, terms: int, most: int) -> int:
    if not total:
        return most
    found = min(most, math.frexp(room / (total / ONE))[1] - 1)
    units = math.ldexp(total / ONE, found)
    return found if units + min(terms / 2, units) <= room else found - 1


def with_reference(
    task: Task, base: np.ndarray, orders: Sequence[np.ndarray], rates: Rates
) -> tuple[np.ndarray, list[float]]:
    """Return a task's update from a base, and the reference's, laid out alike."""
    model, dataset = task.model, task.dataset
    network = replayable(model, dataset.tensors[0]).network

    def flat(vector: np.ndarray) -> np.ndarray:
        return network.plan.flat({key: torch.from_numpy(value) for key, value in model.named(vector).items()}).numpy()

    reference = Reference(network.plan, flat(base).tolist(), isinstance(network, Perceptrons), task.loss)
    for order in orders:
        reference.step(dataset.inputs[order], dataset.targets[order], rates)
    found = descend(model, base, [dataset], [orders], rates, task.loss).deltas[0]
    return flat(found), reference.delta()
