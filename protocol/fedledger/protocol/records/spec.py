"""The spec of a task: everything that a round's outcome depends on besides the ledger and the updates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.documents import LATER, Document, validated
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.encryption import OVERHEAD
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import MAX_LENGTH, Method, Methods, VectorName
from fedledger.protocol.records.opinions import DEFAULT_RECOMMENDER_TRUST, MAX_RECOMMENDERS
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import SealSpec
from fedledger.protocol.records.signatures import is_checksummed
from fedledger.protocol.records.spot_checks import CommittedData, SpotChecks, Windows, unsuited
from fedledger.protocol.records.update import DELTA, STATISTICS

SCHEMA_VERSION: Literal[1] = 1
PROTOCOL: Literal["fedledger/1"] = "fedledger/1"
MAX_SPEC_BYTES = 256 * 1024
MAX_TENSORS = 10_000
MAX_REPORTED = 16
"""Numbers of a report."""
MAX_VECTORS = 7
"""Of an update besides its delta."""


class Limits(Document):
    """What an update may be at most."""

    max_update_bytes: int = Field(64 * 1024 * 1024, ge=1, le=174 * 1024 * 1024)
    max_examples: int = Field(1_000_000, ge=1, lt=2**20, description="cap on the number of examples that count")


class FixedPointSpec(Document):
    """Fixed-point format of the exact layer."""

    fraction_bits: int = Field(24, ge=8, le=36)
    bound: float = Field(64.0, gt=0, description="a coordinate beyond ±bound is refused (out_of_range)")

    @model_validator(mode="after")
    def _fits(self) -> FixedPointSpec:
        try:
            FixedPoint(self.fraction_bits, self.bound)
        except ConfigError as error:
            raise ValueError(error.message) from error
        return self


class Tolerance(Document):
    """How far a measurement may be from its reproduction on another machine."""

    pinned: ClassVar[bool] = True

    loss: int = Field(2000, ge=0, description="millionths of the loss's unit (for classification: micro-nats)")
    correct: int = Field(2, ge=0, description="held-out examples that are classified correctly")
    score: Annotated[int | None, LATER] = Field(
        None, ge=0, description="what the objective counts; null: what `correct` says"
    )

    margin: Annotated[int, LATER] = Field(50, ge=0, description="millionths of the margin, where a task measures it")

    @classmethod
    def none(cls, of_score: bool) -> Tolerance:
        """Return what tolerates nothing, also ``of_score``, where an objective counts something of its own."""
        return cls(loss=0, correct=0, score=0 if of_score else None, margin=0)

    @property
    def of_score(self) -> int:
        """The tolerance of the score."""
        return self.correct if self.score is None else self.score


class ReputationSpec(Document):
    """How reputation enters a round: below either gate an update weighs and earns nothing."""

    pinned: ClassVar[bool] = True

    gate: int = Field(default=400_000, ge=0, le=1_000_000, description="reputation, ppm")
    relative_gate: int = Field(
        default=800_000, ge=0, le=1_000_000, description="ppm of the median reputation of the round's participants"
    )
    recommenders: Annotated[list[str], LATER] = Field(
        default_factory=list,
        max_length=MAX_RECOMMENDERS,
        description="addresses of other publishers, in their mixed-case form, whose verdicts count, too, by a "
        "reputation model that heeds them",
    )
    recommender_trust: Annotated[int | None, LATER] = Field(
        None, ge=1, le=1_000_000, description="how far recommenders are trusted, ppm; null: 500,000, so they count half"
    )

    @field_validator("recommenders")
    @classmethod
    def _are_publishers(cls, addresses: list[str]) -> list[str]:
        for address in addresses:
            if not is_checksummed(address):
                raise ValueError(f"{address!r:.60} is no address in its mixed-case form")
        if len(set(addresses)) < len(addresses):
            raise ValueError("give each recommender once")
        return addresses

    @model_validator(mode="after")
    def _trusts_somebody(self) -> ReputationSpec:
        if self.recommender_trust is not None and not self.recommenders:
            raise ValueError("recommender_trust is how far recommenders are trusted: name them, or leave it out")
        return self

    @property
    def trust(self) -> int:
        """How far recommenders are trusted, in parts per million; 0 where the task names none."""
        if not self.recommenders:
            return 0
        return DEFAULT_RECOMMENDER_TRUST if self.recommender_trust is None else self.recommender_trust


class JudgementSpec(Document):
    """How updates are judged and weighed: by what was accepted, whatever their senders claim."""

    pinned: ClassVar[bool] = True

    claims: Literal["nothing", "median"] = Field(
        "nothing",
        description="what a claimed number of examples is worth: nothing, or at most the median claim of the round",
    )
    losses: Annotated[Literal["nothing", "median"], LATER] = Field(
        "nothing",
        description="what a participant's claim of its own loss is worth to a rule that rests on it: nothing, or at "
        "most twice the median claim of the round",
    )
    most_refused: int = Field(
        default=400_000,
        ge=0,
        le=1_000_000,
        description="ppm of a round's updates that detectors may refuse at most, the worst first",
    )


class ReportedNumber(Document):
    """A whole number that participants report in bidding rounds, for the task's mechanism."""

    name: VectorName
    least: int = Field(0, ge=-(2**53) + 1, le=2**53 - 1)
    most: int = Field(ge=-(2**53) + 1, le=2**53 - 1)

    @model_validator(mode="after")
    def _is_a_range(self) -> ReportedNumber:
        if self.least > self.most:
            raise ValueError(f"{self.name}: least is {self.least} and most {self.most}")
        return self


class Stopping(Document):
    """When a task ends before its last round, judged on the posted measurements of the new model."""

    pinned: ClassVar[bool] = True

    target_correct: int | None = Field(None, ge=1, description="end once so many held-out examples are right")
    target_score: Annotated[int | None, LATER] = Field(
        None, ge=0, description="end once the score is as good as this, in what the objective counts"
    )
    patience: int | None = Field(None, ge=1, description="end after so many rounds without a lower held-out loss")

    @model_validator(mode="after")
    def _one_target(self) -> Stopping:
        if self.target_correct is not None and self.target_score is not None:
            raise ValueError("give target_score alone: target_correct is the same for classification")
        return self

    @property
    def target(self) -> int | None:
        """The score that ends the task, if one does."""
        return self.target_correct if self.target_score is None else self.target_score


class StatisticSpec(Document):
    """A tensor that follows from data and not from gradients, such as a running variance: aggregated by its value."""

    name: str = Field(min_length=1, max_length=1000)
    length: int = Field(ge=1, le=MAX_LENGTH, description="how many numbers it has")
    least: float | None = Field(None, allow_inf_nan=False, description="no number of it is below; null: -bound")
    bound_bits: int = Field(
        16,
        ge=0,
        le=38,
        description="a number beyond ±2^bound_bits is refused (out_of_range); the rest are fraction bits",
    )


class TensorsSpec(Document):
    """What a task's model holds besides the tensors that updates move."""

    statistics: list[StatisticSpec] = Field(
        default_factory=list, max_length=MAX_TENSORS, description="aggregated by value, in the order of their names"
    )
    fixed: list[str] = Field(
        default_factory=list, max_length=MAX_TENSORS, description="in the initial model alone, never changed; sorted"
    )

    @model_validator(mode="after")
    def _names_once(self) -> TensorsSpec:
        moving = [statistic.name for statistic in self.statistics]
        if moving != sorted(set(moving)) or self.fixed != sorted(set(self.fixed) - set(moving)):
            raise ValueError("give each tensor's name once, in order")
        if self.length > MAX_LENGTH:
            raise ValueError(f"the statistics have {self.length} numbers, more than {MAX_LENGTH}")
        return self

    @property
    def length(self) -> int:
        """How many numbers all statistics have."""
        return sum(statistic.length for statistic in self.statistics)


class TaskSpec(Methods):
    """A task's spec; its canonical bytes are content-addressed and named on the ledger."""

    pinned: ClassVar[bool] = True

    schema_version: Literal[1] = SCHEMA_VERSION
    protocol: Literal["fedledger/1"] = PROTOCOL
    name: str = Field(min_length=1, max_length=100)
    seed: int = Field(0, ge=0, lt=2**53, description="enters every random stream through the spec's digest")
    rounds: int = Field(ge=1, le=65_535)
    randomness: Literal["spec", "beacon"] = "spec"
    model: Method | None = Field(None, description="a registered model; or null when the code makes it")
    code: Ref | None = Field(None, description="task.py of the publisher, which defines model()")
    initial_model: Ref
    validation: Ref = Field(
        description="held-out examples that updates are measured on; where the task has a seal, their ciphertext or "
        "the index of their blocks"
    )
    seal: Annotated[SealSpec | None, LATER] = Field(
        None, description="how the validation set is kept from participants; null: it is public"
    )
    data_schema: Annotated[Ref | None, LATER] = Field(
        None, description="how participants make inputs and targets of their own data, a DataSchema; null: not said"
    )
    tensors: Annotated[TensorsSpec | None, LATER] = Field(
        None, description="what of the model updates do not move; null: they move all of its float32 tensors"
    )
    lower_is_better: Annotated[bool, LATER] = Field(False, description="whether the smaller of two scores is better")
    devices: Annotated[Ref | None, LATER] = Field(None, description="the participants' devices, a DeviceTable")
    limits: Limits = Limits()
    fixed_point: FixedPointSpec = FixedPointSpec()
    vectors: Annotated[list[VectorName], LATER] = Field(
        default_factory=list,
        max_length=MAX_VECTORS,
        description="sorted names of what an update holds besides its delta",
    )
    reputation: ReputationSpec = ReputationSpec()
    judgement: Annotated[JudgementSpec | None, LATER] = Field(
        None,
        description="null: as in release 0.1, where refused updates and claimed examples move what judges the others",
    )
    report: Annotated[list[ReportedNumber], LATER] = Field(
        default_factory=list,
        max_length=MAX_REPORTED,
        description="what participants report in bidding rounds, in this order; empty: the task has no bidding rounds",
    )
    bidding: Annotated[int | None, LATER] = Field(
        None, ge=2, le=255, description="every so many rounds one asks for reports alone; null: none does"
    )
    stopping: Stopping = Stopping()
    tolerance: Tolerance = Tolerance()
    measurement: Annotated[Literal["float", "exact"], LATER] = Field(
        "float",
        description="exact: models are measured by exact arithmetic, so that nothing is tolerated",
    )
    committed_data: Annotated[CommittedData | None, LATER] = Field(
        None, description="that participants commit to their data on the ledger; null: they do not"
    )
    spot_checks: Annotated[SpotChecks | None, LATER] = Field(
        None, description="who trains again for updates that are drawn; null: nobody"
    )

    @field_validator("vectors")
    @classmethod
    def _names_once(cls, names: list[str]) -> list[str]:
        if names != sorted(set(names) - {DELTA}):
            raise ValueError(f"give each name once, in order, and not {DELTA!r}")
        return names

    @model_validator(mode="after")
    def _ciphertext_is_of_the_plaintext(self) -> TaskSpec:
        plaintext = None if self.seal is None else self.seal.plaintext
        if plaintext is not None and self.validation.length != plaintext.length + OVERHEAD:
            raise ValueError(f"the ciphertext of a validation set is {OVERHEAD} bytes longer than its plaintext")
        return self

    @model_validator(mode="after")
    def _statistics_travel_beside_the_vectors(self) -> TaskSpec:
        if self.statistics and (STATISTICS in self.vectors or len(self.vectors) == MAX_VECTORS):
            raise ValueError(
                f"a model with statistics takes at most {MAX_VECTORS - 1} vectors, and none called {STATISTICS!r}"
            )
        return self

    @model_validator(mode="after")
    def _exact_is_exact(self) -> TaskSpec:
        if self.measurement == "exact" and self.tolerance != Tolerance.none(self.tolerance.score is not None):
            raise ValueError("exact measurements take a tolerance of 0")
        return self

    @model_validator(mode="after")
    def _payload_carries_the_vectors(self) -> TaskSpec:
        names = [vector.name for vector in self.payload]
        if names and names != [DELTA, *self.vectors]:
            raise ValueError(f"payload: give {DELTA!r} first, then each of the vectors, in their order")
        if names and self.payload[0].length is not None:
            raise ValueError(f"payload: {DELTA!r} has the model's length; leave its own out")
        return self

    @model_validator(mode="after")
    def _reports_are_asked_for(self) -> TaskSpec:
        names = [number.name for number in self.report]
        if len(set(names)) < len(names):
            raise ValueError("report: give each name once")
        if bool(names) != (self.bidding is not None):
            raise ValueError("report and bidding go together: give both, or neither")
        if names and self.mechanism is None:
            raise ValueError("reports need a mechanism that reads them")
        if self.mechanism is not None and self.schedule is not None:
            raise ValueError("a mechanism pays rounds without a schedule: leave out one of them")
        return self

    @model_validator(mode="after")
    def _recommenders_are_heeded(self) -> TaskSpec:
        if self.reputation.recommenders and self.reputation_model is None:
            raise ValueError("recommenders need a reputation model that heeds them, such as subjective_logic@1")
        return self

    @model_validator(mode="after")
    def _checks_can_be_made(self) -> TaskSpec:
        if self.spot_checks is None:
            return self
        if self.committed_data is None:
            raise ValueError("spot checks take committed data: add [committed_data]")
        feedback = [vector.name for vector in self.payload if vector.error_feedback]
        if found := unsuited(self.solver.method, feedback, self.vectors):
            raise ValueError(f"spot checks: {found}")
        return self

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.model_dump())

    @property
    def most_committed(self) -> int:
        """To how many examples a participant may commit at most: auditors look at no more."""
        return self.limits.max_examples

    @property
    def windows(self) -> Windows | None:
        """How updates commit to the states of their training; None if they do not."""
        return None if self.spot_checks is None else self.spot_checks.windows

    @property
    def fixed(self) -> FixedPoint:
        """The format that all exact arithmetic of the task is in."""
        return _fixed(self.fixed_point.fraction_bits, self.fixed_point.bound)

    @property
    def all_rounds(self) -> int:
        """The task's rounds with its bidding rounds, if each that asks for bids hears some."""
        if self.bidding is None:
            return self.rounds
        return self.rounds + -(-self.rounds // (self.bidding - 1))

    @property
    def seal_digest(self) -> bytes:
        """The digest of the key of the validation set, which the task's ledger holds; zeros unless that is sealed."""
        key = None if self.seal is None else self.seal.key
        return bytes(32) if key is None else bytes.fromhex(key)

    @property
    def statistics(self) -> int:
        """How many numbers of a model are statistics s: the last ones of its packed vector float32[d + s]."""
        return 0 if self.tensors is None else self.tensors.length

    @property
    def score_key(self) -> Literal["correct", "score"]:
        """What reports call the score of a measurement."""
        return "correct" if self.objective == Method(method="classification@1") else "score"

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes: the root of every random stream."""
        return hashlib.sha256(self.encode()).digest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> TaskSpec:
        """Return a copy with some fields changed, and so with a digest of its own."""
        copy = super().model_copy(update=update, deep=deep)
        vars(copy).pop("digest", None)
        return copy

    @classmethod
    def decode(cls, data: bytes) -> TaskSpec:
        """Read a spec from its canonical bytes.

        Raises
        ------
        ConfigError
            If the bytes are not a canonical spec of a schema that this version reads.
        """
        try:
            document = canonical.decode(data, MAX_SPEC_BYTES)
        except ValueError as error:
            raise ConfigError(f"The task's spec cannot be read: {error}.") from error
        version = document.get("schema_version") if isinstance(document, dict) else None
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"The task's spec has schema version {version!r}; this release reads {SCHEMA_VERSION}.",
                "Use the release that the task was posted with, or a newer one.",
            )
        spec = validated(cls, document, "the task's spec")
        if spec.encode() != data:
            raise ConfigError("The task's spec leaves out fields that its canonical form has, or the other way round.")
        return spec


@lru_cache(maxsize=64)
def _fixed(fraction_bits: int, bound: float) -> FixedPoint:
    return FixedPoint(fraction_bits, bound)
