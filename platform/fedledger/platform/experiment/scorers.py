"""Who scores updates in an experiment: participants on their own examples, verifiers on some that nobody trains on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.node.scoring import OwnScorer, ScoredRound
from fedledger.platform.attacks.scoring import Scoring
from fedledger.platform.experiment.experiment import Experiment
from fedledger.storage.base import Readable


@dataclass(frozen=True)
class ParticipantScorer:
    """A participant of an experiment as a scorer; its examples are looked at once it is drawn.

    Parameters
    ----------
    experiment, number
        The experiment, and which of its participants it is.
    key
        The participant's secret.
    """

    experiment: Experiment
    number: int
    key: bytes

    def __call__(self, asked: ScoredRound, store: Readable) -> list[int] | None:
        """Score as the participant behaves."""
        examples = self.experiment.parts[self.number]
        honest = _scorer(self.experiment, examples, self.key)(asked, store)
        attack = self.experiment.attack(self.number)
        return attack.scores(asked, honest) if isinstance(attack, Scoring) and honest is not None else honest


@dataclass(frozen=True)
class VerifierScorer:
    """A verifier of an experiment as a scorer; it has its share of the validation examples.

    Parameters
    ----------
    experiment, number
        The experiment, and which of the verifiers it is.
    verifiers
        How many there are.
    key
        The verifier's secret.
    """

    experiment: Experiment
    number: int
    verifiers: int
    key: bytes

    def __call__(self, asked: ScoredRound, store: Readable) -> list[int] | None:
        """Score honestly."""
        inputs, targets = self.experiment.validation.examples()
        whole = Dataset(inputs, targets, self.experiment.test.classes)
        own = whole.take(np.arange(self.number % len(whole), len(whole), self.verifiers))
        return _scorer(self.experiment, own, self.key)(asked, store)


def _scorer(experiment: Experiment, examples: Dataset, key: bytes) -> OwnScorer:
    return OwnScorer.of(experiment.evaluated, examples, experiment.objective, key)
