"""An autoencoder on scikit-learn's breast cancer set."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    """Return an autoencoder of the 30 columns."""
    return nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 30))


def data() -> Dataset:
    """Return standardised columns; target 1 marks an anomaly, a malignant tumour."""
    inputs, benign = load_breast_cancer(return_X_y=True)
    inputs = (inputs - inputs[benign == 1].mean(axis=0)) / inputs[benign == 1].std(axis=0)
    return Dataset.of(np.clip(inputs, -5, 5), 1 - benign, classes=2)
