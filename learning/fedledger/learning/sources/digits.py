"""Handwritten digits that scikit-learn ships."""

from __future__ import annotations

from importlib.metadata import distribution

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS


@DATASETS.register("digits@1")
def digits() -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits: float32[n, 64] in [0, 1], ten classes."""
    # The file that sklearn.datasets.load_digits reads, whose import takes every process two seconds.
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(path), delimiter=",")
    return Dataset.of(table[:, :-1] / 16, table[:, -1], classes=10)
