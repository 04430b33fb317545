"""Strangers in a run under chaos: who posts tasks and calls the ledger, crowds mailboxes, or trickles bytes."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.abi import functions
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.platform.experiment.accounts import experiment_account
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ChainError, FedledgerError
from fedledger.storage.local import LocalStore
from support.strangers import ODD_TEXTS, Stranger, hostile_spec, odd_argument

ROLES = ("stranger", "stranger's participant")
PURSE = 100 * 10**18
ACTS = 8
"""What a poster does before it ends: time is to stand still where nobody has anything left to do."""
CONNECTIONS = 100
TRICKLE = 0.2

log = logging.getLogger(__name__)


def strangers(chain: Chain) -> dict[str, LocalAccount]:
    """Return the accounts of those who post hostile tasks."""
    return {role: experiment_account(0, role, chain) for role in ROLES}


def poster(ledger: Callable[[], Ledger], experiment: Experiment, folder: Path, seed: int) -> None:
    """Post tasks with something wrong in them, play nonsense in them, and call the ledger with odd arguments."""
    rng, at = Random(f"poster {seed}"), ledger()
    accounts = strangers(at.chain)
    known: Any = SimpleNamespace(
        ledger=at,
        chain=at.chain,
        history=History(at),
        store=LocalStore(folder / "store"),
        folder=folder,
        accounts=accounts,
        experiment=experiment,
        params=experiment.task_params(experiment.publish(LocalStore(folder / "store"))),
        purse=accounts.__getitem__,
    )
    stranger: Stranger | None = None
    for _ in range(ACTS):
        try:
            stranger = stranger or Stranger(known)
            if rng.random() < 0.5:
                stranger.fabricate(stranger.post(hostile_spec(known, rng)))
            else:
                _call_anything(stranger, known, rng)
        except (FedledgerError, KeyError) as error:
            # A reorganisation may take back what it builds on.
            log.info("%s", error)
        time.sleep(rng.uniform(0.0, 0.3))


def _call_anything(stranger: Stranger, known: Any, rng: Random) -> None:
    if rng.random() < 0.3:
        known.ledger.announce(stranger.account, rng.choice(ODD_TEXTS))
        return
    name = rng.choice(sorted(functions()))
    arguments = [odd_argument(kind, rng, known) for kind in functions()[name].inputs]
    stranger.call(name, *arguments)


def crowd(port: int) -> None:
    """Keep a mailbox busy with many connections from which nothing sensible comes."""
    os.execv(sys.executable, [sys.executable, "-m", "support.hostile_connections", str(port), str(CONNECTIONS)])


def trickling_mailbox(ledger: Callable[[], Ledger], role: str, port: int) -> None:
    """Announce an aggregator's mailbox that takes whatever comes and answers a byte now and then."""
    at = ledger()
    account = experiment_account(0, role, at.chain)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            try:
                at.announce(account, f"http://127.0.0.1:{port}")
                break
            except ChainError as error:
                log.info("%s", error)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_trickle, args=(connection,), daemon=True).start()


def _trickle(connection: socket.socket) -> None:
    try:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
        while True:
            connection.sendall(b"a")
            time.sleep(TRICKLE)
    except OSError:
        connection.close()
