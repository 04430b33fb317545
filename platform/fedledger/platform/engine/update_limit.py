"""The limit on the bytes of an update, where updates are never encoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.codecs.payload import header_codec, slots
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError, encoded_length
from fedledger.protocol.records.verdicts import Verdict

_AROUND = 8192
"""More bytes than an update has besides its vectors: its header, signature, and the names and lengths of vectors."""


class UpdateLimit:
    """Tells whether an update would be too long on a ledger.

    Parameters
    ----------
    spec
        The task's spec, which has the limit.
    dimension
        Number of coordinates d of the model.

    Attributes
    ----------
    binds
        Whether the limit is so near that an update may exceed it.
    """

    def __init__(self, spec: TaskSpec, dimension: int) -> None:
        self._spec, self._payload = spec, slots(spec, dimension)
        self._limit = spec.limits.max_update_bytes
        vectors = sum(slot.codec.largest(slot.length).nbytes for slot in self._payload)
        self.binds = vectors + _AROUND > self._limit

    def require(
        self,
        index: int,
        owner: str,
        examples: int,
        steps: int,
        sent: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        """Raise UpdateRefusedError (``oversize``) if a participant's update of a round is too long.

        Parameters
        ----------
        index, owner, examples, steps
            What the update's header says.
        sent
            Its vectors as they are sent; the largest that the payload allows unless given.
        """
        if not self.binds:
            return
        vectors = sent or {slot.name: slot.codec.largest(slot.length) for slot in self._payload}
        header = UpdateHeader(
            spec="0" * 64,
            round=index,
            participant=owner,
            base="0" * 64,
            examples=examples,
            steps=steps,
            codec=header_codec(self._spec),
            vectors=sorted(vectors),
            payload="0" * 64,
            trajectory=None if self._spec.windows is None else "0" * 64,
        )
        length = encoded_length(header, vectors)
        if length > self._limit:
            raise UpdateRefusedError(Verdict.OVERSIZE, f"{length} bytes, the limit is {self._limit}")
