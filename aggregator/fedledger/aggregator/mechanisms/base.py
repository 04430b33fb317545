"""Incentive mechanisms: who is asked to work, on which terms, and what each is paid, in whole units of credit.

A mechanism works on what everybody knows: what participants reported in the last bidding round, their reputations and
devices, and, when it pays, what the round made of their updates. All of it is on the ledger or follows from content
that it names, so an audit asks and pays everybody again. What only a participant knows of itself, such as its true
cost, is no input; a report of it is, and it is a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry

INDIVIDUAL_RATIONALITY = "individual rationality"
"""Who tells the truth and works never loses by it."""
INCENTIVE_COMPATIBILITY = "incentive compatibility"
"""Nobody gains by another report than the truth, whatever the others report."""
EQUILIBRIUM = "equilibrium"
"""Nobody gains by leaving the mechanism's equilibrium as long as the others keep to it."""
PROPERTIES = (INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY, EQUILIBRIUM)
"""What a mechanism may promise; that it pays no more than its budget, every mechanism has to."""


@dataclass(frozen=True)
class Offer:
    """A participant that may be asked to work, as everybody knows it.

    Parameters
    ----------
    address
        Its owner's address.
    report
        What it reported in the bidding round whose bids stand: a whole number by each name of the spec; empty where
        the task asks for no reports. Who was not heard makes no offer.
    reputation
        In parts per million.
    examples
        How many examples counted for its last evaluated update; 0: none yet.
    last_round
        The last round it was asked in; 0: in none.
    duration, upload
        What a round takes it, and its upload, in µs, by the task's device table; None where that does not tell.
    """

    address: str
    report: Mapping[str, int] = field(default_factory=dict)
    reputation: int = 0
    examples: int = 0
    last_round: int = 0
    duration: int | None = None
    upload: int | None = None


@dataclass(frozen=True)
class Terms:
    """What a participant is asked for, and what it is promised.

    Parameters
    ----------
    price
        Units that it is promised for work that counts; a mechanism may pay otherwise, and says how.
    asked
        How much of what it is asked for, by name, such as ``examples``; empty: what the task asks of everybody.
    """

    price: int = 0
    asked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Market:
    """What a mechanism may know of a round when it chooses, and again when it pays.

    Parameters
    ----------
    offers
        Who may be asked, by address. Where the mechanism does not choose, those whom the task's selection has chosen.
    budget
        Units that the round may pay.
    least
        With fewer updates a round does not count.
    round
        The round's index.
    draws
        Makes the mechanism's random stream of the round; anyone can draw from it again. One for the choice and for the
        pay: a mechanism that draws in both draws the same numbers.
    tables
        What it kept of the last round that counted, int64 arrays by name.
    """

    offers: Sequence[Offer]
    budget: int
    least: int
    round: int
    draws: Callable[[], Stream]
    tables: Mapping[str, IntArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a round made of a participant's update.

    Parameters
    ----------
    accepted
        Whether it counts.
    weight
        What it weighs in the aggregate.
    score
        Its score by the task's contribution method.
    examples
        On how many examples it rests: committed ones where the task has participants commit to their data, else as
        its sender says, whatever they weigh in the aggregate.
    steps
        Local steps, as its sender states them.
    """

    accepted: bool
    weight: int = 0
    score: int = 0
    examples: int = 0
    steps: int = 0


class Mechanism(Protocol):
    """Asks and pays; a frozen dataclass of its parameters.

    Attributes
    ----------
    reports
        Names of the numbers that participants have to report; empty: none, and the task needs no bidding rounds.
    chooses
        Whether it chooses whom a round asks; if not, the task's selection does, on empty terms.
    believes
        Why its pay rests on a number that only its owner states, in a sentence; empty: it does not. Such a mechanism is
        chosen knowingly, and `task check` says so.
    promises
        Which of :data:`PROPERTIES` its paper promises for it; `fedledger incentives audit` looks for counter-examples.
    """

    reports: ClassVar[tuple[str, ...]]
    chooses: ClassVar[bool]
    believes: ClassVar[str]
    promises: ClassVar[frozenset[str]]

    def select(self, market: Market) -> dict[str, Terms]:
        """Return whom the round asks, and on which terms, by address; not called unless it ``chooses``."""
        ...

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Return units by address, no more than the market's budget together.

        Who is not ``accepted`` earns nothing; who is left out earns 0. ``terms`` and ``seen`` are of those whom the
        round has asked, and who delivered in time among them.
        """
        ...


class MechanismBase:
    """What most mechanisms have in common.

    Attributes
    ----------
    most_asked
        How many participants a round asks at most; None: as many as there are.
    """

    reports: ClassVar[tuple[str, ...]] = ()
    chooses: ClassVar[bool] = False
    believes: ClassVar[str] = ""
    promises: ClassVar[frozenset[str]] = frozenset()

    @property
    def most_asked(self) -> int | None:
        """How many participants a round asks at most, by the parameters."""
        return None

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask everybody who makes an offer."""
        return {offer.address: Terms() for offer in market.offers}


@runtime_checkable
class Learning(Protocol):
    """A mechanism that keeps tables from round to round: queues, arms, histories."""

    def table_size(self, participants: int) -> int:
        """Return how many integers it keeps at most, for so many participants."""
        ...

    def learn(
        self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen], paid: Mapping[str, int]
    ) -> Mapping[str, IntArray]:
        """Return what it keeps after a round that counts, int64 arrays by name."""
        ...


MECHANISMS: Registry[Callable[..., Mechanism]] = Registry(kind_of("mechanism"))
