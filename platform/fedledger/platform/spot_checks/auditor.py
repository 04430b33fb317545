"""An auditor: names whose updates are checked, makes those again that it was drawn for, and says what it found."""

from __future__ import annotations

from pathlib import Path

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import DONE, Actor, Situation, Step
from fedledger.contracts.ledger.check_times import CheckTimes
from fedledger.contracts.ledger.waits import Wait, task_wait
from fedledger.platform.spot_checks.findings import Findings, Judge
from fedledger.platform.spot_checks.summoning import Summoning
from fedledger.protocol.errors import ConfigError

RACES = frozenset({"WrongCheck", "NotInTime", "NotProposed", "NotDrawn", "WrongFindings", "WrongProposal"})
"""Refusals that mean that the ledger has moved between the question and the transaction."""


class Auditor(Actor[Situation]):
    """An auditor of one task.

    Parameters
    ----------
    access
        The task, and the account that the task names as an auditor.
    judge
        Judges a check.
    journal
        Folder in which findings wait until they are revealed.

    Raises
    ------
    ConfigError
        If the account is no auditor of the task.
    """

    def __init__(self, access: TaskAccess, judge: Judge, journal: Path) -> None:
        place = place_of_auditor(access)
        self.times = CheckTimes(access.ledger)
        summoning = Summoning(access, place, self.times)
        findings = Findings(access, place, self.times, judge, journal)
        duties = (self._end, summoning.summon, findings, summoning.end)
        super().__init__(access, duties, RACES, essential=(self._end,))

    def look(self) -> Situation:
        """Return where the task is. The phase is asked for last, so that it may be newer than the logs."""
        task = self.access.history.update().task(self._task)
        return Situation(task, self.access.ledger.phase(self._task))

    def wait(self) -> Wait:
        """Return what the auditor waits for: checks that are open, or the task."""
        task = self.access.history.task(self._task)
        now = self.access.ledger.chain.now()
        open_ = [check for check in task.checks if self.times.is_open(task, check, now)]
        if open_:
            first = min(open_, key=lambda check: self.times.waits_until(task, check) or 0)
            what = f"the check of participant {first.participant} in round {first.round}, which is {first.state.label}"
            return Wait(what, self.times.waits_until(task, first))
        return Wait("the last checks to be drawn") if task.finished else task_wait(self.access.ledger, self._task)

    @property
    def _task(self) -> int:
        assert isinstance(self.access, TaskAccess)
        return self.access.task

    def _end(self, seen: Situation) -> Step | None:
        """End with the task, once none of its checks goes on."""
        if not seen.task.finished:
            return None
        chain = self.access.ledger.chain
        return None if self.times.may_go_on(seen.task, chain.now(), chain.block_number()) else DONE


def place_of_auditor(access: TaskAccess) -> int:
    """Return the place of an account among a task's auditors; raises ConfigError if it is none of them."""
    checks = access.spec.spot_checks
    if checks is None:
        raise ConfigError(f"Task {access.task} has no spot checks.", "Give the number of another task with --task.")
    if access.address not in checks.accounts:
        raise ConfigError(
            f"{access.address} is no auditor of task {access.task}, which names {', '.join(checks.accounts)}.",
            "Give the key of one of these.",
        )
    return checks.accounts.index(access.address)
