"""A round's scoring as the ledger's logs tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedledger.contracts.abi import Log
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.scores import Scored


@dataclass
class ScoringHistory:
    """How a round is scored.

    Scorers were called in the block of ``called_at`` to score the updates of the ``present`` participants, by ascending
    id; in a batched round these are the ``updates``, of which there are none if their transaction cannot be read.
    ``seed`` has drawn the ``scorers`` in block ``drawn_in``, by their places; it is zeros if the chain had forgotten
    the block, and None before anybody has drawn. ``failed`` is the evidence of those who had failed before, and might
    have been drawn, and ``pool`` who had a place among the task's verifiers then, if these score.

    ``commitments`` are by place, ``revealed`` what scorers revealed on chain. Once it is ``tallied``, in ``tallied_at``
    if anything was: ``scores`` are of those who revealed, by place; updates with a median above ``limit`` do not count,
    which are those of the ``outvoted``, 0: all count; ``silent`` and ``far`` from the medians are scorers.

    ``applied`` counts how often the ledger had changed evidence, anybody's, before the tally.
    """

    called_at: Log
    present: tuple[int, ...]
    updates: tuple[ContentRef, ...] = ()
    seed: bytes | None = None
    drawn_in: int | None = None
    scorers: tuple[int, ...] = ()
    failed: dict[int, Evidence] = field(default_factory=dict)
    pool: frozenset[int] = frozenset()
    commitments: dict[int, bytes] = field(default_factory=dict)
    revealed: dict[int, Scored] = field(default_factory=dict)
    tallied: bool = False
    tallied_at: Log | None = None
    scores: dict[int, Scored] = field(default_factory=dict)
    limit: int = 0
    outvoted: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    far: tuple[int, ...] = ()
    applied: int = 0

    @property
    def stained(self) -> frozenset[int]:
        """The scorers that had failed before."""
        return frozenset(self.failed) & frozenset(self.scorers)

    def place_of(self, participant: int) -> int | None:
        """Return the place of a participant among the scorers; None if it is none."""
        return self.scorers.index(participant) if participant in self.scorers else None
