"""Each attack of the bench does what it is there for to a mean that nobody defends."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from fedledger.platform.bench.attack_suite import (
    ADAPTIVE,
    BACKDOOR,
    FORECAST,
    GROUP,
    HARM,
    LITTLE_WORK,
    MIN_SUM,
    NO_WORK,
    NONE,
    OLD_COMBINATIONS,
    ON_OFF,
    VALIDATION,
    Variant,
    suite,
)
from fedledger.platform.bench.robustness import Case, Condition, RobustnessRow, oracle_accuracy, played

UNDEFENDED = str(Path(__file__).parents[1] / "benchmarks/undefended.toml")
CONDITION = Condition("digits", 0.5, 10, 3, 31)
ROUNDS = {BACKDOOR: 16, ON_OFF: 14}
"""Of a kind of attacks; eight of others, while the model still learns."""
SUITE = suite(8, CONDITION.participants, CONDITION.hostile)

INVALID = ("nan", "inf", "1e38")
"""No rule is shown them: validation refuses them, whatever the pipeline."""
WORK = ("alie_1.5", "alie_usual")
"""Mostly the work of the attackers themselves, sent by each of them: by so few deviations they harm no mean."""
HARMFUL_GROUPS = ("mimic", "mimic_0.1")
SHARED = ("split_data",)
"""Whoever is paid by the example gains nothing from more names; whoever is paid by the update does."""


def bite(variant: Variant, row: RobustnessRow, honest_alone: float) -> dict[str, float]:
    """What an attack does beyond what a mean could bear; each figure is to be above 1."""
    lost = honest_alone - (row.accuracy or 0.0)
    if variant.name in INVALID:
        return {"refused": 2 * (row.refused_hostile or 0.0)}
    if (variant.kind in (HARM, MIN_SUM, ADAPTIVE) and variant.name not in WORK) or variant.name in HARMFUL_GROUPS:
        return {"accuracy lost": lost / 0.02}
    if variant.kind == BACKDOOR:
        # One class called another: those who have that class and say so stand against it.
        least = 0.1 if variant.name == "pair_flip" else 0.35
        return {"success": (row.attack_success or 0.0) / least, "clean accuracy": (row.accuracy or 0.0) / 0.8}
    if variant.kind == ON_OFF:
        harms = {"accuracy lost": lost / 0.02} if "sign_flip" in variant.name else {}
        return {"pay since the turn": (row.pay_after or 0.0) / 0.5, **harms}
    if variant.name in SHARED:
        return {"pay together": (row.pay_group or 0.0) / 0.9}
    if variant.kind == GROUP or variant.name in WORK:
        return {"pay together for one work": (row.pay_group or 0.0) / 2}
    claims = 100 if "1e6" in variant.name else 0.5
    assert variant.kind in (NO_WORK, OLD_COMBINATIONS, FORECAST, VALIDATION, LITTLE_WORK)
    return {"pay without work": (row.pay_ratio or 0.0) / claims}


@cache
def honest_alone(rounds: int) -> float:
    return oracle_accuracy(CONDITION, rounds)


def bites(name: str) -> dict[str, float]:
    variant = SUITE[name]
    rounds = ROUNDS.get(variant.kind, 8)
    return bite(variant, played(Case(UNDEFENDED, name, CONDITION), rounds), honest_alone(rounds))


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SUITE if name != NONE])
def test_an_attack_bites_an_undefended_mean(name: str) -> None:
    found = bites(name)
    assert found and min(found.values()) > 1, found


@pytest.mark.parametrize("name", ["fang_krum", "nan", "rider_zero", "delayed_every_5", "adaptive_alie"])
def test_some_attacks_bite_an_undefended_mean(name: str) -> None:
    assert min(bites(name).values()) > 1


def test_what_is_said_not_to_harm_a_mean_does_not() -> None:
    for name in WORK:
        row = played(Case(UNDEFENDED, name, CONDITION), 8)
        assert honest_alone(8) - (row.accuracy or 0.0) < 0.01
