"""Experiment accounts: keys derived from a seed, so that addresses are the same on every development chain."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from coincurve import PublicKey
from eth_utils.address import to_checksum_address

from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.encoding.sealed_boxes import public_key, reader_key
from fedledger.protocol.errors import KeyStoreError
from fedledger.protocol.records.signatures import reader_message, sign
from fedledger.protocol.records.spot_checks import Auditor

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from fedledger.contracts.chain.chain import Chain

PUBLISHER, AGGREGATOR, DEPLOYER, PURSE = "publisher", "aggregator", "deployer", "purse"


def experiment_account(seed: int, role: str, chain: Chain) -> LocalAccount:
    """Return the account of a role (``publisher``, ``aggregator``, ``participant 3``, …) in the experiment of a seed.

    Raises
    ------
    KeyStoreError
        On any chain that is not a development chain: anybody can derive these keys.
    """
    if not chain.development:
        raise KeyStoreError(
            f"Experiment accounts are refused on {chain.capabilities.client}: anyone can derive their keys.",
            "Make a real one with `fedledger keys new`.",
        )
    from fedledger.contracts.chain.records import load_account

    return load_account(_key(seed, role))


def experiment_address(seed: int, role: str) -> str:
    """Return the address of a role; its key is :func:`experiment_account`'s to give."""
    return _address(_key(seed, role))


def _address(key: bytes) -> str:
    point = PublicKey.from_secret(key).format(compressed=False)[1:]
    return str(to_checksum_address(keccak(point)[-20:]))


def participant_role(number: int) -> str:
    """Return the role of the participant with a number, counted from 0."""
    return f"participant {number}"


def standby_role(number: int) -> str:
    """Return the role of the standby aggregator with a number, counted from 0."""
    return f"standby {number}"


def verifier_role(number: int) -> str:
    """Return the role of the verifier with a number, counted from 0."""
    return f"verifier {number}"


def auditor_role(number: int) -> str:
    """Return the role of the auditor with a number, counted from 0."""
    return f"auditor {number}"


def experiment_auditor(seed: int, number: int) -> Auditor:
    """Return the auditor of an experiment with a number, counted from 0."""
    return auditor_of_key(_key(seed, auditor_role(number)))


def auditor_of_key(key: bytes) -> Auditor:
    """Return the auditor whose account has a key: its address, and the key that openings are sealed to, signed."""
    public = public_key(reader_key(key))
    return Auditor(account=_address(key), key=public.hex(), signature=sign(reader_message(public), key).hex())


def _key(seed: int, role: str) -> bytes:
    return hashlib.sha256(f"fedledger experiment|{seed}|{role}".encode()).digest()
