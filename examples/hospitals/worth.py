"""What each hospital's data was worth: their pay by several contribution scores, over seeds, as a table and a picture.

Run it from anywhere: ``python examples/hospitals/worth.py FOLDER_FOR_THE_PICTURE``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config

HERE = Path(__file__).parent
SCORES = ("shapley@1", "banzhaf@1", "leave_one_out@1", "weight@1")
HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
"""In the order of their files."""
SEEDS = range(5)
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")


def pay(score: str, seed: int) -> tuple[list[float], list[int]]:
    """Return each hospital's share of all pay by a contribution score, in percent, and its number of examples."""
    config = load_config(HERE / "hospitals.toml", seed=seed)
    training = config.training.model_copy(
        update={"contribution": config.training.contribution.model_copy(update={"method": score})}
    )
    experiment = make_experiment(config.model_copy(update={"training": training}), HERE)
    earned = [0] * len(HOSPITALS)
    for closed in play(MemoryRecord(experiment, judged=True), Batched(experiment)):
        for number, units in closed.shares.items():
            earned[number] += units
    return [100 * units / max(1, sum(earned)) for units in earned], [
        experiment.examples(n) for n in range(len(HOSPITALS))
    ]


def draw(path: Path, shares: dict[str, list[Sequence[float]]]) -> None:
    """Draw the shares of all scores, with a standard deviation over seeds."""
    figure = Figure(figsize=(7.5, 3.2), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes, width = figure.subplots(), 0.8 / len(shares)
    for place, (score, runs) in enumerate(shares.items()):
        columns = list(zip(*runs, strict=True))
        x = [number - 0.4 + (place + 0.5) * width for number in range(len(HOSPITALS))]
        axes.bar(x, list(map(fmean, columns)), width, yerr=list(map(stdev, columns)), color=COLOURS[place], label=score)
    axes.set_xticks(range(len(HOSPITALS)), HOSPITALS)
    axes.set_ylabel("share of all pay, %")
    axes.set_title(f"What each hospital's data was worth: means and deviations over {len(SEEDS)} seeds", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Print the table, and draw the picture into a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    shares: dict[str, list[Sequence[float]]] = {}
    for score in SCORES:
        for seed in SEEDS:
            found, examples = pay(score, seed)
            shares.setdefault(score, []).append(found)
    print(f"{'share of all pay, %':20}" + "".join(f"{name:>18}" for name in HOSPITALS))
    for score, runs in shares.items():
        cells = [f"{fmean(column):.1f} ± {stdev(column):.1f}" for column in zip(*runs, strict=True)]
        print(f"{score:20}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"{'examples':20}" + "".join(f"{count:>18}" for count in examples))
    draw(folder / "hospitals.png", shares)


if __name__ == "__main__":
    main()
