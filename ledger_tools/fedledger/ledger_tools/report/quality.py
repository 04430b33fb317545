"""How good a round's model is, as its report says."""

from __future__ import annotations

import logging
from typing import TypedDict

from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import FedledgerError
from fedledger.protocol.records.report import MODEL
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import Readable

log = logging.getLogger(__name__)


class Quality(TypedDict):
    """A model on the task's validation set: its loss, in the loss's unit, and its score as reports have it."""

    loss: float | None
    score: int | None


def shown_quality(current: RoundHistory, store: Readable, spec: TaskSpec) -> Quality | None:
    """Return what a proposed round's report says of its model; None, with a warning, if it cannot be read."""
    if current.proposal is None:
        return None
    try:
        report = canonical.decode(store.get(current.proposal.report, canonical.MAX_DOCUMENT_BYTES))
    except (FedledgerError, ValueError) as error:
        log.warning("round %d: its report cannot be shown: %s", current.index, error)
        return None
    measured = report.get("measurements") if isinstance(report, dict) else None
    model = measured.get(MODEL) if isinstance(measured, dict) else None
    if not isinstance(model, dict):
        return None
    loss, score = model.get("loss"), model.get(spec.score_key)
    return Quality(loss=loss / 1e6 if isinstance(loss, int) else None, score=score if isinstance(score, int) else None)
