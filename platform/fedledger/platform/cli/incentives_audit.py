"""The command that audits mechanisms."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedledger.platform.cli.console import err, out, print_json, print_rows, progress_bar
from fedledger.platform.cli.options import MOST_SEED, expand_options
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.platform.incentives.auditor.audits import Audit, Plan
    from fedledger.platform.incentives.auditor.settings.base import Bounds

_BOUNDS = re.compile(r"([a-z][a-z0-9_]{0,63})=(-?[0-9]{1,16})\.\.(-?[0-9]{1,16})")


class AuditFormat(StrEnum):
    """How audits are printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@dataclass(frozen=True)
class MechanismOptions:
    """What is audited, and in which setting."""

    mechanism: Annotated[
        str | None,
        typer.Argument(
            help="such as vcg, vcg@1, or a menu of contract theory: contract:optimal, contract:relaxed, contract:tight "
            "(default: all mechanisms)"
        ),
    ] = None
    params: Annotated[
        str | None, typer.Option(metavar="JSON", help="parameters, such as '{\"winners\": 5}' (default: usual ones)")
    ] = None
    module: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Python file that registers the mechanism; it is run")
    ] = None
    setting: Annotated[
        str | None,
        typer.Option(help="fixed work, menu, effort or first-score bids (default: the one that suits the mechanism)"),
    ] = None
    report: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LEAST..MOST", help="between which numbers a report may be; repeatable"),
    ] = None
    given: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='what else the setting is told, as \'{"types": [{"fixed": 20, "each": "3/2"}]}\'',
        ),
    ] = None


@dataclass(frozen=True)
class MarketOptions:
    """How many markets are drawn, and how large."""

    first: Annotated[
        int, typer.Option("--draw", min=0, max=MOST_SEED, help="number that all random markets follow from")
    ] = 0
    instances: Annotated[int, typer.Option(min=1, max=100_000, help="random markets")] = 100
    players: Annotated[int, typer.Option(min=2, max=1024, help="players in each market")] = 10
    misreports: Annotated[int, typer.Option(min=12, max=10_000, help="deviations that each player tries")] = 12


@expand_options
def incentives_audit(
    what: MechanismOptions,
    markets: MarketOptions,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    document: Annotated[
        Path | None,
        typer.Option(help="document whose table is to be written anew, such as docs/mechanism-audits.md"),
    ] = None,
    format_: Annotated[
        AuditFormat, typer.Option("--format", help="text, one JSON document on stdout, or a Markdown table")
    ] = AuditFormat.TEXT,
) -> None:
    """Look for counter-examples to what mechanisms promise, in random markets.

    In each market every player tries other reports or efforts: does anybody who tells the truth lose, does anybody gain
    by a lie? Budgets, payments for work that does not count, and replays are checked under hostile reports, too.
    Fairness, free riding and replication are measured, whether or not they are promised. The exit code is 6 if a
    promise is broken. See docs/mechanism-audits.md.
    """
    from fedledger.platform.bench.tables import between_marks, markdown_table, marked_document
    from fedledger.platform.incentives.auditor.audits import audit
    from fedledger.platform.incentives.auditor.tables import COMMAND, table_cells

    text = None if document is None else marked_document(document, COMMAND)
    with progress_bar("auditing") as watch:
        audits = audit(_plans(what, markets), workers or processors(), watch)
    table = markdown_table(table_cells(audits))
    if document is not None and text is not None:
        document.write_text(between_marks(text, COMMAND, table), encoding="utf-8")
    if format_ is AuditFormat.JSON:
        documents = [each.document() for each in audits]
        print_json(documents[0] if what.mechanism is not None else {"audits": documents})
    elif format_ is AuditFormat.MARKDOWN:
        print(table, end="")
    else:
        _show(audits)
    if any(each.broken for each in audits):
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


def _plans(what: MechanismOptions, markets: MarketOptions) -> list[Plan]:
    from fedledger.platform.incentives.auditor.audits import Plan
    from fedledger.platform.incentives.auditor.subjects import Subject, load_module

    if what.module is not None:
        load_module(what.module)
    params, given = _object(what.params, "--params"), _object(what.given, "--given")
    if what.mechanism is None and (params or given or what.setting or what.report):
        raise ConfigError("These options are for one mechanism.", "Name it, or leave out --params and --setting.")
    bounds = dict(map(_bounds, what.report or ()))
    size = markets.instances, markets.players, markets.misreports
    plans = []
    for key in _keys(what.mechanism):
        subject = Subject(key, params, what.module)
        if what.mechanism is None and subject.needs_params():
            err.print(f"{key} is left out: it has parameters without defaults. Name it, with --params.", markup=False)
        else:
            plans.append(Plan(subject, what.setting, bounds, given, markets.first, *size))
    return plans


def _keys(mechanism: str | None) -> Sequence[str]:
    from fedledger.aggregator.mechanisms.base import MECHANISMS
    from fedledger.platform.bench.option_lists import newest
    from fedledger.platform.incentives.auditor.contracts import PREFIX

    if mechanism is None:
        return list(MECHANISMS)
    if mechanism.startswith(PREFIX) or "@" in mechanism:
        return [mechanism]
    return [mechanism + newest(MECHANISMS, mechanism)]


def _object(text: str | None, option: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option} is not JSON: {error}.", "Give an object, such as '{\"winners\": 5}'.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{option} is no JSON object.", "Give for example '{\"winners\": 5}'.")
    return value


def _bounds(text: str) -> tuple[str, Bounds]:
    from fedledger.platform.incentives.auditor.settings.base import Bounds

    found = _BOUNDS.fullmatch(text)
    if found is None or int(found[2]) >= int(found[3]):
        raise ConfigError(f"{text!r} are no bounds of a report.", "Give for example --report cost=0..10000.")
    return found[1], Bounds(int(found[2]), int(found[3]))


def _show(audits: Sequence[Audit]) -> None:
    from fedledger.platform.incentives.auditor.tables import example_lines, finding_rows, table_cells

    if len(audits) == 1:
        (audit,) = audits
        plan = audit.plan
        drawn = f"{plan.instances} markets of {plan.players} players, {plan.misreports} deviations each"
        print_rows(finding_rows(audit), f"{plan.subject.key}, {audit.setting}: {drawn}")
        out.print(audit.assumes, markup=False)
    else:
        plain = [{name: text.replace("*", "").strip("`") for name, text in row.items()} for row in table_cells(audits)]
        print_rows(plain, "What mechanisms promise, and what holds")
    for each in audits:
        for finding in each.broken:
            out.print(f"{each.plan.subject.key} promises {finding.name}, which does not hold.", markup=False)
            for line in example_lines(finding):
                out.print(line, markup=False, highlight=False)
