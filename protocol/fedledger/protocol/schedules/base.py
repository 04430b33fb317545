"""Schedules: who trains when, from which model, and which updates make which server step.

A schedule plays a task's event time from its device table, without any training: sizes of models and updates are
constant, so when an update arrives does not depend on what it says. A server step is a round of the ledger. All is in
integers and ties break by address, so nodes, aggregator and audits find the same steps.

What all schedules have in common:

- A participant that is offline, or whose battery is empty, when it is asked does not take part. One that goes offline,
  or runs out of battery, on the way gives up. The server learns of it at once.
- A participant gives at most one update a step, as the ledger records it so. One whose update waits for its step is not
  asked again before it.
- The server's own work takes no time.
- A step with fewer updates than the quorum is *abandoned* (Bonawitz et al. 2019): its updates are lost, it has no
  number, and the server asks anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from fedledger.protocol.methods.catalogue import Method, kind_of
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import ServerStep

Choose = Callable[[int, Sequence[str]], Sequence[str]]
"""Chooses whom a step asks, of all addresses: the task's selection. It is told which time this is that the server asks,
from 1: the number of the step, as long as none was abandoned."""


def everybody(index: int, addresses: Sequence[str]) -> Sequence[str]:
    """Choose all."""
    return addresses


class Schedule(Protocol):
    """A frozen dataclass of its parameters that yields server steps without end."""

    @property
    def most_updates(self) -> int | None:
        """The number of updates that a step is made of at most; None: whatever the selection makes it."""
        ...

    @property
    def most_stale(self) -> int | None:
        """The largest staleness of an update; None: there is no bound."""
        ...

    def __call__(self, run: EventSimulator, choose: Choose) -> Iterator[ServerStep]:
        """Play on from the simulator's start."""
        ...


SCHEDULES: Registry[Callable[..., Schedule]] = Registry(kind_of("schedule"))


def build_schedule(schedule: Method) -> Schedule:
    """Return a registered schedule.

    Raises
    ------
    ConfigError
        If there is none of that name, or its parameters are wrong.
    """
    return build(SCHEDULES, schedule.method, schedule.params)
