"""The time and the blocks of a chain, live or exported: what the deadlines of spot checks are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hexbytes import HexBytes

from fedledger.contracts.ledger.check_times import CheckTimes
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.export import Header, LedgerExport


@dataclass(frozen=True)
class Clock:
    """The newest block of a chain, and what is known of those before it.

    Parameters
    ----------
    times
        Knows when rounds were proposed.
    now, block
        Time and number of the newest block.
    hash_of
        Returns the hash of a block, by its number.
    """

    times: CheckTimes
    now: int
    block: int
    hash_of: Callable[[int], bytes]

    @classmethod
    def of(cls, ledger: Ledger) -> Clock:
        """Return the clock of a live chain."""
        chain = ledger.chain
        newest = chain.block()
        return cls(
            CheckTimes(ledger),
            int(newest["timestamp"]),
            int(newest["number"]),
            lambda number: bytes(chain.block(number)["hash"]),
        )

    @classmethod
    def of_export(cls, export: LedgerExport) -> Clock:
        """Return the clock of an exported ledger, whose headers have been found to link."""
        blocks = _Blocks(export)
        newest = blocks.header(blocks.first + len(export.blocks) - 1)
        return cls(
            _ExportedTimes(blocks),
            newest.timestamp,
            newest.number,
            lambda number: bytes(HexBytes(blocks.header(number).hash)),
        )


class _Blocks:
    """The headers of an export, by their numbers."""

    def __init__(self, export: LedgerExport) -> None:
        self._blocks = export.blocks
        self._known: dict[int, Header] = {}
        self.first = Header.decode(bytes(HexBytes(export.blocks[0].header))).number

    def header(self, number: int) -> Header:
        if number not in self._known:
            self._known[number] = Header.decode(bytes(HexBytes(self._blocks[number - self.first].header)))
        return self._known[number]


class _ExportedTimes(CheckTimes):
    """Knows when rounds of an exported ledger were proposed."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks

    def until(self, task: TaskHistory, current: RoundHistory, periods: int) -> int:
        proposed = 0 if current.proposed_at is None else self._blocks.header(current.proposed_at.block).timestamp
        return proposed + periods * task.params.check_period
