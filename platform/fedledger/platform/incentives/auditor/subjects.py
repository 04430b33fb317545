"""What is audited: a mechanism by its name, one in a file of the user's, or a menu of the contract theory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from fedledger.aggregator.mechanisms.base import MECHANISMS, Mechanism
from fedledger.platform.incentives.auditor.contracts import PREFIX, contract_named
from fedledger.platform.incentives.auditor.settings.choice import usual_params
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build, parameters_of


@dataclass(frozen=True)
class Subject:
    """A mechanism as it is named; it goes to another process as such, and is made there.

    Parameters
    ----------
    key
        Its ``name@version``, or ``contract:`` and the name of a menu.
    params
        Its parameters.
    module
        A file with Python code that registers it; None: it is in the catalogue.
    """

    key: str
    params: Mapping[str, Any] = field(default_factory=dict)
    module: Path | None = None

    def make(self) -> Mechanism:
        """Return the mechanism.

        Raises
        ------
        ConfigError
            If there is none of that name with these parameters, or its file cannot be run.
        """
        if self.module is not None:
            load_module(self.module)
        if self.key.startswith(PREFIX):
            return contract_named(self.key)
        return build(MECHANISMS, self.key, {**usual_params(self.key), **self.params})

    def needs_params(self) -> bool:
        """Return whether it has a parameter that is neither given nor usual nor has a default."""
        known = {**usual_params(self.key), **self.params}
        return any(each.is_required and each.name not in known for each in parameters_of(MECHANISMS.get(self.key)))


def load_module(path: Path) -> None:
    """Run a file of Python code, once in this process.

    Raises
    ------
    ConfigError
        If it is not there, or raises an error.
    """
    name = f"fedledger_audited_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path} is no file of Python code.", "Give --module a file that registers a mechanism.")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} raises {type(error).__name__}: {error}", "Correct it first.") from error
