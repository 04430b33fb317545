"""Training in this process, many participants together."""

from __future__ import annotations

from typing import ClassVar

from fedledger.platform.engine.backends.base import BACKENDS
from fedledger.platform.engine.backends.serial import Serial


@BACKENDS.register("batched@1")
class Batched(Serial):
    """Trains in this process, in batches of participants where that gives the same bits."""

    batched: ClassVar[bool] = True
