"""What whoever runs an experiment, or posts its task, should know before."""

from __future__ import annotations

from fedledger.aggregator.context.least_rows import need
from fedledger.aggregator.mechanisms.trade import mechanism_of
from fedledger.aggregator.round.methods import most_needing
from fedledger.learning.replayable.inputs import cut_inputs
from fedledger.node.solvers.base import cautions_of
from fedledger.node.solvers.build import build_solver
from fedledger.platform.experiment.assembly import asked_at_most, most_updates
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
    told += _spare_updates(experiment)
    mechanism = mechanism_of(experiment.spec)
    if experiment.spec.mechanism is not None and mechanism is not None and mechanism.believes:
        told.append(f"{experiment.spec.mechanism.method}: {mechanism.believes}")
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


def _spare_updates(experiment: Experiment) -> list[str]:
    """Return what there is to say if as many participants as a rule tolerates can keep every round from counting."""
    spec = experiment.spec
    named = most_needing(spec)
    f, least = getattr(named[1], "f", None) or 0, named[1].least_rows
    most = most_updates(spec, asked_at_most(spec, len(experiment.parts)))
    if not least or most >= least + f:
        return []
    return [
        f"{need(named)}, and a round has {most:,} at most: if more than {most - least:,} are refused or stay away, it "
        f"changes nothing and pays nobody. With {least + f:,} that takes more than the {f:,} that are expected."
    ]
