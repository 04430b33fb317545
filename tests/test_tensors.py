"""What of a model moves: trained tensors by updates, statistics by value, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round, probe
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import ValidUpdate, validate_vectors
from fedledger.aggregator.rules.base import RULES
from fedledger.learning.models.initial import initial_model, outputs, require_in_bounds, require_reproducible
from fedledger.learning.vectors import FlatModel
from fedledger.protocol.codecs.payload import published_lengths, slots
from fedledger.protocol.codecs.statistics import Statistics, range_of
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ContentUnreadableError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import FixedPointSpec, StatisticSpec, TaskSpec, TensorsSpec
from fedledger.protocol.records.update import DELTA, STATISTICS, UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples
from support.rules import CLAIMING, DEFAULTS

D = 6
TENSORS = TensorsSpec(
    statistics=[StatisticSpec(name="mean", length=2), StatisticSpec(name="var", length=2, least=0.0)], fixed=["table"]
)
FORMAT = Statistics.of(TENSORS)
BASE = np.array([0.5, -0.25, 1, 0, 0, 2, 0.5, -1, 4, 1], np.float32)
ROUNDED = {
    rule: params | ({"f": 1} if "f" in params else {}) for rule, params in DEFAULTS.items() if rule not in CLAIMING
}


def spec(**changes: Any) -> TaskSpec:
    ref = Ref.of(ContentRef.of(b"content"))
    return TaskSpec(name="tensors", rounds=3, initial_model=ref, validation=ref, tensors=TENSORS, **changes)


def a_round(sent: list[tuple[list[float], list[float]]], task: TaskSpec | None = None, **changes: Any) -> RoundResult:
    """Evaluate a round of (delta, statistics) of each participant."""
    task = task or spec()
    entries = [
        Entry(
            f"0x{number:040x}",
            500_000,
            ValidUpdate(
                task.fixed.quantise(np.array(delta, np.float32)),
                10 + number,
                5,
                statistics=FORMAT.fixed(np.array(statistics, np.float32)),
            ),
        )
        for number, (delta, statistics) in enumerate(sent)
    ]
    context = RoundContext(task, BASE, State(np.zeros(D, np.int64)), [500_000] * len(sent), len(sent), units=100)
    return evaluate_round(replace(context, **changes), entries, lambda what, vector: Measurement(1000, 1))


def steps(n: int, seed: int = 0) -> list[list[float]]:
    return np.random.default_rng(seed).normal(size=(n, D)).round(3).tolist()


values = st.lists(
    st.tuples(*(st.floats(-1000, 1000, width=32),) * 2, *(st.floats(0, 1000, width=32),) * 2).map(list),
    min_size=5,
    max_size=7,
)


class TestAggregation:
    @examples(50)
    @given(values)
    def test_the_mean_of_statistics_is_that_of_their_values(self, sent: list[list[float]]) -> None:
        result = a_round(list(zip(steps(len(sent)), sent, strict=True)))
        whole = [FORMAT.fixed(np.array(row, np.float32)) for row in sent]
        weights = result.weights
        for place in range(4):
            exact = Fraction(sum(w * int(row[place]) for w, row in zip(weights, whole, strict=True)), sum(weights))
            found = int(FORMAT.fixed(result.model[D:])[place])
            # The float32 of the model is rounded once more.
            assert abs(found - exact) <= Fraction(1, 2) + abs(exact) / 2**23

    @pytest.mark.parametrize("rule", ROUNDED)
    @examples(20)
    @given(values)
    def test_no_rule_leaves_what_was_sent_or_the_range(self, rule: str, sent: list[list[float]]) -> None:
        task = spec(aggregation=Method(method=rule, params=ROUNDED[rule]))
        trusted = task.fixed.quantise(np.array(steps(1, 9)[0], np.float32))
        result = a_round(list(zip(steps(len(sent)), sent, strict=True)), task, trusted=trusted)
        every = np.vstack([np.array(sent, np.float32), BASE[D:]]).astype(np.float64)
        found = result.model[D:]
        slack = 1e-4 * (1 + np.abs(every).max())
        assert (every.min(axis=0) - slack <= found).all() and (found <= every.max(axis=0) + slack).all()
        assert (found[2:] >= 0).all()

    def test_every_rule_is_tried(self) -> None:
        assert set(RULES) == set(ROUNDED) | CLAIMING

    @pytest.mark.parametrize("optimiser", [*OPTIMISERS])
    def test_server_optimisers_and_normalisation_leave_them_alone(self, optimiser: str) -> None:
        sent = list(zip(steps(4), [[1.0, 2, 3, 4], [2, 2, 0, 4], [0, 0, 1, 1], [5, -5, 2, 0]], strict=True))
        plain = a_round(sent).model
        task = spec(
            optimiser=Method(method=optimiser), normalisation=Method(method="fednova@1", params={"max_steps": 10})
        )
        other = a_round(sent, task).model
        assert plain[D:].tobytes() == other[D:].tobytes()
        # As often as the optimiser is asked, a variance stays one.
        model, state = other, State(np.zeros(D, np.int64))
        for _ in range(5):
            result = a_round(sent, task, base=model, state=state)
            model, state = result.model, result.state
        assert (model[D + 2 :] >= 0).all()

    def test_statistics_of_a_minority_do_not_move_the_median(self) -> None:
        honest = [[0.0, 1.0, 2.0, 1.0]] * 4
        hostile = [[60_000.0, -60_000.0, 60_000.0, 0.0]] * 3
        task = spec(aggregation=Method(method="median@1"))
        result = a_round(list(zip(steps(7), honest + hostile, strict=True)), task)
        assert result.model[D:].tolist() == honest[0]

    def test_where_nothing_counts_they_stay_as_they_are(self) -> None:
        result = a_round([], spec())
        assert result.model[D:].tobytes() == BASE[D:].tobytes()

    def test_an_eighth_of_the_way_to_them_is_measured(self) -> None:
        task = spec()
        sent = FORMAT.fixed(np.array([8.5, 7, 0, 9], np.float32))
        probed = probe(task, BASE, np.zeros(D, np.int64), sent)
        assert probed[:D].tobytes() == BASE[:D].tobytes()
        assert probed[D:].tolist() == [1.5, 0.0, 3.5, 2.0]

    def test_detectors_and_pay_see_the_step_alone(self) -> None:
        detection = [Method(method=name) for name in ("norm@1", "cosine@1", "near_duplicate@1")]
        sent = steps(5)
        alike, unlike = (
            a_round(list(zip(sent, rows, strict=True)), spec(detection=detection))
            for rows in ([[0.0, 0, 1, 1]] * 5, [[1000.0 * i, -i, i, 0] for i in range(5)])
        )
        assert (alike.verdicts, alike.shares) == (unlike.verdicts, unlike.shares)


class TestWire:
    def test_an_update_carries_them_after_its_other_vectors(self) -> None:
        task = spec(vectors=["control"])
        assert [(slot.name, slot.length) for slot in slots(task, D)] == [(DELTA, D), ("control", D), (STATISTICS, 4)]
        assert published_lengths(task, D) == {"control": D}

    @pytest.mark.parametrize(
        ("statistics", "verdict"),
        [
            ([0, 0, 1, -1e-3], Verdict.OUT_OF_RANGE),
            ([0, 0, np.nan, 1], Verdict.NOT_FINITE),
            ([np.inf, 0, 1, 1], Verdict.NOT_FINITE),
            ([3e38, 0, 1, 1], Verdict.OUT_OF_RANGE),
            ([0, -65_537, 1, 1], Verdict.OUT_OF_RANGE),
            ([0, 0, 1], Verdict.WRONG_SHAPE),
            (None, Verdict.WRONG_SHAPE),
        ],
    )
    def test_statistics_out_of_range_are_refused(self, statistics: list[float] | None, verdict: Verdict) -> None:
        vectors = {DELTA: np.zeros(D, np.float32)}
        if statistics is not None:
            vectors[STATISTICS] = np.array(statistics, np.float32)
        with pytest.raises(UpdateRefusedError) as refused:
            validate_vectors(vectors, spec(), D, 1, 1)
        assert refused.value.verdict is verdict

    def test_a_task_without_statistics_takes_none(self) -> None:
        vectors = {DELTA: np.zeros(D, np.float32), STATISTICS: np.zeros(4, np.float32)}
        with pytest.raises(UpdateRefusedError, match="wrong_shape"):
            validate_vectors(vectors, spec().model_copy(update={"tensors": None}), D, 1, 1)

    @examples(100)
    @given(
        st.integers(0, 38),
        st.none() | st.floats(-1e6, 1e6),
        st.lists(st.floats(width=32, allow_nan=True), min_size=3, max_size=3),
    )
    def test_values_are_rounded_to_the_nearest_within_the_range(
        self, bits: int, least: float | None, sent: list[float]
    ) -> None:
        statistic = StatisticSpec(name="x", length=3, least=least, bound_bits=bits)
        found = Statistics.of(TensorsSpec(statistics=[statistic]))
        fraction, low, high = range_of(statistic)
        unit = Fraction(2) ** fraction
        try:
            whole = found.fixed(np.array(sent, np.float32))
        except ContentUnreadableError:
            finite = [Fraction(v) for v in sent if np.isfinite(v)]
            assert len(finite) < 3 or any(not low <= round(v * unit) <= high for v in finite)
            return
        assert whole.tolist() == [round(Fraction(v) * unit) for v in sent]
        assert all(low <= v <= high for v in whole.tolist())
        back = found.to_float32(whole)
        assert back.tolist() == [float(np.float32(int(v)) / np.float32(float(unit))) for v in whole]

    @examples(200)
    @given(st.integers(0, 38), st.floats(allow_nan=False, allow_infinity=False))
    def test_a_range_is_one_whatever_its_least_value_claims(self, bits: int, least: float) -> None:
        fraction, low, high = range_of(StatisticSpec(name="x", length=1, least=least, bound_bits=bits))
        exact = math.ceil(Fraction(least) * Fraction(2) ** fraction)
        assert high == 2**39 and low == min(high, max(-high, exact))


class Net(nn.Module):
    """One of everything: trained, frozen, tied, BatchNorm, constant and whole-number buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.last.weight = self.first.weight
        self.register_buffer("wiring", torch.randperm(4))
        self.register_buffer("scale", torch.full((4,), 1000.0))
        self.register_buffer("cache", torch.arange(4.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.first(x[:, self.wiring]) + self.frozen(x))
        return self.last(hidden) * self.scale / 1000 + self.cache


def made(factory: Callable[[], nn.Module], n: int = 50, features: int = 4) -> Any:
    return initial_model(factory, 7, np.random.default_rng(0).normal(size=(n, features)).astype(np.float32))


class TestInitialModel:
    def test_every_tensor_has_its_sort(self) -> None:
        begins = made(Net)
        assert [s.name for s in begins.tensors.statistics] == ["norm.running_mean", "norm.running_var"]
        assert [s.least for s in begins.tensors.statistics] == [None, 0.0]
        assert begins.tensors.fixed == [
            *("frozen.bias", "frozen.weight", "norm.num_batches_tracked", "scale", "wiring"),
        ]
        trained = {"first.bias", "first.weight", "last.bias", "norm.bias", "norm.weight"}
        assert set(begins.file.names[:5]) == trained
        assert (begins.file.dimension, begins.file.statistics) == (16 + 4 * 4, 8)

    def test_a_model_without_other_tensors_needs_no_description(self) -> None:
        assert made(lambda: nn.Linear(4, 2)).tensors is None

    def test_its_file_makes_a_fresh_module_the_same(self) -> None:
        begins = made(Net)
        file = ModelFile.decode(begins.file.encode_whole(), begins.tensors)
        first, second = (FlatModel(Net(), described=begins.tensors, fixed=file.fixed) for _ in range(2))
        x = torch.randn(5, 4)
        first.load(file.vector)
        first.module(x)
        first.load(file.vector)
        second.load(file.vector)
        assert first.module.eval()(x).equal(second.module.eval()(x))
        state = {name: torch.from_numpy(np.array(array)) for name, array in first.state().items()}
        fresh = Net()
        fresh.load_state_dict(state, strict=True)
        assert fresh.eval()(x).equal(second.module(x))

    @pytest.mark.parametrize("lacking", range(4))
    def test_what_does_not_move_must_be_given_as_a_whole(self, lacking: int) -> None:
        """The rest would be random, and honest parties would disagree about what a model is worth."""
        begins = made(Net)
        assert begins.tensors is not None and len(begins.tensors.fixed) > 1
        names = begins.tensors.fixed[:lacking] if lacking < 3 else begins.tensors.fixed
        kept = {name: values for name, values in begins.file.fixed.items() if name not in names}
        if not names:
            FlatModel(Net(), described=begins.tensors, fixed=kept)
            return
        with pytest.raises(ConfigError, match=f"lacks {names[0]}"):
            FlatModel(Net(), described=begins.tensors, fixed=kept)

    def test_what_does_not_move_stays_bit_for_bit(self) -> None:
        begins = made(Net)
        model = FlatModel(Net(), described=begins.tensors, fixed=begins.file.fixed)
        before = {name: model.state()[name].tobytes() for name in begins.tensors.fixed}
        model.load(begins.file.vector)
        for _ in range(3):
            model.module.train()(torch.randn(8, 4)).sum().backward()
            model.trainable.sub_(model.gradient)
        moved = model.vector()
        assert (moved[model.layout.dimension :] != begins.file.statistic_values).any()
        model.load(moved)
        assert {name: model.state()[name].tobytes() for name in begins.tensors.fixed} == before
        round_file = ModelFile.decode(begins.file.moved(moved).encode(), begins.tensors)
        assert round_file.vector.tobytes() == moved.tobytes() and not round_file.fixed

    def test_all_randomness_of_model_is_seeded(self) -> None:
        def drawing() -> nn.Module:
            module = nn.Linear(4, 2)
            module.register_buffer("mask", torch.from_numpy(np.random.permutation(4)))
            module.register_buffer("shift", torch.tensor([random.random()]))
            return module

        before = np.random.get_state()[1].tobytes(), random.getstate(), torch.get_rng_state()
        one, two = made(drawing), made(drawing)
        assert one.file.encode_whole() == two.file.encode_whole()
        after = np.random.get_state()[1].tobytes(), random.getstate(), torch.get_rng_state()
        assert before[:2] == after[:2] and before[2].equal(after[2])

    def test_a_statistic_of_ones_own_is_found(self) -> None:
        class Averaged(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(4, 2)
                self.register_buffer("cluster_size", torch.zeros(4))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if self.training:
                    self.cluster_size = 0.9 * self.cluster_size + 0.1 * x.square().mean(0)
                return self.layer(x / (1 + self.cluster_size))

        assert made(Averaged).tensors.statistics == [StatisticSpec(name="cluster_size", length=4, least=0.0)]

    @pytest.mark.parametrize(
        ("bound", "largest", "words"),
        [
            (64.0, 65.0, "bound = 256,"),
            (64.0, 1e5, "bound = 262144 and fixed_point.fraction_bits = 22,"),
            (8.0, 9.0, "bound = 32,"),
            (64.0, 1e30, "Scale the model's parameters"),
        ],
    )
    def test_a_trained_number_beyond_the_bound_is_refused_with_one_that_would_do(
        self, bound: float, largest: float, words: str
    ) -> None:
        def large() -> nn.Module:
            module = nn.Linear(4, 2)
            nn.init.constant_(module.weight, largest)
            return module

        with pytest.raises(ConfigError) as refused:
            require_in_bounds(made(large), FixedPointSpec(bound=bound))
        assert words in str(refused.value)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_parameters_of_other_types_are_refused(self, dtype: torch.dtype) -> None:
        with pytest.raises(ConfigError, match=r"\.float\(\)|Make it float32"):
            initial_model(lambda: nn.Linear(4, 2).to(dtype), 1)

    @pytest.mark.parametrize(
        ("factory", "inputs", "words"),
        [
            (lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2)), 9, "which are 0 to 9"),
            (lambda: nn.Sequential(nn.Linear(4, 4).half(), nn.Linear(4, 2)), 0.5, r"\.float\(\) on frozen parts"),
            (lambda: nn.Linear(5, 2), 0.5, "Make its forward suit"),
        ],
    )
    def test_examples_that_do_not_suit_are_told_with_what_helps(
        self, factory: Callable[[], nn.Module], inputs: float, words: str
    ) -> None:
        examples_ = np.zeros((20, 4), np.int64 if isinstance(inputs, int) else np.float32)
        examples_[3] = inputs
        with pytest.raises(ConfigError, match=words):
            outputs(factory(), examples_)

    def test_unscaled_inputs_widen_the_range_of_a_statistic(self) -> None:
        examples_ = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) * 5000
        begins = initial_model(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), 1, examples_)
        bits = {s.name: s.bound_bits for s in begins.tensors.statistics}
        assert bits["0.running_mean"] == 16 and 2 ** bits["0.running_var"] >= 8 * 5000**2

    def test_what_is_random_and_no_state_is_refused(self) -> None:
        class Lost(nn.Module):
            def __init__(self, persistent: bool) -> None:
                super().__init__()
                self.layer = nn.Linear(4, 2)
                self.register_buffer("order", torch.randperm(4), persistent=persistent)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.layer(x[:, self.order])

        class Noisy(nn.Linear):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x) + torch.randn(2)

        def same(factory: Callable[[], nn.Module]) -> None:
            inputs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
            require_reproducible(factory, factory, 1, inputs)

        same(lambda: Lost(True))
        with pytest.raises(ConfigError, match="persistent=True"):
            same(lambda: Lost(False))
        with pytest.raises(ConfigError, match="training mode alone"):
            same(lambda: Noisy(4, 2))


class TestFile:
    FILE = tensors.encode(
        {
            "mean": np.zeros(2, np.float32),
            "var": np.ones(2, np.float32),
            "table": np.arange(3, dtype=np.int32),
            "w": np.ones((2, 3), np.float32),
        },
        further=True,
    )

    def test_a_described_file_is_read_back(self) -> None:
        model = ModelFile.decode(self.FILE, TENSORS)
        assert (model.names, model.dimension, model.statistics) == (("w", "mean", "var"), 6, 4)
        assert model.fixed["table"].tolist() == [0, 1, 2]
        assert model.encode_whole() == self.FILE

    @pytest.mark.parametrize("lacking", ["mean", "var", "w"])
    def test_what_moves_must_be_there(self, lacking: str) -> None:
        named = {name: array for name, array in tensors.decode(self.FILE, further=True).items() if name != lacking}
        with pytest.raises(ContentUnreadableError):
            ModelFile.decode(tensors.encode(named, further=True), TENSORS)

    def test_other_types_are_for_what_is_fixed_alone(self) -> None:
        named = tensors.decode(self.FILE, further=True)
        for name, array in (("w", np.ones(3)), ("w", np.ones(3, np.int64)), ("var", np.ones(2))):
            with pytest.raises(ContentUnreadableError):
                ModelFile.decode(tensors.encode({**named, name: array}, further=True), TENSORS)
        with pytest.raises(ContentUnreadableError):
            ModelFile.decode(self.FILE)
        with pytest.raises(tensors.TensorFormatError):
            tensors.decode(self.FILE)

    def test_a_truth_value_is_zero_or_one(self) -> None:
        data = bytearray(tensors.encode({"mask": np.array([True, False])}, further=True))
        assert tensors.decode(bytes(data), further=True)["mask"].tolist() == [True, False]
        data[-1] = 2
        with pytest.raises(tensors.TensorFormatError):
            tensors.decode(bytes(data), further=True)

    @examples(50)
    @given(
        st.dictionaries(st.text(min_size=1, max_size=5).filter(lambda n: n.isalnum()), st.integers(0, 9), max_size=5)
    )
    def test_a_length_is_told_without_the_bytes(self, sizes: dict[str, int]) -> None:
        named = {name: np.zeros((n, 2), np.float32 if n % 2 else np.uint8) for name, n in sizes.items()}
        assert tensors.encoded_length(named) == len(tensors.encode(named))
