"""Flat vectors, models, data sets, metrics and a task's own code."""

import gzip
import math
import struct
import traceback
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset, split
from fedledger.learning.fast import convolution_patches
from fedledger.learning.fast.pooling import HalvingMaxPool2d
from fedledger.learning.metrics import (
    LOSS_CAP,
    HeldOut,
    confusion_matrix,
    evaluate,
    loss_in_millionths,
    measure,
    per_class_accuracy,
    predict,
)
from fedledger.learning.models.base import build_model
from fedledger.learning.models.initial import initial_model
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.sources.mnist_idx import read_idx
from fedledger.learning.task_code import load_task_code
from fedledger.learning.vectors import ALIGNMENT, FlatModel
from fedledger.protocol.errors import ConfigError, TrustError
from fedledger.protocol.records.measurement import Measurement


def bare_model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


class TestVectors:
    def test_layout_is_sorted_aligned_and_leaves_integer_buffers_out(self):
        layout = FlatModel(bare_model()).layout
        assert layout.names == tuple(sorted(layout.names))
        assert "1.running_var" in layout.names
        assert "1.num_batches_tracked" not in layout.names
        assert layout.dimension == 5 * 7 + 7 + 4 * 7 + 7 * 3 + 3
        assert all(offset % ALIGNMENT == 0 for offset in layout.offsets)
        by_name = dict(zip(layout.names, layout.offsets, strict=True))
        assert by_name["3.weight"] < layout.trainable <= by_name["1.running_mean"]

    def test_every_parameter_buffer_and_gradient_lies_in_a_flat_tensor_on_64_bytes(self):
        flat = FlatModel(bare_model())
        lowest = flat.trainable.data_ptr()
        for name, tensor in flat.module.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                assert tensor.data_ptr() % 64 == 0, name
                assert lowest <= tensor.data_ptr() < lowest + 4 * flat.layout.length
        flat.module(torch.randn(4, 5)).square().sum().backward()
        ends = flat.gradient.data_ptr(), flat.gradient.data_ptr() + 4 * len(flat.gradient)
        for parameter in flat.module.parameters():
            assert ends[0] <= parameter.grad.data_ptr() < ends[1]
        total = sum(float(parameter.grad.double().square().sum()) for parameter in flat.module.parameters())
        assert float(flat.gradient.double().square().sum()) == pytest.approx(total)

    def test_vector_equals_the_state_in_order_of_names(self):
        module = bare_model()
        expected = np.concatenate(
            [
                value.detach().numpy().ravel()
                for name, value in sorted(module.state_dict().items())
                if value.is_floating_point()
            ]
        )
        flat = FlatModel(module)
        assert flat.vector().dtype == np.float32
        np.testing.assert_array_equal(flat.vector(), expected)

    def test_load_and_names_round_trip(self):
        flat = FlatModel(bare_model())
        vector = np.arange(flat.layout.dimension, dtype=np.float32)
        flat.load(vector)
        np.testing.assert_array_equal(flat.vector(), vector)
        named = flat.named(vector)
        np.testing.assert_array_equal(named["3.weight"], flat.module[3].weight.detach().numpy())
        np.testing.assert_array_equal(flat.from_named(dict(reversed(named.items()))), vector)
        padding = flat.trainable.clone()
        for offset, size in zip(flat.layout.offsets, flat.layout.sizes, strict=True):
            padding[offset : offset + size] = 0
        assert not padding.any()

    def test_forward_equals_the_bare_module(self):
        batch = torch.randn(6, 5)
        expected = bare_model()(batch)
        np.testing.assert_array_equal(FlatModel(bare_model()).module(batch).detach(), expected.detach())

    def test_wrong_vectors_and_tensors_are_refused(self):
        flat = FlatModel(bare_model())
        named = flat.named(flat.vector())
        with pytest.raises(ConfigError, match="float32"):
            flat.load(flat.vector().astype(np.float64))
        with pytest.raises(ConfigError, match="float32"):
            flat.load(flat.vector()[1:])
        with pytest.raises(ConfigError, match=r"3\.bias"):
            flat.from_named({name: value for name, value in named.items() if name != "3.bias"})
        with pytest.raises(ConfigError, match="extra"):
            flat.from_named(named | {"extra": named["3.bias"]})
        with pytest.raises(ConfigError, match=r"3\.bias"):
            flat.from_named(named | {"3.bias": named["3.bias"][:1]})
        with pytest.raises(ConfigError, match="float64"):
            FlatModel(bare_model().double())
        with pytest.raises(ConfigError, match="uninitialised"):
            FlatModel(nn.LazyLinear(3))
        with pytest.raises(ConfigError, match="no trainable"):
            FlatModel(nn.Linear(2, 2).requires_grad_(False))

    def test_tied_parameters_stay_tied_and_travel_once(self):
        module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        module[1].weight = module[0].weight
        flat = FlatModel(module)
        assert flat.layout.dimension == 16
        flat.load(np.arange(16, dtype=np.float32))
        assert torch.equal(module[0].weight, module[1].weight)

    def test_buffers_that_forward_assigns_are_not_lost_and_others_return_to_their_start(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(1))
                self.register_buffer("seen", torch.zeros(1))
                self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

            def forward(self, x):
                self.seen = self.seen + len(x)
                self.calls += 1
                return x * self.weight

        flat = FlatModel(Counting())
        start = flat.vector()
        flat.module(torch.ones(3, 1))
        assert flat.named(flat.vector())["seen"] == 3
        flat.load(start)
        assert float(flat.module.seen) == 0
        assert int(flat.module.calls) == 0


class TestModels:
    @pytest.mark.parametrize(
        ("key", "params", "shape", "dimension"),
        [
            ("mlp@1", {"inputs": 64, "hidden": [32], "classes": 10}, (64,), 65 * 32 + 33 * 10),
            ("logistic_regression@1", {"inputs": 30, "classes": 2}, (30,), 62),
            ("lenet@1", {}, (1, 28, 28), 61706),
            ("lenet@1", {"image_side": 32, "channels": 3, "classes": 5}, (3, 32, 32), 82701),
        ],
    )
    def test_number_of_parameters_and_output_shape(self, key, params, shape, dimension):
        flat = FlatModel(build_model(key, params))
        assert flat.layout.dimension == dimension
        logits = flat.module(torch.zeros(2, *shape))
        assert logits.shape == (2, params.get("classes", 10))

    def test_the_initial_model_repeats_and_leaves_the_global_generator_alone(self):
        def factory():
            return build_model("mlp@1", {"inputs": 8, "hidden": [4], "classes": 3})

        torch.manual_seed(0)
        state = torch.get_rng_state()
        first, again, other = (initial_model(factory, seed).file.vector for seed in (2**70 + 5, 2**70 + 5, 6))
        assert torch.equal(torch.get_rng_state(), state)
        assert first.tobytes() == again.tobytes() != other.tobytes()

    @pytest.mark.parametrize("shape", [(2, 3, 28, 28), (3, 5, 7, 9), (1, 1, 2, 3), (4, 6, 5)])
    def test_pooling_gives_the_same_numbers_with_and_without_a_gradient(self, shape):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values[values.abs() < 0.3] = 0.0
        values[..., 0, 0], values[..., 1, 1], values[..., 0, 1] = torch.nan, torch.inf, -torch.inf
        wanted = nn.MaxPool2d(2)(values)
        with torch.inference_mode():
            found = HalvingMaxPool2d()(values)
        assert np.array_equal(found.numpy(), wanted.numpy(), equal_nan=True) and found.shape == wanted.shape

    @pytest.mark.parametrize(
        ("key", "params"),
        [
            ("mlp@2", {}),
            ("mlp@1", {"inputs": 8, "classes": 3}),
            ("mlp@1", {"inputs": 8, "hidden": [0], "classes": 3}),
            ("mlp@1", {"inputs": 8, "hidden": 4, "classes": 3}),
            ("mlp@1", {"inputs": 8, "hidden": [4], "classes": 3, "activation": "step"}),
            ("mlp@1", {"inputs": 8, "hidden": [4], "classes": 3, "width": 3}),
            ("logistic_regression@1", {"inputs": True, "classes": 3}),
            ("lenet@1", {"image_side": 11}),
        ],
    )
    def test_wrong_parameters_are_refused(self, key, params):
        with pytest.raises(ConfigError):
            build_model(key, params)


class TestMetrics:
    def model(self):
        return FlatModel(build_model("mlp@1", {"inputs": 4, "hidden": [6], "classes": 3}))

    def examples(self, n=50):
        rng = np.random.default_rng(1)
        return rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)

    def test_what_a_model_is_worth_does_not_depend_on_those_measured_with_it(self):
        flat, rng = self.model(), np.random.default_rng(2)
        for n in (1, 2, 7, 64, 129):
            held_out = HeldOut(*self.examples(n))
            vectors = list(rng.normal(size=(9, flat.layout.dimension)).astype(np.float32))
            alone = [evaluate(flat, [vector], held_out)[0] for vector in vectors]
            assert len({result.loss for result in alone}) == 9
            for m in (9, 8, 3, 2):
                assert evaluate(flat, vectors[:m], held_out) == alone[:m], "in all bits"
        assert evaluate(flat, [], held_out) == []

    def test_loss_and_accuracy_equal_numpy(self):
        flat, (inputs, labels) = self.model(), self.examples()
        vector = initial_model(lambda: self.model().module, 1).file.vector
        result = evaluate(flat, [vector], HeldOut(inputs, labels), batch=7)[0]
        flat.load(vector)
        logits = flat.module(torch.from_numpy(inputs)).detach().double().numpy()
        log_sums = np.log(np.exp(logits).sum(axis=1))
        expected = (log_sums - logits[np.arange(50), labels]).mean()
        assert result.loss == pytest.approx(expected, abs=1e-6)
        assert result.score == (logits.argmax(axis=1) == labels).sum()
        assert (result.full_score, result.share) == (50, result.score / 50)
        own = logits - logits.mean(axis=1, keepdims=True)
        by_class = [own[labels == c, c].mean() for c in np.unique(labels)]
        measured = measure(flat, [vector], HeldOut(inputs, labels))[0]
        assert (measured.loss, measured.score) == (round(result.loss * 1e6), result.score)
        assert measured.margin == pytest.approx(1e6 * np.mean(by_class), abs=1)

    def test_zero_model_gives_log_of_classes(self):
        flat, (inputs, labels) = self.model(), self.examples()
        zero = np.zeros(flat.layout.dimension, np.float32)
        # Of classes that tie, the first is told.
        expected = Measurement(round(np.log(3) * 1e6), int((labels == 0).sum()), 0)
        assert measure(flat, [zero], HeldOut(inputs, labels)) == [expected]

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
    def test_a_broken_model_measures_the_cap_and_is_right_about_nothing_it_cannot_say(self, value):
        flat, (inputs, labels) = self.model(), self.examples()
        vector = np.full(flat.layout.dimension, value, np.float32)
        vector[::3] *= -1
        [measured] = measure(flat, [vector], HeldOut(inputs, labels))
        assert measured.loss == LOSS_CAP and abs(measured.margin) <= LOSS_CAP
        if np.isnan(value):
            assert (measured.score, measured.margin) == (0, -LOSS_CAP)
            assert (predict(flat, vector, inputs) == -1).all()

    @pytest.mark.parametrize(
        "first",
        [
            [nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Tanh()],
            [nn.Flatten(), nn.Unflatten(1, (2, 9, 8)), nn.Conv2d(2, 5, 3)],
            [nn.Conv2d(2, 5, 3), nn.ReLU(), HalvingMaxPool2d()],
        ],
        ids=["strided", "reshaped", "pooled"],
    )
    def test_patches_that_are_kept_give_what_the_convolution_gives(self, first):
        rng = np.random.default_rng(3)
        inputs, labels = rng.normal(size=(30, 2, 9, 8)).astype(np.float32), rng.integers(0, 3, 30)
        module = nn.Sequential(*first, nn.Flatten(), nn.LazyLinear(3)).eval()
        module(torch.from_numpy(inputs))
        flat, held_out = FlatModel(module), HeldOut(inputs, labels)
        assert held_out.patches(flat.module) is not None
        for scale in (1.0, 0.3):
            vector = (scale * flat.vector()).astype(np.float32)
            for batch in (128, 7):
                [found] = evaluate(flat, [vector], held_out, batch)
                assert (predict(flat, vector, inputs) == labels).sum() == found.score
                with torch.inference_mode():
                    logits = flat.module(torch.from_numpy(inputs)).double()
                wanted = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
                assert found.loss == pytest.approx(float(wanted), rel=1e-5)

    @pytest.mark.parametrize("size", [1, 5 * 4 * 12 * 30 * 2, 1 << 30], ids=["alone", "in pairs", "together"])
    @pytest.mark.parametrize("agrees", [True, False])
    def test_many_models_get_the_bits_of_each_by_itself(self, monkeypatch, size, agrees):
        rng = np.random.default_rng(4)
        inputs, labels = rng.normal(size=(30, 2, 9, 8)).astype(np.float32), rng.integers(0, 3, 30)
        module = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), HalvingMaxPool2d(), nn.Flatten(), nn.Linear(45, 3))
        flat = FlatModel(module.eval())
        vectors = [rng.normal(size=flat.layout.dimension).astype(np.float32) for _ in range(7)]
        alone = [measure(flat, [vector], HeldOut(inputs, labels))[0] for vector in vectors]
        held_out = HeldOut(inputs, labels)
        monkeypatch.setattr(convolution_patches, "MOST_AT_ONCE", size)
        if not agrees:
            product, rows = torch.mm, len(flat.module[0].weight)
            # As of a library that adds up in another order where a matrix has more rows.
            monkeypatch.setattr(
                torch, "mm", lambda a, b: product(a, b) * (1 + 1e-6) if len(a) > rows else product(a, b)
            )
        for _ in range(3):
            assert measure(flat, vectors, held_out) == alone
        assert set(held_out.patches(flat.module).proved.values()) == (set() if size == 1 else {agrees})

    def test_pooling_before_what_rectifies_changes_nothing(self):
        values = torch.randn(2, 3, 6, 6)
        values[0, 0, 0], values[0, 1, 2], values[1] = torch.nan, torch.inf, -values[1].abs()
        rectifier, pooling, last = nn.ReLU(), HalvingMaxPool2d(), nn.Flatten()
        ordered = convolution_patches._ordered([rectifier, pooling, last])
        assert ordered == [pooling, rectifier, last]
        with torch.inference_mode():
            found, wanted = rectifier(pooling(values)), pooling(rectifier(values))
        np.testing.assert_array_equal(found, wanted)

    def test_patches_are_kept_only_where_they_stand_for_the_first_layer(self, monkeypatch):
        inputs, labels = np.zeros((4, 1, 6, 6), np.float32), np.zeros(4, np.int64)
        hooked, rest = nn.Conv2d(1, 2, 3), [nn.Flatten(), nn.Linear(32, 3)]
        hooked.register_forward_hook(lambda *_: None)
        plain = nn.Sequential(nn.Conv2d(1, 2, 3), *rest)
        others = [
            nn.Sequential(hooked, *rest),
            nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), *rest),
            nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), *rest),
            nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), *rest),
            nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), *rest),
            nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3), *rest),
            nn.Sequential(nn.Conv2d(4, 2, 3), *rest),
            nn.Sequential(nn.Conv2d(1, 2, 6), HalvingMaxPool2d(), *rest),
            nn.Sequential(nn.Flatten()),
            nn.Linear(6, 3),
        ]
        held_out = HeldOut(inputs, labels)
        assert held_out.patches(plain) is not None
        assert [held_out.patches(other) for other in others] == [None] * len(others)
        monkeypatch.setattr(convolution_patches, "MOST_BYTES", 4 * 9 * 16 * 4 - 1)
        assert HeldOut(inputs, labels).patches(plain) is None, "a byte too much"

    def test_rounding_to_millionths(self):
        values = [0.0, -1e-9, 1.25e-6, 2147.4836466, 3000.0, float("inf"), float("-inf"), float("nan")]
        expected = [0, 0, 1, LOSS_CAP, LOSS_CAP, LOSS_CAP, LOSS_CAP, LOSS_CAP]
        assert [loss_in_millionths(value) for value in values] == expected

    @given(st.floats())
    def test_every_double_has_millionths(self, loss):
        exact = round(Fraction(loss * 1e6 if abs(loss) < 1e300 else loss)) if math.isfinite(loss) else LOSS_CAP
        assert loss_in_millionths(loss) == min(max(exact, 0), LOSS_CAP)

    def test_evaluation_uses_and_restores_the_mode(self):
        flat = FlatModel(nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3)))
        inputs, labels = self.examples()
        flat.module.train()
        first = evaluate(flat, [flat.vector()], HeldOut(inputs, labels))
        assert flat.module.training
        assert evaluate(flat, [flat.vector()], HeldOut(inputs, labels)) == first

    def test_confusion_by_hand(self):
        predictions, labels = np.array([0, 1, 1, -1, 0]), np.array([0, 0, 1, 1, 0])
        np.testing.assert_array_equal(confusion_matrix(predictions, labels, 3), [[2, 1, 0], [0, 1, 0], [0, 0, 0]])
        np.testing.assert_array_equal(per_class_accuracy(predictions, labels, 3), [2 / 3, 1 / 2, np.nan])

    def test_what_cannot_be_evaluated_is_refused(self):
        flat, (inputs, labels) = self.model(), self.examples()
        with pytest.raises(ConfigError, match="no example"):
            HeldOut(inputs[:0], labels[:0])
        with pytest.raises(ConfigError, match="3 classes"):
            evaluate(flat, [flat.vector()], HeldOut(inputs, labels + 1))


class TestDataset:
    def test_malformed_arrays_are_refused(self):
        good, labels = np.zeros((3, 2), np.float32), np.array([0, 1, 1])
        for inputs, targets, groups in [
            (good.astype(np.float64), labels, None),
            (good[:, 0], labels, None),
            (good, labels[:2], None),
            (good, labels.astype(np.int32), None),
            (good, labels + 1, None),
            (good, labels - 1, None),
            (good + np.float32("nan"), labels, None),
            (good, labels, np.array(["a"])),
        ]:
            with pytest.raises(ConfigError, match="Not a data set"):
                Dataset(inputs, targets, 2, groups)
        with pytest.raises(ConfigError, match="whole"):
            Dataset.of(good, [0.5, 1, 1], classes=2)
        assert Dataset.of(good.tolist(), [0, 4, 1]).classes == 5

    def test_built_in_sets(self):
        digits, tumours = load_dataset("digits@1", {}), load_dataset("breast_cancer@1", {})
        assert (digits.inputs.shape, digits.classes) == ((1797, 64), 10)
        inputs, labels = load_digits(return_X_y=True)
        assert np.array_equal(digits.inputs, (inputs / 16).astype(np.float32))
        assert np.array_equal(digits.targets, labels)
        assert digits.inputs.min() == 0
        assert digits.inputs.max() == 1
        assert (tumours.inputs.shape, tumours.classes) == ((569, 30), 2)
        np.testing.assert_allclose(tumours.inputs.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(tumours.inputs.std(axis=0), 1, atol=1e-5)

    def test_split_is_disjoint_complete_stratified_and_repeats(self):
        n = 1000
        labels = np.repeat([0, 1, 2], [700, 290, 10])
        inputs = np.arange(n, dtype=np.float32)[:, None]
        dataset = Dataset(inputs, labels, 3, np.arange(n))
        parts = split(dataset, 0.2, 0.1, np.random.default_rng(7))
        assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [700, 100, 200]
        everything = np.concatenate([part.groups for part in parts])
        np.testing.assert_array_equal(np.sort(everything), np.arange(n))
        for part in parts:
            np.testing.assert_array_equal(part.inputs[:, 0], part.groups)
            shares = np.bincount(part.targets, minlength=3) / len(part)
            np.testing.assert_allclose(shares, [0.7, 0.29, 0.01], atol=0.02)
        again = split(dataset, 0.2, 0.1, np.random.default_rng(7))
        assert [part.groups.tobytes() for part in parts] == [part.groups.tobytes() for part in again]

    @pytest.mark.parametrize("fractions", [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.1), (0.01, 0.1), (float("nan"), 0.1)])
    def test_split_refuses_fractions_that_leave_a_part_empty(self, fractions):
        dataset = Dataset(np.zeros((10, 1), np.float32), np.zeros(10, np.int64), 2)
        with pytest.raises(ConfigError):
            split(dataset, *fractions, np.random.default_rng(0))


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


class TestIdx:
    def images(self):
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (6, 4, 5), dtype=np.uint8), np.array([0, 1, 2, 3, 9, 5], np.uint8)

    def test_plain_and_gzipped_files_load_alike(self, tmp_path):
        images, labels = self.images()
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), mtime=0))
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
        found = load_dataset("mnist_idx@1", {"folder": str(tmp_path)})
        assert found.inputs.shape == (6, 1, 4, 5)
        np.testing.assert_array_equal(found.inputs[:, 0], images.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(found.targets, labels)
        (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images[:2]))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels[:2]))
        assert len(load_dataset("mnist_idx@1", {"folder": str(tmp_path)})) == 2
        with pytest.raises(ConfigError, match="labels file"):
            name = "t10k-images-idx3-ubyte.gz"
            load_dataset("mnist_idx@1", {"folder": str(tmp_path), "images": name})

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0\0\x08",
            b"not an IDX file",
            struct.pack(">HBB4I", 0, 8, 4, *[2**32 - 1] * 4),
            struct.pack(">HBBI", 0, 8, 1, 2**31 - 1),
            struct.pack(">HBBI", 0, 8, 1, 3) + b"ab",
            struct.pack(">HBBI", 0, 8, 1, 3) + b"abcd",
            struct.pack(">HBBI", 0, 0x0D, 1, 1) + b"abcd",
            b"\0\0\x08\xff" + b"\0" * 64,
            gzip.compress(idx(np.zeros(1000, np.uint8)), mtime=0)[:-9],
            gzip.compress(idx(np.zeros(5, np.uint8)) + b"\0" * 10**6, mtime=0),
            b"\x1f\x8b" + b"\xff" * 30,
        ],
    )
    def test_hostile_files_are_refused(self, tmp_path, content):
        file = tmp_path / "labels-idx1"
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read as IDX"):
            read_idx(file)

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(ConfigError, match="images"):
            load_dataset("mnist_idx@1", {"folder": str(tmp_path)})
        with pytest.raises(ConfigError, match="nothing"):
            read_idx(tmp_path / "nothing")


class TestCsv:
    def write(self, folder, name, text):
        (folder / name).write_text(text)

    def test_tables_by_hand(self, tmp_path):
        self.write(tmp_path, "a.data", "age, none, flat, num\n1,?,5,0\n?,?,5,1\n\n")
        self.write(tmp_path, "b.data", "age, none, flat, num\n3,,5,2\n8,nan,5,0\n")
        self.write(tmp_path, "README.md", "not a table")
        found = load_dataset("csv@1", {"path": str(tmp_path), "label": "num", "threshold": 0})
        np.testing.assert_array_equal(found.targets, [0, 1, 1, 0])
        assert found.groups.tolist() == ["a.data", "a.data", "b.data", "b.data"]
        ages = np.array([1, 3, 3, 8])
        np.testing.assert_allclose(found.inputs[:, 0], (ages - ages.mean()) / ages.std(), rtol=1e-6)
        assert not found.inputs[:, 1:].any()
        several = load_dataset("csv@1", {"path": str(tmp_path), "label": "num"})
        assert (several.targets.tolist(), several.classes) == ([0, 1, 2, 0], 3)

    def test_named_groups_and_text_labels(self, tmp_path):
        self.write(tmp_path, "one.csv", "x;who;y\n1;ann;no\n2;bob;yes\n4;ann;no\n")
        params = {"path": str(tmp_path / "one.csv"), "label": "y", "delimiter": ";"}
        found = load_dataset("csv@1", params | {"group": "who"})
        assert found.groups.tolist() == ["ann", "bob", "ann"]
        assert (found.targets.tolist(), found.inputs.shape) == ([0, 1, 0], (3, 1))
        with pytest.raises(ConfigError, match="line 2, column who: 'ann'"):
            load_dataset("csv@1", params)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no row"),
            ("x,y\n", "no row"),
            ("x,y\n1,2\n3\n", "line 3"),
            ("x,x,y\n1,2,3\n", "same name"),
            ("x,z\n1,2\n", "no column 'y'"),
            ("x,y\n1,?\n", "label is missing"),
            ("x,y\ninf,1\n", "'inf' is not a float32 number"),
            ("y\n1\n", "no column besides"),
            ("x,y\n1e308,0\n-1e308,1\n", "'1e308' is not a float32 number"),
        ],
    )
    def test_malformed_tables_are_refused_by_place(self, tmp_path, text, message):
        self.write(tmp_path, "t.csv", text)
        with pytest.raises(ConfigError, match=message):
            load_dataset("csv@1", {"path": str(tmp_path / "t.csv"), "label": "y"})

    def test_other_headers_and_bytes_are_refused(self, tmp_path):
        self.write(tmp_path, "a.csv", "x,y\n1,2\n")
        self.write(tmp_path, "b.csv", "z,y\n1,2\n")
        with pytest.raises(ConfigError, match="different headers"):
            load_dataset("csv@1", {"path": str(tmp_path), "label": "y"})
        (tmp_path / "b.csv").write_bytes(b"x,y\n\xff\xfe,1\n")
        with pytest.raises(ConfigError, match="cannot be read as CSV"):
            load_dataset("csv@1", {"path": str(tmp_path), "label": "y"})
        with pytest.raises(ConfigError, match="no table"):
            load_dataset("csv@1", {"path": str(tmp_path / "none"), "label": "y"})


TASK = b"""
from __future__ import annotations
from dataclasses import dataclass
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

@dataclass
class Width:
    value: int = 3

def model():
    return torch.nn.Linear(2, Width().value)

def data():
    return [[0.0, 1.0], [1.0, 0.0]], [0, 2]
"""


class TestTaskCode:
    def test_trusted_code_gives_its_model_and_data(self):
        code = load_task_code(TASK, "bafkreigood", {"bafkreigood"})
        assert code.model().out_features == 3
        assert code.has_data
        assert code.data().train.classes == 3

    def test_code_that_is_not_trusted_does_not_run(self, tmp_path):
        mark = tmp_path / "ran"
        source = f"open({str(mark)!r}, 'w')\ndef model(): pass\n".encode()
        with pytest.raises(TrustError, match="--trust-code bafkreievil"):
            load_task_code(source, "bafkreievil", frozenset({"bafkreigood"}))
        assert not mark.exists()

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (b"def model(:", "SyntaxError"),
            (b"\xff\xfe\0", "task.py c raised"),
            (b"1 / 0", "ZeroDivisionError"),
            (b"import sys; sys.exit(3)", "SystemExit"),
            (b"x = 1", r"no model\(\)"),
            (b"model = 3", r"no model\(\)"),
        ],
    )
    def test_broken_code_is_refused_on_loading(self, source, message):
        with pytest.raises(ConfigError, match=message):
            load_task_code(source, "c", {"c"})

    def test_broken_functions_are_refused_on_calling_with_their_line(self):
        cid = "bafkreiabcdefghijk"
        code = load_task_code(b"def model():\n    raise KeyError('lost')  # here\n", cid, {cid})
        with pytest.raises(ConfigError, match=r"model\(\) of task.py .* raised KeyError") as caught:
            code.model()
        shown = "".join(traceback.format_exception(caught.value.__cause__))
        assert f'File "code@{cid}/task.py", line 2' in shown
        assert "# here" in shown
        with pytest.raises(ConfigError, match=r"no data\(\)"):
            code.data()
        with pytest.raises(ConfigError, match="returned int"):
            load_task_code(b"def model(): return 3", cid, {cid}).model()
