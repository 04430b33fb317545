"""Evidence: what is known of everybody's work beyond what is public, this round and over rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import WorkSeen
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry

Judged = Callable[[NDArray[np.bool_]], WorkSeen]
"""Says what a round shows, as judged by the updates that are accepted, bool[n]."""


class Evidence(Protocol):
    """Looks at a round once, and says what it shows for any choice of accepted updates; a frozen dataclass."""

    def __call__(self, context: StageContext) -> Judged:
        """Look at the updates of a round."""
        ...


EVIDENCE: Registry[Callable[..., Evidence]] = Registry(kind_of("evidence"))
