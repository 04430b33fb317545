"""From an update's vectors to the tensors that travel, as a task's payload describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedledger.node.solvers.base import LocalUpdate, Memory
from fedledger.node.training import Trainer, TrainingContext
from fedledger.protocol.arithmetic.exact import FixedPoint
from fedledger.protocol.codecs.payload import Slot, described_slots
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.update import DELTA, UpdateRefusedError

RESIDUAL = "residual."
"""What the names of a participant's residuals begin with, in the state that it keeps between rounds."""


@dataclass(frozen=True)
class CompressingTrainer:
    """A trainer whose updates are encoded as the task's payload says.

    Parameters
    ----------
    trainer
        Makes the updates.
    """

    trainer: Trainer

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the encoded update for a round."""
        spec = context.spec
        return compress(
            self.trainer(context), described_slots(spec, context.base.dimension), context.memory, spec.fixed
        )


def compress(update: LocalUpdate, payload: Sequence[Slot], memory: Memory, fixed: FixedPoint) -> LocalUpdate:
    """Return an update with the tensors that travel, and with the vectors that their receiver reads from them.

    With error feedback (Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847) p = vector + residual is encoded in
    place of the vector, and the residual becomes p − what was sent. It is part of the participant's state, so it moves
    only when the update counts.

    Parameters
    ----------
    update
        What training and transforms gave.
    payload
        The vectors that an update carries.
    memory
        What the participant kept.
    fixed
        The task's fixed-point format.

    Raises
    ------
    ConfigError
        If a vector is missing, or of another length than the payload says.
    """
    vectors, state = {**update.vectors, DELTA: update.delta}, dict(update.state)
    coded = {}
    for slot in payload:
        values, residual = vectors.get(slot.name), RESIDUAL + slot.name
        if values is None or values.shape != (slot.length,):
            found = "missing" if values is None else f"float32{list(values.shape)}"
            raise ConfigError(
                f"The update's {slot.name} is {found}; the task's payload has float32[{slot.length}].",
                "Train with the solver that the spec names.",
            )
        if slot.error_feedback and residual in memory.own:
            values = values + memory.own[residual]
        coded[slot.name] = sent = slot.codec.encode(values, fixed)
        try:
            received = fixed.to_float32(slot.codec.decode(sent, slot.length, fixed))
        except UpdateRefusedError:
            # It will be refused, and nothing of this round is kept.
            received = np.asarray(values)
        vectors[slot.name] = received
        if slot.error_feedback:
            state[residual] = values - received
    return replace(update, delta=vectors.pop(DELTA), vectors=vectors, state=state, coded=coded)
