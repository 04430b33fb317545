"""A model is all in its parameters and buffers: whatever else it would keep is refused before the first round."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedledger.learning.models.initial import initial_model, require_reproducible
from fedledger.learning.vectors import FlatModel
from fedledger.platform.engine import background
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.errors import ConfigError

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
TASKS = Path(__file__).parent / "tasks"

Start = Callable[[Any], object]
Step = Callable[[Any, torch.Tensor], torch.Tensor]


class Remembering(nn.Module):
    """A linear layer beside something that a forward pass in training mode changes."""

    def __init__(self, start: Start, step: Step) -> None:
        super().__init__()
        self.layer, self.step = nn.Linear(4, 2), step
        start(self)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(self.step(self, inputs) if self.training else self.seen(inputs))
        return outputs

    def seen(self, inputs: torch.Tensor) -> torch.Tensor:
        mean = getattr(self, "mean", None)
        return inputs if mean is None else inputs - mean


def count(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    module.n += 1
    return inputs


def warm_up(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    module.n += 1
    return inputs * min(1.0, module.n / 1000)


def average(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    module.mean = 0.9 * (0 if module.mean is None else module.mean) + 0.1 * inputs.mean(0).detach()
    return inputs - module.mean


def collect(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    module.kept.append(inputs.mean(0))
    return inputs - module.kept[0] * len(module.kept)


def note(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    module.last, module.width = inputs.mean(0), inputs.shape[1]
    return inputs


def buffer(value: torch.Tensor | None, persistent: bool = True) -> Start:
    return lambda module: module.register_buffer("mean", None if value is None else value.clone(), persistent)


def attribute(name: str, value: Callable[[], object]) -> Start:
    return lambda module: setattr(module, name, value())


REFUSED: dict[str, tuple[Start, Step, str]] = {
    "a counter that nothing shows yet": (attribute("n", int), count, "in n.*buffer"),
    "a counter": (attribute("n", int), warm_up, "in n.*buffer"),
    "a mean as an attribute": (attribute("mean", lambda: torch.zeros(4)), average, "remembers.*buffer"),
    "a list": (attribute("kept", list), collect, "remembers.*buffer"),
    "a buffer that is not there at first": (buffer(None), average, "mean.*value from the start"),
}
TAKEN: dict[str, tuple[Start, Step]] = {
    "a buffer": (buffer(torch.zeros(4)), average),
    "a buffer that is not saved": (buffer(torch.zeros(4), persistent=False), average),
    "what is only shown": (attribute("last", lambda: None), note),
}


@pytest.mark.parametrize("name", REFUSED)
def test_memory_beside_parameters_and_buffers_is_refused(name: str) -> None:
    start, step, said = REFUSED[name]
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        require_reproducible(partial(Remembering, start, step), partial(Remembering, start, step), 1, X)


@pytest.mark.parametrize("name", TAKEN)
def test_what_begins_anew_or_belongs_to_the_state_is_taken(name: str) -> None:
    """So that a model that others have trained is what a fresh one is, bit for bit."""
    start, step = TAKEN[name]
    require_reproducible(partial(Remembering, start, step), partial(Remembering, start, step), 1, X)
    begins = initial_model(lambda: Remembering(start, step), 1, X)
    used, fresh = (FlatModel(Remembering(start, step), described=begins.tensors) for _ in range(2))
    used.load(begins.file.vector)
    for _ in range(5):
        used.module(torch.from_numpy(X))
    trained = []
    for flat in (used, fresh):
        flat.load(begins.file.vector)
        flat.module(torch.from_numpy(X)).square().sum().backward()
        trained.append((flat.gradient.numpy().tobytes(), flat.vector().tobytes()))
    assert trained[0] == trained[1]


class Tied(nn.Module):
    def __init__(self, tie: Start) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        tie(self)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.second(self.first(inputs))
        return outputs


def transposed(module: Any) -> None:
    module.second.weight = nn.Parameter(module.first.weight.t())


def a_view_as_a_buffer(module: Any) -> None:
    module.register_buffer("copy", module.first.weight.detach()[:2])


def expanded(module: Any) -> None:
    module.register_buffer("mask", torch.ones(1).expand(3, 3))


def tied(module: Any) -> None:
    module.second.weight = module.first.weight


def halves(module: Any) -> None:
    """Two views of one memory that have no number in common, though they interleave."""
    whole = torch.randn(4, 8)
    module.first.weight, module.second.weight = (nn.Parameter(part) for part in whole.chunk(2, 1))


def of_length_one(module: Any) -> None:
    module.register_buffer("positions", torch.arange(5).expand((1, -1)))


@pytest.mark.parametrize(
    ("tie", "said"),
    [
        (transposed, "first.weight and second.weight share memory.*same parameter"),
        (a_view_as_a_buffer, "share memory"),
        (expanded, "mask share memory.*clone"),
    ],
)
def test_tensors_that_share_memory_are_refused(tie: Start, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        initial_model(lambda: Tied(tie), 1, X)


@pytest.mark.parametrize("tie", [tied, halves, of_length_one])
def test_tensors_of_their_own_and_tied_ones_are_taken(tie: Start) -> None:
    """A fresh module that loads the state gives the same outputs."""
    flat, fresh = FlatModel(Tied(tie)), Tied(tie)
    initial_model(lambda: Tied(tie), 1, X)
    flat.load(flat.vector() + np.float32(0.5))
    fresh.load_state_dict({name: torch.from_numpy(value) for name, value in flat.state().items()}, strict=True)
    assert torch.equal(fresh(torch.from_numpy(X)), flat.module(torch.from_numpy(X)))


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"a": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_extra_state_and_compiled_buffers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"_extra_state.*dict.*Only tensors"):
        initial_model(lambda: Extra(4, 2), 1, X)
    with pytest.raises(ConfigError, match=r"torch\.jit"):
        initial_model(lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))), 1, X)


def test_no_model_is_made_while_another_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make one draws from the generators that a training model draws from, whichever thread does it."""
    monkeypatch.setattr(background, "LONG", 0.0)
    document = {
        "name": "chance",
        "participants": 3,
        "code": "skipping.py",
        "data": {"partition": {"method": "iid@1"}},
        "training": {"pipeline": "plain", "rounds": 2, "aggregation": {"method": "median@1"}},
    }
    given = make_experiment(ExperimentConfig.model_validate(document), TASKS)
    threads: list[int] = []

    def noted() -> nn.Module:
        threads.append(threading.get_ident())
        return given.make_model()

    run_without_ledger(replace(given, make_model=noted), tmp_path, "serial")
    assert set(threads) == {threading.get_ident()}
