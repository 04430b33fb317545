"""How long a batched round takes apart from training and judging, with real messages, mailbox, ledger and chain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from fedledger.aggregator.mailbox.http_server import serving
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.batches import complete, opened
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import free_port
from fedledger.contracts.ledger.calls import open_call, propose_call, settle_call
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.platform.bench.synthetic_task import SyntheticTask
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.storage.addresses import DEVELOPMENT, Networks
from fedledger.storage.local import LocalStore

AT_ONCE = 8
"""Participants that speak to the mailbox at the same time."""


@dataclass
class Part:
    """Seconds that a part of a round took, and processor seconds of the aggregator and of all participants in it.

    On a machine with other work the seconds say little; with two cores of its own a part takes about as long as the
    greater of its processor times, besides the chain's.
    """

    name: str
    seconds: float = 0.0
    aggregator: float = 0.0
    participants: float = 0.0


def time_round(chain: Chain, participants: int, folder: Path) -> list[Part]:
    """Play the first round of a task and return how long its parts took.

    The participants are one other process, each with a connection of its own. Registering and opening are not counted.

    Parameters
    ----------
    chain
        A development chain that other processes can reach.
    participants
        How many.
    folder
        Where mailbox and store are kept.
    """
    synthetic = SyntheticTask.prepare(chain, participants, 2, batched=True)
    ledger, task, account = synthetic.ledger, synthetic.task, synthetic.aggregator
    history, store = History(ledger).update(), LocalStore(folder / "store")
    mailbox = Mailbox(ledger, History(ledger).update(), task, folder / "mailbox")
    port = free_port()
    ledger.announce(account, f"http://127.0.0.1:{port}")
    ledger.open_round(account, task, 1)
    current = history.update().task(task).rounds[1]
    parts: list[Part] = []
    with serving(mailbox, "127.0.0.1", port), _people(ledger, task, participants) as people:

        @contextmanager
        def part(name: str) -> Iterator[Part]:
            began, busy = time.perf_counter(), time.process_time()
            yield (timed := Part(name))
            timed.seconds, timed.aggregator = time.perf_counter() - began, time.process_time() - busy
            parts.append(timed)

        with part("sign") as timed:
            timed.participants = _ask(people, "sign")
        with part("collect") as timed:
            timed.participants = _ask(people, "commit")
        with part("tree"):
            batch = mailbox.seal(1)
            root = batch.root
        with part("post"):
            content = store.put(batch.encode())
            ledger.close_commits(account, task, 1, root, len(batch.commitments), content)
        with part("reveal") as timed:
            timed.participants = _ask(people, "reveal")
        with part("check"):
            current = history.update().task(task).rounds[1]
            openings = mailbox.openings(1)
            batch = opened(batch, openings)
            updates = {i: opening.update for i, opening in openings.items()}
            done = complete(current, batch, updates, synthetic.place)
            store.put(batch.encode())
        with part("propose, settle, open"):
            proposal = synthetic.proposal(1, sorted(done.reveals), batched=True)
            settling = settle_call(task, 1, proposal, len(proposal.verdict_words))
            ledger.send_calls(account, [propose_call(task, 1, proposal), settling, open_call(task, 2, None)])
    return parts


@contextmanager
def _people(ledger: Ledger, task: int, participants: int) -> Iterator[Connection]:
    here, there = get_context("spawn").Pipe()
    place = (ledger.chain.where, ledger.address, ledger.first_block, task, participants)
    process = get_context("spawn").Process(target=_play, args=(there, *place), daemon=True)
    process.start()
    there.close()
    here.recv()
    try:
        yield here
    finally:
        here.send("")
        process.join()


def _ask(people: Connection, what: str) -> float:
    """Let the participants do something and return the processor seconds that it took them."""
    people.send(what)
    return float(people.recv())


def _play(pipe: Connection, where: str, address: str, block: int, task: int, participants: int) -> None:
    """Be all participants, in a process of their own."""
    ledger = Ledger(Chain(where), address, block)
    synthetic, history = SyntheticTask.join(ledger, task, participants), History(ledger).update()
    base = history.task(task).rounds[1].base.digest
    networks = Networks.read(DEVELOPMENT)
    mailboxes = {i: HttpMailboxClient(history, task, networks) for i in synthetic.accounts}
    signed: dict[int, SignedCommitment] = {}

    def commit(i: int) -> None:
        mailboxes[i].commit(1, signed[i])

    def reveal(i: int) -> None:
        mailboxes[i].reveal(1, i, synthetic.update(1, i), synthetic.salt(1, i))

    pipe.send("ready")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while what := pipe.recv():
            busy = time.process_time()
            if what == "sign":
                signed |= {i: synthetic.signed(1, i, base) for i in mailboxes}
            else:
                list(pool.map(commit if what == "commit" else reveal, mailboxes))
            pipe.send(time.process_time() - busy)
