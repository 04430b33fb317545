"""The committed ledger in a fresh revm, called through its ABI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from typing import Any

import pyrevm
from eth_abi.abi import decode, encode
from eth_utils.abi import get_abi_output_types
from eth_utils.crypto import keccak

from fedledger.contracts.abi import Log, creation_code, decode_log, events, explain_revert, functions
from fedledger.contracts.compile import Artifact, parts
from fedledger.contracts.ledger.records import Settings

FUNDS = 10**32
ANYBODY = "0x" + "ff" * 20
KNOWN_BLOCKS = 256
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
    beside
        Another ledger, on whose chain to deploy this one.
    contracts
        What to deploy instead of the committed ledger's parts.
    """

    def __init__(
        self,
        least_stake: int,
        exit_delay: int,
        accounts: Sequence[str],
        settings: Settings | None = None,
        beside: Evm | None = None,
        contracts: Sequence[Artifact] = (),
    ) -> None:
        self._evm = beside._evm if beside else pyrevm.EVM(spec_id="SHANGHAI")
        self.now, self.block = 1_000_000, 1000
        self.wait(0)
        for account in accounts:
            self._evm.set_balance(account, FUNDS)
        settings = Settings(least_stake, exit_delay) if settings is None else settings
        following: list[str] = []
        for part in reversed(contracts or parts()):
            code = creation_code(part, settings.as_argument(), *following)
            following = [self._evm.deploy(accounts[0], code)]
        (self.address,) = following

    def wait(self, seconds: int, blocks: int = 1) -> None:
        self.now += seconds
        self.block += blocks
        self._evm.set_block_env(pyrevm.BlockEnv(number=self.block, timestamp=self.now))

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

    def logs(self) -> list[bytes]:
        """Return what the last transaction logged: topics and data of each event; see :func:`log`."""
        found = []
        for entry in self._evm.result.logs:
            topics, data = entry.data
            found.append(b"".join(bytes(topic) for topic in topics) + bytes(data))
        return found

    def events(self, data: bytes = b"") -> list[Log]:
        """Return what the last transaction, with this data, told, decoded."""
        raw = (
            {
                "topics": topics,
                "data": content,
                "blockNumber": self.block,
                "transactionHash": bytes(32),
                "logIndex": place,
            }
            for place, (topics, content) in enumerate(entry.data for entry in self._evm.result.logs)
        )
        return [replace(log, input=data) for log in map(decode_log, raw)]

    def balance(self, account: str) -> int:
        return int(self._evm.get_balance(account))

    def put_code(self, account: str, code: bytes) -> None:
        self._evm.insert_account_info(account, pyrevm.AccountInfo(code=code))

    def put_word(self, slot: int, word: int) -> None:
        """Write a word of the ledger's storage."""
        self._evm.insert_account_storage(self.address, slot, word)

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
        self.put_word(int.from_bytes(place, "big"), word)

    def _call(self, name: str, data: bytes, sender: str, value: int) -> bytes:
        try:
            return bytes(self._evm.message_call(sender, self.address, calldata=data, value=value))
        except RuntimeError as error:
            found = _REVERT.fullmatch(str(error))
            if found is None:
                raise
            raise explain_revert(bytes.fromhex(found[1]), name) from None


def block_hash(number: int, now: int) -> bytes:
    """Return what this chain says in block `now` of the hash of an earlier one; zero if it has forgotten it."""
    return keccak(text=str(number)) if 0 < now - number <= KNOWN_BLOCKS else bytes(32)


def log(name: str, arguments: tuple[Any, ...]) -> bytes:
    """Return topics and data of an event, as :meth:`Evm.logs` does."""
    topic, indexed, plain, plain_types = _layout(name)
    data = [arguments[place] for place in plain]
    # Values of one word are nearly all there are, and the library takes a hundred times as long for them.
    encoded = encode(plain_types, data) if plain_types else b"".join(map(_word, data))
    return topic + b"".join(_word(arguments[place]) for place in indexed) + encoded


@cache
def _layout(event: str) -> tuple[bytes, list[int], list[int], list[str]]:
    """Return an event's topic, the places of its arguments, and the types of its data if not all are single words."""
    inputs = _entry("event", event)["inputs"]
    indexed, plain = ([k for k, item in enumerate(inputs) if item["indexed"] is kind] for kind in (True, False))
    types = [_type(inputs[k]) for k in plain]
    simple = all("(" not in kind and "[" not in kind and kind not in ("bytes", "string") for kind in types)
    return events()[event].topic, indexed, plain, [] if simple else types


def _word(value: int | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(32, b"\0")
    return (int(value, 16) if isinstance(value, str) else int(value)).to_bytes(32, "big")


@cache
def components(function: str) -> tuple[str, ...]:
    """Return the names of the members of the struct that a function takes or returns, as Python spells them."""
    entry = _entry("function", function)
    item = entry["outputs"][0] if entry["stateMutability"] == "view" else entry["inputs"][0]
    return tuple(re.sub("[A-Z]", lambda m: "_" + m[0].lower(), part["name"]) for part in item["components"])


def _entry(kind: str, name: str) -> dict[str, Any]:
    entries = (e for part in parts() for e in part.abi)
    return next(e for e in entries if e["type"] == kind and e["name"] == name)


def _type(item: dict[str, Any]) -> str:
    kind = str(item["type"])
    return f"({','.join(_type(part) for part in item['components'])}){kind[5:]}" if kind.startswith("tuple") else kind


@cache
def _output_types(name: str) -> list[str]:
    return get_abi_output_types(_entry("function", name))  # type: ignore[arg-type]


# Most answers repeat from step to step, and decoding costs ten times as much as the call.
@lru_cache(maxsize=65_536)
def _decode(name: str, data: bytes) -> Any:
    values = decode(_output_types(name), data)
    return values[0] if len(values) == 1 else values


@lru_cache(maxsize=65_536)
def _calldata(name: str, arguments: tuple[Any, ...]) -> bytes:
    return functions()[name].encode(arguments)
