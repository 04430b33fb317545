"""As far from the honest mean as the sum of the honest updates' distances hides it."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import Rows
from fedledger.platform.attacks.farthest import Farthest


@ATTACKS.register("min_sum@1")
@dataclass(frozen=True)
class MinSum(Farthest):
    """Goes as far from the mean as the sum of its squared distances is no larger than an honest update's.

    It needs to know nothing of the rule (Shejwalkar and Houmansadr 2021, https://doi.org/10.14722/ndss.2021.24498).
    """

    def measure(self, squared: Rows) -> float:
        """Return the sum."""
        return float(squared.sum())
