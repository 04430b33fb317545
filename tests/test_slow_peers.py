"""Mailboxes that send one byte a second: no honest node is late because of them, and everybody's money is counted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedledger.aggregator.mailbox.http_server import serving
from fedledger.contracts.ledger.actor import WAITED, Step
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import AGGREGATOR, participant_role
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.addresses import DEVELOPMENT, Networks
from support.world import GWEI, TASK, World, settled, world

PATIENCE = 12.0
"""Seconds for which the others wait for the victim before the chain's time goes on without it."""
PENALTY_GWEI = 1_000_000
NEARBY = Networks.read(DEVELOPMENT)


@contextmanager
def trickling() -> Iterator[str]:
    """A mailbox that takes everything and answers with one byte a second."""

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    connection.sendall(b"a")
                    time.sleep(1.0)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Alone(Participant):
    """A program of its own: the others go on when a step of it takes too long, and find it late."""

    running: threading.Thread | None = None
    done: Step = WAITED

    def step(self) -> Step:
        def take() -> None:
            self.done = Participant.step(self)

        if self.running is None or not self.running.is_alive():
            self.done = WAITED
            self.running = threading.Thread(target=take, daemon=True)
            self.running.start()
            self.running.join(PATIENCE)
        return WAITED if self.running.is_alive() else self.done


def played(w: World, urls: dict[str, str]) -> World:
    """Have aggregators announce addresses, let one participant speak to them over HTTP, and play to the end."""
    w.people[0] = w.participant(0, Alone)
    w.join()
    for role, url in urls.items():
        w.ledger.announce(w.accounts[role], url)
    w.history.update()
    w.people[0].batched.mailbox = HttpMailboxClient(w.history, TASK, NEARBY, timeout=3.0)
    w.play()
    w.check_money()
    return w


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param(("standby 0",), id="standby"),
        pytest.param((AGGREGATOR, "standby 0"), id="both", marks=pytest.mark.long),
    ],
)
def test_who_sends_a_byte_a_second_makes_no_honest_node_late(tmp_path: Path, slow: tuple[str, ...]) -> None:
    with (
        world(tmp_path, rounds=1, batched=True, standbys=1, verifiers=0, penalty_gwei=PENALTY_GWEI) as w,
        trickling() as never,
        serving(w.aggregators[0].commitments.opened_mailbox(), "127.0.0.1", 0) as port,
    ):
        who = participant_role(0)
        played(w, {AGGREGATOR: f"http://127.0.0.1:{port}"} | dict.fromkeys(slow, never))
        assert settled(w.task) == [1]
        victim = w.history.ids[w.people[0].access.address]
        assert w.task.rounds[1].verdicts[victim] is Verdict.ACCEPTED
        assert w.gains()[who] == w.credits()[who] > 0, "it lost nothing, and was paid"
        slashes = list(w.ledger.events(["Slashed"]))
        assert not slashes, [log.arguments["amount"] / GWEI for log in slashes]
        on_chain = victim in w.task.rounds[1].commits
        assert on_chain == (AGGREGATOR in slow), "it commits on chain where the active aggregator does not answer"
