"""What a schedule's steps cost: time, communication and energy of each participant and round, and totals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.schedules.devices import LossReason
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep


@dataclass(frozen=True)
class Cost:
    """Time and energy of some work.

    Parameters
    ----------
    download_us, compute_us, upload_us
        What was done.
    idle_us
        For how long finished updates waited for their step.
    energy_uj
        What was spent.
    """

    download_us: int = 0
    compute_us: int = 0
    upload_us: int = 0
    idle_us: int = 0
    energy_uj: int = 0

    @property
    def communication_us(self) -> int:
        """Comm: download and upload."""
        return self.download_us + self.upload_us

    @property
    def communication_ppm(self) -> int:
        """Comm / (Comp + Comm) in parts per million, rounded down; 0 where nothing was done."""
        busy = self.compute_us + self.communication_us
        return self.communication_us * PPM // busy if busy else 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.download_us + other.download_us,
            self.compute_us + other.compute_us,
            self.upload_us + other.upload_us,
            self.idle_us + other.idle_us,
            self.energy_uj + other.energy_uj,
        )


@dataclass(frozen=True)
class CostRow:
    """A participant's cost in a round; ``counted`` if its update is one of the step's, else why it was lost."""

    round: int
    address: str
    counted: bool
    staleness: int
    cost: Cost
    reason: LossReason | None = None


def costs(server_step: ServerStep) -> list[CostRow]:
    """Return a step's rows: first its updates, then what was lost since the step before."""
    rows = []
    everything: tuple[Arrival | Loss, ...] = (*server_step.arrivals, *server_step.losses)
    for work in everything:
        counted = isinstance(work, Arrival)
        idle = server_step.time_us - work.arrived_us if isinstance(work, Arrival) else 0
        cost = Cost(work.download_us, work.compute_us, work.upload_us, idle, work.energy_uj)
        reason = work.reason if isinstance(work, Loss) else None
        rows.append(
            CostRow(server_step.index, work.address, counted, server_step.index - 1 - work.base_round, cost, reason)
        )
    return rows


def total(rows: Iterable[CostRow]) -> Cost:
    """Return the sum of rows."""
    return sum((row.cost for row in rows), Cost())


def total_by_participant(rows: Iterable[CostRow]) -> dict[str, Cost]:
    """Return the sum of each participant's rows, by address."""
    totals: dict[str, Cost] = {}
    for row in rows:
        totals[row.address] = totals.get(row.address, Cost()) + row.cost
    return totals
