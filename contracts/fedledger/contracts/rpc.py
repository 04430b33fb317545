"""JSON-RPC to a node on this machine, over a connection that is kept.

A general HTTP client takes several times as long over a question as such a node takes to answer it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import HTTPError
from urllib3.util import wait_for_read

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUT = 30.0
HEADERS = {"Content-Type": "application/json"}


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
        self._path = parts.path or "/"
        if parts.query:
            self._path += f"?{parts.query}"
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
        connection = self._connection()
        try:
            connection.request("POST", self._path, json.dumps(document, separators=(",", ":")).encode(), HEADERS)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise NoConnectionError(f"{type(error).__name__}: {error}") from error
        if response.status != 200:
            raise HTTPError(f"HTTP status {response.status}: {body[:200].decode(errors='replace')}")
        return json.loads(body)

    def _connection(self) -> HTTPConnection:
        """Return this thread's connection, which is opened when it is used unless it is open."""
        own, process = self._own, os.getpid()
        # What a forked process inherits is its parent's.
        if getattr(own, "process", None) != process:
            own.process, own.connection = process, HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        connection: HTTPConnection = own.connection
        # Nothing is due to come: what is there to be read is the end of a connection that the node has closed.
        if connection.sock is not None and wait_for_read(connection.sock, 0):
            connection.close()
        return connection


def _question(place: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": place, "method": method, "params": list(params)}
