"""What a task costs whom, before it is posted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fedledger.platform.experiment.scoring_terms import told_scorers
from fedledger.platform.experiment.task_validation import class_counts, told_classes
from fedledger.platform.spot_checks.plan import ANSWER_GAS
from fedledger.protocol.units import GWEI, in_gwei

if TYPE_CHECKING:
    from fedledger.contracts.ledger.records import TaskParams
    from fedledger.platform.experiment.task_config import OpenedTask
    from fedledger.protocol.records.spec import TaskSpec

POST, ENROL = 420_000, 190_000
"""Gas to post a task, and to register and enrol. These and the next ones are rounded up from `fedledger bench gas`."""
DIRECT_ROUND, DIRECT_EACH, DIRECT_OWN = 175_000, 1_600, 80_000
"""Gas of a round: the aggregator's, more of it for each participant, and each participant's own."""
BATCHED_ROUND, BATCHED_EACH = 200_000, 2_400
SCORED_ROUND, SCORER, LISTED_EACH, SCORE = 150_000, 25_000, 1_250, 350
"""Gas of a round with scorers: the aggregator's, and more for each scorer, update of a batched round, and score."""
SCORE_OWN = 160_000
"""Gas of a scorer that commits and reveals on chain, as in direct rounds."""


@dataclass(frozen=True)
class TaskPrice:
    """What a task costs, in wei of its currencies, and how long it takes at most.

    Parameters
    ----------
    params
        What is to be posted.
    gas_price
        Wei for a unit of gas today.
    windows
        Whether spot checks replay windows of the training, and not the whole.
    rounds
        The task's rounds with its bidding rounds; those of ``params`` unless given.
    """

    params: TaskParams
    gas_price: int
    windows: bool = False
    rounds: int | None = None

    @classmethod
    def of(cls, spec: TaskSpec, params: TaskParams, gas_price: int) -> TaskPrice:
        """Return the price of a task with this spec."""
        return cls(params, gas_price, spec.windows is not None, spec.all_rounds)

    @property
    def all_rounds(self) -> int:
        """The rounds that take time and gas."""
        return self.params.rounds if self.rounds is None else self.rounds

    @property
    def round_seconds(self) -> int:
        """Seconds of a round at most, until it is final if nobody disputes it."""
        p = self.params
        grace = p.grace_period if p.batched else 0
        scoring = 2 * p.score_period + p.propose_period if p.scorers else 0
        return p.commit_period + grace + p.reveal_period + scoring + p.propose_period + p.challenge_window

    def round_gas(self, participants: int) -> int:
        """Return the aggregator's gas of a round."""
        if self.params.batched:
            return BATCHED_ROUND + BATCHED_EACH * participants + self._scoring_gas(participants)
        return DIRECT_ROUND + DIRECT_EACH * participants + self._scoring_gas(participants)

    def _scoring_gas(self, participants: int) -> int:
        """Return what a round's scorers cost the aggregator."""
        p = self.params
        if not p.scorers:
            return 0
        each = LISTED_EACH if p.batched else 0
        return SCORED_ROUND + SCORER * p.scorers + (each + SCORE * p.scorers) * participants

    def document(self, now: datetime | None = None) -> dict[str, object]:
        """Return the price as one document; amounts are wei, as text."""
        p, now = self.params, now or datetime.now(UTC)
        enrolled = now + timedelta(seconds=p.enrol_period)
        last = enrolled + timedelta(seconds=self.all_rounds * self.round_seconds)
        own = 0 if p.batched else DIRECT_OWN * self.all_rounds
        return {
            "rounds": p.rounds,
            "bidding_rounds": self.all_rounds - p.rounds,
            "participants": [p.min_participants, p.max_participants],
            "budget": str(p.budget),
            "seal_deposit": str(p.seal_deposit),
            "aggregator_bond": str(p.bond),
            "participant_stake": str(p.min_stake),
            "usual_stake": str(p.min_stake + p.penalty),
            "penalty": str(p.penalty),
            "check_rate": p.check_rate,
            "check_penalty": str(p.check_penalty),
            "scorers": p.scorers,
            "score_period": p.score_period,
            "gas_price": str(self.gas_price),
            "posting_gas": str(POST * self.gas_price),
            "aggregator_gas": {
                str(count): str(self.round_gas(count) * self.all_rounds * self.gas_price)
                for count in sorted({p.min_participants, p.max_participants})
            },
            "participant_gas": str((ENROL + own) * self.gas_price),
            "enrolment_ends": enrolled.isoformat(timespec="seconds"),
            "round_seconds_at_most": self.round_seconds,
            "ends_at_latest": last.isoformat(timespec="seconds"),
        }

    def _about(self, gas: int) -> str:
        """Return the price of some gas, in whole gwei as far as there are any."""
        wei = gas * self.gas_price
        return in_gwei(round(wei / GWEI) * GWEI if wei > GWEI else wei)

    def _check_lines(self) -> list[str]:
        """Say what spot checks cost a participant, if there are any."""
        p = self.params
        if not p.check_rate:
            return []
        seen = "some of the data, or all if training takes few steps," if self.windows else "the data"
        return [
            f"Spot checks: {p.auditor_count} auditors check {p.check_rate / 10_000:g} % of accepted updates, and see "
            f"{seen} of whom they check; an answer takes about {self._about(ANSWER_GAS)} of gas, within two check "
            f"periods ({timedelta(seconds=2 * p.check_period)}), and a failed check costs {in_gwei(p.check_penalty)}."
        ]

    def _scorer_lines(self) -> list[str]:
        """Say what scoring costs whoever is drawn for it, if there are scorers."""
        p = self.params
        if not p.scorers:
            return []
        own = "no gas unless the aggregator is silent" if p.batched else f"about {self._about(SCORE_OWN)} of gas"
        return [f"Scorers: {told_scorers(p)}; each time it costs a scorer {own}."]

    def lines(self, now: datetime | None = None) -> list[str]:
        """Return the price in sentences."""
        p, told = self.params, self.document(now)
        from fedledger.contracts.ledger.records import COIN

        own = "" if p.token == COIN else f" of the token {p.token}"
        seal = f", and {in_gwei(p.seal_deposit)} until its validation set is opened" if p.seal_deposit else ""
        bidding = self.all_rounds - p.rounds
        asks = f" Bids take about {bidding:,} rounds more, which train nothing." if bidding else ""
        counts = sorted({p.min_participants, p.max_participants})
        gas = " to ".join(self._about(self.round_gas(n) * self.all_rounds) for n in counts)
        least = "" if p.min_participants == p.max_participants else f"{p.min_participants:,} to "
        at_risk = p.penalty + p.check_penalty
        penalty = f", of which {in_gwei(at_risk)} are at risk a round" if at_risk else ""
        return [
            f"Budget: {in_gwei(p.budget)}{own} for {p.rounds:,} rounds, from the publisher{seal}.{asks}",
            f"Gas at {self.gas_price / GWEI:g} gwei: about {self._about(POST)} to post it; for the "
            f"aggregator about {gas} in all rounds, by the number of participants; for each participant about "
            f"{self._about(ENROL + (0 if p.batched else DIRECT_OWN * self.all_rounds))}.",
            f"Deposits: {in_gwei(p.bond)} for each aggregator, {in_gwei(p.min_stake)} or more for each "
            f"participant{penalty}; nodes deposit {in_gwei(p.min_stake + p.penalty)}.",
            *self._check_lines(),
            *self._scorer_lines(),
            f"Time: {least}{p.max_participants:,} participants enrol until "
            f"{told['enrolment_ends']}{', and may join and leave between rounds' if p.open_enrolment else ''}; "
            f"a round takes at most {timedelta(seconds=self.round_seconds)} (hours:minutes:seconds), all end by "
            f"{told['ends_at_latest']} unless rounds are disputed.",
        ]


def validation_counts(task: OpenedTask) -> dict[str, object]:
    """Return how many validation examples there are, how many of each class, and where they come from."""
    _, labels = task.experiment.validation.examples()
    counts = {"examples": len(labels), "classes": class_counts(labels)}
    return counts | {"sources": [source.document() for source in task.sources]}


def validation_lines(task: OpenedTask) -> list[str]:
    """Return the same in sentences."""
    _, labels = task.experiment.validation.examples()
    line = f"Updates are measured on {len(labels):,} validation examples{told_classes(class_counts(labels))}."
    return [
        line,
        *(source.line() for source in task.sources if len(task.sources) > 1 or source.repeated or source.common),
    ]
