"""An auditor's findings: judged one by one, committed to together, and then revealed."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.check_times import CheckTimes
from fedledger.contracts.ledger.checks import RoundFindings, findings_hash
from fedledger.contracts.ledger.records import ANSWERED_UNTIL, APPEALED_UNTIL, CheckState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.foreign_files import read_json

log = logging.getLogger(__name__)

BATCH = 10
"""Findings that are posted as soon as there are so many; fewer wait until the time to answer is over."""
JUDGED = (CheckState.ANSWERED, CheckState.APPEALED)


@dataclass(frozen=True)
class Judged:
    """What an auditor found in a check: that it passes, with the transcript, or why it does not."""

    passed: bool
    transcript: bytes = bytes(32)
    reason: str = ""


Judge = Callable[[TaskHistory, CheckHistory, bool], Judged | None]
"""Opens what a participant has shown, and makes its update again; None to be asked again, unless this is the last time.

It raises StoreError where the auditor's own store does not work.
"""
Key = tuple[int, int, int]
"""A check, and how often it was answered."""


class Findings:
    """The duty to judge the checks that are for this auditor, and to post what was found.

    What was committed to is in the journal before. Without its journal an auditor judges again.

    Parameters
    ----------
    access
        The task, and the auditor's account.
    place
        The auditor's place among those of the task.
    times
        Knows the deadlines.
    judge
        Judges a check.
    journal
        Folder in which findings wait until they are revealed.
    """

    def __init__(self, access: TaskAccess, place: int, times: CheckTimes, judge: Judge, journal: Path) -> None:
        self.access = access
        self.place = place
        self.times = times
        self.judge = judge
        journal.mkdir(parents=True, exist_ok=True)
        name = "-".join(map(str, (*access.place, access.address)))
        self._path = journal / f"{name}.findings"
        self._judged: dict[Key, Judged] = {}
        self._sent: tuple[bytes, int] | None = None

    def __call__(self, seen: Situation) -> Step | None:
        """Judge a check, commit to findings, or reveal them: what comes next."""
        task = seen.task
        committed = task.findings.get(self.place)
        own = [check for check in task.checks if check.auditor == self.place and check.state in JUDGED]
        if not own and committed is None:
            return None
        now = self.access.ledger.chain.now()
        open_ = [check for check in own if self.times.is_open(task, check, now)]
        open_.sort(key=lambda check: self.times.waits_until(task, check) or now)
        return self._post(task, open_, committed, now) or self._look_at_one(task, open_, now)

    def _look_at_one(self, task: TaskHistory, checks: Sequence[CheckHistory], now: int) -> Step | None:
        """Judge the first check that can be judged and was not yet."""
        for check in checks:
            if _key(check) not in self._judged and (step := self._look(task, check, now)) is not None:
                return step
        return None

    def _post(
        self, task: TaskHistory, checks: Sequence[CheckHistory], committed: bytes | None, now: int
    ) -> Step | None:
        """Reveal what was committed to, as long as all of it can be, or commit to what was found."""
        revealing = () if committed is None else self._written(committed)
        if revealing and _pairs(revealing) <= {(check.round, check.participant) for check in checks}:
            return self._reveal(task, revealing)
        judged = [check for check in checks if _key(check) in self._judged][:BATCH]
        return self._commit(task, judged) if self._is_due(task, judged, now) else None

    def _look(self, task: TaskHistory, check: CheckHistory, now: int) -> Step | None:
        # What cannot be fetched now may be there later, and then there must be time to say what was found.
        late = (self.times.waits_until(task, check) or now) - task.params.check_period // 2
        found = self.judge(task, check, now >= late)
        if found is None:
            return None
        self._judged[_key(check)] = found
        said = "passes" if found.passed else f"fails: {found.reason}"
        return Step(Action.JUDGED, task.id, check.round, detail=f"the check of participant {check.participant} {said}")

    def _is_due(self, task: TaskHistory, checks: Sequence[CheckHistory], now: int) -> bool:
        """Return whether findings are posted now: many of them, a failure, or one that would be late soon."""
        if len(checks) >= BATCH or (task.finished and checks):
            return True
        for check in checks:
            periods = APPEALED_UNTIL if check.state is CheckState.APPEALED else ANSWERED_UNTIL
            if now >= self.times.until(task, task.rounds[check.round], periods):
                return True
            if not self._judged[_key(check)].passed:
                return True
        return False

    def _commit(self, task: TaskHistory, checks: Sequence[CheckHistory]) -> Step | None:
        found, access = self._findings(checks), self.access
        key = self._hash(found), access.history.folds
        if self._sent == key:
            # The history does not go as far yet.
            return None
        self._write(found)
        access.ledger.post_findings(access.account, task.id, self._accounts, (), bytes(32), key[0])
        self._sent = key
        return Step(Action.FINDINGS_COMMITTED, task.id, detail=_told(found))

    def _reveal(self, task: TaskHistory, found: Sequence[RoundFindings]) -> Step:
        access = self.access
        access.ledger.post_findings(access.account, task.id, self._accounts, found, self._salt(found))
        return Step(Action.FINDINGS_REVEALED, task.id, detail=_told(found))

    def _findings(self, checks: Iterable[CheckHistory]) -> tuple[RoundFindings, ...]:
        """Return what was found, by round."""
        rounds: dict[int, list[CheckHistory]] = {}
        for check in checks:
            rounds.setdefault(check.round, []).append(check)
        found = []
        for index, some in sorted(rounds.items()):
            judged = {check.participant: self._judged[_key(check)] for check in some}
            passed = tuple(i for i, each in judged.items() if each.passed)
            failed = tuple(i for i, each in judged.items() if not each.passed)
            found.append(RoundFindings(index, passed, failed, tuple(judged[i].transcript for i in passed)))
        return tuple(found)

    @property
    def _accounts(self) -> tuple[str, ...]:
        checks = self.access.spec.spot_checks
        return () if checks is None else checks.accounts

    def _salt(self, found: Sequence[RoundFindings]) -> bytes:
        """Return the salt of a commitment to findings: a function of them and the key, as no crash can lose it."""
        chain_id, contract, task = self.access.place
        text = f"fedledger findings|{chain_id}|{contract.lower()}|{task}|{json.dumps(_document(found))}"
        return hmac.digest(bytes(self.access.account.key), text.encode(), hashlib.sha256)

    def _hash(self, found: Sequence[RoundFindings]) -> bytes:
        return findings_hash(self.access.task, self.place, found, self._salt(found))

    def _write(self, found: Sequence[RoundFindings]) -> None:
        write_atomically(self._path, json.dumps(_document(found)).encode())

    def _written(self, committed: bytes) -> tuple[RoundFindings, ...]:
        """Return the findings of the journal if they are those that were committed to; else they are judged again."""
        try:
            found = tuple(_read(each) for each in read_json(self._path))
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("the journal's findings cannot be read, so the checks are judged again: %s", error)
            return ()
        return found if self._hash(found) == committed else ()


def _pairs(found: Iterable[RoundFindings]) -> set[tuple[int, int]]:
    """Return the rounds and participants that findings are about."""
    return {(each.round, participant) for each in found for participant in (*each.passed, *each.failed)}


def _key(check: CheckHistory) -> Key:
    return check.round, check.participant, len(check.answers)


def _document(found: Sequence[RoundFindings]) -> list[list[object]]:
    return [
        [each.round, list(each.passed), list(each.failed), [transcript.hex() for transcript in each.transcripts]]
        for each in found
    ]


def _read(document: object) -> RoundFindings:
    if not isinstance(document, list):
        raise TypeError("findings are lists")
    index, passed, failed, transcripts = document
    texts = tuple(hexadecimal(text, 32) for text in transcripts)
    return RoundFindings(int(index), tuple(map(int, passed)), tuple(map(int, failed)), texts)


def _told(found: Sequence[RoundFindings]) -> str:
    passed, failed = (sum(len(getattr(each, name)) for each in found) for name in ("passed", "failed"))
    return f"{passed} passed, {failed} failed"
