from __future__ import annotations

import hashlib
import json
import math
import pickle
import sys
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import rfc8785
from eth_abi import encode as abi_encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from fedledger.aggregator.round.batches import BatchError
from fedledger.contracts.abi import RevertedError
from fedledger.ledger_tools.audit.divergence import Divergence
from fedledger.ledger_tools.audit.replay import MissingContentError
from fedledger.platform.experiment.accounts import auditor_of_key
from fedledger.protocol.arithmetic.random_streams import Stream, derive_seed, generator, stream
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding import canonical, tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.tensors import TensorFormatError
from fedledger.protocol.errors import ConfigError, StoreError
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.methods.registry import Kind, Registry
from fedledger.protocol.records import signatures
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import PPM, Evidence
from fedledger.protocol.records.seal import SealSpec
from fedledger.protocol.records.settlement import apportion, pack_lengths, pack_words, unpack_lengths, unpack_words
from fedledger.protocol.records.spec import JudgementSpec, ReportedNumber, TaskSpec, TensorsSpec
from fedledger.protocol.records.spot_checks import CommittedData, SpotChecks, Windows
from fedledger.protocol.records.verdicts import Verdict
from support.examples import examples

quick = examples(60)
text = st.text(st.characters(codec="utf-8"), max_size=8)
whole = st.integers(-(2**53) + 1, 2**53 - 1)
# A whole number is exact up to 2^53, so a float beyond it would come back as an integer that is refused.
real = st.floats(-(2.0**53) + 1, 2.0**53 - 1)
documents = st.recursive(
    st.none() | st.booleans() | whole | real | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
arrays = st.sampled_from([np.float32, np.int64, np.uint8]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
named_arrays = st.dictionaries(text.filter(lambda name: name != "__metadata__"), arrays, max_size=4)


class TestCanonical:
    @quick
    @given(documents)
    def test_a_document_comes_back_and_has_one_encoding(self, document: object) -> None:
        data = canonical.encode(document)
        assert canonical.decode(data) == document == json.loads(data)
        assert canonical.encode(canonical.decode(data)) == data

    @quick
    @given(st.recursive(documents, lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=3), max_leaves=6))
    def test_it_is_that_of_the_reference_implementation(self, document: object) -> None:
        assert canonical.encode(document) == rfc8785.dumps(document)

    @pytest.mark.parametrize("character", [*map(chr, range(0x100)), "\u2028", "\ufeff", "\U0001f600"])
    def test_so_is_every_character(self, character: str) -> None:
        for document in (character, {character: [character]}, {"\uffff": 1, character: 2}):
            assert canonical.encode(document) == rfc8785.dumps(document)

    def test_the_example_of_the_rfc(self) -> None:
        # RFC 8785, section 3.2.2
        document = {
            "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": '\u20ac$\u000f\nA\'B"\\\\"/',
            "literals": [None, True, False],
        }
        expected = (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        )
        assert canonical.encode(document) == expected.encode()

    @pytest.mark.parametrize(
        "document", [math.nan, math.inf, 2**53, {1: 2}, b"x", {"a": object()}, "\ud800", {"\ud800": 1}]
    )
    def test_what_json_cannot_hold_is_refused(self, document: object) -> None:
        with pytest.raises(ConfigError, match="canonical"):
            canonical.encode(document)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b" 1",
            b"1.0",
            b"-0",
            b"1e400",
            b"NaN",
            b"\xff",
            b"\xef\xbb\xbf1",
            b'{"a":1,"a":1}',
            b'{"b":1,"a":1}',
            b'"\\u0041"',
            b'"\\ud800"',
            b"9" * 5000,
            b"[" * 100_000 + b"]" * 100_000,
        ],
        ids=lambda data: repr(data[:16]),
    )
    def test_other_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            canonical.decode(data)

    @pytest.mark.parametrize("opening", ["[", '{"a":', '["]",', '["\\\\",', '["\\"]",'])
    def test_a_deep_document_cannot_overflow_the_stack(self, opening: str) -> None:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(10**6)  # as cryptographic libraries do
        try:
            with pytest.raises(ValueError, match="deeper"):
                canonical.parse(opening * 500_000)
        finally:
            sys.setrecursionlimit(before)

    def test_nesting_is_counted_outside_of_strings_only(self) -> None:
        for inner in ('"' + "[" * 1000 + '"', json.dumps("\\" * 7 + '"' + "{" * 1000), ",".join(["[[]]"] * 99)):
            assert canonical.parse(f"[{inner}]") == json.loads(f"[{inner}]")
        assert canonical.parse("[" * 64 + "]" * 64) == json.loads("[" * 64 + "]" * 64)
        with pytest.raises(ValueError, match="deeper"):
            canonical.parse("[" * 65 + "]" * 65)

    def test_long_documents_are_refused(self) -> None:
        assert canonical.decode(b"[1,2]", limit=5) == [1, 2]
        with pytest.raises(ValueError, match="limit"):
            canonical.decode(b"[1,2]", limit=4)


def file(header: object, payload: bytes = b"") -> bytes:
    """A tensor file with any header, framed and padded as it should be."""
    raw = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + payload


def entry(shape: object = (2,), dtype: object = "F32", offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


class TestTensors:
    @quick
    @given(named_arrays)
    def test_the_safetensors_library_reads_what_is_written(self, named: dict[str, np.ndarray]) -> None:
        data = tensors.encode(named)
        for found in (safetensors_load(data), tensors.decode(data)):
            assert set(found) == set(named)
            for name, tensor in named.items():
                assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
                assert found[name].tobytes() == tensor.tobytes()

    @quick
    @given(named_arrays)
    def test_equal_tensors_have_equal_bytes(self, named: dict[str, np.ndarray]) -> None:
        data = tensors.encode(named)
        other = {name: tensor.astype(tensor.dtype.newbyteorder(">")) for name, tensor in reversed(named.items())}
        assert tensors.encode(other) == data == tensors.encode(tensors.decode(data))
        assert tensors.encode({name: np.array(tensor, order="F") for name, tensor in named.items()}) == data

    @quick
    @given(st.dictionaries(st.sampled_from("abcd"), hnp.arrays(np.float32, 3), min_size=1))
    def test_files_of_the_library_are_read_if_they_are_canonical(self, named: dict[str, np.ndarray]) -> None:
        data = safetensors_save(named)
        if data == tensors.encode(named):
            assert {name: tensor.tobytes() for name, tensor in tensors.decode(data).items()} == {
                name: tensor.tobytes() for name, tensor in named.items()
            }
        else:
            with pytest.raises(TensorFormatError):
                tensors.decode(data)

    @quick
    @given(named_arrays, st.data())
    def test_a_changed_byte_is_refused_or_changes_a_value(
        self, named: dict[str, np.ndarray], data: st.DataObject
    ) -> None:
        good = tensors.encode(named)
        place = data.draw(st.integers(0, len(good) - 1))
        bad = bytearray(good)
        bad[place] ^= data.draw(st.integers(1, 255))
        try:
            found = tensors.decode(bytes(bad))
        except TensorFormatError:
            return
        assert tensors.encode(found) == bytes(bad) != good

    @given(st.binary(max_size=200))
    def test_noise_is_refused(self, noise: bytes) -> None:
        for data in (noise, file(noise)):
            try:
                found = tensors.decode(data)
            except TensorFormatError:
                continue
            assert tensors.encode(found) == data

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            bytes(7),
            bytes(8),
            (2**63).to_bytes(8, "little") + b"{}",
            file([]),
            file(b"{"),
            file(b"\xff"),
            file(b"[" * 100_000),
            file({}, b"x"),
            file({"__metadata__": {"a": "b"}}),
            file({"__metadata__": entry()}, bytes(8)),
            file({"a": {**entry(), "more": 1}}, bytes(8)),
            file({"a": entry()}, bytes(7)),
            file({"a": entry()}, bytes(9)),
            file({"a": entry(offsets=(8, 16))}, bytes(16)),
            file({"a": entry(offsets=(0, 4))}, bytes(8)),
            file({"a": entry(dtype="F64", shape=[1])}, bytes(8)),
            file({"a": entry(dtype=["F32"])}, bytes(8)),
            file({"a": entry(shape=[True, 2])}, bytes(8)),
            file({"a": entry(shape=[2.0])}, bytes(8)),
            file({"a": entry(shape=[-1, -2])}, bytes(8)),
            file({"a": entry(shape=2)}, bytes(8)),
            file({"a": entry(shape=[1] * 9, offsets=(0, 4))}, bytes(4)),
            file({"a": entry(shape=[2**39] * 8)}, bytes(8)),
            file({"a": entry(shape=[0, 2**39, 2**39], offsets=(0, 0))}),
            file({"b": entry(), "a": entry(offsets=(8, 16))}, bytes(16)),
            file({"a": entry(), "b": entry()}, bytes(8)),
            file(b'{"a":%b,"a":%b}' % ((json.dumps(entry(), separators=(",", ":")).encode(),) * 2), bytes(8)),
            file(json.dumps({"a": entry()}).encode(), bytes(8)),
            file(b'{"a":' + b"9" * 5000 + b"}"),
            file(b"{}" + b" " * 8),
        ],
        ids=lambda data: repr(data[:90])[-60:],
    )
    def test_hostile_files_are_refused(self, data: bytes) -> None:
        with pytest.raises(TensorFormatError):
            tensors.decode(data)

    def test_views_cannot_be_written_to(self) -> None:
        tensor = tensors.decode(bytearray(tensors.encode({"a": np.ones(2, np.float32)})))["a"]
        with pytest.raises(ValueError, match="read-only"):
            tensor[0] = 0

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_, object])
    def test_other_dtypes_are_not_written(self, dtype: type) -> None:
        with pytest.raises(TypeError, match="dtype"):
            tensors.encode({"a": np.zeros(2, dtype)})

    @pytest.mark.parametrize("named", [{"__metadata__": np.zeros(1, np.uint8)}, {"a": np.zeros([1] * 9, np.uint8)}])
    def test_what_could_not_be_read_again_is_not_written(self, named: dict[str, np.ndarray]) -> None:
        with pytest.raises(ValueError, match="axes or a reserved name"):
            tensors.encode(named)


class TestStreams:
    def test_bytes_are_sha256_in_counter_mode(self) -> None:
        seed = bytes(range(32))
        blocks = b"".join(hashlib.sha256(seed + i.to_bytes(8, "big")).digest() for i in range(3))
        source = Stream(seed)
        assert source.bytes(5) + source.bytes(0) + source.bytes(60) == blocks[:65]

    def test_every_part_of_a_seed_counts_and_parts_do_not_run_together(self) -> None:
        spec = bytes(32)
        seeds = [
            derive_seed(spec, "a", 1, "0xab"),
            derive_seed(bytes(31) + b"\x01", "a", 1, "0xab"),
            derive_seed(spec, "b", 1, "0xab"),
            derive_seed(spec, "a", 2, "0xab"),
            derive_seed(spec, "a", 1, "0xac"),
            derive_seed(spec, "a", 1),
            derive_seed(spec + b"a", "", 1, "0xab"),
        ]
        assert len(set(seeds)) == len(seeds)
        assert derive_seed(spec, "a", 1, "0xAB") == seeds[0]

    def test_seeds_stay_as_they_are(self) -> None:
        # A recorded history must audit on every later version.
        parts = (b"fedledger/1", bytes(32), b"selection", (3).to_bytes(8, "big"), b"0xab")
        expected = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
        assert derive_seed(bytes(32), "selection", 3, "0xAB") == expected
        drawn = generator(bytes(32), "selection", 3, "0xAB").integers(0, 1000, 8)
        again = np.random.Generator(np.random.PCG64(int.from_bytes(expected, "big"))).integers(0, 1000, 8)
        assert (drawn == again).all()

    @quick
    @given(st.integers(1, 2**70), st.binary(min_size=32, max_size=32))
    def test_draws_lie_below_the_bound(self, bound: int, seed: bytes) -> None:
        assert 0 <= Stream(seed).below(bound) < bound

    @pytest.mark.parametrize("bound", [1, 2, 3, 6, 100, 127, 128, 129, 200, 255])
    def test_of_all_values_of_its_bytes_each_draw_comes_equally_often(self, bound: int) -> None:
        """Without rejection, small draws would come once more often than large ones."""
        values = iter(range(1 << 16))

        class Every(Stream):
            """A stream of all two bytes, in order."""

            def bytes(self, count: int) -> bytes:
                assert count == 2
                return next(values).to_bytes(2)

        source, counts = Every(bytes(32)), Counter[int]()
        with suppress(StopIteration):
            while True:
                counts[source.below(bound)] += 1
        assert counts == dict.fromkeys(range(bound), (1 << 16) // bound)

    def test_draws_and_samples_are_uniform(self) -> None:
        source = stream(b"spec", "uniformity")
        counts = Counter(source.below(6) for _ in range(6000))
        assert sum((counts[i] - 1000) ** 2 / 1000 for i in range(6)) < 20.5  # chi-squared, 5 degrees, p = 0.001
        orders = Counter(tuple(source.sample("abc", 2)) for _ in range(6000))
        assert set(orders) == set(permutations("abc", 2))
        assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 20.5

    @quick
    @given(st.lists(st.integers(), unique=True, max_size=20), st.data())
    def test_a_sample_is_a_subset_and_leaves_the_items_alone(self, items: list[int], data: st.DataObject) -> None:
        count, before = data.draw(st.integers(0, len(items))), list(items)
        sample = stream(b"spec", "sample").sample(items, count)
        assert len(set(sample)) == len(sample) == count
        assert set(sample) <= set(items)
        assert items == before


class TestSettlement:
    @quick
    @given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**41), max_size=12))
    def test_shares_sum_to_the_units_and_are_within_one_of_the_quota(self, units: int, scores: list[int]) -> None:
        shares = apportion(units, scores)
        total = sum(scores)
        assert sum(shares) == (units if total else 0)
        for share, score in zip(shares, scores, strict=True):
            assert abs(share - Fraction(units * score, total or 1)) < 1
            assert share == 0 or score > 0

    @quick
    @given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=2, max_size=8))
    def test_a_higher_score_never_earns_less_and_ties_go_to_the_earlier(self, units: int, scores: list[int]) -> None:
        shares = apportion(units, scores)
        for i in range(len(scores)):
            for j in range(i + 1, len(scores)):
                if scores[i] == scores[j]:
                    assert shares[i] - shares[j] in (0, 1)
                else:
                    assert (shares[i] - shares[j]) * (scores[i] - scores[j]) >= 0

    @pytest.mark.parametrize(
        ("units", "scores", "shares"),
        [
            (10, [1, 1, 1], [4, 3, 3]),
            (2, [1, 1, 1], [1, 1, 0]),
            (100, [47000, 16000, 15800, 12000, 6100, 3100], [47, 16, 16, 12, 6, 3]),  # the textbook's Hare quota
            (7, [0, 0], [0, 0]),
            (7, [], []),
            (0, [3, 4], [0, 0]),
            (5, [0, 2, 0], [0, 5, 0]),
        ],
    )
    def test_cases_by_hand(self, units: int, scores: list[int], shares: list[int]) -> None:
        assert apportion(units, scores) == shares

    @quick
    @given(
        st.dictionaries(
            st.integers(0, 40) | st.integers(0, 2**32 - 1),
            st.tuples(st.sampled_from([v for v in Verdict if v]), st.integers(0, 2**32 - 1)),
            max_size=20,
        )
    )
    def test_words_come_back(self, judged: dict[int, tuple[Verdict, int]]) -> None:
        verdicts = {participant: verdict for participant, (verdict, _) in judged.items()}
        shares = {participant: share for participant, (_, share) in judged.items()}
        verdict_words, share_words = pack_words(verdicts, shares)
        assert unpack_words(verdict_words, share_words) == (verdicts, shares)
        slots = [word >> 64 for word in verdict_words]
        assert slots == sorted({participant // 8 for participant in verdicts})
        assert all(word < 2**256 for word in (*verdict_words, *share_words))

    def test_words_by_hand(self) -> None:
        verdicts = {0: Verdict.ACCEPTED, 9: Verdict.LATE, 15: Verdict.NORM}
        verdict_words, share_words = pack_words(verdicts, {0: 7})
        assert verdict_words == [1, 1 << 64 | 34 << 56 | 3 << 8]
        assert share_words == [7, 0]

    def test_words_that_no_aggregator_may_post_are_refused(self) -> None:
        with pytest.raises(ValueError):
            unpack_words([5], [0])
        with pytest.raises(ValueError):
            unpack_words([1], [])

    @quick
    @given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
    def test_lengths_are_packed_eight_a_word_and_come_back(self, lengths: list[int]) -> None:
        updates = [ContentRef(bytes(32), length) for length in lengths]
        words = pack_lengths(updates)
        assert len(words) == (len(lengths) + 7) // 8
        assert unpack_lengths(words, len(lengths)) == lengths
        lanes = [word >> 32 * lane & 0xFFFFFFFF for word in words for lane in range(8)]
        assert lanes == [*lengths, *[0] * (-len(lengths) % 8)]


evidences = st.builds(Evidence, st.integers(0, 4095), st.integers(0, 4095), st.integers(0, 255))
judged = st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.NONE])


class TestReputation:
    @quick
    @given(evidences)
    def test_an_opinion_is_one(self, evidence: Evidence) -> None:
        opinion = evidence.opinion
        assert opinion.belief + opinion.disbelief + opinion.uncertainty == PPM
        assert min(opinion.belief, opinion.disbelief, opinion.uncertainty) >= 0
        assert 0 <= evidence.reputation <= PPM

    @quick
    @given(evidences)
    def test_an_opinion_is_the_paper_s_within_rounding(self, evidence: Evidence) -> None:
        unknown = 480 + 16 * evidence.missed
        u = Fraction(unknown, unknown + evidence.positive + evidence.negative)
        good, bad = Fraction(2, 5) * evidence.positive, Fraction(3, 5) * evidence.negative
        b = (1 - u) * good / (good + bad) if good + bad else Fraction(0)
        assert u <= Fraction(evidence.opinion.uncertainty, PPM) < u + Fraction(1, PPM)
        assert abs(Fraction(evidence.reputation, PPM) - (b + u / 2)) < Fraction(3, PPM)

    @quick
    @given(evidences, judged)
    def test_lanes_come_back_and_stay_in_their_bits(self, evidence: Evidence, verdict: Verdict) -> None:
        assert Evidence.unpack(evidence.pack()) == evidence
        after = evidence.after(verdict)
        assert 0 <= after.pack() < 2**32
        assert Evidence.unpack(after.pack()) == after
        assert evidence.after(Verdict.NONE) == evidence

    @quick
    @given(evidences)
    def test_refusal_hurts_more_than_absence_and_absence_launders_nothing(self, evidence: Evidence) -> None:
        good, absent, bad = (evidence.after(v) for v in (Verdict.ACCEPTED, Verdict.MISSED, Verdict.NORM))
        assert good.reputation >= bad.reputation
        assert absent.negative == evidence.negative
        assert absent.positive == good.positive - min(240, good.positive)
        assert evidence.after(Verdict.LATE) == absent

    def test_a_newcomer_stands_at_one_half(self) -> None:
        assert Evidence().reputation == PPM // 2

    def test_one_round_by_hand(self) -> None:
        # 240 of 720: uncertainty 2/3 rounded up, the rest is belief or disbelief.
        assert Evidence().after(Verdict.ACCEPTED).reputation == 333_333 + 333_333
        assert Evidence().after(Verdict.NORM).reputation == 333_333
        # 480 + 16 · 15 of the same: nothing is known, so one half stays.
        assert Evidence().after(Verdict.MISSED).reputation == PPM // 2

    def test_standings_after_many_rounds(self) -> None:
        def standing(*verdicts: Verdict) -> int:
            evidence = Evidence()
            for i in range(200):
                evidence = evidence.after(verdicts[i % len(verdicts)])
            return evidence.reputation

        always = standing(Verdict.ACCEPTED)
        turncoat = standing(Verdict.ACCEPTED, Verdict.NORM)
        assert always > 900_000 > standing(Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.NORM) > turncoat
        assert turncoat < 500_000 < always
        assert standing(Verdict.NORM) < 100_000


KEY = hashlib.sha256(b"key").digest()
ADDRESS = str(Account.from_key(KEY).address)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
digests = st.binary(min_size=32, max_size=32)


def message(round_index: int = 1, header: bytes = bytes(32)) -> signatures.SignableMessage:
    return signatures.update_message(bytes(32), round_index, ADDRESS, bytes(32), bytes(32), header)


class TestMessages:
    @quick
    @given(digests, st.integers(0, 2**32 - 1), digests, digests, digests)
    def test_the_message_is_eip712(self, spec: bytes, index: int, base: bytes, payload: bytes, header: bytes) -> None:
        kind = "Update(bytes32 spec,uint32 round,address participant,bytes32 base,bytes32 payload,bytes32 header)"
        types = ["bytes32", "bytes32", "uint32", "address", "bytes32", "bytes32", "bytes32"]
        body = keccak(abi_encode(types, [keccak(text=kind), spec, index, ADDRESS, base, payload, header]))
        domain_type = keccak(text="EIP712Domain(string name,string version)")
        domain = keccak(
            abi_encode(["bytes32"] * 3, [domain_type, keccak(text="fedledger"), keccak(text="1")]),
        )
        signable = signatures.update_message(spec, index, ADDRESS, base, payload, header)
        assert (signable.version, signable.header, signable.body) == (b"\x01", domain, body)

    @quick
    @given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1), st.integers(0, 2**32 - 1), st.data(), digests)
    def test_a_commitments_message_is_as_the_signing_library_makes_it(
        self, chain: int, task: int, index: int, data: st.DataObject, digest: bytes
    ) -> None:
        participant = data.draw(st.integers(0, 2**32 - 1))
        version = data.draw(st.sampled_from([2, signatures.LEDGER_VERSION]))
        domain = {"name": "fedledger", "version": str(version), "chainId": chain, "verifyingContract": ADDRESS}
        kinds = {"task": "uint256", "round": "uint32", "participant": "uint32", "commitment": "bytes32"}
        types = {"Commitment": [{"name": name, "type": kind} for name, kind in kinds.items()]}
        values = {"task": task, "round": index, "participant": participant, "commitment": digest}
        signable = signatures.commitment_message((chain, ADDRESS, task), index, participant, digest, version)
        assert signable == encode_typed_data(domain, types, values)

    @pytest.mark.parametrize(("index", "participant"), [(2**32, 0), (0, 2**32), (-1, 0), (0, -1)])
    def test_numbers_that_are_too_large_are_refused(self, index: int, participant: int) -> None:
        with pytest.raises(ValueError, match="is no uint32"):
            signatures.commitment_message((1, ADDRESS, 1), index, participant, bytes(32))

    def test_a_signature_names_its_signer_and_its_message(self) -> None:
        signature = signatures.sign(message(), KEY)
        assert signature == signatures.sign(message(), KEY)
        assert signatures.recover(message(), signature) == ADDRESS
        assert signatures.recover(message(round_index=2), signature) != ADDRESS
        assert signatures.recover(message(header=b"\x01" * 32), signature) != ADDRESS

    @quick
    @given(st.integers(1, ORDER - 1), digests)
    def test_signatures_are_those_of_the_account_library(self, secret: int, header: bytes) -> None:
        key, signed = secret.to_bytes(32, "big"), message(header=header)
        signature = signatures.sign(signed, key)
        assert signature == bytes(Account.sign_message(signed, key).signature)
        assert signatures.recover(signed, signature) == Account.from_key(key).address

    def test_malleable_signatures_are_refused(self) -> None:
        for index in range(8):
            signed = message(round_index=index)
            signature = signatures.sign(signed, KEY)
            s = int.from_bytes(signature[32:64], "big")
            mirrored = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - signature[64]])
            # The library takes the mirror image for a signature by the same key.
            assert Account.recover_message(signed, signature=mirrored) == ADDRESS
            assert signatures.recover(signed, mirrored) is None
            assert signatures.recover(signed, signature[:64] + bytes([signature[64] - 27])) is None

    @given(st.binary(max_size=70) | st.binary(min_size=64, max_size=64).map(lambda rs: rs + b"\x1b"))
    @example(bytes(65))
    @example(bytes(64) + b"\x1b")
    @example(b"\xff" * 64 + b"\x1c")
    def test_noise_is_nobodys_signature(self, noise: bytes) -> None:
        assert signatures.recover(message(), noise) != ADDRESS

    @pytest.mark.parametrize("place", range(4))
    def test_digests_of_another_length_are_refused(self, place: int) -> None:
        spec, base, payload, header = [bytes(31 if i == place else 32) for i in range(4)]
        with pytest.raises(ValueError, match="31 bytes"):
            signatures.update_message(spec, 1, ADDRESS, base, payload, header)

    @pytest.mark.parametrize("address", [ADDRESS.lower(), ADDRESS[:-1], "0x", ""])
    def test_addresses_are_checksummed(self, address: str) -> None:
        with pytest.raises(ValueError, match="checksum"):
            signatures.update_message(bytes(32), 1, address, bytes(32), bytes(32), bytes(32))

    @quick
    @given(digests, digests, digests, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
    def test_a_commitment_is_the_hash_of_nine_words(
        self, base: bytes, digest: bytes, salt: bytes, length: int, index: int
    ) -> None:
        def word(value: int | str) -> bytes:
            return (int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")

        contract = "0x" + "c0" * 20
        words = [word(31337), word(contract), word(5), word(index), word(ADDRESS), base, digest, word(length), salt]
        found = signatures.commitment((31337, contract, 5), index, ADDRESS, base, ContentRef(digest, length), salt)
        assert found == keccak(b"".join(words))

    def test_salts_repeat_but_only_in_their_place(self) -> None:
        contract = "0x" + "Cc" * 20
        places = [
            (KEY, 1, contract, 1, 1),
            (bytes(32), 1, contract, 1, 1),
            (KEY, 2, contract, 1, 1),
            (KEY, 1, "0x" + "dd" * 20, 1, 1),
            (KEY, 1, contract, 2, 1),
            (KEY, 1, contract, 1, 2),
            (KEY, 1, contract, 11, 1),
            (KEY, 1, contract, 1, 11),
        ]
        salts = [signatures.salt(key, (chain, ledger, task), index) for key, chain, ledger, task, index in places]
        assert len(set(salts)) == len(places)
        assert all(len(salt) == 32 for salt in salts)
        assert signatures.salt(KEY, (1, contract.lower(), 1), 1) == salts[0]


class TestModel:
    @quick
    @given(
        st.dictionaries(
            text.filter(lambda name: name != "__metadata__"),
            hnp.arrays(
                np.float32,
                hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
                elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_a_model_is_one_vector_in_the_order_of_names(self, named: dict[str, np.ndarray]) -> None:
        model = ModelFile.of(named)
        assert model.vector.tobytes() == b"".join(named[name].tobytes() for name in sorted(named))
        data = model.encode()
        assert data == tensors.encode(named)
        again = ModelFile.decode(data)
        assert (again.names, again.shapes) == (model.names, model.shapes)
        assert again.vector.tobytes() == model.vector.tobytes()

    def test_another_vector_takes_the_shapes(self) -> None:
        model = ModelFile.of({"b": np.zeros((2, 2), np.float32), "a": np.zeros(1, np.float32)})
        named = tensors.decode(model.moved(np.arange(5, dtype=np.float32)).encode())
        assert named["a"].tolist() == [0]
        assert named["b"].tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize(
        "data", [b"", b"junk", tensors.encode({}), tensors.encode({"a": np.zeros(1, np.int64)})], ids=range(4)
    )
    def test_other_bytes_are_no_model(self, data: bytes) -> None:
        with pytest.raises(StoreError, match="model"):
            ModelFile.decode(data)


REF = Ref.of(ContentRef.of(b"content"))
SPEC = TaskSpec(name="small", rounds=3, initial_model=REF, validation=REF)
AUDITORS = [auditor_of_key(bytes([i]) * 32) for i in (1, 2)]


class TestSpec:
    @quick
    @given(
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
        seed=st.integers(0, 2**53 - 1),
        rounds=st.integers(1, 65_535),
        bound=st.floats(1e-3, 65_536.0),
        params=st.dictionaries(text, documents, max_size=3),
    )
    def test_a_spec_comes_back_with_its_digest(
        self, name: str, seed: int, rounds: int, bound: float, params: dict[str, object]
    ) -> None:
        spec = SPEC.model_copy(
            update={
                "name": name,
                "seed": seed,
                "rounds": rounds,
                "fixed_point": SPEC.fixed_point.model_copy(update={"bound": bound}),
                "aggregation": Method(method="mean@1", params=params),
            }
        )
        again = TaskSpec.decode(spec.encode())
        assert again == spec
        assert again.digest == spec.digest == hashlib.sha256(spec.encode()).digest()

    def test_every_field_enters_the_digest(self) -> None:
        changes: dict[str, object] = {
            "name": "other",
            "seed": 1,
            "rounds": 4,
            "randomness": "beacon",
            "model": Method(method="mlp@1"),
            "code": REF,
            "devices": REF,
            "data_schema": REF,
            "objective": Method(method="other@1"),
            "tensors": TensorsSpec(fixed=["table"]),
            "lower_is_better": True,
            "initial_model": Ref.of(ContentRef.of(b"other")),
            "validation": Ref.of(ContentRef.of(b"other")),
            "seal": SealSpec(mode="opened", examples=5, slice=2),
            "detection": [Method(method="norm@1")],
            "mixing": Method(method="mixing@1"),
            "vectors": ["control"],
            "payload": [VectorSpec(name="delta", codec=Method(method="top_k@1", params={"k": 1}))],
            "transforms": [Method(method="clip@1", params={"bound": 1.0})],
            "normalisation": Method(method="fednova@1"),
            "staleness": Method(method="fedbuff@1"),
            "schedule": Method(method="synchronous@1"),
            "evidence": Method(method="work@1"),
            "judgement": JudgementSpec(claims="median"),
            "limits": SPEC.limits.model_copy(update={"max_examples": 5}),
            "fixed_point": SPEC.fixed_point.model_copy(update={"bound": 5.0}),
            "reputation": SPEC.reputation.model_copy(update={"gate": 5}),
            "reputation_model": Method(method="beta@1"),
            "mechanism": Method(method="fixed@1", params={"price": 1}),
            "report": [ReportedNumber(name="cost", most=5)],
            "bidding": 5,
            "stopping": SPEC.stopping.model_copy(update={"patience": 5}),
            "tolerance": SPEC.tolerance.model_copy(update={"loss": 5}),
            "measurement": "exact",
            "committed_data": CommittedData(every=5),
            "spot_checks": SpotChecks(auditors=AUDITORS, windows=Windows(steps=5)),
        }
        methods = ("solver", "selection", "aggregation", "optimiser", "contribution")
        changes |= {field: Method(method="other@2") for field in methods}
        assert set(changes) | {"schema_version", "protocol"} == set(TaskSpec.model_fields)
        # A copy does not take over what its original has worked out before.
        digests = {SPEC.digest, *(SPEC.model_copy(update={field: value}).digest for field, value in changes.items())}
        assert len(digests) == len(changes) + 1

    def test_fields_that_came_later_are_left_out_while_they_have_their_defaults(self) -> None:
        later = {"vectors": ["control"], "normalisation": Method(method="fednova@1", params={"max_steps": 9})}
        assert not set(later) & set(SPEC.model_dump())
        assert not any(name.encode() in SPEC.encode() for name in later)
        spec = SPEC.model_copy(update=later)
        assert TaskSpec.decode(spec.encode()) == spec
        assert later["vectors"] == spec.model_dump()["vectors"]

    @pytest.mark.parametrize("field", ["vectors", "normalisation"])
    def test_a_default_that_is_left_out_is_refused_where_it_is_named(self, field: str) -> None:
        default = TaskSpec.model_fields[field].get_default(call_default_factory=True)
        with pytest.raises(ConfigError, match="the other way round"):
            TaskSpec.decode(canonical.encode({**SPEC.model_dump(), field: default}))

    @pytest.mark.parametrize("names", [["delta"], ["b", "a"], ["a", "a"], ["Control"], [""], list("abcdefgh")])
    def test_names_of_vectors_are_few_plain_and_in_order(self, names: list[str]) -> None:
        with pytest.raises(ConfigError, match="vectors"):
            validated(TaskSpec, {**SPEC.model_dump(), "vectors": names}, "the spec")

    @pytest.mark.parametrize("version", [0, 2, "1", None, True])
    def test_another_schema_version_is_refused(self, version: object) -> None:
        document = {**SPEC.model_dump(), "schema_version": version}
        with pytest.raises(ConfigError, match="spec"):
            TaskSpec.decode(canonical.encode(document))

    @pytest.mark.parametrize("data", [b"", b"[]", b"1", SPEC.encode() + b" ", json.dumps(SPEC.model_dump()).encode()])
    def test_other_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigError, match="spec"):
            TaskSpec.decode(data)

    def test_devices_are_left_out_while_there_are_none(self) -> None:
        assert b"devices" not in SPEC.encode()
        with_devices = SPEC.model_copy(update={"devices": REF})
        assert TaskSpec.decode(with_devices.encode()) == with_devices
        with pytest.raises(ConfigError, match="other way round"):
            TaskSpec.decode(canonical.encode({**SPEC.model_dump(), "devices": None}))

    def test_a_field_left_out_is_refused(self) -> None:
        document = SPEC.model_dump()
        del document["tolerance"]
        with pytest.raises(ConfigError, match="leaves out"):
            TaskSpec.decode(canonical.encode(document))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"agregation": {"method": "mean@1"}}, "'agregation'.*Did you mean 'aggregation'"),
            ({"rounds": 0, "agregation": {"method": "mean@1"}}, "'agregation'.*Did you mean 'aggregation'"),
            ({"limits": {"max_update_byte": 1}}, "'limits.max_update_byte'.*Did you mean 'max_update_bytes'"),
            ({"detection": [{"methd": "norm@1", "method": "norm@1"}]}, "'detection.0.methd'.*Did you mean 'method'"),
            ({"mixing": {"method": "m@1", "parms": {}}}, "'mixing.parms'.*Did you mean 'params'"),
            ({"mixing": {"method": "m"}}, "mixing.method is 'm', which is no name@version"),
            ({"mixing": {"method": "M" * 10_000}}, "mixing.method is 'M{80}', which is no name@version"),
            ({"mixing": "m@1"}, "mixing is 'm@1', which is no table .*Give { method = 'm@1' }"),
            ({"zzz": 1}, "'zzz'.*Known keys: aggregation"),
            ({"rounds": 0}, "rounds"),
            ({"rounds": 65_536}, "rounds"),
            ({"seed": 2**53}, "seed"),
            ({"solver": {"method": "sgd"}}, "solver.method"),
            ({"randomness": "dice"}, "randomness"),
            ({"initial_model": {"cid": "x"}}, "initial_model.length"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_what_is_wrong_is_named(self, change: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            validated(TaskSpec, {**SPEC.model_dump(), **change}, "the spec")

    def test_a_reference_comes_back(self) -> None:
        assert REF.ref == ContentRef.of(b"content")
        with pytest.raises(ValueError, match="is not a CID of 2097152 bytes"):
            Ref(cid=REF.cid, length=2**21)
        with pytest.raises(ValueError, match="is spelt in another way"):
            Ref(cid="zb2rhnd8t1gYEQMzhAEB1VRfejM2jkcSLEazTMCut6HpRUUgz", length=7)


class TestRegistry:
    def test_methods_are_found_by_name_and_version(self) -> None:
        registry: Registry[int] = Registry(Kind("number", "nothing", ""))
        registry.register("one@1")(1)
        registry.register("one@2")(2)
        assert (registry.get("one@1"), registry.get("one@2")) == (1, 2)
        assert list(registry) == ["one@1", "one@2"]
        assert "one@1" in registry
        assert "one@3" not in registry
        with pytest.raises(ConfigError, match=r"no number 'on@1'. Did you mean 'one@1'"):
            registry.get("on@1")
        with pytest.raises(ConfigError, match=r"There are: one@1, one@2"):
            registry.get("zzzzzzz@9")

    @pytest.mark.parametrize("key", ["one", "@1", "one@", "one@x", "one@1.0"])
    def test_a_method_needs_a_name_and_a_version(self, key: str) -> None:
        with pytest.raises(ValueError, match="name@version"):
            Registry[int](Kind("number", "nothing", "")).register(key)

    def test_a_method_is_registered_once(self) -> None:
        registry: Registry[int] = Registry(Kind("number", "nothing", ""))
        registry.register("one@1")(1)
        with pytest.raises(ValueError, match="twice"):
            registry.register("one@1")(2)

    def test_plug_ins_are_found_by_entry_point(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "plug_in.py").write_text("method = 42\n")
        info = tmp_path / "plug_in-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[fedledger.numbers]\nanswer@1 = plug_in:method\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry: Registry[int] = Registry(Kind("number", "numbers", ""))
        assert registry.get("answer@1") == 42
        with pytest.raises(ConfigError):
            registry.get("answer@2")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("It is wrong.", "Mend it."),
        StoreError("Nothing is there."),
        BatchError("root", 1, 2),
        RevertedError("StakeTooSmall", (3, 5), "a registration"),
        MissingContentError(Divergence(3, "model", "a", "b")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_the_same_in_another_process(error):
    error.add_note("in round 3")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
    assert (other.message, other.remedy, other.exit_code) == (error.message, error.remedy, error.exit_code)
