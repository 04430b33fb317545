"""What an account does on a ledger once in a while: push on an idle task, withdraw what it is owed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import ParticipantRecord, Phase
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.seal import key_digest


class Push(StrEnum):
    """What pushing on a task did."""

    NOTHING = "nothing"
    SETTLED = "settled"
    VOIDED = "voided"
    FORFEITED = "seal forfeited"


@dataclass(frozen=True)
class Pushed:
    """The outcome of pushing on a task.

    Parameters
    ----------
    done
        What was done.
    round
        The round that was settled or voided; 0 for none.
    earned
        Wei that the account earned by it.
    """

    done: Push
    round: int
    earned: int


@dataclass(frozen=True)
class Withdrawal:
    """What an account has withdrawn.

    Parameters
    ----------
    credits
        Wei of credit by task, paid to ``payout``.
    payout
        The participant's payout address; None if the account owns no participant.
    balance
        Wei of free balance.
    """

    credits: dict[int, int]
    payout: str | None
    balance: int


def own_record(ledger: Ledger, account: LocalAccount) -> ParticipantRecord:
    """Return the participant that an account owns.

    Raises
    ------
    ConfigError
        If it owns none.
    """
    participant = ledger.participant_id(account.address)
    if participant is None:
        raise ConfigError(f"{account.address} owns no participant of this ledger.", "Give the key of the owner.")
    return ledger.participant(participant)


@dataclass(frozen=True)
class Left:
    """What leaving a task came to.

    Parameters
    ----------
    last_round
        The last round that still asks the participant; 0 if there is none that is not final.
    enrolled, least
        How many participants the task has now, and how many every round needs.
    """

    last_round: int
    enrolled: int
    least: int


def leave_task(ledger: Ledger, account: LocalAccount, task: int) -> Left:
    """Take an account's participant out of a task of open enrolment.

    Raises
    ------
    ConfigError
        If it is not enrolled, or the task lets nobody leave.
    """
    participant = ledger.participant_id(account.address)
    try:
        if participant is not None:
            ledger.leave_task(account, task, participant)
    except RevertedError as error:
        if error.name == "EnrolmentClosed":
            raise ConfigError(
                f"Task {task} lets nobody leave: its enrolment is not open between rounds.",
                "Stop the node; rounds that it misses cost reputation, and no stake.",
            ) from error
        if error.name == "TaskAlreadyFinished":
            raise ConfigError(f"Task {task} has ended.", "Collect what is left with `fedledger withdraw`.") from error
        if error.name != "NotInTask":
            raise
        participant = None
    if participant is None:
        raise ConfigError(
            f"{account.address} is not enrolled in task {task}.", "Give the key of a participant that is."
        )
    known = History(ledger).update().task(task)
    last = max((current.index for current in known.unfinal if participant in current.selected), default=0)
    return Left(last, len(known.enrolled), known.params.min_participants)


def push_on(ledger: Ledger, account: LocalAccount, task: int) -> Pushed:
    """Settle a task's final proposal, void its overdue round, or burn the deposit of its seal: whichever is due."""
    known = History(ledger).update().task(task)
    currency = ledger.stake_currency()
    before, done, index = ledger.free_balance(account.address, currency), Push.NOTHING, 0
    due = ledger.settleable(task)
    proposal = known.rounds[due].proposal if due else None
    if proposal is not None:
        done, index, words = Push.SETTLED, due, known.rounds[due].applied
        while words < len(proposal.verdict_words):
            words = ledger.settle_round(account, task, due, proposal, words)
    elif ledger.phase(task) is Phase.OVERDUE:
        done, index = Push.VOIDED, max(known.rounds)
        ledger.void_round(account, task, index)
    elif known.finished and any(known.params.seal) and _forfeit(ledger, account, task):
        done = Push.FORFEITED
    return Pushed(done, index, ledger.free_balance(account.address, currency) - before)


def _forfeit(ledger: Ledger, account: LocalAccount, task: int) -> bool:
    """Burn the deposit of a seal that was not opened in time; return whether that was due."""
    seal = ledger.seal(task)
    if seal.opened or seal.forfeited:
        return False
    try:
        ledger.forfeit_seal(account, task)
    except RevertedError as error:
        if error.name != "SealPeriodOpen":
            raise
        return False
    return True


def open_seal(ledger: Ledger, account: LocalAccount, task: int, key: bytes) -> bool:
    """Open the seal of a task's validation set, so that everybody can measure again.

    Returns
    -------
    bool
        Whether this did it; if not, it was open before.

    Raises
    ------
    ConfigError
        If the task's validation set is not sealed, or sealed with another key.
    """
    seal = ledger.task(task).params.seal
    if seal != key_digest(key):
        kept = "is sealed with another key" if any(seal) else "is not sealed"
        raise ConfigError(f"The validation set of task {task} {kept}.", "Give its publisher's --seal-key.")
    if ledger.seal(task).opened:
        return False
    try:
        ledger.open_seal(account, task, key)
    except RevertedError as error:
        if error.name != "SealAlreadyOpen":
            raise
        return False
    return True


def withdraw_all(ledger: Ledger, account: LocalAccount, to: str | None = None) -> Withdrawal:
    """Withdraw an account's credits of all tasks to its payout address, and its free balance.

    Parameters
    ----------
    ledger, account
        The ledger, and whose money it is.
    to
        Address for the free balance; the account's own unless given.
    """
    participant = ledger.participant_id(account.address)
    credits = {} if participant is None else _withdraw_credits(ledger, account, participant)
    balance = ledger.free_balance(account.address)
    if balance:
        ledger.withdraw(account, to or account.address)
    payout = None if participant is None else ledger.participant(participant).payout
    return Withdrawal(credits, payout, balance)


def _withdraw_credits(ledger: Ledger, account: LocalAccount, participant: int) -> dict[int, int]:
    credits = {}
    for task in range(1, ledger.task_count() + 1):
        units = ledger.credit(task, participant)
        if units:
            credits[task] = units * ledger.task(task).params.credit_unit
            ledger.withdraw_credit(account, task, participant)
    return credits
