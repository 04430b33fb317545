"""JSON-RPC to a node on this machine, over a connection that is kept.

A general HTTP client takes several times as long over a question as such a node takes to answer it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import HTTPError
from urllib3.util import wait_for_read

from fedledger.contracts.chain import bounded
from fedledger.contracts.chain.bounded import SILENCE_SECONDS, Deadline, OversizedError
from fedledger.protocol.encoding import canonical

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PART = 256 * 1024
MOST_IN_A_LINE = 65_536
MOST_LINES = 256
"""Bytes of a line of an answer's header, and lines of it."""


def is_near(url: str) -> bool:
    """Return whether a URL names a node on this machine, to which the way needs neither proxy nor password."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK and parts.username is None


class NearNode:
    """A node on this machine; every thread has a connection of its own.

    Parameters
    ----------
    url
        One that :func:`is_near`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port or 80
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
        self._head = head.encode().replace(b"%", b"%%") + b"%d\r\n\r\n"
        self._own = threading.local()

    def ask(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        """Return the answer to a question, which has a ``result`` or an ``error``.

        Raises
        ------
        requests.RequestException
            If there is none. The node may have understood the question nevertheless.
        ValueError
            If it is no JSON object.
        """
        answer = self._exchange(question(0, method, params))
        if not isinstance(answer, dict):
            raise ValueError(f"{method} was answered with {type(answer).__name__}")
        return answer

    def ask_all(self, questions: Sequence[tuple[str, Sequence[Any]]]) -> list[dict[str, Any]]:
        """Return the answers to many questions, in their order; see :meth:`ask`.

        Raises
        ------
        ValueError
            Also if not all of them are answered.
        """
        asked = [question(place, *each) for place, each in enumerate(questions)]
        return in_order(self._exchange(asked), len(asked))

    def _exchange(self, document: Any) -> Any:
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            connection = self._connection()
            status, answer = connection.post(self._head % len(body) + body)
        except OversizedError:
            self._leave()
            raise
        except (OSError, ValueError) as error:
            self._leave()
            raise NoConnectionError(f"{type(error).__name__}: {error}") from error
        if not connection.stays:
            self._leave()
        if status != 200:
            raise HTTPError(f"HTTP status {status}: {answer[:200].decode(errors='replace')}")
        return parsed(answer)

    def _connection(self) -> _Connection:
        """Return this thread's connection, which is opened unless it is open."""
        own, process = self._own, os.getpid()
        # What a forked process inherits is its parent's.
        known: _Connection | None = own.connection if getattr(own, "process", None) == process else None
        # Nothing is due to come: what is there to be read is the end of a connection that the node has closed.
        if known is not None and wait_for_read(known.socket, 0):
            self._leave()
            known = None
        if known is None:
            own.process, own.connection = process, _Connection(self._host, self._port)
        connection: _Connection = own.connection
        return connection

    def _leave(self) -> None:
        connection: _Connection | None = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
        self._own.connection = None


class _Connection:
    """A connection that HTTP requests go over, one after another.

    The standard library's client reads the headers of an answer as those of an email, which takes longer than all else
    that a question costs.
    """

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._known, self._deadline = bytearray(), Deadline()
        self.stays = True

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def post(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return its answer's status and body; raises OSError or ValueError if there is none."""
        self._known.clear()
        self._deadline = Deadline(bounded.MOST_SECONDS)
        self._deadline.limit(self.socket)
        self.socket.sendall(request)
        version, status, *_ = self._line().split()
        headers: dict[bytes, bytes] = {}
        while line := self._line():
            if len(headers) > MOST_LINES:
                raise ValueError("the answer has too many headers")
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip().lower()
        self.stays = version == b"HTTP/1.1" and headers.get(b"connection") != b"close"
        if headers.get(b"transfer-encoding") == b"chunked":
            return int(status), b"".join(self._chunks())
        if b"content-length" in headers:
            return int(status), self._bytes(int(headers[b"content-length"]))
        self.stays = False
        while self._more():
            _check_size(len(self._known))
        return int(status), bytes(self._known)

    def _chunks(self) -> Iterator[bytes]:
        total = 0
        while size := int(self._line().partition(b";")[0], 16):
            total += size
            _check_size(total)
            yield self._bytes(size)
            self._line()
        while self._line():
            pass

    def _bytes(self, size: int) -> bytes:
        _check_size(size)
        while len(self._known) < size:
            if not self._more():
                raise ConnectionError("the node closed the connection in the middle of an answer")
        return self._take(size)

    def _line(self) -> bytes:
        while (end := self._known.find(b"\n")) < 0:
            if len(self._known) > MOST_IN_A_LINE or not self._more():
                raise ConnectionError("the node closed the connection before it answered")
        return self._take(end + 1).rstrip()

    def _take(self, size: int) -> bytes:
        found = bytes(self._known[:size])
        del self._known[:size]
        return found

    def _more(self) -> bool:
        """Wait for further bytes; False if there are none."""
        self._deadline.limit(self.socket)
        found = self.socket.recv(PART)
        self._known += found
        return bool(found)


def _check_size(size: int) -> None:
    if not 0 <= size <= bounded.MOST_BYTES:
        raise OversizedError


def parsed(answer: bytes) -> Any:
    """Return an answer's document; raises ValueError if it is none."""
    return canonical.parse(answer.decode())


def in_order(answers: Any, count: int) -> list[dict[str, Any]]:
    """Return the answers to as many questions, in the order of these; raises ValueError if one has none."""
    if not isinstance(answers, list):
        raise ValueError(f"{count} questions at once were answered with {answers!r:.200}")
    found = {each.get("id"): each for each in answers if isinstance(each, dict) and isinstance(each.get("id"), int)}
    if found.keys() != set(range(count)):
        raise ValueError(f"{count} questions at once got {len(found)} answers")
    return [found[place] for place in range(count)]


def question(place: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    """Return a question as JSON-RPC asks it."""
    return {"jsonrpc": "2.0", "id": place, "method": method, "params": list(params)}
