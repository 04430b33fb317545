"""No text of a stranger controls a terminal, leaves a folder, or is computed by a spreadsheet or a browser."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE
from fedledger.ledger_tools.report.device_tables import as_csv
from fedledger.ledger_tools.report.page import render
from fedledger.platform.cli import app
from fedledger.platform.cli.console import SafeConsole
from fedledger.platform.runs.run_folder import RunRecord
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import NAME_BYTES, cell, file_name, shown
from support.command_line import Call, caller
from support.small import write_config

HOSTILE = (
    "../../etc/\x1b[31m\x1b]0;title\x07\x9b5m\u202egnp\u200b<img src=x onerror=alert(1)>\r\n\b\x7f[red]{{7*7}}\x00"
)
FORMULA = '=HYPERLINK("http://203.0.113.7","x")'
HARMFUL = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
anything = st.text(st.characters(), max_size=300)


def harm(text: str) -> set[str]:
    """Return what a text would do on a terminal; whose own lines and tabs are none of it."""
    return {letter for letter in text if unicodedata.category(letter) in HARMFUL and letter not in "\n\t"}


@given(anything)
@example(HOSTILE)
def test_what_is_shown_controls_nothing_and_stands_on_one_line(text: str) -> None:
    told = shown(text)
    assert not harm(told) and "\n" not in told and "\t" not in told
    assert shown(told) == told
    assert not harm(shown(text, lines=True))


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=50))
def test_plain_texts_are_shown_as_they_are(text: str) -> None:
    hidden = set("\u115f\u1160\u2800\u3164\uffa0")
    assert shown(text) == text or hidden & set(text)


def test_long_texts_are_cut() -> None:
    assert shown("a" * 5000) == "a" * 2000 + "…" and shown("abc", limit=2) == "ab…"


@given(anything)
@example("..")
@example("")
@example("con")
@example("NUL.txt")
@example(".hidden")
@example("-rf")
@example("a/" * 300)
@example("é" * 200)
@example("e\u0301")
def test_a_name_stays_in_its_folder(text: str) -> None:
    name = file_name(text)
    assert name == Path(name).name and name not in ("", ".", "..") and name[0] not in ".- "
    assert len(name.encode()) <= NAME_BYTES and not harm(name) and not set('/\\:*?"<>|\n\t\0') & set(name)
    assert name.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")
    assert Path("folder", name).resolve().parent == Path("folder").resolve()


@given(anything, anything)
@example("a/b", "a\\b")
@example("a" * 200, "a" * 201)
def test_names_tell_texts_apart(one: str, other: str) -> None:
    assert one == other or file_name(one) != file_name(other)


@pytest.mark.parametrize("text", ["digits", "Küche 2", "a_b-c.d", "lr=0.1, rounds=3", "demo (2)"])
def test_plain_texts_name_themselves(text: str) -> None:
    assert file_name(text) == text


@given(st.one_of(anything, st.integers(), st.floats(), st.none()))
@example(FORMULA)
@example("-1.5")
@example("\t=1")
@example("-1+1")
def test_no_cell_is_a_formula(value: object) -> None:
    (row,) = csv.reader(io.StringIO(as_csv([{"a": value, "b": 1}], ["a", "b"]).partition("\n")[2]))
    if isinstance(value, str):
        assert not harm(row[0]) and "\n" not in row[0]
        assert row[0][:1] not in ("=", "+", "-", "@", "\t", "\r") or float(row[0]) is not None
    else:
        assert cell(value) is value and row[0] == ("" if value is None else str(value))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.found.add(tag)


@given(anything)
@example(HOSTILE)
def test_no_text_is_markup(text: str) -> None:
    page = str(render("facts.html", facts={text: text}))
    tags = Tags()
    tags.feed(page)
    assert tags.found == {"table", "tr", "th", "td", "code"} and not harm(page)


@given(anything)
@example(HOSTILE)
def test_a_console_is_controlled_by_nobody(text: str) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=80)
    console.print(text, markup=False)
    console.print(text, markup=False, soft_wrap=True)
    assert not harm(file.getvalue())


def test_a_line_of_the_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s at %r, %d times", (HOSTILE, HOSTILE, 3), None)
    assert app.shows_arguments(record)
    told = record.getMessage()
    assert "\n" not in told and not harm(told) and "3 times" in told


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in a folder of its own, and look at all that it prints."""

    plain = caller(monkeypatch, capsys)

    def run(*arguments: object) -> tuple[int, str, str]:
        code, out, err = plain(*arguments)
        assert not harm(out), out
        assert not harm(err), err
        return code, out, err

    return run


def hostile_config(folder: Path) -> Path:
    path = write_config(folder, rounds=1)
    path.write_text(
        path.read_text().replace('name = "small"', f"name = {json.dumps(HOSTILE)}".replace("\x7f", "\\u007f"))
    )
    return path


def below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def check_files(folder: Path) -> None:
    """Assert that no text file that people open with a pager, a browser or a spreadsheet does anything."""
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".csv", ".txt"):
            told = path.read_text(encoding="utf-8")
            # Plotly's own code, which no stranger has written, holds a few such characters.
            assert not harm(told.partition("<script>")[0] if path.suffix == ".html" else told), path
            assert path.suffix != ".html" or "<img src=x" not in told, path


def test_a_hostile_name_does_nothing_in_any_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    config = hostile_config(inner)
    assert call("run", config, "--chain", "embedded", "--backend", "serial", "--out", inner / "runs")[0] == 0
    assert call("run", config, "--no-ledger", "--backend", "serial", "--out", inner / "runs")[0] == 0
    runs = sorted((inner / "runs").iterdir())
    assert len(runs) == 2
    run = next(folder for folder in runs if (folder / LEDGER_FILE).exists())
    for arguments in (
        ("audit", run),
        ("audit", run, "--format", "json"),
        ("history", run),
        ("history", run, "--format", "csv"),
        ("history", run, "--format", "csv", "--participants"),
        ("history", run, "--format", "json"),
        ("compare", *runs, "--out", inner / "compared.html"),
        ("compare", *runs, "--format", "json"),
        ("sweep", config, "--seeds", "1,2", "--jobs", 1, "--track", "tensorboard"),
        ("sweep", config, "--set", f"name=a,{FORMULA.replace(',', ';')}", "--out", inner / "named"),
    ):
        code, _, errors = call(*arguments)
        assert code == 0, (arguments, errors)
    assert all(("a", "b", "c")[: len(path.parts)] == path.parts[:3] for path in below(tmp_path))
    check_files(inner)
    with (inner / "named" / "sweep.csv").open(newline="") as file:
        assert {row["name"][:2] for row in csv.DictReader(file)} == {"a", "'="}


def test_an_error_shows_what_it_is_about_and_does_nothing(tmp_path: Path, call: Call) -> None:
    (tmp_path / "x.toml").write_text(f'name = "x"\n{json.dumps(HOSTILE).replace(chr(127), "")} = 2\n')
    code, _, errors = call("run", tmp_path / "x.toml")
    assert code == 3 and "\\x1b[31m" in errors.replace("\n", "")
    assert call("audit", tmp_path / HOSTILE.replace("\0", "").replace("/", ""))[0] == 3


def test_an_error_that_nobody_expected_controls_no_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(app, "app", fail)
    code, _, errors = call("methods")
    assert code == 1 and "RuntimeError" in errors


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_a_strangers_run_folder_leads_nowhere(tmp_path: Path, kind: str, call: Call) -> None:
    run, secret = tmp_path / "run", tmp_path / "secret"
    run.mkdir()
    secret.write_text('{"secret": 1}\n')
    for name in (LEDGER_FILE, "run.json", "metrics.json", "devices.json"):
        if kind == "pipe":
            os.mkfifo(run / name)
        else:
            (run / name).symlink_to(secret if kind == "link" else "/dev/zero")
    for arguments in (("audit", run), ("history", run), ("devices", run), ("compare", run)):
        code, _, errors = call(*arguments)
        assert code in (3, 6) and "secret" not in errors, errors
    with pytest.raises(ConfigError, match="plain file"):
        RunRecord.read(run)


def test_an_audit_writes_and_clears_away_nothing(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine"
    (mine / "part").mkdir(parents=True)
    run.mkdir()
    old = mine / "part" / ".tmp-1"
    old.write_text("precious")
    os.utime(old, (0, 0))
    (run / LEDGER_FILE).write_text("{}\n")
    assert not audit_run(run).reproduced and not (run / "store").exists()
    (run / "store").symlink_to(mine)
    with pytest.raises(ConfigError):
        audit_run(run)
    assert old.exists()
