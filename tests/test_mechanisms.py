"""Mechanisms: what papers and hands compute, and what holds for every one of them, whatever is reported."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.mechanisms import whole_tallies
from fedledger.aggregator.mechanisms.base import MECHANISMS, PROPERTIES, Learning, Market, Offer, Seen, Terms
from fedledger.aggregator.mechanisms.bids import affordable, ranked
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM
from support.documents import blocks
from support.examples import examples
from support.markets import (
    MENU,
    PARAMETERS,
    REPORTS,
    address,
    asked,
    auction,
    delivered,
    market,
    markets,
    mechanism,
    played,
    results,
)

EVERY = pytest.mark.parametrize("key", sorted(PARAMETERS))


def by_place(pays: dict[str, int]) -> dict[int, int]:
    return {int(owner, 16): units for owner, units in pays.items()}


def test_every_mechanism_is_tried() -> None:
    assert set(MECHANISMS) == set(PARAMETERS)
    for key in MECHANISMS:
        made = mechanism(key)
        assert set(made.reports) <= set(REPORTS)
        assert made.promises <= set(PROPERTIES)
        assert made.chooses or made.select(market(auction([1]), 1)) == {address(0): Terms()}


@EVERY
@given(data=st.data())
@examples(150)
def test_pay_is_within_the_budget_and_for_updates_that_count(key: str, data: st.DataObject) -> None:
    method, here = mechanism(key), data.draw(markets())
    tables: dict[str, Any] = {}
    for round_ in range(1, 4):
        now = replace(here, round=round_, tables=tables)
        terms = asked(method, now)
        assert set(terms) <= {offer.address for offer in here.offers}
        assert all(given_.price >= 0 for given_ in terms.values())
        seen = data.draw(results(terms))
        pays = method.pay(now, terms, seen)
        assert all(isinstance(units, int) and units >= 0 for units in pays.values())
        assert sum(pays.values()) <= here.budget
        assert {owner for owner, units in pays.items() if units} <= {o for o in terms if o in seen and seen[o].accepted}
        if isinstance(method, Learning):
            tables = dict(method.learn(now, terms, seen, pays))
            assert sum(table.size for table in tables.values()) <= method.table_size(len(here.offers))


@EVERY
@given(data=st.data())
@examples(60)
def test_the_order_of_tables_does_not_matter(key: str, data: st.DataObject) -> None:
    method, here = mechanism(key), data.draw(markets())
    terms = asked(method, here)
    seen = data.draw(results(terms))
    turned = {owner: terms[owner] for owner in data.draw(st.permutations(list(terms)))}
    mixed = {owner: seen[owner] for owner in data.draw(st.permutations(list(seen)))}
    pays = method.pay(here, terms, seen)
    assert method.pay(here, turned, mixed) == pays
    assert asked(method, here) == terms
    if isinstance(method, Learning):
        first, second = method.learn(here, terms, seen, pays), method.learn(here, turned, mixed, pays)
        assert {k: v.tolist() for k, v in first.items()} == {k: v.tolist() for k, v in second.items()}


@EVERY
def test_terms_of_nobody_s_making_pay_no_more_than_the_budget(key: str) -> None:
    here = market(auction([1, 2, 3]), 10)
    terms = {offer.address: Terms(2**53 - 1) for offer in here.offers}
    assert sum(mechanism(key).pay(here, terms, delivered(terms)).values()) <= 10


@EVERY
@pytest.mark.parametrize("budget", [0, 1, 2**53 - 1])
def test_a_thousand_offers_are_dealt_with_at_once(key: str, budget: int) -> None:
    reports = {"cost": 5, "price": 5, "power": 5, "item": 2}
    offers = [Offer(address(i), reports, PPM // 2, 10, 0, 1000) for i in range(1024)]
    method, here = mechanism(key), market(offers, budget)
    terms, pays = played(method, here)
    if isinstance(method, Learning):
        method.learn(here, terms, delivered(terms), pays)
    assert sum(pays.values()) <= budget


@EVERY
@pytest.mark.parametrize("offers", [[], auction([7])])
def test_nobody_and_one_alone(key: str, offers: list[Offer]) -> None:
    method = mechanism(key)
    terms, pays = played(method, market(offers, 100))
    assert set(pays) <= set(terms) <= {offer.address for offer in offers}


def test_equal_keys_are_drawn_and_others_are_not() -> None:
    def draws() -> Any:
        return stream(bytes(32), "lots", 1)

    assert ranked([3, 1, 2], draws) == [1, 2, 0]
    firsts = {ranked([5] * 4, lambda r=r: stream(bytes(32), "lots", r))[0] for r in range(40)}
    assert firsts == {0, 1, 2, 3}
    # Where each stands among its equals does not depend on the keys.
    lots = ranked([0] * 6, draws)
    assert ranked([1, 0, 1, 0, 1, 0], draws) == [p for p in lots if p % 2] + [p for p in lots if not p % 2]


@given(st.integers(0, 1000), st.lists(st.integers(0, 500), max_size=8))
@examples(200)
def test_what_the_budget_lacks_all_lack_in_proportion(budget: int, units: list[int]) -> None:
    pays = {address(i): u for i, u in enumerate(units)}
    lowered = affordable(budget, pays)
    assert sum(lowered.values()) <= budget
    if sum(units) <= budget:
        assert lowered == pays
    else:
        part = Fraction(budget, sum(units))
        assert all(part * pays[owner] - 1 < given_ <= part * pays[owner] for owner, given_ in lowered.items())


def test_a_fixed_price_is_lowered_for_all_alike() -> None:
    here = market(auction([0, 0, 0]), 100)
    terms = {offer.address: Terms() for offer in here.offers}
    seen = delivered(terms) | {address(1): Seen(False, score=10**6)}
    assert by_place(mechanism("fixed@1").pay(here, terms, seen)) == {0: 30, 2: 30}
    assert by_place(mechanism("fixed@1").pay(replace(here, budget=41), terms, seen)) == {0: 20, 2: 20}


def test_reputation_multiplies_scores() -> None:
    here = market(auction([0] * 3, [200_000, 400_000, 900_000]), 1000)
    terms = {offer.address: Terms() for offer in here.offers}
    seen = {address(0): Seen(True, score=30), address(1): Seen(True, score=10), address(2): Seen(True, score=10)}
    scores = Fraction(6), Fraction(4), Fraction(9)
    exact = [1000 * score / sum(scores) for score in scores]
    pays = mechanism("reputation_weighted@1").pay(here, terms, seen)
    assert sum(pays.values()) == 1000
    assert all(abs(pays[address(i)] - exact[i]) < 1 for i in range(3))
    flat = mechanism("reputation_weighted@1", power=0).pay(here, terms, seen)
    assert flat == mechanism("proportional@1").pay(here, terms, seen)
    gated = mechanism("reputation_weighted@1", least_reputation=300_000).pay(here, terms, seen)
    assert by_place(gated) == {1: 308, 2: 692}


def test_fmore_asks_for_the_best_quality_at_its_price() -> None:
    # Worth 200 in full: scores are 140, 100, 90 and -10; the second's device is twice as slow as the pace.
    offers = auction([10, 20, 30, 30], [750_000, 600_000, 600_000, 100_000], "price")
    terms, pays = played(mechanism("fmore@1", winners=2), market(offers, 100))
    assert by_place(pays) == {0: 10, 1: 20} and set(terms) == set(pays)
    timed = [replace(offer, duration=duration) for offer, duration in zip(offers, (5, 20, 10, 10), strict=True)]
    _, pays = played(mechanism("fmore@1", winners=2, pace=10), market(timed, 100))
    assert by_place(pays) == {0: 10, 2: 30}
    # A price above the budget's part is no offer, and neither is a device of which nothing is known.
    _, pays = played(mechanism("fmore@1", winners=2, pace=10), market([replace(timed[0], duration=None)], 100))
    assert pays == {}
    _, pays = played(mechanism("fmore@1", winners=4), market(offers, 100))
    assert by_place(pays) == {0: 10, 1: 20}


def equilibrium_profit(u: float, winners: int) -> float:
    """What a bidder of surplus u asks for beyond its cost, with four others uniform over 0 to 1."""
    return u / 5 if winners == 1 else u * (1 - 0.6 * u) / (4 - 3 * u)


@pytest.mark.parametrize(("winners", "profit"), [(1, 0.16), (2, 0.26)])
def test_nobody_gains_by_leaving_the_equilibrium_of_fmore(winners: int, profit: float) -> None:
    """The reference's cases: five bidders, surpluses uniform, one's own .8. By many draws of the others."""
    scale, rounds = 1_000_000, 3000
    assert equilibrium_profit(0.8, winners) == pytest.approx(profit)
    method = mechanism("fmore@1", winners=winners, worth=scale)
    chance = Random(f"bidders {winners}")
    asked_ = [0.5 * profit, 0.8 * profit, profit, 1.2 * profit, 1.6 * profit]
    gains = [0.0] * len(asked_)
    for _ in range(rounds):
        others = [chance.random() for _ in range(4)]
        prices = [round(scale * (1 - u + equilibrium_profit(u, winners))) for u in others]
        for place, own in enumerate(asked_):
            bids = [round(scale * (0.2 + own)), *prices]
            terms = method.select(market(auction(bids, [PPM] * 5, "price"), 10 * scale))
            gains[place] += own * (address(0) in terms) / rounds
    assert gains[2] > gains[0] and gains[2] > gains[-1]
    assert max(gains) - gains[2] < 0.005
    expected = profit * (0.8**4 if winners == 1 else 4 * 0.8**3 - 3 * 0.8**4)
    assert gains[2] == pytest.approx(expected, abs=0.01)


def menu_market(items: list[int], budget: int, reputations: list[int] | None = None) -> Market:
    return market(auction(items, reputations, "item"), budget)


def test_a_menu_pays_whoever_does_what_its_item_asks_for() -> None:
    method, here = mechanism("contract_menu@1"), menu_market([1, 3, 2, 0, 4, -1], 1000)
    terms = method.select(here)
    assert {int(o, 16): (t.price, t.asked["examples"]) for o, t in terms.items()} == {
        0: (20, 10),
        1: (120, 100),
        2: (50, 30),
    }
    seen = {owner: Seen(True, score=1, examples=30) for owner in terms}
    assert by_place(method.pay(here, terms, seen)) == {0: 20, 2: 50}


def test_a_menu_serves_reputation_first_where_the_budget_falls_short() -> None:
    method = mechanism("contract_menu@1")
    terms = method.select(menu_market([3, 3, 3], 180, [100, 300, 200]))
    assert {int(o, 16): t.price for o, t in terms.items()} == {1: 120, 2: 50}
    terms = method.select(menu_market([3, 3, 3], 190, [100, 300, 200]))
    assert {int(o, 16): t.price for o, t in terms.items()} == {0: 20, 1: 120, 2: 50}
    gated = mechanism("contract_menu@1", least_reputation=150)
    assert set(by_place(dict.fromkeys(gated.select(menu_market([3, 3, 3], 1000, [100, 300, 200])), 0))) == {1, 2}


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 400), st.data())
@examples(200)
def test_a_menu_that_suits_its_types_is_truthful_whatever_the_budget(
    types: list[int], budget: int, data: st.DataObject
) -> None:
    """Efforts 10, 30 and 100 cost a type so much; each likes its own item best, and smaller ones less and less."""
    costs = [[20, 70, 300], [15, 40, 200], [12, 35, 100]]

    def utility(kind: int, item: int) -> int:
        return MENU[item][1] - costs[kind][item]

    assert [max(range(3), key=lambda item, kind=kind: utility(kind, item)) for kind in range(3)] == [0, 1, 2]
    reputations = [data.draw(st.integers(0, 3)) for _ in types]
    for player, kind in enumerate(types):
        gains = {}
        for report in range(5):
            items = [one + 1 for one in types[:player]] + [report] + [one + 1 for one in types[player + 1 :]]
            terms = mechanism("contract_menu@1").select(menu_market(items, budget, reputations))
            got = terms.get(address(player))
            gains[report] = 0 if got is None else utility(kind, [pay for _, pay in MENU].index(got.price))
        assert gains[kind + 1] == max(gains.values()) >= 0


@pytest.mark.parametrize(
    "items",
    [[], [[1]], [[1, 2, 3]], [[1, 5], [1, 6]], [[1, 5], [2, 5]], [[2, 5], [1, 6]], [[1, 5], [2, 4]], [[-1, 5]], "menu"],
)
def test_what_is_no_menu_is_refused(items: Any) -> None:
    with pytest.raises(ConfigError):
        mechanism("contract_menu@1", items=items)


def test_one_reward_is_shared_by_examples() -> None:
    here = market(auction([0] * 3), 1000)
    terms = {offer.address: Terms() for offer in here.offers}
    seen = {address(i): Seen(i != 2, examples=examples_) for i, examples_ in enumerate((100, 200, 10**9))}
    assert by_place(mechanism("zhan@1").pay(here, terms, seen)) == {0: 50, 1: 100}
    assert by_place(mechanism("zhan@1").pay(replace(here, budget=15), terms, seen)) == {0: 5, 1: 10}


def test_nobody_gains_by_leaving_the_equilibrium_of_shared_rewards() -> None:
    """Two participants of the costs 1.5 and 4 share 4.5: in the equilibrium they give .595041 and .223140."""
    scale, tau, costs = 1_000_000, 4_500_000, (1.5, 4.0)
    method = mechanism("zhan@1", reward=tau)
    here = market(auction([0, 0]), 10**9)
    terms = {offer.address: Terms() for offer in here.offers}

    def utility(player: int, given_: tuple[int, int]) -> float:
        seen = {address(i): Seen(True, examples=x) for i, x in enumerate(given_)}
        return method.pay(here, terms, seen).get(address(player), 0) - costs[player] * given_[player]

    equilibrium = (595_041, 223_140)
    for player in range(2):
        best = utility(player, equilibrium)
        for other in range(0, 2 * scale, 10_007):
            changed = (other, equilibrium[1]) if player == 0 else (equilibrium[0], other)
            assert utility(player, changed) <= best + 2


def test_power_is_paid_as_far_as_the_device_has_it() -> None:
    offers = [
        Offer(address(0), {"power": 40}, duration=50_000),
        Offer(address(1), {"power": 15}, duration=50_000),
        Offer(address(2), {"power": 30}),
        Offer(address(3)),
    ]
    method, here = mechanism("sarikaya@1"), market(offers, 1000)
    terms = {offer.address: Terms() for offer in offers}
    assert by_place(method.pay(here, terms, delivered(terms))) == {0: 40, 1: 30, 2: 60, 3: 0}
    assert by_place(method.pay(replace(here, budget=65), terms, delivered(terms))) == {0: 20, 1: 15, 2: 30, 3: 0}


def test_power_that_is_best_for_a_worker_is_half_price_over_cost() -> None:
    """With the reference's price and cost, q = .0632456 and κc = .01, P = 3.162278."""
    scale = 1_000_000
    method = mechanism("sarikaya@1", price=63_246, work=None)

    def utility(power: int) -> float:
        here = market([Offer(address(0), {"power": power})], 2**60)
        terms = {address(0): Terms()}
        pay = method.pay(here, terms, delivered(terms))[address(0)]
        return pay / scale**2 - 0.01 * (power / scale) ** 2

    best = max(range(2 * scale, 5 * scale, 1000), key=utility)
    assert best == pytest.approx(3_162_278, abs=1000)


def test_accuracy_is_paid_by_score_up_to_what_is_full() -> None:
    here = market(auction([0] * 3), 1000)
    terms = {offer.address: Terms() for offer in here.offers}
    seen = {address(i): Seen(True, score=score) for i, score in enumerate((250, 500, 10**9))}
    assert by_place(mechanism("pandey@1").pay(here, terms, seen)) == {0: 30, 1: 60, 2: 60}
    assert by_place(mechanism("pandey@1").pay(replace(here, budget=75), terms, seen)) == {0: 15, 1: 30, 2: 30}


@given(st.dictionaries(st.integers(0, 2**160 - 1), st.tuples(*[st.integers(0, 2**70)] * 2), max_size=6))
@examples(100)
def test_whole_tallies_come_back(numbers: dict[int, tuple[int, int]]) -> None:
    rows = {address(owner): row for owner, row in numbers.items()}
    kept = whole_tallies.read(whole_tallies.stored(rows, 2), 2)
    most = whole_tallies.LARGEST
    assert kept == {o: tuple(min(most, n) for n in row) for o, row in rows.items() if any(row)}
    for refused, columns in ((1, 3), (-1, 2)):
        with pytest.raises(ConfigError):
            whole_tallies.read(whole_tallies.stored({address(1): (1, refused)}, 2), columns)


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The mechanism that the documents show, which stays out of the catalogue."""
    (block,) = (block for block in blocks("python") if "posted_price@1" in block.code)
    (tmp_path / "posted_price.py").write_text(block.code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MECHANISMS, "register", lambda key: lambda found: found)
    yield import_module("posted_price")
    del sys.modules["posted_price"]


def test_the_mechanism_of_the_documents_keeps_its_promises(documented: Any) -> None:
    method = documented.PostedPrice(price=40)
    for lots in range(20):
        for player, cost in enumerate((10, 40, 41, 25)):
            utilities = []
            for report in range(0, 80):
                costs = [10, 40, 41, 25]
                costs[player] = report
                here = market(auction(costs), 100, draws=lambda n=lots: stream(bytes(32), "lots", n))
                terms, pays = played(method, here)
                assert sum(pays.values()) <= 100 and set(pays.values()) <= {40}
                assert played(method, here) == (terms, pays)
                utilities.append(pays[address(player)] - cost if address(player) in pays else 0)
            assert utilities[cost] == max(utilities) >= 0
