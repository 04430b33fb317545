"""Registries of methods: a method is chosen by ``name@version`` and pinned in the task's spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from fedledger.protocol.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Methods of one kind, by ``name@version``.

    Parameters
    ----------
    kind
        What is registered, e.g. ``"aggregation rule"``; used in error messages.
    group
        Entry-point group under which installed plug-ins offer further methods. Each entry point's name is
        ``name@version`` and it loads to the method.
    package
        Where the methods that come with this project lie: a method called ``name`` in the module ``name``.
        Empty if there are none.
    """

    def __init__(self, kind: str, group: str, package: str = "") -> None:
        self.kind = kind
        self.group = group
        self.package = package
        self._methods: dict[str, T] = {}

    def register(self, key: str) -> Callable[[T], T]:
        """Return a decorator that registers a method under ``name@version``."""
        name, _, version = key.partition("@")
        if not name or not version.isdigit():
            raise ValueError(f"{key!r} is not name@version")

        def add(method: T) -> T:
            if key in self._methods:
                raise ValueError(f"the {self.kind} {key} is registered twice")
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
            for point in entry_points(group=self.group, name=key):
                self._methods[key] = point.load()
        if key not in self._methods:
            self._load_all()
            close = get_close_matches(key, self._methods, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(self._methods))}."
            raise ConfigError(f"There is no {self.kind} {key!r}.", hint)
        return self._methods[key]

    def __contains__(self, key: str) -> bool:
        return key in self._methods

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(sorted(self._methods))

    def _load(self, name: str) -> None:
        """Import the module of a method, which registers it; nothing happens if there is none."""
        if name in self._names():
            import_module(f"{self.package}.{name}")

    def _load_all(self) -> None:
        for name in self._names():
            import_module(f"{self.package}.{name}")

    def _names(self) -> list[str]:
        if not self.package:
            return []
        return sorted(module.name for module in iter_modules(import_module(self.package).__path__))
