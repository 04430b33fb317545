"""What all duties of a verifier share: what it serves for, what concerns it, what it can pay, and whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.actor import Step
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.records import COIN, DisputeStatus, Settings
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.verifier.workers import Limits
from fedledger.storage.machine import most_memory

PATIENCE = 60.0
JOBS = 2
COURTESY = 15.0
SPARE_GAS = 5_000_000
"""Gas whose price an account keeps when it lays down a bond: the dispute must be brought to its end."""

Things = dict[tuple[int, ...], Callable[[], Step | None]]
"""What does what is due for each of some things, by its numbers."""
Key = tuple[int, int, bytes, int]
"""A proposal: task, round, transaction, and how often the history had been folded again."""


@dataclass(frozen=True)
class Service:
    """What a verifier serves for, and how.

    Parameters
    ----------
    tasks
        Tasks whose proposals it replays, and on whose juries it serves, if it can judge them; None: all of them.
    trusted
        CIDs of code that may be run to measure.
    stake
        What a participant is registered with; None: the least for a verifier and one juror's penalty, so that one
        mishap does not end its service.
    challenge
        Whether it objects to what does not follow.
    appeal
        Whether it appeals against juries that find what its own replay does not. It does unless told otherwise: a lie
        that a first jury lets pass stands if nobody appeals, and the bond comes back to who was right.
    patience
        Seconds for which content that cannot be had is waited for, and at most a quarter of the time that there is;
        after them it counts as missing, and the proposal as one that does not follow.
    jobs
        Rounds that it replays at once, each in a process of its own.
    memory
        Bytes of memory that each of them may take; None: its part of most of this machine's.
    courtesy
        Seconds by which verifiers let each other go first, in turn by dispute, where one transaction is enough: each
        that comes too late pays for nothing. Altogether it is at most a quarter of the time that there is.
    """

    tasks: frozenset[int] | None = None
    trusted: frozenset[str] = frozenset()
    stake: int | None = None
    challenge: bool = True
    appeal: bool = True
    patience: float = PATIENCE
    courtesy: float = COURTESY
    jobs: int = JOBS
    memory: int | None = None

    @property
    def limits(self) -> Limits:
        """What replays may take."""
        return Limits(self.jobs, self.memory or most_memory() // self.jobs)


class Context:
    """What all duties of a verifier share."""

    def __init__(self, access: Access, service: Service, guard: Guard) -> None:
        self.access = access
        self.service = service
        self.guard = guard
        self._last: dict[str, tuple[int, ...]] = {}
        self._noticed: dict[object, float] = {}
        self._told: set[object] = set()
        self.unable: dict[int, str] = {}
        """Tasks that cannot be judged here, and why."""

    @cached_property
    def settings(self) -> Settings:
        """What the ledger was deployed with."""
        return self.access.ledger.settings()

    def key(self, task: TaskHistory, current: RoundHistory) -> Key:
        """Return what names a round's proposal."""
        proposed = b"" if current.proposed_at is None else current.proposed_at.transaction
        return task.id, current.index, proposed, self.access.history.folds

    def once(self, *what: object) -> bool:
        """Return True the first time that something is told or tried."""
        fresh = what not in self._told
        self._told.add(what)
        return fresh

    def first_due(self, kind: str, things: Things) -> Step | None:
        """Do what is due first, and return the step; the next time, those that come after it are asked first.

        So nobody's many things keep others' waiting, and where one fails, the others are done.

        Parameters
        ----------
        kind
            What the things are.
        things
            What does what is due for each of them, by its numbers.
        """
        last = self._last.get(kind, ())
        for numbers in sorted(things, key=lambda each: (each <= last, each)):
            step = self.guard((kind, *numbers), things[numbers], f"{kind} {'.'.join(map(str, numbers))}")
            if step is not None:
                self._last[kind] = numbers
                return step
        return None

    def can_pay(self, amount: int, spare: int = SPARE_GAS) -> bool:
        """Return whether the account can lay down an amount, and pay for ``spare`` gas besides."""
        access = self.access
        currency = access.ledger.stake_currency()
        missing = amount - access.ledger.free_balance(access.address, currency)
        if missing <= 0 or currency != COIN:
            return missing <= 0
        return access.ledger.chain.balance(access.address) >= missing + spare * access.ledger.chain.sender.price()

    def is_turn(self, number: int, period: int, *what: object) -> bool:
        """Return whether this verifier need not wait for others to do what has been due since it asked this first.

        Parameters
        ----------
        number
            Says who is first: verifiers take turns by it.
        period
            Seconds that there are for it.
        what
            What is to be done.
        """
        enlisted = sorted(self.access.history.verifiers)
        own = self.access.participant
        rank = (enlisted.index(own) - number) % len(enlisted) if own in enlisted else len(enlisted)
        pause = min(self.service.courtesy, period / (4 * max(1, len(enlisted))))
        noticed = self._noticed.setdefault((*what, self.access.history.folds), time.monotonic())
        return time.monotonic() >= noticed + rank * pause

    def watches(self, task: int) -> bool:
        """Return whether a task's proposals concern this verifier."""
        return self.service.tasks is None or task in self.service.tasks

    def watched(self) -> Iterator[TaskHistory]:
        """Yield the tasks whose proposals concern this verifier and can be challenged."""
        for number, task in sorted(self.access.history.tasks.items()):
            if self.watches(number) and task.params.challenge_window and not (task.finished or task.complete):
                yield task

    def disputes(self) -> Iterator[DisputeHistory]:
        """Yield the disputes that are open."""
        return (dispute for dispute in self.access.history.disputes if dispute.status is DisputeStatus.OPEN)

    def concerns(self, dispute: DisputeHistory) -> bool:
        """Return whether a dispute is about a watched task, or holds anything of this verifier."""
        juror = self.access.participant
        served = any(juror in (jury.members or ()) for jury in dispute.juries)
        return served or self.watches(dispute.task) or dispute.challenger == self.access.address

    def round(self, dispute: DisputeHistory) -> RoundHistory:
        """Return the round that a dispute is about."""
        return self.access.history.task(dispute.task).rounds[dispute.round]

    def is_over(self) -> bool:
        """Return whether all watched tasks have all their rounds, and no open dispute concerns this verifier."""
        tasks = [task for number, task in self.access.history.tasks.items() if self.watches(number)]
        ended = bool(tasks) and all(task.finished or task.complete for task in tasks)
        return ended and not any(self.concerns(dispute) for dispute in self.disputes())
