"""Authenticated encryption of content that is stored from the start and readable only later, by whoever has its key.

The cipher is XChaCha20-Poly1305. The nonce follows from key and plaintext (as in SIV modes), so the same key never
encrypts two texts under one nonce, and equal inputs have equal bytes. The cipher does not commit to its key: whoever
decrypts compares the plaintext with a reference that was published before.
"""

from __future__ import annotations

import hmac

from Crypto.Cipher import ChaCha20_Poly1305

from fedledger.protocol.errors import ContentUnreadableError

KEY_BYTES = 32
NONCE_BYTES, TAG_BYTES = 24, 16
MAGIC = b"\xffFLSEAL\x01"
"""How ciphertexts begin: no tensor file, whose header would be longer than any may be, and no JSON."""
OVERHEAD = len(MAGIC) + NONCE_BYTES + TAG_BYTES
"""Bytes by which a ciphertext is longer than its plaintext."""
_NONCE, _BOUND = b"fedledger nonce", b"fedledger encrypted content 1"


def derived(key: bytes, purpose: str) -> bytes:
    """Return 32 bytes that follow from a key and a purpose, and tell nobody anything of the key."""
    return hmac.digest(key, b"fedledger derived\0" + purpose.encode(), "sha256")


def encrypt(key: bytes, plaintext: bytes) -> bytes:
    """Return the ciphertext of a text under a key of 32 bytes."""
    nonce = hmac.digest(derived(key, "nonce"), _NONCE + plaintext, "sha256")[:NONCE_BYTES]
    cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
    cipher.update(_BOUND)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    return MAGIC + nonce + ciphertext + tag


def decrypt(key: bytes, data: bytes) -> bytes:
    """Return the plaintext of a ciphertext.

    Raises
    ------
    ContentUnreadableError
        If the bytes are no ciphertext, or the key does not open it.
    """
    if len(data) < OVERHEAD or not data.startswith(MAGIC):
        raise ContentUnreadableError("The content is not encrypted as its task says.", "Ask its publisher for it.")
    nonce, end = data[len(MAGIC) : len(MAGIC) + NONCE_BYTES], len(data) - TAG_BYTES
    cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
    cipher.update(_BOUND)
    try:
        return bytes(cipher.decrypt_and_verify(data[len(MAGIC) + NONCE_BYTES : end], data[end:]))
    except ValueError as error:
        raise ContentUnreadableError(
            "The key does not open the ciphertext.", "Ask the publisher for another."
        ) from error
