"""Registries of methods: a method is chosen by ``name@version`` and pinned in the task's spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from fedledger.protocol.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """A kind of method.

    Parameters
    ----------
    name
        What one is called in messages, such as ``"aggregation rule"``.
    plural
        What several are called: for ``fedledger methods``, and for the entry-point group ``fedledger.<plural>`` under
        which an installed plug-in offers more of them. An entry point's name is ``name@version``.
    package
        The folder below ``fedledger`` in which the methods lie, such as ``"aggregator.rules"``. A method called
        ``name`` is in its module ``name``; the module ``base`` says what a method of this kind is and makes the
        registry.
    replayed
        Whether a round's outcome depends on it, so that an audit cannot do without.
    supplied
        Names of arguments that the platform supplies; the others are the method's parameters.
    """

    name: str
    plural: str
    package: str
    replayed: bool = False
    supplied: tuple[str, ...] = ()


class Registry(Generic[T]):
    """Methods of one kind, by ``name@version``.

    Parameters
    ----------
    kind
        What is registered.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._methods: dict[str, T] = {}
        _REGISTRIES[kind] = self

    def register(self, key: str) -> Callable[[T], T]:
        """Return a decorator that registers a method under ``name@version``."""
        name, _, version = key.partition("@")
        if not name or not (version.isascii() and version.isdigit()):
            raise ValueError(f"{key!r} is not name@version")

        def add(method: T) -> T:
            if key in self._methods:
                raise ValueError(f"the {self.kind.name} {key} is registered twice")
            self._methods[key] = method
            return method

        return add

    def get(self, key: str) -> T:
        """Return the method registered as ``name@version``.

        Raises
        ------
        ConfigError
            If there is none of that name and version; the message lists what there is.
        """
        if key not in self._methods:
            self._load(key.partition("@")[0])
        if key not in self._methods:
            for point in entry_points(group=f"fedledger.{self.kind.plural}", name=key):
                self._methods[key] = point.load()
        if key not in self._methods:
            known = list(self)
            close = get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known)}."
            raise ConfigError(f"There is no {self.kind.name} {key!r}.", hint)
        return self._methods[key]

    def key_of(self, method: object) -> str:
        """Return the ``name@version`` of a method that was made, or its class's name if that is not registered."""
        return next((key for key, made in self._methods.items() if made is type(method)), type(method).__name__)

    def __contains__(self, key: str) -> bool:
        return key in self._methods

    def __iter__(self) -> Iterator[str]:
        """Iterate over all methods by name: those of the kind's folder and those of installed plug-ins."""
        for name in self._modules():
            self._load(name)
        for point in entry_points(group=f"fedledger.{self.kind.plural}"):
            if point.name not in self._methods:
                self._methods[point.name] = point.load()
        return iter(sorted(self._methods))

    def _load(self, name: str) -> None:
        """Import a method's module, which registers the method; nothing happens if there is no such module."""
        if name in self._modules():
            import_module(f"fedledger.{self.kind.package}.{name}")

    def _modules(self) -> list[str]:
        package = import_module(f"fedledger.{self.kind.package}") if self.kind.package else None
        return [] if package is None else sorted(module.name for module in iter_modules(package.__path__))


_REGISTRIES: dict[Kind, Registry[Any]] = {}


def registry_of(kind: Kind) -> Registry[Any]:
    """Return the registry that the ``base`` module of a kind's folder makes."""
    if kind not in _REGISTRIES:
        import_module(f"fedledger.{kind.package}.base")
    return _REGISTRIES[kind]
