"""Forecasts of what the honest add, made of features of earlier rounds that no sum of public vectors holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import NOISE, Colluding, Rows
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.methods.parameters import OneOf, Real, Whole
from fedledger.protocol.records.model import ModelFile

ROW_MEANS, REGRESSION, SPACES = "row_means", "regression", "spaces"
_RIDGE = 1e-2
_TINY = 1e-12


@ATTACKS.register("forecast@1")
@dataclass(frozen=True)
class Forecast(Colluding):
    """Does not train: forecasts what honest updates hold beyond public vectors.

    Whoever knows how work is told from its absence looks for features of public models and updates that are not sums
    of them, learns from the last rounds how far each told what the honest added, and sends what they tell now, under
    noise, upon a share of the last mean update. It is as long as an honest update. Before there is something to learn
    from, it trains.

    Parameters
    ----------
    features
        ``row_means``: the means of each row and of each column of the last steps' matrices; ``regression``: many
        functions of the last steps and of the model, coordinate by coordinate; ``spaces``: noise within the spaces of
        rows and columns of the last steps' matrices.
    last
        From how many rounds it learns.
    upon
        Norm of the mean update that it adds, relative to that of the forecast.
    noise
        Norm of the noise, relative to the whole.
    """

    features: Annotated[str, OneOf((ROW_MEANS, REGRESSION, SPACES))] = ROW_MEANS
    last: Annotated[int, Whole(1, 32)] = 3
    upon: Annotated[float, Real(0, 1e6)] = 0.3
    noise: Annotated[float, NOISE] = 0.5

    @property
    def rounds(self) -> int:
        """How many rounds back the attack looks."""
        return self.last + 3

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        means = [_mean(rows) for ago in range(1, self.rounds + 1) if (rows := self._revealed(context, ago)) is not None]
        models = [context.base.trained.astype(np.float64), *(m.trained.astype(np.float64) for m in context.earlier)]
        if len(means) < 3 or len(models) < 4:
            return self.honest(context)
        steps = [newer - older for newer, older in pairwise(models)]
        cut = _matrices(context.base)
        if self.features == SPACES:
            rng = generator(context.spec.digest, "forecast", context.index, context.owner)
            told = _within(rng.standard_normal(len(models[0])), steps[:3], cut)
        else:
            seen = self._learned(models, steps, means, cut)
            now = _features(self.features, 0, models, steps, means, cut)
            told = seen @ now
        told = _beyond(told, [*steps[:24], *means[:4]])
        norm = float(np.median([np.sqrt((mean**2).sum()) for mean in means[:1]])) * 1.5
        whole = _unit(told) + self.upon * _unit(means[0])
        like = self.coalition.revealed(context)[0]
        sent = replace(like, delta=(_unit(whole) * norm).astype(np.float32), vectors={})
        return disguised(context, self.sent(sent), self.noise)

    def _revealed(self, context: TrainingContext, ago: int) -> Rows | None:
        found = self.coalition.revealed(context, ago) if len(context.earlier) >= ago else []
        return np.stack([update.delta for update in found]).astype(np.float64) if found else None

    def _learned(self, models: Sequence[Rows], steps: Sequence[Rows], means: Sequence[Rows], cut: _Cut) -> Rows:
        """Return how far each feature told what the last rounds added, by ridge regression."""
        gram, told = 0.0, 0.0
        for ago in range(1, self.last + 1):
            if ago + 2 >= min(len(steps), len(means)):
                break
            features = _features(self.features, ago, models, steps, means, cut)
            target = _beyond(means[ago - 1], [*steps[ago:], *means[ago : ago + 4]])
            features = np.stack([_beyond(f, [*steps[ago:], *means[ago : ago + 4]]) for f in features])
            gram, told = gram + features @ features.T, told + features @ target
        if isinstance(gram, float):
            return np.zeros(len(_features(self.features, 0, models, steps, means, cut)))
        ridge = _RIDGE * np.trace(gram) / len(gram) + _TINY
        return np.linalg.solve(gram + ridge * np.eye(len(gram)), told)


_Cut = list[tuple[int, tuple[int, ...]]]


def _mean(rows: Rows) -> Rows:
    return np.asarray(rows.mean(axis=0))


def _unit(vector: Rows) -> Rows:
    return np.asarray(vector / max(float(np.sqrt((vector**2).sum())), _TINY))


def _beyond(vector: Rows, public: Sequence[Rows]) -> Rows:
    basis, _ = np.linalg.qr(np.stack(public, axis=1))
    return np.asarray(vector - basis @ (basis.T @ vector))


def _matrices(model: ModelFile) -> _Cut:
    starts = np.cumsum([0, *(prod(shape) for shape in model.shapes)])[:-1].tolist()
    return [(start, shape) for start, shape in zip(starts, model.shapes, strict=True) if start < model.dimension]


def _features(
    kind: str, ago: int, models: Sequence[Rows], steps: Sequence[Rows], means: Sequence[Rows], cut: _Cut
) -> Rows:
    """Return what could be seen before the round ``ago`` rounds ago, float64[p, d], each of norm 1."""
    base, step, mean = models[ago], steps[ago], means[ago]
    found: list[Rows] = []
    sources = [step, mean, steps[ago + 1], means[ago + 1]] if kind == REGRESSION else [step, mean]
    for vector in sources:
        for start, shape in cut:
            if len(shape) < 2:
                if kind == REGRESSION:
                    found.append(_only(vector, start, prod(shape)))
                continue
            matrix = vector[start : start + prod(shape)].reshape(shape[0], -1)
            for axis in (0, 1):
                flat = np.zeros_like(vector)
                flat[start : start + prod(shape)] = np.broadcast_to(
                    matrix.mean(axis=axis, keepdims=True), matrix.shape
                ).ravel()
                found.append(flat)
            if kind == REGRESSION:
                found.append(_only(vector, start, prod(shape)))
                weights = base[start : start + prod(shape)].reshape(matrix.shape)
                for made in (weights @ (matrix.T @ matrix), (matrix @ matrix.T) @ weights, matrix @ (weights.T @ weights)):
                    flat = np.zeros_like(vector)
                    flat[start : start + prod(shape)] = made.ravel()
                    found.append(flat)
        if kind == REGRESSION:
            found += [np.sign(vector), np.abs(vector), vector**2, vector**3, np.sign(vector) * np.sqrt(np.abs(vector))]
            found += [vector * base, vector * np.abs(base), vector * base**2, np.tanh(vector / (vector.std() + _TINY))]
    if kind == REGRESSION:
        found += [base, np.sign(base), base**2, base**3, np.sign(step) * np.abs(mean), step * mean, step * steps[ago + 1]]
    return np.stack([_unit(feature) for feature in found])


def _only(vector: Rows, start: int, size: int) -> Rows:
    part = np.zeros_like(vector)
    part[start : start + size] = vector[start : start + size]
    return part


def _within(noise: Rows, steps: Sequence[Rows], cut: _Cut) -> Rows:
    """Return noise within the row and column spaces of steps' matrices."""
    told = np.zeros_like(noise)
    for start, shape in cut:
        if len(shape) < 2:
            continue
        part = slice(start, start + prod(shape))
        matrices = [step[part].reshape(shape[0], -1) for step in steps]
        random = noise[part].reshape(shape[0], -1)
        rows = np.linalg.svd(np.concatenate(matrices, axis=0), full_matrices=False)[2][:6]
        columns = np.linalg.svd(np.concatenate(matrices, axis=1), full_matrices=False)[0][:, :6]
        told[part] = (columns @ (columns.T @ random @ rows.T) @ rows).ravel()
    return told
