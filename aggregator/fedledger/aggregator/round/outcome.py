"""A round judged: a pure function of the ledger's record, the updates' bytes and the posted measurements.

The aggregator calls :func:`round_outcome` with a live measurer to make a proposal; an audit calls it with the
measurements that were posted and must get the same bytes. Everything after the measurements is exact. Who has to prove
that it judged a round, a juror, observes the values on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fedledger.aggregator.round.measurer import Measurer
from fedledger.aggregator.round.pipeline import (
    Entry,
    Observer,
    RoundContext,
    RoundResult,
    evaluate_round,
    null_observer,
)
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import Expected, Question, ValidUpdate, validate
from fedledger.contracts.ledger.round_history import Seat
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.report import BASE, MODEL
from fedledger.protocol.records.spec import Ref, TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

REPORT_VERSION = 1


@dataclass(frozen=True)
class RoundInput:
    """What a round's outcome follows from.

    Parameters
    ----------
    spec
        The task's spec.
    index
        The round.
    base, base_ref
        The round's base model and its reference.
    state
        The aggregator's state after the round before, encoded; empty before the first.
    seats
        The selected participants, by owner address.
    updates
        What was fetched for each revealed update, by owner: bytes, or why there are none.
    units
        Credit units that the round may pay.
    commitments
        The batch of commitments of a batched round, stored as content.
    quorum
        With fewer updates the model stays as it is and nobody is paid.
    enrolled
        Number of participants that are enrolled in the task.
    max_staleness
        How many models before its base an update may be relative to; the report speaks of it unless it is 0.
    earlier
        These models' references, the nearest first.
    earlier_models
        Those that stale updates are relative to, by staleness, if the spec's weight mixes models.
    due
        Digests of the models that the task's schedule has updates relative to, by owner; empty without one.
    valid
        What validating some of the updates has given already.
    """

    spec: TaskSpec
    index: int
    base: ModelFile
    base_ref: ContentRef
    state: bytes
    seats: Sequence[Seat]
    updates: Mapping[str, bytes | UpdateRefusedError]
    units: int
    commitments: ContentRef | None = None
    quorum: int = 0
    enrolled: int = 0
    max_staleness: int = 0
    earlier: Sequence[ContentRef] = ()
    earlier_models: Mapping[int, ModelFile] = field(default_factory=dict)
    due: Mapping[str, bytes] = field(default_factory=dict)
    valid: Mapping[Question, ValidUpdate] = field(default_factory=dict)


class Content(NamedTuple):
    """Encoded content and its reference."""

    data: bytes
    ref: ContentRef

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return content with its reference, which is worked out."""
        return cls(data, ContentRef.of(data))


@dataclass(frozen=True)
class RoundOutcome:
    """What a round proposes: model, state and report, verdicts and pay by participant id."""

    model: Content
    state: Content
    report: Content
    verdicts: dict[int, Verdict]
    shares: dict[int, int]
    stop: bool
    document: dict[str, Any]


def round_outcome(given: RoundInput, measure: Measurer, observe: Observer = null_observer) -> RoundOutcome:
    """Judge, weigh, aggregate and pay one round; what is observed is as :func:`~.evaluate_round.appraise` says."""
    expected = Expected(given.spec, given.index, given.base_ref.digest, len(given.base.vector))
    rows = [_Row(seat) for seat in given.seats]
    bases = (given.base_ref, *given.earlier)
    for row in rows:
        base = bases[row.seat.staleness].digest
        row.judge_bytes(given, replace(expected, base=base), given.due.get(row.seat.owner, base))
    valid = [row for row in rows if row.valid is not None]
    state = State.decode(given.state, expected.dimension)
    appraisal = evaluate_round(
        RoundContext(
            spec=given.spec,
            base=given.base.vector,
            state=state,
            reputations=[seat.evidence.reputation for seat in given.seats],
            everybody=max(given.enrolled, len(given.seats)),
            enough=sum(seat.update is not None for seat in given.seats) >= given.quorum,
            units=given.units,
            earlier={staleness: model.vector for staleness, model in given.earlier_models.items()},
        ),
        [
            Entry(row.seat.owner, row.seat.evidence.reputation, row.valid, row.seat.staleness)
            for row in valid
            if row.valid is not None
        ],
        measure,
        observe,
    )
    for row, verdict, measurement in zip(valid, appraisal.verdicts, appraisal.measurements, strict=True):
        row.verdict, row.measurement = verdict, measurement
    paid = zip(appraisal.weights, appraisal.scores, appraisal.shares, strict=True)
    # In a round that does not count nobody has a weight.
    for row, (weight, score, share) in zip(valid, paid, strict=False):
        row.weight, row.score, row.share = weight, score, share
    return _outcome(given, rows, appraisal)


def _outcome(given: RoundInput, rows: Sequence[_Row], appraisal: RoundResult) -> RoundOutcome:
    model, state = Content.of(given.base.encode(appraisal.model)), Content.of(appraisal.state.encode())
    document = {
        "version": REPORT_VERSION,
        "spec": given.spec.digest.hex(),
        "round": given.index,
        "base": Ref.of(given.base_ref).model_dump(),
        "model": Ref.of(model.ref).model_dump(),
        "state": Ref.of(state.ref).model_dump(),
        "measurements": {
            BASE: _shown(appraisal.base_measurement),
            MODEL: _shown(appraisal.model_measurement),
        },
        "updates": [row.document(given.max_staleness > 0) for row in rows],
        "aggregation": dict(appraisal.diagnostics),
        "stop": appraisal.stop,
    }
    if given.commitments is not None:
        document["commitments"] = Ref.of(given.commitments).model_dump()
    return RoundOutcome(
        model=model,
        state=state,
        report=Content.of(canonical.encode(document)),
        verdicts={row.seat.id: row.verdict for row in rows},
        shares={row.seat.id: row.share for row in rows if row.share},
        stop=appraisal.stop,
        document=document,
    )


class _Row:
    """One participant's line of the report while it is being filled in."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.verdict = Verdict.NONE
        self.detail = ""
        self.valid: ValidUpdate | None = None
        self.measurement: Measurement | None = None
        self.weight = self.score = self.share = 0

    def judge_bytes(self, given: RoundInput, expected: Expected, due: bytes) -> None:
        seat = self.seat
        if seat.update is None or seat.sender is None:
            self.verdict = Verdict.MISSED if seat.sender is None else Verdict.LATE
            return
        try:
            data = given.updates[seat.owner]
            if isinstance(data, UpdateRefusedError):
                raise data
            known = given.valid.get(expected.about(seat.update, seat.owner, seat.sender))
            valid = known or validate(data, expected, seat.owner, seat.sender)
            if expected.base != due:
                detail = f"it is relative to the model {seat.staleness} before, which the task's schedule does not say"
                raise UpdateRefusedError(Verdict.WRONG_BASE, detail)
            self.valid = valid
        except UpdateRefusedError as error:
            self.verdict = error.verdict
            # What a store says of missing content is an accident of the place, so it stays out of the report.
            self.detail = "" if error.verdict is Verdict.UNAVAILABLE else error.detail

    def document(self, with_staleness: bool) -> dict[str, Any]:
        update = self.seat.update
        staleness = {"staleness": self.seat.staleness} if with_staleness else {}
        return {
            "participant": self.seat.owner,
            "update": None if update is None else {"cid": update.cid, "length": _number(update.length)},
            "verdict": self.verdict.label,
            "detail": self.detail,
            "reputation": self.seat.evidence.reputation,
            "examples": 0 if self.valid is None else self.valid.examples,
            "measurement": None if self.measurement is None else _shown(self.measurement),
            "weight": self.weight,
            "score": _number(self.score),
            "share": self.share,
            **staleness,
        }


def _number(value: int) -> int | str:
    """Return a whole number as canonical JSON holds it: as text where a double could not."""
    return value if value < 2**53 else str(value)


def _shown(measurement: Measurement) -> dict[str, int]:
    return {"loss": measurement.loss, "correct": measurement.correct}
