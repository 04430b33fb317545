"""What a configuration says of recommenders and scorers, as its task's terms have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spec import ReputationSpec

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import TaskParams

VERIFIERS = "verifiers"


def scoring_terms(config: ExperimentConfig) -> dict[str, Any]:
    """Return what the ledger's terms say of scorers; nothing if there are none."""
    ledger = config.ledger
    if not ledger.scorers:
        return {}
    return {
        "scorers": ledger.scorers,
        "verifiers_score": ledger.score_from == VERIFIERS,
        "score_period": ledger.score_period,
        "score_spread": ledger.score_spread,
        "score_floor": ledger.score_floor,
    }


def recommender_terms(reputation: ReputationSpec) -> dict[str, Any]:
    """Return what the ledger's terms say of recommenders."""
    from fedledger.contracts.ledger.scores import recommenders_hash

    return {
        "recommenders": recommenders_hash(reputation.recommenders),
        "recommender_trust": reputation.trust,
    }


def require_candidates(config: ExperimentConfig, asked: int) -> None:
    """Raise ConfigError if a round asks fewer participants than it has scorers, and these are drawn among them.

    Parameters
    ----------
    config
        The configuration.
    asked
        How many participants a round asks, where as few take part as may.
    """
    ledger = config.ledger
    if ledger.score_from == VERIFIERS or ledger.scorers <= asked:
        return
    raise ConfigError(
        f"scorers under [ledger] is {ledger.scorers}, and a round may ask no more than {asked} participants.",
        f"Give at most {asked} scorers, have more participants in each round, or let verifiers score: "
        f'score_from = "{VERIFIERS}".',
    )


def told_scorers(params: TaskParams) -> str:
    """Say who scores the updates of a task, and until when; empty if nobody does."""
    if not params.scorers:
        return ""
    who = "of the task's verifiers" if params.verifiers_score else "of the selected participants"
    return (
        f"{params.scorers} {who} score each round's updates on data of their own, within {params.score_period:,} s, "
        f"and reveal the scores within {params.score_period:,} s more"
    )
