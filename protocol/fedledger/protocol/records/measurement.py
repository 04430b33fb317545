"""A measurement of a model on held-out examples."""

from __future__ import annotations

from dataclasses import dataclass


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
