"""A run from its chain to everybody's money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.contracts.ledger.records import Offence
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import TASK, LedgerRound
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    auditor_role,
    experiment_account,
    participant_role,
    verifier_role,
)
from fedledger.platform.incentives.pnl.cases import UNIT_GWEI, VERIFIERS, Case
from fedledger.platform.incentives.pnl.money import Books, books, collect
from fedledger.platform.incentives.pnl.population import Population
from fedledger.platform.incentives.pnl.staging import SLEEPER, StagedRecord
from fedledger.protocol.errors import ChainError
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.spot_checks import LEAST_AUDITORS
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import GWEI
from fedledger.storage.durable_files import batched_writes
from fedledger.storage.local import LocalStore


@dataclass(frozen=True)
class Account:
    """What one name came to, in gwei.

    Parameters
    ----------
    device
        The class of its owner's device.
    gain
        What it has more than it began with when it has withdrawn pay and stake; without gas.
    cost
        What its work has cost it.
    gas
        What it has paid for gas, at the chain's price.
    charged
        What failed checks have taken; a part of what it has lost.
    accepted, failing
        Its updates that were accepted, and those of them that a check fails.
    """

    device: str
    gain: int
    cost: int
    gas: int
    charged: int
    accepted: int
    failing: int

    @property
    def profit(self) -> int:
        """Money less the cost of work."""
        return self.gain - self.cost


@dataclass(frozen=True)
class Played:
    """What a run came to; amounts in gwei.

    Parameters
    ----------
    stake, penalty
        What every name stakes, and what a failed check takes of it.
    rate
        The share of accepted updates that are checked.
    accounts
        Of all names, by number.
    aggregator
        What the aggregator has gained.
    verifiers, verifier_costs
        What each verifier has gained, and what its replays have cost; none where they do not act.
    score
        Of the last model, on the test set.
    """

    stake: int
    penalty: int
    rate: float
    accounts: tuple[Account, ...]
    aggregator: int
    verifiers: tuple[int, ...]
    verifier_costs: tuple[int, ...]
    score: float

    @classmethod
    def read(cls, document: dict[str, Any]) -> Played:
        """Return what a JSON document tells."""
        lists = {name: tuple(document[name]) for name in ("verifiers", "verifier_costs")}
        accounts = tuple(Account(**each) for each in document["accounts"])
        return cls(**{**document, **lists, "accounts": accounts})

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


def played(case: Case) -> Played:
    """Play a case on an embedded chain of its own, and have everybody collect.

    Raises
    ------
    ChainError
        If money is not accounted for to the wei.
    """
    population = Population.of(case)
    with TemporaryDirectory() as name, batched_writes():
        folder, chain = Path(name), Chain(EMBEDDED)
        record = StagedRecord(population, chain, LocalStore(folder / "store"), folder)
        with open_backend("batched", population.experiment) as backend:
            closed = list(play(record, backend))
        record.end_checks()
        accounts = accounts_of(case, chain)
        collect(record.ledger, accounts)
        found = books(record.ledger, accounts)
        if found.difference or found.unowned:
            raise ChainError(f"{case}: {found.difference} wei are not accounted for, {found.unowned} are nobody's.")
        return _outcome(population, record, closed, found)


def accounts_of(case: Case, chain: Chain) -> list[LocalAccount]:
    """Return the accounts of all who may take part in a run."""
    roles = [PUBLISHER, AGGREGATOR, DEPLOYER, *map(participant_role, range(case.count))]
    roles += [*map(verifier_role, range(VERIFIERS)), *map(auditor_role, range(LEAST_AUDITORS))]
    return [experiment_account(case.seed, role, chain) for role in roles]


def _outcome(population: Population, record: StagedRecord, closed: Sequence[LedgerRound], found: Books) -> Played:
    case, chain = population.case, record.ledger.chain
    stake, penalty = case.terms
    costs = [0] * case.count
    for (index, number), size in record.uploads.items():
        costs[number] += population.cost(number, index, size)
    numbers = range(case.count)
    aggregator, *verifiers = (
        experiment_account(case.seed, role, chain).address
        for role in (AGGREGATOR, *map(verifier_role, range(VERIFIERS)))
    )
    watching = verifiers if case.played.verified else []
    asleep = case.played.role == "verifier"
    replays = sum(population.replay_cost(len(done.verdicts)) for done in closed)
    return Played(
        stake=stake,
        penalty=penalty,
        rate=case.rate / PPM,
        accounts=tuple(_account(population, record, closed, found, number, costs[number]) for number in numbers),
        aggregator=found.gains[aggregator] // GWEI,
        verifiers=tuple(found.gains[address] // GWEI for address in watching),
        verifier_costs=tuple(
            0 if asleep and place == SLEEPER else replays * UNIT_GWEI for place in range(len(watching))
        ),
        score=population.experiment.tested(closed[-1].model).score,
    )


def _account(
    population: Population,
    record: StagedRecord,
    closed: Sequence[LedgerRound],
    found: Books,
    number: int,
    cost: int,
) -> Account:
    address, task = record.accounts[number], record.history.update().task(TASK)
    known = record.history.ids.get(address)
    counted = [done for done in closed if done.counts and done.verdicts.get(number) is Verdict.ACCEPTED]
    failed = (each for each in task.slashes if each.participant == known and each.offence is Offence.FAILED_CHECK)
    return Account(
        device=population.device(number).name,
        gain=found.gains[address] // GWEI,
        cost=cost * UNIT_GWEI,
        gas=found.gas[address] // GWEI,
        charged=sum(each.amount for each in failed) // GWEI,
        accepted=len(counted),
        failing=sum(_fails(population, record, done.index, number) for done in counted),
    )


def _fails(population: Population, record: StagedRecord, index: int, number: int) -> bool:
    """Return whether a check fails an update: it is not what honest training makes of what was committed to."""
    if (index, number) not in record.sent:
        return False
    context, sent = record.sent[index, number]
    due = population.experiment.trainer(number, honest=True)(context)
    return not (np.array_equal(due.delta, sent.delta) and (due.examples, due.steps) == (sent.examples, sent.steps))
