"""What participants sign and commit to: EIP-712 messages, commitments and salts."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_utils.address import is_checksum_address
from eth_utils.crypto import keccak

from fedledger.protocol.cid import ContentRef

# The update's domain names no chain and no contract, so an update has the same bytes wherever it is sent. The
# commitment binds it to a chain, a contract, a task, a round and a sender.
UPDATE_DOMAIN = {"name": "fedledger", "version": "1"}
LEDGER_VERSION = 3
UPDATE_TYPES = {
    "Update": [
        {"name": "spec", "type": "bytes32"},
        {"name": "round", "type": "uint32"},
        {"name": "participant", "type": "address"},
        {"name": "base", "type": "bytes32"},
        {"name": "payload", "type": "bytes32"},
        {"name": "header", "type": "bytes32"},
    ]
}
COMMITMENT_TYPES = {
    "Commitment": [
        {"name": "task", "type": "uint256"},
        {"name": "round", "type": "uint32"},
        {"name": "participant", "type": "uint32"},
        {"name": "commitment", "type": "bytes32"},
    ]
}


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
    if not is_checksum_address(participant):
        raise ValueError(f"{participant!r} is not a checksummed address")
    message: dict[str, Any] = {
        "spec": spec,
        "round": round_index,
        "participant": participant,
        "base": base,
        "payload": payload,
        "header": header,
    }
    return encode_typed_data(UPDATE_DOMAIN, UPDATE_TYPES, message)


def commitment_message(
    chain_id: int,
    contract: str,
    task: int,
    round_index: int,
    participant: int,
    digest: bytes,
    version: int = LEDGER_VERSION,
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
    if not is_checksum_address(contract):
        raise ValueError(f"{contract!r} is not a checksummed address")
    domain = {"name": "fedledger", "version": str(version), "chainId": chain_id, "verifyingContract": contract}
    message = {"task": task, "round": round_index, "participant": participant, "commitment": digest}
    return encode_typed_data(domain, COMMITMENT_TYPES, message)


def sign(message: SignableMessage, key: bytes) -> bytes:
    """Return the 65-byte signature (r, s, v) of a message; deterministic, after RFC 6979."""
    return bytes(Account.sign_message(message, key).signature)


def recover(message: SignableMessage, signature: bytes) -> str | None:
    """Return the address that signed a message, or None if the signature is no signature or malleable."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    try:
        return str(Account.recover_message(message, signature=signature))
    except Exception:
        # The key library raises half a dozen unrelated types for points off the curve; all mean the same.
        return None


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def commitment(
    chain_id: int,
    contract: str,
    task: int,
    round_index: int,
    sender: str,
    base: bytes,
    update: ContentRef,
    salt: bytes,
) -> bytes:
    """Return the commitment that binds a sender to one update; equal to the ledger's ``commitmentOf``."""
    return keccak(
        abi_encode(
            ["uint256", "address", "uint256", "uint32", "address", "bytes32", "bytes32", "uint64", "bytes32"],
            [chain_id, contract, task, round_index, sender, base, update.digest, update.length, salt],
        )
    )


def salt(key: bytes, chain_id: int, contract: str, task: int, round_index: int) -> bytes:
    """Return a participant's salt for a round: a function of its key, so that no crash can lose it."""
    place = f"fedledger salt|{chain_id}|{contract.lower()}|{task}|{round_index}"
    return hmac.new(key, place.encode(), hashlib.sha256).digest()


def vote_salt(key: bytes, chain_id: int, contract: str, dispute: int, level: int) -> bytes:
    """Return a juror's salt for its vote on a level of a dispute: a function of its key, as no crash can lose it."""
    place = f"fedledger vote|{chain_id}|{contract.lower()}|{dispute}|{level}"
    return hmac.new(key, place.encode(), hashlib.sha256).digest()
