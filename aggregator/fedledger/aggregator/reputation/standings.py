"""Standings and reputations at any place of the ledger's order, folded from the history as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedledger.aggregator.reputation.base import (
    Asked,
    ReputationModel,
    Standing,
    Standings,
    model_of,
    recommenders_of,
)
from fedledger.contracts.ledger.state import LedgerState
from fedledger.contracts.ledger.task_history import Applied, TaskHistory
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.spec import TaskSpec


class Fold:
    """The standings by a model, up to a place of all that changed evidence on a ledger.

    It goes on from where it is; for a place before that, or once the ledger's history was folded again, it starts anew.

    Parameters
    ----------
    model
        The model.
    publishers
        Whose verdicts are folded; None: everybody's.
    """

    def __init__(self, model: ReputationModel, publishers: frozenset[str] | None) -> None:
        self._model, self._publishers = model, publishers
        self._applied: list[Applied] | None = None
        self._done = 0
        self._standings: dict[str, dict[int, Standing]] = {}

    def at(self, history: LedgerState, place: int) -> Standings:
        """Return the standings after the first ``place`` changes of evidence; they are valid until the next call."""
        if self._applied is not history.applied or place < self._done:
            self._applied, self._done, self._standings = history.applied, 0, {}
        for number in range(self._done, place):
            self._fold(history.applied[number])
        self._done = place
        return self._standings

    def _fold(self, applied: Applied) -> None:
        if self._publishers is not None and applied.publisher not in self._publishers:
            return
        model, known = self._model, self._standings.setdefault(applied.publisher, {})
        for participant, verdict in applied.verdicts.items():
            known[participant] = model.after(known.get(participant, model.unknown), verdict)
        for participant, evidence in applied.adopted.items():
            before = known.get(participant, model.unknown)
            known[participant] = model.after_failed_check(before) if applied.check_failed else model.adopted(evidence)


class TaskReputations:
    """The reputations that a task's model makes of a ledger's history.

    It keeps one fold, so that one of these is enough for a task's whole life, and cheap if it is asked for later and
    later places.
    """

    def __init__(self) -> None:
        self._key: tuple[str, bytes] | None = None
        self._fold: Fold | None = None

    def __call__(
        self, history: LedgerState, task: TaskHistory, spec: TaskSpec, place: int, participants: Sequence[int]
    ) -> dict[int, int]:
        """Return reputations in parts per million, by participant id.

        Parameters
        ----------
        history, task, spec
            The ledger's state from logs, the task, and its spec, which names a model.
        place
            How many changes of evidence count, in the ledger's order.
        participants
            Whose are asked for; models may compare them with each other.

        Raises
        ------
        ConfigError
            If this release lacks the model, or its parameters are wrong.
        """
        model = model_of(spec)
        if model is None:
            raise RoundError("The task has no reputation model.", "Read the ledger's own evidence.")
        # A publisher that names itself counts once.
        recommenders = tuple(address for address in recommenders_of(spec) if address != task.publisher)
        key = task.publisher, spec.digest
        if self._fold is None or self._key != key:
            heeded = frozenset({task.publisher, *recommenders})
            self._key, self._fold = key, Fold(model, None if model.heeds_everybody else heeded)
        trust = spec.reputation.trust if recommenders else 0
        asked = Asked(task.publisher, participants, recommenders, trust, history.ids)
        found = model(self._fold.at(history, place), asked)
        return dict(zip(participants, found, strict=True))


def own_reputations(
    model: ReputationModel, publisher: str, standings: Mapping[int, Standing], participants: Sequence[int]
) -> dict[int, int]:
    """Return the reputations that a model makes of one publisher's verdicts alone, by participant id."""
    found = model({publisher: standings}, Asked(publisher, participants))
    return dict(zip(participants, found, strict=True))
