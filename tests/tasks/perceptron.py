"""A plain perceptron on digits."""

from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def data() -> Dataset:
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images / 16, digits, classes=10)
