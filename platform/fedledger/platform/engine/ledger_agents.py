"""Agents on a ledger: participants that stay away from rounds, and learn from what rounds pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.participant import Participant
from fedledger.node.updates import Updates
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ConfigError


class AgentUpdates(Updates):
    """Updates of a participant that may stay away from a round, for which it then neither trains nor commits."""

    stays_away: Callable[[RoundHistory], bool] = staticmethod(lambda current: False)

    def costs(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether the round is better missed; besides the reasons of all participants, it may stay away."""
        return self.stays_away(current) or super().costs(task, current)


class AgentParticipant(Participant):
    """A participant that may stay away from rounds."""

    updates_kind = AgentUpdates

    def stay_away(self, when: Callable[[RoundHistory], bool]) -> None:
        """Have it stay away from rounds of which that is true."""
        assert isinstance(self.updates, AgentUpdates)
        self.updates.stays_away = when


class LedgerAgents:
    """The agents of a task on a ledger. What they have seen follows from the ledger alone, also after a restart.

    Parameters
    ----------
    experiment
        The experiment.
    history, task
        The ledger's logs, and the task.
    planner
        Finds out what rounds promise.

    Raises
    ------
    ConfigError
        If rounds begin before those before them are final: nobody knows then what these pay.
    """

    def __init__(self, experiment: Experiment, history: History, task: int, planner: RoundPlanner) -> None:
        if experiment.agents and experiment.config.ledger.max_unfinal > 1:
            raise ConfigError(
                "Agents decide by what the rounds before have paid, which several rounds at a time do not tell.",
                "Give max_unfinal = 1 under [ledger].",
            )
        self.attendance = Attendance(experiment.agents)
        self._experiment, self._history, self._task, self._planner = experiment, history, task, planner
        self._numbers = {experiment.address(number): number for number in range(experiment.config.participants)}
        self._away: dict[int, frozenset[int]] = {}
        for _, current in sorted(history.update().task(task).rounds.items()):
            if current.settled or current.voided:
                self.closed(current)

    def away(self, current: RoundHistory) -> frozenset[int]:
        """Return the numbers of those who stay away from a round; bids are another matter."""
        if current.bidding or not self.attendance.agents:
            return frozenset()
        if current.index not in self._away:
            task, asked = self._history.task(self._task), self._asked(current)
            trade = self._planner.trade(self._history, task, self._experiment.spec, current)
            terms = {} if trade is None else trade.terms
            prices = {self._numbers[owner]: each.price for owner, each in terms.items() if owner in self._numbers}
            self._away = {current.index: self.attendance.staying_away(current.index, asked, prices)}
        return self._away[current.index]

    def closed(self, current: RoundHistory) -> None:
        """Take what a round has paid that was settled or voided."""
        if not current.bidding:
            shares = None if current.voided else self.shares(current)
            self.attendance.learn(current.index, self._asked(current), self.away(current), shares)

    def shares(self, current: RoundHistory) -> Mapping[int, int]:
        """Return what a round has paid, in units by number."""
        shares = {} if current.proposal is None else current.proposal.shares
        known = ((self._numbers.get(current.owners[i]), units) for i, units in shares.items() if units)
        return {number: units for number, units in known if number is not None}

    def _asked(self, current: RoundHistory) -> list[int]:
        owners = (current.owners[i] for i in current.selected)
        return [self._numbers[owner] for owner in owners if owner in self._numbers]
