"""Digits as raw pixels, without any scaling."""

from network import network
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    """Return the model: what comes in is normalised before anything else."""
    return nn.Sequential(nn.BatchNorm2d(1), network())


def data() -> Dataset:
    """Return scikit-learn's digits, from 0 to 256."""
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images.reshape(-1, 1, 8, 8) * 16.0, digits, classes=10)
