"""What the publisher of an experiment posts, as the ledger takes it."""

from __future__ import annotations

from fedledger.contracts.ledger.records import TaskParams
from fedledger.platform.experiment.accounts import AGGREGATOR, experiment_address
from fedledger.platform.experiment.checked_data import check_terms, least_stake
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.scoring_terms import recommender_terms, scoring_terms
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.units import GWEI


def ledger_terms(config: ExperimentConfig, spec: TaskSpec, content: ContentRef) -> TaskParams:
    """Return the terms of an experiment's task, whose spec is stored as some content."""
    ledger, seal = config.ledger, spec.seal_digest
    return TaskParams(
        spec=content,
        model=spec.initial_model.ref,
        aggregator=experiment_address(config.seed, AGGREGATOR),
        rounds=spec.rounds,
        quorum=config.quorum,
        min_participants=ledger.min_participants or config.participants,
        max_participants=config.participants,
        enrol_period=ledger.enrol_period,
        commit_period=ledger.commit_period,
        reveal_period=ledger.reveal_period,
        propose_period=ledger.propose_period,
        challenge_window=ledger.challenge_window,
        max_unfinal=ledger.max_unfinal,
        bidding_every=spec.bidding or 0,
        pools_pay=ledger.pools_pay,
        max_staleness=ledger.max_staleness,
        randomness=int(spec.randomness == "beacon"),
        batched=ledger.batched,
        grace_period=ledger.grace_period,
        min_stake=least_stake(config) * GWEI,
        min_reputation=ledger.min_reputation,
        bond=ledger.bond_gwei * GWEI,
        credit_unit=ledger.credit_unit_gwei * GWEI,
        units_per_round=ledger.units_per_round,
        penalty=ledger.penalty_gwei * GWEI,
        garbage_share=ledger.garbage_share,
        never_revealed_share=ledger.never_revealed_share,
        statistical_share=ledger.statistical_share,
        free_refusals=ledger.free_refusals,
        seal=seal,
        seal_deposit=ledger.seal_deposit_gwei * GWEI if any(seal) else 0,
        seal_period=ledger.seal_period if any(seal) else 0,
        open_enrolment=ledger.open_enrolment,
        **check_terms(config, spec.spot_checks),
        **recommender_terms(spec.reputation),
        **scoring_terms(config),
    )
