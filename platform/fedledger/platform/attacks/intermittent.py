"""One attack in some rounds, another one in the rounds between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import Trainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS, attacker
from fedledger.platform.attacks.within import MAX_PARAMS, Within
from fedledger.protocol.methods.parameters import Entries, Text, Whole


@ATTACKS.register("intermittent@1")
@dataclass(frozen=True)
class Intermittent(Within):
    """Attacks in one way every few rounds, and in another way, or not at all, in the rounds between.

    What does no good in any round is now refused and now accepted, so each refusal by itself says little of the next
    update: only who remembers it can tell (Sun, Han and Liu 2008, https://doi.org/10.1109/MCOM.2008.4473093, call a
    change between good and bad behaviour the on-off attack).

    Parameters
    ----------
    every
        It attacks by ``attack`` in every round whose number is a multiple of this.
    between, between_params
        The attack in all other rounds; honest training if its name is empty.
    """

    every: Annotated[int, Whole(1, 65_536)] = 3
    between: Annotated[str, Text(64)] = ""
    between_params: Annotated[Mapping[str, Any], Entries(MAX_PARAMS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.meanwhile

    @cached_property
    def meanwhile(self) -> Trainer:
        """The attack in the rounds between."""
        return attacker(self.between, self.between_params, self.honest, self.coalition) if self.between else self.honest

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return (self.meanwhile if context.index % self.every else self.other)(context)
