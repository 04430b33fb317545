"""Audit mechanisms: every property in many random markets, in several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

from fedledger.platform.incentives.auditor.choices import Equilibrium, IncentiveCompatibility, IndividualRationality
from fedledger.platform.incentives.auditor.findings import Finding, Observation, Property, failure, round_document
from fedledger.platform.incentives.auditor.payments import Budget, PayForWork, Replay, Rounding
from fedledger.platform.incentives.auditor.rewards import Fairness, FreeRiding, Replication
from fedledger.platform.incentives.auditor.settings.base import Bounds, Instance, Setting
from fedledger.platform.incentives.auditor.settings.choice import setting_of
from fedledger.platform.incentives.auditor.settings.play import FaultyMechanismError, Game, NoEquilibriumError
from fedledger.platform.incentives.auditor.subjects import Subject

PROPERTIES: tuple[Property, ...] = (
    IndividualRationality(),
    IncentiveCompatibility(),
    Equilibrium(),
    Budget(),
    PayForWork(),
    Replay(),
    Rounding(),
    Fairness(),
    FreeRiding(),
    Replication(),
)
_CHUNK = 4
_TWICE = 8
"""So many markets are played in processes that order sets and hashes otherwise."""
_HASH_SEED = "PYTHONHASHSEED"

Observations = list[Observation | None]
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """An audit to be made.

    Parameters
    ----------
    subject
        What is audited.
    setting
        The name of its setting; None: the one that suits it.
    bounds
        Those of reported numbers, where a setting's own are not meant.
    given
        What else the setting is told.
    seed
        What all markets follow from.
    instances, players, misreports
        How many markets, players in each, and deviations of each player.
    """

    subject: Subject
    setting: str | None = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    instances: int = 100
    players: int = 10
    misreports: int = 12

    def make(self) -> Setting:
        """Return the setting with its mechanism; raise ConfigError if they cannot be made."""
        return setting_of(self.subject.make(), self.bounds, self.given, self.setting)


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Parameters
    ----------
    plan
        Its plan.
    setting, assumes
        The setting's name, and what it takes for granted.
    findings
        One for each property.
    """

    plan: Plan
    setting: str
    assumes: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> list[Finding]:
        """The promises that are not kept."""
        return [finding for finding in self.findings if finding.broken]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        plan = self.plan
        return {
            "mechanism": plan.subject.key,
            "params": dict(plan.subject.params),
            "setting": self.setting,
            "assumes": self.assumes,
            "seed": plan.seed,
            "instances": plan.instances,
            "players": plan.players,
            "misreports": plan.misreports,
            "holds": not self.broken,
            "properties": [finding.document() for finding in self.findings],
        }


def audit(plans: Sequence[Plan], workers: int, watch: Watch) -> list[Audit]:
    """Make audits; their findings depend on plans alone, not on the number of processes.

    Parameters
    ----------
    plans
        The audits.
    workers
        In how many processes; one more plays some markets again, where sets and hashes are ordered otherwise.
    watch
        Is told what has been done.

    Raises
    ------
    ConfigError
        If a mechanism or its setting cannot be made.
    """
    settings = [plan.make() for plan in plans]
    context = get_context("spawn")
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(workers, context))
        other = stack.enter_context(ProcessPoolExecutor(1, context))
        with hash_seed("1"):
            observed = [[pool.submit(observations, plan, chunk) for chunk in _chunks(plan.instances)] for plan in plans]
            digests = [pool.submit(outcome_digests, plan, min(_TWICE, plan.instances)) for plan in plans]
        with hash_seed("2"):
            again = [other.submit(outcome_digests, plan, min(_TWICE, plan.instances)) for plan in plans]
        told = []
        for plan, setting, futures, first, second in zip(plans, settings, observed, digests, again, strict=True):
            rows = list(_gathered(plan, futures, watch))
            told.append(concluded(plan, setting, rows, _differing(first.result(), second.result())))
    return told


def audit_here(plan: Plan) -> Audit:
    """Make an audit in this process, without looking whether sets and hashes that are ordered otherwise matter.

    Raises
    ------
    ConfigError
        If the mechanism or its setting cannot be made.
    """
    return concluded(plan, plan.make(), observations(plan, range(plan.instances)), None)


def observations(plan: Plan, indices: Iterable[int]) -> list[Observations]:
    """Return what markets say of each property."""
    setting = plan.make()
    return [list(_observed(plan, setting, index)) for index in indices]


def outcome_digests(plan: Plan, count: int) -> list[str]:
    """Return what the first markets come to, as digests."""
    setting, digests = plan.make(), []
    for index in range(count):
        try:
            outcome = Game(setting, setting.draw(plan.seed, index, plan.players)).outcome()
            told: object = [round_document(each) for each in outcome.rounds]
        except FaultyMechanismError:
            # What else is random about a failure, such as an address of an object in its text, does not matter.
            told = None
        digests.append(sha256(json.dumps(told, sort_keys=True).encode()).hexdigest())
    return digests


def concluded(plan: Plan, setting: Setting, rows: Sequence[Observations], differing: int | None) -> Audit:
    """Return what observations of all markets say; ``differing`` is the first that came out otherwise, if one did."""
    mechanism = setting.mechanism
    findings = []
    for column, looked_for in enumerate(PROPERTIES):
        seen = [row[column] for row in rows]
        if isinstance(looked_for, Replay) and differing is not None:
            why = "The market comes out otherwise where sets and hashes are ordered otherwise."
            seen[differing] = failure(setting.draw(plan.seed, differing, plan.players), why)
        findings.append(looked_for.finding(mechanism, seen))
    return Audit(plan, setting.name, setting.assumes, tuple(findings))


@contextmanager
def hash_seed(seed: str) -> Iterator[None]:
    """Let processes that are started meanwhile order sets of texts by a seed of their own."""
    before = os.environ.get(_HASH_SEED)
    os.environ[_HASH_SEED] = seed
    try:
        yield
    finally:
        if before is None:
            del os.environ[_HASH_SEED]
        else:
            os.environ[_HASH_SEED] = before


def _observed(plan: Plan, setting: Setting, index: int) -> Iterator[Observation | None]:
    try:
        instance = setting.draw(plan.seed, index, plan.players)
        game = Game(setting, instance)
    except NoEquilibriumError as error:
        empty = failure(Instance(plan.seed, index, (), 0), str(error))
        yield from (empty if isinstance(each, Equilibrium) else None for each in PROPERTIES)
        return
    except FaultyMechanismError as error:
        empty = failure(Instance(plan.seed, index, (), 0), str(error))
        yield from (empty if each.promised_by(setting.mechanism) else None for each in PROPERTIES)
        return
    for each in PROPERTIES:
        try:
            yield each.observe(game, plan.misreports)
        except FaultyMechanismError as error:
            yield failure(instance, str(error))


def _chunks(instances: int) -> list[range]:
    return [range(first, min(first + _CHUNK, instances)) for first in range(0, instances, _CHUNK)]


def _gathered(plan: Plan, futures: Sequence[Future[list[Observations]]], watch: Watch) -> Iterator[Observations]:
    for done, future in enumerate(futures):
        watch(plan.subject.key, done, len(futures))
        yield from future.result()


def _differing(first: Sequence[str], second: Sequence[str]) -> int | None:
    return next((index for index, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]), None)
