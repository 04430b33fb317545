"""The one driver of all aggregation rules: it streams column blocks by all threads, and keeps every integer exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.columns import Columns, Scratch, as_integers
from fedledger.aggregator.context.least_rows import Named, most_demanding, need
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.threads import in_threads
from fedledger.aggregator.mixings.base import MIXINGS, Behind, Mixing
from fedledger.aggregator.mixings.mixture import Mixture
from fedledger.aggregator.rules.base import RULES, CoordinateRule, Diagnostics, LinearRule, Rule, RuleContext
from fedledger.protocol.arithmetic import exact
from fedledger.protocol.arithmetic.exact import FixedPoint, Gram, IntArray
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.errors import ConfigError, RoundError

MAX_MIXED = 2048
"""Largest number of updates that are mixed: sums of so many sums of so many values fit in int64."""

Finish = Callable[[Columns, slice, Scratch], IntArray]
"""Returns the aggregate int64[d'] of some columns."""


@dataclass(frozen=True)
class Outcome:
    """An aggregate int64[d] and how it came about.

    The diagnostics name the ``rows`` that took part by their number among the updates, and how many of them
    were ``mixed`` into each; the rule's own entries (and ``coefficients``, the previous aggregate's last)
    count those rows from 0.
    """

    delta: IntArray
    diagnostics: Diagnostics


@dataclass(frozen=True)
class Rows:
    """Vectors that are aggregated.

    Parameters
    ----------
    updates
        n vectors int64[d] (or int64[n, d]) in the order of their participants' addresses, or float32 with ``fixed``;
        they may be memory maps, are read a block of columns at a time, and are never changed.
    weights
        n integers ≥ 0. A row of weight 0 takes no part.
    previous
        The previous round's aggregate int64[d], where centred clipping starts; zeros unless given.
    gram
        Inner products of the updates followed by ``previous``, if they are known already.
    columns
        Length of a block; what suits the number of updates unless given. The outcome does not depend on it.
    by_value
        Whether the rows are values, such as running variances, and no steps.
    fixed
        By which float32 becomes integers, a block at a time: the outcome is that of the quantised vectors, without
        their copy.
    """

    updates: Sequence[NDArray[Any]] | NDArray[Any]
    weights: Sequence[int]
    previous: IntArray | None = None
    gram: Gram | None = None
    columns: int | None = None
    by_value: bool = False
    fixed: FixedPoint | None = None

    @cached_property
    def counted(self) -> list[int]:
        """The places of the rows that take part."""
        return [i for i, (_, weight) in enumerate(zip(self.updates, self.weights, strict=True)) if weight]

    @property
    def dimension(self) -> int:
        """Length d of a row."""
        return len(self.updates[0] if self.previous is None else self.previous)

    def taken(self, with_previous: bool) -> Columns:
        """Return the rows that take part, followed by the previous aggregate if that is asked for."""
        # A matrix of which all is wanted need not be copied.
        is_whole = len(self.counted) == len(self.weights) and isinstance(self.updates, np.ndarray)
        rows = self.updates if is_whole else [self.updates[i] for i in self.counted]
        last = np.zeros(self.dimension, np.int64) if self.previous is None else self.previous
        return Columns(rows, self.fixed, self.columns, last if with_previous else None)

    def products(self, rows: Columns, with_previous: bool) -> Gram:
        """Return the inner products of the rows that take part, ``rows``."""
        if self.gram is None:
            return rows.products()
        chosen = [*self.counted, len(self.weights)] if with_previous else self.counted
        return self.gram[np.ix_(chosen, chosen)]


def aggregate(
    rule: Rule, given: Rows, unit: int, mixer: Mixing | None = None, stage: StageContext | None = None
) -> Outcome:
    """Aggregate vectors exactly by a rule.

    Parameters
    ----------
    rule
        The rule.
    given
        The vectors.
    unit
        The integer that stands for a coordinate of 1: ``FixedPoint.unit``.
    mixer
        A step in front of the rule.
    stage
        What is known of the round, for rules that look at it.

    Raises
    ------
    ConfigError
        If a weight is negative, or there are more updates than can be summed exactly.
    RoundError
        If no update has a weight, or fewer have one than the rule or the mixer needs.
    OutOfRangeError
        If a value is beyond 2^40, or the weights are too large for an exact sum; of float32, if one is out of bounds.
    NotFiniteError
        If a float32 is not a finite number.
    """
    counted = given.counted
    _check(given.weights, counted, mixer)
    _require_rows(rule, mixer, len(counted))
    from_previous = isinstance(rule, LinearRule) and rule.needs_previous
    rows = given.taken(from_previous)
    products: Gram = np.zeros((0, 0), np.int64)
    if rule.needs_gram or from_previous or (mixer and mixer.needs_gram):
        products = given.products(rows, from_previous)
    weights: Sequence[int] = [given.weights[i] for i in counted]
    mixture = Mixture.of(mixer.drawn(_draws(stage)), products, weights) if mixer else None
    if mixture:
        products = mixture.gram(products) if rule.needs_gram else products
        weights, unit = mixture.weights, unit * mixture.share
    context = RuleContext(weights, unit, products, counted, stage, given.by_value, given.dimension, mixture)
    plus = None
    if isinstance(rule, LinearRule):
        finish, notes, plus = _linear(rule, context, mixture)
    else:
        finish, notes = _coordinate(rule, context, mixture)
    delta = np.empty(given.dimension, np.int64)

    def work(parts: Iterator[slice]) -> None:
        scratch = rows.scratch()
        for part in parts:
            delta[part] = finish(rows, part, scratch)

    in_threads(work, rows.parts())
    if plus is not None:
        delta = exact.saturate(delta + plus)
    return Outcome(delta, {"rows": counted, "mixed": mixer.near(len(counted)) if mixer else 1, **notes})


def _coordinate(rule: CoordinateRule, context: RuleContext, mixture: Mixture | None) -> tuple[Finish, Diagnostics]:
    chosen, second = rule.first_stage(context)
    weights = context.weights if chosen is None else [context.weights[i] for i in chosen]

    def finish(rows: Columns, part: slice, scratch: Scratch) -> IntArray:
        if mixture:
            block = as_integers(mixture.rows(rows.doubles(part, scratch)), second.narrow)
        else:
            block = rows.integers(part, scratch, second.narrow)
        numerators, denominator = second(block if chosen is None else block[chosen], weights)
        return exact.divide_round(numerators, denominator * (mixture.share if mixture else 1))

    if chosen is None:
        return finish, second.diagnostics(len(context.weights))
    return finish, {**rule.diagnostics(len(context.weights)), "selected": list(chosen)}


def _linear(
    rule: LinearRule, context: RuleContext, mixture: Mixture | None
) -> tuple[Finish, Diagnostics, IntArray | None]:
    found = rule(context)
    coefficients, denominator = list(found.coefficients), found.denominator
    expected = len(context.weights) + rule.needs_previous
    if len(coefficients) != expected:
        raise ConfigError(
            f"{RULES.key_of(rule)} combines {len(coefficients):,} rows of {expected:,}.",
            "A rule returns a coefficient for each row that it is given, and a mixing may have made fewer; report this "
            "to the author of the rule.",
        )
    if mixture:
        coefficients, denominator = mixture.combined(coefficients, denominator)
    mean = exact.WeightedMean(coefficients, denominator)

    def finish(rows: Columns, part: slice, scratch: Scratch) -> IntArray:
        return mean(rows.doubles(part, scratch), rows.most)

    return finish, {**found.diagnostics, "coefficients": coefficients, "denominator": denominator}, found.plus


def _draws(stage: StageContext | None) -> Callable[[], Stream]:
    """Return what makes the random stream of a round's mixing, which is not that of its rule."""

    def draws() -> Stream:
        if stage is None:
            raise ConfigError("This mixing works on a round's updates only.", "Choose another mixing.")
        return Stream(stage.draws().bytes(32))

    return draws


def _check(weights: Sequence[int], kept: Sequence[int], mixer: Mixing | None) -> None:
    if min(weights, default=0) < 0:
        raise ConfigError("A weight is negative.", "Give weights of at least 0.")
    if not kept:
        raise RoundError(
            "No update of this round counts.", "Wait for participants, or lower the gate of the reputation."
        )
    most = MAX_MIXED if mixer else exact.MAX_ROWS
    if len(kept) > most:
        raise ConfigError(f"{len(kept)} updates cannot be summed exactly.", f"Select at most {most}.")


def require_suited(rule: Rule, mixer: Mixing) -> None:
    """Check that a mixing leaves a rule the rows that it needs.

    Raises
    ------
    ConfigError
        If it does not.
    """
    if mixer.makes_fewer and isinstance(rule, LinearRule) and rule.needs_updates:
        raise ConfigError(
            f"{RULES.key_of(rule)} looks at each update by itself, and {MIXINGS.key_of(mixer)} makes fewer rows.",
            "Choose another mixing, or another aggregation rule.",
        )


def _require_rows(rule: Rule, mixer: Mixing | None, counted: int) -> None:
    named: list[Named] = [(RULES.key_of(rule), rule if mixer is None else Behind(rule, mixer))]
    if mixer is not None:
        require_suited(rule, mixer)
        named.append((MIXINGS.key_of(mixer), mixer))
    most = most_demanding(named)
    if counted < most[1].least_rows:
        raise RoundError(f"{need(most)}; there are {counted:,}.", "Give more updates, or lower f.")
