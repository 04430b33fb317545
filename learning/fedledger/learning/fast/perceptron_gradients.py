"""Gradients of multi-layer perceptrons without autograd: the same kernels in the same order, so the same bits.

A small model's step takes autograd far longer to keep its books than to compute. Where a model is nothing but linear
layers with activations between them, its graph is known beforehand, and the kernels that autograd would call can be
called at once. That both give the same bits is not taken on trust: the first batches of each size are computed in both
ways, until thousands of numbers have been the same, and after any difference autograd alone is used. Where a matrix has
a single row or column, its strides do not tell how it lies, and kernels may differ: such models and batches are left to
autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy

PROOF = 4096
"""Numbers other than zero that have to be the same before a batch size, or a group, counts as proved."""

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Activation:
    """An activation in place, and its derivative times a gradient, given its output."""

    forward: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


_threshold_backward = _aten.threshold_backward.default
_ACTIVATIONS: Mapping[type[nn.Module], _Activation] = {
    nn.ReLU: _Activation(torch.relu_, lambda gradient, output: _threshold_backward(gradient, output, 0)),
    nn.Tanh: _Activation(torch.tanh_, _aten.tanh_backward.default),
}
_log_softmax, _log_softmax_backward = torch._log_softmax, torch._log_softmax_backward_data
_nll_loss, _nll_loss_backward = _aten.nll_loss_forward.default, _aten.nll_loss_backward.default


@dataclass(frozen=True)
class _Layer:
    """A linear layer as views: weight [o, i], its transpose, bias [o], and where their gradients go."""

    weight: torch.Tensor
    transposed: torch.Tensor
    bias: torch.Tensor
    weight_gradient: torch.Tensor
    bias_gradient: torch.Tensor
    activation: _Activation | None


class PerceptronGradient:
    """Mean cross-entropy of a perceptron and its gradient.

    Parameters
    ----------
    module
        The model; parameters and gradients stay where they are.
    gradient
        The flat vector of which the gradients are views.

    Raises
    ------
    ValueError
        If the model is anything but linear layers with biases, flattened inputs and known activations.
    """

    def __init__(self, module: nn.Module, gradient: torch.Tensor) -> None:
        self._module, self._gradient = module, gradient
        self.layers = _layers(module)
        self._one = torch.ones(())
        # By batch size, how many numbers are still to be compared; None after a difference.
        self._unproved: dict[int, int | None] = {1: None}

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of float32[n, ...] and int64[n], and leave its gradient in the flat vector."""
        examples = labels.shape[0]
        left = self._unproved.get(examples, PROOF)
        if left is not None and left <= 0:
            with torch.inference_mode():
                return self._compute(inputs, labels)
        loss = by_autograd(self._module, self._gradient, cross_entropy, inputs, labels)
        if left is not None:
            same = self._count_same(inputs, labels, loss)
            self._unproved[examples] = None if same is None else left - same
        return loss

    def _count_same(self, inputs: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> int | None:
        """Return how many numbers of a batch's gradient are not zero, if all have autograd's bits; else None."""
        expected = self._gradient.clone()
        with torch.inference_mode():
            found = self._compute(inputs, labels)
        equal = _bits(found).equal(_bits(loss.detach())) and _bits(self._gradient).equal(_bits(expected))
        self._gradient.copy_(expected)
        return int(expected.count_nonzero()) if equal else None

    def _compute(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = inputs.flatten(1)
        seen = []
        for layer in self.layers:
            seen.append(outputs)
            outputs = torch.addmm(layer.bias, outputs, layer.transposed)
            if layer.activation is not None:
                layer.activation.forward(outputs)
        logs = _log_softmax(outputs, 1, False)
        loss: torch.Tensor
        loss, weight = _nll_loss(logs, labels, None, 1, -100)
        gradient = _nll_loss_backward(self._one, logs, labels, None, 1, -100, weight)
        gradient = _log_softmax_backward(gradient, logs, 1, torch.float32)
        for place in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[place]
            if layer.activation is not None:
                gradient = layer.activation.backward(gradient, outputs)
            outputs = seen[place]
            torch.mm(gradient.t(), outputs, out=layer.weight_gradient)
            torch.sum(gradient, 0, out=layer.bias_gradient)
            if place:
                gradient = torch.mm(gradient, layer.weight)
        # Autograd adds to zeros, which makes -0 to 0.
        self._gradient.add_(0.0)
        return loss


class Stack:
    """Several copies of one perceptron, which take their steps together: one kernel for all instead of one for each.

    Parameters
    ----------
    perceptron_gradient
        The perceptron.
    length
        Length of its flat vector.
    copies
        Number of copies c.

    Attributes
    ----------
    values, gradient
        float32[c, length]: parameters and gradients, each row laid out as the perceptron's flat vector.
    array
        The values again, in the same memory.
    """

    def __init__(self, perceptron_gradient: PerceptronGradient, length: int, copies: int) -> None:
        self.values, self.gradient = torch.zeros(copies, length), torch.zeros(copies, length)
        self.array: NDArray[np.float32] = self.values.numpy()
        self._layers = [self._stacked(layer) for layer in perceptron_gradient.layers]
        self._shares: dict[int, torch.Tensor] = {}

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the examples' losses [c, n] of float32[c, n, ...] and int64[c, n].

        The gradients of each copy's mean are left in ``gradient``.
        """
        copies, examples = labels.shape
        outputs = inputs.flatten(2)
        seen = []
        for layer in self._layers:
            seen.append(outputs)
            outputs = torch.baddbmm(layer.bias.unsqueeze(1), outputs, layer.transposed)
            if layer.activation is not None:
                layer.activation.forward(outputs)
        flat, rows = labels.view(-1), outputs.view(copies * examples, -1)
        logs = _log_softmax(rows, 1, False)
        losses, weight = _nll_loss(logs, flat, None, 0, -100)
        gradient = _nll_loss_backward(self._share(examples), logs, flat, None, 0, -100, weight)
        gradient = _log_softmax_backward(gradient, logs, 1, torch.float32).view_as(outputs)
        for place in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[place]
            if layer.activation is not None:
                gradient = layer.activation.backward(gradient, outputs)
            outputs = seen[place]
            layer.weight_gradient.copy_(torch.bmm(gradient.transpose(1, 2), outputs))
            torch.sum(gradient, 1, out=layer.bias_gradient)
            if place:
                gradient = torch.bmm(gradient, layer.weight)
        self.gradient.add_(0.0)
        of_examples: torch.Tensor = losses.view(copies, examples)
        return of_examples

    def _share(self, examples: int) -> torch.Tensor:
        """Return what each example counts of its copy's mean, for all copies."""
        if examples not in self._shares:
            self._shares[examples] = torch.ones(len(self.values) * examples).div_(examples)
        return self._shares[examples]

    def _stacked(self, layer: _Layer) -> _Layer:
        places = [(tensor.storage_offset(), tensor.shape) for tensor in (layer.weight, layer.bias)]
        (weight, bias), (weight_gradient, bias_gradient) = (
            [flat[:, offset : offset + shape.numel()].view(len(flat), *shape) for offset, shape in places]
            for flat in (self.values, self.gradient)
        )
        return _Layer(weight, weight.transpose(1, 2), bias, weight_gradient, bias_gradient, layer.activation)


def by_autograd(
    module: nn.Module,
    gradient: torch.Tensor,
    loss: Loss,
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of a batch, and leave its gradient in the flat vector of which the gradients are views."""
    gradient.zero_()
    value = loss(module(inputs), targets, inputs)
    value.backward()  # type: ignore[no-untyped-call]
    return value


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32)


def _layers(module: nn.Module) -> list[_Layer]:
    """Return a perceptron's layers; raise ValueError if it is none."""
    if type(module) is not nn.Sequential or is_hooked(module):
        raise ValueError("not a plain sequence")
    layers: list[_Layer] = []
    for child in module:
        kind = type(child)
        if is_hooked(child):
            raise ValueError("a module with hooks")
        if isinstance(child, nn.Flatten) and not layers and (child.start_dim, child.end_dim) == (1, -1):
            continue
        if isinstance(child, nn.Linear) and kind is nn.Linear:
            layers.append(_linear(child))
        elif kind in _ACTIVATIONS and layers and layers[-1].activation is None:
            layers[-1] = replace(layers[-1], activation=_ACTIVATIONS[kind])
        else:
            raise ValueError(f"a {kind.__name__} in this place")
    if not layers or len(set(module.parameters())) < 2 * len(layers):
        raise ValueError("no layer, or shared ones")
    return layers


def _linear(child: nn.Linear) -> _Layer:
    """Return a layer of its own; raise ValueError if it cannot be one."""
    if child.bias is None:
        raise ValueError("a layer without biases")
    if 1 in child.weight.shape:
        raise ValueError("a layer with one input or output")
    weight_gradient, bias_gradient = child.weight.grad, child.bias.grad
    if weight_gradient is None or bias_gradient is None:
        raise ValueError("a parameter that is not trained")
    weight, bias = child.weight.detach(), child.bias.detach()
    return _Layer(weight, weight.t(), bias, weight_gradient, bias_gradient, None)


def is_hooked(module: nn.Module) -> bool:
    """Return whether calling a module does more than what its kind does."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
