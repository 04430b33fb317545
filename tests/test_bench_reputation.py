"""The bench that compares models of reputation: its scenarios, its figures, what it keeps, and what it writes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedledger.aggregator.reputation.base import REPUTATION_MODELS
from fedledger.learning.sources.base import load_dataset
from fedledger.platform.bench.reputation import runs
from fedledger.platform.bench.reputation.experiments import RARE_CLASS, Setting, dealt, make_setting
from fedledger.platform.bench.reputation.figures import Case, OverSeeds, ReputationRow, pays, row_of
from fedledger.platform.bench.reputation.models import described, model_of, models_of
from fedledger.platform.bench.reputation.pictures import write_png
from fedledger.platform.bench.reputation.playing import Play, PlayedRound, Stage, played
from fedledger.platform.bench.reputation.runs import PLAYS, Campaign, cases
from fedledger.platform.bench.reputation.scenarios import SCENARIOS
from fedledger.platform.bench.reputation.strategies import Always, OnOff, Seen, Turning, Whitewasher
from fedledger.platform.bench.reputation.tables import csv_table, with_tables
from fedledger.platform.bench.reputation.trust import LedgerTrust, Trust, trust_of
from fedledger.platform.cli.app import app
from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.experiment import HONEST
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.verdicts import Verdict

SEEN = Seen(
    index=1,
    rounds=75,
    place=0,
    reputation=500_000,
    newcomer=500_000,
    gate=400_000,
    highest=900_000,
    attacked=False,
)
ROW = ReputationRow("beta", "on_off", "sign_flip", "attackers", 1, 4, pay=0.5, trust=[0.5] * 4, trust_others=[0.6] * 4)
UNPROFITABLE = ("whitewashing", "on_off", "sybil_split", "collusion")
"""Leaving and coming back, behaving until trusted, splitting up to attack, and praising each other."""
RESERVED_SEEDS = range(31, 34)
"""On which nothing was tuned."""


def test_a_whitewasher_leaves_a_name_that_is_worth_less_than_a_new_one() -> None:
    assert not Whitewasher().leaves(SEEN)
    assert Whitewasher().leaves(replace(SEEN, reputation=499_999))
    assert not Always().leaves(replace(SEEN, reputation=0)) and Whitewasher().attacks(SEEN)


def test_who_attacks_on_and_off_looks_at_its_own_reputation() -> None:
    hasty, patient = SEEN, replace(SEEN, place=2)
    assert OnOff().attacks(hasty) and not OnOff().attacks(replace(hasty, reputation=499_999))
    # Of 500,000 to 900,000 the patient one waits for 95 %.
    assert not OnOff().attacks(replace(patient, reputation=879_999))
    assert OnOff().attacks(replace(patient, reputation=880_000))
    # Once it attacks, it goes on for as long as it weighs something.
    attacking = replace(patient, attacked=True, reputation=400_000)
    assert OnOff().attacks(attacking) and not OnOff().attacks(replace(attacking, reputation=399_999))


def test_a_node_turns_bad_in_round_50_of_75() -> None:
    assert [Turning().attacks(replace(SEEN, index=index)) for index in (1, 49, 50, 75)] == [False, False, True, True]


def test_data_are_dealt_as_scenarios_say() -> None:
    train = load_dataset("digits@1", {})

    def parts(name: str, honest: bool = False) -> list[list[int]]:
        scenario = SCENARIOS[name].honest if honest else SCENARIOS[name]
        found = dealt(train, scenario, np.random.Generator(np.random.PCG64(5)))
        assert len(found) == scenario.participants
        assert sorted(int(index) for part in found for index in part) == list(range(len(train)))
        return [part.tolist() for part in found]

    split, whole = parts("sybil_split"), parts("sybil_split", honest=True)
    assert split[:-3] == whole[:-1] and sorted(index for part in split[-3:] for index in part) == sorted(whole[-1])
    assert max(map(len, split[-3:])) - min(map(len, split[-3:])) <= 1
    rare = parts("rare_data")
    assert not [index for part in rare[:-1] for index in part if train.targets[index] == RARE_CLASS]
    assert parts("whitewashing") == parts("whitewashing", honest=True) == parts("turns_bad", honest=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_who_is_hostile_has_an_attack(name: str) -> None:
    scenario = SCENARIOS[name]
    behaviours = make_setting(Setting(scenario, "sign_flip", 3, 2)).behaviours
    assert len(behaviours) == scenario.participants
    hostile = [number for number, behaviour in enumerate(behaviours) if behaviour != HONEST]
    assert hostile == (list(scenario.numbers) if scenario.hostile else [])
    assert set(make_setting(Setting(scenario.honest, "", 3, 2)).behaviours) == {HONEST}


def trusts(seed: int, trust: Trust, others: bool) -> list[list[int]]:
    """Reputations over random rounds of the publisher and, if so, of somebody else."""
    rng, names = random.Random(seed), ["a", "b", "c"]
    found = []
    for _ in range(40):
        for publisher in ("publisher", "other"):
            chosen = rng.choices([Verdict.ACCEPTED, Verdict.HARM, Verdict.MISSED], (6, 3, 1), k=3)
            if publisher == "publisher" or others:
                trust.rate(publisher, dict(zip(names, chosen, strict=True)))
        found.append(trust.reputations(names))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_without_recommenders_subjective_logic_says_what_the_ledger_says(seed: int) -> None:
    ledger = trusts(seed, LedgerTrust("publisher"), others=True)
    assert trusts(seed, trust_of(None, "publisher", ["other"]), others=True) == ledger
    assert trusts(seed, trust_of(model_of("subjective_logic"), "publisher", []), others=True) == ledger


@pytest.mark.parametrize("model", models_of("models"))
def test_who_is_no_recommender_changes_no_reputation(model: str) -> None:
    alone = trusts(1, trust_of(model_of(model), "publisher", []), others=False)
    assert trusts(1, trust_of(model_of(model), "publisher", []), others=True) == alone
    heeds = getattr(REPUTATION_MODELS.get(described(model)[0]), "heeds_recommenders", False) if model != "ledger" else 0
    recommended = trusts(1, trust_of(model_of(model), "publisher", ["other"]), others=True)
    assert (recommended != alone) == bool(heeds)


@pytest.mark.parametrize("name", ["whitewashing", "turns_bad"])
def test_without_a_model_a_play_is_the_run_that_the_engine_makes(name: str) -> None:
    # As nobody leaves a name before the second round, and nobody turns before the third.
    scenario = SCENARIOS[name] if name == "whitewashing" else SCENARIOS[name].honest
    setting = Setting(scenario, "label_flip", 3, 2 if scenario.hostile else 4)
    experiment = make_setting(setting)
    with Batched(experiment) as backend:
        closed = list(play(MemoryRecord(experiment, judged=True), backend))
    staged = played(
        replace(setting, scenario=replace(scenario, strategy=Always())) if scenario.hostile else setting, None
    )
    assert staged.accuracy == experiment.tested(closed[-1].model).score
    for one, other in zip(staged.rounds, closed, strict=True):
        assert one.verdicts == [int(other.verdicts[number]) for number in range(12)]
        assert one.shares == [other.shares.get(number, 0) for number in range(12)] and sum(one.shares) > 0
        assert one.weights == [other.weights.get(number, 0) for number in range(12)] and sum(one.weights) > 0
        assert one.attacking == [number in scenario.numbers for number in range(12)]


def test_newcomers_come_late_and_whitewashers_under_new_names() -> None:
    late = played(Setting(SCENARIOS["newcomers"], "", 2, 6), None)
    assert [each.trust[-1] is None for each in late.rounds] == [True] + [False] * 5
    assert [each.verdicts[-1] is None for each in late.rounds] == [True] + [False] * 5
    assert late.rounds[1].trust[-1] == PPM // 2 and late.rounds[1].trust[0] > PPM // 2  # type: ignore[operator]
    washed = played(Setting(SCENARIOS["whitewashing"], "sign_flip", 2, 6), None)
    assert washed.names[:9] == [1] * 9 and sum(washed.names[9:]) > 3
    # Refused they are, and yet never worth less than a newcomer.
    assert any(each.verdicts[number] == Verdict.HARM for each in washed.rounds for number in range(9, 12))
    assert min(each.trust[number] or 0 for each in washed.rounds for number in range(9, 12)) == PPM // 2


def test_a_recommender_that_lies_is_heard_by_who_heeds_recommenders() -> None:
    setting = Setting(SCENARIOS["slander"], "", 2, 3)
    experiment = make_setting(setting)
    for model, heard in (("ledger", False), ("beta", False), ("subjective_logic", True), ("eigentrust", True)):
        stage = Stage(setting, experiment, model_of(model))
        stage.open(1)
        known = stage.progress.reputations
        slandered, spared = [known[number] for number in range(9)], [known[number] for number in range(9, 12)]
        assert (max(slandered) < min(spared)) == heard, model


def played_round(
    trust: Sequence[int | None], attacking: list[bool], weights: list[int], shares: list[int]
) -> PlayedRound:
    verdicts = [
        None if one is None else int(Verdict.ACCEPTED if weight else Verdict.HARM)
        for one, weight in zip(trust, weights, strict=True)
    ]
    return PlayedRound([*trust], 400_000, attacking, verdicts, weights, shares)


def test_figures_by_hand() -> None:
    # Nine who are honest, and three attackers: one attacks in the second round and falls below the gate in the third.
    def one(trust: int, attacks: int, weight: int, share: int) -> PlayedRound:
        return played_round(
            [800_000] * 9 + [trust, 900_000, 900_000],
            [False] * 9 + [place < attacks for place in range(3)],
            [100] * 9 + [weight, 50, 50],
            [10] * 9 + [share, 10, 10],
        )

    attacked = [one(700_000, 0, 100, 10), one(700_000, 1, 100, 5), one(399_999, 1, 0, 0), one(300_000, 1, 0, 0)]
    honest = [one(800_000, 0, 100, 15)] * 4
    row = row_of(Case("beta", "on_off", "sign_flip", 1, 4), Play(attacked, 0.8, [1] * 12), Play(honest, 0.9, [1] * 12))
    assert row.pay == pytest.approx((15 + 80) / (60 + 80)) and row.pay_beside == pytest.approx(95 / 3 / 40)
    assert row.weight == pytest.approx((200 / 1100 * 2 + 100 / 1000 * 2) / 4)
    assert row.hostile_weight == pytest.approx(100 / 1100 / 3)
    assert (row.accuracy, row.accuracy_honest, row.caught, row.escaped, row.names) == (0.8, 0.9, 1, 0, 1)
    assert row.honest_lost == 0 and row.until_pay is row.until_weight is None
    assert row.trust[0] == pytest.approx(2.5 / 3) and row.trust_others == [0.8] * 4
    # Had it weighed something to the end, it would have escaped, and all rounds from the second on would count.
    free = row_of(
        Case("beta", "on_off", "sign_flip", 1, 4), Play([*attacked[:2]] * 2, 0.8, [1] * 12), Play(honest, 0.9, [1] * 12)
    )
    assert (free.caught, free.escaped) == (3, 1)


def test_figures_of_newcomers_and_of_honest_losses_by_hand() -> None:
    def one(newcomer: int | None, weight: int, first: int = 100) -> PlayedRound:
        return played_round(
            [*[800_000] * 9, *[newcomer] * 3],
            [False] * 12,
            [first] + [100] * 8 + [weight] * 3,
            [10] * 9 + [weight // 10] * 3,
        )

    rounds = [
        one(None, 0),
        one(500_000, 50),
        one(600_000, 80),
        one(700_000, 90),
        one(800_000, 100, first=0),
        one(800_000, 100),
    ]
    row = row_of(Case("beta", "newcomers", "", 1, 6), Play(rounds, 0.8, [1] * 12), Play(rounds, 0.8, [1] * 12))
    assert (row.until_weight, row.until_pay, row.pay, row.accuracy_honest) == (3, 3, None, None)
    assert row.pay_beside == pytest.approx((5 + 8 + 9 + 10 + 10) / 50)
    assert row.trust[0] is None and row.trust[1] == 0.5 and row.caught is row.hostile_weight is None
    # One of nine in the first round, of twelve later; in the fifth round the one that weighs nothing would have had 10.
    assert row.honest_lost == pytest.approx(10 / (9 * 10 + 5 * 12 * 10), rel=0.06)


def test_pay_beyond_honest_pay_has_to_be_beyond_chance() -> None:
    def rows(*values: float | None) -> list[ReputationRow]:
        return [replace(ROW, pay=value) for value in values]

    assert pays(rows(1.2, 1.2, 1.2)) and not pays(rows(1.04, 1.04)) and not pays(rows(0.5, 0.6))
    # A mean of 1.2 with a standard error of .4.
    assert not pays(rows(1.6, 0.8)) and pays(rows(None)) is None
    assert OverSeeds.of([1.6, 0.8]).error == pytest.approx(0.4)


def test_models_are_named_with_parameters() -> None:
    assert models_of("models")[0] == "ledger" and set(models_of("models")) >= {"beta", "eigentrust"}
    assert described("beta(loss=7)")[1]["loss"] == 7 and described("ledger") == ["ledger"]
    assert described("beta") == described("beta@1") != described("beta(loss=7)")
    for wrong in ("alpha", "beta(", "beta(loss=-1)", "beta(los=1)", "beta@9", "ledger(x=1)"):
        with pytest.raises(ConfigError):
            model_of(wrong)
    with pytest.raises(ConfigError, match="no scenario"):
        cases(["ledger"], ["nothing"], ["sign_flip"], [1], 3)
    with pytest.raises(ConfigError, match="no attack"):
        cases(["ledger"], ["on_off"], ["nothing"], [1], 3)
    with pytest.raises(ConfigError, match="no reputation model"):
        cases(["nothing"], ["on_off"], ["sign_flip"], [1], 3)


def test_an_attack_is_played_where_somebody_attacks() -> None:
    chosen = cases(["ledger"], ["on_off", "slander"], ["sign_flip", "label_flip"], [1, 2], 3)
    played_by_seed = [(case.scenario, case.attack) for case in chosen if case.seed == 1]
    assert played_by_seed == [("on_off", "sign_flip"), ("on_off", "label_flip"), ("slander", "")]
    assert len(chosen) == 2 * len(played_by_seed)


def test_runs_are_kept_gone_on_with_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    chosen = cases(["ledger", "beta"], ["on_off", "turns_bad", "newcomers"], ["sign_flip"], [1], 4)
    rows = Campaign(chosen, tmp_path, announce=lambda *of: told.append(of)).rows()
    # Both attacks have the same honest play, and newcomers are their own.
    assert [done for _, done, _ in told] == list(range(1, 9)) and all(row.error is None for row in rows)
    kept = (tmp_path / PLAYS).read_text()
    # As if the command had been killed while it wrote.
    (tmp_path / PLAYS).write_text(kept[:-20])
    told.clear()
    assert Campaign(chosen, tmp_path, announce=lambda *of: told.append(of)).rows() == rows and len(told) == 1
    # Other parameters of a model, and other rounds, are other runs.
    other = [replace(chosen[0], rounds=3), replace(chosen[0], model="beta(loss=9)")]
    told.clear()
    Campaign(other, tmp_path, announce=lambda *of: told.append(of)).rows()
    assert len(told) == 4
    monkeypatch.setattr(runs, "played", lambda *of: pytest.fail("it was played before"))
    assert Campaign(chosen, tmp_path).rows() == rows


def test_several_processes_find_the_same_and_what_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cases(["ledger"], ["collusion", "rare_data"], ["label_flip"], [1], 3)
    rows = Campaign(chosen, workers=2).rows()
    assert Campaign(chosen).rows() == rows

    def failing(setting: Setting, model: object) -> Play:
        if setting.scenario.name == "collusion":
            raise ValueError("no luck")
        return played(setting, None)

    monkeypatch.setattr(runs, "played", failing)
    first, second = Campaign(chosen).rows()
    assert first.error == "RuntimeError: ValueError: no luck" and first.pay is None and second == rows[1]


def test_the_command_prints_rows_and_writes_files(tmp_path: Path) -> None:
    document = tmp_path / "reputation.md"
    document.write_text("Before.\n<!-- fedledger bench reputation -->\n<!-- end -->\nAfter.\n")
    options = "--models ledger,beta(loss=6) --scenarios sybil_split,newcomers --seeds 1,2 --rounds 3 --workers 1"
    arguments = ["bench", "reputation", *options.split(), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(
        app, [*arguments, "--format", "json", "--csv", str(tmp_path / "a.csv"), "--document", str(document)]
    )
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["rows"]
    assert len(rows) == 8 and set(rows[0]) == {field.name for field in fields(ReputationRow)}
    assert json.loads((tmp_path / "out" / "reputation.json").read_text())["rows"] == rows
    table = (tmp_path / "a.csv").read_text()
    assert table == (tmp_path / "out" / "reputation.csv").read_text() and len(table.splitlines()) == 9
    assert "trust" not in table.splitlines()[0].split(",")
    text = document.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "| sybil_split | sign_flip |" in text
    picture = (tmp_path / "out" / "reputation.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0 and "beta" in shown.stdout and "honest lost:" in shown.stdout
    assert (tmp_path / "out" / "reputation.png").read_bytes() == picture


def test_wrong_options_are_told_before_anything_is_played(tmp_path: Path) -> None:
    for wrong in (["--models", "alpha"], ["--scenarios", "x"], ["--attacks", "x"], ["--seeds", "x"]):
        told = CliRunner().invoke(app, ["bench", "reputation", *wrong])
        assert told.exit_code != 0 and isinstance(told.exception, (ConfigError, SystemExit)), wrong
    told = CliRunner().invoke(app, ["bench", "reputation", "--csv", str(tmp_path / "none" / "a.csv")])
    assert isinstance(told.exception, ConfigError)


def test_files_of_rows() -> None:
    failing = replace(ROW, error="no luck", pay=None)
    text = "<!-- fedledger bench reputation -->\n<!-- end -->\n"
    assert "| on_off | sign_flip | 0.50 |" in with_tables(text, [ROW, failing])
    assert "**1.50**" in with_tables(text, [replace(ROW, pay=1.5)])
    with pytest.raises(ConfigError, match="nothing to write"):
        with_tables(text, [failing])
    with pytest.raises(ConfigError, match="nothing to draw"):
        write_png(Path("none.png"), [failing])
    assert csv_table([failing]).splitlines()[1].endswith("no luck")
    assert ReputationRow(**json.loads(json.dumps(asdict(ROW)))) == ROW


@pytest.mark.long
@pytest.mark.parametrize("attack", ["sign_flip", "label_flip", "alie_1.5"])
def test_by_default_nobody_earns_more_by_attacking(attack: str) -> None:
    """With what a new task has by default, and with each model as it is by default, on seeds that nobody tuned on."""
    chosen = cases(models_of("models"), UNPROFITABLE, [attack], RESERVED_SEEDS, 75)
    rows = Campaign(chosen, workers=2).rows()
    assert all(row.error is None for row in rows)
    for model in models_of("models"):
        for scenario in UNPROFITABLE:
            found = [row for row in rows if (row.model, row.scenario) == (model, scenario)]
            assert len(found) == len(RESERVED_SEEDS) and pays(found) is False, (model, scenario)
