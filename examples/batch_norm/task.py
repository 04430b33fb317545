"""Digits scaled to [0, 1]."""

from network import network
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    """Return the model."""
    return network()


def data() -> Dataset:
    """Return scikit-learn's digits."""
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images.reshape(-1, 1, 8, 8) / 16, digits, classes=10)
