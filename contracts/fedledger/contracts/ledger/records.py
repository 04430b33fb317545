"""What the ledger's methods take and return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.penalties import PenaltySchedule
from fedledger.protocol.records.settlement import unpack_words
from fedledger.protocol.records.verdicts import Verdict

COIN = "0x" + "00" * 20
"""The chain's own coin, where a currency is asked for; nobody, where an account is."""
CHECK_PERIODS = 6
"""Check periods from a proposal until its checks can be ended, and one to do so."""
SUMMONED_UNTIL, ANSWERED_UNTIL, FOUND_UNTIL, APPEALED_UNTIL, DECIDED_UNTIL = 1, 2, 3, 4, 5
"""Check periods from a proposal until participants are named, answer, are judged, appeal, and are judged again."""
DISPUTE_PERIODS = 4
"""Dispute periods that each jury has: to be drawn, to commit, to reveal, and to be appealed against."""


class Phase(IntEnum):
    """Phase of a task, as the ledger computes it from block time and from what was posted."""

    ENROLLING = 0
    IDLE = 1
    COMMITTING = 2
    REVEALING = 3
    PROPOSING = 4
    CHALLENGING = 5
    SETTLEABLE = 6
    OVERDUE = 7
    FINISHED = 8
    CLOSING = 9
    ADMITTING = 10
    DISPUTED = 11
    SCORING = 12


class RoundStatus(IntEnum):
    """What has become of a round."""

    NONE = 0
    OPEN = 1
    PROPOSED = 2
    SETTLED = 3
    VOIDED = 4


class DisputeKind(IntEnum):
    """What a dispute is about: a whole proposal, which juries replay, or one commitment, which must be shown."""

    REPLAY = 0
    COMMITMENT = 1


class DisputeStatus(IntEnum):
    """How a dispute stands or ended."""

    OPEN = 0
    UPHELD = 1
    OVERTURNED = 2
    UNDECIDED = 3
    MOOT = 4
    UNJUDGED = 5


class Finding(IntEnum):
    """What a juror or a jury says of a proposal: that it follows, that it does not, or that it cannot be judged."""

    NONE = 0
    VALID = 1
    INVALID = 2
    UNABLE = 3

    @property
    def label(self) -> str:
        """The finding in words, as tables show it."""
        return ("nothing", "valid", "invalid", "cannot be judged")[self]


class CheckState(IntEnum):
    """What has become of the check of a participant's update; ``ENDED``: it failed for good."""

    NONE = 0
    SUMMONED = 1
    ANSWERED = 2
    PASSED = 3
    FAILED = 4
    ENDED = 5
    APPEALED = 6
    CLEARED = 7
    CONFIRMED = 8

    @property
    def label(self) -> str:
        """The state in words, as tables and reports show it."""
        return (
            *("not drawn", "summoned", "answered", "passed", "failed, may be appealed against", "failed"),
            *("appealed", "cleared by the second auditor", "failed before the second auditor"),
        )[self]


class Offence(IntEnum):
    """What a participant is punished for."""

    EQUIVOCATION = 0
    GARBAGE = 1
    NEVER_REVEALED = 2
    SILENCE = 3
    MINORITY = 4
    REPEATED_REFUSAL = 5
    CANNOT_JUDGE = 6
    FAILED_CHECK = 7

    @property
    def label(self) -> str:
        """The offence in words, as tables and reports show it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Settings:
    """What a ledger is deployed with; money in the smallest unit of the stakes' currency, periods in seconds.

    Parameters
    ----------
    min_stake
        Least stake of a participant.
    exit_delay
        From the request to leave to the stake's return. A task with a challenge window is refused unless a round, all
        windows in flight and the longest dispute fit into it.
    min_verifier_stake
        Least stake of a verifier, from which juries are drawn.
    juror_penalty
        What a juror's seat is worth: it loses as much if it is silent, or finds what the last jury does not.
    dispute_period
        For each step of a dispute; each of its juries has four.
    stake_currency
        Address of the token of stakes and bonds; zero: the chain's coin.
    guardian
        Who may pause new tasks; zero: nobody.
    predecessor
        Ledger from which publishers may take reputations over; zero: none.
    verifier_age
        For how long a verifier has to be enlisted before juries are drawn from it.
    least_pool
        Verifiers that have to serve a task for a jury to be called, or a penalty to be taken.
    jury_size, appeals
        Seats of a first jury, and appeals after it; each jury has twice the seats of the one before, and one.
    least_window, least_window_blocks
        Least challenge window of a task with penalties, in seconds and in blocks.
    most_penalty
        Highest penalty that a task may have.
    """

    min_stake: int
    exit_delay: int
    min_verifier_stake: int = 0
    juror_penalty: int = 0
    dispute_period: int = 3600
    stake_currency: str = COIN
    guardian: str = COIN
    predecessor: str = COIN
    verifier_age: int = 0
    least_pool: int = 3
    jury_size: int = 3
    appeals: int = 2
    least_window: int = 0
    least_window_blocks: int = 0
    most_penalty: int = 2**96 - 1

    @property
    def seats(self) -> tuple[int, ...]:
        """Seats of the jury on each level."""
        return tuple(((self.jury_size + 1) << level) - 1 for level in range(self.appeals + 1))

    @property
    def longest_dispute(self) -> int:
        """Seconds that a dispute takes at most, with juries on all levels."""
        return DISPUTE_PERIODS * len(self.seats) * self.dispute_period

    @property
    def least_bond(self) -> int:
        """Least bond of a task with a challenge window: half of it pays every seat that can be called."""
        return 2 * sum(self.seats) * self.juror_penalty

    def as_argument(self) -> tuple[Any, ...]:
        """Return the argument of the constructors."""
        return (
            self.stake_currency,
            self.min_stake,
            self.min_verifier_stake,
            self.juror_penalty,
            self.most_penalty,
            self.exit_delay,
            self.dispute_period,
            self.verifier_age,
            self.least_window,
            self.least_window_blocks,
            self.least_pool,
            self.jury_size,
            self.appeals,
            self.guardian,
            self.predecessor,
        )


@dataclass(frozen=True)
class ParticipantRecord:
    """A registered participant; ``locks`` open disputes hold its stake."""

    id: int
    owner: str
    signer: str
    payout: str
    stake: int
    unbonding: int
    registered_at: int
    exit_at: int
    locks: int


@dataclass(frozen=True)
class SeatRecord:
    """A seat of a task's aggregators, and what its holder has deposited."""

    holder: str
    deposit: int


@dataclass(frozen=True)
class SealRecord:
    """What has become of a task's seal, and what of its deposit is held."""

    deposit: int
    opened: bool
    forfeited: bool


@dataclass(frozen=True)
class TaskParams:
    """What a publisher posts; periods in seconds, money in the currency's unit, reputation in parts per million.

    ``seal`` is the hash of the key that opens the validation set; zero: there is none. Shares of the penalty are in
    parts per million. With ``open_enrolment`` participants enrol and leave until the task ends; that acts from the next
    opened round on. ``check_rate`` parts per million of the accepted updates are checked by one of ``auditor_count``
    accounts, whose list has the hash ``auditors``; each step of a check takes ``check_period``, and a failed one costs
    ``check_penalty``. The list of publishers whose opinions of who enrols count, too, has the hash ``recommenders``;
    they count by ``recommender_trust`` parts per million. So many ``scorers`` are drawn each round, of the verifiers if
    ``verifiers_score``, who commit and reveal for ``score_period`` each; an update does not count whose score is above
    the round's median by more than ``score_spread`` quarters of the spread and by more than ``score_floor``. Unless
    ``bidding_every`` is 0, the first round, and each that comes so many after the last one that was heard, asks for
    bids alone. With ``pools_pay`` a round may pay what earlier ones have left of theirs. What an earlier version of the
    ledger lacks has as its default what that version does.
    """

    spec: ContentRef
    model: ContentRef
    aggregator: str
    rounds: int
    quorum: int
    min_participants: int
    max_participants: int
    enrol_period: int
    commit_period: int
    reveal_period: int
    propose_period: int
    challenge_window: int
    max_unfinal: int
    randomness: int
    min_stake: int
    min_reputation: int
    bond: int
    credit_unit: int
    units_per_round: int
    batched: bool = False
    grace_period: int = 0
    penalty: int = 0
    token: str = COIN
    max_staleness: int = 0
    garbage_share: int = 500_000
    never_revealed_share: int = 250_000
    statistical_share: int = 0
    free_refusals: int = 0
    seal_deposit: int = 0
    seal_period: int = 0
    seal: bytes = bytes(32)
    open_enrolment: bool = False
    check_rate: int = 0
    check_period: int = 0
    check_penalty: int = 0
    auditor_count: int = 0
    auditors: bytes = bytes(32)
    recommenders: bytes = bytes(32)
    recommender_trust: int = 0
    scorers: int = 0
    verifiers_score: bool = False
    score_period: int = 0
    score_spread: int = 0
    score_floor: int = 0
    bidding_every: int = 0
    pools_pay: bool = False

    @property
    def penalties(self) -> PenaltySchedule:
        """What verdicts cost."""
        return PenaltySchedule(
            self.penalty, self.garbage_share, self.never_revealed_share, self.statistical_share, self.free_refusals
        )

    @property
    def budget(self) -> int:
        """Escrow that the task needs, in the smallest unit of its token."""
        return self.rounds * self.units_per_round * self.credit_unit

    def least_exit_delay(self, settings: Settings, seats: int) -> int:
        """Return the least exit delay, in seconds, of a ledger that takes the task with so many aggregators."""
        if not self.challenge_window:
            return 0
        turns = (3 if self.scorers else 2) * seats * self.propose_period
        current = self.commit_period + self.grace_period + self.reveal_period + 2 * self.score_period + turns
        judged = self.max_unfinal * self.challenge_window + settings.longest_dispute
        return current + judged + CHECK_PERIODS * self.check_period

    def as_argument(self) -> tuple[Any, ...]:
        """Return the argument of the ledger's ``postTask``."""
        return (
            (self.spec.digest, self.spec.length),
            (self.model.digest, self.model.length),
            self.aggregator,
            self.min_stake,
            self.token,
            self.credit_unit,
            self.bond,
            self.penalty,
            self.min_reputation,
            self.rounds,
            self.commit_period,
            self.reveal_period,
            self.grace_period,
            self.propose_period,
            self.challenge_window,
            self.units_per_round,
            self.quorum,
            self.max_participants,
            self.max_unfinal,
            self.max_staleness,
            self.randomness,
            self.batched,
            self.enrol_period,
            self.min_participants,
            self.garbage_share,
            self.never_revealed_share,
            self.statistical_share,
            self.free_refusals,
            self.seal_deposit,
            self.seal_period,
            self.seal,
            self.open_enrolment,
            self.check_rate,
            self.check_period,
            self.check_penalty,
            self.auditor_count,
            self.scorers,
            self.verifiers_score,
            self.score_period,
            self.score_spread,
            self.score_floor,
            self.bidding_every,
            self.pools_pay,
            self.auditors,
            self.recommenders,
            self.recommender_trust,
        )


@dataclass(frozen=True)
class TaskRecord:
    """A task as the ledger holds it; ``last_final_at`` is when a round last became final, or the next one possible."""

    id: int
    publisher: str
    params: TaskParams
    enrol_deadline: int
    enrolled: int
    seats: int
    last_final_at: int
    current_round: int
    finalized_round: int
    settled_rounds: int
    spent_units: int
    finished: bool
    stop_settled: bool

    @property
    def is_complete(self) -> bool:
        """Whether no further round can be opened: all are settled, or a settled one said to stop."""
        return self.stop_settled or self.settled_rounds >= self.params.rounds

    @property
    def lacks_participants(self) -> bool:
        """Whether the next round cannot be opened before more participants enrol."""
        asked = self.params.open_enrolment or not self.current_round
        return asked and self.enrolled < self.params.min_participants

    @property
    def idle_until(self) -> int:
        """The time after which anybody may end the task, if no round has been opened by then."""
        since = self.last_final_at if self.current_round else self.enrol_deadline
        return since + self.params.enrol_period + self.seats * self.params.propose_period


@dataclass(frozen=True)
class RoundRecord:
    """A round as the ledger holds it.

    ``commit_deadline``, ``commits_closed_at`` and ``proposed_at`` are blocks' times, the last two 0 as long as there is
    no root of commitments, or no proposal.
    """

    index: int
    status: RoundStatus
    selected: int
    committed: int
    proposed_at: int
    disputes: int
    base_model: bytes
    model: bytes
    reveal_period: int
    commit_deadline: int
    commits_closed_at: int


@dataclass(frozen=True)
class Reveal:
    """A revealed update: which participant, which content, under which salt, relative to how old a base model."""

    participant: int
    update: ContentRef
    salt: bytes
    staleness: int = 0


@dataclass(frozen=True)
class Proposal:
    """A proposed round outcome, as posted.

    ``updates`` are a batched round's, of all participants that are judged by one, by ascending id, and
    ``updates_hash`` binds them; in a direct round there are none.
    """

    model: ContentRef
    state: ContentRef
    report: ContentRef
    stop: bool
    verdict_words: tuple[int, ...]
    share_words: tuple[int, ...]
    updates_hash: bytes = bytes(32)
    updates: tuple[ContentRef, ...] = ()

    @property
    def is_readable(self) -> bool:
        """Whether its verdicts are known: those of a batched round are in a transaction that may be strangely made."""
        return bool(self.verdict_words)

    @cached_property
    def verdicts(self) -> dict[int, Verdict]:
        """Verdicts by participant id."""
        return unpack_words(self.verdict_words, self.share_words)[0]

    @cached_property
    def shares(self) -> dict[int, int]:
        """Pay shares in units, by participant id."""
        return unpack_words(self.verdict_words, self.share_words)[1]

    def as_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the ledger's ``proposeRound`` and ``settleRound`` after the round."""
        refs = tuple((ref.digest, ref.length) for ref in (self.model, self.state, self.report))
        return (*refs, self.updates_hash, self.stop), list(self.verdict_words), list(self.share_words)
