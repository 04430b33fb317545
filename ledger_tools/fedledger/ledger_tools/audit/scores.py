"""Audit scores: who was drawn to give them, what was committed and revealed, and what follows from it.

What a scorer measured rests on data of its own, which nobody else has; that is the only thing that is not replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedledger.contracts.ledger.check_times import KNOWN_BLOCKS
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.score_history import ScoringHistory
from fedledger.contracts.ledger.state import LedgerState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.divergence import expect, reading
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import (
    Scored,
    barred_scorers,
    draw_scorers,
    heard,
    score_commitment,
    scorer_seed,
    tally_scores,
    unheard,
    unpack_scores,
)
from fedledger.protocol.records.signatures import Place

NO_SEED = bytes(32)


def replay_scores(
    history: LedgerState, task: TaskHistory, current: RoundHistory, recommenders: Sequence[str], place: Place
) -> None:
    """Replay the scoring of a round, from the seed of its draw to the updates that do not count.

    Parameters
    ----------
    history, task, current
        The ledger's history, the task and the round.
    recommenders
        The task's, by their addresses.
    place
        What the task's commitments are bound to.

    Raises
    ------
    DivergenceError
        If a proposal came before the tally; if others were scored than were there, or others drawn than the seed draws;
        if a score is not what its scorer had committed to; if the limit, or who is outvoted, silent or far, does not
        follow from the scores.
    """
    if not task.params.scorers:
        return
    index, scoring = current.index, current.scoring
    if scoring is None or not scoring.tallied:
        expect(index, "tally of the scores", "one before the proposal" if current.proposal else "one", None)
        return
    if current.root is None:
        expect(index, "updates to score", sorted(current.reveals), list(scoring.present))
    elif current.proposal is not None and scoring.updates:
        expect(index, "updates to score", _named(current.listed), _named(current.delivered))
    if scoring.tallied_at is None:
        expect(index, "tally of the scores of a whole round", True, len(scoring.present) < task.params.quorum)
        return
    _require_drawn(history, task, current, scoring)
    for scored in scoring.scores.values():
        _require_committed(history, index, scoring, scored, place)
    _require_tally(history, task, current, recommenders)


def audit_scores(
    history: LedgerState, task: TaskHistory, recommenders: Sequence[str], place: Place, clock: Clock
) -> list[str]:
    """Audit all scores of a task, also those of rounds that have no proposal, and return what an auditor should know.

    See :func:`replay_scores`; besides, the seed of each draw must be of the block in which the scorers were called.
    """
    if not task.params.scorers:
        return []
    rounds = [current for _, current in sorted(task.rounds.items()) if current.scoring is not None]
    for current in rounds:
        scoring = current.scoring
        if scoring is None:
            continue
        if scoring.seed is not None:
            seed = scorer_seed(clock.hash_of(scoring.called_at.block), task.id, current.index)
            forgot = scoring.drawn_in is not None and scoring.drawn_in - scoring.called_at.block > KNOWN_BLOCKS
            expect(current.index, "seed of the scorers", (NO_SEED if forgot else seed).hex(), scoring.seed.hex())
        if scoring.tallied:
            replay_scores(history, task, current, recommenders, place)
    return _notes(task, [current.scoring for current in rounds if current.scoring is not None])


def _named(updates: Mapping[int, ContentRef]) -> list[str]:
    return [f"{participant}: {update.cid}" for participant, update in sorted(updates.items())]


def _require_drawn(history: LedgerState, task: TaskHistory, current: RoundHistory, scoring: ScoringHistory) -> None:
    index, params = current.index, task.params
    if scoring.seed in (None, NO_SEED):
        expect(index, "scorers", [], _owners(history, scoring.scorers))
    elif not params.verifiers_score:
        expected = draw_scorers(scoring.seed or b"", sorted(current.selected), params.scorers, scoring.failed)
        expect(index, "scorers", _owners(history, expected), _owners(history, scoring.scorers))
    else:
        # Which verifier is at which place the logs do not tell.
        expect(index, "scorers of more than one place", [], _repeated(scoring.scorers))
        strangers = [participant for participant in scoring.scorers if participant not in scoring.pool]
        expect(index, "scorers that do not serve the task", [], _owners(history, strangers))
        expect(index, "too many scorers", False, len(scoring.scorers) > params.scorers)


def _require_committed(history: LedgerState, index: int, scoring: ScoringHistory, scored: Scored, place: Place) -> None:
    if scored.place >= len(scoring.scorers):
        expect(index, "place of a scorer", f"below {len(scoring.scorers)}", scored.place)
    participant = scoring.scorers[scored.place]
    name = f"scores of {history.owners[participant]}"
    known = scoring.commitments.get(scored.place)
    found = score_commitment(place, index, participant, scored.salt, scored.words)
    expect(index, name, "none" if known is None else known.hex(), found.hex())
    on_chain = scoring.revealed.get(scored.place)
    if on_chain is not None:
        expect(index, name, list(on_chain.words), list(scored.words))


def _require_tally(history: LedgerState, task: TaskHistory, current: RoundHistory, recommenders: Sequence[str]) -> None:
    index, scoring = current.index, current.scoring
    if scoring is None:
        return
    expect(index, "revealed scores that the tally lacks", [], sorted(scoring.revealed.keys() - scoring.scores.keys()))
    known = _known(history, recommenders, scoring)
    rows, excused, places = [], [], sorted(scoring.scores)
    ignored = [unheard(scorer, known[place]) for place, scorer in enumerate(scoring.scorers)]
    with reading(index, "scores", "words of scores"):
        for place in places:
            scores = unpack_scores(scoring.scores[place].words, len(scoring.present))
            rows.append(heard(scores, scoring.present, ignored[place]))
            excused.append(len(ignored[place].intersection(scoring.present)))
    barred = barred_scorers(scoring.present, ignored)
    found = tally_scores(rows, len(ignored), task.params.score_spread, task.params.score_floor, excused, barred)
    expect(index, "limit of the scores", found.limit, scoring.limit)
    told = (
        ("outvoted participants", (scoring.present[place] for place in found.outvoted), scoring.outvoted),
        ("silent scorers", (s for place, s in enumerate(scoring.scorers) if place not in places), scoring.silent),
        ("scorers far from the medians", (scoring.scorers[places[row]] for row in found.far), scoring.far),
    )
    for name, expected, named in told:
        expect(index, name, _owners(history, expected), _owners(history, named))


def _known(history: LedgerState, recommenders: Sequence[str], scoring: ScoringHistory) -> list[dict[int, Evidence]]:
    """Return what the recommenders that are participants knew of each scorer before the tally, by their ids."""
    known: list[dict[int, Evidence]] = [{} for _ in scoring.scorers]
    ids = {recommender: history.ids[recommender] for recommender in recommenders if recommender in history.ids}
    if not ids:
        return known
    for applied in history.applied[: scoring.applied]:
        recommender = ids.get(applied.publisher)
        if recommender is None:
            continue
        for place, scorer in enumerate(scoring.scorers):
            if scorer in applied.adopted:
                known[place][recommender] = applied.adopted[scorer]
            elif scorer in applied.verdicts:
                before = known[place].get(recommender, Evidence())
                known[place][recommender] = before.after(applied.verdicts[scorer])
    return known


def _notes(task: TaskHistory, scorings: Sequence[ScoringHistory]) -> list[str]:
    count = sum(len(scoring.scores) for scoring in scorings)
    rounds = sum(bool(scoring.scores) for scoring in scorings)
    notes = []
    if count:
        notes.append(
            f"The scores themselves cannot be replayed: scorers measured them on data of their own, {count} times in "
            f"{rounds} rounds. Draws, commitments, medians and who is outvoted follow."
        )
    if task.params.verifiers_score and any(scoring.scorers for scoring in scorings):
        notes.append(
            "Scorers were drawn among verifiers, whose places the logs do not tell: that no other one was to be drawn "
            "rests on the ledger's own code."
        )
    unread = [scoring for scoring in scorings if scoring.called_at.arguments["words"] and not scoring.updates]
    if any(scoring.present for scoring in unread):
        notes.append(f"In {len(unread)} rounds nobody could read to which updates the scorers were called.")
    return notes


def _owners(history: LedgerState, participants: Iterable[int]) -> list[str]:
    return [history.owners.get(participant, f"participant {participant}") for participant in participants]


def _repeated(participants: Sequence[int]) -> list[int]:
    return sorted({participant for participant in participants if participants.count(participant) > 1})
