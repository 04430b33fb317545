"""What strangers put on ledger and store stops nobody, tricks nobody and costs nobody else: with all money counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedledger.aggregator.duties.commitments import Commitments
from fedledger.contracts.ledger.actor import WAITED, Action, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.ledger_tools.audit.audit import AuditResult
from fedledger.platform.experiment.accounts import AGGREGATOR
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import StatisticSpec, TaskSpec, TensorsSpec
from support.strangers import Stranger, audited, check_lie_overturned, money_of_others
from support.world import BOND, World, liar, settled, world, wrong_model


def with_model(w: World, **params: object) -> TaskSpec:
    return w.experiment.spec.model_copy(update={"model": Method(method="mlp@1", params=params)})


def with_validation(w: World, inputs: np.ndarray, labels: np.ndarray) -> TaskSpec:
    data = tensors.encode({"inputs": inputs, "labels": labels})
    return w.experiment.spec.model_copy(update={"validation": Ref.of(w.store.put(data))})


def with_initial(w: World, value: float) -> TaskSpec:
    spec = w.experiment.spec
    named = {name: np.array(values) for name, values in tensors.decode(w.store.get(spec.initial_model.ref)).items()}
    for values in named.values():
        values[...] = value
    return spec.model_copy(update={"initial_model": Ref.of(w.store.put(tensors.encode(named)))})


def with_statistic(w: World, least: float) -> TaskSpec:
    """Take a bias for a statistic; that the model has none such is seen only once its range is known."""
    spec = w.experiment.spec
    name, values = min(tensors.decode(w.store.get(spec.initial_model.ref)).items())
    statistic = StatisticSpec(name=name, length=values.size, least=least)
    return spec.model_copy(update={"tensors": TensorsSpec(statistics=[statistic])})


def with_fixed(w: World, name: str) -> TaskSpec:
    spec = w.experiment.spec
    named = {**tensors.decode(w.store.get(spec.initial_model.ref)), name: np.array([np.nan, -0.0])}
    initial = Ref.of(w.store.put(tensors.encode(named, further=True)))
    return spec.model_copy(update={"tensors": TensorsSpec(fixed=[name]), "initial_model": initial})


POISONS = {
    "dimensions beyond memory": lambda w: with_model(w, inputs=2**40, hidden=[2**40], classes=10),
    "a model of 160 GB": lambda w: with_model(w, inputs=200_000, hidden=[200_000], classes=10),
    "a text as a dimension": lambda w: w.experiment.spec.model_copy(
        update={"model": Method(method="lenet@1", params={"channels": 1, "image_side": "x", "classes": 10})}
    ),
    "no labels": lambda w: with_validation(w, np.zeros((4, 64), np.float32), np.zeros(0, np.int64)),
    "inputs of another width": lambda w: with_validation(w, np.zeros((4, 3), np.float32), np.zeros(4, np.int64)),
    "a label of no class": lambda w: with_validation(w, np.zeros((4, 64), np.float32), np.full(4, 10, np.int64)),
    "whole numbers for a model of floats": lambda w: with_validation(
        w, np.zeros((4, 64), np.int64), np.zeros(4, np.int64)
    ),
    "scores the wrong way round": lambda w: w.experiment.spec.model_copy(update={"lower_is_better": True}),
    "a least statistic beyond all doubles": lambda w: with_statistic(w, 1e308),
    "a fixed tensor of a stranger's": lambda w: with_fixed(w, "\x1b[31mred"),
    "no examples": lambda w: with_validation(w, np.zeros((0, 64), np.float32), np.zeros(0, np.int64)),
    "an initial model that is no number": lambda w: with_initial(w, np.nan),
    "an initial model out of range": lambda w: with_initial(w, 1e30),
    "no spec": lambda w: b"{}",
}


QUICK = ("dimensions beyond memory",)
"""The others are left to the long tests."""


@pytest.mark.parametrize(
    "poison", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in POISONS]
)
def test_a_strangers_task_saves_no_liar(tmp_path: Path, poison: str) -> None:
    """The stranger's task comes first, so that whoever looks at tasks in turn meets it before the lie."""
    strangers: list[Stranger] = []

    def first(w: World) -> None:
        stranger = Stranger(w)
        stranger.fabricate(stranger.post(POISONS[poison](w)))
        strangers.append(stranger)

    with world(tmp_path, verifiers=4, first=first) as w:
        w.aggregators = [w.aggregator(kind=liar(wrong_model))]
        w.join().play(lambda: w.task.finished)
        check_lie_overturned(w, strangers[0])
        # Who starts anew meets the same, and stays.
        w.verifiers.append(again := w.verifier(0))
        for _ in range(3):
            again.step()
        found = audited(w, strangers[0].tasks[0])
        assert not isinstance(found, AuditResult) or not found.reproduced or not found.rounds


@pytest.mark.long
def test_a_batch_that_spells_a_commitment_in_another_way_saves_no_liar(tmp_path: Path) -> None:
    """White space in a commitment made all who looked at it fail, so that nobody objected."""

    class Spaced(Commitments):
        def close(self, current: RoundHistory, phase: Phase) -> Step | None:
            mailbox, access = self.opened_mailbox(), self.access
            if phase is Phase.COMMITTING and not mailbox.committed(current.index).issuperset(current.selected):
                return WAITED
            batch = mailbox.seal(current.index)
            document = canonical.decode(batch.encode())
            if current.index == 1:
                row = document["commitments"][0]
                row["commitment"] = "  " + row["commitment"][2:]
            content: ContentRef = access.store.put(canonical.encode(document))
            count = len(batch.commitments)
            access.ledger.close_commits(access.account, access.task, current.index, batch.root, count, content)
            return Step(Action.CLOSED, access.task, current.index)

    class Liar(liar(wrong_model)):  # type: ignore[misc]
        commitments_kind = Spaced

    with world(tmp_path, verifiers=4, batched=True) as w:
        mailbox = w.aggregators[0].commitments.mailbox
        w.aggregators = [w.aggregator(kind=Liar, mailbox=mailbox)]
        w.join().play()
        assert w.task.rounds[1].voided and 1 not in settled(w.task)
        assert w.audit().reproduced
        gains = money_of_others(w)
        assert gains.pop(AGGREGATOR) == -BOND
        assert all(gain > 0 for gain in gains.values()), gains
        w.check_money()
