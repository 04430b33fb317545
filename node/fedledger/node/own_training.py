"""Training on one's own data in a posted task, from what its spec names."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import check_model
from fedledger.learning.models.initial import outputs
from fedledger.learning.posted_model import PostedModel
from fedledger.learning.vectors import FlatModel
from fedledger.node.compression import CompressingTrainer
from fedledger.node.solvers.base import require_suited
from fedledger.node.solvers.build import build_solver
from fedledger.node.training import LocalTrainer, Trainer, TrainingContext
from fedledger.node.transforms.base import build_transforms
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.trusted_update import write_trusted

NOBODY = "0x" + "00" * 20
"""Whose training the trusted update is, for its random stream."""
TRIED = 64
"""Examples on which it is tried out whether the model takes them."""


def own_trainer(posted: PostedModel, examples: Dataset, device: str = "cpu") -> Trainer:
    """Return what makes a participant's updates.

    Parameters
    ----------
    posted
        The task's model.
    examples
        The participant's own, as the task's objective prepared them.
    device
        Where it trains, as torch names it.

    Raises
    ------
    ConfigError
        If this release lacks a method of the spec, or the model does not take the examples.
    """
    model = posted.flat(device)
    examples = _with_all_classes(model, examples)
    check_model(model, posted.initial.vector, examples.stretch(0, min(TRIED, len(examples))), posted.objective)
    trainer = local_trainer(posted, examples, model)
    require_suited(trainer.solver, model, examples, [len(examples)], posted.objective.loss)
    return CompressingTrainer(trainer) if posted.spec.payload else trainer


def local_trainer(posted: PostedModel, examples: Dataset, model: FlatModel | None = None) -> LocalTrainer:
    """Return what trains as a task's spec says; raises ConfigError if this release lacks one of its methods."""
    spec = posted.spec
    return LocalTrainer(
        posted.flat() if model is None else model,
        build_solver(spec.solver.method, spec.solver.params),
        examples,
        build_transforms(spec.transforms),
        posted.objective,
    )


def trusted_update(spec: TaskSpec, trainer: LocalTrainer, index: int, base: ModelFile) -> bytes:
    """Return the update that an aggregator trusts in a round, as content.

    Parameters
    ----------
    spec
        The task's.
    trainer
        Trains on the validation examples, which everybody knows.
    index, base
        The round, and its base model.
    """
    bare = replace(trainer, transforms=())
    return write_trusted(bare(TrainingContext(spec, index, NOBODY, base, None)).delta)


def _with_all_classes(model: FlatModel, examples: Dataset) -> Dataset:
    """Return the examples with as many classes as the model tells apart: a participant may have only some of them."""
    if examples.classes is None:
        return examples
    found = outputs(model.module, examples.inputs[:1])
    wide = isinstance(found, torch.Tensor) and found.ndim == 2 and found.shape[1] > examples.classes
    return examples.as_classes(found.shape[1]) if wide and isinstance(found, torch.Tensor) else examples
