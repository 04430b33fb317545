"""One's own means and spreads of columns, which no training has to approach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.schemas.statistics import FINEST
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked


@SOLVERS.register("column_statistics@1")
@dataclass(frozen=True)
class ColumnStatistics(Checked):
    """Moves the model to the means of one's own columns, and to their spreads about the base model's means.

    So the spreads of a second round are about means that all participants share. A column of which nothing is known
    stays as it is: whoever knows nothing of it says nothing about it. What is told is rounded, so that it is of all
    rows and of none alone. It takes no parameters.
    """

    def __call__(
        self,
        model: FlatModel,
        base: Float32Array,
        dataset: Dataset,
        rng: np.random.Generator,
        memory: Memory = BLANK,
        loss: Loss = lambda outputs, targets, inputs: outputs.sum(),
    ) -> LocalUpdate:
        """Return the step from ``base``, float32[2k] of means and spreads, to one's own.

        Raises
        ------
        ConfigError
            If ``base`` does not fit the model, or the model or the data set is another one's.
        """
        model.load(base)
        width = dataset.inputs.shape[1]
        is_described = dataset.targets.shape == dataset.inputs.shape and len(dataset) > 0
        if tuple(model.layout.names) != ("mean", "spread") or len(base) != 2 * width or not is_described:
            raise ConfigError(
                "The solver column_statistics@1 tells statistics of a table's columns.",
                "Use the model and the objective of the same name, and a data schema of statistics.",
            )
        own = own_statistics(dataset.inputs, dataset.targets, base.astype(np.float64))
        with torch.no_grad():
            inputs, targets = (tensor.to(model.device) for tensor in dataset.tensors)
            found = loss(model.module(inputs), targets, inputs)
        return LocalUpdate((own - base).astype(np.float32), len(dataset), 1, float(found))


def own_statistics(
    values: NDArray[np.float32 | np.int64], known: NDArray[np.float32 | np.int64], base: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the means of columns, and the roots of their mean squares about the means of ``base``.

    Both follow from two rounded numbers of each column, whatever the base is, so that no number of rounds tells more:
    its mean in steps of :func:`steps`, and its standard deviation with four binary digits.

    Parameters
    ----------
    values, known
        [n, k] each: the numbers, and 1 where one is known, 0 where it is missing.
    base
        float64[2k]: means and spreads that stay where nothing is known.

    Returns
    -------
    numpy.ndarray
        float64[2k].
    """
    before, spread = base[: values.shape[1]], base[values.shape[1] :]
    weights = known.astype(np.float64)
    counts = weights.sum(0)
    divisors = np.maximum(counts, 1)
    exact = (values * weights).sum(0) / divisors
    deviation = np.sqrt((np.square(values - exact) * weights).sum(0) / divisors)
    step = steps(counts)
    mean = np.round(exact / step) * step
    are_shares = (((values == 0) | (values == 1)) | (weights == 0)).all(0)
    # What few rows hold stays apart from what none holds, and what the share tells is all that is told.
    mean = np.where(are_shares & (exact > 0), np.maximum(mean, step), mean)
    deviation = np.where(are_shares, np.sqrt(np.maximum(mean * (1 - mean), 0)), _rounded(deviation))
    about = np.hypot(deviation, mean - np.clip(before, -1, 1))
    return np.concatenate([np.where(counts > 0, mean, before), np.where(counts > 0, about, spread)])


def steps(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the steps in which means of so many numbers within [-1, 1] are told, float64[k].

    They are powers of two, ``FINEST`` at least and 1 / n at least, so that one row of n moves no mean by more than two.
    """
    return np.maximum(FINEST, np.exp2(-np.floor(np.log2(np.maximum(counts, 1)))))


def _rounded(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return standard deviations with four binary digits, those that are not zero as ``FINEST`` at least."""
    fractions, exponents = np.frexp(deviations)
    found = np.ldexp(np.round(fractions * 16) / 16, exponents)
    return np.where(deviations > 0, np.maximum(np.round(found / FINEST) * FINEST, FINEST), 0)
