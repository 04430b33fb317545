"""What a deployment asks of tasks, and what a court needs to work: told before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedledger.platform.experiment.config import DEPLOYED, LedgerConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.units import GWEI, in_gwei

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import Settings, TaskParams

MOST_QUORUM = 1_024
"""The highest quorum that a ledger takes."""


def require_court(settings: Settings) -> None:
    """Raise ConfigError if no ledger is deployed with these settings, or its court could not take its fines."""
    if settings.jury_size % 2 == 0:
        raise ConfigError(
            f"A first jury of {settings.jury_size} seats may be divided equally.", "Give an odd --jury-size."
        )
    if settings.least_pool < settings.jury_size:
        raise ConfigError(
            f"A pool of {settings.least_pool} verifiers does not fill a first jury of {settings.jury_size} seats.",
            "Give a --least-pool of at least --jury-size.",
        )
    if settings.juror_penalty > settings.min_verifier_stake:
        raise ConfigError(
            f"A juror's penalty of {in_gwei(settings.juror_penalty)} is more than the least stake of a verifier, "
            f"{in_gwei(settings.min_verifier_stake)}, which has to pay it.",
            "Give a --min-verifier-stake-gwei of at least --juror-penalty-gwei.",
        )


def court_cautions(settings: Settings) -> list[str]:
    """Return what of these settings keeps every task without a court, though a ledger is deployed with them."""
    cautions = []
    if settings.exit_delay <= settings.longest_dispute:
        cautions.append(
            f"No task with a challenge window can be posted: a dispute takes up to {settings.longest_dispute:,} s, and "
            f"an exit only {settings.exit_delay:,} s. Give a longer --exit-delay, or a shorter --dispute-period."
        )
    if not settings.juror_penalty:
        cautions.append("Jurors lose nothing by silence or lies. Give a --juror-penalty-gwei above 0.")
    return cautions


def court_needs(settings: Settings) -> list[str]:
    """Return in sentences what tasks with a challenge window need on a ledger with these settings."""
    least = max(1, -(-settings.least_bond // GWEI))
    return [
        f"Tasks with a challenge window need a bond_gwei of {least:,} or more: twice a juror's penalty for each of the "
        f"{sum(settings.seats)} seats of all juries.",
        f"They need an exit delay of {settings.longest_dispute:,} s for the longest dispute, and besides as long as a "
        f"round and its challenge windows last. This ledger's is {settings.exit_delay:,} s.",
        f"The highest penalty_gwei is {settings.most_penalty // GWEI:,}, with a challenge_window of "
        f"{settings.least_window:,} s or more.",
    ]


def require_deployed(terms: LedgerConfig, settings: Settings) -> None:
    """Raise ConfigError if a configuration gives something of the deployment's that the ledger has otherwise.

    Parameters
    ----------
    terms
        What the configuration says under ``[ledger]``.
    settings
        What the ledger was deployed with.
    """
    differing = []
    for key, (setting, unit) in DEPLOYED.items():
        given, deployed = getattr(terms, key), getattr(settings, setting)
        if key in terms.model_fields_set and given is not None and given * unit != deployed:
            has = f"{deployed // unit:,}" if deployed % unit == 0 else f"{deployed / unit:,}"
            differing.append(f"{key} is {given:,}, and the ledger was deployed with {has}")
    if differing:
        raise ConfigError(
            f"The configuration's [ledger] differs from the deployment: {'; '.join(differing)}.",
            "Leave these keys out, or post the task on a ledger that was deployed with them.",
        )


def require_terms(params: TaskParams, settings: Settings, standbys: int) -> None:
    """Raise ConfigError if a ledger with these settings refuses a task's stakes and deadlines.

    Parameters
    ----------
    params
        What is to be posted.
    settings
        What the ledger was deployed with.
    standbys
        How many aggregators take over when one is silent.
    """
    if params.quorum > MOST_QUORUM:
        raise ConfigError(
            f"quorum under [ledger] is {params.quorum:,}, and a ledger takes at most {MOST_QUORUM:,}.",
            f"Give a quorum of {MOST_QUORUM:,} or less; without one it is half of the participants.",
        )
    if params.min_participants > params.max_participants:
        raise ConfigError(
            f"min_participants under [ledger] is {params.min_participants:,}, and there are at most "
            f"{params.max_participants:,} participants.",
            "Lower min_participants.",
        )
    if params.penalty > settings.most_penalty:
        raise ConfigError(
            f"penalty_gwei under [ledger] is {_gwei(params.penalty)}, and this ledger takes at most "
            f"{settings.most_penalty // GWEI:,}.",
            "Lower penalty_gwei.",
        )
    _require_check_penalty(params, settings)
    if (params.penalty or params.check_rate) and params.challenge_window < settings.least_window:
        raise ConfigError(
            f"challenge_window under [ledger] is {params.challenge_window:,}, and this ledger takes penalties only "
            f"with {settings.least_window:,} s or more.",
            "Give a longer challenge_window, or leave penalty_gwei and check_rate out.",
        )
    if params.challenge_window and params.bond < settings.least_bond:
        raise ConfigError(
            f"bond_gwei under [ledger] is {_gwei(params.bond)}, and this ledger needs "
            f"{-(-settings.least_bond // GWEI):,} or more: twice a juror's penalty for each seat of all juries.",
            "Raise bond_gwei.",
        )
    least = params.least_exit_delay(settings, 1 + standbys)
    if least > settings.exit_delay:
        raise ConfigError(
            f"A round of the task, its challenge windows and the longest dispute take up to {least:,} s, and this "
            f"ledger's exit delay is {settings.exit_delay:,} s.",
            f"Shorten the task's periods by {least - settings.exit_delay:,} s, or post it on a ledger with an exit "
            f"delay of {least:,} s or more.",
        )


def _require_check_penalty(params: TaskParams, settings: Settings) -> None:
    """Raise ConfigError if a failed spot check costs more than the ledger, or a participant's stake, takes."""
    lower = "raise quorum, or lower units_per_round, so that a round pays one participant less"
    if params.check_penalty > settings.most_penalty:
        raise ConfigError(
            f"A failed spot check costs {in_gwei(params.check_penalty)}, and this ledger takes penalties of at most "
            f"{in_gwei(settings.most_penalty)}.",
            f"Post the task on a ledger deployed with --most-penalty-gwei {-(-params.check_penalty // GWEI)} or more; "
            f"or {lower}.",
        )
    if params.check_penalty > params.min_stake:
        raise ConfigError(
            f"A failed spot check costs {in_gwei(params.check_penalty)}, and a stake under [ledger] holds "
            f"{in_gwei(params.min_stake)}.",
            f"Leave stake_gwei out, or raise it; or {lower}.",
        )


def _gwei(wei: int) -> str:
    return in_gwei(wei).removesuffix(" gwei")
