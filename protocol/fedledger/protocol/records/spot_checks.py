"""Committed data and spot checks: what a spec says of them, and who is drawn to be checked by whom.

After a round is proposed, the hash of the proposal's block draws which accepted updates are checked, each by one of the
task's auditors. A participant that is drawn opens its data to that auditor alone, who trains again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.documents import Document
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.encoding.sealed_boxes import require_public_key
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.signatures import Place, checksummed, is_checksummed, reader_message, recover

LEAST_AUDITORS, MOST_AUDITORS = 2, 16
MOST_WINDOWS = 256
"""Drawn of one update."""
REPLAYABLE = frozenset({"replayable_sgd@1"})
"""Solvers whose training gives the same bytes everywhere."""
RATE_UNIT = 1_000_000


class Reason(IntEnum):
    """What an auditor found; anything but PASSED is a fail."""

    PASSED = 0
    UNREADABLE = 1
    """The opening is not there, or none for this update."""
    EXAMPLES = 2
    """The update claims other numbers of examples or steps than the committed data have."""
    OTHER_DATA = 3
    """What is opened was not committed to."""
    VALIDATION_ROWS = 4
    """An example is equal to one of the public validation set."""
    TRAJECTORY = 5
    """A state is not among those that the update commits to, or does not lead to the next."""
    DOES_NOT_FOLLOW = 6
    """Training gives another update."""
    WRONG_CLAIM = 7
    """Training gives another transcript than the participant claimed."""

    @property
    def label(self) -> str:
        """In words, for reports."""
        return self.name.lower().replace("_", " ")


class CommittedData(Document):
    """That participants commit to their data, and when another root may take the place of one."""

    pinned: ClassVar[bool] = True

    every: int = Field(
        1, ge=1, le=65_535, description="a new root acts from the next opened round r where (r - 1) % every is 0"
    )


class Auditor(Document):
    """Who checks updates."""

    pinned: ClassVar[bool] = True

    account: str = Field(description="address, in its mixed-case form")
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="X25519 key to which openings are sealed, hexadecimal"
    )
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")] = Field(
        description="the account's, which says that the key is its own, hexadecimal"
    )

    @field_validator("account")
    @classmethod
    def _is_checksummed(cls, account: str) -> str:
        if not is_checksummed(account):
            raise ValueError(f"{account!r:.60} is no address in its mixed-case form")
        return account

    @field_validator("key")
    @classmethod
    def _is_key(cls, key: str) -> str:
        try:
            require_public_key(bytes.fromhex(key))
        except ConfigError as error:
            raise ValueError(error.message) from error
        return key

    @model_validator(mode="after")
    def _is_own_key(self) -> Auditor:
        if recover(reader_message(bytes.fromhex(self.key)), bytes.fromhex(self.signature)) != self.account:
            raise ValueError(f"{self.account} has not signed its key: have it print both with `fedledger auditor key`")
        return self


class Windows(Document):
    """The parts of local training that an auditor replays."""

    pinned: ClassVar[bool] = True

    steps: int = Field(ge=1, le=2**20, description="after every so many local steps an update commits to its state")
    drawn: int = Field(1, ge=1, le=MOST_WINDOWS, description="how many stretches between two such states are replayed")

    def count(self, steps: int) -> int:
        """Return how many windows so many local steps have."""
        return -(-steps // self.steps)


class SpotChecks(Document):
    """Who checks updates, and how much of each."""

    pinned: ClassVar[bool] = True

    auditors: list[Auditor] = Field(
        min_length=LEAST_AUDITORS, max_length=MOST_AUDITORS, description="in the order that the ledger has them"
    )
    windows: Windows | None = Field(None, description="what is replayed; null: the whole training of an update")

    @property
    def accounts(self) -> tuple[str, ...]:
        """The auditors' addresses, in their order."""
        return tuple(auditor.account for auditor in self.auditors)

    @model_validator(mode="after")
    def _each_once(self) -> SpotChecks:
        for what in ("account", "key"):
            if len({getattr(auditor, what) for auditor in self.auditors}) != len(self.auditors):
                raise ValueError(f"two auditors have the same {what}")
        return self


@dataclass(frozen=True)
class Check:
    """One update that is drawn to be checked.

    Parameters
    ----------
    place
        Where the task is.
    round
        Of the update.
    participant
        Its number on the ledger.
    auditor
        Which of the task's auditors looks at it, by its place in their list.
    seed
        Hash of the block of the round's proposal, 32 bytes.
    """

    place: Place
    round: int
    participant: int
    auditor: int
    seed: bytes

    @property
    def info(self) -> bytes:
        """What a box with the opening is for; no other opens."""
        chain_id, contract, task = self.place
        where = f"{chain_id}|{checksummed(contract)}|{task}|{self.round}|{self.participant}|{self.auditor}"
        return f"fedledger opening|{where}".encode()

    def windows(self, count: int, drawn: int) -> list[int]:
        """Return which of so many windows are replayed, ascending; all if there are no more than are drawn.

        A second auditor looks at the same ones: else an appeal would be a chance to hide what the first one saw.
        """
        if count <= drawn:
            return list(range(count))
        chosen = stream(self.seed, f"windows of participant {self.participant}", self.round)
        return sorted(chosen.sample(range(count), drawn))


def draw_value(seed: bytes, task: int, round_index: int, participant: int) -> int:
    """Return the number below 2^256 that decides about a participant: ``keccak256(abi.encode(…))`` of the ledger."""
    words = (number.to_bytes(32, "big") for number in (task, round_index, participant))
    return int.from_bytes(keccak(b"".join((seed, *words))), "big")


def drawn(seed: bytes, task: int, round_index: int, participant: int, rate: int, auditors: int) -> int | None:
    """Return the place of the auditor who checks a participant's update; None if it is not drawn.

    Parameters
    ----------
    seed
        Hash of the block of the round's proposal, 32 bytes.
    task, round_index, participant
        By their numbers on the ledger.
    rate
        Millionths of updates that are checked.
    auditors
        How many the task has.
    """
    value = draw_value(seed, task, round_index, participant)
    return auditor_of(value, auditors) if value % RATE_UNIT < rate else None


def auditor_of(value: int, auditors: int) -> int:
    """Return the place of the auditor who checks an update that was drawn, by its :func:`draw_value`."""
    return (value >> 128) % auditors


def second_auditor(first: int, auditors: int) -> int:
    """Return who looks at a check after an appeal: the next in the list."""
    return (first + 1) % auditors


def unsuited(solver: str, feedback: Sequence[str], vectors: Sequence[str]) -> str:
    """Return why updates of a task cannot be replayed from what a participant opens; empty if they can.

    Parameters
    ----------
    solver
        The task's, name@version.
    feedback
        Vectors of its payload that are encoded with error feedback.
    vectors
        What an update carries besides its delta.
    """
    if solver not in REPLAYABLE:
        return f"the solver {solver} does not give the same bytes everywhere: take {', '.join(sorted(REPLAYABLE))}"
    if feedback:
        return f"participants keep the residual of {feedback[0]} from round to round: set error_feedback = false"
    if vectors:
        return f"updates carry {vectors[0]} besides their delta: leave vectors out"
    return ""
