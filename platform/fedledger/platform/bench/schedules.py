"""Synchronous and asynchronous schedules on one frozen mix of devices: simulated time and energy to 90 % accuracy.

100 participants share scikit-learn's digits, about 12 examples each, alike in their labels; an MLP 64-32-10. 40 of
them have 4G, 40 have 5G and 20 have 6G; their compute speeds are spread tenfold (log-uniform below 1 GHz). Everything
is drawn anew for each seed. Two workloads differ in how long a device computes:

- ``digits``: 6 operations a parameter and use of an example (forward and backward), one operation a cycle. Sending
  takes longer than computing.
- ``heavy``: a thousand times as many, so that computing outweighs sending, as it does with the papers' larger models.

Learning rate and local epochs were chosen for each schedule and workload by the time that they take on the seeds 100
and 101, from the rates 0.3, 0.6 and 1 and 1 to 40 epochs. Whoever reports takes other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from fedledger.ledger_tools.report.device_tables import server_step_rows, totals
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play as play_rounds
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.schedules.devices import MICRO, DeviceTable
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep
from fedledger.protocol.schedules.timetable import Timetable

PARTICIPANTS = 100
TARGET = 0.9
MOST_ROUNDS = 2000
MOST_STALE = 64
MIX = ({"share": 0.4, "link": "4g"}, {"share": 0.4, "link": "5g"}, {"share": 0.2, "link": "6g"})
SPREAD = 10
PARAMETERS = 64 * 32 + 32 + 32 * 10 + 10
CYCLES = {"digits": 6 * PARAMETERS, "heavy": 6_000 * PARAMETERS}
BASELINE = "synchronous, 10 of 100"

Some = dict[str, Any]


def _method(name: str, **params: Any) -> Some:
    return {"method": name, "params": params}


@dataclass(frozen=True)
class Contender:
    """A schedule with all that is chosen for it.

    Parameters
    ----------
    name
        What it is called.
    training
        Schedule, selection, staleness weight and server optimiser, as a configuration has them.
    tuned
        Learning rate and local epochs, by workload.
    """

    name: str
    training: Some
    tuned: dict[str, tuple[float, int]]


def _fedbuff(buffer: int, concurrency: int) -> Some:
    schedule = _method("fedbuff@1", buffer=buffer, concurrency=concurrency, max_staleness=MOST_STALE)
    return {"schedule": schedule, "staleness": _method("fedbuff@1")}


CONTENDERS = (
    Contender(
        BASELINE,
        {"schedule": _method("synchronous@1"), "selection": _method("uniform@1", count=10)},
        {"digits": (0.6, 20), "heavy": (1.0, 1)},
    ),
    Contender("synchronous, all 100", {"schedule": _method("synchronous@1")}, {"digits": (0.6, 20), "heavy": (0.6, 1)}),
    Contender(
        "deadline, 10 of 13",
        {
            "schedule": _method("deadline@1", quota=10, deadline_us=10**12),
            "selection": _method("uniform@1", count=13),
        },
        {"digits": (0.6, 20), "heavy": (1.0, 1)},
    ),
    Contender("fedbuff, K 10, 10 at a time", _fedbuff(10, 10), {"digits": (0.6, 20), "heavy": (1.0, 1)}),
    Contender(
        "fedasync, 10 at a time",
        {
            "schedule": _method("fedasync@1", concurrency=10, max_staleness=MOST_STALE),
            "staleness": _method("polynomial@1", exponent=0.5, mix_models=True),
            "optimiser": _method("fedavg@1", server_learning_rate=0.4),
        },
        {"digits": (0.6, 10), "heavy": (1.0, 1)},
    ),
    Contender("fedbuff, K 10, all 100", _fedbuff(10, PARTICIPANTS), {"digits": (1.0, 10), "heavy": (0.6, 2)}),
    Contender("fedbuff, K 20, all 100", _fedbuff(20, PARTICIPANTS), {"digits": (0.6, 10), "heavy": (1.0, 2)}),
)


@dataclass(frozen=True)
class Outcome:
    """What one run took until it first had the accuracy; ``reached`` tells whether it did.

    Parameters
    ----------
    seconds, joules
        Simulated time, and the energy of all work that devices had begun by then, whatever became of it.
    rounds, updates, lost
        Server steps, the updates in them, and work that came to nothing.
    mean_staleness
        Of the updates.
    heard
        Participants of whom an update counted.
    """

    reached: bool
    seconds: float
    joules: float
    rounds: int
    updates: int
    lost: int
    mean_staleness: float
    heard: int


@dataclass(frozen=True)
class Row:
    """A schedule's outcomes, one a seed, with their middles, and how it compares with :data:`BASELINE`.

    ``speedup`` is the median over seeds of the baseline's time over its own, ``energy`` that of its energy over the
    baseline's; None where somebody did not get there.
    """

    workload: str
    schedule: str
    learning_rate: float
    local_epochs: int
    seconds: float
    joules: float
    speedup: float | None
    energy: float | None
    reached: int
    rounds: float
    mean_staleness: float
    heard: float
    outcomes: tuple[Outcome, ...]


def configuration(contender: Contender, workload: str, seed: int) -> ExperimentConfig:
    """Return the experiment of a contender."""
    rate, epochs = contender.tuned[workload]
    document: Some = {
        "name": "schedules",
        "seed": seed,
        "participants": PARTICIPANTS,
        "model": _method("mlp@1", inputs=64, hidden=[32], classes=10),
        "data": {"partition": _method("iid@1")},
        "training": {
            "pipeline": "plain",
            "rounds": MOST_ROUNDS,
            "solver": _method("sgd@1", learning_rate=rate, local_epochs=epochs),
            **contender.training,
        },
        "devices": {"kinds": MIX, "spread": SPREAD, "cycles_per_example": CYCLES[workload]},
        "ledger": {"max_staleness": MOST_STALE, "quorum": 1},
    }
    return ExperimentConfig.model_validate(document)


def play(config: ExperimentConfig, target: float = TARGET) -> Outcome:
    """Train without a ledger until the test accuracy is there, or for as many rounds as the configuration has."""
    experiment, reached = make_experiment(config, Path()), False
    with Serial(experiment) as backend:
        record = MemoryRecord(experiment)
        for closed in play_rounds(record, backend):
            reached = experiment.tested(closed.model).score >= target
            if reached:
                break
        server_steps = record.plan.server_steps
        joules = _begun(record.plan.timetable, experiment.device_table, server_steps) / MICRO
    rows = [
        row
        for server_step in server_steps
        for row in server_step_rows(server_step, server_step.index, lambda owner, staleness: (0, 0))
    ]
    told = totals(rows)
    return Outcome(
        reached=reached,
        seconds=server_steps[-1].time_us / MICRO,
        joules=joules,
        rounds=len(server_steps),
        updates=told["updates"],
        lost=sum(told["lost"].values()),
        mean_staleness=told["mean_staleness"],
        heard=len({row["address"] for row in rows if row["counted"]}),
    )


def _begun(timetable: Timetable | None, table: DeviceTable | None, server_steps: Sequence[ServerStep]) -> int:
    """Return the energy, µJ, of all that was begun before the last of some rounds; plays on until that is done."""
    if timetable is None or table is None:
        raise ValueError("contenders have schedules")
    end, longest = server_steps[-1].time_us, max(table.nominal(address).duration_us for address in table.devices)
    later = list(server_steps)
    while later[-1].time_us <= end + longest:
        later.append(timetable.round(len(later) + 1))
    work: list[Arrival | Loss] = []
    for server_step in later:
        work += [*server_step.arrivals, *server_step.losses]
    return sum(one.energy_uj for one in work if one.dispatched_us < end)


def compare(
    workloads: Sequence[str], seeds: Sequence[int], watch: Callable[[str], None] = lambda what: None
) -> list[Row]:
    """Play all contenders on workloads; the first of each workload is what the others are compared with."""
    rows = []
    for workload in workloads:
        baseline: Sequence[Outcome] = ()
        for contender in CONTENDERS:
            outcomes = []
            for seed in seeds:
                watch(f"{workload}: {contender.name}, seed {seed}")
                outcomes.append(play(configuration(contender, workload, seed)))
            baseline = baseline or outcomes
            rows.append(_row(workload, contender, outcomes, baseline))
    return rows


def _row(workload: str, contender: Contender, outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Row:
    pairs = list(zip(outcomes, baseline, strict=True))
    there = all(one.reached and other.reached for one, other in pairs)
    rate, epochs = contender.tuned[workload]
    return Row(
        workload=workload,
        schedule=contender.name,
        learning_rate=rate,
        local_epochs=epochs,
        seconds=median(outcome.seconds for outcome in outcomes),
        joules=median(outcome.joules for outcome in outcomes),
        speedup=median(other.seconds / one.seconds for one, other in pairs) if there else None,
        energy=median(one.joules / other.joules for one, other in pairs) if there else None,
        reached=sum(outcome.reached for outcome in outcomes),
        rounds=median(outcome.rounds for outcome in outcomes),
        mean_staleness=mean(outcome.mean_staleness for outcome in outcomes),
        heard=mean(outcome.heard for outcome in outcomes),
        outcomes=tuple(outcomes),
    )
