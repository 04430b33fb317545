"""The content store over an IPFS daemon's RPC, through ipfshttpclient."""

from __future__ import annotations

import io
import re
from typing import Any

from fedledger.protocol.cid import MAX_OBJECT_BYTES, ContentRef, cid_bytes
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.protocol.store import check_limit, checked

# A CID is a function of the bytes and of these, so every one is passed on every add.
IMPORT = {
    "cid-version": 1,
    "raw-leaves": True,
    "chunker": "size-1048576",
    "hash": "sha2-256",
    "trickle": False,
    "wrap-with-directory": False,
    "pin": True,
}


class IpfsStore:
    """A content store over a daemon.

    Parameters
    ----------
    where
        Multiaddr of the RPC (``/ip4/127.0.0.1/tcp/5001/http``), or its URL.
    timeout
        Seconds after which content that nobody provides counts as unavailable.
    """

    def __init__(self, where: str, timeout: float = 30.0) -> None:
        import ipfshttpclient

        self.where = where
        # connect() refuses every daemon newer than 0.7; the client itself speaks to all of them.
        self._client = ipfshttpclient.Client(_multiaddr(where), timeout=timeout)
        self._errors: Any = ipfshttpclient.exceptions

    def put(self, data: bytes) -> ContentRef:
        """Add and pin bytes and return their reference.

        Raises
        ------
        StoreError
            If the daemon is not there, or gives another CID.
        """
        ref = ContentRef.of(data)
        try:
            added = self._client.add(io.BytesIO(data), opts=IMPORT)
        except self._errors.Error as error:
            raise self._absent(error) from error
        entry = added[-1] if isinstance(added, list) else added
        if cid_bytes(str(entry["Hash"])) != cid_bytes(ref.cid):
            raise StoreError(
                f"The daemon at {self.where} imports {ref.cid} as {entry['Hash']}.",
                "It does not honour the import parameters; use another one.",
            )
        return ref

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        """Return the bytes of a reference, re-hashed; see :meth:`ContentStore.get`."""
        check_limit(ref, min(MAX_OBJECT_BYTES, limit if limit is not None else MAX_OBJECT_BYTES))
        try:
            data = self._client.cat(ref.cid, length=ref.length + 1)
        except self._errors.ErrorResponse as error:
            raise ContentUnavailableError(f"{ref.cid} could not be fetched: {error}.", "Who pins it?") from error
        except self._errors.TimeoutError as error:
            raise ContentUnavailableError(f"{ref.cid} could not be fetched in time.", "Who pins it?") from error
        except self._errors.Error as error:
            raise self._absent(error) from error
        return checked(ref, data, f"the daemon at {self.where}")

    def has(self, ref: ContentRef) -> bool:
        """Return whether the content can be fetched now."""
        try:
            self.get(ref)
        except (ContentUnavailableError, ContentCorruptError):
            return False
        return True

    def _absent(self, error: Exception) -> StoreError:
        return StoreError(f"The IPFS daemon at {self.where} does not answer: {error}.", "Start it, then resume.")


def _multiaddr(where: str) -> str:
    if where.startswith("/"):
        return where
    url = re.fullmatch(r"(https?)://([^/:]+)(?::(\d+))?/?", where)
    if url is None:
        raise StoreError(
            f"{where!r} is no store.", "Give local, a multiaddr such as /ip4/127.0.0.1/tcp/5001, or a URL."
        )
    scheme, host, port = url.groups()
    kind = "ip4" if re.fullmatch(r"[\d.]+", host) else "dns"
    return f"/{kind}/{host}/tcp/{port or (443 if scheme == 'https' else 80)}/{scheme}"
