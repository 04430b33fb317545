"""Content that one account alone can read: Hybrid Public Key Encryption, base mode (RFC 9180).

The key encapsulation is DHKEM(X25519, HKDF-SHA256), the cipher ChaCha20-Poly1305. Whoever seals draws a key of its own
for each box, so two boxes of one text differ; nothing in a box tells who sealed it.
"""

from __future__ import annotations

from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key
from Crypto.PublicKey.ECC import EccKey

from fedledger.protocol.encoding.encryption import derived
from fedledger.protocol.errors import ConfigError, ContentUnreadableError

KEY_BYTES = 32
MAGIC = b"\xffFLBOX\x01\n"
"""How boxes begin: no tensor file, whose header would be longer than any may be, and no JSON."""
_ENCAPSULATED, _TAG = 32, 16
OVERHEAD = len(MAGIC) + _ENCAPSULATED + _TAG
"""Bytes by which a box is longer than what is in it."""
_PRIME = 2**255 - 19
_PURPOSE = "reader of sealed boxes"


def reader_key(account_key: bytes) -> bytes:
    """Return the private X25519 key, 32 bytes, that follows from an account's key and tells nothing of it."""
    return derived(account_key, _PURPOSE)


def public_key(private: bytes) -> bytes:
    """Return the public key, 32 bytes, of a private one."""
    return bytes(import_x25519_private_key(private).public_key().export_key(format="raw"))


def require_public_key(public: bytes) -> None:
    """Raise ConfigError unless 32 bytes are a public key in its one spelling, and not one of a small group."""
    _public(public)


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Return a box that the owner of a public key opens.

    Parameters
    ----------
    public
        32 bytes.
    plaintext
        What is put into it.
    info
        What the box is for: it opens for nothing else.

    Raises
    ------
    ConfigError
        If the key is none.
    """
    cipher = HPKE.new(receiver_key=_public(public), aead_id=HPKE.AEAD.CHACHA20_POLY1305, info=info)
    return MAGIC + cipher.enc + bytes(cipher.seal(plaintext))


def open_box(private: bytes, box: bytes, info: bytes, most: int) -> bytes:
    """Return what is in a box.

    Parameters
    ----------
    private
        32 bytes, see :func:`reader_key`.
    box
        A stranger's bytes.
    info
        What it is for, as it was sealed.
    most
        Bytes that may be in it.

    Raises
    ------
    ContentUnreadableError
        If it is no box, holds more, was sealed for another reader or purpose, or was changed.
    """
    remedy = "Whoever sealed it has to seal it anew."
    if len(box) < OVERHEAD or not box.startswith(MAGIC):
        raise ContentUnreadableError("The content is no sealed box.", remedy)
    if len(box) - OVERHEAD > most:
        raise ContentUnreadableError(f"The box holds {len(box) - OVERHEAD:,} bytes; at most {most:,} may be.", remedy)
    start = len(MAGIC) + _ENCAPSULATED
    encapsulated = box[len(MAGIC) : start]
    try:
        _public(encapsulated)
        own = import_x25519_private_key(private)
        cipher = HPKE.new(receiver_key=own, aead_id=HPKE.AEAD.CHACHA20_POLY1305, enc=encapsulated, info=info)
        return bytes(cipher.unseal(box[start:]))
    except (ValueError, ConfigError) as error:
        raise ContentUnreadableError("The key does not open the box.", remedy) from error


def _public(public: bytes) -> EccKey:
    remedy = "Give the key that the reader's account has: 32 bytes of X25519."
    if len(public) != KEY_BYTES or int.from_bytes(public, "little") >= _PRIME:
        raise ConfigError(f"{public[:KEY_BYTES].hex()} is no public key for sealed boxes.", remedy)
    try:
        # The library refuses points of small order, which all private keys share a secret with.
        return import_x25519_public_key(public)
    except ValueError as error:
        raise ConfigError(f"{public.hex()} is no public key for sealed boxes.", remedy) from error
