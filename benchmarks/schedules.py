"""Simulated time and energy of schedules on one frozen mix of devices.

Run python benchmarks/schedules.py [--steps 100] [--format json].

100 participants, 40 with 4G, 40 with 5G, 20 with 6G, compute speed spread 10x (log-uniform below 1 GHz, seed 0). A
step takes 10 updates: of 10 that are drawn, in a synchronous round; of the first 10 of 13, with a deadline; of
whatever comes in, with FedBuff. Only times are simulated: how much a stale update is worth is another matter.

The workloads are those of the engine's benchmark, and cnn. Cycles an example are an assumption: 6 operations a
parameter and use (forward and backward), one operation a cycle. `heavy` is digits with 1,000 times as many, where
computing outweighs sending as it does in the papers' larger models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from fedledger.platform.devices.fleet import FleetConfig, draw_fleet, update_size
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.codecs.payload import payload_slots
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.schedules.base import everybody
from fedledger.protocol.schedules.costs import costs, total
from fedledger.protocol.schedules.devices import DeviceTable
from fedledger.protocol.schedules.play import simulate

PARTICIPANTS, UPDATES = 100, 10
MIX = [{"share": 0.4, "link": "4g"}, {"share": 0.4, "link": "5g"}, {"share": 0.2, "link": "6g"}]
# Parameters, examples a participant, cycles an example.
WORKLOADS = {
    "digits": (2_410, 14, 6 * 2_410),
    "heavy": (2_410, 14, 6_000 * 2_410),
    "mlp": (199_210, 600, 6 * 199_210),
    "cnn": (61_706, 600, 6 * 416_520),
}
SCHEDULES = {
    "synchronous, 10 of 100": Method(method="synchronous@1"),
    "deadline, 10 of 13": Method(method="deadline@1", params={"quota": UPDATES, "deadline_us": 10**12}),
    "fedbuff, K 10, 10 at a time": Method(method="fedbuff@1", params={"buffer": UPDATES, "concurrency": 10}),
    "fedbuff, K 10, 100 at a time": Method(method="fedbuff@1", params={"buffer": UPDATES, "concurrency": 100}),
    "synchronous, all 100": Method(method="synchronous@1"),
    "fedbuff, K 100, 100 at a time": Method(method="fedbuff@1", params={"buffer": 100, "concurrency": 100}),
}
ASKED = {"synchronous, 10 of 100": 10, "deadline, 10 of 13": 13}


def frozen_fleet(workload: str) -> DeviceTable:
    """Return the devices of a workload's participants."""
    parameters, examples, cycles = WORKLOADS[workload]
    config = FleetConfig.model_validate({"kinds": MIX, "spread": 10, "cycles_per_example": cycles})
    addresses = [f"0x{number:040x}" for number in range(1, PARTICIPANTS + 1)]
    size = update_size(payload_slots((), (), parameters), 65_535)
    return draw_fleet(config, addresses, [examples] * PARTICIPANTS, 4 * parameters + 256, size, 0)


def play(table: DeviceTable, name: str, steps: int) -> dict[str, Any]:
    """Return what a schedule's steps take."""
    digest = bytes(32)

    def drawn(index: int, addresses: Sequence[str]) -> Sequence[str]:
        return stream(digest, "selection", index).sample(addresses, ASKED[name])

    server_steps = list(islice(simulate(table, SCHEDULES[name], digest, drawn if name in ASKED else everybody), steps))
    rows = [row for server_step in server_steps for row in costs(server_step)]
    spent = total(rows)
    counted = [row for row in rows if row.counted]
    return {
        "schedule": name,
        "steps": steps,
        "updates": len(counted),
        "seconds": server_steps[-1].time_us / 1e6,
        "joules_per_update": spent.energy_uj / 1e6 / len(counted),
        "communication": spent.communication_ppm / 1e6,
        "mean_staleness": sum(row.staleness for row in counted) / len(counted),
        "largest_staleness": max(row.staleness for row in counted),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    rows = []
    for workload in WORKLOADS:
        table = frozen_fleet(workload)
        rows += [{"workload": workload, **play(table, name, arguments.steps)} for name in SCHEDULES]
    if arguments.format == "json":
        print(json.dumps(rows, indent=1))
        return
    print(f"{'workload':9}{'schedule':31}{'s':>9}{'updates/s':>11}{'J/update':>10}{'comm':>6}{'stale':>7}{'most':>6}")
    for row in rows:
        rate = row["updates"] / row["seconds"]
        print(
            f"{row['workload']:9}{row['schedule']:31}{row['seconds']:9.2f}{rate:11.1f}{row['joules_per_update']:10.4f}"
            f"{row['communication']:6.2f}{row['mean_staleness']:7.2f}{row['largest_staleness']:6}"
        )


if __name__ == "__main__":
    main()
