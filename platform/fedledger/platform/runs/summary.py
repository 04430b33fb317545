"""What is in a run's ``run.json``."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from fedledger.platform.experiment.tested import ObjectiveSummary, TestedRow

MetricsRow = dict[str, Any]
"""A round's metrics: ``round``, ``loss``, ``score``, ``accepted``, ``refused``, and what the kind of run adds."""


class ParticipantSummary(TypedDict):
    """What a participant of a run with a ledger came to; see ``ParticipantView``."""

    address: str
    behaviour: str
    accepted: int
    refused: dict[str, int]
    reputation: int
    credit: int
    checks: NotRequired[dict[str, int]]


class AgentSummary(TypedDict):
    """What an agent came to: the rounds in which it worked, what they paid and cost it, and the difference, in units.

    ``group`` is the name under ``[[agents]]``.
    """

    address: str
    group: str
    rounds: int
    pay: int
    cost: int
    utility: int


class RunSummary(TestedRow):
    """What every run came to: its rounds, its final model (a CID), and that model's loss and score on the test set.

    ``spent`` is what its rounds have paid, in units, where updates are judged.
    ``fairness`` is what ``run_fairness`` in ``runs.fairness`` returns.
    """

    name: str
    seed: int
    rounds: int
    objective: ObjectiveSummary
    final_model: str
    spec: str
    seconds: float
    spent: NotRequired[int]
    agents: NotRequired[list[AgentSummary]]
    fairness: dict[str, dict[str, Any]]
    devices: NotRequired[dict[str, Any]]


class PlainSummary(RunSummary):
    """What a run without a ledger came to."""

    ledger: bool
    backend: str


class LedgerSummary(RunSummary):
    """What a run with a ledger came to; the challenge window is in seconds.

    Where there are spot checks, ``checks`` is what ``totals_of`` in ``audit.check_view`` returns, and where updates are
    scored ``scores`` what that of ``audit.score_view`` does. Reputations are by ``reputation_model`` if the task has
    one.
    """

    task: int
    chain: str
    gas: int
    challenge_window: int
    participants: list[ParticipantSummary]
    reputation_model: NotRequired[str]
    checks: NotRequired[dict[str, Any]]
    scores: NotRequired[dict[str, int]]
