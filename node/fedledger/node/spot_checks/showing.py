"""A participant whose updates do not follow from the data that it commits to, as attackers in experiments have."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import Trainer, TrainingContext


@dataclass(frozen=True)
class Showing:
    """A trainer that shows something else than what it did.

    Parameters
    ----------
    trainer
        Makes the updates.
    shown
        What trains on the data that the participant commits to, and answers spot checks by.
    appeals
        Whether it appeals against failed checks.
    """

    trainer: Trainer
    shown: Trainer
    appeals: bool = False

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the update for a round."""
        return self.trainer(context)
