"""Training that detects attacks and remembers nobody, for comparison: what reputation adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST


def shares_by_detection_alone(config: ExperimentConfig, folder: Path) -> list[dict[int, int]]:
    """Return who would earn what in each round, by number, if reputation neither kept anybody out nor weighed anybody.

    Both arguments are those of :func:`fedledger.platform.experiment.assembly.make_experiment`. All else is as
    configured, but there is no ledger.
    """
    training = config.training
    open_gates = training.reputation.model_copy(update={"gate": 0, "relative_gate": 0})
    alone = config.model_copy(update={"training": training.model_copy(update={"reputation": open_gates})})
    experiment = make_experiment(alone, folder)
    with Serial(experiment) as backend:
        return [dict(done.shares) for done in play(MemoryRecord(experiment, judged=True), backend)]


def pay_beside_honest(earned: Sequence[int], behaviours: Sequence[str]) -> dict[str, float]:
    """Return what attackers earned beside the median honest participant, the mean of each behaviour."""
    honest = [pay for pay, behaviour in zip(earned, behaviours, strict=True) if behaviour == HONEST]
    typical = max(1, median(honest)) if honest else 1
    found: dict[str, list[float]] = {}
    for pay, behaviour in zip(earned, behaviours, strict=True):
        if behaviour != HONEST:
            found.setdefault(behaviour, []).append(pay / typical)
    return {behaviour: sum(pays) / len(pays) for behaviour, pays in found.items()}
