"""The opposite of an honest update."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.methods.parameters import Checked, Real


@ATTACKS.register("sign_flip@1")
@dataclass(frozen=True)
class SignFlip(Checked):
    """Sends the opposite of an honest update, times ``factor``; of its further vectors as well."""

    honest: LocalTrainer
    factor: Annotated[float, Real(0, 1e12)] = 1.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        trained, factor = self.honest(context), np.float32(-self.factor)
        vectors = {name: factor * vector for name, vector in trained.vectors.items()}
        return replace(trained, delta=factor * trained.delta, vectors=vectors)
