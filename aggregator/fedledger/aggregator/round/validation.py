"""Validation of what a stranger sent: every check has a reason code, and none trusts a size that was claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.codecs.payload import decode_vectors, header_codec
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnavailableError, StoreError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.bids import report_of
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore

Question = tuple[bytes, bytes, int, bytes, str, str]


@dataclass(frozen=True)
class Expected:
    """What an update must be to count in a round.

    Parameters
    ----------
    spec
        The task's spec.
    round
        The round's index.
    base
        Digest of the round's base model.
    dimension
        Number of coordinates d of the model.
    committed
        How many examples the participant has committed to; None where the task does not ask for that.
    staked
        Whether the participant had the task's stake when the round was opened, or needs none for its update to count.
    """

    spec: TaskSpec
    round: int
    base: bytes
    dimension: int
    committed: int | None = None
    staked: bool = True

    def about(self, update: ContentRef, owner: str, signer: str) -> Question:
        """Return what :func:`validate` is asked of the content of a reference, by what it depends on."""
        return update.digest, self.spec.digest, self.round, self.base, owner, signer


@dataclass(frozen=True)
class ValidUpdate:
    """An update that passed validation.

    Its delta as int64[d] in fixed point, the examples that count, the local steps as they were stated, the further
    vectors, int64 as well, that the spec names, and the statistics of its model, int64[s].
    """

    delta: NDArray[np.int64]
    examples: int
    steps: int = 0
    vectors: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    statistics: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def fetch(store: ContentStore, ref: ContentRef, limit: int) -> bytes:
    """Fetch a stranger's update.

    Raises
    ------
    UpdateRefusedError
        ``oversize`` before anything is fetched, or ``unavailable`` if no true copy can be had.
    """
    if ref.length > limit:
        raise UpdateRefusedError(Verdict.OVERSIZE, f"{ref.length} bytes, the limit is {limit}")
    try:
        return store.get(ref, limit)
    except ContentUnavailableError as error:
        raise UpdateRefusedError(Verdict.UNAVAILABLE, error.message) from error
    except StoreError as error:
        raise UpdateRefusedError(Verdict.UNAVAILABLE, f"the store returned something else: {error.message}") from error


def validate(data: bytes, expected: Expected, owner: str, signer: str) -> ValidUpdate:
    """Check the bytes of an update against the round, its sender and the model.

    Parameters
    ----------
    data
        Bytes whose content id was revealed on the ledger.
    expected
        What the round asks for.
    owner, signer
        Checksummed addresses of the participant.

    Raises
    ------
    UpdateRefusedError
        With the reason; the first that applies, in the order of this function.
    """
    update = _authentic(data, expected, owner, signer)
    header = update.header
    if header.codec != header_codec(expected.spec):
        raise UpdateRefusedError(Verdict.MALFORMED, "the header names another codec than the task's payload has")
    if (header.trajectory is None) != (expected.spec.windows is None):
        wanted = "a trajectory, which the task does not take" if header.trajectory else "no trajectory, which it must"
        raise UpdateRefusedError(Verdict.MALFORMED, f"the header names {wanted}")
    require_committed(header.examples, expected.committed)
    if not expected.staked:
        raise UpdateRefusedError(Verdict.UNSTAKED, "its participant had less than the task's stake at the opening")
    return validate_vectors(update.vectors, expected.spec, expected.dimension, header.examples, header.steps)


def validate_bid(data: bytes, expected: Expected, owner: str, signer: str) -> dict[str, int]:
    """Check the bytes of a bid against the round and its sender; return what it reports, by name.

    See :func:`validate` for the parameters, and the error.
    """
    update = _authentic(data, expected, owner, signer)
    if update.header.codec != "dense" or update.header.trajectory is not None:
        raise UpdateRefusedError(Verdict.MALFORMED, "the header is of an update, and the round asks for bids")
    if not expected.staked:
        raise UpdateRefusedError(Verdict.UNSTAKED, "its participant had less than the task's stake at the opening")
    return report_of(update.vectors, expected.spec.report)


def _authentic(data: bytes, expected: Expected, owner: str, signer: str) -> wire.Update:
    """Decode an update that is its sender's, and of the round; the first fault in the order of this function."""
    update = wire.decode(data)
    header = update.header
    if header.participant != owner or header.spec != expected.spec.digest.hex() or header.round != expected.round:
        raise UpdateRefusedError(Verdict.REPLAYED, "the header is of another participant, task or round")
    if header.base != expected.base.hex():
        raise UpdateRefusedError(Verdict.WRONG_BASE, "the update is not relative to the round's base model")
    if update.signed_by != signer:
        raise UpdateRefusedError(Verdict.BAD_SIGNATURE, "the header is not signed by the participant's signer")
    return update


def require_committed(examples: int, committed: int | None) -> None:
    """Raise UpdateRefusedError if an update claims other examples than its participant has committed to.

    Parameters
    ----------
    examples
        What it claims.
    committed
        See :class:`Expected`.
    """
    if committed is None:
        return
    if not committed:
        raise UpdateRefusedError(Verdict.UNCOMMITTED, "its participant has committed to no data")
    if examples != committed:
        detail = f"it claims {examples} examples, and its participant has committed to {committed}"
        raise UpdateRefusedError(Verdict.UNCOMMITTED, detail)


def validate_vectors(
    vectors: Mapping[str, NDArray[np.generic]], spec: TaskSpec, dimension: int, examples: int, steps: int
) -> ValidUpdate:
    """Decode the vectors of an update, its delta among them, and check their values against the task.

    Raises
    ------
    UpdateRefusedError
        With the reason: other vectors than the spec's, or the gravest fault of one.
    """
    decoded = decode_vectors(vectors, spec, dimension)
    delta, statistics = decoded.pop(wire.DELTA), np.zeros(0, np.int64)
    if spec.statistics:
        statistics = decoded.pop(wire.STATISTICS)
    return ValidUpdate(delta, min(examples, spec.limits.max_examples), steps, decoded, statistics)
