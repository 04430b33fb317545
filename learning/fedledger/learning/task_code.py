"""A task's own Python: its model, and where it has one its data set."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Set
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from fedledger.learning.data import Dataset, Prepared
from fedledger.learning.huggingface import prepared_from_huggingface
from fedledger.learning.objectives.base import Objective
from fedledger.learning.objectives.own import Guarded
from fedledger.protocol.errors import ConfigError, TrustError


@dataclass(frozen=True)
class TaskCode:
    """A task's ``task.py`` after it has run.

    Attributes
    ----------
    cid
        Content id of the source.
    module
        The module that it defined.
    """

    cid: str
    module: ModuleType

    @property
    def has_data(self) -> bool:
        """Whether the task defines ``data()``."""
        return callable(getattr(self.module, "data", None))

    def model(self) -> nn.Module:
        """Return what the task's ``model()`` returns.

        Raises
        ------
        ConfigError
            If it raises, or returns anything but a ``torch.nn.Module``.
        """
        made = self._call("model")
        if not isinstance(made, nn.Module):
            raise ConfigError(
                f"model() of task.py {self.cid} returned {type(made).__name__}.",
                "Make it return a torch.nn.Module.",
            )
        return made

    def data(self) -> Prepared:
        """Return what the task's ``data()`` returns.

        It may return a `Dataset`, a `Prepared`, a tuple (inputs, labels) or (inputs, labels, groups), or what
        :func:`fedledger.learning.huggingface.prepared_from_huggingface` takes.

        Raises
        ------
        ConfigError
            If it is missing, raises, or returns anything else.
        """
        if not self.has_data:
            raise ConfigError(f"task.py {self.cid} defines no data().", "Define it, or name a data set.")
        made = self._call("data")
        if isinstance(made, Prepared):
            return made
        if isinstance(made, Dataset):
            return Prepared(made)
        if isinstance(made, tuple) and len(made) in {2, 3}:
            return Prepared(Dataset.of(*made))
        found = prepared_from_huggingface(made)
        if found is not None:
            return found
        raise ConfigError(
            f"data() of task.py {self.cid} returned {type(made).__name__}.",
            "Make it return a Dataset, a tuple (inputs, labels), or one of Hugging Face's data sets.",
        )

    @property
    def has_objective(self) -> bool:
        """Whether the task defines ``objective()``."""
        return callable(getattr(self.module, "objective", None))

    def objective(self) -> Objective:
        """Return what the task's ``objective()`` returns, guarded.

        Raises
        ------
        ConfigError
            If it is missing, raises, or returns no `Objective`.
        """
        if not self.has_objective:
            raise ConfigError(
                f"task.py {self.cid} defines no objective().", "Define it, or name an objective under [training]."
            )
        what = f"objective() of task.py {self.cid}"
        return Guarded.of(self._call("objective"), what)

    def _call(self, name: str) -> Any:
        return _guarded(getattr(self.module, name), f"{name}() of task.py {self.cid}")


def load_task_code(source: bytes, cid: str, trusted: Set[str]) -> TaskCode:
    """Run a task's ``task.py`` in a fresh module.

    The code runs with all rights of this process: nothing is isolated, so trust is given by CID.

    Parameters
    ----------
    source
        The file's bytes, already checked against ``cid`` by the content store.
    cid
        Its content id.
    trusted
        The CIDs whose code may run.

    Raises
    ------
    TrustError
        If ``cid`` is not trusted.
    ConfigError
        If the source does not compile or run, or defines no ``model``.
    """
    if cid not in trusted:
        raise TrustError(
            f"The task brings its own code, {cid}, and it is not trusted.",
            f"Read it, and if you want to run it here pass --trust-code {cid}.",
        )
    filename = f"task.py@{cid[:12]}"
    module = ModuleType(f"fedledger_task_{cid}")
    module.__file__ = filename
    # Dataclasses and pickling look a class's module up by name; tracebacks look lines up by file name.
    sys.modules[module.__name__] = module
    text = source.decode("utf-8", "replace")
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    _guarded(lambda: exec(compile(source, filename, "exec"), module.__dict__), f"task.py {cid}")
    if not callable(getattr(module, "model", None)):
        raise ConfigError(f"task.py {cid} defines no model().", "Define model() so that it returns a torch.nn.Module.")
    return TaskCode(cid, module)


def _guarded(call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(f"{what} raised {_told(error)}.", "Correct the task's code.") from error


def _told(error: BaseException) -> str:
    """Say what was raised; a class of the task's own may fail at that, too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
