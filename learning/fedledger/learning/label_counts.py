"""How unlike each other participants' data are: examples of each class, and figures that follow from them.

Numbers to predict are counted by tenths: which tenth of all of them each belongs to. Other targets are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Parts, tenths

MAX_LISTED = 1_000
MAX_CELLS = 2**24
"""Of a table of participants and classes; beyond it the rarer classes share the last column."""
EFFECTIVE = {"class": "effective_classes", "tenth": "effective_tenths"}
"""What the number of equally frequent columns is called."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How many examples of each class each participant has.

    Parameters
    ----------
    counts
        int64[participants, classes], not negative.
    kind
        What a column counts: ``class``, ``tenth`` of the numbers to predict, or ``example`` where there is no one
        target per example; then there is one column.
    names
        What each column is called; by default its number.
    """

    counts: NDArray[np.int64]
    kind: str = "class"
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", [str(number) for number in range(self.classes)])

    @classmethod
    def of(cls, parts: Parts) -> LabelCounts:
        """Count the examples of each part."""
        whole, strata = parts.whole, parts.whole.strata
        if strata is None:
            return cls(_table(parts, np.zeros(len(whole), np.int64), 1), "example", ["all"])
        if whole.classes is None:
            limits = tenths(whole.targets) if len(whole) else np.zeros(0)
            return cls(_table(parts, strata, len(limits) + 1), "tenth", _ranges(limits.tolist()))
        most = max(2, MAX_CELLS // len(parts))
        if whole.classes <= most:
            return cls(_table(parts, strata, whole.classes))
        found, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
        frequent = np.sort(np.argsort(-counts, kind="stable")[: most - 1])
        column = np.full(len(found), len(frequent), np.int64)
        column[frequent] = np.arange(len(frequent))
        names = [*(str(number) for number in found[frequent].tolist()), "others"]
        return cls(_table(parts, column[codes], len(names)), names=names)

    @property
    def participants(self) -> int:
        """Number of participants."""
        return len(self.counts)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.counts.shape[1])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Examples of each participant, int64[participants]."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def entropies(self) -> NDArray[np.float64]:
        """Shannon entropy of each participant's classes in bits, float64[participants]; 0 where there is no example."""
        shares = self.counts / np.maximum(self.sizes, 1)[:, None]
        # 0 · log 0 is 0; without the addition of 0 an entropy of zero would be -0.
        return np.asarray(0.0 - (shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1))

    @cached_property
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
            **self._columns(),
            "examples": int(self.counts.sum()),
            "quantiles": list(QUANTILES),
            "size_quantiles": np.quantile(self.sizes, QUANTILES).tolist(),
        }
        effective = EFFECTIVE.get(self.kind)
        if effective is not None:
            document[f"{effective}_quantiles"] = np.quantile(self.effective_classes, QUANTILES).round(6).tolist()
        if self.participants <= MAX_LISTED:
            document["each"] = [self._listed(number, effective) for number in range(self.participants)]
        return document

    def _columns(self) -> dict[str, Any]:
        if self.kind == "tenth":
            return {"tenths": list(self.names)}
        return {"classes": self.classes} if self.kind == "class" else {}

    def _listed(self, number: int, effective: str | None) -> dict[str, Any]:
        listed = {"participant": number, "examples": int(self.sizes[number])}
        if effective is None:
            return listed
        return listed | {
            "entropy_bits": round(float(self.entropies[number]), 6),
            effective: round(float(self.effective_classes[number]), 6),
            "counts": self.counts[number].tolist(),
        }


def _table(parts: Parts, columns: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    counts = np.bincount(parts.owners * width + columns, minlength=len(parts) * width)
    return counts.reshape(len(parts), width)


def _ranges(limits: Sequence[float]) -> list[str]:
    """Return what the tenths between some limits are called."""
    if not limits:
        return ["all"]
    between = (f"{low:.6g} to {high:.6g}" for low, high in pairwise(limits))
    return [f"below {limits[0]:.6g}", *between, f"from {limits[-1]:.6g}"]
