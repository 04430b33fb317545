"""Questions to a node over a connection that is kept."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import HTTPError
from urllib3.util import wait_for_read

from fedledger.contracts.chain.answers import ContradictionError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.chain.loopback_rpc import NearNode, is_near
from fedledger.contracts.chain.records import Transaction
from fedledger.contracts.chain.rpc import RpcConnection
from fedledger.platform.experiment.accounts import experiment_account
from fedledger.protocol.errors import ChainError


class Node(BaseHTTPRequestHandler):
    """A node that answers with its connection's number and what it is asked; ``behave`` may spoil that."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections = 0
    behave: Callable[[Node, Any], Any] = lambda node, answer: answer

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1
        self.number = type(self).connections

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        many = asked if isinstance(asked, list) else [asked]
        answers = [{"id": q["id"], "result": [self.number, q["method"], *q["params"]]} for q in many]
        answer = type(self).behave(self, answers if isinstance(asked, list) else answers[0])
        if answer is None:
            return
        self.send_response(getattr(self, "status", 200))
        self.frame(json.dumps(answer).encode())

    def frame(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *about: object) -> None:
        pass


@contextmanager
def node(behave: Callable[[Node, Any], Any] = lambda node, answer: answer, **members: Any) -> Iterator[str]:
    kind = type("Behaving", (Node,), {"behave": behave, "connections": 0, **members})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_connection_is_kept() -> None:
    with node() as url:
        near = NearNode(url)
        assert [near.ask("eth_a", [n])["result"] for n in range(3)] == [[1, "eth_a", n] for n in range(3)]


def test_one_that_the_node_has_closed_is_opened_again() -> None:
    def close(node: Node, answer: Any) -> Any:
        node.close_connection = True
        return answer

    with node(close) as url:
        near = NearNode(url)
        for n in range(1, 4):
            assert near.ask("eth_a", [])["result"] == [n, "eth_a"]
            # Only when its end has arrived can one see that it was closed.
            assert wait_for_read(near._own.connection.socket, 10)


def in_chunks(node: Node, body: bytes) -> None:
    node.send_header("transfer-encoding", "Chunked")
    node.end_headers()
    for start in range(0, len(body), 7):
        part = body[start : start + 7]
        node.wfile.write(b"%x;a=b\r\n%s\r\n" % (len(part), part))
    node.wfile.write(b"0\r\nTrailer: of no use\r\n\r\n")


def until_the_end(node: Node, body: bytes) -> None:
    node.send_header("Connection", "close")
    node.end_headers()
    node.wfile.write(body)


def cut_off(node: Node, body: bytes) -> None:
    node.send_header("Content-Length", str(len(body) + 1))
    node.send_header("Connection", "close")
    node.end_headers()
    node.wfile.write(body)


@pytest.mark.parametrize(("frame", "connections"), [(in_chunks, [1, 1, 1]), (until_the_end, [1, 2, 3])])
def test_an_answer_may_come_in_chunks_or_end_with_its_connection(frame: Any, connections: list[int]) -> None:
    with node(frame=frame) as url:
        near = NearNode(url)
        assert [near.ask("eth_a", ["x" * 50])["result"] for _ in range(3)] == [
            [number, "eth_a", "x" * 50] for number in connections
        ]


def test_an_answer_that_is_cut_off_is_none() -> None:
    with node(frame=cut_off) as url, pytest.raises(NoConnectionError, match="in the middle"):
        NearNode(url).ask("eth_a", [])


def test_what_is_no_http_is_none() -> None:
    def greet(node: Node, answer: Any) -> None:
        node.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    with node(greet) as url, pytest.raises(NoConnectionError, match="ValueError"):
        NearNode(url).ask("eth_a", [])


def test_answers_come_in_the_order_of_the_questions() -> None:
    with node(lambda node, answer: answer[::-1]) as url:
        answers = NearNode(url).ask_all([("eth_a", [n]) for n in range(4)])
    assert [answer["result"][2] for answer in answers] == [0, 1, 2, 3]


@pytest.mark.parametrize("spoil", [lambda answers: answers[1:], lambda answers: {"error": "no batches"}, lambda a: 3])
def test_not_all_answers_are_none(spoil: Callable[[Any], Any]) -> None:
    with node(lambda node, answer: spoil(answer)) as url, pytest.raises(ValueError, match="2 questions at once"):
        NearNode(url).ask_all([("eth_a", []), ("eth_b", [])])


@pytest.mark.parametrize("most", [0, 1, 10])
@pytest.mark.parametrize("status", [200, 400, 413, 429])
def test_who_takes_few_questions_at_once_is_asked_for_few(most: int, status: int) -> None:
    asked: list[int] = []

    def refuse(node: Node, answer: Any) -> Any:
        asked.append(len(answer) if isinstance(answer, list) else 0)
        node.status = 200
        if asked[-1] <= most:
            return answer
        node.status = status
        return {"error": {"message": "too many"}, "id": None}

    with node(refuse) as url:
        connection = RpcConnection(url)
        for _ in range(2):
            found = connection.ask_all("eth_a", [[n] for n in range(70)])
            assert [answer[2] for answer in found] == list(range(70))
    assert sum(count > most for count in asked) <= 3, "it is remembered how many are taken"


@pytest.mark.parametrize(
    ("told", "is_waited_for"),
    [
        ({"code": -32005, "message": "daily request count exceeded, request rate limited"}, True),
        ({"code": -32005, "message": "rate limit reached"}, True),
        ({"code": 429, "message": "Your app has exceeded its compute units per second capacity."}, True),
        ({"code": -32007, "message": "50/second request limit reached"}, True),
        ({"code": -32005, "message": "query returned more than 10000 results"}, False),
        ({"code": -32602, "message": "Under this plan eth_getLogs is limited to a 10 block range"}, False),
        ({"code": 3, "message": "execution reverted: rate limit"}, False),
        ({"code": None, "message": None}, False),
    ],
)
def test_who_is_asked_too_often_is_asked_later(told: dict[str, Any], is_waited_for: bool) -> None:
    asked: list[int] = []

    def refuse(node: Node, answer: Any) -> Any:
        asked.append(1)
        return {"id": 0, "error": told} if len(asked) <= 3 else answer

    with node(refuse) as url:
        connection = RpcConnection(url)
        if is_waited_for:
            assert connection.ask_once("eth_a", [7])[2] == 7
            asked.clear()
            connection.patience = 0.0
            with pytest.raises(ChainError, match="too often"):
                connection.ask_once("eth_a", [7])
            return
        with pytest.raises(ChainError, match="with an error"):
            connection.ask_once("eth_a", [7])


@pytest.mark.parametrize("lost", ["eth_chainId", "eth_sendRawTransaction", "eth_getTransactionReceipt"])
def test_one_answer_that_takes_all_of_the_time_is_not_the_end(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left, answered = [0], RpcConnection.request

    def request(self: RpcConnection, method: str, params: list[Any]) -> Any:
        if method == lost and left[0]:
            left[0] -= 1
            time.sleep(0.2)
            raise NoConnectionError("it takes too long")
        return answered(self, method, params)

    monkeypatch.setattr(RpcConnection, "request", request)
    with running_chain("anvil") as process:
        chain = Chain(process.url)
        account = experiment_account(0, "publisher", chain)
        chain.fund(account.address, 10**18)
        chain.connection.patience, left[0] = 0.1, 1
        assert chain.connection.ask_once("eth_chainId", []) == "0x7a69"
        assert chain.receipt(chain.send(Transaction(account, account.address, b"")).hash)["status"] == 1
        assert left == [0]


@pytest.mark.parametrize("nothing", [2, 10**9])
def test_who_shows_no_newest_block_is_asked_again(nothing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, shown = [0], RpcConnection.request

    def request(self: RpcConnection, method: str, params: list[Any]) -> Any:
        left[0] -= params == ["latest", False]
        return None if params == ["latest", False] and left[0] >= 0 else shown(self, method, params)

    monkeypatch.setattr(RpcConnection, "request", request)
    with running_chain("anvil") as process:
        chain = Chain(process.url)
        account = experiment_account(0, "publisher", chain)
        chain.fund(account.address, 10**18)
        for ask in (lambda: Chain(process.url), lambda: chain.send(Transaction(account, account.address, b""))):
            chain.forget()
            left[0] = nothing
            with nullcontext() if nothing == 2 else pytest.raises(ContradictionError, match="shows no newest block"):
                ask()
            left[0] = 0


def test_what_is_broken_off_is_an_outage_and_the_next_question_is_asked_anew() -> None:
    def break_off(node: Node, answer: Any) -> Any:
        node.close_connection = True
        return None if node.number == 1 else answer

    with node(break_off) as url:
        near = NearNode(url)
        with pytest.raises(NoConnectionError):
            near.ask("eth_a", [])
        assert near.ask("eth_a", [])["result"] == [2, "eth_a"]
    with pytest.raises(NoConnectionError):
        NearNode("http://127.0.0.1:1").ask("eth_a", [])


def test_a_status_that_is_an_error_is_one() -> None:
    def fail(node: Node, answer: Any) -> Any:
        node.status = 503
        return answer

    with node(fail) as url, pytest.raises(HTTPError, match="503"):
        NearNode(url).ask("eth_a", [])


def test_an_answer_that_is_no_object_is_refused() -> None:
    with node(lambda node, answer: [answer]) as url, pytest.raises(ValueError, match="answered with list"):
        NearNode(url).ask("eth_a", [])


def test_threads_and_forked_processes_have_connections_of_their_own() -> None:
    with node() as url:
        near = NearNode(url)
        assert near.ask("eth_a", [])["result"][0] == 1
        others: list[int] = []
        thread = threading.Thread(target=lambda: others.append(near.ask("eth_a", [])["result"][0]))
        thread.start()
        thread.join()
        assert others == [2]
        pid = os.fork()
        if not pid:
            os._exit(near.ask("eth_a", [])["result"][0])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        assert near.ask("eth_a", [])["result"][0] == 1


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8545", True),
        ("http://localhost:8545/rpc?key=1", True),
        ("http://[::1]:8545", True),
        ("https://127.0.0.1:8545", False),
        ("http://user:password@127.0.0.1:8545", False),
        ("http://chain.example:8545", False),
        ("embedded", False),
    ],
)
def test_which_nodes_are_near(url: str, near: bool) -> None:
    assert is_near(url) is near
