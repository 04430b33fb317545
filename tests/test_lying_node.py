"""A node that lies or errs is noticed or survived: no program ends otherwise than with an honest node, or unclearly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.contracts.chain import bounded
from fedledger.contracts.chain.answers import ContradictionError, octets, quantity, typed
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.contradictions import contradiction
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.chain.far_node import FarNode
from fedledger.contracts.chain.logs import BLOOM_BLOCKS, SECOND_LOOKS, check_complete, place_of
from fedledger.contracts.chain.loopback_rpc import NearNode
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.protocol.errors import ChainError
from support.lying_node import LIES, Lies, lying_node
from support.quick import quick
from support.world import TASK, World, world

KINDS = sorted(LIES)
Node = Callable[[str], NearNode | FarNode]


def result(w: World) -> tuple[Any, ...]:
    """What a run comes to."""
    task = w.history.update().task(TASK)
    rounds = [(r.index, r.proposal.model.cid if r.proposal else None, r.settled) for r in task.rounds.values()]
    return task.model.cid, rounds, sorted(w.credits().items()), w.gains()


def play(folder: Path, lies: Lies) -> tuple[Any, ...]:
    """Play a task through a lying node; a program that a clear error ends is started again."""
    with running_chain("anvil") as process, lying_node(process.url, lies) as url:
        w = World(folder, Chain(url)).set_up(rounds=2, verifiers=1, participants=3).join()
        lies.is_on = True
        for _ in range(lies.most + 1):
            try:
                w.play()
                break
            except ChainError as error:
                # One sentence, and what to do.
                assert error.message.rstrip().endswith((".", "…")), error
        lies.is_on = False
        w.play()
        w.check_money()
        return result(w)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return play(tmp_path_factory.mktemp("honest"), Lies(0, KINDS, 0))


@pytest.mark.parametrize("kind", quick(4, KINDS))
def test_a_lie_changes_nothing(honest: tuple[Any, ...], tmp_path: Path, kind: str) -> None:
    lies = Lies(1, [kind], 6, 0.2)
    assert play(tmp_path, lies) == honest


@pytest.mark.parametrize("seed", quick(2, range(16)))
def test_lies_of_all_kinds_change_nothing(honest: tuple[Any, ...], tmp_path: Path, seed: int) -> None:
    lies = Lies(seed, KINDS, 25, 0.1)
    assert play(tmp_path, lies) == honest
    assert lies.told.total() == 25


@contextmanager
def standing(folder: Path, kind: str, most: int = 10**9) -> Iterator[tuple[World, Ledger, Lies]]:
    """Give a world that has joined, and its ledger as a node shows it that always lies."""
    with world(folder, rounds=1, verifiers=0, participants=2) as w:
        lies = Lies(0, [kind], most, 1.0)
        with lying_node(w.chain.where, lies) as url:
            yield w, Ledger(Chain(url), w.ledger.address, w.ledger.first_block), lies


@pytest.mark.parametrize(
    "kind", quick(1, ["logs of others", "last log kept back", "logs of other blocks", "logs taken back"])
)
def test_who_always_keeps_logs_back_is_not_believed(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing(tmp_path, kind) as (w, ledger, lies):
        lies.is_on = True
        with pytest.raises(ChainError):
            History(ledger).update()
        lies.is_on = False
        history = History(ledger).update()
        w.join()
        lies.is_on = True
        with pytest.raises(ChainError):
            history.update()
        lies.is_on = False
        assert history.update().owners == w.history.update().owners


def test_logs_that_are_doubled_or_in_disorder_are_put_in_order(tmp_path: Path) -> None:
    for kind in ("logs twice", "logs in disorder"):
        (tmp_path / kind).mkdir()
        with standing(tmp_path / kind, kind) as (w, ledger, lies):
            w.join()
            lies.is_on = True
            assert History(ledger).update().task(TASK).enrolled == w.history.update().task(TASK).enrolled


def test_another_chain_is_noticed(tmp_path: Path) -> None:
    """The node is started anew and has forgotten everything, while a program runs."""
    with running_chain("anvil") as other, world(tmp_path, rounds=1, verifiers=0, participants=2) as w:
        w.join()
        w.chain.connection._node = NearNode(other.url)  # type: ignore[attr-defined]
        Chain(other.url).advance(1)
        with pytest.raises(ChainError, match="is another one by now, or lost the ledger"):
            w.history.update()


class Dripping(threading.Thread):
    """A server that sends some bytes at once, and then one more at a time."""

    def __init__(self, first: bytes, then: bytes = b"x", pause: float = 0.05) -> None:
        super().__init__(daemon=True)
        self.first, self.then, self.pause = first, then, pause
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with closing(connection):
            try:
                connection.recv(65_536)
                connection.sendall(self.first)
                while True:
                    connection.sendall(self.then)
                    time.sleep(self.pause)
            except OSError:
                return


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DRIPS = {
    "body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
    "header": (HEAD + b"X: ", b"x"),
    "status": (b"HT", b"T"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "endless": (HEAD + b"Connection: close\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("node", [NearNode, FarNode])
@pytest.mark.parametrize("drip", DRIPS)
def test_an_answer_of_one_byte_at_a_time_is_none(node: Node, drip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_SECONDS", 0.5)
    server, began = Dripping(*DRIPS[drip]), time.monotonic()
    with closing(server.listener), pytest.raises((OSError, ValueError)):
        node(server.url).ask("eth_a", [])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("node", [NearNode, FarNode])
@pytest.mark.parametrize("drip", ["body", "chunks", "endless"])
def test_an_answer_without_end_is_none(node: Node, drip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 10_000)
    first, _ = DRIPS[drip]
    part = b"400\r\n" + b"x" * 1024 + b"\r\n" if drip == "chunks" else b"x" * 1024
    server = Dripping(first, part, 0.0)
    with closing(server.listener), pytest.raises(ValueError, match="more than 10000 bytes"):
        node(server.url).ask("eth_a", [])


@pytest.mark.parametrize("node", [NearNode, FarNode])
def test_near_and_far_nodes_answer_alike(node: Node) -> None:
    with running_chain("anvil") as process:
        asked = node(process.url)
        assert asked.ask("eth_chainId", [])["result"] == "0x7a69"
        assert [each["result"] for each in asked.ask_all([("eth_blockNumber", []), ("eth_chainId", [])])][1] == "0x7a69"
        assert "error" in asked.ask("eth_nothing", [])


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10), st.just("0x"), st.just("0x01")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["number", "hash", "logs", "topics", "address", "data", "timestamp", "status", "input"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
ASKED: dict[str, list[Any]] = {
    "eth_blockNumber": [],
    "eth_call": [{}, "latest"],
    "eth_getCode": ["0x" + "00" * 20, "latest"],
    "eth_accounts": [],
    "eth_getBlockByNumber": ["0x1", False],
    "eth_getTransactionByHash": ["0x" + "00" * 32],
    "eth_getTransactionReceipt": ["0x" + "00" * 32],
    "eth_getLogs": [
        {"address": "0x" + "00" * 20, "topics": [["0x" + "00" * 32]], "fromBlock": "0x0", "toBlock": "0x9"}
    ],
}


@given(st.sampled_from(sorted(ASKED)), documents)
def test_any_answer_is_read_or_refused(method: str, answer: Any) -> None:
    if contradiction(method, ASKED[method], answer) is None:
        typed(answer)


@given(documents)
def test_whatever_is_no_number_and_no_bytes_is_refused_clearly(answer: Any) -> None:
    for read in (quantity, octets, typed):
        try:
            read(json.loads(json.dumps(answer)))
        except ContradictionError as error:
            assert error.remedy


@pytest.mark.long
def test_what_is_missing_of_very_many_blocks_is_counted(tmp_path: Path) -> None:
    """Nobody looks at so many headers; but the ledger counts its participants and tasks."""
    with standing(tmp_path, "last log kept back") as (w, ledger, lies):
        w.chain.connection.ask("anvil_mine", [hex(BLOOM_BLOCKS + 10)])
        assert History(ledger).update().tasks.keys() == {TASK}
        lies.is_on = True
        with pytest.raises(ContradictionError, match="participants and tasks"):
            History(ledger).update()


class Crowded:
    """A busy chain's node: the filters of its blocks have every bit, and it counts what it is asked."""

    where, is_doubtful = "http://crowded", True

    def __init__(self, transactions: int) -> None:
        self.transactions = ["0x" + f"{n:064x}" for n in range(transactions)]
        self.asked: Counter[str] = Counter()

    def ask_all(self, method: str, params: Sequence[list[Any]]) -> list[Any]:
        self.asked[method] += len(params)
        if method == "eth_getTransactionReceipt":
            return [None] * len(params)
        bloom = "0x" + "ff" * 256
        return [{"number": p[0], "hash": "0x0", "logsBloom": bloom, "transactions": self.transactions} for p in params]

    def ask_once(self, method: str, params: list[Any]) -> Any:
        self.asked[method] += 1
        return []


@pytest.mark.parametrize("transactions", [1, 16, 200])
def test_a_busy_chain_is_not_asked_for_everything(transactions: int) -> None:
    node: Any = Crowded(transactions)
    place = place_of("0x" + "11" * 20, [["0x" + "22" * 32]])
    check_complete(node, place, range(1_000), [])
    assert node.asked["eth_getBlockByNumber"] == BLOOM_BLOCKS and node.asked["eth_getLogs"] == SECOND_LOOKS
    assert node.asked["eth_getTransactionReceipt"] == (SECOND_LOOKS * transactions if transactions <= 16 else 0)
