"""HTTP requests to where a stranger says.

The address that a name is resolved to is checked and is the one that is connected to. Nobody is redirected, no proxy of
the environment is asked, and an exchange is over by its deadline, however slowly the other end sends.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing
from functools import lru_cache
from ipaddress import ip_address

import certifi
import h11

from fedledger.storage.addresses import Networks, Place
from fedledger.storage.deadlines import left_until

MAX_ANSWER_BYTES = 16_384
MAX_HEAD_BYTES = 16_384
MAX_ADDRESSES = 4
MAX_LOOKUPS = 32
"""Names that are looked up at once. The system gives a lookup up only after a while."""
_BLOCK = 16_384

SocketAddress = tuple[str, int]
_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)
_in_flight: dict[str, _Lookup] = {}


class UnreachableError(Exception):
    """A place that gave no answer, and why."""


class NotAllowedError(UnreachableError):
    """A place that was not asked, as it lies where this program may not be sent."""


def exchange(place: Place, networks: Networks, path: str, body: bytes | None, end: float) -> tuple[int, bytes]:
    """Send a request and return its answer's status and body.

    Parameters
    ----------
    place
        Where to.
    networks
        Which addresses may be connected to.
    path
        What is asked for, below the place's own path; begins with a slash.
    body
        JSON to send by POST; None asks by GET.
    end
        When it has to be over, on the monotonic clock.

    Raises
    ------
    NotAllowedError
        If none of its addresses may be connected to.
    UnreachableError
        If no answer came in time, or one that is too long or no HTTP.
    """
    try:
        with closing(_connected(place, _addresses(place, networks, end), end)) as connection:
            return _Exchange(connection, end).ask(place, path, body)
    except (OSError, h11.ProtocolError, ValueError) as error:
        reason = "it takes too long" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        raise UnreachableError(reason) from error


def _addresses(place: Place, networks: Networks, end: float) -> list[SocketAddress]:
    """Return the addresses of a place that may be connected to; later lookups may say something else."""
    literal = place.address
    found = [str(literal)] if literal is not None else _looked_up(place.host, end)
    allowed = [address for address in found if networks.permit(place, ip_address(address))]
    if not allowed:
        raise NotAllowedError("its network is not allowed (see --allow-network)")
    return [(address, place.port) for address in allowed[:MAX_ADDRESSES]]


class _Lookup(threading.Thread):
    """The addresses of a name, or why there are none; the system gives up only after a while."""

    def __init__(self, host: str) -> None:
        super().__init__(daemon=True)
        self.host, self.done = host, threading.Event()
        self.found: list[str] = []
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            answers = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
            self.found = [str(answer[4][0]) for answer in answers]
        except (OSError, UnicodeError) as error:
            self.failure = OSError(str(error))
        finally:
            _in_flight.pop(self.host, None)
            _lookups.release()
            self.done.set()


def _looked_up(host: str, end: float) -> list[str]:
    """Return the addresses of a name; a lookup that takes too long is left to itself, and not begun again meanwhile."""
    lookup = _in_flight.get(host)
    if lookup is None:
        if not _lookups.acquire(timeout=left_until(end)):
            raise TimeoutError
        lookup = _in_flight[host] = _Lookup(host)
        try:
            lookup.start()
        except RuntimeError as error:
            _in_flight.pop(host, None)
            _lookups.release()
            raise OSError("there are too many threads") from error
    if not lookup.done.wait(left_until(end)):
        raise TimeoutError
    if lookup.failure is not None:
        raise OSError(str(lookup.failure))
    return lookup.found


def _connected(place: Place, addresses: list[SocketAddress], end: float) -> socket.socket:
    """Return a connection to the first address that answers; each has its share of the time."""
    for number, address in enumerate(addresses):
        last = number == len(addresses) - 1
        share = left_until(end) / (len(addresses) - number)
        try:
            connection = socket.create_connection(address, share)
            break
        except OSError:
            if last:
                raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if place.scheme == "http":
        return connection
    try:
        connection.settimeout(left_until(end))
        return _context().wrap_socket(connection, server_hostname=place.host)
    except BaseException:
        connection.close()
        raise


@lru_cache(1)
def _context() -> ssl.SSLContext:
    """Return what certificates are checked with: the system's authorities, and those that certifi lists."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Exchange:
    """A request over a connection, and its answer."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection, self._end = connection, end
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._received = 0

    def ask(self, place: Place, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = [("Host", place.authority), ("Accept", "application/json"), ("Connection", "close")]
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        method = "GET" if body is None else "POST"
        sent = self._http.send(h11.Request(method=method, target=place.path + path, headers=headers)) or b""
        sent += (self._http.send(h11.Data(data=body)) or b"") if body else b""
        sent += self._http.send(h11.EndOfMessage()) or b""
        self._connection.settimeout(left_until(self._end))
        self._connection.sendall(sent)
        return self._answer()

    def _answer(self) -> tuple[int, bytes]:
        status, content = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._receive()
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(content)
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("the connection was closed before the answer came")

    def _receive(self) -> None:
        self._connection.settimeout(left_until(self._end))
        data = self._connection.recv(_BLOCK)
        self._received += len(data)
        # The frames of an answer's parts count, too, or they could go on for ever.
        if self._received > MAX_HEAD_BYTES + 2 * MAX_ANSWER_BYTES:
            raise ValueError("its answer is too long")
        self._http.receive_data(data)
