"""Tasks in the ledger: posting, enrolment, the seats of aggregators, credits."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import RevertedError, checksum_address, decode_log, events
from fedledger.contracts.chain.answers import ContradictionError
from fedledger.contracts.chain.records import Receipt
from fedledger.contracts.ledger.calls import enrol_call, task_params
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.records import (
    COIN,
    Phase,
    SealRecord,
    SeatRecord,
    TaskParams,
    TaskRecord,
)
from fedledger.protocol.errors import ChainError


class TaskMethods(LedgerContract):
    """What publishers, participants and aggregators do with tasks."""

    def post_task(self, publisher: LocalAccount, params: TaskParams, standbys: Sequence[str] = ()) -> int:
        """Post a task with its budget and its seal's deposit in escrow; ``standbys`` take over in their order.

        Returns
        -------
        int
            The task's id.
        """
        due = ((params.token, params.budget), (self.stake_currency(), params.seal_deposit))
        value = self._lacking(publisher, sum(amount for currency, amount in due if currency == COIN), COIN)
        receipt = self._send(publisher, "postTask", params.as_argument(), list(standbys), value=value)
        # Not asked for as logs, which one of several nodes may not have yet.
        for log in self.chain.receipt(receipt.hash)["logs"]:
            if log["address"] == self.address and bytes(log["topics"][0]) == events()["TaskPosted"].topic:
                return int(decode_log(log).arguments["task"])
        raise ContradictionError(f"The chain shows no task that transaction 0x{receipt.hash.hex()} posted.")

    def enrol(
        self, account: LocalAccount, task: int, word: int | None = None, recommenders: Sequence[str] = ()
    ) -> Receipt:
        """Enrol the account's participant in a task.

        Parameters
        ----------
        account, task
            Whose participant enrols, and in which task.
        word
            What it commits to of its data in the same transaction, if to anything.
        recommenders
            All of the task's, whose opinions of the participant count, too.
        """
        return self._transact(account, "enrol", enrol_call(task, word, recommenders))

    def leave_task(self, account: LocalAccount, task: int, participant: int) -> Receipt:
        """Take a participant out of a task of open enrolment: the account's own, or one without the stake for it."""
        return self._send(account, "leaveTask", task, participant)

    def enrol_all(
        self,
        accounts: Sequence[LocalAccount],
        task: int,
        words: Sequence[int | None] = (),
        recommenders: Sequence[str] = (),
    ) -> list[Receipt]:
        """Enrol the participants of many accounts in a task, without waiting in between; see :meth:`enrol`."""
        calls = [enrol_call(task, word, recommenders) for word in words or [None] * len(accounts)]
        return self._send_all(accounts, "enrol", calls)

    def task(self, task: int) -> TaskRecord:
        """Return a task's record.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        """
        try:
            t = self._view("task", task)
        except RevertedError as error:
            if error.name != "UnknownTask":
                raise
            known = ", ".join(map(str, range(1, self.task_count() + 1))) or "none"
            raise ChainError(f"The ledger has no task {task}.", f"It has: {known}.") from error
        return TaskRecord(
            id=task,
            publisher=t.publisher,
            params=task_params(t.params),
            enrol_deadline=t.enrolDeadline,
            enrolled=t.enrolled,
            seats=t.seats,
            last_final_at=t.lastFinalAt,
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

    def seal(self, task: int) -> SealRecord:
        """Return what has become of a task's seal."""
        seal = self._view("sealOf", task)
        return SealRecord(seal.deposit, seal.opened, seal.forfeited)

    def open_seal(self, account: LocalAccount, task: int, key: bytes) -> Receipt:
        """Open a task's seal with its key, which returns the deposit to the publisher.

        Before the task is finished only its publisher may.
        """
        return self._send(account, "openSeal", task, key)

    def forfeit_seal(self, account: LocalAccount, task: int) -> Receipt:
        """Burn the deposit of a seal that was not opened in time."""
        return self._send(account, "forfeitSeal", task)

    def credit(self, task: int, participant_id: int) -> int:
        """Return the credit, in units, that a participant may withdraw from a task."""
        return int(self._view("creditOf", task, participant_id))

    def credit_word(self, task: int, slot: int) -> int:
        """Return eight participants' credits in a task, 32 bits each."""
        return int(self._view("creditWord", task, slot))

    def withdraw_credit(self, account: LocalAccount, task: int, participant_id: int) -> Receipt:
        """Pay a participant's credit out to its payout address."""
        return self._send(account, "withdrawCredit", task, participant_id)
