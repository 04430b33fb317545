"""Spot checks of a task in typed rows, as tables, pages and participants are told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.checks import auditors_hash
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import CheckState, Offence
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Wait
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.protocol.errors import FedledgerError
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.protocol.units import in_gwei
from fedledger.storage.base import ContentStore

PASSED, FAILED, OPEN, WITHOUT_EFFECT = OUTCOMES = "passed", "failed", "open", "without effect"
"""What has come of a check; it has no effect in a round that was voided."""


@dataclass(frozen=True)
class CheckView:
    """A spot check of an update.

    Parameters
    ----------
    round, address
        Which update: its round, and its participant's owner.
    auditor, auditor_address
        The place of the auditor who decides, among those of the task, and its account where that is known.
    outcome
        One of ``OUTCOMES``.
    state
        How it stands, in words.
    answered
        Whether the participant has shown what the update follows from.
    cost
        What the participant lost by it, in the smallest unit of the stakes' currency; text, as JSON's numbers are too
        small.
    seed
        Hash of the block that drew it, hexadecimal.
    """

    round: int
    address: str
    auditor: int
    auditor_address: str | None
    outcome: str
    state: str
    answered: bool
    cost: str
    seed: str


@dataclass(frozen=True)
class ChecksView:
    """Spot checks and committed data of a task.

    Parameters
    ----------
    rate
        How many of the accepted updates are checked, in parts per million; 0: none.
    period
        Seconds for each step of a check.
    penalty
        What a failed one costs, in the smallest unit of the stakes' currency.
    auditors
        How many the task has.
    committed
        How many participants have committed to data.
    rows
        The checks, by round and participant.
    """

    rate: int
    period: int
    penalty: int
    auditors: int
    committed: int
    rows: tuple[CheckView, ...]

    @classmethod
    def of(
        cls, history: History, task: int, clock: Clock | None = None, auditors: Sequence[str] = ()
    ) -> ChecksView | None:
        """Return what is known of a task's checks; None if it has none, and nobody has committed to data.

        Parameters
        ----------
        history, task
            The ledger's history, and the task's number.
        clock
            Tells whether an auditor can still say what it found; if not given, it can.
        auditors
            The accounts of the task's auditors, in their order, where they are known.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        """
        record = history.task(task)
        params = record.params
        if not params.check_rate and not record.data:
            return None
        costs = {(s.round, s.participant): s.amount for s in record.slashes if s.offence is Offence.FAILED_CHECK}
        rows = []
        for check in record.checks:
            seed = record.rounds[check.round].check_seed or b""
            outcome = outcome_of(record, check, clock)
            rows.append(
                CheckView(
                    round=check.round,
                    address=history.owners[check.participant],
                    auditor=check.auditor,
                    auditor_address=auditors[check.auditor] if check.auditor < len(auditors) else None,
                    outcome=outcome,
                    state=_told(check, outcome),
                    answered=bool(check.answers),
                    cost=str(costs.get((check.round, check.participant), 0)),
                    seed=seed.hex(),
                )
            )
        terms = params.check_rate, params.check_period, params.check_penalty, params.auditor_count
        return cls(*terms, len(record.data), tuple(rows))

    def counts(self, address: str | None = None) -> dict[str, int]:
        """Return how many checks came to what: of all participants, or of one."""
        return counts_of(row.outcome for row in self.rows if address is None or row.address == address)

    @property
    def facts(self) -> dict[str, str]:
        """What a page says of them as a whole."""
        facts = {"participants with committed data": f"{self.committed:,}"}
        if self.rate:
            facts["spot checks"] = (
                f"{self.rate / 10_000:g} % of the accepted updates, by one of {self.auditors} auditors; "
                f"a failed check costs {in_gwei(self.penalty)}"
            )
            facts["checks"] = counted(self.counts())
        return facts


def counts_of(outcomes: Iterable[str]) -> dict[str, int]:
    """Return how often each outcome occurs, in their order; those that do not occur are left out."""
    found = Counter(outcomes)
    return {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]}


def counted(counts: Mapping[str, int]) -> str:
    """Return numbers of checks in words, such as ``3 passed, 1 failed``."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none yet"


def totals_of(view: ChecksView | None) -> dict[str, Any]:
    """Return how many checks a task has, how many came to what, and what all cost, as JSON; empty if it has none.

    ``cost`` is text, in the smallest unit of the stakes' currency.
    """
    if view is None or not view.rate:
        return {}
    return {"checks": len(view.rows), **view.counts(), "cost": str(sum(int(row.cost) for row in view.rows))}


def told_totals(totals: Mapping[str, Any]) -> str:
    """Return what :func:`totals_of` says as a sentence."""
    found = counted({outcome: totals[outcome] for outcome in OUTCOMES if outcome in totals})
    return f"Spot checks: {totals['checks']:,} ({found}), which cost {in_gwei(int(totals['cost']))}"


def outcome_of(task: TaskHistory, check: CheckHistory, clock: Clock | None) -> str:
    """Return which of ``OUTCOMES`` a check has; see :meth:`ChecksView.of`."""
    voided = task.rounds[check.round].voided
    if clock is None:
        is_open = not voided and check.state not in (CheckState.PASSED, CheckState.ENDED)
    else:
        is_open = clock.times.is_open(task, check, clock.now)
    if is_open:
        return OPEN
    if voided:
        return WITHOUT_EFFECT
    return FAILED if check.state is CheckState.ENDED else PASSED


def _told(check: CheckHistory, outcome: str) -> str:
    """Return how a check stands, in words."""
    if outcome == WITHOUT_EFFECT:
        return "without effect, as its round was voided"
    if outcome == PASSED and check.state is CheckState.ANSWERED:
        return "passed, as the auditor said nothing in time"
    return check.state.label


_ASKED = {
    CheckState.SUMMONED: "its participant to show what the update follows from",
    CheckState.ANSWERED: "auditor {auditor} to say what it found",
    CheckState.FAILED: "an appeal of its participant",
    CheckState.APPEALED: "auditor {auditor} to decide the appeal",
}


def wait_of(task: TaskHistory, check: CheckHistory, clock: Clock) -> Wait:
    """Return what an open check waits for."""
    current, until = task.rounds[check.round], clock.times.waits_until(task, check)
    if not current.voided:
        if check.state in _ASKED and until is not None and clock.now < until:
            return Wait(_ASKED[check.state].format(auditor=check.auditor), until)
        if not current.settled:
            return Wait(f"round {check.round} to be settled")
    return Wait("somebody to end it, as anybody may")


def check_status(history: History, task: int, clock: Clock) -> dict[str, Any] | None:
    """Return how the checks of a task stand, as a document; None if it has none.

    ``outcomes`` and ``states`` count them, and ``open`` names each that goes on, with what it waits for: ``until`` is
    a time of the chain in seconds, or None.
    """
    record, view = history.task(task), ChecksView.of(history, task, clock)
    if view is None or not view.rate:
        return None
    waiting = []
    for check, row in zip(record.checks, view.rows, strict=True):
        if row.outcome == OPEN:
            wait = wait_of(record, check, clock)
            named = {"round": row.round, "participant": row.address, "auditor": row.auditor, "state": row.state}
            waiting.append(named | {"waits": wait.what, "until": wait.until})
    states = dict(Counter(row.state for row in view.rows))
    terms = {"rate": view.rate, "period": view.period, "auditors": view.auditors, "committed": view.committed}
    return {**terms, "outcomes": view.counts(), "states": states, "open": waiting}


def told_open(row: Mapping[str, Any]) -> str:
    """Return a row of ``open`` of :func:`check_status` as a sentence."""
    wait = Wait(row["waits"], row["until"])
    return f"The check of {row['participant']} in round {row['round']} ({row['state']}) waits for {wait}."


def known_auditors(task: TaskHistory, store: ContentStore) -> tuple[str, ...]:
    """Return the accounts of a task's auditors, in their order; none if its spec cannot be read, or is another one."""
    try:
        spec = TaskSpec.decode(store.get(task.spec, MAX_SPEC_BYTES))
    except FedledgerError:
        return ()
    accounts = () if spec.spot_checks is None else spec.spot_checks.accounts
    return accounts if auditors_hash(accounts) == task.params.auditors else ()
