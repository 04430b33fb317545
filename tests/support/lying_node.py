"""A node that lies a few times: a proxy before a chain, whose lies follow from a seed."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

NOTHINGS: Sequence[Any] = (1, -1, True, "", "0x", "0xzz", "x", [], {}, [None], {"number": None}, "0x" + "f" * 70)
READING = ("eth_getBlockByNumber", "eth_getLogs", "eth_call", "eth_getTransactionReceipt", "eth_blockNumber")


@dataclass
class Lies:
    """Which lies are told, how many, and how often; ``told`` counts them by kind and method."""

    seed: int
    kinds: Sequence[str]
    most: int
    share: float = 0.05
    told: Counter[tuple[str, str]] = field(default_factory=Counter)
    is_on: bool = False

    def __post_init__(self) -> None:
        self.rng, self._lock = random.Random(self.seed), threading.Lock()

    def draw(self, method: str) -> str | None:
        with self._lock:
            if not self.is_on or self.told.total() >= self.most or self.rng.random() >= self.share:
                return None
            fitting = [kind for kind in self.kinds if LIES[kind][0] is None or method in (LIES[kind][0] or ())]
            if not fitting:
                return None
            kind = self.rng.choice(fitting)
            self.told[kind, method] += 1
            return kind


Change = Callable[[random.Random, Any], Any]


def _without(rng: random.Random, logs: list[Any]) -> list[Any]:
    return [] if rng.random() < 0.5 else [log for log in logs if rng.random() < 0.5]


def _changed(name: str, value: Callable[[Any], Any]) -> Change:
    def change(rng: random.Random, result: Any) -> Any:
        if isinstance(result, list):
            return [{**each, name: value(each[name])} for each in result]
        return {**result, name: value(result[name])} if isinstance(result, dict) else result

    return change


def _older(number: str) -> str:
    return hex(max(0, int(number, 16) - 2))


def _flipped(digest: str) -> str:
    return digest[:-1] + ("0" if digest[-1] != "0" else "1")


LIES: dict[str, tuple[tuple[str, ...] | None, Change | bytes | None]] = {
    "page": (None, b"<html><body>Checking your browser</body></html>"),
    "empty": (None, b""),
    "text": (None, b'"upstream error"'),
    "deep": (None, b"[" * 100_000),
    "broken off": (READING, None),
    "nothing": (READING, lambda rng, result: None),
    "another type": (READING, lambda rng, result: rng.choice(NOTHINGS)),
    "logs kept back": (("eth_getLogs",), _without),
    "last log kept back": (("eth_getLogs",), lambda rng, logs: logs[:-1]),
    "logs twice": (("eth_getLogs",), lambda rng, logs: logs + logs),
    "logs in disorder": (("eth_getLogs",), lambda rng, logs: logs[::-1]),
    "logs of others": (("eth_getLogs",), _changed("address", _flipped)),
    "logs of other blocks": (("eth_getLogs",), _changed("blockNumber", lambda n: hex(int(n, 16) + 1000))),
    "logs taken back": (("eth_getLogs",), lambda rng, logs: [{**log, "removed": True} for log in logs]),
    "short": (("eth_call",), lambda rng, result: result[: 2 * rng.randint(1, max(1, len(result) // 2))]),
    "behind": (("eth_blockNumber",), lambda rng, result: _older(result)),
    "another block": (("eth_getBlockByNumber",), _changed("number", _older)),
    "another receipt": (("eth_getTransactionReceipt",), _changed("transactionHash", _flipped)),
    "failed": (("eth_getTransactionReceipt",), _changed("status", lambda status: "0x0")),
    "another nonce": (("eth_getTransactionCount",), lambda rng, result: _older(result)),
    "another hash": (("eth_getBlockByNumber",), _changed("hash", _flipped)),
    "another input": (("eth_getTransactionByHash",), _changed("input", lambda data: data + "00")),
}
"""Methods whose answers they spoil (None: all), and what they make of an answer."""


@contextmanager
def lying_node(url: str, lies: Lies) -> Iterator[str]:
    """Stand before a node and lie; give the URL at which this one listens."""
    place, kept = urlsplit(url), threading.local()

    def forward(body: bytes) -> bytes:
        if getattr(kept, "connection", None) is None:
            kept.connection = HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            kept.connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return bytes(kept.connection.getresponse().read())
        except (OSError, HTTPException):
            kept.connection = None
            raise

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            many = asked if isinstance(asked, list) else [asked]
            kind = lies.draw(many[0]["method"])
            change = LIES[kind][1] if kind else None
            if kind and change is None:
                self.close_connection = True
                return
            answer = change if isinstance(change, bytes) else forward(body)
            if change is not None and not isinstance(change, bytes):
                told = json.loads(answer)
                for each in told if isinstance(told, list) else [told]:
                    if each.get("result") is not None:
                        each["result"] = change(lies.rng, each["result"])
                answer = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *about: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
