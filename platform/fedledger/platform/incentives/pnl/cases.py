"""What is played: a strategy under a mechanism, a stake and a rate of spot checks, by the data of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedledger.platform.experiment.checked_data import check_plan, least_stake
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.incentives.pnl.devices import PRICES, Prices
from fedledger.platform.incentives.pnl.strategies import Strategy, strategy_of, turn_of
from fedledger.platform.spot_checks.plan import CheckPlan, most_pay
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM

PLANNED = "planned"
"""The stake that `fedledger spot-check plan` has for the rate."""
EPOCHS = 2
UNITS, UNIT_GWEI = 100_000, 10
"""What a round pays, in credit units, and gwei of a unit: the defaults of a configuration."""
BIDDING = 4
"""Every so many rounds one asks for bids, where the mechanism needs any."""
VERIFIERS = 4
"""Verifiers of runs in which they act: one that objects, and a jury of three."""
COST = "cost"
DEFAULT_MECHANISM = "proportional@1"
AUCTIONS = ("proportional_share@1", "vcg@1")
BY_EXAMPLES = "by_examples"
"""The default mechanism, where updates are paid by the examples that were committed to, up to the round's median."""
MECHANISMS = (DEFAULT_MECHANISM, "fixed@1", *AUCTIONS, BY_EXAMPLES)
"""Mechanisms that a table may have."""


@dataclass(frozen=True)
class Size:
    """How large a run is, and what work costs in it.

    Parameters
    ----------
    owners
        People who own data, one participant each unless they have more names.
    rounds
        Of the task.
    hidden
        Hidden units of the model.
    alpha
        Concentration of the classes' division, by Dirichlet's distribution.
    prices
        What work is worth.
    """

    owners: int = 8
    rounds: int = 8
    hidden: int = 16
    alpha: float = 1.0
    prices: Prices = PRICES

    def __post_init__(self) -> None:
        if not 6 <= self.owners <= 60:
            raise ConfigError(f"{self.owners} owners cannot be played.", "Give 6 to 60.")
        if not 4 <= self.rounds <= 500:
            raise ConfigError(f"{self.rounds} rounds cannot be played.", "Give 4 to 500.")

    @property
    def share(self) -> int:
        """An equal share of what a round pays, in credit units."""
        return UNITS // self.owners

    @property
    def quorum(self) -> int:
        """The smallest number of updates of a round that counts: half of the owners, as in a configuration."""
        return max(1, self.owners // 2)


@dataclass(frozen=True)
class Case:
    """A run.

    Parameters
    ----------
    strategy, mechanism
        By name.
    stake
        ``planned``, or gwei as a number; a penalty that is planned higher than that is lowered to it.
    rate
        Accepted updates of a million that are checked.
    seed
        Of data, division, training, and of who the actor is.
    size
        How large it is.
    """

    strategy: str
    mechanism: str
    stake: str
    rate: int
    seed: int
    size: Size = Size()

    def __str__(self) -> str:
        return f"{self.strategy}, {self.mechanism}, stake {self.stake}, {self.rate / PPM:g}, seed {self.seed}"

    @property
    def played(self) -> Strategy:
        """The strategy."""
        return strategy_of(self.strategy)

    @property
    def twin(self) -> Case:
        """The same people if they are honest."""
        return replace(self, strategy=self.played.twin)

    @property
    def asks(self) -> bool:
        """Whether the mechanism asks for bids."""
        return self.mechanism in AUCTIONS

    @property
    def plan(self) -> CheckPlan:
        """What `fedledger spot-check plan` has for the rate."""
        most = most_pay(UNITS * UNIT_GWEI, self.size.quorum)
        return CheckPlan.of(most, self.size.rounds, self.rate)

    @property
    def members(self) -> list[int]:
        """The numbers of the owners who follow the strategy, the first of whom the seed decides."""
        first, count = self.seed % self.size.owners, self.played.owners
        return [(first + place) % self.size.owners for place in range(count)]

    @property
    def names(self) -> list[int]:
        """The numbers of all names under which they take part."""
        return [*self.members, *range(self.size.owners, self.size.owners + self.played.extra)]

    @property
    def count(self) -> int:
        """Names of everybody."""
        return self.size.owners + self.played.extra

    def config(self) -> ExperimentConfig:
        """Return the configuration of the run: defaults wherever neither replayable training nor the case needs more.

        Raises
        ------
        ConfigError
            If there is no strategy or mechanism of the name, or stake or rate cannot be.
        """
        size, strategy = self.size, self.played
        training: dict[str, Any] = {
            "rounds": size.rounds,
            "measurement": "exact",
            "solver": {
                "method": "replayable_sgd@1",
                "params": {"learning_rate": 0.08, "momentum": 0.9, "batch_size": 32, "local_epochs": EPOCHS},
            },
            **self._mechanism(),
        }
        document = {
            "name": "profit and loss",
            "seed": self.seed,
            "participants": self.count,
            "compare_with_mean": False,
            "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [size.hidden], "classes": 10}},
            "data": {"partition": {"method": "dirichlet@1", "params": {"alpha": size.alpha, "min_examples": 20}}},
            "training": training,
            "attackers": self._attackers(),
            "ledger": {
                "quorum": size.quorum,
                "min_participants": size.owners if strategy.dealing != "later" else size.owners - 1,
                "open_enrolment": strategy.dealing == "later",
                "units_per_round": UNITS,
                "credit_unit_gwei": UNIT_GWEI,
                "batched": True,
                "challenge_window": 300,
                "dispute_period": 600,
                "check_rate": self.rate,
                "least_pool": VERIFIERS if strategy.verified else 3,
                **self._stake(),
            },
        }
        return validated(ExperimentConfig, document, str(self))

    @property
    def terms(self) -> tuple[int, int]:
        """Stake and penalty of a failed check, in gwei."""
        config = self.config()
        plan = check_plan(config)
        return least_stake(config), 0 if plan is None else plan.penalty

    def _stake(self) -> dict[str, Any]:
        if self.stake == PLANNED:
            return {}
        if not self.stake.isdecimal() or not int(self.stake):
            raise ConfigError(f"{self.stake!r} is no stake.", f"Give {PLANNED}, or a number of gwei.")
        stake = int(self.stake)
        return {"stake_gwei": stake, "check_penalty_gwei": min(stake, self.plan.penalty)}

    def _mechanism(self) -> Mapping[str, Any]:
        if self.mechanism not in MECHANISMS:
            raise ConfigError(f"There is no mechanism {self.mechanism!r} here.", f"There are: {', '.join(MECHANISMS)}.")
        params: dict[str, Any] = {}
        if self.mechanism == BY_EXAMPLES:
            paid = {"judgement": {"claims": "median"}, "contribution": {"method": "weight@1"}}
            return {"mechanism": {"method": DEFAULT_MECHANISM}, **paid}
        if self.mechanism == "fixed@1":
            params = {"price": self.size.share}
        elif self.mechanism == "vcg@1":
            params = {"winners": self.size.owners - 2, "reserve": 2 * self.size.share}
        named = {"mechanism": {"method": self.mechanism, "params": params}}
        report = [{"name": COST, "least": 0, "most": UNITS}]
        return named | ({"report": report, "bidding": BIDDING} if self.asks else {})

    def _attackers(self) -> list[dict[str, Any]]:
        strategy = self.played
        if not strategy.attack:
            return []
        params = dict(strategy.params)
        if strategy.effort == "until_turn":
            noise = {"deviation": 0.0, "noise": 0.3}
            params = {"turn": turn_of(self.size.rounds), "attack": "free_rider@1", "params": noise}
        return [{"attack": {"method": strategy.attack, "params": params}, "count": len(self.names)}]
