"""What a task's rule makes of a round's updates, of their statistics, and of the other vectors that they carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.statistic_rows import StatisticRows
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import RoundError


def aggregate_round(methods: RoundMethods, context: StageContext, rows: Rows) -> tuple[IntArray, dict[str, Any]]:
    """Return the aggregate int64[d] of a round's rows, and what the rule tells of itself; zeros if none counts.

    Parameters
    ----------
    methods
        The task's.
    context
        What the rule may know.
    rows
        The rows, one for each update, and the previous aggregate.

    Raises
    ------
    RoundError
        If the rule needs an update that the aggregator trusts, and there is none.
    """
    rule = methods.rule.method
    if not any(rows.weights):
        return np.zeros(rows.dimension, np.int64), {}
    if rule.needs_trusted and context.trusted is None:
        raise RoundError(
            "The aggregation rule needs an update that the aggregator trusts, and there is none.",
            "Start the aggregator with data of its own, or choose another rule.",
        )
    outcome = aggregate(rule, rows, context.unit, methods.mixing, context)
    return outcome.delta, dict(outcome.diagnostics)


def aggregate_statistics(
    methods: RoundMethods, context: StageContext, statistics: StatisticRows, weights: Sequence[int]
) -> tuple[IntArray, dict[str, Any]]:
    """Return the statistics int64[s] of a new model: what the task's rule makes of the updates' values."""
    base = statistics.base
    if not len(base):
        return base, {}
    # A rule that starts from the last aggregate starts from the base's values.
    changes = Rows(statistics.rows - base, weights, np.zeros_like(base), by_value=True)
    change, notes = aggregate_round(methods, context, changes)
    return statistics.format.cut(base + change), {"statistics": notes}
