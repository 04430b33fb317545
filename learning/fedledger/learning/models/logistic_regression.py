"""Logistic regression."""

from __future__ import annotations

from torch import nn

from fedledger.learning.models.base import MODELS
from fedledger.learning.models.mlp import mlp


@MODELS.register("logistic_regression@1")
def logistic_regression(inputs: int, classes: int) -> nn.Module:
    """Return multinomial logistic regression on flattened inputs."""
    return mlp(inputs, [], classes)
