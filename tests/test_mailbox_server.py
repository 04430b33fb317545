"""The mailbox as a server: strangers occupy neither its connections nor its files nor its memory."""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import requests

from fedledger.aggregator.mailbox import connections as limits
from fedledger.aggregator.mailbox import mailbox as mailbox_module
from fedledger.aggregator.mailbox.connections import Connections, client_of
from fedledger.aggregator.mailbox.http_server import RateLimit, serving
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.ledger.history import History
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.platform.bench.synthetic_task import SyntheticTask
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.errors import ChainError, FedledgerError
from fedledger.protocol.records.commitment_batch import SignedCommitment, leaf
from fedledger.protocol.records.mailbox import MailboxRefusedError
from fedledger.storage.addresses import DEVELOPMENT, Networks

FILES = 1024
"""Files that a process may have open on most systems."""
MEMORY = 100 * 2**20


@dataclass
class Taking:
    """A mailbox that takes everything, and remembers how much."""

    commitments: list[SignedCommitment] = field(default_factory=list)
    asked: int = 0

    def commit(self, index: int, signed: SignedCommitment) -> None:
        self.commitments.append(signed)

    def reveal(self, index: int, participant: int, update: ContentRef, salt: bytes, staleness: int = 0) -> bool:
        return True

    def commitment(self, index: int, participant: int) -> SignedCommitment | None:
        return None

    def proof(self, index: int, participant: int) -> list[bytes] | None:
        self.asked += 1
        return None


@contextmanager
def served(most: int = 20, most_of_one: int = 10) -> Iterator[tuple[Taking, int]]:
    mailbox = Taking()
    with serving(mailbox, "127.0.0.1", 0, Connections(most, most_of_one)) as port:
        yield mailbox, port


def connected(port: int, own: str = "127.0.0.1", data: bytes = b"GET /") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10.0, source_address=(own, 0))
    connection.sendall(data)
    return connection


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other end closes a connection within some seconds; what it says before is read."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def status(port: int, path: str = "/v1/rounds/1/proofs/0") -> int:
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code


def test_of_too_many_connections_the_oldest_of_the_busiest_client_goes() -> None:
    with served(most=12, most_of_one=8) as (_, port):
        lonely = connected(port, "127.0.0.2")
        first, *others = [connected(port, "127.0.0.3") for _ in range(8)]
        assert not is_closed(first, 0.3)
        more = connected(port, "127.0.0.3")
        assert is_closed(first, 5.0), "one client has its share"
        several = [connected(port, f"127.0.0.{n}") for n in range(4, 10)]
        assert [is_closed(one, 5.0) for one in others[:3]] == [True] * 3, "there are 15, and room for 12"
        assert not any(is_closed(one, 0.2) for one in [lonely, *others[4:], more, *several])
        assert status(port) == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /v1/rounds/1/proofs/0 HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/rounds/1/commitments HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n{",
        b"POST /v1/rounds/1/commitments HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body", "half of what is refused"],
)
def test_a_request_that_is_not_finished_in_time_is_dropped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    with served() as (mailbox, port):
        connection, stopped = connected(port, data=data), threading.Event()

        def trickle() -> None:
            try:
                while not stopped.wait(0.1):
                    connection.sendall(b"a")
            except OSError:
                pass

        threading.Thread(target=trickle, daemon=True).start()
        assert is_closed(connection, 10.0)
        stopped.set()
        assert not mailbox.commitments and not mailbox.asked
        assert status(port) == 200


def test_who_takes_no_answers_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    with served() as (_, port):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(0.5)
        request = b"GET /v1/rounds/1/proofs/0 HTTP/1.1\r\nHost: x\r\n\r\n"
        deadline = time.monotonic() + 20
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                try:
                    connection.sendall(request)
                except TimeoutError:
                    continue


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"POST /v1/rounds/1/reveals HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 100_000,
        b"POST /v1/rounds/1/reveals HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"
        + b"a" * 100_000,
    ],
    ids=["target", "many headers", "long header", "long body", "chunks"],
)
def test_what_is_too_long_is_not_read_to_its_end(head: bytes) -> None:
    with served() as (_, port):
        connection = connected(port, data=b"")
        with pytest.raises(ConnectionError):
            for _ in range(1_000):
                connection.sendall(head)
        assert status(port) == 200


COMMITMENT = {"participant": 0, "commitment": "a" * 64, "signature": "b" * 130}


def _with(**fields: object) -> bytes:
    return json.dumps(COMMITMENT | fields).encode()


@pytest.mark.parametrize(
    "body",
    [
        _with(commitment="a" * 64 + "\n"),
        _with(commitment=" " + "a" * 63),
        _with(commitment="A" * 64),
        _with(commitment="0x" + "a" * 62),
        _with(commitment="\u0661" * 64),
        _with(signature="b" * 129 + "\n"),
        _with(signature="b" * 128),
        _with(participant=True),
        _with(participant=None),
        _with(participant="0"),
        _with(participant=0.0),
        _with(participant=2**32),
        _with(participant=-1),
        _with(more=1),
        _with().replace(b"0,", b"-0,", 1),
        _with().replace(b"0,", b"0e0,", 1),
        _with().replace(b"0,", b"00,", 1),
        _with().replace(b"0,", b"NaN,", 1),
        _with().replace(b"{", b'{"participant": 1, ', 1),
        b"\xef\xbb\xbf" + _with(),
        _with().decode().encode("utf-16"),
        _with().decode().encode("utf-32-le"),
        _with() + b"x",
        _with()[:-1],
        b"[" * 2_000,
        b"\xff",
        b"9" * 2_000,
        b"null",
    ],
)
def test_a_message_has_one_spelling(body: bytes) -> None:
    with served() as (mailbox, port):
        place = f"http://127.0.0.1:{port}/v1/rounds/1/commitments"
        answer = requests.post(place, data=body, timeout=10)
        assert (answer.status_code, answer.json()) == (422, {"error": "The message is malformed."})
        assert not mailbox.commitments
        assert requests.post(place, data=_with(), timeout=10).status_code == 200
        assert len(mailbox.commitments) == 1


@pytest.mark.parametrize(
    "number", ["+1", "01", "-0", "1_0", "%31%0a", "1%20", "1.0", "4294967296", "%D9%A1", "9" * 5_000]
)
def test_a_number_in_a_path_has_one_spelling(number: str) -> None:
    with served() as (mailbox, port):
        for path in (f"/v1/rounds/{number}/proofs/0", f"/v1/rounds/1/proofs/{number}"):
            answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=10)
            assert answer.status_code == 422 and len(answer.content) < 100
        assert not mailbox.asked


def test_nobody_is_told_what_somebody_sent() -> None:
    with served() as (_, port):
        for path in (
            "/<script>",
            "/v1/rounds/<script>/proofs/0",
            "/openapi.json",
            "/docs",
            "//example.org/",
            "/v1/rounds/",
        ):
            answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=10, allow_redirects=False)
            assert answer.status_code in (404, 422)
            assert b"script" not in answer.content and "location" not in answer.headers


def test_who_connects_in_vain_too_often_is_turned_away_and_a_proxy_is_not() -> None:
    useless = limits.CONNECTIONS_BURST + 20
    for proxies in (frozenset[str](), frozenset({"127.0.0.5"})):
        with serving(Taking(), "127.0.0.1", 0, Connections(proxies=proxies)) as port:
            answered, began = 0, time.monotonic()
            for _ in range(useless):
                try:
                    connection = connected(port, "127.0.0.5", b"GET /v1/rounds/1/proofs/0 HTTP/1.1\r\nHost: x\r\n\r\n")
                    answered += b"200 OK" in connection.recv(1024)
                except OSError:
                    pass
            allowed = limits.CONNECTIONS_BURST + 1 + limits.CONNECTIONS_A_SECOND * (time.monotonic() - began)
            assert answered == useless if proxies else answered <= allowed
            for _ in range(useless):
                # What is of use does not count.
                assert requests.post(f"http://127.0.0.1:{port}/v1/rounds/1/commitments", data=_with(), timeout=10).ok


def test_whose_an_address_is() -> None:
    assert client_of("1.2.3.4") == client_of("::ffff:1.2.3.4") != client_of("1.2.3.5")
    assert client_of("2a00:1:2:3::1") == client_of("2a00:1:2:3:ffff::2") != client_of("2a00:1:2:4::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2%eth1")
    assert client_of("") == ""


def test_the_table_of_clients_is_bounded() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(30_000):
        assert limit.wait(str(number)) == 0
    assert len(limit._buckets) <= 10_000


def test_nothing_is_kept_for_rounds_that_do_not_exist(tmp_path: Path) -> None:
    """And the ledger is not asked for each of them."""
    asked = []

    class Counting(History):
        def update(self) -> History:
            asked.append(1)
            return super().update()

    synthetic = SyntheticTask.prepare(Chain(), 2, 1, batched=True)
    synthetic.ledger.open_round(synthetic.aggregator, synthetic.task, 1)
    history = Counting(synthetic.ledger)
    history.update()
    mailbox = Mailbox(synthetic.ledger, history, synthetic.task, tmp_path)
    signed = SignedCommitment(0, bytes(32), bytes(65))
    began = time.monotonic()
    for number in range(2, 2_000):
        assert mailbox.proof(number, 0) is None
        with pytest.raises(MailboxRefusedError, match="is not open"):
            mailbox.commit(number, signed)
        with pytest.raises(MailboxRefusedError, match="is not open"):
            mailbox.reveal(number, 0, ContentRef(bytes(32), 1), bytes(32))
    assert not mailbox._rounds and not list(tmp_path.iterdir())
    assert len(asked) <= 3 + (time.monotonic() - began) / 0.1
    current = history.task(synthetic.task).rounds[1]
    mailbox.commit(1, synthetic.signed(1, 0, current.base.digest))
    assert mailbox.proof(1, 0) is None and mailbox.committed(1) == {0}


def test_a_slow_chain_is_asked_in_vain_for_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for rounds that do not exist keeps nobody else waiting for long."""
    clock, slow = [0.0], [0.0]
    monkeypatch.setattr(mailbox_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(History):
        def update(self) -> History:
            clock[0] += 0.4
            slow[0] += 0.4
            if outage:
                raise ChainError("The chain is away.")
            return super().update()

    outage: list[str] = []
    synthetic = SyntheticTask.prepare(Chain(), 2, 1, batched=True)
    synthetic.ledger.open_round(synthetic.aggregator, synthetic.task, 1)
    mailbox = Mailbox(synthetic.ledger, Slow(synthetic.ledger), synthetic.task, tmp_path)
    for _ in range(2):
        began, slow[0] = clock[0], 0.0
        for number in range(2, 2_000):
            clock[0] += 0.01
            with pytest.raises(FedledgerError):
                mailbox.commit(number, SignedCommitment(0, bytes(32), bytes(65)))
            with pytest.raises(FedledgerError):
                mailbox.reveal(1, 0, ContentRef(bytes(32), 1), number.to_bytes(32, "big"))
        assert 0 < slow[0] <= 0.4 + (clock[0] - began) / 4
        outage.append("from now on")


def test_what_the_mailbox_cannot_do_is_an_answer_without_details() -> None:
    class Failing(Taking):
        def commit(self, index: int, signed: SignedCommitment) -> None:
            raise ChainError("No chain answers at http://10.1.2.3/secret.")

    with serving(Failing(), "127.0.0.1", 0) as port:
        answer = requests.post(f"http://127.0.0.1:{port}/v1/rounds/1/commitments", data=_with(), timeout=10)
    assert answer.status_code == 503 and "secret" not in answer.text and answer.json()["error"]


@dataclass
class Load:
    """What was measured under attack."""

    seconds: dict[str, float] = field(default_factory=dict)
    files: int = 0
    connections: int = 0
    memory: int = 0


@contextmanager
def files_limited_to(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def attacked(port: int, connections: int, load: Load, known: Connections) -> Iterator[None]:
    """Attack a port, and look at this process meanwhile."""
    command = [sys.executable, "-m", "support.hostile_connections", str(port), str(connections)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(0.1):
            load.files = max(load.files, psutil.Process().num_fds())
            load.connections = max(load.connections, len(known))

    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == connections
        yield
        assert process.poll() is None, "the attack goes on"
    finally:
        process.kill()
        process.wait()
        process.stdout and process.stdout.close()
        stopped.set()
        looking.join()


def at_last(what: Callable[[int], Any], participants: list[int], seconds: float) -> float:
    """Do something for each participant, again if need be as nodes do, and return how long it took in all."""
    began = time.monotonic()

    def insist(participant: int) -> None:
        while True:
            try:
                return what(participant)
            except MailboxRefusedError as error:
                assert time.monotonic() < began + seconds, error
                time.sleep(0.5)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(insist, participants))
    return time.monotonic() - began


def serve_under_attack(folder: Path, honest: int, hostile: int, seconds: float) -> Load:
    """Serve honest nodes while others attack; return what was measured."""
    load = Load()
    with running_chain("anvil") as process, files_limited_to(FILES):
        synthetic = SyntheticTask.prepare(Chain(process.url), honest, 2, batched=True)
        ledger, task = synthetic.ledger, synthetic.task
        ledger.open_round(synthetic.aggregator, task, 1)
        history = History(ledger).update()
        current = history.task(task).rounds[1]
        signed = {i: synthetic.signed(1, i, current.base.digest) for i in synthetic.accounts}
        mailbox, known = Mailbox(ledger, History(ledger), task, folder), Connections()
        with serving(mailbox, "127.0.0.1", 0, known) as port:
            seat, people = history.task(task).seats[0], sorted(signed)
            there: Any = SimpleNamespace(endpoints={seat: f"http://127.0.0.1:{port}"}, task=history.task)
            posts = {i: HttpMailboxClient(there, task, Networks.read(DEVELOPMENT)) for i in people}
            gc.collect()
            before = psutil.Process().memory_info().rss
            with attacked(port, hostile, load, known):
                load.seconds["commit"] = at_last(lambda i: posts[i].commit(1, signed[i]), people, seconds)
                batch = mailbox.seal(1)
                assert set(batch.by_participant) == set(people)

                def prove(i: int) -> None:
                    proof = posts[i].proof(1, i)
                    if proof is None:
                        raise MailboxRefusedError("not yet")
                    assert verify(batch.root, leaf(i, signed[i].commitment), proof)

                load.seconds["proof"] = at_last(prove, people, seconds)
                update, salt = synthetic.update, synthetic.salt
                load.seconds["reveal"] = at_last(
                    lambda i: posts[i].reveal(1, i, update(1, i), salt(1, i)), people, seconds
                )
                (folder / "probe").write_text("files can be opened")
            gc.collect()
            load.memory = psutil.Process().memory_info().rss - before
            assert set(mailbox.openings(1)) == set(people)
            assert known.most < FILES and set(mailbox._rounds) == {1}
    print(f"{honest} honest, {hostile} hostile: {load}")
    return load


@pytest.mark.parametrize(
    ("honest", "hostile", "seconds"),
    [(100, 500, 120.0), pytest.param(1_000, 5_000, 600.0, marks=pytest.mark.long)],
)
def test_honest_nodes_are_served_while_others_attack(tmp_path: Path, honest: int, hostile: int, seconds: float) -> None:
    load = serve_under_attack(tmp_path, honest, hostile, seconds)
    assert load.files < FILES - 64, "the program has files for itself"
    assert load.memory < MEMORY
