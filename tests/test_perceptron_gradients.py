"""Gradients without autograd: autograd's bits, or autograd."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedledger.learning.fast.perceptron_gradients import PROOF, PerceptronGradient, by_autograd
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=5),
    st.sampled_from([nn.ReLU, nn.Tanh]),
    st.integers(2, 40),
    st.integers(0, 2**31),
    st.sampled_from([1.0, 0.0, 1e20, float("nan")]),
)
def test_the_bits_are_those_of_autograd(
    widths: list[int], activation: type[nn.Module], examples: int, seed: int, scale: float
) -> None:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    model = FlatModel(nn.Sequential(*layers[:-1]))
    assert model.perceptron_gradient is not None
    model.perceptron_gradient._unproved[examples] = 0
    for _ in range(3):
        x = torch.randn(examples, widths[0]).mul_(scale)
        y = torch.randint(widths[-1], (examples,))
        loss = by_autograd(model.module, model.gradient, cross_entropy, x, y)
        expected = bits(loss), bits(model.gradient)
        model.gradient.fill_(7.0)
        found = model.perceptron_gradient(x, y)
        places = np.concatenate([np.arange(aligned.start, aligned.stop) for _, aligned in model.layout.places])
        assert bits(found) == expected[0]
        assert bits(model.gradient[places]) == np.frombuffer(expected[1], np.float32)[places].tobytes()
        model.gradient.zero_()
        model.trainable.add_(torch.randn_like(model.trainable), alpha=0.1)


def test_after_a_difference_autograd_is_used() -> None:
    model = FlatModel(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    perceptron_gradient = model.perceptron_gradient
    assert perceptron_gradient is not None
    perceptron_gradient._one = torch.full((), 2.0)
    x, y = torch.randn(5, 4), torch.randint(2, (5,))
    for _ in range(3):
        found = perceptron_gradient(x, y)
        gradient = model.gradient.clone()
        assert bits(found) == bits(by_autograd(model.module, model.gradient, cross_entropy, x, y))
        assert gradient.equal(model.gradient)
    assert perceptron_gradient._unproved[5] is None


def test_a_batch_size_is_proved_by_thousands_of_numbers_and_a_single_example_never() -> None:
    model = FlatModel(nn.Sequential(nn.Linear(40, 20)))
    perceptron_gradient = model.perceptron_gradient
    assert perceptron_gradient is not None
    for examples in (4, 1):
        for step in range(8):
            left = perceptron_gradient._unproved.get(examples, PROOF)
            assert (left is not None and left <= 0) == (examples > 1 and step >= 5)
            perceptron_gradient(torch.randn(examples, 40), torch.randint(20, (examples,)))


def hooked() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


def tied() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 3),
        nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 3)),
        nn.Sequential(nn.Linear(4, 3, bias=False)),
        nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(3, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 3)),
        nn.Sequential(hooked()),
        tied(),
        nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).requires_grad_(False)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)),
    ],
)
def test_any_other_model_is_left_to_autograd(module: nn.Module) -> None:
    assert FlatModel(module).perceptron_gradient is None


def test_labels_that_the_model_does_not_have_are_refused() -> None:
    model = FlatModel(nn.Sequential(nn.Linear(4, 3)))
    perceptron_gradient = PerceptronGradient(model.module, model.gradient)
    x = torch.randn(5, 4)
    perceptron_gradient(x, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(IndexError):
        perceptron_gradient(x, torch.full((5,), 3))
