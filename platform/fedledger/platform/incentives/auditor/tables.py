"""Audits as tables and lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedledger.platform.incentives.auditor.audits import Audit
from fedledger.platform.incentives.auditor.findings import Finding

COMMAND = "fedledger incentives audit"
"""Stands in a document's marks around the table of all mechanisms."""
DOES_NOT_APPLY = "—"
_SHARES = {"free riding", "replication"}
_FIGURES = {"fairness", "rounding"}
"""Properties whose figures are no units of credit: shares, and other numbers."""
_SHOWN_DIGITS = 10


def table_cells(audits: Sequence[Audit]) -> list[dict[str, str]]:
    """Return a row for each mechanism, and a column for each property."""
    rows = []
    for audit in audits:
        cells = {finding.name: cell(finding) for finding in audit.findings}
        rows.append({"mechanism": f"`{audit.plan.subject.key}`", "setting": audit.setting, **cells})
    return rows


def cell(finding: Finding) -> str:
    """Return what a table says of a property: whether it holds, by how much it does not, and if it was not promised."""
    if finding.holds is None:
        return "promised, not tested" if finding.promised else DOES_NOT_APPLY
    if finding.holds:
        return "**holds**" if finding.promised else "holds"
    worst = "fails" if finding.worst is None else amount(finding.name, finding.worst)
    return f"**BROKEN**: {worst}" if finding.promised else f"no: {worst}"


def amount(name: str, worst: float) -> str:
    """Return a figure of a property as a table shows it."""
    if name in _SHARES:
        return f"{worst:+.0%}" if name == "replication" else f"{worst:.0%}"
    if name in _FIGURES:
        return f"{worst:.2f}"
    return f"{worst:,.0f}" if worst == int(worst) else f"{worst:,.2f}"


def finding_rows(audit: Audit) -> list[dict[str, str]]:
    """Return a row for each property of one mechanism."""
    return [
        {
            "property": finding.name,
            "promised": "yes" if finding.promised else "",
            "holds": {True: "yes", False: "no", None: DOES_NOT_APPLY}[finding.holds],
            "worst": "" if finding.worst is None else amount(finding.name, finding.worst),
            "what that is": finding.figure,
        }
        for finding in audit.findings
    ]


def example_lines(finding: Finding) -> Iterator[str]:
    """Yield a counter-example as lines: the market, what each is and does, and what it comes to."""
    example = finding.counter_example
    if example is None:
        return
    yield f"Counter-example to {finding.name}: market {example['instance']} of --draw {example['seed']}"
    yield f"  budget {example['budget']:,}, quorum {example['least']:,}, rounds {example['rounds']:,}"
    if "failure" in example:
        yield f"  {example['failure']}"
        return
    shown = example["players"][:_SHOWN_DIGITS]
    for player in shown:
        yield f"  {_player(player)}"
    if len(example["players"]) > len(shown):
        yield f"  and {len(example['players']) - len(shown)} more players: all are in --format json"
    if "deviation" in example:
        yield f"  {short(example['player'])} deviates: {_named(example['deviation'])}"
        yield f"  If it is honest: {_outcome(example['honest'])}"
        yield f"  If it deviates: {_outcome(example['deviated'])}"
    elif "honest" in example:
        yield f"  {short(example['player'])}: {_outcome(example['honest'])}"
    else:
        yield f"  paid: {_paid(example['paid'])}"
        if "again" in example:
            yield f"  paid in another order: {_paid(example['again']['paid'])}"


def short(address: str) -> str:
    """Return the beginning of an address."""
    return address[:_SHOWN_DIGITS]


def _player(player: Mapping[str, Any]) -> str:
    known = {name: value for name, value in player.items() if name in {"private", "reputation", "examples"}}
    does = {name: value for name, value in player.items() if name in {"report", "effort"}}
    return f"{short(player['address'])}: {_named(known)}" + (f"; {_named(does)}" if does else "")


def _outcome(outcome: Mapping[str, Any]) -> str:
    paid = "; then ".join(_paid(played["paid"]) for played in outcome["rounds"])
    return f"paid {paid}; it is left with {outcome['utility']:,} units"


def _paid(paid: Mapping[str, int]) -> str:
    return ", ".join(f"{short(address)} {units:,}" for address, units in paid.items()) or "nobody"


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} ({_named(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in values.items()
        if value != {}
    )
