"""Models of shapes alone: what a stranger's parameters describe, without the memory that it would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fedledger.learning.models.base import build_model
from fedledger.protocol.errors import ConfigError


@dataclass(frozen=True)
class Shapes:
    """A model without numbers."""

    module: torch.nn.Module

    @classmethod
    def of(cls, key: str, params: Mapping[str, Any]) -> Shapes:
        """Return those of a registered model.

        Raises
        ------
        ConfigError
            If there is no such model, or the parameters do not suit it.
        NotImplementedError
            If torch cannot make it of shapes alone.
        """
        try:
            with torch.device("meta"):
                return cls(build_model(key, params).eval())
        except NotImplementedError:
            raise
        except (RuntimeError, TypeError, OverflowError) as error:
            raise ConfigError(f"The model {key} cannot have these dimensions: {error}.") from error

    def outputs(self, inputs: torch.Tensor) -> tuple[int, ...]:
        """Return the shape of what the model makes of one example; raises ConfigError if it takes none such.

        Only type and shape of the inputs [n, ...] count.

        As :meth:`of`, it raises NotImplementedError if torch cannot tell.
        """
        try:
            with torch.device("meta"), torch.inference_mode():
                return tuple(self.module(torch.empty((1, *inputs.shape[1:]), dtype=inputs.dtype)).shape)
        except NotImplementedError:
            raise
        except (RuntimeError, TypeError, LookupError, ValueError) as error:
            raise ConfigError(
                f"The model does not take examples of shape {list(inputs.shape[1:])}: {error}."
            ) from error
