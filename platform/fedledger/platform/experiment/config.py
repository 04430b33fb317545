"""The configuration of an experiment: what `fedledger run` reads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from fedledger.platform.agents.config import AgentConfig, require_agents, require_reports
from fedledger.platform.devices.fleet import FleetConfig
from fedledger.platform.experiment.pipelines import DEFAULT, FILLED, Pipeline, with_pipeline
from fedledger.protocol.documents import Document, validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method, Methods
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.spec import (
    MAX_REPORTED,
    FixedPointSpec,
    JudgementSpec,
    Limits,
    ReportedNumber,
    ReputationSpec,
    Stopping,
    Tolerance,
)
from fedledger.protocol.records.spot_checks import LEAST_AUDITORS, MOST_AUDITORS, Auditor, CommittedData, Windows
from fedledger.protocol.schedules.base import build_schedule
from fedledger.protocol.units import GWEI, MOST_GWEI, MOST_SECONDS, YEAR
from fedledger.storage.foreign_files import read_text

_REMEDY = "Make one with `fedledger new NAME`."
USUAL_STAKE_GWEI = 1_000_000
"""The least stake of participants where a configuration has no other, and no plan of spot checks that needs more."""
MOST_BOND_GWEI = MOST_GWEI // 8
MOST_UNITS = 2**32 - 1
"""Units that all rounds of a task may pay."""
DEPLOYED = {
    "exit_delay": ("exit_delay", 1),
    "dispute_period": ("dispute_period", 1),
    "verifier_stake_gwei": ("min_verifier_stake", GWEI),
    "juror_penalty_gwei": ("juror_penalty", GWEI),
    "jury_size": ("jury_size", 1),
    "appeals": ("appeals", 1),
    "least_pool": ("least_pool", 1),
}
"""Keys under [ledger] that are the deployment's: the setting of each, and its unit.

`fedledger run` deploys with them; `fedledger task post` posts on a ledger that has them.
"""
LEAST_SCORERS, MOST_SCORERS = 3, 15
"""Scorers of a round: fewer have no median, and the ledger keeps no more."""
MOST_SCORE = 32_766
SCORE_SPREAD, SCORE_FLOOR = 12, 2048
"""Measured; see docs/scorers.md."""
OF_DEPLOYMENT = "; the deployment's: `fedledger run` deploys with it, `task post` only compares it"
DEMO = Path(__file__).with_name("demo.toml")


class DataConfig(Document):
    """Where the examples come from and how they are divided."""

    source: Method = Field(default=Method(method="digits@1"), description="data set; paths are relative to the file")
    partition: Method = Method(method="dirichlet@1", params={"alpha": 0.5, "min_examples": 20})
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="for the reported loss and score only")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="for measuring updates")
    validation_access: Literal["public", "opened", "sealed"] = Field(
        default="public",
        description="who can read the validation set: everybody; everybody, block by block, once a round was judged on "
        "it; or only holders of its key, until the task has ended",
    )
    validation_slice: int = Field(
        default=32, ge=1, description="examples that a round is judged on, unless the validation set is public"
    )


class AttackerConfig(Document):
    """Participants that attack; which ones is drawn from the seed."""

    attack: Method
    count: int = Field(default=1, ge=0)


class LedgerConfig(Document):
    """What the task says to the ledger, and what `fedledger run` deploys it with. Money in gwei, periods in seconds."""

    quorum: int | None = Field(
        default=None,
        ge=1,
        description="a round with fewer updates does not count; if not given, half of the participants, or of the "
        "updates that the schedule waits for",
    )
    min_participants: int | None = Field(
        default=None, ge=1, description="rounds begin with so many; if not given, all of an experiment's participants"
    )
    open_enrolment: bool = Field(
        default=False,
        description="participants may join and leave between rounds, and every round needs min_participants; if not, "
        "enrolment ends with the enrol_period, or as soon after it as there are enough",
    )
    enrol_period: int = Field(default=3600, ge=1, le=YEAR)
    commit_period: int = Field(default=600, ge=1, le=YEAR)
    reveal_period: int = Field(default=600, ge=1, le=YEAR)
    propose_period: int = Field(default=600, ge=1, le=YEAR)
    batched: bool = Field(
        default=False, description="commitments are signed, collected by the aggregator and posted as one root"
    )
    grace_period: int = Field(
        default=600, ge=0, le=YEAR, description="seconds in which who was left out of the root may commit on chain"
    )
    challenge_window: int = Field(
        default=0, ge=0, le=YEAR, description="in which a proposal can be disputed; 0 is for experiments, and shown"
    )
    stake_gwei: int | None = Field(
        default=None,
        ge=1,
        le=MOST_GWEI,
        description=f"least stake of a participant; if not given, {USUAL_STAKE_GWEI:,}, or with spot checks what "
        "`spot-check plan` has, if that is more",
    )
    bond_gwei: int = Field(default=10_000_000, ge=0, le=MOST_BOND_GWEI, description="deposit of each aggregator")
    credit_unit_gwei: int = Field(default=10, ge=1, le=MOST_GWEI)
    units_per_round: int = Field(default=100_000, ge=1, le=MOST_UNITS)
    min_reputation: int = Field(default=0, ge=0, le=PPM, description="ppm, to enrol")
    exit_delay: int = Field(
        default=86_400,
        ge=0,
        le=MOST_SECONDS,
        description="seconds between leaving and the stake's return" + OF_DEPLOYMENT,
    )
    penalty_gwei: int = Field(
        default=0, ge=0, le=MOST_GWEI, description="what equivocation costs; other offences cost shares of it"
    )
    garbage_share: int = Field(
        default=500_000, ge=0, le=PPM, description="ppm of the penalty, for revealing an update of the wrong form"
    )
    never_revealed_share: int = Field(
        default=250_000, ge=0, le=PPM, description="ppm of the penalty, for committing and never revealing"
    )
    statistical_share: int = Field(
        default=62_500,
        ge=0,
        le=PPM,
        description="ppm of the penalty, for a statistical refusal; times the remembered refusals beyond the free ones",
    )
    free_refusals: int = Field(default=2, ge=1, le=255, description="how many remembered refusals cost nothing")
    seal_deposit_gwei: int = Field(
        default=10_000_000, ge=0, le=MOST_GWEI, description="what a publisher who does not open the sealed set loses"
    )
    seal_period: int = Field(
        default=86_400, ge=1, le=YEAR, description="seconds from the end of the task in which it must be opened"
    )
    check_rate: int = Field(
        default=0,
        ge=0,
        le=PPM,
        description="ppm of the accepted updates that auditors check; 0: no spot checks",
    )
    check_period: int = Field(
        default=600,
        ge=1,
        le=YEAR,
        description="seconds for each step of a spot check: the draw, the answer, the finding, an appeal, its decision",
    )
    check_penalty_gwei: int | None = Field(
        default=None,
        ge=1,
        le=MOST_GWEI,
        description="what a failed spot check costs; if not given, what `spot-check plan` has",
    )
    scorers: int = Field(
        default=0,
        ge=0,
        le=MOST_SCORERS,
        description="how many are drawn each round to score all updates on data of their own, 3 or more; the contract "
        "excludes what their medians are against; 0: none",
    )
    score_from: Literal["participants", "verifiers"] = Field(
        default="participants", description="who may be drawn to score: whom the round selects, or the task's verifiers"
    )
    score_period: int = Field(
        default=600, ge=1, le=YEAR, description="seconds in which scorers commit to their scores, and again to reveal"
    )
    score_spread: int = Field(
        default=SCORE_SPREAD,
        ge=4,
        le=255,
        description="an update is excluded whose median score is above the round's by more than so many quarters of "
        "the median distance from it, and by more than score_floor",
    )
    score_floor: int = Field(
        default=SCORE_FLOOR,
        ge=1,
        le=MOST_SCORE,
        description="see score_spread; 1024 are as much as the usual update changes the loss on a scorer's data",
    )
    standbys: int = Field(
        default=0, ge=0, le=3, description="aggregators that take over when the one before misses a deadline"
    )
    max_unfinal: int = Field(default=1, ge=1, le=8, description="rounds that may be proposed and not yet final")
    pools_pay: bool = Field(
        default=False,
        description="a round may pay what earlier rounds have left of their units_per_round; takes max_unfinal = 1",
    )
    max_staleness: int = Field(
        default=0, ge=0, le=64, description="how many models before a round's base an update may be relative to"
    )
    dispute_period: int = Field(
        default=3600, ge=1, le=YEAR, description="seconds for each step of a dispute" + OF_DEPLOYMENT
    )
    verifier_stake_gwei: int = Field(
        default=1_000_000, ge=0, le=MOST_GWEI, description="least stake of a verifier" + OF_DEPLOYMENT
    )
    juror_penalty_gwei: int = Field(
        default=100_000,
        ge=0,
        le=MOST_GWEI,
        description="what a juror loses for staying silent, or for voting against the final verdict" + OF_DEPLOYMENT,
    )
    jury_size: int = Field(
        default=3,
        ge=3,
        le=15,
        description="seats of a dispute's first jury, an odd number; each appeal doubles the seats and adds one"
        + OF_DEPLOYMENT,
    )
    appeals: int = Field(default=2, ge=0, le=2, description="appeals after a dispute's first jury" + OF_DEPLOYMENT)
    least_pool: int = Field(
        default=3,
        ge=3,
        le=64,
        description="verifiers that have to serve the task for juries and penalties, at least jury_size"
        + OF_DEPLOYMENT,
    )


def _tell_filled_in(schema: dict[str, Any]) -> None:
    """Say in a schema what a pipeline fills in; the defaults of a spec do not hold in a configuration."""
    for name in FILLED:
        told = schema["properties"][name]
        told.pop("default", None)
        told["description"] = "; ".join([*filter(None, [told.get("description")]), "from the pipeline unless given"])


class SpotChecksConfig(Document):
    """Who checks updates, and how much of each."""

    auditors: list[Auditor] | None = Field(
        default=None,
        min_length=LEAST_AUDITORS,
        max_length=MOST_AUDITORS,
        description="account and key of each, as `fedledger auditor key` prints them; if not given, two of the "
        "experiment's own, for development chains alone",
    )
    windows: Windows | None = Field(default=None, description="what is replayed; if not given, the whole training")


class TrainingConfig(Methods):
    """The task's spec, as far as it is chosen by hand."""

    model_config = ConfigDict(json_schema_extra=_tell_filled_in)

    pipeline: Pipeline = Field(
        default=DEFAULT,
        description=f"what fills in those of {', '.join(FILLED)} that are not given: the recommended methods; a plain "
        "mean that judges nobody; or what fedledger 0.1.0 recommended. The spec has the methods and not this name",
    )
    rounds: int = Field(default=20, ge=1, le=65_535)
    randomness: Literal["spec", "beacon"] = "spec"
    solver: Method = Method(method="sgd@1", params={"learning_rate": 0.1, "local_epochs": 1})
    reputation: ReputationSpec = ReputationSpec()
    judgement: JudgementSpec | None = None
    report: list[ReportedNumber] = Field(
        default_factory=list,
        max_length=MAX_REPORTED,
        description="what participants report in bidding rounds, for the mechanism",
    )
    bidding: int | None = Field(
        default=None, ge=2, le=255, description="every so many rounds one asks for reports alone; not without report"
    )
    stopping: Stopping = Stopping()
    tolerance: Tolerance = Tolerance()
    measurement: Literal["float", "exact"] = Field(
        default="float",
        description="exact: models are measured by exact arithmetic, so that nothing is tolerated",
    )
    committed_data: CommittedData | None = Field(
        default=None,
        description="participants commit to their data on the ledger, and claim no more examples; so with spot checks",
    )
    spot_checks: SpotChecksConfig | None = Field(
        default=None, description="who checks updates, and how; needs check_rate under [ledger]"
    )
    limits: Limits = Limits()
    fixed_point: FixedPointSpec = FixedPointSpec()

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        return with_pipeline(given) if isinstance(given, Mapping) else given


class ExperimentConfig(Document):
    """An experiment: one task, its participants and their data."""

    name: str = Field(min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**53)
    participants: int = Field(default=10, ge=1, le=1_000_000, description="with a ledger at most 4,096")
    model: Method | None = None
    code: str | None = Field(default=None, description="path of a task.py with model() and data()")
    compare_with_mean: bool = Field(
        default=True,
        description="also train with a plain mean, off the ledger, for the report; not where there is a schedule",
    )
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    attackers: list[AttackerConfig] = Field(default_factory=list)
    reports: dict[str, tuple[int, int]] = Field(
        default_factory=dict,
        description="what participants report in bidding rounds, by name: from the first to the second number, drawn "
        "for each by the seed",
    )
    agents: list[AgentConfig] = Field(
        default_factory=list,
        description="groups of participants that decide for themselves: whether they come, what they report, how much "
        "they train; the others cost nothing and always come",
    )
    devices: FleetConfig | None = None
    ledger: LedgerConfig = LedgerConfig()

    @property
    def quorum(self) -> int:
        """Least number of updates of a round: unless given, half of those that one has at most."""
        schedule = self.training.schedule
        most = None if schedule is None else build_schedule(schedule).most_updates
        least = self.ledger.min_participants or self.participants
        return self.ledger.quorum or max(1, (most or least) // 2)

    def attack(self, behaviour: str, place: int) -> Method:
        """Return the attack of one who behaves so, by how many such participants come before it.

        Groups of one name share out those who behave so, in ascending order; all after them are as the last one.
        """
        groups = [group for group in self.attackers if group.attack.method.split("@")[0] == behaviour]
        attacks = [group.attack for group in groups for _ in range(group.count)]
        return attacks[min(place, len(attacks) - 1)]


def load_config(path: Path, **overrides: Any) -> ExperimentConfig:
    """Read a configuration from a TOML file; ``overrides`` replace top-level keys.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not TOML, or says something that is not known.
    """
    document = read_document(path)
    return checked(document | {key: value for key, value in overrides.items() if value is not None}, str(path))


def read_document(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.", _REMEDY) from error
    except (ValueError, RecursionError) as error:
        # Besides malformed text: what is not UTF-8, integers of thousands of digits, and tables in tables in tables.
        raise ConfigError(f"{path} is not TOML: {error}.", _REMEDY) from error


def checked(document: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Return the configuration that a document is.

    Parameters
    ----------
    document
        Its keys and values.
    where
        Where they stand, for messages.

    Raises
    ------
    ConfigError
        If it says something that is not known, or that cannot be.
    """
    config = validated(ExperimentConfig, document, where)
    require_possible(config, where)
    return config


def require_possible(config: ExperimentConfig, where: str) -> None:
    """Raise ConfigError if what a configuration says cannot be; ``where`` names it in the message."""
    if (config.model is None) == (config.code is None):
        raise ConfigError(f"{where} must give either model or code.", 'For example: model = {method = "mlp@1", …}.')
    if config.training.spot_checks is not None and not config.ledger.check_rate:
        raise ConfigError(
            f"{where} says who checks updates, and check_rate under [ledger] is 0.",
            "Give check_rate, such as 50000 for one update in twenty; `fedledger spot-check plan` computes it.",
        )
    if sum(group.count for group in config.attackers) > config.participants:
        raise ConfigError(f"{where} has more attackers than participants.", "Lower a count under [[attackers]].")
    numbers = {number.name: number for number in config.training.report}
    require_reports(config.reports, numbers, where)
    attackers = sum(group.count for group in config.attackers)
    require_agents(config.agents, config.participants, attackers, config.devices is not None, where)
    _require_stakes(config.ledger)


def _require_stakes(ledger: LedgerConfig) -> None:
    """Raise ConfigError if no ledger takes a task with these stakes."""
    if ledger.penalty_gwei and not ledger.challenge_window:
        raise ConfigError(
            "penalty_gwei under [ledger] punishes, and without a challenge_window nobody can dispute a false verdict.",
            "Give challenge_window, or leave penalty_gwei out.",
        )
    stake = USUAL_STAKE_GWEI if ledger.stake_gwei is None else ledger.stake_gwei
    if ledger.penalty_gwei > stake:
        raise ConfigError(
            f"penalty_gwei under [ledger] is {ledger.penalty_gwei:,}, and a stake holds {stake:,}.",
            "Give a stake_gwei of at least the penalty, or lower penalty_gwei.",
        )
    if ledger.pools_pay and ledger.max_unfinal > 1:
        raise ConfigError(
            "pools_pay under [ledger] pays what earlier rounds have left, which is known once they are final.",
            "Give max_unfinal = 1, or leave pools_pay out.",
        )
    _require_checks(ledger)
    _require_scorers(ledger)
    _require_court(ledger)
    if ledger.challenge_window and not ledger.bond_gwei:
        raise ConfigError(
            "bond_gwei under [ledger] is 0, and with a challenge_window whoever disputes a round risks a bond.",
            "Give bond_gwei, or leave challenge_window out.",
        )


def _require_checks(ledger: LedgerConfig) -> None:
    """Raise ConfigError if no ledger takes a task with these spot checks."""
    if ledger.check_rate and not ledger.challenge_window:
        raise ConfigError(
            "check_rate under [ledger] has updates checked, and without a challenge_window nobody can dispute a false "
            "proposal first.",
            "Give challenge_window, or leave check_rate out.",
        )


def _require_scorers(ledger: LedgerConfig) -> None:
    """Raise ConfigError if no ledger takes a task with these scorers."""
    if 0 < ledger.scorers < LEAST_SCORERS:
        raise ConfigError(
            f"scorers under [ledger] is {ledger.scorers}, and the median of so few is one scorer's own.",
            f"Give {LEAST_SCORERS} or more, or leave scorers out.",
        )
    if ledger.score_from == "verifiers" and not ledger.scorers:
        raise ConfigError(
            "score_from under [ledger] has verifiers score, and there are no scorers.",
            "Give scorers, such as 5, or leave score_from out.",
        )
    if ledger.score_from == "verifiers" and not ledger.challenge_window:
        raise ConfigError(
            "score_from under [ledger] has verifiers score, and nobody can serve a task without a challenge_window.",
            'Give challenge_window, or score_from = "participants".',
        )


def _require_court(ledger: LedgerConfig) -> None:
    """Raise ConfigError if no ledger is deployed with these juries."""
    if ledger.jury_size % 2 == 0:
        raise ConfigError(
            f"jury_size under [ledger] is {ledger.jury_size}, and such a jury may be divided equally.",
            "Give an odd number.",
        )
    if ledger.least_pool < ledger.jury_size:
        raise ConfigError(
            f"least_pool under [ledger] is {ledger.least_pool}, which does not fill a first jury of {ledger.jury_size} "
            "seats.",
            "Give a least_pool of at least jury_size.",
        )
    if ledger.juror_penalty_gwei > ledger.verifier_stake_gwei:
        raise ConfigError(
            f"juror_penalty_gwei under [ledger] is {ledger.juror_penalty_gwei:,}, and the least stake of a verifier, "
            f"verifier_stake_gwei, is {ledger.verifier_stake_gwei:,}.",
            "Lower juror_penalty_gwei, or raise verifier_stake_gwei.",
        )
