from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ipfshttpclient
import pytest

from fedledger.protocol.encoding.cid import MIB, ContentRef, Profile, cid_bytes, unixfs_root
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.storage import ipfs
from fedledger.storage.base import ContentStore
from fedledger.storage.deadlines import within
from fedledger.storage.ipfs import IpfsStore
from fedledger.storage.local import LocalStore
from fedledger.storage.open import open_store
from support.ipfs_daemon import ipfs_daemon
from support.quick import quick

Answer = Callable[[BaseHTTPRequestHandler], None]
REF = ContentRef.of(b"the truth")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ipfs_daemon(tmp_path_factory.mktemp("ipfs")) as multiaddr:
        yield multiaddr


@pytest.fixture(scope="module")
def store(daemon: str) -> ContentStore:
    return open_store(daemon, Path("unused"))


@contextmanager
def server(answer: Answer) -> Iterator[IpfsStore]:
    """A store on an HTTP server that answers each request as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield IpfsStore(f"http://127.0.0.1:{running.server_port}", timeout=1.0)
        finally:
            running.shutdown()


def sending(body: bytes, status: int = 200, length: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)

    return answer


@pytest.mark.parametrize("length", [0, 12, MIB, MIB + 1, 7 * MIB // 2])
def test_the_daemon_gives_the_same_cid_and_bytes(store: ContentStore, length: int) -> None:
    data = (bytes(range(251)) * (length // 251 + 1))[:length]
    ref = store.put(data)
    assert ref == store.put(data) == ContentRef.of(data)
    assert store.get(ref, limit=length) == data
    assert store.has(ref)


@pytest.mark.parametrize("profile", [Profile(1, 64, 174, raw_leaves=True), Profile(0, 64, 174, raw_leaves=False)])
@pytest.mark.parametrize("chunks", [174, 175, 2 * 174 + 1])
def test_the_daemon_builds_the_same_deep_tree(daemon: str, profile: Profile, chunks: int) -> None:
    # js-ipfs has 174 links a node; chunks of 64 bytes reach the second level cheaply.
    data = b"".join(i.to_bytes(64, "big") for i in range(chunks))
    options = {
        "cid-version": str(profile.version),
        "raw-leaves": str(profile.raw_leaves).lower(),
        "chunker": f"size-{profile.chunk}",
    }
    added = ipfshttpclient.Client(daemon, timeout=60.0).add_bytes(data, opts=options)
    assert unixfs_root(data, profile) == cid_bytes(added)


def test_pins_come_and_go(store: ContentStore) -> None:
    ref = store.put(b"for a while")
    store.unpin(ref)
    store.unpin(ref)
    store.pin(ref)
    assert store.get(ref) == b"for a while"


def test_a_false_length_is_corrupt(store: ContentStore) -> None:
    ref = store.put(b"some content")
    for length in (ref.length - 1, ref.length + 1):
        with pytest.raises(ContentCorruptError):
            store.get(ContentRef(ref.digest, length))


def test_too_long_content_is_refused(store: ContentStore) -> None:
    with pytest.raises(ContentUnavailableError, match="the limit is 3"):
        store.get(store.put(b"long"), limit=3)


def test_content_that_nobody_has_is_unavailable(daemon: str) -> None:
    store = IpfsStore(daemon, timeout=0.5)
    ref = ContentRef.of(b"never stored")
    assert not store.has(ref)
    for use in (store.get, store.pin):
        with pytest.raises(ContentUnavailableError, match="go online"):
            use(ref)


@pytest.mark.parametrize("body", [b"a lie or ", b"the truth and more", b"the", b""])
def test_other_bytes_are_corrupt(body: bytes) -> None:
    with server(sending(body)) as store, pytest.raises(ContentCorruptError):
        store.get(REF)


@pytest.mark.parametrize("chunked", [True, False])
def test_endless_bytes_are_not_read_to_their_end(chunked: bool) -> None:
    stopped = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        if chunked:
            request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.close_connection = True
        block = bytes(2**16)
        try:
            while True:
                request.wfile.write(b"10000\r\n" + block + b"\r\n" if chunked else block)
        except OSError:
            stopped.set()

    with server(answer) as store, pytest.raises(ContentCorruptError):
        store.get(REF)
    assert stopped.wait(5)


def test_an_answer_that_breaks_off_is_unavailable() -> None:
    with server(sending(b"the", length=9)) as store, pytest.raises(ContentUnavailableError):
        store.get(REF)


def test_an_answer_that_stalls_is_unavailable() -> None:
    done = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        sending(b"the", length=9)(request)
        done.wait(10)

    with server(answer) as store:
        with pytest.raises(ContentUnavailableError):
            store.get(REF)
        done.set()


def test_content_that_comes_too_slowly_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipfs, "LEAST_RATE", 2**20)
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(16):
            request.wfile.write(bytes(2**16))
            if stop.wait(0.5):
                return

    ref = ContentRef(REF.digest, 2**20)
    with server(answer) as store:
        with pytest.raises(ContentUnavailableError, match="too slowly"):
            store.get(ref)
        stop.set()


def trickling(head: bytes) -> Answer:
    """Send something, then one byte a tenth of a second, which trips no limit on a single read."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        try:
            request.wfile.write(head)
            for _ in range(400):
                request.wfile.write(b"a")
                time.sleep(0.1)
        except OSError:
            pass
        request.close_connection = True

    return answer


@pytest.mark.parametrize(
    "head",
    quick(
        2,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"],
        ["body", "status", "headers", "endless body"],
    ),
)
def test_a_daemon_that_sends_a_byte_at_a_time_is_given_up(head: bytes) -> None:
    began = time.monotonic()
    with server(trickling(head)) as slow:
        store = IpfsStore(slow.where, timeout=0.3)
        for use in (lambda: store.put(b"the truth"), lambda: store.get(REF), lambda: store.pin(REF)):
            with pytest.raises(StoreError):
                use()
    assert time.monotonic() < began + 30


def test_an_exchange_with_a_daemon_is_over_when_what_it_is_part_of_is() -> None:
    began = time.monotonic()
    with server(trickling(b"HTTP/1.1 200 OK\r\nX: ")) as store:
        slow = IpfsStore(store.where, timeout=60.0)
        with within(lambda: 1.0), pytest.raises(ContentUnavailableError, match="too slowly"):
            slow.get(REF)
    assert time.monotonic() < began + 20


def test_a_daemon_that_imports_otherwise_is_refused() -> None:
    other = ContentRef.of(b"a lie").cid
    with (
        server(sending(b'{"Name": "x", "Hash": "%s", "Size": "9"}' % other.encode())) as store,
        pytest.raises(StoreError, match="import parameters"),
    ):
        store.put(b"the truth")


@pytest.mark.parametrize("body", [b"<html>a router</html>", b"{}", b'{"Hash": "a"}\n{"Hash": "b"}', b'{"Hash": 3}'])
def test_what_is_no_daemon_is_refused(body: bytes) -> None:
    with server(sending(body)) as store, pytest.raises(StoreError):
        store.put(b"the truth")


def test_no_daemon_is_no_missing_content() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = IpfsStore(f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}", timeout=1.0)
        for use in (lambda: store.put(b"x"), lambda: store.get(REF), lambda: store.has(REF), lambda: store.pin(REF)):
            with pytest.raises(StoreError, match="Start it") as caught:
                use()
            assert caught.type is StoreError


def test_stores_open_by_name(tmp_path: Path, daemon: str) -> None:
    _, _, host, _, port, _ = daemon.split("/")
    assert isinstance(open_store("local", tmp_path), LocalStore)
    for where in (f"http://{host}:{port}", f"http://{host}:{port}/", f"http://localhost:{port}", daemon):
        assert open_store(where, tmp_path).put(b"the truth") == REF


@pytest.mark.parametrize(
    "where", ["", "ipfs", "ftp://host:1", "http://", "http://host:port", "http://host/path", "/ip4/host", "/nothing/1"]
)
def test_what_is_no_address_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        open_store(where, tmp_path)
