"""The connections to a mailbox: how many there are, whose they are, and how long each may take.

Whoever sends half a request, or a byte at a time, occupies a connection and with it a file of the process. So there are
never more connections than leave the program the files that it needs itself, each request has a deadline as a whole,
and where there are too many connections the oldest one of whoever has most of them has to go.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from fedledger.storage.machine import open_files

MAX_CONNECTIONS = 4096
RESERVED_FILES = 384
"""Files that the program keeps for itself, and for what is accepted before anything can be dropped."""
REQUEST_SECONDS = 10.0
"""Seconds in which a request has to come and its answer to be taken."""
MAX_HEAD_BYTES = 8_192
MAX_REQUEST_BYTES = 16_384
REQUESTS_A_SECOND = 200.0
BURST = 2_000
MAX_CLIENTS = 10_000
CONNECTIONS_A_SECOND, CONNECTIONS_BURST = 2.0, 50
"""How often a client may connect in vain; connections over which it sent or got something useful do not count."""
TURNED_AWAY_AT_ONCE = 256
USEFUL = "useful"
"""The name in a request's state under which it is kept that the request was of use."""


@lru_cache(MAX_CLIENTS)
def client_of(host: str) -> str:
    """Return whose an address is: a single IPv4 address, or the network that one subscriber has of IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


class RateLimit:
    """A bucket of tokens for each client; one that asks too often is told when to come again.

    Parameters
    ----------
    rate
        Requests a second, sustained.
    burst
        Requests at once.
    clock
        Returns seconds.
    """

    def __init__(
        self, rate: float = REQUESTS_A_SECOND, burst: int = BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now = self._clock()
        tokens, seen = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - seen) * self._rate)
        if len(self._buckets) >= MAX_CLIENTS:
            # The one that was silent longest comes first.
            self._buckets.pop(next(iter(self._buckets)))
        left = tokens - 1 if tokens >= 1 else tokens
        self._buckets[client] = (left, now)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def give_back(self, client: str) -> None:
        """Give back a token that was taken."""
        if client in self._buckets:
            tokens, seen = self._buckets[client]
            self._buckets[client] = (min(float(self._burst), tokens + 1), seen)


class Connections:
    """Which connections are open, by client and age.

    Parameters
    ----------
    most
        How many there may be; by default as many as leave enough files to the rest of the program.
    most_of_one
        How many one client may have; by default an eighth of that.
    proxies
        Clients that speak for many others, and limit these themselves.
    """

    def __init__(
        self, most: int | None = None, most_of_one: int | None = None, proxies: frozenset[str] = frozenset()
    ) -> None:
        files = open_files()
        self.most = most or min(MAX_CONNECTIONS, max(files - RESERVED_FILES, files // 4))
        self.most_of_one = most_of_one or max(16, self.most // 8)
        self._open: dict[str, dict[BoundedConnection, None]] = {}
        self._count = 0
        self.proxies = proxies
        self._useless = RateLimit(CONNECTIONS_A_SECOND, CONNECTIONS_BURST)

    def __len__(self) -> int:
        return self._count

    def admit(self, client: str) -> bool:
        """Return whether a client may have another connection, for which an older one goes if need be.

        Making a connection takes much longer than turning it away, so nobody makes the mailbox do nothing else.
        """
        return client in self.proxies or self._useless.wait(client) == 0

    def was_useful(self, client: str) -> None:
        """Do not count a connection of a client."""
        self._useless.give_back(client)

    def add(self, connection: BoundedConnection, client: str) -> BoundedConnection | None:
        """Take a connection in, and return one that has to go for it, if any."""
        own = self._open.setdefault(client, {})
        own[connection] = None
        self._count += 1
        has_too_many = len(own) > self.most_of_one and client not in self.proxies
        if not has_too_many and self._count <= self.most:
            return None
        busiest = own if has_too_many else max(self._open.values(), key=len)
        return next(iter(busiest))

    def remove(self, connection: BoundedConnection, client: str) -> None:
        """Forget a connection; nothing happens if it is not there any more."""
        own = self._open.get(client, {})
        if connection in own:
            del own[connection]
            self._count -= 1
            if not own:
                del self._open[client]


class Listener(socket.socket):
    """A listening socket that turns clients away before anything is made for their connections.

    Parameters
    ----------
    listening
        The socket, which this one takes the place of.
    connections
        All connections.
    """

    def __init__(self, listening: socket.socket, connections: Connections) -> None:
        super().__init__(fileno=listening.detach())
        self._all = connections

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection of a client that may have one.

        Raises
        ------
        BlockingIOError
            If there is none now, or many were turned away, so that others are not kept waiting.
        """
        for _ in range(TURNED_AWAY_AT_ONCE):
            connection, address = super().accept()
            if self._all.admit(client_of(address[0])):
                return connection, address
            with contextlib.suppress(OSError):
                connection.close()
        raise BlockingIOError


class BoundedConnection(H11Protocol):
    """A connection whose requests are bounded in size and in time, however slowly they come or are answered.

    Parameters
    ----------
    connections
        All connections.
    **given
        What uvicorn gives to each of them.
    """

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._all, self._client = connections, ""
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._client = client_of(self.client[0] if self.client else "")
        self._start_timer()
        leaving = self._all.add(self, self._client)
        if leaving is not None:
            leaving.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self, self._client)
        if self._timer is not None:
            self._timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_REQUEST_BYTES:
            # Also what follows an answer that did not wait for it.
            self.drop()
            return
        super().data_received(data)

    def on_response_complete(self) -> None:
        if self.scope["state"].get(USEFUL):
            self._all.was_useful(self._client)
        self._received = 0
        self._start_timer()
        super().on_response_complete()

    def drop(self) -> None:
        """Close the connection at once, and do not wait for what the client has not taken yet."""
        self._all.remove(self, self._client)
        self.transport.abort()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(REQUEST_SECONDS, self.drop)
