"""Models of a store by reference, the last few of them remembered."""

from __future__ import annotations

from collections import OrderedDict

from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TensorsSpec
from fedledger.storage.base import ContentStore

REMEMBERED = 4


class Models:
    """Models of a store by reference; the last few that were asked for are remembered.

    Parameters
    ----------
    store
        Where they are fetched.
    tensors
        How the task describes its model's tensors.
    """

    def __init__(self, store: ContentStore, tensors: TensorsSpec | None = None) -> None:
        self._store, self._tensors = store, tensors
        self._known: OrderedDict[ContentRef, ModelFile] = OrderedDict()

    def __call__(self, ref: ContentRef) -> ModelFile:
        """Return a model.

        Raises
        ------
        StoreError
            If it cannot be had, or is none.
        """
        if ref not in self._known:
            self._known[ref] = ModelFile.decode(self._store.get(ref), self._tensors)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(ref)
        return self._known[ref]
