"""The ledger as typed methods and frozen dataclasses, on whatever chain it is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    Log,
    RevertedError,
    checksum_address,
    creation_code,
    decode_log,
    events,
    explain_revert,
    functions,
)
from fedledger.contracts.chain import DEFAULT_GAS, Chain, Receipt, Transaction, revert_data
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.reputation import LANES, Evidence, Opinion
from fedledger.protocol.settlement import pack_lengths, unpack_lengths, unpack_words
from fedledger.protocol.verdicts import Verdict

WORD_BITS = 256


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


class RoundStatus(IntEnum):
    """What has become of a round."""

    NONE = 0
    OPEN = 1
    PROPOSED = 2
    SETTLED = 3
    VOIDED = 4


@dataclass(frozen=True)
class ParticipantRecord:
    """A registered participant."""

    id: int
    owner: str
    signer: str
    payout: str
    stake: int
    registered_at: int
    exit_at: int


@dataclass(frozen=True)
class TaskParams:
    """What a publisher posts; periods in seconds, money in wei, reputation in parts per million."""

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

    @property
    def budget(self) -> int:
        """Escrow that the task needs, in wei."""
        return self.rounds * self.units_per_round * self.credit_unit


@dataclass(frozen=True)
class TaskRecord:
    """A task as the ledger holds it."""

    id: int
    publisher: str
    params: TaskParams
    enrol_deadline: int
    enrolled: int
    current_round: int
    finalized_round: int
    settled_rounds: int
    spent_units: int
    finished: bool
    stop_settled: bool


@dataclass(frozen=True)
class RoundRecord:
    """A round as the ledger holds it."""

    index: int
    status: RoundStatus
    opened_at: int
    opened_block: int
    selected: int
    committed: int
    revealed: int
    base_model: bytes
    model: bytes


@dataclass(frozen=True)
class Reveal:
    """A revealed update: which participant, which content, under which salt."""

    participant: int
    update: ContentRef
    salt: bytes


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


class Ledger:
    """The deployed ``FedLedger`` contract.

    Parameters
    ----------
    chain
        The chain that it is deployed on.
    address
        Its address.
    first_block
        The block of its deployment, from which logs are read.
    """

    def __init__(self, chain: Chain, address: str, first_block: int = 0) -> None:
        self.chain = chain
        self.address = checksum_address(address)
        self.first_block = first_block

    @classmethod
    def deploy(cls, chain: Chain, account: LocalAccount, min_stake: int, exit_delay: int) -> tuple[Ledger, Receipt]:
        """Deploy the contract; ``min_stake`` in wei, ``exit_delay`` in seconds."""
        data = creation_code(min_stake, exit_delay)
        receipt = chain.send(account, None, data, gas=12_000_000, doing="the deployment")
        created = chain.receipt(receipt.hash)["contractAddress"]
        return cls(chain, created, receipt.block), receipt

    # -- participants ------------------------------------------------------------------------------------------

    def register(self, owner: LocalAccount, signer: str, payout: str, stake: int) -> Receipt:
        """Register (or bring back) a participant with ``stake`` wei."""
        return self._send(owner, "register", signer, payout, value=stake)

    def register_all(self, owners: Sequence[LocalAccount], stake: int) -> list[Receipt]:
        """Register many participants that sign for themselves and are paid themselves, without waiting in between."""
        calls = [functions()["register"].encode((owner.address, owner.address)) for owner in owners]
        return self._send_all(owners, "register", calls, value=stake)

    def rotate_signer(self, owner: LocalAccount, signer: str) -> Receipt:
        """Replace the signer of the owner's participant."""
        return self._send(owner, "rotateSigner", signer)

    def request_exit(self, owner: LocalAccount) -> Receipt:
        """Announce that the owner's participant leaves."""
        return self._send(owner, "requestExit")

    def complete_exit(self, owner: LocalAccount) -> Receipt:
        """Return the stake to the owner's free balance, once the exit delay is over."""
        return self._send(owner, "completeExit")

    def participant_id(self, address: str) -> int | None:
        """Return the id of the participant that an address owns or signs for, or None."""
        for view in ("idOfOwner", "idOfSigner"):
            try:
                return int(self._view(view, checksum_address(address)))
            except RevertedError:
                continue
        return None

    def participant(self, participant_id: int) -> ParticipantRecord:
        """Return a participant's record."""
        p = self._view("participant", participant_id)
        return ParticipantRecord(participant_id, p.owner, p.signer, p.payout, p.stake, p.registeredAt, p.exitAt)

    def min_registration_stake(self) -> int:
        """Return the least stake of an active participant, in wei."""
        return int(self._view("minRegistrationStake"))

    def participant_count(self) -> int:
        """Return how many participants were ever registered."""
        return int(self._view("participantCount"))

    def is_active(self, participant_id: int) -> bool:
        """Return whether a participant is staked and not about to leave."""
        return bool(self._view("isActive", participant_id))

    # -- tasks -------------------------------------------------------------------------------------------------

    def post_task(self, publisher: LocalAccount, params: TaskParams) -> int:
        """Post a task with its whole budget in escrow and return its id."""
        encoded = (
            (params.spec.digest, params.spec.length),
            (params.model.digest, params.model.length),
            params.aggregator,
            "0x" + "00" * 20,
            params.rounds,
            params.quorum,
            params.min_participants,
            params.max_participants,
            params.enrol_period,
            params.commit_period,
            params.reveal_period,
            params.propose_period,
            params.challenge_window,
            params.max_unfinal,
            0,
            params.randomness,
            params.batched,
            params.grace_period,
            params.min_stake,
            params.min_reputation,
            params.bond,
            params.credit_unit,
            params.units_per_round,
        )
        receipt = self._send(publisher, "postTask", encoded, value=params.budget)
        posted = self.events(["TaskPosted"], first=receipt.block, last=receipt.block)
        return next(int(event.arguments["task"]) for event in posted if event.transaction == receipt.hash)

    def enrol(self, account: LocalAccount, task: int) -> Receipt:
        """Enrol the account's participant in a task."""
        return self._send(account, "enrol", task)

    def enrol_all(self, accounts: Sequence[LocalAccount], task: int) -> list[Receipt]:
        """Enrol the participants of many accounts in a task, without waiting in between."""
        return self._send_all(accounts, "enrol", [functions()["enrol"].encode((task,))] * len(accounts))

    def task(self, task: int) -> TaskRecord:
        """Return a task's record.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        """
        t = self._view("task", task)
        p = t.params
        params = TaskParams(
            spec=content_ref(p.spec),
            model=content_ref(p.model),
            aggregator=p.aggregator,
            rounds=p.rounds,
            quorum=p.quorum,
            min_participants=p.minParticipants,
            max_participants=p.maxParticipants,
            enrol_period=p.enrolPeriod,
            commit_period=p.commitPeriod,
            reveal_period=p.revealPeriod,
            propose_period=p.proposePeriod,
            challenge_window=p.challengeWindow,
            max_unfinal=p.maxUnfinal,
            randomness=p.randomness,
            min_stake=p.minStake,
            min_reputation=p.minReputation,
            bond=p.bond,
            credit_unit=p.creditUnit,
            units_per_round=p.unitsPerRound,
            batched=p.batched,
            grace_period=p.gracePeriod,
        )
        return TaskRecord(
            id=task,
            publisher=t.publisher,
            params=params,
            enrol_deadline=t.enrolDeadline,
            enrolled=t.enrolled,
            current_round=t.currentRound,
            finalized_round=t.finalizedRound,
            settled_rounds=t.settledRounds,
            spent_units=t.spentUnits,
            finished=t.finished,
            stop_settled=t.stopSettled,
        )

    def task_count(self) -> int:
        """Return how many tasks were ever posted."""
        return int(self._view("taskCount"))

    def phase(self, task: int) -> Phase:
        """Return the phase of a task's current round."""
        return Phase(self._view("phase", task))

    def beacon(self, task: int) -> bytes:
        """Return the task's randomness beacon."""
        return bytes(self._view("beacon", task))

    def enrolled(self, task: int) -> list[int]:
        """Return the ids of the participants enrolled in a task."""
        return self._members("enrolledWord", task)

    def finish_task(self, account: LocalAccount, task: int) -> Receipt:
        """End a task and release what is left of its budget."""
        return self._send(account, "finishTask", task)

    def announce(self, account: LocalAccount, url: str) -> Receipt:
        """Say where an account can be reached off the chain."""
        return self._send(account, "announce", url)

    # -- rounds ------------------------------------------------------------------------------------------------

    def round(self, task: int, index: int) -> RoundRecord:
        """Return a round's record."""
        r = self._view("round", task, index)
        return RoundRecord(
            index=index,
            status=RoundStatus(r.status),
            opened_at=r.openedAt,
            opened_block=r.openedBlock,
            selected=r.selected,
            committed=r.committed,
            revealed=r.revealed,
            base_model=bytes(self._view("baseModel", task, index)),
            model=bytes(r.modelDigest),
        )

    def selected(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants selected for a round."""
        return self._members("selectedWord", task, index)

    def committed(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants that committed in a round."""
        return self._members("committedWord", task, index)

    def revealed(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants that revealed in a round."""
        return self._members("revealedWord", task, index)

    def open_round(self, account: LocalAccount, task: int, selected: Sequence[int] | None = None) -> Receipt:
        """Open the next round for the selected participants; without a selection for everybody who is enrolled."""
        return self._transact(account, "openRound", _open_call(task, selected))

    def commit_update(self, account: LocalAccount, task: int, index: int, commitment: bytes) -> Receipt:
        """Commit to an update."""
        return self._send(account, "commitUpdate", task, index, commitment, gas=250_000)

    def reveal_update(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        update: ContentRef,
        salt: bytes,
        proof: Sequence[bytes] = (),
    ) -> Receipt:
        """Reveal an update that was committed to, on chain or, by proof, in a batched round's root."""
        content = (update.digest, update.length)
        return self._send(account, "revealUpdate", task, index, content, salt, list(proof), gas=250_000)

    def close_commits(self, account: LocalAccount, task: int, index: int, root: bytes, count: int) -> Receipt:
        """Close a batched round's commit phase with the root of ``count`` commitments."""
        return self._send(account, "closeCommits", task, index, root, count, gas=250_000)

    def propose_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal, bond: int) -> Receipt:
        """Propose a round's outcome; ``bond`` wei are added to the aggregator's free balance first."""
        updates = proposal.updates
        gas = DEFAULT_GAS + 30_000 * LANES * len(proposal.verdict_words) + 2_000 * len(updates)
        sent = ([update.digest for update in updates], pack_lengths(updates))
        return self._send(account, "proposeRound", task, index, *proposal.as_arguments(), sent, value=bond, gas=gas)

    def settle_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal) -> Receipt:
        """Apply a proposed round after its challenge window."""
        return self._transact(
            account, "settleRound", _settle_call(task, index, proposal), gas=DEFAULT_GAS + _settle_gas(proposal)
        )

    def settle_and_open(
        self, account: LocalAccount, task: int, index: int, proposal: Proposal, selected: Sequence[int] | None = None
    ) -> Receipt | None:
        """Settle a round and open the next in one transaction; if that cannot be, send none and return None.

        The arguments are those of :meth:`settle_round` and :meth:`open_round`.
        """
        calls = [_settle_call(task, index, proposal), _open_call(task, selected)]
        data = functions()["multicall"].encode([calls])
        if not self.chain.would_succeed(account, self.address, data):
            return None
        return self._transact(account, "multicall", data, gas=2 * DEFAULT_GAS + _settle_gas(proposal))

    def void_round(self, account: LocalAccount, task: int, index: int) -> Receipt:
        """Void an overdue round."""
        return self._send(account, "voidRound", task, index)

    def reveals(self, task: int, index: int) -> list[Reveal]:
        """Return a round's reveals, from its logs."""
        logs = self.events(["UpdateRevealed"], self.round(task, index).opened_block, task=task, round_index=index)
        return [
            Reveal(int(a["participant"]), ContentRef(bytes(a["digest"]), int(a["length"])), bytes(a["salt"]))
            for a in (log.arguments for log in logs)
        ]

    def proposal(self, task: int, index: int) -> Proposal:
        """Return the proposal that stands for a round, from its logs.

        Raises
        ------
        ChainError
            If the round was not proposed.
        """
        names = ["RoundProposed", "BatchProposed"]
        logs = list(self.events(names, self.round(task, index).opened_block, task=task, round_index=index))
        if not logs:
            raise ChainError(f"Round {index} of task {task} has not been proposed.")
        return proposal_in(logs[-1])

    # -- evidence and money ------------------------------------------------------------------------------------

    def evidence(self, publisher: str, participant_id: int) -> Evidence:
        """Return a participant's evidence with a publisher."""
        return Evidence(*(int(count) for count in self._view("evidence", publisher, participant_id)))

    def opinion(self, publisher: str, participant_id: int) -> tuple[Opinion, int]:
        """Return the opinion that the ledger computes, and the reputation in parts per million."""
        belief, disbelief, uncertainty, reputation = self._view("opinion", publisher, participant_id)
        return Opinion(int(belief), int(disbelief), int(uncertainty)), int(reputation)

    def credit(self, task: int, participant_id: int) -> int:
        """Return the credit, in units, that a participant may withdraw from a task."""
        return int(self._view("creditOf", task, participant_id))

    def evidence_word(self, publisher: str, slot: int) -> int:
        """Return eight participants' evidence with a publisher, 32 bits each."""
        return int(self._view("evidenceWord", publisher, slot))

    def credit_word(self, task: int, slot: int) -> int:
        """Return eight participants' credits in a task, 32 bits each."""
        return int(self._view("creditWord", task, slot))

    def withdraw_credit(self, account: LocalAccount, task: int, participant_id: int) -> Receipt:
        """Pay a participant's credit out to its payout address."""
        return self._send(account, "withdrawCredit", task, participant_id)

    def free_balance(self, address: str) -> int:
        """Return the wei that an address may withdraw."""
        return int(self._view("balanceOf", checksum_address(address)))

    def withdraw(self, account: LocalAccount, to: str) -> Receipt:
        """Withdraw the account's free balance."""
        return self._send(account, "withdraw", to)

    # -- logs --------------------------------------------------------------------------------------------------

    def events(
        self,
        names: Sequence[str] = (),
        first: int | None = None,
        last: int | None = None,
        task: int | None = None,
        round_index: int | None = None,
    ) -> Iterator[Log]:
        """Yield decoded events in order; all of them unless names, a task or a round are given."""
        chosen = [events()[name] for name in names] or list(events().values())
        topics: list[Any] = [["0x" + event.topic.hex() for event in chosen]]
        if task is not None:
            topics.append("0x" + task.to_bytes(32, "big").hex())
            if round_index is not None:
                topics.append("0x" + round_index.to_bytes(32, "big").hex())
        start = self.first_block if first is None else first
        for raw in self.chain.logs(self.address, topics, start, last):
            log = decode_log(raw)
            if log.event == "BatchProposed":
                log = replace(log, input=bytes(self.chain.transaction(log.transaction)["input"]))
            yield log

    # -- plumbing ----------------------------------------------------------------------------------------------

    def _members(self, view: str, *arguments: int) -> list[int]:
        members: list[int] = []
        for word in range(-(-self.participant_count() // WORD_BITS)):
            bits = int(self._view(view, *arguments, word))
            members += [word * WORD_BITS + bit for bit in range(bits.bit_length()) if bits >> bit & 1]
        return members

    def _view(self, name: str, *arguments: Any) -> Any:
        function = functions()[name]
        try:
            return function.decode(self.chain.call(self.address, function.encode(arguments)))
        except ChainError as error:
            reverted = revert_data(error.__cause__) if error.__cause__ is not None else b""
            if reverted:
                raise explain_revert(reverted, f"the question {name}") from error
            raise

    def _send(
        self, account: LocalAccount, name: str, *arguments: Any, value: int = 0, gas: int = DEFAULT_GAS
    ) -> Receipt:
        return self._transact(account, name, functions()[name].encode(arguments), value, gas)

    def _send_all(
        self, accounts: Sequence[LocalAccount], name: str, calls: Sequence[bytes], value: int = 0
    ) -> list[Receipt]:
        transactions = [
            Transaction(account, self.address, data, value) for account, data in zip(accounts, calls, strict=True)
        ]
        return self.chain.send_all(transactions, doing=name, explain=explain_revert)

    def _transact(
        self, account: LocalAccount, name: str, data: bytes, value: int = 0, gas: int = DEFAULT_GAS
    ) -> Receipt:
        return self.chain.send(account, self.address, data, value=value, gas=gas, doing=name, explain=explain_revert)


def _open_call(task: int, selected: Sequence[int] | None) -> bytes:
    words: dict[int, int] = {}
    for participant in selected or ():
        word, bit = divmod(participant, WORD_BITS)
        words[word] = words.get(word, 0) | 1 << bit
    if selected is not None and not words:
        raise ValueError("a round selects somebody")
    indices = sorted(words)
    return functions()["openRound"].encode((task, indices, [words[i] for i in indices]))


def _settle_call(task: int, index: int, proposal: Proposal) -> bytes:
    return functions()["settleRound"].encode((task, index, *proposal.as_arguments()))


def _settle_gas(proposal: Proposal) -> int:
    return 30_000 * LANES * len(proposal.verdict_words)


def content_ref(value: Any) -> ContentRef:
    """Return the reference that a struct of the contract stands for."""
    return ContentRef(bytes(value.digest), int(value.length))


def proposal_in(log: Log) -> Proposal:
    """Return the proposal that a ``RoundProposed`` or ``BatchProposed`` event tells of."""
    return decode_batch_proposal(log) if log.event == "BatchProposed" else decode_proposal(log.arguments)


def decode_batch_proposal(log: Log) -> Proposal:
    """Return the proposal of a ``BatchProposed`` event, whose words and updates are in its transaction.

    Raises
    ------
    ChainError
        If the transaction's data is no such proposal.
    """
    data = _proposing(log.input, log.arguments["task"], log.arguments["round"])
    _, _, _, verdict_words, share_words, (digests, length_words) = functions()["proposeRound"].decode_input(data)
    lengths = unpack_lengths(length_words, len(digests))
    updates = tuple(ContentRef(digest, length) for digest, length in zip(digests, lengths, strict=True))
    words = {"verdictWords": verdict_words, "shareWords": share_words}
    return replace(decode_proposal(log.arguments | words), updates=updates)


def _proposing(data: bytes, task: int, index: int) -> bytes:
    """Return the call that proposes a round, which may be one of several in one transaction."""
    propose, several = functions()["proposeRound"], functions()["multicall"]
    waiting = [data]
    while waiting:
        call = waiting.pop()
        if call[:4] == several.selector:
            waiting += several.decode_input(call)[0]
        elif call[:4] == propose.selector and propose.decode_input(call)[:2] == (task, index):
            return call
    return data


def decode_proposal(arguments: dict[str, Any]) -> Proposal:
    """Return the proposal of a ``RoundProposed`` event."""
    proposal = arguments["proposal"]
    return Proposal(
        model=content_ref(proposal.model),
        state=content_ref(proposal.state),
        report=content_ref(proposal.report),
        stop=bool(proposal.stop),
        verdict_words=tuple(int(word) for word in arguments["verdictWords"]),
        share_words=tuple(int(word) for word in arguments["shareWords"]),
        # Version 1 of the ledger knows no batched rounds.
        updates_hash=getattr(proposal, "updates", bytes(32)),
    )
