"""How a participant answers spot checks."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.node.training import Trainer


@dataclass(frozen=True)
class Shows:
    """How a participant answers spot checks.

    Parameters
    ----------
    trainer
        What trains on the data that it commits to.
    appeals
        Whether it appeals against failed checks.
    """

    trainer: Trainer
    appeals: bool = True
