"""What the ledger has to do, as plain Python: money, participants, tasks and rounds; `ledger_court` adds disputes.

A method is one transaction. It changes the model, or raises :class:`Refused` with every error that the transaction
deserves: no document says which of several the ledger names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from fedledger.contracts.compile import VERSION
from fedledger.contracts.ledger.records import Phase, RoundStatus
from fedledger.contracts.ledger.records import Settings as Deployment
from fedledger.contracts.ledger.scores import recommenders_hash
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.records.commitment_batch import EMPTY_ROOT, leaf
from fedledger.protocol.records.opinions import opinion_with
from fedledger.protocol.records.reputation import LANES, Evidence
from fedledger.protocol.records.signatures import commitment
from fedledger.protocol.records.verdicts import Verdict
from support.ledger_records import (
    BEACON,
    COIN,
    NOBODY,
    ZERO,
    Calls,
    Dispute,
    Fault,
    Outcome,
    Params,
    Participant,
    Place,
    Ref,
    Refused,
    Round,
    Scoring,
    Seat,
    Task,
    Updates,
    Verifier,
    has_update,
    invalid,
    named,
    refuse,
)

_commitment = lru_cache(maxsize=65_536)(commitment)
WORD = 256
VOIDS_TO_FINISH = 3
MOST_SEATS = 4
DISPUTE_PERIODS = 4
CHECK_PERIODS = 6
VOID_REWARD = 8
BOUNTY = 64
LOOKS = 64
DAY = 86_400
EQUIVOCATION, GARBAGE_SENT, NEVER_REVEALED, SILENCE, MINORITY, REPEATED_REFUSAL, CANNOT_JUDGE, FAILED_CHECK = range(8)
FLAWS = {"shares": "LengthMismatch", "slots": "SlotsNotAscending"}


@dataclass
class Rounds:
    """The ledger at ``address``, with the money of every account outside it.

    Parameters
    ----------
    address, chain_id
        They enter the commitments.
    terms
        What it was deployed with.
    refusing
        Addresses that take no money.
    judged_on
        The day on which a publisher's evidence of a participant last changed, counted from the epoch.
    scorer_evidence
        What publishers know of participants as scorers, of whom one has failed.
    past
        What the predecessor knows: id and lane of evidence by publisher and owner.
    keys
        From when, first, until when, at last, each address was its participant's signer; until 0: it still is.
    agreed
        For which owner each address last agreed to sign.
    verifiers
        All that ever were, also those that left.
    pools, places
        Who serves each task, in the order of the places, and since when.
    log
        The events so far, as name and arguments.
    """

    address: str
    terms: Deployment
    refusing: set[str]
    now: int
    block: int = 0
    chain_id: int = 1
    past: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    wallets: Counter[str] = field(default_factory=Counter)
    balances: Counter[str] = field(default_factory=Counter)
    burned: int = 0
    paused: bool = False
    participants: list[Participant] = field(default_factory=list)
    signers: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    agreed: dict[str, str] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    evidence: dict[tuple[str, int], Evidence] = field(default_factory=dict)
    judged_on: dict[tuple[str, int], int] = field(default_factory=dict)
    scorer_evidence: dict[tuple[str, int], Evidence] = field(default_factory=dict)
    verifiers: dict[int, Verifier] = field(default_factory=dict)
    pools: dict[int, list[int]] = field(default_factory=dict)
    places: dict[tuple[int, int], Place] = field(default_factory=dict)
    disputes: list[Dispute] = field(default_factory=list)
    punished: set[tuple[int, int, int]] = field(default_factory=set)
    log: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    # What is held for whom.

    @property
    def owed(self) -> int:
        """All that the ledger holds, in wei: whose it is, in escrow, or burned."""
        stakes = sum(p.stake + p.unbonding for p in self.participants)
        credited = sum(t.credits.total() * t.params.credit_unit for t in self.tasks)
        deposits = sum(seat.deposit + seat.held for t in self.tasks for seat in t.seats)
        bonds = sum(d.held for d in self.disputes)
        escrows = sum(t.escrow + t.seal_held for t in self.tasks)
        return self.balances.total() + stakes + credited + deposits + bonds + escrows + self.burned

    def reputation(self, publisher: str, participant: int) -> int:
        return self.evidence.get((publisher, participant), Evidence()).reputation

    def locks(self, participant: int) -> int:
        """Return on how many juries of open disputes a participant sits."""
        return sum(jury.members.count(participant) for d in self.disputes if d.is_open for jury in d.juries)

    def undrawn(self, task: int) -> int:
        """How many juries of a task, and scorers among its verifiers, are still to be drawn or to be given up."""
        scoring = self.tasks[task - 1].scoring if 1 <= task <= len(self.tasks) else None
        waiting = scoring is not None and scoring.pool > 0 and not scoring.is_drawn
        return sum(d.awaits_draw for d in self.disputes if d.task == task) + waiting

    # Who judges.

    def is_listed(self, i: int) -> bool:
        return i in self.verifiers and not self.verifiers[i].left_block

    def is_serving(self, i: int) -> bool:
        return self.is_listed(i) and self.participants[i].stake >= self.terms.min_verifier_stake

    def served(self, task: int, i: int, time: int, block: int) -> bool:
        """Whether who has a place served a task at a time, since before a block, and still in the one before it."""
        place, v, p = self.places[task, i], self.verifiers[i], self.participants[i]
        if place.since_block < v.since_block:
            # It has left since it took its place, and come back.
            return False
        came = place.since <= time
        before = max(place.since_block, v.since_block) < block
        stayed = all(left == 0 or left >= block for left in (place.left_block, v.left_block))
        return came and before and stayed and p.stake + p.unbonding >= self.terms.min_verifier_stake

    def serving(self, task: int, time: int, block: int) -> int:
        """Count who served a task, up to as many as are needed."""
        looked = self.pools.get(task, [])[:LOOKS]
        return min(self.terms.least_pool, sum(self.served(task, i, time, block) for i in looked))

    def has_judges(self, task: int, number: int = 0) -> bool:
        """Whether enough served a task when its round was opened, and still do; of no round: whether enough do now."""
        time = self.tasks[task - 1].rounds[number - 1].opened if number else self.now
        return self.serving(task, time, self.block + 1) == self.terms.least_pool

    def of_signer(self, signer: str) -> int | None:
        """Return the participant whose present signer this is."""
        i = self.signers.get(signer)
        return i if i is not None and self.participants[i].signer == signer else None

    def of_owner(self, owner: str) -> int | None:
        return next((i for i, p in enumerate(self.participants) if p.owner == owner), None)

    def of_sender(self, sender: str) -> int:
        """Return the participant that an account owns or else signs for."""
        owned = self.of_owner(sender)
        i = self.of_signer(sender) if owned is None else owned
        refuse((i is None, "NotRegistered", sender))
        assert i is not None
        return i

    # When.

    def phase(self, task: Task) -> Phase:
        if task.finished:
            return Phase.FINISHED
        if task.rounds:
            return self.round_phase(task, task.rounds[-1])
        enrolling = self.now < task.enrol_deadline or task.lacks_participants
        return Phase.ENROLLING if enrolling else Phase.IDLE

    def round_phase(self, task: Task, r: Round) -> Phase:
        """Return where a round is: a phase ends at its deadline or as soon as all have acted."""
        p = task.params
        if r.status is RoundStatus.PROPOSED:
            if r.disputes:
                return Phase.DISPUTED
            return Phase.CHALLENGING if self.window_open(task, r) else Phase.SETTLEABLE
        if r.status is not RoundStatus.OPEN:
            return Phase.IDLE
        if not r.commits_closed and self.now < r.opened + p.commit_period:
            return Phase.COMMITTING
        if self.now < r.commits_closed:
            return Phase.ADMITTING
        if p.batched and not r.commits_closed:
            return Phase.CLOSING if self.now < self.commits_end(task, r) else Phase.OVERDUE
        if r.committed < p.quorum:
            return Phase.OVERDUE
        if self.now >= self.proposal_due(task, r) + self.all_turns(task):
            return Phase.OVERDUE
        scoring = self.scoring_of(task, r)
        if scoring is not None and not scoring.tallied:
            return Phase.SCORING
        return Phase.REVEALING if self.now < self.reveals_end(task, r) else Phase.PROPOSING

    def scoring_of(self, task: Task, r: Round) -> Scoring | None:
        """Return how a round is scored, once its scorers have been called, and as long as that is kept."""
        known = task.scoring
        return known if known is not None and task.rounds[known.number - 1] is r else None

    def proposal_due(self, task: Task, r: Round) -> int:
        """Return since when a proposal is due: the end of the reveals, or of the scores."""
        scoring = self.scoring_of(task, r)
        return self.reveals_end(task, r) if scoring is None else scoring.called + 2 * task.params.score_period

    def window_open(self, task: Task, r: Round) -> bool:
        """Whether a proposal may still be challenged; where there are penalties, also so many blocks long."""
        blocks = self.blocks_of_window(task)
        return self.now < r.proposed + task.params.challenge_window or self.block < r.proposed_block + blocks

    def blocks_of_window(self, task: Task) -> int:
        return self.terms.least_window_blocks if task.params.penalty or task.params.check_penalty else 0

    def all_turns(self, task: Task) -> int:
        """Return for how long a task's aggregators have their turns."""
        return len(task.seats) * task.params.propose_period

    def commits_end(self, task: Task, r: Round) -> int:
        """Return when reveals begin, as far as is known; each aggregator has its turn to post a root."""
        deadline = r.opened + task.params.commit_period
        return r.commits_closed or deadline + (self.all_turns(task) if task.params.batched else 0)

    def reveals_end(self, task: Task, r: Round) -> int:
        return self.commits_end(task, r) + (task.params.reveal_period if r.committed else 0)

    def opening_due(self, task: Task) -> int:
        """Return since when the next round could have been opened."""
        return max(task.last_final, task.rounds[-1].proposed) if task.rounds else task.enrol_deadline

    def due(self, task: Task) -> int:
        """Return since when an aggregator has something to do."""
        if not task.of(RoundStatus.OPEN):
            return self.opening_due(task)
        r = task.rounds[-1]
        unrooted = task.params.batched and not r.commits_closed
        return r.opened + task.params.commit_period if unrooted else self.proposal_due(task, r)

    def idle_until(self, task: Task) -> int:
        """Return when at the latest something must have happened, or anybody may end a task."""
        since = task.last_final if task.rounds else task.enrol_deadline
        return since + task.params.enrol_period + self.all_turns(task)

    def settleable(self, task: Task) -> int:
        """Return the round that can be settled now; 0: none."""
        number = task.final + 1
        ready = number <= len(task.rounds) and self.settlement_faults(task, number) == []
        return number if ready else 0

    # Balances.

    def deposit(self, sender: str, value: int, currency: str, amount: int) -> None:
        expected = amount if currency == COIN else 0
        refuse((value != expected, "WrongValue", expected, value))
        self.wallets[sender] -= value
        self.balances[sender] += value
        self.emit("Deposited", sender, currency, amount)

    def withdraw(self, sender: str, value: int, currency: str, to: str) -> None:
        amount = self.balances[sender] if currency == COIN else 0
        refuse(
            (to == NOBODY, "ZeroAddress"),
            (amount == 0, "NothingToWithdraw", sender),
            (to in self.refusing, "TransferFailed", to, amount),
        )
        self.balances[sender] = 0
        self.wallets[to] += amount
        self.emit("Withdrawn", sender, currency, to, amount)

    # Participants.

    def register(self, sender: str, value: int, signer: str, payout: str, stake: int) -> None:
        known = self.of_owner(sender)
        refuse(
            (NOBODY in (signer, payout), "ZeroAddress"),
            (stake < self.terms.min_stake, "StakeTooSmall", stake, self.terms.min_stake),
            (known is not None and self.participants[known].since, "AlreadyRegistered", sender),
            self.unsuitable(sender, known, signer),
            self.lacks(sender, value, stake),
        )
        found = Participant(sender, signer, payout, stake, self.now)
        if known is None:
            known = len(self.participants)
            self.participants.append(found)
        self.name_signer(known, signer)
        self.participants[known] = found
        self.emit("ParticipantRegistered", known, sender, signer, payout)
        self.take(sender, value, stake)
        self.emit("StakeAdded", known, stake, stake)

    def add_stake(self, sender: str, value: int, amount: int) -> None:
        i, p = self.present(sender)
        refuse((p.leaves, "AlreadyExiting", i), self.lacks(sender, value, amount))
        self.take(sender, value, amount)
        p.stake += amount
        self.emit("StakeAdded", i, amount, p.stake)

    def agree_to_sign(self, sender: str, value: int, owner: str) -> None:
        self.agreed[sender] = owner
        self.emit("SigningAgreed", sender, owner)

    def rotate_signer(self, sender: str, value: int, signer: str) -> None:
        refuse((signer == NOBODY, "ZeroAddress"))
        i, _ = self.present(sender)
        refuse(self.unsuitable(sender, i, signer))
        self.name_signer(i, signer)
        self.emit("SignerRotated", i, signer)

    def name_signer(self, i: int, signer: str) -> None:
        """Make an address a participant's signer; what another one signs from now on is not the participant's."""
        p = self.participants[i]
        if self.signers.get(signer) == i and p.signer == signer:
            return
        if p.signer in self.keys and p.signer != signer:
            self.keys[p.signer] = self.keys[p.signer][0], self.now
        # Who takes a key back answers for it as if it had kept it.
        since, _ = self.keys.get(signer, (self.now, 0))
        self.keys[signer] = since, 0
        p.signer = signer
        self.signers[signer] = i

    def set_payout(self, sender: str, value: int, payout: str) -> None:
        refuse((payout == NOBODY, "ZeroAddress"))
        i, p = self.present(sender)
        p.payout = payout
        self.emit("PayoutSet", i, payout)

    def request_exit(self, sender: str, value: int) -> None:
        i, p = self.present(sender)
        refuse((p.leaves, "AlreadyExiting", i))
        p.leaves = self.now + self.terms.exit_delay
        p.stake, p.unbonding = 0, p.stake
        self.emit("ExitRequested", i, p.leaves)
        self.end_service(i)

    def cancel_exit(self, sender: str, value: int) -> None:
        i, p = self.leaving(sender)
        p.leaves = 0
        p.stake, p.unbonding = p.unbonding, 0
        self.emit("ExitCancelled", i)

    def complete_exit(self, sender: str, value: int) -> None:
        i, p = self.leaving(sender)
        locks = self.locks(i)
        refuse((self.now < p.leaves, "ExitNotDue", p.leaves), (locks, "StakeLocked", i, locks))
        self.emit("ExitCompleted", i, p.unbonding)
        self.credit(sender, p.unbonding)
        p.unbonding = p.since = p.leaves = 0

    def end_service(self, i: int) -> None:
        """End a participant's service as a verifier, if it is one; it keeps its places."""
        if self.is_listed(i):
            self.verifiers[i].left, self.verifiers[i].left_block = self.now, self.block
            self.emit("VerifierRetired", i)

    def announce(self, sender: str, value: int, url: str) -> None:
        self.emit("EndpointAnnounced", sender, url)

    def adopt_evidence(self, sender: str, value: int, ids: tuple[int, ...]) -> None:
        refuse((self.terms.predecessor == NOBODY, "NoPredecessor"))
        adopted: list[tuple[int, int, int]] = []
        for i in ids:
            refuse((i >= len(self.participants), "UnknownParticipant", i))
            again = any(i == other and lane for other, _, lane in adopted)
            known = again or self.evidence.get((sender, i), Evidence()) != Evidence()
            refuse((known, "EvidenceKnown", sender, i))
            owner = self.participants[i].owner
            refuse(((sender, owner) not in self.past, "NotRegistered", owner))
            adopted.append((i, *self.past[sender, owner]))
        for i, known_as, lane in adopted:
            self.evidence[sender, i] = Evidence.unpack(lane)
            self.emit("EvidenceAdopted", sender, i, known_as, lane)

    # Tasks.

    def set_paused(self, sender: str, value: int, paused: bool) -> None:
        refuse((sender != self.terms.guardian, "NotGuardian", sender))
        self.paused = paused
        self.emit("Paused", paused)

    def post_task(self, sender: str, value: int, params: Params, standbys: tuple[str, ...]) -> None:
        holders = params.aggregator, *standbys
        in_coin = params.token == COIN
        funds = self.balances[sender] + value if in_coin else 0
        refuse(
            (self.paused, "NewTasksPaused"),
            *params.faults(self.terms),
            *self.late(params, len(holders)),
            (len(holders) > MOST_SEATS or len(set(holders)) < len(holders), *invalid("standbys")),
            (NOBODY in holders, "ZeroAddress"),
            *self.unfunded(sender, funds, self.balances[sender] + value, params),
        )
        self.take(sender, value, params.budget)
        self.debit(sender, params.seal_deposit)
        seats = [Seat(holder) for holder in holders]
        self.tasks.append(Task(sender, params, self.now, seats, last_final=self.now, seal_held=params.seal_deposit))
        deadline = self.tasks[-1].enrol_deadline
        self.emit("TaskPosted", len(self.tasks), sender, params.record, standbys, deadline, VERSION)

    def unfunded(self, sender: str, funds: int, coin: int, params: Params) -> Iterator[Fault]:
        """Yield what a publisher cannot pay: the budget of its funds in the task's currency, the deposit in coin."""
        yield funds < params.budget, "InsufficientBalance", sender, funds, params.budget
        left, deposit = coin - params.budget, params.seal_deposit
        yield 0 <= left < deposit, "InsufficientBalance", sender, left, deposit

    def late(self, params: Params, seats: int) -> Iterator[Fault]:
        """Whoever does wrong in a round must not have its stake back before it is found out."""
        if not params.challenge_window:
            return
        turns = (3 if params.scorers else 2) * seats * params.propose_period
        lasts = params.commit_period + params.grace_period + params.reveal_period + 2 * params.score_period + turns
        windows = params.max_unfinal * params.challenge_window
        dispute = DISPUTE_PERIODS * (1 + self.terms.appeals) * self.terms.dispute_period
        least = lasts + windows + dispute + CHECK_PERIODS * params.check_period
        yield least > self.terms.exit_delay, "ExitDelayTooShort", self.terms.exit_delay, least

    def take_seat(self, sender: str, value: int, task: int) -> None:
        t = self.running(task)
        place = seat_of(t, sender)
        refuse((place is None, "NotAggregator", sender))
        assert place is not None
        seat, bond = t.seats[place], t.params.bond
        refuse(self.lacks(sender, value, bond - seat.deposit))
        self.take(sender, value, bond - seat.deposit)
        seat.deposit = bond
        self.emit("SeatTaken", task, place, sender, bond)

    def enrol(self, sender: str, value: int, task: int) -> None:
        t = self.running(task)
        least = t.params.min_reputation
        refuse((least and t.params.recommenders != ZERO, "WrongList", t.params.recommenders, ZERO))
        i = self.of_sender(sender)
        self.let_in(t, i, self.reputation(t.publisher, i))

    def enrol_recommended(self, sender: str, value: int, task: int, recommenders: tuple[str, ...]) -> None:
        t = self.running(task)
        self.require_recommenders(t, recommenders)
        i = self.of_sender(sender)
        everybody = (t.publisher, *recommenders)
        refuse((len(set(everybody)) < len(everybody), *invalid("recommenders")))
        known = [self.evidence.get((publisher, i), Evidence()) for publisher in everybody]
        self.let_in(t, i, opinion_with(known[0], known[1:], t.params.recommender_trust).reputation)

    def require_recommenders(self, t: Task, recommenders: tuple[str, ...]) -> None:
        found = recommenders_hash(recommenders)
        refuse((found != t.params.recommenders, "WrongList", t.params.recommenders, found))

    def let_in(self, t: Task, i: int, reputation: int) -> None:
        """Enrol a participant with this reputation."""
        task, again = self.number_of(t), t.back.get(i, 0)
        over = self.now >= t.enrol_deadline
        closed = not t.params.open_enrolment and (t.rounds or (over and not t.lacks_participants))
        refuse(
            (closed, "EnrolmentClosed", task),
            (again > len(t.rounds) and not t.lacks_participants, "TooEarlyToReturn", i, again),
            (len(t.enrolled) == t.params.max_participants, "TaskFull", task),
            *self.unstaked(t, i),
            (reputation < t.params.min_reputation, "ReputationTooLow", reputation, t.params.min_reputation),
            (i in t.enrolled, "AlreadyEnrolled", task, i),
        )
        t.enrolled.add(i)
        if over and len(t.enrolled) == t.params.min_participants and t.refilled <= len(t.rounds):
            # As if the time for it had only ended now.
            t.completed = t.last_final = self.now
            t.refilled = len(t.rounds) + 1
        self.emit("Enrolled", task, i)

    def leave_task(self, sender: str, value: int, task: int, i: int) -> None:
        t = self.running(task)
        inside = i in t.enrolled
        refuse((not inside, "NotInTask", task, i), (not t.params.open_enrolment, "EnrolmentClosed", task))
        stake = self.participants[i].stake
        if stake >= max(self.terms.min_stake, t.params.min_stake):
            refuse((self.of_sender(sender) != i, "StillEntitled", i))
        t.enrolled.remove(i)
        t.back[i] = len(t.rounds) + 1
        self.emit("TaskLeft", task, i)

    def require_enrolled(
        self, sender: str, value: int, task: int, indices: tuple[int, ...], words: tuple[int, ...]
    ) -> None:
        known = self.tasks[task - 1].enrolled if 1 <= task <= len(self.tasks) else set[int]()
        named = {WORD * k + bit for k, word in zip(indices, words, strict=False) for bit in bits(word)}
        refuse(
            (not 1 <= task <= len(self.tasks), "UnknownTask", task),
            (len(indices) != len(words), "LengthMismatch"),
            (any(a >= b for a, b in pairwise(indices)), "WordsNotAscending"),
            (named != known, "EnrolmentChanged", task),
        )

    def finish_task(self, sender: str, value: int, task: int) -> None:
        t = self.running(task)
        p = t.params
        done = t.stopped or t.counted == p.rounds or self.now > self.idle_until(t)
        too_few = not t.rounds and self.now >= t.enrol_deadline and t.lacks_participants
        hopeless = too_few or t.voids_in_a_row >= VOIDS_TO_FINISH
        allowed = done or (hopeless and sender == t.publisher)
        refuse((t.final < len(t.rounds) or not allowed, "TaskNotFinishable", task))
        refund = t.escrow
        t.finished = self.now
        self.emit("TaskFinished", task, refund)
        self.credit(t.publisher, refund)
        for seat in t.seats:
            self.credit(seat.holder, seat.deposit)
            seat.deposit = 0

    def open_seal(self, sender: str, value: int, task: int, key: bytes) -> None:
        t = self.sealed(task)
        found = keccak(key)
        refuse(
            (not t.finished and sender != t.publisher, "TaskNotFinished", task),
            (found != t.params.seal, "WrongKey", t.params.seal, found),
        )
        held, t.seal_held, t.seal_open = t.seal_held, 0, True
        self.emit("SealOpened", task, key)
        self.credit(t.publisher, held)

    def forfeit_seal(self, sender: str, value: int, task: int) -> None:
        t = self.sealed(task)
        until = t.finished + t.params.seal_period
        refuse(
            (not t.finished, "TaskNotFinished", task),
            (t.finished and self.now < until, "SealPeriodOpen", until),
            (t.seal_forfeited, "SealAlreadyForfeited", task),
        )
        held, t.seal_held, t.seal_forfeited = t.seal_held, 0, True
        self.emit("SealForfeited", task, held)
        self.burn(held)

    def withdraw_credit(self, sender: str, value: int, task: int, participant: int) -> None:
        units = self.tasks[task - 1].credits[participant] if 1 <= task <= len(self.tasks) else 0
        refuse((units == 0, "NoCredit", task, participant))
        t = self.tasks[task - 1]
        payout, amount = self.participants[participant].payout, units * t.params.credit_unit
        refuse((payout in self.refusing, "TransferFailed", payout, amount))
        t.credits[participant] = 0
        t.paid[participant] += units
        self.wallets[payout] += amount
        self.emit("CreditWithdrawn", task, participant, payout, amount)

    # Rounds.

    def open_round(
        self, sender: str, value: int, task: int, number: int, indices: tuple[int, ...], words: tuple[int, ...]
    ) -> None:
        t = self.running(task)
        p, due = t.params, self.opening_due(t)
        named = {WORD * k + bit for k, word in zip(indices, words, strict=False) for bit in bits(word)}
        everybody = not words and not p.open_enrolment
        selected = set(t.enrolled) if everybody else named
        strangers = {i // WORD for i in selected - t.enrolled}
        unfinal = len(t.rounds) - t.final
        enrolled, bidding = len(t.enrolled), t.bids_are_due
        asks = not t.rounds or p.open_enrolment
        early = asks and enrolled < p.max_participants and self.now < t.enrol_deadline
        refuse(
            (number != len(t.rounds) + 1, "WrongRound", number, len(t.rounds) + 1),
            (asks and t.lacks_participants, "TooFewParticipants", enrolled, p.min_participants),
            (early, "EnrolmentOpen", task),
            (t.of(RoundStatus.OPEN), "PreviousRoundOpen", task, len(t.rounds)),
            *self.turn_faults(t, sender, due, forfeits=False),
            (unfinal >= p.max_unfinal, "TooManyUnfinal", task),
            (t.stopped or t.counted + unfinal >= p.rounds, "RoundsExhausted", task),
            (len(indices) != len(words), "LengthMismatch"),
            (0 in words or any(a >= b for a, b in pairwise(indices)), "WordsNotAscending"),
            *((True, "NotEnrolled", k) for k in strangers),
            (len(selected) < p.quorum, "TooFewParticipants", len(selected), p.quorum),
            (bidding and selected != t.enrolled, "TooFewParticipants", len(selected), enrolled),
        )
        self.act(t, sender, due, forfeits=False)
        t.rounds.append(Round(t.latest, self.now, selected, everybody, bidding))
        self.emit("RoundOpened", task, len(t.rounds), t.base_model(len(t.rounds)), indices, words)

    def commit_update(self, sender: str, value: int, task: int, number: int, digest: bytes) -> None:
        t, r = self.open(task, number)
        i, phase = self.of_signer(sender), self.round_phase(t, r)
        refuse(
            (not t.params.batched and phase is not Phase.COMMITTING, "CommitsAreClosed"),
            (t.params.batched and phase is not Phase.ADMITTING, "NotAdmitting"),
            (digest == ZERO, "EmptyCommitment"),
            (i is None, "NotRegistered", sender),
        )
        assert i is not None
        refuse(
            *self.unstaked(t, i),
            (i not in r.selected, "NotSelected", i),
            (i in r.commitments, "AlreadyCommitted", i),
        )
        r.commitments[i] = sender, digest
        self.emit("UpdateCommitted", task, number, i, sender, digest)
        if len(r.commitments) == len(r.selected) and not t.params.batched:
            r.commits_closed = self.now
            self.emit("CommitsClosed", task, number)

    def close_commits(
        self, sender: str, value: int, task: int, number: int, root: bytes, count: int, batch: Ref
    ) -> None:
        t, r = self.open(task, number)
        p, due = t.params, r.opened + t.params.commit_period
        phase, everybody = self.round_phase(t, r), count == len(r.selected)
        refuse(
            (not p.batched, "NotBatched", task),
            *self.turn_faults(t, sender, due),
            (count > len(r.selected), "WrongCount", count, len(r.selected)),
            (phase is Phase.COMMITTING and not everybody, "CommitsAreOpen"),
            (phase not in (Phase.COMMITTING, Phase.CLOSING), "NotClosing"),
        )
        self.act(t, sender, due)
        r.commits_closed = self.now + (0 if everybody else p.grace_period)
        r.root, r.rooted, r.complete = root, count, everybody
        self.emit("CommitsRooted", task, number, root, count, batch)

    def reveal_update(
        self, sender: str, value: int, task: int, number: int, update: Ref, salt: bytes, proof: tuple[bytes, ...]
    ) -> None:
        i = self.reveal(sender, task, number, 0, update, salt, proof)
        self.emit("UpdateRevealed", task, number, i, *update, salt)

    def reveal_stale_update(
        self,
        sender: str,
        value: int,
        task: int,
        number: int,
        staleness: int,
        update: Ref,
        salt: bytes,
        proof: tuple[bytes, ...],
    ) -> None:
        i = self.reveal(sender, task, number, staleness, update, salt, proof)
        base = self.tasks[task - 1].way(number)[staleness]
        self.emit("StaleUpdateRevealed", task, number, i, *update, salt, staleness, base)

    def reveal(
        self, sender: str, task: int, number: int, staleness: int, update: Ref, salt: bytes, proof: tuple[bytes, ...]
    ) -> int:
        """Open a commitment to an update that is relative to the model so many steps back; return whose it was."""
        t, r = self.in_flight(task, number)
        batched, proposed = t.params.batched, r.status is RoundStatus.PROPOSED
        i, most, there = self.signers.get(sender), t.params.max_staleness, len(t.way(number)) - 1
        # Also of a root that is said to be of nobody.
        over = not self.window_open(t, r) if proposed else self.now >= self.commits_end(t, r) + t.params.reveal_period
        untimely: list[Fault] = [
            (proposed and not batched, "RoundNotOpen", task, number),
            (not proposed and self.now < self.commits_end(t, r), "CommitsAreOpen"),
            (not proposed and batched and not r.commits_closed, "CommitsAreOpen"),
            (self.now < r.commits_closed, "StillAdmitting", r.commits_closed),
            (over, "RevealsAreClosed"),
            (i is None, "NotRegistered", sender),
            (staleness > most, "TooStale", staleness, most),
            (staleness > there, "TooStale", staleness, there),
        ]
        if i is None or staleness > min(most, there):
            raise Refused(named(untimely))
        found = self.commitment(task, number, sender, update, salt, staleness)
        author, kept = r.commitments.get(i, (NOBODY, ZERO))
        # Of a batched round a commitment stays whoever sent it, but who did is known only until the next one.
        sent = author == sender and not any(i in later.commitments for later in t.rounds[number:])
        rooted = batched and i in r.selected and r.root != EMPTY_ROOT and verify(r.root, leaf(i, found), proof)
        unknown = not rooted and not ((batched or sent) and kept[:24] == found[:24])
        refuse(
            *untimely,
            (unknown and batched and i not in r.selected, "NotSelected", i),
            (unknown and not sent, "NotCommitted", i),
            (unknown and sent, "WrongReveal", kept[:24] + bytes(8), found),
            (i in r.salts, "AlreadyRevealed", i),
        )
        r.salts[i] = salt
        return i

    def propose_round(
        self, sender: str, value: int, task: int, number: int, outcome: Outcome, updates: Updates
    ) -> None:
        t, r = self.open(task, number)
        p, due, phase = t.params, self.proposal_due(t, r), self.round_phase(t, r)
        scoring = self.scoring_of(t, r)
        listed = scoring.present if scoring is not None else set[int]()
        scored = p.scorers > 0 and not r.bidding
        shown = listed if p.batched and scored else set(r.salts)
        count, present = len(updates.refs), len(outcome.delivered)
        found = updates.hash if p.batched else ZERO
        judged = sum(verdict is not Verdict.NONE for verdict in outcome.verdicts.values())
        units, empty = sum(outcome.shares.values()), present < p.quorum
        limit = 0 if empty or r.bidding else t.payable
        unearned = [i for i, n in outcome.shares.items() if n and outcome.verdict(i) is not Verdict.ACCEPTED]
        refuse(
            *self.turn_faults(t, sender, due),
            (updates.more, "LengthMismatch"),
            (outcome.updates != found or (count and not p.batched), "WrongUpdates", outcome.updates, found),
            (phase in (Phase.COMMITTING, Phase.CLOSING), "CommitsAreOpen"),
            (p.batched and not r.commits_closed, "CommitsAreOpen"),
            (phase is Phase.ADMITTING, "StillAdmitting", r.commits_closed),
            (present > r.committed, "WrongCount", present, r.committed),
            (self.reveals_run(t, r) and Verdict.LATE in outcome.verdicts.values(), "RevealsAreOpen"),
            (phase is Phase.OVERDUE, "ProposalOverdue"),
            (
                limit == 0 and (outcome.stop or outcome.model[0] != t.base_model(number)),
                "BelowQuorum",
                present,
                p.quorum,
            ),
            (outcome.flaw, FLAWS.get(outcome.flaw or "")),
            (scored and (scoring is None or not scoring.tallied), "NotTallied", task, number),
            *self.unlike_scored(p, scoring, outcome),
            *misjudged(r, outcome, p.batched and not scored, shown, p.batched),
            *((True, "PayWithoutAcceptance", i) for i in unearned),
            (p.batched and count != present, "WrongCount", count, present),
            (judged != len(r.selected), "NotEverybodyJudged", judged, len(r.selected)),
            (units > limit, "PayOverBudget", units, limit),
        )
        r.seat = self.act(t, sender, due)
        r.outcome, r.proposed, r.status, r.empty = outcome, self.now, RoundStatus.PROPOSED, empty
        r.proposed_block = self.block
        base = t.base_model(number)
        if p.batched:
            self.emit("BatchProposed", task, number, sender, outcome.proposal, base)
        else:
            self.emit("RoundProposed", task, number, sender, outcome.proposal, *map(tuple, outcome.words), base)

    def unlike_scored(self, p: Params, scoring: Scoring | None, outcome: Outcome) -> Iterator[Fault]:
        """Yield that other updates are proposed than were scored."""
        if p.batched and scoring is not None:
            yield scoring.updates != outcome.updates, "WrongUpdates", scoring.updates, outcome.updates

    def settle_round(self, sender: str, value: int, task: int, number: int, outcome: Outcome, limit: int) -> None:
        t = self.running(task)
        refuse(*self.settlement_faults(t, number))
        r = t.rounds[number - 1]
        assert r.outcome is not None
        refuse((outcome.hash != r.outcome.hash, "WrongProposal", r.outcome.hash, outcome.hash))
        slots = r.outcome.slots[r.applied : r.applied + limit]
        costs = [(i, offence, cost) for slot in slots for i in slot for offence, cost in self.apply(t, r, i) if cost]
        # Where too few could judge the round when it was opened, and still can, nobody is punished.
        if self.serving(task, r.opened, self.block + 1) < self.terms.least_pool:
            costs = []
        self.burn(sum(self.slash(i, cost, task, number, offence) for i, offence, cost in costs))
        for slot in slots:
            t.credits.update({i: r.outcome.shares.get(i, 0) for i in slot})
        r.applied = min(r.applied + limit, len(r.outcome.slots))
        if r.applied < len(r.outcome.slots):
            self.emit("SettlementAdvanced", task, number, r.applied)
            return
        before, due = t.final, max(r.proposed + t.params.challenge_window, t.last_final)
        # Nobody is late with what has waited for blocks, as long as it waited.
        waits = self.block < r.proposed_block + 2 * self.blocks_of_window(t)
        due = self.now if waits else due
        r.status = RoundStatus.SETTLED
        # What was heard brings the task no further, and is no void either.
        t.endings += [not r.empty] if r.empty or not r.bidding else []
        self.emit("RoundSettled", task, number, t.spent)
        self.finalise(t, before)
        self.pay_bounty(t, sender, due)

    def void_round(self, sender: str, value: int, task: int, number: int) -> None:
        t, r = self.open(task, number)
        refuse((self.round_phase(t, r) is not Phase.OVERDUE, "NotOverdue", task, number))
        unrooted = t.params.batched and not r.commits_closed
        if unrooted or r.committed >= t.params.quorum:
            # Who did not post a root cannot be asked to stand for it.
            silent = [t.active] if t.params.batched and not unrooted else range(len(t.seats))
            lost = sum(self.charge(t, place) for place in silent)
            self.credit(sender, lost // VOID_REWARD)
            self.burn(lost - lost // VOID_REWARD)
        else:
            self.pay_bounty(t, sender, self.reveals_end(t, r))
            self.pass_turn(t)
        t.endings.append(False)
        self.void(t, number, number)

    def multicall(self, sender: str, value: int, calls: Calls) -> None:
        before = deepcopy(vars(self))
        try:
            for call in calls.calls:
                call.on(self, sender)
        except Refused:
            vars(self).update(before)
            raise

    def commitment(self, task: int, number: int, sender: str, update: Ref, salt: bytes, staleness: int = 0) -> bytes:
        """Return the commitment to an update of an existing round, relative to the model so many steps back."""
        base = self.tasks[task - 1].way(number)[staleness]
        return _commitment((self.chain_id, self.address, task), number, sender, base, ContentRef(*update), salt)

    # Money that moves.

    def emit(self, name: str, *arguments: Any) -> None:
        self.log.append((name, arguments))

    def lacks(self, sender: str, value: int, amount: int) -> Fault:
        """Return the fault of a sender that cannot pay from its balance and what it sends along."""
        funds = self.balances[sender] + value
        return funds < amount, "InsufficientBalance", sender, funds, amount

    def take(self, sender: str, value: int, amount: int) -> None:
        """Take an amount from a sender's balance, to which what it sends along is added first."""
        self.wallets[sender] -= value
        self.credit(sender, value)
        self.debit(sender, amount)

    def credit(self, account: str, amount: int) -> None:
        if amount:
            self.balances[account] += amount
            self.emit("BalanceCredited", account, COIN, amount)

    def debit(self, account: str, amount: int) -> None:
        if amount:
            self.balances[account] -= amount
            self.emit("BalanceDebited", account, COIN, amount)

    def burn(self, amount: int) -> None:
        if amount:
            self.burned += amount
            self.emit("Burned", amount)

    def slash(self, participant: int, amount: int, task: int, number: int, offence: int) -> int:
        """Take up to an amount of a stake, then of what of it is about to leave; return what was taken."""
        p = self.participants[participant]
        staked = min(amount, p.stake)
        unbonding = min(amount - staked, p.unbonding)
        p.stake -= staked
        p.unbonding -= unbonding
        self.emit("Slashed", participant, task, number, offence, staked + unbonding)
        return staked + unbonding

    def charge(self, t: Task, place: int, most: int | None = None) -> int:
        """Take up to an amount of a seat's deposit, or all of it; return what was taken."""
        seat = t.seats[place]
        taken = seat.deposit if most is None else min(most, seat.deposit)
        seat.deposit -= taken
        if taken:
            self.emit("SeatCharged", self.number_of(t), place, seat.holder, taken)
        return taken

    def pay_bounty(self, t: Task, sender: str, due: int) -> None:
        """Pay for what the active aggregator should have done a propose period ago."""
        if self.now >= due + t.params.propose_period and sender != t.seats[t.active].holder:
            self.credit(sender, self.charge(t, t.active, t.params.bond // BOUNTY))

    # Turns.

    def turn(self, t: Task, sender: str) -> int | None:
        """Return how many seats come before a sender's own, counted from the active one."""
        place = seat_of(t, sender)
        return None if place is None else (place - t.active) % len(t.seats)

    def missed(self, t: Task, turn: int) -> list[int]:
        """Return the seats that come before a turn."""
        return [(t.active + k) % len(t.seats) for k in range(turn)]

    def turn_faults(self, t: Task, sender: str, due: int, forfeits: bool = True) -> Iterator[Fault]:
        """Yield why a sender may not act on what is due since then."""
        turn = self.turn(t, sender)
        yield turn is None, "NotAggregator", sender
        if turn is None:
            return
        since = due + turn * t.params.propose_period
        yield turn > 0 and self.now < since, "NotYourTurn", since
        won = sum(t.seats[place].deposit for place in self.missed(t, turn)) // 2 if forfeits else 0
        seat = t.seats[(t.active + turn) % len(t.seats)]
        yield self.lacks(sender, won, t.params.bond - seat.deposit)

    def act(self, t: Task, sender: str, due: int, forfeits: bool = True) -> int:
        """Let a sender have its turn, with its whole bond deposited; return its seat."""
        turn, task = self.turn(t, sender), self.number_of(t)
        assert turn is not None
        missed, place = self.missed(t, turn), (t.active + turn) % len(t.seats)
        if turn:
            t.active = place
            self.emit("TurnTaken", task, place, sender)
            if forfeits:
                lost = sum(self.charge(t, other) for other in missed)
                self.credit(sender, lost // 2)
                self.burn(lost - lost // 2)
        seat, bond = t.seats[place], t.params.bond
        if seat.deposit < bond:
            self.debit(sender, bond - seat.deposit)
            seat.deposit = bond
            self.emit("SeatTaken", task, place, sender, bond)
        return place

    def pass_turn(self, t: Task) -> None:
        if len(t.seats) > 1:
            t.active = (t.active + 1) % len(t.seats)
            self.emit("TurnTaken", self.number_of(t), t.active, t.seats[t.active].holder)

    # How rounds end.

    def settlement_faults(self, t: Task, number: int) -> list[Fault]:
        """Return why a round cannot be settled now."""
        task = self.number_of(t)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        if r is None or r.status is not RoundStatus.PROPOSED:
            return [(True, "NotProposed", task, number)]
        until = r.proposed + t.params.challenge_window
        faults: list[Fault] = [
            (number != t.final + 1, "WrongRound", number, t.final + 1),
            (self.window_open(t, r), "WindowOpen", until),
            (r.disputes, "DisputesOpen", r.disputes),
        ]
        return [fault for fault in faults if fault[0]]

    def apply(self, t: Task, r: Round, i: int) -> Iterator[tuple[int, int]]:
        """Let a verdict change a participant's evidence; yield the offence and what it costs.

        Who has shown since that it was not late was absent all the same, and that is all.
        """
        assert r.outcome is not None
        verdict = r.outcome.verdict(i)
        if verdict in (Verdict.NONE, Verdict.HEARD):
            return
        self.judged_on[t.publisher, i] = self.now // DAY
        evidence = self.evidence[t.publisher, i] = self.evidence.get((t.publisher, i), Evidence()).after(verdict)
        if verdict is Verdict.LATE and i in r.salts:
            return
        offence = NEVER_REVEALED if verdict is Verdict.LATE else REPEATED_REFUSAL if verdict >= 32 else GARBAGE_SENT
        yield offence, t.params.penalties.cost(verdict, evidence)

    def void(self, t: Task, first: int, last: int) -> None:
        """Void rounds; who worked on them loses nothing by it."""
        before = t.final
        for number in range(first, last + 1):
            if t.rounds[number - 1].status is not RoundStatus.VOIDED:
                t.rounds[number - 1].status = RoundStatus.VOIDED
                self.emit("RoundVoided", self.number_of(t), number)
        self.finalise(t, before)

    def finalise(self, t: Task, before: int) -> None:
        """Count the rounds that have become final; each moves the beacon."""
        t.last_final = self.now
        for number in range(before + 1, t.final + 1):
            if t.params.randomness != BEACON:
                continue
            mixed = 0
            for i, salt in t.rounds[number - 1].salts.items():
                mixed ^= int.from_bytes(keccak(encode(["uint32", "bytes32"], [i, salt])), "big")
            t.beacon = keccak(t.beacon + mixed.to_bytes(32, "big"))
            self.emit("BeaconAdvanced", self.number_of(t), number, t.beacon)

    def reveals_run(self, t: Task, r: Round) -> bool:
        return self.commits_end(t, r) <= self.now < self.reveals_end(t, r)

    # Who and what.

    def present(self, owner: str) -> tuple[int, Participant]:
        i = self.of_owner(owner)
        if i is None or not self.participants[i].since:
            raise Refused({("NotRegistered", (owner,))})
        return i, self.participants[i]

    def leaving(self, owner: str) -> tuple[int, Participant]:
        i, p = self.present(owner)
        refuse((not p.leaves, "NotExiting", i))
        return i, p

    def unsuitable(self, owner: str, i: int | None, signer: str) -> Fault:
        """Return the fault of a signer that is another's, or new and did not agree."""
        if signer in self.signers:
            return self.signers[signer] != i, "SignerTaken", signer
        return signer != owner and self.agreed.get(signer) != owner, "SignerUnwilling", signer

    def unstaked(self, t: Task, i: int) -> Iterator[Fault]:
        stake = self.participants[i].stake
        yield stake < self.terms.min_stake, "NotActive", i
        yield stake < t.params.min_stake, "StakeTooSmall", stake, t.params.min_stake

    def number_of(self, t: Task) -> int:
        return next(number for number, other in enumerate(self.tasks, 1) if other is t)

    def posted(self, task: int) -> Task:
        refuse((not 1 <= task <= len(self.tasks), "UnknownTask", task))
        return self.tasks[task - 1]

    def running(self, task: int) -> Task:
        t = self.posted(task)
        refuse((t.finished, "TaskAlreadyFinished", task))
        return t

    def sealed(self, task: int) -> Task:
        t = self.posted(task)
        refuse((t.params.seal == ZERO, "NotSealed", task), (t.seal_open, "SealAlreadyOpen", task))
        return t

    def open(self, task: int, number: int) -> tuple[Task, Round]:
        t, r = self.in_flight(task, number)
        refuse((r.status is not RoundStatus.OPEN, "RoundNotOpen", task, number))
        return t, r

    def in_flight(self, task: int, number: int) -> tuple[Task, Round]:
        t = self.tasks[task - 1] if 1 <= task <= len(self.tasks) else None
        r = t.rounds[number - 1] if t and 1 <= number <= len(t.rounds) else None
        if t is None or r is None or r.status not in (RoundStatus.OPEN, RoundStatus.PROPOSED):
            raise Refused({("RoundNotOpen", (task, number))})
        return t, r


def bits(word: int) -> Iterator[int]:
    """Return the places of a word's set bits."""
    return (place for place in range(word.bit_length()) if word >> place & 1)


def seat_of(t: Task, sender: str) -> int | None:
    return next((place for place, seat in enumerate(t.seats) if seat.holder == sender), None)


def misjudged(r: Round, outcome: Outcome, more: bool, shown: set[int], batched: bool) -> Iterator[Fault]:
    """Yield what contradicts the ledger, which knows that the updates of some were shown.

    Of a batched round it knows only what was done on chain; ``more`` may be there than was shown.
    """
    for slot in outcome.slots:
        nothing = all(outcome.verdict(i) is Verdict.NONE for i in slot)
        yield nothing, "WrongVerdict", slot[0] // LANES * LANES, 0
    for i in outcome.covered:
        verdict = outcome.verdict(i)
        committed, revealed = i in r.commitments, i in shown
        if i not in r.selected:
            follows = verdict is Verdict.NONE
        elif has_update(verdict):
            follows = verdict is not (Verdict.ACCEPTED if r.bidding else Verdict.HEARD)
            follows = follows and (more or revealed) and (verdict is not Verdict.OUTVOTED or i in r.outvoted)
            follows = follows and not (verdict is Verdict.ACCEPTED and i in r.outvoted)
        elif verdict is Verdict.LATE:
            follows = not revealed and (batched or committed)
        else:
            follows = verdict is Verdict.MISSED and not revealed and not committed
        yield not follows, "WrongVerdict", i, int(verdict)
