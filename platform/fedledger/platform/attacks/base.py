"""Attackers for experiments: what they send instead of honest work. Detection never sees who they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedledger.node.training import LocalTrainer, Trainer
from fedledger.protocol.methods.catalogue import ATTACK
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry

Attack = Callable[..., Trainer]


ATTACKS: Registry[Attack] = Registry(ATTACK)


def attacker(method: str, params: dict[str, Any], honest: LocalTrainer) -> Trainer:
    """Return an attacker that could have been honest."""
    return build(ATTACKS, method, {**params, "honest": honest})
