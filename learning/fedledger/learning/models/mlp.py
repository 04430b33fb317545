"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from fedledger.learning.models.base import ACTIVATIONS, MODELS
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import whole


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
