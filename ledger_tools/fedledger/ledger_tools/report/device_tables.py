"""What the participants' devices did for a task: time, communication and energy by participant and round, as tables.

Times and energies are those of the task's device table and schedule. Bytes are those of the models and updates that the
ledger names, where it is asked, else those of the table; what a transport adds to them is not counted.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.schedules.costs import Cost, costs
from fedledger.protocol.schedules.devices import MICRO
from fedledger.protocol.schedules.events import ServerStep
from fedledger.protocol.text import cell
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.foreign_files import MAX_TABLE_BYTES, read_json, shaped
from fedledger.storage.foreign_folder import inner_file

if TYPE_CHECKING:
    from fedledger.contracts.ledger.history import History
    from fedledger.contracts.ledger.round_history import RoundHistory
    from fedledger.contracts.ledger.task_history import TaskHistory

CSV_FILE, JSON_FILE = "devices.csv", "devices.json"
COLUMNS = (
    *("round", "address", "counted", "reason", "staleness", "download_us", "compute_us", "upload_us", "idle_us"),
    *("energy_uj", "communication_ppm", "bytes_down", "bytes_up"),
)

Row = Mapping[str, Any]
Sizes = Callable[[str, int], tuple[int, int]]
"""Tells the bytes that a participant downloaded and uploaded for an update, given its address and staleness."""


def server_step_rows(server_step: ServerStep, index: int, sizes: Sizes) -> list[dict[str, Any]]:
    """Return what was done for a round, a row each: its updates first, then what was lost since the round before.

    ``counted`` tells them apart, ``reason`` why an update was lost; how many bytes of it travelled is not known.

    Parameters
    ----------
    server_step
        The round as its schedule has it.
    index
        The round's number on the ledger.
    sizes
        Bytes of the updates.
    """
    rows = []
    for row in costs(server_step):
        down, up = sizes(row.address, row.staleness) if row.counted else (None, None)
        cost, reason = row.cost, "" if row.reason is None else row.reason.value
        work = cost.download_us, cost.compute_us, cost.upload_us, cost.idle_us, cost.energy_uj, cost.communication_ppm
        values = index, row.address, row.counted, reason, row.staleness, *work, down, up
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def task_server_steps(
    history: History, task: TaskHistory, spec: TaskSpec, store: ContentStore
) -> dict[int, ServerStep]:
    """Return the settled rounds of a task with a schedule as that has them, by their numbers on the ledger.

    Raises
    ------
    StoreError
        If the device table, or a report that the selection looks at, cannot be had.
    ConfigError
        If the task's terms do not suit its schedule.
    """
    from fedledger.aggregator.selection.planner import RoundPlanner

    if spec.schedule is None:
        return {}
    planner = RoundPlanner(store)
    return {r.index: planner.round(history, task, spec, r.index, r.beacon) for r in task.settled}


def task_rows(task: TaskHistory, spec: TaskSpec, server_steps: Mapping[int, ServerStep]) -> list[dict[str, Any]]:
    """Return the rows of all rounds, with the bytes that the ledger names."""
    return [
        row
        for index, server_step in server_steps.items()
        for row in server_step_rows(server_step, index, _sizes(task, spec, index))
    ]


def _sizes(task: TaskHistory, spec: TaskSpec, index: int) -> Sizes:
    current = task.rounds[index]
    sent = _sent(task, current)
    told = task.state_before(index) if spec.vectors else None
    besides = 0 if told is None else told.length

    def sizes(owner: str, staleness: int) -> tuple[int, int]:
        return current.bases[staleness].length + besides, sent.get(owner, 0)

    return sizes


def _sent(task: TaskHistory, current: RoundHistory) -> dict[str, int]:
    """Return the length of each update that was delivered, by owner."""
    updates = current.delivered if task.batched else {i: reveal.update for i, reveal in current.reveals.items()}
    return {current.owners[participant]: update.length for participant, update in updates.items()}


def totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what all rows come to: energy in joules, share of communication, bytes, updates, and losses by reason."""
    cost = sum((_cost(row) for row in rows), Cost())
    lost = [row for row in rows if not row["counted"]]
    return {
        "updates": len(rows) - len(lost),
        "mean_staleness": sum(row["staleness"] for row in rows if row["counted"]) / max(1, len(rows) - len(lost)),
        "joules": cost.energy_uj / MICRO,
        "joules_lost": sum(row["energy_uj"] for row in lost) / MICRO,
        "communication_ppm": cost.communication_ppm,
        "bytes_down": sum(row["bytes_down"] or 0 for row in rows),
        "bytes_up": sum(row["bytes_up"] or 0 for row in rows),
        "lost": dict(sorted(Counter(row["reason"] for row in lost).items())),
    }


def by_participant(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return what each participant's rows come to, by address: :func:`totals`, times in seconds, losses in words."""
    own: dict[str, list[Row]] = {}
    for row in rows:
        own.setdefault(row["address"], []).append(row)
    result = []
    for address, mine in sorted(own.items(), key=lambda item: item[0].lower()):
        cost = sum((_cost(row) for row in mine), Cost())
        parts = (f"{part}_seconds" for part in ("download", "compute", "upload", "idle"))
        times = (cost.download_us, cost.compute_us, cost.upload_us, cost.idle_us)
        seconds = {name: time / MICRO for name, time in zip(parts, times, strict=True)}
        told = totals(mine)
        lost = ", ".join(f"{count} {reason}" for reason, count in told["lost"].items())
        result.append({"address": address, **seconds, **told, "lost": lost})
    return result


def write_devices(folder: Path, rows: Sequence[Row]) -> None:
    """Write rows into a run's folder, as CSV and as JSON."""
    write_atomically(folder / CSV_FILE, as_csv(rows, COLUMNS).encode())
    text = ",\n".join(json.dumps(row) for row in rows)
    write_atomically(folder / JSON_FILE, f"[\n{text}\n]\n".encode())


Amount = Annotated[int, Field(ge=0, lt=2**63)]


class _Told(BaseModel):
    """What every row has, as far as it is counted here."""

    model_config = ConfigDict(strict=True)

    address: str
    counted: bool
    reason: str
    staleness: Amount
    download_us: Amount
    compute_us: Amount
    upload_us: Amount
    idle_us: Amount
    energy_uj: Amount
    bytes_down: Amount | None
    bytes_up: Amount | None


_ROWS = TypeAdapter(list[_Told])


def read_devices(folder: Path) -> list[dict[str, Any]]:
    """Return the rows that a run left in its folder.

    Raises
    ------
    ConfigError
        If it left none.
    """
    try:
        rows: list[dict[str, Any]] = read_json(inner_file(folder, JSON_FILE), MAX_TABLE_BYTES)
        shaped(_ROWS, rows)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder / JSON_FILE} cannot be read: {error}.", "Give the folder of a run whose task has a schedule."
        ) from error
    return rows


def as_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Return rows as CSV, which spreadsheets may open; see :func:`~fedledger.protocol.text.cell`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(map(cell, columns))
    table.writerows([cell(row.get(name, "")) for name in columns] for row in rows)
    return text.getvalue()


def _cost(row: Row) -> Cost:
    return Cost(row["download_us"], row["compute_us"], row["upload_us"], row["idle_us"], row["energy_uj"])


def device_figures(
    metrics: Sequence[Mapping[str, Any]], rows: Sequence[Row], names: Mapping[str, str], score_name: str
) -> list[Any]:
    """Draw the score over simulated time, and what each participant spent.

    Parameters
    ----------
    metrics
        Rows with ``round``, ``score`` and ``time_us``.
    rows
        What was done.
    names
        Of participants, by address.
    score_name
        What the score is called.
    """
    from plotly import graph_objects as go

    from fedledger.ledger_tools.report.page import plain

    named = plain(score_name)
    score = go.Figure(
        layout={"title": f"Test {named} over simulated time", "xaxis_title": "seconds", "yaxis_title": named}
    )
    score.add_scatter(
        x=[row["time_us"] / MICRO for row in metrics],
        y=[row["score"] for row in metrics],
        text=[f"round {row['round']}" for row in metrics],
        mode="lines+markers",
    )
    people = by_participant(rows)
    shown = [names[p["address"]] for p in people]
    energy = go.Figure(layout={"title": "Energy of each participant", "yaxis_title": "joules", "barmode": "stack"})
    energy.add_bar(x=shown, y=[p["joules"] - p["joules_lost"] for p in people], name="for updates that counted")
    energy.add_bar(x=shown, y=[p["joules_lost"] for p in people], name="for nothing")
    times = go.Figure(layout={"title": "Time of each participant", "yaxis_title": "seconds", "barmode": "stack"})
    for part in ("download", "compute", "upload", "idle"):
        times.add_bar(x=shown, y=[p[f"{part}_seconds"] for p in people], name=part)
    return [score, energy, times]
