"""Disputes and their juries as the ledger holds them."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding


@dataclass(frozen=True)
class DisputeRecord:
    """A dispute as the ledger holds it; ``deadline`` is a block's time, 0 before there is one."""

    id: int
    task: int
    round: int
    kind: DisputeKind
    status: DisputeStatus
    subject: int
    level: int
    deadline: int
    challenger: str
    bond: int
    unable: int


@dataclass(frozen=True)
class JuryRecord:
    """A jury as the ledger holds it; deadlines are times of blocks, and all but ``draw_until`` are 0 until it is drawn.

    ``pool`` is the number of verifiers that it is drawn from, and ``finding`` what more than half of the votes say.
    """

    draw_block: int
    draw_until: int
    commits_until: int
    reveals_until: int
    pool: int
    committed: int
    revealed: int
    decided: bool
    finding: Finding
    transcript: bytes
    members: tuple[int, ...]
