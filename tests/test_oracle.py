"""Rounds against an oracle: centralised training in torch and means in NumPy's doubles, with none of our arithmetic.

Only the order of a participant's examples is asked of this project, as it is drawn from the task's seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedledger.contracts.chain.chain import Chain
from fedledger.learning.data import Dataset, Parts
from fedledger.learning.task_code import load_task_code
from fedledger.learning.vectors import single_thread
from fedledger.node.training import training_seed
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import assemble
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.arithmetic.random_streams import Restartable
from fedledger.protocol.encoding import tensors
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.local import LocalStore

SIZES = (6, 9, 41, 136)
"""No batch is so small that normalising it magnifies rounding."""
ROUNDS = 2
BATCH, EPOCHS, RATE, MOMENTUM, MU = 16, 2, 0.05, 0.9, 0.1
SERVER_RATE, SERVER_MOMENTUM = 0.7, 0.9
TOLERANCE = 5e-6

Numbers = dict[str, NDArray[np.float64]]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """An objective with data, a model and the loss as its formula says."""

    dataset: Dataset
    model: Callable[[], nn.Module]
    loss: Loss
    objective: dict[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """How participants train, and what becomes of their updates."""

    solver: str = "sgd@1"
    optimiser: dict[str, Any] = field(default_factory=lambda: {"method": "fedavg@1"})
    fednova: bool = False

    @property
    def training(self) -> dict[str, Any]:
        params: dict[str, Any] = {"learning_rate": RATE, "batch_size": BATCH, "local_epochs": EPOCHS}
        # FedNova as its paper has it for SGD without momentum, and SCAFFOLD likewise.
        if self.solver == "sgd@1" and not self.fednova:
            params["momentum"] = MOMENTUM
        if self.solver == "fedprox@1":
            params["mu"] = MU
        document: dict[str, Any] = {"solver": {"method": self.solver, "params": params}, "optimiser": self.optimiser}
        if self.fednova:
            document["normalisation"] = {"method": "fednova@1", "params": {"max_steps": 1000}}
        return document


@dataclass
class Client:
    """What the oracle remembers of a participant: its control variate."""

    control: Numbers = field(default_factory=dict)


def normal(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS = normal(sum(SIZES), 5, seed=1)


def normalised(outputs: int) -> Callable[[], nn.Module]:
    """Return a maker of perceptrons with batch normalisation, before which a bias would stand still."""
    return lambda: nn.Sequential(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, outputs))


def classification() -> Case:
    labels = (INPUTS[:, 0] > 0).astype(np.int64) + (INPUTS[:, 1] > 0)

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        picked = outputs.gather(1, targets[:, None]).squeeze(1)
        return (torch.logsumexp(outputs, 1) - picked).mean()

    return Case(Dataset.of(INPUTS, labels, classes=3), normalised(3), loss)


def frozen() -> Case:
    """Part of the model stands still."""

    def model() -> nn.Module:
        module = normalised(3)()
        module[0].requires_grad_(False)
        return module

    return replace(classification(), model=model)


def regression(criterion: str, errors: Callable[[torch.Tensor], torch.Tensor], **params: float) -> Case:
    """Targets are far from zero, and compared in units of their scale."""
    targets = 40 + 3 * INPUTS[:, 0] - INPUTS[:, 1] ** 2

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return errors(outputs[:, 0] - (targets - 40) / 3).mean()

    known = {"criterion": criterion, "offset": 40.0, "scale": 3.0, **params}
    return Case(Dataset.of(INPUTS, targets), normalised(1), loss, {"method": "regression@1", "params": known})


def huber(errors: torch.Tensor) -> torch.Tensor:
    return torch.where(errors.abs() < 0.5, errors.square() / 2, 0.5 * (errors.abs() - 0.25))


def multilabel() -> Case:
    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        chances = torch.sigmoid(outputs)
        return -torch.where(targets == 1, chances, 1 - chances).log().mean()

    labels = (INPUTS[:, :4] > 0.2).astype(np.int64)
    return Case(Dataset.of(INPUTS, labels), normalised(4), loss, {"method": "multilabel@1"})


def tokens() -> Case:
    """Sequences of several lengths: where one has ended, its targets do not count."""
    rng = np.random.default_rng(4)
    read = rng.integers(0, 11, (sum(SIZES), 6))
    following = (3 * read + 1) % 11
    following[np.arange(6) >= rng.integers(2, 7, sum(SIZES))[:, None]] = -1

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        logits, wanted = outputs[targets >= 0], targets[targets >= 0]
        return (torch.logsumexp(logits, 1) - logits[torch.arange(len(wanted)), wanted]).mean()

    def model() -> nn.Module:
        return nn.Sequential(nn.Embedding(11, 6), nn.Tanh(), nn.Linear(6, 11))

    return Case(Dataset.of(read, following), model, loss, {"method": "tokens@1"})


def reconstruction(normal_only: bool) -> Case:
    def loss(outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        errors = (outputs - inputs).square().mean(1)
        return errors[targets == 0].mean() if normal_only else errors.mean()

    anomalous = (np.arange(sum(SIZES)) % 4 == 3).astype(np.int64)
    chosen = {"method": "reconstruction@1", "params": {"normal_only": normal_only}}
    return Case(Dataset.of(INPUTS, anomalous, classes=2), normalised(5), loss, chosen)


class Scorer(nn.Module):
    """Scores candidates float32[n, k, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1, bias=False))

    def forward(self, candidates: torch.Tensor) -> torch.Tensor:
        return self.inner(candidates).squeeze(-1)


def ranking(criterion: str) -> Case:
    candidates = normal(sum(SIZES), 4, 2, seed=6)

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        lists = []
        for scores, place in zip(outputs, targets.tolist(), strict=True):
            others = torch.cat([scores[:place], scores[place + 1 :]])
            pairs = -torch.sigmoid(scores[place] - others).log().mean()
            lists.append(pairs if criterion == "pairwise" else -torch.softmax(scores, 0)[place].log())
        return torch.stack(lists).mean()

    chosen = candidates[:, :, 0].argmax(1)
    known = {"method": "ranking@1", "params": {"criterion": criterion, "at": 2}}
    return Case(Dataset.of(candidates, chosen, classes=4), Scorer, loss, known)


CASES: dict[str, Callable[[], Case]] = {
    "classification": classification,
    "frozen": frozen,
    "squared error": lambda: regression("squared", torch.square),
    "absolute error": lambda: regression("absolute", torch.abs),
    "Huber": lambda: regression("huber", huber, delta=0.5),
    "multi-label": multilabel,
    "tokens": tokens,
    "reconstruction": lambda: reconstruction(True),
    "reconstruction of all": lambda: reconstruction(False),
    "pairwise ranking": lambda: ranking("pairwise"),
    "softmax ranking": lambda: ranking("softmax"),
}


CODE = "from test_oracle import CASES\n\n\ndef model():\n    return CASES[{!r}]().model()\n"
"""A task's own code, which makes the model of a case."""


class Oracle:
    """Federated training as the papers have it, in doubles between rounds."""

    def __init__(self, case: Case, method: Method, spec: TaskSpec, owners: list[str], start: Numbers) -> None:
        self.case, self.method, self.spec, self.owners = case, method, spec, owners
        self.module = case.model()
        self.trained = [name for name, p in self.module.named_parameters() if p.requires_grad]
        self.model = start
        self.control: Numbers = {name: np.zeros_like(start[name]) for name in self.trained}
        self.velocity: Numbers = {name: np.zeros_like(start[name]) for name in self.trained}
        self.clients = [Client(dict(self.control)) for _ in SIZES]

    def round(self, index: int) -> None:
        """Play a round: every participant trains, and the server takes the means weighted by examples."""
        results = [self.client(number, index) for number in range(len(SIZES))]
        shares = np.array(SIZES) / sum(SIZES)
        steps = np.array([taken for _, taken, _ in results])
        mean: Numbers = {}
        for name in self.model:
            moves = np.stack([after[name] - self.model[name] for after, _, _ in results])
            if self.method.fednova and name in self.trained:
                moves = moves * (shares @ steps / steps).reshape(-1, *[1] * (moves.ndim - 1))
            mean[name] = np.tensordot(shares, moves, 1)
        for name in self.control:
            self.control[name] = self.control[name] + np.tensordot(shares, np.stack([c[name] for *_, c in results]), 1)
        self.model = {name: self.model[name] + self.server_step(name, mean[name]) for name in self.model}

    def server_step(self, name: str, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the server optimiser's step; statistics are means of values, which no optimiser moves further."""
        if name not in self.trained:
            return mean
        params = self.method.optimiser.get("params", {})
        self.velocity[name] = params.get("momentum", 0.0) * self.velocity[name] + mean
        return params.get("server_learning_rate", 1.0) * self.velocity[name]

    def client(self, number: int, index: int) -> tuple[Numbers, int, Numbers]:
        """Return a participant's model, its number of steps, and how its control changes."""
        module = self.loaded()
        start = {name: p.detach().clone() for name, p in module.named_parameters()}
        scaffold = self.method.solver == "scaffold@1"
        momentum = MOMENTUM if self.method.solver == "sgd@1" and not self.method.fednova else 0.0
        optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], RATE, momentum)
        own = self.clients[number].control
        inputs, targets = self.part(number)
        steps = 0
        for chosen in self.batches(number, index):
            optimiser.zero_grad()
            loss = self.case.loss(module(inputs[chosen]), targets[chosen], inputs[chosen])
            if self.method.solver == "fedprox@1":
                near = [(p - start[name]).square().sum() for name, p in module.named_parameters() if p.requires_grad]
                loss = loss + MU / 2 * torch.stack(near).sum()
            loss.backward()
            if scaffold:
                for name, parameter in module.named_parameters():
                    if parameter.grad is not None:
                        parameter.grad += torch.from_numpy(self.control[name] - own[name]).float()
            optimiser.step()
            steps += 1
        after = numbers(module)
        change: Numbers = {}
        if scaffold:
            # Option II: c_i⁺ = c_i − c + (x − y) / (K · rate).
            change = {n: (self.model[n] - after[n]) / (steps * RATE) - self.control[n] for n in self.trained}
            self.clients[number].control = {n: own[n] + change[n] for n in self.trained}
        return after, steps, change or {name: np.zeros_like(self.model[name]) for name in self.trained}

    def loaded(self) -> nn.Module:
        """Return a module that holds the global model."""
        module = copy.deepcopy(self.module).train()
        state = {name: torch.from_numpy(value).float() for name, value in self.model.items()}
        module.load_state_dict(state, strict=False)
        return module

    def part(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        ends = np.cumsum([0, *SIZES])
        where = slice(int(ends[number]), int(ends[number + 1]))
        return torch.from_numpy(self.case.dataset.inputs[where]), torch.from_numpy(self.case.dataset.targets[where])

    def batches(self, number: int, index: int) -> Iterator[NDArray[np.int64]]:
        """Yield the examples of each step: stretches of a permutation an epoch, after one draw for the model's own."""
        rng = Restartable().restart(training_seed(self.spec, index, self.owners[number]))
        rng.integers(2**63)
        for _ in range(EPOCHS):
            order = rng.permutation(SIZES[number])
            for begin in range(0, SIZES[number], BATCH):
                yield order[begin : begin + BATCH]


def numbers(module: nn.Module) -> Numbers:
    """Return what of a module's state is floating point, in doubles."""
    return {n: t.double().numpy().copy() for n, t in module.state_dict().items() if t.is_floating_point()}


def experiment_of(name: str, case: Case, method: Method) -> Experiment:
    objective = {} if case.objective is None else {"objective": case.objective}
    document = {
        "name": "oracle",
        "participants": len(SIZES),
        "code": "task.py",
        "compare_with_mean": False,
        "training": {"pipeline": "plain", "rounds": ROUNDS, **method.training, **objective},
    }
    parts = Parts.stretches(case.dataset, np.cumsum(SIZES).tolist())
    held_out = case.dataset.stretch(0, 60)
    own = load_task_code(CODE.format(name).encode(), name, {name})
    return assemble(ExperimentConfig.model_validate(document), parts, held_out, held_out, own)


def expected(case: Case, method: Method, experiment: Experiment) -> Numbers:
    """Return the model that the oracle ends with."""
    initial = tensors.decode(experiment.contents[0])
    start = {name: value.astype(np.float64) for name, value in initial.items() if value.dtype == np.float32}
    owners = [experiment.address(number) for number in range(len(SIZES))]
    oracle = Oracle(case, method, experiment.spec, owners, start)
    # Several threads wait for each other longer than so small a model takes.
    with single_thread():
        for index in range(1, ROUNDS + 1):
            oracle.round(index)
    return oracle.model


METHODS = {
    "sgd": Method(),
    "fedprox": Method("fedprox@1"),
    "scaffold": Method("scaffold@1"),
    "server rate": Method(optimiser={"method": "fedavg@1", "params": {"server_learning_rate": SERVER_RATE}}),
    "fedavgm": Method(
        optimiser={
            "method": "fedavgm@1",
            "params": {"server_learning_rate": SERVER_RATE, "momentum": SERVER_MOMENTUM},
        }
    ),
    "fednova": Method(fednova=True),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_rounds_are_those_of_the_oracle(case: str, method: str, tmp_path: Path) -> None:
    given = CASES[case]()
    experiment = experiment_of(case, given, METHODS[method])
    wanted = expected(given, METHODS[method], experiment)
    with Serial(experiment) as backend:
        record = MemoryRecord(experiment)
        for played in play(record, backend):
            assert played.accepted == len(SIZES)
    initial = tensors.decode(experiment.contents[0])
    found = {**initial, **tensors.decode(record.model.encode())}
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
        # Where the oracle stands still, nothing is compared.
        stands = case == "frozen" and name == "0.weight"
        assert stands == (np.abs(value - initial[name]).max() < 100 * TOLERANCE)
    # With a ledger each objective once, and each method once.
    if case == "classification" or method == "fedavgm":
        with_ledger = run(experiment, Chain(), LocalStore(tmp_path / "store"), tmp_path)
        assert with_ledger.final.encode() == record.model.encode()
