"""Local solvers by their names in a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedledger.node.solvers.base import SOLVERS, Solver
from fedledger.protocol.methods.parameters import build


def build_solver(key: str, params: Mapping[str, Any]) -> Solver:
    """Return a local solver of a registered kind.

    Raises
    ------
    ConfigError
        If there is no such solver, or if the parameters do not suit it.
    """
    return build(SOLVERS, key, params)
