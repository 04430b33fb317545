"""Whether a digit is even, above four, prime, and drawn with a closed loop: one logit for each label."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset

EVEN, LARGE, PRIME, LOOP = {0, 2, 4, 6, 8}, {5, 6, 7, 8, 9}, {2, 3, 5, 7}, {0, 6, 8, 9}


def model() -> nn.Module:
    """Return a perceptron of four logits."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))


def data() -> Dataset:
    """Return images and the labels that apply, int64[n, 4] of 0 and 1."""
    images, digits = load_digits(return_X_y=True)
    labels = np.array([[digit in having for having in (EVEN, LARGE, PRIME, LOOP)] for digit in digits])
    return Dataset.of(images / 16, labels.astype(np.int64))
