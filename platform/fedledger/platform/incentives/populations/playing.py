"""Runs with agents, played without a ledger or on a development chain, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fedledger.contracts.chain.chain import Chain
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.federation import Record, Round, RoundT, play
from fedledger.platform.engine.with_ledger import LedgerRecord
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.incentives.populations.clairvoyant import best_value
from fedledger.platform.incentives.populations.figures import AgentFigures, Played, PlayedRound
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.durable_files import batched_writes
from fedledger.storage.local import LocalStore


def played(config: ExperimentConfig, source: Path, ledger: bool = False) -> Played:
    """Play an experiment with agents.

    Parameters
    ----------
    config
        The experiment.
    source
        Paths in it are relative to that.
    ledger
        Whether it is played on contracts, on a chain of its own; it comes to the same.

    Raises
    ------
    ConfigError
        If the experiment cannot be.
    """
    experiment = make_experiment(config, source)
    watched = Watched(experiment)
    if ledger:
        with TemporaryDirectory() as folder, batched_writes():
            record = LedgerRecord(experiment, Chain(), LocalStore(Path(folder) / "store"), Path(folder))
            return watched.play(record, record.agents.attendance)
    memory = MemoryRecord(experiment, judged=True)
    return watched.play(memory, memory.attendance)


class Watched:
    """Rounds of an experiment as they are played, in figures.

    Parameters
    ----------
    experiment
        The experiment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.rounds: list[PlayedRound] = []
        self._contributions = [0] * experiment.config.participants
        numbers = range(experiment.config.participants)
        honest = [behaviour == HONEST for behaviour in experiment.behaviours]
        # What an update is worth to a publisher who knows everything.
        self._values = [experiment.examples(number) * honest[number] for number in numbers]

    def play(self, record: Record[RoundT], attendance: Attendance) -> Played:
        """Play all rounds that are left."""
        stopped, rounds = None, play(record, Batched(self.experiment))
        try:
            for closed in rounds:
                self.look(closed)
        except RoundError as error:
            # Where nobody works any more, a mechanism has failed, and not the program.
            stopped = str(error)
        return self.result(attendance, stopped)

    def look(self, closed: Round) -> None:
        """Take a round that is closed; bids cost nothing, and pay nothing."""
        if closed.bidding:
            return
        agents, index = self.experiment.agents, closed.index
        came = [n for n, verdict in closed.verdicts.items() if verdict is not Verdict.MISSED]
        counted = [n for n in came if closed.verdicts[n] is Verdict.ACCEPTED and not closed.empty]
        there = [n for n, agent in enumerate(agents) if agent.is_there(index)]
        for number in counted:
            self._contributions[number] += self._values[number]
        known = [self._values[n] for n in there], [agents[n].cost(index) for n in there]
        self.rounds.append(
            PlayedRound(
                score=self.experiment.tested(closed.model).score,
                pay=sum(closed.shares.values()),
                cost=sum(agents[number].cost(index) for number in came),
                there=len(there),
                came=len(came),
                value=sum(self._values[number] for number in counted),
                best=float(best_value(*known, self.experiment.config.ledger.units_per_round)),
            )
        )

    def result(self, attendance: Attendance, stopped: str | None = None) -> Played:
        """Return what it has come to."""
        seen = [attendance.experience(number) for number in range(len(self.experiment.agents))]
        agents: Sequence[AgentFigures] = [
            AgentFigures(agent.group.name, known.pay, known.cost, contribution)
            for agent, known, contribution in zip(self.experiment.agents, seen, self._contributions, strict=True)
        ]
        return Played(self.rounds, agents, self.experiment.tested(self.experiment.initial).score, stopped)
