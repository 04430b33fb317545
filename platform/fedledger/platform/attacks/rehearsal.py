"""The task's own rounds, played by attackers: everything that decides on an update is public code and public data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.reputation.base import Standing as ModelStanding
from fedledger.aggregator.reputation.base import model_of
from fedledger.aggregator.reputation.standings import own_reputations
from fedledger.aggregator.reputation.subjective_logic import SubjectiveLogic
from fedledger.aggregator.round.measurer import Named
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import validate_vectors
from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, measure
from fedledger.node.compression import compress
from fedledger.node.own_training import trusted_update
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.codecs.payload import described_slots
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.trusted_update import read_trusted
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

Updates = Mapping[str, LocalUpdate]
"""What each participant sends, by address."""


@dataclass(frozen=True)
class Standing:
    """What a round begins with, as the ledger and the store show it.

    Parameters
    ----------
    state
        What the aggregator carries.
    standings
        What each participant's reputation follows from, by address: its standing by the task's reputation model, or by
        the ledger's own; a newcomer's unless there is one.
    """

    state: State
    standings: Mapping[str, ModelStanding] = field(default_factory=dict)

    @classmethod
    def first(cls, dimension: int) -> Standing:
        """Return that of a first round of a model with so many coordinates."""
        return cls(State(np.zeros(dimension, np.int64)))

    def reputations(self, spec: TaskSpec, addresses: Sequence[str]) -> dict[str, int]:
        """Return the reputations of those whom a round of a task asks, in ppm by address."""
        model = model_of(spec) or SubjectiveLogic()
        known = {place: self.standings.get(address, model.unknown) for place, address in enumerate(addresses)}
        # Only this task's own publisher has judged anybody, whatever its address is.
        found = own_reputations(model, "", known, range(len(addresses)))
        return {address: found[place] for place, address in enumerate(addresses)}


@dataclass(frozen=True)
class Played:
    """A round as it would go: its result, and the standing with which the next one begins."""

    result: RoundResult
    standing: Standing


def rehearse(
    context: TrainingContext, standing: Standing, updates: Updates, trainer: LocalTrainer, held_out: Dataset
) -> Played:
    """Play a round in which everybody is asked and sends a fresh update.

    A task that selects participants, or takes stale updates, has other rounds; then this is an estimate.

    Parameters
    ----------
    context
        Anybody's context of the round.
    standing
        What it begins with.
    updates
        What everybody sends.
    trainer
        Anybody's trainer of the task; its model is overwritten.
    held_out
        On what the round is measured: the public validation set, or what stands for it.
    """
    spec, dimension = context.spec, context.base.dimension
    entries: list[Entry] = []
    reputations = standing.reputations(spec, list(updates))
    verdicts: dict[str, Verdict] = {}
    for address in sorted(updates, key=str.lower):
        update = updates[address]
        if spec.payload:
            update = compress(update, described_slots(spec, dimension), context.memory, spec.fixed)
        try:
            valid = validate_vectors(update.sent, spec, dimension, update.examples, update.steps)
        except UpdateRefusedError as error:
            verdicts[address] = error.verdict
        else:
            entries.append(Entry(address, reputations[address], valid))
    given = RoundContext(
        spec=spec,
        base=context.base.vector,
        state=standing.state,
        reputations=[reputations[address] for address in updates],
        everybody=len(updates),
        index=context.index,
        trusted=_trusted(context, trainer, held_out),
    )
    result = evaluate_round(given, entries, _Measurer(trainer, held_out))
    verdicts |= {entry.owner: verdict for entry, verdict in zip(entries, result.verdicts, strict=True)}
    model = model_of(spec) or SubjectiveLogic()
    standings = {
        address: model.after(standing.standings.get(address, model.unknown), verdict)
        for address, verdict in verdicts.items()
    }
    return Played(result, Standing(result.state, standings))


def _trusted(context: TrainingContext, trainer: LocalTrainer, held_out: Dataset) -> IntArray | None:
    """Return the update that the aggregator trusts, if the task's rule asks for one."""
    spec, base = context.spec, context.base
    if not RoundMethods.of(spec).rule.method.needs_trusted:
        return None
    made = trusted_update(spec, replace(trainer, dataset=held_out), context.index, base)
    return read_trusted(made, spec, base.dimension)


class _Measurer:
    """Measures models on examples that attackers have."""

    def __init__(self, trainer: LocalTrainer, held_out: Dataset) -> None:
        self._model = trainer.model
        self._held_out = HeldOut(held_out.inputs, held_out.targets, trainer.objective)

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        return measure(self._model, [vector], self._held_out)[0]

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        return measure(self._model, [vector for _, vector in named], self._held_out)
