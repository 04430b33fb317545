"""A measurement of a model on held-out examples."""

from __future__ import annotations

from dataclasses import dataclass

LOSS_CAP = 2**31 - 1
MAX_SCORE = 2**53 - 1
"""Documents hold no larger whole number."""
"""Largest measured loss, in micro-nats; stands for every larger or undefined one."""


@dataclass(frozen=True)
class Measurement:
    """A measurement on the task's validation set.

    Parameters
    ----------
    loss
        Mean loss in millionths of the objective's unit, from 0 to ``LOSS_CAP``.
    score
        What the task's objective counts: for classification, the examples that are classified correctly.
    margin
        By how much the model prefers what is right, in millionths, within ±``LOSS_CAP``; None where the objective has
        no such measure.
    """

    loss: int
    score: int
    margin: int | None = None

    @property
    def worth(self) -> int:
        """What rises as a model gets better: the margin, or the loss with its sign turned where there is none."""
        return -self.loss if self.margin is None else self.margin

    def scores_above(self, other: Measurement, lower_is_better: bool) -> bool:
        """Return whether this score is better than another one, given which of two is."""
        return self.score < other.score if lower_is_better else self.score > other.score
