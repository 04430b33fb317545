"""How evenly something is spread over participants: what a model is worth to each, or what each was paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import fsum, isfinite
from typing import Any

from fedledger.contracts.ledger.task_history import TaskHistory

TENTH = 10


@dataclass(frozen=True)
class Fairness:
    """How evenly something is spread over n participants; of none, the figures are None.

    Parameters
    ----------
    n
        Their number.
    mean, variance
        Of what they have; the variance has n in the denominator, as in Li et al. 2020
        (https://arxiv.org/abs/1905.10497).
    worst_tenth
        Mean of the tenth that has the worst, rounded up to whole participants.
    jain
        Jain's index (Σ x)² / (n Σ x²) (Jain, Chiu and Hawe 1984, https://arxiv.org/abs/cs/9809099): 1 where all have
        the same, 1 / n where one has everything; None where nobody has anything.
    """

    n: int
    mean: float | None
    variance: float | None
    worst_tenth: float | None
    jain: float | None

    @classmethod
    def of(cls, values: Iterable[float], lower_is_better: bool = False) -> Fairness:
        """Return the figures of numbers of at least 0; what is not finite is left out."""
        sample = sorted((value for value in values if isfinite(value)), reverse=lower_is_better)
        n, most = len(sample), max(map(abs, sample), default=0.0)
        if not n:
            return cls(0, None, None, None, None)
        mean, worst = fsum(sample) / n, sample[: -(-n // TENTH)]
        variance = fsum((value - mean) ** 2 for value in sample) / n
        # In parts of the largest, whose squares are far from the ends of a double.
        parts = [value / most for value in sample] if most else []
        jain = fsum(parts) ** 2 / (n * fsum(part * part for part in parts)) if parts else None
        return cls(n, mean, variance, fsum(worst) / len(worst), jain)

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return asdict(self)


def pay_fairness(task: TaskHistory) -> dict[str, Any]:
    """Return how evenly a task's pay is spread over all who were ever enrolled, as its ledger tells it."""
    return Fairness.of(task.earned(participant) for participant in sorted(task.joined)).document()


def told_figures(figures: Mapping[str, Any]) -> str:
    """Say :meth:`Fairness.document` in words."""
    if not figures["n"]:
        return "of no participant known"
    jain = "–" if figures["jain"] is None else f"{figures['jain']:.4f}"
    return (
        f"mean {_shown(figures['mean'])}, worst tenth {_shown(figures['worst_tenth'])}, variance "
        f"{_shown(figures['variance'])}, Jain index {jain} of {figures['n']:,} participants"
    )


def _shown(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
