"""What ``work@1`` says of everybody's work: as plain doubles say, to the bit everywhere, and whatever is sent."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.context.sketches import BITS, packed, shortened, sketched, unpacked
from fedledger.aggregator.context.work import Laborious
from fedledger.aggregator.context.work_seen import WorkSeen
from fedledger.aggregator.evidence.tallies import Tallies
from fedledger.aggregator.evidence.work import Work
from fedledger.aggregator.round.state import State
from fedledger.protocol.arithmetic.exact import LIMIT, IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.measurement import LOSS_CAP
from support.examples import examples
from support.limits import within
from support.work_rounds import SIGNALS, Oracle, Training, a_round, addresses, honest, whole

SECONDS = 30
"""For one round, whatever its state; the slowest takes a few."""


def numbers_of(seen: WorkSeen) -> dict[str, np.ndarray]:
    return {name: getattr(seen, name) for name in (*SIGNALS, "absent")}


def is_sound(seen: WorkSeen) -> bool:
    shares = (seen.agreement, seen.clarity, seen.clarity_now)
    return all(np.isfinite(found).all() for found in numbers_of(seen).values()) and all(
        0 <= each <= 1 for each in shares
    )


def told(seen: WorkSeen) -> bytes:
    arrays = [*numbers_of(seen).values(), seen.alike, *(seen.keep()[name] for name in sorted(seen.keep()))]
    return hashlib.sha256(b"".join(np.ascontiguousarray(found).tobytes() for found in arrays)).digest()


class TestDefinition:
    @pytest.mark.parametrize(
        ("method", "dimension"),
        [(Work(rounds=1, steps=3), 100), (Work(rounds=3, steps=4), 400), (Work(rounds=2, steps=4, length=256), 900)],
        ids=["short", "long", "folded"],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_is_that_of_least_squares_in_plain_doubles(self, method: Work, dimension: int, seed: int) -> None:
        """Ten rounds in which some are absent, some are refused and some only send noise."""
        rng = np.random.default_rng(seed)
        oracle, training = Oracle(method), Training(method, dimension)
        for index in range(10):
            present = sorted(rng.choice(np.arange(1, 10), int(rng.integers(5, 9)), replace=False).tolist())
            rows = honest(rng, len(present), dimension)
            rows[-1] = whole(rng.normal(size=dimension))
            if index % 2:
                rows[1] = 2 * rows[0] + whole(0.1 * rng.normal(size=dimension))
            accepted = [True] * (len(present) - 1) + [index % 3 != 1]
            worths = rng.integers(-500, 3000, len(present)).tolist()
            context = training.next(rows, worths, present, doubt=100)
            seen = training.judged(context, accepted)
            expected, alike, agreement = oracle.look(context, accepted)
            for name in SIGNALS:
                wanted = np.array([getattr(one, name) for one in expected])
                # An overlap also looks at what little is left of each coordinate, to 14 bits.
                near = 5e-3 if name == "overlap" else 1e-3
                np.testing.assert_allclose(getattr(seen, name), wanted, rtol=near, atol=near, err_msg=name)
            assert abs(seen.agreement - agreement) < 1e-4
            for name in ("clarity", "clarity_now"):
                assert abs(getattr(seen, name) - getattr(expected[0], name)) < 1e-4
            assert (seen.alike == alike).all()

    def test_who_is_absent_keeps_a_tally(self) -> None:
        rng, training = np.random.default_rng(1), Training(Work(), 300)
        everybody = training.judged(training.next(honest(rng, 6, 300), numbers=[1, 2, 3, 4, 5, 6]))
        for _ in range(3):
            training.judged(training.next(honest(rng, 5, 300), numbers=[1, 2, 3, 4, 5]))
        back = training.judged(training.next(honest(rng, 6, 300), numbers=[1, 2, 3, 4, 5, 6]))
        fading = training.method.fading
        assert everybody.rounds.tolist() == [1.0] * 6
        assert back.rounds[5] == pytest.approx(1 + fading, abs=1e-8)
        assert back.rounds[:5] == pytest.approx([sum(fading**k for k in range(5))] * 5, abs=1e-8)

    def test_what_is_public_is_no_work_and_work_is(self) -> None:
        rng, training = np.random.default_rng(2), Training(Work(), 500)
        first = honest(rng, 14, 500)
        training.judged(training.next(first))
        assert training.previous is not None
        rows = honest(rng, 14, 500)
        rows[10], rows[11], rows[12] = 3 * training.previous, first[2] - first[6], 0
        rows[13] = whole(rng.normal(size=500))
        seen = training.judged(training.next(rows))
        assert seen.absent.tolist() == [False] * 10 + [True] * 3 + [False]
        assert (seen.corroboration[10:13] == 0).all()
        # Noise has no more in common with the others than signs at random have.
        assert (seen.overlap[:10] > 3 * seen.overlap[13]).all()
        assert (seen.corroboration[:10] > 3 * abs(seen.corroboration[13])).all()

    def test_updates_are_public_for_as_many_rounds_as_the_method_says(self) -> None:
        for rounds in (0, 1, 3):
            rng, training = np.random.default_rng(3), Training(Work(rounds=rounds, steps=0), 400)
            old = honest(rng, 4, 400)
            training.judged(training.next(old))
            for after in range(1, 5):
                rows = honest(rng, 4, 400)
                rows[0] = old[0]
                assert training.judged(training.next(rows)).absent[0] == (after <= rounds)
                # Else it would be public anew.
                old = honest(rng, 4, 400) if after <= rounds else old
                if after <= rounds:
                    break

    @pytest.mark.parametrize("dimension", [8, 20, 62])
    def test_public_vectors_never_span_a_small_model(self, dimension: int) -> None:
        """However many rounds there were, and however many participants, there is something left that can be new."""
        rng, training = np.random.default_rng(8), Training(Work(), dimension)
        for _ in range(12):
            seen = training.judged(training.next(honest(rng, 10, dimension)))
            assert not seen.absent.any()
            kept = seen.keep()
            assert len(kept["updates"]) + len(kept["steps"]) <= dimension // 4

    def test_those_who_are_close_are_copies_only_where_updates_agree(self) -> None:
        rng = np.random.default_rng(9)
        for agree in (True, False):
            training = Training(Work(), 3000)
            for _ in range(6):
                rows = honest(rng, 8, 3000, own=1.0 if agree else 30.0)
                # Two vectors whose cosine is 1 / (1 + .4²).
                noise = rng.normal(size=(2, 3000))
                noise *= 0.4 * np.linalg.norm(rows[0]) / np.linalg.norm(noise, axis=1)[:, None]
                rows[1:3] = rows[0] + np.rint(noise).astype(np.int64)
                seen = training.judged(training.next(rows))
            assert (seen.agreement > 0.9) == agree and bool(seen.alike[1, 2]) == agree

    def test_means_of_what_is_forgotten_are_no_work(self) -> None:
        """More updates than are remembered: those of which none is kept by itself are public all the same."""
        rng, training = np.random.default_rng(7), Training(Work(vectors=14, steps=0), 600)
        for _ in range(3):
            old = honest(rng, 40, 600)
            seen = training.judged(training.next(old))
            assert len(seen.keep()["updates"]) <= 14
        # What they had in common goes on, so that more of it looks like the others' work.
        forgotten = np.argsort(-seen.corroboration, kind="stable")[14:]
        common = old.mean(axis=0)
        rows = honest(rng, 40, 600) + np.rint(3 * common).astype(np.int64)
        rows[0] = np.rint(old[forgotten].mean(axis=0))
        seen = training.judged(training.next(rows))
        assert abs(seen.corroboration[0]) < 0.1 and (seen.corroboration[1:] > 0.5).all()

    def test_copies_are_alike_and_strangers_are_not(self) -> None:
        rng = np.random.default_rng(4)
        rows = honest(rng, 6, 400)
        rows[4], rows[5] = rows[1], 2 * rows[1]
        alike = Work()(a_round(rows))(np.ones(6, bool)).alike
        same = {1, 4, 5}
        assert alike.tolist() == [[i != j and {i, j} <= same for j in range(6)] for i in range(6)]

    @pytest.mark.parametrize("doubt", [0, 100, 4000])
    @pytest.mark.parametrize("times", [1, 3, 8])
    def test_a_gain_within_doubt_is_none_and_few_times_doubt_are_little(self, doubt: int, times: int) -> None:
        rows, more = honest(np.random.default_rng(5), 5, 100), max(1, times * doubt)
        worths = [doubt, -doubt, doubt + more, -doubt - more, doubt + more]
        gain = Work()(a_round(rows, worths, doubt=doubt))(np.ones(5, bool)).gain
        assert gain.tolist() == [0, 0, *(sign * min(1.0, more / max(1, 4 * doubt)) for sign in (1, -1, 1))]


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_work_evidence import chain
print(chain().hex())
"""


def chain() -> bytes:
    """What three rounds with refused updates tell, of more numbers than fit in a cache."""
    rng, training, digest = np.random.default_rng(6), Training(Work(length=4096), 9000), b""
    for _ in range(3):
        context = training.next(honest(rng, 40, 9000), rng.integers(-900, 900, 40).tolist())
        digest += told(training.judged(context, (np.arange(40) % 7 > 0).tolist()))
    return hashlib.sha256(digest).digest()


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem"},
        {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Sandybridge"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
    ],
    ids=["nehalem", "haswell", "sandybridge", "numpy"],
)
def test_every_bit_is_the_same_under_other_arithmetic(environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == chain().hex(), done.stderr


class TestSymmetry:
    @examples(10)
    @given(st.integers(0, 2**32), st.permutations(range(7)))
    def test_who_has_which_address_does_not_matter(self, seed: int, order: list[int]) -> None:
        """Copies, noise and nothing at all are among the updates, so that there are ties."""
        found = []
        for place in (list(range(7)), order):
            rng, training, seen = np.random.default_rng(seed), Training(Work(vectors=12), 150), []
            for index in range(4):
                rows, worths = honest(rng, 7, 150), rng.integers(-500, 900, 7)
                rows[2], rows[3] = 0, whole(rng.normal(size=150))
                if index:
                    rows[1], worths[1] = rows[0], worths[0]
                # Person i has the address with the number place[i], and rows are in the order of addresses.
                by_address = np.argsort(place)
                accepted = np.array([True] * 6 + [False])[by_address]
                context = training.next(rows[by_address], worths[by_address].tolist())
                shown = training.judged(context, accepted.tolist())
                # What is added up in another order is rounded in another way.
                training.previous = np.rint(rows[:6].mean(axis=0)).astype(np.int64)
                seen.append([getattr(shown, name)[place] for name in SIGNALS])
                assert (shown.absent[place] == [False, False, True, False, False, False, False]).all()
            found.append(np.array(seen))
        np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("shift", [1, 5, 8])
    def test_a_power_of_two_scales_nothing(self, shift: int) -> None:
        small, large = (Training(Work(), 300) for _ in range(2))
        rng = np.random.default_rng(7)
        for _ in range(4):
            rows = honest(rng, 6, 300)
            first, second = small.judged(small.next(rows)), large.judged(large.next(rows << shift))
            large.previous = small.previous << shift
            for name, value in numbers_of(first).items():
                assert value.tobytes() == numbers_of(second)[name].tobytes(), name
            assert first.agreement == pytest.approx(second.agreement, abs=1e-6)

    @examples(20)
    @given(st.integers(0, 2**32), st.sampled_from([0, 1, 1 << 20, LIMIT]), st.integers(-LOSS_CAP, LOSS_CAP))
    def test_what_is_refused_does_not_move_what_is_said_of_others(self, seed: int, size: int, worth: int) -> None:
        rng, shown = np.random.default_rng(seed), []
        rows, worths = honest(rng, 8, 120), rng.integers(-500, 900, 8).tolist()
        accepted = [True] * 7 + [False]
        for last in (rows[7], rng.integers(-size, size, 120, endpoint=True)):
            training = Training(Work(), 120)
            for _ in range(2):
                context = training.next(np.vstack([rows[:7], last]), [*worths[:7], worth if size else 0])
                seen = training.judged(context, accepted)
                shown.append(
                    [getattr(seen, name)[:7].tobytes() for name in SIGNALS]
                    + [seen.agreement, seen.clarity, seen.clarity_now]
                )
                # Only the refused update is public in the next round.
                training.memory, training.previous = {}, None
        assert shown[0] == shown[2] and shown[1] == shown[3]


class TestWhateverIsSent:
    @pytest.mark.parametrize("count", [1, 2, 3, 10])
    @pytest.mark.parametrize("size", [0, 1, 3, 1 << 20, LIMIT])
    @pytest.mark.parametrize("dimension", [1, 5, 700])
    def test_all_that_is_said_is_a_number(self, count: int, size: int, dimension: int) -> None:
        rng, training = np.random.default_rng(8), Training(Work(length=256), dimension)
        for index in range(4):
            rows = rng.integers(-size, size, (count, dimension), endpoint=True)
            rows[index % count] = size
            worths = rng.choice([-2 * LOSS_CAP, 0, 1, 2 * LOSS_CAP], count).tolist()
            context = training.next(rows, worths)
            for accepted in (np.ones(count, bool), np.zeros(count, bool), np.arange(count) == index):
                assert is_sound(training.judged(context, accepted.tolist()))

    def test_a_round_without_updates_is_no_problem(self) -> None:
        nobody = replace(a_round(np.zeros((1, 4), np.int64)), updates=np.zeros((0, 4), np.int64), owners=[])
        nobody = replace(nobody, features=replace(nobody.features, measured=[], reputations=[], gram=np.zeros((0, 0))))
        seen = Work()(nobody)(np.zeros(0, bool))
        assert is_sound(seen) and seen.alike.shape == (0, 0)

    def test_one_and_two_updates_have_nothing_held_against_them(self) -> None:
        for count in (1, 2):
            seen = Work()(a_round(honest(np.random.default_rng(9), count, 50)))(np.ones(count, bool))
            assert (seen.overlap > 2).all() and (seen.corroboration == 1).all() and not seen.harm.any()

    def test_a_thousand_updates_take_seconds(self) -> None:
        rng, training = np.random.default_rng(10), Training(Work(length=512), 600)
        with within(SECONDS, "a thousand updates"):
            for _ in range(2):
                assert is_sound(training.judged(training.next(honest(rng, 1000, 600, own=3.0))))
        assert isinstance(training.method, Laborious)

    def test_too_many_public_vectors_for_so_many_updates_are_not_posted(self) -> None:
        Work().require_work(4096, 10**6)
        with pytest.raises(ConfigError, match="work@1 needs"):
            Work(vectors=1024, steps=256).require_work(4096, 10**6)

    @examples(30)
    @given(st.integers(0, 2**32), st.integers(1, 41), st.sampled_from([1, 4, 255, 256, 257, 1000]))
    def test_sketches_are_short_and_near(self, seed: int, bits: int, dimension: int) -> None:
        largest = min(LIMIT, 1 << bits)
        rows = np.random.default_rng(seed).integers(-largest, largest, (3, dimension), endpoint=True)
        rows[0, 0], rows[1, 0] = largest, -largest
        found = shortened(rows)
        assert np.abs(found).max() <= 1 << BITS and found.max() < 1 << BITS
        scales = np.abs(rows).max(axis=1, keepdims=True)
        factor = np.maximum(1, 2.0 ** (np.floor(np.log2(np.maximum(scales, 1))) + 1 - BITS))
        assert np.abs(found * factor - rows).max(axis=1, initial=0).max() <= factor.max()
        short = sketched(rows, 256)
        assert short.shape == (3, min(dimension, 256))
        assert (unpacked(packed(short), short.shape[1]) == short).all()


def kept(count: int = 5, dimension: int = 100, method: Work | None = None) -> Mapping[str, IntArray]:
    """What three rounds leave."""
    rng, training = np.random.default_rng(11), Training(method or Work(), dimension)
    for _ in range(3):
        training.judged(training.next(honest(rng, count, dimension), rng.integers(-9, 900, count).tolist()))
    return training.memory


def with_value(value: int) -> Callable[[IntArray], IntArray]:
    return lambda found: np.full_like(found, value)


def replaced(memory: Mapping[str, IntArray], name: str, value: IntArray) -> dict[str, IntArray]:
    return {**memory, name: value}


class TestState:
    def test_comes_back_as_it_was_and_leads_to_the_same_round(self) -> None:
        memory, rows = kept(), honest(np.random.default_rng(12), 5, 100)
        state = State(np.zeros(100, np.int64), memories={f"evidence.0.{name}": found for name, found in memory.items()})
        again = State.decode(state.encode(), 100)
        read = {name.removeprefix("evidence.0."): found for name, found in again.memories.items()}
        assert again.encode() == state.encode()
        accepted = np.ones(5, bool)
        first, second = (Work()(a_round(rows, memory=known))(accepted) for known in (memory, read))
        assert told(first) == told(second)
        assert told(first) != told(Work()(a_round(rows))(accepted))

    @pytest.mark.parametrize("name", sorted(kept()))
    @pytest.mark.parametrize(
        "change",
        [
            lambda found: found[..., None],
            lambda found: found.ravel()[:1],
            lambda found: found.ravel()[0],
            lambda found: found[..., :0],
            lambda found: np.concatenate([found, found])[..., 1:],
            with_value((1 << 63) - 1),
            with_value(-(1 << 63)),
            with_value(-1),
            with_value(0),
        ],
        ids=["nested", "one", "scalar", "empty", "longer", "large", "small", "minus", "zero"],
    )
    def test_of_nobody_honest_is_refused_or_leads_to_numbers(
        self, name: str, change: Callable[[IntArray], IntArray]
    ) -> None:
        memory = replaced(kept(), name, np.asarray(change(kept()[name]), np.int64))
        rows = honest(np.random.default_rng(13), 5, 100)
        with within(SECONDS, name):
            try:
                seen = Work()(a_round(rows, memory=memory))(np.ones(5, bool))
            except ConfigError as error:
                assert "Use the state of the last round." in str(error)
            else:
                assert is_sound(seen)

    @examples(60)
    @given(st.data())
    def test_of_any_numbers_is_refused_or_leads_to_numbers(self, data: st.DataObject) -> None:
        memory = dict(kept())
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        for name in data.draw(st.sets(st.sampled_from(sorted(memory)), min_size=1)):
            most = data.draw(st.sampled_from([2, 1 << 15, 1 << 31, (1 << 63) - 1]))
            memory[name] = rng.integers(-most, most, memory[name].shape, endpoint=True)
        rows = honest(np.random.default_rng(13), 5, 100)
        try:
            seen = Work()(a_round(rows, memory=memory))(rng.random(5) < 0.7)
        except ConfigError as error:
            assert "Use the state of the last round." in str(error)
        else:
            assert is_sound(seen)

    @examples(60)
    @given(st.integers(-(1 << 63), -1))
    def test_of_fewer_rounds_than_none_is_refused(self, rounds: int) -> None:
        """With the round to come, minus one round would make none, of which there is no mean."""
        memory = kept()
        for rounds_kept in (rounds, -(1 << 30)):
            common = memory["common"].copy()
            common[2] = rounds_kept
            with pytest.raises(ConfigError, match="fewer rounds than none"):
                Work()(a_round(honest(np.random.default_rng(13), 5, 100), memory=replaced(memory, "common", common)))

    def test_of_far_more_than_a_method_keeps_is_refused_at_once(self) -> None:
        memory = kept()
        for name in ("updates", "steps"):
            many = np.repeat(memory[name][:1], 100_000, axis=0)
            with within(SECONDS, name), pytest.raises(ConfigError, match="another model"):
                Work()(a_round(honest(np.random.default_rng(13), 5, 100), memory=replaced(memory, name, many)))

    def test_of_another_model_is_refused_and_foreign_names_are_forgotten(self) -> None:
        with pytest.raises(ConfigError, match="another model"):
            Work()(a_round(honest(np.random.default_rng(13), 5, 100), memory=kept(dimension=140)))
        foreign = replaced(kept(), "foreign", np.ones(5, np.int64))
        seen = Work()(a_round(honest(np.random.default_rng(13), 5, 100), memory=foreign))(np.ones(5, bool))
        assert set(seen.keep()) == set(kept())

    @pytest.mark.parametrize("dimension", [1, 3, 4, 250, 300])
    @pytest.mark.parametrize("method", [Work(), Work(vectors=9, steps=2, length=256), Work(rounds=64, vectors=100)])
    def test_is_never_larger_than_was_said(self, method: Work, dimension: int) -> None:
        """Two hundred participants come and go, each round others."""
        rng, training = np.random.default_rng(14), Training(method, dimension)
        known: set[int] = set()
        for _ in range(25):
            present = sorted(rng.choice(np.arange(1, 201), 20, replace=False).tolist())
            known |= set(present)
            training.judged(training.next(honest(rng, 20, dimension), numbers=present))
            size = sum(found.size for found in training.memory.values())
            assert size <= method.memory_size(len(known), dimension) <= method.memory_size(200, dimension)
            assert all(found.dtype == np.int64 for found in training.memory.values())
        assert len(training.memory["owners"]) == len(known) > 150

    def test_names_everybody_by_address(self) -> None:
        """Addresses of any 20 bytes, and sketches of any values, are within what a state may hold."""
        rng = np.random.default_rng(15)
        owners = ["0x" + "fF" * 20, "0x" + "00" * 20, *(f"0x{rng.bytes(20).hex()}" for _ in range(38)), *addresses([7])]
        rows = np.repeat(honest(rng, 1, 60), len(owners), axis=0)
        rows[::2] = rng.choice([-LIMIT, LIMIT - 1], rows[::2].shape)
        context = replace(a_round(rows), owners=owners)
        kept_ = Work()(context)(np.ones(len(owners), bool)).keep()
        state = State(np.zeros(60, np.int64), memories=dict(kept_))
        read = State.decode(state.encode(), 60).memories
        again = Work()(replace(context, memory=read))(np.ones(len(owners), bool))
        assert (again.rounds > 1).all()
        assert Tallies.read(read, read["tallies"].shape[1]).owners == tuple(sorted(owner.lower() for owner in owners))
