"""A task's timetable: which updates make which round of its ledger, by its schedule and its devices."""

from __future__ import annotations

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.schedules.base import Choose, build_schedule, everybody
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.schedules.events import ServerStep
from fedledger.protocol.schedules.play import simulate


class Timetable:
    """The rounds of a task; each is played once and then known.

    Parameters
    ----------
    table, schedule, digest, choose, quorum
        As :func:`~fedledger.protocol.schedules.play.simulate` takes them; the quorum is the ledger's, so that every
        step makes a round.

    Raises
    ------
    ConfigError
        If the schedule's parameters are wrong.
    """

    def __init__(
        self, table: DeviceTable, schedule: Method, digest: bytes, choose: Choose = everybody, quorum: int = 0
    ) -> None:
        self._steps = simulate(table, schedule, digest, choose, quorum)
        self._rounds: list[ServerStep] = []

    @property
    def played(self) -> int:
        """How many rounds are known; while ``choose`` is called, those before the one that is asked for."""
        return len(self._rounds)

    def round(self, index: int) -> ServerStep:
        """Return a round, by its number from 1.

        Raises
        ------
        ConfigError
            If no update can ever arrive any more, or too few for a round.
        """
        while self.played < index:
            self._rounds.append(next(self._steps))
        return self._rounds[index - 1]


def require_schedule(schedule: Method, quorum: int, max_staleness: int) -> None:
    """Raise ConfigError unless a task's record suits its schedule.

    Parameters
    ----------
    schedule
        The schedule.
    quorum
        Least number of updates of a round.
    max_staleness
        Largest staleness that the ledger takes.
    """
    method = build_schedule(schedule)
    if method.most_stale is None:
        raise ConfigError(
            f"The schedule {schedule.method} has no bound on staleness, and the ledger takes updates of at most "
            f"{max_staleness}.",
            "Give it a max_staleness, and [ledger] one that is no lower (at most 64).",
        )
    if method.most_stale > max_staleness:
        raise ConfigError(
            f"The schedule {schedule.method} has updates of a staleness up to {method.most_stale}, and the ledger "
            f"takes them up to {max_staleness}.",
            "Raise max_staleness under [ledger] (at most 64), or lower the schedule's.",
        )
    if method.most_updates is not None and method.most_updates < quorum:
        raise ConfigError(
            f"The schedule {schedule.method} makes steps of at most {method.most_updates} updates, below the quorum of "
            f"{quorum}.",
            "Lower quorum under [ledger], or raise the number of updates that a step waits for.",
        )
