"""What rules that compare updates with a trusted one look at."""

from __future__ import annotations

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.context.distances import squared_distances_to
from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.rules.base import RuleContext
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.errors import RoundError


def products_with_trusted(context: RuleContext) -> Gram:
    """Return the exact inner products of a round's updates, mixed as the rows are, followed by the trusted update.

    They are those of whole updates, also where a rule's rows are the updates' statistics or further vectors.

    Raises
    ------
    RoundError
        If there is no update that the aggregator trusts.
    """
    updates, trusted = _known(context)
    products = exact_products([*updates, trusted])
    return products if context.mixture is None else context.mixture.beside(1).gram(products)


def squared_distances_to_trusted(context: RuleContext) -> list[int]:
    """Return the exact squared distances of a round's updates, mixed as the rows are, to the trusted update.

    They are multiples of those of whole updates, also where a rule's rows are statistics or further vectors.

    Raises
    ------
    RoundError
        If there is no update that the aggregator trusts.
    """
    if context.mixture is None:
        return squared_distances_to(*_known(context))
    distances: list[int] = squared_distances(products_with_trusted(context))[-1, :-1].tolist()
    return distances


def _known(context: RuleContext) -> tuple[list[IntArray], IntArray]:
    """Return the round's updates that count, and the trusted one."""
    known = context.round
    if known.trusted is None:
        raise RoundError("There is no update that the aggregator trusts.", "Choose another aggregation rule.")
    return [known.updates[place] for place in context.rows], known.trusted
