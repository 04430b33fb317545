"""The outcome of a round: a pure function of the ledger's record, the updates' bytes and the posted measurements.

The aggregator calls :func:`round_outcome` with a live measurer to make a proposal; an audit calls it with the
measurements that were posted and must get the same bytes. Everything after the measurements is exact. Who has to prove
that it evaluated a round, a juror, observes the intermediate values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fedledger.aggregator.detectors.base import Finding
from fedledger.aggregator.mechanisms.trade import Trade
from fedledger.aggregator.round.measurer import Measurer
from fedledger.aggregator.round.observer import Observer, null_observer
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import Expected, Question, ValidUpdate, validate, validate_bid
from fedledger.contracts.ledger.round_history import Participation
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.report import BASE, MODEL
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.trusted_update import read_trusted
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

REPORT_VERSION = 1


class Content(NamedTuple):
    """Encoded content and its reference."""

    data: bytes
    ref: ContentRef

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return content with its reference, which is worked out."""
        return cls(data, ContentRef.of(data))


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
    participations
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
    beacon
        The task's beacon when the round was opened.
    trusted
        The update that the aggregator trusts, as content, if the rule asks for one: see
        :mod:`fedledger.protocol.records.trusted_update`.
    block
        The block of the validation set that the round is judged on, as content, if the set is opened in blocks.
    committed
        How many examples participants have committed to, by owner; None where the task does not ask for that.
    unstaked
        Owners whose updates do not count, as they had too little stake for the task's spot checks.
    outvoted
        Owners whose updates do not count, by the medians that the ledger has taken of their scores.
    bidding
        Whether the round asks for bids, which change nothing, and not for updates.
    trade
        What the task's mechanism chose, if it has one.
    """

    spec: TaskSpec
    index: int
    base: ModelFile
    base_ref: ContentRef
    state: bytes
    participations: Sequence[Participation]
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
    beacon: bytes = b""
    trusted: Content | None = None
    block: Content | None = None
    committed: Mapping[str, int] | None = None
    unstaked: frozenset[str] = frozenset()
    outvoted: frozenset[str] = frozenset()
    bidding: bool = False
    trade: Trade | None = None

    @property
    def is_enough(self) -> bool:
        """Whether the round moves the model: so many updates were revealed, and they are no bids."""
        return not self.bidding and sum(each.update is not None for each in self.participations) >= self.quorum


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
    """Judge, weigh, aggregate and pay one round.

    What is observed is what :func:`~fedledger.aggregator.round.pipeline.evaluate_round` shows.
    """
    expected = Expected(given.spec, given.index, given.base_ref.digest, given.base.dimension)
    rows = [_Row(participation) for participation in given.participations]
    bases = (given.base_ref, *given.earlier)
    for row in rows:
        base = bases[row.participation.staleness].digest
        owner = row.participation.owner
        committed = None if given.committed is None else given.committed.get(owner, 0)
        own = replace(expected, base=base, committed=committed, staked=owner not in given.unstaked)
        row.read(given, own, given.due.get(owner, base))
        if row.report is not None:
            observe(f"bid of {owner}", np.array(list(row.report.values()), np.int64))
    valid = [row for row in rows if row.valid is not None]
    state = State.decode(given.state, expected.dimension)
    result = evaluate_round(
        RoundContext(
            spec=given.spec,
            base=given.base.vector,
            state=state,
            reputations=[participation.reputation for participation in given.participations],
            everybody=max(given.enrolled, len(given.participations)),
            index=given.index,
            beacon=given.beacon,
            enough=given.is_enough,
            units=given.units,
            trade=given.trade,
            earlier={staleness: model.vector for staleness, model in given.earlier_models.items()},
            trusted=None if given.trusted is None else read_trusted(given.trusted.data, given.spec, expected.dimension),
        ),
        [
            Entry(row.participation.owner, row.participation.reputation, row.valid, row.participation.staleness)
            for row in valid
            if row.valid is not None
        ],
        measure,
        observe,
    )
    seen = zip(valid, result.verdicts, result.findings, result.examples, result.measurements, strict=True)
    for row, verdict, finding, examples, measurement in seen:
        row.verdict, row.finding, row.examples, row.measurement = verdict, finding, examples, measurement
    paid = zip(result.weights, result.scores, result.shares, strict=True)
    # In a round that does not count, or in which too few updates do, nobody has a weight.
    for row, (weight, score, share) in zip(valid, paid, strict=False):
        row.weight, row.score, row.share = weight, score, share
    return _outcome(given, rows, result, [row.participation.owner for row in valid])


def _outcome(given: RoundInput, rows: Sequence[_Row], result: RoundResult, owners: Sequence[str]) -> RoundOutcome:
    """Return the outcome, given whose updates were evaluated."""
    model, state = Content.of(given.base.moved(result.model).encode()), Content.of(result.state.encode())
    document = {
        "version": REPORT_VERSION,
        "spec": given.spec.digest.hex(),
        "round": given.index,
        "base": Ref.of(given.base_ref).model_dump(),
        "model": Ref.of(model.ref).model_dump(),
        "state": Ref.of(state.ref).model_dump(),
        "measurements": {
            BASE: shown(result.base_measurement, given.spec),
            MODEL: shown(result.model_measurement, given.spec),
        },
        "updates": [row.document(given.spec, given.max_staleness > 0) for row in rows],
        "aggregation": dict(result.diagnostics),
        "stop": result.stop,
    }
    if result.coalitions:
        document["coalitions"] = [
            {"members": [owners[place] for place in members], "measurement": shown(measurement, given.spec)}
            for members, measurement in result.coalitions.items()
        ]
    if given.trade is not None:
        document["terms"] = given.trade.document()
    if told := {owner: one.document() for owner, one in zip(owners, result.estimates, strict=False) if one is not None}:
        document["contributions"] = told
    if given.commitments is not None:
        document["commitments"] = Ref.of(given.commitments).model_dump()
    if given.trusted is not None:
        document["trusted"] = Ref.of(given.trusted.ref).model_dump()
    if given.block is not None:
        document["validation"] = Ref.of(given.block.ref).model_dump()
    return RoundOutcome(
        model=model,
        state=state,
        report=Content.of(canonical.encode(document)),
        verdicts={row.participation.id: row.verdict for row in rows},
        shares={row.participation.id: row.share for row in rows if row.share},
        stop=result.stop,
        document=document,
    )


class _Row:
    """One participant's line of the report while it is being filled in."""

    def __init__(self, participation: Participation) -> None:
        self.participation = participation
        self.verdict = Verdict.NONE
        self.detail = ""
        self.valid: ValidUpdate | None = None
        self.report: dict[str, int] | None = None
        self.measurement: Measurement | None = None
        self.finding: Finding | None = None
        self.examples = self.weight = self.score = self.share = 0

    def read(self, given: RoundInput, expected: Expected, due: bytes) -> None:
        """Read what its participant sent, or find out why there is nothing."""
        participation = self.participation
        if participation.update is None or participation.sender is None:
            self.verdict = Verdict.MISSED if participation.sender is None else Verdict.LATE
            return
        try:
            data = given.updates[participation.owner]
            if isinstance(data, UpdateRefusedError):
                raise data
            if given.bidding:
                self.report = validate_bid(data, expected, participation.owner, participation.sender)
                self.verdict = Verdict.HEARD
                return
            known = given.valid.get(expected.about(participation.update, participation.owner, participation.sender))
            # Who looked ahead did not ask for the stake.
            ahead = known if expected.staked else None
            valid = ahead or validate(data, expected, participation.owner, participation.sender)
            if expected.base != due:
                before = participation.staleness
                detail = f"it is relative to the model {before} before, which the task's schedule does not say"
                raise UpdateRefusedError(Verdict.WRONG_BASE, detail)
            if participation.owner in given.outvoted:
                detail = "the median of its scores is far above that of the round's updates"
                raise UpdateRefusedError(Verdict.OUTVOTED, detail)
            self.valid = valid
        except UpdateRefusedError as error:
            self.verdict = error.verdict
            # What a store says of missing content is an accident of the place, so it stays out of the report.
            self.detail = "" if error.verdict is Verdict.UNAVAILABLE else error.detail

    def _judgement(self) -> dict[str, Any]:
        """Return what the sender claims, and what a refusal rests on, its numbers in millionths."""
        return {
            "claimed": 0 if self.valid is None else self.valid.examples,
            "finding": None if self.finding is None else self.finding.told.document(),
        }

    def document(self, spec: TaskSpec, with_staleness: bool) -> dict[str, Any]:
        update = self.participation.update
        staleness = {"staleness": self.participation.staleness} if with_staleness else {}
        return {
            "participant": self.participation.owner,
            "update": None if update is None else {"cid": update.cid, "length": _number(update.length)},
            "verdict": self.verdict.label,
            "detail": self.detail,
            "reputation": self.participation.reputation,
            "examples": self.examples,
            "measurement": None if self.measurement is None else shown(self.measurement, spec),
            "weight": self.weight,
            "score": _number(self.score),
            "share": self.share,
            **staleness,
            **({} if spec.judgement is None else self._judgement()),
            **({} if self.report is None else {"report": self.report}),
        }


def _number(value: int) -> int | str:
    """Return a whole number as canonical JSON holds it: as text where a double could not."""
    return value if value < 2**53 else str(value)


def shown(measurement: Measurement, spec: TaskSpec) -> dict[str, int | None]:
    """Return a measurement as a task's reports hold it."""
    margin = {} if spec.evidence is None else {"margin": measurement.margin}
    return {"loss": measurement.loss, spec.score_key: measurement.score, **margin}
