"""Weighted mean (federated averaging: McMahan et al. 2017, https://arxiv.org/abs/1602.05629)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext


@RULES.register("mean@1")
@dataclass(frozen=True)
class Mean(LinearRule):
    """The weighted mean; one hostile update can move it anywhere."""

    needs_gram: ClassVar[bool] = False

    def __call__(self, context: RuleContext) -> Combination:
        return Combination(context.weights, sum(context.weights))
