"""The ledger's ABI: calls, answers, events and errors between bytes and Python values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

from eth_abi import abi
from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address

from fedledger.contracts.compile import PARTS, VERSION, Artifact, parts
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ChainError
from fedledger.protocol.units import in_gwei, shown_time

REMEDIES = {
    "ExitDelayTooShort(": "Give the task shorter periods, or a ledger with an exit_delay of {1} s or more.",
    "InvalidParameter(bond": "A task with a challenge_window needs twice a juror_penalty for each seat of all juries.",
    "InvalidParameter(penalty": "It is at most the task's stake and the ledger's most_penalty, and needs a window.",
    "InvalidParameter(challengeWindow": "A task with penalties needs a window of the ledger's least_window or more.",
    "TooFewVerifiers(": "Wait until {1} verifiers serve the task; `fedledger status` shows them.",
    "TooEarlyToEnlist(": "Wait until {time[0]} by the chain's time.",
    "TooEarlyToServe(": "Wait until {time[0]} by the chain's time.",
    "ExitNotDue(": "Wait until {time[0]} by the chain's time.",
    "UnknownTask(": "The ledger has no task {0}; `fedledger status` lists those that it has.",
    "NobodyStruck(": "All that are named serve task {0}, or have no place in its pool.",
    "JuryNotDrawn(": "Draw the juries of task {0} that were called first.",
    "InvalidParameter(freeRefusals": "Make free_refusals at least 1: one statistical refusal alone must cost nothing.",
    **dict.fromkeys(
        [f"InvalidParameter({name}Share" for name in ("garbage", "neverRevealed", "statistical")],
        "A share is at most 1,000,000 parts per million.",
    ),
    "InvalidParameter(seal": "A seal needs a seal_period of at most a year; without a seal there is no deposit.",
    "TaskNotFinished(": "Wait until the task has finished; before that only its publisher may open the seal.",
    "WrongKey(": "Give the key whose Keccak-256 is the task's seal.",
    "InvalidParameter(checkPenalty": "It is at most the task's stake and the ledger's most_penalty; both or neither of "
    "check_rate and check_penalty are 0.",
    "InvalidParameter(auditors": "Name 2 to 16 auditors for a task with spot checks, and none for another.",
    "DrawUnknown(": "Summon from the next block after the proposal of round {1} on, for 256 blocks, and before a later "
    "round is proposed in its place.",
    "WrongFindings(": "Reveal exactly what was committed to with the same salt, or commit to it first.",
    "InvalidParameter(recommender": "Name up to 8 recommenders and a trust above 0, or neither.",
    "InvalidParameter(score": "A task with 3 to 15 scorers needs a score_period, a score_spread of 4 or more and a "
    "score_floor of 1 to 32,766; another has none of them.",
    "NotTallied(": "Have the scorers of round {1} called and their scores tallied first; `fedledger history` shows how "
    "far that is.",
    "NotCalled(": "The aggregator has to call the scorers of round {1} first.",
    "NotScorer(": "Participant {0} is not among those drawn to score this round.",
    "MissingScores(": "Whoever revealed on chain must be in the tally: places {0} in binary.",
    "WrongScores(": "Scores are 0 to 32,766, sixteen a word, one for each listed update, and committed once.",
    "SealPeriodOpen(": "Wait until {time[0]} by the chain's time.",
    "InvalidParameter(maxParticipants": "A task takes 4,096 participants at most.",
    "InvalidParameter(unitsPerRound": "All rounds' units together must be below 2^32.",
    "InsufficientBalance(": "Deposit {gwei[2]} or more first.",
    "StakeTooSmall(": "Give a stake of {gwei[1]} or more; `fedledger node stake` adds to one.",
    "NotActive(": "It is leaving, or has too small a stake: `fedledger node stake` adds to that.",
}
"""What to do about some refusals, by how they begin.

``{n}`` is their n-th argument, ``{time[n]}`` the same as a time and ``{gwei[n]}`` as an amount.
"""


class _Told:
    """Arguments as a remedy tells them, by their number."""

    def __init__(self, tell: Callable[[Any], str], arguments: tuple[Any, ...]) -> None:
        self._tell, self._arguments = tell, arguments

    def __getitem__(self, number: int) -> str:
        return self._tell(self._arguments[number])


class RevertedError(ChainError):
    """A transaction that the ledger refused; ``name`` and ``arguments`` are its custom error."""

    def __init__(self, name: str, arguments: tuple[Any, ...], doing: str) -> None:
        shown = [_shown(argument) for argument in arguments]
        refusal = f"{name}({', '.join(shown)})"
        remedy = next((what for start, what in REMEDIES.items() if refusal.startswith(start)), "")
        super().__init__(
            f"The ledger refused {doing}: {refusal}.",
            remedy.format(*shown, time=_Told(shown_time, arguments), gwei=_Told(in_gwei, arguments)),
        )
        self.name = name
        self.arguments = arguments


@dataclass(frozen=True)
class Log:
    """A decoded event of the ledger; structs among the arguments are namespaces.

    ``version`` is the newest ledger version that has exactly this event. ``input`` is the data of its transaction,
    where that is needed to understand it.
    """

    event: str
    arguments: dict[str, Any]
    block: int
    transaction: bytes
    index: int
    version: int = VERSION
    input: bytes = b""


@dataclass(frozen=True)
class Function:
    """A function of the contract."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[dict[str, Any], ...]

    def encode(self, arguments: Sequence[Any]) -> bytes:
        """Return the call's data."""
        return self.selector + abi.encode(self.inputs, arguments)

    def decode_input(self, data: bytes) -> tuple[Any, ...]:
        """Return the arguments of a call of this function.

        Raises
        ------
        ChainError
            If the data does not encode them.
        """
        try:
            return tuple(abi.decode(self.inputs, data[4:]))
        except (DecodingError, ValueError, OverflowError) as error:
            raise ChainError(f"The data of a transaction cannot be decoded: {error}.") from error

    def decode(self, data: bytes) -> Any:
        """Return the answer: one value, or a list; structs become namespaces."""
        try:
            shaped = list(_values(self.outputs, data).values())
        except (DecodingError, ValueError, OverflowError) as error:
            raise ChainError(
                f"The chain answered {self.name} with {len(data)} bytes that are no answer: {error}.",
                "Is that the ledger's address, and the node in order?",
            ) from error
        return shaped[0] if len(shaped) == 1 else shaped


@dataclass(frozen=True)
class Event:
    """An event of the contract; none has an indexed argument of a dynamic type, so topics hold the values."""

    name: str
    version: int
    topic: bytes
    indexed: tuple[dict[str, Any], ...]
    plain: tuple[dict[str, Any], ...]

    def decode(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Return the arguments by name."""
        if len(topics) != len(self.indexed):
            raise ChainError(
                f"A log of {self.name} has {len(topics)} indexed arguments instead of {len(self.indexed)}."
            )
        return _values(self.indexed, b"".join(topics)) | _values(self.plain, data)


@lru_cache(maxsize=65_536)
def checksum_address(address: str | bytes) -> ChecksumAddress:
    """Return an address in its mixed-case form; remembered, as each costs a hash."""
    return to_checksum_address(address)


def encode_values(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return what Solidity's ``abi.encode`` gives for values of these types."""
    return abi.encode(kinds, values)


def creation_code(part: Artifact, *arguments: Any) -> bytes:
    """Return the data of the transaction that deploys a part of the ledger."""
    (constructor,) = (entry for entry in part.abi if entry["type"] == "constructor")
    return bytes.fromhex(part.bytecode[2:]) + abi.encode([_type(item) for item in constructor["inputs"]], arguments)


@cache
def functions(version: int = VERSION) -> dict[str, Function]:
    """Return the contract's functions by name."""
    return {
        entry["name"]: Function(
            entry["name"],
            keccak(_signature(entry).encode())[:4],
            tuple(_type(item) for item in entry["inputs"]),
            tuple(_named(entry["outputs"])),
        )
        for entry in _entries("function", version)
    }


@cache
def events(version: int = VERSION) -> dict[str, Event]:
    """Return the contract's events by name."""
    found = {}
    for entry in _entries("event", version):
        indexed, plain = (tuple(i for i in entry["inputs"] if i["indexed"] is kind) for kind in (True, False))
        found[entry["name"]] = Event(entry["name"], version, keccak(_signature(entry).encode()), indexed, plain)
    return found


def decode_log(log: dict[str, Any]) -> Log:
    """Decode a raw log of the ledger, whose topics and data are bytes.

    Raises
    ------
    ChainError
        If the log is of no event of the ledger.
    """
    topics = [bytes(topic) for topic in log["topics"]]
    event = _events_by_topic().get(topics[0] if topics else b"")
    if event is None:
        raise ChainError(f"The log {topics[0].hex() if topics else ''} is of no event that this release knows.")
    try:
        arguments = event.decode(topics[1:], bytes(log["data"]))
    except (DecodingError, ValueError, OverflowError) as error:
        raise ChainError(f"A log of {event.name} cannot be decoded: {error}.") from error
    place = int(log["blockNumber"]), bytes(log["transactionHash"]), int(log["logIndex"])
    return Log(event.name, arguments, *place, event.version)


def explain_revert(data: bytes, doing: str) -> ChainError:
    """Turn revert data into a typed error."""
    if (entry := _errors_by_selector().get(data[:4])) is None:
        return ChainError(f"The ledger refused {doing}: 0x{data.hex()}.")
    types = [_type(item) for item in entry["inputs"]]
    try:
        return RevertedError(entry["name"], tuple(abi.decode(types, data[4:])), doing)
    except (DecodingError, ValueError, OverflowError):
        return ChainError(f"The ledger refused {doing}: {entry['name']}, with arguments that cannot be read.")


@cache
def _errors_by_selector() -> dict[bytes, dict[str, Any]]:
    return {keccak(_signature(entry).encode())[:4]: entry for entry in _entries("error")}


@cache
def _events_by_topic() -> dict[bytes, Event]:
    return {event.topic: event for version in PARTS for event in events(version).values()}


def _entries(kind: str, version: int = VERSION) -> list[dict[str, Any]]:
    return [entry for part in parts(version) for entry in part.abi if entry["type"] == kind]


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(item) for item in entry['inputs'])})"


def _type(item: dict[str, Any]) -> str:
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in item['components'])}){kind[5:]}"


def _named(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give names to a function's outputs, which need none."""
    return [{**item, "name": item["name"] or str(place)} for place, item in enumerate(items)]


def _values(items: Sequence[dict[str, Any]], data: bytes) -> dict[str, Any]:
    # Anybody may write any bytes where the ledger takes text.
    values = abi.decode(["bytes" if item["type"] == "string" else _type(item) for item in items], data)
    return {item["name"]: _shaped(item, value) for item, value in zip(items, values, strict=True)}


def _shaped(item: dict[str, Any], value: Any) -> Any:
    if item["type"].endswith("[]"):
        return [_shaped({**item, "type": item["type"][:-2]}, inner) for inner in value]
    if item["type"] == "tuple":
        parts = zip(item["components"], value, strict=True)
        return SimpleNamespace(**{part["name"]: _shaped(part, inner) for part, inner in parts})
    if item["type"] == "string":
        return bytes(value).decode(errors="replace")
    return checksum_address(value) if item["type"] == "address" else value


def _shown(argument: Any) -> str:
    if not isinstance(argument, bytes):
        return str(argument)
    # Names come as text in 32 bytes, digests do not look like that.
    text = argument.rstrip(b"\0")
    return text.decode() if text.isalpha() else "0x" + argument.hex()
