"""The configuration of a comparison: mechanisms × populations × seeds on one task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from fedledger.aggregator.mechanisms.base import MECHANISMS
from fedledger.platform.agents.config import AgentConfig
from fedledger.platform.experiment.config import ExperimentConfig, checked, read_document
from fedledger.protocol.documents import Document, validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build

MOST_RUNS = 10_000


class MechanismConfig(Document):
    """A mechanism that is compared, and what goes with it."""

    name: str | None = Field(
        default=None, min_length=1, max_length=40, description="in tables; its method's unless given"
    )
    method: str = Field(pattern=r"^[a-z0-9_]+@[0-9]+$")
    params: dict[str, Any] = Field(default_factory=dict)
    contribution: Method | None = Field(default=None, description="the experiment's unless given")

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or self.method


class PopulationConfig(Document):
    """Participants of one mix."""

    name: str = Field(min_length=1, max_length=40)
    agents: list[AgentConfig] = Field(min_length=1)


class ComparisonConfig(Document):
    """What `fedledger incentives run` plays.

    The experiment is a configuration of its own, as `fedledger run` reads one, but for the mechanism and the agents.
    Under its ``training.report`` stand all numbers that any of the mechanisms needs; each is told those alone.
    """

    experiment: dict[str, Any]
    mechanisms: list[MechanismConfig] = Field(min_length=1, max_length=100)
    populations: list[PopulationConfig] = Field(min_length=1, max_length=100)
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1, max_length=1000)
    value: int = Field(
        ge=0,
        le=2**53 - 1,
        description="units that a model with the full score is worth to the publisher beyond one with none",
    )


@dataclass(frozen=True)
class Case:
    """One run: a mechanism, a population and a seed, and the configuration that they make."""

    mechanism: str
    population: str
    seed: int
    config: ExperimentConfig
    value: int

    def __str__(self) -> str:
        return f"{self.mechanism}, {self.population}, seed {self.seed}"


def load_comparison(path: Path, rounds: int | None = None, seeds: Sequence[int] | None = None) -> list[Case]:
    """Read a comparison from a TOML file, and return its runs.

    Parameters
    ----------
    path
        The file.
    rounds, seeds
        In place of those that it has.

    Raises
    ------
    ConfigError
        If it cannot be read, or one of its runs cannot be.
    """
    where = str(path)
    config = validated(ComparisonConfig, read_document(path), where)
    chosen = list(dict.fromkeys(config.seeds if seeds is None else seeds))
    for kind, names in (
        ("mechanisms", [each.label for each in config.mechanisms]),
        ("populations", [each.name for each in config.populations]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"Two {kind} in {where} are called {twice[0]}.", "Give each a name of its own.")
    if len(config.mechanisms) * len(config.populations) * len(chosen) > MOST_RUNS:
        raise ConfigError(f"{where} asks for more than {MOST_RUNS:,} runs.", "Compare less at a time.")
    return [
        Case(
            mechanism.label,
            population.name,
            seed,
            _made(config, mechanism, population, seed, rounds, where),
            config.value,
        )
        for population in config.populations
        for mechanism in config.mechanisms
        for seed in chosen
    ]


def _made(
    config: ComparisonConfig,
    mechanism: MechanismConfig,
    population: PopulationConfig,
    seed: int,
    rounds: int | None,
    where: str,
) -> ExperimentConfig:
    """Return the configuration of a run."""
    needed = build(MECHANISMS, mechanism.method, mechanism.params).reports
    given = dict(config.experiment)
    training = dict(given.get("training", {}))
    reported = training.pop("report", [])
    numbers = [each for each in reported if isinstance(each, dict) and each.get("name") in needed]
    lacking = set(needed) - {each["name"] for each in numbers}
    if lacking:
        raise ConfigError(
            f"{mechanism.method} needs participants to report {', '.join(sorted(lacking))} (in {where}).",
            "Name it under [[experiment.training.report]], with its bounds.",
        )
    bidding = training.pop("bidding", None)
    if numbers:
        training |= {"report": numbers, "bidding": bidding}
    training["mechanism"] = {"method": mechanism.method, "params": mechanism.params}
    if mechanism.contribution is not None:
        training["contribution"] = mechanism.contribution.model_dump()
    if rounds is not None:
        training["rounds"] = rounds
    agents = [group.model_dump() for group in population.agents]
    return checked(given | {"seed": seed, "training": training, "agents": agents}, f"experiment in {where}")
