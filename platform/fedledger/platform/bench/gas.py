"""What a round costs a participant in gas, measured in whole transactions on a chain.

Counted is everything from the opening of a round to its settlement: commitments or their root, reveals, proposal with
digests, verdicts and pay, reputation, credit, settlement, and the opening of the next round. A withdrawal is apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import Transaction, load_account
from fedledger.contracts.ledger.calls import open_call, propose_call, settle_call
from fedledger.contracts.ledger.records import Proposal
from fedledger.platform.bench.synthetic_task import ETHER, SyntheticTask
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError

WARM_ROUND = 3
ROUNDS_PER_SETTLEMENT = 4
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
        ``first``: the first round, its own opening included. ``warm``: the third, with everybody. ``sparse``: with
        1,000 of 4,096 registered participants, drawn anew each round, the mean of four rounds that settle together
        (``max_unfinal = 4``). ``sparse, alone``: the same with each round settled by itself, the third one.
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
    together
        Rounds that settle in one transaction, of which the figures are the mean.
    parts
        Gas of a round by what was done; it settles, and the next is opened, in the transaction of the proposal.
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
    together: int = 1
    parts: dict[str, float] = field(default_factory=dict)
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
    receipt = chain.send(Transaction(account, account.address, b"\xff" * PROBE_BYTES))
    return (receipt.gas - TRANSACTION_GAS) // PROBE_BYTES


def _rows(chain: Chain, row: GasRow, registered: int, batched: bool) -> Iterator[GasRow]:
    """Play rounds and yield the row with its figures, after one for the first round or for rounds settled alone."""
    sparse, last = row.case == "sparse", WARM_ROUND
    try:
        unfinal = ROUNDS_PER_SETTLEMENT if sparse else 1
        synthetic = SyntheticTask.prepare(
            chain, registered, WARM_ROUND + 1 + ROUNDS_PER_SETTLEMENT, batched, max_unfinal=unfinal
        )
        play = _Play(synthetic, batched, row.participants)
        for index in range(1, WARM_ROUND + 1):
            done = play.rounds(row, [index])
            if index == 1 and not sparse:
                yield replace(done, case="first")
        if sparse:
            yield replace(done, case="sparse, alone")
            last += ROUNDS_PER_SETTLEMENT
            done = play.rounds(row, range(WARM_ROUND + 1, last + 1))
        yield replace(done, withdrawal=play.withdrawal())
    except ChainError as error:
        yield replace(row, error=str(error))


class _Play:
    """Rounds of a synthetic task, with some of its participants."""

    def __init__(self, synthetic: SyntheticTask, batched: bool, count: int) -> None:
        self.synthetic, self.batched, self.count = synthetic, batched, count
        self.chain, self.ledger = synthetic.ledger.chain, synthetic.ledger
        self.parts: dict[str, float] = {}

    def rounds(self, row: GasRow, indices: Sequence[int]) -> GasRow:
        """Play rounds that settle together; return the row with its figures."""
        r, ledger, task = self.synthetic, self.ledger, self.synthetic.task
        self.parts, own, pending = {}, 0, []
        for index in indices:
            if index == 1:
                with self._counted("open"):
                    ledger.open_round(r.aggregator, task, index, self._selection(index))
            ids = self._selection(index) or sorted(r.accounts)
            base = ledger.round(task, index).base_model
            if self.batched:
                batch = r.batch(index, ids, base)
                with self._counted("close"):
                    content = ContentRef.of(batch.encode())
                    ledger.close_commits(r.aggregator, task, index, batch.root, len(ids), content)
            else:
                own = max(own, self._send_own(index, ids, base))
            pending.append((index, r.proposal(index, ids, self.batched)))
            with self._counted("propose, settle, open"):
                self._post(pending, index == indices[-1])
        parts = {part: gas / len(indices) for part, gas in self.parts.items()}
        return replace(
            row,
            gas_per_participant=round(sum(parts.values()) / row.participants),
            own_transaction=own,
            together=len(indices),
            parts=parts,
        )

    def _post(self, pending: Sequence[tuple[int, Proposal]], last: bool) -> None:
        """Propose the last of some rounds, settle them all if it is the last, and open the next one.

        In one transaction, as an aggregator does: the proposal pays for its data, and less if it does more.
        """
        r, ledger, task = self.synthetic, self.ledger, self.synthetic.task
        index, proposal = pending[-1]
        settled = pending if last else ()
        calls = [settle_call(task, i, done, len(done.verdict_words)) for i, done in settled]
        selection = self._selection(index + 1)
        calls = [propose_call(task, index, proposal), *calls, open_call(task, index + 1, selection)]
        if ledger.send_calls(r.aggregator, calls) is not None:
            return
        ledger.propose_round(r.aggregator, task, index, proposal)
        for i, done in settled:
            words = 0
            while words < len(done.verdict_words):
                words = ledger.settle_round(r.aggregator, task, i, done, words)
        ledger.open_round(r.aggregator, task, index + 1, selection)

    def withdrawal(self) -> int:
        """Return the gas of one participant's withdrawal of its credit."""
        r = self.synthetic
        participant = next(i for i in r.accounts if self.ledger.credit(r.task, i))
        return self.ledger.withdraw_credit(r.accounts[participant], r.task, participant).gas

    def _send_own(self, index: int, ids: Sequence[int], base: bytes) -> int:
        r, ledger, own = self.synthetic, self.ledger, 0
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
        ids = sorted(self.synthetic.accounts)
        return None if self.count == len(ids) else sorted(stream(b"", "gas", index).sample(ids, self.count))

    @contextmanager
    def _counted(self, part: str) -> Iterator[None]:
        before = self.chain.block_number()
        yield
        blocks = range(before + 1, self.chain.block_number() + 1)
        self.parts[part] = self.parts.get(part, 0) + sum(self.chain.gas_used(number) for number in blocks)
