"""What the documents say can be done, is done: code runs, configurations are read, commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from fedledger.node.own_data import NodeConfig
from fedledger.platform.cli.app import app
from fedledger.platform.experiment.config import DEMO, ExperimentConfig
from fedledger.platform.experiment.task_config import ValidationConfig
from fedledger.protocol.documents import validated
from fedledger.protocol.methods.catalogue import kinds
from support.documents import DOCUMENTS, ROOT, Block, blocks, with_tables

COMMAND = re.compile(r"^(?:\.venv/bin/)?fedledger (.*)$")


def named(block: Block) -> str:
    return f"{block.file.name}:{block.line}"


def commands(code: str) -> list[list[str]]:
    """The calls of ``fedledger`` in a block of shell, as lists of words."""
    lines = re.sub(r"\\\n", " ", code).splitlines()
    found = (COMMAND.match(line.strip()) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match]


def check(words: list[str]) -> None:
    """Fail unless there is a command of these words with these options, and no more arguments than it takes."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    given = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            given.append(word)
            continue
        name, _, value = word.partition("=")
        assert name in options, f"{' '.join(words)}: there is no option {name}"
        if not value and not getattr(options[name], "is_flag", False):
            assert rest, f"{' '.join(words)}: {name} takes a value"
            rest.pop(0)
    assert len(given) <= len(arguments) or any(argument.nargs == -1 for argument in arguments), words


def test_each_kind_has_its_table_and_each_table_is_what_the_command_prints() -> None:
    text = (ROOT / "docs" / "methods.md").read_text()
    assert set(re.findall(r"<!-- fedledger methods (\w+) -->", text)) == set(kinds())
    for document in DOCUMENTS:
        assert document.read_text() == with_tables(document.read_text()), f"run make docs ({document.name})"


@pytest.mark.parametrize("block", blocks("python"), ids=named)
def test_code_runs(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "block.py"
    file.write_text(block.code)
    needed = re.search(r"^from (flwr_datasets) import", block.code, re.MULTILINE)
    if needed:
        # It is not among the test tools, and its block downloads a data set when it is called.
        pytest.importorskip(needed[1])
    code = f"import runpy; runpy.run_path({str(file)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr


def merged(base: dict[str, object], change: dict[str, object]) -> dict[str, object]:
    """A configuration with some of its keys changed, as a reader would change them."""
    both = dict(base)
    for key, value in change.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


@pytest.mark.parametrize("block", blocks("toml"), ids=named)
def test_configurations_are_read(block: Block) -> None:
    document = tomllib.loads(block.code)
    data = document.get("data", {})
    if data.keys() & {"table", "script"}:
        validated(NodeConfig, document, named(block))
    elif "validation" in document:
        validated(ValidationConfig, document["validation"], named(block))
    elif "project" not in document:
        validated(ExperimentConfig, merged(tomllib.loads(DEMO.read_text()), document), named(block))


@pytest.mark.parametrize("block", blocks("sh"), ids=named)
def test_commands_exist(block: Block) -> None:
    for words in commands(block.code):
        check(words)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^(?:\w+=\S+ )?make ([a-z-]+)", block.code, re.MULTILINE)) <= targets


@pytest.mark.parametrize(
    ("words", "wrong"),
    [("runs x", "no command"), ("run x --no-legder", "no option"), ("run x --backend", "takes a value")],
)
def test_a_wrong_command_is_noticed(words: str, wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        check(words.split())


def test_every_command_in_the_text_exists() -> None:
    # The records quote labels that begin like commands.
    for document in (document for document in DOCUMENTS if document.name != "records.md"):
        for call in re.findall(r"`fedledger ((?:[a-z][a-z-]* ?)+)", document.read_text()):
            command: Any = typer.main.get_command(app)
            for word in call.split():
                if hasattr(command, "commands"):
                    assert word in command.commands, f"{document.name}: fedledger {call}"
                    command = command.commands[word]


@pytest.mark.long
def test_the_readme_s_own_experiment_runs(tmp_path: Path) -> None:
    """The block from ``fedledger new`` to the audit, word by word; what the reader has to fill in is filled in."""
    block = next(block for block in blocks("sh") if block.file.name == "README.md" and "fedledger new" in block.code)
    binary = Path(sys.executable).parent / "fedledger"
    cid = ""
    for words in commands(block.code):
        filled = [cid if word == "CID" else word for word in words]
        for place, word in enumerate(filled):
            if word.startswith("runs/"):
                filled[place] = str(next((tmp_path / "runs").glob(word.removeprefix("runs/").replace("…", "*"))))
        done = subprocess.run(
            [binary, *filled],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )
        assert not done.returncode, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        cid = cid or next(iter(re.findall(r"--trust-code (\S+)", done.stdout + done.stderr)), "")
    assert cid
