"""The experiments behind scenarios: the digits, dealt as a scenario has it, with attackers who could be honest."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset, Parts, Prepared
from fedledger.learning.hold_out import hold_out
from fedledger.learning.partitions.base import partition as divide
from fedledger.learning.sources.base import load_dataset
from fedledger.platform.bench.attack_suite import Variant, suite
from fedledger.platform.bench.reputation.scenarios import Scenario
from fedledger.platform.experiment.assembly import assemble
from fedledger.platform.experiment.config import DEMO, ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError

ALPHA, LEAST = 0.5, 20
"""Concentration of the classes' division, and the fewest examples of an owner."""
RARE_CLASS = 8
SIDE = 8
"""Of the square images."""


@dataclass(frozen=True)
class Setting:
    """What is played, whatever model of reputation it is judged by.

    Parameters
    ----------
    scenario
        Who takes part.
    attack
        The attack's name in the suite of `fedledger bench robustness`.
    seed
        The seed of data, division and training.
    rounds
        How many rounds there are.
    """

    scenario: Scenario
    attack: str
    seed: int
    rounds: int

    @property
    def document(self) -> dict[str, Any]:
        """What of it makes a difference to what is played; an attack that nobody mounts does not."""
        attack = self.attack if self.scenario.hostile else None
        return {"scenario": self.scenario.document, "attack": attack, "seed": self.seed, "rounds": self.rounds}


def variant_of(setting: Setting) -> Variant:
    """Return the attack of a setting.

    Raises
    ------
    ConfigError
        If there is none of the name.
    """
    variants = suite(SIDE, setting.scenario.participants, setting.scenario.count)
    if setting.attack not in variants:
        raise ConfigError(f"There is no attack {setting.attack!r}.", f"There are: {', '.join(variants)}.")
    return variants[setting.attack]


def configuration(setting: Setting) -> ExperimentConfig:
    """Return the configuration of a setting: that of the demonstration, with all that it leaves to the defaults."""
    document = tomllib.loads(DEMO.read_text(encoding="utf-8"))
    groups = variant_of(setting).groups(setting.scenario.count) if setting.scenario.hostile else []
    document |= {"seed": setting.seed, "participants": setting.scenario.participants, "attackers": groups}
    document["training"] |= {"rounds": setting.rounds}
    return validated(ExperimentConfig, document, setting.scenario.name)


def make_setting(setting: Setting) -> Experiment:
    """Return the experiment of a setting, in which the subjects' behaviour is the attack if they ever attack."""
    config, scenario = configuration(setting), setting.scenario
    rng = np.random.Generator(np.random.PCG64(setting.seed))
    train, validation, test = hold_out(
        Prepared(_digits()), config.data.test_fraction, config.data.validation_fraction, rng
    )
    if isinstance(train, Parts):
        raise TypeError("the digits come undivided")
    attacks = [group.attack.method.split("@")[0] for group in config.attackers for _ in range(group.count)]
    behaviours = [*[HONEST] * (scenario.participants - len(attacks)), *attacks]
    return assemble(config, Parts(train, dealt(train, scenario, rng)), validation, test, None, behaviours, Path())


def dealt(train: Dataset, scenario: Scenario, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the examples of each participant as a scenario deals them."""
    if scenario.dealing != "rare":
        owned = _divided(train, scenario.owners, rng)
        return owned if scenario.dealing == "usual" else [*owned[:-1], *split_up(owned[-1], scenario.count)]
    rare = np.flatnonzero(train.targets == RARE_CLASS).astype(np.int64)
    others = np.flatnonzero(train.targets != RARE_CLASS).astype(np.int64)
    owned = [others[part] for part in _divided(train.take(others), scenario.owners, rng)]
    return [*owned[:-1], np.sort(np.concatenate([owned[-1], rare]))]


def split_up(examples: NDArray[np.int64], names: int) -> list[NDArray[np.int64]]:
    """Return the examples of each of some names that share out an owner's data: as many to each, up to one."""
    return [examples[place::names] for place in range(names)]


def _divided(train: Dataset, owners: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return list(divide("dirichlet@1", {"alpha": ALPHA, "min_examples": LEAST}, train, owners, rng))


@lru_cache(maxsize=1)
def _digits() -> Dataset:
    return load_dataset("digits@1", {})
