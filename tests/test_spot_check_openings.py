"""Openings: an honest one passes, each lie fails with its reason, and no stranger's bytes do more than fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedledger.learning.canonical_examples import CanonicalExamples
from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.replayable.trajectory import State, Tracing, Trajectory
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.solvers.replayable_sgd import Watched
from fedledger.node.spot_checks.opening import (
    INPUTS,
    SALTS,
    SEED,
    SIBLINGS,
    STATE_SIBLINGS,
    TARGETS,
    VELOCITIES,
    WEIGHTS,
    Opening,
    make_opening,
)
from fedledger.node.spot_checks.replay import Drawn, Transcript, WindowReplay, local_part
from fedledger.node.training import training_seed
from fedledger.platform.spot_checks.judging import judge_box
from fedledger.protocol.arithmetic.random_streams import Restartable
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.sealed_boxes import public_key, reader_key, seal
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.records.data_root import CommittedExamples, DataRoot
from fedledger.protocol.records.spot_checks import Reason, Windows
from support.examples import examples
from support.limits import within
from support.spot_checks import TOP_K, Scene, digit_scene

WINDOWS = Windows(steps=3, drawn=2)
ALL = Windows(steps=3, drawn=99)
Wanted = Windows | None


@cache
def digits(windows: Wanted = None) -> Scene:
    return digit_scene(windows, solver={"local_epochs": 5})


@cache
def images(windows: Wanted) -> Scene:
    def make() -> nn.Module:
        layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 10)]
        return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers)

    return replace(digits(windows), make=make, solver={"momentum": 0.9, "mu": 0.1, "weight_decay": 0.01})


@cache
def table(windows: Wanted) -> Scene:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(21, 5)).astype(np.float32)
    dataset = Dataset.of(inputs, inputs[:, :1] * np.float32(2) + 1)
    regression = Method(method="regression@1", params={"offset": 1.0, "scale": 2.0})

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))

    return Scene(make, dataset, regression, windows, {"momentum": 0.0, "drop_last": True})


@cache
def words(windows: Wanted) -> Scene:
    inputs = (np.random.PCG64(4).random_raw(30 * 5) % np.uint64(9)).astype(np.int64).reshape(30, 5)

    def make() -> nn.Module:
        return nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))

    return Scene(make, Dataset(inputs, (inputs + 1) % 9, None), Method(method="tokens@1"), windows)


@pytest.mark.parametrize("windows", [None, WINDOWS, ALL, Windows(steps=1), Windows(steps=99)])
@pytest.mark.parametrize("make", [digit_scene, images, table, words])
@pytest.mark.parametrize("fields", [{}, TOP_K], ids=["whole", "coded"])
def test_an_honest_opening_passes(make: Callable[[Wanted], Scene], windows: Wanted, fields: dict[str, Any]) -> None:
    scene = make(windows)
    if fields and make is not digit_scene:
        fields = {**fields, "payload": [VectorSpec(name="delta", codec=Method(method="top_k@1", params={"k": 9}))]}
    scene = replace(scene, fields=fields)
    found = scene.judged()
    assert (found.reason, found.transcript) == (Reason.PASSED, scene.opening.transcript)
    # Who is asked again shows the same.
    assert make_opening(scene.check, scene.trainer(), scene.context, scene.committed.root, scene.seed) == scene.opening


def other_data(scene: Scene, dataset: Dataset) -> Opening:
    """What a participant shows that committed to other examples than these."""
    root = CommittedExamples(CanonicalExamples.of(dataset), scene.seed).root
    return make_opening(scene.check, scene.trainer(dataset), scene.context, root, scene.seed)


def one_changed(scene: Scene) -> Dataset:
    inputs = scene.dataset.inputs.copy()
    inputs[:, 20] += np.float32(0.125)
    return replace(scene.dataset, inputs=inputs)


def relabelled(scene: Scene) -> Dataset:
    return replace(scene.dataset, targets=(scene.dataset.targets + 1) % 10)


def turned(scene: Scene) -> Dataset:
    return scene.dataset.take(np.arange(len(scene.dataset))[::-1])


def repeated(scene: Scene) -> Dataset:
    return scene.dataset.take(np.zeros(len(scene.dataset), np.int64))


@pytest.mark.parametrize("change", [one_changed, relabelled, turned, repeated])
@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_other_data_than_those_committed_to_fail(change: Callable[[Scene], Dataset], windows: Wanted) -> None:
    scene = digits(windows)
    dataset = change(scene)
    opening = other_data(scene, dataset)
    trained = scene.trainer(dataset)(scene.context)
    assert scene.judged(trained, opening).reason is Reason.OTHER_DATA
    # Who shows what it committed to did not train on it.
    expected = Reason.DOES_NOT_FOLLOW if windows is None else Reason.TRAJECTORY
    assert scene.judged(trained).reason is expected
    with pytest.raises(ConfigError, match="not those that this participant committed to"):
        make_opening(scene.check, scene.trainer(dataset), scene.context, scene.committed.root, scene.seed)


@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_other_numbers_than_the_committed_data_have_fail(windows: Wanted) -> None:
    scene = digits(windows)
    fewer = scene.dataset.stretch(0, 32)
    trained = scene.trainer(fewer)(scene.context)
    for update in (
        trained,
        replace(scene.honest, examples=41),
        replace(scene.honest, examples=39),
        replace(scene.honest, steps=scene.honest.steps - 1),
    ):
        assert scene.judged(update).reason is Reason.EXAMPLES
    assert scene.judged(root=DataRoot(bytes(28), 2**32 - 1)).reason is Reason.EXAMPLES
    shown = other_data(scene, fewer)
    assert scene.judged(opening=shown).reason is Reason.UNREADABLE


def noise(scene: Scene) -> LocalUpdate:
    size = float(scene.honest.delta.std())
    delta = np.random.default_rng(1).normal(0, size, len(scene.honest.delta))
    return replace(scene.honest, delta=delta.astype(np.float32))


def scaled(scene: Scene) -> LocalUpdate:
    return replace(scene.honest, delta=scene.honest.delta * np.float32(2))


def nudged(scene: Scene) -> LocalUpdate:
    delta = scene.honest.delta.copy()
    delta[7] = np.nextafter(delta[7], np.float32(1))
    return replace(scene.honest, delta=delta)


def neighbours(scene: Scene) -> LocalUpdate:
    other = replace(scene, owner=2)
    return replace(other.honest, trajectory=other.honest.trajectory)


def of_last_round(scene: Scene) -> LocalUpdate:
    return replace(scene, index=scene.index - 1).honest


@pytest.mark.parametrize("lie", [noise, scaled, nudged, neighbours, of_last_round])
@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_updates_that_do_not_follow_fail(lie: Callable[[Scene], LocalUpdate], windows: Wanted) -> None:
    scene = digits(windows)
    update = lie(scene)
    is_traced = windows is None or update.trajectory == scene.honest.trajectory
    assert scene.judged(update).reason is (Reason.DOES_NOT_FOLLOW if is_traced else Reason.TRAJECTORY)


def forged(scene: Scene, wrong: set[int]) -> tuple[LocalUpdate, Trajectory]:
    """A trajectory of which some states are invented, with the true end."""
    trained = scene.honest
    trajectory = Trajectory()
    made = np.random.default_rng(2)
    true = traced(scene)
    for place, digest in enumerate(true.digests):
        trajectory.digests.append(made.bytes(32) if place in wrong else digest)
    return replace(trained, trajectory=trajectory.root), trajectory


def traced(scene: Scene) -> Trajectory:
    local, solver = local_part(scene.trainer())
    trajectory = Trajectory()
    assert scene.windows is not None
    watched = Watched(solver, Tracing(scene.windows.steps, [trajectory.take]))
    rng = Restartable().restart(training_seed(scene.spec, scene.index, scene.context.owner))
    watched(local.model, scene.context.base.vector, local.dataset, rng)
    return trajectory


def test_a_wrong_trajectory_with_the_true_end_fails_where_it_is_looked_at() -> None:
    scene = digits(WINDOWS)
    count = WINDOWS.count(scene.honest.steps)
    chosen = scene.check.windows(count, WINDOWS.drawn)
    for wrong in range(1, count):
        update, trajectory = forged(scene, {wrong})
        named = dict(tensors.decode(scene.opening.plaintext, further=True))
        seen = {0, count, *chosen, *(window + 1 for window in chosen)}
        named[STATE_SIBLINGS] = stacked(trajectory.siblings(seen))
        found = scene.judged(update, plaintext=tensors.encode(named, further=True))
        assert found.reason is (Reason.TRAJECTORY if wrong in seen else Reason.PASSED)


@pytest.mark.parametrize("make", [digits, images], ids=["doubles", "float32"])
@pytest.mark.parametrize("weight", [0.0, 5.0, 3e38, -3e38, 1e-45])
@pytest.mark.parametrize("velocity", [0.0, 3e38, -3e38, 1e-45])
def test_states_of_any_numbers_never_raise_and_never_pass(
    make: Callable[[Wanted], Scene], weight: float, velocity: float
) -> None:
    """Of a participant that commits to what it shows, and to what follows from it."""
    scene = make(WINDOWS)
    named = dict(tensors.decode(scene.opening.plaintext, further=True))
    named[WEIGHTS] = np.full_like(named[WEIGHTS], weight)
    named[VELOCITIES] = np.full_like(named[VELOCITIES], velocity)
    drawn = Drawn.of(scene.check, local_part(scene.trainer())[1], scene.context, len(scene.dataset), WINDOWS)
    trajectory = Trajectory(digests=[bytes([place]) * 32 for place in range(drawn.last + 1)])
    trajectory.digests[0] = traced(scene).digests[0]
    rows = zip(drawn.shown, named[WEIGHTS], named[VELOCITIES], strict=True)
    given = {place: State(drawn.steps_at(place), *row) for place, *row in rows}
    shown = scene.trainer(scene.dataset.take(drawn.places))
    replay = WindowReplay(shown, scene.context, drawn)
    first = replay.begun()
    assert first is not None
    states = replay.states({0: first} | given, Transcript(scene.check, b""))
    diverged = any(place not in states for place in drawn.known)
    for place, state in states.items():
        trajectory.digests[place] = state.digest
    named[STATE_SIBLINGS] = stacked(trajectory.siblings(drawn.known))
    update = replace(scene.honest, trajectory=trajectory.root)
    with np.errstate(all="raise"):
        found = scene.judged(update, plaintext=tensors.encode(named, further=True))
    # Training that diverges has no end.
    assert found.reason is (Reason.TRAJECTORY if diverged else Reason.DOES_NOT_FOLLOW)


def stacked(rows: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


@pytest.mark.parametrize("windows", [None, ALL])
def test_rows_of_the_public_validation_set_fail(windows: Wanted) -> None:
    scene = digits(windows)
    row = slice(11, 12)
    keys = set(example_keys(scene.dataset.inputs[row], scene.dataset.targets[row]))
    assert scene.judged(public=keys).reason is Reason.VALIDATION_ROWS
    assert scene.judged(public={bytes(32)}).passed


@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_another_transcript_than_the_claimed_one_fails(windows: Wanted) -> None:
    scene = digits(windows)
    found = scene.judged(claim=bytes(32))
    assert (found.reason, found.transcript) == (Reason.WRONG_CLAIM, scene.opening.transcript)
    # Each auditor has another, so none can copy the other's.
    second = replace(scene.check, auditor=2)
    other = make_opening(second, scene.trainer(), scene.context, scene.committed.root, scene.seed)
    assert other.transcript != scene.opening.transcript and other.plaintext == scene.opening.plaintext


@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_a_box_is_read_by_its_auditor_for_its_check_alone(windows: Wanted) -> None:
    scene = digits(windows)
    opening, case, key = scene.opening, scene.case(), reader_key(b"\x07" * 32)
    box = seal(public_key(key), opening.plaintext, scene.check.info)
    assert judge_box(scene.check, case, box, opening.digest, key).passed
    for check, digest, reader in (
        (replace(scene.check, auditor=2), opening.digest, key),
        (replace(scene.check, participant=9), opening.digest, key),
        (scene.check, bytes(32), key),
        (scene.check, opening.digest, bytes(32)),
    ):
        assert judge_box(check, case, box, digest, reader).reason is Reason.UNREADABLE


def changed_tensor(named: dict[str, np.ndarray], name: str, value: Any) -> bytes:
    return tensors.encode({**named, name: np.asarray(value)}, further=True)


@pytest.mark.parametrize("windows", [None, WINDOWS])
def test_openings_of_other_types_and_sizes_are_unreadable(windows: Wanted) -> None:
    scene = digits(windows)
    named = dict(tensors.decode(scene.opening.plaintext, further=True))
    inputs, targets = named[INPUTS], named[TARGETS]
    nan, far = inputs.copy(), targets.copy()
    nan[0, 0], far[0] = np.nan, 10
    cases = [
        (INPUTS, nan),
        (INPUTS, inputs.astype(np.float64)),
        (INPUTS, inputs[1:]),
        (INPUTS, inputs[:, 1:]),
        (INPUTS, inputs[:, :0]),
        (INPUTS, inputs.astype(np.int64)),
        (INPUTS, np.zeros((len(inputs), 0, 1 << 30), np.float32)),
        (TARGETS, far),
        (TARGETS, -far),
        (TARGETS, targets.astype(np.float32)),
        (TARGETS, targets[:, None]),
        (TARGETS, np.int64(3)),
    ]
    if windows is None:
        cases += [(SEED, named[SEED][0]), (SEED, named[SEED][:, 1:])]
    else:
        weights, velocities = named[WEIGHTS].copy(), named[VELOCITIES]
        weights[0, 0] = np.inf
        cases += [(SALTS, named[SALTS][1:]), (SIBLINGS, named[SIBLINGS][1:]), (WEIGHTS, weights)]
        cases += [(STATE_SIBLINGS, named[STATE_SIBLINGS][1:]), (WEIGHTS, named[WEIGHTS][:, 1:])]
        cases += [(VELOCITIES, velocities[:1]), (VELOCITIES, velocities.astype(np.float32)), ("more", weights)]
    for name, value in cases:
        found = scene.judged(plaintext=changed_tensor(named, name, value))
        assert found.reason is Reason.UNREADABLE, (name, np.shape(value))
    for plaintext in (b"", scene.opening.plaintext[:-1], scene.opening.plaintext + b"\0", b"\xff" * 1000):
        assert scene.judged(plaintext=plaintext).reason is Reason.UNREADABLE


def test_words_that_the_model_does_not_know_are_unreadable() -> None:
    scene = words(None)
    named = dict(tensors.decode(scene.opening.plaintext, further=True))
    for word in (9, -1, 2**62):
        inputs = named[INPUTS].copy()
        inputs[3, 1] = word
        assert scene.judged(plaintext=changed_tensor(named, INPUTS, inputs)).reason is Reason.UNREADABLE
        assert scene.judged(plaintext=changed_tensor(named, TARGETS, inputs - 2)).reason is Reason.UNREADABLE


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["whole", "windows"])
@examples(60)
@given(data=st.data())
def test_changed_openings_never_raise_and_never_pass(windows: Wanted, data: st.DataObject) -> None:
    scene = digits(windows)
    plaintext = bytearray(scene.opening.plaintext)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(plaintext) - 1) | st.integers(0, 700))
        kind = data.draw(st.sampled_from(["bit", "byte", "cut", "insert"]))
        if kind == "bit":
            plaintext[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            plaintext[place] = data.draw(st.sampled_from([0, 0x30, 0x39, 0x7F, 0xFF]))
        elif kind == "cut":
            del plaintext[place : place + data.draw(st.sampled_from([1, 8, 32]))]
        else:
            plaintext[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        if not plaintext:
            break
    with within(30, plaintext[:300]):
        found = scene.judged(plaintext=bytes(plaintext))
    assert found.passed == (bytes(plaintext) == scene.opening.plaintext)


@pytest.mark.parametrize("make", [digits, images, table, words])
@examples(20)
@given(data=st.data())
def test_tensors_of_any_type_and_shape_never_raise_and_never_pass(
    make: Callable[[Wanted], Scene], data: st.DataObject
) -> None:
    scene = make(None)
    named = dict(tensors.decode(scene.opening.plaintext, further=True))
    for name in data.draw(st.sets(st.sampled_from([INPUTS, TARGETS]), min_size=1)):
        right = named[name]
        alike = st.tuples(*(st.just(extent) for extent in right.shape[1:]))
        shape = data.draw(alike | st.lists(st.integers(0, 4), max_size=4))
        dtype = data.draw(st.sampled_from([right.dtype, *tensors.NAMES]))
        value = data.draw(st.sampled_from([0, 1, -1, 7, 255, 2**31, 2**62, 3e38, -1e300]))
        with np.errstate(all="ignore"):
            named[name] = np.full((len(right), *shape), np.array([value]).astype(dtype)[0])
    with within(30):
        assert not scene.judged(plaintext=tensors.encode(named, further=True)).passed


def plain() -> nn.Module:
    layer = nn.Linear(5, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(-2, 3)[None] / 8)
        layer.bias.zero_()
    return layer


@pytest.mark.parametrize(
    ("windows", "word", "transcript", "plaintext"),
    [
        (
            None,
            "eb16101761d4e44cd141242a8ac57ac16de8d01c461b95c8366039440000000c",
            "9d925dcdddaceac43db5a24f329412ff90b4c52a0ff41ff44cc30fe593278924",
            "aa02758b64d29328c57fd8f943e3b4ec2f4ad2407145e208f70f6e01ac864199",
        ),
        (
            Windows(steps=2, drawn=1),
            "eb16101761d4e44cd141242a8ac57ac16de8d01c461b95c8366039440000000c",
            "9d6c30e0710dbf4114fc48bbd2e7dfa1af8ab25435ef4f1348aec718b3583270",
            "e5949b12b9b450872e73a958a5be277e5962027d63d13deefb00e864cca125e5",
        ),
    ],
)
def test_words_openings_and_transcripts_are_pinned(windows: Wanted, word: str, transcript: str, plaintext: str) -> None:
    # Of a task that depends on no library's random numbers.
    inputs = (np.arange(60) % 17).reshape(12, 5).astype(np.float32) / np.float32(8)
    scene = replace(table(windows), make=plain, dataset=Dataset(inputs, inputs[:, 2], None))
    assert scene.judged().passed
    opening = scene.opening
    found = f"{scene.committed.root.word:064x}", opening.transcript.hex(), opening.digest.hex()
    assert found == (word, transcript, plaintext)


def anything(data: st.DataObject) -> Scene:
    """A small task of any kind, and the windows that are replayed of it."""
    drawn = st.builds(Windows, steps=st.integers(1, 40), drawn=st.integers(1, 5))
    make = data.draw(st.sampled_from([digit_scene, images, table, words]))
    scene = make(data.draw(st.none() | drawn))
    solver = {
        "batch_size": data.draw(st.integers(1, 12)),
        "local_epochs": data.draw(st.integers(1, 4)),
        "momentum": data.draw(st.sampled_from([0.0, 0.5, 0.9])),
        "mu": data.draw(st.sampled_from([0.0, 0.1])),
        "weight_decay": data.draw(st.sampled_from([0.0, 0.01])),
        "drop_last": data.draw(st.booleans()),
    }
    part = scene.dataset.stretch(0, data.draw(st.integers(1, len(scene.dataset))))
    return replace(
        scene, dataset=part, solver=solver, owner=data.draw(st.integers(1, 9)), index=data.draw(st.integers(1, 5))
    )


def tried(data: st.DataObject) -> None:
    scene = anything(data)
    assert scene.judged().passed
    delta = scene.honest.delta.copy()
    place = data.draw(st.integers(0, len(delta) - 1))
    delta[place] += np.float32(0.25)
    assert scene.judged(replace(scene.honest, delta=delta)).reason is Reason.DOES_NOT_FOLLOW
    other = scene.dataset.take(np.arange(1, len(scene.dataset) + 1) % len(scene.dataset))
    if len(other) > 1 and not np.array_equal(other.inputs, scene.dataset.inputs):
        found = scene.judged(scene.trainer(other)(scene.context), other_data(scene, other)).reason
        assert found is Reason.OTHER_DATA


@examples(25)
@given(data=st.data())
def test_the_honest_pass_and_riders_fail_in_any_task(data: st.DataObject) -> None:
    tried(data)


@pytest.mark.long
@examples(3000)
@given(data=st.data())
def test_the_honest_pass_and_riders_fail_in_thousands_of_tasks(data: st.DataObject) -> None:
    tried(data)
