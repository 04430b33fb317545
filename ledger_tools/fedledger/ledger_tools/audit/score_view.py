"""Scoring of a task in typed rows, as tables, pages and participants are told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory

SCORED, SILENT, FAR, IN_TIME = "scored", "silent", "far", "still in time"
"""What a scorer did: it gave scores that count as near the medians, none, or others; or its time goes on."""


@dataclass(frozen=True)
class ScoringView:
    """How a round was scored; who is named is an address.

    Parameters
    ----------
    round
        Its number.
    state
        ``called``, ``drawn`` or ``tallied``.
    updates
        How many were scored.
    scorers
        Who was drawn, by their places.
    revealed
        Of them, whose scores count.
    limit
        Greatest median of an update that counts; None: all do.
    outvoted
        Whose updates do not count.
    silent, far
        Scorers that revealed nothing, and whose scores were far from the medians.
    """

    round: int
    state: str
    updates: int
    scorers: tuple[str, ...]
    revealed: tuple[str, ...]
    limit: int | None
    outvoted: tuple[str, ...]
    silent: tuple[str, ...]
    far: tuple[str, ...]

    def of_scorers(self) -> dict[str, str]:
        """Return what each scorer did, by its address."""
        if self.state != "tallied":
            return dict.fromkeys(self.scorers, IN_TIME)
        done = dict.fromkeys(self.scorers, SCORED) | dict.fromkeys(self.silent, SILENT)
        return done | dict.fromkeys(self.far, FAR)


@dataclass(frozen=True)
class ScoresView:
    """Scoring of a task.

    Parameters
    ----------
    scorers
        How many are drawn a round.
    from_verifiers
        Whether they are the task's verifiers, and not its participants.
    period
        Seconds for their commitments, and as many for what opens these.
    rows
        Its scored rounds.
    """

    scorers: int
    from_verifiers: bool
    period: int
    rows: tuple[ScoringView, ...]

    @classmethod
    def of(cls, history: History, task: int) -> ScoresView | None:
        """Return what is known of a task's scores; None if it has no scorers.

        Raises
        ------
        ChainError
            If the ledger has no such task.
        """
        record = history.task(task)
        params = record.params
        if not params.scorers:
            return None
        rows = (_view(history, current) for _, current in sorted(record.rounds.items()))
        terms = params.scorers, params.verifiers_score, params.score_period
        return cls(*terms, tuple(row for row in rows if row is not None))

    def counts(self, address: str) -> dict[str, int]:
        """Return how often somebody scored, was silent or far; empty if it never did."""
        done = [row.of_scorers().get(address) for row in self.rows]
        return {what: done.count(what) for what in (SCORED, SILENT, FAR, IN_TIME) if what in done}

    @property
    def facts(self) -> dict[str, str]:
        """What a page says of them as a whole."""
        among = "the verifiers that serve the task" if self.from_verifiers else "the participants of the round"
        return {"scorers": f"{self.scorers} a round, drawn among {among}", "scores": told_scores(totals_of(self))}

    def status(self) -> dict[str, Any]:
        """Return how the newest scored round stands, as a document; its round is 0 if none was scored yet."""
        document: dict[str, Any] = {"scorers": self.scorers, "from_verifiers": self.from_verifiers, "round": 0}
        return document | (vars(self.rows[-1]) | {"scorers": list(self.rows[-1].scorers)} if self.rows else {})


def totals_of(view: ScoresView | None) -> dict[str, int]:
    """Return how many rounds of a task were scored, and how often anybody was what; empty if it has no scorers."""
    if view is None:
        return {}
    tallied = [row for row in view.rows if row.state == "tallied"]
    named = {"drawn": "scorers", "silent": "silent", "far": "far", "outvoted": "outvoted"}
    counts = {what: sum(len(getattr(row, name)) for row in tallied) for what, name in named.items()}
    return {"rounds": len(tallied), **counts}


def told_scores(totals: Mapping[str, int]) -> str:
    """Return what :func:`totals_of` says in words."""
    return (
        f"{totals['rounds']:,} rounds scored; {totals['drawn']:,} times a scorer was drawn "
        f"({totals['silent']:,} silent, {totals['far']:,} far from the others); {totals['outvoted']:,} updates outvoted"
    )


def told_own(counts: Mapping[str, int]) -> str:
    """Return what :meth:`ScoresView.counts` says in words."""
    return ", ".join(f"{count} {'far from the others' if what == FAR else what}" for what, count in counts.items())


def _view(history: History, current: RoundHistory) -> ScoringView | None:
    scoring = current.scoring
    if scoring is None:
        return None

    def named(participants: Iterable[int]) -> tuple[str, ...]:
        return tuple(history.owners[participant] for participant in participants)

    return ScoringView(
        round=current.index,
        state=_state(scoring),
        updates=len(scoring.present),
        scorers=named(scoring.scorers),
        revealed=named(scoring.scorers[place] for place in sorted(scoring.scores or scoring.revealed)),
        limit=scoring.limit or None,
        outvoted=named(scoring.outvoted),
        silent=named(scoring.silent),
        far=named(scoring.far),
    )


def _state(scoring: ScoringHistory) -> str:
    if scoring.tallied:
        return "tallied"
    return "called" if scoring.seed is None else "drawn"
