"""A task's own Python: its model, and where it has one its data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from torch import nn

from fedledger.learning.code_bundle import MAIN, decode_code
from fedledger.learning.code_modules import PREFIX, Modules
from fedledger.learning.data import Dataset, Prepared
from fedledger.learning.huggingface import prepared_from_huggingface
from fedledger.learning.objectives.base import Objective
from fedledger.learning.objectives.own import Guarded
from fedledger.protocol.errors import ConfigError, FedledgerError, TrustError


@dataclass(frozen=True)
class TaskCode:
    """A task's ``task.py`` after it has run.

    Attributes
    ----------
    cid
        Content id of the code.
    module
        The module that it defined.
    content
        The code.
    file
        Where it lies, if it is one's own.
    """

    cid: str
    module: ModuleType
    content: bytes
    file: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process of one's own runs it again.
        return _reloaded, (self.content, self.cid, self.file)

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
        return _guarded(getattr(self.module, name), f"{name}() of task.py {self.cid}", _elsewhere(self.cid))


def load_task_code(
    content: bytes, cid: str, trusted: Set[str], file: Path | None = None, needs_model: bool = True
) -> TaskCode:
    """Run a task's ``task.py`` in a fresh module.

    The code runs with all rights of this process: nothing is isolated, so trust is given by CID.

    Parameters
    ----------
    content
        The file's bytes, or those of a bundle of it and its modules, already checked against ``cid``.
    cid
        Its content id.
    trusted
        The CIDs whose code may run.
    file
        Where the file is, if it is one's own: ``__file__`` says so, and data beside it are found. Else ``__file__``
        leads nowhere.
    needs_model
        Whether it has to define ``model``; a participant's own script defines ``data`` alone.

    Raises
    ------
    TrustError
        If ``cid`` is not trusted.
    ContentUnreadableError
        If the content is a bundle that cannot be read.
    ConfigError
        If the source does not compile or run, or defines no ``model``.
    """
    if cid not in trusted:
        raise TrustError(
            f"The task brings its own code, {cid}, and it is not trusted.",
            f"Pass --trust-code {cid} to run it here, once you have read it.",
        )
    files, elsewhere = decode_code(content), _elsewhere(cid)
    place = PurePath(elsewhere, MAIN) if file is None else file.absolute()
    module = _guarded(Modules(f"{PREFIX}{cid}", files, place).main, f"task.py {cid}", elsewhere)
    if needs_model and not callable(getattr(module, "model", None)):
        raise ConfigError(f"task.py {cid} defines no model().", "Define model() so that it returns a torch.nn.Module.")
    return TaskCode(cid, module, content, file)


def model_of_code_alone(code: TaskCode) -> nn.Module:
    """Return the model that a task's code makes where none of the files beside it are.

    Raises
    ------
    ConfigError
        If it makes none there.
    """
    name = f"{PREFIX}{code.cid}"
    kept = {each: module for each, module in sys.modules.items() if each == name or each.startswith(f"{name}.")}
    try:
        return load_task_code(code.content, code.cid, {code.cid}).model()
    except ConfigError as error:
        raise ConfigError(
            f"Whoever has the task's code alone cannot make its model: {error.message}",
            "Have model() read a file only if it is there: the initial model carries what was read.",
        ) from error
    finally:
        # Classes are looked up by these names.
        sys.modules.update(kept)


def _reloaded(content: bytes, cid: str, file: Path | None) -> TaskCode:
    return load_task_code(content, cid, {cid}, file)


def _elsewhere(cid: str) -> str:
    """Return what a task's code takes for its folder where its files do not lie in one."""
    return f"code@{cid}"


def _guarded(call: Callable[[], Any], what: str, elsewhere: str) -> Any:
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except FedledgerError as error:
        raise ConfigError(f"{what}: {error.message}", error.remedy) from error
    except BaseException as error:
        raise ConfigError(f"{what} raised {_told(error)}.", _remedy(error, elsewhere)) from error


def _remedy(error: BaseException, elsewhere: str) -> str:
    """Say what helps against an error of a task's code."""
    if elsewhere in _told(error):
        return (
            "Data files beside a task.py do not travel with the task, only the modules that it imports: read them in "
            "data() alone, as model() also runs where they are not."
        )
    if isinstance(error, FileNotFoundError):
        return "Name files beside the task.py by Path(__file__).parent: other paths start at the working folder."
    if isinstance(error, ImportError):
        return "Install it; modules of the task's own lie beside its task.py, and import statements name them."
    return "Correct the task's code."


def _told(error: BaseException) -> str:
    """Say what was raised; a class of the task's own may fail at that, too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
