"""A round of statistics for a drafted task: its own configuration, and the constants that it finds in the task's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from fedledger.learning.schemas.draft import Draft
from fedledger.platform.experiment.task_config import TaskConfig
from fedledger.platform.experiment.task_draft import column_line, toml_inline, toml_value
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import CategoryColumn, Column, NumberColumn, StatisticsSchema, TableSchema

_STATISTICS = """\
# A task that finds out the constants of {of}: each participant sends the mean and the spread of its columns, and the
# share of its rows that hold each category, and no row. Post it, have your participants take part, and then:
#   fedledger task constants {of} --rpc URL --task NUMBER
name = {name}
seed = 0
model = {{ method = "column_statistics@1", params = {{ columns = {width} }} }}
max_participants = {participants}

# The first round finds means, the second one spreads about them, and the third one lets those who have no value of a
# column adopt the others'. The median of the participants counts, whoever lies.
[training]
rounds = 3
pipeline = "plain"
judgement = {{}}
objective = {{ method = "column_statistics@1" }}
solver = {{ method = "column_statistics@1" }}
aggregation = {{ method = "median@1" }}
contribution = {{ method = "equal@1" }}
fixed_point = {{ fraction_bits = 36, bound = 4.0 }}

# As in {of}.
[ledger]
{ledger}

# Numbers count within their bounds, least and most; a cell beyond them is refused.
[data_schema]
kind = "statistics"
least_examples = {least}
columns = [
{columns}
]
"""
_COLUMNS = re.compile(r"(?ms)^columns = \[\n.*?^\]$")
_INPUTS = re.compile(r"(?m)^(model = .*\binputs = )\d+\b")


def statistics_text(config: TaskConfig, file: Path) -> tuple[str, list[str]]:
    """Return the configuration of a round of statistics as TOML, and the names of columns that are left out of it.

    Parameters
    ----------
    config
        The task's, with a data schema of tables.
    file
        Where it is.

    Raises
    ------
    ConfigError
        If it has no such schema, or no number in it has bounds and there are no categories.
    """
    schema = described_table(config, file)
    told: list[Column] = []
    for column in schema.columns:
        if isinstance(column, CategoryColumn):
            told.append(CategoryColumn(name=column.name, categories=column.categories))
        elif column.half_range > 0:
            told.append(NumberColumn(name=column.name, unit=column.unit, least=column.least, most=column.most))
    kept = {column.name for column in told}
    if not kept:
        raise ConfigError(
            f"No column of {file} has both least and most, within which statistics are bounded.",
            "Write down for each number the bounds that the quantity cannot leave.",
        )
    statistics = StatisticsSchema(columns=tuple(told), least_examples=schema.least_examples)
    ledger = config.ledger.model_dump(exclude_unset=True)
    text = _STATISTICS.format(
        of=file.name,
        name=toml_value(f"{config.name[:85]} (statistics)"),
        width=statistics.width,
        participants=config.max_participants,
        ledger="\n".join(f"{name} = {toml_value(value)}" for name, value in ledger.items()),
        least=statistics.least_examples,
        columns="\n".join(f"  {toml_inline(_asked(column))}," for column in told),
    )
    return text, [column.name for column in schema.columns if column.name not in kept]


def text_with(text: str, config: TaskConfig, draft: Draft, file: Path) -> str:
    """Return a task's configuration with other columns, and with as many inputs of its model.

    Parameters
    ----------
    text, config
        The configuration, as it is written and as it is read.
    draft
        The schema that it is to have.
    file
        Where it is.

    Raises
    ------
    ConfigError
        If the columns are not written as `fedledger task draft` writes them.
    """
    before = described_table(config, file)
    lines = "\n".join(column_line(column, draft.notes.get(column.name)) for column in draft.schema.columns)
    block = f"columns = [\n{lines}\n]"
    changed, count = _COLUMNS.subn(lambda found: block, text)
    if draft.schema.width != before.width:
        changed = _INPUTS.sub(lambda found: f"{found[1]}{draft.schema.width}", changed)
    wanted = {"data_schema": draft.schema, "model": None}
    read = None if count != 1 else TaskConfig.model_validate(tomllib.loads(changed))
    if read is None or read.model_copy(update={"model": None}) != config.model_copy(update=wanted):
        raise ConfigError(
            f"The columns in {file} are not written as `fedledger task draft` writes them.",
            f"Write these instead: {block}",
        )
    return changed


def _asked(column: Column) -> dict[str, object]:
    """Return the fields of a column of which statistics are told."""
    return {"kind": column.kind, "name": column.name} | column.model_dump(exclude={"mean", "deviation", "missing"})


def described_table(config: TaskConfig, file: Path) -> TableSchema:
    """Return a task's data schema of tables; raises ConfigError, which names its file, if it has none."""
    if not isinstance(config.data_schema, TableSchema):
        raise ConfigError(
            f"{file} has no data schema of tables.", "Draft one with `fedledger task draft`, or write it by hand."
        )
    return config.data_schema
