"""An update that is spot-checked, without a chain: its task, its participant, and the auditor's finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from coincurve import PrivateKey
from torch import nn

from fedledger.learning.canonical_examples import CanonicalExamples
from fedledger.learning.data import Dataset
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.base import build_objective
from fedledger.learning.posted_model import PostedModel
from fedledger.learning.sources.digits import digits
from fedledger.learning.vectors import FlatModel
from fedledger.node.compression import CompressingTrainer
from fedledger.node.own_training import local_trainer
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.spot_checks.opening import Opening, make_opening
from fedledger.node.training import Trainer, TrainingContext
from fedledger.platform.experiment.accounts import auditor_of_key
from fedledger.platform.spot_checks.judging import Case, Judgement, judge
from fedledger.protocol.codecs.payload import header_codec
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.data_root import CommittedExamples, salt_seed
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.signatures import checksummed
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.spot_checks import Check, CommittedData, SpotChecks, Windows

REF = Ref.of(ContentRef.of(b"content"))
PLACE = 31337, checksummed("0x" + "5f" * 20), 3
AUDITORS = [auditor_of_key(bytes([i]) * 32) for i in (1, 2, 3)]
TOP_K = {
    "payload": [VectorSpec(name="delta", codec=Method(method="top_k@1", params={"k": 200}))],
    "transforms": [Method(method="clip@1", params={"bound": 0.05})],
}


def key_of(number: int) -> bytes:
    return bytes([number]) * 32


def address_of(number: int) -> str:
    public = PrivateKey(key_of(number)).public_key.format(compressed=False)
    return checksummed(keccak(public[1:])[-20:])


@dataclass(frozen=True)
class Scene:
    """A task with a base model, and a participant with its examples.

    Parameters
    ----------
    make, dataset
        The model, and the participant's examples.
    objective
        The task's.
    windows
        What is replayed; None: all of it.
    solver
        Parameters of the solver.
    fields
        Of the spec, besides.
    owner, index
        Whose update of which round it is.
    """

    make: Callable[[], nn.Module]
    dataset: Dataset
    objective: Method = field(default_factory=lambda: Method(method="classification@1"))
    windows: Windows | None = None
    solver: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    owner: int = 1
    index: int = 2

    @cached_property
    def spec(self) -> TaskSpec:
        params = {"learning_rate": 0.1, "batch_size": 8, "local_epochs": 2, "momentum": 0.9} | self.solver
        return TaskSpec(
            name="checked",
            rounds=5,
            initial_model=REF,
            validation=REF,
            solver=Method(method="replayable_sgd@1", params=params),
            objective=self.objective,
            committed_data=CommittedData(),
            spot_checks=SpotChecks(auditors=AUDITORS, windows=self.windows),
            **self.fields,
        )

    @cached_property
    def posted(self) -> PostedModel:
        torch.manual_seed(5)
        model = FlatModel(self.make())
        initial = ModelFile.of(model.named(model.vector()))
        objective = build_objective(self.objective.method, self.objective.params)
        return PostedModel(self.spec, self.make, objective, initial)

    @property
    def check(self) -> Check:
        return Check(PLACE, self.index, self.owner, 1, bytes(range(32)))

    @property
    def seed(self) -> bytes:
        return salt_seed(key_of(self.owner), PLACE, 1)

    @cached_property
    def committed(self) -> CommittedExamples:
        return CommittedExamples(CanonicalExamples.of(self.dataset), self.seed)

    @cached_property
    def context(self) -> TrainingContext:
        base = self.posted.initial
        moved = base.moved((base.vector * np.float32(1 + self.index / 16)).astype(np.float32))
        return TrainingContext(self.spec, self.index, address_of(self.owner), moved, base)

    def trainer(self, dataset: Dataset | None = None) -> Trainer:
        local = local_trainer(self.posted, self.dataset if dataset is None else dataset)
        return CompressingTrainer(local) if self.spec.payload else local

    @cached_property
    def honest(self) -> LocalUpdate:
        return self.trainer()(self.context)

    def sent(self, update: LocalUpdate) -> bytes:
        """Return an update as its participant sends it."""
        header = wire.UpdateHeader(
            spec=self.spec.digest.hex(),
            round=self.index,
            participant=self.context.owner,
            base="0" * 64,
            examples=update.examples,
            steps=update.steps,
            codec=header_codec(self.spec),
            vectors=["delta"],
            payload="0" * 64,
            trajectory=update.trajectory.hex() or None,
        )
        return wire.encode(header, update.sent, key_of(self.owner))

    def case(self, update: LocalUpdate | None = None, opening: Opening | None = None) -> Case:
        """Return what an auditor knows of an update besides what is opened, both honest unless given."""
        opening = opening or self.opening
        return Case(self.posted, self.context, self.sent(update or self.honest), self.committed.root, opening.claim)

    @cached_property
    def opening(self) -> Opening:
        return make_opening(self.check, self.trainer(), self.context, self.committed.root, self.seed)

    def judged(
        self,
        update: LocalUpdate | None = None,
        opening: Opening | None = None,
        plaintext: bytes | None = None,
        **known: Any,
    ) -> Judgement:
        """Return the finding about an update and an opening, both honest unless given."""
        opening = opening or self.opening
        case = replace(self.case(update, opening), **known)
        return judge(self.check, case, opening.plaintext if plaintext is None else plaintext)


def digit_scene(windows: Windows | None = None, n: int = 40, **changes: Any) -> Scene:
    """Return a scene of a small perceptron for digits."""
    return Scene(
        lambda: build_model("mlp@1", {"inputs": 64, "hidden": [16], "classes": 10}),
        digits().stretch(0, n),
        windows=windows,
        **changes,
    )
