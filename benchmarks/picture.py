"""The picture of the demonstration in the README, drawn from the folder of a run.

Run python benchmarks/picture.py RUN_DIR FILE, or make picture. The first panel shows test accuracy by round, beside the
same training with a plain mean; the second one shows reputation by round; the third one shows what the attacker that is
refused only now and then has earned so far beside an honest participant, and what it would have by detection alone. The
colours are readable on light and dark pages.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from fedledger.ledger_tools.report.tables import pay_frame, reputations_frame
from fedledger.ledger_tools.report.task_view import TaskView, exported_history
from fedledger.platform.engine.detection_alone import pay_beside_honest, shares_by_detection_alone
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig

INK, GRID = "#767c85", "#767c8540"
ACCURACY = {"fedledger": "#2f81f7", "plain mean": "#d9772b"}
BEHAVIOURS = {"honest": "#2f81f7", "label_flip": "#a371f7", "intermittent": "#e5534b", "free_rider": "#d9772b"}
ON_OFF = "intermittent"
PAY = {"with reputation": "#2f81f7", "detection alone": "#e5534b"}
DASHES = {"free_rider": ' stroke-dasharray="7 7"'}
WIDTH, HEIGHT = 300, 190
LEFT, TOP = 46, 46
GAP = 150


@dataclass(frozen=True)
class Line:
    """Values by round, each from 0 to 1."""

    name: str
    colour: str
    values: Sequence[float]
    label_y: float = 0.0

    @property
    def stroke(self) -> str:
        """Its colour, width and dashes; dashes show a line that lies on another."""
        return f'stroke="{self.colour}" stroke-width="2.5"{DASHES.get(self.name, "")}'


def apart(lines: Iterable[Line], least: float = 0.075) -> list[Line]:
    """Return the lines with their labels' heights, at least ``least`` apart and close to where each line ends."""
    placed: list[Line] = []
    for line in sorted(lines, key=lambda line: line.values[-1]):
        low = placed[-1].label_y + least if placed else 0.0
        placed.append(Line(line.name, line.colour, line.values, max(low, line.values[-1])))
    return placed


def panel(left: int, title: str, lines: Iterable[Line]) -> str:
    """Draw lines by round in axes from 0 to 1."""
    parts = [f'<text x="{left}" y="{TOP - 20}" font-weight="600">{escape(title)}</text>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = TOP + HEIGHT * (1 - tick)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    placed = apart(lines)
    rounds = len(placed[0].values)
    step = WIDTH / (rounds - 1)
    for index in (1, *range(5, rounds + 1, 5)):
        parts.append(
            f'<text x="{left + step * (index - 1):.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{index}</text>'
        )
    parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">round</text>')
    for line in sorted(placed, key=lambda line: line.name in DASHES):
        points = " ".join(f"{left + step * i:.1f},{TOP + HEIGHT * (1 - v):.1f}" for i, v in enumerate(line.values))
        parts.append(f'<polyline points="{points}" fill="none" {line.stroke}/>')
        label = f'x="{left + WIDTH + 8}" y="{TOP + HEIGHT * (1 - line.label_y) + 4:.1f}" fill="{line.colour}"'
        parts.append(f"<text {label}>{escape(line.name)}</text>")
    return "\n".join(parts)


def picture(folder: Path) -> str:
    """Return the picture of a run as SVG."""
    metrics = json.loads((folder / "metrics.json").read_text())
    summary = json.loads((folder / "run.json").read_text())
    reputations = reputations_frame(TaskView.of(exported_history(folder), summary["task"])) / 1_000_000
    accuracy = [
        Line("fedledger", ACCURACY["fedledger"], [row["score"] for row in metrics]),
        Line("plain mean", ACCURACY["plain mean"], [row["plain_mean_score"] for row in metrics]),
    ]
    by_behaviour: dict[str, list[str]] = {}
    for participant in summary["participants"]:
        by_behaviour.setdefault(participant["behaviour"], []).append(participant["address"])
    reputation = [
        Line(
            f"{behaviour} × {len(owners)}" if len(owners) > 1 else behaviour,
            BEHAVIOURS[behaviour],
            reputations[owners].mean(axis="columns").tolist(),
        )
        for behaviour, owners in by_behaviour.items()
    ]
    second, third = LEFT + WIDTH + GAP, LEFT + 2 * (WIDTH + GAP)
    width = third + WIDTH + GAP - 20
    pay = [Line(name, PAY[name], values) for name, values in pays(folder, summary).items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 50}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">\n'
        f"<title>Test accuracy, reputation and pay by round, with three attackers among ten participants</title>\n"
        f"{panel(LEFT, 'Test accuracy', accuracy)}\n{panel(second, 'Reputation', reputation)}\n"
        f"{panel(third, f'Pay of {ON_OFF}, of an honest one’s', pay)}\n</svg>\n"
    )


def pays(folder: Path, summary: dict[str, Any]) -> dict[str, list[float]]:
    """Return what the on-off attacker has earned beside an honest participant after each round, in two ways."""
    config = ExperimentConfig.model_validate(json.loads((folder / "config.json").read_text())["config"])
    behaviours = [row["behaviour"] for row in summary["participants"]]
    addresses = [row["address"] for row in summary["participants"]]
    experiment = make_experiment(config, folder)
    frame = pay_frame(TaskView.of(exported_history(folder), summary["task"])).reindex(columns=addresses, fill_value=0)
    paid = frame.cumsum().to_numpy().tolist()
    so_far, alone = [0] * config.participants, []
    for shares in shares_by_detection_alone(config, folder):
        so_far = [before + shares.get(number, 0) for number, before in enumerate(so_far)]
        alone.append(pay_beside_honest(so_far, experiment.behaviours)[ON_OFF])
    return {
        "with reputation": [min(1.0, pay_beside_honest(row, behaviours)[ON_OFF]) for row in paid],
        "detection alone": [min(1.0, value) for value in alone],
    }


def main() -> None:
    """Write the picture of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run of the demonstration")
    parser.add_argument("file", type=Path, help="the SVG to write")
    arguments = parser.parse_args()
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    arguments.file.write_text(picture(arguments.run), encoding="utf-8")


if __name__ == "__main__":
    main()
