"""The model of a posted task, from what its spec names and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial

from torch import nn

from fedledger.learning.models.base import build_model
from fedledger.learning.models.shapes import Shapes
from fedledger.learning.objectives.base import Objective, build_objective
from fedledger.learning.replayable.measurement import ExactObjective
from fedledger.learning.task_code import TaskCode, load_task_code
from fedledger.learning.vectors import FlatModel, Layout
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import Readable


@dataclass(frozen=True)
class PostedModel:
    """A posted task's model and objective.

    Parameters
    ----------
    spec
        The task's.
    make
        Makes a fresh module of the model.
    objective
        What training minimises, and how a model is measured.
    initial
        The initial model.
    """

    spec: TaskSpec
    make: Callable[[], nn.Module]
    objective: Objective
    initial: ModelFile

    @classmethod
    def read(cls, spec: TaskSpec, store: Readable, trusted: Set[str]) -> PostedModel:
        """Return the model of a spec; what does not fit together is seen before anything large is made.

        Parameters
        ----------
        spec, store
            The task's spec, and where the content that it names is.
        trusted
            The CIDs of code that may run here.

        Raises
        ------
        ConfigError
            If the spec's model, initial model and objective do not fit each other, or this release lacks one.
        StoreError
            If content cannot be had, or is not what the spec says.
        TrustError
            If the task brings code of its own that is not trusted.
        """
        code = None
        if spec.code is not None:
            # Before it is fetched: whoever does not trust it need not have it.
            _require_trust(spec.code.cid, trusted)
            code = load_task_code(store.get(spec.code.ref), spec.code.cid, trusted)
        initial = ModelFile.decode(store.get(spec.initial_model.ref), spec.tensors)
        return cls(spec, _maker(spec, code, initial), posted_objective(spec, code), initial)

    def flat(self, device: str = "cpu") -> FlatModel:
        """Return a fresh module, flat; what no update moves is the initial model's."""
        model = FlatModel(self.make(), device, self.spec.tensors, self.initial.fixed)
        model.layout.check(self.initial.vector)
        return model


def _require_trust(cid: str, trusted: Set[str]) -> None:
    if cid not in trusted:
        load_task_code(b"", cid, trusted)


def _maker(spec: TaskSpec, code: TaskCode | None, initial: ModelFile) -> Callable[[], nn.Module]:
    if code is not None:
        return code.model
    if spec.model is None:
        raise ConfigError("The task's spec has neither model nor code.", "Ask its publisher for another one.")
    _require_tensors(spec, spec.model, initial)
    return partial(build_model, spec.model.method, spec.model.params)


def _require_tensors(spec: TaskSpec, model: Method, initial: ModelFile) -> None:
    """Raise ConfigError if a registered model has other tensors than the initial one, seen from shapes alone."""
    try:
        layout = Layout.of(Shapes.of(model.method, model.params).module, spec.tensors)
    except NotImplementedError:
        # An installed model may compute what torch cannot do with shapes alone.
        return
    if (layout.names, layout.shapes) != (initial.names, initial.shapes):
        raise ConfigError(
            "The task's initial model has other tensors than its model.", "Its publisher has to post another task."
        )


def posted_objective(spec: TaskSpec, code: TaskCode | None) -> Objective:
    """Return the objective of a spec, or its code's own; raises ConfigError if there is none."""
    if spec.objective is not None:
        objective = build_objective(spec.objective.method, spec.objective.params)
    elif code is None:
        raise ConfigError("The task's spec has neither objective nor code.", "Ask its publisher for another one.")
    else:
        objective = code.objective()
    return ExactObjective(objective) if spec.measurement == "exact" else objective
