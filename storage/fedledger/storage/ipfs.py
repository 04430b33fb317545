"""The content store over an IPFS daemon's RPC, through ipfshttpclient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fedledger.protocol.encoding.cid import ContentRef, cid_bytes
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.storage import durable_files
from fedledger.storage.base import check_limit, checked

# A CID is a function of the bytes and of these, so every one is passed on every add; a daemon skips what it
# does not know.
IMPORT = {
    "cid-version": "1",
    "raw-leaves": "true",
    "chunker": "size-1048576",
    "max-file-links": "1024",
    "hash": "sha2-256",
    "trickle": "false",
    "inline": "false",
    "nocopy": "false",
    "only-hash": "false",
    "wrap-with-directory": "false",
    "progress": "false",
    "pin": "true",
}
_BLOCK = 64 * 1024
LEAST_RATE = 64 * 1024
"""Bytes a second that content must arrive with; slower peers could hold a round up for hours."""
_SLACK = 1.0
"""Seconds by which a whole exchange may take longer than a daemon may be silent."""


class IpfsStore:
    """A content store over a daemon.

    Parameters
    ----------
    where
        Multiaddr of the RPC (``/ip4/127.0.0.1/tcp/5001``), or its URL (``http://127.0.0.1:5001``).
    timeout
        Seconds without an answer after which content counts as unavailable; so does content that takes longer
        than this and a second for each ``LEAST_RATE`` bytes, however it arrives.

    Raises
    ------
    StoreError
        If ``where`` is no address.
    """

    def __init__(self, where: str, timeout: float = 30.0) -> None:
        import ipfshttpclient
        import requests

        from fedledger.storage import ipfs_rpc

        self.where, self._timeout, self._cut_off = where, timeout, ipfs_rpc.cut_off
        self._errors: Any = ipfshttpclient.exceptions
        self._others_fault = (self._errors.ErrorResponse, self._errors.TimeoutError)
        # ipfshttpclient maps the errors of a request, but not those in the middle of its answer.
        self._broken_off = requests.RequestException
        try:
            self._client = ipfs_rpc.connect(_multiaddr(where), timeout)
        except self._errors.AddressError as error:
            raise _no_address(where) from error

    def put(self, data: bytes, file: durable_files.Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        """Add and pin bytes and return their reference.

        Raises
        ------
        StoreError
            If the daemon is not there, or gives another CID.
        """
        ref = ref or ContentRef.of(data)
        durable_files.flush()
        with self._daemon(ref.length):
            added = str(self._client.add_bytes(data, opts=dict(IMPORT)))
        if cid_bytes(added) != cid_bytes(ref.cid):
            raise StoreError(
                f"The daemon at {self.where} imports {ref.cid} as {added}.",
                "It does not honour the import parameters; use another one.",
            )
        return ref

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return the bytes of a reference, re-hashed; see :meth:`ContentStore.get`."""
        check_limit(ref, limit)
        with self._daemon(ref.length, ref):
            data = self._read(ref.cid, ref.length + 1)
        return checked(ref, data, f"the daemon at {self.where}")

    def has(self, ref: ContentRef) -> bool:
        """Return whether the content can be fetched now."""
        try:
            self.get(ref)
        except (ContentUnavailableError, ContentCorruptError):
            return False
        return True

    def pin(self, ref: ContentRef) -> None:
        """Fetch content and keep it; see :meth:`ContentStore.pin`."""
        with self._daemon(ref.length, ref):
            self._client.pin.add(ref.cid)

    def unpin(self, ref: ContentRef) -> None:
        """Let the daemon's garbage collector have the content; it may stay for a long time."""
        with self._daemon(0, ref):
            try:
                self._client.pin.rm(ref.cid)
            except self._errors.ErrorResponse as error:
                if "not pinned" not in str(error):
                    raise

    def _read(self, cid: str, most: int) -> bytes:
        # Client.cat() reads all that it is sent, however long and slowly; only a private method streams, so
        # pyproject.toml allows no other version of ipfshttpclient.
        closables, blocks = self._client._client._request(
            "POST",
            "cat",
            [("arg", cid), ("length", str(most))],
            auth=None,
            data=None,
            headers=None,
            timeout=None,
            chunk_size=_BLOCK,
        )
        data = bytearray()
        try:
            for block in blocks:
                data += block
                if len(data) >= most:
                    break
        finally:
            for closable in closables:
                closable.close()
        return bytes(data)

    @contextlib.contextmanager
    def _daemon(self, length: int, ref: ContentRef | None = None) -> Iterator[None]:
        """Turn the client's errors into ours; those of fetching ``ref`` are not the daemon's fault.

        All is over in time for ``length`` bytes, or by the deadline of what this is part of.
        """
        with self._cut_off(self._timeout + _SLACK + length / LEAST_RATE) as cutter:
            try:
                yield
                if cutter.is_over:
                    # An answer that does not tell its length looks whole wherever it is cut off.
                    raise self._errors.TimeoutError(TimeoutError())
            except (self._errors.Error, self._broken_off, AssertionError, LookupError, TypeError) as error:
                # The last three are what ipfshttpclient makes of JSON from something that is no daemon.
                if cutter.is_over:
                    raise self._too_slow(ref) from error
                if ref is None or not isinstance(error, (*self._others_fault, self._broken_off)):
                    raise self._fault(error) from error
                raise ContentUnavailableError(
                    f"{ref.cid} could not be fetched through {self.where}: {error}.",
                    "Ask whoever pins it to go online, then resume.",
                ) from error

    def _too_slow(self, ref: ContentRef | None) -> StoreError:
        if ref is None:
            return self._fault(TimeoutError("it takes too long"))
        return ContentUnavailableError(
            f"{ref.cid} comes too slowly through {self.where}.",
            "Ask whoever pins it for a better connection, then resume.",
        )

    def _fault(self, error: Exception) -> StoreError:
        return StoreError(
            f"The IPFS daemon at {self.where} cannot be used: {error}.",
            "Start it (ipfs daemon) or correct the address, then resume.",
        )


def _multiaddr(where: str) -> str:
    if where.startswith("/"):
        return where
    try:
        url = urlsplit(where)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except (ValueError, KeyError) as error:
        raise _no_address(where) from error
    if not url.hostname or url.path.strip("/") or url.query or url.username:
        raise _no_address(where)
    try:
        kind = f"ip{ip_address(url.hostname).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{url.hostname}/tcp/{port}/{url.scheme}"


def _no_address(where: str) -> StoreError:
    return StoreError(
        f"{where!r} is not a store.",
        "Give local, a multiaddr such as /ip4/127.0.0.1/tcp/5001, or http://host:port.",
    )
