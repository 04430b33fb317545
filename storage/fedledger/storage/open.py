"""Opens a content store by its name."""

from __future__ import annotations

from pathlib import Path

from fedledger.storage.base import ContentStore
from fedledger.storage.local import LocalStore


def open_store(where: str, folder: Path) -> ContentStore:
    """Open a store: ``local`` (in ``folder``), or an IPFS daemon by multiaddr or URL."""
    if where == "local":
        return LocalStore(folder)
    from fedledger.storage.ipfs import IpfsStore

    return IpfsStore(where)
