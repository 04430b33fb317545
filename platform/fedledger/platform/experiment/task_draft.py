"""A drafted task configuration, for its publisher to edit."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedledger.learning.schemas.draft import Draft
from fedledger.learning.sources.tables import Table
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import CategoryColumn, NumberColumn, NumberTarget

_TASK = """\
# A task whose participants bring their own data. Look through it, then:
#   fedledger task post {file} --rpc URL
name = {name}
seed = 0
model = {model}
max_participants = 100

# Rows on which updates are measured. Everybody can read them unless access is "opened" or "sealed". Participants may
# offer some with `fedledger node offer`: offered = ["THEIRS.csv"].
[validation]
data = {table}
access = "public"

[training]
rounds = 20
objective = {objective}
solver = {{ method = "sgd@1", params = {{ learning_rate = 0.1, batch_size = 16, local_epochs = 1 }} }}

# Money in gwei, periods in seconds. With a window and a penalty, verifiers can dispute lies; see docs/threat-model.md.
[ledger]
min_participants = 3
# A round with fewer updates does not count. Unless given it is half of min_participants. With spot checks a higher one
# makes penalties and stakes smaller: quorum = 2
open_enrolment = false    # true: people may join and leave between rounds
enrol_period = 86400
commit_period = 600
reveal_period = 600
propose_period = 600
challenge_window = 3600
penalty_gwei = 500000
stake_gwei = 1000000
# Some participants, drawn each round, measure all updates on data of their own; the contract leaves out what their
# medians are against: scorers = 5

# How everybody makes inputs of a table: one for each number, one for each category. The constants are rounded from this
# table. Say units, and bounds beyond which a value must be wrong (least, most): none is drafted, as extremes are single
# rows'.
[data_schema]
kind = "table"
least_examples = {least}
target = {target}
columns = [
{columns}
]
"""


@dataclass(frozen=True)
class OwnTable:
    """A table as a configuration names it.

    Parameters
    ----------
    path
        Where it is, relative to the configuration.
    delimiter, missing
        What separates its cells, and which of them stand for missing values.
    """

    path: str
    delimiter: str
    missing: tuple[str, ...]

    def inline(self) -> str:
        """Return it as an inline table of TOML; what is usual is left out."""
        fields: dict[str, object] = {"table": self.path}
        if self.delimiter != ",":
            fields["delimiter"] = self.delimiter
        if self.missing != ("?",):
            fields["missing"] = self.missing
        return toml_inline(fields)


def draft_text(draft: Draft, file: Path, validation: OwnTable) -> str:
    """Return a task configuration as TOML.

    Parameters
    ----------
    draft
        The drafted schema.
    file
        Where the configuration will be.
    validation
        The table of the validation examples.
    """
    schema, target = draft.schema, draft.schema.target
    outputs = schema.classes or 1
    model = f'{{ method = "logistic_regression@1", params = {{ inputs = {schema.width}, classes = {outputs} }} }}'
    objective = "regression@1" if isinstance(target, NumberTarget) else "classification@1"
    drafted = {column.name for column in schema.columns}
    lines = [column_line(column, draft.notes.get(column.name)) for column in schema.columns]
    lines += [f"  # {_text(name)}: {note}" for name, note in draft.notes.items() if name not in drafted]
    return _TASK.format(
        file=file.name,
        name=_text(file.stem),
        model=model,
        table=validation.inline(),
        objective=f'{{ method = "{objective}" }}',
        least=20,
        target=toml_inline(target.model_dump(exclude_none=True)),
        columns="\n".join(lines),
    )


def column_line(column: NumberColumn | CategoryColumn, note: str | None) -> str:
    """Return a column as a line of a drafted list of columns."""
    fields = column.model_dump(exclude_none=True)
    ordered = {name: fields.pop(name) for name in ("kind", "name")} | fields
    return f"  {toml_inline(ordered)},{f'  # {note}' if note else ''}"


def toml_inline(fields: Mapping[str, object]) -> str:
    """Return fields as an inline table of TOML."""
    return f"{{ {', '.join(f'{name} = {toml_value(value)}' for name, value in fields.items())} }}"


def toml_value(value: object) -> str:
    """Return a text, number, truth value or list of such as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def hold_out_rows(tables: Sequence[Table], fraction: float, seed: int, folder: Path) -> tuple[Path, Path]:
    """Deal the rows of tables to two new files, one for validation and one to train on; return their paths.

    Parameters
    ----------
    tables
        Tables with one header.
    fraction
        Share of the rows that is held out, in (0, 1).
    seed
        Decides which.
    folder
        Where the files ``validation.csv`` and ``training.csv`` are written.

    Raises
    ------
    ConfigError
        If one of the files is there already, or would have no row.
    """
    rows = [cells for table in tables for _, cells in table.rows]
    count = round(fraction * len(rows))
    if not 0 < count < len(rows):
        raise ConfigError(f"{fraction:g} of {len(rows)} rows leave a file without any.", "Choose another share.")
    held = np.zeros(len(rows), bool)
    held[np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))[:count]] = True
    paths = folder / "validation.csv", folder / "training.csv"
    for path, chosen in zip(paths, (held, ~held), strict=True):
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(tables[0].header)
                writer.writerows(rows[place] for place in np.flatnonzero(chosen))
        except FileExistsError as error:
            raise ConfigError(f"{path} exists already.", "Move it, or draft in another folder.") from error
    return paths
