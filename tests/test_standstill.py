"""Runs of no use stop and say why, alike with and without a ledger; so does the limit on an update's bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.platform.engine.backends.base import Backend
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.standstill import MAX_ROUNDS, Standstill
from fedledger.platform.engine.update_limit import UpdateLimit
from fedledger.platform.engine.with_ledger import LedgerRecord, run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, checked
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.measurement import LOSS_CAP
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.quick import quick

ACCEPTED, MISSED, NORM = Verdict.ACCEPTED, Verdict.MISSED, Verdict.NORM
RANGE, INFINITE, LONG = Verdict.OUT_OF_RANGE, Verdict.NOT_FINITE, Verdict.OVERSIZE


def config(rounds: int = 5, rate: float = 0.1, **training: Any) -> ExperimentConfig:
    solver = {"method": "sgd@1", "params": {"learning_rate": rate, "local_epochs": 1}}
    return checked(
        {
            "name": "no use",
            "participants": 3,
            "compare_with_mean": False,
            "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [4], "classes": 10}},
            "training": {"pipeline": "plain", "rounds": rounds, "solver": solver, **training},
        },
        "here",
    )


def experiment(limit: int | None = None, **given: Any) -> Experiment:
    """Return an experiment, whose spec may have a limit on an update's bytes that a configuration is refused."""
    made = make_experiment(config(**given), Path())
    if limit is None:
        return made
    limits = made.spec.limits.model_copy(update={"max_update_bytes": limit})
    return replace(made, spec=made.spec.model_copy(update={"limits": limits}))


def closed(index: int, *verdicts: Verdict, details: Mapping[int, str] | None = None, empty: bool = False) -> Round:
    model = None
    return Round(index, model, dict(enumerate(verdicts)), 0.1, empty, details=details or {})  # type: ignore[arg-type]


def looked(*rounds: tuple[Verdict, ...], losses: tuple[float, ...] = (), initial: float = 1.0) -> int:
    """Return after how many rounds a run ends: one more than there are where only its end says so."""
    standstill = Standstill(lambda: initial)
    for index, verdicts in enumerate(rounds, start=1):
        try:
            standstill.look(closed(index, *verdicts), losses[index - 1] if losses else 1.0)
        except RoundError:
            return index
    try:
        standstill.end()
    except RoundError:
        return len(rounds) + 1
    return 0


def test_three_rounds_in_a_row_of_invalid_updates_end_a_run() -> None:
    refused, counts = (RANGE, INFINITE), (RANGE, ACCEPTED)
    assert looked(*[refused] * 5) == MAX_ROUNDS
    assert looked(refused, refused, counts, refused, refused) == 0
    assert looked(counts, refused, refused, refused, counts) == 4
    assert looked((MISSED, RANGE), (RANGE, MISSED), (RANGE, NORM)) == 3
    # Nobody's fault but that of those who were asked: others may be asked next.
    assert looked(counts, *[(NORM, NORM)] * 5) == 0
    assert looked((MISSED, MISSED), (MISSED, MISSED), (MISSED, MISSED), (MISSED, MISSED)) == 0


def test_a_run_in_which_nothing_counted_is_an_error_however_short_it_was() -> None:
    assert looked((RANGE, RANGE)) == 2
    assert looked((NORM,), (NORM,)) == 3
    assert looked((RANGE, ACCEPTED), (RANGE, RANGE)) == 0


def test_a_model_whose_loss_is_not_finite_ends_a_run() -> None:
    counts, cap = (ACCEPTED,), LOSS_CAP / 1e6
    assert looked(*[counts] * 4, losses=(math.nan, math.inf, cap, 1.0)) == 3
    assert looked(*[counts] * 4, losses=(1.0, math.nan, math.nan, 1.0)) == 0
    assert looked(*[counts] * 2, losses=(1.0, math.nan)) == 3
    assert looked(*[counts] * 4, losses=(cap * 0.999,) * 4) == 0
    # It was so before anything was trained.
    assert looked(*[counts] * 4, losses=(math.nan,) * 4, initial=cap) == 0


def test_rounds_below_quorum_are_not_looked_at() -> None:
    standstill = Standstill(lambda: 1.0)
    for index in range(1, 9):
        standstill.look(closed(index, RANGE, empty=True), math.nan)
    standstill.end()


@pytest.mark.parametrize(
    ("verdict", "remedy"),
    [
        (RANGE, "fixed_point.bound"),
        (INFINITE, "learning_rate"),
        (LONG, "max_update_bytes"),
        (NORM, "training.detection"),
        (Verdict.MALFORMED, "solver"),
    ],
)
def test_the_error_names_the_commonest_verdicts_their_details_and_a_remedy(verdict: Verdict, remedy: str) -> None:
    standstill = Standstill(lambda: 1.0)
    details = {0: "just so", 1: "just so", 2: "other"}
    verdicts = (verdict, verdict, Verdict.WRONG_BASE)
    with pytest.raises(RoundError) as caught:
        for index in (7, 8, 9):
            standstill.look(closed(index, *verdicts, details=details), 1.0)
        standstill.end()
    label = verdict.label
    assert (
        f"In rounds 7 to 9 no update counted: of 9 that were refused, 6 {label} (just so) and 3 wrong_base (other)"
        in (caught.value.message)
    )
    assert remedy in caught.value.remedy


CASES: list[tuple[dict[str, Any], str]] = [
    ({"rate": 1e6}, r"9 out_of_range \(a coordinate is beyond ±64"),
    ({"rate": 1e30}, r"\d not_finite \(a coordinate is not a finite number\)"),
    ({"limit": 1000}, r"9 oversize \(\d+ bytes, the limit is 1000\)"),
]
STAGES: list[dict[str, Any]] = [
    {},
    {"detection": [{"method": "norm@1"}]},
    {"payload": [{"name": "delta", "codec": {"method": "top_k@1", "params": {"k": 200, "bits": 24}}}]},
]


def message(call: Any) -> str:
    with pytest.raises(RoundError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "told", "stages"),
    # A codec that sends a few bits of each coordinate sends none that is out of range.
    quick(2, [(*case, s) for case in CASES for s in STAGES if "payload" not in s or "limit" in case[0]]),
)
def test_both_kinds_of_run_end_alike(given: dict[str, Any], told: str, stages: dict[str, Any], tmp_path: Path) -> None:
    made, errors = experiment(**given, **stages), set()
    for place, backend in enumerate(("serial", "pool")):
        folder = tmp_path / str(place)
        folder.mkdir()
        errors.add(message(lambda: run_without_ledger(made, folder, backend, 2)))  # noqa: B023
    ledger = tmp_path / "ledger"
    errors.add(message(lambda: run(made, Chain(), LocalStore(ledger / "store"), ledger)))
    (error,) = errors
    assert re.search(told, error) and "In rounds 1 to 3" in error


@pytest.mark.parametrize("backend", [Serial, Pool])
def test_rounds_in_which_nothing_counts_keep_the_model(backend: Any) -> None:
    made = experiment(rate=1e6, rounds=4)
    with backend(made) as trains:
        rounds = list(play(MemoryRecord(made), trains))
    assert [(done.accepted, done.refused) for done in rounds] == [(0, 3)] * 4
    fixed = made.spec.fixed
    # A model is on the grid of fixed point from its first round on.
    kept = fixed.to_float32(fixed.rounded(made.initial.vector))
    assert all(np.array_equal(done.model.vector, kept) for done in rounds)


def longest(made: Experiment, folder: Path) -> int:
    """Return the length of the longest update of a run on a ledger."""
    record = LedgerRecord(made, Chain(), LocalStore(folder / "store"), folder)
    list(play(record, Serial(made)))
    history = record.history.update().task(1)
    return max(commit.length for current in history.rounds.values() for commit in lengths(current))


def lengths(current: Any) -> list[Any]:
    return [participation.update for participation in current.participations if participation.update is not None]


@pytest.mark.parametrize("stages", quick(1, STAGES, ("sums", "detection", "codec")))
def test_the_limit_on_bytes_is_the_same_to_the_byte(stages: dict[str, Any], tmp_path: Path) -> None:
    most = longest(experiment(rounds=2, **stages), tmp_path)
    for limit in (most, most - 1):
        made = experiment(limit, rounds=2, **stages)
        folder = tmp_path / str(limit)
        record = LedgerRecord(made, Chain(), LocalStore(folder / "store"), folder)
        recorded: list[Round] = list(play(record, Serial(made)))
        backend: Backend = Serial(made)
        kept = list(play(MemoryRecord(made), backend))
        assert [done.verdicts for done in kept] == [done.verdicts for done in recorded]
        found = {verdict for done in kept for verdict in done.verdicts.values()}
        assert (LONG in found) == (limit < most)
        assert np.array_equal(kept[-1].model.vector, recorded[-1].model.vector)


def test_a_limit_that_is_far_away_costs_nothing() -> None:
    assert not UpdateLimit(experiment().spec, 314).binds
    assert UpdateLimit(experiment(9000).spec, 314).binds
