"""What programs wait for, and until when."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.records import Phase, TaskRecord
from fedledger.protocol.units import shown_time

FIRST_LOOK = 0.25


@dataclass(frozen=True)
class Wait:
    """What a program waits for; ``until`` is when the ledger goes on without it, by the chain's time in seconds."""

    what: str
    until: int | None = None

    def __str__(self) -> str:
        return self.what if self.until is None else f"{self.what}, until {shown_time(self.until)} by the chain's time"


def task_wait(ledger: Ledger, task: int) -> Wait:
    """Return what a task waits for in its present phase."""
    phase, record = ledger.phase(task), ledger.task(task)
    params, index = record.params, record.current_round
    place = f"round {index} of task {task}"
    match phase:
        case Phase.FINISHED:
            return Wait(f"nothing, as task {task} has ended")
        case Phase.ENROLLING:
            if ledger.chain.now() >= record.enrol_deadline:
                return _more_participants(record)
            return Wait(f"enrolment in task {task} to end: it {_enrolled(record)}", record.enrol_deadline)
        case Phase.IDLE if record.is_complete:
            return Wait(f"task {task} to be finished, as all its rounds are settled")
        case Phase.IDLE if record.lacks_participants:
            return _more_participants(record)
        case Phase.IDLE:
            return Wait(f"an aggregator to open round {index + 1} of task {task}")
        case Phase.SETTLEABLE:
            return Wait(f"the settlement of {place}")
        case Phase.OVERDUE:
            return Wait(f"{place} to be voided")
        case Phase.DISPUTED:
            return Wait(f"the disputes about {place} to end")
        case Phase.SCORING:
            return _scores(ledger, task, place)
    current = ledger.round(task, index)
    turns = len(ledger.seats(task)) * params.propose_period
    closing = current.commit_deadline + turns
    commits_end = current.commits_closed_at or (closing if params.batched else current.commit_deadline)
    reveals_end = commits_end + (current.reveal_period if current.committed else 0)
    so_far = "" if params.batched else f" ({current.committed} of {current.selected} so far)"
    what, until = {
        Phase.COMMITTING: (f"the commitments of {place}{so_far}", current.commit_deadline),
        Phase.CLOSING: (f"{_aggregators(ledger, task)} to post the root of the commitments of {place}", closing),
        Phase.ADMITTING: (f"commitments of {place} that the root lacks", current.commits_closed_at),
        Phase.REVEALING: (f"the updates of {place}", reveals_end),
        Phase.PROPOSING: _proposal(ledger, record, place, reveals_end + turns),
        Phase.CHALLENGING: (f"challenges of {place}", current.proposed_at + params.challenge_window),
    }[phase]
    return Wait(what, until)


def _proposal(ledger: Ledger, record: TaskRecord, place: str, until: int) -> tuple[str, int]:
    """Return what is waited for when updates are there, and until when; without scorers that is ``until``."""
    aggregators = _aggregators(ledger, record.id)
    if not record.params.scorers:
        return f"{aggregators} to propose {place}", until
    scoring = ledger.scoring(record.id)
    if scoring.round != record.current_round:
        return f"{aggregators} to call the scorers of {place}", until
    turns = record.seats * record.params.propose_period
    return f"{aggregators} to propose {place}", scoring.called_at + 2 * record.params.score_period + turns


def _scores(ledger: Ledger, task: int, place: str) -> Wait:
    """Return the wait of a round whose scorers have been called, and whose scores are not tallied yet."""
    scoring, params = ledger.scoring(task), ledger.task(task).params
    commits_end = scoring.called_at + params.score_period
    reveals_end = commits_end + params.score_period
    now = ledger.chain.now()
    if now < commits_end and not scoring.all_committed:
        return Wait(f"the scorers of {place} to commit", commits_end)
    if now < reveals_end:
        return Wait(f"the scores of {place}", reveals_end)
    turns = len(ledger.seats(task)) * params.propose_period
    return Wait(f"{_aggregators(ledger, task)} to tally the scores of {place}", reveals_end + turns)


def _more_participants(record: TaskRecord) -> Wait:
    """Return the wait of a task that cannot go on with those whom it has."""
    what = f"more participants to enrol in task {record.id}: it {_enrolled(record)}, or else anybody may end it"
    return Wait(what, record.idle_until)


def _enrolled(record: TaskRecord) -> str:
    """Say how many participants a task has, and how many it needs."""
    return f"has {record.enrolled} of the {record.params.min_participants} participants that it needs"


def _aggregators(ledger: Ledger, task: int) -> str:
    """Name a task's aggregators."""
    first, *standbys = [seat.holder for seat in ledger.seats(task)]
    return f"the aggregator {first}{' or a standby' if standbys else ''}"


def seconds_left(ledger: Ledger, task: int) -> float:
    """Return for how many seconds a task's present phase lasts; 0 where nothing is known of its end."""
    until = task_wait(ledger, task).until
    now: float = ledger.chain.now()
    if not ledger.chain.development:
        # Between two blocks time goes on, except where it is made.
        now = max(now, time.time())
    return 0.0 if until is None else max(0.0, until - now)


class Patience:
    """Waits for content that cannot be had yet: longer each time, until patience ends."""

    def __init__(self) -> None:
        self._began = self._until = time.monotonic()
        self._pause = FIRST_LOOK

    def over(self) -> bool:
        """Return whether it is time to look again."""
        return time.monotonic() >= self._until

    def left(self, patience: float) -> float:
        """Begin another wait, and return the seconds that are left of ``patience``; 0 once it has ended."""
        now = time.monotonic()
        self._until, self._pause = min(now + self._pause, self._began + patience), 2 * self._pause
        return max(0.0, self._began + patience - now)
