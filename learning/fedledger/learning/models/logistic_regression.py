"""Logistic regression."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from fedledger.learning.models.base import MODELS
from fedledger.learning.models.mlp import mlp
from fedledger.protocol.methods.parameters import Whole


@MODELS.register("logistic_regression@1")
def logistic_regression(
    inputs: Annotated[int, Whole(1, 2**31)], classes: Annotated[int, Whole(1, 1_000_000)]
) -> nn.Module:
    """Return multinomial logistic regression on flattened inputs."""
    return mlp(inputs, [], classes)
