"""The committed ledger in a fresh revm, called through its ABI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from typing import Any

import pyrevm
from eth_abi.abi import decode, encode
from eth_utils.abi import get_abi_output_types
from eth_utils.crypto import keccak

from fedledger.contracts.abi import creation_code, explain_revert, functions
from fedledger.contracts.client import Settings
from fedledger.contracts.compile import parts

FUNDS = 10**32
ANYBODY = "0x" + "ff" * 20
_REVERT = re.compile(r"Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}")


class Evm:
    """A ledger in a fresh revm.

    Parameters
    ----------
    least_stake, exit_delay
        What the ledger is deployed with.
    accounts
        Who gets `FUNDS` wei; the first of them deploys.
    settings
        Replaces the first two.
    """

    def __init__(
        self, least_stake: int, exit_delay: int, accounts: Sequence[str], settings: Settings | None = None
    ) -> None:
        self._evm = pyrevm.EVM(spec_id="SHANGHAI")
        self.now = 1_000_000
        self.wait(0)
        for account in accounts:
            self._evm.set_balance(account, FUNDS)
        settings = Settings(least_stake, exit_delay) if settings is None else settings
        following: list[str] = []
        for part in reversed(parts()):
            code = creation_code(part, settings.as_argument(), *following)
            following = [self._evm.deploy(accounts[0], code)]
        (self.address,) = following

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self._evm.set_block_env(pyrevm.BlockEnv(number=1, timestamp=self.now))

    def __call__(self, name: str, *arguments: Any, sender: str, value: int = 0) -> Any:
        """Send a transaction and return what it returns.

        Raises
        ------
        RevertedError
            If the ledger refuses it.
        """
        return _decode(name, self._call(name, functions()[name].encode(arguments), sender, value))

    def view(self, name: str, *arguments: Any) -> Any:
        """Return a view's answer; arguments are hashable."""
        return _decode(name, self._call(name, _calldata(name, arguments), ANYBODY, 0))

    def balance(self, account: str) -> int:
        return int(self._evm.get_balance(account))

    def put_code(self, account: str, code: bytes) -> None:
        self._evm.insert_account_info(account, pyrevm.AccountInfo(code=code))

    def put_evidence(self, publisher: str, slot: int, word: int) -> None:
        """Write a word of evidence straight into storage."""
        self._put(self._evidence, publisher, slot, word)

    @cached_property
    def _evidence(self) -> int:
        """The number of the mapping that holds evidence, found by trying, so that the layout may change."""
        free = 2**20
        for number in range(64):
            self._put(number, ANYBODY, free, 7)
            if self.view("evidenceWord", ANYBODY, free) == 7:
                return number
        raise AssertionError("the mapping of evidence was not found")

    def _put(self, mapping: int, account: str, key: int, word: int) -> None:
        inner = keccak(encode(["address", "uint256"], [account, mapping]))
        place = keccak(encode(["uint256", "bytes32"], [key, inner]))
        self._evm.insert_account_storage(self.address, int.from_bytes(place, "big"), word)

    def _call(self, name: str, data: bytes, sender: str, value: int) -> bytes:
        try:
            return bytes(self._evm.message_call(sender, self.address, calldata=data, value=value))
        except RuntimeError as error:
            found = _REVERT.fullmatch(str(error))
            if found is None:
                raise
            raise explain_revert(bytes.fromhex(found[1]), name) from None


@cache
def _output_types(name: str) -> list[str]:
    entries = (e for part in parts() for e in part.abi)
    entry = next(e for e in entries if e["type"] == "function" and e["name"] == name)
    return get_abi_output_types(entry)  # type: ignore[arg-type]


# Most answers repeat from step to step, and decoding costs ten times as much as the call.
@lru_cache(maxsize=65_536)
def _decode(name: str, data: bytes) -> Any:
    values = decode(_output_types(name), data)
    return values[0] if len(values) == 1 else values


@lru_cache(maxsize=65_536)
def _calldata(name: str, arguments: tuple[Any, ...]) -> bytes:
    return functions()[name].encode(arguments)
