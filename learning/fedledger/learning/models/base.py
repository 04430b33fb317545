"""Built-in models; a task may bring its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import MODEL
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry

MODELS: Registry[Callable[..., nn.Module]] = Registry(MODEL)


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def build_model(key: str, params: Mapping[str, Any]) -> nn.Module:
    """Return a fresh model of a registered kind.

    Its weights come from torch's global generator; see :mod:`fedledger.learning.models.initial` for repeatable ones.

    Raises
    ------
    ConfigError
        If there is no such model, if the parameters do not suit it, or if it is larger than content may be. Then
        nothing of its size is allocated.
    """
    require_size(key, params)
    return build(MODELS, key, params)


def require_size(key: str, params: Mapping[str, Any]) -> None:
    """Raise ConfigError if a registered model is larger than content may be, or its parameters do not suit it."""
    values = dimension_of(key, params)
    if values is not None and 4 * values > MAX_OBJECT_BYTES:
        raise ConfigError(
            f"The model {key} has {values:,} numbers, which take more than the {MAX_OBJECT_BYTES:,} bytes of content.",
            "Choose a smaller one.",
        )


def dimension_of(key: str, params: Mapping[str, Any]) -> int | None:
    """Return the number of coordinates d of a registered model, without memory for them; None if it cannot be told.

    Raises
    ------
    ConfigError
        If there is no such model, or if the parameters do not suit it.
    """
    try:
        with torch.device("meta"):
            module = build(MODELS, key, params)
    except (RuntimeError, NotImplementedError):
        # An installed model that computes with its weights when it is made.
        return None
    counted: dict[int, int] = {id(each): each.numel() for each in module.state_dict(keep_vars=True).values()}
    return sum(counted.values())
