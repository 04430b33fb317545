"""What attacks have in common whose attackers work together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.coalition import ESTIMATED_FROM, PROTOCOL, Coalition
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.methods.parameters import Checked, Real

Rows = NDArray[np.float64]
"""float64[n, d]: the updates that are known."""

NOISE = Real(0, 1e12)
"""Norm of the noise under which an attacker disguises what it sends, relative to its norm."""


@dataclass(frozen=True)
class Colluding(Checked):
    """An attack that looks at updates of others.

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    """

    honest: LocalTrainer
    coalition: Coalition

    def __post_init__(self) -> None:
        super().__post_init__()
        self.coalition.look_back(self.rounds)

    @property
    def rounds(self) -> int:
        """How many rounds back the attack looks."""
        return 1

    def sent(self, update: LocalUpdate) -> LocalUpdate:
        """Return an update as the participant's own: nothing of it is kept by it."""
        return replace(update, examples=len(self.honest.dataset), state={})


@dataclass(frozen=True)
class Crafted(Colluding, ABC):
    """An attack that computes what all attackers send from what is known of the honest updates.

    Parameters
    ----------
    knowledge
        From what the attackers estimate the honest updates: ``own``, what they would send if they were honest;
        ``protocol``, also what was revealed in the last round, if there is one attacker only; ``omniscient``, the
        honest updates of the round themselves.
    noise
        Norm of each attacker's own noise, relative to that of what is crafted.
    """

    knowledge: Annotated[str, ESTIMATED_FROM] = PROTOCOL
    noise: Annotated[float, NOISE] = 0.0

    @abstractmethod
    def craft(self, rows: Rows) -> Rows:
        """Return what is sent, float64[d], given estimates of the honest updates."""

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        estimates = self.coalition.estimates(context, self.knowledge)
        return disguised(context, self.sent(made_of(estimates, self.crafting(context))), self.noise)

    def crafting(self, context: TrainingContext) -> Callable[[Rows], Rows]:
        """Return what crafts the vectors of a round; :meth:`craft` unless the attack draws at random."""
        return self.craft


def made_of(updates: Sequence[LocalUpdate], craft: Callable[[Rows], Rows]) -> LocalUpdate:
    """Return an update each of whose vectors is crafted from those of others; statistics are the others' mean."""
    first = updates[0]

    def crafted(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            return craft(np.stack(vectors).astype(np.float64)).astype(np.float32)

    return replace(
        first,
        delta=crafted([update.delta for update in updates]),
        vectors={name: crafted([update.vectors[name] for update in updates]) for name in sorted(first.vectors)},
        statistics=np.stack([update.statistics for update in updates])
        .mean(axis=0, dtype=np.float64)
        .astype(np.float32),
    )


def squared_distances(rows: Rows, to: Rows) -> Rows:
    """Return the squared distances of rows to a vector; summed in one order at any number of threads."""
    return np.asarray(np.square(rows - to).sum(axis=1))
