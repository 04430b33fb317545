"""Backends: the same bits from each of them, at any number of workers, and whoever is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedledger.node.batched_clients import ReplayableClients
from fedledger.platform.engine.backends.base import BACKENDS, Backend, Job, TrainingError, Work, Worker
from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.ray import Cluster
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.exact import FixedPoint, weighted_mean
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.records.spot_checks import CommittedData, SpotChecks, Windows
from support.spot_checks import AUDITORS


def experiment_with(participants: int = 7, **training: object) -> Experiment:
    document = {
        "name": "backends",
        "participants": participants,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [16], "classes": 10}},
        "training": {"pipeline": "plain", "rounds": 2, **training},
        "attackers": [{"attack": {"method": name}} for name in ("sign_flip@1", "duplicate@1", "free_rider@1")],
    }
    return make_experiment(ExperimentConfig.model_validate(document), Path())


def work(given: Experiment) -> Work:
    base = given.initial.vector
    jobs = [Job(number, weight=100 + number) for number in range(given.config.participants)]
    return Work(2, [base, base + np.float32(0.01)], jobs)


def means(backend: Backend, given: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """The round's weighted mean twice: by the backend's sum, and of the updates that it yields."""
    todo = work(given)
    total = backend.total(todo)
    assert not total.refused
    assert total.sum.weight == sum(job.weight for job in todo.jobs)
    updates = {job.number: (job.weight, trained) for job, trained in backend.train(todo)}
    fixed = FixedPoint(given.spec.fixed_point.fraction_bits, given.spec.fixed_point.bound)
    rows = np.stack([fixed.quantise(trained.delta) for _, trained in updates.values()])
    weights = [weight for weight, _ in updates.values()]
    return total.sum.mean(), weighted_mean(rows, weights, sum(weights))


@pytest.fixture(scope="module")
def given() -> Experiment:
    return experiment_with()


@pytest.fixture(scope="module")
def expected(given: Experiment) -> np.ndarray:
    with Serial(given) as serial:
        summed, collected = means(serial, given)
    assert np.array_equal(summed, collected)
    assert summed.any()
    return summed


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_pool_of_any_size_gives_the_bits_of_the_serial_backend(
    given: Experiment, expected: np.ndarray, workers: int
) -> None:
    with Pool(given, workers) as pool:
        for _ in range(3):  # By guess, then by measured costs.
            for found in means(pool, given):
                assert np.array_equal(found, expected)


DRAWING = """
import random
import numpy as np
import torch
from torch import nn
from sklearn.datasets import load_digits

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs):
        if self.training:
            inputs = inputs * (np.random.random() + random.random() + torch.rand(1))
        return self.layer(inputs)

def model():
    return Net()

def data():
    inputs, labels = load_digits(return_X_y=True)
    return (inputs / 16).astype(np.float32), labels
"""


def test_a_model_that_draws_random_numbers_gets_the_same_bits_everywhere(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(DRAWING)
    document = {"name": "drawing", "participants": 5, "code": "task.py", "training": {"pipeline": "plain", "rounds": 2}}
    drawing = make_experiment(ExperimentConfig.model_validate(document), tmp_path)
    with Serial(drawing) as serial:
        wanted = means(serial, drawing)[0]
    for method in ("fork", "spawn"):
        np.random.seed(len(method))
        with Pool(drawing, 2, method=method) as pool:
            for found in means(pool, drawing):
                assert np.array_equal(found, wanted)


def test_spawned_workers_give_the_same_bits(given: Experiment, expected: np.ndarray) -> None:
    with Pool(given, 2, method="spawn") as pool:
        for found in means(pool, given):
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.05])
def test_a_worker_that_is_killed_changes_nothing(given: Experiment, expected: np.ndarray, delay: float) -> None:
    with Pool(given, 2) as pool:
        pool.total(work(given))
        victim = pool.processes[0]

        def kill() -> None:
            time.sleep(delay)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        found = [total for _ in range(4) for total in means(pool, given)]
        killer.join()
        found += means(pool, given)
        assert victim not in pool.processes
        assert all(np.array_equal(total, expected) for total in found)


@pytest.mark.long
def test_a_ray_cluster_gives_the_same_bits_also_when_one_of_its_processes_is_killed(
    given: Experiment, expected: np.ndarray
) -> None:
    with Cluster(given, 2) as cluster:
        for round_ in range(2):
            for found in means(cluster, given):
                assert np.array_equal(found, expected)
            if round_ == 0:
                os.kill(cluster.processes[0], signal.SIGKILL)


def plain(examples: int = 4, **solver: object) -> Experiment:
    """Participants that all have as many examples, so that they can be trained together."""
    method = {"method": "sgd@1", "params": {"learning_rate": 0.1, "local_epochs": 2, "batch_size": 3, **solver}}
    document = {
        "name": "together",
        "participants": 40,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [16, 12], "classes": 10, "activation": "tanh"}},
        "data": {"partition": {"method": "iid@1"}, "test_fraction": 0.8},
        "training": {"pipeline": "plain", "rounds": 2, "solver": method},
        "attackers": [{"attack": {"method": "sign_flip@1"}}],
    }
    return make_experiment(ExperimentConfig.model_validate(document), Path())


@pytest.mark.parametrize("solver", [{}, {"momentum": 0.9, "weight_decay": 0.01}, {"max_gradient_norm": 1.0}])
def test_participants_that_are_trained_together_have_the_bits_of_those_one_by_one(solver: dict[str, float]) -> None:
    given = plain(**solver)
    todo = work(given)
    with Serial(given) as serial, Batched(given) as batched, Pool(given, 2) as pool:
        assert np.array_equal(serial.total(todo).sum.limbs, batched.total(todo).sum.limbs)
        expected = {job.number: trained.delta.tobytes() for job, trained in serial.train(todo)}
        for backend in (batched, batched, pool):
            assert {job.number: trained.delta.tobytes() for job, trained in backend.train(todo)} == expected
        batched_clients = batched._worker._batched_clients
        assert (batched_clients is None) == ("max_gradient_norm" in solver)
        assert batched_clients is None or any(count > 1 for count, _ in batched_clients._unproved)


def test_updates_commit_to_the_same_training_wherever_it_is_done() -> None:
    params = {"learning_rate": 0.1, "momentum": 0.9, "local_epochs": 2, "batch_size": 16}
    made = plain()
    model = {"method": "mlp@1", "params": {"inputs": 64, "hidden": [16], "classes": 10}}
    document = made.config.model_dump() | {"model": model}
    document["training"]["solver"] = {"method": "replayable_sgd@1", "params": params}
    made = make_experiment(ExperimentConfig.model_validate(document), Path())
    checks = SpotChecks(auditors=AUDITORS, windows=Windows(steps=1))
    changes = {"committed_data": CommittedData(), "spot_checks": checks}
    given = replace(made, spec=made.spec.model_copy(update=changes))
    todo = work(given)
    with Serial(given) as serial, Batched(given) as batched, Pool(given, 2) as pool:
        expected = {job.number: trained.trajectory for job, trained in serial.train(todo)}
        assert len(set(expected.values())) == len(expected) and {len(root) for root in expected.values()} == {32}
        for backend in (batched, pool):
            assert {job.number: trained.trajectory for job, trained in backend.train(todo)} == expected
        assert type(batched._worker._batched_clients) is ReplayableClients


def test_a_group_that_would_have_other_bits_is_trained_one_by_one() -> None:
    given = plain()
    todo = work(given)
    with Serial(given) as serial, Batched(given) as batched:
        expected = serial.total(todo).sum.limbs
        batched.total(todo)
        batched_clients = batched._worker._batched_clients
        assert batched_clients is not None
        batched_clients._unproved.clear()
        for stack in batched_clients._stacks.values():
            # No step of it will reach the values any more.
            stack.gradient = torch.zeros_like(stack.gradient)
        assert np.array_equal(batched.total(todo).sum.limbs, expected)
        assert set(batched_clients._unproved.values()) == {None}


def test_who_trains_a_group_leaves_torchs_generator_as_it_was() -> None:
    given = plain()
    todo, worker = work(given), Worker(given)
    worker.begin(todo.index, todo.bases, todo.before, todo.server)
    # The first of them makes the model.
    list(worker._groups(todo.jobs))
    total = WeightedSum(worker.fixed, worker.dimension, sum(job.weight for job in todo.jobs))
    state = torch.get_rng_state()
    done = worker.add_all(todo.jobs, total)
    assert len(done) == len(todo.jobs) and worker._batched_clients is not None and worker._batched_clients._unproved
    assert torch.equal(torch.get_rng_state(), state)


def test_updates_of_a_group_that_cannot_be_summed_are_left_out() -> None:
    wild = plain(learning_rate=1e30)
    todo = work(wild)
    with Serial(wild) as serial, Batched(wild) as batched:
        one, other = serial.total(todo), batched.total(todo)
    assert one.refused == other.refused
    assert one.refused
    assert np.array_equal(one.sum.limbs, other.sum.limbs)


def is_alive(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path("/proc", pid, "status").read_text()
    except OSError:
        return False


def test_workers_end_with_the_process_that_started_them(given: Experiment, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        pool = Pool(given, 2)
        (tmp_path / "workers").write_text(" ".join(map(str, pool.processes)))
        time.sleep(60)
    listing = tmp_path / "workers"
    deadline = time.monotonic() + 30
    while not listing.exists() or not listing.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = listing.read_text().split()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while any(
        Path("/proc", pid).exists() and "State:\tZ" not in Path("/proc", pid, "status").read_text() for pid in workers
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["serial@1", "pool@1"])
def test_an_error_names_round_and_participant(name: str) -> None:
    bad = experiment_with(5, solver={"method": "sgd@1", "params": {"learning_rate": 0.1, "local_steps": 1}})
    parts = bad.parts
    broken = type(parts).__new__(type(parts))
    vars(broken).update(vars(parts), _ends=[0, 0, *vars(parts)["_ends"][2:]])
    bad = type(bad)(**{**{f: getattr(bad, f) for f in bad.__dataclass_fields__}, "parts": broken})
    with BACKENDS.get(name)(bad, 2) as backend, pytest.raises(Exception, match="no example") as caught:
        backend.total(Work(3, [bad.initial.vector], [Job(number, weight=1) for number in range(5)]))
    assert "round 3" in str(caught.value).lower() + " ".join(getattr(caught.value, "__notes__", [])).lower()
    assert not isinstance(caught.value, TrainingError) or "participant 0" in str(caught.value)


def test_updates_that_cannot_be_summed_are_left_out(given: Experiment) -> None:
    wild = experiment_with(4, solver={"method": "sgd@1", "params": {"learning_rate": 1e30, "local_steps": 2}})
    todo = work(wild)
    with Serial(wild) as serial, Pool(wild, 2) as pool:
        one, other = serial.total(todo), pool.total(todo)
    assert one.refused == other.refused
    assert one.refused
    assert one.sum.weight == other.sum.weight == sum(j.weight for j in todo.jobs if j.number not in one.refused)
    assert np.array_equal(one.sum.limbs, other.sum.limbs)
