"""A LeNet for small images."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from fedledger.learning.fast.pooling import HalvingMaxPool2d
from fedledger.learning.models.base import MODELS
from fedledger.protocol.methods.parameters import Whole


@MODELS.register("lenet@1")
def lenet(
    classes: Annotated[int, Whole(2, 1_000_000)] = 10,
    image_side: Annotated[int, Whole(12, 4096)] = 28,
    channels: Annotated[int, Whole(1, 4096)] = 1,
) -> nn.Module:
    """Return LeNet-5 (LeCun et al., 1998) with ReLU and max pooling.

    Inputs are [n, channels, image_side, image_side], or anything that flattens to it.
    """
    side = (image_side // 2 - 4) // 2
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, (channels, image_side, image_side)),
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
        nn.Linear(84, classes),
    )
