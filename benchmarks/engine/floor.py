"""The floor: federated averaging in bare torch, two persistent one-thread worker processes that share flat vectors.

No library, ledger, repeatability, check of what a client sends, or care for a worker that dies: what is left is
training. Usage: python floor.py WORKLOAD ROUNDS BEGAN
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time

import numpy as np
import torch
from workloads import PER_ROUND, Clock, Workload, load

WORKERS = 2


def tune_malloc() -> None:
    """Keep large activations from going back to the system after every step."""
    libc = ctypes.CDLL(None)
    for option, value in ((-1, 1 << 30), (-2, 64 << 20), (-3, 32 << 20)):
        libc.mallopt(option, value)


def shared(count: int) -> torch.Tensor:
    """Return float32[count] that forked processes share."""
    return torch.from_numpy(np.frombuffer(mmap.mmap(-1, 4 * count), np.float32))


def flatten(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Make parameters and gradients views of two flat vectors."""
    size = sum(-(-p.numel() // 16) * 16 for p in model.parameters())
    values, gradient = torch.zeros(size), torch.zeros(size)
    offset = 0
    for p in model.parameters():
        view = values[offset : offset + p.numel()].view_as(p)
        view.copy_(p.data)
        p.data = view
        p.grad = gradient[offset : offset + p.numel()].view_as(p)
        offset += -(-p.numel() // 16) * 16
    return values, gradient


def work(
    workload: Workload, model: torch.nn.Module, base: torch.Tensor, total: torch.Tensor, go: int, done: int
) -> None:
    """Train the clients that come, and add up what they learn."""
    tune_malloc()
    torch.set_num_threads(1)
    values, gradient = flatten(model)
    inputs, labels = torch.from_numpy(workload.inputs), torch.from_numpy(workload.labels)
    batch, rate, loss = workload.batch, -workload.learning_rate, workload.loss
    while message := os.read(go, 4096):
        total.zero_()
        for client in memoryview(message).cast("H"):
            values.copy_(base)
            part = workload.part(client)
            x, y = inputs[part], labels[part]
            order = torch.randperm(len(x))
            for start in range(0, len(x), batch):
                chosen = order[start : start + batch]
                gradient.zero_()
                loss(model(x[chosen]), y[chosen]).backward()
                values.add_(gradient, alpha=rate)
            total.add_(values, alpha=1 / PER_ROUND)
        os.write(done, b".")
    os._exit(0)


def main() -> None:
    """Train for some rounds."""
    name, rounds, began = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    clock = Clock(began)
    torch.set_num_threads(1)
    workload = load(name)
    torch.manual_seed(0)
    model = workload.model()
    values, _ = flatten(model)
    base = shared(len(values))
    base.copy_(values)
    totals, goes, dones = [], [], []
    for _ in range(WORKERS):
        (go_read, go), (done, done_write) = os.pipe(), os.pipe()
        totals.append(shared(len(values)))
        if os.fork() == 0:
            os.close(go)
            for other in goes:
                os.close(other)
            work(workload, model, base, totals[-1], go_read, done_write)
        goes.append(go)
        dones.append(done)
    choices = workload.chosen()
    for _ in range(rounds):
        started = time.perf_counter()
        chosen = next(choices)
        for worker, go in enumerate(goes):
            os.write(go, np.array(chosen[worker::WORKERS], np.uint16).tobytes())
        for done in dones:
            os.read(done, 1)
        torch.add(totals[0], totals[1], out=base)
        clock.add(time.perf_counter() - started)
    clock.report(f"torch {torch.__version__}, {WORKERS} processes")
    for go in goes:
        os.close(go)
        os.wait()


if __name__ == "__main__":
    main()
