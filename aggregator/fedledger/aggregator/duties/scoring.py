"""How an aggregator has a round's updates scored: it calls the scorers, lists what they sign, and has it tallied."""

from __future__ import annotations

from fedledger.aggregator.duties.commitments import Commitments
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.contracts.ledger.score_times import ScoreTimes
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.records.scores import Scored, score_commitment, unpack_scores

LISTED_BY = 0.375
"""The part of a score period after which whoever has signed by then is listed, before scorers do it themselves."""


class Scoring:
    """The duty to call a round's scorers, list their commitments and have their scores tallied.

    Parameters
    ----------
    access
        The task, and the aggregator's account.
    commitments
        Completes batched rounds, and has the mailbox.
    """

    def __init__(self, access: TaskAccess, commitments: Commitments) -> None:
        self.access = access
        self.commitments = commitments
        self.times = ScoreTimes(access.ledger)

    def __call__(self, seen: Situation) -> Step | None:
        """Do what the current round's scores need next."""
        task, current, phase = seen.task, seen.current, seen.phase
        if current is None or not task.is_scored(current) or current.proposal is not None or current.voided:
            return None
        scoring = current.scoring
        if scoring is None:
            return self._call(task, current, phase) if phase in (Phase.REVEALING, Phase.PROPOSING) else None
        if scoring.tallied or phase is not Phase.SCORING:
            return None
        if scoring.seed is None:
            access = self.access
            access.ledger.draw_scorers(access.account, task.id, current.index, current.selected)
            return Step(Action.SCORERS_DRAWN, task.id, current.index)
        now = self.access.ledger.chain.now()
        return self._list(task, current, scoring, now) or self._tally(task, current, scoring, phase)

    def _call(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step | None:
        """Call the scorers, once all updates are there, or the time for them is over."""
        access, listed = self.access, None
        if task.batched:
            completed = self.commitments.completed(current, phase)
            if completed is None:
                return None
            listed = {i: reveal.update for i, reveal in sorted(completed[0].reveals.items())}
        elif phase is Phase.REVEALING and set(current.commits) - set(current.reveals):
            return None
        count = len(current.reveals if listed is None else listed)
        access.ledger.call_scorers(access.account, task.id, current.index, current.selected, listed)
        return Step(Action.SCORERS_CALLED, task.id, current.index, detail=f"to {count} updates")

    def _list(self, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory, now: int) -> Step | None:
        """List what scorers have signed: all of them, or those who have when scorers begin to commit on chain."""
        mailbox = self.commitments.mailbox
        if mailbox is None or not task.batched or now >= self.times.after(task, current, 1):
            return None
        signed = {
            place: known
            for place, participant in enumerate(scoring.scorers)
            if place not in scoring.commitments
            and (known := mailbox.score_commitments(current.index).get(participant)) is not None
        }
        missing = len(scoring.scorers) - len(scoring.commitments) - len(signed)
        if not signed or (missing and now < self.times.after(task, current, LISTED_BY)):
            return None
        access = self.access
        if access.ledger.scoring(task.id).listed:
            # There is one list a round; who is not on it commits on chain.
            return None
        listed = {place: (known.commitment, known.signature) for place, known in signed.items()}
        access.ledger.list_scores(access.account, task.id, current.index, current.selected, listed)
        return Step(Action.SCORES_LISTED, task.id, current.index, detail=f"of {len(listed)} scorers")

    def _tally(self, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory, phase: Phase) -> Step | None:
        """Have the scores tallied, once all who committed have revealed, or their time is over."""
        now = self.access.ledger.chain.now()
        is_closed = len(scoring.commitments) == len(scoring.scorers) or now >= self.times.after(task, current, 1)
        scores = self._scores(current, scoring)
        is_whole = is_closed and set(scores) == set(scoring.commitments)
        if not is_whole and now < self.times.after(task, current, 2):
            return None
        if task.batched and self.commitments.completed(current, phase) is None:
            # Whoever tallies for a silent aggregator has to propose, too, and loses its deposit where it cannot.
            return None
        access = self.access
        listed = access.ledger.scoring(task.id).listed
        unopened = [scoring.commitments[place] for place in sorted(listed) if place not in scores]
        given = [scores[place] for place in sorted(scores)]
        recommenders = access.spec.reputation.recommenders
        access.ledger.tally_scores(
            access.account, task.id, current.index, current.selected, given, unopened, recommenders
        )
        silent = len(scoring.scorers) - len(scores)
        told = f"of {len(scores)} scorers{f', as {silent} are silent' if silent else ''}"
        return Step(Action.TALLIED, task.id, current.index, detail=told)

    def _scores(self, current: RoundHistory, scoring: ScoringHistory) -> dict[int, Scored]:
        """Return what was revealed of what the ledger holds a commitment to, by place."""
        scores, mailbox = dict(scoring.revealed), self.commitments.mailbox
        if mailbox is None:
            return scores
        told = mailbox.revealed_scores(current.index)
        for place in scoring.commitments:
            known = told.get(scoring.scorers[place])
            if known is None or place in scores:
                continue
            scored = Scored(place, *known)
            if self._opens(current, scoring, scored):
                scores[place] = scored
        return scores

    def _opens(self, current: RoundHistory, scoring: ScoringHistory, scored: Scored) -> bool:
        """Return whether the ledger takes scores: who has committed itself may have left others' openings here."""
        try:
            unpack_scores(scored.words, len(scoring.present))
        except ValueError:
            return False
        scorer, place = scoring.scorers[scored.place], self.access.place
        opened = score_commitment(place, current.index, scorer, scored.salt, scored.words)
        return opened == scoring.commitments[scored.place]
