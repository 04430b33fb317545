"""How often scorers outvote honest updates, and how often bad ones, where nobody lies about scores.

    python benchmarks/scorers.py --seeds 1 10 [--rounds 15] [--scorers 5] [--alpha 0.5] [--floor 2048]

Ten participants learn to read digits (Dirichlet 0.5 unless told otherwise). Each round five of them, drawn at random,
score all updates as a node does; what their medians are against does not count in the mean of the others, as with a
ledger. Rates are shares of updates over all rounds and seeds; the accuracy is the last model's, on the test set.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedledger.node.scoring import NO_SCORE, ScoredRound
from fedledger.node.training import TrainingContext
from fedledger.node.updates import header_of
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import SCORE_FLOOR, SCORE_SPREAD, checked
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.experiment.scorers import ParticipantScorer
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.scores import tally_scores

ATTACKS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "none": (),
    "sign flips": ({"attack": {"method": "sign_flip@1"}, "count": 3},),
    "label flips": ({"attack": {"method": "label_flip@1"}, "count": 3},),
    "scaled noise": ({"attack": {"method": "gaussian@1", "params": {"deviation": 0.3}}, "count": 3},),
    "one of each": (
        {"attack": {"method": "sign_flip@1"}},
        {"attack": {"method": "label_flip@1"}},
        {"attack": {"method": "gaussian@1", "params": {"deviation": 0.3}}},
    ),
}
SOLVERS: Mapping[str, Mapping[str, Any]] = {
    "four local epochs": {"learning_rate": 0.08, "momentum": 0.9, "batch_size": 32, "local_epochs": 4},
    "one local epoch": {"learning_rate": 0.05, "momentum": 0.9, "batch_size": 32, "local_epochs": 1},
}
KEY = b"\1" * 32


class Memory:
    """A store in memory."""

    def __init__(self) -> None:
        self._contents: dict[ContentRef, bytes] = {}

    def put(self, data: bytes) -> ContentRef:
        """Keep content."""
        ref = ContentRef.of(data)
        self._contents[ref] = data
        return ref

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return content."""
        return self._contents[ref]


def experiment_of(seed: int, solver: str, attack: str, rounds: int, alpha: float) -> Experiment:
    """Return ten participants, some of whom attack; the less ``alpha`` is, the more uneven are their data."""
    document = {
        "name": "scorers",
        "seed": seed,
        "participants": 10,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [64], "classes": 10}},
        "data": {"partition": {"method": "dirichlet@1", "params": {"alpha": alpha, "min_examples": 20}}},
        "training": {"rounds": rounds, "solver": {"method": "sgd@1", "params": SOLVERS[solver]}},
        "attackers": list(ATTACKS[attack]),
    }
    return make_experiment(checked(document, "the benchmark"), Path())


def play(experiment: Experiment, rounds: int, scorers: int, floor: int) -> Iterator[tuple[Mapping[int, bool], float]]:
    """Yield for each round who was outvoted, by number, and the accuracy after it."""
    numbers, spec = range(experiment.config.participants), experiment.spec
    owners, rng = [experiment.address(number) for number in numbers], np.random.default_rng(experiment.config.seed)
    model, before = experiment.initial, None
    for index in range(1, rounds + 1):
        store, base = Memory(), ContentRef.of(model.encode())
        earlier = () if before is None else (before,)
        contexts = [TrainingContext(spec, index, owner, model, before, earlier=earlier) for owner in owners]
        trained = [experiment.trainer(number)(contexts[number]) for number in numbers]
        headers = [header_of(spec, index, owner, base, each) for owner, each in zip(owners, trained, strict=True)]
        updates = [
            store.put(wire.encode(header, each.sent, KEY)) for header, each in zip(headers, trained, strict=True)
        ]
        scores = []
        for number in rng.choice(len(owners), scorers, replace=False).tolist():
            asked = ScoredRound(spec, index, model, owners, updates, owners[number])
            scores.append(ParticipantScorer(experiment, number, KEY)(asked, store) or [NO_SCORE] * len(owners))
        tally = tally_scores(scores, scorers, SCORE_SPREAD, floor)
        counted = [number for number in numbers if number not in tally.outvoted]
        weights = np.array([experiment.examples(number) for number in counted], np.float64)
        mean = np.average([trained[number].delta for number in counted], axis=0, weights=weights)
        before, model = model, experiment.initial.moved((model.vector + mean).astype(np.float32))
        yield {number: number in tally.outvoted for number in numbers}, experiment.tested(model).score


def main() -> None:
    """Print a table of rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), help="the first and the last one")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scorers", type=int, default=5)
    parser.add_argument("--alpha", type=float, default=0.5, help="of the Dirichlet partition")
    parser.add_argument("--floor", type=int, default=SCORE_FLOOR, help="the task's score_floor")
    given = parser.parse_args()
    print("| training | attack | honest outvoted | attackers outvoted | accuracy | without scorers |")
    print("|---|---|---|---|---|---|")
    for solver in SOLVERS:
        for attack in ATTACKS:
            outvoted, all_, last, without = Counter[str](), Counter[str](), list[float](), list[float]()
            for seed in range(given.seeds[0], given.seeds[1] + 1):
                experiment = experiment_of(seed, solver, attack, given.rounds, given.alpha)
                played = list(play(experiment, given.rounds, given.scorers, given.floor))
                for found, _ in played:
                    for number, is_out in found.items():
                        kind = experiment.behaviours[number]
                        outvoted[kind] += is_out
                        all_[kind] += 1
                last.append(played[-1][1])
                without.append([score for _, score in play(experiment, given.rounds, 0, given.floor)][-1])
            rates = {kind: outvoted[kind] / all_[kind] for kind in all_}
            bad = ", ".join(f"{kind} {rate:.0%}" for kind, rate in rates.items() if kind != HONEST) or "–"
            print(
                f"| {solver} | {attack} | {rates[HONEST]:.1%} | {bad} | {np.mean(last):.3f} | {np.mean(without):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
