"""A model of numbers with 16 bits."""

import torch
from perceptron import data as digits
from perceptron import model as perceptron
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    return perceptron().to(torch.bfloat16)


def data() -> Dataset:
    return digits()
