"""What a round's model would be worth with some of its updates alone, measured for a contribution score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import Coalition, Coalitional
from fedledger.aggregator.round.aggregation import aggregate_round, aggregate_statistics
from fedledger.aggregator.round.measurer import Measurer, Named, measured
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.observer import Observer
from fedledger.aggregator.round.server_step import take_plain_step
from fedledger.aggregator.round.statistic_rows import StatisticRows
from fedledger.aggregator.rules.aggregate import Rows
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.report import of_coalition
from fedledger.protocol.records.spec import TaskSpec


@dataclass(frozen=True)
class CoalitionModels:
    """Makes the models of coalitions: the base and the aggregate of their updates, before the server's optimiser.

    Parameters
    ----------
    spec
        The task's spec.
    base
        The round's base model, float32[d + s].
    methods, context
        The task's methods, and what the rule may know.
    rows
        The round's updates with their weights in the aggregate.
    statistics
        The updates' statistics.
    """

    spec: TaskSpec
    base: NDArray[np.float32]
    methods: RoundMethods
    context: StageContext
    rows: Rows
    statistics: StatisticRows

    def each(self, coalitions: Sequence[Coalition], observe: Observer, first: int = 1) -> Iterator[Named]:
        """Yield the model float32[d + s] of each coalition, with its name; the base where it has too few updates.

        They are numbered from ``first`` on.
        """
        for number, members in enumerate(coalitions, start=first):
            chosen = set(members)
            weights = [weight if i in chosen else 0 for i, weight in enumerate(self.rows.weights)]
            if self.methods.lack(weights):
                yield of_coalition(number), self.base
                continue
            delta, _ = aggregate_round(self.methods, self.context, replace(self.rows, weights=weights))
            values, _ = aggregate_statistics(self.methods, self.context, self.statistics, weights)
            name = of_coalition(number)
            observe(f"aggregate of {name}", delta)
            trained = take_plain_step(self.spec.fixed, self.base[: len(delta)], delta)
            yield name, self.statistics.behind(trained, values)

    def require(self, coalitions: Sequence[Coalition]) -> None:
        """Check all coalitions that a method has asked for so far.

        Raises
        ------
        ConfigError
            If they are too many.
        RoundError
            If a coalition has a member twice, or one whose update does not count.
        """
        counted = set(self.rows.counted)
        for members in coalitions:
            if not members or list(members) != sorted(counted.intersection(members)):
                raise RoundError(
                    f"{self.spec.contribution.method} asks for a coalition that is none of the updates that count.",
                    "A coalition is a tuple of their places, in ascending order and each once; report this to the "
                    "author of the method.",
                )
        sizes = [len(members) for members in coalitions]
        self.methods.require_coalitions(sum(sizes), sum(size * size for size in sizes), self.rows.dimension)


def measure_coalitions(
    models: CoalitionModels, context: StageContext, measure: Measurer, observe: Observer
) -> dict[Coalition, Measurement]:
    """Measure the coalitions that a task's contribution asks for, in its order; none if it asks for none.

    It is asked again with what was measured, until it asks for nothing new. An audit asks it with what was posted, and
    so gets the same questions.

    Parameters
    ----------
    models
        Makes their models.
    context
        What the contribution may know.
    measure
        Measures models.
    observe
        Sees the aggregates.

    Raises
    ------
    ConfigError, RoundError
        If it asks for too many, or for what is no coalition of updates that count.
    """
    contribution = models.methods.contribution.method
    found: dict[Coalition, Measurement] = {}
    if not isinstance(contribution, Coalitional) or not context.count:
        return found
    most = contribution.most_coalitions(len(models.rows.counted))
    while True:
        asked = contribution.coalitions(replace(context, coalitions=found), models.rows.weights)
        new = [members for members in dict.fromkeys(asked) if members not in found]
        if not new:
            return found
        if len(found) + len(new) > most:
            raise RoundError(
                f"{models.spec.contribution.method} asks for more than the {most:,} coalitions that it says.",
                "Report this to the author of the method.",
            )
        models.require([*found, *new])
        named = models.each(new, observe, len(found) + 1)
        found = {**found, **dict(zip(new, measured(measure, named), strict=True))}
