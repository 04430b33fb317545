"""A measurement of a model on held-out examples."""

from __future__ import annotations

from dataclasses import dataclass

LOSS_CAP = 2**31 - 1
"""Largest measured loss, in micro-nats; stands for every larger or undefined one."""


@dataclass(frozen=True)
class Measurement:
    """A measurement on the task's validation set.

    Parameters
    ----------
    loss
        Mean cross-entropy in micro-nats.
    correct
        Number of examples that are classified correctly.
    """

    loss: int
    correct: int
