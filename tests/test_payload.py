"""The described payload: vectors of any length, codecs, transforms and error feedback, from node to audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from test_scaffold import Killed, journals, killing
from test_validation import BASE_REF, EXPECTED, KEYS, OWNERS, SIGNERS, SPEC, D, delta, header

from fedledger.aggregator.round.validation import Expected, validate
from fedledger.contracts.chain.chain import Chain
from fedledger.learning.data import Dataset
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.deploy import Deployment
from fedledger.node.compression import RESIDUAL, CompressingTrainer, compress
from fedledger.node.solvers.base import SOLVERS, LocalUpdate, Memory
from fedledger.node.solvers.sgd import SGD
from fedledger.node.transforms.base import build_transforms
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.checkpoint import Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.plain_mean import mean_scores
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.codecs.payload import payload_slots, slots
from fedledger.protocol.codecs.top_k import TopK
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.small import write_config

FIXED = FixedPoint(24, 64.0)
TOP_K = """
payload = [
  { name = "delta", codec = { method = "top_k@1", params = { k = 96, bits = 24 } }, error_feedback = true },
]
"""
REFUSED = '[[attackers]]\nattack = { method = "gaussian@1", params = { deviation = 4.0 } }\n'


@dataclass(frozen=True, kw_only=True)
class Sketches(SGD):
    """Sends, besides its delta, three scalars and ten rows of mean outputs for each class."""

    sends: ClassVar[dict[str, int]] = {"scalars": 3, "outputs": 100}

    def __call__(
        self, model: FlatModel, base: Float32Array, dataset: Dataset, rng: np.random.Generator, memory: Any, *rest: Any
    ) -> LocalUpdate:
        trained = super().__call__(model, base, dataset, rng, memory)
        told = memory.server["scalars"]
        assert told.shape == (3,) and memory.server["outputs"].shape == (100,)
        scalars = np.array([1, len(dataset) / 1024, told[0]], np.float32)
        outputs = rng.normal(size=100).astype(np.float32)
        return LocalUpdate(
            trained.delta, trained.examples, trained.steps, vectors={"scalars": scalars, "outputs": outputs}
        )


@pytest.fixture
def sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the solver for one test."""
    monkeypatch.setitem(SOLVERS._methods, "sketches@1", Sketches)


def setting_of(folder: Path, extra: str, solver: str = "sgd@1", hidden: int = 128, **sizes: int) -> Experiment:
    folder.mkdir(exist_ok=True)
    path = write_config(folder, extra=extra, **sizes)
    text = path.read_text().replace("hidden = [16]", f"hidden = [{hidden}]").replace('"sgd@1"', f'"{solver}"')
    path.write_text(text)
    return make_experiment(load_config(path), folder)


def finished(
    folder: Path, setting: Experiment, chain: Chain, found: Deployment | None = None
) -> tuple[Run, dict[str, Any]]:
    store = LocalStore(folder / "store")
    done = run(setting, chain, store, folder, found=found)
    return done, write_results(done, setting, store, folder, [])


def without_ledger(setting: Experiment, backend: Callable[[Experiment], Any]) -> MemoryRecord:
    record = MemoryRecord(setting)
    with backend(setting) as trains:
        list(play(record, trains))
    return record


def in_pool(setting: Experiment) -> Pool:
    return Pool(setting, 2)


class TestSpec:
    def test_a_payload_names_the_delta_and_then_the_vectors(self) -> None:
        document = {**SPEC.model_dump(), "vectors": ["control"]}
        for names in (["delta"], ["control", "delta"], ["delta", "control", "more"], ["control"]):
            with pytest.raises(ConfigError, match="payload"):
                validated(TaskSpec, {**document, "payload": [{"name": name} for name in names]}, "the spec")
        right = [{"name": "delta"}, {"name": "control", "length": 3}]
        assert validated(TaskSpec, {**document, "payload": right}, "the spec").payload[1].length == 3
        for wrong in ({"name": "delta", "length": 3}, {"name": "delta", "size": 3}):
            with pytest.raises(ConfigError, match="payload"):
                validated(TaskSpec, {**SPEC.model_dump(), "payload": [wrong]}, "the spec")

    @pytest.mark.parametrize("field", ["payload", "transforms"])
    def test_without_them_a_spec_has_the_bytes_that_it_had(self, field: str) -> None:
        assert field not in SPEC.model_dump() and field.encode() not in SPEC.encode()

    def test_codecs_are_among_the_methods_that_an_audit_needs(self) -> None:
        described = SPEC.model_copy(update={"payload": [VectorSpec(name="delta", codec=Method(method="top_k@1"))]})
        assert ("codecs", "top_k@1") in {(kind.plural, method.method) for kind, method in described.named()}

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ('payload = [{ name = "delta", codec = { method = "top_k@1", params = { k = 99999 } } }]', "at most"),
            ('payload = [{ name = "delta", codec = { method = "top_k@1", params = { k = 0 } } }]', "k is 0"),
            ('payload = [{ name = "delta", codec = { method = "top_l@1" } }]', "no codec"),
            ('payload = [{ name = "delta" }, { name = "control" }]', "an update has"),
            ('payload = [{ name = "delta", length = 9610 }]', "without a length"),
            ('transforms = [{ method = "clip@1", params = { bound = 0.0 } }]', "bound is 0"),
            ('transforms = [{ method = "clop@1" }]', "no transform"),
        ],
    )
    def test_what_cannot_be_is_said_before_anything_is_posted(self, tmp_path: Path, extra: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            setting_of(tmp_path, extra)

    @pytest.mark.usefixtures("sketches")
    def test_lengths_that_the_solver_does_not_send_are_refused(self, tmp_path: Path) -> None:
        names = '{ name = "delta" }, { name = "outputs", length = 99 }, { name = "scalars", length = 3 }'
        with pytest.raises(ConfigError, match=r"outputs\[99\].*outputs\[100\]"):
            setting_of(tmp_path, f"payload = [{names}]", "sketches@1")
        names = '{ name = "delta" }, { name = "scalars", length = 3 }, { name = "outputs", length = 100 }'
        with pytest.raises(ConfigError, match="in this order"):
            setting_of(tmp_path, f"payload = [{names}]", "sketches@1")


class TestValidation:
    spec = SPEC.model_copy(
        update={
            "vectors": ["mask"],
            "payload": [
                VectorSpec(name="delta", codec=Method(method="top_k@1", params={"k": 1, "shift": 0})),
                VectorSpec(name="mask", length=3),
            ],
        }
    )
    expected = Expected(spec, EXPECTED.round, BASE_REF.digest, D)
    mask: ClassVar = np.array([0.0, 0.05, 0.09], np.float32)

    def refused(self, codec: str = "coded", **vectors: Any) -> Verdict:
        head = header(0, spec=self.spec.digest.hex(), codec=codec)
        with pytest.raises(UpdateRefusedError) as caught:
            validate(wire.encode(head, vectors, KEYS[0]), self.expected, OWNERS[0], SIGNERS[0])
        return caught.value.verdict

    def test_each_vector_is_what_its_codec_makes_of_it(self) -> None:
        delta_slot, _ = slots(self.spec, D)
        values = delta()
        values[2] = -0.09
        head = header(0, spec=self.spec.digest.hex(), codec="coded")
        coded = delta_slot.codec.encode(values, self.spec.fixed)
        data = wire.encode(head, {"delta": coded, "mask": self.mask}, KEYS[0])
        valid = validate(data, self.expected, OWNERS[0], SIGNERS[0])
        assert np.flatnonzero(valid.delta).tolist() == [2]
        assert valid.vectors["mask"].tolist() == self.spec.fixed.quantise(self.mask).tolist()

    def test_each_fault_has_its_reason_and_the_gravest_counts(self) -> None:
        coded = slots(self.spec, D)[0].codec.encode(delta(), self.spec.fixed)
        assert self.refused(delta=coded, mask=delta()) is Verdict.WRONG_SHAPE
        assert self.refused(delta=delta(), mask=self.mask) is Verdict.WRONG_SHAPE
        assert self.refused(delta=coded) is Verdict.WRONG_SHAPE
        assert self.refused(delta=coded[:0], mask=self.mask) is Verdict.NOT_FINITE
        assert self.refused(delta=np.append(coded, np.uint8(0)), mask=self.mask) is Verdict.MALFORMED
        assert self.refused(delta=coded[:0], mask=self.mask[:2]) is Verdict.WRONG_SHAPE
        assert self.refused(delta=np.append(coded, np.uint8(0)), mask=self.mask + np.inf) is Verdict.MALFORMED
        assert self.refused("dense", delta=coded, mask=self.mask) is Verdict.MALFORMED

    def test_a_dense_task_takes_no_header_of_another_codec(self) -> None:
        data = wire.encode(header(0, codec="coded"), {"delta": delta()}, KEYS[0])
        with pytest.raises(UpdateRefusedError) as caught:
            validate(data, EXPECTED, OWNERS[0], SIGNERS[0])
        assert caught.value.verdict is Verdict.MALFORMED


class TestCompression:
    payload = payload_slots(
        [
            VectorSpec(
                name="delta",
                codec=Method(method="top_k@1", params={"k": 1, "bits": 32, "shift": 0}),
                error_feedback=True,
            )
        ],
        (),
        4,
    )

    def sent(self, update: list[float], memory: Memory) -> tuple[list[float], Memory]:
        made = compress(LocalUpdate(np.array(update, np.float32), 1, 1), self.payload, memory, FIXED)
        assert set(made.sent) == {"delta"} and made.sent["delta"].dtype == np.uint8
        decoded = self.payload[0].codec.decode(made.sent["delta"], 4, FIXED)
        assert FIXED.to_float32(decoded).tolist() == made.delta.tolist()
        return made.delta.tolist(), Memory(made.state)

    def test_what_was_not_sent_is_added_to_the_next_update(self) -> None:
        first, memory = self.sent([1, -2, 0.5, 0], Memory())
        assert first == [0, -2, 0, 0] and memory.own[RESIDUAL + "delta"].tolist() == [1, 0, 0.5, 0]
        second, memory = self.sent([0.5, 1, 0.25, 0], memory)
        assert second == [1.5, 0, 0, 0] and memory.own[RESIDUAL + "delta"].tolist() == [0, 1, 0.75, 0]
        # The same state gives the same again: who was refused starts from it.
        assert self.sent([0, 0, 0, 0], memory)[0] == self.sent([0, 0, 0, 0], memory)[0] == [0, 1, 0, 0]

    def test_everything_arrives_in_the_end(self) -> None:
        rng, memory = np.random.default_rng(0), Memory()
        total, arrived = np.zeros(4), np.zeros(4)
        for _ in range(50):
            update = rng.normal(size=4).astype(np.float32)
            sent, memory = self.sent(update.tolist(), memory)
            total, arrived = total + update, arrived + sent
        np.testing.assert_allclose(total, arrived + memory.own[RESIDUAL + "delta"], atol=1e-4)

    def test_a_diverged_update_travels_and_is_refused(self) -> None:
        made = compress(LocalUpdate(np.array([np.nan] * 4, np.float32), 1, 1), self.payload, Memory(), FIXED)
        assert made.sent["delta"].nbytes == 0

    def test_a_vector_that_is_missing_or_too_long_is_named(self) -> None:
        for update in (np.zeros(3, np.float32), np.zeros(5, np.float32)):
            with pytest.raises(ConfigError, match="delta is float32"):
                compress(LocalUpdate(update, 1, 1), self.payload, Memory(), FIXED)
        more = payload_slots([VectorSpec(name="delta"), VectorSpec(name="mask", length=2)], ("mask",), 4)
        with pytest.raises(ConfigError, match="mask is missing"):
            compress(LocalUpdate(np.zeros(4, np.float32), 1, 1), more, Memory(), FIXED)


class TestClip:
    def clipped(self, update: list[float], bound: float) -> np.ndarray:
        (clip,) = build_transforms([Method(method="clip@1", params={"bound": bound})])
        given = LocalUpdate(np.array(update, np.float32), 1, 1)
        made = clip(given, np.random.default_rng(0))
        assert given.delta.tobytes() == np.array(update, np.float32).tobytes()
        return made.delta

    def test_a_long_update_is_shortened_and_keeps_its_direction(self) -> None:
        assert self.clipped([3, -4], 1).tolist() == pytest.approx([0.6, -0.8], rel=1e-6)
        assert self.clipped([1e30, 0], 2).tolist() == [2, 0]

    @pytest.mark.parametrize("update", [[3, -4], [0, 0], [np.inf, 1], [np.nan, 0]])
    def test_others_stay_as_they_are(self, update: list[float]) -> None:
        assert self.clipped(update, 5).tobytes() == np.array(update, np.float32).tobytes()

    def test_every_honest_update_of_a_run_is_clipped(self, tmp_path: Path) -> None:
        extra = 'transforms = [{ method = "clip@1", params = { bound = 0.25 } }]'
        setting = setting_of(tmp_path, extra, hidden=16)
        store = LocalStore(tmp_path / "store")
        done, _ = finished(tmp_path, setting, Chain())
        norms = [
            np.linalg.norm(wire.decode(store.get(reveal.update)).vectors["delta"])
            for settled in done.task.settled
            for reveal in settled.reveals.values()
        ]
        assert len(norms) == 12 and max(norms) <= 0.25 * (1 + 1e-6)
        assert audit_run(tmp_path).reproduced
        for backend in (Serial, in_pool):
            assert np.array_equal(without_ledger(setting, backend).model.vector, done.final.vector)


@pytest.mark.usefixtures("sketches")
def test_vectors_of_any_length_go_all_the_way(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, REFUSED, "sketches@1", hidden=16)
    assert setting.spec.vectors == ["outputs", "scalars"]
    assert [vector.length for vector in setting.spec.payload] == [None, 100, 3]
    done, _ = finished(tmp_path, setting, Chain())
    result = audit_run(tmp_path)
    assert result.reproduced and result.measured, result.first_divergence
    for backend in (Serial, in_pool):
        record = without_ledger(setting, backend)
        assert np.array_equal(record.model.vector, done.final.vector)
        # Three of four count, each with 1: three quarters a round.
        scalars = record.progress.state.published["scalars"]
        assert scalars.shape == (3,) and scalars[0] == 3 * FIXED.unit * 3 // 4
        assert record.progress.state.published["outputs"].shape == (100,)
    assert len(mean_scores(setting.config, tmp_path)) == 3


@pytest.mark.parametrize("extra", ["", REFUSED], ids=["all honest", "one refused"])
def test_compressed_updates_are_audited_and_small_and_give_the_same_model_without_a_ledger(
    tmp_path: Path, extra: str
) -> None:
    setting = setting_of(tmp_path, TOP_K + extra)
    assert isinstance(setting.trainer(0), CompressingTrainer)
    done, _ = finished(tmp_path, setting, Chain())
    result = audit_run(tmp_path)
    assert result.reproduced and result.measured, result.first_divergence
    dense = setting_of(tmp_path / "dense", "")
    largest = max(reveal.update.length for settled in done.task.settled for reveal in settled.reveals.values())
    assert 20 * largest < 4 * len(dense.initial.vector)
    assert done.tested.score > 0.5
    for backend in (Serial, in_pool):
        record = without_ledger(setting, backend)
        assert np.array_equal(record.model.vector, done.final.vector)
        for number, behaviour in enumerate(setting.behaviours):
            assert bool(record.participant_states.get(number)) == (behaviour == "honest")


def test_error_feedback_learns_what_was_not_sent(tmp_path: Path) -> None:
    few = TOP_K.replace("k = 96", "k = 24")
    accuracies = []
    for name, extra in (("with", few), ("without", few.replace("true", "false"))):
        record = without_ledger(setting_of(tmp_path / name, extra, rounds=12), Serial)
        accuracies.append(record.experiment.tested(record.model).score)
    assert accuracies[0] > accuracies[1] + 0.02


def test_a_node_that_was_killed_goes_on_with_the_same_residual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    _, summary = finished(here, setting_of(here, TOP_K + REFUSED), Chain())
    chain, victim = Chain(), sorted((here / "journal").iterdir())[1].name
    setting = setting_of(there, TOP_K + REFUSED)
    killing(monkeypatch, lambda path: path.name.endswith("-3.update") and path.parent.name == victim)
    with pytest.raises(Killed):
        finished(there, setting, chain)
    _, again = finished(there, setting, chain, Deployment.read(there / "deployment.json"))
    assert again["final_model"] == summary["final_model"]
    assert journals(there) == journals(here)


def test_a_run_without_a_ledger_goes_on_from_its_checkpoint_with_the_same_residuals(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, TOP_K + REFUSED, rounds=4)
    whole = without_ledger(setting, Serial)
    file, states = CheckpointFile(tmp_path, setting.config), ParticipantStates(tmp_path / "states")
    with Serial(setting) as backend:
        record = MemoryRecord(setting, participant_states=states)
        rounds = play(record, backend)
        next(rounds), next(rounds)
        file.save(Checkpoint(record.progress, [], 0.0), states)
        # Killed in the third round, after its states were kept.
        next(rounds)
    states = ParticipantStates(tmp_path / "states")
    found = file.load(states)
    assert found is not None and found.progress.index == 2
    with Serial(setting) as backend:
        resumed = MemoryRecord(setting, found.progress, states)
        list(play(resumed, backend))
    assert np.array_equal(resumed.model.vector, whole.model.vector)


def test_the_device_table_knows_how_much_a_compressed_update_is(tmp_path: Path) -> None:
    devices = '[devices]\nkinds = [{ link = "4g" }]\n'
    small = setting_of(tmp_path / "small", TOP_K + devices).device_table
    large = setting_of(tmp_path / "large", devices).device_table
    assert small is not None and large is not None
    bound = len(TopK(k=96).largest(9610))
    assert bound < small.bytes_up < bound + 700 < 4 * 9610 < large.bytes_up
    assert small.bytes_down == large.bytes_down


def test_references_of_an_update_follow_from_its_tensors() -> None:
    """The bytes of a dense update do not depend on whether the payload is described."""
    plain = wire.encode(header(0), {"delta": delta()}, KEYS[0])
    described = compress(LocalUpdate(delta(), 1, 1), payload_slots([VectorSpec(name="delta")], (), D), Memory(), FIXED)
    assert ContentRef.of(wire.encode(header(0), described.sent, KEYS[0])) == ContentRef.of(plain)
