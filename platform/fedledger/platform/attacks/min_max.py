"""As far from the honest mean as the largest of the honest updates' distances hides it."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import Rows
from fedledger.platform.attacks.farthest import Farthest


@ATTACKS.register("min_max@1")
@dataclass(frozen=True)
class MinMax(Farthest):
    """Goes as far from the mean as the largest of its distances is no larger than an honest update's.

    It needs to know nothing of the rule (Shejwalkar and Houmansadr 2021, https://doi.org/10.14722/ndss.2021.24498).
    """

    def measure(self, squared: Rows) -> float:
        """Return the largest."""
        return float(squared.max())
