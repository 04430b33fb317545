"""How those who attack score others' updates: honestly, unless their attack says otherwise."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fedledger.node.scoring import ScoredRound


@runtime_checkable
class Scoring(Protocol):
    """An attack that has a say of its own when it is drawn to score."""

    def scores(self, asked: ScoredRound, honest: list[int]) -> list[int] | None:
        """Return what is said of a round's updates, given what would be honest; None: nothing."""
        ...
