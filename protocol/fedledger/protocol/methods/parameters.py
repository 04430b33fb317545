"""From the parameters in a task's spec to a method that is ready to use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.registry import Registry

T = TypeVar("T")


def build(registry: Registry[Callable[..., T]], key: str, params: Mapping[str, Any]) -> T:
    """Call the factory registered as ``key`` with ``params`` as its keyword arguments.

    Raises
    ------
    ConfigError
        If there is no such factory, if it does not take these parameters, or if it refuses their values.
    """
    factory = registry.get(key)
    try:
        return factory(**params)
    except TypeError:
        signature = inspect.signature(factory)
        try:
            signature.bind(**params)
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "no parameters"
            raise ConfigError(f"The {registry.kind} {key}: {error}.", f"It takes {takes}.") from error
        raise


def whole(name: str, value: object, minimum: int = 1) -> int:
    """Return ``value`` as an int if it is a whole number of at least ``minimum``, else raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ConfigError(f"{name} is {value!r}.", f"Give a whole number of at least {minimum}.")
    return int(value)


def real(name: str, value: object, minimum: float = 0.0, *, above: bool = False) -> float:
    """Return ``value`` as a finite float of at least ``minimum`` (or above it), else raise ConfigError."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    if not minimum <= number < float("inf") or (above and number == minimum):
        bound = "above" if above else "of at least"
        raise ConfigError(f"{name} is {value!r}.", f"Give a finite number {bound} {minimum:g}.")
    return number
