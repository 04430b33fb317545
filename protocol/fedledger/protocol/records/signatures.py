"""What participants sign and commit to: EIP-712 messages, commitments and salts."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

from coincurve import PrivateKey, PublicKey
from eth_utils.address import is_checksum_address, to_checksum_address

from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage

Write = Callable[[Any], bytes]
Place = tuple[int, str, int]
"""Where a task is: chain id, the ledger's address and the task's id."""

# The update's domain names no chain and no contract, so an update has the same bytes wherever it is sent. The
# commitment binds it to a chain, a contract, a task, a round and a sender.
LEDGER_VERSION = 5
"""Version of the ledger whose commitments are signed unless another one is given."""
UPDATE_DOMAIN_TYPE = "EIP712Domain(string name,string version)"
UPDATE_TYPE = "Update(bytes32 spec,uint32 round,address participant,bytes32 base,bytes32 payload,bytes32 header)"
COMMITMENT_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
COMMITMENT_TYPE = "Commitment(uint256 task,uint32 round,uint32 participant,bytes32 commitment)"
READER_TYPE = "Reader(bytes32 key)"
DATA_TYPE = "Data(uint256 task,uint32 round,uint32 participant,uint256 word)"
SCORES_TYPE = "Scores(uint256 task,uint32 round,uint32 participant,bytes32 commitment)"
COMMITTED = ("uint256", "address", "uint256", "uint32", "address", "bytes32", "bytes32", "uint64", "bytes32")
DOMAINS_CACHED, KEYS_CACHED, ADDRESSES_CACHED, SIGNERS_CACHED = 64, 4_096, 65_536, 16_384
COMMITMENTS_CACHED = 4_096
"""Cached commitments: each is read when it is made, when it is opened and when its round is evaluated."""


def update_message(
    spec: bytes, round_index: int, participant: str, base: bytes, payload: bytes, header: bytes
) -> SignableMessage:
    """Return the EIP-712 message by which a participant signs its update.

    Parameters
    ----------
    spec, base, payload, header
        32-byte digests: of the task's spec, the base model, the encoded tensors and the header's bytes.

    Raises
    ------
    ValueError
        If a digest is not 32 bytes or the address is not checksummed; the signing library would sign it.
    """
    for name, digest in (("spec", spec), ("base", base), ("payload", payload), ("header", header)):
        if len(digest) != 32:
            raise ValueError(f"the {name} digest has {len(digest)} bytes, not 32")
    if not is_checksummed(participant):
        raise ValueError(f"{participant!r} is not a checksummed address")
    message = {
        "spec": spec,
        "round": round_index,
        "participant": participant,
        "base": base,
        "payload": payload,
        "header": header,
    }
    return _signable(b"\x01", _update_domain(), _hash_struct(UPDATE_TYPE, message))


@cache
def _update_domain() -> bytes:
    return _hash_struct(UPDATE_DOMAIN_TYPE, {"name": "fedledger", "version": "1"})


@lru_cache(maxsize=COMMITMENTS_CACHED)
def commitment_message(
    place: Place, round_index: int, participant: int, digest: bytes, version: int = LEDGER_VERSION
) -> SignableMessage:
    """Return the EIP-712 message by which a participant's signer commits in a batched round.

    ``version`` is that of the ledger, which checks such signatures in disputes.

    Raises
    ------
    ValueError
        If the commitment is not 32 bytes or the contract's address is not checksummed.
    """
    if len(digest) != 32:
        raise ValueError(f"the commitment has {len(digest)} bytes, not 32")
    chain_id, contract, task = place
    message = {"task": task, "round": round_index, "participant": participant, "commitment": digest}
    return _signable(b"\x01", _commitment_domain(chain_id, contract, version), _hash_struct(COMMITMENT_TYPE, message))


def reader_message(key: bytes) -> SignableMessage:
    """Return the EIP-712 message by which an account says that what is sealed to a key, 32 bytes, reaches it alone."""
    return _signable(b"\x01", _update_domain(), _hash_struct(READER_TYPE, {"key": key}))


def data_message(place: Place, round_index: int, participant: int, word: int) -> SignableMessage:
    """Return the EIP-712 message by which a participant's signer commits to its data, so that anybody may post it.

    Parameters
    ----------
    place
        The task.
    round_index
        The next round to be opened when it is posted; the ledger takes it for no other.
    participant, word
        Who commits to what, see :mod:`fedledger.protocol.records.data_root`.
    """
    chain_id, contract, task = place
    message = {"task": task, "round": round_index, "participant": participant, "word": word}
    return _signable(b"\x01", _commitment_domain(chain_id, contract, LEDGER_VERSION), _hash_struct(DATA_TYPE, message))


def scores_message(place: Place, round_index: int, participant: int, digest: bytes) -> SignableMessage:
    """Return the EIP-712 message by which a scorer's signer commits to its scores, so that the aggregator may post it.

    ``digest`` is what :func:`~fedledger.protocol.records.scores.score_commitment` returns.

    Raises
    ------
    ValueError
        If the commitment is not 32 bytes or the contract's address is not checksummed.
    """
    chain_id, contract, task = place
    message = {"task": task, "round": round_index, "participant": participant, "commitment": digest}
    return _signable(
        b"\x01", _commitment_domain(chain_id, contract, LEDGER_VERSION), _hash_struct(SCORES_TYPE, message)
    )


@lru_cache(maxsize=DOMAINS_CACHED)
def _commitment_domain(chain_id: int, contract: str, version: int) -> bytes:
    if not is_checksum_address(contract):
        raise ValueError(f"{contract!r} is not a checksummed address")
    values = {"name": "fedledger", "version": str(version), "chainId": chain_id, "verifyingContract": contract}
    return _hash_struct(COMMITMENT_DOMAIN_TYPE, values)


def _hash_struct(kind: str, values: Mapping[str, Any]) -> bytes:
    """Return the EIP-712 hash of a struct; the signing library takes twenty times as long over it."""
    type_hash, fields = _fields(kind)
    return keccak(type_hash + b"".join([write(values[name]) for write, name in fields]))


@cache
def _fields(kind: str) -> tuple[bytes, tuple[tuple[Write, str], ...]]:
    """Return the hash of a struct's type, and for each of its fields what writes it, and its name."""
    listed = kind[kind.index("(") + 1 : -1].split(",")
    return keccak(kind.encode()), tuple((_writer(field.split()[0]), field.split()[1]) for field in listed)


@cache
def _writer(kind: str) -> Write:
    """Return what makes the 32 bytes that stand for a value, in EIP-712 and, but for texts, in the ledger's ABI."""
    if kind == "string":
        return lambda value: keccak(value.encode())
    if kind in ("address", "bytes32"):
        return partial(_bytes_word, kind)
    return partial(_whole_word, kind, int(kind.removeprefix("uint")))


def _bytes_word(kind: str, value: Any) -> bytes:
    raw = bytes.fromhex(value[2:]) if kind == "address" else bytes(value)
    if len(raw) != (20 if kind == "address" else 32):
        raise ValueError(f"{raw.hex()} has {len(raw)} bytes, which is no {kind}")
    return raw.rjust(32, b"\0")


def _whole_word(kind: str, bits: int, value: Any) -> bytes:
    if value >> bits:
        raise ValueError(f"{value} is no {kind}")
    return int(value).to_bytes(32, "big")


def sign(message: SignableMessage, key: bytes) -> bytes:
    """Return the 65-byte signature (r, s, v) of a message; deterministic, after RFC 6979."""
    private, address = _private(key)
    digest = _digest(message)
    recoverable = private.sign_recoverable(digest, hasher=None)
    signature = bytes(recoverable[:64]) + bytes([recoverable[64] + 27])
    # Who plays a participant and its aggregator need not compute the address again.
    _signers.keep(digest + signature, address)
    return signature


@lru_cache(maxsize=KEYS_CACHED)
def _private(key: bytes) -> tuple[PrivateKey, str]:
    # It computes its public key, which takes as long as a signature.
    private = PrivateKey(key)
    return private, _address(private.public_key)


def recover(message: SignableMessage, signature: bytes) -> str | None:
    """Return the address that signed a message, or None if the signature is no signature or malleable."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    digest = _digest(message)
    known = _signers.get(digest + signature)
    if known is not None:
        return known
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        address = _address(PublicKey.from_signature_and_message(recoverable, digest, hasher=None))
    except Exception:
        # The key library raises several unrelated types for points off the curve; all mean the same.
        return None
    return _signers.keep(digest + signature, address)


_signers: BoundedCache[bytes, str] = BoundedCache(SIGNERS_CACHED)
"""Who signed what, by digest and signature: a commitment is checked when it arrives and when its round is evaluated."""


def _address(key: PublicKey) -> str:
    return checksummed(keccak(key.format(compressed=False)[1:])[-20:])


def _digest(message: SignableMessage) -> bytes:
    return keccak(b"\x19" + message.version + message.header + message.body)


@lru_cache(maxsize=ADDRESSES_CACHED)
def checksummed(address: str | bytes) -> str:
    """Return an address in its mixed-case form; remembered, as each costs a hash."""
    return str(to_checksum_address(address))


@lru_cache(maxsize=ADDRESSES_CACHED)
def is_checksummed(address: str) -> bool:
    """Return whether a text is an address in its mixed-case form; remembered like :func:`checksummed`."""
    return bool(is_checksum_address(address))


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


@lru_cache(maxsize=COMMITMENTS_CACHED)
def commitment(place: Place, round_index: int, sender: str, base: bytes, update: ContentRef, salt: bytes) -> bytes:
    """Return the commitment that binds a sender to one update; equal to the ledger's ``commitmentOf``."""
    values = (*place, round_index, sender, base, update.digest, update.length, salt)
    return keccak(b"".join([_writer(kind)(value) for kind, value in zip(COMMITTED, values, strict=True)]))


def salt(key: bytes, place: Place, round_index: int) -> bytes:
    """Return a participant's salt for a round: a function of its key, so that no crash can lose it."""
    chain_id, contract, task = place
    message = f"fedledger salt|{chain_id}|{contract.lower()}|{task}|{round_index}"
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def vote_salt(key: bytes, chain_id: int, contract: str, dispute: int, level: int) -> bytes:
    """Return a juror's salt for its vote on a level of a dispute: a function of its key, as no crash can lose it."""
    place = f"fedledger vote|{chain_id}|{contract.lower()}|{dispute}|{level}"
    return hmac.new(key, place.encode(), hashlib.sha256).digest()


def score_salt(key: bytes, place: Place, round_index: int) -> bytes:
    """Return a scorer's salt for its scores of a round: a function of its key, as no crash can lose it."""
    chain_id, contract, task = place
    message = f"fedledger scores|{chain_id}|{contract.lower()}|{task}|{round_index}"
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def _signable(version: bytes, domain: bytes, body: bytes) -> SignableMessage:
    # Who trains without a ledger signs nothing, and need not wait for what signing takes to load.
    from eth_account.messages import SignableMessage

    return SignableMessage(version, domain, body)
