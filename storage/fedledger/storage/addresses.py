"""Addresses that strangers name: which are well formed, and to which of them this program may connect.

Whoever has a seat announces where its mailbox is, in any bytes it likes. What is accepted here has one reading,
whatever parses it: a host that is a plain name or an address in its usual spelling, perhaps a port and a plain path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fedledger.protocol.errors import ConfigError

MAX_URL = 256
PORTS = {"http": 80, "https": 443}
DEVELOPMENT = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Where mailboxes of a development chain may be unless one says otherwise: on this machine and in private networks."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<six>[0-9a-f:]{2,39})\]|(?P<name>[a-z0-9.-]{1,253}))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})*)/?",
    re.ASCII,
)
_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_UNICAST = ip_network("2000::/3")
_TRANSLATED = (ip_network("2001::/32"), ip_network("2002::/16"))
"""Teredo and 6to4, whose addresses carry an IPv4 address that somebody else connects to."""
_NAT64 = ip_network("64:ff9b::/96")
"""Where networks that have no IPv4 themselves show the public addresses of those that have nothing else."""


@dataclass(frozen=True)
class Place:
    """Where a program answers over HTTP; ``path`` is empty or begins with a slash, and never ends with one."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def address(self) -> Address | None:
        """The host's address, if it is given by one and not by a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port as they stand in a request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(url: str) -> Place:
    """Return what a URL says, if it is a plain one.

    Parameters
    ----------
    url
        ``http`` or ``https``, a host in lower case, and perhaps a port and a path of plain segments. No user, query,
        fragment, escape, or other spelling of an address than its usual one.

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if found is None:
        raise _refused(url, "it is not a plain http or https URL")
    host = _literal_six(url, found["six"]) if found["six"] else _host(url, found["name"])
    port = int(found["port"] or PORTS[found["scheme"]])
    if port > 65_535:
        raise _refused(url, "it has no such port")
    return Place(found["scheme"], host, port, found["path"])


def _literal_six(url: str, host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError as error:
        raise _refused(url, "its host is not an address") from error
    if str(address) != host or address.ipv4_mapped is not None:
        raise _refused(url, "its host is an address in an unusual spelling")
    return host


def _host(url: str, host: str) -> str:
    if _NUMBER.fullmatch(host):
        # Resolvers read 2130706433, 0x7f.1 and 127.1 as addresses, each in its own way.
        try:
            is_usual = str(IPv4Address(host)) == host
        except ValueError:
            is_usual = False
        if not is_usual:
            raise _refused(url, "its host is an address in an unusual spelling")
    elif not _NAME.fullmatch(host):
        raise _refused(url, "its host is not a plain name")
    return host


def _refused(url: str, why: str) -> ConfigError:
    return ConfigError(
        f"{url[:MAX_URL]!a} is refused as an address: {why}.",
        "Use http(s)://HOST, with a lower-case name or an address, and perhaps :PORT and a path without escapes.",
    )


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet, and to one machine there."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        is_plain = address in _UNICAST and not any(address in network for network in _TRANSLATED)
        return is_plain and address.is_global
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True)
class Networks:
    """Where strangers may send this program: the public internet, and the networks that its operator allows.

    Parameters
    ----------
    allowed
        Networks that are not public, such as one's own. There only the root of a server can be named, so that nobody
        can make up a path that means something to another service.
    closed
        Ports of the operator's own services, which stay closed in those networks.
    """

    allowed: tuple[Network, ...] = ()
    closed: frozenset[int] = frozenset()

    @classmethod
    def read(cls, allowed: Iterable[str], closed: Iterable[int] = ()) -> Networks:
        """Return the networks that are written like ``10.0.0.0/8``.

        Raises
        ------
        ConfigError
            If one is not a network.
        """
        networks = []
        for text in allowed:
            try:
                networks.append(ip_network(text))
            except ValueError as error:
                raise ConfigError(f"{text!a} is not a network.", "Give one such as 10.0.0.0/8 or fd00::/8.") from error
        return cls(tuple(networks), frozenset(closed))

    def permit(self, place: Place, address: Address) -> bool:
        """Return whether a place may be reached at an address, which is the one that its host was resolved to."""
        if is_public(address):
            return True
        if address.is_multicast or address.is_unspecified or place.path or place.port in self.closed:
            return False
        return any(address in network for network in self.allowed)

    def require(self, place: Place) -> None:
        """Raise ConfigError if a place is given by an address that may not be reached; names are resolved later."""
        if place.address is not None and not self.permit(place, place.address):
            raise ConfigError(
                f"{place} is not on the public internet.",
                "Give another one (--public-url), or allow its network here and at all nodes (--allow-network); "
                "there a URL has no path.",
            )


def port_of(service: str) -> int | None:
    """Return the port of one of the operator's own services, given by URL or multiaddr; None if it names none."""
    found = re.search(r"(?:/tcp/|:)([0-9]{1,5})(?:[/?#].*)?$", service, re.ASCII)
    return int(found[1]) if found else None
