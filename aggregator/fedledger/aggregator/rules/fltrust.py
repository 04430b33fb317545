"""FLTrust (Cao et al. 2021, https://arxiv.org/abs/2012.13995)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import ClassVar

import numpy as np

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.rules.base import ONE, RULES, Combination, LinearRule, RuleContext
from fedledger.aggregator.rules.trusted import products_with_trusted
from fedledger.protocol.arithmetic.exact import Gram
from fedledger.protocol.errors import RoundError

MAX_SCALE = float(1 << 20)
"""A row is never magnified by more, so that the sum stays exact."""


@RULES.register("fltrust@1")
@dataclass(frozen=True)
class FLTrust(LinearRule):
    """Σ t_i (‖g₀‖ / ‖g_i‖) g_i / Σ t_i with the trust t_i = max(0, cos(g_i, g₀)) in update g_i.

    g₀ is an update that the aggregator trusts, made from the round's base model on data of its own. The report names
    it as content; an audit takes it as it is, since nobody else can train it. All rows count alike, whatever their
    weights. If no row is trusted, the aggregate is zero. Statistics of a model are not rescaled: they have the mean
    Σ t_i s_i / Σ t_i.
    """

    needs_gram: ClassVar[bool] = False
    needs_trusted: ClassVar[bool] = True
    needs_updates: ClassVar[bool] = True

    def __call__(self, context: RuleContext) -> Combination:
        known = context.round
        if known.trusted is None:
            raise RoundError("There is no update that the aggregator trusts.", "Choose another aggregation rule.")
        rows = [*(known.updates[place] for place in context.rows), known.trusted]
        return _combination(context, [1] * len(context.weights), exact_products(rows))


@RULES.register("fltrust@2")
@dataclass(frozen=True)
class WeightedFLTrust(FLTrust):
    """Σ w_i t_i (‖g₀‖ / ‖g_i‖) g_i / Σ w_i t_i with the trust t_i = max(0, cos(g_i, g₀)) in update g_i of weight w_i.

    g₀ is an update that the aggregator trusts, made from the round's base model on data of its own. The report names
    it as content; an audit takes it as it is, since nobody else can train it. If no row is trusted, the aggregate is
    zero. Rows are as the task's mixing makes them. Statistics of a model are not rescaled: they have the mean
    Σ w_i t_i s_i / Σ w_i t_i.
    """

    needs_updates: ClassVar[bool] = False

    def __call__(self, context: RuleContext) -> Combination:
        shared = gcd(*context.weights)
        weights = [weight // shared for weight in context.weights]
        return _combination(context, weights, products_with_trusted(context))


def _combination(context: RuleContext, weights: Sequence[int], gram: Gram) -> Combination:
    """Return the rows by weight times trust, each as long as the update that is trusted, the last row of ``gram``."""
    products = gram.astype(np.float64)
    norms = np.sqrt(products.diagonal()).tolist()
    trusts, total = [], 0.0
    for weight, toward, norm in zip(weights, products[-1].tolist(), norms[:-1], strict=False):
        trusts.append(max(0.0, toward / (norm * norms[-1])) if norm and norms[-1] else 0.0)
        total += weight * trusts[-1]
    if not total:
        return Combination([0] * len(trusts), 1, {"trusts": [0] * len(trusts)})
    scales = [min(MAX_SCALE, norms[-1] / norm) if norm else 0.0 for norm in norms[:-1]]
    if context.by_value:
        scales = [1.0] * len(trusts)
    parts = zip(weights, trusts, scales, strict=True)
    coefficients = [round(weight * trust / total * scale * ONE) for weight, trust, scale in parts]
    return Combination(coefficients, ONE, {"trusts": [round(trust * ONE) for trust in trusts]})
