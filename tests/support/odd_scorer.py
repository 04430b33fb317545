"""The command line of somebody who scores otherwise than the program does: python odd_scorer.py LIE WORDS..."""

from __future__ import annotations

import sys

from fedledger.node.scoring import OwnScorer, ScoredRound
from fedledger.protocol.records.scores import WORST_SCORE
from fedledger.storage.base import Readable

SILENT, SLANDER = "silent", "slander"


def silent(scorer: OwnScorer, asked: ScoredRound, store: Readable) -> list[int] | None:
    """Say nothing."""
    return None


def slander(scorer: OwnScorer, asked: ScoredRound, store: Readable) -> list[int] | None:
    """Say that all others' updates are the worst."""
    return [0 if owner == asked.scorer else WORST_SCORE for owner in asked.owners]


def main() -> None:
    """Run a command with another way to score."""
    from fedledger.platform.cli import app

    lie = sys.argv.pop(1)
    OwnScorer.__call__ = {SILENT: silent, SLANDER: slander}[lie]  # type: ignore[method-assign]
    app.main()


if __name__ == "__main__":
    main()
