"""Markets for mechanisms, small or random, and every mechanism with parameters that suit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, Mechanism, Offer, Seen, Terms
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.reputation import PPM

MENU = [[10, 20], [30, 50], [100, 120]]
PARAMETERS: dict[str, dict[str, Any]] = {
    "contract_menu@1": {"items": MENU},
    "fixed@1": {"price": 30},
    "fli@1": {},
    "fmore@1": {"winners": 3, "worth": 200},
    "pandey@1": {"price": 60, "full": 500},
    "proportional@1": {},
    "proportional_share@1": {},
    "reputation_weighted@1": {},
    "sarikaya@1": {"price": 2, "work": 1_000_000},
    "truthful_bandit@1": {"tries_a_round": 2, "every": 2},
    "vcg@1": {"winners": 3},
    "zhan@1": {"reward": 150},
    "zhan_learned@1": {"rewards": [50, 100, 200], "worth": 100},
}
REPORTS = "cost", "price", "power", "item"


def mechanism(key: str, **changed: Any) -> Any:
    """A mechanism with parameters that suit small markets."""
    return build(MECHANISMS, key, PARAMETERS[key] | changed)


def address(place: int) -> str:
    return f"0x{place:040x}"


def market(offers: Sequence[Offer], budget: int, **changed: Any) -> Market:
    made = Market(offers, budget, 1, 1, lambda: stream(bytes(32), "mechanism", 1))
    return replace(made, **changed)


def auction(bids: Sequence[int], values: Sequence[int] | None = None, name: str = "cost") -> list[Offer]:
    """Offers with bids, and reputations if they are not all 500,000."""
    given = values or [PPM // 2] * len(bids)
    return [Offer(address(i), {name: b}, v) for i, (b, v) in enumerate(zip(bids, given, strict=True))]


def delivered(terms: Mapping[str, Terms], score: int = 100, examples: int = 100) -> dict[str, Seen]:
    """Everybody who was asked delivers alike."""
    return {owner: Seen(True, PPM, score, examples, 10) for owner in terms}


def played(method: Mechanism, given: Market) -> tuple[dict[str, Terms], dict[str, int]]:
    """Terms and pay of a round in which everybody delivers."""
    terms = asked(method, given)
    return terms, method.pay(given, terms, delivered(terms))


def asked(method: Mechanism, given: Market) -> dict[str, Terms]:
    """Whom a round asks: by the mechanism if it chooses, or else everybody on no terms."""
    return method.select(given) if method.chooses else {offer.address: Terms() for offer in given.offers}


_numbers = st.one_of(st.integers(0, 120), st.integers(-(2**53) + 1, 2**53 - 1))
_offers = st.builds(
    Offer,
    address=st.just(""),
    report=st.one_of(st.fixed_dictionaries(dict.fromkeys(REPORTS, _numbers)), st.just({})),
    reputation=st.one_of(st.integers(0, PPM), st.sampled_from((0, 1, PPM))),
    examples=st.integers(0, 2**53 - 1),
    last_round=st.integers(0, 10),
    duration=st.one_of(st.none(), st.integers(0, 2**53 - 1)),
)
_seen = st.builds(
    Seen,
    accepted=st.booleans(),
    weight=st.integers(0, 2**60),
    score=st.one_of(st.integers(0, 1000), st.integers(0, 2**62)),
    examples=st.one_of(st.integers(0, 200), st.integers(0, 2**53 - 1)),
    steps=st.integers(0, 2**53 - 1),
)


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """Markets of up to twelve offers with whatever reports the spec lets through."""
    offers = draw(st.lists(_offers, max_size=12))
    placed = [replace(offer, address=address(place)) for place, offer in enumerate(offers)]
    return market(placed, draw(st.one_of(st.integers(0, 500), st.integers(0, 2**53 - 1))))


@st.composite
def results(draw: st.DrawFn, terms: Mapping[str, Terms]) -> dict[str, Seen]:
    """What a round made of the updates of some of those whom it has asked."""
    return {owner: draw(_seen) for owner in terms if draw(st.integers(0, 4))}
