"""Rounds by a reputation model: the same with a ledger and without one, after a crash, and when they are audited."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties import proposing
from fedledger.aggregator.reputation.base import require_others
from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.aggregator.round.inputs import round_input
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.aggregator.selection.all import All
from fedledger.aggregator.selection.candidates import Candidates
from fedledger.aggregator.selection.reputation import Reputation
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Settings
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.audit.replay import ReplayedTask, replay_round
from fedledger.ledger_tools.deploy import deploy
from fedledger.ledger_tools.report.own_account import OwnAccount
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.node.participant import Participant
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.checkpoint import Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    experiment_account,
    experiment_address,
    participant_role,
)
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.platform.runs.trackers.base import Tracked
from fedledger.platform.runs.trackers.live_task import LiveTask
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.opinions import opinion_with
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.spec import ReputationSpec, TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import GWEI
from fedledger.storage.local import LocalStore

MODELS = ["subjective_logic@1", "beta@1", "eigentrust@1", "moving_average@1"]
STRANGER = "0x52908400098527886E0F7030069857D2E4169EE7"
every_model = pytest.mark.parametrize("model", MODELS)


def experiment(
    model: str | None, rounds: int = 4, recommenders: list[str] | None = None, **training: Any
) -> Experiment:
    """Six participants, one of whom is refused whenever it is asked."""
    document = {
        "name": "modelled",
        "participants": 6,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "compare_with_mean": False,
        "training": {
            "pipeline": "plain",
            "rounds": rounds,
            "detection": [{"method": "norm@1"}],
            "selection": {"method": "reputation@1", "params": {"count": 4}},
            **({} if model is None else {"reputation_model": {"method": model}}),
            "reputation": {"gate": 300_000, "relative_gate": 500_000, "recommenders": recommenders or []},
            **training,
        },
        "attackers": [{"attack": {"method": "sign_flip@1", "params": {"factor": 60.0}}}],
    }
    return make_experiment(ExperimentConfig.model_validate(document), Path())


def reports(store: LocalStore, task: TaskHistory) -> list[dict[str, Any]]:
    """The reports of all proposed rounds."""
    return [canonical.decode(store.get(r.proposal.report)) for r in task.proposed if r.proposal is not None]


def rows(report: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {row["participant"]: row[key] for row in report["updates"]}


@every_model
def test_a_task_is_the_same_with_a_ledger_and_without_and_its_audit_reproduces_it(tmp_path: Path, model: str) -> None:
    given, store = experiment(model), LocalStore(tmp_path / "store")
    finished = run(given, Chain(), store, tmp_path)
    with Serial(given) as serial:
        record = MemoryRecord(given)
        closed = list(play(record, serial))
    task, history = finished.task, finished.history
    assert np.array_equal(record.model.vector, finished.final.vector)
    asked = [sorted(r.owners.values()) for r in task.settled]
    assert [sorted(given.address(number) for number in done.verdicts) for done in closed] == asked
    assert any(Verdict.NORM in done.verdicts.values() for done in closed)

    ids = {given.address(number): history.ids[given.address(number)] for number in range(6)}
    now = TaskReputations()(history, task, given.spec, len(history.applied), sorted(ids.values()))
    assert record.reputations.of(range(6)) == {n: now[ids[given.address(n)]] for n in range(6)}
    # Whoever was refused is behind, and the reports had the model's numbers.
    told = [rows(report, "reputation") for report in reports(store, task)]
    evidence = [{r.owners[i]: known.reputation for i, known in r.evidence.items()} for r in task.settled]
    assert told[0] == dict.fromkeys(asked[0], 500_000)
    assert (told == evidence) == (model == "subjective_logic@1")

    summary = write_results(finished, given, store, tmp_path, [])
    assert summary["reputation_model"] == model
    assert {row["address"]: row["reputation"] for row in summary["participants"]} == {a: now[i] for a, i in ids.items()}
    page = (tmp_path / "report.html").read_text()
    assert f"Reputation by {model} after each round" in page and f"<th>reputation by {model}</th>" in page
    own = OwnAccount.of(history, store, 1, asked[0][0])
    assert own is not None and f"reputation by {model} {now[ids[asked[0][0]]] / 1e6:.3f}." in own.lines()[0]
    view = TaskView.of(history, 1, spec=given.spec)
    last = max(view.settled, key=lambda each: each.index)
    if model != "eigentrust@1":
        # EigenTrust compares those who are asked for.
        assert last.reputations == {owner: now[ids[owner]] for owner in last.reputations}

    result = audit_run(tmp_path)
    assert result.reproduced, result.first_divergence
    assert audit_run(tmp_path, jobs=3).document() == result.document()


def forged(outcome: RoundOutcome) -> RoundOutcome:
    """An outcome whose report says a little more of one reputation, and is otherwise what follows."""
    document = json.loads(json.dumps(outcome.document))
    document["updates"][0]["reputation"] += 1
    return replace(outcome, document=document, report=Content.of(canonical.encode(document)))


@every_model
def test_a_reputation_that_does_not_follow_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    real, index = proposing.round_outcome, iter(range(1, 9))
    monkeypatch.setattr(proposing, "round_outcome", lambda *a: forged(real(*a)) if next(index) == 2 else real(*a))
    given, store = experiment(model, rounds=2), LocalStore(tmp_path / "store")
    finished = run(given, Chain(), store, tmp_path)
    write_results(finished, given, store, tmp_path, [])
    divergence = audit_run(tmp_path).first_divergence
    assert divergence is not None and divergence.round == 2
    assert divergence.field.startswith("reputation of 0x") and divergence.found == divergence.expected + 1


@every_model
def test_a_run_that_was_interrupted_goes_on_by_the_same_standings(tmp_path: Path, model: str) -> None:
    given = experiment(model, rounds=6)
    with Serial(given) as serial:
        whole = MemoryRecord(given)
        list(play(whole, serial))
        states = ParticipantStates(tmp_path / "states")
        record, file = MemoryRecord(given, participant_states=states), CheckpointFile(tmp_path, given.config)
        for done in play(record, serial):
            if done.index == 3:
                file.save(Checkpoint(record.progress, [], 0.0), states)
                break
        found = file.load(states, given.initial)
        assert found is not None and found.progress.standings == record.progress.standings
        assert found.progress.standings_at_opening not in ({}, found.progress.standings)
        resumed = MemoryRecord(given, found.progress, states)
        list(play(resumed, serial))
    assert resumed.model.encode() == whole.model.encode()
    assert resumed.progress.standings == whole.progress.standings


def test_a_selection_looks_at_what_was_known_when_the_round_before_was_opened(tmp_path: Path) -> None:
    given, store = experiment("beta@1", rounds=5), LocalStore(tmp_path / "store")
    document = given.config.model_dump() | {"ledger": given.config.ledger.model_copy(update={"max_unfinal": 3})}
    given = make_experiment(ExperimentConfig.model_validate(document), Path())
    finished = run(given, Chain(), store, tmp_path)
    history, task = finished.history, finished.task
    everybody = sorted(task.enrolled)
    for index in range(1, 6):
        found = Candidates(store)(history, task, given.spec, index, Reputation(1))
        place = task.applied_before if index == 1 else task.rounds[index - 1].applied_before
        expected = TaskReputations()(history, task, given.spec, place, everybody)
        assert {history.ids[each.address]: each.reputation for each in found} == expected
    # Nothing of the record is looked at for a selection that does not ask for it.
    assert {each.reputation for each in Candidates(store)(history, task, given.spec, 5, All())} == {0}
    write_results(finished, given, store, tmp_path, [])
    result = audit_run(tmp_path)
    assert result.reproduced, result.first_divergence


@every_model
def test_a_jurors_process_and_a_program_that_only_reads_find_the_same(tmp_path: Path, model: str) -> None:
    given, store = experiment(model, rounds=3), LocalStore(tmp_path / "store")
    finished = run(given, Chain(), store, tmp_path)
    history = finished.history
    # What a verifier gives to a process of its own.
    copied: History = pickle.loads(pickle.dumps(history))
    known = ReplayedTask(copied, copied.task(1), given.spec, store, None, (31337, finished.ledger.address, 1))
    for index in (3, 1, 2):
        replay = replay_round(known, known.task.rounds[index])
        assert replay.divergence is None

    account = experiment_account(0, participant_role(0), finished.ledger.chain)
    kept = Kept()
    access = TaskAccess(finished.ledger, history, account, store, 1, given.spec)
    LiveTask(access, Tracked({"kept": kept}, tmp_path))()
    view = TaskView.of(history, 1, spec=given.spec)
    expected = [r.reputations.get(account.address) for r in view.settled]
    assert [row.get("own_reputation") for row in kept.rows] == expected and any(expected)


class Kept:
    """A tracker that keeps its metrics."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []

    def open(self) -> None:
        self.rows.clear()

    def log(self, index: int, metrics: Mapping[str, float]) -> None:
        assert index == len(self.rows) + 1
        self.rows.append(metrics)

    def close(self, summary: Mapping[str, Any] | None, folder: Path) -> None:
        raise AssertionError("the task goes on")


def test_a_model_that_cannot_be_made_is_the_tasks_own_fault(tmp_path: Path) -> None:
    given, store = experiment("beta@1", rounds=1, selection={"method": "all@1"}), LocalStore(tmp_path / "store")
    finished = run(given, Chain(), store, tmp_path)
    place = 31337, finished.ledger.address, 1
    wrong = Method(method="beta@1", params={"loss": 10**9})
    spec = given.spec.model_copy(update={"reputation_model": wrong})
    replay = replay_round(
        ReplayedTask(finished.history, finished.task, spec, store, None, place), finished.task.rounds[1]
    )
    assert replay.divergence is not None and replay.divergence.field == "reputations"
    assert "loss is 1000000000" in str(replay.divergence.found)


def test_a_round_of_such_a_task_is_not_evaluated_without_its_model(tmp_path: Path) -> None:
    given, store = experiment("beta@1", rounds=1), LocalStore(tmp_path / "store")
    task = run(given, Chain(), store, tmp_path).task
    with pytest.raises(RoundError, match="reputation model"):
        round_input(store, given.spec, task, task.rounds[1])


# Two publishers.


@dataclass
class Consortium:
    """A ledger with the tasks of several publishers, whose participants are the same accounts."""

    folder: Path

    def __post_init__(self) -> None:
        self.chain, self.store = Chain(), LocalStore(self.folder / "store")
        self.aggregator, self.deployer = (experiment_account(0, r, self.chain) for r in (AGGREGATOR, DEPLOYER))
        for account in (self.aggregator, self.deployer):
            self.chain.fund(account.address, 10**20)
        settings = Settings(least_stake(experiment(None).config) * GWEI, 0)
        self.ledger: Ledger
        self.ledger, self.deployment = deploy(self.chain, self.deployer, settings)
        self.history = History(self.ledger)

    def play(self, given: Experiment, publisher: str) -> TaskHistory:
        """Post a task and play it to its end."""
        account = experiment_account(0, publisher, self.chain)
        self.chain.fund(account.address, 10**20)
        require_others(given.spec, account.address)
        number = self.ledger.post_task(account, given.task_params(given.publish(self.store)))
        programs: list[Any] = [
            Aggregator(
                TaskAccess(self.ledger, self.history, self.aggregator, self.store, number, given.spec),
                given.measurer(),
            )
        ]
        for each in range(given.config.participants):
            participant = experiment_account(0, participant_role(each), self.chain)
            self.chain.fund(participant.address, 10**20)
            access = TaskAccess(self.ledger, self.history, participant, self.store, number, given.spec)
            journal = self.folder / "journal" / str(number) / participant.address
            programs.append(Participant(access, journal, given.trainer(each)))
        while not self.history.update().task(number).finished:
            for program in programs:
                program.step()
        return self.history.task(number)


@pytest.mark.parametrize("model", ["subjective_logic@1", "eigentrust@1"])
def test_what_another_publisher_recommends_enters_the_weights(tmp_path: Path, model: str) -> None:
    ledger, everybody = Consortium(tmp_path), {"method": "all@1"}
    first = experiment_address(0, "another publisher")
    earlier = ledger.play(experiment(None, rounds=3, selection=everybody), "another publisher")
    assert earlier.publisher == first
    given = experiment(model, rounds=2, recommenders=[first, STRANGER], selection=everybody)
    task, history = ledger.play(given, PUBLISHER), ledger.history
    assert task.applied_before == 3 and task.rounds[1].applied_before == 3

    refused = next(i for i, verdict in earlier.rounds[3].verdicts.items() if verdict is Verdict.NORM)
    report = reports(ledger.store, task)[0]
    told, weights = rows(report, "reputation"), rows(report, "weight")
    names = history.owners
    praised, blamed = told[names[(refused + 1) % 6]], told[names[refused]]
    assert blamed < 500_000 < praised
    if model == "subjective_logic@1":
        for participant in task.rounds[1].selected:
            recommendation = history.task(1).rounds[3].left[participant]
            fused = opinion_with(Evidence(), [recommendation, Evidence()], 500_000)
            assert told[names[participant]] == fused.reputation
    counted = {owner: told[owner] * examples for owner, examples in rows(report, "examples").items() if weights[owner]}
    most = max(counted.values())
    assert {owner: weight for owner, weight in weights.items() if weight} == {
        owner: max(1, worth * 2**20 // most) for owner, worth in counted.items()
    }
    export_ledger(ledger.ledger, ledger.deployment, history).write(tmp_path / LEDGER_FILE)
    for number in (1, 2):
        result = audit_run(tmp_path, task=number)
        assert result.reproduced, result.first_divergence


# What a configuration may say.


def test_who_is_recommended_is_checked() -> None:
    def spec(**reputation: Any) -> Callable[[], Any]:
        return lambda: ReputationSpec.model_validate(reputation)

    address = experiment_address(0, "another publisher")
    for wrong, told in (
        (spec(recommenders=[address, address]), "once"),
        (spec(recommenders=[address.lower()]), "mixed-case"),
        (spec(recommenders=[experiment_address(0, str(n)) for n in range(9)]), "at most 8"),
        (spec(recommender_trust=1), "name them"),
        (spec(recommenders=[address], recommender_trust=0), "greater than or equal to 1"),
        (spec(recommenders=[address], recommender_trust=1_000_001), "less than or equal to 1000000"),
    ):
        with pytest.raises(ValidationError, match=told):
            wrong()
    named = spec(recommenders=[address])()
    assert (named.trust, spec()().trust, spec(recommenders=[address], recommender_trust=7)().trust) == (500_000, 0, 7)


def test_recommenders_take_a_model_that_heeds_them() -> None:
    with pytest.raises(ConfigError, match="recommenders need a reputation model"):
        experiment(None, recommenders=[STRANGER])
    with pytest.raises(ConfigError, match="beta@1 heeds none") as caught:
        experiment("beta@1", recommenders=[STRANGER])
    assert "eigentrust@1, subjective_logic@1" in (caught.value.remedy or "")
    with pytest.raises(ConfigError, match="no reputation model 'bta@1'") as caught:
        experiment("bta@1")
    assert caught.value.remedy == "Did you mean 'beta@1'?"


def test_a_publisher_does_not_recommend_itself(tmp_path: Path) -> None:
    given = experiment("subjective_logic@1", recommenders=[experiment_address(0, PUBLISHER)])
    with pytest.raises(ConfigError, match="own recommenders"):
        MemoryRecord(given)
    with pytest.raises(ConfigError, match="own recommenders"):
        run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)


def test_specs_without_a_model_keep_their_bytes() -> None:
    spec = experiment(None).spec
    document = json.loads(spec.encode())
    assert "reputation_model" not in document
    assert set(document["reputation"]) == {"gate", "relative_gate"}
    modelled = experiment("subjective_logic@1", recommenders=[STRANGER]).spec
    assert TaskSpec.decode(modelled.encode()) == modelled
