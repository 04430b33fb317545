"""Control variates on their way: sent, validated, aggregated, published, and kept by their participants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_validation import (
    BASE,
    BASE_REF,
    BOUND,
    EXPECTED,
    KEYS,
    OWNERS,
    SIGNERS,
    SPEC,
    UNITS,
    D,
    delta,
    header,
    measure,
    participations,
    with_one,
)

from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome, round_outcome
from fedledger.aggregator.round.validation import Expected, validate
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import load_account
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.deploy import Deployment
from fedledger.node import journal as node
from fedledger.node.journal import KEPT_STATES
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.engine.plain_mean import mean_scores
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, StoreError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.published_vectors import PREFIX, published
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.small import TERMS, write_config

ELSEWHERE = "0x" + "11" * 20
CONTROLLED = SPEC.model_copy(update={"vectors": ["control"]})
FIXED = FixedPoint(SPEC.fixed_point.fraction_bits, BOUND)


def sent(i: int = 0, spec: TaskSpec = CONTROLLED, **vectors: Any) -> bytes:
    head = header(i, spec=spec.digest.hex())
    return wire.encode(head, {name: np.asarray(vector) for name, vector in vectors.items()}, KEYS[i])


CASES = {
    "none": (Verdict.WRONG_SHAPE, {"delta": delta()}),
    "one too many": (Verdict.WRONG_SHAPE, {"delta": delta(), "control": delta(), "more": delta()}),
    "another name": (Verdict.WRONG_SHAPE, {"delta": delta(), "controls": delta()}),
    "no delta": (Verdict.WRONG_SHAPE, {"control": delta()}),
    "too few coordinates": (Verdict.WRONG_SHAPE, {"delta": delta(), "control": delta()[:-1]}),
    "integers": (Verdict.WRONG_SHAPE, {"delta": delta(), "control": np.zeros(D, np.int64)}),
    "NaN": (Verdict.NOT_FINITE, {"delta": delta(), "control": with_one(np.nan)}),
    "infinity": (Verdict.NOT_FINITE, {"delta": delta(), "control": with_one(np.inf)}),
    "beyond the bound": (Verdict.OUT_OF_RANGE, {"delta": delta(), "control": with_one(0.11)}),
    "a bad delta": (Verdict.OUT_OF_RANGE, {"delta": with_one(-0.11), "control": delta()}),
}


class TestValidation:
    expected = Expected(CONTROLLED, EXPECTED.round, BASE_REF.digest, D)

    def test_exactly_what_the_spec_names_is_taken(self) -> None:
        valid = validate(sent(delta=delta(0), control=delta(1)), self.expected, OWNERS[0], SIGNERS[0])
        assert valid.delta.tolist() == FIXED.quantise(delta(0)).tolist()
        assert {name: v.tolist() for name, v in valid.vectors.items()} == {"control": FIXED.quantise(delta(1)).tolist()}

    @pytest.mark.parametrize("name", CASES)
    def test_each_fault_has_its_reason(self, name: str) -> None:
        verdict, vectors = CASES[name]
        with pytest.raises(UpdateRefusedError) as caught:
            validate(sent(**vectors), self.expected, OWNERS[0], SIGNERS[0])
        assert caught.value.verdict is verdict
        assert len(caught.value.detail) < 120


def judged(
    controls: dict[int, np.ndarray],
    spec: TaskSpec = CONTROLLED,
    state: bytes = b"",
    enrolled: int = 0,
    quorum: int = 0,
    broken: tuple[int, ...] = (),
) -> RoundOutcome:
    """Return a round in which these participants send these controls, and some of them a broken update."""
    data: dict[str, bytes | UpdateRefusedError] = {
        OWNERS[i]: sent(i, spec, delta=with_one(np.nan) if i in broken else delta(i), control=control)
        for i, control in controls.items()
    }
    refs: dict[int, ContentRef | None] = {i: ContentRef.of(data[OWNERS[i]]) for i in controls}  # type: ignore[arg-type]
    given = RoundInput(
        spec, EXPECTED.round, BASE, BASE_REF, state, participations(refs), data, UNITS, quorum=quorum, enrolled=enrolled
    )
    outcome = round_outcome(given, measure)
    assert round_outcome(given, measure) == outcome
    return outcome


def control_of(outcome: RoundOutcome) -> np.ndarray:
    return published(outcome.state.data, {"control": D}, FIXED)["control"]


CONTROLS = {i: np.linspace(-0.01 * i, 0.02, D, dtype=np.float32) for i in range(4)}


class TestPublished:
    def test_it_is_zero_before_the_first_round(self) -> None:
        assert published(b"", {"control": D}, FIXED)["control"].tolist() == [0.0] * D

    def test_it_moves_by_the_mean_times_the_share_of_who_counts(self) -> None:
        first = judged(CONTROLS, enrolled=8)
        assert set(first.verdicts.values()) == {Verdict.ACCEPTED}
        moved = np.mean(list(CONTROLS.values()), axis=0) * 4 / 8
        np.testing.assert_allclose(control_of(first), moved, atol=2**-23)
        # Who is refused does not count: three of eight now, with their own mean.
        second = judged(CONTROLS, state=first.state.data, enrolled=8, broken=(0,))
        moved += np.mean([CONTROLS[i] for i in (1, 2, 3)], axis=0) * 3 / 8
        np.testing.assert_allclose(control_of(second), moved, atol=2**-22)

    def test_the_tasks_rule_and_mixing_apply(self) -> None:
        robust = {"aggregation": Method(method="median@1")}
        wild = {**CONTROLS, 3: np.full(D, BOUND / 2, np.float32)}
        outcome = judged(wild, CONTROLLED.model_copy(update=robust))
        np.testing.assert_allclose(control_of(outcome), np.median(list(wild.values()), axis=0), atol=2**-23)
        mixing = {"mixing": Method(method="nearest_neighbour_mixing@1", params={"f": 1})}
        mixed = judged(wild, CONTROLLED.model_copy(update={**robust, **mixing}))
        assert control_of(mixed).tolist() != control_of(outcome).tolist()
        assert mixed.document["aggregation"]["vectors"]["control"]["mixed"] == 3

    def test_it_saturates_at_the_bound(self) -> None:
        state = b""
        for _ in range(4):
            outcome = judged({i: np.full(D, BOUND / 2, np.float32) for i in range(4)}, state=state)
            state = outcome.state.data
        largest = int(BOUND * FIXED.unit) / FIXED.unit
        assert control_of(outcome).tolist() == pytest.approx([largest] * D, rel=1e-6)

    def test_a_round_in_which_nobody_counts_or_below_quorum_leaves_it(self) -> None:
        before = judged(CONTROLS)
        for more in ({"broken": (0, 1, 2, 3)}, {"quorum": 5}):
            after = judged(CONTROLS, state=before.state.data, **more)
            assert control_of(after).tolist() == control_of(before).tolist() != [0.0] * D

    def test_it_lies_beside_an_optimisers_vectors(self) -> None:
        spec = CONTROLLED.model_copy(update={"optimiser": Method(method="fedadam@1")})
        state = judged(CONTROLS, spec).state.data
        assert set(tensors.decode(state)) == {"counts", "previous", "mean", "root", PREFIX + "control"}
        judged(CONTROLS, spec, state)

    def test_without_vectors_state_and_report_are_what_they_were(self) -> None:
        data: dict[str, bytes | UpdateRefusedError] = {
            owner: sent(i, SPEC, delta=delta(i)) for i, owner in enumerate(OWNERS)
        }
        refs: dict[int, ContentRef | None] = {i: ContentRef.of(b"") for i in range(4)}
        outcome = round_outcome(
            RoundInput(SPEC, EXPECTED.round, BASE, BASE_REF, b"", participations(refs), data, UNITS), measure
        )
        assert set(tensors.decode(outcome.state.data)) == {"counts", "previous"}
        assert "vectors" not in outcome.document["aggregation"]

    @pytest.mark.parametrize(
        "state",
        [
            b"junk",
            tensors.encode({PREFIX + "control": np.zeros(D - 1, np.int64)}),
            tensors.encode({PREFIX + "control": np.zeros(D, np.float32)}),
            tensors.encode({PREFIX + "control": np.full(D, FIXED.unit)}),
        ],
        ids=["junk", "short", "floats", "beyond the bound"],
    )
    def test_a_state_that_is_none_is_named(self, state: bytes) -> None:
        with pytest.raises(StoreError):
            published(state, {"control": D}, FIXED)


# -- the journal ---------------------------------------------------------------------------------------------------


def base(number: float) -> ModelFile:
    return ModelFile.of({"weight": np.full(D, number, np.float32)})


class Counting:
    """Trains to what follows from base and memory alone: its state is the sum of the bases that it was trained from."""

    def __init__(self) -> None:
        self.contexts: list[TrainingContext] = []

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        self.contexts.append(context)
        own = context.memory.own.get("sum", np.zeros(D, np.float32)) + context.base.vector
        return LocalUpdate(np.zeros(D, np.float32), 1, 1, vectors={"control": own}, state={"sum": own})


class Journal:
    """A participant without a chain: only its journal and its store."""

    def __init__(self, folder: Path, spec: TaskSpec = CONTROLLED) -> None:
        self.folder, self.store, self.spec = folder / "journal", LocalStore(folder / "store"), spec
        self.task = TaskHistory(1, ELSEWHERE, TERMS, TERMS.model)
        self.restart()

    def restart(self) -> None:
        """Kill the node and start it again."""
        self.trainer = Counting()
        place: Any = SimpleNamespace(address=ELSEWHERE, chain=SimpleNamespace(chain_id=1))
        account, history = load_account(b"\x07" * 32), History()
        history.ids[account.address] = 1
        access = TaskAccess(place, history, account, self.store, 1, self.spec)
        self.updates = Participant(access, self.folder, self.trainer).updates

    def open(self, index: int, number: float) -> RoundHistory:
        """Open a round on a base model of equal coordinates, or open it again on another one."""
        made: Any = RoundHistory(index, self.store.put(base(number).encode()), None, (), {}, {})  # type: ignore[arg-type]
        self.task.rounds[index] = made
        self.propose(index, Verdict.ACCEPTED)
        return made  # type: ignore[no-any-return]

    def propose(self, index: int, verdict: Verdict, state: np.ndarray | None = None) -> None:
        """Propose a round with a verdict on the participant, and with the control that the aggregator publishes."""
        counts, previous = np.zeros(2, np.int64), np.zeros(D, np.int64)
        control = np.zeros(D, np.int64) if state is None else state.astype(np.int64)
        named = {"counts": counts, "previous": previous, PREFIX + "control": control}
        ref = self.store.put(tensors.encode(named))
        # A participant that was selected beside it delivers, so that the round is not below quorum.
        verdicts = {1: verdict, 2: Verdict.ACCEPTED}
        self.task.rounds[index].proposal = SimpleNamespace(state=ref, verdicts=verdicts)  # type: ignore[assignment]

    def update(self, index: int, number: float) -> float:
        """Make a round's update; return the first coordinate of what it sends."""
        current = self.open(index, number)
        self.updates.made(self.task, current)
        return float(wire.decode(self.updates.journal.content(index)).vectors["control"][0])

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def states(self) -> list[int]:
        return sorted(int(path.stem.rpartition("-")[2]) for path in self.folder.glob("*.state"))


class Killed(BaseException):
    pass


def killing(monkeypatch: pytest.MonkeyPatch, dies: Callable[[Path], bool]) -> None:
    """Let the next node die as it is about to write a file."""
    write = node.write_atomically

    def write_or_die(path: str, data: bytes) -> None:
        if dies(Path(path)):
            monkeypatch.setattr(node, "write_atomically", write)
            raise Killed
        write(path, data)

    monkeypatch.setattr(node, "write_atomically", write_or_die)


class TestJournal:
    def test_a_state_reaches_the_next_round_that_one_takes_part_in(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        assert [journal.update(1, 1), journal.update(2, 10), journal.update(5, 100)] == [1, 11, 111]
        journal.restart()
        assert journal.update(6, 1000) == 1111
        assert journal.update(5, 100) == 111, "and it is not made again"
        assert len(journal.trainer.contexts) == 1

    @pytest.mark.parametrize("kind", ["state", "update"])
    @pytest.mark.parametrize("number", [10, 20], ids=["first made", "made for another base"])
    def test_a_kill_at_either_write_leaves_the_same_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: float
    ) -> None:
        reference, journal = Journal(tmp_path / "a"), Journal(tmp_path / "b")
        for each in (reference, journal):
            each.update(1, 1)
            if number == 20:
                each.update(2, 10)
        killing(monkeypatch, lambda path: path.name.endswith(f"-2.{kind}"))
        with pytest.raises(Killed):
            journal.update(2, number)
        journal.restart()
        assert journal.update(2, number) == reference.update(2, number) == 1 + number
        assert journal.files() == reference.files()

    def test_a_reorganisation_starts_from_what_stands(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        assert [journal.update(1, 1), journal.update(2, 10), journal.update(3, 100)] == [1, 11, 111]
        # Round 2 has another base now; then round 3 too.
        assert journal.update(2, 20) == 21
        assert journal.update(3, 200) == 221
        # Round 2 has a third one, and is for others: what was made for it before is nothing to go by.
        journal.open(2, 30)
        assert journal.update(3, 300) == 301

    def test_a_voided_round_is_passed_over(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        assert [journal.update(1, 1), journal.update(2, 10)] == [1, 11]
        journal.task.rounds[2].voided = True
        assert journal.update(3, 100) == 101

    @pytest.mark.parametrize(
        "verdict", [Verdict.MISSED, Verdict.LATE, Verdict.UNAVAILABLE, Verdict.OUT_OF_RANGE, Verdict.NORM]
    )
    def test_a_state_stays_where_an_update_did_not_count(self, tmp_path: Path, verdict: Verdict) -> None:
        journal = Journal(tmp_path)
        assert [journal.update(1, 1), journal.update(2, 10)] == [1, 11]
        journal.propose(2, verdict)
        journal.restart()
        assert journal.update(3, 100) == 101
        journal.propose(2, Verdict.ACCEPTED)
        assert journal.update(4, 1000) == 1101

    def test_a_state_stays_where_a_round_was_below_quorum(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        assert [journal.update(1, 1), journal.update(2, 10)] == [1, 11]
        journal.task.params = replace(TERMS, quorum=3)
        assert journal.update(3, 100) == 100
        journal.task.params = TERMS
        assert journal.update(4, 1000) == 1100

    def test_the_last_state_that_counted_is_kept_however_many_updates_are_refused(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        assert journal.update(1, 1) == 1
        for index in range(2, 3 * KEPT_STATES):
            assert journal.update(index, 10) == 11
            journal.propose(index, Verdict.NORM)
        assert len(journal.states()) == KEPT_STATES + 1

    def test_old_states_go_and_no_other_file(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        other = journal.folder / f"1-{ELSEWHERE}-11-1.state"
        other.write_bytes(b"of another task")
        for index in range(1, KEPT_STATES + 4):
            assert journal.update(index, 1) == index
        assert journal.states() == [1, *range(4, KEPT_STATES + 4)] and other.exists()
        assert len(list(journal.folder.glob("*.update"))) == KEPT_STATES + 3

    def test_what_the_aggregator_publishes_is_read_from_its_last_standing_proposal(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        for index in (1, 2):
            journal.open(index, index)
            journal.propose(index, Verdict.ACCEPTED, np.full(D, index * FIXED.unit // 32))
        journal.update(3, 3)
        assert journal.trainer.contexts[0].memory.server["control"].tolist() == [0.0625] * D
        journal.task.rounds[2].voided = True
        journal.update(4, 4)
        # Of rounds 1 and 3 the newer one tells zeros.
        journal.task.rounds[3].voided = True
        journal.update(5, 5)
        told = [context.memory.server["control"][0] for context in journal.trainer.contexts]
        assert told == [0.0625, 0, 0]

    def test_a_solver_that_sends_something_else_than_the_spec_names_is_told(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path, SPEC)
        with pytest.raises(ConfigError, match="holds control; the task's spec takes nothing"):
            journal.update(1, 1)
        assert not journal.files()

    def test_a_damaged_state_is_named(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.update(1, 1)
        next(journal.folder.glob("*.state")).write_bytes(b"damaged")
        with pytest.raises(StoreError, match=r"-1\.state cannot be read"):
            journal.update(2, 10)


# -- end to end ----------------------------------------------------------------------------------------------------

EXTRA = """
normalisation = { method = "fednova@1", params = { max_steps = 40 } }
mixing = { method = "nearest_neighbour_mixing@1", params = { f = 1 } }
[[attackers]]
attack = { method = "sign_flip@1" }
"""


def experiment_of(folder: Path, extra: str, participants: int = 4) -> Experiment:
    path = write_config(folder, participants, 4, extra)
    solver = next(line for line in path.read_text().splitlines() if line.startswith("solver"))
    scaffold = 'solver = { method = "scaffold@1", params = { learning_rate = 0.1, batch_size = 16, local_epochs = 1 } }'
    path.write_text(path.read_text().replace(solver, scaffold))
    return make_experiment(load_config(path), folder)


def finished(folder: Path, chain: Chain, found: Deployment | None = None) -> tuple[Run, Experiment, dict[str, Any]]:
    experiment, store = experiment_of(folder, EXTRA), LocalStore(folder / "store")
    done = run(experiment, chain, store, folder, found=found)
    return done, experiment, write_results(done, experiment, store, folder, [])


def journals(folder: Path) -> dict[str, str]:
    found = (folder / "journal").rglob("*-*.*")
    return {path.name[-9:] + path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_run_is_audited_and_a_node_that_was_killed_goes_on_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    done, experiment, summary = finished(here, Chain())
    assert experiment.spec.vectors == ["control"]
    state = done.task.rounds[4].proposal
    assert state is not None
    store, fixed = LocalStore(here / "store"), FixedPoint(24, 64.0)
    control = published(store.get(state.state), {"control": len(done.final.vector)}, fixed)["control"]
    assert np.abs(control).max() > 0
    result = audit_run(here)
    assert result.reproduced and result.measured and result.rounds == 4, result.first_divergence

    chain, victim = Chain(), sorted((here / "journal").iterdir())[1].name
    killing(monkeypatch, lambda path: path.name.endswith("-3.update") and path.parent.name == victim)
    with pytest.raises(Killed):
        finished(there, chain)
    assert list((there / "journal" / victim).glob("*-3.state")), "it died between its two writes"
    _, _, again = finished(there, chain, Deployment.read(there / "deployment.json"))
    assert again["final_model"] == summary["final_model"]
    assert journals(there) == journals(here)


def test_the_plain_mean_beside_a_run_keeps_controls_too(tmp_path: Path) -> None:
    """Without attackers and with a plain mean it is the same training, but for rounding and reputation's weights."""
    experiment = experiment_of(tmp_path, "", participants=3)
    ledgered = run(experiment, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    plain = mean_scores(experiment.config, tmp_path)
    assert plain == pytest.approx([row["accuracy"] for row in ledgered.metrics], abs=0.02)
