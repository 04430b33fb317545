"""The reputations of a run without a ledger: those that its ledger would come to, by the task's model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fedledger.aggregator.reputation.base import Standing, model_of, require_others
from fedledger.aggregator.reputation.standings import own_reputations
from fedledger.platform.engine.progress import Progress
from fedledger.platform.experiment.accounts import PUBLISHER, experiment_address
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.records.verdicts import Verdict


class Reputations:
    """Tells participants' reputations, and folds verdicts into the standings that they follow from.

    The publisher's own task is all that there is, so recommenders have nothing to say.

    Parameters
    ----------
    experiment
        The experiment.
    progress
        How far the run has come; standings are noted in it.

    Raises
    ------
    ConfigError
        If the task recommends its own publisher.
    """

    def __init__(self, experiment: Experiment, progress: Progress) -> None:
        self._participants, self._progress = experiment.config.participants, progress
        self._model = model_of(experiment.spec)
        self._publisher = "" if self._model is None else experiment_address(experiment.config.seed, PUBLISHER)
        require_others(experiment.spec, self._publisher)

    @property
    def modelled(self) -> bool:
        """Whether the task has a reputation model, and reputations are not those of the ledger's own evidence."""
        return self._model is not None

    def of(self, numbers: Collection[int]) -> dict[int, int]:
        """Return the reputations of participants now, in ppm by number."""
        return self._by(self._progress.standings, numbers)

    def for_selection(self, numbers: Collection[int]) -> dict[int, int]:
        """Return the reputations that a selection looks at: those when the newest round was opened."""
        return self._by(self._progress.standings_at_opening, numbers)

    def opened(self) -> None:
        """Take note that a round has been opened: the selection of the next one looks at what is known now."""
        if self._model is not None:
            self._progress.standings_at_opening = dict(self._progress.standings)

    def judged(self, verdicts: Mapping[int, Verdict]) -> None:
        """Fold the verdicts of a round into the standings."""
        if self._model is None:
            return
        standings = self._progress.standings
        for number, verdict in verdicts.items():
            name = self._name(number)
            standings[name] = self._model.after(standings.get(name, self._model.unknown), verdict)

    def _by(self, standings: Mapping[int, Standing], numbers: Collection[int]) -> dict[int, int]:
        if self._model is None:
            return {number: self._progress.reputation(number) for number in numbers}
        names = {self._name(number): number for number in numbers}
        found = own_reputations(self._model, self._publisher, standings, list(names))
        return {names[name]: reputation for name, reputation in found.items()}

    def _name(self, number: int) -> int:
        """Return the number of the name under which a participant takes part now; each has left some of its own."""
        return number + self._participants * self._progress.names_left.get(number, 0)
