"""What the ledger's logs tell of scores, one event after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.calls import listed_updates
from fedledger.contracts.ledger.lanes import lane, put_lane
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.contracts.ledger.task_history import Applied, TaskHistory
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import Scored
from fedledger.protocol.records.verdicts import Verdict


class ScoreLogs:
    """The part of a ledger's state that is about scores.

    ``scoring_words`` is the evidence of participants as scorers, by publisher.
    """

    tasks: dict[int, TaskHistory]
    applied: list[Applied]
    scoring_words: dict[str, dict[int, int]]
    serving: dict[int, set[int]]
    former: dict[int, set[int]]

    def scorer_evidence(self, publisher: str, participant: int) -> Evidence:
        """Return a participant's evidence as a scorer for a publisher; empty unless it has failed."""
        return Evidence.unpack(lane(self.scoring_words.get(publisher, {}), participant))

    def _on_ScorersCalled(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task = self.tasks[a["task"]]
        called = task.rounds[a["round"]]
        present = tuple(sorted(called.reveals))
        if a["words"]:
            present = members(a["wordIndices"], a["words"])
        called.scoring = ScoringHistory(log, present, listed_updates(log) if a["words"] else ())
        # Too few updates make no round, so there is nothing to score.
        called.scoring.tallied = a["present"] < task.params.quorum

    def _on_ScorersDrawn(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        task, scoring = self.tasks[a["task"]], self._scoring(a)
        scoring.seed, scoring.scorers, scoring.drawn_in = bytes(a["seed"]), tuple(a["participants"]), log.block
        drawable: Iterable[int] = task.rounds[a["round"]].selected
        if task.params.verifiers_score:
            drawable = scoring.pool = frozenset((*self.serving.get(task.id, ()), *self.former.get(task.id, ())))
        if self.scoring_words.get(task.publisher):
            known = {participant: self.scorer_evidence(task.publisher, participant) for participant in drawable}
            scoring.failed = {participant: evidence for participant, evidence in known.items() if evidence.pack()}

    def _on_ScoresCommitted(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        places = [place for place in range(a["places"].bit_length()) if a["places"] >> place & 1]
        commitments = map(bytes, a["commitments"])
        self._scoring(a).commitments |= dict(zip(places, commitments, strict=True))

    def _on_ScoreRevealed(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        scored = _scored(a["scored"])
        self._scoring(a).revealed[scored.place] = scored

    def _on_ScoresTallied(self, log: Log, a: dict[str, Any]) -> None:  # noqa: N802
        scoring, publisher = self._scoring(a), self.tasks[a["task"]].publisher
        scoring.tallied, scoring.tallied_at, scoring.applied = True, log, len(self.applied)
        scoring.scores = {scored.place: scored for scored in map(_scored, a["scores"])}
        scoring.limit, scoring.outvoted = a["limit"], tuple(a["outvoted"])
        scoring.silent, scoring.far = (
            tuple(participant for place, participant in enumerate(scoring.scorers) if a[name] >> place & 1)
            for name in ("silent", "far")
        )
        words = self.scoring_words.setdefault(publisher, {})
        for participant, verdict in scorer_verdicts(scoring).items():
            put_lane(words, participant, self.scorer_evidence(publisher, participant).after(verdict).pack())

    def _scoring(self, a: dict[str, Any]) -> ScoringHistory:
        scoring = self.tasks[a["task"]].rounds[a["round"]].scoring
        if scoring is None:
            raise ValueError(f"nobody was called to score round {a['round']} of task {a['task']}")
        return scoring


def scorer_verdicts(scoring: ScoringHistory) -> dict[int, Verdict]:
    """Return what a tally makes of scorers, by participant: of whom nothing was ever known nothing is written.

    Silence counts as a refused update does: a missed round alone would leave a newcomer's reputation as it is.
    """
    failed = (*scoring.silent, *scoring.far)
    return dict.fromkeys(scoring.stained, Verdict.ACCEPTED) | dict.fromkeys(failed, Verdict.OUTVOTED)


def members(indices: list[int], words: list[int]) -> tuple[int, ...]:
    """Return the participants whose bits are set in 256-participant words."""
    given = zip(indices, words, strict=True)
    return tuple(256 * index + bit for index, word in given for bit in range(256) if word >> bit & 1)


def _scored(told: Any) -> Scored:
    return Scored(told.place, bytes(told.salt), tuple(told.words))
