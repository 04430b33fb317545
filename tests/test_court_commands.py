"""Commands that deploy a court, post tasks with one and leave it: what is refused before anything is sent, and how."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import free_port, running_chain
from fedledger.contracts.ledger.records import Settings
from fedledger.ledger_tools.deploy import Deployment, require_funds
from fedledger.ledger_tools.report.tables import dispute_cells
from fedledger.platform.cli.options import read_address, read_role
from fedledger.platform.experiment.config import DEPLOYED, LedgerConfig
from fedledger.platform.experiment.deployment_terms import (
    court_cautions,
    court_needs,
    require_court,
    require_deployed,
    require_terms,
)
from fedledger.protocol.errors import ChainError, ConfigError, ExitCode
from fedledger.protocol.units import GWEI, in_gwei, shown_time
from support.command_line import Call, caller
from support.quick import quick
from support.small import TERMS, write_config

ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"
MIXED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
NOWHERE = ["--rpc", "http://127.0.0.1:1"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_chain("anvil") as process:
        yield process.url


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["deploy", *NOWHERE, "--exit-delay", -1],
        ["deploy", *NOWHERE, "--exit-delay", 2**32],
        ["deploy", *NOWHERE, "--min-stake-gwei", -1],
        ["deploy", *NOWHERE, "--min-verifier-stake-gwei", 2**96],
        ["deploy", *NOWHERE, "--juror-penalty-gwei", -1],
        ["deploy", *NOWHERE, "--most-penalty-gwei", 2**70],
        ["deploy", *NOWHERE, "--dispute-period", 0],
        ["deploy", *NOWHERE, "--verifier-age", 2**32],
        ["deploy", *NOWHERE, "--least-window", 2**32],
        ["deploy", *NOWHERE, "--experiment-seed", -1],
        ["deploy", *NOWHERE, "--guardian", "nobody"],
        ["deploy", *NOWHERE, "--predecessor", "0x12"],
        ["deploy", *NOWHERE, "--stake-token", MIXED.replace("aAeb", "AAeb")],
        ["task", "post", "x.toml", *NOWHERE, "--aggregator", "nonsense"],
        ["task", "post", "x.toml", *NOWHERE, "--standby", ADDRESS, "--standby", "nonsense"],
        ["task", "post", "x.toml", *NOWHERE, "--token", "coin"],
        ["task", "finish", *NOWHERE, "--task", 2**300],
        ["task", "push", *NOWHERE, "--role", "verifyer 0"],
        ["node", "start", "x.toml", *NOWHERE, "--participant", -1],
        ["node", "exit", *NOWHERE, "--role", "verifier -1"],
        ["aggregator", "start", *NOWHERE, "--standby", -1],
        *(["aggregator", "start", *NOWHERE, "--poll", odd] for odd in (-1, "nan", "inf", "soon", "1e99")),
        ["verifier", "start", *NOWHERE, "--verifier", -1],
        ["verifier", "start", *NOWHERE, "--patience", -1],
        ["verifier", "start", *NOWHERE, "--task", 0],
        ["verifier", "start", *NOWHERE, "--stake-gwei", -1],
        ["verifier", "start", *NOWHERE, "--trust-code", "nonsense"],
        ["withdraw", *NOWHERE, "--to", "me"],
        ["withdraw", *NOWHERE, "--role", "everybody"],
        ["chain", "up", "--port", 65_536],
        ["chain", "up", "--block-time", -1],
    ],
    ids=lambda words: " ".join(str(word)[:20] for word in words if word not in NOWHERE),
)
def test_what_no_ledger_takes_is_wrong_use(call: Call, arguments: list[object]) -> None:
    code, out, err = call(*arguments)
    assert code == ExitCode.USAGE and out == ""
    assert "Invalid value" in err and "Traceback" not in err


def test_an_address_is_checked_where_its_letters_say_how() -> None:
    assert [read_address(text) for text in (MIXED, MIXED.lower(), "0x" + MIXED[2:].upper())] == [MIXED] * 3
    with pytest.raises(typer.BadParameter, match="EIP-55"):
        read_address(MIXED[:-1] + "D")
    with pytest.raises(typer.BadParameter, match="40 hexadecimal digits"):
        read_address(MIXED[2:])


def test_roles_are_those_of_an_experiment() -> None:
    for role in ("publisher", "aggregator", "deployer", "standby 0", "participant 12", "verifier 3"):
        assert read_role(role) == role
    with pytest.raises(typer.BadParameter, match="'verifier N'"):
        read_role("verifier 03")


@pytest.mark.parametrize(
    "command", [["deploy"], ["verifier", "start"], ["node", "start", "x.toml"], ["aggregator", "start"], ["withdraw"]]
)
def test_two_accounts_are_one_too_many(
    call: Call, command: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if command != ["deploy"]:
        assert call("deploy", "--rpc", url, "--experiment-seed", 0)[0] == 0
    code, _, err = call(*command, "--rpc", url, "--keystore", "key.json", "--experiment-seed", 0)
    assert code == ExitCode.CONFIG and "name two accounts" in err


def test_amounts_and_times_have_units() -> None:
    row = {"dispute": 0, "bond": str(GWEI), "next": {"step": "draw", "until": 86_400}, "juries": []}
    told = {"dispute": 0, "bond": "1 gwei", "next": "draw until 1970-01-02 00:00:00 UTC"}
    assert dispute_cells(row) == told and dispute_cells(row | {"next": None})["next"] == ""
    assert [in_gwei(wei) for wei in (0, 1, 25 * 10**8, -GWEI, 10**18)] == [
        *("0 gwei", "0.000000001 gwei", "2.5 gwei", "-1 gwei", "1,000,000,000 gwei"),
    ]
    assert shown_time(86_400) == "1970-01-02 00:00:00 UTC" and shown_time(10**12) == "second 1000000000000"
    told = str(RevertedError("StakeTooSmall", (1, 2 * GWEI), "enrol"))
    assert "a stake of 2 gwei or more" in told
    assert "1970-01-02 00:00:00 UTC" in str(RevertedError("TooEarlyToServe", (86_400,), "serve"))


# -- deployments ---------------------------------------------------------------------------------------------------

COURT = Settings(min_stake=10 * GWEI, exit_delay=86_400, min_verifier_stake=10 * GWEI, juror_penalty=GWEI)


def test_settings_of_no_court_are_told_in_a_sentence() -> None:
    require_court(COURT)
    for wrong, told in (
        ({"jury_size": 4, "least_pool": 5}, "odd --jury-size"),
        ({"jury_size": 5}, "--least-pool of at least"),
        ({"juror_penalty": 11 * GWEI}, "11 gwei is more than the least stake of a verifier, 10 gwei"),
    ):
        with pytest.raises(ConfigError, match=told):
            require_court(replace(COURT, **wrong))
    assert court_cautions(COURT) == []
    assert "takes up to 43,200 s" in court_cautions(replace(COURT, exit_delay=43_200))[0]
    assert "Jurors lose nothing" in court_cautions(replace(COURT, juror_penalty=0))[0]
    needs = " ".join(court_needs(COURT))
    assert "bond_gwei of 50 or more" in needs and "exit delay of 43,200 s" in needs


def test_a_deployment_says_what_tasks_need_and_keeps_its_record(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in (["--jury-size", 4], ["--juror-penalty-gwei", 2_000_000], ["--jury-size", 5, "--least-pool", 3]):
        code, _, err = call("deploy", "--rpc", url, "--experiment-seed", 0, *wrong)
        assert code == ExitCode.CONFIG and "--" in err
    code, out, err = call("deploy", "--rpc", url, "--experiment-seed", 0, "--exit-delay", 40_000)
    assert code == 0 and "bond_gwei of 5,000,000 or more" in out and "No task with a challenge window" in err
    before = Path("deployment.json").read_bytes()
    code, _, err = call("deploy", "--rpc", url, "--experiment-seed", 0)
    assert code == ExitCode.CONFIG and "deployment.json exists already" in err
    assert Path("deployment.json").read_bytes() == before
    code, out, _ = call("deploy", "--rpc", url, "--experiment-seed", 0, "--output", "other.json", "--format", "json")
    assert code == 0 and json.loads(out)["address"] != json.loads(before)["address"]


def test_who_cannot_pay_for_a_deployment_is_told_how_much(url: str) -> None:
    chain = Chain(url)
    with pytest.raises(ChainError, match=rf"{MIXED} has 0 gwei, and .* Send it [\d,.]+ gwei or more"):
        require_funds(chain, MIXED)


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_terms_are_compared_with_the_deployment() -> None:
    terms = replace(TERMS, challenge_window=60, bond=50 * GWEI, penalty=10 * GWEI)
    settings = replace(COURT, least_window=60, most_penalty=10 * GWEI)
    require_terms(terms, settings, 0)
    for change, deployed, told in (
        ({"quorum": 1_025, "min_participants": 1_025}, {}, "quorum under [ledger] is 1,025"),
        ({"min_participants": 2}, {}, "min_participants under [ledger] is 2"),
        ({"penalty": 11 * GWEI}, {}, "penalty_gwei under [ledger] is 11, and this ledger takes at most 10"),
        ({"check_penalty": 11 * GWEI}, {}, "a ledger deployed with --most-penalty-gwei 11 or more"),
        ({"check_penalty": 10 * GWEI, "min_stake": GWEI}, {}, "a stake under [ledger] holds 1 gwei"),
        ({"challenge_window": 59}, {}, "challenge_window under [ledger] is 59"),
        ({"penalty": 0, "check_rate": 1, "challenge_window": 59}, {}, "challenge_window under [ledger] is 59"),
        ({"bond": 49 * GWEI}, {}, "bond_gwei under [ledger] is 49, and this ledger needs 50"),
        ({}, {"exit_delay": 43_263}, "Shorten the task's periods by 1 s"),
    ):
        with pytest.raises(ConfigError) as refused:
            require_terms(replace(terms, **change), replace(settings, **deployed), 0)
        assert told in str(refused.value)
    require_terms(terms, replace(settings, exit_delay=43_264), 0)
    require_terms(replace(terms, challenge_window=0, penalty=0, bond=0), replace(settings, exit_delay=0), 0)


def test_only_what_a_configuration_gives_must_be_the_deployment_s() -> None:
    require_deployed(LedgerConfig(), COURT)
    require_deployed(LedgerConfig(exit_delay=86_400, juror_penalty_gwei=1), COURT)
    with pytest.raises(ConfigError) as refused:
        require_deployed(LedgerConfig(exit_delay=5, juror_penalty_gwei=2, jury_size=3), COURT)
    assert "exit_delay is 5, and the ledger was deployed with 86,400" in str(refused.value)
    assert "juror_penalty_gwei is 2, and the ledger was deployed with 1" in str(refused.value)
    assert "jury_size" not in str(refused.value)


def test_the_schema_says_which_keys_are_the_deployment_s() -> None:
    told = {
        name: field["description"]
        for name, field in LedgerConfig.model_json_schema()["properties"].items()
        if "description" in field
    }
    assert {name for name, text in told.items() if "the deployment's" in text} == DEPLOYED.keys()


def test_a_ledger_refuses_what_the_commands_refuse(url: str) -> None:
    """The least bond and the least exit delay are the contract's own."""
    from fedledger.contracts.ledger.client import Ledger
    from fedledger.platform.experiment.accounts import experiment_account

    chain = Chain(url)
    deployer = experiment_account(0, "deployer", chain)
    chain.fund(deployer.address, 10**18)
    settings = replace(COURT, exit_delay=43_264)
    ledger, _ = Ledger.deploy(chain, deployer, settings)
    terms = replace(TERMS, model=TERMS.spec, aggregator=deployer.address, challenge_window=60, bond=settings.least_bond)
    require_terms(terms, settings, 0)
    assert terms.least_exit_delay(settings, 1) == 43_264
    assert ledger.post_task(deployer, terms) == 1
    for wrong in ({"bond": terms.bond - 1}, {"challenge_window": 61}):
        with pytest.raises(ConfigError):
            require_terms(replace(terms, **wrong), settings, 0)
        with pytest.raises(RevertedError):
            ledger.post_task(deployer, replace(terms, **wrong))


def test_a_run_is_refused_before_its_folder_is_made(call: Call, tmp_path: Path) -> None:
    config = write_config(tmp_path, extra="[ledger]\nchallenge_window = 60\nbond_gwei = 1")
    code, _, err = call("run", config, "--chain", "embedded", "--out", tmp_path / "runs")
    assert code == ExitCode.CONFIG and "bond_gwei under [ledger] is 1" in err
    assert not (tmp_path / "runs").exists()


def test_tasks_are_posted_as_they_are_deployed_and_say_how_to_judge_them(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("deploy", "--rpc", url, "--experiment-seed", 0)[0] == 0
    assert call("new", "mine")[0] == 0
    config = Path("mine/config.toml")
    code, out, _ = call("task", "post", config, "--rpc", url, "--format", "json")
    posted = json.loads(out)
    assert code == 0 and posted["code"].startswith("bafk")
    assert f"fedledger verifier start --trust-code {posted['code']}" in call("task", "post", config, "--rpc", url)[1]

    other = write_config(tmp_path, rounds=1, extra="[ledger]\nexit_delay = 40_000\nstandbys = 1")
    for command in ("check", "post"):
        code, _, err = call("task", command, other, "--rpc", url)
        assert code == ExitCode.CONFIG and "exit_delay is 40,000, and the ledger was deployed with 86,400" in err
    other.write_text(other.read_text().replace("exit_delay = 40_000", ""))
    assert call("task", "post", other, "--rpc", url)[0] == 0

    monkeypatch.setattr(Chain, "development", False)
    code, _, err = call("task", "post", other, "--rpc", url, "--no-court", "--aggregator", ADDRESS)
    assert code == ExitCode.CONFIG and "standbys under [ledger] is 1" in err and "--standby" in err


@pytest.mark.parametrize("number", ["3", "9"])
def test_a_node_of_no_participant_is_refused(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, participants=3, rounds=1)
    assert call("deploy", "--rpc", url, "--experiment-seed", 0)[0] == 0
    code, out, _ = call("task", "post", config, "--rpc", url, "--format", "json")
    task = json.loads(out)["task"]
    code, _, err = call("node", "start", config, "--rpc", url, "--task", task, "--participant", number)
    assert code == ExitCode.CONFIG and f"no participant {number}" in err and "0 to 2" in err


def test_an_unknown_task_is_told_with_those_that_there_are(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("deploy", "--rpc", url, "--experiment-seed", 0)[0] == 0
    for command in (
        ["node", "start", write_config(tmp_path)],
        ["aggregator", "start"],
        ["verifier", "start", "--experiment-seed", 0],
        ["task", "finish", "--experiment-seed", 0],
        ["task", "push", "--experiment-seed", 0],
        ["task", "open", "--experiment-seed", 0],
        ["history"],
    ):
        code, _, err = call(*command, "--rpc", url, "--task", 7)
        assert code == ExitCode.CHAIN and "The ledger has no task 7. It has: none." in err, command


def test_a_verifier_s_stake_comes_back_by_its_role(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedledger.platform.experiment.accounts import experiment_account, verifier_role

    monkeypatch.chdir(tmp_path)
    assert call("deploy", "--rpc", url, "--experiment-seed", 0)[0] == 0
    chain = Chain(url)
    ledger = Deployment.read(Path("deployment.json")).open(chain)
    account = experiment_account(0, verifier_role(1), chain)
    chain.fund(account.address, 10**18)
    ledger.register(account, account.address, account.address, 10**15)
    ledger.enlist(account)
    who = ["--rpc", url, "--experiment-seed", 0]
    code, out, _ = call("node", "exit", *who, "--role", "verifier 1")
    assert code == 0 and f"{account.address} is leaving" in out and "1,000,000 gwei" in out
    chain.advance(86_400)
    code, out, _ = call("node", "exit", *who, "--role", "verifier 1")
    assert code == 0 and f"{account.address} has left" in out
    assert "of free balance" in call("withdraw", *who, "--role", "verifier 1")[1]


# -- development chains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "blocks"), quick(1, [([], True), (["--block-time", "0"], False)]))
def test_a_chain_makes_blocks_by_itself_and_ends_with_its_program(options: list[str], blocks: bool) -> None:
    port = free_port()
    command = [sys.executable, "-m", "fedledger.platform.cli.app", "chain", "up", "anvil", "--port", str(port)]
    program = subprocess.Popen([*command, *options], stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None and b"listens at" in program.stdout.readline()
        chain = Chain(f"http://127.0.0.1:{port}")
        began = time.monotonic()
        chain.fund(MIXED, 1)
        time.sleep(2.5)
        assert (chain.block_number() > 1) is blocks
        assert time.monotonic() < began + 20
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=30) == 0
    with pytest.raises(ChainError):
        Chain(f"http://127.0.0.1:{port}")
