"""What attackers compute from what they know: the formulas of papers, by hand and beside ByzFL's attacks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.multi_krum import MultiKrum
from fedledger.learning.data import Dataset
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.adaptive import strongest
from fedledger.platform.attacks.base import attacker
from fedledger.platform.attacks.coalition import OMNISCIENT, OWN, PROTOCOL, Coalition, Colleague
from fedledger.platform.attacks.colluding import Crafted
from fedledger.platform.attacks.edge_case_backdoor import rare_examples
from fedledger.platform.attacks.fang_krum import FangKrum, selected_by_krum
from fedledger.platform.attacks.fang_trimmed_mean import FangTrimmedMean
from fedledger.platform.attacks.mimic import most_extreme
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ConfigError
from support.peers import byzfl_aggregators

HONEST = np.random.default_rng(7).normal(0.3, 1.0, (10, 40))
SMALL = np.array([[1.0, -1.0, 2.0], [2.0, -3.0, -1.0], [3.0, -2.0, 2.0]])


def byzfl_attacks() -> ModuleType:
    """ByzFL's module of attacks: ``InnerProductManipulation``, ``ALittleIsEnough``, …"""
    # Its rules make the package known without its benchmark.
    byzfl_aggregators()
    return import_module("byzfl.attacks.attacks")


@cache
def experiment() -> Experiment:
    """Thirteen honest participants with the digits."""
    config = {
        "name": "formulas",
        "seed": 5,
        "participants": 13,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "training": {"pipeline": "plain", "rounds": 2},
    }
    return make_experiment(ExperimentConfig.model_validate(config), Path())


def local(number: int = 0) -> LocalTrainer:
    trainer = experiment().trainer(number)
    assert isinstance(trainer, LocalTrainer)
    return trainer


def context(number: int = 0) -> TrainingContext:
    given = experiment()
    return TrainingContext(given.spec, 1, given.address(number), given.initial, None)


def coalition(members: int = 3) -> Coalition:
    numbers = range(10 + members)
    return Coalition(numbers[10:], numbers[:10], lambda number: Colleague(experiment().address(number), local(number)))


def crafted(method: str, members: int = 3, **params: Any) -> Crafted:
    made = attacker(method, params, local(), coalition(members))
    assert isinstance(made, Crafted)
    return made


def test_inner_product_manipulation_is_byzfls() -> None:
    peers = byzfl_attacks()
    for factor in (0.1, 0.5, 10.0):
        expected = peers.InnerProductManipulation(tau=factor)(HONEST)
        np.testing.assert_allclose(crafted("ipm@1", factor=factor).craft(HONEST), expected, atol=1e-12)
    # ByzFL's sign flipping turns the mean's signs, which is inner product manipulation by 1.
    np.testing.assert_allclose(crafted("ipm@1", factor=1.0).craft(HONEST), peers.SignFlipping()(HONEST), atol=1e-12)


def test_a_little_is_enough_is_byzfls_but_for_its_sample_deviation() -> None:
    # ByzFL adds τ sample deviations, where the paper subtracts z deviations of the population.
    tau = -1.5 * np.sqrt((len(HONEST) - 1) / len(HONEST))
    expected = byzfl_attacks().ALittleIsEnough(tau=float(tau))(HONEST)
    np.testing.assert_allclose(crafted("alie@1", z=1.5).craft(HONEST), expected, atol=1e-12)


def test_a_mimic_repeats_one_honest_row_as_byzfls_does() -> None:
    chosen = most_extreme(HONEST.astype(np.float32))
    assert np.array_equal(byzfl_attacks().Mimic(epsilon=chosen)(HONEST), HONEST[chosen])
    # Of rows on a line it is the one that is farthest out.
    assert most_extreme(np.array([[0.0, 1.0], [1.0, 1.0], [-3.0, 1.0], [1.5, 1.0]], np.float32)) == 2


def test_infinities_are_byzfls() -> None:
    sent = attacker("invalid_numbers@1", {"number": "inf", "share": 1.0}, local())(context()).delta
    assert np.array_equal(sent, byzfl_attacks().Inf()(np.zeros((3, len(sent)), np.float32)))


@pytest.mark.parametrize(("number", "expected"), [("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf), ("1e38", 1e38)])
def test_one_invalid_number_is_enough_for_a_mean_of_floating_point_numbers(number: str, expected: float) -> None:
    honest = local()(context()).delta
    sent = attacker("invalid_numbers@1", {"number": number}, local())(context()).delta
    np.testing.assert_array_equal(sent[:1], np.float32(expected))
    np.testing.assert_array_equal(sent[1:], honest[1:])
    mean = np.asarray(np.mean([honest] * 12 + [sent], axis=0, dtype=np.float64))
    assert not np.abs(mean[0]) < 1e36
    several = attacker("invalid_numbers@1", {"number": number, "share": 0.5}, local())(context()).delta
    assert (several != honest).sum() == len(honest) // 2


def test_gaussian_noise_has_the_deviation_that_it_says() -> None:
    sent = attacker("gaussian@1", {"deviation": 0.1}, local())(context()).delta
    assert abs(sent.mean()) < 0.02 and sent.std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("direction", ["mean", "deviation", "sign"])
def test_min_max_and_min_sum_go_as_far_as_their_distances_allow(direction: str) -> None:
    between = np.square(HONEST[:, None] - HONEST[None]).sum(axis=2)
    for method, measure in (("min_max@1", np.max), ("min_sum@1", np.sum)):
        made = crafted(method, direction=direction).craft(HONEST)
        most = measure(between, axis=1).max()
        farther = HONEST.mean(axis=0) + 1.001 * (made - HONEST.mean(axis=0))
        assert measure(np.square(HONEST - made).sum(axis=1)) <= most * (1 + 1e-12)
        assert measure(np.square(HONEST - farther).sum(axis=1)) > most


def test_fangs_deviation_lies_beyond_the_honest_on_the_side_that_the_mean_leaves() -> None:
    knowing = crafted("fang_trimmed_mean@1", knowledge=OMNISCIENT)
    assert isinstance(knowing, FangTrimmedMean)
    # The means are 2, -2 and 1: below the least in the first and the last coordinate, above the largest in the other.
    assert knowing.craft(SMALL, 0.0).tolist() == [1.0, -1.0, -1.0]
    assert knowing.craft(SMALL, 1.0).tolist() == [0.5, -0.5, -2.0]
    outsider = crafted("fang_trimmed_mean@1")
    assert isinstance(outsider, FangTrimmedMean)
    mean, spread, away = SMALL.mean(axis=0), SMALL.std(axis=0), np.array([-1, 1, -1])
    np.testing.assert_allclose(outsider.craft(SMALL, 0.0), mean + 3 * spread * away)
    np.testing.assert_allclose(outsider.craft(SMALL, 1.0), mean + 4 * spread * away)
    drawn = outsider.crafting(context())(SMALL)
    assert ((np.abs(drawn - mean) >= 3 * spread) & (np.abs(drawn - mean) <= 4 * spread)).all()
    assert not np.array_equal(drawn, outsider.crafting(context(1))(SMALL))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_fangs_deviation_moves_a_median_to_the_edge_of_the_honest(side: float) -> None:
    rows = side * (HONEST + 5.0)
    made = crafted("fang_trimmed_mean@1", knowledge=OMNISCIENT).craft(rows)
    moved = np.median(np.vstack([rows, np.tile(made, (9, 1))]), axis=0)
    assert (side * moved <= side * np.sort(rows, axis=0)[0 if side > 0 else -1] + 1e-9).all()


def krums(rows: np.ndarray, f: int) -> np.ndarray:
    """The update that the rule itself selects."""
    whole = np.rint(rows * 2**20).astype(np.int64)
    return aggregate(MultiKrum(f=f, m=1), Rows(whole, [1] * len(whole)), 2**20).delta / 2**20


def test_krum_selects_what_fangs_attack_sends_and_nothing_twice_as_far() -> None:
    made = crafted("fang_krum@1", knowledge=OMNISCIENT).craft(HONEST)
    signs = np.sign(HONEST.mean(axis=0))
    factor = np.abs(made).max()
    assert factor > 1e-3
    np.testing.assert_allclose(made, -factor * signs)
    for times, selected in ((1, True), (2, False)):
        krum = krums(np.vstack([HONEST, np.tile(times * made, (3, 1))]), f=3)
        assert np.allclose(krum, times * made, atol=1e-5) == selected


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_the_attackers_krum_is_the_rule_itself(copies: int) -> None:
    told = []
    for factor in (0.01, 0.1, 0.3, 0.6, 1.0, 3.0):
        made = -factor * np.sign(HONEST.mean(axis=0))
        between = np.square(HONEST[:, None] - HONEST[None]).sum(axis=2)
        told.append(selected_by_krum(between, np.square(HONEST - made).sum(axis=1), copies))
        krum = krums(np.vstack([HONEST, np.tile(made, (copies, 1))]), f=copies)
        assert told[-1] == np.allclose(krum, made, atol=1e-5)
    assert any(told) and not all(told)


def test_fangs_attack_on_krum_gives_up_where_nothing_is_selected() -> None:
    alone = crafted("fang_krum@1", members=1, knowledge=OMNISCIENT)
    assert isinstance(alone, FangKrum)
    # Nothing on the other side of zero is near to honest updates that agree.
    assert alone.craft(0.01 * HONEST + 100).tolist() == [-1e-5] * 40
    assert np.isfinite(alone.craft(HONEST[:1])).all() and np.isfinite(alone.craft(np.zeros((3, 4)))).all()


def test_attackers_estimate_from_no_more_than_they_know() -> None:
    one, several, now = coalition(1), coalition(3), context(10)
    moved = experiment().initial.moved(experiment().initial.vector + np.float32(0.1))
    later = replace(now, index=2, base=moved, before=now.base, earlier=(now.base,))
    for given, level, count in (
        (one, OWN, 1),
        (one, PROTOCOL, 11),
        (one, OMNISCIENT, 10),
        (several, OWN, 3),
        (several, PROTOCOL, 3),
    ):
        assert len(given.estimates(later, level)) == count
    assert np.array_equal(one.estimates(later, OWN)[0].delta, local(10)(later).delta)
    np.testing.assert_array_equal(one.estimates(later, PROTOCOL)[1].delta, local(0)(context(0)).delta)


def test_late_work_is_that_of_an_earlier_round() -> None:
    bases = [
        experiment().initial.moved(experiment().initial.vector * np.float32(scale)) for scale in (1, 0.9, 0.8, 0.7)
    ]

    def at(index: int) -> TrainingContext:
        earlier = tuple(reversed(bases[: index - 1]))
        return replace(context(), index=index, base=bases[index - 1], before=(*earlier, None)[0], earlier=earlier)

    def sent(index: int, **params: Any) -> np.ndarray:
        return attacker("delayed@1", params, local(), coalition())(at(index)).delta

    honest = {index: local()(at(index)).delta for index in range(1, 5)}
    for index, then in ((1, 1), (2, 1), (3, 1), (4, 2)):
        assert np.array_equal(sent(index, late=2), honest[then])
    for index, then in ((1, 1), (2, 1), (3, 1), (4, 4)):
        assert np.array_equal(sent(index, late=0, every=3), honest[then])
    again = sent(3, late=0, every=3, noise=0.1) - honest[1]
    assert np.linalg.norm(again) == pytest.approx(0.1 * np.linalg.norm(honest[1]), rel=0.2)


def test_rare_examples_are_the_farthest_of_their_class_and_farther_still() -> None:
    inputs = np.array([[0.5], [0.5], [0.5], [0.9], [0.0], [1.0]], np.float32)
    data = Dataset(inputs, np.array([1, 1, 1, 1, 0, 0], np.int64), 3)
    rare = rare_examples(data, source=1, target=2, tail=0.25, stretch=1.0)
    assert rare.inputs.tolist() == [[np.float32(0.9)]] and rare.targets.tolist() == [2]
    # The mean is .6: twice as far is 1.2, beyond all inputs.
    assert rare_examples(data, 1, 2, 0.25, 2.0).inputs.tolist() == [[1.0]]
    assert rare_examples(data, 1, 2, 0.5, 2.0).inputs.ravel().tolist() == pytest.approx([1.0, 0.4])
    assert len(rare_examples(data, 2, 1, 0.5, 2.0)) == 0
    with pytest.raises(ConfigError, match="last class"):
        rare_examples(data, 1, 3, 0.5, 2.0)
    with pytest.raises(ConfigError, match="float32"):
        rare_examples(replace(data, inputs=data.inputs.astype(np.int64)), 1, 2, 0.5, 2.0)


def test_the_search_is_no_worse_than_byzfls() -> None:
    """Both look for the factor at which a trimmed mean, or Krum, moves farthest from the honest."""
    peers, mean = byzfl_attacks(), HONEST.mean(axis=0)
    for rule in (byzfl_aggregators().TrMean(f=3), byzfl_aggregators().Krum(f=3)):

        def harm(factor: float, rule: Any = rule) -> float:
            return float(np.linalg.norm(rule(np.vstack([HONEST, np.tile(-factor * mean, (3, 1))])) - mean))

        theirs = peers.Optimal_InnerProductManipulation(agg=rule, pre_agg_list=[], f=3, evals=20)(HONEST)
        found = harm(float(-(theirs @ mean) / (mean @ mean)))
        assert harm(strongest(harm, 19)) >= 0.95 * found


def test_the_search_finds_what_passes() -> None:
    for limit in (0.013, 0.7, 1.0, 37.0):

        def passing(factor: float, limit: float = limit) -> float:
            return factor if factor <= limit else 0.0

        found = strongest(passing, 16)
        assert 0.9 * limit <= found <= limit
    assert strongest(lambda factor: factor, 10) == 2**10 - 1
    assert strongest(lambda factor: -factor, 10) == 0.0
    assert strongest(lambda factor: np.nan if factor else 0.0, 10) == 0.0
