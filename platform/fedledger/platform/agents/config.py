"""Groups of agents: participants of an experiment that decide for themselves, as a configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from fedledger.protocol.documents import Document
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.spec import ReportedNumber

MOST_PRIVATE = 2**53 - 1
COST, PRICE = "cost", "price"
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Range = tuple[Annotated[int, Field(ge=0, le=MOST_PRIVATE)], Annotated[int, Field(ge=0, le=MOST_PRIVATE)]]
Factor = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class AgentConfig(Document):
    """Agents of one kind: what they know of themselves, and what they make of it.

    Money is in units of credit. Which participants they are, and all that is drawn for them, follows from the
    experiment's seed alone, so that the same people come to every mechanism.
    """

    name: str = Field(default="agents", min_length=1, max_length=40)
    count: int = Field(ge=1, le=1_000_000)
    private: dict[str, Range] = Field(
        default_factory=dict,
        description="what each knows of itself, by name: drawn from the first to the second number. cost is that of a "
        "round of full effort",
    )
    units_per_joule: Factor = Field(default=0.0, description="what energy costs, by the table of devices")
    units_per_second: Factor = Field(default=0.0, description="what time costs, by the table of devices")
    drift: Probability = Field(
        default=0.0, description="by which part of itself a private number changes at most from round to round"
    )
    tells: dict[str, Factor] = Field(
        default_factory=dict, description="what is reported, by name, as a multiple of the truth; 1 unless given"
    )
    claims: dict[str, Range] = Field(
        default_factory=dict, description="what is reported whatever the truth is, drawn anew each time"
    )
    effort: float = Field(default=1.0, gt=0, le=1, description="share of its examples that each trains on")
    attack: Method | None = None
    leaves: Probability = Field(default=0.0, description="how likely who was there in one round is away in the next")
    returns: Probability = Field(default=1.0, description="how likely who was away in one round is back in the next")
    first: int = Field(default=1, ge=1, le=2**32, description="the first round in which they are there")
    last: int | None = Field(default=None, ge=1, le=2**32, description="the last one; unless given, they stay")
    rational: bool = Field(
        default=False, description="whether they stay away from rounds that are expected to pay less than they cost"
    )
    tries_again: int = Field(
        default=3, ge=1, le=1_000_000, description="after so many such rounds, a rational one works in one all the same"
    )


def require_reports(reports: Mapping[str, tuple[int, int]], numbers: Mapping[str, ReportedNumber], where: str) -> None:
    """Raise ConfigError if participants would report what a task does not take; ``where`` names the configuration."""
    for name, (low, high) in reports.items():
        number = numbers.get(name)
        if number is None:
            raise ConfigError(
                f"{where} says what participants report as {name}, which the task does not ask for.",
                "Name it under [[training.report]], or leave it out of [reports].",
            )
        if not number.least <= low <= high <= number.most:
            raise ConfigError(
                f"{where} has participants report {low:,} to {high:,} as {name}; the task takes {number.least:,} to "
                f"{number.most:,}.",
                "Change the range under [reports], or the bounds under [[training.report]].",
            )


def require_agents(groups: Sequence[AgentConfig], participants: int, attackers: int, devices: bool, where: str) -> None:
    """Raise ConfigError if groups of agents cannot be.

    Parameters
    ----------
    groups
        The groups.
    participants
        How many participants there are.
    attackers
        How many of them the configuration has attack besides.
    devices
        Whether it describes devices.
    where
        Names the configuration.
    """
    if sum(group.count for group in groups) > participants:
        raise ConfigError(
            f"{where} has more agents than its {participants:,} participants.", "Lower a count under [[agents]]."
        )
    if groups and attackers:
        raise ConfigError(
            f"{where} has both attackers and agents.", "Give the attack to a group under [[agents]] instead."
        )
    for group in groups:
        for name, (low, high) in [*group.private.items(), *group.claims.items()]:
            if low > high:
                raise ConfigError(
                    f"{where}: {name} of {group.name} is from {low:,} to {high:,}.", "Give the lower number first."
                )
        if (group.units_per_joule or group.units_per_second) and not devices:
            raise ConfigError(
                f"{where}: what {group.name} cost follows from their devices, and there are none.",
                'Describe them, for example: devices = { kinds = [{ link = "4g" }] }.',
            )
        if group.last is not None and group.last < group.first:
            raise ConfigError(f"{where}: {group.name} leave before they come.", "Give a last from first on.")
