"""What whoever runs an experiment, or posts its task, should know before."""

from __future__ import annotations

from fedledger.learning.replayable.inputs import cut_inputs
from fedledger.node.solvers.base import cautions_of
from fedledger.node.solvers.build import build_solver
from fedledger.platform.experiment.checked_data import check_plan, least_stake
from fedledger.platform.experiment.experiment import Experiment


def cautions(experiment: Experiment) -> list[str]:
    """Return what whoever runs the experiment should know of its data, a string each."""
    train, solver = experiment.parts.whole, experiment.spec.solver
    is_exact = experiment.spec.measurement == "exact"
    cut = cut_inputs(train.inputs) if is_exact else cautions_of(build_solver(solver.method, solver.params), train)
    told = [str(caution) for caution in cut]
    if (plan := check_plan(experiment.config)) is not None:
        told += plan.warnings(least_stake(experiment.config))
    seal, asked = experiment.validation.seal, experiment.config.data.validation_slice
    if seal is None:
        return told
    if asked > seal.examples:
        told.append(
            f"validation_slice is {asked:,}, and the validation set has {seal.examples:,} examples: "
            "each round is judged on all of them."
        )
    if not seal.is_sealed and seal.blocks < experiment.spec.rounds:
        told.append(
            f"The validation set has {seal.blocks:,} {'block' if seal.blocks == 1 else 'blocks'} for "
            f"{experiment.spec.rounds:,} rounds: blocks come back, and participants can have trained on them."
        )
    return told
