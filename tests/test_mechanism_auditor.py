"""The auditor of mechanisms finds what is wrong with wrong ones, and leaves right ones alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedledger.aggregator.mechanisms.base import (
    EQUILIBRIUM,
    INCENTIVE_COMPATIBILITY,
    INDIVIDUAL_RATIONALITY,
    MECHANISMS,
    Market,
    Mechanism,
    MechanismBase,
    Offer,
    Seen,
    Terms,
)
from fedledger.platform.incentives.auditor.audits import PROPERTIES, Audit, Plan, audit_here, concluded, observations
from fedledger.platform.incentives.auditor.findings import Finding
from fedledger.platform.incentives.auditor.settings.base import Action, Bounds, Setting, wrong_numbers
from fedledger.platform.incentives.auditor.settings.choice import SETTINGS, setting_of
from fedledger.platform.incentives.auditor.settings.effort import Effort
from fedledger.platform.incentives.auditor.settings.play import Game
from fedledger.platform.incentives.auditor.subjects import Subject
from fedledger.platform.incentives.theory.contract_theory import (
    Contract,
    best_misreport,
    best_refusal,
    optimal_menu,
    relaxed_menu,
    tight_menu,
)
from fedledger.platform.incentives.theory.zhan import Game as Contest
from fedledger.protocol.errors import ConfigError

TRUTHFUL = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})


@dataclass(frozen=True)
class LowestBids(MechanismBase):
    """The two lowest bids win."""

    reports: ClassVar[tuple[str, ...]] = ("cost",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = TRUTHFUL

    def select(self, market: Market) -> dict[str, Terms]:
        order = sorted(market.offers, key=lambda offer: (offer.report["cost"], offer.address))
        affordable = [offer for offer in order if offer.report["cost"] <= market.budget // 2]
        return {offer.address: Terms(self.price(offer, affordable)) for offer in affordable[:2]}

    def price(self, offer: Offer, order: list[Offer]) -> int:
        raise NotImplementedError

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        return {address: terms[address].price for address in terms if address in seen and seen[address].accepted}


class FirstPrice(LowestBids):
    """Pays what was asked: whoever asks for more gets more."""

    def price(self, offer: Offer, order: list[Offer]) -> int:
        return int(offer.report["cost"])


class SecondPrice(LowestBids):
    """Pays the third bid, whatever the budget."""

    def price(self, offer: Offer, order: list[Offer]) -> int:
        return int(order[2].report["cost"]) if len(order) > 2 else 10_000


class PaysAbsentees(FirstPrice):
    """Pays whoever was asked, delivered or not."""

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        return {address: each.price for address, each in terms.items()}


class ByOrder(FirstPrice):
    """Pays whoever stands first in a table a unit more."""

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        paid = {address: terms[address].price // 2 for address in seen if seen[address].accepted}
        if paid and max(paid.values()) > 0:
            paid[next(iter(paid))] -= 1 if paid[next(iter(paid))] else 0
        return paid


class Underpays(FirstPrice):
    """Pays half of what was asked."""

    def price(self, offer: Offer, order: list[Offer]) -> int:
        return int(offer.report["cost"]) // 2


class Fractions(FirstPrice):
    """Pays no whole units."""

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        return {address: terms[address].price / 2 for address in terms}  # type: ignore[misc]


class Fails(FirstPrice):
    """Divides by what may be nothing."""

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        total = sum(each.score for each in seen.values() if each.accepted)
        return {address: market.budget * seen[address].score // total for address in terms if address in seen}


@dataclass(frozen=True)
class RoundsUp(MechanismBase):
    """Shares the budget, and gives all that rounding leaves to the first."""

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        counted = sorted(address for address in terms if address in seen and seen[address].accepted)
        total = sum(seen[address].score for address in counted)
        paid = {address: market.budget * seen[address].score // total if total else 0 for address in counted}
        if total:
            paid[counted[0]] += market.budget - sum(paid.values())
        return paid


@dataclass(frozen=True)
class Prize(MechanismBase):
    """Whoever trains on most wins all: no efforts are an equilibrium."""

    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        counted = sorted(address for address in terms if address in seen and seen[address].accepted)
        return {max(counted, key=lambda address: seen[address].examples): market.budget} if counted else {}


@dataclass(frozen=True)
class SecondScore(MechanismBase):
    """A second-score auction: truth is best there, and what is best where winners get their price is not."""

    winners: int = 2
    reports: ClassVar[tuple[str, ...]] = ("price",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def quality(self, offer: Offer) -> int:
        return 100_000 * offer.reputation // 1_000_000

    def select(self, market: Market) -> dict[str, Terms]:
        scored = sorted(market.offers, key=lambda offer: (offer.report["price"] - self.quality(offer), offer.address))
        last = scored[2].report["price"] - self.quality(scored[2]) if len(scored) > 2 else 0
        return {offer.address: Terms(max(0, last + self.quality(offer))) for offer in scored[:2]}

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        paid = [address for address in terms if address in seen and seen[address].accepted]
        return {address: min(terms[address].price, market.budget // 2) for address in paid}


def audited(mechanism: Mechanism, instances: int = 12, players: int = 6) -> Audit:
    """The audit of a mechanism that is in no catalogue."""

    class Given(Subject):
        def make(self) -> Mechanism:
            return mechanism

    return audit_here(Plan(Given("given@1"), instances=instances, players=players))


def found(audit: Audit, name: str) -> Finding:
    return next(finding for finding in audit.findings if finding.name == name)


def broken(audit: Audit) -> set[str]:
    return {finding.name for finding in audit.broken}


@pytest.mark.parametrize(
    ("mechanism", "expected"),
    [
        (FirstPrice(), {INCENTIVE_COMPATIBILITY}),
        (SecondPrice(), {"budget"}),
        (PaysAbsentees(), {INCENTIVE_COMPATIBILITY, "pay for accepted work alone"}),
        (Underpays(), {INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY}),
        (RoundsUp(), set()),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, MechanismBase) else "",
)
def test_a_wrong_mechanism_is_rejected_for_what_is_wrong(mechanism: Mechanism, expected: set[str]) -> None:
    audit = audited(mechanism)
    assert broken(audit) >= expected
    assert broken(audit) - expected <= {INCENTIVE_COMPATIBILITY}
    assert all(found(audit, name).counter_example for name in expected)


def test_pay_that_depends_on_the_order_of_a_table_is_found() -> None:
    finding = found(audited(ByOrder()), "replay")
    assert finding.broken and finding.counter_example is not None
    assert finding.counter_example["paid"] != finding.counter_example["again"]["paid"]


@pytest.mark.parametrize("mechanism", [Fractions(), Fails()], ids=lambda given: type(given).__name__)
def test_a_mechanism_that_fails_is_rejected_with_the_reason(mechanism: Mechanism) -> None:
    finding = found(audited(mechanism), "budget")
    assert finding.broken and finding.worst is None and finding.counter_example is not None
    assert "whole number" in finding.counter_example["failure"] or "ZeroDivision" in finding.counter_example["failure"]


def test_shares_that_are_more_than_a_unit_off_are_found() -> None:
    assert found(audited(RoundsUp(), players=12), "rounding").holds is False
    right = audit_here(Plan(Subject("proportional@1"), instances=12, players=12))
    assert found(right, "rounding").holds is True


def test_a_contest_without_an_equilibrium_is_told() -> None:
    finding = found(audited(Prize(), instances=2, players=3), EQUILIBRIUM)
    assert finding.broken and finding.counter_example is not None
    assert "settled" in finding.counter_example["failure"]


def test_bids_that_are_no_equilibrium_of_the_auction_are_found() -> None:
    assert found(audited(SecondScore(), instances=30), EQUILIBRIUM).broken
    right = audit_here(Plan(Subject("fmore@1"), instances=40, players=8))
    assert found(right, EQUILIBRIUM).holds is True


def test_the_counter_example_of_a_first_price_auction_can_be_played_by_hand() -> None:
    finding = found(audited(FirstPrice()), INCENTIVE_COMPATIBILITY)
    example = finding.counter_example
    assert example is not None and finding.worst is not None
    players = {player["address"]: player for player in example["players"]}
    own = players[example["player"]]
    lies = {address: player["report"]["cost"] for address, player in players.items()}

    def left_with(bids: Mapping[str, int]) -> int:
        in_reach = {address: bid for address, bid in bids.items() if bid <= example["budget"] // 2}
        winners = sorted(in_reach, key=lambda address: (in_reach[address], address))[:2]
        return bids[example["player"]] - own["private"]["cost"] if example["player"] in winners else 0

    honest = left_with(lies)
    lies[example["player"]] = example["deviation"]["report"]["cost"]
    assert honest == example["honest"]["utility"] == 0
    assert left_with(lies) == example["deviated"]["utility"] > 0
    assert len(players) <= 2, "others than the player that lies are left out where they do not matter"


class TestContracts:
    def test_the_relaxed_and_the_tight_menu_are_rejected_by_as_much_as_theory_says(self) -> None:
        contract = Contract()
        for name, menu in (("relaxed", relaxed_menu(contract)), ("tight", tight_menu(contract))):
            audit = audit_here(Plan(Subject(f"contract:{name}"), instances=25, players=8))
            assert broken(audit) == {INCENTIVE_COMPATIBILITY}
            gain = found(audit, INCENTIVE_COMPATIBILITY).worst
            # Efforts and pays are in thousandths, and rounded to them.
            assert gain == pytest.approx(1000 * best_misreport(menu).gain, rel=2e-3)

    def test_the_optimal_menu_passes_as_it_is_and_as_a_mechanism(self) -> None:
        assert best_misreport(optimal_menu(Contract())).gain < 1e-6 > best_refusal(optimal_menu(Contract())).gain
        for key in ("contract:optimal", "contract_menu@1"):
            audit = audit_here(Plan(Subject(key), instances=25, players=8))
            assert not audit.broken
            assert found(audit, INCENTIVE_COMPATIBILITY).holds and found(audit, INDIVIDUAL_RATIONALITY).holds

    def test_a_menu_is_audited_for_given_types(self) -> None:
        params = {"items": [[10, 30], [20, 50]]}
        # The second type is left with 10 by its own item, and with 10 by the first: it has no reason to lie.
        right = {"types": [{"each": 3}, {"each": 2}]}
        assert not audit_here(Plan(Subject("contract_menu@1", params), given=right, instances=9)).broken
        # By the second item a worker of the second type is left with nothing, by the first with 5.
        wrong = {"types": [{"each": 3}, {"each": "5/2"}]}
        finding = found(
            audit_here(Plan(Subject("contract_menu@1", params), given=wrong, instances=9)), INCENTIVE_COMPATIBILITY
        )
        assert finding.broken and finding.worst == 5

    @pytest.mark.parametrize("given", [{}, {"types": [{"each": 1}]}, {"types": 3}, {"types": [{"each": "x"}]}])
    def test_types_that_do_not_suit_the_menu_are_refused(self, given: dict[str, Any]) -> None:
        params = {"items": [[10, 30]]}
        plan = Plan(Subject("contract_menu@1", params), given=given)
        if given == {"types": [{"each": 1}]}:
            plan.make()
        else:
            with pytest.raises(ConfigError, match="types"):
                plan.make()


def test_efforts_settle_where_zhan_s_formula_says() -> None:
    mechanism = Subject("zhan@1").make()
    setting = Effort(mechanism, {}, {})
    for index in range(5):
        instance = setting.draw(3, index, 6)
        reward = min(100_000, instance.budget)
        contest = Contest(tuple(player.private["cost_ppm"] / 1e6 for player in instance.players))
        expected = contest.equilibrium(reward)
        efforts = [action.effort or 0 for action in setting.honest(instance)]
        assert efforts == pytest.approx(expected, rel=0.06, abs=30)


def test_findings_depend_on_the_seed_alone() -> None:
    plan = Plan(Subject("vcg@1"), seed=5, instances=6, players=8)
    assert audit_here(plan).document() == audit_here(plan).document()
    whole = observations(plan, range(6))
    parts = observations(plan, [4, 5]) + observations(plan, range(4))
    assert concluded(plan, plan.make(), whole, None) == concluded(plan, plan.make(), parts[2:] + parts[:2], None)
    other = Plan(Subject("vcg@1"), seed=6, instances=6, players=8)
    assert audit_here(other).document() != audit_here(plan).document()


@pytest.mark.parametrize("key", sorted(MECHANISMS))
def test_every_mechanism_of_the_catalogue_keeps_its_promises_in_a_few_markets(key: str) -> None:
    audit = audit_here(Plan(Subject(key), seed=11, instances=4, players=5))
    assert not audit.broken, [(finding.name, finding.figure, finding.worst) for finding in audit.broken]
    json.dumps(audit.document(), allow_nan=False)
    assert [finding.name for finding in audit.findings] == [each.name for each in PROPERTIES]
    tested = {finding.name for finding in audit.findings if finding.holds is not None}
    assert Subject(key).make().promises <= tested, "each promise is looked at"


@pytest.mark.parametrize(("truth", "least", "most"), [(5, 0, 10), (0, 0, 10_000), (10_000, 0, 10_000), (3, 3, 4)])
def test_wrong_reports_are_wrong_within_bounds_and_as_many_as_there_can_be(truth: int, least: int, most: int) -> None:
    stream = setting_of(FirstPrice(), {}, {}).draw(0, 0, 3).stream("test")
    found = wrong_numbers(truth, Bounds(least, most), [1, 7, 7], stream, 12)
    assert len(found) == len(set(found)) == min(12, most - least)
    assert truth not in found and all(least <= value <= most for value in found)


def test_a_player_that_loses_nothing_by_not_being_chosen_has_a_utility_of_zero() -> None:
    setting = setting_of(FirstPrice(), {}, {})
    instance = setting.draw(0, 0, 5)
    outcome = Game(setting, instance).outcome()
    asked = set(outcome.rounds[0].terms)
    assert not any(outcome.utilities), "who asks for its cost is left with nothing, and so is who is not asked"
    dearer = Game(setting, instance).deviated(0, Action({"cost": 10_000}))
    assert dearer.utility(0) == 0 and instance.players[0].address not in dearer.rounds[0].terms
    assert len(asked) <= 2


def test_settings_have_names_of_their_own_and_every_mechanism_has_one() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    for key in MECHANISMS:
        made: Setting = setting_of(Subject(key).make(), {}, {})
        assert made.assumes
    with pytest.raises(ConfigError, match="There are"):
        setting_of(FirstPrice(), {}, {}, "auction")
    with pytest.raises(ConfigError, match="first-score"):
        setting_of(FirstPrice(), {}, {}, "first-score bids")


def test_a_file_that_raises_or_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        Subject("mine@1", module=tmp_path / "none.py").make()
    wrong = tmp_path / "wrong.py"
    wrong.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        Subject("mine@1", module=wrong).make()
    with pytest.raises(ConfigError, match="There is no menu"):
        Subject("contract:cheap").make()
