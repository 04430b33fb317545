"""A task as its ledger tells it: rounds, participants and refused updates, in typed rows for tables and pages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fedledger.aggregator.reputation.base import model_of
from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.check_view import ChecksView
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.divergence import reading
from fedledger.ledger_tools.audit.execute import execute_all
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
from fedledger.ledger_tools.audit.score_view import ScoresView
from fedledger.ledger_tools.report.contributions import ToldContribution, told_contributions
from fedledger.ledger_tools.report.refusals import Refusal, ReportedReasons
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import FedledgerError
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import in_gwei
from fedledger.storage.base import ContentStore
from fedledger.storage.foreign_folder import inner_file

log = logging.getLogger(__name__)

Modelled = Callable[[int, Sequence[int]], dict[int, int]]
"""Reputations by a task's model at a place of the ledger's order, by participant id."""


@dataclass(frozen=True)
class RoundView:
    """A round of a task.

    Parameters
    ----------
    index
        Its number, from 1.
    status
        ``open``, ``proposed``, ``settled`` or ``voided``.
    selected, committed, revealed
        Numbers of participants.
    verdicts
        Verdict in words, by address.
    shares
        Units of pay, by address.
    reputations
        Reputation (ppm) that the round left, by address.
    base
        The model that the round started from.
    model, report
        The proposed model and its report; None before a proposal.
    verifiers
        How many verifiers served the task when the round was proposed.
    bidding
        Whether it asked for bids.
    """

    index: int
    status: str
    selected: int
    committed: int
    revealed: int
    verdicts: Mapping[str, str]
    shares: Mapping[str, int]
    reputations: Mapping[str, int]
    base: ContentRef
    model: ContentRef | None
    report: ContentRef | None
    verifiers: int = 0
    bidding: bool = False

    @property
    def accepted(self) -> int:
        """Number of accepted updates."""
        return sum(verdict == Verdict.ACCEPTED.label for verdict in self.verdicts.values())

    @property
    def refused(self) -> int:
        """Number of refused updates; those that never came do not count."""
        return sum(verdict in _REFUSED for verdict in self.verdicts.values())

    @property
    def heard(self) -> int:
        """Number of bids that were heard."""
        return sum(verdict == Verdict.HEARD.label for verdict in self.verdicts.values())


@dataclass(frozen=True)
class ParticipantView:
    """A participant of a task.

    Parameters
    ----------
    id, address
        Its number on the ledger, and its owner.
    accepted
        Rounds in which its update was accepted.
    refused
        Rounds in which it was not, by reason.
    reputation
        In parts per million, with the task's publisher, by the task's reputation model if it has one.
    credit, earned
        Units of pay that it can withdraw, and that it was paid.
    slashed
        What offences cost it, by offence, in the smallest unit of the stakes' currency; text, as JSON's numbers are too
        small.
    checks
        How many spot checks of its updates came to what.
    heard
        Rounds in which its bid was heard.
    """

    id: int
    address: str
    accepted: int
    refused: Mapping[str, int]
    reputation: int
    credit: int
    earned: int
    slashed: Mapping[str, str]
    checks: Mapping[str, int] = field(default_factory=dict)
    heard: int = 0


@dataclass(frozen=True)
class TaskView:
    """A task.

    Parameters
    ----------
    id
        Its number on the ledger.
    spec, model
        Its spec, and its newest settled model.
    challenge_window
        Seconds during which a proposal can be disputed.
    rounds
        Its rounds, by number.
    participants
        The participants that were ever enrolled, by address.
    checks
        Its spot checks and committed data; None without both.
    scores
        How its updates were scored; None without scorers.
    reputation_model
        The reputation model by which reputations are told; empty: by the ledger's own evidence.
    """

    id: int
    spec: ContentRef
    model: ContentRef
    challenge_window: int
    rounds: tuple[RoundView, ...]
    participants: tuple[ParticipantView, ...]
    checks: ChecksView | None = None
    scores: ScoresView | None = None
    reputation_model: str = ""

    @classmethod
    def of(
        cls,
        history: History,
        task: int,
        clock: Clock | None = None,
        auditors: Sequence[str] = (),
        spec: TaskSpec | None = None,
    ) -> TaskView:
        """Return the view of a task in the history of a ledger.

        Parameters
        ----------
        history, task
            The history, and the task's number.
        clock, auditors
            What is known of spot checks besides, as :meth:`ChecksView.of` takes it.
        spec
            The task's spec, which may name a reputation model; None: reputations are told by the ledger's evidence.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        ConfigError
            If this release lacks the reputation model.
        """
        record = history.task(task)
        modelled = None
        if spec is not None and spec.reputation_model is not None:
            modelled = partial(TaskReputations(), history, record, spec)
        rounds = tuple(_round(history, current, modelled) for _, current in sorted(record.rounds.items()))
        settled = [current for current in rounds if current.status == "settled"]
        checks = ChecksView.of(history, task, clock, auditors)
        participants = []
        standing = {} if modelled is None else modelled(len(history.applied), sorted(record.joined))
        for number in sorted(record.joined, key=lambda i: history.owners[i].lower()):
            address = history.owners[number]
            verdicts = Counter(current.verdicts[address] for current in settled if address in current.verdicts)
            accepted, heard = (verdicts.pop(each.label, 0) for each in (Verdict.ACCEPTED, Verdict.HEARD))
            reputation = history.evidence(record.publisher, number).reputation if modelled is None else standing[number]
            refused = dict(sorted(verdicts.items()))
            credit, earned = record.credit(number), record.earned(number)
            paid, slashed = (credit, earned), _slashed(record, number)
            own = {} if checks is None else checks.counts(address)
            told_of = refused, reputation, *paid, slashed, own, heard
            participants.append(ParticipantView(number, address, accepted, *told_of))
        window = record.params.challenge_window
        model = "" if spec is None or spec.reputation_model is None else spec.reputation_model.method
        told = checks, ScoresView.of(history, task), model
        return cls(task, record.spec, record.model, window, rounds, tuple(participants), *told)

    @property
    def reputation_name(self) -> str:
        """What the task's reputations are called: by which model they are, if the task has one."""
        return f"reputation by {self.reputation_model}" if self.reputation_model else "reputation"

    @property
    def settled(self) -> list[RoundView]:
        """The settled rounds."""
        return [current for current in self.rounds if current.status == "settled"]

    def refusals(self, store: ContentStore) -> list[Refusal]:
        """Return every update of the settled rounds that was not accepted, with what its report says; a bid is none.

        Raises
        ------
        StoreError
            If a report is missing.
        """
        found = []
        for current in self.settled:
            if current.report is None:
                continue
            reasons = ReportedReasons.read(store, current.report)
            for address, verdict in sorted(current.verdicts.items(), key=lambda pair: pair[0].lower()):
                if verdict not in (Verdict.ACCEPTED.label, Verdict.HEARD.label):
                    found.append(reasons.refusal(current.index, address, verdict))
        return found

    def contributions(self, store: ContentStore) -> list[ToldContribution]:
        """Return every update that counted in a settled round, with what its report says that it was worth.

        Raises
        ------
        StoreError
            If a report is missing.
        """
        return [
            told
            for current in self.settled
            if current.report is not None
            for told in told_contributions(store, current.report, current.index, current.shares)
        ]


def losses(slashed: Mapping[str, str]) -> str:
    """Return what offences cost, such as ``5 gwei for failed check``; see ``ParticipantView``."""
    return ", ".join(f"{in_gwei(int(amount))} for {offence}" for offence, amount in slashed.items())


def exported_history(folder: Path, watch: Callable[[int, int], None] = lambda done, of: None) -> History:
    """Return the history of the ledger that a run exported to its folder; see :func:`read_export`."""
    return read_export(folder, watch)[0]


def read_export(folder: Path, watch: Callable[[int, int], None] = lambda done, of: None) -> tuple[History, Clock]:
    """Return the history of the ledger that a run exported, executed again on the embedded EVM, and its chain's clock.

    Parameters
    ----------
    folder
        The run's folder.
    watch
        Is told how many blocks are executed, and of how many.

    Raises
    ------
    ConfigError
        If there is no such export.
    DivergenceError
        If the export does not follow from its transactions.
    """
    export = LedgerExport.read(inner_file(folder, LEDGER_FILE))
    with reading(0, LEDGER_FILE):
        done = execute_all(export, watch)
        history = History().extend(done.logs)
    for note in done.unchecked.notes():
        log.warning("%s", note)
    return history, Clock.of_export(export)


_REFUSED = frozenset(verdict.label for verdict in Verdict if verdict.refused)


def readable_spec(task: TaskHistory, store: ContentStore) -> TaskSpec | None:
    """Return a task's spec; None, with a warning, if it cannot be read or this release lacks its reputation model."""
    try:
        spec = TaskSpec.decode(store.get(task.spec, MAX_SPEC_BYTES))
        model_of(spec)
    except FedledgerError as error:
        log.warning("reputations are told by the ledger's own evidence, as the task's terms are not known: %s", error)
        return None
    return spec


def _round(history: History, current: RoundHistory, modelled: Modelled | None) -> RoundView:
    proposal, left = current.proposal, current.left
    told = {i: evidence.reputation for i, evidence in left.items()}
    if modelled is not None and left:
        told = modelled(current.applied_after, sorted(left))
    if current.settled:
        status = "settled"
    elif current.voided:
        status = "voided"
    else:
        status = "open" if proposal is None else "proposed"
    owners = history.owners
    return RoundView(
        index=current.index,
        status=status,
        selected=len(current.selected),
        committed=len(current.commits),
        revealed=len(current.reveals),
        verdicts={owners[i]: verdict.label for i, verdict in current.verdicts.items()},
        shares={owners[i]: units for i, units in proposal.shares.items()} if proposal else {},
        reputations={owners[i]: told[i] for i in left},
        base=current.base,
        model=proposal.model if proposal else None,
        report=proposal.report if proposal else None,
        verifiers=current.verifiers,
        bidding=current.bidding,
    )


def _slashed(task: TaskHistory, participant: int) -> dict[str, str]:
    amounts: Counter[str] = Counter()
    for slash in task.slashes:
        if slash.participant == participant:
            amounts[slash.offence.label] += slash.amount
    return {offence: str(amount) for offence, amount in sorted(amounts.items())}
