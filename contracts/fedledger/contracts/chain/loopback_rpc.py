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

from fedledger.protocol.encoding import canonical

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUT = 30.0
MOST_IN_A_LINE = 65_536
"""Bytes of an answer's header."""


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
        answer = self._exchange(_question(0, method, params))
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
        answers = self._exchange([_question(place, *question) for place, question in enumerate(questions)])
        if not isinstance(answers, list):
            raise ValueError(f"{len(questions)} questions at once were answered with {answers!r:.200}")
        found = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        if found.keys() != set(range(len(questions))):
            raise ValueError(f"{len(questions)} questions at once got {len(found)} answers")
        return [found[place] for place in range(len(questions))]

    def _exchange(self, document: Any) -> Any:
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            connection = self._connection()
            status, answer = connection.post(self._head % len(body) + body)
        except (OSError, ValueError) as error:
            self._leave()
            raise NoConnectionError(f"{type(error).__name__}: {error}") from error
        if not connection.stays:
            self._leave()
        if status != 200:
            raise HTTPError(f"HTTP status {status}: {answer[:200].decode(errors='replace')}")
        return canonical.parse(answer.decode())

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
        self.socket = socket.create_connection((host, port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")
        self.stays = True

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self.socket.close()

    def post(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return its answer's status and body; raises OSError or ValueError if there is none."""
        self.socket.sendall(request)
        version, status, *_ = self._line().split()
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip().lower()
        self.stays = version == b"HTTP/1.1" and headers.get(b"connection") != b"close"
        if headers.get(b"transfer-encoding") == b"chunked":
            return int(status), b"".join(self._chunks())
        if b"content-length" in headers:
            return int(status), self._bytes(int(headers[b"content-length"]))
        self.stays = False
        return int(status), self._file.read()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            yield self._bytes(size)
            self._line()
        while self._line():
            pass

    def _bytes(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise ConnectionError("the node closed the connection in the middle of an answer")
        return found

    def _line(self) -> bytes:
        line = self._file.readline(MOST_IN_A_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionError("the node closed the connection before it answered")
        return line.rstrip()


def _question(place: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": place, "method": method, "params": list(params)}
