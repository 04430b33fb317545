"""The ledger as typed methods and frozen dataclasses, on whatever chain it is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import (
    VERSIONS,
    Log,
    RevertedError,
    checksum_address,
    creation_code,
    decode_log,
    events,
    explain_revert,
    functions,
)
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import DEFAULT_GAS, MAX_GAS, Receipt, Transaction
from fedledger.contracts.chain.reverts import revert_data
from fedledger.contracts.compile import Artifact, parts
from fedledger.contracts.ledger.calls import WORD_BITS, open_call, propose_call, settle_call, task_params
from fedledger.contracts.ledger.records import (
    COIN,
    DisputeKind,
    DisputeRecord,
    DisputeStatus,
    JuryRecord,
    ParticipantRecord,
    Phase,
    Proposal,
    RoundRecord,
    RoundStatus,
    SeatRecord,
    Settings,
    TaskParams,
    TaskRecord,
)
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.reputation import LANES, Evidence, Opinion

MAX_LEVEL = 2
"""Appeals after a dispute's first jury."""


LEAST_POOL = 3
"""Verifiers without which nobody can challenge a proposal."""


STEP_GAS = 3_000
"""What each step back to the base of a stale update may cost."""


SMALL_SETTLEMENT = 64
"""Verdict words that fit one transaction whatever happens to the participants."""


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
    def deploy(cls, chain: Chain, account: LocalAccount, settings: Settings) -> tuple[Ledger, Receipt]:
        """Deploy the ledger's parts, the last one first, and return it with the receipt of the first part."""
        address, first = "", 0
        for part in reversed(parts()):
            data = creation_code(part, settings.as_argument(), *([address] if address else []))
            receipt = chain.send(Transaction(account, None, data, gas=12_000_000), f"the deployment of {part.name}")
            address = checksum_address(chain.receipt(receipt.hash)["contractAddress"])
            first = first or receipt.block
        return cls(chain, address, first), receipt

    def version(self) -> int | None:
        """Return which version's code, in all its parts, is at the ledger's address; None if it is no known one's."""
        known = (version for version in reversed(VERSIONS) if self._is_deployed(self.address, parts(version)))
        return next(known, None)

    def _is_deployed(self, address: str, expected: Sequence[Artifact]) -> bool:
        code = self.chain.code(address)
        if not expected[0].deploys(code):
            return False
        if len(expected) == 1:
            return True
        settings = self._settings_of(address)
        return any(
            self._is_deployed(following, expected[1:]) and self._settings_of(following) == settings
            for following in expected[0].addresses_in(code)
        )

    def _settings_of(self, address: str) -> Any:
        function = functions()["settings"]
        return function.decode(self.chain.call(address, function.encode(())))

    def settings(self) -> Settings:
        """Return what the ledger was deployed with."""
        s = self._view("settings")
        return Settings(
            min_stake=s.minStake,
            exit_delay=s.exitDelay,
            min_verifier_stake=s.minVerifierStake,
            juror_penalty=s.jurorPenalty,
            dispute_period=s.disputePeriod,
            stake_currency=s.stakeCurrency,
            guardian=s.guardian,
            predecessor=s.predecessor,
        )

    # -- participants ------------------------------------------------------------------------------------------

    def register(self, owner: LocalAccount, signer: str, payout: str, stake: int) -> Receipt:
        """Register (or bring back) a participant with a stake, from the free balance or, if it is coin, sent along."""
        return self._send(owner, "register", signer, payout, stake, value=self._lacking(owner, stake))

    def add_stake(self, owner: LocalAccount, amount: int) -> Receipt:
        """Add to the stake of the owner's participant."""
        return self._send(owner, "addStake", amount, value=self._lacking(owner, amount))

    def register_all(self, owners: Sequence[LocalAccount], stake: int) -> list[Receipt]:
        """Register many participants that sign for themselves and are paid themselves, without waiting in between."""
        calls = [functions()["register"].encode((owner.address, owner.address, stake)) for owner in owners]
        return self._send_all(owners, "register", calls, value=stake)

    def agree_to_sign(self, signer: LocalAccount, owner: str) -> Receipt:
        """Agree to sign for the participant of an owner, which may name the signer from now on."""
        return self._send(signer, "agreeToSign", checksum_address(owner))

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
        return ParticipantRecord(
            id=participant_id,
            owner=p.owner,
            signer=p.signer,
            payout=p.payout,
            stake=p.stake,
            unbonding=p.unbonding,
            registered_at=p.registeredAt,
            exit_at=p.exitAt,
            locks=p.locks,
        )

    def participant_count(self) -> int:
        """Return how many participants were ever registered."""
        return int(self._view("participantCount"))

    def adopt_evidence(self, publisher: LocalAccount, participants: Sequence[int]) -> Receipt:
        """Take over what the predecessor knows of participants with a publisher."""
        return self._send(publisher, "adoptEvidence", list(participants), gas=DEFAULT_GAS + 80_000 * len(participants))

    # -- tasks -------------------------------------------------------------------------------------------------

    def post_task(self, publisher: LocalAccount, params: TaskParams, standbys: Sequence[str] = ()) -> int:
        """Post a task with its whole budget in escrow and return its id; ``standbys`` take over in their order."""
        value = self._lacking(publisher, params.budget, params.token)
        receipt = self._send(publisher, "postTask", params.as_argument(), list(standbys), value=value)
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
        return TaskRecord(
            id=task,
            publisher=t.publisher,
            params=task_params(t.params),
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

    def settleable(self, task: int) -> int:
        """Return the round that can be settled now, or 0."""
        return int(self._view("settleable", task))

    def may_act(self, task: int, address: str) -> bool:
        """Return whether it is an aggregator's turn to do what a task needs next."""
        return bool(self._view("mayAct", task, checksum_address(address)))

    def seats(self, task: int) -> list[SeatRecord]:
        """Return a task's aggregator and its standbys."""
        return [SeatRecord(seat.holder, seat.deposit) for seat in self._view("seats", task)]

    def take_seat(self, account: LocalAccount, task: int) -> Receipt:
        """Deposit the bond of the account's seat among a task's aggregators, as far as it is missing."""
        deposit = next((s.deposit for s in self.seats(task) if s.holder == account.address), 0)
        missing = max(0, self.task(task).params.bond - deposit)
        return self._send(account, "takeSeat", task, value=self._lacking(account, missing))

    def set_paused(self, guardian: LocalAccount, paused: bool) -> Receipt:
        """Stop new tasks, or admit them again."""
        return self._send(guardian, "setPaused", paused)

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
            selected=r.selected,
            committed=r.committed,
            proposed_at=r.proposedAt,
            disputes=r.disputes,
            base_model=bytes(self._view("baseModel", task, index)),
            model=bytes(r.modelDigest),
        )

    def selected(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants selected for a round."""
        return self._members("selectedWord", task, index)

    def revealed(self, task: int, index: int) -> list[int]:
        """Return the ids of the participants that revealed in a round."""
        return self._members("revealedWord", task, index)

    def open_round(self, account: LocalAccount, task: int, selected: Sequence[int] | None = None) -> Receipt:
        """Open the next round for the selected participants; without a selection for everybody who is enrolled."""
        return self._transact(account, "openRound", open_call(task, selected))

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
        staleness: int = 0,
    ) -> Receipt:
        """Reveal an update that was committed to, on chain or, by proof, in a batched round's root.

        It is relative to the model that the round starts from, or to the one so many steps before it.
        """
        content = (update.digest, update.length)
        name, place = ("revealStaleUpdate", (task, index, staleness)) if staleness else ("revealUpdate", (task, index))
        gas = 250_000 + STEP_GAS * staleness
        return self._send(account, name, *place, content, salt, list(proof), gas=gas)

    def close_commits(
        self, account: LocalAccount, task: int, index: int, root: bytes, count: int, batch: ContentRef
    ) -> Receipt:
        """Close a batched round's commit phase with the root of ``count`` commitments, which the content holds."""
        content = (batch.digest, batch.length)
        return self._send(account, "closeCommits", task, index, root, count, content, gas=250_000)

    def propose_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal) -> Receipt:
        """Propose a round's outcome."""
        gas = DEFAULT_GAS + _settle_gas(len(proposal.verdict_words)) + 2_000 * len(proposal.updates)
        return self._transact(account, "proposeRound", propose_call(task, index, proposal), gas=gas)

    def together(self, account: LocalAccount, calls: Sequence[bytes]) -> Receipt | None:
        """Make several calls in one transaction; if they cannot all be made, send none and return None.

        Parameters
        ----------
        account
            The sender.
        calls
            What :func:`open_call`, :func:`propose_call` and :func:`settle_call` return.
        """
        data = functions()["multicall"].encode([list(calls)])
        if not self.chain.would_succeed(account, self.address, data):
            return None
        return self._transact(account, "multicall", data, gas=MAX_GAS)

    def settle_round(self, account: LocalAccount, task: int, index: int, proposal: Proposal, done: int = 0) -> int:
        """Apply a proposed round after its challenge window, or as much of it as fits one transaction.

        Parameters
        ----------
        account, task, index, proposal
            Who settles which round, and what was proposed.
        done
            Verdict words that were applied before.

        Returns
        -------
        int
            Verdict words that are applied now; all of them: the round is settled.
        """
        total = len(proposal.verdict_words)
        limit = total - done
        data = settle_call(task, index, proposal, limit)
        while limit > SMALL_SETTLEMENT and not self.chain.would_succeed(account, self.address, data):
            limit = (limit + 1) // 2
            data = settle_call(task, index, proposal, limit)
        self._transact(account, "settleRound", data, gas=DEFAULT_GAS + _settle_gas(limit))
        return done + limit

    def void_round(self, account: LocalAccount, task: int, index: int) -> Receipt:
        """Void an overdue round."""
        return self._send(account, "voidRound", task, index)

    # -- disputes ----------------------------------------------------------------------------------------------

    def enlist(self, account: LocalAccount) -> Receipt:
        """Put the account's participant among the verifiers from which juries are drawn."""
        return self._send(account, "enlist")

    def retire(self, account: LocalAccount) -> Receipt:
        """Take the account's participant out of them."""
        return self._send(account, "retire")

    def is_serving(self, participant_id: int) -> bool:
        """Return whether a participant may be drawn for a jury."""
        return bool(self._view("isServing", participant_id))

    def verifier_count(self) -> int:
        """Return how many verifiers ever enlisted."""
        return int(self._view("verifierCount"))

    def dispute(self, dispute: int) -> DisputeRecord:
        """Return a dispute's record."""
        d = self._view("disputeRecord", dispute)
        return DisputeRecord(
            id=dispute,
            task=d.task,
            round=d.round,
            kind=DisputeKind(d.kind),
            status=DisputeStatus(d.status),
            subject=d.subject,
            level=d.level,
            deadline=d.deadline,
            challenger=d.challenger,
            bond=d.bond,
        )

    def jury(self, dispute: int, level: int) -> JuryRecord:
        """Return the jury of a dispute's level."""
        j = self._view("juryOf", dispute, level)
        return JuryRecord(
            draw_block=j.drawBlock,
            draw_until=j.drawUntil,
            commits_until=j.commitsUntil,
            reveals_until=j.revealsUntil,
            pool=j.pool,
            committed=j.committed,
            revealed=j.revealed,
            decided=j.decided,
            valid=j.valid,
            outcome=bytes(j.outcome),
            members=tuple(int(member) for member in j.members),
        )

    def challenge_round(self, account: LocalAccount, task: int, index: int) -> Receipt:
        """Challenge a proposal, under the task's bond; juries will replay the round."""
        value = self._lacking(account, self.task(task).params.bond)
        return self._send(account, "challengeRound", task, index, value=value)

    def demand_commitment(
        self, account: LocalAccount, task: int, index: int, participant_id: int, proposal: Proposal
    ) -> Receipt:
        """Demand, under the task's bond, that the commitment of a participant in a batched round is shown."""
        value = self._lacking(account, self.task(task).params.bond)
        posted = proposal.as_arguments()
        return self._send(account, "demandCommitment", task, index, participant_id, posted, value=value)

    def show_commitment(
        self, account: LocalAccount, dispute: int, signed: SignedCommitment, proof: Sequence[bytes]
    ) -> Receipt:
        """Answer such a demand."""
        return self._send(account, "showCommitment", dispute, _claim(signed, proof))

    def refute_missed(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        signed: SignedCommitment,
        proof: Sequence[bytes],
        proposal: Proposal,
    ) -> Receipt:
        """Refute a proposal that says a participant never committed, by the way from its commitment to the root."""
        claim, posted = _claim(signed, proof), proposal.as_arguments()
        return self._send(account, "refuteMissed", task, index, signed.participant, claim, posted)

    def refute_duplicate(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        first: tuple[SignedCommitment, Sequence[bytes]],
        second: tuple[SignedCommitment, Sequence[bytes]],
    ) -> Receipt:
        """Refute a round whose root has two commitments of one participant."""
        participant_id = first[0].participant
        return self._send(account, "refuteDuplicate", task, index, participant_id, _claim(*first), _claim(*second))

    def report_equivocation(
        self, account: LocalAccount, task: int, index: int, first: SignedCommitment, second: SignedCommitment
    ) -> Receipt:
        """Punish a participant that signed two commitments for one round."""
        claims = _claim(first, ()), _claim(second, ())
        return self._send(account, "reportEquivocation", task, index, first.participant, *claims)

    def draw_jury(self, account: LocalAccount, dispute: int) -> Receipt:
        """Draw the jury that was called."""
        return self._send(account, "drawJury", dispute, gas=3_000_000)

    def vote_of(self, dispute: int, level: int, juror: int, valid: bool, transcript: bytes, salt: bytes) -> bytes:
        """Return what a juror commits to."""
        return bytes(self._view("voteOf", dispute, level, juror, valid, transcript, salt))

    def commit_vote(self, account: LocalAccount, dispute: int, commitment: bytes) -> Receipt:
        """Commit the account's participant, a juror, to what it found."""
        return self._send(account, "commitVote", dispute, commitment)

    def reveal_vote(self, account: LocalAccount, dispute: int, valid: bool, transcript: bytes, salt: bytes) -> Receipt:
        """Reveal what the account's participant committed to."""
        return self._send(account, "revealVote", dispute, valid, transcript, salt)

    def decide(self, account: LocalAccount, dispute: int) -> Receipt:
        """Count the votes of a jury that is done."""
        return self._send(account, "decide", dispute)

    def appeal(self, account: LocalAccount, dispute: int, bond: int) -> Receipt:
        """Appeal against what a jury found; ``bond`` is twice that of the level before."""
        return self._send(account, "appeal", dispute, value=self._lacking(account, bond))

    def close_dispute(self, account: LocalAccount, dispute: int) -> Receipt:
        """Close a dispute whose last deadline is over."""
        return self._send(account, "closeDispute", dispute, gas=6_000_000)

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

    def free_balance(self, address: str, currency: str = COIN) -> int:
        """Return what an address may withdraw of a currency."""
        return int(self._view("balanceOf", currency, checksum_address(address)))

    def deposit(self, account: LocalAccount, amount: int, currency: str = COIN) -> Receipt:
        """Add to the account's free balance; of a token, the ledger must have been approved for the amount."""
        return self._send(account, "deposit", currency, amount, value=amount if currency == COIN else 0)

    def withdraw(self, account: LocalAccount, to: str, currency: str = COIN) -> Receipt:
        """Withdraw the account's free balance of a currency."""
        return self._send(account, "withdraw", currency, to)

    def stake_currency(self) -> str:
        """Return the currency of stakes, bonds and penalties."""
        return self._settings.stake_currency

    @cached_property
    def _settings(self) -> Settings:
        return self.settings()

    def _lacking(self, account: LocalAccount, amount: int, currency: str | None = None) -> int:
        """Return the coin that must be sent along so that the free balance suffices; tokens are deposited first."""
        currency = self.stake_currency() if currency is None else currency
        return max(0, amount - self.free_balance(account.address)) if currency == COIN and amount else 0

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
            reverted = revert_data(error.__cause__)
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
        return self.chain.send_all(transactions, name, explain_revert)

    def _transact(
        self, account: LocalAccount, name: str, data: bytes, value: int = 0, gas: int = DEFAULT_GAS
    ) -> Receipt:
        return self.chain.send(Transaction(account, self.address, data, value, gas), name, explain_revert)


def _settle_gas(words: int) -> int:
    return 30_000 * LANES * words


def _claim(signed: SignedCommitment, proof: Sequence[bytes]) -> tuple[Any, ...]:
    return signed.commitment, signed.signature, list(proof)
