"""What the ledger's logs tell of committed data and spot checks, one event after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.calls import content_ref
from fedledger.contracts.ledger.check_history import Answer, CheckHistory, DataWord
from fedledger.contracts.ledger.lanes import put_lane
from fedledger.contracts.ledger.records import CheckState
from fedledger.contracts.ledger.task_history import Applied, TaskHistory
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spot_checks import auditor_of, draw_value, second_auditor


class CheckLogs(ABC):
    """The part of a ledger's state that is about committed data and spot checks."""

    tasks: dict[int, TaskHistory]
    evidence_words: dict[str, dict[int, int]]
    applied: list[Applied]

    @abstractmethod
    def evidence(self, publisher: str, participant: int) -> Evidence:
        """Return a participant's evidence with a publisher."""

    def _on_DataCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        posted, known = DataWord(max(task.rounds, default=0) + 1, a["word"]), task.data.setdefault(a["participant"], [])
        # Each has salts of its own: one that comes again was signed before, and is posted by somebody else.
        if all(each.word != posted.word for each in known):
            known.append(posted)

    def _on_Summoned(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task, index = self.tasks[a["task"]], a["round"]
        summoning = task.rounds[index]
        summoning.check_seed = bytes(a["seed"])
        for participant in a["participants"]:
            value = draw_value(summoning.check_seed, task.id, index, participant)
            auditor = auditor_of(value, task.params.auditor_count)
            summoning.checks[participant] = CheckHistory(index, participant, auditor)

    def _on_CheckAnswered(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        check = self._check(a, a["participant"])
        check.state = CheckState.ANSWERED
        check.answers.append(_answer(a))

    def _on_CheckAppealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        check = self._check(a, a["participant"])
        check.state = CheckState.APPEALED
        check.auditor = second_auditor(check.auditor, self.tasks[a["task"]].params.auditor_count)
        check.answers.append(_answer(a))

    def _on_FindingsCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        self.tasks[a["task"]].findings[a["auditor"]] = bytes(a["commitment"])

    def _on_FindingsRevealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        task.findings.pop(a["auditor"], None)
        for found in a["found"]:
            checks, transcripts = task.rounds[found.round].checks, found.transcripts
            for place, participant in enumerate(found.passed):
                known = bytes(transcripts[place]) if place < len(transcripts) else None
                checks[participant].said(True, known)
            for participant in found.failed:
                checks[participant].said(False, None)

    def _on_CheckEnded(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task, participant = self.tasks[a["task"]], a["participant"]
        self._check(a, participant).state = CheckState.ENDED if a["failed"] else CheckState.PASSED
        if not a["failed"]:
            return
        after = self.evidence(task.publisher, participant).after_failed_check()
        put_lane(self.evidence_words.setdefault(task.publisher, {}), participant, after.pack())
        self.applied.append(Applied(task.publisher, None, None, {}, {participant: after}, check_failed=True))

    def _check(self, a: dict[str, Any], participant: int) -> CheckHistory:
        return self.tasks[a["task"]].rounds[a["round"]].checks[participant]


def _answer(told: dict[str, Any]) -> Answer:
    return Answer(content_ref(told["box"]), bytes(told["opening"]), bytes(told["claim"]))
