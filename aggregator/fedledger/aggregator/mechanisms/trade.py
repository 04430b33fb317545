"""One round of a mechanism: the market that it sees, whom it asks, and that it pays no more than it may."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, Mechanism, Seen, Terms
from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import TaskSpec

_MADE: BoundedCache[bytes, Mechanism] = BoundedCache(16)
"""By a spec's digest."""
PATIENCE = 2
"""After so many rounds in a row that did not count, the next one asks everybody on no terms."""


@dataclass(frozen=True)
class Trade:
    """What a mechanism knew when it chose, and whom it asked on which terms, by address."""

    market: Market
    terms: Mapping[str, Terms] = field(default_factory=dict)

    def document(self) -> list[dict[str, object]]:
        """Return the terms as a report holds them."""
        return [
            {"participant": address, "price": terms.price, "asked": dict(sorted(terms.asked.items()))}
            for address, terms in sorted(self.terms.items(), key=lambda item: item[0].lower())
        ]


def mechanism_of(spec: TaskSpec) -> Mechanism | None:
    """Return a task's mechanism; None if it has none.

    Raises
    ------
    ConfigError
        If this release lacks it, its parameters are wrong, or participants are not asked for what it needs.
    """
    if spec.mechanism is None:
        return None
    made = _MADE.get(spec.digest)
    if made is None:
        made = build(MECHANISMS, spec.mechanism.method, spec.mechanism.params)
        lacking = set(made.reports) - {number.name for number in spec.report}
        if lacking:
            raise ConfigError(
                f"{spec.mechanism.method} needs participants to report {', '.join(sorted(lacking))}.",
                "Name it under report, with its bounds, and give bidding.",
            )
        _MADE.keep(spec.digest, made)
    return made


def require_quorum(spec: TaskSpec, quorum: int) -> None:
    """Raise ConfigError if a task's mechanism never asks as many as its quorum."""
    mechanism = mechanism_of(spec)
    most = getattr(mechanism, "most_asked", None)
    if spec.mechanism is not None and most is not None and most < quorum:
        raise ConfigError(
            f"{spec.mechanism.method} asks at most {most} participants, and the quorum is {quorum}: no round is paid.",
            f"Let it ask {quorum} or more, or give quorum = {most} under [ledger].",
        )


def choose(mechanism: Mechanism, market: Market, voids: int, passed_over: Collection[str]) -> Trade:
    """Return whom a round asks; on no terms where the mechanism chooses too few, or too few came again and again.

    Whoever wins by its bid and does not work would win again: of a round that does not stand the ledger keeps no
    verdicts, and an auction by price alone does not look at them.

    Parameters
    ----------
    mechanism, market
        Who chooses, and what it knows.
    voids
        How many rounds in a row before this one did not count.
    passed_over
        Who makes no offer, by address, where the mechanism chooses: who was absent since its bid, and who was asked in
        a round that was voided, until one has counted.

    Raises
    ------
    RoundError
        If the mechanism asks somebody who is not there.
    """
    if not mechanism.chooses:
        return Trade(market, {offer.address: Terms() for offer in market.offers})
    market = replace(market, offers=[offer for offer in market.offers if offer.address not in passed_over])
    if voids >= PATIENCE:
        return Trade(market)
    terms = mechanism.select(market)
    if not terms.keys() <= {offer.address for offer in market.offers}:
        raise RoundError("The mechanism asks somebody who made no offer.", "Report this to the author of the method.")
    return Trade(market, terms if len(terms) >= market.least else {})


def pay(mechanism: Mechanism, trade: Trade, owners: Sequence[str], seen: Sequence[Seen]) -> list[int]:
    """Return what each of some participants is paid, in units.

    Raises
    ------
    RoundError
        If the mechanism pays more than it may, or whose update does not count.
    """
    known = {owner: each for owner, each in zip(owners, seen, strict=True) if owner in trade.terms}
    paid = mechanism.pay(trade.market, trade.terms, known)
    shares = [paid.get(owner, 0) for owner in owners]
    wrong = sum(paid.values()) != sum(shares) or any(type(share) is not int or share < 0 for share in shares)
    unearned = any(share and not each.accepted for share, each in zip(shares, seen, strict=True))
    if wrong or unearned or sum(shares) > trade.market.budget:
        raise RoundError(
            f"The mechanism pays {sum(paid.values()):,} units of {trade.market.budget:,}, or what does not count.",
            "Report this to the author of the method.",
        )
    return shares
