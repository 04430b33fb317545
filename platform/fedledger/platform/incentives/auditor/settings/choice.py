"""Which setting a mechanism is audited in, and with which parameters if none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedledger.aggregator.mechanisms.base import Mechanism
from fedledger.platform.incentives.auditor.settings.base import Bounds, Setting
from fedledger.platform.incentives.auditor.settings.effort import Effort
from fedledger.platform.incentives.auditor.settings.first_score import FirstScoreBids
from fedledger.platform.incentives.auditor.settings.fixed_work import FixedWork
from fedledger.platform.incentives.auditor.settings.menu import MenuOfTypes, usual_menu
from fedledger.protocol.errors import ConfigError

SETTINGS: tuple[type[Setting], ...] = (MenuOfTypes, FirstScoreBids, Effort, FixedWork)
"""The first that suits a mechanism is its own."""
_USUAL: Mapping[str, Callable[[], dict[str, Any]]] = {
    "contract_menu@1": lambda: {"items": usual_menu()},
    "fixed@1": lambda: {"price": 500},
    "fmore@1": lambda: {"winners": 5, "worth": 100_000},
    "pandey@1": lambda: {"price": 10_000, "full": 500},
    "sarikaya@1": lambda: {"price": 20},
    "truthful_bandit@1": lambda: {"tries_a_round": 3},
    "vcg@1": lambda: {"winners": 5},
    "zhan@1": lambda: {"reward": 100_000},
    "zhan_learned@1": lambda: {"rewards": [50_000, 100_000, 200_000], "worth": 50_000},
}
"""Of mechanisms that have parameters without defaults."""


def usual_params(key: str) -> dict[str, Any]:
    """Return the parameters with which a mechanism is audited where none are given."""
    return _USUAL[key]() if key in _USUAL else {}


def setting_of(
    mechanism: Mechanism, bounds: Mapping[str, Bounds], given: Mapping[str, Any], name: str | None = None
) -> Setting:
    """Return the setting of a name, or else the one that suits a mechanism.

    Raises
    ------
    ConfigError
        If there is none of that name, or it cannot be made for the mechanism.
    """
    if name is None:
        return next(kind for kind in SETTINGS if kind.suits(mechanism))(mechanism, bounds, given)
    found = next((kind for kind in SETTINGS if kind.name == name), None)
    if found is None:
        raise ConfigError(
            f"There is no setting {name!r}.", f"There are: {', '.join(repr(kind.name) for kind in SETTINGS)}."
        )
    return found(mechanism, bounds, given)
