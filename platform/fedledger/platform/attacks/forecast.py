"""Forecasts of what the honest add, made of features of earlier rounds that no sum of public vectors holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from fedledger.learning.vectors import repeatable
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.methods.parameters import OneOf, Real, Whole
from fedledger.protocol.records.model import ModelFile

ROW_MEANS, REGRESSION, SPACES = "row_means", "regression", "spaces"
BEFORE = 2
"""What may be learned from a round is learned from as many rounds before it."""
PUBLIC_STEPS, PUBLIC_ROUNDS = 24, 4
"""So many of the last steps, and the mean updates of so many rounds, are held for public."""
LENGTH = 1.5
"""Norm of what is sent over that of the last mean update, which is shorter than its updates."""
RANK = 6
"""Of matrices of steps, so many dimensions count."""
RIDGE = 1e-2
TINY = 1e-12


@ATTACKS.register("forecast@1")
@dataclass(frozen=True)
class Forecast(Colluding):
    """Trains no more once it can forecast what honest updates hold beyond public vectors.

    Whoever knows how work is told from its absence looks for features of public models and updates that are not sums
    of them, learns from the last rounds how far each told what the honest added, and sends what they tell now, upon a
    share of the last mean update, under noise.

    Parameters
    ----------
    features
        ``row_means``: the means of the rows and of the columns of the last step's and mean update's matrices;
        ``regression``: also many functions of them, and of the model, coordinate by coordinate; ``spaces``: noise
        within the spaces of rows and columns of the last steps' matrices.
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
        return self.last + BEFORE + 1

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        known = _Known.of(self, context)
        if len(known.steps) <= BEFORE:
            return self.honest(context)
        with repeatable():
            if self.features == SPACES:
                random = generator(context.spec.digest, "forecast", context.index, context.owner)
                told = known.within_spaces(torch.from_numpy(random.standard_normal(context.base.dimension)))
            else:
                told = known.forecast(self.last)
            whole = _unit(_beyond(told, known.public(0))) + self.upon * _unit(known.means[0])
            delta = (_unit(whole) * LENGTH * known.means[0].norm()).float().numpy()
        like = self.coalition.revealed(context)[0]
        return disguised(context, self.sent(replace(like, delta=delta, vectors={})), self.noise)


@dataclass(frozen=True)
class _Known:
    """What is public, the newest first: trained parts of models, steps between them, and mean updates.

    Parameters
    ----------
    features
        Which features are made of it.
    tensors
        Where each tensor of two or more dimensions lies in a vector, and its number of rows.
    models, steps, means
        float64[d] each; the step and the mean update of one place are of the same round.
    """

    features: str
    tensors: Sequence[tuple[slice, int]]
    models: Sequence[Tensor]
    steps: Sequence[Tensor]
    means: Sequence[Tensor]

    @classmethod
    def of(cls, attack: Forecast, context: TrainingContext) -> _Known:
        models = [torch.from_numpy(model.trained.astype(np.float64)) for model in (context.base, *context.earlier)]
        steps = [newer - older for newer, older in pairwise(models)]
        rounds = range(1, min(len(steps), attack.rounds) + 1)
        revealed = (attack.coalition.revealed(context, ago) for ago in rounds)
        means = [np.stack([one.delta for one in updates]).mean(axis=0, dtype=np.float64) for updates in revealed]
        return cls(
            attack.features, _tensors(context.base), models, steps[: len(means)], [torch.from_numpy(m) for m in means]
        )

    def public(self, ago: int) -> Tensor:
        """Return an orthonormal basis, float64[d, p], of what was public before the round of ``ago`` rounds ago."""
        vectors = [*self.steps[ago : ago + PUBLIC_STEPS], *self.means[ago : ago + PUBLIC_ROUNDS]]
        basis: Tensor = torch.linalg.qr(torch.stack(vectors, 1))[0]
        return basis

    def forecast(self, last: int) -> Tensor:
        """Return the features weighted by how far they told what the last rounds added, by ridge regression."""
        features = self._features(0)
        gram, told = features.new_zeros(len(features), len(features)), features.new_zeros(len(features))
        for ago in range(1, min(last + 1, len(self.steps) - BEFORE + 1)):
            public = self.public(ago)
            before = torch.stack([_beyond(feature, public) for feature in self._features(ago)])
            gram += before @ before.T
            told += before @ _beyond(self.means[ago - 1], public)
        ridge = RIDGE * gram.trace() / len(gram) + TINY
        weights: Tensor = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), told)
        return weights @ features

    def within_spaces(self, noise: Tensor) -> Tensor:
        """Return noise float64[d] within the spaces of rows and columns of the last steps."""
        told = torch.zeros_like(noise)
        for place, size in self.tensors:
            steps = [step[place].reshape(size, -1) for step in self.steps[: BEFORE + 1]]
            rows = torch.linalg.svd(torch.cat(steps, 0), full_matrices=False)[2][:RANK]
            columns = torch.linalg.svd(torch.cat(steps, 1), full_matrices=False)[0][:, :RANK]
            random = noise[place].reshape(size, -1)
            told[place] = (columns @ (columns.T @ random @ rows.T) @ rows).ravel()
        return told

    def _features(self, ago: int) -> Tensor:
        """Return what could be seen before the round of ``ago`` rounds ago, float64[p, d], each of norm 1."""
        step, mean = self.steps[ago], self.means[ago]
        made = [feature for vector in (step, mean) for feature in self._means_of_matrices(vector)]
        if self.features == REGRESSION:
            base, earlier = self.models[ago], (self.steps[ago + 1], self.means[ago + 1])
            made += [feature for vector in earlier for feature in self._means_of_matrices(vector)]
            for vector in (step, mean, *earlier):
                made += [*self._products(vector, base), *_powers(vector, base)]
            made += [base, base.sign(), base**2, base**3, step * mean, step * earlier[0], step.sign() * mean.abs()]
        return torch.stack([_unit(feature) for feature in made])

    def _means_of_matrices(self, vector: Tensor) -> Iterator[Tensor]:
        for place, size in self.tensors:
            matrix = vector[place].reshape(size, -1)
            for axis in (0, 1):
                yield _alone(matrix.mean(axis, keepdim=True).expand_as(matrix), place, vector)

    def _products(self, vector: Tensor, base: Tensor) -> Iterator[Tensor]:
        for place, size in self.tensors:
            matrix, weights = vector[place].reshape(size, -1), base[place].reshape(size, -1)
            yield _alone(matrix, place, vector)
            yield _alone(weights @ (matrix.T @ matrix), place, vector)
            yield _alone((matrix @ matrix.T) @ weights, place, vector)
            yield _alone(matrix @ (weights.T @ weights), place, vector)


def _powers(vector: Tensor, base: Tensor) -> list[Tensor]:
    """Return functions of a step and the model, coordinate by coordinate."""
    sign, size = vector.sign(), vector.abs()
    alone = [sign, size, vector**2, vector**3, sign * size.sqrt(), (vector / (vector.std() + TINY)).tanh()]
    return [*alone, vector * base, vector * base.abs(), vector * base**2]


def _tensors(model: ModelFile) -> list[tuple[slice, int]]:
    ends = np.cumsum([0, *(prod(shape) for shape in model.shapes)]).tolist()
    places = zip(pairwise(ends), model.shapes, strict=True)
    return [(slice(*ends), shape[0]) for ends, shape in places if len(shape) > 1 and ends[1] <= model.dimension]


def _alone(part: Tensor, place: slice, like: Tensor) -> Tensor:
    vector = torch.zeros_like(like)
    vector[place] = part.ravel()
    return vector


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp(min=TINY)
    return unit


def _beyond(vector: Tensor, public: Tensor) -> Tensor:
    """Return what a vector has beyond the span of an orthonormal basis."""
    return vector - public @ (public.T @ vector)
