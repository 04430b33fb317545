"""pfl-research on the workloads: its simulated backend in two processes over torch.distributed and gloo.

As its guide to fast simulations says: a process for each processor, data in tensors that are made once, no evaluation.
No client is scheduled before another, as most workloads give all of them as many examples. Its batches are the same in
every epoch, as it keeps them. Usage: python pfl_engine.py WORKLOAD ROUNDS BEGAN [DIGITS]
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version

WORKERS = 2


def main() -> None:
    """Train for some rounds; the first process starts the others."""
    others = [] if "PFL_WORKER_ADDRESSES" in os.environ else start_others()
    play()
    for other in others:
        if other.wait(timeout=60):
            sys.exit(f"a worker process failed with exit code {other.returncode}")


def start_others() -> list[subprocess.Popen[bytes]]:
    """Start the other processes before anything slow is imported here."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(WORKERS)]
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    os.environ["PFL_WORKER_ADDRESSES"] = ",".join(addresses)
    os.environ["PFL_WORKER_RANK"] = "0"
    command = [sys.executable, *sys.argv]
    return [
        subprocess.Popen(command, env={**os.environ, "PFL_WORKER_RANK": str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(1, WORKERS)
    ]


def play() -> None:
    """Be one of the processes."""
    import numpy as np
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.internal.ops import pytorch_ops
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel
    from torch import nn
    from workloads import PER_ROUND, Clock, load

    name, rounds, began = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    clock = Clock(began)
    torch.set_num_threads(1)
    np.random.seed(0)
    torch.manual_seed(0)
    workload = load(name, sys.argv[4] if len(sys.argv) > 4 else None)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = workload.model()

        def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return workload.loss(self.inner(x), y)

        def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
            return {}

    class Ticks(TrainingProcessCallback):
        def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
            self.last = time.perf_counter()
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
        ) -> tuple[bool, Metrics]:
            now = time.perf_counter()
            clock.add(now - self.last)
            self.last = time.perf_counter()
            return False, Metrics()

    inputs, labels = torch.from_numpy(workload.inputs), torch.from_numpy(workload.labels)
    users = [
        PyTorchTensorDataset((inputs[part], labels[part]), user_id=str(number))
        for number, part in enumerate(map(workload.part, range(workload.clients)))
    ]
    data = FederatedDataset(users.__getitem__, get_user_sampler("minimize_reuse", list(range(workload.clients))))
    module = Model()
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=2 * rounds,
            train_cohort_size=PER_ROUND,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=workload.learning_rate, local_batch_size=workload.batch
        ),
        callbacks=[Ticks()],
        send_metrics_to_platform=False,
    )
    # One that ends while the other still speaks to it makes that one abort.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if pytorch_ops.distributed.global_rank == 0:
        clock.report(f"pfl-research {version('pfl')}, {pytorch_ops.distributed.world_size} processes over gloo")


if __name__ == "__main__":
    main()
