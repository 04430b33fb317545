"""Built-in models; a task may bring its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, whole
from fedledger.protocol.registry import Registry

MODELS: Registry[Callable[..., nn.Module]] = Registry("model", "fedledger.models")

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def build_model(key: str, params: Mapping[str, Any]) -> nn.Module:
    """Return a fresh model of a registered kind.

    Its weights come from torch's global generator; see `initial_vector` for repeatable ones.

    Raises
    ------
    ConfigError
        If there is no such model, or if the parameters do not suit it.
    """
    return build(MODELS, key, params)


def initial_vector(factory: Callable[[], nn.Module], seed: int) -> Float32Array:
    """Return the packed float32[d] of a fresh model whose random initialisation is seeded.

    Torch's global generator is left as it was. The result repeats on one machine and torch version; what
    parties share is the bytes, not the seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return FlatModel(factory()).vector()


class HalvingMaxPool2d(nn.MaxPool2d):
    """``nn.MaxPool2d(2)``, which takes a tenth of the time where no gradient is wanted; the numbers are the same."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return [..., h // 2, w // 2] for [..., h, w]."""
        if torch.is_grad_enabled():
            pooled: torch.Tensor = super().forward(input)
            return pooled
        # Maxima of whole slices are vectorised; windows, with the places of their maxima, are not.
        height, width = (size // 2 * 2 for size in input.shape[-2:])
        rows = torch.maximum(input[..., :height:2, :width], input[..., 1:height:2, :width])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


@MODELS.register("mlp@1")
def mlp(inputs: int, hidden: Sequence[int], classes: int, activation: str = "relu") -> nn.Module:
    """Return a multi-layer perceptron on flattened inputs, with logits as its output.

    Parameters
    ----------
    inputs
        Number of features of an example once flattened.
    hidden
        Widths of the hidden layers.
    classes
        Number of classes.
    activation
        ``relu``, ``tanh`` or ``gelu``.
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"There is no activation {activation!r}.", f"There are: {', '.join(ACTIVATIONS)}.")
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise ConfigError(f"hidden is {hidden!r}.", "Give a list of widths.")
    widths = [whole("inputs", inputs), *(whole("a hidden width", width) for width in hidden)]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], whole("classes", classes, 2)))


@MODELS.register("logistic_regression@1")
def logistic_regression(inputs: int, classes: int) -> nn.Module:
    """Return multinomial logistic regression on flattened inputs."""
    return mlp(inputs, [], classes)


@MODELS.register("lenet@1")
def lenet(classes: int = 10, image_side: int = 28, channels: int = 1) -> nn.Module:
    """Return LeNet-5 (LeCun et al., 1998) with ReLU and max pooling.

    Inputs are [n, channels, image_side, image_side], or anything that flattens to it.
    """
    side = (whole("image_side", image_side, 12) // 2 - 4) // 2
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, (whole("channels", channels), image_side, image_side)),
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.ReLU(),
        HalvingMaxPool2d(),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        HalvingMaxPool2d(),
        nn.Flatten(),
        nn.Linear(16 * side * side, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, whole("classes", classes, 2)),
    )
