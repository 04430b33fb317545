"""What is known of the participants that a round may ask, for its selection.

All of it follows from the proposed rounds that the new one builds on, from their reports, and from the spec. These are
the same when the round is opened and when it is audited, whatever else happens on the ledger at the time: evidence that
another task of the publisher brings at the same moment cannot make an honest selection look like a lie. A reputation
model looks at all that the ledger knew when the round before was opened, for the first round when the task was posted:
that is settled long before anybody opens the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.aggregator.selection.base import DEVICES, EVERYTHING, RECORD, REPORTS, Candidate, Selection, timed
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.strict import whole
from fedledger.protocol.records.measurement import LOSS_CAP
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.report import BASE
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.storage.base import ContentStore


@dataclass(frozen=True)
class _Known:
    """What rounds told of participants, by id; examples and utility by address."""

    rounds: tuple[Any, ...] = ()
    evidence: dict[int, Evidence] = field(default_factory=dict)
    last_round: dict[int, int] = field(default_factory=dict)
    evaluated: dict[str, tuple[int, int]] = field(default_factory=dict)


class Candidates:
    """Finds out what a selection looks at.

    It remembers the rounds that it has read, so that one is enough for a task's whole life.

    Parameters
    ----------
    store
        Where reports and the device table are fetched.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._last = _Known()
        self._reputations = TaskReputations()

    def __call__(
        self, history: History, task: TaskHistory, spec: TaskSpec, index: int, selection: Selection | None
    ) -> list[Candidate]:
        """Return the candidates of a round, by address, with what a selection looks at; with all there is for None.

        Raises
        ------
        StoreError
            If a report, or the device table, cannot be had.
        ConfigError
            If the device table is none.
        """
        looks_at = getattr(selection, "looks_at", EVERYTHING)
        owners = [(history.owners[participant], participant) for participant in task.enrolled_at(index)]
        owners.sort(key=lambda pair: pair[0].lower())
        candidates = [Candidate(owner, 0) for owner, _ in owners]
        if looks_at & {RECORD, REPORTS}:
            before = [r for r in task.proposed if r.index < index]
            known = self._known(task, before, REPORTS in looks_at)
            modelled = self._modelled(history, task, spec, index)
            for place, (owner, participant) in enumerate(owners):
                evidence = known.evidence.get(participant) or task.joined.get(participant, Evidence())
                reputation = evidence.reputation if modelled is None else modelled[participant]
                examples, utility = known.evaluated.get(owner, (0, 0))
                last = known.last_round.get(participant, 0)
                candidates[place] = Candidate(owner, reputation, examples, utility, last)
        if DEVICES in looks_at and spec.devices is not None:
            return timed(candidates, device_table(self._store, spec.devices))
        return candidates

    def _modelled(self, history: History, task: TaskHistory, spec: TaskSpec, index: int) -> dict[int, int] | None:
        """Return reputations by the task's reputation model, by id, if it has one."""
        if spec.reputation_model is None:
            return None
        place = task.rounds[index - 1].applied_before if index > 1 else task.applied_before
        return self._reputations(history, task, spec, place, task.enrolled_at(index))

    def _known(self, task: TaskHistory, before: Sequence[RoundHistory], with_reports: bool) -> _Known:
        key = (task.publisher, task.id, with_reports)
        names = (key, *((r.index, r.proposal.report.digest) for r in before if r.proposal is not None))
        last = self._last
        if names[: len(last.rounds)] != last.rounds:
            last = _Known()
        evidence, last_round, evaluated = dict(last.evidence), dict(last.last_round), dict(last.evaluated)
        for current in before[max(0, len(last.rounds) - 1) :]:
            if current.proposal is None:
                continue
            for participant in () if current.bidding else current.selected:
                last_round[participant] = current.index
            verdicts = current.proposal.verdicts if current.proposal.is_readable else {}
            for participant, verdict in verdicts.items():
                found = evidence.get(participant) or task.joined.get(participant, Evidence())
                evidence[participant] = found.after(verdict)
            if with_reports:
                evaluated |= _evaluated(self._store.get(current.proposal.report, canonical.MAX_DOCUMENT_BYTES))
        self._last = _Known(names, evidence, last_round, evaluated)
        return self._last


@lru_cache(maxsize=4)
def _decoded(data: bytes) -> DeviceTable:
    return DeviceTable.decode(data)


def device_table(store: ContentStore, devices: Ref) -> DeviceTable:
    """Return the device table that a spec names.

    Raises
    ------
    StoreError
        If it cannot be had.
    ConfigError
        If it is none.
    """
    return _decoded(store.get(devices.ref, canonical.MAX_DOCUMENT_BYTES))


def _evaluated(report: bytes) -> dict[str, tuple[int, int]]:
    """Return examples and utility of each update of a report; nothing where it is not one."""
    try:
        document = canonical.decode(report)
        base = document["measurements"][BASE]["loss"]
        rows = [(row["participant"], _row(row, base)) for row in document["updates"]]
    except (ValueError, LookupError, TypeError):
        # What a liar proposed and nobody has voided yet tells nothing, to everybody.
        return {}
    return {owner: told for owner, told in rows if told is not None and isinstance(owner, str)}


def _row(row: dict[str, Any], base: int) -> tuple[int, int] | None:
    measured, examples = row["measurement"], row["examples"]
    if measured is None:
        return None
    gain = whole(base, 0, LOSS_CAP) - whole(measured["loss"], 0, LOSS_CAP)
    whole(examples, 0, 2**53 - 1)
    accepted = row["verdict"] == Verdict.ACCEPTED.label
    return examples, examples * max(0, gain) if accepted else 0
