"""The pictures of reputation models in docs/reputation.md: what each makes of the same history.

Run python benchmarks/trust.py FILE, or make picture. A participant delivers ten good updates, is refused three times,
delivers ten more, stays away for five rounds, and delivers ten more. Every model has its defaults; that of subjective
logic with a recommender has one who has judged the participant well for twenty rounds, and is trusted by half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fedledger.aggregator.reputation.base import REPUTATION_MODELS, Asked, ReputationModel
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.verdicts import Verdict

HISTORY = (
    (10, Verdict.ACCEPTED, "accepted"),
    (3, Verdict.HARM, "refused"),
    (10, Verdict.ACCEPTED, "accepted"),
    (5, Verdict.MISSED, "away"),
    (10, Verdict.ACCEPTED, "accepted"),
)
COLOURS = {"accepted": "#2f81f718", "refused": "#e5534b40", "away": "#767c8540"}
PUBLISHER, RECOMMENDER = "0x" + "11" * 20, "0x" + "22" * 20
PANELS = (
    ("subjective_logic@1", "subjective_logic@1", False),
    ("subjective_logic@1, one recommender", "subjective_logic@1", True),
    ("beta@1", "beta@1", False),
    ("eigentrust@1", "eigentrust@1", False),
    ("moving_average@1", "moving_average@1", False),
)


def course(model: ReputationModel, recommended: bool) -> list[float]:
    """Return the reputation of the participant before the first round and after each one, from 0 to 1."""
    standings = {PUBLISHER: {0: model.unknown}}
    asked = Asked(PUBLISHER, (0,))
    if recommended:
        asked = Asked(PUBLISHER, (0,), (RECOMMENDER,), PPM // 2)
        standing = model.unknown
        for _ in range(20):
            standing = model.after(standing, Verdict.ACCEPTED)
        standings[RECOMMENDER] = {0: standing}
    found = [model(standings, asked)[0] / PPM]
    for rounds, verdict, _ in HISTORY:
        for _ in range(rounds):
            standings[PUBLISHER] = {0: model.after(standings[PUBLISHER][0], verdict)}
            found.append(model(standings, asked)[0] / PPM)
    return found


def draw(file: Path) -> None:
    """Draw one panel a model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for axis, (title, name, recommended) in zip(axes, PANELS, strict=True):
        start = 0
        for rounds, _, kind in HISTORY:
            axis.axvspan(start, start + rounds, color=COLOURS[kind], linewidth=0)
            start += rounds
        axis.plot(course(build(REPUTATION_MODELS, name, {}), recommended), color="#2f81f7", linewidth=2)
        axis.axhline(0.4, color="#767c85", linewidth=1, linestyle=":")
        axis.set(title=title, ylim=(0, 1), xlim=(0, start), xlabel="round")
        axis.title.set_fontsize(10)
    axes[0].set_ylabel("reputation")
    figure.savefig(file, dpi=110, metadata={"Software": None})


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the PNG to write")
    draw(parser.parse_args().file)


if __name__ == "__main__":
    main()
