"""Auctions, shares of a budget, costs of devices and figures of fairness: published figures and properties."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from fedledger.platform.incentives.theory.auctions import Number, proportional_share, vcg_lowest
from fedledger.platform.incentives.theory.devices import Training, Upload, communication_efficiency
from fedledger.platform.incentives.theory.fli import Owed, claims, shares
from fedledger.platform.incentives.theory.fmore import Auction, uniform
from fedledger.platform.incentives.theory.properties import gini, jain, pearson, spearman, variance, worst_mean
from fedledger.protocol.errors import ConfigError
from support.examples import examples

whole_bids = st.lists(st.integers(0, 12), min_size=2, max_size=6)


class TestFMore:
    def test_published_figures(self) -> None:
        assert round(Auction(5, 1).profit(0.8), 9) == 0.16
        assert round(Auction(5, 2).profit(0.8), 9) == 0.26

    @examples(50)
    @given(st.integers(2, 20), st.floats(0.01, 1))
    def test_one_uniform_winner_asks_for_an_nth_of_its_surplus(self, nodes: int, u: float) -> None:
        assert Auction(nodes, 1).profit(u) == pytest.approx(u / nodes, rel=1e-9)

    @pytest.mark.parametrize(
        "auction",
        [
            Auction(5, 1),
            Auction(5, 2),
            Auction(8, 3, uniform(2.0, 5.0), 2.0),
            Auction(6, 2, lambda u: float(beta(2, 5).cdf(u))),
            Auction(4, 2, lambda u: float(np.interp(u, [0, 0.2, 0.7, 1.0], [0, 0.5, 0.6, 1.0]))),
        ],
    )
    def test_no_node_gains_by_the_score_of_another_surplus(self, auction: Auction) -> None:
        high = 5.0 if auction.least else 1.0
        grid = np.linspace(auction.least, high, 41)[1:]
        scores = [auction.score(float(u)) for u in grid]
        assert scores == sorted(scores)
        for u in grid[::4]:
            own = auction.expected_utility(float(u), float(u))
            assert own >= 0
            for claimed in grid:
                assert auction.expected_utility(float(u), float(claimed)) <= own + 1e-9

    @pytest.mark.parametrize("winners", [1, 2])
    def test_simulated_auctions_pay_what_the_formula_says(self, winners: int) -> None:
        auction, rng = Auction(5, winners), np.random.default_rng(5)
        others = np.sort(rng.random((200_000, 4)), axis=1)
        # Scores increase with surpluses, so a bid wins where fewer than K others have more.
        wins = others[:, 4 - winners] < 0.8
        gained = wins * auction.profit(0.8)
        error = gained.std() / np.sqrt(len(gained))
        assert abs(gained.mean() - auction.expected_utility(0.8, 0.8)) <= 4 * error

    def test_the_probability_to_win_is_that_of_fewer_than_k_above(self) -> None:
        auction = Auction(6, 3)
        expected = sum(comb(5, i) * 0.3**i * 0.7 ** (5 - i) for i in range(3))
        assert auction.win_probability(0.7) == pytest.approx(expected)
        assert auction.profit(0.0) == 0 and auction.win_probability(1.0) == 1

    def test_what_is_out_of_range_is_told(self) -> None:
        for nodes, winners in ((5, 5), (1, 1), (5, 0)):
            with pytest.raises(ConfigError):
                Auction(nodes, winners)
        with pytest.raises(ConfigError, match="least surplus"):
            Auction(5, 1).profit(-0.1)
        with pytest.raises(ConfigError, match="lower"):
            uniform(1.0, 1.0)


class TestVCG:
    def test_published_figures(self) -> None:
        result = vcg_lowest((3, 1, 4, 1.5, 9), 2)
        assert result.winners == (1, 3) and result.pays == (0, 3, 0, 3, 0)

    @examples(200)
    @given(whole_bids, st.data())
    def test_no_misreport_helps_and_the_truth_never_costs(self, costs: list[int], data: st.DataObject) -> None:
        winners = data.draw(st.integers(1, len(costs) - 1))
        truth = vcg_lowest(costs, winners)
        least = min(sum(costs[k] for k in chosen) for chosen in combinations(range(len(costs)), winners))
        assert sum(costs[k] for k in truth.winners) == least
        for place, cost in enumerate(costs):
            assert truth.utility(place, cost) >= 0
            for bid in range(15):
                lie = vcg_lowest([*costs[:place], bid, *costs[place + 1 :]], winners)
                assert lie.utility(place, cost) <= truth.utility(place, cost)

    @examples(100)
    @given(whole_bids, st.data())
    def test_a_winner_is_paid_what_its_presence_costs_the_others(self, costs: list[int], data: st.DataObject) -> None:
        winners = data.draw(st.integers(1, len(costs) - 1))
        result = vcg_lowest(costs, winners)
        for place in result.winners:
            without = sum(sorted([*costs[:place], *costs[place + 1 :]])[:winners])
            others = sum(costs[k] for k in result.winners if k != place)
            assert result.pays[place] == without - others

    @pytest.mark.parametrize(
        ("bids", "winners"), [((1, 2), 2), ((1,), 1), ((1, -2), 1), ((1, float("nan")), 1), ((1, True), 1)]
    )
    def test_what_is_out_of_range_is_told(self, bids: Sequence[Number], winners: int) -> None:
        with pytest.raises(ConfigError):
            vcg_lowest(bids, winners)


class TestProportionalShare:
    def test_a_case_by_hand(self) -> None:
        # Ratios 1, 2, 3, 8: 1 ≤ 12/1, 2 ≤ 12/2, 3 ≤ 12/3, 8 > 12/4; all get min(12/3, 8).
        result = proportional_share((1, 2, 3, 8), (1, 1, 1, 1), 12)
        assert result.winners == (0, 1, 2) and result.pays == (4, 4, 4, 0)
        # 5 > 12/3, and its ratio of 5 is above 12/2.
        assert proportional_share((1, 2, 5), (1, 1, 1), 12).pays == (5, 5, 0)
        # By reputation: ratios 3/2, 2 and 5; 3 ≤ 2·9/2, 2 ≤ 9/3, 5 > 9/4.
        assert proportional_share((3, 2, 5), (2, 1, 1), 9).pays == (6, 3, 0)

    @examples(200)
    @given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=1, max_size=5), st.integers(1, 25))
    def test_no_misreport_helps_and_the_budget_holds(self, rows: list[tuple[int, int]], budget: int) -> None:
        costs, values = [cost for cost, _ in rows], [value for _, value in rows]
        truth = proportional_share(costs, values, budget)
        assert sum(truth.pays) <= budget
        for place, cost in enumerate(costs):
            assert truth.utility(place, cost) >= 0
            for bid in (Fraction(half, 2) for half in range(52)):
                lie = proportional_share([*costs[:place], bid, *costs[place + 1 :]], values, budget)
                assert sum(lie.pays) <= budget
                assert lie.utility(place, cost) <= truth.utility(place, cost)

    def test_nobody_wins_where_everybody_asks_for_more_than_the_budget(self) -> None:
        result = proportional_share((5, 6), (1, 1), 4)
        assert result.winners == () and result.pays == (0, 0)
        assert proportional_share((), (), 4).pays == ()

    @pytest.mark.parametrize(
        ("bids", "values", "budget"),
        [((1,), (1, 2), 1), ((1,), (0,), 1), ((1,), (1,), 0), ((-1,), (1,), 1), ((1,), (float("inf"),), 1)],
    )
    def test_what_is_out_of_range_is_told(
        self, bids: Sequence[Number], values: Sequence[Number], budget: Number
    ) -> None:
        with pytest.raises(ConfigError):
            proportional_share(bids, values, budget)


class TestFLI:
    OWED = Owed((2.0, 0.0, 0.0), (1.0, 0.0, 0.0))

    @pytest.mark.parametrize(
        ("waiting", "paid"),
        [((1.0, 0.0, 0.0), (1.379310, 0.574713, 0.045977)), ((0.0,) * 3, (1.298701, 0.649351, 0.051948))],
    )
    def test_published_figures(self, waiting: tuple[float, ...], paid: tuple[float, ...]) -> None:
        claimed = claims((1.0, 2.0, 0.0), (1.0, 0.5, 0.2), self.OWED, waiting)
        assert tuple(round(each, 6) for each in shares(claimed, 2.0)) == paid

    @examples(100)
    @given(st.lists(st.floats(0, 100), min_size=1, max_size=10), st.floats(0, 100))
    def test_the_budget_is_paid_whole_in_proportion(self, claimed: list[float], budget: float) -> None:
        paid = shares(claimed, budget)
        assert sum(paid) == pytest.approx(budget)
        if sum(claimed) > 0:
            for each, share in zip(claimed, paid, strict=True):
                assert share * sum(claimed) == pytest.approx(each * budget, rel=1e-9, abs=1e-9)

    def test_what_is_owed_is_made_good_over_time_and_then_waits_for_nothing(self) -> None:
        owed, costs = Owed((30.0, 0.0), (0.0, 0.0)), (1.0, 1.0)
        regrets, first = [], []
        for _ in range(60):
            waiting = owed.waiting(costs)
            paid = shares(claims((1.0, 1.0), costs, owed, waiting), 4.0)
            owed = owed.after(costs, waiting, paid)
            regrets.append(owed.regrets[0])
            first.append(paid[0])
        assert first[0] > 3.5 and first[-1] == pytest.approx(2.0, rel=1e-3)
        assert regrets[-1] == 0 and owed.waiting(costs) == (0.0, 0.0)

    def test_a_round_by_hand(self) -> None:
        after = self.OWED.after((1.0, 0.5, 0.2), (1.0, 0.0, 0.0), (1.5, 0.25, 0.3))
        assert after.regrets == (1.5, 0.25, 0.0) and after.waits == (0.5, 0.0, 0.0)
        assert self.OWED.waiting((0.7, 0.7, 0.7)) == (0.7, 0.0, 0.0)

    def test_what_is_out_of_range_is_told(self) -> None:
        with pytest.raises(ConfigError, match="waits"):
            Owed((1.0,), ())
        with pytest.raises(ConfigError, match="regrets"):
            Owed((-1.0,), (0.0,))
        with pytest.raises(ConfigError, match="3 participants"):
            claims((1.0,), (1.0,), self.OWED, (0.0,))
        with pytest.raises(ConfigError, match="cost"):
            claims((1.0,) * 3, (1.0, float("nan"), 1.0), self.OWED, (0.0,) * 3)
        with pytest.raises(ConfigError, match="nobody"):
            shares((), 1.0)
        assert shares((0.0, 0.0), 1.0) == (0.5, 0.5)


class TestDevices:
    def test_published_figures(self) -> None:
        training, upload = Training(), Upload()
        assert training.joules == pytest.approx(4.0e-3) and training.seconds == pytest.approx(5e-3)
        assert round(upload.bits_per_second / 1e6, 4) == 6.7494
        assert round(upload.seconds * 1e3, 4) == 4.1633
        assert round(upload.joules * 1e6, 2) == 41.63
        assert round(communication_efficiency(training, upload), 6) == 0.454348

    def test_a_simulated_device_costs_what_the_formulas_say(self) -> None:
        from fedledger.platform.devices.fleet import FleetConfig, KindConfig, ShannonConfig, draw_fleet

        channel = ShannonConfig(bandwidth_mhz=20, transmit_w=0.01, nearest_m=500, farthest_m=500)
        config = FleetConfig(kinds=[KindConfig(shannon=channel)], gigahertz=2, cycles_per_example=20_000)
        device = draw_fleet(config, ["0x" + "11" * 20], [500], 1, 3513, 1).devices["0x" + "11" * 20]
        training, upload = Training(), Upload(bits=8 * 3513)
        assert device.cycles_per_second == training.hertz
        assert device.cycle_energy_fj * 1e-15 * 500 * 20_000 == pytest.approx(training.joules, rel=1e-9)
        (_, _, up), *_ = device.link.rates
        assert up == int(upload.bits_per_second / 8)

    def test_a_dead_link_is_told(self) -> None:
        with pytest.raises(ConfigError, match="less than a bit"):
            _ = Upload(transmit_dbm=-100, distance=1e7).seconds
        with pytest.raises(ConfigError, match="distance"):
            Upload(distance=0)


class TestProperties:
    def test_cases_by_hand(self) -> None:
        assert pearson((1, 2, 3), (2, 4, 6)) == pytest.approx(1) and pearson((1, 2, 3), (3, 2, 1)) == pytest.approx(-1)
        assert spearman((1, 2, 3, 4), (1, 10, 100, 1000)) == pytest.approx(1)
        assert spearman((1, 2, 2, 3), (1, 2, 3, 4)) == pytest.approx(0.9486832981)
        assert jain((1, 1, 1, 1)) == pytest.approx(1) and jain((1, 0, 0, 0)) == pytest.approx(0.25)
        assert gini((1, 1, 1)) == pytest.approx(0) and gini((0, 0, 0, 1)) == pytest.approx(0.75)
        assert jain((1, 2, 3)) == pytest.approx(36 / (3 * 14)) and gini((1, 2, 3)) == pytest.approx(2 / 9)
        assert worst_mean(range(1, 21)) == 1.5 and worst_mean((5, 4, 3)) == 3 and worst_mean((1, 3), 1.0) == 2
        assert worst_mean(range(30), 0.1) == 1 and variance((1, 3)) == 1

    @examples(200)
    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
    def test_indices_are_their_definitions_whatever_the_unit(self, values: list[float]) -> None:
        if max(values) < 1e-3:
            return
        count, mean = len(values), sum(values) / len(values)
        pairs = sum(abs(first - second) for first in values for second in values)
        assert gini(values) == pytest.approx(pairs / (2 * count**2 * mean), abs=1e-9)
        assert jain(values) == pytest.approx(sum(values) ** 2 / (count * sum(each**2 for each in values)), rel=1e-9)
        assert jain([1e290 * each for each in values]) == pytest.approx(jain(values), rel=1e-9)
        assert 1 / count - 1e-12 <= jain(values) <= 1 + 1e-12 and -1e-12 <= gini(values) <= 1 - 1 / count + 1e-12

    def test_what_is_out_of_range_is_told(self) -> None:
        for call in (
            lambda: jain((0.0, 0.0)),
            lambda: gini((1.0, -1.0)),
            lambda: variance(()),
            lambda: worst_mean((1.0, float("nan"))),
            lambda: worst_mean((1.0,), 0.0),
            lambda: pearson((1, 1), (1, 2)),
            lambda: spearman((1, 2), (1, 2, 3)),
            lambda: pearson((1,), (1,)),
        ):
            with pytest.raises(ConfigError):
                call()
