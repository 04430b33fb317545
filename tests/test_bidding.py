"""Bidding rounds and mechanisms in whole runs: with a ledger, without one, replayed, and lied about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.aggregator.duties import proposing
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.aggregator.round.validation import Expected, validate, validate_bid
from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.bids import bids_are_due, report_vector
from fedledger.protocol.records.spec import ReportedNumber, TaskSpec
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.quick import quick

PARTICIPANTS, UNITS = 6, 1000
CONFIG = """
name = "bids"
participants = 6
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [8], classes = 10 }} }}
[data]
partition = {{ method = "iid@1" }}
[training]
pipeline = "plain"
rounds = 4
bidding = 3
mechanism = {{ method = "{mechanism}", params = {params} }}
report = [{{ name = "{name}", most = 500 }}]
[reports]
{reports}
[ledger]
quorum = 2
units_per_round = 1000
{terms}
"""
AUCTION = "vcg@1", "{ winners = 3 }"


@dataclass(frozen=True)
class Played:
    experiment: Experiment
    run: Run
    folder: Path


def config(
    folder: Path, mechanism: tuple[str, str] = AUCTION, terms: str = "", reports: str | None = None
) -> Experiment:
    folder.mkdir(exist_ok=True)
    name = "item" if mechanism[0].startswith("contract_menu") else "cost"
    ranges = f"{name} = [0, 1]" if name == "item" else "cost = [100, 300]"
    given = ranges if reports is None else reports
    text = CONFIG.format(mechanism=mechanism[0], params=mechanism[1], terms=terms, reports=given, name=name)
    (folder / "config.toml").write_text(text)
    return make_experiment(load_config(folder / "config.toml"), folder)


def play_on_ledger(experiment: Experiment, folder: Path) -> Played:
    store = LocalStore(folder / "store")
    finished = run(experiment, Chain(), store, folder)
    write_results(finished, experiment, store, folder, [])
    return Played(experiment, finished, folder)


def in_memory(experiment: Experiment) -> list[Round]:
    return list(play(MemoryRecord(experiment, judged=True), Serial(experiment)))


@pytest.mark.parametrize("terms", ["", "batched = true\npools_pay = true"], ids=["direct", "batched, pooled"])
@pytest.mark.parametrize(
    "mechanism",
    quick(
        2,
        [
            "vcg@1 { winners = 3 }",
            "contract_menu@1 { items = [[50, 100], [100, 180]] }",
            "proportional_share@1 {}",
            "truthful_bandit@1 { tries_a_round = 3 }",
        ],
    ),
)
def test_a_mechanism_asks_and_pays_alike_with_a_ledger_and_without(mechanism: str, terms: str, tmp_path: Path) -> None:
    """And an audit finds the same; bidding rounds cost nobody a round, reputation or money."""
    method, _, params = mechanism.partition(" ")
    experiment = config(tmp_path, (method, params), terms)
    played, alone = play_on_ledger(experiment, tmp_path), in_memory(experiment)
    task = played.run.task
    assert [r.bidding for r in task.settled] == [each.bidding for each in alone]
    assert len(task.counted) == 4 and sum(r.bidding for r in task.settled) == 2
    assert [r.index for r in task.settled if r.bidding] == [1, 4]
    numbers = {experiment.address(number): number for number in range(PARTICIPANTS)}
    paid = 0
    for settled, known in zip(task.settled, alone, strict=True):
        assert settled.proposal is not None
        assert {numbers[settled.owners[i]]: v for i, v in settled.verdicts.items()} == dict(known.verdicts)
        shares = {numbers[settled.owners[i]]: units for i, units in settled.proposal.shares.items() if units}
        assert shares == {number: units for number, units in known.shares.items() if units}
        if settled.bidding:
            assert set(settled.verdicts.values()) == {Verdict.HEARD}
            assert settled.proposal.model == settled.base
            assert settled.left == settled.evidence
        paid += sum(shares.values())
        assert paid <= UNITS * sum(not r.bidding for r in task.settled if r.index <= settled.index)
    assert played.run.final.vector.tobytes() == alone[-1].model.vector.tobytes()
    assert paid > 0
    # A bid that was heard is no refused update.
    heads = (tmp_path / "refusals.csv").read_text().splitlines()
    assert not any(Verdict.HEARD.label in line for line in heads[1:])
    result = audit_run(tmp_path)
    assert result.reproduced, result.first_divergence


def lie_about_bids(document: dict[str, Any]) -> None:
    heard = next(row for row in document["updates"] if row["verdict"] == Verdict.HEARD.label)
    heard["report"]["cost"] += 1


def lie_about_terms(document: dict[str, Any]) -> None:
    document["terms"][0]["price"] += 1


def lie_nothing(document: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("index", "lie", "field"),
    [(1, lie_about_bids, "report.updates"), (2, lie_about_terms, "report.terms"), (2, lie_nothing, "pay share of 0x")],
)
def test_who_lies_about_bids_terms_or_pay_is_named(
    index: int, lie: Callable[[dict[str, Any]], None], field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = proposing.round_outcome

    def false(given: Any, *rest: Any) -> RoundOutcome:
        outcome = real(given, *rest)
        if given.index != index:
            return outcome
        document = canonical.decode(outcome.report.data)
        lie(document)
        shares = dict(outcome.shares)
        if lie is lie_nothing:
            most, least = max(shares, key=lambda i: shares[i]), min(shares, key=lambda i: shares[i])
            shares[most], shares[least] = shares[most] + 1, shares[least] - 1
        report = Content.of(canonical.encode(document))
        return replace(outcome, report=report, document=document, shares=shares)

    monkeypatch.setattr(proposing, "round_outcome", false)
    played = play_on_ledger(config(tmp_path), tmp_path)
    assert played.run.task.counted
    divergence = audit_run(tmp_path).first_divergence
    assert divergence is not None and divergence.round == index and divergence.field.startswith(field)


def test_where_nobody_bids_no_round_ever_counts(tmp_path: Path) -> None:
    experiment = config(tmp_path, reports="")
    with pytest.raises(RoundError, match="below the quorum"):
        play_on_ledger(experiment, tmp_path)
    with pytest.raises(RoundError, match="below the quorum"):
        in_memory(experiment)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bidding = 3", "give both, or neither"),
        ('report = [{{ name = "{name}", most = 500 }}]', "give both, or neither"),
        ("cost = [100, 501]", "takes 0 to 500"),
        ("price = [1, 2]", "does not ask for"),
    ],
)
def test_what_participants_report_is_what_the_task_asks_for(line: str, message: str, tmp_path: Path) -> None:
    if line.startswith(("cost", "price")):
        with pytest.raises(ConfigError, match=message):
            config(tmp_path, reports=line)
        return
    text = CONFIG.replace(line + "\n", "").format(
        mechanism=AUCTION[0], params=AUCTION[1], terms="", reports="", name="cost"
    )
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        make_experiment(load_config(tmp_path / "config.toml"), tmp_path)


def test_a_mechanism_that_needs_a_report_says_so(tmp_path: Path) -> None:
    text = CONFIG.format(mechanism=AUCTION[0], params=AUCTION[1], terms="", reports="", name="quality")
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match="needs participants to report cost"):
        make_experiment(load_config(tmp_path / "config.toml"), tmp_path)


KEY = bytes(range(1, 33))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TaskSpec:
    return config(tmp_path_factory.mktemp("spec")).spec


def bid_bytes(of: TaskSpec, vectors: Mapping[str, np.ndarray[Any, Any]], **header: Any) -> tuple[bytes, str]:
    from eth_account import Account

    address = Account.from_key(KEY).address
    told = UpdateHeader(
        spec=of.digest.hex(),
        round=1,
        participant=address,
        base=bytes(32).hex(),
        examples=0,
        steps=0,
        vectors=sorted(vectors),
        payload="0" * 64,
    )
    return wire.encode(told.model_copy(update=header), vectors, KEY), address


HOSTILE: dict[str, tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any], Verdict]] = {
    "beyond the bounds": ({"report": np.array([501])}, {}, Verdict.OUT_OF_RANGE),
    "below zero": ({"report": np.array([-1])}, {}, Verdict.OUT_OF_RANGE),
    "the smallest integer": ({"report": np.array([np.iinfo(np.int64).min])}, {}, Verdict.OUT_OF_RANGE),
    "two numbers": ({"report": np.array([1, 2])}, {}, Verdict.WRONG_SHAPE),
    "none": ({"report": np.zeros(0, np.int64)}, {}, Verdict.WRONG_SHAPE),
    "a matrix": ({"report": np.array([[1]])}, {}, Verdict.WRONG_SHAPE),
    "a fraction": ({"report": np.array([1.5], np.float32)}, {}, Verdict.MALFORMED),
    "an update": ({"delta": np.zeros(9, np.float32)}, {}, Verdict.MALFORMED),
    "a report and more": ({"report": np.array([1]), "delta": np.zeros(9, np.float32)}, {}, Verdict.MALFORMED),
    "another round": ({"report": np.array([1])}, {"round": 2}, Verdict.REPLAYED),
    "another task": ({"report": np.array([1])}, {"spec": "11" * 32}, Verdict.REPLAYED),
    "another base": ({"report": np.array([1])}, {"base": "22" * 32}, Verdict.WRONG_BASE),
    "another codec": ({"report": np.array([1])}, {"codec": "coded"}, Verdict.MALFORMED),
    "a trajectory": ({"report": np.array([1])}, {"trajectory": "33" * 32}, Verdict.MALFORMED),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_bid_of_the_round_is_refused_for_a_reason(case: str, spec: TaskSpec) -> None:
    vectors, header, verdict = HOSTILE[case]
    data, owner = bid_bytes(spec, vectors, **header)
    with pytest.raises(UpdateRefusedError) as error:
        validate_bid(data, Expected(spec, 1, bytes(32), 9), owner, owner)
    assert error.value.verdict is verdict


def test_a_bid_is_heard_and_is_no_update(spec: TaskSpec) -> None:
    data, owner = bid_bytes(spec, report_vector({"cost": 500}, spec.report))
    expected = Expected(spec, 1, bytes(32), 9)
    assert validate_bid(data, expected, owner, owner) == {"cost": 500}
    with pytest.raises(UpdateRefusedError):
        validate(data, expected, owner, owner)
    with pytest.raises(UpdateRefusedError) as error:
        validate_bid(data, expected, owner, "0x" + "44" * 20)
    assert error.value.verdict is Verdict.BAD_SIGNATURE


def test_bids_are_due_as_often_as_the_task_says_and_until_they_stand() -> None:
    assert [index for index in range(1, 12) if bids_are_due(0, index, 0, True)] == []
    last, asked = 0, []
    for index in range(1, 12):
        if bids_are_due(4, index, last, last != 5):
            last = index
            asked.append(index)
    # The one of round 5 was voided.
    assert asked == [1, 5, 6, 10]


def test_a_report_is_exactly_what_the_task_asks_for() -> None:
    numbers = [ReportedNumber(name="cost", most=9), ReportedNumber(name="quality", least=-5, most=5)]
    assert report_vector({"quality": -5, "cost": 9}, numbers)["report"].tolist() == [9, -5]
    for wrong in ({"cost": 1}, {"cost": 1, "quality": 0, "more": 1}, {"cost": 10, "quality": 0}):
        with pytest.raises(ConfigError):
            report_vector(wrong, numbers)


def test_a_mechanism_that_asks_fewer_than_the_quorum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks at most 1 participants, and the quorum is 2"):
        config(tmp_path, ("vcg@1", "{ winners = 1 }"))


@pytest.mark.parametrize("attack", ["replay@1", "plagiarism@1"])
def test_attackers_know_what_was_sent_in_rounds_before_those_for_bids(attack: str, tmp_path: Path) -> None:
    """They repeat updates that were sent, which the default pipeline refuses, and none that nobody made."""
    text = CONFIG.format(
        mechanism=AUCTION[0], params="{ winners = 6 }", terms="", reports="cost = [1, 100]", name="cost"
    )
    text = text.replace('pipeline = "plain"\n', "").replace("bidding = 3", "bidding = 2")
    text += f'[[attackers]]\nattack = {{ method = "{attack}" }}\n'
    (tmp_path / "config.toml").write_text(text)
    experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)
    played = [closed for closed in in_memory(experiment) if closed.counts]
    number = next(n for n, behaviour in enumerate(experiment.behaviours) if behaviour != "honest")
    assert all(closed.verdicts[number] is not Verdict.ACCEPTED for closed in played[1:])
