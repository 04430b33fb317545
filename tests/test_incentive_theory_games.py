"""Stackelberg games: published figures, equilibria from which nobody gains by moving, and leaders that learn."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedledger.platform.incentives.theory.pandey import Client
from fedledger.platform.incentives.theory.sarikaya import (
    Workers,
    equal_price,
    expected_maximum,
    optimal_prices,
)
from fedledger.platform.incentives.theory.zhan import Game, play_best_responses
from fedledger.platform.incentives.theory.zhan_bandits import EPSILON_GREEDY, UCB, Bandit, NoisyFollowers
from fedledger.platform.incentives.theory.zhan_policy import PolicyGradient
from fedledger.protocol.errors import ConfigError
from support.examples import examples

PAPER = Game((1.5, 4.0))
GAMES = (PAPER, Game((1.0, 1.2, 3.0, 0.8, 2.0)))
LEADERS = {"ucb": Bandit(UCB), "epsilon_greedy": Bandit(EPSILON_GREEDY, width=20.0)}
FRESH = range(1000, 1020)
"""Seeds on which nothing was tuned."""

games = st.builds(
    Game,
    st.lists(st.floats(0.1, 10), min_size=2, max_size=12).map(tuple),
    st.floats(0.5, 50),
)


class TestZhan:
    def test_published_figures(self) -> None:
        assert PAPER.optimal_reward() == pytest.approx(4.5, abs=1e-12)
        assert [round(each, 6) for each in PAPER.equilibrium(4.5)] == [0.595041, 0.22314]

    @examples(100)
    @given(games, st.floats(0.01, 100))
    def test_no_follower_gains_by_moving_also_if_it_stays_out(self, game: Game, reward: float) -> None:
        contributions = list(game.equilibrium(reward))
        for place, own in enumerate(contributions):
            utility = game.follower_utility(place, contributions, reward)
            assert utility >= -1e-12
            grid = [0.0, *np.geomspace(1e-6, 2, 40) * reward / game.costs[place], *(own * np.linspace(0.9, 1.1, 21))]
            for each in grid:
                tried = [*contributions[:place], each, *contributions[place + 1 :]]
                assert game.follower_utility(place, tried, reward) <= utility + 1e-9 * reward
            assert game.best_response(place, contributions, reward) == pytest.approx(own, abs=1e-9 * reward)

    @examples(100)
    @given(games)
    def test_the_leader_gains_by_no_other_reward(self, game: Game) -> None:
        def profit(reward: float) -> float:
            return game.leader_profit(sum(game.equilibrium(reward)), reward)

        best = game.optimal_reward()
        for each in np.linspace(0, game.valuation, 101):
            assert profit(float(each)) <= profit(best) + 1e-9 * game.valuation

    @examples(100)
    @given(games, st.floats(0.01, 100), st.lists(st.floats(0.01, 50), min_size=12, max_size=12))
    def test_best_responses_lead_to_the_equilibrium(self, game: Game, reward: float, start: list[float]) -> None:
        found = play_best_responses(game, reward, start[: len(game.costs)])
        assert found == pytest.approx(game.equilibrium(reward), abs=1e-8 * reward)

    def test_whole_steps_may_go_round_in_circles_where_half_ones_arrive(self) -> None:
        game, contributions = Game((0.1, 10.0)), [1.0, 1.0]
        seen = []
        for _ in range(500):
            for place in range(2):
                contributions[place] = game.best_response(place, contributions, 1.0)
            seen.append(tuple(contributions))
        away = [abs(first - game.equilibrium(1.0)[0]) for first, _ in seen[-50:]]
        assert max(away) > 0.1
        assert play_best_responses(game, 1.0, (1.0, 1.0)) == pytest.approx(game.equilibrium(1.0), abs=1e-9)

    def test_who_stays_out_depends_on_costs_alone(self) -> None:
        game = Game((1.0, 2.0, 30.0))
        assert game.active == (0, 1) and game.equilibrium(1e6)[2] == 0
        assert Game((1.0, 1.0, 1.0)).active == (0, 1, 2)
        # (M − 1)·c = C: the third would contribute nothing.
        assert Game((1.0, 2.0, 3.0)).active == (0, 1)

    def test_a_leader_that_values_little_posts_nothing(self) -> None:
        assert Game((1.5, 4.0), 5.0).optimal_reward() == 0

    @pytest.mark.parametrize("costs", [(), (1.0,), (1.0, 0.0), (1.0, float("nan"))])
    def test_wrong_costs_are_told(self, costs: tuple[float, ...]) -> None:
        with pytest.raises(ConfigError):
            Game(costs)

    def test_what_does_not_converge_is_told(self) -> None:
        with pytest.raises(ConfigError, match="have not converged"):
            play_best_responses(PAPER, 1.0, (1.0, 1.0), sweeps=2)
        with pytest.raises(ConfigError, match="start"):
            play_best_responses(PAPER, 1.0, (0.0, 0.0))
        with pytest.raises(ConfigError, match="start"):
            play_best_responses(PAPER, 1.0, (1.0,))


class TestLearnedLeaders:
    @pytest.mark.parametrize(("name", "game"), list(product(LEADERS, GAMES)))
    def test_a_bandit_comes_within_a_twentieth_of_the_optimum(self, name: str, game: Game) -> None:
        best = game.optimal_reward()
        learned = [LEADERS[name].learn(NoisyFollowers(game), seed) for seed in FRESH]
        assert sum(abs(each - best) <= best / 20 for each in learned) >= 19

    def test_a_bandit_follows_from_its_seed(self) -> None:
        bandit = Bandit(rounds=500, arms=11)
        learned = [bandit.learn(NoisyFollowers(PAPER, 0.5), seed) for seed in (*range(8), *range(8))]
        assert learned[:8] == learned[8:] and len(set(learned)) > 1

    def test_policy_gradient_comes_within_a_twentieth_of_the_optimum(self) -> None:
        assert PolicyGradient().learn(NoisyFollowers(PAPER), 77) == pytest.approx(4.5, rel=0.05)

    @pytest.mark.long
    @pytest.mark.parametrize("game", GAMES)
    def test_policy_gradient_does_so_from_nearly_every_seed(self, game: Game) -> None:
        best = game.optimal_reward()
        learned = [PolicyGradient().learn(NoisyFollowers(game), seed) for seed in FRESH]
        assert sum(abs(each - best) <= best / 20 for each in learned) >= 19

    def test_policy_gradient_follows_from_its_seed_and_leaves_torch_s_chance_alone(self) -> None:
        learner = PolicyGradient(rounds=64, batch=32)
        before = torch.random.get_rng_state()
        learned = [learner.learn(NoisyFollowers(PAPER), seed) for seed in (1, 1, 2)]
        assert learned[0] == learned[1] != learned[2]
        assert torch.equal(before, torch.random.get_rng_state())

    def test_the_environment_is_one_of_gymnasium(self) -> None:
        from gymnasium.utils.env_checker import check_env

        from fedledger.platform.incentives.theory.zhan_environment import ROUNDS, LeaderEnvironment

        environment = LeaderEnvironment(NoisyFollowers(PAPER, 0.0))
        check_env(environment, skip_render_check=True)
        seen, _ = environment.reset(seed=3)
        assert not seen.any()
        for turn in range(ROUNDS):
            seen, earned, over, cut, _ = environment.step(np.array([-0.1], dtype=np.float32))
            assert earned * 10 == pytest.approx(10 * log(1 + 4.5 / 5.5) - 4.5, rel=1e-6)
            assert (over, cut) == (False, turn == ROUNDS - 1)
        assert seen[-2:].tolist() == pytest.approx([0.45, 4.5 / 10], rel=1e-6)

    def test_a_missing_library_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "stable_baselines3", None)
        with pytest.raises(ConfigError, match=r"fedledger\[incentives\]"):
            PolicyGradient().learn(NoisyFollowers(PAPER), 1)


class TestSarikaya:
    def test_published_figures(self) -> None:
        workers = Workers((10.0,) * 5)
        price = equal_price(workers, 1.0)
        power = workers.best_response(0, price)
        assert (round(price, 7), round(power, 6)) == (0.0632456, 3.162278)
        assert round(workers.expected_time([power] * 5), 6) == 7.220534

    def test_the_numerical_optimum_of_equal_workers_is_the_closed_form(self) -> None:
        found = optimal_prices(Workers((10.0,) * 5), 1.0)
        assert found.prices == pytest.approx((0.0632456,) * 5, rel=1e-5)
        assert found.expected_time == pytest.approx(7.220534, rel=1e-6) and found.spent <= 1 + 1e-9

    @examples(100)
    @given(st.lists(st.floats(0.05, 20), min_size=1, max_size=8))
    def test_the_expected_maximum_is_the_integral_over_its_tail(self, rates: list[float]) -> None:
        from scipy.integrate import quad

        def tail(t: float) -> float:
            return float(1 - np.prod(-np.expm1(-np.array(rates) * t)))

        by_parts = quad(tail, 0, 5 / min(rates), limit=400)[0] + quad(tail, 5 / min(rates), 60 / min(rates))[0]
        assert expected_maximum(rates) == pytest.approx(by_parts, rel=1e-6)

    def test_the_expected_maximum_of_equal_rates_is_a_harmonic_number(self) -> None:
        for count in range(1, 17):
            harmonic = sum(1 / k for k in range(1, count + 1))
            assert expected_maximum([2.0] * count) == pytest.approx(harmonic / 2, rel=1e-9)

    @examples(100)
    @given(st.floats(0, 10), st.floats(0.1, 50), st.one_of(st.none(), st.floats(0.1, 10)))
    def test_no_worker_gains_by_another_power(self, price: float, cycles: float, most: float | None) -> None:
        workers = Workers((cycles,), most_power=most)
        power = workers.best_response(0, price)
        best = workers.utility(0, price, power)
        for each in np.linspace(0, most or 3 * power + 1, 101):
            assert workers.utility(0, price, float(each)) <= best + 1e-9

    @examples(40)
    @given(
        st.lists(st.floats(0.5, 40), min_size=1, max_size=6),
        st.floats(0.1, 10),
        st.one_of(st.none(), st.floats(0.5, 20)),
        st.integers(0, 2**32),
    )
    def test_no_other_prices_within_the_budget_are_faster(
        self, cycles: list[float], budget: float, most: float | None, seed: int
    ) -> None:
        workers = Workers(tuple(cycles), most_power=most)
        found = optimal_prices(workers, budget)
        assert found.spent <= budget * (1 + 1e-9)
        for place, (price, power) in enumerate(zip(found.prices, found.powers, strict=True)):
            assert workers.best_response(place, price) == pytest.approx(power, rel=1e-9)
        rng = np.random.default_rng(seed)
        own = np.array([q * p for q, p in zip(found.prices, found.powers, strict=True)]) / budget
        for spread in (1.0, 0.1, 0.01):
            for _ in range(20):
                shares = own * np.exp(spread * rng.standard_normal(len(cycles)))
                shares /= max(1.0, shares.sum())
                powers = np.sqrt(budget * shares / (2 * workers.kappa * np.array(cycles)))
                powers = powers if most is None else np.minimum(powers, most)
                assert workers.expected_time(powers.tolist()) >= found.expected_time * (1 - 1e-6)

    def test_all_work_at_their_limit_where_the_budget_has_more_than_that(self) -> None:
        workers = Workers((1.0, 2.0), most_power=1.5)
        found = optimal_prices(workers, 1e3)
        assert found.powers == (1.5, 1.5) and found.spent == pytest.approx(2 * 1e-3 * 3 * 1.5**2)
        assert equal_price(replace(workers, cycles=(1.0, 1.0)), 1e3) == pytest.approx(2e-3 * 1.5)

    def test_wrong_numbers_are_told(self) -> None:
        with pytest.raises(ConfigError, match="differ"):
            equal_price(Workers((1.0, 2.0)), 1.0)
        for workers in ((), (0.0,), (1.0,) * 17):
            with pytest.raises(ConfigError):
                Workers(workers)
        with pytest.raises(ConfigError, match="17 workers"):
            expected_maximum([1.0] * 17)
        with pytest.raises(ConfigError, match="budget"):
            optimal_prices(Workers((1.0,)), -1.0)


class TestPandey:
    def test_published_figure(self) -> None:
        assert round(Client(2.0, 0.5, 0.6, 1.0).best_accuracy(), 8) == 0.15051936

    @examples(200)
    @given(st.floats(0, 50), st.floats(0, 50), st.floats(0, 0.95), st.floats(0.1, 10))
    def test_no_other_accuracy_is_better(self, reward: float, upload: float, weight: float, gamma: float) -> None:
        client = Client(reward, upload, weight, gamma)
        if client.exponent > 700:
            return
        best = client.best_accuracy()
        assert 0 < best <= 1
        for each in np.concatenate([np.geomspace(1e-6, 1, 200), np.clip(best * np.linspace(0.9, 1.1, 21), 1e-300, 1)]):
            assert client.utility(float(each)) <= client.utility(best) + 1e-9 * (1 + abs(client.utility(best)))
        if client.exponent > 1:
            assert 1 / best - log(1 / best) == pytest.approx(client.exponent, rel=1e-8, abs=1e-8)

    def test_a_client_works_the_more_the_more_it_gets_and_not_at_all_for_little(self) -> None:
        accuracies = [Client(reward, 0.5, 0.6).best_accuracy() for reward in np.linspace(0, 20, 50)]
        assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] == 1 and accuracies[-1] < 0.03

    def test_what_is_out_of_range_is_told(self) -> None:
        with pytest.raises(ConfigError, match="at most 700"):
            Client(1e6, 0.5, 0.6).best_accuracy()
        with pytest.raises(ConfigError, match="weight"):
            Client(1.0, 1.0, 1.0)
