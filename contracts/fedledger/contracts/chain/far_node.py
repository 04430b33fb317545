"""JSON-RPC to a node on another machine, perhaps behind a proxy or with a password."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Sequence
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fedledger.contracts.chain import bounded
from fedledger.contracts.chain.bounded import SILENCE_SECONDS, Deadline, OversizedError
from fedledger.contracts.chain.loopback_rpc import LOOPBACK, in_order, parsed, question

CONNECT_SECONDS = 10.0
PART = 64 * 1024


class FarNode:
    """A node on another machine.

    Parameters
    ----------
    url
        Where it answers.
    """

    def __init__(self, url: str) -> None:
        self._url, self._session = url, requests.Session()
        # Looking for a proxy in the environment takes longer than a node on this machine takes to answer.
        self._session.trust_env = urlsplit(url).hostname not in LOOPBACK
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())

    def ask(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        """Return the answer to a question; see :meth:`NearNode.ask`."""
        answer = self._exchange(question(0, method, params))
        if not isinstance(answer, dict):
            raise ValueError(f"{method} was answered with {type(answer).__name__}")
        return answer

    def ask_all(self, questions: Sequence[tuple[str, Sequence[Any]]]) -> list[dict[str, Any]]:
        """Return the answers to many questions; see :meth:`NearNode.ask_all`."""
        asked = [question(place, *each) for place, each in enumerate(questions)]
        return in_order(self._exchange(asked), len(asked))

    def _exchange(self, document: Any) -> Any:
        body = json.dumps(document, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        with self._session.post(
            self._url, body, headers=headers, timeout=(CONNECT_SECONDS, SILENCE_SECONDS), stream=True
        ) as answer:
            answer.raise_for_status()
            found = bytearray()
            for part in answer.iter_content(PART):
                found += part
                if len(found) > bounded.MOST_BYTES:
                    raise OversizedError
        return parsed(bytes(found))


class _TimedBytes(io.RawIOBase):
    """What comes over a socket, until the answer must be there."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._deadline = connection, Deadline(bounded.MOST_SECONDS)
        self._bytes = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._deadline.limit(self._socket)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedBytes(sock))


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedTlsConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


class _Adapter(HTTPAdapter):
    """Makes connections whose answers end in time, with and without a proxy."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        _time(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **named)
        _time(manager)
        return manager


def _time(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _TimedPool, "https": _TimedTlsPool}
