"""What rules that compare updates with a trusted one look at."""

from __future__ import annotations

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.rules.base import RuleContext
from fedledger.protocol.arithmetic.exact import Gram
from fedledger.protocol.errors import RoundError


def products_with_trusted(context: RuleContext) -> Gram:
    """Return the exact inner products of a round's updates, mixed as the rows are, followed by the trusted update.

    They are those of whole updates, also where a rule's rows are the updates' statistics or further vectors.

    Raises
    ------
    RoundError
        If there is no update that the aggregator trusts.
    """
    known = context.round
    if known.trusted is None:
        raise RoundError("There is no update that the aggregator trusts.", "Choose another aggregation rule.")
    products = exact_products([*(known.updates[place] for place in context.rows), known.trusted])
    return products if context.mixture is None else context.mixture.beside(1).gram(products)
