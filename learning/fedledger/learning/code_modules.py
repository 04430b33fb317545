"""Modules of a task's code: each task imports its own, by the names that they have beside its ``task.py``.

The modules of a task lie below one that is named after its code's content id, so that those of two tasks never mix and
none hides a module of anybody else. Nothing is written to a disk, and neither search paths nor finders are changed.
"""

from __future__ import annotations

import builtins
import linecache
import sys
from collections.abc import Mapping, Sequence
from importlib.util import resolve_name
from pathlib import PurePath
from types import ModuleType
from typing import Any

from fedledger.learning.code_bundle import MAIN

PREFIX = "fedledger_task_"


class Modules:
    """The modules of a task, each of which runs when it is first imported.

    Parameters
    ----------
    name
        Of the module that the task's own file becomes; all others are below it.
    files
        The files' bytes by name, ``task.py`` among them.
    place
        What ``__file__`` says of the task's own file; the others are in the same folder.
    """

    def __init__(self, name: str, files: Mapping[str, bytes], place: PurePath) -> None:
        self._name, self._files, self._place = name, files, place
        self._loaded: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def main(self) -> ModuleType:
        """Run the task's own file and return its module.

        Raises
        ------
        BaseException
            Whatever the code raises.
        """
        return self._load(self._name)

    def _load(self, name: str) -> ModuleType:
        """Return a module of the task, which runs if it has not before; raises ImportError if there is none."""
        if name in self._loaded:
            return self._loaded[name]
        file, is_package = self._file_of(name)
        if file is None and not is_package:
            raise ModuleNotFoundError(f"No module named {name[len(self._name) + 1 :]!r} beside {self._place.name}")
        module = ModuleType(name)
        module.__package__ = name if is_package else name.rpartition(".")[0]
        if is_package:
            module.__path__ = []
        # Dataclasses and pickling look a class's module up by name.
        self._loaded[name] = sys.modules[name] = module
        if file == MAIN:
            # Those beside it may import it, too.
            self._loaded[f"{name}.{PurePath(MAIN).stem}"] = module
        try:
            if file is not None:
                self._run(file, module)
        except BaseException:
            del self._loaded[name]
            raise
        outer, _, own = name.rpartition(".")
        if outer:
            setattr(self._loaded[outer], own, module)
        return module

    def _file_of(self, name: str) -> tuple[str | None, bool]:
        """Return the file of a module, if it has one, and whether it is a package."""
        path = name[len(self._name) + 1 :].replace(".", "/")
        if not path:
            return MAIN, True
        if len(self._files) == 1:
            return None, False
        if f"{path}/__init__.py" in self._files:
            return f"{path}/__init__.py", True
        if f"{path}.py" in self._files:
            return f"{path}.py", False
        return None, any(file.startswith(f"{path}/") for file in self._files)

    def _run(self, file: str, module: ModuleType) -> None:
        """Run a file as a module; tracebacks show its lines."""
        source = self._files[file]
        where = str(self._place if file == MAIN else self._place.parent / file)
        text = source.decode("utf-8", "replace")
        linecache.cache[where] = (len(text), None, text.splitlines(keepends=True), where)
        module.__file__ = where
        module.__dict__["__builtins__"] = self._builtins
        exec(compile(source, where, "exec"), module.__dict__)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as a statement in the task's code does: its own modules come before those that are installed."""
        if level:
            whole = resolve_name("." * level + name, str((globals or {}).get("__package__")))
        else:
            whole = f"{self._name}.{name}"
            if self._file_of(".".join(whole.split(".")[:2])) == (None, False):
                return builtins.__import__(name, globals, locals, fromlist or (), level)
        below = whole[len(self._name) + 1 :].split(".") if whole != self._name else []
        chain = [self._load(".".join([self._name, *below[:depth]])) for depth in range(len(below) + 1)]
        if not fromlist:
            return chain[1]
        for wanted in self._wanted(chain[-1], fromlist):
            inner = f"{whole}.{wanted}"
            if not hasattr(chain[-1], wanted) and self._file_of(inner) != (None, False):
                self._load(inner)
        return chain[-1]

    @staticmethod
    def _wanted(module: ModuleType, fromlist: Sequence[str]) -> Sequence[str]:
        return getattr(module, "__all__", ()) if "*" in fromlist else fromlist
