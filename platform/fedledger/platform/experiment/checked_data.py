"""What a configuration says of committed data and spot checks, as its task's spec and terms have it."""

from __future__ import annotations

from typing import Any

from fedledger.platform.experiment.accounts import experiment_auditor
from fedledger.platform.experiment.config import USUAL_STAKE_GWEI, ExperimentConfig
from fedledger.platform.spot_checks.plan import CheckPlan, most_pay
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spot_checks import LEAST_AUDITORS, CommittedData, SpotChecks
from fedledger.protocol.units import GWEI


def checked_data(config: ExperimentConfig) -> dict[str, Any]:
    """Return the fields of a spec that say what participants commit to and who checks their updates.

    With a check rate, participants commit to their data; the auditors are the experiment's own unless others are named.
    """
    training, rate = config.training, config.ledger.check_rate
    require_held_penalty(config)
    if not rate:
        return {"committed_data": training.committed_data, "spot_checks": None}
    asked = training.spot_checks
    auditors = None if asked is None else asked.auditors
    if auditors is None:
        auditors = [experiment_auditor(config.seed, number) for number in range(LEAST_AUDITORS)]
    return {
        "committed_data": training.committed_data or CommittedData(),
        "spot_checks": validated(
            SpotChecks,
            {"auditors": auditors, "windows": None if asked is None else asked.windows},
            "spot_checks under [training]",
        ),
    }


def check_plan(config: ExperimentConfig) -> CheckPlan | None:
    """Return the rate and the penalty of a configuration's spot checks, and what follows; None if it has none.

    A penalty that is not given is planned: a ridden round loses as much again as it can gain.
    """
    ledger = config.ledger
    if not ledger.check_rate:
        return None
    pay = most_pay(ledger.units_per_round * ledger.credit_unit_gwei, config.quorum)
    return CheckPlan.of(pay, config.training.rounds, ledger.check_rate, ledger.check_penalty_gwei)


def check_terms(config: ExperimentConfig, checks: SpotChecks | None) -> dict[str, Any]:
    """Return what the ledger's terms say of spot checks; nothing if there are none."""
    from fedledger.contracts.ledger.checks import auditors_hash

    plan = check_plan(config)
    if checks is None or plan is None:
        return {}
    return {
        "check_rate": plan.rate,
        "check_period": config.ledger.check_period,
        "check_penalty": plan.penalty * GWEI,
        "auditor_count": len(checks.auditors),
        "auditors": auditors_hash(checks.accounts),
    }


def least_stake(config: ExperimentConfig) -> int:
    """Return the stake of participants in gwei: as given, or else enough for the plan of checks."""
    given, plan = config.ledger.stake_gwei, check_plan(config)
    if given is not None:
        return given
    return USUAL_STAKE_GWEI if plan is None else max(USUAL_STAKE_GWEI, plan.stake)


def require_held_penalty(config: ExperimentConfig) -> None:
    """Raise ConfigError if a stake does not hold the penalty of one failed check."""
    plan, stake = check_plan(config), least_stake(config)
    if plan is not None and plan.penalty > stake:
        raise ConfigError(
            f"A failed check costs {plan.penalty:,} gwei, and a stake under [ledger] holds {stake:,}.",
            "Leave stake_gwei out, raise it, or let rounds pay less; `fedledger spot-check plan` computes both.",
        )


def require_named_auditors(config: ExperimentConfig) -> None:
    """Raise ConfigError if a task with spot checks has the experiment's own auditors, whose keys are anybody's."""
    asked = config.training.spot_checks
    if config.ledger.check_rate and (asked is None or asked.auditors is None):
        raise ConfigError(
            "check_rate under [ledger] has updates checked, and nobody is named who does so.",
            'Name two auditors or more: spot_checks = { auditors = [{ account = "0x…", key = "…" }, …] } under '
            "[training]. Each prints its own with `fedledger auditor key`.",
        )
