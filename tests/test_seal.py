"""Validation sets that are sealed, or opened block by block: what is stored, and what each round is judged on."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from fedledger.learning.metrics import HeldOut, measure
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.objectives.ranking import Ranking
from fedledger.learning.validation_set import (
    DrawnSlices,
    OpenedBlocks,
    by_class,
    dealt,
    drawn_slice,
    read_part,
    read_validation,
    write_blocks,
    write_validation,
)
from fedledger.learning.vectors import FlatModel
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.kept_validation import KeptValidation, new_seal_key, read_seal_key
from fedledger.platform.experiment.task_objective import TaskObjective, task_tolerance
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.encryption import MAGIC, OVERHEAD, decrypt, encrypt
from fedledger.protocol.errors import ConfigError, ContentUnreadableError, KeyStoreError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.seal import BlockIndex, SealSpec, drawn_block, key_digest
from fedledger.protocol.records.spec import TaskSpec, Tolerance
from support.small import write_config

KEY, OTHER = b"k" * 32, b"o" * 32
DIGEST = b"d" * 32
LABELS = np.repeat(np.arange(4), [50, 30, 12, 3])
INPUTS = np.arange(LABELS.size * 3, dtype=np.float32).reshape(-1, 3)


def seal(examples: int, size: int) -> SealSpec:
    return SealSpec(mode="opened", examples=examples, slice=size)


class TestEncryption:
    def test_the_key_alone_opens_what_it_encrypted(self) -> None:
        for text in (b"", b"a", bytes(100_000)):
            sealed = encrypt(KEY, text)
            assert decrypt(KEY, sealed) == text and len(sealed) == len(text) + OVERHEAD
            with pytest.raises(ContentUnreadableError, match="does not open"):
                decrypt(OTHER, sealed)

    def test_equal_texts_have_equal_ciphertexts_and_others_share_no_nonce(self) -> None:
        assert encrypt(KEY, b"a") == encrypt(KEY, b"a")
        nonces = {encrypt(key, text)[len(MAGIC) : len(MAGIC) + 24] for key in (KEY, OTHER) for text in (b"a", b"b")}
        assert len(nonces) == 4

    def test_no_byte_of_a_ciphertext_can_be_changed_or_left_out(self) -> None:
        sealed = encrypt(KEY, b"text")
        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            with pytest.raises(ContentUnreadableError):
                decrypt(KEY, bytes(changed))
            with pytest.raises(ContentUnreadableError):
                decrypt(KEY, sealed[:place])

    def test_content_of_one_setting_is_none_of_another(self) -> None:
        whole = write_validation(INPUTS, LABELS)
        kept = [KeptValidation.of((INPUTS, LABELS), access, 20, KEY) for access in ("public", "opened", "sealed")]
        public, index, ciphertext = (each.content for each in kept)
        assert public == whole
        for other in (index, ciphertext, kept[1].blocks[0]):
            with pytest.raises(ContentUnreadableError):
                read_validation(other)
        for other in (public, ciphertext):
            with pytest.raises(ContentUnreadableError):
                BlockIndex.decode(other, seal(95, 20))
        for other in (public, index):
            with pytest.raises(ContentUnreadableError):
                decrypt(KEY, other)


class TestSpec:
    def test_a_sealed_set_names_key_and_plaintext_and_an_opened_one_neither(self) -> None:
        plaintext = Ref.of(ContentRef.of(b"plain"))
        SealSpec(mode="sealed", examples=5, slice=2, key="ab" * 32, plaintext=plaintext)
        for wrong in (
            {"mode": "sealed"},
            {"mode": "sealed", "key": "ab" * 32},
            {"mode": "opened", "key": "ab" * 32, "plaintext": plaintext},
            {"mode": "opened", "slice": 6},
            {"mode": "opened", "slice": 0},
            {"mode": "opened", "examples": 2**30, "slice": 1},
            {"mode": "sealed", "key": "AB" * 32, "plaintext": plaintext},
        ):
            with pytest.raises(ValueError, match="validation error"):
                SealSpec.model_validate({"examples": 5, "slice": 2} | wrong)

    def test_a_ciphertext_has_the_length_of_its_plaintext(self) -> None:
        ref, plaintext = Ref.of(ContentRef.of(b"")), Ref.of(ContentRef.of(b"plain"))
        kept = SealSpec(mode="sealed", examples=5, slice=2, key="ab" * 32, plaintext=plaintext)
        given = {"name": "sealed", "rounds": 1, "initial_model": ref, "seal": kept}
        spec = TaskSpec(**given, validation=Ref.of(ContentRef.of(bytes(5 + OVERHEAD))))
        assert TaskSpec.decode(spec.encode()) == spec and spec.seal_digest == b"\xab" * 32
        with pytest.raises(ValueError, match="longer than its plaintext"):
            TaskSpec(**given, validation=ref)

    def test_an_index_has_the_blocks_that_the_spec_says(self) -> None:
        index = BlockIndex.of([b"a", b"b", b"c"])
        assert BlockIndex.decode(index.encode(), seal(5, 2)) == index
        named = tensors.decode(index.encode())
        digests, lengths = named["digests"], named["lengths"]
        for wrong in (
            {"digests": digests},
            {"digests": digests[:2], "lengths": lengths},
            {"digests": digests, "lengths": lengths[:2]},
            {"digests": digests[:, :31], "lengths": lengths},
            {"digests": digests, "lengths": -lengths},
            {"digests": digests, "lengths": np.full(3, 2**40)},
            {"digests": digests, "lengths": lengths.astype(np.float32)},
            {"digests": digests, "lengths": lengths, "more": lengths},
        ):
            with pytest.raises(ContentUnreadableError, match="index of the validation set"):
                BlockIndex.decode(tensors.encode(wrong), seal(5, 2))
        for size in (1, 3, 5):
            with pytest.raises(ContentUnreadableError, match="the spec says"):
                BlockIndex.decode(index.encode(), seal(5, size))

    @pytest.mark.parametrize("blocks", [1, 2, 7])
    def test_blocks_are_drawn_without_replacement_until_all_were_used(self, blocks: int) -> None:
        drawn = [drawn_block(DIGEST, index, blocks) for index in range(1, 3 * blocks + 1)]
        cycles = [drawn[start : start + blocks] for start in range(0, len(drawn), blocks)]
        assert all(sorted(cycle) == list(range(blocks)) for cycle in cycles)
        assert drawn != [drawn_block(b"e" * 32, index, blocks) for index in range(1, 3 * blocks + 1)] or blocks == 1

    def test_sizes_of_blocks_differ_by_one_at_most(self) -> None:
        for examples, size in ((95, 20), (95, 95), (95, 1), (10, 3)):
            kept = seal(examples, size)
            sizes = [kept.block_size(number) for number in range(kept.blocks)]
            assert sum(sizes) == examples and max(sizes) <= size and max(sizes) - min(sizes) <= 1


class TestDealing:
    def test_each_block_gets_its_part_of_every_class_and_each_example_is_dealt_once(self) -> None:
        parts = dealt(LABELS, 5, KEY)
        assert sorted(np.concatenate(parts).tolist()) == list(range(95))
        assert [len(part) for part in parts] == [seal(95, 20).block_size(number) for number in range(5)]
        counts = np.array([np.bincount(LABELS[part], minlength=4) for part in parts])
        assert (counts.max(0) - counts.min(0) <= 1).all()
        assert any((a != b).any() for a, b in zip(parts, dealt(LABELS, 5, OTHER), strict=True))

    def test_targets_without_classes_are_dealt_too(self) -> None:
        for targets in (np.linspace(0, 1, 10, dtype=np.float32), np.zeros((10, 3), np.int64)):
            assert sorted(np.concatenate(dealt(targets, 3, KEY)).tolist()) == list(range(10))

    def test_equal_examples_in_two_sets_have_other_digests_in_each(self) -> None:
        digests = {
            ContentRef.of(b).cid for key in (KEY, OTHER) for b in write_blocks(INPUTS, LABELS, seal(95, 20), key)
        }
        assert len(digests) == 10
        plain = KeptValidation.of((INPUTS, LABELS), "sealed", 20, KEY).seal
        other = KeptValidation.of((INPUTS, LABELS), "sealed", 20, OTHER).seal
        assert plain is not None and other is not None and plain.plaintext != other.plaintext


class TestSlices:
    @pytest.mark.parametrize("size", [1, 4, 7, 16, 32, 94])
    def test_a_slice_has_as_many_of_each_class_as_it_has(self, size: int) -> None:
        places = drawn_slice(by_class(LABELS), size, Stream(DIGEST))
        assert len(places) == len(set(places)) == size and places == sorted(places)
        counts = Counter(LABELS[places].tolist())
        present = Counter(LABELS.tolist())
        short = [c for c in range(4) if counts[c] < present[c]]
        assert max((counts[c] for c in short), default=0) - min((counts[c] for c in short), default=0) <= 1
        assert all(counts[c] <= min(counts[s] for s in short) for c in range(4) if c not in short and short)

    def test_slices_follow_from_spec_and_round(self) -> None:
        whole = HeldOut(INPUTS, LABELS)
        first, second = DrawnSlices(whole, 16, DIGEST), DrawnSlices(whole, 16, DIGEST)
        inputs = [first.judging(index).inputs for index in (1, 2, 3)]
        assert all((second.judging(index).inputs == inputs[index - 1]).all() for index in (3, 1, 2))
        assert not (inputs[0] == inputs[1]).all() and len(first.judging(1)) == 16
        assert first.final(1) is whole and first.judging(2) is first.judging(2)
        assert not (DrawnSlices(whole, 16, b"e" * 32).judging(1).inputs == inputs[0]).all()

    def test_a_slice_as_large_as_the_set_is_the_set(self) -> None:
        whole = HeldOut(INPUTS, LABELS)
        assert DrawnSlices(whole, 95, DIGEST).judging(4) is whole

    @pytest.mark.parametrize("method", ["lenet@1", "mlp@1"])
    def test_part_of_a_set_gives_the_figures_of_a_set_of_its_own(self, method: str) -> None:
        rng = np.random.default_rng(3)
        image = method == "lenet@1"
        inputs = rng.random((60, 1, 28, 28) if image else (60, 4), np.float32)
        labels = rng.integers(0, 10, 60)
        params = {} if image else {"inputs": 4, "hidden": [5], "classes": 10}
        model = FlatModel(build_model(method, params))
        initial = model.vector()
        vectors = [initial + np.float32(0.02) * rng.standard_normal(len(initial), np.float32) for _ in range(3)]
        whole, places = HeldOut(inputs, labels), [3, 4, 9, 30, 31, 59]
        before = measure(model, vectors, whole)
        found = measure(model, vectors, whole.part(places))
        assert found == measure(model, vectors, HeldOut(inputs[places], labels[places])) != before


class TestBlocks:
    def test_a_round_opens_one_block_and_loads_it_once(self) -> None:
        kept, loaded = seal(95, 20), list[int]()
        blocks = write_blocks(INPUTS, LABELS, kept, KEY)

        def load(number: int) -> bytes:
            loaded.append(number)
            return blocks[number]

        opened = OpenedBlocks(kept, load, DIGEST, CLASSIFICATION)
        for index in range(1, 6):
            number = drawn_block(DIGEST, index, 5)
            assert opened.opened(index) == blocks[number]
            assert len(opened.judging(index)) == len(opened.final(index)) == kept.block_size(number)
        assert sorted(loaded) == [0, 1, 2, 3, 4]

    def test_a_block_of_another_size_or_without_salt_is_none(self) -> None:
        block = write_blocks(INPUTS, LABELS, seal(95, 20), KEY)[0]
        assert len(read_part(block, 19, CLASSIFICATION)) == 19
        for size in (18, 20, 95):
            with pytest.raises(ContentUnreadableError, match="19 examples"):
                read_part(block, size, CLASSIFICATION)
        named = dict(tensors.decode(block))
        for salt in (named["salt"][:31], named["salt"].astype(np.int64)):
            with pytest.raises(ContentUnreadableError, match="salt"):
                read_part(tensors.encode({**named, "salt": salt}), 19, CLASSIFICATION)
        with pytest.raises(ContentUnreadableError):
            read_part(write_validation(INPUTS[:19], LABELS[:19]), 19, CLASSIFICATION)

    def test_there_are_as_many_blocks_as_rounds_at_most(self) -> None:
        many = np.zeros((65_536, 1), np.float32), np.zeros(65_536, np.int64)
        with pytest.raises(ConfigError, match=r"65,535 blocks of 1.*validation_slice"):
            KeptValidation.of(many, "opened", 1, KEY)
        with pytest.raises(ConfigError, match="no example"):
            KeptValidation.of((INPUTS[:0], LABELS[:0]), "sealed", 1, KEY)


class TestKeys:
    def test_a_key_is_for_its_owners_eyes_only(self, tmp_path: Path) -> None:
        path = tmp_path / "seal.key"
        key = new_seal_key(path)
        assert path.stat().st_mode & 0o777 == 0o600 and len(key) == 32 and read_seal_key(path) == key
        assert new_seal_key(tmp_path / "other.key") != key
        with pytest.raises(KeyStoreError, match="cannot be written"):
            new_seal_key(path)

    @pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "0x" + "ab" * 32, "ab" * 33, "é" * 64])
    def test_what_is_no_key_is_refused_and_not_repeated(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "seal.key"
        path.write_text(text)
        with pytest.raises(KeyStoreError, match="Ask the task's publisher") as error:
            read_seal_key(path)
        assert not text or text not in str(error.value)
        with pytest.raises(KeyStoreError, match="No such file"):
            read_seal_key(tmp_path / "none.key")

    def test_a_set_under_another_key_is_the_same_set(self) -> None:
        for access in ("opened", "sealed"):
            first = KeptValidation.of((INPUTS, LABELS), access, 20, KEY)
            other = first.under(OTHER)
            assert other == KeptValidation.of((INPUTS, LABELS), access, 20, OTHER) != first
            assert other.under(KEY) == first and first.seal is not None
            assert first.seal.fits(KEY) == (access == "sealed") and not first.seal.fits(OTHER)
        assert first.seal.key == key_digest(KEY).hex()
        public = KeptValidation.of((INPUTS, LABELS), "public", 20, KEY)
        assert public.under(OTHER) is public


def test_a_rule_that_publishes_what_it_learns_from_the_set_takes_a_public_one(tmp_path: Path) -> None:
    rule = 'aggregation = { method = "fltrust@1" }'
    for access in ("opened", "sealed"):
        config = write_config(tmp_path, extra=rule, data=f'validation_access = "{access}"')
        with pytest.raises(ConfigError, match='validation_access = "public"'):
            make_experiment(load_config(config), tmp_path)


@pytest.mark.parametrize(("access", "fewest"), [("public", 95), ("opened", 19), ("sealed", 20)])
def test_the_tolerance_of_a_score_is_that_of_the_fewest_examples_it_is_measured_on(access: str, fewest: int) -> None:
    kept = KeptValidation.of((INPUTS, LABELS), access, 20, KEY)
    found = TaskObjective(Ranking(score="ndcg"), Method(method="ranking@1"))
    assert min(map(len, kept.judged())) == fewest
    assert task_tolerance(Tolerance(), found, kept.judged()).score == -(-2_000_000 // fewest)
    # What a spec says is the same for whoever lacks the key.
    assert all((a == b).all() for a, b in zip(kept.judged(), kept.under(OTHER).judged(), strict=True))


@pytest.mark.parametrize("access", ["opened", "sealed"])
def test_an_area_under_the_curve_takes_slices_with_pairs(tmp_path: Path, access: str) -> None:
    made = []
    for size in (20, 1):
        config = tmp_path / "config.toml"
        config.write_text(AUC.format(access=access, size=size))
        with nullcontext() if size > 1 else pytest.raises(ConfigError, match=r"larger data\.validation_slice"):
            made.append(make_experiment(load_config(config), tmp_path))
    by_round = made[0].validation.by_round(made[0].spec, made[0].objective)
    assert all(by_round.judging(index).full_score for index in range(1, 6))


AUC = """
name = "auc"
participants = 3
model = {{ method = "mlp@1", params = {{ inputs = 30, hidden = [], classes = 2 }} }}
[training]
objective = {{ method = "classification@1", params = {{ score = "auc" }} }}
[data]
source = {{ method = "breast_cancer@1" }}
partition = {{ method = "iid@1" }}
validation_access = "{access}"
validation_slice = {size}
"""
