"""Flower on the workloads: message API, simulation on Ray, two actors of one processor each.

As its documentation asks of who wants speed: one processor a client and so one torch thread, no data that is loaded
twice in a process, no evaluation, no log from the actors. The client is as lean as Flower lets it be: the model is
built once in a process, there is neither a loader nor an optimiser. Usage: python flwr_engine.py WORKLOAD ROUNDS BEGAN
[DIGITS]
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from importlib.metadata import version

# Both are read when Flower and Ray are imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from workloads import PER_ROUND, Clock, Workload, load

WORKERS = 2
client, server = ClientApp(), ServerApp()


@functools.cache
def made(name: str, digits: str | None) -> tuple[Workload, nn.Module]:
    """Return the workload and its model, made once in a process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    workload = load(name, digits)
    return workload, workload.model()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train one client."""
    task = message.content["config"]
    workload, model = made(task["workload"], task["digits"] or None)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    part = workload.part(context.node_config["partition-id"])
    x, y = torch.from_numpy(workload.inputs[part]), torch.from_numpy(workload.labels[part])
    order = torch.randperm(len(x))
    parameters = list(model.parameters())
    for start in range(0, len(x), workload.batch):
        chosen = order[start : start + workload.batch]
        loss = workload.loss(model(x[chosen]), y[chosen])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=-workload.learning_rate)
    records = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
    return Message(RecordDict(records), reply_to=message)


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Play the rounds; what would evaluate the model only looks at the clock."""
    name, rounds, began, digits = arguments()
    clock = Clock(began)
    last = time.perf_counter()

    def tick(index: int, arrays: ArrayRecord) -> None:
        nonlocal last
        now = time.perf_counter()
        if index:
            clock.add(now - last)
        last = time.perf_counter()

    workload, model = made(name, digits)
    strategy = FedAvg(
        fraction_train=PER_ROUND / workload.clients,
        fraction_evaluate=0.0,
        # Without both, the first round would train those few that are there already.
        min_train_nodes=PER_ROUND,
        min_available_nodes=workload.clients,
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        num_rounds=rounds,
        train_config=ConfigRecord({"workload": name, "digits": digits or ""}),
        evaluate_fn=tick,
    )
    clock.report(f"Flower {version('flwr')}, {WORKERS} Ray actors")


def arguments() -> tuple[str, int, float, str | None]:
    """Return what the command line says."""
    return sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None


def main() -> None:
    """Train for some rounds."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=made(arguments()[0], arguments()[3])[0].clients,
        backend_config={
            "init_args": {"num_cpus": WORKERS, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    # By its name, so that Ray sends the client's function as a reference and not as code.
    import flwr_engine

    flwr_engine.main()
