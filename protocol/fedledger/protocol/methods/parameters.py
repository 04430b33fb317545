"""From the parameters in a task's spec to a method that is ready to use.

A method is a class or function whose parameters carry their bounds in their annotations::

    f: Annotated[int, Whole(0, 4096)]

So the bounds are checked, listed by ``fedledger methods`` and written into the documents from one declaration.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from numbers import Integral
from numbers import Real as RealNumber
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.registry import Registry

T = TypeVar("T")


class Bound(Protocol):
    """What the values of a parameter are."""

    def __str__(self) -> str:
        """Return it in words that follow "Give"."""
        ...

    def holds(self, value: object) -> bool:
        """Return whether a value is within the bound."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number from ``minimum`` to ``maximum``."""

    minimum: int
    maximum: int

    def __str__(self) -> str:
        return f"a whole number from {self.minimum:,} to {self.maximum:,}"

    def holds(self, value: object) -> bool:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        return is_whole and self.minimum <= value <= self.maximum  # type: ignore[operator]


@dataclass(frozen=True)
class Real:
    """A number from ``minimum`` to ``maximum``; one that is ``above`` or ``below`` a limit may not equal it."""

    minimum: float
    maximum: float
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        if not (self.above or self.below):
            return f"a number from {self.minimum:g} to {self.maximum:g}"
        low = f"above {self.minimum:g}" if self.above else f"of at least {self.minimum:g}"
        return f"a number {low} and {'below' if self.below else 'at most'} {self.maximum:g}"

    def holds(self, value: object) -> bool:
        if not isinstance(value, RealNumber) or isinstance(value, bool):
            return False
        # As a whole number may be too large for a float, it is compared as it is.
        number: Any = value
        low = self.minimum < number if self.above else self.minimum <= number
        high = number < self.maximum if self.below else number <= self.maximum
        return bool(low and high)


@dataclass(frozen=True)
class Text:
    """A text of at most so many characters."""

    length: int = 4096

    def __str__(self) -> str:
        return "one character" if self.length == 1 else f"a text of at most {self.length:,} characters"

    def holds(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.length


@dataclass(frozen=True)
class OneOf:
    """One of some texts."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"

    def holds(self, value: object) -> bool:
        return isinstance(value, str) and value in self.values


@dataclass(frozen=True)
class ListOf:
    """At most so many values, each within a bound."""

    each: Bound
    most: int

    def __str__(self) -> str:
        return f"a list of at most {self.most:,}, each {self.each}"

    def holds(self, value: object) -> bool:
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return is_list and len(value) <= self.most and all(self.each.holds(one) for one in value)  # type: ignore[arg-type, attr-defined]


@dataclass(frozen=True)
class AnyOf:
    """Within one of several bounds."""

    bounds: tuple[Bound, ...]

    def __str__(self) -> str:
        return ", or ".join(str(bound) for bound in self.bounds)

    def holds(self, value: object) -> bool:
        return any(bound.holds(value) for bound in self.bounds)


@dataclass(frozen=True)
class Entries:
    """A table of at most so many entries with texts as keys, which whoever takes it checks further."""

    most: int

    def __str__(self) -> str:
        return f"a table of at most {self.most:,} entries"

    def holds(self, value: object) -> bool:
        return isinstance(value, Mapping) and len(value) <= self.most and all(isinstance(key, str) for key in value)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def __str__(self) -> str:
        return "true or false"

    def holds(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Parameters
    ----------
    name
        Its name.
    bound
        What its values are; None if the method does not say.
    default
        Its default; ``inspect.Parameter.empty`` if it has none.
    optional
        Whether None may be given.
    """

    name: str
    bound: Bound | None
    default: object
    optional: bool

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    def check(self, value: object) -> None:
        """Raise ConfigError if a value is out of bounds."""
        if self.bound is None or (value is None and self.optional) or self.bound.holds(value):
            return
        shown = repr(value)
        raise ConfigError(f"{self.name} is {shown if len(shown) <= 80 else shown[:79] + '…'}.", f"Give {self.bound}.")


_PARAMETERS: dict[Callable[..., object], tuple[Parameter, ...]] = {}


def parameters_of(method: Callable[..., object]) -> tuple[Parameter, ...]:
    """Return the parameters of a method, in the order of its signature."""
    if method not in _PARAMETERS:
        described: Any = method
        made: dict[str, object] = {}
        if is_dataclass(method):
            made = {one.name: one.default_factory() for one in fields(method) if one.default_factory is not MISSING}
        elif isinstance(method, type):
            described = inspect.getattr_static(method, "__init__")
        hints = get_type_hints(described, include_extras=True)
        _PARAMETERS[method] = tuple(
            _parameter(given.name, hints.get(given.name), made.get(given.name, given.default))
            for given in inspect.signature(method).parameters.values()
        )
    return _PARAMETERS[method]


def _parameter(name: str, hint: Any, default: object) -> Parameter:
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        bound = next((mark for mark in marks if hasattr(mark, "holds")), None)
    else:
        bound = Flag() if hint is bool else None
    optional = get_origin(hint) in {Union, types.UnionType} and type(None) in get_args(hint)
    return Parameter(name, bound, default, optional)


class Checked:
    """Base of methods that are dataclasses: making one checks its parameters against their bounds."""

    def __post_init__(self) -> None:
        """Check the parameters; a method with conditions of its own checks them after this.

        Raises
        ------
        ConfigError
            If a parameter is out of bounds.
        """
        for parameter in parameters_of(type(self)):
            parameter.check(getattr(self, parameter.name))


def build(registry: Registry[Callable[..., T]], key: str, params: Mapping[str, Any]) -> T:
    """Call the method registered as ``key`` with ``params`` as its keyword arguments.

    Raises
    ------
    ConfigError
        If there is no such method, if it does not take these parameters, or if a value is out of bounds.
    """
    method = registry.get(key)
    if not isinstance(method, type):
        _check(registry, key, method, params)
    try:
        return method(**params)
    except TypeError:
        _check(registry, key, method, params)
        raise


def require_parameters(registry: Registry[Any], key: str, params: Mapping[str, Any]) -> None:
    """Check the parameters of a method that also takes what the platform supplies, without making it.

    Raises
    ------
    ConfigError
        If there is no such method, if it does not take these parameters, or if a value is out of bounds.
    """
    method, supplied = registry.get(key), registry.kind.supplied
    given = {parameter.name: None for parameter in parameters_of(method) if parameter.name in supplied}
    # A parameter of a supplied name is given twice over.
    reserved = {f"{name} (supplied)" if name in given else name: value for name, value in params.items()}
    _check(registry, key, method, {**given, **reserved})


def _check(registry: Registry[Any], key: str, method: Callable[..., object], params: Mapping[str, Any]) -> None:
    """Raise ConfigError if a method does not take these parameters, or one is out of bounds."""
    try:
        inspect.signature(method).bind(**params)
    except TypeError as error:
        own = [each.name for each in parameters_of(method) if each.name not in registry.kind.supplied]
        takes = ", ".join(own) or "no parameters"
        raise ConfigError(f"The {registry.kind.name} {key}: {error}.", f"It takes {takes}.") from error
    for parameter in parameters_of(method):
        if parameter.name in params:
            parameter.check(params[parameter.name])


def whole(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return ``value`` as an int if it is a whole number within bounds, else raise ConfigError."""
    Parameter(name, Whole(minimum, maximum), None, optional=False).check(value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def real(name: str, value: object, bound: Real) -> float:
    """Return ``value`` as a float if it is a number within a bound, else raise ConfigError."""
    Parameter(name, bound, None, optional=False).check(value)
    return float(value)  # type: ignore[arg-type]
