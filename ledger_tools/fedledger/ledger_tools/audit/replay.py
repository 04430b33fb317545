"""One round evaluated again from the ledger and the store: what audits and verifiers share.

A replay ends in a :class:`Divergence` or in none, and in a *transcript*: 32 bytes that only who replayed the round can
know, because they cover what neither the ledger nor the proposal nor the report tells. These are the spec, the round,
its base and the state before it; each valid update in fixed point; the inner products, the aggregate, the optimiser's
step and the new model before it is rounded. A proposal that does not follow gets the transcript of what precedes the
divergence, and the divergence's field.

Everybody who is honest finds the same transcript: it holds integers of the exact layer and names, and no measurement of
one's own, path, error text or clock. Two things can still tell honest replays apart, and no transcript can help it: a
posted measurement that is just about as wrong as the tolerance allows, and content that some can fetch and others not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.round.batches import BatchError, complete
from fedledger.aggregator.round.inputs import round_input
from fedledger.aggregator.round.measurer import Measurer, Named, in_round, measured
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.outcome import Content, RoundInput, round_outcome
from fedledger.aggregator.selection.planner import PlannedRound, RoundPlanner
from fedledger.contracts.ledger.checks import auditors_hash
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Finding
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.scores import recommenders_hash
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.comparing import compare
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, expect, reading
from fedledger.ledger_tools.audit.scores import replay_scores
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ContentUnreadableError, ExitCode, FedledgerError, StoreError
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.commitment_batch import Batch
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.report import BASE, MODEL, of_coalition
from fedledger.protocol.records.seal import BlockIndex, drawn_block
from fedledger.protocol.records.signatures import Place
from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore

_ACCEPTED, _UNAVAILABLE = Verdict.ACCEPTED.label, Verdict.UNAVAILABLE.label
_LITTLE_ENDIAN = np.dtype("<i8")


class MissingContentError(DivergenceError):
    """A replay that lacks content which the ledger names. Later, or elsewhere, it may be there."""


class OutageError(FedledgerError):
    """A store that does not work, which says nothing of what it should hold."""

    exit_code = ExitCode.STORE


@dataclass(frozen=True)
class Replay:
    """What a replay of one round found.

    Parameters
    ----------
    round
        The round.
    divergence
        The first thing that does not follow, or None.
    transcript
        Digest (32 bytes) of what was computed on the way.
    checked
        Whether every measurement that the outcome rests on was made again, as far as that can be done yet.
    sealed
        Measurements that were taken as they were posted, because the validation set is sealed.
    missing
        Whether the divergence is content that could not be had.
    notes
        What else there is to know.
    deviations
        Largest deviations of loss (micro-nats) and correct (examples) from the posted measurements.
    """

    round: int
    divergence: Divergence | None
    transcript: bytes
    checked: bool = True
    sealed: int = 0
    missing: bool = False
    notes: tuple[str, ...] = ()
    deviations: Mapping[str, int] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the proposal follows from the round, with its measurements within the tolerance."""
        return self.divergence is None

    @property
    def finding(self) -> Finding:
        """What a juror who made this replay says; see ``checked`` for whether it may say anything."""
        return Finding.VALID if self.valid else Finding.INVALID


class Transcript:
    """A digest of named integers and bytes, in the order in which they come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"fedledger transcript 1")

    def add(self, name: str, content: bytes = b"") -> None:
        """Go on with a name and what it stands for."""
        raw = name.encode()
        self._hash.update(len(raw).to_bytes(4, "big") + raw + hashlib.sha256(content).digest())

    def observe(self, what: str, values: IntArray | Gram) -> None:
        """Go on with a vector of the exact layer, or with a matrix of integers of any size."""
        if values.ndim == 1:
            self.add(what, np.ascontiguousarray(values, _LITTLE_ENDIAN).tobytes())
        else:
            self.add(what, "\n".join(" ".join(map(str, row)) for row in values.tolist()).encode())

    def digest(self) -> bytes:
        """Return the digest of what came so far."""
        return self._hash.digest()


class NullTranscript(Transcript):
    """A transcript that keeps nothing, for whoever does not need its digest."""

    def add(self, name: str, content: bytes = b"") -> None: ...

    def observe(self, what: str, values: IntArray | Gram) -> None: ...

    def digest(self) -> bytes:
        """Return nothing."""
        return b""


@dataclass(frozen=True)
class ReplayedTask:
    """What the replays of a task's rounds have in common.

    Parameters
    ----------
    history, task
        The ledger's state from logs, and the task.
    spec
        The task's spec.
    store
        Where content is fetched.
    measure
        Makes measurements again; None: those posted are taken as they are, and only the exact layer is checked.
    place
        What commitments of the task are bound to.
    awaits_key
        Whether nobody can measure before the key of the sealed validation set is known.
    """

    history: History
    task: TaskHistory
    spec: TaskSpec
    store: ContentStore
    measure: Measurer | None
    place: Place
    awaits_key: bool = False


def replay_round(
    known: ReplayedTask,
    current: RoundHistory,
    planner: RoundPlanner | None = None,
    transcript: Transcript | None = None,
) -> Replay:
    """Judge a proposed round again and compare.

    Parameters
    ----------
    known
        The task.
    current
        The round.
    planner
        Whom rounds ask. Give the same ones for a task's rounds in turn, and each report is read once.
    transcript
        What to go on with; a new one unless given.

    Raises
    ------
    ConfigError
        If this release lacks a method that the spec names, so that nobody can tell by it what follows.
    """
    require_methods(known.spec)
    replaying = _Replaying(known, current, planner or RoundPlanner(known.store), transcript or Transcript())
    try:
        replaying.run()
    except DivergenceError as error:
        return replaying.result(error)
    return replaying.result(None)


def read_terms(task: TaskHistory, store: ContentStore, index: int = 0) -> TaskSpec:
    """Return a task's spec, which the terms that were posted must be those of.

    Raises
    ------
    DivergenceError
        In round ``index``, if they are not, or the spec cannot be had.
    """
    spec = TaskSpec.decode(content(index, "spec", lambda: store.get(task.spec, MAX_SPEC_BYTES)))
    first = task.rounds.get(1)
    base = spec.initial_model.ref if first is None else first.base
    expect(index, "spec.initial_model", spec.initial_model.ref, base)
    expect(index, "spec.rounds", spec.rounds, task.params.rounds)
    expect(index, "spec.randomness", int(spec.randomness == "beacon"), task.params.randomness)
    expect(index, "spec.seal", spec.seal_digest.hex(), task.params.seal.hex())
    auditors = () if spec.spot_checks is None else spec.spot_checks.accounts
    expect(index, "spec.spot_checks", auditors_hash(auditors).hex(), task.params.auditors.hex())
    expect(index, "number of auditors", len(auditors), task.params.auditor_count)
    recommenders = spec.reputation.recommenders
    expect(index, "recommenders", recommenders_hash(recommenders).hex(), task.params.recommenders.hex())
    expect(index, "trust in recommenders", spec.reputation.trust, task.params.recommender_trust)
    expect(index, "bidding", spec.bidding or 0, task.params.bidding_every)
    return spec


def awaits_key(spec: TaskSpec, seal_key: bytes | None) -> bool:
    """Return whether a task's measurements cannot be made before the key of its validation set is known."""
    return spec.seal is not None and spec.seal.is_sealed and seal_key is None


def refused(divergence: DivergenceError) -> Replay:
    """Return the replay of a round that ended before it began, as its task's terms do not hold."""
    found = divergence.divergence
    transcript = Transcript()
    transcript.add(found.field)
    return Replay(found.round, found, transcript.digest(), missing=isinstance(divergence, MissingContentError))


def require_methods(spec: TaskSpec) -> None:
    """Raise ConfigError if this release lacks a method that evaluates a spec's rounds."""
    for kind, method in spec.named():
        if kind.replayed:
            registry_of(kind).get(method.method)


def content(index: int, what: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` does.

    Raises
    ------
    MissingContentError
        If the store lacks it.
    DivergenceError
        If it is there, and is not what it should be.
    """
    try:
        return read()
    except ContentUnreadableError as error:
        raise DivergenceError(Divergence(index, what, "one that can be read", error.message)) from error
    except StoreError as error:
        raise MissingContentError(
            Divergence(index, what, "the content that the ledger names", error.message)
        ) from error


class _Replaying:
    """A replay on its way."""

    def __init__(
        self, known: ReplayedTask, current: RoundHistory, planner: RoundPlanner, transcript: Transcript
    ) -> None:
        if current.proposal is None:
            raise ValueError("only proposed rounds are replayed")
        self.history, self.task, self.spec, self.store = known.history, known.task, known.spec, known.store
        self.measure, self.place, self.awaits_key = known.measure, known.place, known.awaits_key
        self.current, self.posted, self.index = current, current.proposal, current.index
        self.planner, self.transcript = planner, transcript
        self.checked, self.sealed = True, 0
        self.notes: list[str] = []
        self.deviations = {"loss": 0, known.spec.score_key: 0, **({} if known.spec.evidence is None else {"margin": 0})}

    def run(self) -> None:
        """Go through the round; raises DivergenceError at the first thing that does not follow."""
        index, current = self.index, self.current
        before = self.task.state_before(index)
        self.transcript.add("spec", self.spec.digest)
        self.transcript.add("round", str(index).encode())
        self.transcript.add("base", current.base.digest)
        self.transcript.add("state", b"" if before is None else before.digest)
        expect(index, "selection", self._selection(), sorted(current.selected))
        raw = content(index, "report", lambda: self.store.get(self.posted.report, canonical.MAX_DOCUMENT_BYTES))
        with self._reading("report"):
            report = canonical.decode(raw)
            lookup = _Posted(self, report)
            verdicts = {u["participant"]: u["verdict"] for u in report["updates"]}
            absent = frozenset(owner for owner, verdict in verdicts.items() if verdict == _UNAVAILABLE)
        if absent:
            self.notes.append(f"Round {index}: {len(absent)} updates were unavailable, which nobody can check later.")
        with self._reading("scores"):
            recommenders = self.spec.reputation.recommenders
            replay_scores(self.history, self.task, current, recommenders, self.place)
        batch = None
        if self.task.batched:
            batch, current = self._completed(report)
        due = content(index, "schedule", lambda: self.planner.bases(self.history, self.task, self.spec, current))
        for participation in current.participations:
            if participation.owner in due and verdicts.get(participation.owner) == _ACCEPTED:
                # A later check would only find that the model is another one.
                is_due = current.bases[participation.staleness].digest == due[participation.owner]
                expected = participation.staleness if is_due else current.staleness_of(due[participation.owner])
                expect(index, f"staleness of {participation.owner}", expected, participation.staleness)
        place = self.store, self.spec, self.task, current
        with self._reading("reputations"):
            reputations = self.planner.reputations(self.history, self.task, self.spec, current)
        known = self.history, self.task, self.spec, current
        with self._reading("terms"):
            trade = content(index, "terms", lambda: self.planner.trade(*known))
        planned = PlannedRound(due, reputations, trade)
        given = content(index, "content", lambda: round_input(*place, absent, batch, planned))
        given = replace(given, trusted=self._trusted(report), block=self._block())
        self._require_updates(given, absent)
        # If it fails, the state or the base that the round started from is none, and nothing follows from it.
        with self._reading("outcome"):
            outcome = round_outcome(given, lookup, self.transcript.observe)
        compare(index, outcome, report, self.posted, current, self.spec.reputation_model is not None)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Take whatever goes wrong with a stranger's bytes for a divergence of what they should be."""
        try:
            with reading(self.index, what):
                yield
        except DivergenceError as error:
            # A store that does not work says nothing of what it should hold.
            if isinstance(error.__cause__, OutageError):
                raise error.__cause__ from None
            raise

    def result(self, error: DivergenceError | None) -> Replay:
        """Return what was found, given what ended the replay."""
        if error is not None:
            self.transcript.add("divergence")
            self.transcript.add(error.divergence.field)
        return Replay(
            round=self.index,
            divergence=None if error is None else error.divergence,
            transcript=self.transcript.digest(),
            checked=self.checked,
            sealed=self.sealed,
            missing=isinstance(error, MissingContentError),
            notes=tuple(self.notes),
            deviations=self.deviations,
        )

    def _selection(self) -> list[int] | str:
        try:
            known = self.history, self.task, self.spec, self.index, self.current.beacon
            return sorted(content(self.index, "selection", lambda: self.planner.selected(*known)))
        except ConfigError as error:
            return error.message

    def _completed(self, report: dict[str, Any]) -> tuple[ContentRef, RoundHistory]:
        """Complete a batched round from the batch that its report names."""
        index, current = self.index, self.current
        with self._reading("commitments"):
            batch = Ref.model_validate(report.get("commitments")).ref
        raw = content(index, "commitments", lambda: self.store.get(batch, canonical.MAX_DOCUMENT_BYTES))
        with self._reading("commitments"):
            try:
                found = complete(current, Batch.decode(raw), current.delivered, self.place, self.task.version)
            except BatchError as error:
                raise DivergenceError(Divergence(index, error.field, error.expected, error.found)) from error
        return batch, found

    def _trusted(self, report: dict[str, Any]) -> Content | None:
        """Return the update that the aggregator trusted, if the task's rule asks for one."""
        if not RoundMethods.of(self.spec).rule.method.needs_trusted:
            return None
        with self._reading("trusted"):
            ref = Ref.model_validate(report.get("trusted")).ref
        limit = self.spec.limits.max_update_bytes
        return Content(content(self.index, "trusted", lambda: self.store.get(ref, limit)), ref)

    def _block(self) -> Content | None:
        """Return the block of the validation set that the round is judged on, if it is opened in blocks."""
        seal = self.spec.seal
        if seal is None or seal.is_sealed:
            return None
        stored = content(self.index, "validation set", lambda: self.store.get(self.spec.validation.ref))
        blocks: BlockIndex = content(self.index, "validation set", lambda: BlockIndex.decode(stored, seal))
        ref = blocks.refs[drawn_block(self.spec.digest, self.index, seal.blocks)]
        found = Content(content(self.index, "validation block", lambda: self.store.get(ref)), ref)
        if self.measure is not None:
            measure = self.measure
            content(self.index, "validation block", lambda: in_round(measure, self.index))
        return found

    def _require_updates(self, given: RoundInput, absent: frozenset[str]) -> None:
        for participation in given.participations:
            found = given.updates.get(participation.owner)
            if not isinstance(found, UpdateRefusedError) or participation.owner in absent:
                continue
            if found.verdict is Verdict.UNAVAILABLE:
                cid = participation.update and participation.update.cid
                raise MissingContentError(Divergence(self.index, f"update of {participation.owner}", cid, found.detail))


class _Posted:
    """Answers with the posted measurements, and checks each against its reproduction."""

    def __init__(self, replaying: _Replaying, report: dict[str, Any]) -> None:
        self._by_name = {BASE: report["measurements"][BASE], MODEL: report["measurements"][MODEL]}
        self._by_name |= {u["participant"]: u["measurement"] for u in report["updates"]}
        for number, told in enumerate(report.get("coalitions", ()), start=1):
            self._by_name[of_coalition(number)] = told["measurement"]
        self._replaying = replaying

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        return self.each([(what, vector)])[0]

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        """Answer for many vectors, which are measured as they would be live."""
        replaying, names = self._replaying, list[str]()

        def noted() -> Iterator[Named]:
            for what, vector in named:
                names.append(what)
                yield what, vector

        if replaying.measure is None:
            posted = [self._posted(what) for what, _ in named]
            replaying.checked &= replaying.awaits_key
            replaying.sealed += len(posted) if replaying.awaits_key else 0
            return posted
        again = measured(in_round(replaying.measure, replaying.index), noted())
        return [self._compared(what, found) for what, found in zip(names, again, strict=True)]

    def _posted(self, what: str) -> Measurement:
        posted, score = self._by_name.get(what), self._replaying.spec.score_key
        if not isinstance(posted, dict) or not all(type(posted.get(k)) is int for k in ("loss", score)):
            raise DivergenceError(Divergence(self._replaying.index, f"measurement of {what}", "a measurement", posted))
        margin = posted.get("margin")
        if margin is not None and (type(margin) is not int or self._replaying.spec.evidence is None):
            raise DivergenceError(Divergence(self._replaying.index, f"margin of {what}", "a whole number", margin))
        return Measurement(posted["loss"], posted[score], margin)

    def _compared(self, what: str, again: Measurement) -> Measurement:
        """Return what was posted, if it is near enough to what was measured again."""
        replaying, spec, found = self._replaying, self._replaying.spec, self._posted(what)
        compared = (
            ("loss", again.loss, found.loss, spec.tolerance.loss),
            (spec.score_key, again.score, found.score, spec.tolerance.of_score),
            *self._margins(what, again, found),
        )
        for name, expected, told, tolerance in compared:
            deviation = abs(expected - told)
            if deviation > tolerance:
                raise DivergenceError(Divergence(replaying.index, f"measurement of {what}: {name}", expected, told))
            replaying.deviations[name] = max(replaying.deviations[name], deviation)
        return found

    def _margins(self, what: str, again: Measurement, found: Measurement) -> list[tuple[str, int, int, int]]:
        spec = self._replaying.spec
        if spec.evidence is None:
            return []
        if again.margin is None or found.margin is None:
            expect(self._replaying.index, f"margin of {what}", again.margin, found.margin)
            return []
        return [("margin", again.margin, found.margin, spec.tolerance.margin)]
