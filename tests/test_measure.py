"""Measurements on a validation set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fedledger.aggregator.round import measurement
from fedledger.aggregator.round.measurement import LiveMeasurer
from fedledger.learning.metrics import HeldOut
from fedledger.learning.models.base import build_model
from fedledger.learning.validation_set import WholeSet
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.records.report import BASE, MODEL


def small(seed: int, models: int) -> tuple[np.random.Generator, WholeSet, list[FlatModel]]:
    """Return a generator, a validation set of 20 examples, and models with 43 parameters for it."""
    rng = np.random.default_rng(seed)
    validation = WholeSet(HeldOut(rng.random((20, 4), np.float32), rng.integers(0, 3, 20)))
    made = [FlatModel(build_model("mlp@1", {"inputs": 4, "hidden": [5], "classes": 3})) for _ in range(models)]
    return rng, validation, made


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what is measured from now on."""
    passes: list[bytes] = []
    real = measurement.measure

    def count(model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut) -> list[tuple[int, int]]:
        passes.extend(vector.tobytes() for vector in vectors)
        return real(model, vectors, held_out)

    monkeypatch.setattr(measurement, "measure", count)
    return passes


def test_the_model_of_a_round_is_not_measured_again_as_the_base_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, validation, models = small(0, 1)
    measurer = LiveMeasurer(models[0], validation)
    first, second = rng.random((2, 43), np.float32)
    wanted = {vector.tobytes(): measurer("0xab", vector) for vector in (first, second)}
    passes = counted(monkeypatch)
    told = [(what, vector, measurer(what, vector)) for what, vector in [(BASE, first), (MODEL, second)]]
    told.append((BASE, second.copy(), measurer(BASE, second.copy())))
    assert passes == [first.tobytes(), second.tobytes()]
    told.append((BASE, first, measurer(BASE, first)))
    told.append(("0xab", second, measurer("0xab", second)))
    assert passes[2:] == [first.tobytes(), second.tobytes()]
    assert all(measured == wanted[vector.tobytes()] for _, vector, measured in told)


def test_what_is_measured_ahead_is_not_measured_again_unless_it_is_another_vector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, validation, models = small(2, 2)
    plain, ahead = LiveMeasurer(models[0], validation), LiveMeasurer(models[0], validation, models[1:])
    alone = LiveMeasurer(models[0], validation)
    first, second, third = rng.random((3, 43), np.float32)
    wanted = [plain("0xab", first), plain("0xcd", second), plain("0xcd", third)]
    for measurer in (ahead, alone):
        measurer.ahead("0xab", first)
        measurer.ahead("0xcd", second)
        measurer.ahead("0xef", None)
    passes = counted(monkeypatch)
    assert ahead.each([("0xab", first.copy()), ("0xcd", second)]) == wanted[:2]
    assert not passes
    # Another vector of the same name, and a known vector of another name.
    assert [ahead("0xcd", third), ahead("0xef", first)] == [wanted[2], wanted[0]]
    assert passes == [third.tobytes(), first.tobytes()]
    # With the round's model all of it is forgotten.
    ahead(MODEL, third)
    assert ahead.each([("0xab", first)]) == wanted[:1]
    assert passes[2:] == [third.tobytes(), first.tobytes()]
    # One that has a single model measures nothing ahead.
    assert alone.each([("0xab", first)]) == wanted[:1]
    assert passes[4:] == [first.tobytes()]


def test_no_more_is_measured_ahead_than_memory_is_meant_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "MOST_AHEAD", 2 * 43 * 4)
    rng, validation, models = small(3, 2)
    measurer = LiveMeasurer(models[0], validation, models[1:])
    for number, vector in enumerate(rng.random((5, 43), np.float32)):
        measurer.ahead(f"0x{number}", vector)
    assert len(measurer._ahead) == 2


@pytest.mark.parametrize(("long", "examples_per_pass"), [(0.0, 0), (1e9, 0), (1e9, 3 * 150)])
def test_threads_and_groups_measure_the_same_as_one_after_another(
    monkeypatch: pytest.MonkeyPatch, long: float, examples_per_pass: int
) -> None:
    monkeypatch.setattr(measurement, "LONG", long)
    monkeypatch.setattr(measurement, "EXAMPLES_PER_PASS", examples_per_pass)
    rng = np.random.default_rng(1)
    validation = WholeSet(HeldOut(rng.random((150, 1, 28, 28), np.float32), rng.integers(0, 10, 150)))
    models = [FlatModel(build_model("lenet@1", {})) for _ in range(3)]
    single, several = LiveMeasurer(models[0], validation), LiveMeasurer(models[0], validation, models[1:])
    vectors = [(f"0x{i}", rng.normal(0, 0.1, models[0].layout.dimension).astype(np.float32)) for i in range(8)]
    wanted = [single(*one) for one in vectors]
    assert len(set(wanted)) == len(vectors)
    assert several.each(iter(vectors)) == wanted == single.each(vectors)
    assert several.each(vectors[:1]) == wanted[:1]
    several.ahead(*vectors[3])
    assert several.each(vectors) == wanted
    assert several.each([]) == []
