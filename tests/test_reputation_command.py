"""What publishers think of participants, as the ledger and as its logs tell it, and the command that shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.ledger_tools.report.opinions import DAY, Listening, Opinions, reputation_rows
from fedledger.protocol.errors import ChainError, ConfigError
from support.command_line import caller
from support.small import Small, run_small, write_config

OTHER = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("run"), Chain(), rounds=3)


def test_logs_tell_what_the_ledger_does(small: Small) -> None:
    ledger, publisher = small.run.ledger, small.run.history.task(1).publisher
    for others in ((), (OTHER,)):
        asked = Listening(publisher, others, 500_000 if others else 0)
        rows = reputation_rows(ledger, 1, [], asked)
        assert [row.address for row in rows] == sorted(small.run.history.owners.values(), key=str.lower)
        for row in rows:
            reputation, age = ledger.reputation_of(publisher, row.id)
            assert (row.own.reputation, row.age) == (reputation, age) and age is not None
            assert row.fused == ledger.opinion_with(publisher, others, asked.trust, row.id)
            assert row.scorer == ledger.scorer_evidence(publisher, row.id)
    stranger = reputation_rows(ledger, None, [rows[0].address], Listening(OTHER))
    assert stranger[0].age is None and stranger[0].reputation == 500_000
    heard = reputation_rows(ledger, 1, [rows[0].address], Listening(OTHER, (publisher,), 500_000))[0]
    assert heard.fused == ledger.opinion_with(OTHER, (publisher,), 500_000, heard.id)
    assert heard.fused != heard.own


def test_what_was_thought_before_a_block_does_not_know_later_ones(small: Small) -> None:
    ledger, publisher = small.run.ledger, small.run.history.task(1).publisher
    for current in small.run.history.task(1).settled:
        row = reputation_rows(ledger, 1, [], Listening(publisher), current.settled_in)[0]
        assert row.evidence == current.left[row.id] and row.age == 0
    with pytest.raises(ChainError, match="no task"):
        reputation_rows(ledger, 1, [], Listening(publisher), 0)
    with pytest.raises(ChainError, match="no block"):
        reputation_rows(ledger, 1, [], Listening(publisher), ledger.chain.block_number() + 1)


def test_ages_are_days_since_the_last_change_and_end(small: Small) -> None:
    publisher = small.run.history.task(1).publisher
    opinions = Opinions.read(small.run.ledger, small.run.ledger.chain.block_number())
    asked, changed = Listening(publisher), opinions.changed_in(publisher, 0)
    assert changed is not None
    for day, age in ((100, 0), (101, 1), (190, 90), (191, None)):
        assert opinions.of(0, asked, day, lambda number: 100).age == age
    assert DAY == 24 * 3600
    with pytest.raises(ChainError, match="no participant"):
        opinions.participant(OTHER)


@pytest.mark.parametrize("recommenders", [(OTHER, OTHER), (OTHER,) * 9])
def test_nobody_is_heard_twice(recommenders: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        Listening(OTHER[:-1] + "8", recommenders)
    with pytest.raises(ConfigError):
        Listening(OTHER, (OTHER,))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_chain("anvil") as process:
        yield process.url


def test_the_command_shows_it(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = run_small(tmp_path, Chain(url), rounds=1)
    small.run.deployment.write(tmp_path / "deployment.json")
    call = caller(monkeypatch, capsys)
    place = ["--rpc", url, "--deployment", tmp_path / "deployment.json"]
    code, told, _ = call("reputation", *place, "--recommenders", OTHER, "--format", "json")
    document = json.loads(told)
    assert code == 0 and document["trust"] == 500_000 and len(document["participants"]) == 4
    one = document["participants"][0]
    assert one["fused"] == one["own"] and one["age"] == 0 and sum(list(one["own"].values())[:3]) == 1_000_000
    code, told, hint = call("reputation", one["address"], *place)
    assert code == 0 and "own opinion" in told and "fused" not in told and not hint
    code, _, told = call("reputation", OTHER, *place)
    assert code == 4 and "no participant" in told
    code, told, _ = call("reputation", one["address"], *place, "--block", 0, "--format", "json")
    assert code == 4


def test_the_command_says_that_a_task_has_recommenders_and_that_nobody_has_enrolled(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = f"""reputation_model = {{ method = "subjective_logic@1" }}
[training.reputation]
recommenders = ["{OTHER}"]
"""
    config = write_config(tmp_path, rounds=1, extra=named)
    call = caller(monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    for command in (["deploy", "--experiment-seed", 0], ["task", "post", config]):
        assert call(*command, "--rpc", url)[0] == 0
    code, told, hint = call("reputation", "--rpc", url)
    assert code == 0 and "Nobody has enrolled in task 1." in told and "--recommenders" in hint
    for other in (["--recommenders", OTHER], ["--publisher", OTHER]):
        code, told, hint = call("reputation", "--rpc", url, *other)
        assert code == 0 and "Nobody has enrolled in task 1." in told and not hint
    code, told, hint = call("reputation", "--rpc", url, "--format", "json")
    assert code == 0 and json.loads(told)["participants"] == [] and not hint
