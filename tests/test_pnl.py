"""What attackers earn and lose on the contracts: all money is counted, and costs and means follow by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.testing import CliRunner

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.platform.cli.app import app
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.federation import play
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER, experiment_account
from fedledger.platform.incentives.pnl.cases import COST, MECHANISMS, PLANNED, UNITS, Case, Size
from fedledger.platform.incentives.pnl.devices import CLASSES, Prices, device_class, training_cost, upload_cost
from fedledger.platform.incentives.pnl.hostile import favoured
from fedledger.platform.incentives.pnl.money import Books, books, collect
from fedledger.platform.incentives.pnl.playing import Account, Played, accounts_of, played
from fedledger.platform.incentives.pnl.population import PADDED, Population
from fedledger.platform.incentives.pnl.runs import Campaign, Row, cases, effective, expected_charge, row_of
from fedledger.platform.incentives.pnl.staging import StagedRecord
from fedledger.platform.incentives.pnl.strategies import OVER_COST, STRATEGIES, TWINS, turn_of
from fedledger.platform.incentives.pnl.tables import (
    BEATS,
    GAINS,
    LOSES,
    Mean,
    csv_table,
    means,
    table_cells,
    with_tables,
)
from fedledger.protocol.errors import ConfigError
from fedledger.storage.local import LocalStore
from support.quick import quick

SMALL = Size(owners=6, rounds=4)
GWEI = 10**9


def case(strategy: str, mechanism: str = "proportional@1", rate: int = 1_000_000, seed: int = 1) -> Case:
    """Return a small case; every accepted update is checked unless the rate is another one."""
    return Case(strategy, mechanism, PLANNED, rate, seed, SMALL)


@pytest.fixture(scope="module")
def honest() -> Played:
    return played(case("honest"))


@pytest.fixture(scope="module")
def counted() -> tuple[Population, StagedRecord, Books]:
    """A run in which two share one piece of work, and all that it has moved."""
    chosen = case("colluding_pair")
    population, chain = Population.of(chosen), Chain(EMBEDDED)
    with TemporaryDirectory() as name:
        record = StagedRecord(population, chain, LocalStore(Path(name) / "store"), Path(name))
        with open_backend("batched", population.experiment) as backend:
            for _ in play(record, backend):
                pass
        record.end_checks()
        accounts = accounts_of(chosen, chain)
        collect(record.ledger, accounts)
        return population, record, books(record.ledger, accounts)


def test_every_wei_has_one_owner_or_is_burned(counted: tuple[Population, StagedRecord, Books]) -> None:
    population, record, found = counted
    task, chain = record.history.update().task(1), record.ledger.chain
    assert found.difference == 0 and found.unowned == 0 and found.burned > 0
    taken = {i: sum(slash.amount for slash in task.slashes if slash.participant == i) for i in task.enrolled}
    assert found.burned == sum(taken.values()) == found.held
    for number, address in enumerate(record.accounts):
        known = record.history.ids[address]
        assert found.gains[address] == task.earned(known) * task.params.credit_unit - taken[known], number
        assert chain.balance(address) > 0 and found.gas[address] > 0
    seed = population.case.seed
    publisher, aggregator = (experiment_account(seed, role, chain).address for role in (PUBLISHER, AGGREGATOR))
    paid = sum(task.earned(i) for i in task.enrolled) * task.params.credit_unit
    assert found.gains[publisher] == -paid and found.gains[aggregator] == 0


def test_a_copy_fails_its_checks_and_the_work_it_copies_passes(
    counted: tuple[Population, StagedRecord, Books],
) -> None:
    population, record, found = counted
    first, second = (record.accounts[name] for name in population.case.names)
    stake = population.case.terms[0]
    assert found.gains[first] > 0 and found.gains[second] < -stake * GWEI // 2


def test_everybody_honest_earns_by_working_whatever_the_device(honest: Played) -> None:
    assert {each.device for each in honest.accounts} == {each.name for each in CLASSES}
    assert all(each.charged == 0 and each.failing == 0 and each.cost > 0 for each in honest.accounts)
    assert all(each.profit > 0 for each in honest.accounts if each.accepted == SMALL.rounds)
    assert honest.aggregator == 0 and not honest.verifiers
    assert Played.read(honest.document) == honest


@pytest.mark.parametrize("strategy", quick(1, ["free_rider_zero", "validation_trainer", "over_reporter_size"]))
def test_who_does_something_else_comes_to_less_than_by_being_honest(strategy: str, honest: Played) -> None:
    chosen = case(strategy)
    row = row_of(chosen, played(chosen), honest)
    assert row.expected_profit < row.honest_self_profit and row.profit < row.honest_self_profit
    # All accepted updates are checked, so what is expected is what happens.
    assert row.failing == row.accepted or row.profit < 0
    assert (row.cost > 0) and row.works == (strategy != "free_rider_zero")
    if not row.works:
        assert row.profit < 0


def test_who_bids_twice_an_equal_share_wins_nothing() -> None:
    chosen = case(OVER_COST, "proportional_share@1", rate=50_000)
    run, twin = played(chosen), played(chosen.twin)
    actor = chosen.members[0]
    assert run.accounts[actor].gain == 0 and run.accounts[actor].accepted == 0
    assert row_of(chosen, run, twin).honest_self_profit == twin.accounts[actor].profit > 0


@pytest.mark.long
def test_a_favour_costs_the_bond_and_sleep_costs_a_seat() -> None:
    favour, sleep = (case(name, rate=50_000) for name in ("aggregator_favours_friend", "sleeping_verifier"))
    run, twin = played(favour), played(favour.twin)
    bond = favour.config().ledger.bond_gwei
    assert run.aggregator == -bond and run.verifiers[0] > 0
    assert row_of(favour, run, twin).profit < 0 < row_of(favour, run, twin).honest_self_profit
    slept, woke = played(sleep), played(sleep.twin)
    row = row_of(sleep, slept, woke)
    assert slept.aggregator == woke.aggregator == -bond
    assert row.profit == -sleep.config().ledger.juror_penalty_gwei and row.honest_self_profit > 0


@pytest.mark.long
def test_a_whitewasher_stakes_again_under_its_new_name(honest: Played) -> None:
    chosen = case("whitewasher")
    run = played(chosen)
    assert len(run.accounts) == SMALL.owners + 1
    assert sum(account.cost for account in run.accounts[-1:]) >= 0
    assert row_of(chosen, run, honest).profit < 0


def test_costs_follow_from_the_closed_forms() -> None:
    low = CLASSES[0]
    # 4e-28 J s² · 1e6 cycles · 100 examples · (1 GHz)² = 0.04 J, and 1e8 cycles at 1 GHz are 0.1 s.
    assert training_cost(low, 100, Prices(10_000.0, 0.0)) in (400, 401)
    assert training_cost(low, 100, Prices(0.0, 10_000.0)) in (1_000, 1_001)
    assert training_cost(low, 0, Prices()) == 0
    # 6 Mbit/s carry 750,000 bytes in a second, at 3.92 W.
    assert upload_cost(low, 750_000, Prices(0.0, 100.0)) == 100
    assert upload_cost(low, 750_000, Prices(100.0, 0.0)) == 392
    assert [device_class(number) for number in (0, 1, 2, 3)] == [*CLASSES, low]
    with pytest.raises(ConfigError):
        Prices(joule=-1.0)


def test_what_checks_take_in_the_mean_is_bounded_by_the_stake() -> None:
    run = Played(15, 10, 0.5, (), 0, (), (), 0.0)
    # One of two is drawn with ½, both with ¼, and the stake holds one and a half penalties.
    assert expected_charge(2, run) == pytest.approx(0.5 * 10 + 0.25 * 15)
    assert expected_charge(0, run) == 0 and expected_charge(500, run) == pytest.approx(15)


def test_efforts_dealings_and_bids() -> None:
    def made(strategy: str, mechanism: str = "proportional@1") -> Population:
        return Population.of(case(strategy, mechanism, seed=4))

    own = made("honest").own
    split = made("sybils")
    names = split.case.names
    assert names == [4, 6, 7] and sum(split.experiment.examples(name) for name in names) == own[4] == split.own[4]
    assert sum(split.effort(name, 1) for name in names) == own[4] and split.device(7) is split.device(4)
    padded = made("over_reporter_size")
    assert padded.experiment.examples(4) == PADDED and padded.effort(4, 1) == own[4]
    pair = made("colluding_pair")
    assert pair.case.names == [4, 5] and pair.experiment.examples(5) == own[4]
    assert [pair.effort(name, 1) for name in range(6)] == [*own[:5], 0]
    turns = made("on_off")
    assert [turns.effort(4, index) for index in (1, turn_of(4) - 1, turn_of(4))] == [own[4], own[4], 0]
    auction = made(OVER_COST, "proportional_share@1")
    assert auction.report(4, 1) == {COST: 2 * SMALL.share} and auction.report(0, 1) == {COST: auction.honest_cost(0)}
    assert made(OVER_COST).report(4, 1) is None
    assert effective(case(OVER_COST)) == case("honest")


def test_a_favour_takes_no_more_than_the_round_has() -> None:
    from fedledger.aggregator.round.outcome import Content, RoundOutcome
    from fedledger.protocol.records.verdicts import Verdict

    verdicts = {1: Verdict.ACCEPTED, 2: Verdict.ACCEPTED, 3: Verdict.NO_WORK}
    nothing = Content.of(b"")
    before = RoundOutcome(nothing, nothing, nothing, verdicts, {1: 60, 2: 40}, False, {})
    after = favoured(before, 3, 100)
    assert after.shares == {1: 40, 2: 26, 3: 33} and after.verdicts[3] is Verdict.ACCEPTED
    assert sum(favoured(before, 1, 100).shares.values()) <= 100


def row(**changes: object) -> Row:
    base = Row("plagiarist", "fixed@1", 5, 0.05, 1, -4, 10.0, 8, -2.0, 3.0, False, True, 0, 1, 1, 0, 0)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_exceptions_are_named() -> None:
    assert Mean.of([row()]).exception == ""
    assert Mean.of([row(expected_profit=1.0), row(expected_profit=1.0)]).exception == GAINS
    assert Mean.of([row(expected_profit=-2.0), row(expected_profit=1.0)]).exception == ""
    assert Mean.of([row(works=True, expected_profit=8.0)]).exception == BEATS
    assert Mean.of([row(honest_low_end_profit=-1.0)]).exception == LOSES
    assert Mean.of([row(honest_low_end_profit=None)]).low_end is None
    assert [mean.seeds for mean in means([row(), row(seed=2), row(stake=6)])] == [2, 1]
    assert table_cells([row(applies=False)])[0]["exception"] == "nothing to report"
    assert csv_table([row()]).splitlines()[1].startswith("plagiarist,fixed@1,5,0.05,1,-4,")


def test_documents_have_the_table_between_marks() -> None:
    text = with_tables("a\n<!-- fedledger incentives pnl -->\n<!-- end -->\nb\n", [row()])
    assert "`plagiarist`" in text and text.endswith("b\n")
    with pytest.raises(ConfigError):
        with_tables("a", [row()])


def test_cases_that_cannot_be_are_told_of() -> None:
    size = SMALL
    for given in (
        (["nobody"], ["fixed@1"], [PLANNED], [1]),
        (["poisoner"], ["nothing@1"], [PLANNED], [1]),
        (["poisoner"], ["fixed@1"], ["much"], [1]),
        (["poisoner"], ["fixed@1"], ["0"], [1]),
    ):
        with pytest.raises(ConfigError):
            cases(*given, [1], size)
    with pytest.raises(ConfigError):
        Size(owners=3)
    poor = replace(case("poisoner"), stake="1000", rate=50_000)
    assert poor.terms == (1000, 1000)
    assert case("poisoner", rate=50_000).terms[0] >= case("poisoner", rate=50_000).terms[1] > 0


def test_every_strategy_has_a_configuration_under_every_mechanism() -> None:
    assert len(STRATEGIES) == 15 and {each.twin for each in STRATEGIES.values()} <= set(TWINS)
    for mechanism in MECHANISMS:
        for name in STRATEGIES:
            config = case(name, mechanism).config()
            assert config.participants == case(name, mechanism).count
            assert (config.training.bidding is not None) == case(name, mechanism).asks
    assert case("sybils").config().ledger.units_per_round == UNITS


def test_the_command_goes_on_from_what_it_has_kept(tmp_path: Path) -> None:
    chosen = ["free_rider_zero", OVER_COST]
    given = cases(chosen, ["proportional@1"], [PLANNED], [50_000], [1], SMALL)
    told: list[str] = []
    rows, faults = Campaign(given, tmp_path, 1, lambda doing, done, of: told.append(doing)).rows()
    assert not faults and len(told) == 2 and [each.applies for each in rows] == [True, False]
    assert rows[1].profit == rows[1].honest_self_profit
    options = ["--strategies", ",".join(chosen), "--mechanisms", "proportional@1", "--stakes", "planned"]
    options += ["--rates", "0.05", "--seeds", "1", "--owners", "6", "--rounds", "4", "--out", str(tmp_path)]
    found = CliRunner().invoke(app, ["incentives", "pnl", *options, "--workers", "1", "--format", "csv"])
    assert found.exit_code == 0, found.output
    assert found.stdout == csv_table(rows) == (tmp_path / "profit-and-loss.csv").read_text()
    assert (tmp_path / "profit-and-loss.png").read_bytes()[:4] == b"\x89PNG"
    for bad in (["--rates", "0"], ["--rates", "x"], ["--strategies", "nobody"]):
        assert isinstance(CliRunner().invoke(app, ["incentives", "pnl", *bad]).exception, ConfigError)


def test_an_account_is_money_less_work() -> None:
    assert Account("low-end", 10, 4, 1, 0, 1, 0).profit == 6
