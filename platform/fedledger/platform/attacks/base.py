"""Attackers for experiments: what they send instead of honest work. Detection never sees who they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedledger.node.training import LocalTrainer, Trainer
from fedledger.platform.attacks.coalition import Coalition
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import ATTACK
from fedledger.protocol.methods.parameters import build, parameters_of
from fedledger.protocol.methods.registry import Registry

Attack = Callable[..., Trainer]


ATTACKS: Registry[Attack] = Registry(ATTACK)


def attacker(
    method: str, params: Mapping[str, Any], honest: LocalTrainer, coalition: Coalition | None = None
) -> Trainer:
    """Return an attacker that could have been honest.

    Parameters
    ----------
    method, params
        The attack and its parameters.
    honest
        What the participant would train with.
    coalition
        What the attackers of the experiment know together; some attacks need it.

    Raises
    ------
    ConfigError
        If there is no such attack, its parameters do not suit it, or it needs a coalition and there is none.
    """
    given: dict[str, Any] = {**params, "honest": honest}
    if any(parameter.name == "coalition" for parameter in parameters_of(ATTACKS.get(method))):
        if coalition is None:
            raise ConfigError(f"The attack {method} is made by several together.", "Make it with their coalition.")
        given["coalition"] = coalition
    return build(ATTACKS, method, given)
