"""Attacks that are made of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from fedledger.node.training import LocalTrainer, Trainer
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.coalition import Coalition
from fedledger.protocol.methods.parameters import Checked, Entries, Text

MAX_PARAMS = 32


@dataclass(frozen=True)
class Within(Checked):
    """Another attack under conditions.

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    attack, params
        The other attack; honest training if its name is empty.
    """

    honest: LocalTrainer
    coalition: Coalition
    attack: Annotated[str, Text(64)] = ""
    params: Annotated[Mapping[str, Any], Entries(MAX_PARAMS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        # So that it is known from the start what it is told, and what it looks at.
        _ = self.other

    @cached_property
    def other(self) -> Trainer:
        """The other attack."""
        return attacker(self.attack, self.params, self.honest, self.coalition) if self.attack else self.honest
