"""Many cases in several processes, and what each comes to beside honest play."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from operator import attrgetter
from pathlib import Path
from statistics import median

from fedledger.platform.bench.kept_lines import KeptLines
from fedledger.platform.bench.kept_runs import Announce, play_missing
from fedledger.platform.incentives.pnl.cases import Case, Size
from fedledger.platform.incentives.pnl.devices import LOW
from fedledger.platform.incentives.pnl.playing import Account, Played, played
from fedledger.platform.incentives.pnl.staging import SLEEPER
from fedledger.platform.incentives.pnl.strategies import OVER_COST
from fedledger.protocol.records.reputation import PPM

FILE = "plays.jsonl"
SUMMED = ("charged", "accepted", "failing", "cost", "gas")
"""Fields of a row that are those of the actor's names together."""


@dataclass(frozen=True)
class Row:
    """What a strategy comes to in a run; amounts in gwei.

    Parameters
    ----------
    strategy, mechanism, stake, spot_check_rate, seed
        What was played; the rate is a share, the stake that of one name.
    profit
        Of all names of the actor: pay withdrawn and stake returned, less what they staked and the cost of their work.
    honest_median_profit
        That of the median honest participant of the same run.
    honest_self_profit
        What the same people come to in the same task if they are honest.
    expected_profit
        Profit if each failing update costs what a check of it costs in the mean, whoever was drawn.
    honest_low_end_profit
        That of the median honest participant with a low-end device; None: there is none.
    works
        Whether the actor does any work.
    applies
        Whether the mechanism gives the strategy anything to do; if not, the actor is honest.
    charged
        What failed checks took of the actor.
    accepted, failing
        The actor's updates that were accepted, and those of them that a check fails.
    cost, gas
        Of the actor's work, and what it paid for gas at the embedded chain's price, which is in no profit.
    """

    strategy: str
    mechanism: str
    stake: int
    spot_check_rate: float
    seed: int
    profit: int
    honest_median_profit: float
    honest_self_profit: int
    expected_profit: float
    honest_low_end_profit: float | None
    works: bool
    applies: bool
    charged: int
    accepted: int
    failing: int
    cost: int
    gas: int


def effective(case: Case) -> Case:
    """Return what is played for a case: honest play where the mechanism asks for no cost to over-report."""
    return case.twin if case.strategy == OVER_COST and not case.asks else case


def cases(
    strategies: Sequence[str],
    mechanisms: Sequence[str],
    stakes: Sequence[str],
    rates: Sequence[int],
    seeds: Sequence[int],
    size: Size,
) -> list[Case]:
    """Return all cases, each once.

    Raises
    ------
    ConfigError
        If one cannot be.
    """
    every = [
        Case(strategy, mechanism, stake, rate, seed, size)
        for mechanism in mechanisms
        for stake in stakes
        for rate in rates
        for strategy in strategies
        for seed in seeds
    ]
    chosen = list(dict.fromkeys(every))
    for case in chosen:
        case.config()
    return chosen


@dataclass
class Campaign:
    """Runs of many cases.

    Parameters
    ----------
    cases
        The cases.
    folder
        What was played before, and where what is played is added; None: nothing is kept.
    workers
        Number of processes.
    announce
        Is told what has just been played, how much is, and how much there will be.
    """

    cases: Sequence[Case]
    folder: Path | None = None
    workers: int = 1
    announce: Announce = lambda doing, done, of: None

    def rows(self) -> tuple[list[Row], list[str]]:
        """Play what is not known yet; return the rows in the order of the cases, and what went wrong with others."""
        kept = KeptLines(self.folder, FILE, Played.read)
        runs = {_key(run): run for case in self.cases for run in (effective(case), case.twin)}
        faults = play_missing(runs, kept, played, attrgetter("document"), self.workers, self.announce)
        rows = []
        for case in self.cases:
            own, twin = kept.get(_key(effective(case))), kept.get(_key(case.twin))
            if own is not None and twin is not None:
                rows.append(row_of(case, own, twin))
        return rows, [f"{runs[key]}: {fault}" for key, fault in faults.items()]


def row_of(case: Case, own: Played, twin: Played) -> Row:
    """Return what a case comes to, given its run and that of its honest twin."""
    actors = [own.accounts[name] for name in case.names]
    others = [each for number, each in enumerate(own.accounts) if number not in case.names]
    low = [each.profit for each in others if each.device == LOW]
    beside, before = _beside(case, own), _beside(case, twin)
    return Row(
        strategy=case.strategy,
        mechanism=case.mechanism,
        stake=own.stake,
        spot_check_rate=case.rate / PPM,
        seed=case.seed,
        profit=beside + sum(each.profit for each in actors),
        honest_median_profit=median(each.profit for each in others),
        honest_self_profit=before + sum(twin.accounts[number].profit for number in case.members),
        expected_profit=beside + sum(expected_profit(each, own) for each in actors),
        honest_low_end_profit=median(low) if low else None,
        works=case.played.works,
        applies=effective(case) == case,
        **_sums(actors),
    )


def _beside(case: Case, run: Played) -> int:
    """Return what the actor of a case comes to in a run besides its names: as an aggregator, or as a verifier."""
    if case.played.role == "aggregator":
        return run.aggregator
    if case.played.role == "verifier":
        return run.verifiers[SLEEPER] - run.verifier_costs[SLEEPER]
    return 0


def _sums(accounts: Sequence[Account]) -> dict[str, int]:
    """Return what accounts come to together, by field."""
    return {name: sum(getattr(each, name) for each in accounts) for name in SUMMED}


def expected_profit(account: Account, run: Played) -> float:
    """Return a name's profit if its failing updates cost what checks of them cost in the mean.

    The number of them that is drawn is binomial; each takes the penalty, and all together no more than the stake.
    """
    return account.profit + account.charged - expected_charge(account.failing, run)


def expected_charge(failing: int, run: Played) -> float:
    """Return what checks of so many failing updates take in the mean."""
    q = run.rate
    return sum(
        min(caught * run.penalty, run.stake) * comb(failing, caught) * q**caught * (1 - q) ** (failing - caught)
        for caught in range(failing + 1)
    )


def _key(case: Case) -> str:
    document = {**asdict(replace(case, strategy="")), "configuration": case.config().model_dump(mode="json")}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return f"{case}; {digest[:16]}"
