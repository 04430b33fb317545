"""What is sent to a chain, and what it is and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import checksum_address

DEFAULT_GAS = 1_500_000
MAX_GAS = 16_000_000
PAYMENT_GAS = 21_000


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction."""

    hash: bytes
    block: int
    gas: int


@dataclass(frozen=True)
class Head:
    """The newest block that counts; the hash is empty on an embedded chain, which has no reorganisations."""

    number: int
    hash: bytes


@dataclass(frozen=True)
class Transaction:
    """What an account wants to send; ``to`` is None for a new contract."""

    account: LocalAccount
    to: str | None
    data: bytes = b""
    value: int = 0
    gas: int = DEFAULT_GAS

    @property
    def fields(self) -> dict[str, Any]:
        """What is signed, besides nonce, fees and chain id."""
        fields: dict[str, Any] = {"gas": min(self.gas, MAX_GAS), "value": self.value, "data": self.data}
        return fields if self.to is None else fields | {"to": checksum_address(self.to)}

    @property
    def call(self) -> dict[str, Any]:
        """The same as a node takes it in ``eth_call``, without a limit of gas."""
        call = {"from": self.account.address, "value": hex(self.value), "data": "0x" + self.data.hex()}
        return call if self.to is None else call | {"to": checksum_address(self.to)}


@dataclass(frozen=True)
class Capabilities:
    """What a chain is and can do."""

    client: str
    chain_id: int
    development: bool
    fee_market: bool


def load_account(key: bytes) -> LocalAccount:
    """Return the account of a private key."""
    account: LocalAccount = Account.from_key(key)
    return account
