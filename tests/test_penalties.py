"""What verdicts cost by a task's schedule, and what an honest participant has to expect of it."""

from __future__ import annotations

from itertools import product

import pytest

from fedledger.platform.experiment.config import LedgerConfig
from fedledger.protocol.records.penalties import ExpectedLoss, PenaltySchedule, expected_loss
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict
from support.documents import ROOT, losses

PENALTY = 10**15
SCHEDULE = PenaltySchedule(PENALTY, statistical_share=62_500, free_refusals=2)


def costs(schedule: PenaltySchedule, verdicts: tuple[Verdict, ...]) -> list[int]:
    """What each of some rounds costs who knows nothing of a publisher before."""
    evidence, found = Evidence(), []
    for verdict in verdicts:
        evidence = evidence.after(verdict)
        found.append(schedule.cost(verdict, evidence))
    return found


def test_without_a_statistical_share_all_is_as_before() -> None:
    schedule = PenaltySchedule(7)
    assert costs(schedule, (Verdict.LATE, Verdict.MALFORMED, Verdict.REPLAYED)) == [2, 4, 4]
    assert costs(schedule, (Verdict.UNAVAILABLE, Verdict.MISSED, *[Verdict.NORM] * 9)) == [0] * 11


def test_refusals_in_a_row_cost_more_and_more_and_never_more_than_the_penalty() -> None:
    again = costs(SCHEDULE, (Verdict.COSINE,) * 300)
    assert again[:6] == [0, 0, 0, PENALTY // 16, 2 * PENALTY // 16, 3 * PENALTY // 16]
    assert again == sorted(again) and again[-1] == 14 * PENALTY // 16
    steep = PenaltySchedule(PENALTY, statistical_share=500_000, free_refusals=1)
    assert costs(steep, (Verdict.HELD_OUT,) * 5) == [0, 0, PENALTY // 2, PENALTY, PENALTY]


def test_one_refusal_alone_costs_nothing_however_much_is_known() -> None:
    for free in (1, 2, 255):
        schedule = PenaltySchedule(PENALTY, statistical_share=1_000_000, free_refusals=free)
        assert costs(schedule, (Verdict.ACCEPTED,) * 20 + (Verdict.NORM,)) == [0] * 21


def by_enumeration(schedule: PenaltySchedule, rate: float, rounds: int) -> ExpectedLoss:
    """The same by all courses that there are."""
    mean = chance = 0.0
    for course in product((Verdict.ACCEPTED, Verdict.NORM), repeat=rounds):
        refused = course.count(Verdict.NORM)
        probability = rate**refused * (1 - rate) ** (rounds - refused)
        lost = sum(costs(schedule, course))
        mean += probability * lost
        chance += probability * (lost > 0)
    return ExpectedLoss(mean, chance)


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("free", [1, 2, 3])
def test_expected_losses_are_those_of_all_courses(rate: float, free: int) -> None:
    schedule = PenaltySchedule(PENALTY, statistical_share=62_500, free_refusals=free)
    for rounds in (0, 1, 4, 9):
        found, expected = expected_loss(schedule, rate, rounds), by_enumeration(schedule, rate, rounds)
        assert found.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-3)
        assert found.chance == pytest.approx(expected.chance, rel=1e-9, abs=1e-12)


def test_the_defaults_cost_an_honest_participant_next_to_nothing_and_a_rider_its_stake() -> None:
    terms = LedgerConfig()
    assert (terms.statistical_share, terms.free_refusals) == (SCHEDULE.statistical_share, SCHEDULE.free_refusals)
    in_hundred = {rate: expected_loss(SCHEDULE, rate, 100) for rate in (0.005, 0.015, 0.03, 0.05, 0.5, 1.0)}
    shares = {rate: loss.mean / PENALTY for rate, loss in in_hundred.items()}
    assert shares[0.005] < 1e-6 and shares[0.015] < 1e-4 and shares[0.03] < 0.002 and shares[0.05] < 0.01
    assert in_hundred[0.015].chance < 0.001 and in_hundred[0.05].chance < 0.1
    assert shares[0.5] > 10 and shares[1.0] > 60


def test_the_document_tells_these_losses() -> None:
    """Write them anew with ``make docs`` if this fails."""
    assert losses() in (ROOT / "docs" / "threat-model.md").read_text()
