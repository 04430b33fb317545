"""The catalogue: every kind of method, declared once.

A kind that a task's spec names is a field of :class:`Methods`, which spec and configuration inherit: so one line here,
and a folder with a ``base`` module, make a new kind. Finding its methods, the configuration and its JSON schema, the
audit's check that this release has every method, ``fedledger methods`` and the tables in ``docs/methods.md`` follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from fedledger.protocol.documents import LATER, Document
from fedledger.protocol.methods.registry import Kind


class Method(Document):
    """A registered method and its parameters."""

    method: Annotated[str, Field(pattern=r"^[a-z0-9_]+@[0-9]+$", description="name@version of the method")]
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")


def _is_empty(values: list[Document]) -> bool:
    return not values


VectorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
MAX_LENGTH = 1 << 26
MAX_DETECTORS = 32
"""Each looks at all pairs of a round's updates."""


class VectorSpec(Document):
    """A vector that an update carries, and how it is written."""

    name: VectorName
    length: int | None = Field(None, ge=1, le=MAX_LENGTH, description="number of coordinates; null: the model's d")
    codec: Method = Field(Method(method="dense@1"), description="how it is written")
    error_feedback: bool = Field(
        default=False, description="a participant adds what the codec left out to its next update that counts"
    )


class Methods(Document):
    """The methods that a task's spec names; a field that is a list takes several."""

    solver: Annotated[Method, Kind("local solver", "solvers", "node.solvers")] = Method(method="sgd@1")
    objective: Annotated[Method | None, LATER, Kind("objective", "objectives", "learning.objectives")] = Field(
        Method(method="classification@1"),
        description="what training minimises and how a model is measured; null: what the code's objective() returns",
    )
    transforms: Annotated[list[Method], LATER, Kind("transform", "transforms", "node.transforms")] = Field(
        default_factory=list,
        max_length=8,
        exclude_if=_is_empty,
        description="what a participant does to its update before it is encoded, in order",
    )
    payload: Annotated[list[VectorSpec], LATER, Kind("codec", "codecs", "protocol.codecs", replayed=True)] = Field(
        default_factory=list,
        max_length=8,
        exclude_if=_is_empty,
        description="the vectors that an update carries, its delta first; empty: all of the model's length, dense@1",
    )
    selection: Annotated[Method, Kind("selection", "selections", "aggregator.selection", replayed=True)] = Method(
        method="all@1"
    )
    schedule: Annotated[Method | None, LATER, Kind("schedule", "schedules", "protocol.schedules", replayed=True)] = (
        Field(
            None, description="when updates make a round, by the devices; null: once all who were selected have acted"
        )
    )
    normalisation: Annotated[
        Method | None, LATER, Kind("normalisation", "normalisations", "aggregator.normalisations", replayed=True)
    ] = Field(None, description="rescales the updates before anything looks at them")
    reputation_model: Annotated[
        Method | None, LATER, Kind("reputation model", "reputations", "aggregator.reputation", replayed=True)
    ] = Field(
        None,
        description="what makes reputations of the ledger's verdicts, for gates, weights and selections; null: the "
        "ledger's own evidence with the publisher",
    )
    evidence: Annotated[Method | None, LATER, Kind("evidence", "evidence", "aggregator.evidence", replayed=True)] = (
        Field(None, description="what is found out about everybody's work, over the rounds; null: nothing")
    )
    detection: Annotated[list[Method], Kind("detector", "detectors", "aggregator.detectors", replayed=True)] = Field(
        default_factory=list, max_length=MAX_DETECTORS
    )
    mixing: Annotated[Method | None, Kind("mixing", "mixings", "aggregator.mixings", replayed=True)] = None
    staleness: Annotated[
        Method | None, LATER, Kind("staleness weight", "staleness", "aggregator.staleness", replayed=True)
    ] = Field(None, description="how much an update to an earlier base model counts; null: as much as any")
    aggregation: Annotated[Method, Kind("aggregation rule", "rules", "aggregator.rules", replayed=True)] = Method(
        method="mean@1"
    )
    optimiser: Annotated[Method, Kind("server optimiser", "optimisers", "aggregator.optimisers", replayed=True)] = (
        Method(method="fedavg@1")
    )
    contribution: Annotated[
        Method, Kind("contribution score", "contributions", "aggregator.contributions", replayed=True)
    ] = Method(method="alignment@1")
    mechanism: Annotated[
        Method | None, LATER, Kind("mechanism", "mechanisms", "aggregator.mechanisms", replayed=True)
    ] = Field(
        None,
        description="whom rounds ask and what each is paid; null: whom the selection chooses, each in proportion to "
        "its contribution",
    )

    def named(self) -> Iterator[tuple[Kind, Method]]:
        """Yield every method that is named, with its kind."""
        for field, kind in _KINDS_BY_FIELD.items():
            found = getattr(self, field)
            for one in found if isinstance(found, list) else [found]:
                if one is not None:
                    yield kind, one.codec if isinstance(one, VectorSpec) else one


MODEL = Kind("model", "models", "learning.models")
DATA_SOURCE = Kind("data source", "datasets", "learning.sources")
PARTITION = Kind("partition", "partitions", "learning.partitions")
ATTACK = Kind("attack", "attacks", "platform.attacks", supplied=("honest", "coalition", "accomplice_address"))
BACKEND = Kind("backend", "backends", "platform.engine.backends", supplied=("population", "workers", "method"))
TRACKER = Kind("tracker", "trackers", "platform.runs.trackers", supplied=("config", "folder"))
"""Kinds of which a spec names no method, or which it names elsewhere."""


def _kind_of(field: str) -> Kind:
    return next(mark for mark in Methods.model_fields[field].metadata if isinstance(mark, Kind))


_KINDS_BY_FIELD = {field: _kind_of(field) for field in Methods.model_fields}


def kind_of(field: str) -> Kind:
    """Return the kind of the methods that a field of the spec names."""
    return _KINDS_BY_FIELD[field]


def kinds() -> dict[str, Kind]:
    """Return all kinds by their plural names, in the order of the catalogue."""
    others = (MODEL, DATA_SOURCE, PARTITION, ATTACK, BACKEND, TRACKER)
    return {kind.plural: kind for kind in (*_KINDS_BY_FIELD.values(), *others)}
