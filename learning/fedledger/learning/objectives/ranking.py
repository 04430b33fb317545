"""Ranking by implicit feedback: which of some candidates is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, PPM, Batch, Evaluated, described, unsuitable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, OneOf, Whole

KEY = "ranking@1"
NOWHERE = 2**31
"""The rank of a candidate without a score."""


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Ranking(Checked):
    """Ranks candidates: an example is a list of them [k, ...], its target the place of the one that was chosen.

    Candidates that score the same rank before the chosen one, so that a constant model ranks it last.

    Parameters
    ----------
    criterion
        pairwise: −ln σ of the chosen one's score minus each other's (Rendle et al. 2009); or softmax: the
        cross-entropy of the scores.
    score
        hit_rate: how many lists have the chosen one among the first; or ndcg: the normalised discounted cumulative gain
        1 / log2(1 + rank), the mean in ppm (Järvelin and Kekäläinen 2002).
    at
        How many places count.
    """

    criterion: Annotated[str, OneOf(("pairwise", "softmax"))] = "pairwise"
    score: Annotated[str, OneOf(("hit_rate", "ndcg"))] = "hit_rate"
    at: Annotated[int, Whole(1, 1_000_000)] = 10

    lower_is_better = False

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return "pairwise loss (nats)" if self.criterion == "pairwise" else "cross-entropy (nats)"

    @property
    def score_name(self) -> str:
        """The score's name."""
        return f"{'hit rate' if self.score == 'hit_rate' else 'NDCG'} at {self.at}"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set itself, if its targets are places in lists of candidates."""
        targets = dataset.targets
        if targets.dtype != np.int64 or targets.ndim != 1:
            raise unsuitable(dataset, KEY, "the place of the chosen candidate, int64[n]")
        self._check_places(torch.from_numpy(targets), dataset.inputs.shape)
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check scores [m, k], and that every target is one of the k candidates."""
        if targets.dtype != torch.int64 or targets.ndim != 1:
            raise ConfigError(
                f"The objective {KEY} wants the place of the chosen candidate, int64[n]; the targets are "
                f"{described(targets)}.",
                "Give such targets, or name the objective that they suit.",
            )
        candidates = self._check_places(targets, inputs.shape)
        if not outputs.is_floating_point() or outputs.ndim != 2 or outputs.shape[1] != candidates:
            raise ConfigError(
                f"The model's output is {described(outputs)}; an example has {candidates} candidates.",
                f"Return one score a candidate, [examples, {candidates}].",
            )

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch."""
        return self._losses(outputs, targets).mean()

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch."""
        loss, count, score = 0.0, 0, 0
        for batch in batches:
            outputs = batch.outputs.double()
            loss += float(self._losses(outputs, batch.targets).sum())
            count += len(outputs)
            chosen = outputs.gather(1, batch.targets[:, None])
            # Whatever is not lower ranks before the chosen one, NaN too; itself it is no lower.
            ranks = outputs.shape[1] - 1 - (outputs < chosen).sum(1)
            ranks = ranks.masked_fill(chosen.isnan().squeeze(1), NOWHERE)
            if self.score == "hit_rate":
                score += int((ranks < self.at).sum())
            else:
                score += sum(_gain(rank) for rank in ranks.tolist() if rank < self.at)
        return Evaluated(loss / count, score if self.score == "hit_rate" else score // count)

    def full_score(self, targets: torch.Tensor) -> int:
        """Return the number of lists, or a million."""
        return len(targets) if self.score == "hit_rate" else PPM

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return two lists, or what they may add to a mean."""
        return 2 if self.score == "hit_rate" else min(PPM, -(-2 * PPM // max(1, len(targets))))

    def _losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.criterion == "softmax":
            return functional.cross_entropy(outputs, targets, reduction="none")
        places = targets[:, None]
        others = outputs.scatter(1, places, -math.inf)
        return functional.softplus(others - outputs.gather(1, places)).sum(1) / (outputs.shape[1] - 1)

    def _check_places(self, targets: torch.Tensor, shape: tuple[int, ...]) -> int:
        candidates = shape[1]
        if candidates < 2:
            raise ConfigError(
                f"An example has {candidates} candidate(s); {KEY} ranks the chosen one among others.",
                "Give each example the chosen candidate and others that were not chosen, [n, candidates, ...].",
            )
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < candidates:
            raise ConfigError(
                f"A target is outside the {candidates} candidates of an example.",
                "Give the place of the chosen candidate, from 0.",
            )
        return candidates


def _gain(rank: int) -> int:
    """Return 1 / log2(2 + rank) in ppm, of a rank from 0."""
    return round(PPM / math.log2(2 + rank))
