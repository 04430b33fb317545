"""Codecs: their bytes, that a value has one encoding, and what becomes of anything else."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.codecs.base import CODECS
from fedledger.protocol.codecs.dense import Dense
from fedledger.protocol.codecs.payload import payload_slots
from fedledger.protocol.codecs.top_k import TopK, rice_parameter
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

FIXED = FixedPoint(24, 64.0)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
EXAMPLE = np.array([5, -900, 3, 0, 77, -77, 12, 900, -1, 77, 0, 64])


def refusal(codec: TopK | Dense, sent: np.ndarray, length: int, fixed: FixedPoint = FIXED) -> Verdict:
    with pytest.raises(UpdateRefusedError) as caught:
        codec.decode(sent, length, fixed)
    assert len(caught.value.detail) < 120
    return caught.value.verdict


def by_the_book(values: list[int], k: int, w: int) -> bytes:
    """Return what top_k@1 sends, written out as text from the formulas."""
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    positions = sorted(order[:k])
    b = max(0, math.floor(math.log2(math.log(2) * len(values) / k)))
    text, before = "", -1
    for position in positions:
        gap, before = position - before - 1, position
        text += "1" * (gap >> b) + "0" + (format(gap & ((1 << b) - 1), f"0{b}b") if b else "")
    for position in positions:
        value = min(max(values[position], -(1 << (w - 1))), (1 << (w - 1)) - 1)
        text += format(value & ((1 << w) - 1), f"0{w}b")
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


class TestRiceParameter:
    @given(st.integers(1, 2**26), st.data())
    def test_it_is_the_formula(self, length: int, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, length))
        # ln 2 to 40 digits: between these no power of two times k / d lies.
        low = Fraction("0.6931471805599453094172321214581765680755")
        b = rice_parameter(length, k)
        assert b == 0 or k * 2**b <= low * length
        assert low * length < k * 2 ** (b + 1)

    def test_its_limits(self) -> None:
        assert rice_parameter(1, 1) == 0
        assert rice_parameter(12, 4) == 1
        assert rice_parameter(1_000_000, 1000) == 9
        assert rice_parameter(2**26, 1) == 25


class TestTopK:
    def test_the_reference_to_the_bit(self) -> None:
        codec = TopK(k=4, bits=11, shift=0)
        sent = codec.pack(EXAMPLE)
        assert len(sent) == 7 and int.from_bytes(sent.tobytes()) == 0xC18F8137D9B84 << 3
        assert codec.unpack(sent, 12).tolist() == [0, -900, 0, 0, 77, -77, 0, 900, 0, 0, 0, 0]

    def test_a_million_coordinates_take_the_bits_that_the_reference_says(self) -> None:
        """The reference has 11,485 bits of positions for one draw; log2 C(d, k) is 11,401."""
        rng = np.random.default_rng(0)
        values = np.zeros(1_000_000, np.int64)
        values[rng.choice(len(values), 1000, replace=False)] = 1
        bits = 8 * len(TopK(k=1000, bits=2).pack(values)) - 2000
        assert 11_401 < bits < 11_600

    @given(
        arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(-(2**40), 2**40) | st.integers(-3, 3)),
        st.integers(2, 32),
        st.data(),
    )
    def test_it_is_what_the_formulas_say_and_comes_back(
        self, values: np.ndarray, bits: int, data: st.DataObject
    ) -> None:
        codec = TopK(k=data.draw(st.integers(1, len(values))), bits=bits, shift=0)
        sent = codec.pack(values)
        assert sent.tobytes() == by_the_book(values.tolist(), codec.k, bits)
        assert len(sent) <= len(codec.largest(len(values)))
        received = codec.unpack(sent, len(values))
        limit = 1 << (bits - 1)
        chosen = received != 0
        assert received[chosen].tolist() == np.clip(values[chosen], -limit, limit - 1).tolist()
        assert np.count_nonzero(received) == min(codec.k, np.count_nonzero(values))
        assert codec.pack(received).tobytes() == sent.tobytes()

    @given(st.binary(max_size=40), st.integers(1, 40), st.integers(2, 32), st.data())
    def test_any_bytes_are_one_value_or_refused(self, raw: bytes, length: int, bits: int, data: st.DataObject) -> None:
        codec = TopK(k=data.draw(st.integers(1, length)), bits=bits, shift=0)
        try:
            received = codec.unpack(np.frombuffer(raw, np.uint8), length)
        except UpdateRefusedError as error:
            assert error.verdict is Verdict.MALFORMED
        else:
            assert codec.pack(received).tobytes() == raw

    @given(st.integers(1, 30), st.integers(0, 400), st.data())
    def test_no_other_bytes_near_an_encoding_stand_for_its_value(
        self, length: int, place: int, data: st.DataObject
    ) -> None:
        codec = TopK(k=data.draw(st.integers(1, length)), bits=4, shift=0)
        values = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=length, max_size=length)))
        sent = codec.pack(values)
        changed = np.unpackbits(sent)
        changed[place % len(changed)] ^= 1
        for other in (np.packbits(changed), np.append(sent, np.uint8(0)), sent[:-1]):
            try:
                received = codec.unpack(other, length)
            except UpdateRefusedError:
                continue
            assert received.tolist() != codec.unpack(sent, length).tolist()
            assert codec.pack(received).tobytes() == other.tobytes()

    @given(
        arrays.arrays(
            np.float32,
            st.integers(1, 50),
            elements=FINITE | st.floats(-1, 1, width=32, allow_subnormal=False),
        ),
        st.integers(2, 32),
        st.integers(0, 24),
        st.data(),
    )
    def test_floats_are_rounded_and_saturate_within_the_bound(
        self, values: np.ndarray, bits: int, shift: int, data: st.DataObject
    ) -> None:
        codec = TopK(k=data.draw(st.integers(1, len(values))), bits=bits, shift=shift)
        sent = codec.encode(values, FIXED)
        received = codec.decode(sent, len(values), FIXED)
        assert received.dtype == np.int64 and received.shape == values.shape
        top = min(64 * 2**24, ((1 << (bits - 1)) - 1) << shift)
        for value, got in zip(values.tolist(), received.tolist(), strict=True):
            if got:
                exact = min(max(value * 2**24, -top), top)
                assert abs(got - exact) <= 2**shift

    def test_its_errors_are_at_most_half_a_step(self) -> None:
        values = np.array([0.1, -0.2, 0.3], np.float32)
        received = TopK(k=3, bits=16, shift=10).decode(TopK(k=3, bits=16, shift=10).encode(values, FIXED), 3, FIXED)
        assert np.abs(received - values.astype(np.float64) * 2**24).max() <= 2**9
        assert not (received % 2**10).any()

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused_as_that(self, wrong: float) -> None:
        codec = TopK(k=1)
        sent = codec.encode(np.array([1, wrong], np.float32), FIXED)
        assert sent.nbytes == 0
        assert refusal(codec, sent, 2) is Verdict.NOT_FINITE

    def test_each_fault_has_its_reason(self) -> None:
        codec = TopK(k=4, bits=32, shift=0)
        sent = codec.pack(EXAMPLE)
        assert refusal(codec, sent.astype(np.int64), 12) is Verdict.WRONG_SHAPE
        assert refusal(codec, sent[None], 12) is Verdict.WRONG_SHAPE
        assert refusal(codec, np.zeros(12, np.float32), 12) is Verdict.WRONG_SHAPE
        assert refusal(codec, sent[:-1], 12) is Verdict.MALFORMED
        assert refusal(codec, codec.pack(np.full(12, 2**31 - 1)), 12) is Verdict.OUT_OF_RANGE
        # A value at the bound is within it.
        assert codec.decode(codec.pack(np.full(12, 2**30)), 12, FIXED).max() == 2**30

    def test_a_position_beyond_the_end_is_refused(self) -> None:
        codec = TopK(k=1, bits=2, shift=0)
        longer = codec.pack(np.array([0, 0, 0, 0, 0, 0, 0, 1]))
        assert rice_parameter(7, 1) == rice_parameter(8, 1) == 2
        assert refusal(codec, longer, 7) is Verdict.MALFORMED

    def test_zeros_are_sent_first_and_nowhere_else(self) -> None:
        codec = TopK(k=2, bits=2, shift=0)
        # Positions 1 and 3 of zeros; the encoder sends 0 and 1.
        b = rice_parameter(4, 2)
        assert b == 0
        elsewhere = np.packbits(np.array([1, 0, 1, 0, 0, 0, 0, 0], np.uint8))
        assert refusal(codec, elsewhere, 4) is Verdict.MALFORMED
        assert not codec.unpack(codec.pack(np.zeros(4, np.int64)), 4).any()

    def test_a_flood_is_refused_by_its_length_alone(self) -> None:
        """No position code of so many ones is read."""
        assert refusal(TopK(k=1), np.full(10_000_000, 255, np.uint8), 10) is Verdict.MALFORMED

    def test_all_coordinates_may_be_sent_and_no_more(self) -> None:
        values = np.arange(-5, 6)
        codec = TopK(k=11, shift=0)
        assert codec.unpack(codec.pack(values), 11).tolist() == values.tolist()
        codec.check(11)
        with pytest.raises(ConfigError, match="11 coordinates of 10"):
            codec.check(10)


class TestDense:
    @given(arrays.arrays(np.float32, st.integers(1, 9), elements=st.floats(width=32, allow_subnormal=False)))
    def test_it_sends_what_there_is_and_takes_what_fits(self, values: np.ndarray) -> None:
        sent = Dense().encode(values, FIXED)
        assert sent.tobytes() == values.tobytes()
        if not np.isfinite(values).all():
            assert refusal(Dense(), sent, len(values)) is Verdict.NOT_FINITE
        elif np.abs(values).max() > FIXED.bound:
            assert refusal(Dense(), sent, len(values)) is Verdict.OUT_OF_RANGE
        else:
            assert Dense().decode(sent, len(values), FIXED).tolist() == FIXED.quantise(values).tolist()
        assert refusal(Dense(), sent, len(values) + 1) is Verdict.WRONG_SHAPE
        assert refusal(Dense(), sent.astype(np.float64), len(values)) is Verdict.WRONG_SHAPE


@pytest.mark.parametrize("key", list(CODECS))
def test_the_largest_tensor_is_an_upper_bound_and_travels(key: str) -> None:
    codec = CODECS.get(key)(**({"k": 3} if key == "top_k@1" else {}))
    rng = np.random.default_rng(1)
    largest = len(tensors.encode({"delta": codec.largest(40)}))
    for values in (rng.normal(size=40), np.eye(40)[39], np.zeros(40), np.full(40, 1e9)):
        assert len(tensors.encode({"delta": codec.encode(values.astype(np.float32), FIXED)})) <= largest


def test_a_payload_is_dense_unless_it_is_described() -> None:
    plain = payload_slots((), ("control",), 7)
    assert [(slot.name, slot.length, slot.codec) for slot in plain] == [("delta", 7, Dense()), ("control", 7, Dense())]
    top = Method(method="top_k@1", params={"k": 9})
    with pytest.raises(ConfigError, match="k of at most 7"):
        payload_slots([VectorSpec(name="delta", codec=top)], (), 7)
    with pytest.raises(ConfigError, match="no codec"):
        payload_slots([VectorSpec(name="delta", codec=Method(method="top_l@1"))], (), 7)
