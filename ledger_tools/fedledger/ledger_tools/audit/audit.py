"""Audit: replay a task's whole history from the ledger and the store, and name the first thing that does not follow."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.chain_words import chain_state, check_state
from fedledger.ledger_tools.audit.check_view import ChecksView, totals_of
from fedledger.ledger_tools.audit.checks import audit_checks
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, expect, reading
from fedledger.ledger_tools.audit.execute import claimed, execute_all, head
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
from fedledger.ledger_tools.audit.receipts import Unchecked
from fedledger.ledger_tools.audit.replay import (
    NullTranscript,
    Replay,
    ReplayedTask,
    awaits_key,
    content,
    read_terms,
    replay_round,
)
from fedledger.ledger_tools.audit.score_view import ScoresView
from fedledger.ledger_tools.audit.score_view import totals_of as scores_of
from fedledger.ledger_tools.audit.scores import audit_scores
from fedledger.ledger_tools.fairness import pay_fairness
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ConfigError, TrustError
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import ContentStore
from fedledger.storage.foreign_folder import inner_file, inner_folder
from fedledger.storage.local import LocalStore

log = logging.getLogger(__name__)

STORE_FOLDER = "store"
"""Where a run's folder has its content."""
MOST_AT_ONCE = 8
"""Rounds that a process replays one after another."""


@dataclass
class AuditResult:
    """What an audit found.

    Parameters
    ----------
    source
        Where the ledger came from: executed again from an export, or read from a chain.
    ledger
        Chain id and address of the ledger.
    head
        Hash of the newest block of an export. It stands for the whole history: compare it with the chain's.
    rounds
        Rounds that were replayed.
    reproduced
        Whether everything followed.
    measured
        Whether measurements were made again; if not, only the exact layer was checked.
    sealed
        How many measurements were taken as they were posted, because the validation set is sealed.
    measurements
        Largest deviations of the loss (in millionths of its unit) and of the score, which reports call ``correct`` or
        ``score``, and the spec's tolerances.
    first_divergence
        The first thing that did not follow, or None.
    checks
        How many spot checks there were, how many came to what, and what they cost; see ``totals_of``. Empty
        without any.
    scores
        How many rounds were scored, by how many, and what came of it; see ``totals_of`` of ``score_view``. Empty
        without scorers.
    fairness
        How evenly ``pay``, in credit units, is spread over all who were ever enrolled; see ``Fairness``. Empty where
        something did not follow.
    notes
        What an auditor should know besides.
    unchecked
        Transactions that were not executed, and what was believed instead.
    """

    source: str
    task: int
    ledger: tuple[int, str]
    head: str | None = None
    rounds: int = 0
    reproduced: bool = True
    measured: bool = False
    sealed: int = 0
    measurements: dict[str, int] = field(default_factory=dict)
    first_divergence: Divergence | None = None
    checks: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    fairness: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unchecked: Unchecked = field(default_factory=Unchecked)

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        document = asdict(self)
        document["first_divergence"] = None if self.first_divergence is None else self.first_divergence.document()
        return document


@dataclass(frozen=True)
class _Means:
    """What an auditor has: the content, CIDs of code that it trusts, and the key of a sealed validation set."""

    store: ContentStore
    trusted: frozenset[str]
    seal_key: bytes | None


def audit_run(
    folder: Path,
    store: ContentStore | None = None,
    trusted: frozenset[str] = frozenset(),
    task: int = 1,
    watch: Callable[[str, int, int], None] = lambda what, done, of: None,
    jobs: int = 1,
    seal_key: bytes | None = None,
) -> AuditResult:
    """Audit a run from its folder: execute the exported ledger again on the embedded EVM, then replay each round.

    Parameters
    ----------
    folder, store
        The run's, and its content; in the folder unless given.
    trusted
        CIDs of task code that may be run.
    task
        The task's id.
    watch
        Is told what is done, how much of it is done, and how much there is.
    jobs
        Processes that replay rounds, while this one executes the ledger; 1: this one does all of it, one after
        another. The result is the same.
    seal_key
        The key of the task's sealed validation set, for an auditor whom the publisher gave it; once the ledger holds
        it, nobody needs to be given it.

    Raises
    ------
    ConfigError
        If the key is not that of the task's validation set, or the task has no code.
    TrustError
        If code is trusted that is not the task's.
    """
    result = AuditResult("exported ledger, executed again on the embedded EVM", task, (0, ""))
    means = _Means(store or LocalStore(inner_folder(folder, STORE_FOLDER), reading=True), trusted, seal_key)
    try:
        try:
            export = LedgerExport.read(inner_file(folder, LEDGER_FILE))
        except ConfigError as error:
            if not (folder / LEDGER_FILE).exists():
                raise
            raise DivergenceError(Divergence(0, LEDGER_FILE, "an unchanged export", error.message)) from error
        result.ledger, result.head = (export.chain_id, export.address), head(export)
        told: list[Log] = []
        if jobs > 1:
            # What cannot be read is the execution's to tell, which names the first thing that is wrong.
            with suppress(Exception):
                told = claimed(export)
        with _ahead_of_execution(export, told, task, means, jobs) as ahead:
            # Its digest is right, but anybody can work one out.
            with reading(0, LEDGER_FILE):
                done = execute_all(export, lambda done, of: watch("executing blocks", done, of), told)
                result.unchecked = done.unchecked
                result.notes += done.unchecked.notes()
                history = History().extend(done.logs)
                check_state(history, export.state)
                clock = Clock.of_export(export)
            _replay(result, history, means, watch, ahead, clock)
    except DivergenceError as error:
        result.reproduced, result.first_divergence = False, error.divergence
    return result


def audit_chain(
    ledger: Ledger,
    store: ContentStore,
    task: int,
    trusted: frozenset[str] = frozenset(),
    watch: Callable[[str, int, int], None] = lambda what, done, of: None,
    jobs: int = 1,
    seal_key: bytes | None = None,
) -> AuditResult:
    """Audit a task on a live chain, from its logs, and compare the chain's own state with what follows from them.

    See :func:`audit_run`.
    """
    place = (ledger.chain.chain_id, ledger.address)
    result = AuditResult(f"logs of {ledger.address} at {ledger.chain.where}", task, place)
    history, means = History(ledger).update(), _Means(store, trusted, seal_key)
    try:
        if ledger.version() is None:
            found = f"code with hash 0x{keccak(ledger.chain.code(ledger.address)).hex()}"
            raise DivergenceError(Divergence(0, "contract", "a contract that this release knows", found))
        check_state(history, chain_state(ledger, history))
        clock = Clock.of(ledger)
        with _ahead(history, place, task, means, jobs) as ahead:
            _replay(result, history, means, watch, ahead, clock)
    except DivergenceError as error:
        result.reproduced, result.first_divergence = False, error.divergence
    return result


@contextmanager
def _ahead_of_execution(
    export: LedgerExport, told: Sequence[Log], task: int, means: _Means, jobs: int
) -> Iterator[Ahead | None]:
    """Replay the rounds that an export's logs tell of, while nobody knows yet whether its transactions end in these.

    Executing them ends in the same logs, or in a divergence that comes before all others.
    """
    history = None
    if told:
        with suppress(Exception):
            history = History().extend(told)
    with _ahead(history, (export.chain_id, export.address), task, means, jobs) as ahead:
        yield ahead


@contextmanager
def _ahead(
    history: History | None,
    ledger: tuple[int, str],
    task: int,
    means: _Means,
    jobs: int,
) -> Iterator[Ahead | None]:
    """Replay rounds in other processes, where there are several of both."""
    known = None
    if history is not None and jobs > 1 and hasattr(os, "fork"):
        with suppress(Exception):
            known = _replayed_task(history, ledger, task, means)
    if known is None or len(known.task.proposed) < 2:
        yield None
        return
    with Ahead(known, jobs) as ahead:
        yield ahead


def _replayed_task(history: History, ledger: tuple[int, str], task: int, means: _Means) -> ReplayedTask:
    """Read a task's terms and what its measurements need; raises DivergenceError if something is not there."""
    known, store = history.task(task), means.store
    spec = read_terms(known, store)
    key = _seal_key(known, spec, means)
    _require_own_code(task, spec, means.trusted)
    from fedledger.ledger_tools.audit.measuring import live_measure

    measure = content(0, "validation set", lambda: live_measure(spec, store, means.trusted, 0, key))
    return ReplayedTask(history, known, spec, store, measure, (*ledger, task), awaits_key(spec, key))


def _seal_key(task: TaskHistory, spec: TaskSpec, means: _Means) -> bytes | None:
    """Return the key of a task's sealed validation set: the ledger's, or else the auditor's own."""
    given = means.seal_key
    if given is not None and (spec.seal is None or not spec.seal.fits(given)):
        kept = "is sealed with another key" if awaits_key(spec, None) else "is not sealed"
        raise ConfigError(f"The validation set of task {task.id} {kept}.", "Ask its publisher for the key.")
    return task.seal_key or given


def _require_own_code(task: int, spec: TaskSpec, trusted: frozenset[str]) -> None:
    """Raise an error if an auditor trusts code, but not that of the task: it would not be measured."""
    if not trusted:
        return
    if spec.code is None:
        raise ConfigError(f"Task {task} has no code of its own.", "Leave --trust-code out.")
    if spec.code.cid not in trusted:
        raise TrustError(
            f"{', '.join(sorted(trusted))} is not the code of task {task}, which is {spec.code.cid}.",
            f"Give --trust-code {spec.code.cid} once you have read it, or leave the option out.",
        )


def _replayed(known: ReplayedTask, index: int, planner: RoundPlanner) -> Replay:
    return replay_round(known, known.task.rounds[index], planner, NullTranscript())


class Ahead:
    """Replays that other processes make before anybody asks for them, and this one where it would have to wait.

    Parameters
    ----------
    known
        What they have in common; forked processes see it as it is.
    jobs
        How many processes, this one among them.
    """

    def __init__(self, known: ReplayedTask, jobs: int) -> None:
        self._known, self._planner = known, RoundPlanner(known.store)
        # What is there is no garbage; to look for some takes time, and makes copies of pages that others share.
        gc.freeze()
        proposed = [current.index for current in known.task.proposed]
        self._pool = ProcessPoolExecutor(
            min(jobs - 1, len(proposed)), get_context("fork"), initializer=_begin, initargs=(known, os.getpid())
        )
        # Others begin with the first rounds, this process with the last ones as soon as it would have to wait.
        self._begun: list[tuple[Sequence[int], Future[list[Replay]]]] = [
            (indices, self._pool.submit(_replay_some, indices)) for indices in _portions(proposed, jobs)
        ]
        self._made = {index: (made, place) for indices, made in self._begun for place, index in enumerate(indices)}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # Nobody waits for the rounds of a ledger that turned out to be none.
            for process in [*(self._pool._processes or {}).values()]:
                process.kill()
        self._pool.shutdown(cancel_futures=True)
        gc.unfreeze()

    def __call__(self, index: int) -> Replay | None:
        """Return the replay of a round; None if there is none, and whoever makes it here will learn why."""
        try:
            made, place = self._made[index]
            while not made.done() and self._help():
                made, place = self._made[index]
            return made.result()[place]
        except Exception as error:
            log.debug("round %d was not replayed ahead: %r", index, error)
            return None

    def _help(self) -> bool:
        """Make the last ones that nobody has begun; return whether there were any."""
        while self._begun:
            indices, made = self._begun.pop()
            if made.cancel():
                own: Future[list[Replay]] = Future()
                own.set_result([_replayed(self._known, index, self._planner) for index in indices])
                self._made |= {index: (own, place) for place, index in enumerate(indices)}
                return True
        return False


def _portions(indices: Sequence[int], jobs: int) -> list[Sequence[int]]:
    """Cut rounds into portions that one process replays: the next one's base is then measured already.

    Those in the middle, which come last, are small, so that all processes end at about the same time.
    """
    first: list[Sequence[int]] = []
    last: list[Sequence[int]] = []
    while indices:
        size = max(1, min(MOST_AT_ONCE, len(indices) // (3 * jobs)))
        first.append(indices[:size])
        indices = indices[size:]
        if indices:
            last.append(indices[-size:])
            indices = indices[:-size]
    return [*first, *reversed(last)]


_own: tuple[ReplayedTask, RoundPlanner]
"""What a process that replays rounds has of its own."""


def _begin(known: ReplayedTask, parent: int) -> None:
    global _own  # noqa: PLW0603
    from fedledger.learning.worker import become_worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    become_worker(parent)
    _own = known, RoundPlanner(known.store)


def _replay_some(indices: Sequence[int]) -> list[Replay]:
    known, planner = _own
    return [_replayed(known, index, planner) for index in indices]


def _no_deviations(spec: TaskSpec) -> dict[str, int]:
    """Return the largest deviations of measurements before any was found, and what is tolerated."""
    tolerances = {"loss": spec.tolerance.loss, spec.score_key: spec.tolerance.of_score}
    if spec.evidence is not None:
        tolerances["margin"] = spec.tolerance.margin
    none = {f"largest_{name}": 0 for name in tolerances}
    return none | {f"tolerance_{name}": tolerance for name, tolerance in tolerances.items()}


def _replay(
    result: AuditResult,
    history: History,
    means: _Means,
    watch: Callable[[str, int, int], None],
    ahead: Ahead | None,
    clock: Clock,
) -> None:
    known = _replayed_task(history, result.ledger, result.task, means)
    task, spec, measure = known.task, known.spec, known.measure
    result.measured = measure is not None
    result.measurements = _no_deviations(spec)
    if measure is None and spec.code is not None and not known.awaits_key:
        result.notes.append(
            f"Only the exact layer was checked: measurements would run the publisher's code. "
            f"Give --trust-code {spec.code.cid} once you have read it."
        )
    if not task.params.challenge_window:
        result.notes.append("The task has no challenge window: an experiment.")
    overturned = [index for index, r in sorted(task.rounds.items()) if r.proposal is not None and r.voided]
    if overturned:
        result.notes.append(f"Rounds {overturned} were overturned, or built on one that was: they had no effect.")
    proposed, planner = task.proposed, RoundPlanner(means.store)
    for done, current in enumerate(proposed):
        replay = (ahead and ahead(current.index)) or _replayed(known, current.index, planner)
        result.notes += replay.notes
        result.sealed += replay.sealed
        for name, deviation in replay.deviations.items():
            largest = f"largest_{name}"
            result.measurements[largest] = max(result.measurements[largest], deviation)
        if replay.divergence is not None:
            raise DivergenceError(replay.divergence)
        result.rounds += 1
        watch("replaying rounds", done + 1, len(proposed))
    with reading(0, "spot checks"):
        result.notes += audit_checks(history, task, spec.spot_checks, clock)
        result.checks = totals_of(ChecksView.of(history, task.id, clock))
    with reading(0, "scores"):
        result.notes += audit_scores(history, task, spec.reputation.recommenders, known.place, clock)
        result.scores = scores_of(ScoresView.of(history, task.id))
    _check_evidence(history, task)
    result.fairness = {"pay": pay_fairness(task)}
    if result.sealed:
        result.notes.append(_sealed_note(task, result.sealed))


def _sealed_note(task: TaskHistory, count: int) -> str:
    if task.seal_forfeited:
        return f"{count} measurements were taken as posted: nobody opened the validation set's key in time."
    return (
        f"{count} measurements were taken as posted: the validation set is sealed until its key is opened on the "
        "ledger, after the task's end. Then audit again; or give the publisher's key with --seal-key."
    )


def _check_evidence(history: History, task: TaskHistory) -> None:
    """Follow the evidence of a publisher through all that changed it, in the ledger's order, and the task's credits."""
    evidence: dict[int, Evidence] = {}
    for applied in history.applied:
        if applied.publisher != task.publisher:
            continue
        evidence |= applied.adopted
        if applied.round is None or applied.task is None:
            continue
        index, own = applied.round.index, applied.task is task
        where = "" if own else f" in round {index} of task {applied.task.id}"
        for participant, verdict in applied.verdicts.items():
            expected = evidence.get(participant, Evidence()).after(verdict)
            name = f"evidence of {applied.round.owners[participant]}{where}"
            expect(index if own else 0, name, expected.pack(), applied.round.left[participant].pack())
            evidence[participant] = expected
    for participant in task.joined:
        withdrawn = task.withdrawn.get(participant, 0) // task.params.credit_unit
        expected_credit = task.earned(participant) - withdrawn
        expect(0, f"credit of {history.owners[participant]}", expected_credit, task.credit(participant))
