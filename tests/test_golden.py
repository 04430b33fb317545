"""Two participants with F_i = (x - e_i)²/2, e = (0, 10), that take 1 and 9 steps of .1: where each method settles.

The local steps are those of the solvers' own loop, and rounds are judged as an aggregator does.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from eth_account import Account
from torch import nn

from fedledger.aggregator.round.outcome import RoundInput, round_outcome
from fedledger.contracts.ledger.round_history import Participation
from fedledger.learning.data import Dataset
from fedledger.learning.vectors import FlatModel, repeatable
from fedledger.node.solvers.base import Memory, sent_by
from fedledger.node.solvers.build import build_solver
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.published_vectors import published
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spec import FixedPointSpec, TaskSpec
from fedledger.protocol.records.update import UpdateHeader
from fedledger.protocol.records.verdicts import Verdict

OPTIMA, STEPS, RATE = (0.0, 10.0), (1, 9), 0.1
FIXED = FixedPoint(32, 64.0)
KEYS = sorted(
    (hashlib.sha256(bytes([i])).digest() for i in range(2)), key=lambda key: Account.from_key(key).address.lower()
)
OWNERS = [str(Account.from_key(key).address) for key in KEYS]


class Distance(nn.Module):
    """Outputs how far the one parameter is from each input."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.x - inputs


def half_square(outputs: torch.Tensor, labels: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return outputs.square().mean() / 2


def measure(what: str, vector: np.ndarray) -> Measurement:
    return Measurement(0, 0)


def settles_at(solver: str, rounds: int, normalisation: Method | None = None, **params: Any) -> float:
    """Return the model after some rounds from 0."""
    solvers = [build_solver(solver, {"learning_rate": RATE, "local_steps": n, **params}) for n in STEPS]
    model = FlatModel(Distance())
    content = ContentRef.of(b"")
    spec = TaskSpec(
        name="golden",
        rounds=rounds,
        initial_model=Ref.of(content),
        validation=Ref.of(content),
        vectors=list(sent_by(solvers[0])),
        normalisation=normalisation,
        contribution=Method(method="equal@1"),
        fixed_point=FixedPointSpec(fraction_bits=FIXED.fraction_bits, bound=FIXED.bound),
    )
    datasets = [Dataset(np.full((1, 1), e, np.float32), np.zeros(1, np.int64), 2) for e in OPTIMA]
    data, state = ModelFile.of({"x": np.zeros(1, np.float32)}).encode(), b""
    kept: list[dict[str, np.ndarray]] = [{}, {}]
    for index in range(1, rounds + 1):
        base, ref = ModelFile.decode(data), ContentRef.of(data)
        server = published(state, dict.fromkeys(spec.vectors, 1), FIXED)
        updates, participations = {}, []
        for i, owner in enumerate(OWNERS):
            rng = generator(spec.digest, "train", index, owner)
            with repeatable():
                made: Any = solvers[i]
                made = made(model, base.vector, datasets[i], rng, Memory(kept[i], server), half_square)
            kept[i] = made.state
            header = UpdateHeader(
                spec=spec.digest.hex(),
                round=index,
                participant=owner,
                base=ref.digest.hex(),
                examples=made.examples,
                steps=made.steps,
                vectors=["delta"],
                payload="0" * 64,
            )
            updates[owner] = wire.encode(header, {"delta": made.delta, **made.vectors}, KEYS[i])
            participations.append(Participation(i, owner, owner, Evidence(), ContentRef.of(updates[owner])))
        given = RoundInput(spec, index, base, ref, state, participations, updates, 100, enrolled=2)
        outcome = round_outcome(given, measure)
        assert set(outcome.verdicts.values()) == {Verdict.ACCEPTED}
        data, state = outcome.model.data, outcome.state.data
    return float(ModelFile.decode(data).vector[0])


def test_fedavg_settles_near_who_takes_more_steps() -> None:
    assert settles_at("sgd@1", 60) == pytest.approx(8.596648, abs=5e-6)


@pytest.mark.parametrize("effective", [None, 5])
def test_fednova_settles_where_steps_weigh_alike(effective: int | None) -> None:
    """Not at the optimum of the sum, 5: nine steps go less than nine times as far as one."""
    fednova = Method(method="fednova@1", params={"max_steps": 9, "effective_steps": effective})
    assert settles_at("sgd@1", 60, fednova) == pytest.approx(4.0499, abs=5e-5)


def test_scaffold_settles_at_the_optimum() -> None:
    assert settles_at("scaffold@1", 150) == pytest.approx(5, abs=1e-5)


def test_fedprox_settles_nearer_to_the_optimum_than_fedavg() -> None:
    """A step leaves 1 - .1 (1 + mu) of the way to the local optimum (e_i + mu x) / (1 + mu); the moves sum to 0."""
    mu = 1.0
    shares = [(1 - (1 - RATE * (1 + mu)) ** n) / (1 + mu) for n in STEPS]
    expected = sum(share * e for share, e in zip(shares, OPTIMA, strict=True)) / sum(shares)
    assert settles_at("fedprox@1", 100, mu=mu) == pytest.approx(expected, abs=5e-6)
    assert 5 < expected < 8.59
