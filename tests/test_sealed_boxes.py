"""Sealed boxes: the vector of RFC 9180, and that nothing opens but what was sealed for this reader and purpose."""

from __future__ import annotations

import pytest
from Crypto.Protocol.DH import import_x25519_private_key
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding import sealed_boxes
from fedledger.protocol.encoding.sealed_boxes import MAGIC, OVERHEAD, open_box, public_key, reader_key, seal
from fedledger.protocol.errors import ConfigError, ContentUnreadableError

PRIVATE = reader_key(b"\x07" * 32)
PUBLIC = public_key(PRIVATE)
PRIME = 2**255 - 19
SMALL = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
]


def test_first_message_of_rfc_9180_opens() -> None:
    """Appendix A.2.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, base mode, sequence number 0."""
    private = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    encapsulated = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    assert public_key(private).hex() == "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
    cipher = sealed_boxes.HPKE.new(
        receiver_key=import_x25519_private_key(private),
        aead_id=sealed_boxes.HPKE.AEAD.CHACHA20_POLY1305,
        enc=encapsulated,
        info=bytes.fromhex("4f6465206f6e2061204772656369616e2055726e"),
    )
    sealed = bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
    found = cipher.unseal(sealed, auth_data=b"Count-0")
    assert found == b"Beauty is truth, truth beauty"


@given(text=st.binary(max_size=200), info=st.binary(max_size=50))
def test_a_box_opens_to_what_was_put_into_it(text: bytes, info: bytes) -> None:
    box = seal(PUBLIC, text, info)
    assert len(box) == len(text) + OVERHEAD
    assert open_box(PRIVATE, box, info, len(text)) == text


@given(place=st.integers(0, 10 + OVERHEAD - 1), bit=st.integers(0, 7))
def test_a_changed_box_does_not_open(place: int, bit: int) -> None:
    box = bytearray(seal(PUBLIC, b"0123456789", b"for this"))
    box[place] ^= 1 << bit
    with pytest.raises(ContentUnreadableError):
        open_box(PRIVATE, bytes(box), b"for this", 10)


def test_a_box_opens_for_its_reader_and_purpose_alone() -> None:
    box = seal(PUBLIC, b"text", b"for this")
    for private, info, most in (
        (reader_key(b"\x08" * 32), b"for this", 4),
        (PRIVATE, b"for that", 4),
        (PRIVATE, b"for this", 3),
    ):
        with pytest.raises(ContentUnreadableError):
            open_box(private, box, info, most)
    for data in (b"", MAGIC, box[:-1], box + b"\0", box[len(MAGIC) :]):
        with pytest.raises(ContentUnreadableError):
            open_box(PRIVATE, data, b"for this", 100)


@pytest.mark.parametrize("number", [*SMALL, PRIME, PRIME + 1, PRIME + 9, int.from_bytes(PUBLIC, "little") | 1 << 255])
def test_keys_of_small_order_and_second_spellings_are_refused(number: int) -> None:
    key = number.to_bytes(32, "little")
    with pytest.raises(ConfigError):
        seal(key, b"text", b"")
    with pytest.raises(ContentUnreadableError):
        open_box(PRIVATE, MAGIC + key + bytes(20), b"", 100)
