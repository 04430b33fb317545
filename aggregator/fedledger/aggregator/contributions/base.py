"""Contribution scores: non-negative integers in proportion to which a round's pay is divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.protocol.errors import RoundError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Contribution(Protocol):
    """Scores the updates of a round; a frozen dataclass of its parameters."""

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return one score per update, in address order; 0 where the weight is 0."""
        ...


Coalition = tuple[int, ...]
"""Some updates of a round: their places, ascending."""


@runtime_checkable
class Coalitional(Protocol):
    """A contribution score that looks at what the round's model would be worth with some of its updates alone.

    The model of a coalition is the base and the aggregate of its members' updates, by the task's rule and with the
    weights that they have in the round, before the server's optimiser; to the rule, the others sent nothing that
    counts. Its measurement is in the context's ``coalitions``, and in the report, where anybody can check it.
    """

    def most_coalitions(self, rows: int) -> int:
        """Return how many coalitions it asks for at most in a round in which so many updates count."""
        ...

    def coalitions(self, context: StageContext, weights: Sequence[int]) -> Sequence[Coalition]:
        """Return the coalitions whose measurement it needs, of updates whose weight is not 0.

        It is asked again with what was measured in the context's ``coalitions``, until it names none that is not there.
        """
        ...


@dataclass(frozen=True)
class Estimate:
    """What an update is worth, in millionths of what its method counts in.

    Parameters
    ----------
    value
        The value, which may be negative.
    standard_error
        How far it may be from what all orders or coalitions would give, where it is estimated from a sample of them;
        None where it is not.
    """

    value: int
    standard_error: int | None = None

    def document(self) -> dict[str, int]:
        """Return this as a report holds it."""
        error = {} if self.standard_error is None else {"standard_error": self.standard_error}
        return {"value": self.value, **error}


@runtime_checkable
class Estimating(Protocol):
    """A contribution score that tells the values from which its scores follow."""

    def estimates(self, context: StageContext, weights: Sequence[int]) -> Sequence[Estimate | None]:
        """Return one value per update, in address order; None where the weight is 0."""
        ...


CONTRIBUTIONS: Registry[Callable[..., Contribution]] = Registry(kind_of("contribution"))


def worth_of(context: StageContext, members: Coalition) -> int:
    """Return the worth of a coalition's model, in millionths; that of nobody is the base's.

    Raises
    ------
    RoundError
        If it was not measured.
    """
    if not members:
        return context.features.base.worth
    found = context.coalitions.get(members)
    if found is None:
        raise RoundError("This round has no measurement of a coalition.", "Evaluate it as a round of a task.")
    return found.worth
