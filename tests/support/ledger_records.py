"""What is sent to the ledger and what it keeps, as plain data: calls, terms, outcomes, rounds, disputes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from fedledger.contracts.abi import functions
from fedledger.contracts.ledger.checks import RoundFindings
from fedledger.contracts.ledger.records import (
    CheckState,
    DisputeKind,
    DisputeStatus,
    Finding,
    RoundStatus,
    Settings,
)
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.commitment_batch import EMPTY_ROOT
from fedledger.protocol.records.penalties import PenaltySchedule
from fedledger.protocol.records.reputation import LANE_BITS, LANES, PPM
from fedledger.protocol.records.settlement import pack_lengths, pack_words, updates_hash
from fedledger.protocol.records.signatures import commitment_message, recover
from fedledger.protocol.records.verdicts import Verdict
from support.evm import components

COIN = NOBODY = "0x" + "00" * 20
ZERO = bytes(32)
BEACON = 1
YEAR = 365 * 24 * 3600
MOST_SCORERS = 15
MOST_SELECTED = 1024
Ref = tuple[bytes, int]
Fault = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """One of the ledger's functions with its arguments, which may be those of this module."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def encoded(self) -> tuple[Any, ...]:
        """The arguments as the ABI takes them."""
        return tuple(part for a in self.arguments for part in (a.abi() if hasattr(a, "abi") else (a,)))

    def on(self, model: Any, sender: str, value: int = 0) -> None:
        """Do it to a model."""
        getattr(model, re.sub("[A-Z]", lambda m: "_" + m[0].lower(), self.name))(sender, value, *self.arguments)


@dataclass(frozen=True)
class Calls:
    """What one transaction does in turn."""

    calls: tuple[Call, ...]

    def abi(self) -> tuple[Any, ...]:
        return ([functions()[call.name].encode(call.encoded) for call in self.calls],)


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """The transaction changes nothing; the ledger names one of these errors."""

    def __init__(self, errors: set[tuple[str, tuple[Any, ...]]]) -> None:
        super().__init__(errors)
        self.errors = errors


def refuse(*faults: Fault) -> None:
    """Raise all errors, given as (condition, name, argument...), whose condition holds."""
    if errors := named(faults):
        raise Refused(errors)


def named(faults: Iterable[Fault]) -> set[tuple[str, tuple[Any, ...]]]:
    """Return name and arguments of the faults whose condition holds."""
    return {(name, tuple(arguments)) for wrong, name, *arguments in faults if wrong}


def invalid(name: str) -> tuple[str, bytes]:
    """Return name and argument of the error for a parameter that the ledger does not take."""
    return "InvalidParameter", name.encode().ljust(32, b"\0")


# What is sent.


@dataclass(frozen=True)
class Params:
    """What a publisher posts."""

    spec: Ref
    model: Ref
    aggregator: str
    token: str = COIN
    rounds: int = 3
    quorum: int = 2
    min_participants: int = 2
    max_participants: int = 9
    enrol_period: int = 100
    commit_period: int = 10
    reveal_period: int = 10
    grace_period: int = 0
    propose_period: int = 10
    challenge_window: int = 0
    max_unfinal: int = 1
    max_staleness: int = 0
    randomness: int = 0
    batched: bool = False
    min_stake: int = 0
    min_reputation: int = 0
    bond: int = 0
    penalty: int = 0
    credit_unit: int = 1
    units_per_round: int = 1000
    garbage_share: int = 500_000
    never_revealed_share: int = 250_000
    statistical_share: int = 0
    free_refusals: int = 0
    seal_deposit: int = 0
    seal_period: int = 0
    seal: bytes = ZERO
    open_enrolment: bool = False
    check_rate: int = 0
    check_period: int = 0
    check_penalty: int = 0
    auditor_count: int = 0
    auditors: bytes = ZERO
    recommenders: bytes = ZERO
    recommender_trust: int = 0
    scorers: int = 0
    verifiers_score: bool = False
    score_period: int = 0
    score_spread: int = 0
    score_floor: int = 0
    bidding_every: int = 0
    pools_pay: bool = False

    @property
    def budget(self) -> int:
        return self.rounds * self.units_per_round * self.credit_unit

    @property
    def due(self) -> int:
        """What posting takes, in wei."""
        return self.budget + self.seal_deposit

    @property
    def penalties(self) -> PenaltySchedule:
        return PenaltySchedule(
            self.penalty, self.garbage_share, self.never_revealed_share, self.statistical_share, self.free_refusals
        )

    @cached_property
    def record(self) -> tuple[Any, ...]:
        """The parameters in the order of the ABI."""
        return ordered("postTask", vars(self))

    def abi(self) -> tuple[Any, ...]:
        return (self.record,)

    def faults(self, settings: Settings) -> Iterator[Fault]:
        """Return why a ledger with these settings refuses these terms."""
        checks = self.check_rate > 0
        least_window = max(settings.least_window if self.penalty or checks else 0, checks)
        named = 2 <= self.auditor_count <= 16 and self.auditors != ZERO
        yield self.aggregator == NOBODY, "ZeroAddress"
        allowed = {
            "spec": self.spec[0] != ZERO,
            "model": self.model[0] != ZERO,
            "rounds": 1 <= self.rounds <= 65_535,
            "quorum": 1 <= self.quorum <= 1024,
            "minParticipants": self.min_participants >= self.quorum,
            "maxParticipants": self.min_participants
            <= self.max_participants
            <= (MOST_SELECTED if self.bidding_every else 4096),
            "biddingEvery": self.bidding_every != 1,
            "poolsPay": not self.pools_pay or self.max_unfinal == 1,
            "enrolPeriod": 0 < self.enrol_period <= YEAR,
            "commitPeriod": 0 < self.commit_period <= YEAR,
            "revealPeriod": 0 < self.reveal_period <= YEAR,
            "proposePeriod": 0 < self.propose_period <= YEAR,
            "gracePeriod": self.grace_period <= YEAR,
            "challengeWindow": least_window <= self.challenge_window <= YEAR,
            "maxUnfinal": 1 <= self.max_unfinal <= 8,
            "maxStaleness": self.max_staleness <= 64,
            "randomness": self.randomness in ((0,) if self.batched else (0, BEACON)),
            "minReputation": self.min_reputation <= 1_000_000,
            "creditUnit": self.credit_unit > 0,
            "unitsPerRound": 0 < self.rounds * self.units_per_round < 2**LANE_BITS,
            # Whoever is punished must be able to object, and half of what who objects risks must pay every seat.
            "penalty": self.penalty <= min(settings.most_penalty, self.min_stake if self.challenge_window else 0),
            "checkRate": self.check_rate <= PPM,
            "checkPeriod": 0 < self.check_period <= YEAR if checks else self.check_period == 0,
            "checkPenalty": checks == (self.check_penalty > 0)
            and self.check_penalty <= min(settings.most_penalty, self.min_stake),
            "auditors": named if checks else (self.auditor_count, self.auditors) == (0, ZERO),
            **self.scoring_allowed(),
            "garbageShare": self.garbage_share <= PPM,
            "neverRevealedShare": self.never_revealed_share <= PPM,
            "statisticalShare": self.statistical_share <= PPM,
            "freeRefusals": self.free_refusals > 0 or self.statistical_share == 0,
            "sealDeposit": self.seal != ZERO or self.seal_deposit == 0,
            "sealPeriod": 0 < self.seal_period <= YEAR if self.seal != ZERO else self.seal_period == 0,
            "bond": (least_bond(settings) if self.challenge_window else 0) <= self.bond < 2**93,
        }
        yield from ((not fine, *invalid(name)) for name, fine in allowed.items())

    def scoring_allowed(self) -> dict[str, bool]:
        """Return which terms of scorers and recommenders a ledger takes."""
        scored = self.scorers > 0
        return {
            "recommenderTrust": (self.recommenders == ZERO) == (self.recommender_trust == 0)
            and self.recommender_trust <= PPM,
            "scorers": not scored or 3 <= self.scorers <= MOST_SCORERS,
            "verifiersScore": scored or not self.verifiers_score,
            "scorePeriod": scored == (self.score_period > 0) and self.score_period <= YEAR,
            "scoreSpread": self.score_spread >= 4 if scored else self.score_spread == 0,
            "scoreFloor": scored == (self.score_floor > 0) and self.score_floor <= 32_766,
        }


@dataclass(frozen=True)
class Updates:
    """What an aggregator says was revealed in a batched round: digest and length of each update.

    With ``more`` there is one word of lengths too many.
    """

    refs: tuple[Ref, ...] = ()
    more: bool = False

    @cached_property
    def hash(self) -> bytes:
        return updates_hash([ContentRef(*ref) for ref in self.refs])

    def abi(self) -> tuple[Any, ...]:
        lengths = pack_lengths([ContentRef(*ref) for ref in self.refs])
        return (([digest for digest, _ in self.refs], lengths + [0] * self.more),)


@dataclass(frozen=True)
class Outcome:
    """A proposal: what an aggregator says has come of a round.

    Parameters
    ----------
    model, state, report
        Digest and length of each.
    updates
        The hash of the updates of a batched round, else zero.
    stop
        Whether the task ends with this round.
    verdicts, shares
        By participant's id.
    flaw
        What is wrong with the words themselves, `shares` or `slots`; they encode the rest correctly without it.
    """

    model: Ref
    verdicts: dict[int, Verdict]
    shares: dict[int, int]
    stop: bool = False
    state: Ref = (ZERO, 0)
    report: Ref = (ZERO, 0)
    updates: bytes = ZERO
    flaw: str | None = None

    @cached_property
    def words(self) -> tuple[list[int], list[int]]:
        verdicts, shares = pack_words(self.verdicts, self.shares)
        if self.flaw == "shares":
            return verdicts, [*shares, 0]
        if self.flaw == "slots":
            return [*verdicts, verdicts[-1]], [*shares, 0]
        return verdicts, shares

    @cached_property
    def slots(self) -> list[list[int]]:
        """The participants that are judged, slot by slot."""
        numbers = sorted({i // LANES for i in self.verdicts})
        return [sorted(i for i in self.verdicts if i // LANES == number) for number in numbers]

    @property
    def covered(self) -> set[int]:
        """The participants in whose slots something was said."""
        return {LANES * (i // LANES) + lane for i in self.verdicts for lane in range(LANES)}

    @property
    def delivered(self) -> list[int]:
        """The participants that are judged by an update, by id."""
        return sorted(i for i, verdict in self.verdicts.items() if has_update(verdict))

    @property
    def proposal(self) -> tuple[Any, ...]:
        return self.model, self.state, self.report, self.updates, self.stop

    def abi(self) -> tuple[Any, ...]:
        return self.proposal, *self.words

    @cached_property
    def hash(self) -> bytes:
        ref = "(bytes32,uint64)"
        return keccak(encode([f"({ref},{ref},{ref},bytes32,bool)", "uint256[]", "uint256[]"], self.abi()))

    def verdict(self, participant: int) -> Verdict:
        return self.verdicts.get(participant, Verdict.NONE)


@dataclass(frozen=True)
class Posted:
    """An outcome as the court takes it."""

    outcome: Outcome

    def abi(self) -> tuple[Any, ...]:
        return (self.outcome.abi(),)


@dataclass(frozen=True)
class Found:
    """What an auditor found in checks of several rounds."""

    rounds: tuple[RoundFindings, ...] = ()

    def abi(self) -> tuple[Any, ...]:
        return ([each.as_argument() for each in self.rounds],)


@dataclass(frozen=True)
class Shown:
    """What a scorer reveals, by its place among the drawn."""

    place: int
    salt: bytes
    words: tuple[int, ...]

    @property
    def record(self) -> tuple[int, bytes, list[int]]:
        return self.place, self.salt, list(self.words)

    def abi(self) -> tuple[Any, ...]:
        return (self.record,)


@dataclass(frozen=True)
class AllShown:
    """What several scorers reveal."""

    each: tuple[Shown, ...] = ()

    @property
    def records(self) -> tuple[Any, ...]:
        return tuple(one.record for one in self.each)

    def abi(self) -> tuple[Any, ...]:
        return (list(self.records),)


@dataclass(frozen=True)
class Claim:
    """A commitment with its signature, empty for one that was sent, and its way to the root, if it is there."""

    commitment: bytes
    signature: bytes = b""
    proof: tuple[bytes, ...] = ()

    def abi(self) -> tuple[Any, ...]:
        return ((self.commitment, self.signature, list(self.proof)),)

    def signer(self, chain_id: int, contract: str, task: int, number: int, participant: int) -> str | None:
        """Return who signed it for this participant and round."""
        return _signer(chain_id, contract, task, number, participant, self.commitment, self.signature)


@lru_cache(maxsize=65_536)
def _signer(
    chain_id: int, contract: str, task: int, number: int, i: int, digest: bytes, signature: bytes
) -> str | None:
    message = commitment_message((chain_id, to_checksum_address(contract), task), number, i, digest)
    found = recover(message, signature)
    return found.lower() if found else None


# What is kept.


@dataclass
class Participant:
    """A registered account; ``since`` is 0 after it has left, ``leaves`` is 0 unless it is about to."""

    owner: str
    signer: str
    payout: str
    stake: int
    since: int
    unbonding: int = 0
    leaves: int = 0


@dataclass
class Seat:
    """A seat of a task's aggregators.

    While disputes about its proposals are open, what it had deposited before is ``held``; this answers first to the
    dispute ``first``. A ``condemned`` deposit is lost whatever comes of that and those that have the claim after it.
    """

    holder: str
    deposit: int = 0
    held: int = 0
    disputes: int = 0
    first: int | None = None
    condemned: bool = False


@dataclass
class Verifier:
    """Since when a participant is a verifier, and when it left; zero: never."""

    since: int
    since_block: int
    left: int = 0
    left_block: int = 0


@dataclass
class Place:
    """Since when a verifier has its place in a task's pool, and in which block it gave it up; zero: never."""

    since: int
    since_block: int
    left_block: int = 0


@dataclass(frozen=True)
class Check:
    """What has become of the check of an update, and the place of the auditor it is for."""

    state: CheckState = CheckState.NONE
    auditor: int = 0


@dataclass
class Scoring:
    """How a task's latest scored round is scored; ``own`` and ``listed`` commitments are by place.

    ``pool`` is from how many of the task's verifiers is drawn, if they score.
    """

    number: int
    called: int
    draw_block: int
    present: set[int]
    updates: bytes
    tallied: bool
    pool: int = 0
    is_drawn: bool = False
    scorers: list[int] = field(default_factory=list)
    stained: set[int] = field(default_factory=set)
    own: dict[int, bytes] = field(default_factory=dict)
    listed: dict[int, bytes] = field(default_factory=dict)
    revealed: set[int] = field(default_factory=set)

    @property
    def committed(self) -> dict[int, bytes]:
        return self.listed | self.own

    @property
    def all_committed(self) -> bool:
        return self.is_drawn and len(self.committed) == len(self.scorers)


@dataclass
class Round:
    """A round; times are 0 for what has not happened.

    It starts from the model of round ``base``, 0: the task's first model. ``commitments`` are those on chain, with who
    sent them; of a batched round there is the ``root`` of as many more as ``rooted`` says, and ``complete`` if these
    are all. If it is ``bidding`` it is for bids, and no updates. Of its outcome the first ``applied`` slots are
    settled, and the dispute ``challenged`` is about all of it.
    """

    base: int
    opened: int
    selected: set[int]
    everybody: bool = False
    bidding: bool = False
    root: bytes = EMPTY_ROOT
    rooted: int = 0
    complete: bool = False
    commitments: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    salts: dict[int, bytes] = field(default_factory=dict)
    commits_closed: int = 0
    proposed: int = 0
    proposed_block: int = 0
    seat: int = 0
    outcome: Outcome | None = None
    empty: bool = False
    applied: int = 0
    challenged: int | None = None
    disputes: int = 0
    checks: dict[int, Check] = field(default_factory=dict)
    outvoted: set[int] = field(default_factory=set)
    status: RoundStatus = RoundStatus.OPEN

    @property
    def committed(self) -> int:
        return self.rooted + len(self.commitments)

    @property
    def settled_shares(self) -> dict[int, int]:
        """What participants have been credited for this round."""
        if self.outcome is None:
            return {}
        return {i: self.outcome.shares.get(i, 0) for slot in self.outcome.slots[: self.applied] for i in slot}


@dataclass
class Task:
    """A task; its rounds are numbered from 1.

    ``finished`` is when it was, and ``seal_held`` what is held of its seal's deposit. ``endings`` says for each round
    that ended by itself, in the order of time, whether it counts: it was settled, with a quorum. ``completed`` is when
    enough had enrolled at last, if that was after the time for it, and ``refilled`` one more than the last round then;
    ``back`` says after which round who left may return. ``places_of_scorers`` are all that were ever written, and
    ``list_of_scores`` is the hash of the last list. ``findings`` are what auditors, by place, committed to.
    """

    publisher: str
    params: Params
    posted: int
    seats: list[Seat]
    active: int = 0
    enrolled: set[int] = field(default_factory=set)
    completed: int = 0
    refilled: int = 0
    back: dict[int, int] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    endings: list[bool] = field(default_factory=list)
    beacon: bytes = ZERO
    last_final: int = 0
    finished: int = 0
    seal_held: int = 0
    seal_open: bool = False
    seal_forfeited: bool = False
    findings: dict[int, bytes] = field(default_factory=dict)
    scoring: Scoring | None = None
    places_of_scorers: list[int] = field(default_factory=lambda: [0] * MOST_SCORERS)
    list_of_scores: bytes = ZERO
    credits: Counter[int] = field(default_factory=Counter)
    paid: Counter[int] = field(default_factory=Counter)

    @property
    def enrol_deadline(self) -> int:
        return max(self.posted + self.params.enrol_period, self.completed)

    @property
    def lacks_participants(self) -> bool:
        return len(self.enrolled) < self.params.min_participants

    def of(self, *states: RoundStatus) -> list[Round]:
        """Return the rounds in one of these states."""
        return [r for r in self.rounds if r.status in states]

    @property
    def counted(self) -> int:
        """How many of the paid rounds are over."""
        return sum(not r.empty and not r.bidding for r in self.of(RoundStatus.SETTLED))

    @property
    def payable(self) -> int:
        """How many units the next round may pay: its own, and what is left of earlier ones' where these are pooled."""
        rounds = self.counted + 1 if self.params.pools_pay else 1
        return rounds * self.params.units_per_round - (self.spent if self.params.pools_pay else 0)

    @property
    def last_bidding(self) -> int:
        """The last round that was for bids; 0: none."""
        return max((number for number, r in enumerate(self.rounds, 1) if r.bidding), default=0)

    @property
    def bids_are_due(self) -> bool:
        """Whether the next round is for bids: there are none that stand, or they are old."""
        number, every = self.last_bidding, self.params.bidding_every
        if not every or not number:
            return every > 0
        last = self.rounds[number - 1]
        return last.empty or last.status is RoundStatus.VOIDED or len(self.rounds[number:]) + 1 >= every

    @property
    def final(self) -> int:
        """How many rounds from the first on are settled or voided."""
        unfinal = (k for k, r in enumerate(self.rounds) if r.status in (RoundStatus.OPEN, RoundStatus.PROPOSED))
        return next(unfinal, len(self.rounds))

    @property
    def voids_in_a_row(self) -> int:
        return next((k for k, counts in enumerate(reversed(self.endings)) if counts), len(self.endings))

    @property
    def latest(self) -> int:
        """The last round whose proposal stands; 0: none."""
        standing = RoundStatus.PROPOSED, RoundStatus.SETTLED
        return max((number for number, r in enumerate(self.rounds, 1) if r.status in standing), default=0)

    def base_model(self, number: int) -> bytes:
        """Return the model that a round starts from; of a round that there is not, the first one."""
        base = self.rounds[number - 1].base if 1 <= number <= len(self.rounds) else 0
        made = self.rounds[base - 1].outcome if base else None
        return made.model[0] if made else self.params.model[0]

    def way(self, number: int) -> list[bytes]:
        """Return the models from the one that a round starts from back to the first one."""
        models, base = [self.base_model(number)], number
        while base := self.rounds[base - 1].base if 1 <= base <= len(self.rounds) else 0:
            models.append(self.base_model(base))
        return models

    def root(self, number: int) -> bytes:
        """Return a round's root as long as it is kept."""
        return self.rounds[number - 1].root if len(self.rounds) < number + self.params.max_unfinal else EMPTY_ROOT

    def has_committed(self, number: int, participant: int) -> bool:
        """Whether it is known that a participant committed on chain; of a direct round until it does so again."""
        later = [] if self.params.batched else self.rounds[number:]
        known = participant in self.rounds[number - 1].commitments
        return known and not any(participant in r.commitments for r in later)

    @property
    def stopped(self) -> bool:
        return any(r.outcome is not None and r.outcome.stop for r in self.of(RoundStatus.SETTLED))

    def earned(self, participant: int) -> int:
        """Return the units that the settled rounds gave a participant."""
        return sum(r.settled_shares.get(participant, 0) for r in self.rounds)

    @property
    def spent(self) -> int:
        return sum(sum(r.settled_shares.values()) for r in self.rounds)

    @property
    def escrow(self) -> int:
        """What of the budget was neither spent nor returned, in wei."""
        return 0 if self.finished else self.params.budget - self.spent * self.params.credit_unit


@dataclass
class Vote:
    """What a juror committed to, and what it revealed: its finding and the transcript."""

    commitment: bytes
    finding: tuple[Finding, bytes] | None = None


@dataclass
class Jury:
    """A jury; times and members are empty before it is drawn, from the first ``pool`` verifiers."""

    draw_block: int
    draw_until: int
    pool: int
    commits_until: int = 0
    reveals_until: int = 0
    members: list[int] = field(default_factory=list)
    votes: dict[int, Vote] = field(default_factory=dict)
    decided: bool = False
    finding: tuple[Finding, bytes] | None = None
    appellant: str = NOBODY
    appeal_bond: int = 0

    @property
    def found(self) -> dict[int, tuple[Finding, bytes]]:
        """What its members revealed."""
        return {i: vote.finding for i, vote in self.votes.items() if vote.finding is not None}

    @property
    def complete(self) -> bool:
        """Whether there is nobody to wait for."""
        return len(self.members) > 0 and len(self.found) == len(self.members)

    @property
    def says(self) -> Finding:
        return self.finding[0] if self.finding else Finding.NONE


@dataclass
class Dispute:
    """A dispute about a round; ``juries`` are those of a replay, the last one at work.

    Its parties share what was ``won`` by another's proof.
    """

    task: int
    number: int
    subject: int
    kind: DisputeKind
    accused: int
    challenger: str
    bond: int
    deadline: int = 0
    status: DisputeStatus = DisputeStatus.OPEN
    won: int = 0
    juries: list[Jury] = field(default_factory=list)

    @property
    def level(self) -> int:
        return max(0, len(self.juries) - 1)

    @property
    def jury(self) -> Jury:
        return self.juries[-1]

    @property
    def is_open(self) -> bool:
        return self.status is DisputeStatus.OPEN

    @property
    def unable(self) -> int:
        """How many of its juries could not judge."""
        return sum(jury.says is Finding.UNABLE for jury in self.juries)

    @property
    def awaits_draw(self) -> bool:
        """Whether its last jury was called, and is neither drawn nor given up."""
        return self.is_open and len(self.juries) > 0 and not self.jury.commits_until and not self.jury.decided

    @property
    def held(self) -> int:
        """The bonds and the gain that it holds, in wei."""
        return self.bond + self.won + sum(jury.appeal_bond for jury in self.juries) if self.is_open else 0


def seats_of_jury(settings: Settings, level: int) -> int:
    """Return how many seats a jury of a level has: each has twice as many as the one before, and one."""
    return settings.jury_size if level == 0 else 2 * seats_of_jury(settings, level - 1) + 1


def seats_on_all_levels(settings: Settings) -> int:
    return sum(seats_of_jury(settings, level) for level in range(settings.appeals + 1))


def least_bond(settings: Settings) -> int:
    """Return the least bond where a proposal can be challenged."""
    return max(1, 2 * seats_on_all_levels(settings) * settings.juror_penalty)


def has_update(verdict: Verdict) -> bool:
    """Whether an update, or a bid, was there to judge."""
    return verdict in (Verdict.ACCEPTED, Verdict.HEARD) or verdict.refused


def ordered(function: str, values: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of a function's struct in the order of the ABI."""
    return tuple(values[name] for name in components(function))
