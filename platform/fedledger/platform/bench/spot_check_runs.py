"""Runs without a ledger in which accepted updates are checked: who is paid, whose updates fail, and who is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fedledger.learning.canonical_examples import CanonicalExamples
from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.posted_model import PostedModel
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.spot_checks.opening import make_opening
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.node.updates import header_of
from fedledger.platform.attacks.over_claim import OverClaim
from fedledger.platform.attacks.split_data import SplitData
from fedledger.platform.bench.attack_suite import GROUP, NO_WORK, NONE, Variant, suite
from fedledger.platform.bench.robustness import DIGITS, Case, Condition, configuration
from fedledger.platform.engine.backends.base import Job, Work
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, read_document
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.experiment.template import new_project
from fedledger.platform.spot_checks.judging import Case as CheckedUpdate
from fedledger.platform.spot_checks.judging import judge
from fedledger.protocol.documents import validated
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.data_root import DataRoot, commit_examples, salt_seed
from fedledger.protocol.records.signatures import Place
from fedledger.protocol.records.spot_checks import Check, Reason, drawn
from fedledger.protocol.records.verdicts import Verdict

NEW = "new"
"""The project that `fedledger new` makes."""
TASKS = (DIGITS, NEW)
PLACE: Place = (1, "0x" + "00" * 20, 1)
"""Where the task would be."""
AUDITORS, CHAINS = 3, 20
"""Auditors of the task, and how often it is drawn, by other hashes, who of a run is checked."""
CLAIM = 1000
"""Examples that who claims too many claims, and has committed to by repeating its own."""
COPY = "copy"


def _study() -> dict[str, Variant]:
    known = suite(8, 10, 1)
    chosen = (
        known["none"],
        replace(known["rider_noise_0.3"], name="rider_noise"),
        replace(known["yesterdays_best_0.1"], name="replay"),
        replace(known["combination_4_0.1"], name="old_combination"),
        known["forecast_spaces"],
        Variant("over_claim", NO_WORK, (("over_claim@1", {"examples": CLAIM}),)),
        Variant(COPY, NO_WORK, (("duplicate@1", {"deviation": 0.0}),)),
    )
    return {variant.name: variant for variant in chosen}


STUDY = _study()
"""What one participant does instead of training on what it has committed to, and that all of them are honest."""
SAME_DATA = Variant("same_data", GROUP, (("split_data@1", {"whole": True}),))
GROUPS = {variant.name: variant for variant in (*suite(8, 13, 3).values(), SAME_DATA) if variant.kind == GROUP}
STRATEGIES = {**STUDY, **GROUPS}


@dataclass(frozen=True)
class CheckedCase:
    """A run in which accepted updates may be checked.

    Parameters
    ----------
    task
        ``digits`` or ``new``.
    strategy
        What those do who are not honest.
    dirichlet
        Concentration of the classes' division; None: independent and identically distributed.
    participants, hostile
        All participants, and how many of them follow the strategy.
    seed
        Of data, division, training and block hashes.
    by_examples
        Whether updates are paid by the examples that their senders have committed to, up to the round's median number,
        and not each the same.
    """

    task: str
    strategy: str
    dirichlet: float | None
    participants: int
    hostile: int
    seed: int
    by_examples: bool = False

    @property
    def variant(self) -> Variant:
        """The strategy.

        Raises
        ------
        ConfigError
            If there is none of the name.
        """
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"There is no strategy {self.strategy!r}.", f"There are: {', '.join(STRATEGIES)}.")
        return STRATEGIES[self.strategy]

    def config(self, folder: Path, rounds: int | None = None) -> ExperimentConfig:
        """Return the configuration, with replayable training and exact measurement; ``folder`` is an empty one."""
        document = self._document(folder)
        training = document["training"]
        training["solver"]["method"] = "replayable_sgd@1"
        training |= {"measurement": "exact", "rounds": rounds or training["rounds"]}
        if self.by_examples:
            training |= {"judgement": {"claims": "median"}, "contribution": {"method": "weight@1"}}
        document |= {
            "seed": self.seed,
            "participants": self.participants,
            "attackers": self.variant.groups(self.hostile),
            "compare_with_mean": False,
        }
        return validated(ExperimentConfig, document, self.strategy)

    def _document(self, folder: Path) -> dict[str, Any]:
        if self.task == NEW:
            return read_document(new_project(folder / NEW) / "config.toml")
        condition = Condition(DIGITS, self.dirichlet, self.participants, 0, self.seed)
        return configuration(Case("default", NONE, condition)).model_dump(mode="json", exclude_unset=True)


@dataclass
class Earned:
    """What one participant came to in a run.

    Parameters
    ----------
    accepted, failing
        Updates that were accepted, and those of them that a check fails.
    answered, caught
        Those that were drawn to be checked and pass, and those that were drawn and fail, by each chain of hashes.
    pay, unearned, most
        Credit units in all, those of the updates that a check fails, and the most in a round.
    """

    accepted: int = 0
    failing: int = 0
    answered: list[int] = field(default_factory=lambda: [0] * CHAINS)
    caught: list[int] = field(default_factory=lambda: [0] * CHAINS)
    pay: int = 0
    unearned: int = 0
    most: int = 0

    def add(self, units: int, passes: bool, drawn_by: Sequence[int]) -> None:
        """Count an accepted update that earned so many credit units, and is drawn by these chains."""
        self.accepted += 1
        self.failing += not passes
        for chain in drawn_by:
            (self.answered if passes else self.caught)[chain] += 1
        self.pay += units
        self.unearned += 0 if passes else units
        self.most = max(self.most, units)


@dataclass(frozen=True)
class CheckedRow:
    """What a run came to.

    Parameters
    ----------
    case
        The case.
    rounds
        How many were played.
    pot, quorum
        Credit units of a round, and the smallest number of updates of a round that counts.
    honest
        Credit units of the median honest participant.
    earned
        Of each participant that follows the strategy.
    """

    case: CheckedCase
    rounds: int
    pot: int
    quorum: int
    honest: float
    earned: list[Earned]


class WatchedRecord(MemoryRecord):
    """The rounds of a task in memory, with the updates that some participants sent in the newest one.

    Parameters
    ----------
    experiment
        The experiment.
    watched
        Whose updates are kept, by number.
    """

    def __init__(self, experiment: Experiment, watched: Sequence[int]) -> None:
        super().__init__(experiment, judged=True)
        self._watched = frozenset(watched)
        self.sent: dict[int, tuple[TrainingContext, LocalUpdate]] = {}

    def ask(self) -> Work | None:
        """Return the training of the next round; what was sent in the last one is forgotten."""
        self.sent = {}
        return super().ask()

    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Take one update, and remember it with what it should follow from."""
        if job.number in self._watched:
            owner, index = self.experiment.address(job.number), self.progress.index + 1
            self.sent[job.number] = TrainingContext(self.spec, index, owner, self.model, None), trained
        super().keep(job, trained)


@dataclass
class Checks:
    """Spot checks of an experiment's updates, as participants answer them and auditors judge.

    Parameters
    ----------
    experiment
        The experiment.
    """

    experiment: Experiment
    _known: dict[int, tuple[LocalTrainer, DataRoot, bytes]] = field(default_factory=dict)

    @cached_property
    def posted(self) -> PostedModel:
        """The task's model, as an auditor reads it."""
        given = self.experiment
        return PostedModel(given.spec, given.make_model, given.objective, given.initial)

    @cached_property
    def public(self) -> frozenset[bytes]:
        """The validation examples that nobody may train on."""
        if self.experiment.spec.seal is not None:
            return frozenset()
        return frozenset(example_keys(*self.experiment.validation.examples()))

    def reason(self, seed: bytes, number: int, context: TrainingContext, sent: LocalUpdate) -> Reason:
        """Return what an auditor finds of an update; its sender opens what it has committed to.

        Parameters
        ----------
        seed
            Hash of the block of the round's proposal.
        number
            Whose update it is.
        context, sent
            What it should follow from, and the update.
        """
        trainer, root, salts = self._committed(number)
        check = Check(PLACE, context.index, number, 0, seed)
        opening = make_opening(check, trainer, context, root, salts)
        header = header_of(context.spec, context.index, context.owner, ContentRef.of(context.base.encode()), sent)
        content = wire.encode(header, sent.sent, _key(number))
        case = CheckedUpdate(self.posted, context, content, root, keccak(opening.transcript), self.public)
        return judge(check, case, opening.plaintext).reason

    def _committed(self, number: int) -> tuple[LocalTrainer, DataRoot, bytes]:
        """Return what trains on the examples that a participant has committed to, their root, and its salts' seed."""
        if number not in self._known:
            honest = self.experiment.trainer(number, honest=True)
            assert isinstance(honest, LocalTrainer), "nothing is compressed"
            trainer = replace(honest, dataset=self.committed(number, honest.dataset))
            salts = salt_seed(_key(number), PLACE, 1)
            self._known[number] = trainer, commit_examples(CanonicalExamples.of(trainer.dataset), salts), salts
        return self._known[number]

    def committed(self, number: int, own: Dataset) -> Dataset:
        """Return what a participant has committed to, which suits its strategy as well as can be."""
        behaving = self.experiment.trainer(number)
        if isinstance(behaving, SplitData):
            return behaving.part(self.experiment.address(number))
        if isinstance(behaving, OverClaim):
            return own.take(np.arange(CLAIM, dtype=np.int64) % len(own))
        honest = getattr(behaving, "honest", None)
        # Who copies an accomplice has its data, too.
        return honest.dataset if isinstance(honest, LocalTrainer) else own


def played(case: CheckedCase, rate: int, rounds: int | None = None) -> CheckedRow:
    """Play a run, judge accepted updates of the strategy, and draw which of them are checked.

    All are judged, so that it is known what is lost in the mean; where all are honest, those that the first
    chain draws.
    """
    with TemporaryDirectory() as folder:
        config = case.config(Path(folder), rounds)
        experiment = make_experiment(config, Path(folder) / NEW)
    honest = [number for number, name in enumerate(experiment.behaviours) if name == HONEST]
    earned = {number: Earned() for number in range(case.participants) if number not in honest or not case.hostile}
    record, checks, closed = WatchedRecord(experiment, list(earned)), Checks(experiment), list[Round]()
    with open_backend("batched", experiment) as backend:
        for done in play(record, backend):
            closed.append(done)
            for number, (context, sent) in record.sent.items():
                if done.verdicts[number] is Verdict.ACCEPTED and not done.empty:
                    drawn_by = _drawn_by(case, done.index, number, rate)
                    looks, seed = case.hostile or 0 in drawn_by, block_hash(case, done.index, 0)
                    passes = not looks or checks.reason(seed, number, context, sent) is Reason.PASSED
                    earned[number].add(done.shares.get(number, 0), passes, drawn_by)
    pays = [sum(done.shares.get(number, 0) for done in closed) for number in honest]
    units = config.ledger.units_per_round
    return CheckedRow(case, len(closed), units, config.quorum, max(1.0, median(pays)), list(earned.values()))


def cases(
    tasks: Sequence[str], strategies: Sequence[str], given: Sequence[Condition], by_examples: bool = False
) -> list[CheckedCase]:
    """Return all runs, each once; where all are honest, it does not matter how many would not be.

    Parameters
    ----------
    tasks, strategies
        By name; the project of ``fedledger new`` has a division of its own.
    given
        Divisions, participants and seeds; their data are left out of account.
    by_examples
        See :class:`CheckedCase`.

    Raises
    ------
    ConfigError
        If there is no task or strategy of a name.
    """
    every = [
        CheckedCase(
            task,
            strategy,
            None if task == NEW else condition.dirichlet,
            condition.participants,
            condition.hostile if strategy != NONE else 0,
            condition.seed,
            by_examples,
        )
        for task in tasks
        for condition in given
        for strategy in strategies
    ]
    for task in tasks:
        if task not in TASKS:
            raise ConfigError(f"There is no task {task!r}.", f"There are: {', '.join(TASKS)}.")
    for case in every:
        # Whether there is such a strategy.
        _ = case.variant
    return list(dict.fromkeys(every))


def block_hash(case: CheckedCase, index: int, chain: int) -> bytes:
    """Return 32 bytes that stand for the hash of the block in which a round was proposed, on one of several chains."""
    return hashlib.sha256(f"{case.task} {case.strategy} {case.seed} round {index} on {chain}".encode()).digest()


def _drawn_by(case: CheckedCase, index: int, number: int, rate: int) -> list[int]:
    """Return on which chains the update of a participant is drawn."""
    hashes = [block_hash(case, index, chain) for chain in range(CHAINS)]
    found = [drawn(seed, PLACE[2], index, number, rate, AUDITORS) for seed in hashes]
    return [chain for chain, auditor in enumerate(found) if auditor is not None]


def _key(number: int) -> bytes:
    return hashlib.sha256(f"participant {number}".encode()).digest()
