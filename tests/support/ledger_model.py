"""What the ledger has to do, as plain Python: the semantics of docs/round.md, docs/records.md and IFedLedger.sol.

A method of :class:`Model` is one transaction. It changes the model, or raises :class:`Refused` with every error that
the transaction deserves: no document says which of several the ledger names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import astuple, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from fedledger.contracts.abi import functions
from fedledger.contracts.client import Phase, RoundStatus
from fedledger.protocol.batch import EMPTY_ROOT, leaf
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.merkle import verify
from fedledger.protocol.messages import commitment
from fedledger.protocol.reputation import LANE_BITS, LANES, Evidence
from fedledger.protocol.settlement import pack_lengths, pack_words, updates_hash
from fedledger.protocol.verdicts import Verdict

NOBODY = "0x" + "00" * 20
ZERO = bytes(32)
WORD = 256
BEACON = 1
VOIDS_TO_FINISH = 3
RING = 16  # for so many rounds a root is kept
FLAWS = {"shares": "LengthMismatch", "slots": "SlotsNotAscending"}
Ref = tuple[bytes, int]
Error = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Call:
    """One of the ledger's functions with its arguments, which may be those of this module."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def encoded(self) -> tuple[Any, ...]:
        """The arguments as the ABI takes them."""
        return tuple(part for a in self.arguments for part in (a.abi() if hasattr(a, "abi") else (a,)))

    def on(self, model: Model, sender: str, value: int = 0) -> None:
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

    def __init__(self, errors: set[Error]) -> None:
        super().__init__(errors)
        self.errors = errors


def refuse(*faults: tuple[Any, ...]) -> None:
    """Raise all errors, given as (condition, name, argument...), whose condition holds."""
    errors = {(name, tuple(arguments)) for wrong, name, *arguments in faults if wrong}
    if errors:
        raise Refused(errors)


@dataclass(frozen=True)
class Params:
    """What a publisher posts, in the order of the ABI."""

    spec: Ref
    model: Ref
    aggregator: str
    token: str = NOBODY
    rounds: int = 3
    quorum: int = 2
    min_participants: int = 2
    max_participants: int = 9
    enrol_period: int = 100
    commit_period: int = 10
    reveal_period: int = 10
    propose_period: int = 10
    challenge_window: int = 5
    max_unfinal: int = 1
    max_staleness: int = 0
    randomness: int = 0
    batched: bool = False
    grace_period: int = 0
    min_stake: int = 0
    min_reputation: int = 0
    bond: int = 0
    credit_unit: int = 1
    units_per_round: int = 1000

    @property
    def budget(self) -> int:
        return self.rounds * self.units_per_round * self.credit_unit

    @cached_property
    def record(self) -> tuple[Any, ...]:
        return astuple(self)

    def abi(self) -> tuple[Any, ...]:
        return (self.record,)

    def faults(self) -> Iterator[tuple[Any, ...]]:
        """Return what the ledger refuses to take in."""
        yield self.token != NOBODY, "UnsupportedCurrency", self.token
        yield self.aggregator == NOBODY, "ZeroAddress"
        yield self.max_staleness != 0, "UnsupportedStaleness", self.max_staleness
        allowed = {
            "spec": self.spec[0] != ZERO,
            "model": self.model[0] != ZERO,
            "rounds": 1 <= self.rounds <= 65_535,
            "quorum": 1 <= self.quorum <= 1024,
            "minParticipants": self.min_participants >= self.quorum,
            "maxParticipants": self.min_participants <= self.max_participants <= 4096,
            "enrolPeriod": self.enrol_period > 0,
            "commitPeriod": self.commit_period > 0,
            "revealPeriod": self.reveal_period > 0,
            "proposePeriod": self.propose_period > 0,
            "maxUnfinal": 1 <= self.max_unfinal <= 8,
            "randomness": self.randomness in ((0,) if self.batched else (0, BEACON)),
            "minReputation": self.min_reputation <= 1_000_000,
            "creditUnit": self.credit_unit > 0,
            "unitsPerRound": 0 < self.rounds * self.units_per_round < 2**LANE_BITS,
        }
        yield from ((not fine, *invalid(name)) for name, fine in allowed.items())


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
        What is wrong with the words themselves, of `FLAWS`; they encode the rest correctly without it.
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

    @property
    def covered(self) -> set[int]:
        """The participants in whose slots something was said."""
        return {LANES * (i // LANES) + lane for i in self.verdicts for lane in range(LANES)}

    @property
    def delivered(self) -> list[int]:
        """The participants that are judged by an update, by id."""
        return sorted(i for i, verdict in self.verdicts.items() if has_update(verdict))

    def abi(self) -> tuple[Any, ...]:
        return (self.model, self.state, self.report, self.updates, self.stop), *self.words

    @cached_property
    def hash(self) -> bytes:
        ref = "(bytes32,uint64)"
        return keccak(encode([f"({ref},{ref},{ref},bytes32,bool)", "uint256[]", "uint256[]"], self.abi()))


@dataclass
class Participant:
    """A registered account; ``since`` is 0 after it has left, ``leaves`` is 0 unless it is about to."""

    owner: str
    signer: str
    payout: str
    stake: int
    since: int
    leaves: int = 0

    @property
    def record(self) -> tuple[Any, ...]:
        return self.owner, self.signer, self.payout, self.stake, self.since, self.leaves


@dataclass
class Round:
    """A round; times are 0 for what has not happened.

    It starts from the model of round ``base``, 0: the task's first model. Of a batched round there is the ``root`` of
    as many commitments as ``rooted`` says, and ``commitments`` are those that were made on chain.
    """

    base: int
    opened: int
    selected: set[int]
    everybody: bool = False
    root: bytes = EMPTY_ROOT
    rooted: int = 0
    commitments: dict[int, bytes] = field(default_factory=dict)
    salts: dict[int, bytes] = field(default_factory=dict)
    commits_closed: int = 0
    reveals_closed: int = 0
    proposed: int = 0
    outcome: Outcome | None = None
    status: RoundStatus = RoundStatus.OPEN

    @property
    def committed(self) -> int:
        return self.rooted + len(self.commitments)


@dataclass
class Task:
    """A task; its rounds are numbered from 1."""

    publisher: str
    params: Params
    posted: int
    enrolled: set[int] = field(default_factory=set)
    rounds: list[Round] = field(default_factory=list)
    beacon: bytes = ZERO
    last_final: int = 0
    finished: bool = False
    credits: Counter[int] = field(default_factory=Counter)
    paid: Counter[int] = field(default_factory=Counter)

    @property
    def enrol_deadline(self) -> int:
        return self.posted + self.params.enrol_period

    def of(self, *states: RoundStatus) -> list[Round]:
        """Return the rounds in one of these states."""
        return [r for r in self.rounds if r.status in states]

    @property
    def settled(self) -> list[Round]:
        return self.of(RoundStatus.SETTLED)

    @property
    def final(self) -> int:
        """How many rounds are settled or voided; they are the first ones."""
        return len(self.of(RoundStatus.SETTLED, RoundStatus.VOIDED))

    @property
    def voids_in_a_row(self) -> int:
        count = 0
        for r in self.rounds[: self.final]:
            count = count + 1 if r.status is RoundStatus.VOIDED else 0
        return count

    @property
    def latest(self) -> int:
        """The last round that was proposed; 0: none yet."""
        return max((number for number, r in enumerate(self.rounds, 1) if r.outcome), default=0)

    def base_model(self, number: int) -> bytes:
        """Return the model that a round starts from; of a round that there is not, the first one."""
        base = self.rounds[number - 1].base if 1 <= number <= len(self.rounds) else 0
        made = self.rounds[base - 1].outcome if base else None
        return made.model[0] if made else self.params.model[0]

    def root(self, number: int) -> bytes:
        """Return a round's root as long as it is kept."""
        return self.rounds[number - 1].root if len(self.rounds) < number + RING else EMPTY_ROOT

    @property
    def stopped(self) -> bool:
        return any(r.outcome is not None and r.outcome.stop for r in self.settled)

    def earned(self, participant: int) -> int:
        """Return the units that the settled rounds gave a participant."""
        return sum(r.outcome.shares.get(participant, 0) for r in self.settled if r.outcome)

    @property
    def spent(self) -> int:
        return sum(sum(r.outcome.shares.values()) for r in self.settled if r.outcome)

    @property
    def bonds(self) -> int:
        """What is locked for rounds that are proposed and not settled, in wei."""
        return self.params.bond * len(self.of(RoundStatus.PROPOSED))

    @property
    def escrow(self) -> int:
        """What of the budget was neither spent nor returned, in wei."""
        return 0 if self.finished else self.params.budget - self.spent * self.params.credit_unit


@dataclass
class Model:
    """The ledger at ``address``, with the money of every account outside it.

    Parameters
    ----------
    address, chain_id
        They enter the commitments.
    least_stake, exit_delay
        What it was deployed with, in wei and seconds.
    refusing
        Addresses that take no money.
    """

    address: str
    least_stake: int
    exit_delay: int
    refusing: set[str]
    now: int
    chain_id: int = 1
    wallets: Counter[str] = field(default_factory=Counter)
    balances: Counter[str] = field(default_factory=Counter)
    participants: list[Participant] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    evidence: dict[tuple[str, int], Evidence] = field(default_factory=dict)

    # What is held for whom.

    @property
    def owed(self) -> int:
        """The sum of all claims on the ledger, in wei."""
        stakes = sum(p.stake for p in self.participants)
        credited = sum(t.credits.total() * t.params.credit_unit for t in self.tasks)
        return stakes + self.balances.total() + credited + sum(t.escrow + t.bonds for t in self.tasks)

    def reputation(self, publisher: str, participant: int) -> int:
        return self.evidence.get((publisher, participant), Evidence()).reputation

    def phase(self, task: Task) -> Phase:
        if task.finished:
            return Phase.FINISHED
        if task.rounds:
            return self.round_phase(task, task.rounds[-1])
        return Phase.ENROLLING if self.now < task.enrol_deadline else Phase.IDLE

    def round_phase(self, task: Task, r: Round) -> Phase:
        """Return where a round is: a phase ends at its deadline or as soon as all have acted."""
        p = task.params
        if r.status is RoundStatus.PROPOSED:
            return Phase.CHALLENGING if self.now < r.proposed + p.challenge_window else Phase.SETTLEABLE
        if r.status is not RoundStatus.OPEN:
            return Phase.IDLE
        commits_end = r.commits_closed or r.opened + p.commit_period
        if self.now < commits_end:
            return Phase.ADMITTING if p.batched and r.commits_closed else Phase.COMMITTING
        if p.batched and not r.commits_closed:
            return Phase.CLOSING if self.now < commits_end + p.propose_period else Phase.OVERDUE
        reveals_end = r.reveals_closed or commits_end + (p.reveal_period if r.committed else 0)
        if self.now < reveals_end:
            return Phase.REVEALING
        # Of a batched round only the aggregator knows what was revealed.
        quorate = (r.committed if p.batched else len(r.salts)) >= p.quorum
        return Phase.PROPOSING if quorate and self.now < reveals_end + p.propose_period else Phase.OVERDUE

    # Balances and participants.

    def deposit(self, sender: str, value: int) -> None:
        self._take(sender, value)
        self.balances[sender] += value

    def withdraw(self, sender: str, value: int, to: str) -> None:
        amount = self.balances[sender]
        refuse(
            (to == NOBODY, "ZeroAddress"),
            (amount == 0, "NothingToWithdraw", sender),
            (to in self.refusing, "TransferFailed", to, amount),
        )
        self.balances[sender] = 0
        self.wallets[to] += amount

    def register(self, sender: str, value: int, signer: str, payout: str) -> None:
        known = self._owned(sender)
        refuse(
            (NOBODY in (signer, payout), "ZeroAddress"),
            (known is not None and known.since, "AlreadyRegistered", sender),
            (value < self.least_stake, "StakeTooSmall", value, self.least_stake),
            (value >= 2**96, *invalid("stake")),
            (self.of_signer(signer) is not None, "SignerTaken", signer),
        )
        self._take(sender, value)
        found = Participant(sender, signer, payout, value, self.now)
        if known is None:
            self.participants.append(found)
        else:
            self.participants[self.participants.index(known)] = found

    def add_stake(self, sender: str, value: int) -> None:
        p = self._present(sender)
        refuse((p.stake + value >= 2**96, *invalid("stake")))
        self._take(sender, value)
        p.stake += value

    def rotate_signer(self, sender: str, value: int, signer: str) -> None:
        refuse((signer == NOBODY, "ZeroAddress"))
        p = self._present(sender)
        refuse((signer != p.signer and self.of_signer(signer) is not None, "SignerTaken", signer))
        p.signer = signer

    def set_payout(self, sender: str, value: int, payout: str) -> None:
        refuse((payout == NOBODY, "ZeroAddress"))
        self._present(sender).payout = payout

    def request_exit(self, sender: str, value: int) -> None:
        p = self._present(sender)
        refuse((p.leaves, "AlreadyExiting", self.participants.index(p)))
        p.leaves = self.now + self.exit_delay

    def cancel_exit(self, sender: str, value: int) -> None:
        self._leaving(sender).leaves = 0

    def complete_exit(self, sender: str, value: int) -> None:
        p = self._leaving(sender)
        refuse((self.now < p.leaves, "ExitNotDue", p.leaves))
        self.balances[sender] += p.stake
        p.stake = p.since = p.leaves = 0

    # Tasks.

    def post_task(self, sender: str, value: int, params: Params) -> None:
        refuse(*params.faults(), (value != params.budget, "WrongBudget", params.budget, value))
        self._take(sender, value)
        self.tasks.append(Task(sender, params, self.now))

    def enrol(self, sender: str, value: int, task: int) -> None:
        t = self._running(task)
        owned = self._owned(sender)
        i = self.of_signer(sender) if owned is None else self.participants.index(owned)
        closed = bool(t.rounds) or self.now >= t.enrol_deadline
        refuse((i is None, "NotRegistered", sender), (closed, "EnrolmentClosed", task))
        assert i is not None
        reputation = self.reputation(t.publisher, i)
        refuse(
            (len(t.enrolled) == t.params.max_participants, "TaskFull", task),
            *self._unstaked(t, i),
            (reputation < t.params.min_reputation, "ReputationTooLow", reputation, t.params.min_reputation),
            (i in t.enrolled, "AlreadyEnrolled", task, i),
        )
        t.enrolled.add(i)

    def finish_task(self, sender: str, value: int, task: int) -> None:
        t = self._running(task)
        p = t.params
        idle_since = t.last_final if t.rounds else t.enrol_deadline
        done = t.stopped or len(t.settled) == p.rounds or self.now > idle_since + p.enrol_period
        too_few = not t.rounds and self.now >= t.enrol_deadline and len(t.enrolled) < p.min_participants
        hopeless = too_few or t.voids_in_a_row >= VOIDS_TO_FINISH
        allowed = done or (hopeless and sender in (t.publisher, p.aggregator))
        refuse((t.final < len(t.rounds) or not allowed, "TaskNotFinishable", task))
        self.balances[t.publisher] += t.escrow
        t.finished = True

    def withdraw_credit(self, sender: str, value: int, task: int, participant: int) -> None:
        t = self._posted(task)
        units = t.credits[participant]
        refuse((units == 0, "NoCredit", task, participant))
        payout, amount = self.participants[participant].payout, units * t.params.credit_unit
        refuse((payout in self.refusing, "TransferFailed", payout, amount))
        t.credits[participant] = 0
        t.paid[participant] += units
        self.wallets[payout] += amount

    # Rounds.

    def open_round(self, sender: str, value: int, task: int, indices: tuple[int, ...], words: tuple[int, ...]) -> None:
        t = self._running(task)
        p = t.params
        named = {WORD * k + bit for k, word in zip(indices, words, strict=False) for bit in bits(word)}
        selected = named if words else set(t.enrolled)
        strangers = {i // WORD for i in selected - t.enrolled}
        unfinal = len(t.rounds) - t.final
        enrolled = len(t.enrolled)
        early = not t.rounds and enrolled < p.max_participants and self.now < t.enrol_deadline
        refuse(
            (sender != p.aggregator, "NotAggregator", sender),
            (not t.rounds and enrolled < p.min_participants, "TooFewParticipants", enrolled, p.min_participants),
            (early, "EnrolmentOpen", task),
            (t.of(RoundStatus.OPEN), "PreviousRoundOpen", task, len(t.rounds)),
            (unfinal >= p.max_unfinal, "TooManyUnfinal", task),
            (t.stopped or len(t.settled) + unfinal >= p.rounds, "RoundsExhausted", task),
            (len(indices) != len(words), "LengthMismatch"),
            (0 in words or any(a >= b for a, b in pairwise(indices)), "WordsNotAscending"),
            *((True, "NotEnrolled", k) for k in strangers),
            (len(selected) < p.quorum, "TooFewParticipants", len(selected), p.quorum),
        )
        t.rounds.append(Round(t.latest, self.now, selected, everybody=not words))

    def commit_update(self, sender: str, value: int, task: int, number: int, digest: bytes) -> None:
        t, r = self._open(task, number)
        i, phase = self.of_signer(sender), self.round_phase(t, r)
        refuse(
            (not t.params.batched and phase is not Phase.COMMITTING, "CommitsAreClosed"),
            (t.params.batched and phase is not Phase.ADMITTING, "NotAdmitting"),
            (digest == ZERO, "EmptyCommitment"),
            (i is None, "NotRegistered", sender),
        )
        assert i is not None
        refuse(
            *self._unstaked(t, i),
            (i not in r.selected, "NotSelected", i),
            (i in r.commitments, "AlreadyCommitted", i),
        )
        r.commitments[i] = digest
        if len(r.commitments) == len(r.selected) and not t.params.batched:
            r.commits_closed = self.now

    def close_commits(self, sender: str, value: int, task: int, number: int, root: bytes, count: int) -> None:
        t, r = self._open(task, number)
        phase, everybody = self.round_phase(t, r), count == len(r.selected)
        refuse(
            (sender != t.params.aggregator, "NotAggregator", sender),
            (not t.params.batched, "NotBatched", task),
            (count > len(r.selected), "WrongCount", count, len(r.selected)),
            (phase is Phase.COMMITTING and not everybody, "CommitsAreOpen"),
            (phase not in (Phase.COMMITTING, Phase.CLOSING), "NotClosing"),
        )
        r.commits_closed = self.now + (0 if everybody else t.params.grace_period)
        r.root, r.rooted = root, count

    def reveal_update(
        self, sender: str, value: int, task: int, number: int, update: Ref, salt: bytes, proof: tuple[bytes, ...]
    ) -> None:
        t, r = self._in_flight(task, number)
        phase = self.round_phase(t, r)
        early = Phase.COMMITTING, Phase.ADMITTING
        refuse(
            (r.status is RoundStatus.PROPOSED and not t.params.batched, "RoundNotOpen", task, number),
            (phase is Phase.COMMITTING, "CommitsAreOpen"),
            (phase is Phase.ADMITTING, "StillAdmitting", r.commits_closed),
            (phase not in (*early, Phase.REVEALING, Phase.CHALLENGING), "RevealsAreClosed"),
        )
        i = self.of_signer(sender)
        refuse((i is None, "NotRegistered", sender))
        assert i is not None
        known, found = r.commitments.get(i), self.commitment(task, number, sender, update, salt)
        rooted = r.root != EMPTY_ROOT and verify(r.root, leaf(i, found), proof)
        unknown = not rooted and found != known
        refuse(
            (unknown and known is None, "NotCommitted", i),
            (unknown and known is not None, "WrongReveal", known, found),
            (i in r.salts, "AlreadyRevealed", i),
        )
        r.salts[i] = salt
        if r.status is RoundStatus.OPEN and len(r.salts) == r.committed:
            r.reveals_closed = self.now

    def propose_round(
        self, sender: str, value: int, task: int, number: int, outcome: Outcome, updates: Updates
    ) -> None:
        t, r = self._open(task, number)
        p = t.params
        phase, funds = self.round_phase(t, r), self.balances[sender] + value
        count = len(updates.refs)
        revealed, found = (count, updates.hash) if p.batched else (len(r.salts), ZERO)
        judged = sum(verdict is not Verdict.NONE for verdict in outcome.verdicts.values())
        units, present = sum(outcome.shares.values()), len(outcome.delivered)
        unearned = [i for i, n in outcome.shares.items() if n and outcome.verdicts.get(i) is not Verdict.ACCEPTED]
        refuse(
            (sender != p.aggregator, "NotAggregator", sender),
            (updates.more, "LengthMismatch"),
            (outcome.updates != found or (count and not p.batched), "WrongUpdates", outcome.updates, found),
            (phase is Phase.COMMITTING or (p.batched and not r.commits_closed), "CommitsAreOpen"),
            (phase is Phase.ADMITTING, "StillAdmitting", r.commits_closed),
            (phase is Phase.REVEALING and revealed != r.committed, "RevealsAreOpen"),
            (revealed > r.committed, "WrongCount", revealed, r.committed),
            (revealed < p.quorum, "BelowQuorum", revealed, p.quorum),
            (phase is Phase.OVERDUE, "ProposalOverdue"),
            (funds < p.bond, "InsufficientBond", funds, p.bond),
            (outcome.flaw, FLAWS.get(outcome.flaw or "")),
            *_misjudged(r, outcome, p.batched),
            *((True, "PayWithoutAcceptance", i) for i in unearned),
            (p.batched and count != present, "WrongCount", count, present),
            (judged != len(r.selected), "NotEverybodyJudged", judged, len(r.selected)),
            (units > p.units_per_round, "PayOverBudget", units, p.units_per_round),
        )
        self._take(sender, value)
        self.balances[sender] += value - p.bond
        r.outcome, r.proposed, r.status = outcome, self.now, RoundStatus.PROPOSED

    def settle_round(self, sender: str, value: int, task: int, number: int, outcome: Outcome) -> None:
        t = self._running(task)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        refuse((r is None or r.status is not RoundStatus.PROPOSED, "NotProposed", task, number))
        assert r is not None
        assert r.outcome is not None
        until = r.proposed + t.params.challenge_window
        refuse(
            (number != t.final + 1, "WrongRound", number, t.final + 1),
            (self.now < until, "WindowOpen", until),
            (outcome.hash != r.outcome.hash, "WrongProposal", r.outcome.hash, outcome.hash),
        )
        for i, verdict in outcome.verdicts.items():
            key = t.publisher, i
            self.evidence[key] = self.evidence.get(key, Evidence()).after(verdict)
        t.credits.update(outcome.shares)
        self.balances[t.params.aggregator] += t.params.bond
        self._finalise(t, r, RoundStatus.SETTLED)

    def void_round(self, sender: str, value: int, task: int, number: int) -> None:
        t, r = self._open(task, number)
        refuse(
            (self.round_phase(t, r) is not Phase.OVERDUE, "NotOverdue", task, number),
            (number != t.final + 1, "WrongRound", number, t.final + 1),
        )
        self._finalise(t, r, RoundStatus.VOIDED)

    def announce(self, sender: str, value: int, url: str) -> None:
        """Only an event."""

    def multicall(self, sender: str, value: int, calls: Calls) -> None:
        before = deepcopy(vars(self))
        try:
            for call in calls.calls:
                call.on(self, sender)
        except Refused:
            vars(self).update(before)
            raise

    def commitment(self, task: int, number: int, sender: str, update: Ref, salt: bytes) -> bytes:
        """Return the commitment to an update of an existing round."""
        base = self.tasks[task - 1].base_model(number)
        return commitment(self.chain_id, self.address, task, number, sender, base, ContentRef(*update), salt)

    def of_signer(self, signer: str) -> int | None:
        """Return the participant that an address signs for."""
        return next((i for i, p in enumerate(self.participants) if p.signer == signer and p.since), None)

    # What the transactions share.

    def _take(self, sender: str, value: int) -> None:
        self.wallets[sender] -= value

    def _owned(self, owner: str) -> Participant | None:
        return next((p for p in self.participants if p.owner == owner), None)

    def _present(self, owner: str) -> Participant:
        p = self._owned(owner)
        if p is None or not p.since:
            raise Refused({("NotRegistered", (owner,))})
        return p

    def _leaving(self, owner: str) -> Participant:
        p = self._present(owner)
        refuse((not p.leaves, "NotExiting", self.participants.index(p)))
        return p

    def is_active(self, participant: int) -> bool:
        """Whether a participant is staked and not about to leave."""
        p = self.participants[participant]
        return bool(p.since) and not p.leaves

    def _unstaked(self, t: Task, i: int) -> Iterator[tuple[Any, ...]]:
        stake = self.participants[i].stake
        yield not self.is_active(i), "NotActive", i
        yield stake < t.params.min_stake, "StakeTooSmall", stake, t.params.min_stake

    def _posted(self, task: int) -> Task:
        refuse((not 1 <= task <= len(self.tasks), "UnknownTask", task))
        return self.tasks[task - 1]

    def _running(self, task: int) -> Task:
        t = self._posted(task)
        refuse((t.finished, "TaskAlreadyFinished", task))
        return t

    def _open(self, task: int, number: int) -> tuple[Task, Round]:
        t, r = self._in_flight(task, number)
        refuse((r.status is not RoundStatus.OPEN, "RoundNotOpen", task, number))
        return t, r

    def _in_flight(self, task: int, number: int) -> tuple[Task, Round]:
        t = self.tasks[task - 1] if 1 <= task <= len(self.tasks) else None
        r = t.rounds[number - 1] if t and 1 <= number <= len(t.rounds) else None
        if t is None or r is None or r.status not in (RoundStatus.OPEN, RoundStatus.PROPOSED):
            raise Refused({("RoundNotOpen", (task, number))})
        return t, r

    def _finalise(self, t: Task, r: Round, status: RoundStatus) -> None:
        r.status, t.last_final = status, self.now
        if t.params.randomness == BEACON:
            mixed = 0
            for i, salt in r.salts.items():
                mixed ^= int.from_bytes(keccak(encode(["uint32", "bytes32"], [i, salt])), "big")
            t.beacon = keccak(t.beacon + mixed.to_bytes(32, "big"))


def bits(word: int) -> Iterator[int]:
    """Return the places of a word's set bits."""
    return (place for place in range(word.bit_length()) if word >> place & 1)


def has_update(verdict: Verdict) -> bool:
    """Whether an update was there to judge."""
    return verdict is Verdict.ACCEPTED or verdict.refused


def invalid(name: str) -> tuple[str, bytes]:
    """Return name and argument of the error for a parameter that the ledger does not take."""
    return "InvalidParameter", name.encode().ljust(32, b"\0")


def _misjudged(r: Round, outcome: Outcome, batched: bool) -> Iterator[tuple[Any, ...]]:
    for i in outcome.covered:
        verdict = outcome.verdicts.get(i, Verdict.NONE)
        committed, revealed = i in r.commitments, i in r.salts
        if i not in r.selected:
            follows = verdict is Verdict.NONE
        elif has_update(verdict):
            follows = batched or revealed
        elif verdict is Verdict.LATE:
            follows = not revealed and (batched or committed)
        else:
            follows = verdict is Verdict.MISSED and not revealed and not committed
        yield not follows, "WrongVerdict", i, int(verdict)
