"""The RPC of an IPFS daemon through ipfshttpclient, with deadlines that hold for whole exchanges."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import ipfshttpclient
from ipfshttpclient import http_requests
from ipfshttpclient.requests_wrapper import HTTPConnection, HTTPConnectionPool, HTTPSConnection, HTTPSConnectionPool

from fedledger.storage.deadlines import Cutter, end_of

_cutter: ContextVar[Cutter | None] = ContextVar("cutter", default=None)


@contextmanager
def cut_off(seconds: float) -> Iterator[Cutter]:
    """Cut off what this thread exchanges with a daemon in a ``with`` block once it has taken so long."""
    with Cutter(end_of(seconds)) as cutter:
        token = _cutter.set(cutter)
        try:
            yield cutter
        finally:
            _cutter.reset(token)


def connect(address: str, timeout: float) -> Any:
    """Return a client of a daemon, given by its multiaddr; each read of it may take ``timeout`` seconds.

    Raises
    ------
    ipfshttpclient.exceptions.AddressError
        If it is no address.
    """
    # ipfshttpclient hands urllib3 an argument that it no longer needs; nothing a user could mend.
    warnings.filterwarnings("ignore", "The 'strict' parameter", FutureWarning)
    # ipfshttpclient.connect() refuses every daemon newer than 0.7; the client itself speaks to all of them.
    client = ipfshttpclient.Client(address, timeout=timeout)
    # The class of what it sends with cannot be chosen; neither it nor its subclass has attributes of its own.
    client._client.__class__ = _Http
    return client


class _Http(http_requests.ClientSync):  # type: ignore[misc]
    """What the client sends with."""

    __slots__ = ()

    def _make_session(self) -> Any:
        session = super()._make_session()
        for adapter in session.adapters.values():
            kinds = adapter.poolmanager.pool_classes_by_scheme
            kinds.update({scheme: _KINDS[kind] for scheme, kind in kinds.items() if kind in _KINDS})
        return session


class _Watched:
    """A connection that is cut off at the deadline of the exchange that opens it; each exchange opens its own."""

    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        cutter = _cutter.get()
        if cutter is not None:
            cutter.watch(self.sock)


class _Connection(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _EncryptedConnection(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _EncryptedPool(HTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _EncryptedConnection


_KINDS = {HTTPConnectionPool: _Pool, HTTPSConnectionPool: _EncryptedPool}
