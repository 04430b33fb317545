"""Attackers who play the task's own rounds before they send anything, and those who begin anew under another name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.adaptive import Adaptive
from fedledger.platform.attacks.coalition import OMNISCIENT, PROTOCOL
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.checkpoint import Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.verdicts import Verdict

NORM = [{"method": "norm@2"}]


def experiment(method: str, params: dict[str, Any], rounds: int, **training: Any) -> Experiment:
    """Ten participants learn digits; three of them attack."""
    solver = {"method": "sgd@1", "params": {"learning_rate": 0.08, "batch_size": 32, "local_epochs": 1}}
    config = {
        "name": "adaptive",
        "seed": 6,
        "participants": 10,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [16], "classes": 10}},
        "attackers": [{"attack": {"method": method, "params": params}, "count": 3}],
        "training": {"rounds": rounds, "solver": solver, **training},
    }
    return make_experiment(ExperimentConfig.model_validate(config), Path())


def played(given: Experiment, backend: str = "serial") -> tuple[MemoryRecord, list[Round]]:
    record = MemoryRecord(given, judged=True)
    with open_backend(backend, given, 2) as opened:
        return record, list(play(record, opened))


def hostile(given: Experiment) -> list[int]:
    return [number for number, name in enumerate(given.behaviours) if name != HONEST]


@pytest.mark.parametrize(
    "training",
    [
        {"pipeline": "default"},
        {"pipeline": "0.1.0", "aggregation": {"method": "fltrust@1"}},
        {"pipeline": "default", "reputation_model": {"method": "eigentrust@1"}},
        {
            "pipeline": "plain",
            "detection": NORM,
            "judgement": {},
            "optimiser": {"method": "fedavgm@1"},
            "payload": [{"name": "delta", "codec": {"method": "top_k@1", "params": {"k": 300}}}],
        },
    ],
)
def test_what_attackers_play_is_the_round_itself(training: dict[str, Any]) -> None:
    given = experiment("adaptive@1", {"trials": 2}, rounds=4, **training)
    record, _ = played(given)
    now, number = record.progress, hostile(given)[0]
    attack = given.trainer(number)
    attack = getattr(attack, "trainer", attack)
    assert isinstance(attack, Adaptive)
    earlier = [given.initial.moved(model) for model in now.earlier]
    context = TrainingContext(given.spec, 5, given.address(number), record.model, earlier[0], earlier=earlier)
    standing = attack._standing(context)
    assert standing.state.encode() == now.state.encode()
    known = standing.reputations(given.spec, [given.address(each) for each in range(10)])
    assert known == {given.address(each): value for each, value in record.reputations.of(range(10)).items()}
    assert len(standing.standings) > 0


@cache
def sent_factors(knowledge: str) -> list[float]:
    """The factors of five rounds against a limit of norms, and how many of the attackers' updates it refuses."""
    given = experiment("adaptive@1", {"knowledge": knowledge}, rounds=5, pipeline="plain", detection=NORM, judgement={})
    record, rounds = played(given)
    attack = given.trainer(hostile(given)[0])
    assert isinstance(attack, Adaptive)
    models = [*([given.initial.moved(model) for model in record.progress.earlier])][::-1]
    factors = []
    for index in range(1, 6):
        earlier = tuple(reversed(models[: index - 1]))
        context = TrainingContext(
            given.spec,
            index,
            given.address(hostile(given)[0]),
            models[index - 1],
            (*earlier, None)[0],
            earlier=earlier,
        )
        factors.append(attack._factor(context))
    refused = sum(done.verdicts[number].refused for done in rounds for number in hostile(given))
    return [*factors, float(refused)]


def test_who_sees_the_round_sends_the_strongest_that_passes() -> None:
    *factors, refused = sent_factors(OMNISCIENT)
    assert refused == 0 and min(factors) > 0.5


def test_who_sees_what_was_revealed_sends_what_would_have_been_best_in_the_last_round() -> None:
    first, *factors, refused = sent_factors(PROTOCOL)
    assert first == 0 and min(factors) > 0.5 and refused == 0


def test_worker_processes_send_the_same() -> None:
    params = {"trials": 2, "horizon": 2, "attack": "alie@1"}
    given = experiment("adaptive@1", params, rounds=4, pipeline="default")
    assert played(given, "pool")[0].model.encode() == played(given)[0].model.encode()


def test_nobody_defends_a_mean() -> None:
    params = {"attack": "ipm@1", "params": {"factor": 0.1}}
    given = experiment("adaptive@1", params, rounds=3, pipeline="plain")
    alone = experiment("ipm@1", {"factor": 0.1}, rounds=3, pipeline="plain")
    losses = [each.tested(played(each)[0].model).loss for each in (given, alone)]
    assert losses[0] > 3 * losses[1]


def whitewashed(rounds: int, **training: Any) -> Experiment:
    given = {"below": 0.45, "attack": "sign_flip@1", "params": {"factor": 30.0}}
    return experiment("whitewashing@1", given, rounds, pipeline="plain", detection=NORM, judgement={}, **training)


def test_a_new_name_is_as_good_as_any_newcomers() -> None:
    given = whitewashed(rounds=5)
    record, rounds = played(given)
    now, people = record.progress, hostile(given)
    assert all(done.verdicts[number] is Verdict.NORM for done in rounds for number in people)
    # One refusal takes a newcomer below .45, so that each round sees another name.
    assert now.names_left == dict.fromkeys(people, 5)
    newcomer = 500_000
    assert [now.reputation(number) for number in people] == [newcomer] * 3
    addresses = {given.later_address(people[0], left) for left in range(6)}
    assert len(addresses) == 6 and given.later_address(people[0], 0) == given.address(people[0])
    plain = experiment("sign_flip@1", {"factor": 30.0}, 5, pipeline="plain", detection=NORM, judgement={})
    assert max(played(plain)[0].progress.reputation(number) for number in people) < 300_000


def test_a_new_name_has_a_newcomers_standing_and_the_old_one_keeps_its_own() -> None:
    given = whitewashed(rounds=5, reputation_model={"method": "moving_average@1"})
    record, _ = played(given)
    people = hostile(given)
    assert record.progress.names_left == dict.fromkeys(people, 5)
    assert record.reputations.of(people) == dict.fromkeys(people, 500_000)
    left = [number + 10 * before for number in people for before in range(5)]
    assert {name: record.progress.standings[name] for name in left} == dict.fromkeys(left, (250_000,))
    assert len(record.progress.standings) == 7 + 3 * 5


@pytest.mark.parametrize("model", [{}, {"reputation_model": {"method": "eigentrust@1"}}], ids=["ledger", "eigentrust"])
def test_names_are_in_the_checkpoint(tmp_path: Path, model: dict[str, Any]) -> None:
    given = whitewashed(rounds=4, **model)
    whole, _ = played(given)
    states = ParticipantStates(tmp_path / "states")
    record, file = MemoryRecord(given, participant_states=states, judged=True), CheckpointFile(tmp_path, given.config)
    with open_backend("serial", given) as backend:
        for done in play(record, backend):
            if done.index == 2:
                file.save(Checkpoint(record.progress, [], 0.0), states)
                break
        found = file.load(states, given.initial)
        assert found is not None and found.progress.names_left == dict.fromkeys(hostile(given), 2)
        resumed = MemoryRecord(given, found.progress, states, judged=True)
        list(play(resumed, backend))
    assert resumed.model.encode() == whole.model.encode()
    assert resumed.progress.histories == whole.progress.histories
    assert resumed.progress.standings == whole.progress.standings


def test_a_ledger_plays_with_no_such_names() -> None:
    with pytest.raises(ConfigError, match="new names"):
        whitewashed(rounds=1).task_params(ContentRef.of(b""))


def test_a_rider_that_comes_back_takes_part_again_and_again() -> None:
    """Whom 0.1.0's detectors refuse has nothing to lose where a name costs nothing."""
    rider = {"attack": "gaussian@1", "params": {"deviation": 1.0}}
    given = experiment("whitewashing@1", rider, 6, pipeline="0.1.0")
    record, _ = played(given)
    people = hostile(given)
    assert all(record.progress.names_left[number] >= 2 for number in people)
    assert min(record.progress.reputation(number) for number in people) >= 400_000


def test_factors_are_finite_whatever_is_tried() -> None:
    params = {"attack": "invalid_numbers@1", "trials": 2}
    given = experiment("adaptive@1", params, rounds=2, pipeline="plain")
    record, rounds = played(given)
    assert np.isfinite(record.model.vector).all() and len(rounds) == 2
