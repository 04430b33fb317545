"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import nn

from fedledger.learning.models.base import ACTIVATIONS, MODELS
from fedledger.protocol.methods.parameters import ListOf, OneOf, Whole


@MODELS.register("mlp@1")
def mlp(
    inputs: Annotated[int, Whole(1, 2**31)],
    hidden: Annotated[Sequence[int], ListOf(Whole(1, 1_000_000), 256)],
    classes: Annotated[int, Whole(1, 1_000_000)],
    activation: Annotated[str, OneOf(tuple(ACTIVATIONS))] = "relu",
) -> nn.Module:
    """Return a multi-layer perceptron on flattened inputs, with logits as its output.

    Parameters
    ----------
    inputs
        Number of features of an example once flattened.
    hidden
        Widths of the hidden layers.
    classes
        Number of classes; of another objective, of outputs.
    activation
        ``relu``, ``tanh`` or ``gelu``.
    """
    widths = [inputs, *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
