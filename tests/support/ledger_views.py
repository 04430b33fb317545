"""Every view of the ledger, with what the model says it answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from fedledger.contracts.ledger.records import Finding, RoundStatus
from fedledger.protocol.records.reputation import LANE_BITS, LANES, Evidence
from support.ledger_court import Model
from support.ledger_model import DAY
from support.ledger_records import (
    BEACON,
    COIN,
    ZERO,
    Check,
    Dispute,
    Jury,
    Participant,
    Round,
    Scoring,
    Seat,
    Task,
    Verifier,
    Vote,
    ordered,
    seats_on_all_levels,
)

EVERYBODY, BATCHED, WITH_BEACON, COMPLETE, EMPTY, STAKED, SCORED, BIDDING = (1 << k for k in range(8))
NEVER, MOST_DAYS = 2**256 - 1, 90
View = tuple[str, tuple[Any, ...], Any]


def views(model: Model, publishers: Iterable[str], final: Mapping[int, int], closed: Collection[int]) -> Iterator[View]:
    """Return name, arguments and answer of every view.

    Of a task the first rounds are left out, as many as ``final`` says, and so are the disputes that are ``closed``.
    """
    yield "taskCount", (), len(model.tasks)
    yield "paused", (), model.paused
    yield from accounts(model, publishers)
    for number, t in enumerate(model.tasks, 1):
        yield from of_task(model, number, t)
        for index in range(final.get(number, 0) + 1, len(t.rounds) + 1):
            yield from of_round(model, number, t, index, t.rounds[index - 1])
    yield "disputeCount", (), len(model.disputes)
    for dispute, d in enumerate(model.disputes):
        if dispute not in closed:
            yield from of_dispute(dispute, d)


def accounts(model: Model, publishers: Iterable[str]) -> Iterator[View]:
    yield "participantCount", (), len(model.participants)
    yield "verifierCount", (), sum(map(model.is_listed, model.verifiers))
    yield "seatsOnAllLevels", (), seats_on_all_levels(model.terms)
    for account in model.wallets:
        yield "balanceOf", (COIN, account), model.balances[account]
    for i, p in enumerate(model.participants):
        yield "participant", (i,), participant_record(p, model.locks(i))
        yield "idOfOwner", (p.owner,), i
        yield "idOfSigner", (p.signer,), i
        yield "isServing", (i,), model.is_serving(i)
        yield "verifier", (i,), verifier_record(model.verifiers.get(i))
    for publisher in publishers:
        lanes = {i: model.evidence.get((publisher, i), Evidence()) for i in range(len(model.participants))}
        yield from words("evidenceWord", publisher, {i: evidence.pack() for i, evidence in lanes.items()})
        for i, evidence in lanes.items():
            since = model.now // DAY - model.judged_on.get((publisher, i), -MOST_DAYS)
            yield "reputationOf", (publisher, i), (evidence.reputation, since if since <= MOST_DAYS else NEVER)
            known = model.scorer_evidence.get((publisher, i), Evidence())
            yield "scorerEvidence", (publisher, i), (known.positive, known.negative, known.missed)


def of_task(model: Model, number: int, t: Task) -> Iterator[View]:
    yield "task", (number,), task_record(t)
    yield "seats", (number,), tuple((seat.holder, seat.deposit) for seat in t.seats)
    for place, seat in enumerate(t.seats):
        yield "heldOf", (number, place), held_record(seat)
    yield "pool", (number, 0, 64), tuple(model.pools.get(number, ()))
    yield "lapsed", (number, 0, 64), tuple(i for i in model.pools.get(number, ()) if model.is_lapsed(number, i))
    yield "hasJudges", (number, 0), model.has_judges(number)
    yield "hasJudges", (number, len(t.rounds) + 1), model.has_judges(number)
    yield "phase", (number,), model.phase(t)
    yield "settleable", (number,), model.settleable(t)
    for seat in t.seats:
        turn = model.turn(t, seat.holder)
        assert turn is not None
        may = turn == 0 or model.now >= model.due(t) + turn * t.params.propose_period
        yield "mayAct", (number, seat.holder), may
    yield "beacon", (number,), t.beacon
    yield "sealOf", (number,), seal_record(t)
    yield from of_checks(number, t)
    yield "enrolledWord", (number, 0), mask_of(t.enrolled)
    yield from words("creditWord", number, t.credits)
    yield "scoring", (number,), scoring_record(t)


def of_round(model: Model, number: int, t: Task, index: int, r: Round) -> Iterator[View]:
    yield "round", (number, index), round_record(model, t, r)
    yield "hasJudges", (number, index), model.has_judges(number, index)
    yield "selectedWord", (number, index, 0), mask_of(r.selected)
    yield "revealedWord", (number, index, 0), mask_of(r.salts)
    yield "outvotedWord", (number, index, 0), mask_of(r.outvoted)
    yield "baseModel", (number, index), t.base_model(index)
    for staleness, base in enumerate(t.way(index)[: t.params.max_staleness + 1]):
        yield "staleBase", (number, index, staleness), base
    yield "commitsRoot", (number, index), t.root(index)
    for i in r.selected:
        yield "hasCommitted", (number, index, i), t.has_committed(index, i)


def of_checks(number: int, t: Task) -> Iterator[View]:
    """Return what has become of checks, also in rounds that are final."""
    for place in range(t.params.auditor_count):
        yield "findingsOf", (number, place), t.findings.get(place, ZERO)
    for index, r in enumerate(t.rounds, 1):
        for i in sorted(r.selected) if r.checks else ():
            check = r.checks.get(i, Check())
            yield "checkOf", (number, index, i), (check.state, check.auditor)


def of_dispute(dispute: int, d: Dispute) -> Iterator[View]:
    yield "disputeRecord", (dispute,), dispute_record(d)
    for level, jury in enumerate(d.juries):
        yield "juryOf", (dispute, level), jury_record(jury)
        for i in jury.members:
            yield "voteBy", (dispute, level, i), vote_record(jury.votes.get(i))


def words(name: str, key: Any, lanes: Mapping[int, int]) -> Iterator[View]:
    """Return the words of two slots, as 32-bit lanes fill them."""
    for slot in range(2):
        word = sum(lanes.get(LANES * slot + lane, 0) << LANE_BITS * lane for lane in range(LANES))
        yield name, (key, slot), word


def mask_of(ids: Iterable[int]) -> int:
    return sum(1 << i for i in ids)


def participant_record(p: Participant, locks: int) -> tuple[Any, ...]:
    return ordered("participant", vars(p) | {"registered_at": p.since, "exit_at": p.leaves, "locks": locks})


def task_record(t: Task) -> tuple[Any, ...]:
    return ordered(
        "task",
        {
            "publisher": t.publisher,
            "enrol_deadline": t.enrol_deadline,
            "enrolled": len(t.enrolled),
            "seats": len(t.seats),
            "active": t.active,
            "refilled": t.refilled,
            "params": t.params.record,
            "current_round": len(t.rounds),
            "finalized_round": t.final,
            "latest_round": t.latest,
            "last_final_at": t.last_final,
            "spent_units": t.spent,
            "settled_rounds": t.counted,
            "consecutive_voids": t.voids_in_a_row,
            "finished": t.finished > 0,
            "stop_settled": t.stopped,
            "finished_at": t.finished,
            "last_bidding": t.last_bidding,
        },
    )


def scoring_record(t: Task) -> tuple[Any, ...]:
    s = t.scoring or Scoring(0, 0, 0, set(), ZERO, False)
    return ordered(
        "scoring",
        {
            "round": s.number,
            "called_at": s.called,
            "draw_block": s.draw_block,
            "present": len(s.present),
            "committed": mask_of(s.own),
            "listed": mask_of(s.listed),
            "revealed": mask_of(s.revealed),
            "stained": mask_of(s.stained),
            "drawn": len(s.scorers),
            "is_drawn": s.is_drawn,
            "tallied": s.tallied,
            "pool": s.pool,
            "updates": s.updates,
            "list": t.list_of_scores,
            "scorers": tuple(t.places_of_scorers),
        },
    )


def seal_record(t: Task) -> tuple[Any, ...]:
    return ordered("sealOf", {"deposit": t.seal_held, "opened": t.seal_open, "forfeited": t.seal_forfeited})


def round_record(model: Model, t: Task, r: Round) -> tuple[Any, ...]:
    flags = {
        EVERYBODY: r.everybody,
        BATCHED: t.params.batched,
        WITH_BEACON: t.params.randomness == BEACON,
        COMPLETE: r.complete,
        EMPTY: r.empty,
        STAKED: t.params.min_stake > model.terms.min_stake,
        SCORED: t.params.scorers > 0 and not r.bidding,
        BIDDING: r.bidding,
    }
    return ordered(
        "round",
        {
            "reveal_period": t.params.reveal_period,
            "commit_deadline": r.opened + t.params.commit_period,
            "commits_closed_at": r.commits_closed,
            "proposed_at": r.proposed,
            "base_round": r.base,
            "selected": len(r.selected),
            "committed": r.committed,
            "settled_words": r.applied,
            "status": RoundStatus(r.status),
            "seat": r.seat,
            "disputes": r.disputes,
            "flags": sum(flag for flag, holds in flags.items() if holds),
            "model_digest": r.outcome.model[0] if r.outcome else ZERO,
        },
    )


def verifier_record(v: Verifier | None) -> tuple[Any, ...]:
    return ordered("verifier", vars(v or Verifier(0, 0)))


def held_record(seat: Seat) -> tuple[Any, ...]:
    first = 0 if seat.first is None else seat.first + 1
    held = {"amount": seat.held, "disputes": seat.disputes, "first": first, "condemned": seat.condemned}
    return ordered("heldOf", held)


def dispute_record(d: Dispute) -> tuple[Any, ...]:
    return ordered("disputeRecord", vars(d) | {"round": d.number, "level": d.level, "unable": d.unable})


def jury_record(jury: Jury) -> tuple[Any, ...]:
    counts = {"committed": len(jury.votes), "revealed": len(jury.found)}
    return ordered("juryOf", vars(jury) | counts | found(jury.finding) | {"members": tuple(jury.members)})


def vote_record(vote: Vote | None) -> tuple[Any, ...]:
    return ordered("voteBy", {"commitment": vote.commitment if vote else ZERO} | found(vote.finding if vote else None))


def found(finding: tuple[Finding, bytes] | None) -> dict[str, Any]:
    said, transcript = finding or (Finding.NONE, ZERO)
    return {"finding": said, "transcript": transcript}
