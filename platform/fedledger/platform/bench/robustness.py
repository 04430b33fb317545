"""What attackers do to accuracy, reputation and pay under a pipeline: each attack in each condition, on several seeds.

An oracle stands beside each row: the plain mean of the honest alone, as if the hostile were known and their data lost.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.sources.base import load_dataset
from fedledger.platform.bench.attack_suite import NAMES, NONE, ON_OFF, TARGET, TURN, Opening, Variant, suite
from fedledger.platform.bench.models import DATA
from fedledger.platform.bench.robustness_pipelines import pipeline_tables, rule_pipeline
from fedledger.platform.engine.backends.base import Job, Work
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import DEMO, ExperimentConfig
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.experiment.pipelines import PLAIN
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.reputation import PPM

IID = "iid"
DIGITS, MNIST = "digits", "mnist"
HIDDEN = 64


@dataclass(frozen=True)
class Condition:
    """What is trained, by whom, and on which seed.

    Parameters
    ----------
    data
        ``digits``, ``mnist``, or a folder of images in the IDX format.
    dirichlet
        Concentration of the classes' division; None: independent and identically distributed.
    participants, hostile
        All participants, and those of them that attack.
    seed
        The seed of data, division, attackers and training.
    """

    data: str
    dirichlet: float | None
    participants: int
    hostile: int
    seed: int

    @property
    def named_dirichlet(self) -> float | str:
        """The concentration, or ``iid``."""
        return IID if self.dirichlet is None else self.dirichlet


@dataclass(frozen=True)
class Case:
    """A run.

    Parameters
    ----------
    pipeline, attack, condition
        The pipeline, the attack, and the condition in which both meet.
    expected
        How many attackers the pipeline is told of; None if its methods do not ask.
    """

    pipeline: str
    attack: str
    condition: Condition
    expected: int | None = None

    def __str__(self) -> str:
        given = self.condition
        return (
            f"{self.pipeline}, {self.attack}, {given.data}, Dirichlet {given.named_dirichlet}, "
            f"{given.hostile} of {given.participants}, seed {given.seed}"
        )


@dataclass(frozen=True)
class RobustnessRow:
    """What a run came to.

    Parameters
    ----------
    pipeline, attack, kind
        The pipeline, the attack, and the class of attacks for which goals are stated.
    data, dirichlet, participants, hostile, seed
        The condition; the concentration is ``iid`` where there is none.
    accuracy, oracle
        Of the last model on the test set, and of that which a mean of the honest alone reaches.
    attack_success
        Share of test examples with the trigger that the last model takes for the attackers' class; None without one.
    refused_honest, refused_hostile
        Share of the updates that were refused; None without such participants. The latter is the recall of refusals.
    pay_ratio, pay_group
        Pay of the best attacker, and of all of them together, over the median of the honest.
    pay_poorest
        Pay of the poorest honest participant over that median.
    pay_after
        As ``pay_ratio``, of the rounds since those turned who were honest at first; None elsewhere.
    reputation_gap
        The lowest reputation of an honest participant at the end minus the highest of an attacker.
    rounds
        How many rounds were played.
    error
        Why there are no figures.
    expected
        How many attackers the pipeline was told of; None if its methods do not ask.
    precision
        Share of refused updates that were hostile; None where nobody is hostile, or nothing was refused.
    f1
        Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), where refused hostile updates are the true
        positives; None where nobody is hostile.
    """

    pipeline: str
    attack: str
    kind: str
    data: str
    dirichlet: float | str
    participants: int
    hostile: int
    seed: int
    accuracy: float | None = None
    oracle: float | None = None
    attack_success: float | None = None
    refused_honest: float | None = None
    refused_hostile: float | None = None
    pay_ratio: float | None = None
    pay_group: float | None = None
    pay_poorest: float | None = None
    pay_after: float | None = None
    reputation_gap: float | None = None
    rounds: int = 0
    error: str | None = None
    expected: int | None = None
    precision: float | None = None
    f1: float | None = None


@lru_cache(maxsize=8)
def image_shape(data: str) -> tuple[int, int]:
    """Return the side of the square images of a data set, and how many classes they have.

    Raises
    ------
    ConfigError
        If there is no such data set, or its examples are no square images.
    """
    source = image_source(data)
    dataset = load_dataset(source["method"], source["params"])
    pixels = int(np.prod(dataset.inputs.shape[1:]))
    side = round(pixels**0.5)
    if side * side != pixels or dataset.classes is None or dataset.classes <= TARGET:
        raise ConfigError(
            f"The examples of {data} are no square images of at least {TARGET + 1} classes.",
            f"Give {DIGITS}, {MNIST}, or a folder of such images.",
        )
    return side, dataset.classes


def image_source(data: str) -> dict[str, Any]:
    """Return the data source that a name or a folder stands for."""
    if data == DIGITS:
        return {"method": "digits@1", "params": {}}
    folder = Path(os.environ.get(DATA, "examples/data")) / MNIST if data == MNIST else Path(data)
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder} with images.", f"Give {DIGITS}, a folder, or set {DATA} to that of {MNIST}."
        )
    return {"method": "mnist_idx@1", "params": {"folder": str(folder.absolute())}}


def configuration(case: Case, rounds: int | None = None) -> ExperimentConfig:
    """Return the configuration of a run: that of the demonstration with other participants, data and methods."""
    given, expected = case.condition, case.expected
    told = given.hostile if expected is None else expected
    tables = pipeline_tables(case.pipeline, given.participants, told)
    document = tomllib.loads(DEMO.read_text(encoding="utf-8"))
    side, classes = image_shape(given.data)
    solver = document["training"]["solver"]
    if given.data != DIGITS:
        # So that a run takes a few seconds.
        solver = {**solver, "params": {**solver["params"], "local_epochs": 1}}
    division = {"method": "dirichlet@1", "params": {"alpha": given.dirichlet, "min_examples": 20}}
    document["model"]["params"] = {"inputs": side * side, "hidden": [HIDDEN], "classes": classes}
    document["data"] |= {
        "source": image_source(given.data),
        "partition": {"method": "iid@1"} if given.dirichlet is None else division,
        **tables["data"],
    }
    document |= {
        "seed": given.seed,
        "participants": given.participants,
        "attackers": variant_of(case).groups(given.hostile),
        "training": {
            "rounds": rounds or document["training"]["rounds"],
            "solver": solver,
            **tables["training"],
        },
    }
    return validated(ExperimentConfig, document, str(case))


def variant_of(case: Case) -> Variant:
    """Return the attack of a run.

    Raises
    ------
    ConfigError
        If there is none of the name.
    """
    given = case.condition
    variants = suite(image_shape(given.data)[0], given.participants, given.hostile)
    if case.attack not in variants:
        raise ConfigError(f"There is no attack {case.attack!r}.", f"There are: {', '.join(variants)}.")
    return variants[case.attack]


def played(case: Case, rounds: int | None = None) -> RobustnessRow:
    """Play a run without a ledger, and return what it came to; its oracle is left out."""
    variant, experiment = variant_of(case), make_experiment(configuration(case, rounds), Path())
    with Serial(experiment) as backend:
        record = MemoryRecord(experiment, judged=True)
        closed = list(play(record, backend))
    hostile = [number for number, name in enumerate(experiment.behaviours) if name != HONEST]
    honest = [number for number, name in enumerate(experiment.behaviours) if name == HONEST]
    reputations = record.reputations.of((*honest, *hostile))
    pay, refused = _Pay.of(closed, honest, hostile), Refusals.of(closed, honest, hostile)
    turned = [done for done in closed if done.index >= TURN]
    gap = min(reputations[number] for number in honest) - max((reputations[number] for number in hostile), default=0)
    model = closed[-1].model
    return RobustnessRow(
        **_named(case, variant),
        accuracy=experiment.tested(model).score,
        attack_success=None if variant.trigger is None else success(experiment, model, variant.trigger),
        refused_honest=refused.honest,
        refused_hostile=refused.hostile,
        pay_ratio=pay.best,
        pay_group=pay.group,
        pay_poorest=pay.poorest,
        pay_after=_Pay.of(turned, honest, hostile).best if variant.kind == ON_OFF and turned else None,
        reputation_gap=gap / PPM if hostile else None,
        rounds=len(closed),
        precision=refused.precision,
        f1=refused.f1,
    )


def success(experiment: Experiment, model: ModelFile, trigger: Opening) -> float:
    """Return the share of the test examples that open a backdoor which a model takes for the target."""
    opened = trigger.opened(experiment.test)
    held_out = HeldOut(opened.inputs, opened.targets, experiment.objective)
    return evaluate(experiment.flat_model(), [model.vector], held_out)[0].share


def oracle_accuracy(condition: Condition, rounds: int | None = None) -> float:
    """Return the test accuracy that the plain mean of the honest alone reaches, each of them with the same weight."""
    attack = "sign_flip" if condition.hostile else NONE
    experiment = make_experiment(configuration(Case("plain", attack, condition), rounds), Path())
    jobs = [Job(number) for number, name in enumerate(experiment.behaviours) if name == HONEST]
    model = experiment.initial
    with Serial(experiment) as backend:
        for index in range(1, experiment.spec.rounds + 1):
            deltas = [trained.delta for _, trained in backend.train(Work(index, [model.vector], jobs))]
            mean = np.mean(deltas, axis=0, dtype=np.float64)
            model = model.moved((model.vector + mean).astype(np.float32))
    return experiment.tested(model).score


def conditions(
    data: str, dirichlets: Sequence[float | None], populations: Sequence[tuple[int, int]], seeds: Sequence[int]
) -> list[Condition]:
    """Return all conditions with attackers."""
    return [Condition(data, d, n, f, seed) for n, f in populations for d in dirichlets for seed in seeds]


def cases(pipelines: Sequence[str], attacks: Sequence[str], given: Sequence[Condition]) -> list[Case]:
    """Return all runs, each once.

    Where nobody attacks, it does not matter how many would, unless a rule is told how many it has to expect.

    Raises
    ------
    ConfigError
        If there is no attack or pipeline of a name.
    """
    unknown = [name for name in attacks if name not in NAMES]
    if unknown:
        raise ConfigError(f"There is no attack {unknown[0]!r}.", f"There are: {', '.join(NAMES)}.")
    rules = {pipeline: rule_pipeline(pipeline) for pipeline in pipelines}
    for pipeline in pipelines:
        pipeline_tables(pipeline, 2, 1)
    every = [
        Case(
            pipeline,
            attack,
            condition if attack != NONE else _peaceful(condition),
            condition.hostile if rule is not None and rule.expects_attackers else None,
        )
        for pipeline, rule in rules.items()
        for condition in given
        for attack in attacks or NAMES
    ]
    return list(dict.fromkeys(every))


def require_playable(chosen: Sequence[Case], rounds: int | None = None) -> None:
    """Check the experiment of one run of each pipeline and condition, to tell what is wrong before any is played.

    Whether a rule suits the number of participants and attackers is not checked: its rows say that.

    Parameters
    ----------
    chosen
        The runs.
    rounds
        Rounds of each, if not the usual number.

    Raises
    ------
    ConfigError
        If a method, a parameter, the data or their division cannot be.
    """
    checked = [case if rule_pipeline(case.pipeline) is None else replace(case, pipeline=PLAIN) for case in chosen]
    tried = {(case.pipeline, replace(case.condition, seed=0, hostile=0)): case for case in reversed(checked)}
    for case in reversed(tried.values()):
        try:
            make_experiment(configuration(case, rounds), Path())
        except ConfigError as error:
            raise ConfigError(f"{case}: {error.message}", error.remedy) from error


def _peaceful(condition: Condition) -> Condition:
    return Condition(condition.data, condition.dirichlet, condition.participants, 0, condition.seed)


def _named(case: Case, variant: Variant) -> dict[str, Any]:
    """Return what a row says of its run."""
    given = case.condition
    return {
        "pipeline": case.pipeline,
        "attack": case.attack,
        "kind": variant.kind,
        "data": given.data,
        "dirichlet": given.named_dirichlet,
        "participants": given.participants,
        "hostile": given.hostile,
        "seed": given.seed,
        "expected": case.expected,
    }


def failed(case: Case, error: BaseException) -> RobustnessRow:
    """Return the row of a run that failed."""
    variant = next(each for name, each in suite(8, 2, 1).items() if name == case.attack)
    return RobustnessRow(**_named(case, variant), error=f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Refusals:
    """Which updates were refused, given who is honest and who hostile.

    Parameters
    ----------
    honest, hostile
        The shares of the updates that were refused; None without such participants.
    precision, f1
        As in :class:`RobustnessRow`.
    """

    honest: float | None
    hostile: float | None
    precision: float | None
    f1: float | None

    @classmethod
    def of(cls, closed: Sequence[Round], honest: Sequence[int], hostile: Sequence[int]) -> Refusals:
        """Return the figures of rounds."""
        (false, negatives), (true, positives) = _refused(closed, honest), _refused(closed, hostile)
        return cls(
            honest=false / negatives if negatives else None,
            hostile=true / positives if positives else None,
            precision=true / (true + false) if positives and true + false else None,
            # TP + FN are all hostile updates.
            f1=2 * true / (true + false + positives) if positives else None,
        )


def _refused(closed: Sequence[Round], numbers: Sequence[int]) -> tuple[int, int]:
    """Return how many of the updates of these participants were refused, and how many there were."""
    verdicts = [done.verdicts[number] for done in closed for number in numbers if number in done.verdicts]
    return sum(verdict.refused for verdict in verdicts), len(verdicts)


@dataclass(frozen=True)
class _Pay:
    """What participants earned over the median of the honest, or over one unit if that earned nothing."""

    best: float | None
    group: float | None
    poorest: float

    @classmethod
    def of(cls, closed: Sequence[Round], honest: Sequence[int], hostile: Sequence[int]) -> _Pay:
        totals = {number: sum(done.shares.get(number, 0) for done in closed) for number in (*honest, *hostile)}
        unit = max(1, median(totals[number] for number in honest))
        attackers = [totals[number] / unit for number in hostile]
        poorest = min(totals[number] for number in honest) / unit
        return cls(max(attackers, default=None), sum(attackers) if attackers else None, poorest)
