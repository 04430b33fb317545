"""What a participant earned in a task, what it was refused and why, and how it gets its money."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import COIN
from fedledger.ledger_tools.audit.check_view import counted
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.score_view import told_own
from fedledger.ledger_tools.report.refusals import Refusal
from fedledger.ledger_tools.report.task_view import TaskView, losses, readable_spec
from fedledger.protocol.errors import FedledgerError
from fedledger.protocol.units import in_gwei
from fedledger.storage.base import ContentStore

log = logging.getLogger(__name__)

TOLD = 5
"""Refusals that are told one by one."""


@dataclass(frozen=True)
class OwnAccount:
    """A participant's own account of a task.

    Parameters
    ----------
    address
        The participant's.
    accepted, refused
        Rounds in which its update was accepted, and was not, by reason.
    refusals
        What the reports say of the last ones that were not.
    earned, due
        What it was paid, and what it can still collect, in the smallest unit of the task's currency.
    token
        The task's currency, if it is a token's.
    slashed
        What offences cost it, by offence, in the smallest unit of the stakes' currency.
    reputation
        In parts per million, with the task's publisher, by the task's reputation model if it has one.
    left
        Whether it has left the task.
    checks
        How many spot checks of its updates came to what.
    reputation_name
        What the reputation is called.
    scores
        How often it scored updates, was silent, or far from the others.
    """

    address: str
    accepted: int
    refused: dict[str, int]
    refusals: tuple[Refusal, ...]
    earned: int
    due: int
    token: str | None
    slashed: dict[str, str]
    reputation: int
    left: bool
    checks: dict[str, int]
    reputation_name: str = "reputation"
    scores: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, history: History, store: ContentStore, task: int, address: str, ledger: Ledger | None = None
    ) -> OwnAccount | None:
        """Return the account of an address; None if it was never enrolled in the task.

        A ``ledger`` tells what time it is: without, checks that nobody may decide any more count as open.
        """
        clock = None if ledger is None else Clock.of(ledger)
        record = history.task(task)
        view = TaskView.of(history, task, clock, spec=readable_spec(record, store))
        params = record.params
        own = next((each for each in view.participants if each.address == address), None)
        if own is None:
            return None
        refusals: tuple[Refusal, ...] = ()
        if own.refused:
            try:
                refusals = tuple(each for each in view.refusals(store) if each.address == address)[-TOLD:]
            except FedledgerError as error:
                log.warning("why updates were refused is not known: %s", error)
        return cls(
            address,
            own.accepted,
            dict(own.refused),
            refusals,
            own.earned * params.credit_unit,
            own.credit * params.credit_unit,
            None if params.token == COIN else params.token,
            dict(own.slashed),
            own.reputation,
            own.id not in record.enrolled,
            dict(own.checks),
            view.reputation_name,
            {} if view.scores is None else view.scores.counts(address),
        )

    def lines(self) -> list[str]:
        """Return it in sentences."""
        currency = "" if self.token is None else f" of the token {self.token}"
        counts = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        told = [
            f"{self.accepted} updates were accepted{f', others not: {counts}' if counts else ''}; "
            f"{self.reputation_name} {self.reputation / 1e6:.3f}.",
            f"Earned: {in_gwei(self.earned)}{currency}.",
        ]
        for each in self.refusals:
            detail = f": {each.detail}" if each.detail else ""
            told.append(f"Round {each.round}: {each.reason}{detail}")
        if self.checks:
            told.append(f"Spot checks of its updates: {counted(self.checks)}.")
        if self.scores:
            told.append(f"As a scorer of others: {told_own(self.scores)}.")
        if self.slashed:
            told.append(f"Lost of the stake: {losses(self.slashed)}.")
        if self.due:
            told.append(f"{in_gwei(self.due)}{currency} wait for you: collect them with `fedledger withdraw`.")
        if self.left:
            told.append("You have left the task: `fedledger node start --rejoin` enrols you again, while it goes on.")
        told.append("The stake stays on the ledger for other tasks; `fedledger node exit` begins to take it back.")
        return told
