"""The command line: one JSON document on stdout, an exit code for each kind of failure, and help worth reading."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.ledger_tools.audit.audit import AuditResult
from fedledger.ledger_tools.audit.divergence import Divergence
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.cli import app, auditing, console
from fedledger.platform.cli import context as options
from fedledger.platform.cli.options import expand_options
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.experiment import assembly
from fedledger.platform.experiment.accounts import experiment_address, experiment_auditor, participant_role
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.storage.local import LocalStore
from support.command_line import Call, caller
from support.small import write_config


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(typer.main.get_command(app.app)))
PROGRAMS = {("chain", "up"), ("node", "start"), ("config", "schema"), ("new",)}  # they print no result to be read


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert len(command.help) > 30
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, parameter.name


def test_a_group_of_options_becomes_options_of_the_command_and_comes_back_whole() -> None:
    given: list[tuple[options.LedgerOptions, int]] = []

    def command(at: options.LedgerOptions, task: int = 1) -> None:
        """Do something."""
        given.append((at, task))

    shown = typer.Typer()
    shown.command()(expand_options(command))
    runner = CliRunner()
    assert runner.invoke(shown, ["--rpc", "http://a", "--task", "7"]).exit_code == 0
    assert given == [(options.LedgerOptions("http://a", Path("deployment.json")), 7)]
    lacking = runner.invoke(shown, ["--deployment", "record.json"])
    assert lacking.exit_code == ExitCode.USAGE and "--rpc" in lacking.output


def test_an_option_with_a_name_means_the_same_wherever_it_is_shared() -> None:
    helps: dict[str, set[str]] = {}
    for path, command in COMMANDS.items():
        if path[0] != "bench":
            for parameter in command.params:
                helps.setdefault(parameter.name, set()).add(parameter.help)
    shared = (
        "store",
        "store_dir",
        "seed",
        "experiment_seed",
        "keystore",
        "password_file",
        "trust_code",
        "track",
        "poll",
    )
    assert {name: helps[name] for name in shared if len(helps[name]) > 1} == {}


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - PROGRAMS), ids=" ".join)
def test_every_result_can_be_had_as_json(path: tuple[str, ...]) -> None:
    assert any("--format" in parameter.opts for parameter in COMMANDS[path].params)


def test_the_readme_lists_every_command(root: Path) -> None:
    readme = (root / "README.md").read_text()
    assert [path for path in COMMANDS if f"`{' '.join(path)}" not in readme] == []


def test_exit_codes_are_documented(root: Path) -> None:
    assert len(set(ExitCode)) == len(ExitCode)
    for code in ExitCode:
        assert f"\n| {int(code)} | " in (root / "README.md").read_text()
        assert f"{int(code)} " in str(app.app.info.help)


@pytest.fixture
def project(call: Call, tmp_path: Path) -> Path:
    code, _, _ = call("new", tmp_path / "mine")
    assert code == 0
    config = tmp_path / "mine" / "config.toml"
    config.write_text(config.read_text().replace("rounds = 5", "rounds = 2"))
    return config


ONE = experiment_auditor(0, 0)
ONE_AUDITOR = f"""[training.spot_checks]
auditors = [{{ account = "{ONE.account}", key = "{ONE.key}", signature = "{ONE.signature}" }}]
[ledger]
challenge_window = 60
check_rate = 1"""


def attack(method: str, params: str = "") -> str:
    return f'[[attackers]]\nattack = {{ method = "{method}", params = {{ {params} }} }}'


class TestFailures:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["run"], ExitCode.USAGE),
            (["run", "there-is-none.toml"], ExitCode.CONFIG),
            (["audit"], ExitCode.CONFIG),
            (["audit", "there-is-none"], ExitCode.CONFIG),
            (["audit", "--rpc", "http://127.0.0.1:1"], ExitCode.CONFIG),
            (["chain", "up", "bitcoin"], ExitCode.CONFIG),
            (["deploy", "--rpc", "http://127.0.0.1:1"], ExitCode.CHAIN),
            (["deploy", "--rpc", "nonsense"], ExitCode.CHAIN),
        ],
    )
    def test_each_has_its_exit_code_and_one_sentence(
        self, call: Call, arguments: list[str], expected: ExitCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, out, err = call(*arguments)
        assert code == expected
        assert out == ""
        assert "Traceback" not in err
        if expected is not ExitCode.USAGE:
            assert "Error: " in err

    @pytest.mark.parametrize("name", ["a[b]", "a[bold]b", "[/red]"])
    def test_brackets_are_told_as_they_are(
        self, call: Call, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, _, err = call("run", name)
        assert code == ExitCode.CONFIG
        assert f"Error: {name} cannot be read" in err

    def test_what_strangers_wrote_is_shown_as_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        written = "float32[d], [/red], [bold]x"
        divergence = Divergence(3, "update", "one that can be read", written)
        auditing.show_audit(
            AuditResult("a chain at http://[::1]:1", 1, (1, ""), first_divergence=divergence, notes=[written]),
            console.Format.TEXT,
        )
        console.print_rows([{"name[s]": written}], written)
        out = capsys.readouterr().out
        assert out.count(written) == 4 and "name[s]" in out and "http://[::1]:1" in out

    @pytest.mark.parametrize("width", [200, 80, 60, 52])
    def test_no_word_of_a_table_is_cut_where_each_column_fits(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        rows = [
            {"population": "all alike", "mechanism": name} | {f"figure{n}": f"{n}{name[0]}{'7' * 9}" for n in range(9)}
            for name in ("proportional_share@1", "vcg@1")
        ]
        monkeypatch.setattr(console, "out", console.SafeConsole(width=width))
        console.print_rows(rows, "Means")
        out = capsys.readouterr().out
        assert "…" not in out and max(map(len, out.splitlines())) <= width
        assert all(out.count(text) == 1 for row in rows for name, text in row.items() if name.startswith("figure"))
        # Each table tells its rows apart.
        tables = 1 + out.count("Means, continued")
        assert out.count("proportional_share@1") == out.count("vcg@1") == tables and (tables > 1) == (width < 200)

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("participants = 4", "partcipants = 4", "participants"),
            ('method = "norm@1"', 'method = "nrom@1"', "norm@1"),
            ("learning_rate = 0.1", "learning_rate = -1", "learning_rate"),
            ("participants = 4", "participants = 4000", "participants"),
            ('name = "small"', "name = ", "TOML"),
            ("rounds = 3", 'rounds = 3\naggregation = { method = "trimmed_mean@1" }', "f"),
        ],
    )
    def test_a_wrong_configuration_is_told_before_anything_is_done(
        self, call: Call, tmp_path: Path, old: str, new: str, told: str
    ) -> None:
        config = write_config(tmp_path)
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))
        code, _, err = call("run", config, "--chain", "embedded", "--out", tmp_path / "runs")
        assert code == ExitCode.CONFIG
        assert told in err

    @pytest.mark.parametrize(
        ("extra", "told"),
        [
            (attack("nuke@1"), "There is no attack 'nuke@1'"),
            (attack("sybil@1", "noise = -1"), "noise is -1"),
            (attack("sybil@1", "nois = 1"), "It takes noise."),
            (attack("sybil@1", "honest = 1"), "It takes noise."),
            (attack("on_off@1", 'attack = "nuke@1"'), "There is no attack 'nuke@1'"),
            (attack("on_off@1", 'attack = "sybil@1", params = { noise = -1 }'), "noise is -1"),
            ("[ledger]\npenalty_gwei = 5", "Give challenge_window"),
            ("[ledger]\nchallenge_window = 60\nstake_gwei = 4\npenalty_gwei = 5", "Give a stake_gwei"),
            ("[ledger]\nchallenge_window = 60\nbond_gwei = 0", "Give bond_gwei"),
            ("[ledger]\njury_size = 4", "Give an odd number"),
            ("[ledger]\njury_size = 5", "Give a least_pool of at least jury_size"),
            ("[ledger]\njuror_penalty_gwei = 2\nverifier_stake_gwei = 1", "Lower juror_penalty_gwei"),
            (ONE_AUDITOR, "training.spot_checks.auditors: List should have at least 2 items"),
            (f"[ledger]\nbond_gwei = {2**96}", "ledger.bond_gwei: Input should be less than"),
        ],
    )
    def test_attacks_and_stakes_are_checked_before_the_data_are_read(
        self, tmp_path: Path, extra: str, told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(assembly, "load_dataset", lambda *of: pytest.fail("the data were read"))
        with pytest.raises(ConfigError, match=re.escape(told)):
            make_experiment(load_config(write_config(tmp_path, extra=extra)), tmp_path)

    def test_a_solver_that_cannot_be_replayed_is_told_in_one_sentence(self, call: Call, tmp_path: Path) -> None:
        config = write_config(tmp_path, extra="[ledger]\nchallenge_window = 60\ncheck_rate = 1")
        code, _, err = call("run", config, "--out", tmp_path / "runs")
        told = "The task's spec: spot checks: the solver sgd@1 does not give the same bytes everywhere"
        assert code == ExitCode.CONFIG and told in " ".join(err.split()) and "pydantic" not in err

    def test_a_daemon_that_is_not_there(self, call: Call, tmp_path: Path) -> None:
        config = write_config(tmp_path)
        store = "/ip4/127.0.0.1/tcp/1"
        code, _, err = call("run", config, "--chain", "embedded", "--store", store, "--out", tmp_path / "runs")
        assert code == ExitCode.STORE
        assert "127.0.0.1" in err

    def test_a_chain_that_is_not_there_for_a_record_that_is(self, call: Call, tmp_path: Path) -> None:
        record = tmp_path / "deployment.json"
        record.write_text("{}")
        assert call("status", "--rpc", "http://127.0.0.1:1", "--deployment", record)[0] == ExitCode.CONFIG


class TestKeys:
    def test_a_key_opens_with_its_password_only(
        self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, password = tmp_path / "key.json", tmp_path / "password"
        password.write_text("correct horse\n")
        code, out, _ = call("keys", "new", path, "--password-file", password, "--format", "json")
        assert code == 0
        assert json.loads(out)["keystore"] == str(path)
        assert path.stat().st_mode & 0o077 == 0
        assert json.loads(path.read_text())["address"].lower() in json.loads(out)["address"].lower()
        assert call("keys", "new", path, "--password-file", password)[0] == ExitCode.KEYS
        monkeypatch.setenv("FEDLEDGER_PASSWORD", "wrong")
        with running_chain("anvil") as chain:
            code, _, err = call("deploy", "--rpc", chain.url, "--keystore", path, "--output", tmp_path / "record.json")
            assert code == ExitCode.KEYS
            assert "password" in err
            monkeypatch.setenv("FEDLEDGER_PASSWORD", "correct horse")
            code, _, _ = call("deploy", "--rpc", chain.url, "--keystore", path, "--output", tmp_path / "record.json")
        assert code == 0


def test_a_project_runs_as_it_is_and_its_code_is_run_only_where_it_is_trusted(
    call: Call, project: Path, tmp_path: Path
) -> None:
    code, out, _ = call("run", project, "--chain", "embedded", "--out", tmp_path / "runs", "--format", "json")
    assert code == 0
    summary = json.loads(out)
    keys = {"task", "rounds", "loss", "score", "objective", "final_model", "seconds", "chain", "gas", "participants"}
    assert keys <= summary.keys()
    assert all(
        {"address", "accepted", "refused", "reputation", "credit"} <= row.keys() for row in summary["participants"]
    )
    assert summary["rounds"] == 2 and len(summary["participants"]) == 4
    (folder,) = (tmp_path / "runs").iterdir()
    wanted = {"report.html", "run.json", "metrics.csv", "metrics.json", "model.safetensors", "ledger.jsonl", "store"}
    wanted |= {"refusals.csv"}
    assert wanted <= {path.name for path in folder.iterdir()}
    page = (folder / "report.html").read_text()
    assert "<script src" not in page and "<link" not in page

    code, out, _ = call("history", folder, "--format", "json")
    rounds = json.loads(out)
    assert (code, [row["status"] for row in rounds]) == (0, ["settled", "settled"])
    assert rounds[-1]["model"] == summary["final_model"]
    assert call("history")[0] == ExitCode.CONFIG

    code, out, _ = call("audit", folder, "--format", "json")
    untrusted = json.loads(out)
    assert (code, untrusted["reproduced"], untrusted["measured"]) == (0, True, False)
    (cid,) = (word.rstrip(".") for note in untrusted["notes"] for word in note.split() if word.startswith("bafk"))
    code, out, _ = call("audit", folder, "--format", "json", "--trust-code", cid)
    trusted = json.loads(out)
    assert (code, trusted["reproduced"], trusted["measured"]) == (0, True, True)
    assert {"rounds", "measurements", "first_divergence"} <= trusted.keys()

    other = ContentRef.of(b"other").cid
    code, out, err = call("audit", folder, "--trust-code", other)
    assert (code, out) == (ExitCode.TRUST, "") and f"{other} is not the code of task 1, which is {cid}." in err

    shutil.rmtree(folder / "store")
    code, out, _ = call("audit", folder, "--format", "json")
    lost = json.loads(out)
    assert (code, lost["reproduced"]) == (ExitCode.NOT_REPRODUCED, False)
    assert lost["first_divergence"].keys() == {"round", "field", "expected", "found"}


def test_what_a_task_leaves_can_be_read_and_withdrawn(call: Call, tmp_path: Path) -> None:
    experiment = make_experiment(load_config(write_config(tmp_path, participants=2, rounds=1)), tmp_path)
    with running_chain("anvil") as process:
        chain = Chain(process.url)
        run(experiment, chain, LocalStore(tmp_path / "store"), tmp_path)
        at = ["--rpc", process.url, "--deployment", tmp_path / "deployment.json"]

        code, out, _ = call("status", *at, "--format", "json")
        (task,) = json.loads(out)["tasks"]
        assert (code, task["phase"], task["settled"]) == (0, "finished", 1)
        assert task["court"] == "nobody can dispute its rounds, as it has no challenge window"
        assert "Task 1 has ended." in call("status", *at)[1]

        code, out, _ = call("history", *at, "--participants", "--format", "json")
        people = json.loads(out)
        assert code == 0 and sum(row["credit"] for row in people) == 100_000
        assert call("history", *at, "--format", "csv")[1].startswith("round,status,selected")
        assert [row["court"] for row in json.loads(call("history", *at, "--format", "json")[1])] == [False]
        assert "settled" in call("history", *at)[1]
        assert call("history", *at, "--format", "parquet")[0] == ExitCode.CONFIG
        path = tmp_path / "rounds.parquet"
        assert call("history", *at, "--format", "parquet", "--output", path)[0] == 0
        assert pd.read_parquet(path)["round"].tolist() == [1]
        assert call("history", *at, "--participants", "--format", "parquet", "--output", path)[0] == 0
        assert len(pd.read_parquet(path)) == 2
        assert json.loads(call("history", *at, "--checks", "--format", "json")[1]) == []
        assert call("history", *at, "--task", 2)[0] == ExitCode.CHAIN

        account = experiment_address(0, participant_role(0))
        owed = {row["address"]: row["credit"] for row in people}[account]
        before = chain.balance(account)
        code, out, _ = call("withdraw", *at, "--experiment-seed", 0, "--format", "json")
        assert code == 0
        wei = owed * experiment.config.ledger.credit_unit_gwei * 10**9
        assert json.loads(out)["credits"] == ([{"task": 1, "wei": str(wei)}] if wei else [])
        assert wei - (chain.balance(account) - before) < wei / 2, "gas takes the rest"

        code, out, _ = call("node", "exit", *at, "--experiment-seed", 0, "--format", "json")
        leaving = json.loads(out)
        assert (code, leaving["left"]) == (0, False)
        code, _, err = call("node", "exit", *at, "--experiment-seed", 0)
        assert code == ExitCode.CHAIN and "is leaving already" in err
        assert leaving["due"][:10] in err and " UTC" in err and "gwei" not in err
        chain.advance(experiment.config.ledger.exit_delay)
        code, out, _ = call("node", "exit", *at, "--experiment-seed", 0, "--format", "json")
        assert (code, json.loads(out)["left"]) == (0, True)
        code, out, _ = call("withdraw", *at, "--experiment-seed", 0, "--format", "json")
        assert json.loads(out)["balance"] == leaving["stake"]
        assert call("task", "finish", *at, "--experiment-seed", 0)[0] == ExitCode.CHAIN

        record = Deployment.read(tmp_path / "deployment.json")
        (tmp_path / "deployment.json").write_text(
            json.dumps({**vars(record), "chain_id": record.chain_id + 1}), encoding="utf-8"
        )
        code, _, err = call("status", *at)
        assert code == ExitCode.CHAIN and str(record.chain_id) in err


def test_gas_is_measured_and_written_down(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedledger.platform.bench.gas.DIRECT", (2,))
    path = tmp_path / "gas.json"
    arguments = ["bench", "gas", "--participants", "3", "--no-sparse"]
    code, out, _ = call(*arguments, "--chain", "anvil", "--chain", "embedded", "--out", path, "--format", "json")
    document = json.loads(out)
    assert code == 0 and document == json.loads(path.read_text())
    measured = [(row["mode"], row["case"], row["participants"]) for row in document["rows"]]
    one = [(mode, case, count) for mode, count in (("direct", 2), ("batched", 3)) for case in ("first", "warm")]
    assert measured == one * 2 and {row["chain"] for row in document["rows"]} == {"anvil", "embedded"}
    assert {"OpenFL", "BlockFLow"} <= {peer["name"] for peer in document["peers"]}
    assert "SettleFL" in call(*arguments, "--chain", "anvil")[1]
    assert call("bench", "gas", "--participants", "many")[0] == ExitCode.CONFIG
    assert call("bench", "gas", "--chain", "bitcoin")[0] == ExitCode.CONFIG


def test_a_round_is_timed(call: Call) -> None:
    code, out, _ = call("bench", "round", "--participants", "5", "--format", "json")
    document = json.loads(out)
    names = ["sign", "collect", "tree", "post", "reveal", "check", "propose, settle, open"]
    assert code == 0 and [part["name"] for part in document["parts"]] == names
    assert all(part["seconds"] > 0 for part in document["parts"])
    assert document["seconds"] == pytest.approx(sum(part["seconds"] for part in document["parts"]))
    assert call("bench", "round", "--chain", "embedded")[0] == ExitCode.CONFIG


def test_the_schema_of_configurations_is_json(call: Call) -> None:
    code, out, _ = call("config", "schema")
    assert code == 0
    assert "participants" in json.loads(out)["properties"]
