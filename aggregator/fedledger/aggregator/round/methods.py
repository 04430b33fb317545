"""The methods of a task's rounds, made once, and what they keep from round to round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isqrt
from typing import Generic, TypeVar

import numpy as np

from fedledger.aggregator.context.least_rows import Named, NeedsRows, most_demanding, need
from fedledger.aggregator.context.stage_context import Remembering, StageContext
from fedledger.aggregator.context.work import MAX_MEMBERS, MAX_SUMS, Laborious, require_work
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalitional, Contribution
from fedledger.aggregator.detectors.base import DETECTORS, Detector
from fedledger.aggregator.evidence.base import EVIDENCE, Evidence
from fedledger.aggregator.mechanisms.base import Learning, Mechanism
from fedledger.aggregator.mechanisms.trade import mechanism_of
from fedledger.aggregator.mixings.base import MIXINGS, Behind, Mixing
from fedledger.aggregator.normalisations.base import NORMALISATIONS, Normalisation
from fedledger.aggregator.reputation.base import model_of
from fedledger.aggregator.rules.aggregate import require_suited
from fedledger.aggregator.rules.base import RULES, LinearRule, Rule
from fedledger.protocol.arithmetic.exact import MAX_ROWS, IntArray
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import START_LOSS

T = TypeVar("T")

MAX_MEMORY_BYTES = MAX_OBJECT_BYTES // 2
"""What a task's methods may keep at most; the rest of the state needs room, too."""


@dataclass(frozen=True)
class Staged(Generic[T]):
    """A method and its name among the task's methods, which its random stream and its memory go by.

    Parameters
    ----------
    name
        Such as ``"detectors.1"`` for the second detector.
    method
        The method.
    """

    name: str
    method: T

    def context(
        self, known: StageContext, spec: TaskSpec, beacon: bytes, memories: Mapping[str, IntArray]
    ) -> StageContext:
        """Return what this method may know: all that is known, its own random stream and its own memory."""
        purpose = self.name if spec.randomness == "spec" else f"{self.name} {beacon.hex()}"
        draws = partial(stream, spec.digest, purpose, known.round)
        return replace(known, draws=draws, memory=self._memory(memories))

    def remembered(self, context: StageContext, weights: Sequence[int]) -> dict[str, IntArray]:
        """Return what the method keeps after a round that counts, by the names that it has in the state."""
        if self._remembering is None:
            return {}
        kept = self._remembering.remember(context, weights)
        return {f"{self.name}.{key}": np.asarray(values, np.int64) for key, values in kept.items()}

    def memory_size(self, participants: int, dimension: int) -> int:
        """Return how many integers the method keeps at most, for so many participants and coordinates."""
        return 0 if self._remembering is None else self._remembering.memory_size(participants, dimension)

    @cached_property
    def _remembering(self) -> Remembering | None:
        return self.method if isinstance(self.method, Remembering) else None

    def _memory(self, memories: Mapping[str, IntArray]) -> dict[str, IntArray]:
        if not memories:
            return {}
        start = f"{self.name}."
        return {key[len(start) :]: values for key, values in memories.items() if key.startswith(start)}


@dataclass(frozen=True)
class RoundMethods:
    """The methods by which a task's rounds are evaluated."""

    evidence: Staged[Evidence] | None
    detectors: tuple[Staged[Detector], ...]
    rule: Staged[Rule]
    contribution: Staged[Contribution]
    normalisation: Normalisation | None
    mixing: Mixing | None
    mechanism: Mechanism | None = None

    @classmethod
    def of(cls, spec: TaskSpec) -> RoundMethods:
        """Return the methods that a spec names; they are made once.

        Raises
        ------
        ConfigError
            If this release lacks one, its parameters are wrong, or it does not suit the spec's judgement.
        """
        return _MADE.get(spec.digest) or _MADE.keep(spec.digest, cls._made(spec))

    @classmethod
    def _made(cls, spec: TaskSpec) -> RoundMethods:
        # Made anew wherever it is asked; what is wrong with it is told with what is wrong with the others.
        model_of(spec)
        normalisation, mixing, evidence = spec.normalisation, spec.mixing, spec.evidence
        made = cls(
            evidence=None
            if evidence is None
            else Staged("evidence.0", build(EVIDENCE, evidence.method, evidence.params)),
            detectors=tuple(
                Staged(f"detectors.{place}", build(DETECTORS, named.method, named.params))
                for place, named in enumerate(spec.detection)
            ),
            rule=Staged("rules.0", build(RULES, spec.aggregation.method, spec.aggregation.params)),
            contribution=Staged(
                "contributions.0", build(CONTRIBUTIONS, spec.contribution.method, spec.contribution.params)
            ),
            normalisation=None
            if normalisation is None
            else build(NORMALISATIONS, normalisation.method, normalisation.params),
            mixing=None if mixing is None else build(MIXINGS, mixing.method, mixing.params),
            mechanism=mechanism_of(spec),
        )
        _require_suited(spec, made)
        return made

    def __iter__(self) -> Iterator[Staged[Evidence] | Staged[Detector] | Staged[Rule] | Staged[Contribution]]:
        first = () if self.evidence is None else (self.evidence,)
        return iter((*first, *self.detectors, self.rule, self.contribution))

    @cached_property
    def least_rows(self) -> int:
        """How many updates have to count in a round, so that its methods keep what they promise."""
        return max(method.least_rows for method in self.needing.values())

    @property
    def needing(self) -> dict[str, NeedsRows]:
        """Rule, mixing and normalisation, as far as the task names them and they may need a least number of rows."""
        rule: NeedsRows = self.rule.method
        found = {"rule": rule if self.mixing is None else Behind(rule, self.mixing)}
        for kind, method in (("mixing", self.mixing), ("normalisation", self.normalisation)):
            if isinstance(method, NeedsRows):
                found[kind] = method
        return found

    def lack(self, weights: Sequence[int]) -> dict[str, int]:
        """Return how many updates count by their weights, and how many are needed, if too few count; else nothing."""
        counted = sum(weight > 0 for weight in weights)
        return {"counted": counted, "needed": self.least_rows} if counted < self.least_rows else {}

    def require_coalitions(self, members: int, squares: int, dimension: int) -> None:
        """Check that measuring coalitions is not too much work for a round.

        Parameters
        ----------
        members, squares
            Numbers of members of all coalitions, and their squares, added up.
        dimension
            Number of coordinates d of the model.

        Raises
        ------
        ConfigError
            If it is, or if their members are too many for a report.
        """
        if members > MAX_MEMBERS:
            raise ConfigError(
                f"The contribution score asks for coalitions of {members:,} members a round; the limit is "
                f"{MAX_MEMBERS:,}.",
                "Choose another score, or have a round ask fewer participants.",
            )
        require_work("The measurement of coalitions", members * dimension, MAX_SUMS)
        if isinstance(self.rule.method, Laborious) and squares:
            # What a rule computes grows with the square of its rows.
            self.rule.method.require_work(isqrt(squares - 1) + 1, dimension)

    @cached_property
    def needs_centre(self) -> bool:
        """Whether a method looks at the centre of the updates."""
        return any(getattr(staged.method, "needs_centre", False) for staged in self)


def _require_suited(spec: TaskSpec, methods: RoundMethods) -> None:
    """Raise ConfigError if a task's methods do not suit each other."""
    believes = methods.normalisation is not None and methods.normalisation.trusts_claims
    if spec.judgement is not None and spec.normalisation is not None and believes:
        raise ConfigError(
            f"{spec.normalisation.method} magnifies an update whose sender states few steps, and the task's "
            "judgement lets no claim raise a weight.",
            "Choose another normalisation, such as fednova@2.",
        )
    if isinstance(methods.rule.method, LinearRule) and methods.rule.method.needs_start_losses:
        _require_start_losses(spec)
    if methods.mixing is not None:
        require_suited(methods.rule.method, methods.mixing)
    if methods.evidence is not None:
        return
    named = [*spec.detection, spec.contribution]
    made = [*(staged.method for staged in methods.detectors), methods.contribution.method]
    for name, method in zip(named, made, strict=True):
        if getattr(method, "needs_evidence", False):
            raise ConfigError(
                f"{name.method} needs to know of everybody's work, and the task names no evidence.",
                'Give evidence = { method = "work@1" }.',
            )


def _require_start_losses(spec: TaskSpec) -> None:
    """Raise ConfigError unless updates tell their senders' losses, and the task's judgement lets these count."""
    name = spec.aggregation.method
    if not any(vector.name == START_LOSS and vector.length == 1 for vector in spec.payload):
        raise ConfigError(
            f"{name} rests on participants' own losses, which the task's updates do not carry.",
            f'Have the payload carry the vector "{START_LOSS}" of length 1, or choose another aggregation rule.',
        )
    if spec.judgement is not None and spec.judgement.losses == "nothing":
        raise ConfigError(
            f"{name} weighs updates by losses that their senders claim, and the task's judgement lets no claim raise a "
            "weight.",
            'Give judgement = { losses = "median" }, by which a claim counts up to twice the median one, or choose a '
            "rule that rests on no claim, such as fedmgda@1.",
        )


_MADE: BoundedCache[bytes, RoundMethods] = BoundedCache(16)
"""By a spec's digest."""


def check_work(spec: TaskSpec, participants: int, dimension: int) -> None:
    """Check that a round of a task is not too much work.

    Parameters
    ----------
    spec
        The task's spec.
    participants
        How many a round asks at most.
    dimension
        Number of coordinates d of the model.

    Raises
    ------
    ConfigError
        If it is, for one of the task's methods.
    """
    methods, rows = RoundMethods.of(spec), min(participants, MAX_ROWS)
    for staged in methods:
        if isinstance(staged.method, Laborious):
            staged.method.require_work(rows, dimension)
    contribution = methods.contribution.method
    if isinstance(contribution, Coalitional):
        members = contribution.most_coalitions(rows) * rows
        methods.require_coalitions(members, members * rows, dimension)


def most_needing(spec: TaskSpec) -> Named:
    """Return which of a task's rule, mixing and normalisation needs the most updates, by its name."""
    named = {"rule": spec.aggregation, "mixing": spec.mixing, "normalisation": spec.normalisation}
    needing = RoundMethods.of(spec).needing.items()
    return most_demanding((chosen.method, method) for kind, method in needing if (chosen := named[kind]) is not None)


def check_rows(spec: TaskSpec, participants: int) -> None:
    """Check that a round of a task can have as many updates as its rule and its mixing need.

    Parameters
    ----------
    spec
        The task's spec.
    participants
        How many updates a round has at most.

    Raises
    ------
    ConfigError
        If it cannot, so that no round would move the model.
    """
    most = most_needing(spec)
    if participants < most[1].least_rows:
        raise ConfigError(
            f"{need(most)}; a round of this task has {participants:,} at most.",
            f"Lower f, or have a round ask at least {most[1].least_rows:,} participants.",
        )


def check_memory(spec: TaskSpec, participants: int, dimension: int) -> None:
    """Check that what a task's methods keep from round to round fits the state.

    Raises
    ------
    ConfigError
        If it does not.
    """
    methods = RoundMethods.of(spec)
    kept = sum(8 * staged.memory_size(participants, dimension) for staged in methods)
    if isinstance(methods.mechanism, Learning):
        kept += 8 * methods.mechanism.table_size(participants)
    if kept > MAX_MEMORY_BYTES:
        raise ConfigError(
            f"The task's methods keep {kept:,} bytes from round to round for {participants:,} participants; "
            f"the limit is {MAX_MEMORY_BYTES:,}.",
            "Choose methods without memory, a smaller model, or fewer participants.",
        )
