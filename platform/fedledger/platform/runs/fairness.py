"""How fair a run was to its honest participants: what the final model is worth to each, and what each was paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.ledger_tools.fairness import Fairness, told_figures
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.model import ModelFile

SCORE, PAY, PAY_PER_EXAMPLE = "score", "pay", "pay_per_example"


def run_fairness(
    experiment: Experiment, model: ModelFile, paid: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the figures of a run's fairness, by what is spread; see `Fairness`.

    They are of honest participants: of the final model's score on each one's own examples, which it was trained on, and
    with a ledger of pay in credit units, and of pay per example.

    Parameters
    ----------
    experiment
        The experiment.
    model
        Its final model.
    paid
        What each participant was paid, by address; None without a ledger.
    """
    honest = [number for number, behaviour in enumerate(experiment.behaviours) if behaviour == HONEST]
    scores = Fairness.of(own_scores(experiment, model, honest), experiment.objective.lower_is_better)
    found = {SCORE: scores.document()}
    if paid is not None:
        pay = [paid.get(experiment.address(number), 0) for number in honest]
        sizes = [experiment.examples(number) for number in honest]
        found[PAY] = Fairness.of(pay).document()
        each = (units / size for units, size in zip(pay, sizes, strict=True) if size)
        found[PAY_PER_EXAMPLE] = Fairness.of(each).document()
    return found


def own_scores(experiment: Experiment, model: ModelFile, numbers: Sequence[int]) -> list[float]:
    """Return a model's score on the own examples of each participant that has some on which it can be measured."""
    found = []
    for number in numbers:
        own = experiment.parts[number]
        if not len(own):
            continue
        try:
            held_out = HeldOut(own.inputs, own.targets, experiment.objective)
            measured = evaluate(experiment.evaluated, [model.vector], held_out)[0]
        except ConfigError:
            # Some scores compare examples of which a participant may not have both kinds.
            continue
        found.append(measured.share if measured.full_score else float(measured.score))
    return found


def told(score_name: str, fairness: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is said of a run's fairness, a line for each thing that is spread."""
    names = {SCORE: f"{score_name} on own examples", PAY: "pay, units", PAY_PER_EXAMPLE: "pay per example, units"}
    return [f"Fairness of {names[what]} over the honest: {told_figures(figures)}" for what, figures in fairness.items()]
