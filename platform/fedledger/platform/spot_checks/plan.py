"""How often updates are checked and what a failed check takes, so that whoever does not train loses money.

Let v be the most that one round pays a participant, q the share of accepted updates that are checked, and P what one
failed check takes. Whoever rides gains at most v and loses q · P in the mean, so riding loses if q > v / P. Plans leave
room for twice as much pay: q = 2 v / P. All amounts are gwei, rates are parts per million.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.units import GWEI, in_gwei

MARGIN = 2
"""How often the pay of a round the mean loss of a ridden one is in a plan."""
USUAL_RATE = PPM // 20
"""The share of accepted updates that are checked, if nothing else is said."""
ANSWER_GAS = 50_000
"""Gas of a participant's answer to a check."""
OTHER_RATES = tuple(PPM // part for part in (100, 50, 20, 10, 5, 2, 1))
"""Rates that are told beside the planned one."""
MOST_UNDECIDED = 4096
"""Rounds up to which it is computed what a stake has to hold."""
LIKELY, SURE = 0.5, 0.95


def most_pay(pot: int, updates: int, riding: int = 1) -> int:
    """Return the most that a rider earns in a round, rounded up.

    Whoever rides may choose a round in which few take part, and no score is higher than that of an honest update whose
    work is sure. So the most is an equal share among the honest and itself, in the smallest round that counts. Of
    riders who help each other all but one may send what is refused: this fills the quorum, and is not paid.

    Parameters
    ----------
    pot
        What a round pays in all.
    updates
        Of the smallest round that counts.
    riding
        How many of them are of riders who help each other.

    Raises
    ------
    ConfigError
        If more ride than take part.
    """
    if not 1 <= riding <= updates:
        raise ConfigError(
            f"{riding:,} of {updates:,} participants cannot ride.", "Give at least 1, and at most as many as take part."
        )
    return -(-pot // (updates - riding + 1))


def penalty_for(pay: int, rate: int) -> int:
    """Return the penalty of a plan with this rate, P = 2 v / q, rounded up."""
    return -(-MARGIN * pay * PPM // rate)


def rate_for(pay: int, penalty: int) -> int:
    """Return the rate of a plan with this penalty, q = 2 v / P, rounded up.

    Raises
    ------
    ConfigError
        If the penalty is so low that more than every update would have to be checked.
    """
    rate = -(-MARGIN * pay * PPM // max(penalty, 1))
    if rate > PPM:
        raise ConfigError(
            f"A penalty of {in_gwei(penalty * GWEI)} is less than {MARGIN} times the most that a round pays, "
            f"{in_gwei(pay * GWEI)}: it is too low even if each update is checked.",
            f"Give at least {MARGIN * pay:,}, or let rounds pay less.",
        )
    return rate


def least_rate(pay: int, penalty: int) -> int:
    """Return the lowest rate at which riding loses, q > v / P; above one million if there is none."""
    return pay * PPM // penalty + 1


def caught_within(rounds: int, rate: int) -> float:
    """Return the chance that whoever rides so many rounds is drawn at least once, 1 − (1 − q)^n."""
    return 1.0 - (1.0 - rate / PPM) ** rounds


def rounds_until(chance: float, rate: int) -> int:
    """Return in how many ridden rounds one is drawn with at least this chance."""
    return 1 if rate >= PPM else math.ceil(math.log(1.0 - chance) / math.log(1.0 - rate / PPM))


def missed(windows: int, forged: int, drawn: int) -> float:
    """Return the most that the chance is with which no forged window of a trajectory is drawn, (1 − w / W)^c.

    Parameters
    ----------
    windows, forged
        W windows, w of which do not follow.
    drawn
        How many are replayed, c; if no window is drawn twice, the chance is lower.
    """
    return (1.0 - forged / windows) ** drawn


def penalties_staked(margin: float, rate: int, rounds: int) -> int:
    """Return the fewest penalties that a stake has to hold so that nobody gains by beginning to ride.

    Who is drawn is known at once, and decided later: whoever has been drawn for all that the stake holds rides on for
    nothing. With W(n, 0) = n, what one gains in n rounds with j penalties left, in pays of a round, is
    W(n, j) = max(0, 1 − margin + q · W(n − 1, j − 1) + (1 − q) · W(n − 1, j)), for one stops where it is best.

    Parameters
    ----------
    margin
        q · P / v; above 1, or no stake is enough.
    rate
        q, in parts per million.
    rounds
        That are played before a check of the first of them is decided.
    """
    q = rate / PPM
    gains = np.zeros(rounds + 1)
    for played in range(1, rounds + 1):
        gains[1:] = np.maximum(0.0, 1.0 - margin + q * gains[:-1] + (1.0 - q) * gains[1:])
        gains[0] = played
    return int(np.argmax(gains <= 0.0)) or rounds


@dataclass(frozen=True)
class Windows:
    """How trajectories are checked: only some windows of each are replayed.

    Parameters
    ----------
    count, drawn
        Windows of a trajectory, and how many of them are replayed.
    """

    count: int
    drawn: int

    def __post_init__(self) -> None:
        if not 1 <= self.drawn <= self.count:
            raise ConfigError(
                f"{self.drawn:,} of {self.count:,} windows cannot be drawn.", "Draw at least 1, and at most all."
            )


@dataclass(frozen=True)
class CheckPlan:
    """A rate and a penalty, and what follows from them.

    Parameters
    ----------
    pay
        The most that one round pays a participant, in gwei.
    rounds
        Of the task.
    rate
        The share of accepted updates that are checked, in parts per million.
    penalty
        What one failed check takes, in gwei.
    undecided
        The most rounds that may be played before a check of the first of them is decided.
    windows
        How much of a trajectory is replayed; None: all of it.
    """

    pay: int
    rounds: int
    rate: int
    penalty: int
    undecided: int
    windows: Windows | None = None

    def __post_init__(self) -> None:
        if self.pay < 1 or self.penalty < 1 or not 1 <= self.rate <= PPM:
            raise ConfigError(
                "A plan needs pay, a penalty and a rate.", f"Give amounts of at least 1, and a rate of 1 to {PPM:,}."
            )
        if not 1 <= self.undecided <= min(self.rounds, MOST_UNDECIDED):
            raise ConfigError(
                f"{self.undecided:,} rounds cannot be undecided.",
                f"Give at least 1, and at most all {self.rounds:,} or {MOST_UNDECIDED:,}.",
            )

    @classmethod
    def of(
        cls,
        pay: int,
        rounds: int,
        rate: int | None = None,
        penalty: int | None = None,
        undecided: int | None = None,
        windows: Windows | None = None,
    ) -> CheckPlan:
        """Return the plan in which what is not given follows from the rest; the rate is 5 % if neither is given."""
        if rate is None:
            rate = USUAL_RATE if penalty is None else rate_for(pay, penalty)
        # A rate that is given badly is told of by the plan.
        penalty = penalty_for(pay, max(rate, 1)) if penalty is None else penalty
        return cls(pay, rounds, rate, penalty, undecided or min(rounds, MOST_UNDECIDED), windows)

    @property
    def is_loss(self) -> bool:
        """Whether riding loses, q · P > v."""
        return self.rate * self.penalty > self.pay * PPM

    @property
    def loss(self) -> float:
        """What a ridden round loses at least in the mean, q · P − v, in gwei."""
        return self.rate * self.penalty / PPM - self.pay

    @cached_property
    def staked_penalties(self) -> int:
        """The fewest penalties that a stake has to hold: see :func:`penalties_staked`."""
        return penalties_staked(self.rate * self.penalty / PPM / self.pay, self.rate, self.undecided)

    @property
    def stake(self) -> int:
        """The least stake under which riding loses, in gwei."""
        return self.staked_penalties * self.penalty

    @property
    def replayed(self) -> float:
        """The auditors' training time over that of all participants whose updates are accepted."""
        return self.rate / PPM * (self.windows.drawn / self.windows.count if self.windows else 1.0)

    @property
    def answer_gas(self) -> float:
        """Gas that an honest participant pays in the mean for its answers to the checks of a round."""
        return self.rate * ANSWER_GAS / PPM

    def forgeries(self) -> dict[int, float]:
        """Return the chance that a trajectory of which 1, a tenth, half or all windows are forged is not found."""
        if self.windows is None:
            return {}
        count = self.windows.count
        parts = sorted({1, -(-count // 10), -(-count // 2), count})
        return {forged: missed(count, forged, self.windows.drawn) for forged in parts}

    def others(self) -> list[CheckPlan]:
        """Return the plans for the same pay at other rates."""
        return [CheckPlan.of(self.pay, self.rounds, rate, None, self.undecided, self.windows) for rate in OTHER_RATES]

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON; amounts are in gwei."""
        return {
            "most_pay_gwei": self.pay,
            "check_rate": self.rate,
            "check_penalty_gwei": self.penalty,
            "stake_gwei": self.stake,
            "staked_penalties": self.staked_penalties,
            "rounds": self.rounds,
            "undecided_rounds": self.undecided,
            "least_rate": least_rate(self.pay, self.penalty),
            "riding_loses": self.is_loss,
            "loss_a_round_gwei": self.loss,
            "caught_in_all_rounds": caught_within(self.rounds, self.rate),
            "rounds_until_caught": {str(chance): rounds_until(chance, self.rate) for chance in (LIKELY, SURE)},
            "replayed_training": self.replayed,
            "answer_gas_a_round": self.answer_gas,
            "forged_windows_missed": {str(count): chance for count, chance in self.forgeries().items()},
        }

    def lines(self) -> list[str]:
        """Return in sentences what to set, and what follows from it."""
        share = f"{100 * self.rate / PPM:g} %"
        held = f"{self.staked_penalties:,} {'penalty' if self.staked_penalties == 1 else 'penalties'}"
        part = f", as {self.windows.drawn:,} of {self.windows.count:,} windows are replayed" if self.windows else ""
        return [
            f"A round pays one participant at most {in_gwei(self.pay * GWEI)}.",
            f"{'Set' if self.is_loss else 'Given are'} check_rate = {self.rate} ({share} of the accepted updates are "
            f"checked) and check_penalty_gwei = {self.penalty}.",
            *([f"Set stake_gwei to at least {self.stake} ({held})."] if self.is_loss else []),
            f"Whoever rides then {'loses' if self.is_loss else 'gains'} about {abs(self.loss):,.0f} gwei a round in "
            f"the mean; it is drawn within {rounds_until(LIKELY, self.rate):,} ridden rounds with a chance of "
            f"{100 * LIKELY:g} %, within {rounds_until(SURE, self.rate):,} with {100 * SURE:g} %, and within all "
            f"{self.rounds:,} with {100 * caught_within(self.rounds, self.rate):.1f} %.",
            f"Auditors train {100 * self.replayed:.3g} % of what participants train{part}.",
            f"An honest participant answers one check in {PPM / self.rate:,.1f} rounds: {self.answer_gas:,.0f} gas a "
            "round in the mean.",
            *(
                f"A trajectory with {forged:,} forged {'window' if forged == 1 else 'windows'} passes a check with a "
                f"chance of at most {100 * chance:.1f} %."
                for forged, chance in self.forgeries().items()
            ),
        ]

    def warnings(self, stake: int | None = None) -> list[str]:
        """Return in sentences what is wrong with the plan; ``stake`` is what the task asks for, in gwei, if known."""
        if not self.is_loss:
            least = least_rate(self.pay, self.penalty)
            either = f"Raise check_rate to at least {least}, or" if least <= PPM else "No rate is enough:"
            return [
                "Riding pays: a round pays more than its checks take in the mean. "
                f"{either} raise check_penalty_gwei above {self.pay * PPM // self.rate}."
            ]
        told = []
        if self.rate * self.penalty < MARGIN * self.pay * PPM:
            told.append(
                f"The plan leaves less than twice as much room: for that, raise check_penalty_gwei to "
                f"{penalty_for(self.pay, self.rate)}."
            )
        if stake is not None and stake < self.stake:
            told.append(
                f"stake_gwei is {stake}, and holds too little: whoever has been drawn rides on for nothing. Raise it "
                f"to {self.stake}, or let rounds pay less."
            )
        return told
