"""How unlike each other participants' data are: examples of each class, and figures that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_LISTED = 1_000
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How many examples of each class each participant has.

    Parameters
    ----------
    counts
        int64[participants, classes], not negative.
    """

    counts: NDArray[np.int64]

    @property
    def participants(self) -> int:
        """Number of participants."""
        return len(self.counts)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.counts.shape[1])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Examples of each participant, int64[participants]."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def entropies(self) -> NDArray[np.float64]:
        """Shannon entropy of each participant's classes in bits, float64[participants]; 0 where there is no example."""
        shares = self.counts / np.maximum(self.sizes, 1)[:, None]
        # 0 · log 0 is 0; without the addition of 0 an entropy of zero would be -0.
        return np.asarray(0.0 - (shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1))

    @property
    def effective_classes(self) -> NDArray[np.float64]:
        """Equally frequent classes with the same entropy (Hill's number of order 1), float64[participants]."""
        return np.exp2(self.entropies)

    def sample(self, limit: int) -> NDArray[np.int64]:
        """Return at most ``limit`` participants' numbers: all in their order, or quantiles by size, largest first.

        Parameters
        ----------
        limit
            At least 2; the largest and the smallest participant are always among them.
        """
        if self.participants <= limit:
            return np.arange(self.participants)
        ranks = np.rint(np.linspace(0, self.participants - 1, limit)).astype(np.int64)
        return np.argsort(-self.sizes, kind="stable")[ranks]

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON; beyond ``MAX_LISTED`` participants only their quantiles."""
        document: dict[str, Any] = {
            "participants": self.participants,
            "classes": self.classes,
            "examples": int(self.counts.sum()),
            "quantiles": list(QUANTILES),
            "size_quantiles": np.quantile(self.sizes, QUANTILES).tolist(),
            "effective_classes_quantiles": np.quantile(self.effective_classes, QUANTILES).round(6).tolist(),
        }
        if self.participants <= MAX_LISTED:
            document["each"] = [
                {
                    "participant": number,
                    "examples": int(size),
                    "entropy_bits": round(float(entropy), 6),
                    "effective_classes": round(float(effective), 6),
                    "counts": row.tolist(),
                }
                for number, (size, entropy, effective, row) in enumerate(
                    zip(self.sizes, self.entropies, self.effective_classes, self.counts, strict=True)
                )
            ]
        return document
