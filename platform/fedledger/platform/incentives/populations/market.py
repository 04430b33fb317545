"""Several publishers with tasks at the same time, among which the same agents choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from fedledger.platform.agents.agent import UNKNOWN, key_of
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.agents.config import AgentConfig
from fedledger.platform.engine.backends.batched import Batched
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, checked, read_document
from fedledger.platform.incentives.populations.config import Case
from fedledger.platform.incentives.populations.figures import ComparisonRow, row_of
from fedledger.platform.incentives.populations.playing import Watched
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.documents import Document, validated
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.records.reputation import PPM, ppm

NOWHERE = -1


class PublisherConfig(Document):
    """A publisher: its task, and what a model is worth to it."""

    name: str = Field(min_length=1, max_length=40)
    experiment: dict[str, Any]
    value: int = Field(ge=0, le=2**53 - 1, description="units that a model with the full score is worth to it")


class MarketConfig(Document):
    """What `fedledger incentives market` plays: tasks at the same time, and one population of agents."""

    publishers: list[PublisherConfig] = Field(min_length=2, max_length=16)
    agents: list[AgentConfig] = Field(min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**53)
    period: int = Field(default=5, ge=1, le=10_000, description="rounds for which an agent chooses a task")
    explores: float = Field(
        default=0.1, ge=0, le=1, description="how likely an agent looks into any task, whatever it expects"
    )


@dataclass(frozen=True)
class MarketPeriod:
    """How many agents chose each task for a period, from its first round on, and what that had paid by its end."""

    first: int
    chose: Sequence[int]
    paid: Sequence[int]


@dataclass(frozen=True)
class MarketOutcome:
    """What a market came to: a row for each publisher, and its periods."""

    rows: Sequence[ComparisonRow]
    periods: Sequence[MarketPeriod]


def load_market(path: Path, seed: int | None = None) -> tuple[MarketConfig, list[ExperimentConfig]]:
    """Read a market from a TOML file, with each publisher's configuration.

    Parameters
    ----------
    path
        The file.
    seed
        In place of its own.

    Raises
    ------
    ConfigError
        If it cannot be read, or a task of it cannot be.
    """
    where = str(path)
    config = validated(MarketConfig, read_document(path), where)
    config = config if seed is None else config.model_copy(update={"seed": seed})
    shared = {"seed": config.seed, "agents": [group.model_dump() for group in config.agents]}
    experiments = [
        checked({"name": each.name, **each.experiment, **shared}, f"{each.name} in {where}")
        for each in config.publishers
    ]
    if len({each.participants for each in experiments}) > 1:
        raise ConfigError(f"The tasks in {where} have unequal numbers of participants.", "Give all the same number.")
    if len({each.name for each in experiments}) < len(experiments):
        raise ConfigError(f"Two publishers in {where} have one name.", "Give each a name of its own.")
    return config, experiments


class Market:
    """Tasks that are played round by round, all of them at the same pace.

    Before each period every agent chooses the task that is expected to leave it most; one of which it knows nothing it
    tries first. What it expects is what it has seen itself. For a period it is enrolled in that task alone, as in tasks
    with open enrolment, and so are its reputation and its bids: it keeps them, and comes back to them.

    Parameters
    ----------
    config
        The market.
    experiments
        Its tasks' configurations.
    source
        Paths in them are relative to it.
    """

    def __init__(self, config: MarketConfig, experiments: Sequence[ExperimentConfig], source: Path) -> None:
        self._config = config
        self._watched = [Watched(make_experiment(each, source)) for each in experiments]
        self._records = [MemoryRecord(each.experiment, judged=True) for each in self._watched]
        self._choices: dict[int, int] = {}
        for place, record in enumerate(self._records):
            record.attendance.is_elsewhere = partial(self._works_elsewhere, place)

    def play(self, watch: Callable[[str, int, int], None] = lambda *_: None) -> MarketOutcome:
        """Play all tasks to their end; one to which nobody comes any more ends before.

        Parameters
        ----------
        watch
            Is told what is being done, how many rounds that count have been played, and out of how many at most.
        """
        planned = sum(watched.experiment.spec.rounds for watched in self._watched)
        running: dict[int, Iterator[Round]] = {
            place: play(record, Batched(watched.experiment))
            for place, (record, watched) in enumerate(zip(self._records, self._watched, strict=True))
        }
        stopped: dict[int, str] = {}
        periods, index = list[MarketPeriod](), 0
        while running:
            if index % self._config.period == 0:
                self._choose(index + 1, list(running))
                chose = [list(self._choices.values()).count(place) for place in range(len(self._records))]
                periods.append(MarketPeriod(index + 1, chose, []))
            index += 1
            for place, rounds in list(running.items()):
                try:
                    closed = next(rounds, None)
                except FedledgerError as error:
                    stopped[place], closed = str(error), None
                if closed is None:
                    del running[place]
                else:
                    self._watched[place].look(closed)
            watch("round", sum(record.progress.counted for record in self._records), planned)
            paid = [sum(each.pay for each in watched.rounds) for watched in self._watched]
            periods[-1] = MarketPeriod(periods[-1].first, periods[-1].chose, paid)
        if len(periods) > 1 and periods[-1].first == index:
            # The last choice found that all tasks had ended.
            del periods[-1]
        return MarketOutcome([self._row(place, stopped.get(place)) for place in range(len(self._records))], periods)

    def _works_elsewhere(self, place: int, number: int) -> bool:
        return self._choices.get(number) != place

    def _row(self, place: int, stopped: str | None) -> ComparisonRow:
        publisher, watched = self._config.publishers[place], self._watched[place]
        config = watched.experiment.config
        mechanism = config.training.mechanism
        method = "none" if mechanism is None else mechanism.method
        played = watched.result(self._records[place].attendance, stopped)
        return row_of(Case(method, publisher.name, self._config.seed, config, publisher.value), played)

    def _choose(self, index: int, open_tasks: Sequence[int]) -> None:
        """Have every agent choose one of the tasks that go on."""
        attendances = {place: self._records[place].attendance for place in open_tasks}
        for number, agent in enumerate(self._watched[0].experiment.agents):
            draws = stream(key_of(self._config.seed), "choice", index, str(number))
            # Equal tasks are chosen by lot.
            lots = draws.sample(open_tasks, len(open_tasks))
            if not agent.is_there(index):
                self._choices[number] = NOWHERE
            elif draws.below(PPM) < ppm(self._config.explores):
                self._choices[number] = lots[0]
            else:
                self._choices[number] = max(lots, key=lambda place: _promise(attendances, place, number))


def _promise(attendances: Mapping[int, Attendance], place: int, number: int) -> float:
    """Return what a round of a task is expected to pay an agent; work costs it the same in each."""
    expected = attendances[place].experience(number).expected
    return float("inf") if expected == UNKNOWN else expected
