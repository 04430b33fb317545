"""Readers of single values: one spelling each; and what stands in for slower code gives the same."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fedledger.aggregator.mailbox import http_server
from fedledger.contracts.chain.answers import octets, quantity, typed
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding.strict import (
    SpellingError,
    decimal,
    hexadecimal,
    hexadecimal_data,
    hexadecimal_number,
    is_address,
    is_text,
    prefixed,
    shown,
    whole,
)
from fedledger.protocol.errors import ChainError
from fedledger.protocol.methods.catalogue import Method, VectorName
from fedledger.protocol.records.update import UpdateHeader
from fedledger.protocol.schedules.devices import MICRO, Link
from support.examples import examples

OWNER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
WORD = 2**256 - 1


@examples(100)
@given(st.binary(max_size=40))
def test_bytes_have_one_spelling(data: bytes) -> None:
    assert hexadecimal(data.hex()) == prefixed("0x" + data.hex(), len(data)) == data
    assert hexadecimal_data("0x" + data.hex().upper()) == data
    for other in (data.hex() + "\n", " " + data.hex(), data.hex() + "0", data.hex().upper() + "A", "0x" + data.hex()):
        with pytest.raises(SpellingError):
            hexadecimal(other)


@pytest.mark.parametrize(
    "value", ["  " * 32, "ab" * 31, "ab" * 33, "AB" * 32, "a b" * 21 + "a", "٣" * 64, b"a" * 64, 7, None]
)
def test_what_is_no_digest_is_refused(value: object) -> None:
    with pytest.raises(SpellingError, match="is not 32 bytes in hexadecimal"):
        hexadecimal(value, 32)


@examples(100)
@given(st.integers(0, WORD))
def test_numbers_have_one_spelling(number: int) -> None:
    assert decimal(str(number), WORD) == whole(number, 0, WORD) == hexadecimal_number(hex(number), WORD) == number
    assert hexadecimal_number(f"0x00{number:X}", WORD) == number


@pytest.mark.parametrize(
    "text", ["", "-0", "+1", " 7", "7 ", "7\n", "007", "1_0", "1e3", "1.0", "0x7", "٣", "²", "１", 7, None]
)
def test_what_is_no_decimal_number_is_refused(text: object) -> None:
    with pytest.raises(SpellingError):
        decimal(text, 10**6)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 8, [1]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(SpellingError):
        whole(value, 0, 7)


@pytest.mark.parametrize("text", ["0x", "0x 1", "0x1_0", "-0x1", "0x1\n", "1", "0b1", " 0x1", "0xg", None, True])
def test_what_is_no_quantity_of_a_node_is_refused(text: object) -> None:
    with pytest.raises(ChainError):
        quantity(text)
    with pytest.raises(ChainError):
        typed({"number": "0x1_0"})


def test_a_number_has_at_most_so_many_digits() -> None:
    for read in (decimal, hexadecimal_number):
        for text in ("9" * 1_000_000, "0x" + "f" * 1_000_000, "0x10000000000000000"):
            with pytest.raises(SpellingError):
                read(text, 2**64 - 1)
    with pytest.raises(ChainError):
        octets("0xab ab")


def test_addresses_and_texts() -> None:
    assert is_address(OWNER) and is_address(OWNER.lower())
    assert not any(map(is_address, (OWNER + "\n", OWNER[2:], " " + OWNER, OWNER[:-1] + "g", None)))
    assert is_text("é😀") and not is_text("a\ud800") and not is_text("\udfff")
    assert len(shown("\u202e" * 1000)) < 300 and "\u202e" not in shown("\u202e")
    assert shown([1] * 10**6) == "a list"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (http_server._Hash, "ab" * 32),
        (VectorName, "delta"),
        (Method.model_fields["method"].rebuild_annotation(), "mean@1"),
        (UpdateHeader.model_fields["participant"].rebuild_annotation(), OWNER),
        (UpdateHeader.model_fields["spec"].rebuild_annotation(), "ab" * 32),
    ],
)
def test_a_pattern_ends_with_its_text(kind: type, text: str) -> None:
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(text) == text
    for other in (text + "\n", "\n" + text, text + " ", text + "\x00"):
        with pytest.raises(ValueError, match="pattern"):
            adapter.validate_python(other)


@examples(100)
@given(st.integers(0, 300), st.data(), st.binary(min_size=32, max_size=32))
def test_a_sample_is_that_of_a_shuffled_list(size: int, data: st.DataObject, seed: bytes) -> None:
    count = data.draw(st.integers(0, size))
    draws, pool = Stream(seed), list(range(size))
    for position in range(count):
        other = position + draws.below(size - position)
        pool[position], pool[other] = pool[other], pool[position]
    assert Stream(seed).sample(range(size), count) == pool[:count]


def step_by_step(link: Link, size: int, start: int, way: int) -> int | None:
    """What a transfer takes, rate after rate."""
    time, left = start + link.latency_us, size * MICRO
    if not left:
        return link.latency_us
    starts = [rate[0] for rate in link.rates]
    for _ in range(10_000):
        offset = time % link.period_us if link.period_us else time
        place = bisect_right(starts, offset) - 1
        rate = link.rates[place][way]
        end = starts[place + 1] if place + 1 < len(starts) else link.period_us
        if rate and (not end or left <= rate * (end - offset)):
            return time + -(-left // rate) - start
        if not end:
            return None
        left, time = left - rate * (end - offset), time + end - offset
    return None


@examples(300)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    st.integers(0, 9),
    st.integers(0, 40),
    st.integers(0, 5),
)
def test_a_transfer_takes_what_it_takes_rate_after_rate(
    parts: list[tuple[int, int, int]], rest: int, start: int, latency: int
) -> None:
    scale, time, rates = MICRO // 4, 0, []
    for length, down, up in parts:
        rates.append((time, down, up))
        time += length * scale
    link = Link(rates=tuple(rates), period_us=time + rest * scale if rest else 0, latency_us=latency)
    for size in (0, 1, 2, 7, 30):
        begun = start * scale + latency
        assert link.download_us(size, begun) == step_by_step(link, size, begun, 1)
        assert link.upload_us(size, begun) == step_by_step(link, size, begun, 2)
