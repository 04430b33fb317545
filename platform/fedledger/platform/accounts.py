"""Experiment accounts: keys derived from a seed, so that addresses are the same on every development chain."""

from __future__ import annotations

import hashlib

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain import Chain, load_account
from fedledger.protocol.errors import KeyStoreError

PUBLISHER, AGGREGATOR, DEPLOYER = "publisher", "aggregator", "deployer"


def experiment_account(seed: int, role: str, chain: Chain) -> LocalAccount:
    """Return the account of a role (``publisher``, ``aggregator``, ``participant 3``, …) in the experiment of a seed.

    Raises
    ------
    KeyStoreError
        On any chain that is not a development chain: anybody can derive these keys.
    """
    if not chain.development:
        raise KeyStoreError(
            f"Experiment accounts are refused on this chain ({chain.capabilities.client}): anybody knows their keys.",
            "Make real ones with `fedledger keys new`.",
        )
    return _account(seed, role)


def experiment_address(seed: int, role: str) -> str:
    """Return the address of a role; its key is :func:`experiment_account`'s to give."""
    return str(_account(seed, role).address)


def participant_role(number: int) -> str:
    """Return the role of the participant with a number, counted from 0."""
    return f"participant {number}"


def standby_role(number: int) -> str:
    """Return the role of the standby aggregator with a number, counted from 0."""
    return f"standby {number}"


def verifier_role(number: int) -> str:
    """Return the role of the verifier with a number, counted from 0."""
    return f"verifier {number}"


def _account(seed: int, role: str) -> LocalAccount:
    return load_account(hashlib.sha256(f"fedledger experiment|{seed}|{role}".encode()).digest())
