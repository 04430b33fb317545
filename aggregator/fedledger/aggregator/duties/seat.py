"""An aggregator's seat: its bond, its announced address, and whether it is its turn."""

from __future__ import annotations

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import WAITED, Situation, Step
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.errors import RoundError
from fedledger.storage.addresses import read_url


class Seat:
    """The duty to take a seat among a task's aggregators, and to leave to another one what is not its turn.

    Parameters
    ----------
    access
        The task, and the aggregator's account.
    url
        Where participants reach the aggregator's mailbox; it is announced on the ledger.

    Raises
    ------
    ConfigError
        If it is no URL that participants accept.
    """

    def __init__(self, access: TaskAccess, url: str | None) -> None:
        if url is not None:
            read_url(url)
        self.access = access
        self.url = url
        self.is_taken = False

    def __call__(self, seen: Situation) -> Step | None:
        """Take the seat and announce the mailbox; wait unless it is this aggregator's turn."""
        access, task = self.access, seen.task
        if not self.is_taken:
            self._take(task)
        if self.url is not None and access.history.endpoints.get(access.address) != self.url:
            access.ledger.announce(access.account, self.url)
        is_active = task.seats[task.active] == access.address
        return None if is_active or access.ledger.may_act(access.task, access.address) else WAITED

    def _take(self, task: TaskHistory) -> None:
        """Deposit the bond, without which nothing is this aggregator's turn."""
        access, bond = self.access, task.params.bond
        own = next((s for s in access.ledger.seats(access.task) if s.holder == access.address), None)
        if own is None:
            raise RoundError(
                f"{access.address} is not an aggregator of task {access.task}.",
                f"Use the account of one of: {', '.join(task.seats)}.",
            )
        if own.deposit < bond:
            access.ledger.take_seat(access.account, access.task)
        self.is_taken = True
