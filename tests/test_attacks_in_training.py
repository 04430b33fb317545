"""What attackers send instead of honest work: each attack does what it says, and harms who does not defend itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.backdoor import triggered
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.coalition import OMNISCIENT, Coalition, Colleague
from fedledger.platform.attacks.edge_case_backdoor import rare_examples
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.model import ModelFile
from fedledger.storage.local import LocalStore

SGD = {"method": "sgd@1", "params": {"learning_rate": 0.08, "momentum": 0.9, "batch_size": 32, "local_epochs": 4}}
LIVE, DEAD = [27, 28, 35, 36], [0, 32, 39, 56]
"""Inputs of the digits: in the middle of each, and at edges where hardly any has ink."""


def experiment(
    method: str = "", params: dict[str, Any] | None = None, rounds: int = 12, attackers: Sequence[Any] = ()
) -> Experiment:
    """Thirteen participants learn digits by a plain mean."""
    attack = {"attack": {"method": method, "params": params or {}}, "count": 3}
    config = {
        "name": "attacked",
        "seed": 5,
        "participants": 13,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [64], "classes": 10}},
        "attackers": [attack] if method else list(attackers),
        "training": {"pipeline": "plain", "rounds": rounds, "solver": SGD},
    }
    return make_experiment(ExperimentConfig.model_validate(config), Path())


def trained(given: Experiment, backend: str = "serial") -> ModelFile:
    with open_backend(backend, given, 2) as opened:
        return [done.model for done in play(MemoryRecord(given), opened)][-1]


@cache
def undisturbed() -> float:
    given = experiment()
    return given.tested(trained(given)).loss


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("label_flip@1", {}),
        ("sign_flip@1", {}),
        ("ipm@1", {}),
        ("ipm@1", {"knowledge": OMNISCIENT, "factor": 10.0}),
        ("alie@1", {"z": 1.5}),
        ("alie@1", {"z": 1.5, "knowledge": OMNISCIENT}),
        ("min_max@1", {}),
        ("min_sum@1", {}),
        ("min_max@1", {"knowledge": OMNISCIENT}),
        ("min_sum@1", {"knowledge": OMNISCIENT, "direction": "deviation"}),
        ("fang_trimmed_mean@1", {}),
        ("fang_trimmed_mean@1", {"knowledge": OMNISCIENT}),
        ("fang_krum@1", {}),
        ("fang_krum@1", {"knowledge": OMNISCIENT}),
        ("adaptive@1", {"trials": 4}),
        ("adaptive@1", {"trials": 4, "attack": "alie@1", "params": {"z": 1.0}}),
        ("mimic@1", {}),
        ("gaussian@1", {}),
        ("on_off@1", {"turn": 5, "attack": "sign_flip@1", "params": {"factor": 3.0}}),
        ("over_claim@1", {"attack": "label_flip@1", "examples": 100_000}),
        ("over_claim@1", {"attack": "synthetic@1"}),
    ],
)
def test_harm_is_done_to_an_undefended_mean(method: str, params: dict[str, Any]) -> None:
    given = experiment(method, params)
    assert given.tested(trained(given)).loss > 1.15 * undisturbed()


@pytest.mark.parametrize(
    "params",
    [
        {"trigger": LIVE, "value": 0.0},
        {"trigger": DEAD, "value": 1.0},
        {"trigger": DEAD, "value": 1.0, "distributed": True},
        {"trigger": LIVE, "value": 0.0, "boost": 13 / 3},
    ],
)
def test_a_backdoor_opens_while_the_model_goes_on_to_work(params: dict[str, Any]) -> None:
    given, clean = experiment("backdoor@1", {"target": 7, "share": 1.0, **params}), experiment()
    data = given.test.take(np.flatnonzero(given.test.targets != 7))
    stamped = triggered(data, params["trigger"], params["value"], 7)
    held_out = HeldOut(stamped.inputs, stamped.targets)
    success = [evaluate(each.flat_model(), [trained(each).vector], held_out)[0].share for each in (given, clean)]
    assert success[0] > 0.5 and success[1] < 0.1
    assert given.tested(trained(given)).score > 0.8


def test_rare_examples_are_taken_for_what_attackers_say() -> None:
    given, clean = experiment("edge_case_backdoor@1", {"share": 1.0}), experiment()
    rare = rare_examples(given.test, source=9, target=7, tail=0.5, stretch=2.0)
    held_out = HeldOut(rare.inputs, rare.targets)
    success = [evaluate(each.flat_model(), [trained(each).vector], held_out)[0].share for each in (given, clean)]
    assert success[0] > 0.4 and success[1] < 0.2
    assert given.tested(trained(given)).score > 0.8


EVERY = {
    "free_rider@1": {"noise": 1.0, "factor": 2.0, "common": 0.9},
    "gaussian@1": {"common": 0.5},
    "alie@1": {},
    "min_sum@1": {"noise": 0.1},
    "mimic@1": {},
    "sybil@1": {"noise": 0.3},
    "split_data@1": {},
    "replay@1": {},
    "old_combination@1": {"last": 3},
    "forecast@1": {"features": "regression"},
    "plagiarism@1": {},
    "synthetic@1": {"inputs": "means"},
    "validation_training@1": {},
    "on_off@1": {"turn": 3, "attack": "old_combination@1", "params": {"last": 2}},
    "intermittent@1": {"attack": "replay@1", "every": 2, "between": "pair_flip@1"},
    "backdoor@1": {"trigger": LIVE},
    "edge_case_backdoor@1": {},
    "delayed@1": {"late": 1, "every": 2, "noise": 0.1},
    "fang_trimmed_mean@1": {},
    "fang_krum@1": {"noise": 0.01},
}


@pytest.mark.parametrize("method", EVERY)
def test_worker_processes_give_the_same_bits(method: str) -> None:
    given = experiment(method, EVERY[method], rounds=5)
    assert trained(given, "pool").encode() == trained(given, "serial").encode()


def test_a_ledger_gives_the_same_bits(tmp_path: Path) -> None:
    given = experiment("old_combination@1", {"last": 3}, rounds=5)
    finished = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    assert finished.final.encode() == trained(given).encode()


def sent(given: Experiment) -> list[dict[int, LocalUpdate]]:
    """All updates of all rounds, by participant."""
    rounds: list[dict[int, LocalUpdate]] = []

    class Watched(MemoryRecord):
        def keep(self, job: Any, trained: LocalUpdate) -> None:
            rounds[-1][job.number] = trained
            super().keep(job, trained)

        def ask(self) -> Any:
            rounds.append({})
            return super().ask()

    record = Watched(given)
    record.sums = False
    record._measurer = given.measurer()
    with open_backend("serial", given, 1) as opened:
        for _ in play(record, opened):
            pass
    return rounds


def parties(given: Experiment) -> tuple[list[int], list[int]]:
    honest = [number for number, name in enumerate(given.behaviours) if name == HONEST]
    return [number for number in range(13) if number not in honest], honest


def is_one_of(update: LocalUpdate, others: Sequence[LocalUpdate]) -> bool:
    return any(np.array_equal(update.delta, other.delta) for other in others)


def test_what_is_sent_again_was_revealed_before() -> None:
    for method in ("replay@1", "plagiarism@1"):
        given = experiment(method, {"noise": 0.0}, rounds=4)
        hostile, honest = parties(given)
        rounds = sent(given)
        for before, now in pairwise(rounds):
            for number in hostile:
                assert is_one_of(now[number], [before[other] for other in honest])
                assert now[number].examples == given.examples(number)
        assert not is_one_of(rounds[0][hostile[0]], [rounds[0][other] for other in honest])


def test_a_combination_lies_in_the_span_of_the_last_rounds() -> None:
    given = experiment("old_combination@1", {"noise": 0.0, "last": 2}, rounds=4)
    hostile, honest = parties(given)
    rounds = sent(given)
    known = np.stack([rounds[place][number].delta for place in (1, 2) for number in honest]).astype(np.float64)
    made = rounds[3][hostile[1]].delta
    weights, *_ = np.linalg.lstsq(known.T, made, rcond=None)
    np.testing.assert_allclose(weights @ known, made, atol=1e-6)
    assert weights.min() > -1e-4 and weights.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("features", ["row_means", "regression"])
def test_a_forecast_tells_something_of_what_no_public_vector_does(features: str) -> None:
    given = experiment("forecast@1", {"features": features, "noise": 0.0, "upon": 0.0}, rounds=6)
    hostile, honest = parties(given)
    rounds = sent(given)
    means = [np.mean([now[number].delta for number in honest], axis=0, dtype=np.float64) for now in rounds]
    public, _ = np.linalg.qr(np.stack(means[:5], axis=1))
    made = rounds[5][hostile[0]].delta.astype(np.float64)
    assert np.linalg.norm(public[:, 1:].T @ made) < 0.2 * np.linalg.norm(made)
    new = means[5] - public @ (public.T @ means[5])
    # Noise of 4,810 coordinates would have .014.
    assert new @ made / np.linalg.norm(new) / np.linalg.norm(made) > 0.1


def test_who_is_omniscient_sees_the_round_itself() -> None:
    given = experiment("mimic@1", {}, rounds=2)
    hostile, honest = parties(given)
    for now in sent(given):
        assert all(is_one_of(now[number], [now[other] for other in honest]) for number in hostile)
    outsider = experiment("mimic@1", {"knowledge": "protocol"}, rounds=2)
    assert not is_one_of(sent(outsider)[1][hostile[0]], [sent(outsider)[1][other] for other in honest])


def test_sybils_differ_by_their_noise_only() -> None:
    given, alone = experiment("sybil@1", {"noise": 0.3}, rounds=1), experiment(rounds=1)
    hostile, _ = parties(given)
    (now,) = sent(given)
    first = now[hostile[0]].delta
    assert np.array_equal(first, alone.trainer(hostile[0])(context(alone, hostile[0])).delta)
    for number in hostile[1:]:
        ratio = np.linalg.norm(now[number].delta - first) / np.linalg.norm(first)
        assert ratio == pytest.approx(0.3, rel=0.1)


def context(given: Experiment, number: int) -> TrainingContext:
    return TrainingContext(given.spec, 1, given.address(number), given.initial, None)


def test_attackers_are_honest_until_they_turn_and_claim_what_they_like() -> None:
    given = experiment("on_off@1", {"turn": 2, "attack": "over_claim@1", "params": {"steps": 7}}, rounds=2)
    hostile, _ = parties(given)
    first, second = sent(given)
    number = hostile[0]
    honest = experiment(rounds=2).trainer(number)(context(given, number))
    assert np.array_equal(first[number].delta, honest.delta) and first[number].examples == given.examples(number)
    assert (second[number].examples, second[number].steps) == (1_000_000, 7)


def test_groups_of_one_attack_keep_their_parameters() -> None:
    factors = [1.0, 3.0, 3.0]
    groups = [{"attack": {"method": "sign_flip@1", "params": {"factor": factor}}} for factor in (1.0, 3.0)]
    given = experiment(attackers=[groups[0], groups[1] | {"count": 2}], rounds=1)
    honest = experiment(rounds=1)
    for number, factor in zip(parties(given)[0], factors, strict=True):
        delta = honest.trainer(number)(context(honest, number)).delta
        assert np.array_equal(given.trainer(number)(context(given, number)).delta, np.float32(-factor) * delta)


def test_split_data_and_little_work_are_parts_of_one_data_set() -> None:
    given = experiment("split_data@1", rounds=1)
    hostile, _ = parties(given)
    (now,) = sent(given)
    assert sum(now[number].examples for number in hostile) == given.examples(hostile[0])
    lazy = experiment("little_work@1", {"most": 10}, rounds=1)
    made = lazy.trainer(hostile[0])(context(lazy, hostile[0]))
    # Ten examples are one batch in each of four epochs.
    assert made.steps == 4 and made.examples == lazy.examples(hostile[0])


def test_without_a_public_validation_set_there_is_nothing_to_train_on() -> None:
    given = experiment(rounds=1)
    trainer = given.trainer(0)
    assert isinstance(trainer, LocalTrainer)
    public, sealed = (
        Coalition([0], [1], lambda number: Colleague(given.address(number), trainer), known)
        for known in (lambda index: given.test, lambda index: None)
    )
    moved = given.initial.moved(given.initial.vector + np.float32(0.5))
    late = replace(context(given, 0), base=moved, before=given.initial, earlier=(given.initial,), index=2)
    rider = attacker("validation_training@1", {"noise": 0.0}, trainer, sealed)(late)
    np.testing.assert_allclose(rider.delta, 0.5, atol=0.01)
    assert np.abs(attacker("validation_training@1", {}, trainer, public)(late).delta - 0.5).max() > 0.1


def test_only_what_was_opened_of_a_validation_set_is_trained_on() -> None:
    seen = []
    for access in ("public", "opened", "sealed"):
        given = experiment("validation_training@1", {"noise": 0.0}, rounds=3)
        config = given.config.model_dump() | {"data": {"validation_access": access, "validation_slice": 30}}
        kept = make_experiment(ExperimentConfig.model_validate(config), Path())
        hostile, _ = parties(kept)
        seen.append([now[hostile[0]].steps for now in sent(kept)])
    # 180 examples in batches of 32; a block more of 30 each round; nothing, and no step.
    assert seen == [[24, 24, 24], [1, 4, 8], [1, 1, 1]]


def test_each_honest_update_is_computed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str]] = []
    train = LocalTrainer.__call__

    def counted(self: LocalTrainer, given: TrainingContext) -> LocalUpdate:
        calls.append((given.index, given.owner))
        return train(self, given)

    monkeypatch.setattr(LocalTrainer, "__call__", counted)
    given = experiment("min_max@1", {"knowledge": OMNISCIENT}, rounds=3)
    trained(given)
    assert len(calls) == len(set(calls)) == 3 * 10


def test_what_cannot_be_made_says_why() -> None:
    given = experiment()
    trainer = given.trainer(0)
    assert isinstance(trainer, LocalTrainer)
    with pytest.raises(ConfigError, match="made by several"):
        attacker("alie@1", {}, trainer)
    with pytest.raises(ConfigError, match="beyond the 64 inputs"):
        trained(experiment("backdoor@1", {"trigger": [64]}, rounds=1))
    with pytest.raises(ConfigError, match="does not have"):
        trained(experiment("backdoor@1", {"trigger": [1], "target": 10}, rounds=1))
