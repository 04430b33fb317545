"""Built-in models; a task may bring its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fedledger.learning.vectors import FlatModel, Float32Array, Layout
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import MODEL
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.model import ModelFile

MODELS: Registry[Callable[..., nn.Module]] = Registry(MODEL)


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


def build_model_like(key: str, params: Mapping[str, Any], like: ModelFile) -> nn.Module:
    """Return a fresh model of a registered kind that has the tensors of a model file; its size is checked before.

    Raises
    ------
    ConfigError
        If there is no such model, if the parameters do not suit it, or if its tensors are others.
    """
    try:
        # Tensors without content: a size that somebody only claims takes no memory.
        with torch.device("meta"):
            layout = Layout.of(build_model(key, params))
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"The model {key} cannot be made with these parameters: {error}.", _MISFIT) from error
    if (layout.names, layout.shapes) != (like.names, like.shapes):
        found = f"{layout.dimension:,} parameters, its file has {len(like.vector):,}"
        raise ConfigError(f"The task's model does not fit its file: the spec's {key} has {found}.", _MISFIT)
    return build_model(key, params)


_MISFIT = "Nobody can work on this task; its publisher has to post another one."


def initial_vector(factory: Callable[[], nn.Module], seed: int) -> Float32Array:
    """Return the packed float32[d] of a fresh model whose random initialisation is seeded.

    Torch's global generator is left as it was. The result repeats on one machine and torch version; what
    parties share is the bytes, not the seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return FlatModel(factory()).vector()
