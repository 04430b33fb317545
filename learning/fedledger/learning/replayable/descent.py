"""Minibatch gradient descent that gives the same bytes on any processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.replayable.arithmetic import DivergedError, Singles
from fedledger.learning.replayable.losses import Gradient, gradient_of
from fedledger.learning.replayable.network import Network
from fedledger.learning.replayable.perceptrons import Perceptrons, suits
from fedledger.learning.replayable.plan import Plan
from fedledger.learning.replayable.trajectory import State, Tracing
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.errors import ConfigError

SETTLE = 16
"""Steps after which velocities are rounded to a fixed grid, long before they could become subnormal."""
LEAST_MOMENTUM = 1 / 16
MOST_BATCH = 1 << 16


@dataclass(frozen=True)
class Rates:
    """How steps follow from gradients: v ← momentum · v + rate · (g + decay · w + pull · (w − w₀)), w ← w − v.

    Parameters
    ----------
    rate
        The learning rate.
    momentum
        0, or in [1/16, 1); counts as the float32 that is nearest.
    decay
        Of weights.
    pull
        Towards where training began.
    """

    rate: float
    momentum: float = 0.0
    decay: float = 0.0
    pull: float = 0.0


@dataclass(frozen=True)
class Trained:
    """What training gave c participants.

    Parameters
    ----------
    deltas
        float32[c, d]: the trained models minus the base, packed; NaN if training diverged.
    steps
        How many steps each took.
    means
        Returns each one's mean loss over the examples of all steps, each before its step.
    """

    deltas: Float32Array
    steps: int
    means: Callable[[], Sequence[float]]


@dataclass(frozen=True)
class Replayable:
    """A model's network, and where its weights lie.

    Parameters
    ----------
    network
        The network, of one or several copies.
    loaded
        The place of each of its weights in a packed vector, int64[c · d].
    packed
        The place in its weights of each number of all copies' packed vectors, int64[c · d].
    """

    network: Perceptrons | Network
    loaded: torch.Tensor
    packed: torch.Tensor

    @classmethod
    def of(cls, model: FlatModel, network: Perceptrons | Network) -> Replayable:
        """Return a model's, given its network."""
        layout = model.layout
        starts = zip(layout.names, layout.shapes, layout.places, strict=True)
        named = {name: torch.arange(packed.start, packed.stop).view(shape) for name, shape, (packed, _) in starts}
        own, copies = network.places()
        loaded = network.plan.flat(named)[own]
        packed = torch.empty_like(loaded)
        packed[copies * layout.dimension + loaded] = torch.arange(len(loaded))
        return cls(network, loaded, packed)

    def load(self, vector: Float32Array) -> None:
        """Set the weights to a packed float32[d]; raises DivergedError if they are not finite."""
        if not np.isfinite(vector).all():
            raise DivergedError
        self.network.load(torch.from_numpy(vector).index_select(0, self.loaded))

    def vectors(self, weights: torch.Tensor) -> Float32Array:
        """Return packed vectors float32[c, d] of what lies as the network's weights do."""
        return np.asarray(self._packed(weights.float()), np.float32)

    def states(self, steps: int, velocity: torch.Tensor | None) -> list[State]:
        """Return where each copy's training is after so many steps, given the velocity, if there is one."""
        weights = self.vectors(self.network.weights(slice(None)))
        moving = np.zeros((len(weights), 0), np.float32) if velocity is None else self._packed(velocity)
        return [State(steps, *pair) for pair in zip(weights, moving, strict=True)]

    def velocity(self, state: State) -> torch.Tensor:
        """Return the velocity of a state as the network's weights lie."""
        return torch.from_numpy(state.velocity).to(self.network.stored.dtype).index_select(0, self.loaded)

    def _packed(self, numbers: torch.Tensor) -> NDArray[np.floating]:
        found: NDArray[np.floating] = numbers.index_select(0, self.packed).view(self.network.copies, -1).numpy()
        return found


_MADE: WeakKeyDictionary[torch.nn.Module, dict[tuple[object, ...], Replayable]] = WeakKeyDictionary()


def replayable(model: FlatModel, inputs: torch.Tensor, copies: int = 1) -> Replayable:
    """Return a model's network for examples such as [n, ...]; it is made once.

    Which arithmetic it has follows from the model alone. Several copies take :func:`trains_together`.

    Raises
    ------
    ConfigError
        If the model has no replayable form.
    """
    kept = _MADE.setdefault(model.module, {})
    key = tuple(inputs.shape[1:]), inputs.dtype, copies
    if key not in kept:
        plan = Plan.of(model.module, inputs)
        network = Perceptrons(plan, copies) if suits(plan) else Network(plan, Singles())
        kept[key] = Replayable.of(model, network)
    return kept[key]


def require_replayable(model: FlatModel, inputs: torch.Tensor, loss: Loss) -> None:
    """Raise ConfigError if a model for examples such as [n, ...] has no replayable form, or its loss has none."""
    gradient_of(loss, replayable(model, inputs).network.plan.blocks[-1].outputs)


def trains_together(model: FlatModel, inputs: torch.Tensor) -> bool:
    """Return whether several participants can be trained in the same calls."""
    return isinstance(replayable(model, inputs).network, Perceptrons)


def descend(
    model: FlatModel | Replayable,
    base: Float32Array,
    datasets: Sequence[Dataset],
    orders: Sequence[Iterable[NDArray[np.int64]]],
    rates: Rates,
    loss: Loss,
    tracing: Tracing | None = None,
) -> Trained:
    """Take steps from a base model; the result is a function of the arguments, and of nothing else.

    Parameters
    ----------
    model
        The model, whose weights stay as they are, or its network.
    base
        float32[d], packed.
    datasets
        Examples of each participant, equally many; of one alone unless they can train together.
    orders
        Of each, the examples of each step, by their places.
    rates
        What a step is.
    loss
        The objective's.
    tracing
        Is shown states, and says where training goes on; its result is what it is without.

    Raises
    ------
    ConfigError
        If model or loss have no replayable form.
    """
    copies = len(datasets)
    tensors = [dataset.tensors for dataset in datasets]
    own = model if isinstance(model, Replayable) else replayable(model, tensors[0][0], copies)
    network = own.network
    gradient = gradient_of(loss, network.plan.blocks[-1].outputs)
    with torch.inference_mode():
        examples = _Examples(network, gradient, tensors)
        seen = steps = 0
        try:
            own.load(base)
            descent = _Descent(own, rates, tracing)
            network.refresh(slice(None))
            for batches in zip(*orders, strict=True):
                inputs, targets = examples.batch(batches)
                delta, power = gradient.delta(network.outputs(inputs), targets, rates.rate)
                descent.begin(2.0**-power)
                network.backward(delta, descent.step)
                descent.end()
                steps += 1
                seen += len(batches[0])
            deltas = own.vectors(descent.moved())
            # Which NaN stands for what is no number depends on the processor.
            if not np.isfinite(deltas).all():
                raise DivergedError
        except DivergedError:
            return Trained(np.full((copies, len(base)), np.nan, np.float32), steps, lambda: [math.nan] * copies)
    return Trained(deltas, steps, lambda: [total / seen for total in gradient.totals()])


class _Examples:
    """The examples of all copies, as a network takes them."""

    def __init__(
        self, network: Perceptrons | Network, gradient: Gradient, tensors: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        inputs, targets = (torch.cat(part) if len(part) > 1 else part[0] for part in zip(*tensors, strict=True))
        # A large network's batches are prepared while they are near the processor, a small one's all in a few calls.
        self._late = isinstance(network, Network)
        self._inputs = inputs if self._late else network.prepared(inputs)
        self._targets = gradient.prepared(targets)
        self._network = network
        self._starts = np.arange(0, len(inputs), len(tensors[0][0]))[:, None]

    def batch(self, orders: Sequence[NDArray[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of one step."""
        order = orders[0] if len(orders) == 1 else (np.stack(orders) + self._starts).reshape(-1)
        places = torch.from_numpy(order)
        inputs, targets = self._inputs.index_select(0, places), self._targets.index_select(0, places)
        if self._late:
            inputs = self._network.prepared(inputs)
        return self._network.batch(inputs), self._network.batch(targets)


class _Descent:
    """How the weights of a network move."""

    def __init__(self, own: Replayable, rates: Rates, tracing: Tracing | None) -> None:
        network = own.network
        self._own, self._network, self._rates, self._tracing = own, network, rates, tracing
        self._stored, self._gradient = network.stored, network.gradient
        self._begun = network.stored.clone()
        self._momentum = _single(rates.momentum)
        if rates.momentum and not LEAST_MOMENTUM <= self._momentum < 1:
            raise ConfigError(f"A momentum of {rates.momentum} is not in [0.0625, 1).", "Give 0, or at least 0.0625.")
        self._velocity = torch.zeros_like(self._stored) if rates.momentum else self._gradient
        self._pulled = bool(rates.decay or rates.pull)
        self._steps, self._scale, self._shown = 0, 1.0, -1
        if tracing is not None:
            self._go_on(tracing.start)
            self._show(tracing)

    def _go_on(self, start: State | None) -> None:
        if start is not None:
            self._own.load(start.weights)
            self._steps = start.steps
            if self._momentum:
                self._velocity.copy_(self._own.velocity(start))

    def _show(self, tracing: Tracing) -> None:
        """Show each participant's state, unless it was shown before."""
        if self._shown != self._steps:
            self._shown = self._steps
            states = self._own.states(self._steps, self._velocity if self._momentum else None)
            for take, state in zip(tracing.shown, states, strict=True):
                take(state)

    def begin(self, scale: float) -> None:
        """Begin a step, in which gradients are multiplied with a power of two."""
        self._scale = scale
        self._steps += 1

    def step(self, part: slice) -> None:
        """Move a part of the weights by their gradient, and let products take them."""
        stored, gradient, scale = self._stored[part], self._gradient[part], self._scale
        # Products with powers of two are exact, so it does not matter whether they are rounded before they are added.
        if not (self._momentum or self._pulled):
            stored.sub_(gradient, alpha=scale)
        else:
            velocity = self._velocity[part]
            if self._momentum:
                velocity.mul_(self._momentum).add_(gradient, alpha=scale)
            else:
                velocity.mul_(scale)
            if self._pulled:
                self._pull(velocity, part)
            stored.sub_(velocity)
            if self._momentum and self._steps % SETTLE == 0:
                velocity.add_(self._network.velocity_grid).sub_(self._network.velocity_grid)
        self._network.refresh(part)

    def end(self) -> None:
        """End a step."""
        self._network.moved(self._scale, self._momentum, self._pulled)
        if self._tracing is not None and self._steps % self._tracing.every == 0:
            self._show(self._tracing)

    def _pull(self, velocity: torch.Tensor, part: slice) -> None:
        weights, rates = self._network.weights(part), self._rates
        if rates.pull:
            apart = torch.sub(self._stored[part], self._begun[part])
            velocity.add_(apart.mul_(_single(rates.rate * rates.pull)))
        if rates.decay:
            velocity.add_(weights.mul_(_single(rates.rate * rates.decay)))

    def moved(self) -> torch.Tensor:
        """Return by how much the weights moved, when all steps are taken."""
        if self._tracing is not None:
            self._show(self._tracing)
        return torch.sub(self._stored, self._begun, out=self._begun)


def _single(value: float) -> float:
    return float(np.float32(value))
