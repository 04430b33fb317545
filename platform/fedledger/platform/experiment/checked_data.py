"""What a configuration says of committed data and spot checks, as its task's spec and terms have it."""

from __future__ import annotations

from typing import Any

from fedledger.platform.experiment.accounts import experiment_auditor
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spot_checks import LEAST_AUDITORS, CommittedData, SpotChecks


def checked_data(config: ExperimentConfig) -> dict[str, Any]:
    """Return the fields of a spec that say what participants commit to and who checks their updates.

    With a check rate, participants commit to their data; the auditors are the experiment's own unless others are named.
    """
    training, rate = config.training, config.ledger.check_rate
    if not rate:
        return {"committed_data": training.committed_data, "spot_checks": None}
    asked = training.spot_checks
    auditors = None if asked is None else asked.auditors
    if auditors is None:
        auditors = [experiment_auditor(config.seed, number) for number in range(LEAST_AUDITORS)]
    return {
        "committed_data": training.committed_data or CommittedData(),
        "spot_checks": SpotChecks(auditors=auditors, windows=None if asked is None else asked.windows),
    }


def require_named_auditors(config: ExperimentConfig) -> None:
    """Raise ConfigError if a task with spot checks has the experiment's own auditors, whose keys are anybody's."""
    asked = config.training.spot_checks
    if config.ledger.check_rate and (asked is None or asked.auditors is None):
        raise ConfigError(
            "check_rate under [ledger] has updates checked, and nobody is named who does so.",
            'Name two auditors or more: spot_checks = { auditors = [{ account = "0x…", key = "…" }, …] } under '
            "[training]. Each prints its own with `fedledger auditor key`.",
        )
