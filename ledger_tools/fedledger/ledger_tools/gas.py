"""What a round costs a participant in gas, measured in whole transactions on a chain.

Counted is everything from the opening of a round to its settlement: commitments or their root, reveals, proposal with
digests, verdicts and pay, reputation, credit, settlement, and the opening of the next round. A withdrawal is apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fedledger.contracts.chain import Chain, load_account
from fedledger.contracts.client import open_call, propose_call, settle_call
from fedledger.ledger_tools.rehearsal import ETHER, Rehearsal
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.streams import stream

WARM_ROUND = 3
DIRECT = (10, 100)
SPARSE = (1_000, 4_096)
PROBE_BYTES = 1_000
TRANSACTION_GAS = 21_000


@dataclass(frozen=True)
class GasRow:
    """What one round cost.

    Parameters
    ----------
    mode
        ``direct`` or ``batched``.
    case
        ``first``: the first round, its own opening included. ``warm``: the third, with everybody. ``sparse``: the
        third, with 1,000 of 4,096 registered participants, drawn anew each round.
    chain
        The kind of chain.
    participants
        How many the round was for.
    gas_per_participant
        Gas of all the round's transactions, whoever sent them, divided by the participants.
    own_transaction
        Gas of the largest transaction that a participant sent itself; 0 if nobody needed one.
    withdrawal
        Gas of a participant's withdrawal of its credit to an address that exists.
    parts
        Gas by what was done; a round settles, and the next is opened, in the transaction of the proposal.
    error
        Why there are no figures.
    """

    mode: str
    case: str
    chain: str
    participants: int
    gas_per_participant: int | None = None
    own_transaction: int | None = None
    withdrawal: int | None = None
    parts: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class PeerRow:
    """What another ledger for federated learning costs a participant in a round.

    Parameters
    ----------
    name
        The system.
    participants
        With how many, if that is known.
    gas, gas_most
        Gas; the least and the greatest where a range is known.
    note
        What the figure is of.
    """

    name: str
    participants: int | None
    gas: int
    gas_most: int
    note: str = ""


PEERS = (
    PeerRow("OpenFL", 4, 368_000, 368_000),
    PeerRow("OpenFL", 16, 841_000, 841_000, "cannot close a round with more"),
    PeerRow("BlockFLow", 10, 5_300_000, 5_300_000, "about"),
    PeerRow("UnifyFL", None, 500_000, 2_200_000),
    PeerRow("CryptoFL", None, 96_000, 147_000),
    PeerRow("SettleFL", None, 63_000, 80_000, "rewards only; a round in total"),
)


def measure(
    chain: Chain,
    kind: str,
    participants: Sequence[int],
    sparse: bool = True,
    watch: Callable[[str], None] = lambda what: None,
) -> Iterator[GasRow]:
    """Measure direct rounds of 10 and 100, batched rounds of each of ``participants``, and sparse ones.

    Parameters
    ----------
    chain
        A development chain.
    kind
        What it is called in the rows.
    participants
        Sizes of the batched rounds that are for everybody.
    sparse
        Whether also rounds of 1,000 of 4,096 registered participants.
    watch
        Told what is measured next.
    """
    for batched, count in [*((False, count) for count in DIRECT), *((True, count) for count in participants)]:
        mode = "batched" if batched else "direct"
        watch(f"{mode} rounds of {count} on {kind}")
        yield from _rows(chain, GasRow(mode, "warm", kind, count), count, batched)
    if not sparse:
        return
    count, registered = SPARSE
    watch(f"batched rounds of {count} of {registered} on {kind}")
    yield from _rows(chain, GasRow("batched", "sparse", kind, count), registered, True)


def calldata_gas(chain: Chain) -> int:
    """Return what a byte of calldata costs that is not zero, in a transaction that does nothing else.

    It is 16, or 40 on chains with a floor price for calldata (Prague and later), where a proposal costs more.
    """
    account = load_account(hashlib.sha256(b"fedledger calldata").digest())
    chain.fund(account.address, ETHER)
    receipt = chain.send(account, account.address, b"\xff" * PROBE_BYTES)
    return (receipt.gas - TRANSACTION_GAS) // PROBE_BYTES


def _rows(chain: Chain, row: GasRow, registered: int, batched: bool) -> Iterator[GasRow]:
    """Play rounds and yield the row with its figures, after one for the first round if that is for everybody."""
    try:
        rehearsal = Rehearsal.prepare(chain, registered, WARM_ROUND + 1, batched)
        play = _Play(rehearsal, batched, row.participants)
        for index in range(1, WARM_ROUND + 1):
            own, parts = play.round(index)
            done = replace(
                row,
                gas_per_participant=round(sum(parts.values()) / row.participants),
                own_transaction=own,
                parts=parts,
            )
            if index == 1 and row.case == "warm":
                yield replace(done, case="first")
        yield replace(done, withdrawal=play.withdrawal())
    except ChainError as error:
        yield replace(row, error=str(error))


class _Play:
    """Rounds of a rehearsal, of as many of its participants as are asked."""

    def __init__(self, rehearsal: Rehearsal, batched: bool, count: int) -> None:
        self.rehearsal, self.batched, self.count = rehearsal, batched, count
        self.chain, self.ledger = rehearsal.ledger.chain, rehearsal.ledger
        self.parts: dict[str, int] = {}

    def round(self, index: int) -> tuple[int, dict[str, int]]:
        """Play a round; return the gas of the largest transaction of a participant's own, and gas by what was done."""
        r, ledger, task = self.rehearsal, self.ledger, self.rehearsal.task
        self.parts, own = {}, 0
        if index == 1:
            with self._counted("open"):
                ledger.open_round(r.aggregator, task, self._selection(index))
        ids = self._selection(index) or sorted(r.accounts)
        base = ledger.round(task, index).base_model
        if self.batched:
            batch = r.batch(index, ids, base)
            with self._counted("close"):
                content = ContentRef.of(batch.encode())
                ledger.close_commits(r.aggregator, task, index, batch.root, len(ids), content)
        else:
            own = self._send_own(index, ids, base)
        proposal = r.proposal(index, ids, self.batched)
        # In one transaction, as an aggregator does: the proposal pays for its data, and less if it does more.
        opening = open_call(task, self._selection(index + 1))
        settling = settle_call(task, index, proposal, len(proposal.verdict_words))
        calls = [propose_call(task, index, proposal), settling, opening]
        with self._counted("propose, settle, open"):
            if ledger.together(r.aggregator, calls) is None:
                ledger.propose_round(r.aggregator, task, index, proposal)
                words = 0
                while words < len(proposal.verdict_words):
                    words = ledger.settle_round(r.aggregator, task, index, proposal, words)
                ledger.open_round(r.aggregator, task, self._selection(index + 1))
        return own, self.parts

    def withdrawal(self) -> int:
        """Return the gas of one participant's withdrawal of its credit."""
        r = self.rehearsal
        participant = next(i for i in r.accounts if self.ledger.credit(r.task, i))
        return self.ledger.withdraw_credit(r.accounts[participant], r.task, participant).gas

    def _send_own(self, index: int, ids: Sequence[int], base: bytes) -> int:
        r, ledger, own = self.rehearsal, self.ledger, 0
        with self._counted("commit"):
            for i in ids:
                sent = ledger.commit_update(r.accounts[i], r.task, index, r.commitment(index, i, base))
                own = max(own, sent.gas)
        with self._counted("reveal"):
            for i in ids:
                sent = ledger.reveal_update(r.accounts[i], r.task, index, r.update(index, i), r.salt(index, i))
                own = max(own, sent.gas)
        return own

    def _selection(self, index: int) -> list[int] | None:
        """Return who is asked in a round, or None for everybody."""
        ids = sorted(self.rehearsal.accounts)
        return None if self.count == len(ids) else sorted(stream(b"", "gas", index).sample(ids, self.count))

    @contextmanager
    def _counted(self, part: str) -> Iterator[None]:
        before = self.chain.block_number()
        yield
        blocks = range(before + 1, self.chain.block_number() + 1)
        self.parts[part] = sum(self.chain.gas_used(number) for number in blocks)
