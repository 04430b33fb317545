"""What a task's updates are to carry, from its configuration and its solver."""

from __future__ import annotations

from fedledger.node.solvers.base import Solver, sent_by
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.codecs.payload import payload_slots
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import VectorSpec
from fedledger.protocol.records.update import DELTA


def checked_payload(config: ExperimentConfig, solver: Solver, dimension: int) -> list[VectorSpec]:
    """Return the payload of a configuration; without one, that of a solver whose vectors have their own lengths.

    Parameters
    ----------
    config
        The configuration.
    solver
        The task's solver.
    dimension
        Number of coordinates d of the model.

    Raises
    ------
    ConfigError
        If it does not describe what the solver sends, or if a codec does not suit its vector.
    """
    sends = sent_by(solver)
    payload = config.training.payload
    if not payload and any(sends.values()):
        vectors = (VectorSpec(name=name, length=length) for name, length in sends.items())
        payload = [VectorSpec(name=DELTA), *vectors]
    described = [(slot.name, slot.length) for slot in payload_slots(payload, list(sends), dimension)]
    sent = [(DELTA, dimension), *((name, length or dimension) for name, length in sends.items())]
    if described != sent or (payload and payload[0].length is not None):
        told, wanted = (", ".join(f"{name}[{length}]" for name, length in each) for each in (described, sent))
        raise ConfigError(
            f"The payload describes {told}; the solver sends {wanted}.",
            "Describe what it sends, in this order, and the delta without a length.",
        )
    return payload
