"""Disputes and juries as the ledger's logs tell them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding


@dataclass
class JuryHistory:
    """A jury, as its logs tell it: who was drawn, and what they committed to and revealed, by participant id."""

    draw_block: int
    members: tuple[int, ...] | None = None
    committed: dict[int, bytes] = field(default_factory=dict)
    revealed: dict[int, tuple[Finding, bytes]] = field(default_factory=dict)
    decided: bool = False
    finding: Finding = Finding.NONE
    appellant: str | None = None
    appeal_bond: int = 0


@dataclass
class DisputeHistory:
    """A dispute about a proposed round, as its logs tell it; ``juries`` by level."""

    id: int
    task: int
    round: int
    kind: DisputeKind
    subject: int
    challenger: str
    bond: int
    opened_in: int
    juries: list[JuryHistory] = field(default_factory=list)
    status: DisputeStatus = DisputeStatus.OPEN

    @property
    def awaits_draw(self) -> bool:
        """Whether its last jury was called and is not drawn."""
        return bool(self.juries) and self.juries[-1].members is None and not self.juries[-1].decided
