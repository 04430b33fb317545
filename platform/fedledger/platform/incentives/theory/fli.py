"""The Federated Learning Incentivizer: shares of a budget that make good, over time, what participants are owed.

Yu, Liu, Liu, Chen, Cong, Weng, Niyato and Yang, A Fairness-Aware Incentive Scheme for Federated Learning, AIES 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Annotated

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Real, real

MOST = 100_000
Amount = Real(0, 1e12)
Amounts = ListOf(Amount, MOST)


@dataclass(frozen=True)
class Owed(Checked):
    """What participants are owed: one number for each, in units of reward.

    Parameters
    ----------
    regrets
        Y_i: costs that no reward has made good yet.
    waits
        Q_i: what waiting for that adds.
    """

    regrets: Annotated[tuple[float, ...], Amounts]
    waits: Annotated[tuple[float, ...], Amounts]

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if len(self.regrets) != len(self.waits):
            raise ConfigError("There are not as many waits as regrets.", "Give one for each participant.")

    def after(self, costs: Sequence[float], waiting: Sequence[float], paid: Sequence[float]) -> Owed:
        """Return what is owed after a round: Y + c − paid and Q + λ − paid, neither below 0.

        Parameters
        ----------
        costs
            c_i, what the round cost each.
        waiting
            λ_i, as given for the round.
        paid
            What each was paid.

        Raises
        ------
        ConfigError
            If there are not as many numbers as participants.
        """
        _require_as_many(len(self.regrets), costs, waiting, paid)
        return Owed(
            tuple(max(0.0, y + c - p) for y, c, p in zip(self.regrets, costs, paid, strict=True)),
            tuple(max(0.0, q + w - p) for q, w, p in zip(self.waits, waiting, paid, strict=True)),
        )

    def waiting(self, average: Sequence[float]) -> tuple[float, ...]:
        """Return λ_i of a round: a participant's average cost while it is owed something, else 0."""
        _require_as_many(len(self.regrets), average)
        return tuple(each if regret > 0 else 0.0 for each, regret in zip(average, self.regrets, strict=True))


def claims(
    qualities: Sequence[float], costs: Sequence[float], owed: Owed, waiting: Sequence[float], weight: float = 1.0
) -> tuple[float, ...]:
    """Return u_i = (ω·q_i + Y_i + c_i + Q_i + λ_i) / 2, which maximise ω·Σ q·u minus half the drift of what is owed.

    Parameters
    ----------
    qualities
        q_i, what each contributed.
    costs
        c_i, what it cost each.
    owed
        Y and Q.
    waiting
        λ_i.
    weight
        ω, how much contributions weigh against what is owed.

    Raises
    ------
    ConfigError
        If a number is out of bounds, or there are not as many as participants.
    """
    _require_as_many(len(owed.regrets), qualities, costs, waiting)
    weight = real("weight", weight, Amount)
    rows = zip(qualities, owed.regrets, costs, owed.waits, waiting, strict=True)
    return tuple(
        (weight * real("quality", q, Amount) + y + real("cost", c, Amount) + w + real("waiting", lam, Amount)) / 2
        for q, y, c, w, lam in rows
    )


def shares(claimed: Sequence[float], budget: float) -> tuple[float, ...]:
    """Return what each is paid, u_i / Σ u·B; all the same if nobody has a claim.

    Raises
    ------
    ConfigError
        If there is nobody, or a number is out of bounds.
    """
    if not claimed:
        raise ConfigError("There is nobody to pay.", "Give at least one claim.")
    budget = real("budget", budget, Amount)
    total = fsum(real("claim", each, Real(0, 1e18)) for each in claimed)
    return tuple(each / total * budget if total > 0 else budget / len(claimed) for each in claimed)


def _require_as_many(count: int, *lists: Sequence[float]) -> None:
    if any(len(each) != count for each in lists):
        raise ConfigError(f"There are not {count} numbers for {count} participants.", "Give one for each of them.")
