"""Opens a content store by its name."""

from __future__ import annotations

from pathlib import Path

from fedledger.storage.base import ContentStore
from fedledger.storage.local import LocalStore


def open_store(where: str, folder: Path, reading: bool = False) -> ContentStore:
    """Open a store, with ``reading`` only to read it: ``local`` (in ``folder``), or an IPFS daemon by its address."""
    if where == "local":
        return LocalStore(folder, reading)
    from fedledger.storage.ipfs import IpfsStore

    return IpfsStore(where)
