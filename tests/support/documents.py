"""The documents: their generated tables and their blocks of code. Run as a program it writes the tables anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedledger.platform.experiment.config import LedgerConfig
from fedledger.platform.experiment.pipelines import PIPELINES
from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.description import markdown
from fedledger.protocol.records.penalties import PenaltySchedule, expected_loss

ROOT = Path(__file__).parents[2]
RATES = 0.005, 0.015, 0.03, 0.05, 0.25, 0.5, 1.0
"""Of statistical refusals: the first ones are honest participants', the last ones of those that do no work."""
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TABLE = re.compile(r"(<!-- fedledger methods (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LOSSES = re.compile(r"(<!-- fedledger losses -->\n).*?(<!-- end -->)", re.DOTALL)
_PIPELINES = re.compile(r"(<!-- fedledger pipelines -->\n).*?(<!-- end -->)", re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code in a document."""

    file: Path
    line: int
    language: str
    code: str


def with_tables(text: str) -> str:
    """Return a document with its tables of methods, pipelines and expected losses as they are now."""
    text = _TABLE.sub(lambda found: found[1] + markdown(kinds()[found[2]]) + found[3], text)
    text = _PIPELINES.sub(lambda found: found[1] + pipelines() + found[2], text)
    return _LOSSES.sub(lambda found: found[1] + losses() + found[2], text)


def pipelines() -> str:
    """Return the table of what each pipeline fills in."""
    lines = ["| pipeline | fills in |", "|---|---|"]
    for name, filling in PIPELINES.items():
        cells = [f"{key}: {_in_words(value)}" for key, value in filling.items()]
        lines.append(f"| `{name}` | {'<br>'.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def _in_words(value: Any) -> str:
    """Return a value of a configuration as a document has it: methods by name, with their parameters."""
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if not isinstance(value, Mapping):
        return f"`{value}`"
    if not value:
        return "with its defaults"
    settings = value.get("params", {}) if "method" in value else value
    named = [f"`{value['method']}`"] if "method" in value else []
    return " ".join([*named, *([f"({', '.join(f'{k} = {v}' for k, v in settings.items())})"] if settings else [])])


def losses() -> str:
    """Return the table of what statistical refusals are expected to cost by the default schedule."""
    terms = LedgerConfig()
    schedule = PenaltySchedule(
        10**9, terms.garbage_share, terms.never_revealed_share, terms.statistical_share, terms.free_refusals
    )
    lines = [
        "| refused, of all rounds | expected loss in 20 rounds | in 100 rounds | chance of any loss in 100 rounds |",
        "|---|---|---|---|",
    ]
    for rate in RATES:
        short, long = expected_loss(schedule, rate, 20), expected_loss(schedule, rate, 100)
        shares = (short.mean / schedule.penalty, long.mean / schedule.penalty, long.chance)
        lines.append(f"| {100 * rate:g} % | {' | '.join(map(_percent, shares))} |")
    return "".join(f"{line}\n" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:,.{5 if share < 0.01 else 1}f} %"


def blocks(language: str) -> Iterator[Block]:
    """Yield the documents' blocks of a language."""
    for file in DOCUMENTS:
        text = file.read_text()
        for found in _BLOCK.finditer(text):
            if found[1] == language:
                yield Block(file, text.count("\n", 0, found.start()) + 1, language, found[2])


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))
