from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding.cid import MAX_STATE_BYTES, MIB, UNIXFS_V0_2015, ContentRef, cid_bytes, unixfs_root
from fedledger.protocol.errors import StoreError
from support.examples import examples

HELLO = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
TWO_MIB = bytes(range(256)) * 8192
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data: bytes) -> str:
    value, text = int.from_bytes(data, "big"), ""
    while value:
        value, digit = divmod(value, 58)
        text = ALPHABET[digit] + text
    return text


@pytest.mark.parametrize(
    ("data", "cid"),
    [
        (b"", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
        (b"hello world\n", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"),
        (TWO_MIB, "QmU2zkyCQh9EhEMsC8rXcbvZRjXJ2gDe4QwxgQvX4QUpVv"),
    ],
)
def test_vectors_of_the_old_profile(data: bytes, cid: str) -> None:
    assert unixfs_root(data, UNIXFS_V0_2015) == cid_bytes(cid)


@pytest.mark.parametrize(
    ("data", "cid"),
    [
        (b"hello world\n", HELLO),
        (TWO_MIB, "bafybeiajcbqtowvzakzvmbtaicgv4q5mvhb2ua7tr2fzvyawo3j4d3nzlm"),
    ],
)
def test_vectors_of_our_profile(data: bytes, cid: str) -> None:
    assert ContentRef.of(data).cid == cid
    assert ContentRef.parse(cid, len(data)) == ContentRef.of(data)


def test_up_to_one_mib_the_digest_is_that_of_the_content() -> None:
    whole, above = bytes(MIB), bytes(MIB + 1)
    assert ContentRef.of(whole).digest == hashlib.sha256(whole).digest()
    assert ContentRef.of(whole).cid.startswith("bafkrei")
    assert ContentRef.of(above).digest != hashlib.sha256(above).digest()
    assert ContentRef.of(above).cid.startswith("bafybei")


def test_the_root_of_two_chunks_is_the_hand_encoded_node() -> None:
    data = bytes(MIB) + b"x"
    leaves = [b"\x01\x55\x12\x20" + hashlib.sha256(chunk).digest() for chunk in (bytes(MIB), b"x")]
    mib, mib_and_one = b"\x80\x80\x40", b"\x81\x80\x40"
    links = [
        b"\x12" + bytes([len(link)]) + link
        for link in (b"\x0a\x24" + leaves[0] + b"\x12\x00\x18" + mib, b"\x0a\x24" + leaves[1] + b"\x12\x00\x18\x01")
    ]
    unixfs = b"\x08\x02\x18" + mib_and_one + b"\x20" + mib + b"\x20\x01"
    node = b"".join(links) + b"\x0a" + bytes([len(unixfs)]) + unixfs
    assert ContentRef.of(data).digest == hashlib.sha256(node).digest()


@examples(30)
@given(st.sampled_from([1, 100, MIB, MIB + 1, 2 * MIB + 7]), st.data())
def test_changing_one_byte_changes_the_digest(length: int, data: st.DataObject) -> None:
    content = bytearray(length)
    before = ContentRef.of(bytes(content))
    content[data.draw(st.integers(0, length - 1))] ^= data.draw(st.integers(1, 255))
    assert ContentRef.of(bytes(content)).digest != before.digest


@given(st.binary(min_size=32, max_size=32), st.sampled_from([0, 1, MIB, MIB + 1, 2**40]))
def test_a_reference_survives_both_spellings_of_its_cid(digest: bytes, length: int) -> None:
    ref = ContentRef(digest, length)
    assert ContentRef.parse(ref.cid, length) == ref
    assert ContentRef.parse("z" + base58(cid_bytes(ref.cid)), length) == ref


@pytest.mark.parametrize(
    "cid",
    [
        "",
        "b",
        "z",
        "Qm",
        "no cid",
        HELLO[:-1],
        HELLO + "a",
        HELLO.upper(),
        HELLO.replace("k", "K", 1),
        HELLO[:-1] + "5",  # same bytes, but with padding bits set
        HELLO[:-1] + "é",
        "z0OIl",
        "z" * 10**6,
        "b" + base64.b32encode(b"\x12\x20" + bytes(32)).decode().lower().rstrip("="),  # version 0 in base32
        "b" + base64.b32encode(b"\x01\x71\x12\x20" + bytes(32)).decode().lower().rstrip("="),  # dag-cbor
        "b" + base64.b32encode(b"\x01\x55\x13\x20" + bytes(32)).decode().lower().rstrip("="),  # another hash
    ],
)
def test_what_is_no_cid_of_a_file_is_refused_with_a_remedy(cid: str) -> None:
    with pytest.raises(StoreError) as caught:
        cid_bytes(cid)
    assert caught.value.remedy
    assert len(str(caught.value)) < 300


def test_codec_and_length_must_agree() -> None:
    with pytest.raises(StoreError, match="not a CID of 1048577 bytes"):
        ContentRef.parse(HELLO, MIB + 1)
    with pytest.raises(StoreError, match="unixfs-v1-2025"):
        ContentRef.parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o", 12)


@pytest.mark.parametrize(("digest", "length"), [(bytes(31), 1), (bytes(33), 1), (bytes(32), -1)])
def test_a_reference_needs_32_bytes_and_a_length(digest: bytes, length: int) -> None:
    with pytest.raises(StoreError):
        ContentRef(digest, length)


def test_objects_have_a_greatest_length() -> None:
    with pytest.raises(StoreError, match="too many"):
        ContentRef.of(bytes(MAX_STATE_BYTES + 1))
