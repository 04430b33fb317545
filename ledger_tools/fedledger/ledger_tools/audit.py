"""Audit: replay a task's whole history from the ledger and the store, and name the first thing that does not follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from eth_utils.crypto import keccak
from numpy.typing import NDArray

from fedledger.aggregator.batches import BatchError, complete
from fedledger.aggregator.detection import Measurement
from fedledger.aggregator.driver import proposal_of, round_input, select
from fedledger.aggregator.judge import BASE, MODEL, RoundOutcome, judge
from fedledger.contracts.client import Ledger
from fedledger.contracts.history import History, RoundHistory, TaskHistory, lane
from fedledger.ledger_tools.divergence import Divergence, DivergenceError
from fedledger.ledger_tools.execute import execute, head
from fedledger.ledger_tools.export import LEDGER_FILE, LedgerExport, chain_state
from fedledger.protocol import canonical
from fedledger.protocol.batch import Batch
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import ConfigError, StoreError
from fedledger.protocol.reputation import Evidence
from fedledger.protocol.settlement import pack_words
from fedledger.protocol.spec import MAX_SPEC_BYTES, Ref, TaskSpec
from fedledger.protocol.store import ContentStore, LocalStore
from fedledger.protocol.update import UpdateRefusedError
from fedledger.protocol.verdicts import Verdict

Measure = Callable[[str, NDArray[np.float32]], Measurement]
_UNAVAILABLE = Verdict.UNAVAILABLE.label


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
    measurements
        Largest deviations of loss (micro-nats) and correct (examples), and the spec's tolerances.
    first_divergence
        The first thing that did not follow, or None.
    notes
        What an auditor should know besides.
    """

    source: str
    task: int
    ledger: tuple[int, str]
    head: str | None = None
    rounds: int = 0
    reproduced: bool = True
    measured: bool = False
    measurements: dict[str, int] = field(default_factory=dict)
    first_divergence: Divergence | None = None
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        document = asdict(self)
        document["first_divergence"] = None if self.first_divergence is None else self.first_divergence.document()
        return document


def audit_run(
    folder: Path,
    store: ContentStore | None = None,
    trusted: frozenset[str] = frozenset(),
    task: int = 1,
    watch: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> AuditResult:
    """Audit a run from its folder: execute the exported ledger again on the embedded EVM, then replay each round."""
    result = AuditResult("exported ledger, executed again on the embedded EVM", task, (0, ""))
    try:
        try:
            export = LedgerExport.read(folder / LEDGER_FILE)
        except ConfigError as error:
            if not (folder / LEDGER_FILE).exists():
                raise
            raise DivergenceError(Divergence(0, LEDGER_FILE, "an unchanged export", error.message)) from error
        result.ledger, result.head = (export.chain_id, export.address), head(export)
        history = History().extend(execute(export, lambda done, of: watch("executing blocks", done, of)))
        _check_state(history, export.state)
        _replay(result, history, store or LocalStore(folder / "store"), trusted, watch)
    except DivergenceError as error:
        result.reproduced, result.first_divergence = False, error.divergence
    return result


def audit_chain(
    ledger: Ledger,
    store: ContentStore,
    task: int,
    trusted: frozenset[str] = frozenset(),
    watch: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> AuditResult:
    """Audit a task on a live chain, from its logs, and compare the chain's own state with what follows from them."""
    place = (ledger.chain.chain_id, ledger.address)
    result = AuditResult(f"logs of {ledger.address} at {ledger.chain.where}", task, place)
    history = History(ledger).update()
    try:
        if ledger.version() is None:
            found = f"code with hash 0x{keccak(ledger.chain.code(ledger.address)).hex()}"
            raise DivergenceError(Divergence(0, "contract", "a contract that this release knows", found))
        _check_state(history, chain_state(ledger, history))
        _replay(result, history, store, trusted, watch)
    except DivergenceError as error:
        result.reproduced, result.first_divergence = False, error.divergence
    return result


def live_measure(spec: TaskSpec, store: ContentStore, trusted: frozenset[str]) -> Measure | None:
    """Return a measurer for a spec, or None if that would run a stranger's code that is not trusted."""
    from fedledger.aggregator.measure import LiveMeasurer
    from fedledger.learning.models import build_model
    from fedledger.learning.task_code import load_task_code
    from fedledger.learning.vectors import FlatModel

    if spec.code is not None:
        if spec.code.cid not in trusted:
            return None
        code = load_task_code(store.get(spec.code.ref), spec.code.cid, set(trusted))
        module = code.model()
    elif spec.model is not None:
        module = build_model(spec.model.method, spec.model.params)
    else:
        raise ConfigError("The task's spec has neither model nor code.")
    return LiveMeasurer(FlatModel(module), store.get(spec.validation.ref))


def _replay(
    result: AuditResult,
    history: History,
    store: ContentStore,
    trusted: frozenset[str],
    watch: Callable[[str, int, int], None],
) -> None:
    task = history.task(result.task)
    spec = TaskSpec.decode(_content(0, "spec", lambda: store.get(task.spec, MAX_SPEC_BYTES)))
    _expect(0, "spec.initial_model", spec.initial_model.ref, _first_base(task, spec))
    _expect(0, "spec.rounds", spec.rounds, int(task.params["rounds"]))
    _expect(0, "spec.randomness", int(spec.randomness == "beacon"), int(task.params["randomness"]))
    measure = _content(0, "validation set", lambda: live_measure(spec, store, trusted))
    result.measured = measure is not None
    result.measurements = {
        "largest_loss": 0,
        "largest_correct": 0,
        "tolerance_loss": spec.tolerance.loss,
        "tolerance_correct": spec.tolerance.correct,
    }
    if measure is None and spec.code is not None:
        result.notes.append(
            f"Only the exact layer was checked: measurements would run the publisher's code. "
            f"Read it, then give --trust-code {spec.code.cid}."
        )
    if not int(task.params["challengeWindow"]):
        result.notes.append("The task has no challenge window: an experiment.")
    overturned = [index for index, r in sorted(task.rounds.items()) if r.proposal is not None and r.voided]
    if overturned:
        result.notes.append(f"Rounds {overturned} were overturned, or built on one that was: they had no effect.")
    proposed = task.proposed
    for done, current in enumerate(proposed):
        _replay_round(result, history, task, spec, store, current, measure)
        result.rounds += 1
        watch("replaying rounds", done + 1, len(proposed))
    _check_evidence(history, task)


def _replay_round(
    result: AuditResult,
    history: History,
    task: TaskHistory,
    spec: TaskSpec,
    store: ContentStore,
    current: RoundHistory,
    measure: Measure | None,
) -> None:
    index, posted = current.index, current.proposal
    if posted is None:
        raise ValueError("only proposed rounds are replayed")
    _expect(index, "selection", sorted(_selection(history, task, spec, current)), sorted(current.selected))
    raw = _content(index, "report", lambda: store.get(posted.report, canonical.MAX_DOCUMENT_BYTES))
    try:
        report = canonical.decode(raw)
        lookup = _Posted(report, measure, index, result.measurements)
        absent = frozenset(u["participant"] for u in report["updates"] if u["verdict"] == _UNAVAILABLE)
    except (ValueError, KeyError, TypeError) as error:
        raise DivergenceError(Divergence(index, "report", "a canonical report", str(error))) from error
    if absent:
        result.notes.append(f"Round {index}: {len(absent)} updates were unavailable, which nobody can check later.")
    batch = None
    if task.batched:
        batch, current = _completed(result, index, store, report, current, task.version)
    given = _content(index, "content", lambda: round_input(store, spec, task, current, absent, batch))
    for seat in given.seats:
        refused = given.updates.get(seat.owner)
        if (
            isinstance(refused, UpdateRefusedError)
            and seat.owner not in absent
            and refused.verdict is Verdict.UNAVAILABLE
        ):
            raise DivergenceError(
                Divergence(index, f"update of {seat.owner}", seat.update and seat.update.cid, refused.detail)
            )
    outcome = judge(given, lookup)
    _compare(index, outcome, report, current)


def _completed(
    result: AuditResult,
    index: int,
    store: ContentStore,
    report: dict[str, Any],
    current: RoundHistory,
    version: int,
) -> tuple[ContentRef, RoundHistory]:
    """Complete a batched round from the batch that its report names."""
    try:
        batch = Ref.model_validate(report.get("commitments")).ref
        content = _content(index, "commitments", lambda: store.get(batch, canonical.MAX_DOCUMENT_BYTES))
        place = (*result.ledger, result.task)
        return batch, complete(current, Batch.decode(content), current.delivered, place, version)
    except ValueError as error:
        raise DivergenceError(Divergence(index, "commitments", "a batch of commitments", str(error))) from error
    except BatchError as error:
        raise DivergenceError(Divergence(index, error.field, error.expected, error.found)) from error


class _Posted:
    """Answers with the posted measurements, and checks each against its reproduction."""

    def __init__(self, report: dict[str, Any], measure: Measure | None, index: int, largest: dict[str, int]) -> None:
        self._by_name = {BASE: report["measurements"][BASE], MODEL: report["measurements"][MODEL]}
        self._by_name |= {u["participant"]: u["measurement"] for u in report["updates"]}
        self._measure, self._index, self._largest = measure, index, largest

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        posted = self._by_name.get(what)
        if not isinstance(posted, dict) or not all(type(posted.get(k)) is int for k in ("loss", "correct")):
            raise DivergenceError(Divergence(self._index, f"measurement of {what}", "a measurement", posted))
        found = Measurement(posted["loss"], posted["correct"])
        if self._measure is not None:
            again = self._measure(what, vector)
            for name in ("loss", "correct"):
                deviation = abs(getattr(again, name) - getattr(found, name))
                if deviation > self._largest[f"tolerance_{name}"]:
                    raise DivergenceError(
                        Divergence(
                            self._index,
                            f"measurement of {what}: {name}",
                            getattr(again, name),
                            getattr(found, name),
                        )
                    )
                self._largest[f"largest_{name}"] = max(self._largest[f"largest_{name}"], deviation)
        return found


def _compare(index: int, outcome: RoundOutcome, report: dict[str, Any], current: RoundHistory) -> None:
    posted, expected = current.proposal, proposal_of(outcome)
    if posted is None:
        raise ValueError("only proposed rounds are replayed")
    owners = {seat.id: seat.owner for seat in current.seats}
    for participant, verdict in sorted(expected.verdicts.items()):
        _expect(
            index,
            f"verdict of {owners[participant]}",
            verdict.label,
            _label(posted.verdicts.get(participant)),
        )
    for participant, share in sorted(expected.shares.items()):
        _expect(index, f"pay share of {owners[participant]}", share, posted.shares.get(participant, 0))
    _expect(index, "model", expected.model.cid, posted.model.cid)
    _expect(index, "state", expected.state.cid, posted.state.cid)
    for key in outcome.document:
        _expect(index, f"report.{key}", outcome.document[key], report.get(key))
    _expect(index, "report", expected.report.cid, posted.report.cid)
    _expect(index, "stop", expected.stop, posted.stop)
    words = pack_words(outcome.verdicts, outcome.shares)
    _expect(
        index,
        "packed words",
        [list(w) for w in words],
        [list(posted.verdict_words), list(posted.share_words)],
    )


def _selection(history: History, task: TaskHistory, spec: TaskSpec, current: RoundHistory) -> list[int]:
    return select(history, task, spec, current.index, current.beacon)


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
            _expect(index if own else 0, name, expected.pack(), applied.round.left[participant].pack())
            evidence[participant] = expected
    for participant in task.enrolled:
        withdrawn = task.withdrawn.get(participant, 0) // int(task.params["creditUnit"])
        expected_credit = task.earned(participant) - withdrawn
        _expect(0, f"credit of {history.owners[participant]}", expected_credit, task.credit(participant))


def _check_state(history: History, state: dict[str, Any]) -> None:
    """Compare the chain's own words with those that follow from the executed history."""
    for publisher, words in history.evidence_words.items():
        for participant in history.owners:
            slot = participant // 8
            if slot in words:
                claimed = {slot: int(state["evidence"].get(publisher, {}).get(str(slot), "0x0"), 16)}
                expected, found = (Evidence.unpack(lane(w, participant)) for w in (words, claimed))
                owner = history.owners[participant]
                _expect(0, f"reputation of {owner} on the chain", expected.reputation, found.reputation)
                _expect(0, f"evidence of {owner} on the chain", expected.pack(), found.pack())
    for task in history.tasks.values():
        for slot, word in task.credits.items():
            claimed_word = int(state["credits"].get(str(task.id), {}).get(str(slot), "0x0"), 16)
            _expect(0, f"credits of task {task.id}, slot {slot}, on the chain", hex(word), hex(claimed_word))


def _first_base(task: TaskHistory, spec: TaskSpec) -> Any:
    first = task.rounds.get(1)
    return spec.initial_model.ref if first is None else first.base


def _content(index: int, what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except StoreError as error:
        raise DivergenceError(Divergence(index, what, "the content that the ledger names", error.message)) from error


def _label(verdict: Verdict | None) -> str | None:
    return None if verdict is None else verdict.label


def _expect(index: int, name: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise DivergenceError(Divergence(index, name, expected, found))
