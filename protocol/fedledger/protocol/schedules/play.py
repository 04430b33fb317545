"""A schedule played on a device table."""

from __future__ import annotations

from collections.abc import Iterator

from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.schedules.base import Choose, build_schedule, everybody
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import ServerStep


def simulate(
    table: DeviceTable, schedule: Method, digest: bytes, choose: Choose = everybody, quorum: int = 0
) -> Iterator[ServerStep]:
    """Return the server steps of a task, one after the other, without end.

    Parameters
    ----------
    table
        The task's devices.
    schedule
        A registered schedule.
    digest
        Digest of the task's spec, from which asynchronous schedules draw whom they ask.
    choose
        Whom a step asks, in schedules that ask anew in each step. It is called when the step is reached, so it may
        depend on the steps before.
    quorum
        Least number of updates of a step.

    Raises
    ------
    ConfigError
        If the schedule's parameters are wrong; while it is played, if no update can ever arrive any more.
    """
    return build_schedule(schedule)(EventSimulator(table, digest, quorum), choose)
