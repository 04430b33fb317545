"""The mean of what more updates support than may be hostile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.context.support import limits
from fedledger.aggregator.rules.base import RULES, CoordinateRule, Diagnostics, RuleContext, mean_by_weight
from fedledger.protocol.arithmetic.exact import IntArray, divide_round
from fedledger.protocol.methods.parameters import Checked, Real

PARTS = 1 << 10
"""How strict the rule is, in whole parts of this."""


@RULES.register("supported_mean@1")
@dataclass(frozen=True)
class SupportedMean(Checked, CoordinateRule):
    """The weighted mean, in which each coordinate is cut to what more rows support than may be hostile.

    With f hostile rows, a coordinate counts up to the f + 1-th largest one, and down to the f + 1-th smallest, of those
    on either side of 0. So what only f rows want, such as a backdoor, does not happen, and unlike a trimmed mean
    nothing honest is left out where all agree. Where honest data differ so much that updates hardly agree, no rule that
    looks at coordinates tells a backdoor from rare data, and cutting costs accuracy (Karimireddy et al. 2022,
    https://arxiv.org/abs/2006.09365): there the rule becomes the mean. How far updates agree is the task's evidence's
    to say; without evidence the rule is always strict.

    Parameters
    ----------
    hostile
        Which share of a round's updates may be hostile. Those that were refused are taken off.
    """

    hostile: Annotated[float, Real(0, 0.5, below=True)] = 0.3
    needs_gram: ClassVar[bool] = False

    def first_stage(self, context: RuleContext) -> tuple[Sequence[int] | None, CoordinateRule]:
        """Return all rows, and the rule for so many of them that may be hostile."""
        n = len(context.weights)
        counted = len(context.rows) or n
        everybody = counted if context.stage is None else context.stage.count
        spare = max(0, int(self.hostile * everybody) - (everybody - counted))
        work = None if context.stage is None else context.stage.work
        strict = 1.0 if work is None else work.agreement
        return None, _Cut(min(spare, (n - 1) // 2), round(strict * PARTS))

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        return _Cut(min(int(self.hostile * len(block)), (len(block) - 1) // 2), PARTS)(block, weights)


@dataclass(frozen=True)
class _Cut(CoordinateRule):
    """The mean of rows that are cut to what more than ``spare`` of them support, in ``strict`` parts of 1,024."""

    spare: int
    strict: int

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        if self.spare and self.strict:
            low, high = limits(block, self.spare)
            cut = np.clip(block, low, high)
            block = cut if self.strict == PARTS else block + divide_round((cut - block) * self.strict, PARTS)
        return mean_by_weight(block, np.array(weights, np.int64)[:, None], sum(weights)), 1

    def diagnostics(self, n: int) -> Diagnostics:
        return {"spare": self.spare, "strict": self.strict}
