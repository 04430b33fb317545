"""A run with a ledger, as its report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedledger.contracts.ledger.pools import Pool
from fedledger.learning.label_counts import LabelCounts
from fedledger.ledger_tools.fairness import told_figures
from fedledger.ledger_tools.report.refusals import Refusal
from fedledger.ledger_tools.report.task_view import TaskView


@dataclass(frozen=True)
class RunView:
    """A run.

    Parameters
    ----------
    summary
        Its ``run.json``.
    metrics
        One row per round with ``round``, ``loss`` (None if it is not finite), ``score``, ``accepted``, ``refused`` and
        ``gas`` (total so far), and with ``time_us`` if there are ``devices``.
    task
        Its task, as the ledger tells it.
    behaviours
        What each participant did (``honest``, or the attack), by address.
    refusals
        The updates that were not accepted.
    labels
        How the examples are divided.
    plain_mean
        Score after each round of the same training with a plain mean; may be empty.
    devices
        What the participants' devices did, by :func:`~fedledger.ledger_tools.report.device_tables.task_rows`; empty
        without a schedule.
    pool
        The verifiers that would judge it; None without a challenge window.
    """

    summary: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    task: TaskView
    behaviours: Mapping[str, str]
    refusals: Sequence[Refusal]
    labels: LabelCounts
    plain_mean: Sequence[float] = ()
    devices: Sequence[Mapping[str, Any]] = ()
    pool: Pool | None = None

    @property
    def score_name(self) -> str:
        """What the score is called."""
        return str(self.summary["objective"]["score_name"])

    @property
    def loss_name(self) -> str:
        """What the loss is called."""
        return str(self.summary["objective"]["loss_name"])

    @property
    def facts(self) -> dict[str, str]:
        """What the report says about the run as a whole."""
        summary = self.summary
        window = summary["challenge_window"]
        facts = {
            "final model": summary["final_model"],
            "spec": summary["spec"],
            f"test {self.score_name}": f"{summary['score']:.4f}",
            f"test {self.loss_name}": "not finite" if summary["loss"] is None else f"{summary['loss']:.4f}",
            "rounds": f"{summary['rounds']:,}",
            "chain": summary["chain"],
            "gas": f"{summary['gas']:,}",
            "seconds": f"{summary['seconds']:,}",
            "challenge window": f"{window:,} s" if window else "none: nobody could dispute a round",
        }
        spread = {
            "score": f"{self.score_name} on own examples",
            "pay": "pay, credit units",
            "pay_per_example": "pay per example",
        }
        for what, figures in summary.get("fairness", {}).items():
            facts[f"fairness of {spread[what]}"] = told_figures(figures)
        if self.pool is not None:
            facts["verifiers"] = self.pool.told()
        if self.task.checks is not None:
            facts |= self.task.checks.facts
        if self.task.scores is not None:
            facts |= self.task.scores.facts
        if self.devices:
            facts["simulated seconds"] = f"{summary['devices']['simulated_seconds']:,.3f}"
            facts["energy of all devices"] = f"{summary['devices']['joules']:,.3f} J"
        return facts
