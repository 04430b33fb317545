"""Who would judge a task: the verifiers that serve it, and how likely a jury is another one's by chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History

CAPTURED_SHARE = 0.3
"""Part of a pool's places for which the chance of a captured jury is told."""


@dataclass(frozen=True)
class Pool:
    """The verifiers of a task.

    Parameters
    ----------
    serving
        How many have enough stake and did not leave.
    least
        How many there must be, enlisted long enough, for juries and penalties.
    suffices
        Whether there are.
    seats
        Seats of the jury on each level.
    checked
        Whether the task has spot checks, which no jury decides.
    """

    serving: int
    least: int
    suffices: bool
    seats: tuple[int, ...]
    checked: bool = False

    @property
    def capture(self) -> tuple[float, ...]:
        """Chance on each level that who holds ``CAPTURED_SHARE`` of the places has more than half of the jury."""
        return self._captured_by(round(CAPTURED_SHARE * self.serving))

    def told(self) -> str:
        """Return the pool in a sentence."""
        if not self.suffices:
            none = "no challenges, and no penalties but for failed spot checks"
            none = none if self.checked else "no challenges and no penalties"
            return f"too few verifiers serve it ({self.serving} of {self.least}): {none}"
        few, most = round(CAPTURED_SHARE * self.serving), self.serving // 2 + 1
        weak, strong = (_percentages(self._captured_by(each)) for each in (few, most))
        return (
            f"{self.serving} verifiers serve it; {few} of them together would capture a jury, level by level, by a "
            f"chance of {weak}; {most} of them of {strong}"
        )

    def _captured_by(self, hostile: int) -> tuple[float, ...]:
        return tuple(capture_chance(self.serving, hostile, seats) for seats in self.seats)


def pool_of(ledger: Ledger, task: int, history: History | None = None) -> Pool:
    """Return the verifiers of a task: as many as a history knows, else as the ledger says now.

    The ledger is asked about each of them, and anybody with a stake may be one, so at most ``POOL_PAGE`` are counted.
    """
    settings = ledger.settings()
    if history is None:
        serving, params = sum(map(ledger.is_serving, ledger.pool(task))), ledger.task(task).params
    else:
        serving, params = len(history.serving.get(task, ())), history.task(task).params
    return Pool(serving, settings.least_pool, ledger.has_judges(task), settings.seats, params.check_rate > 0)


def _percentages(chances: tuple[float, ...]) -> str:
    return ", ".join(f"{chance:.0%}" for chance in chances)


def capture_chance(pool: int, hostile: int, seats: int) -> float:
    """Return the chance that more than half of a jury drawn without replacement is hostile.

    Parameters
    ----------
    pool
        Places in the pool; 0: nobody can be drawn.
    hostile
        How many of them are.
    seats
        Seats of the jury; a smaller pool fills as many as it has.

    Notes
    -----
    With k of n places hostile it is the sum over h > s/2 of C(k, h) C(n - k, s - h) / C(n, s), the hypergeometric tail.
    """
    seats = min(seats, pool)
    won = range(seats // 2 + 1, min(hostile, seats) + 1)
    return sum(comb(hostile, h) * comb(pool - hostile, seats - h) for h in won) / comb(pool, seats)
