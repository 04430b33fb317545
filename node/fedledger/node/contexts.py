"""What an update follows from, as the ledger and the store tell it: the same for its participant and for an auditor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.solvers.base import Memory
from fedledger.node.training import TrainingContext
from fedledger.protocol.codecs.payload import published_lengths
from fedledger.protocol.codecs.statistics import require_model
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES
from fedledger.protocol.records.published_vectors import published
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore
from fedledger.storage.models import Models


@dataclass(frozen=True)
class Contexts:
    """Finds out what updates of a task follow from.

    Parameters
    ----------
    spec, store
        The task's spec, and where content is fetched.
    models
        Reads models from the store.
    """

    spec: TaskSpec
    store: ContentStore
    models: Models

    def __call__(
        self,
        task: TaskHistory,
        current: RoundHistory,
        owner: str,
        staleness: int,
        own: Mapping[str, NDArray[np.float32]],
    ) -> TrainingContext:
        """Return what an update follows from.

        Parameters
        ----------
        task, current
            The task and the round.
        owner
            Whose update it is.
        staleness
            How many models before the round's base the one lies that is trained.
        own
            The state of the participant's newest update before that counts.

        Raises
        ------
        StoreError
            If a model, or the aggregator's state, cannot be had.
        ConfigError
            If the model is none of the task's.
        """
        base = self.models(current.bases[staleness])
        require_model(base, self.spec)
        before = task.rounds.get(current.index - 1)
        reference = task.state_before(current.index) if self.spec.vectors else None
        state = b"" if reference is None else self.store.get(reference, MAX_STATE_BYTES)
        server = published(state, published_lengths(self.spec, base.dimension), self.spec.fixed)
        return TrainingContext(
            spec=self.spec,
            index=current.index,
            owner=owner,
            base=base,
            before=None if before is None else self.models(before.base),
            memory=Memory(own, server),
        )


def counts(task: TaskHistory, before: RoundHistory, participant: int) -> bool:
    """Return whether a participant's update was accepted in a proposal that stands and is not below quorum."""
    if before.voided or before.proposal is None or task.is_empty(before):
        return False
    return before.verdicts.get(participant) is Verdict.ACCEPTED
