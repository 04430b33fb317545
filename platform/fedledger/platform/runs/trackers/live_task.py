"""Rounds of a live task, passed on to trackers by the aggregator's program as they settle."""

from __future__ import annotations

import logging
from typing import Any

from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.history import History
from fedledger.platform.runs.trackers.base import Tracked
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import FedledgerError
from fedledger.protocol.records.report import MODEL
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import Readable

log = logging.getLogger(__name__)


class LiveTask:
    """Tells trackers of each round that a program settles: its model's loss and score, and how updates were judged.

    Parameters
    ----------
    history, store, task, spec
        The task.
    tracked
        To whom it is passed on.
    """

    def __init__(self, history: History, store: Readable, task: int, spec: TaskSpec, tracked: Tracked) -> None:
        self._history, self._store, self._task, self._spec = history, store, task, spec
        self._tracked = tracked

    def __call__(self, step: Step) -> None:
        """Look at what a step did."""
        for action, index in step.actions:
            if action is Action.SETTLED:
                self._tell(index)

    def _tell(self, index: int) -> None:
        current = self._history.update().task(self._task).rounds.get(index)
        if current is None or current.proposal is None:
            return
        verdicts = [*current.verdicts.values()]
        row: dict[str, Any] = {
            "round": index,
            "accepted": sum(verdict is Verdict.ACCEPTED for verdict in verdicts),
            "refused": sum(verdict.refused for verdict in verdicts),
        }
        try:
            report = canonical.decode(self._store.get(current.proposal.report))
        except (FedledgerError, ValueError) as error:
            log.warning("round %d: its report cannot be shown: %s", index, error)
            report = None
        measured = report.get("measurements") if isinstance(report, dict) else None
        model = measured.get(MODEL) if isinstance(measured, dict) else None
        if isinstance(model, dict):
            loss, score = model.get("loss"), model.get(self._spec.score_key)
            row |= {"loss": loss / 1e6 if isinstance(loss, int) else None, "score": score}
        self._tracked.log(row)
