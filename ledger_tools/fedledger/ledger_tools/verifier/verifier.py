"""The verifier: replays what is proposed, objects to what does not follow, and serves on juries.

It asks the ledger where things are. What it keeps in memory are replays, which it can make again; its votes' salts
follow from its key, and a vote is in the journal before it is committed to. So it may be killed at any time.

A vote says that the whole round was replayed, measurements included. Who cannot do that, because the model comes from
code that it does not trust or because its release lacks a method, abstains, although silence costs the juror's penalty.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.driver import Waits
from fedledger.aggregator.round.batches import place_of
from fedledger.aggregator.round.measurer import Measurer
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.court import LEAST_POOL, MAX_LEVEL
from fedledger.contracts.ledger.dispute_history import DisputeHistory, JuryHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import COIN, DisputeKind, DisputeStatus, JuryRecord, Settings
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.divergence import DivergenceError
from fedledger.ledger_tools.audit.replay import (
    MissingContentError,
    OutageError,
    Replay,
    content,
    live_measure,
    read_terms,
    refused,
    replay_round,
)
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import (
    ChainError,
    ConfigError,
    ContentCorruptError,
    ContentUnavailableError,
    FedledgerError,
    StoreError,
)
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment
from fedledger.protocol.records.signatures import Place, commitment_message, recover, vote_salt
from fedledger.protocol.records.spec import Ref, TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import Name, write_atomically

log = logging.getLogger(__name__)

RACES = frozenset(
    {
        *("AlreadyRegistered", "AlreadyServing", "NotChallengeable", "AlreadyChallenged", "TooFewVerifiers"),
        *("NotInTime", "DisputeIsClosed", "NotProposed", "AlreadyVoted", "NotJuror", "NoHigherJury", "NotRefuted"),
        *("AlreadyPunished", "TooManyDisputes", "InsufficientBalance"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction."""
PATIENCE = 60.0
COURTESY = 15.0
SPARE_GAS = 5_000_000
"""Gas whose price an account keeps when it lays down a bond: the dispute must be brought to its end."""


class Duty(Enum):
    """What a verifier did in one step."""

    WAITED = "waited"
    REGISTERED = "registered"
    STAKED = "stake added"
    ENLISTED = "enlisted"
    REPLAYED = "replayed"
    REFUTED = "refuted"
    REPORTED = "equivocation reported"
    DEMANDED = "commitment demanded"
    CHALLENGED = "challenged"
    DREW = "jury drawn"
    COMMITTED = "vote committed"
    REVEALED = "vote revealed"
    ABSTAINED = "abstained"
    DECIDED = "votes counted"
    APPEALED = "appealed"
    CLOSED = "dispute closed"
    DONE = "done"


@dataclass(frozen=True)
class Step:
    """One step of a verifier: what it did, about which round and in which dispute, and what there is to say of it."""

    duty: Duty
    task: int = 0
    round: int = 0
    dispute: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = f"task {self.task}, round {self.round}: " if self.round else ""
        dispute = "" if self.dispute is None else f" (dispute {self.dispute})"
        return f"{place}{self.duty.value}{dispute}{': ' if self.detail else ''}{self.detail}"


@dataclass(frozen=True)
class Unable:
    """Why a round cannot be replayed here; ``missing``: the task's spec or validation set cannot be had."""

    reason: str
    missing: bool = False


class _WorkingStore:
    """A store whose own faults stop a replay, so that they are not taken for faults of a proposal."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        try:
            return self._store.get(ref, limit)
        except (ContentUnavailableError, ContentCorruptError):
            raise
        except StoreError as error:
            raise OutageError(error.message, error.remedy) from error

    def put(self, data: bytes, file: Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        return self._store.put(data, file, ref)

    def has(self, ref: ContentRef) -> bool:
        return self._store.has(ref)

    def pin(self, ref: ContentRef) -> None:
        self._store.pin(ref)

    def unpin(self, ref: ContentRef) -> None:
        self._store.unpin(ref)


class Verifier:
    """A verifier.

    Parameters
    ----------
    ledger, history
        The ledger, and its state from logs (may be shared).
    account
        The account of a participant, which it registers if it has to.
    store
        Where content is fetched.
    journal
        Folder in which votes wait until they are revealed. Without one they are made again, which fails where a
        measurement is about as wrong as the tolerance allows.
    tasks
        Tasks whose proposals it replays; None: all of them. On juries it serves whatever the task, as it is drawn.
    trusted
        CIDs of code that may be run to measure.
    stake
        What a participant is registered with; None: the least for a verifier and one juror's penalty, so that one
        mishap does not end its service.
    challenge
        Whether it objects to what does not follow.
    appeal
        Whether it appeals against juries that find what its own replay does not. It does unless told otherwise: a lie
        that a first jury lets pass stands if nobody appeals, and the bond comes back to who was right.
    patience
        Seconds for which content that cannot be had is waited for, and at most a quarter of the time that there is;
        after them it counts as missing, and the proposal as one that does not follow.
    courtesy
        Seconds by which verifiers let each other go first, in turn by dispute, where one transaction is enough: each
        that comes too late pays for nothing. Altogether it is at most a quarter of the time that there is.
    """

    def __init__(
        self,
        ledger: Ledger,
        history: History,
        account: LocalAccount,
        store: ContentStore,
        journal: Path | None = None,
        tasks: frozenset[int] | None = None,
        trusted: frozenset[str] = frozenset(),
        stake: int | None = None,
        challenge: bool = True,
        appeal: bool = True,
        patience: float = PATIENCE,
        courtesy: float = COURTESY,
    ) -> None:
        self.ledger = ledger
        self.history = history
        self.account = account
        self.store: ContentStore = _WorkingStore(store)
        self.tasks = tasks
        self.trusted = trusted
        self.stake = stake
        self.challenge = challenge
        self.appeal = appeal
        self.patience = patience
        self.courtesy = courtesy
        self._journal = journal
        self._terms: dict[tuple[int, int], tuple[TaskSpec, Measurer | None]] = {}
        self._replays: dict[_Key, Replay | Unable] = {}
        self._waits: dict[_Key, Waits] = {}
        self._until: dict[_Key, int] = {}
        self._deadlines: dict[tuple[int, int], int] = {}
        self._noticed: dict[object, float] = {}
        self._told: set[object] = set()
        self._joined: int | None = None
        if journal is not None:
            journal.mkdir(parents=True, exist_ok=True)

    def step(self) -> Step:
        """Do what comes next, if anything."""
        folds = self.history.update().folds
        try:
            return self._next()
        except RevertedError as error:
            # Any other refusal stands, unless what was read was reorganised.
            if error.name not in RACES and self.history.update().folds == folds:
                raise
            log.warning("%s", error)
        return Step(Duty.WAITED)

    def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable:
        """Replay a proposed round, or say why that cannot be done here."""
        try:
            spec, measure = self._read(task, current.index)
            return replay_round(self.history, task, spec, self.store, current, measure, self._place(task))
        except MissingContentError as error:
            # It is the publisher's, and every program of the task has it: rather is this the wrong store.
            return Unable(f"{error.divergence}", missing=True)
        except DivergenceError as error:
            return refused(error)
        except (ChainError, OutageError):
            raise
        except FedledgerError as error:
            return Unable(str(error))

    def vote(self, dispute: DisputeHistory, level: int) -> tuple[bool, bytes] | Step | None:
        """Return what the replay of a disputed round found, the step of an abstention, or None to wait."""
        task = self.history.task(dispute.task)
        current = task.rounds[dispute.round]
        key = self._key(task, current)
        known = self._replays.get(key)
        if known is not None and known.missing and self._once(dispute.id, level, "looked again"):
            # It may have come since.
            del self._replays[key]
        found = self._replayed(task, current, self._settings.dispute_period)
        if found is None:
            return None
        if isinstance(found, Unable) or not found.checked:
            reason = found.reason if isinstance(found, Unable) else self._unchecked(task)
            place = dispute.task, dispute.round, dispute.id
            return Step(Duty.ABSTAINED, *place, reason) if self._once(dispute.id, level, "abstained") else None
        return found.valid, found.transcript

    def _next(self) -> Step:
        if self._is_over():
            return Step(Duty.DONE)
        for duty in (self._join, self._serve, self._watch, self._push):
            step = duty()
            if step is not None:
                return step
        return Step(Duty.WAITED)

    @cached_property
    def _settings(self) -> Settings:
        return self.ledger.settings()

    # -- joining -----------------------------------------------------------------------------------------------

    def _join(self) -> Step | None:
        """Register, stake and enlist, as far as that is not done when the program starts."""
        participant = self.history.ids.get(self.account.address)
        enlisted = participant is not None and participant in self.history.verifiers
        serving = participant is not None and enlisted and self.ledger.is_serving(participant)
        if serving:
            self._joined = self.history.folds
        if self._joined == self.history.folds:
            # Who was retired since votes where it was drawn before.
            if enlisted and not serving and self._once("serving"):
                log.warning("%s is not drawn any more: its stake is below the least", self.account.address)
            return None
        settings = self._settings
        least = max(settings.min_stake, settings.min_verifier_stake)
        stake = least + settings.juror_penalty if self.stake is None else self.stake
        if stake < least:
            raise ConfigError(f"A verifier's stake of {stake} is below the least, {least}.", "Give a higher one.")
        record = None if participant is None else self.ledger.participant(participant)
        if record is None or not record.registered_at:
            self._require(stake, "its stake")
            self.ledger.register(self.account, self.account.address, self.account.address, stake)
            return Step(Duty.REGISTERED, detail=f"with a stake of {stake}")
        if record.exit_at:
            raise ConfigError(f"{self.account.address} is leaving the ledger.", "Use another account, or wait.")
        if record.stake < least:
            self._require(stake - record.stake, "its stake")
            self.ledger.add_stake(self.account, stake - record.stake)
            return Step(Duty.STAKED, detail=f"to {stake}")
        self.ledger.enlist(self.account)
        return Step(Duty.ENLISTED)

    def _require(self, amount: int, what: str) -> None:
        if not self._can_pay(amount, spare=0):
            raise ChainError(f"{self.account.address} lacks {amount} for {what}.", "Send it some, or deposit tokens.")

    def _can_pay(self, amount: int, spare: int = SPARE_GAS) -> bool:
        currency = self.ledger.stake_currency()
        missing = amount - self.ledger.free_balance(self.account.address, currency)
        if missing <= 0 or currency != COIN:
            return missing <= 0
        return self.ledger.chain.balance(self.account.address) >= missing + spare * self.ledger.chain.sender.price()

    # -- juries ------------------------------------------------------------------------------------------------

    def _serve(self) -> Step | None:
        """Commit to a vote, or reveal it, wherever this verifier was drawn."""
        juror = self.history.ids[self.account.address]
        for dispute in self._disputes():
            if dispute.kind is not DisputeKind.REPLAY or self._round(dispute).voided:
                continue
            level, jury = len(dispute.juries) - 1, dispute.juries[-1]
            if jury.members is None or juror not in jury.members or jury.decided or juror in jury.revealed:
                continue
            record, now = self.ledger.jury(dispute.id, level), self.ledger.chain.now()
            step = None
            if juror not in jury.committed:
                step = self._commit(dispute, level, juror) if now < record.commits_until else None
            elif len(jury.committed) == len(jury.members) or now >= record.commits_until:
                step = self._reveal(dispute, level, juror) if now < record.reveals_until else None
            if step is not None:
                return step
        return None

    def _commit(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        found = self.vote(dispute, level)
        if found is None or isinstance(found, Step):
            return found
        path = self._path(dispute, level)
        if path is not None:
            write_atomically(path, json.dumps({"valid": found[0], "transcript": found[1].hex()}).encode())
        self.ledger.commit_vote(self.account, dispute.id, self._sealed(dispute, level, juror, *found))
        return Step(Duty.COMMITTED, dispute.task, dispute.round, dispute.id)

    def _reveal(self, dispute: DisputeHistory, level: int, juror: int) -> Step | None:
        committed = dispute.juries[level].committed[juror]
        for find in (self._written, self.vote):
            found = find(dispute, level)
            if not isinstance(found, tuple) or self._sealed(dispute, level, juror, *found) != committed:
                continue
            self.ledger.reveal_vote(self.account, dispute.id, *found, self._salt(dispute, level))
            verdict = "the proposal follows" if found[0] else "the proposal does not follow"
            return Step(Duty.REVEALED, dispute.task, dispute.round, dispute.id, verdict)
        if self._once(dispute.id, level, "not revealed"):
            log.error("dispute %d: the vote cannot be opened; was it another journal or account?", dispute.id)
        return None

    def _sealed(self, dispute: DisputeHistory, level: int, juror: int, valid: bool, transcript: bytes) -> bytes:
        return self.ledger.vote_of(dispute.id, level, juror, valid, transcript, self._salt(dispute, level))

    def _salt(self, dispute: DisputeHistory, level: int) -> bytes:
        ledger = self.ledger
        return vote_salt(bytes(self.account.key), ledger.chain.chain_id, ledger.address, dispute.id, level)

    def _path(self, dispute: DisputeHistory, level: int) -> Path | None:
        if self._journal is None:
            return None
        name = f"{self.ledger.chain.chain_id}-{self.ledger.address}-{self.account.address}-{dispute.id}-{level}.vote"
        return self._journal / name

    def _written(self, dispute: DisputeHistory, level: int) -> tuple[bool, bytes] | None:
        path = self._path(dispute, level)
        if path is None or not path.exists():
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
        return bool(document["valid"]), bytes.fromhex(document["transcript"])

    # -- proposals ---------------------------------------------------------------------------------------------

    def _watch(self) -> Step | None:
        """Replay what may still be challenged, and object to what does not follow."""
        for task in self._watched():
            for current in task.unfinal:
                if current.proposal is None or not self._is_open(task, current):
                    continue
                found = self._replayed(task, current, task.params.challenge_window)
                if found is None:
                    continue
                if self._once(self._key(task, current), "replayed"):
                    return Step(Duty.REPLAYED, task.id, current.index, detail=self._told_of(task, found))
                if isinstance(found, Replay) and found.divergence is not None and self.challenge:
                    step = self._object(task, current)
                    if step is not None:
                        return step
        return None

    def _told_of(self, task: TaskHistory, found: Replay | Unable) -> str:
        if isinstance(found, Unable):
            return f"not at all: {found.reason}"
        if found.divergence is not None:
            return f"does not follow: {found.divergence}"
        return "follows" if found.checked else f"follows, but {self._unchecked(task)}"

    def _is_open(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Whether a proposal is in its challenge window."""
        key = self._key(task, current)
        if key not in self._until:
            proposed = self.ledger.round(task.id, current.index).proposed_at
            self._until[key] = proposed + task.params.challenge_window
        return self.ledger.chain.now() < self._until[key]

    def _object(self, task: TaskHistory, current: RoundHistory) -> Step | None:
        """Object to a proposal in the way that the ledger decides soonest."""
        if not self._is_turn(current.index, task.params.challenge_window, self._key(task, current)):
            return None
        disputes = [d for d in self.history.disputes if (d.task, d.round) == (task.id, current.index)]
        batch = self._claimed(current) if task.batched else None
        if batch is not None:
            step = self._refute(task, current, batch)
            if step is not None:
                return step
            unshowable = self._unshowable(task, current, batch)
            demands = (d for d in disputes if d.kind is DisputeKind.COMMITMENT and d.status is DisputeStatus.OPEN)
            if any(demand.subject in unshowable for demand in demands):
                return None
            step = self._demand(task, current, unshowable)
            if step is not None:
                return step
        if any(d.kind is DisputeKind.REPLAY for d in disputes):
            return None
        if self.ledger.verifier_count() < LEAST_POOL:
            if self._once(task.id, current.index, "few"):
                log.error("task %d, round %d: too few verifiers to challenge it", task.id, current.index)
            return None
        if not self._can_bond(task, current, task.params.bond):
            return None
        self.ledger.challenge_round(self.account, task.id, current.index)
        return Step(Duty.CHALLENGED, task.id, current.index)

    def _can_bond(self, task: TaskHistory, current: RoundHistory, bond: int) -> bool:
        able = self._can_pay(bond)
        if not able and self._once(task.id, current.index, "bond", bond):
            where = f"task {task.id}, round {current.index}"
            log.error("%s: %s lacks %d for the bond to object", where, self.account.address, bond)
        return able

    def _claimed(self, current: RoundHistory) -> Batch | None:
        """Return the commitments behind a batched round's root, if they can be had."""
        for named in (self._rooted, self._reported):
            try:
                ref = named(current)
                if ref is None:
                    continue
                batch = Batch.read(self.store.get(ref, canonical.MAX_DOCUMENT_BYTES))
            except (StoreError, OutageError, ValueError, TypeError, AttributeError) as error:
                log.debug("round %d: no commitments: %s", current.index, error)
                continue
            if batch.root == current.root:
                return batch
        return None

    def _rooted(self, current: RoundHistory) -> ContentRef | None:
        return current.batch

    def _reported(self, current: RoundHistory) -> ContentRef | None:
        if current.proposal is None:
            return None
        report = canonical.decode(self.store.get(current.proposal.report, canonical.MAX_DOCUMENT_BYTES))
        return Ref.model_validate(report.get("commitments")).ref

    def _refute(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> Step | None:
        """Do what the ledger decides at once."""
        seen: dict[int, int] = {}
        for place, signed in enumerate(batch.commitments):
            other = seen.setdefault(signed.participant, place)
            first = batch.commitments[other]
            if first.commitment == signed.commitment:
                continue
            known = (task.id, current.index, signed.participant) in self.history.equivocated
            both = not known and all(self._is_signed(task, current, each) for each in (first, signed))
            if both and task.params.penalty and self._once(self._key(task, current), "reported", place):
                self.ledger.report_equivocation(self.account, task.id, current.index, first, signed)
                return Step(Duty.REPORTED, task.id, current.index, detail=f"of participant {signed.participant}")
            if self._once(self._key(task, current), "duplicate", place):
                proofs = (first, batch.proof_at(other)), (signed, batch.proof_at(place))
                self.ledger.refute_duplicate(self.account, task.id, current.index, *proofs)
                detail = f"the root has two commitments of participant {signed.participant}"
                return Step(Duty.REFUTED, task.id, current.index, detail=detail)
        for place, signed in enumerate(batch.commitments):
            missed = current.verdicts.get(signed.participant) is Verdict.MISSED
            if missed and current.proposal and self._once(self._key(task, current), "missed", place):
                proof = batch.proof_at(place)
                self.ledger.refute_missed(self.account, task.id, current.index, signed, proof, current.proposal)
                detail = f"participant {signed.participant} is called missing, and is in the root"
                return Step(Duty.REFUTED, task.id, current.index, detail=detail)
        return None

    def _unshowable(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> list[int]:
        """Return whose commitments may be demanded and cannot be shown."""
        listed = {signed.participant for signed in batch.commitments if self._is_signed(task, current, signed)}
        complete = current.count == len(current.selected)
        return [
            participant
            for participant in current.selected
            if participant not in listed
            and (
                complete
                or (current.verdicts.get(participant) is not Verdict.MISSED and participant not in current.commits)
            )
        ]

    def _demand(self, task: TaskHistory, current: RoundHistory, unshowable: list[int]) -> Step | None:
        for participant in unshowable:
            if current.proposal is None or not self._can_bond(task, current, task.params.bond):
                return None
            if self._once(self._key(task, current), "demanded", participant):
                self.ledger.demand_commitment(self.account, task.id, current.index, participant, current.proposal)
                return Step(Duty.DEMANDED, task.id, current.index, detail=f"of participant {participant}")
        return None

    def _is_signed(self, task: TaskHistory, current: RoundHistory, signed: SignedCommitment) -> bool:
        message = commitment_message(self._place(task), current.index, signed.participant, signed.commitment)
        return recover(message, signed.signature) in self.history.all_signers.get(signed.participant, ())

    # -- what anybody may do -----------------------------------------------------------------------------------

    def _push(self) -> Step | None:
        """Bring disputes on: draw, count, appeal and close."""
        concerning = [dispute for dispute in self._disputes() if self._concerns(dispute)]
        now = self.ledger.chain.now() if concerning else 0
        for dispute in concerning:
            step: Step | None
            if self._round(dispute).voided:
                step = self._close(dispute)
            elif dispute.kind is DisputeKind.COMMITMENT:
                step = self._close(dispute) if now >= self._shown_until(dispute) else None
            else:
                step = self._bring_on(dispute, now)
            if step is not None:
                return step
        return None

    def _shown_until(self, dispute: DisputeHistory) -> int:
        """Return when a demand that was not answered is won; asked once, as there may be many."""
        key = dispute.id, self.history.folds
        if key not in self._deadlines:
            self._deadlines[key] = self.ledger.dispute(dispute.id).deadline
        return self._deadlines[key]

    def _bring_on(self, dispute: DisputeHistory, now: int) -> Step | None:
        level, jury = len(dispute.juries) - 1, dispute.juries[-1]
        record = self.ledger.jury(dispute.id, level)
        if not jury.decided:
            drawn = jury.members is not None
            if not drawn and now < record.draw_until:
                known = self.ledger.chain.block_number() >= jury.draw_block
                if not known or not self._may_push(dispute, level, "draw", jury.draw_block):
                    return None
                self.ledger.draw_jury(self.account, dispute.id)
                return Step(Duty.DREW, dispute.task, dispute.round, dispute.id)
            revealed = bool(jury.members) and len(jury.revealed) == len(jury.members or ())
            due = revealed or now >= (record.reveals_until if drawn else record.draw_until)
            if not due or not self._may_push(dispute, level, "decide"):
                return None
            self.ledger.decide(self.account, dispute.id)
            return Step(Duty.DECIDED, dispute.task, dispute.round, dispute.id)
        deadline = self.ledger.dispute(dispute.id).deadline
        if now >= deadline:
            return self._close(dispute)
        return self._appeal(dispute, level, jury, record)

    def _appeal(self, dispute: DisputeHistory, level: int, jury: JuryHistory, record: JuryRecord) -> Step | None:
        higher = level < MAX_LEVEL and record.pool > len(record.members)
        if not (self.appeal and higher and any(jury.outcome)):
            return None
        task, current = self.history.task(dispute.task), self._round(dispute)
        found = self._replayed(task, current, self._settings.dispute_period)
        # What is missing here may be there elsewhere, so that it is no reason to call a jury wrong.
        sure = isinstance(found, Replay) and found.checked and not found.missing and found.valid != jury.valid
        bond = dispute.bond << (level + 1)
        if not sure or not self._can_bond(task, current, bond) or not self._may_push(dispute, level, "appeal"):
            return None
        self.ledger.appeal(self.account, dispute.id, bond)
        return Step(Duty.APPEALED, dispute.task, dispute.round, dispute.id)

    def _close(self, dispute: DisputeHistory) -> Step | None:
        if not self._may_push(dispute, len(dispute.juries), "close"):
            return None
        self.ledger.close_dispute(self.account, dispute.id)
        return Step(Duty.CLOSED, dispute.task, dispute.round, dispute.id)

    def _may_push(self, dispute: DisputeHistory, *what: object) -> bool:
        return self._is_turn(dispute.id, self._settings.dispute_period, dispute.id, *what)

    def _is_turn(self, number: int, period: int, *what: object) -> bool:
        """Whether this verifier need not wait for others to do what has been due since it asked this first."""
        enlisted = sorted(self.history.verifiers)
        own = self.history.ids[self.account.address]
        rank = (enlisted.index(own) - number) % len(enlisted) if own in enlisted else len(enlisted)
        pause = min(self.courtesy, period / (4 * max(1, len(enlisted))))
        noticed = self._noticed.setdefault((*what, self.history.folds), time.monotonic())
        return time.monotonic() >= noticed + rank * pause

    # -- replays -----------------------------------------------------------------------------------------------

    def _replayed(self, task: TaskHistory, current: RoundHistory, period: int) -> Replay | Unable | None:
        """Return the replay of a round, made once; None while content of it is waited for."""
        key = self._key(task, current)
        if key not in self._replays:
            waits = self._waits.setdefault(key, Waits(current))
            if not waits.over():
                return None
            try:
                found = self.replay(task, current)
            except OutageError as error:
                # Patience with content begins when the store works.
                self._waits[key] = Waits(current)
                self._waits[key].on(period)
                log.warning("task %d, round %d: %s", task.id, current.index, error)
                return None
            if found.missing and waits.on(min(self.patience, period / 4)):
                told = found.divergence if isinstance(found, Replay) else found.reason
                log.warning("task %d, round %d: waiting for content: %s", task.id, current.index, told)
                return None
            self._replays[key] = found
            del self._waits[key]
        return self._replays[key]

    def _read(self, task: TaskHistory, index: int) -> tuple[TaskSpec, Measurer | None]:
        key = task.id, self.history.folds
        if key not in self._terms:
            spec = read_terms(task, self.store, index)
            measure = content(index, "validation set", lambda: live_measure(spec, self.store, self.trusted))
            self._terms[key] = spec, measure
        return self._terms[key]

    def _unchecked(self, task: TaskHistory) -> str:
        spec, _ = self._read(task, 0)
        code = "" if spec.code is None else spec.code.cid
        return f"measuring would run the publisher's code: read it, then give --trust-code {code}"

    def _key(self, task: TaskHistory, current: RoundHistory) -> _Key:
        proposed = b"" if current.proposed_at is None else current.proposed_at.transaction
        return task.id, current.index, proposed, self.history.folds

    # -- where things are --------------------------------------------------------------------------------------

    def _watched(self) -> Iterator[TaskHistory]:
        """Yield the tasks whose proposals concern this verifier and can be challenged."""
        for number, task in sorted(self.history.tasks.items()):
            if self._watches(number) and task.params.challenge_window and not task.finished:
                yield task

    def _watches(self, task: int) -> bool:
        return self.tasks is None or task in self.tasks

    def _disputes(self) -> Iterator[DisputeHistory]:
        """Yield the disputes that are open."""
        return (dispute for dispute in self.history.disputes if dispute.status is DisputeStatus.OPEN)

    def _concerns(self, dispute: DisputeHistory) -> bool:
        juror = self.history.ids.get(self.account.address)
        served = any(juror in (jury.members or ()) for jury in dispute.juries)
        return served or self._watches(dispute.task) or dispute.challenger == self.account.address

    def _round(self, dispute: DisputeHistory) -> RoundHistory:
        return self.history.task(dispute.task).rounds[dispute.round]

    def _place(self, task: TaskHistory) -> Place:
        return place_of(self.ledger, task.id)

    def _is_over(self) -> bool:
        """Whether all tasks have ended and no dispute holds anything of this verifier."""
        tasks = [task for number, task in self.history.tasks.items() if self._watches(number)]
        ended = bool(tasks) and all(task.finished for task in tasks)
        return ended and not any(self._concerns(dispute) for dispute in self._disputes())

    def _once(self, *what: object) -> bool:
        """Return True the first time that something is told or tried."""
        fresh = what not in self._told
        self._told.add(what)
        return fresh


_Key = tuple[int, int, bytes, int]
