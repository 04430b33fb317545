"""What the options of `fedledger bench robustness` mean."""

from __future__ import annotations

import re

from fedledger.platform.bench.option_lists import listed
from fedledger.platform.bench.robustness import IID
from fedledger.platform.bench.robustness_pipelines import expanded
from fedledger.protocol.errors import ConfigError

MAX_SEED = 2**53
PUBLISHED = "published"
PUBLISHED_ATTACKS = (
    "none",
    "sign_flip",
    "label_flip",
    "noise_1",
    "ipm_0.5_omniscient",
    "alie_1.5_omniscient",
    "min_max_omniscient",
    "mimic",
)
"""The attacks that comparisons of aggregation rules usually play; whoever colludes sees the round's honest updates."""


def attacks_of(text: str) -> list[str]:
    """Return the attacks that a text names, separated by commas; ``published`` stands for eight of them.

    Raises
    ------
    ConfigError
        If it names none.
    """
    named = listed(text, "--attacks")
    return list(dict.fromkeys(one for each in named for one in (PUBLISHED_ATTACKS if each == PUBLISHED else [each])))


def pipelines_of(text: str) -> list[str]:
    """Return the pipelines that a text names, separated by commas; ``rules`` stands for each aggregation rule.

    Raises
    ------
    ConfigError
        If it names none.
    """
    return list(dict.fromkeys(one for each in listed(text, "--pipelines") for one in expanded(each)))


def seeds_of(text: str) -> list[int]:
    """Return the seeds that a text names: ``31..35``, or numbers separated by commas.

    Raises
    ------
    ConfigError
        If it names none.
    """
    found: list[int] = []
    for part in listed(text, "--seeds"):
        numbers = re.fullmatch(r"(\d{1,15})(?:\.\.(\d{1,15}))?", part)
        if numbers is None:
            raise ConfigError(f"{part!r} is not a seed.", "Give for example --seeds 31..35.")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not first <= last < first + 1000:
            raise ConfigError(f"{part!r} is not a range of at most 1,000 seeds.", "Give the smaller number first.")
        found += range(first, last + 1)
    return found


def dirichlets_of(text: str) -> list[float | None]:
    """Return the concentrations that a text names, separated by commas; None for ``iid``.

    Raises
    ------
    ConfigError
        If one is not a positive number.
    """
    found: list[float | None] = []
    for part in listed(text, "--dirichlet"):
        if not re.fullmatch(rf"{IID}|\d{{0,6}}\.?\d{{0,6}}", part) or part == ".":
            raise ConfigError(f"{part!r} is not a concentration.", "Give for example --dirichlet .1,.5,iid.")
        found.append(None if part == IID else float(part))
    if 0.0 in found:
        raise ConfigError("A concentration is above 0.", "Give for example --dirichlet .1,.5,iid.")
    return found


def populations_of(text: str) -> list[tuple[int, int]]:
    """Return the numbers of participants and attackers that a text names, such as ``13-3``, separated by commas.

    The attackers may be a share, such as ``20-30%``, which is rounded to the nearest number, up from a half.

    Raises
    ------
    ConfigError
        If one is none, or leaves nobody honest.
    """
    found = []
    for part in listed(text, "--populations"):
        numbers = re.fullmatch(r"(\d{1,5})-(\d{1,5})(%?)", part)
        participants, hostile = (int(numbers[1]), int(numbers[2])) if numbers is not None else (0, 0)
        if numbers is not None and numbers[3]:
            hostile = (participants * hostile + 50) // 100
        if not 0 < hostile < participants:
            raise ConfigError(
                f"{part!r}: give PARTICIPANTS-HOSTILE with 1 or more hostile and fewer than all, such as 13-3;",
                "20-30% is a share of the participants; for nobody use --attacks none.",
            )
        found.append((participants, hostile))
    return found
