"""What the options of `fedledger bench robustness` mean."""

from __future__ import annotations

import re

from fedledger.platform.bench.option_lists import listed
from fedledger.platform.bench.robustness import IID
from fedledger.protocol.errors import ConfigError

MAX_SEED = 2**53


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

    Raises
    ------
    ConfigError
        If one is none, or leaves nobody honest.
    """
    found = []
    for part in listed(text, "--populations"):
        numbers = re.fullmatch(r"(\d{1,5})-(\d{1,5})", part)
        if numbers is None or not 0 < int(numbers[2]) < int(numbers[1]):
            raise ConfigError(
                f"{part!r}: give PARTICIPANTS-HOSTILE with 1 or more hostile and fewer than all, such as 13-3;",
                "for nobody use --attacks none.",
            )
        found.append((int(numbers[1]), int(numbers[2])))
    return found
