"""Requests to where a stranger says: where they go, what they can do there, and how long they last."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.storage import outgoing
from fedledger.storage.addresses import DEVELOPMENT, Networks, Place, port_of
from fedledger.storage.deadlines import within
from fedledger.storage.ipfs import IpfsStore
from fedledger.storage.outgoing import UnreachableError, exchange
from support.ipfs_daemon import ipfs_daemon

NEARBY = Networks.read(DEVELOPMENT)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SIGNED = SignedCommitment(0, bytes(32), bytes(65))
Talk = Callable[[socket.socket], None]


@contextmanager
def peer(talk: Talk) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who reads a request and then says what it likes; yields its port, and what it was sent."""
    heard: list[bytes] = []
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                heard.append(connection.recv(65_536))
                talk(connection)
            except OSError:
                pass

    def accept() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            stopped.set()


def saying(data: bytes) -> Talk:
    return lambda connection: connection.sendall(data)


def trickling(head: bytes = b"") -> Talk:
    """Send one byte a tenth of a second for a long time, after something."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(600):
            connection.sendall(b"a")
            time.sleep(0.1)

    return talk


def silent(connection: socket.socket) -> None:
    connection.recv(1)


def ask(port: int, seconds: float = 5.0, networks: Networks = NEARBY, host: str = "127.0.0.1") -> tuple[int, bytes]:
    return exchange(Place("http", host, port), networks, "/v1/x", b"{}", time.monotonic() + seconds)


def test_a_request_is_plain_and_its_answer_comes_back() -> None:
    with peer(saying(OK)) as (port, heard):
        assert ask(port) == (200, b"{}")
        place = Place("http", "127.0.0.1", port)
        assert exchange(place, NEARBY, "/v1/y", None, time.monotonic() + 5) == (200, b"{}")
    posted, asked = heard
    assert posted.split(b"\r\n\r\n") == [
        b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2" % port,
        b"{}",
    ]
    assert asked.startswith(b"GET /v1/y HTTP/1.1\r\n") and asked.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "talk",
    [
        silent,
        trickling(),
        trickling(b"HTTP/1.1 200 OK\r\nX: "),
        trickling(b"HTTP/1.1 100 Continue\r\n\r\n"),
        trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
        trickling(b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["silence", "status", "header", "after an interim answer", "body", "body without length"],
)
def test_who_takes_too_long_is_given_up(talk: Talk) -> None:
    began = time.monotonic()
    with peer(talk) as (port, _), pytest.raises(UnreachableError):
        ask(port, seconds=0.7)
    assert time.monotonic() < began + 10


def chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1;" + b"x" * 1000 + b"\r\na\r\n")


def interim(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "talk",
    [
        saying(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"a" * 999_999),
        saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 999_999),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        saying(b"nonsense\r\n\r\n"),
        saying(b""),
        chunks,
        interim,
    ],
    ids=["head", "body", "no length", "cut off", "two lengths", "nonsense", "nothing", "chunks", "interim"],
)
def test_an_answer_that_is_too_long_or_none_is_no_answer(talk: Talk) -> None:
    with peer(talk) as (port, _), pytest.raises(UnreachableError):
        ask(port, seconds=30.0)


def test_nobody_is_sent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(saying(OK)) as (other, unheard):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{other}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{other}")
        there = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % other
        with peer(saying(there)) as (port, _):
            assert ask(port) == (307, b"")
        assert not unheard


class Names:
    """A name server that says something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def __call__(self, host: str, port: object, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, 0)) for found in self.answers.pop(0)]


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that first leads to a harmless address must not lead to another one afterwards."""
    local = Networks.read(["127.0.0.2/32"])
    with peer(saying(OK)) as (port, heard):
        for answers in ([["127.0.0.1"], ["127.0.0.2"]], [["127.0.0.2", "127.0.0.1"], ["127.0.0.1"]]):
            names = Names(*answers)
            monkeypatch.setattr(outgoing.socket, "getaddrinfo", _only_literals(names))
            with pytest.raises(UnreachableError):
                ask(port, networks=local, host="rebinding.example")
            assert len(names.answers) == 1
        assert not heard
        monkeypatch.setattr(outgoing.socket, "getaddrinfo", _only_literals(Names(["10.0.0.1", "127.0.0.1"])))
        assert ask(port, networks=Networks.read(["127.0.0.1/32"]), host="several.example")[0] == 200
        assert f"Host: several.example:{port}".encode() in heard[0]


def _only_literals(names: Names) -> Callable[..., Any]:
    """Resolve names by a name server of the test, and addresses as ever."""
    ever = socket.getaddrinfo

    def resolve(host: str, port: object, *more: Any, **options: Any) -> Any:
        if host.endswith(".example"):
            return names(host, port)
        return ever(host, port, *more, **options)  # type: ignore[arg-type]

    return resolve


def test_a_name_server_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(outgoing.socket, "getaddrinfo", lambda *_, **__: hold.wait(60) and [])
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="too long"):
        ask(80, seconds=0.5, host="slow.example")
    assert time.monotonic() < began + 10
    hold.set()


def test_names_that_are_never_resolved_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hold, real, begun = threading.Event(), socket.getaddrinfo, []

    def resolve(host: Any, *more: Any, **options: Any) -> Any:
        if str(host).startswith("slow"):
            begun.append(host)
            return hold.wait(60) and []
        return real(host, *more, **options)

    monkeypatch.setattr(outgoing.socket, "getaddrinfo", resolve)
    with peer(saying(OK)) as (port, _):
        for number in range(2 * outgoing.MAX_LOOKUPS):
            with pytest.raises(UnreachableError, match="too long"):
                ask(80, seconds=0.02, host=f"slow{number % 3}.example")
        assert ask(port, host="localhost")[0] == 200
    assert sorted(begun) == [f"slow{number}.example" for number in range(3)]
    hold.set()


def test_an_encrypted_answer_comes_from_who_has_the_names_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def accept() -> None:
        for _ in range(3):
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    connection.recv(65_536)
                    connection.sendall(OK)
            except OSError:
                pass

    def get(host: str) -> int:
        place = Place("https", host, listener.getsockname()[1])
        return exchange(place, NEARBY, "/", None, time.monotonic() + 10)[0]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        outgoing._context.cache_clear()
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            get("localhost")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        outgoing._context.cache_clear()
        assert get("localhost") == 200
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            get("127.0.0.1")
    outgoing._context.cache_clear()


def test_who_greets_an_encrypted_connection_with_silence_is_given_up() -> None:
    began = time.monotonic()
    with peer(silent) as (port, _), pytest.raises(UnreachableError, match="too long"):
        exchange(Place("https", "127.0.0.1", port), NEARBY, "/", None, time.monotonic() + 0.5)
    assert time.monotonic() < began + 10


def mailboxes(urls: dict[str, str], networks: Networks = NEARBY, timeout: float = 10.0) -> HttpMailboxClient:
    """A node's way to mailboxes at some URLs, of which the first is the active aggregator's."""
    task = SimpleNamespace(seats=tuple(urls), active=0)
    history: Any = SimpleNamespace(endpoints=urls, task=lambda _: task)
    return HttpMailboxClient(history, 1, networks, timeout)


def try_all(post: HttpMailboxClient) -> None:
    """Send every message that a node sends."""
    with pytest.raises(MailboxRefusedError):
        post.commit(1, SIGNED)
    with pytest.raises(MailboxRefusedError):
        post.reveal(1, 0, ContentRef(bytes(32), 1), bytes(32))
    assert post.proof(1, 0) is None


def _pins(store: IpfsStore) -> set[str]:
    return set(store._client.pin.ls(type="recursive").as_json()["Keys"])


def test_an_announced_address_does_nothing_to_a_nodes_own_services(tmp_path: Path) -> None:
    """An IPFS daemon shuts down, unpins and forgets when it is asked to; a development chain mines."""
    content = b"hello" * 100
    with ipfs_daemon(tmp_path) as address, running_chain("anvil") as process:
        store, chain = IpfsStore(address), Chain(process.url)
        ref, head, pins = store.put(content), chain.head(), _pins(store)
        daemon, node = port_of(address), port_of(process.url)
        services = NEARBY.allowed, frozenset({daemon, node})
        for networks in (NEARBY, Networks(*services)):  # type: ignore[arg-type]
            for port in (daemon, node):
                place = f"http://127.0.0.1:{port}"
                paths = ["", "/", "/api/v0/shutdown", "/api/v0/shutdown?x=", f"/api/v0/pin/rm?arg={ref.cid}&x="]
                for path in [*paths, f"/api/v0/block/rm/{ref.cid}", "/api/v0/shutdown#", "/..", "/?x="]:
                    try_all(mailboxes({"first": place + path}, networks, timeout=20.0))
        assert store.get(ref) == content
        assert _pins(store) == pins
        assert chain.head() == head


def test_a_standby_that_trickles_delays_nobody() -> None:
    with peer(saying(OK)) as (good, heard), peer(trickling(b"HTTP/1.1 200 OK\r\nX: ")) as (bad, _):
        urls = {"active": f"http://127.0.0.1:{good}"}
        urls |= {f"standby {n}": f"http://127.0.0.1:{bad}" for n in range(40)}
        post = mailboxes(urls, timeout=60.0)
        began = time.monotonic()
        post.commit(1, SIGNED)
        assert not post.reveal(1, 0, ContentRef(bytes(32), 1), bytes(32)), "the standbys do not have it"
        assert not post.reveal(1, 0, ContentRef(bytes(32), 1), bytes(32))
        assert time.monotonic() < began + 15
        assert len(heard) == 2, "who has it is not told again"
        assert threading.active_count() < 60


def test_an_active_aggregator_that_trickles_is_given_up_in_time_for_the_ledger() -> None:
    with peer(trickling(b"HTTP/1.1 200 OK\r\nX: ")) as (bad, _), peer(saying(OK)) as (good, heard):
        post = mailboxes({"active": f"http://127.0.0.1:{bad}", "standby": f"http://127.0.0.1:{good}"}, timeout=60.0)
        began = time.monotonic()
        with within(lambda: 1.0), pytest.raises(MailboxRefusedError, match="too long"):
            post.commit(1, SIGNED)
        assert heard, "the standby has it nevertheless"
        with within(lambda: 1.0):
            assert not post.reveal(1, 0, ContentRef(bytes(32), 1), bytes(32))
        with within(lambda: 1.0):
            assert post.proof(1, 0) is None
        assert time.monotonic() < began + 20


def test_a_connection_that_is_lost_is_made_again() -> None:
    left = [2]

    def talk(connection: socket.socket) -> None:
        if left[0]:
            left[0] -= 1
        else:
            connection.sendall(OK)

    with peer(talk) as (port, heard):
        mailboxes({"active": f"http://127.0.0.1:{port}"}).commit(1, SIGNED)
        assert len(heard) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 16_000,
        b'{"proof": "' + b"a" * 64 + b'"}',
        b'{"proof": ["' + b"A" * 64 + b'"]}',
        b'{"proof": ["' + b"a" * 64 + b'\\n"]}',
        b'{"proof": [" ' + b"a" * 63 + b'"]}',
        b'{"proof": ["' + b"a" * 62 + b'"]}',
        b'{"proof": [1]}',
        b'{"proof": [' + b",".join([b'""'] * 65) + b"]}",
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_a_proof_has_one_spelling(answer: bytes) -> None:
    talk = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
    with peer(talk) as (port, _):
        assert mailboxes({"active": f"http://127.0.0.1:{port}"}).proof(1, 0) is None


def test_what_a_mailbox_says_is_shown_in_harmless_characters_and_not_at_length() -> None:
    said = b'{"error": "\\u001b[2J\\u202e' + b"x" * 10_000 + b'"}'
    talk = saying(b"HTTP/1.1 409 No\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
    with peer(talk) as (port, _), pytest.raises(MailboxRefusedError) as caught:
        mailboxes({"active": f"http://127.0.0.1:{port}"}).commit(1, SIGNED)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
