"""What a task's updates are to carry, from its configuration and its solver."""

from __future__ import annotations

from fedledger.aggregator.rules.base import RULES, LinearRule
from fedledger.node.solvers.base import Solver, sent_by
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.codecs.payload import payload_slots
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import VectorSpec
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.update import DELTA, START_LOSS


def sent_vectors(config: ExperimentConfig, solver: Solver) -> dict[str, int | None]:
    """Return the vectors of a task's updates besides their delta, by name: their lengths, None for the model's.

    They are what the solver sends, and the loss that each starts from where the aggregation rule rests on that.

    Raises
    ------
    ConfigError
        If there is no such rule.
    """
    chosen, sends = config.training.aggregation, sent_by(solver)
    rule = build(RULES, chosen.method, chosen.params)
    if isinstance(rule, LinearRule) and rule.needs_start_losses:
        sends[START_LOSS] = 1
    return dict(sorted(sends.items()))


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
    sends = sent_vectors(config, solver)
    payload = config.training.payload
    if not payload and any(sends.values()):
        vectors = (VectorSpec(name=name, length=length) for name, length in sends.items())
        payload = [VectorSpec(name=DELTA), *vectors]
    described = [(slot.name, slot.length) for slot in payload_slots(payload, list(sends), dimension)]
    sent = [(DELTA, dimension), *((name, length or dimension) for name, length in sends.items())]
    if described != sent or (payload and payload[0].length is not None):
        told, wanted = (", ".join(f"{name}[{length}]" for name, length in each) for each in (described, sent))
        raise ConfigError(
            f"The payload describes {told}; an update has {wanted}.",
            "Describe what it has, in this order, and the delta without a length.",
        )
    return payload
