"""Measurements of tumours that scikit-learn ships."""

from __future__ import annotations

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS
from fedledger.learning.sources.scaling import standardised


@DATASETS.register("breast_cancer@1")
def breast_cancer() -> Dataset:
    """Load scikit-learn's 569 breast tumours: float32[n, 30], standardised, two classes."""
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    return Dataset.of(standardised(inputs), labels, classes=2)
