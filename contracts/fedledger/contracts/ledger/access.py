"""What a program acts with: a ledger, its history, an account and a content store."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.protocol.records.signatures import Place
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import ContentStore


def place_of(ledger: Ledger, task: int) -> Place:
    """Return what a task's commitments are bound to."""
    return ledger.chain.chain_id, ledger.address, task


@dataclass(frozen=True)
class Access:
    """An account's access to a ledger.

    Parameters
    ----------
    ledger, history
        The ledger, and its state from logs (may be shared).
    account
        The account that signs and pays.
    store
        Where content is fetched and stored.
    """

    ledger: Ledger
    history: History
    account: LocalAccount
    store: ContentStore

    @property
    def address(self) -> str:
        """The account's address."""
        return str(self.account.address)

    @property
    def participant(self) -> int | None:
        """The id of the participant that the account owns; None if it is not registered."""
        return self.history.ids.get(self.account.address)


@dataclass(frozen=True)
class TaskAccess(Access):
    """An account's access to one task of a ledger.

    Parameters
    ----------
    task
        The task's id.
    spec
        Its spec.
    """

    task: int
    spec: TaskSpec

    @property
    def place(self) -> Place:
        """What the task's commitments are bound to."""
        return place_of(self.ledger, self.task)
