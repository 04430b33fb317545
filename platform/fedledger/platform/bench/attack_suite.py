"""The attacks that the default pipeline is measured against, by name, and what each is an instance of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.platform.attacks.backdoor import triggered
from fedledger.platform.attacks.coalition import OMNISCIENT
from fedledger.platform.attacks.edge_case_backdoor import rare_examples

NONE = "none"
NO_WORK, OLD_COMBINATIONS, FORECAST, HARM, MIN_SUM = "no_work", "old_combinations", "forecast", "harm", "min_sum"
BACKDOOR, ON_OFF, GROUP, VALIDATION, LITTLE_WORK = "backdoor", "on_off", "group", "validation", "little_work"
ADAPTIVE = "adaptive"
TURN = 11
"""The first round in which who was honest attacks."""
TARGET = 7
"""The class to which backdoors lead; without one hardly any example with a trigger is taken for it."""
SOURCE = 9
"""The class whose rare examples lead to it without a trigger."""
NOISES = (0.01, 0.1, 1.0)


class Opening(Protocol):
    """What opens a backdoor."""

    def opened(self, test: Dataset) -> Dataset:
        """Return test examples of other classes that the model shall take for the target, with that as their class."""
        ...


@dataclass(frozen=True)
class Trigger:
    """Which inputs of an image a backdoor sets to which value."""

    inputs: tuple[int, ...]
    value: float

    def opened(self, test: Dataset) -> Dataset:
        """Return the test examples of all other classes, with the trigger."""
        others = test.take(np.flatnonzero(test.targets != TARGET).astype(np.int64))
        return triggered(others, self.inputs, self.value, TARGET)


@dataclass(frozen=True)
class Tail:
    """Which examples of a class are rare, and how far they are moved away from its mean."""

    share: float
    stretch: float

    def opened(self, test: Dataset) -> Dataset:
        """Return the rare test examples of the class."""
        return rare_examples(test, SOURCE, TARGET, self.share, self.stretch)


def live_trigger(side: int) -> Trigger:
    """Return a trigger that blanks the middle of a square image, where most examples have ink."""
    width = side // 4
    first = (side - width) // 2
    places = range(first, first + width)
    return Trigger(tuple(side * row + column for row in places for column in places), 0.0)


def dead_trigger(side: int) -> Trigger:
    """Return a trigger of four inputs at the edges of a square image, where hardly any example has ink."""
    middle = side // 2 * side
    return Trigger((0, middle, middle + side - 1, side * (side - 1)), 1.0)


@dataclass(frozen=True)
class Variant:
    """An attack with its parameters.

    Parameters
    ----------
    name, kind
        Its name, and the class for which goals are stated.
    attacks
        Methods with their parameters: the attackers take turns with them.
    trigger
        What opens it, if it is a backdoor: the whole trigger, or rare examples.
    """

    name: str
    kind: str
    attacks: tuple[tuple[str, dict[str, Any]], ...] = ()
    trigger: Opening | None = None

    def groups(self, hostile: int) -> list[dict[str, Any]]:
        """Return the attackers as a configuration lists them."""
        counts = [len(range(place, hostile, len(self.attacks))) for place in range(len(self.attacks))]
        attacks = [{"method": method, "params": params} for method, params in self.attacks]
        return [{"attack": attack, "count": count} for attack, count in zip(attacks, counts, strict=True) if count]


def suite(side: int, participants: int, hostile: int) -> dict[str, Variant]:
    """Return all variants by name.

    Parameters
    ----------
    side
        Of the task's square images.
    participants, hostile
        All participants and those that attack, by which the update is boosted that replaces a model.
    """
    variants = [
        Variant(NONE, NONE),
        *_no_work(),
        *_combinations(),
        *_forecasts(),
        *_harm(),
        *_groups(),
        *_little_work(),
        *_adaptive(),
    ]
    boost = participants / max(hostile, 1)
    variants += [*_backdoors(side, boost), *_edge_cases(boost)]
    return {variant.name: variant for variant in variants}


def _one(name: str, kind: str, method: str, **params: Any) -> Variant:
    return Variant(name, kind, ((f"{method}@1", params),))


def _no_work() -> Iterator[Variant]:
    for noise in NOISES:
        yield _one(f"noise_{noise:g}", NO_WORK, "gaussian", deviation=noise)
    yield _one("noise_common", NO_WORK, "gaussian", deviation=0.05, common=0.95)
    for factor in (1.0, 0.5, 2.0):
        yield _one(f"rider_x{factor:g}", NO_WORK, "free_rider", factor=factor)
    for noise in (*NOISES, 0.3):
        yield _one(f"rider_noise_{noise:g}", NO_WORK, "free_rider", noise=noise)
    yield _one("rider_common_noise", NO_WORK, "free_rider", noise=1.0, common=0.95)
    for noise in (0.1, 1.0):
        yield _one(f"plagiarist_{noise:g}", NO_WORK, "plagiarism", noise=noise)
        yield _one(f"yesterdays_best_{noise:g}", NO_WORK, "replay", noise=noise)
    yield _one("synthetic", NO_WORK, "synthetic")
    # With less noise than its step even 0.1.0 refuses a rider, whatever it claims.
    rider = {"attack": "free_rider@1", "params": {"noise": 1.0}}
    yield _one("over_claim_300", NO_WORK, "over_claim", examples=300, **rider)
    yield _one("over_claim_1e6", NO_WORK, "over_claim", examples=1_000_000, **rider)
    noise_claim = {"attack": "gaussian@1", "params": {"deviation": 0.02}, "examples": 1_000_000}
    yield _one("over_claim_1e6_noise", NO_WORK, "over_claim", **noise_claim)
    yield _one("over_claim_steps", NO_WORK, "over_claim", examples=None, steps=1_000_000, **rider)
    yield _one("rider_zero", NO_WORK, "free_rider", deviation=0.0, factor=0.0)
    yield _one("whitewashing_rider", NO_WORK, "whitewashing", **rider)


def _combinations() -> Iterator[Variant]:
    for last, noise in ((1, 0.1), (4, 0.0), (4, 0.1), (8, 0.3)):
        yield _one(f"combination_{last}_{noise:g}", OLD_COMBINATIONS, "old_combination", last=last, noise=noise)


def _forecasts() -> Iterator[Variant]:
    for features in ("row_means", "regression", "spaces"):
        yield _one(f"forecast_{features}", FORECAST, "forecast", features=features)


def _harm() -> Iterator[Variant]:
    yield _one("sign_flip", HARM, "sign_flip")
    yield _one("sign_flip_x3", HARM, "sign_flip", factor=3.0)
    yield _one("label_flip", HARM, "label_flip")
    yield Variant("mixed", HARM, (("sign_flip@1", {}), ("label_flip@1", {}), ("free_rider@1", {})))
    yield _one("alie_3", HARM, "alie", z=3.0, noise=0.01)
    yield _one("alie_1.5", HARM, "alie", z=1.5, noise=0.01)
    yield _one("alie_1.5_omniscient", HARM, "alie", z=1.5, noise=0.01, knowledge=OMNISCIENT)
    for factor in (0.1, 0.5, 10.0):
        yield _one(f"ipm_{factor:g}", HARM, "ipm", factor=factor)
    yield _one("ipm_0.5_omniscient", HARM, "ipm", factor=0.5, knowledge=OMNISCIENT)
    yield _one("fang_trimmed_mean", HARM, "fang_trimmed_mean")
    yield _one("fang_trimmed_mean_omniscient", HARM, "fang_trimmed_mean", knowledge=OMNISCIENT)
    yield _one("fang_krum", HARM, "fang_krum", noise=0.01)
    yield _one("fang_krum_omniscient", HARM, "fang_krum", noise=0.01, knowledge=OMNISCIENT)
    yield _one("nan", HARM, "invalid_numbers", number="nan")
    yield _one("inf", HARM, "invalid_numbers", number="inf", share=1.0)
    yield _one("1e38", HARM, "invalid_numbers", number="1e38")
    yield _one("whitewashing_sign_flip", HARM, "whitewashing", attack="sign_flip@1")
    yield _one("min_max", HARM, "min_max")
    yield _one("min_max_omniscient", HARM, "min_max", noise=0.01, knowledge=OMNISCIENT)
    yield _one("min_sum", MIN_SUM, "min_sum")
    yield _one("min_sum_omniscient", MIN_SUM, "min_sum", noise=0.01, knowledge=OMNISCIENT)
    yield _one("on_off_sign_flip", ON_OFF, "on_off", turn=TURN, attack="sign_flip@1")
    yield _one("on_off_rider", ON_OFF, "on_off", turn=TURN, attack="free_rider@1", params={"noise": 0.1})


def _groups() -> Iterator[Variant]:
    yield _one("sybil", GROUP, "sybil")
    for noise in (0.01, 0.3, 1.0):
        yield _one(f"sybil_{noise:g}", GROUP, "sybil", noise=noise)
    yield _one("split_data", GROUP, "split_data")
    # At its usual z, of a quarter, it harms no mean: it is the work of several, sent once more by each of them.
    yield _one("alie_usual", GROUP, "alie", noise=0.01)
    yield _one("mimic", GROUP, "mimic")
    yield _one("mimic_0.1", GROUP, "mimic", noise=0.1)
    yield _one("plagiarist_omniscient", GROUP, "plagiarism", noise=0.1, knowledge=OMNISCIENT)


def _little_work() -> Iterator[Variant]:
    yield _one("validation_training", VALIDATION, "validation_training")
    yield _one("little_work_10", LITTLE_WORK, "little_work", most=10)
    yield _one("little_work_quarter", LITTLE_WORK, "little_work", most=2**31, share=0.25)
    yield _one("class_means", LITTLE_WORK, "synthetic", inputs="means")
    claim = {"attack": "little_work@1", "params": {"most": 10}, "examples": 1_000_000}
    yield _one("little_work_claims_1e6", LITTLE_WORK, "over_claim", **claim)
    yield _one("delayed_1", LITTLE_WORK, "delayed", late=1)
    yield _one("delayed_5", LITTLE_WORK, "delayed", late=5)
    yield _one("delayed_every_5", LITTLE_WORK, "delayed", late=0, every=5, noise=0.1)


def _adaptive() -> Iterator[Variant]:
    yield _one("adaptive_sign_flip", ADAPTIVE, "adaptive", attack="sign_flip@1")
    yield _one("adaptive_sign_flip_patient", ADAPTIVE, "adaptive", attack="sign_flip@1", horizon=5, trials=6)
    yield _one("adaptive_sign_flip_omniscient", ADAPTIVE, "adaptive", attack="sign_flip@1", knowledge=OMNISCIENT)
    yield _one("adaptive_label_flip", ADAPTIVE, "adaptive", attack="label_flip@1")
    alie = {"attack": "alie@1", "params": {"z": 1.0}}
    yield _one("adaptive_alie", ADAPTIVE, "adaptive", **alie)
    yield _one("adaptive_alie_omniscient", ADAPTIVE, "adaptive", **alie, knowledge=OMNISCIENT)


def _backdoors(side: int, boost: float) -> Iterator[Variant]:
    for place, trigger in (("dead", dead_trigger(side)), ("live", live_trigger(side))):
        given = {"trigger": list(trigger.inputs), "value": trigger.value, "target": TARGET, "share": 1.0}
        for name, params in (
            ("patch", {}),
            ("replacement", {"boost": boost}),
            ("distributed", {"distributed": True}),
            ("distributed_boosted", {"distributed": True, "boost": boost}),
        ):
            attack = ("backdoor@1", given | params)
            yield Variant(f"backdoor_{place}_{name}", BACKDOOR, (attack,), trigger)


def _edge_cases(boost: float) -> Iterator[Variant]:
    tail = Tail(0.5, 2.0)
    given = {"source": SOURCE, "target": TARGET, "tail": tail.share, "stretch": tail.stretch}
    for name, params in (("edge_case", {}), ("edge_case_replacement", {"boost": boost})):
        yield Variant(f"backdoor_{name}", BACKDOOR, (("edge_case_backdoor@1", given | params),), tail)
    # Open to every example of the class, as it is.
    flip = {"source": SOURCE, "target": TARGET}
    yield Variant("pair_flip", BACKDOOR, (("pair_flip@1", flip),), Tail(1.0, 1.0))


NAMES: Sequence[str] = tuple(suite(8, 13, 3))
"""The names of all variants, in their order."""
