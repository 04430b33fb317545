"""Contract theory: a menu of efforts and rewards from which each type of worker picks the item meant for it.

Kang, Xiong, Niyato, Xie and Zhang, Incentive Mechanism for Reliable Federated Learning: A Joint Optimization Approach
to Combining Reputation and Contract Theory, IEEE Internet of Things Journal 6(6), 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil, fsum, log
from typing import Annotated

from scipy.optimize import brentq

from fedledger.platform.incentives.theory.ironing import pool_adjacent_violators
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Real, Whole, whole

MOST_TYPES = 1000
EDGE = 1e-9
"""Frequencies stay above the least by this share, so that a logarithm has something left."""
_MOST_LAMBDA = 1e12
Positive = Real(0, 1e12, above=True)
Amount = Real(0, 1e12)


def even_accuracies(types: int = 10, first: float = 0.2, last: float = 0.92) -> tuple[float, ...]:
    """Return equally spaced local accuracies, both ends among them; one type has the first.

    Raises
    ------
    ConfigError
        If there would be no type, or too many.
    """
    types = whole("types", types, 1, MOST_TYPES)
    return tuple(first + (last - first) * place / max(1, types - 1) for place in range(types))


@dataclass(frozen=True)
class Contract(Checked):
    """What publisher and workers know in common; each worker's type is its own secret.

    A worker of type n trains ψ / θ_n = ln(1 / ε_n) local iterations a round. An iteration at the frequency f takes the
    time c·s / f and the energy ζ·c·s·f². The defaults are the paper's, whose units are not all of one system.

    Parameters
    ----------
    accuracies
        Local accuracies ε_n, ascending: the higher the type θ_n = ψ / ln(1 / ε_n), the fewer iterations it needs.
    shares
        Probability p_n of each type; None: all equally likely.
    workers
        Number N of workers.
    cycles
        CPU cycles c for an example.
    examples
        Examples s of a worker.
    psi
        Coefficient ψ of the number of iterations; it scales types and leaves the menu alone.
    capacitance
        Coefficient ζ of the energy of an iteration.
    upload_time
        Time T_com in which a worker sends its update.
    upload_energy
        Energy E_com that this takes.
    longest
        Time T_max that the publisher tolerates.
    worth
        Weight w of the time that is left in the publisher's profit.
    reward_weight
        Weight l of a reward in the publisher's profit.
    energy_price
        What a unit of energy costs a worker, μ.
    budget
        Expected rewards of all workers together, R_max; None: no limit.

    Raises
    ------
    ConfigError
        If a parameter is out of bounds, or accuracies and shares do not fit.
    """

    accuracies: Annotated[tuple[float, ...], ListOf(Real(0, 1, above=True, below=True), MOST_TYPES)] = field(
        default_factory=even_accuracies
    )
    shares: Annotated[tuple[float, ...] | None, ListOf(Real(0, 1, above=True), MOST_TYPES)] = None
    workers: Annotated[int, Whole(1, 10**9)] = 100
    cycles: Annotated[float, Positive] = 5.0
    examples: Annotated[float, Positive] = 20.0
    psi: Annotated[float, Positive] = 15.0
    capacitance: Annotated[float, Positive] = 2.0
    upload_time: Annotated[float, Amount] = 10.0
    upload_energy: Annotated[float, Amount] = 20.0
    longest: Annotated[float, Positive] = 600.0
    worth: Annotated[float, Positive] = 800.0
    reward_weight: Annotated[float, Positive] = 1.0
    energy_price: Annotated[float, Positive] = 1.0
    budget: Annotated[float | None, Positive] = 1e4

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if not self.accuracies or any(low >= high for low, high in pairwise(self.accuracies)):
            raise ConfigError("Local accuracies do not ascend.", "Give at least one, each above the one before.")
        if self.shares is not None and len(self.shares) != len(self.accuracies):
            raise ConfigError("There are not as many shares as accuracies.", "Give one share for each type.")
        if self.shares is not None and abs(fsum(self.shares) - 1) > 1e-9:
            raise ConfigError(f"The shares of the types sum to {fsum(self.shares):g}.", "Give shares that sum to 1.")
        if self.longest <= self.upload_time:
            raise ConfigError("Nothing is left of the longest time.", "Give a longest time above the upload's.")

    @property
    def iterations(self) -> tuple[float, ...]:
        """Local iterations of each type, ψ / θ_n; descending."""
        return tuple(log(1 / accuracy) for accuracy in self.accuracies)

    @property
    def types(self) -> tuple[float, ...]:
        """Each type θ_n; ascending."""
        return tuple(self.psi / count for count in self.iterations)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Probability p_n of each type."""
        count = len(self.accuracies)
        return (1 / count,) * count if self.shares is None else self.shares

    @property
    def time_left(self) -> float:
        """A = T_max − T_com."""
        return self.longest - self.upload_time

    @property
    def work(self) -> tuple[float, ...]:
        """Cycles of a round for each type, b_n = (ψ / θ_n)·c·s; a round at the frequency f takes b_n / f."""
        return tuple(count * self.cycles * self.examples for count in self.iterations)

    def energy(self, frequency: float) -> float:
        """Return the energy of a local iteration, E = ζ·c·s·f²."""
        return self.capacitance * self.cycles * self.examples * frequency**2

    def worker_utility(self, worker_type: int, item: Item) -> float:
        """Return what a worker gets from an item: R − μ·((ψ / θ)·E(f) + E_com).

        Parameters
        ----------
        worker_type
            Place of its type, from 0.
        item
            The item that it takes.
        """
        spent = self.iterations[worker_type] * self.energy(item.frequency) + self.upload_energy
        return item.reward - self.energy_price * spent

    def pay_weights(self) -> list[float]:
        """Return g_n: expected rewards of a worker are μ·(E_com + Σ g_n·E(f_n)), where the local constraints bind.

        g_n = p_n·ψ/θ_n + (ψ/θ_n − ψ/θ_{n+1})·Σ_{i>n} p_i: what the type itself is paid, and what those above it are.
        """
        counts, shares = self.iterations, self.probabilities
        above = [*accumulate(reversed(shares), initial=0.0)][-2::-1]
        steps = [count - following for count, following in zip(counts, [*counts[1:], counts[-1]], strict=True)]
        return [p * count + step * rest for p, count, step, rest in zip(shares, counts, steps, above, strict=True)]


@dataclass(frozen=True)
class Item:
    """One item of a menu: a frequency to train at, and the reward for it."""

    frequency: float
    reward: float


@dataclass(frozen=True)
class Menu:
    """A menu with one item for each type, in their order.

    Parameters
    ----------
    contract
        What it was made for.
    items
        The items.
    multiplier
        λ, what a unit of the budget is worth to the publisher; 0 where the budget does not bind.
    """

    contract: Contract
    items: tuple[Item, ...]
    multiplier: float

    @property
    def expected_pay(self) -> float:
        """Expected rewards of all workers together, N·Σ p_n·R_n."""
        contract = self.contract
        return contract.workers * fsum(
            p * item.reward for p, item in zip(contract.probabilities, self.items, strict=True)
        )

    @property
    def profit(self) -> float:
        """The publisher's expected profit, N·Σ p_n·(w·ln(T_max − T_com − b_n / f_n) − l·R_n)."""
        contract = self.contract
        return contract.workers * fsum(
            p
            * (contract.worth * log(contract.time_left - work / item.frequency) - contract.reward_weight * item.reward)
            for p, work, item in zip(contract.probabilities, contract.work, self.items, strict=True)
        )


@dataclass(frozen=True)
class Deviation:
    """What a type of worker gains if it does not take the item meant for it.

    Parameters
    ----------
    worker_type
        Place of its type, from 0.
    item
        Place of the item that it takes; None: it stays away.
    gain
        Utility that it gains; negative if it loses.
    """

    worker_type: int
    item: int | None
    gain: float


def best_refusal(menu: Menu) -> Deviation:
    """Return what the type gains that gains most by staying away: minus the least utility of all types."""
    utilities = [menu.contract.worker_utility(worker_type, item) for worker_type, item in enumerate(menu.items)]
    worker_type = min(range(len(utilities)), key=utilities.__getitem__)
    return Deviation(worker_type, None, 0.0 - utilities[worker_type])


def best_misreport(menu: Menu) -> Deviation:
    """Return what the type gains that gains most by taking another type's item; of one type, it gains 0 by its own."""
    best = Deviation(0, 0, 0.0 if len(menu.items) == 1 else -float("inf"))
    for worker_type, own in enumerate(menu.items):
        utility = menu.contract.worker_utility(worker_type, own)
        for place, item in enumerate(menu.items):
            gain = menu.contract.worker_utility(worker_type, item) - utility
            if place != worker_type and gain > best.gain:
                best = Deviation(worker_type, place, gain)
    return best


def is_individually_rational(menu: Menu, tolerance: float = 1e-9) -> bool:
    """Return whether no type gains by staying away, up to a share of the largest reward."""
    return best_refusal(menu).gain <= _allowed(menu, tolerance)


def is_incentive_compatible(menu: Menu, tolerance: float = 1e-9) -> bool:
    """Return whether no type gains by another's item, up to a share of the largest reward."""
    return best_misreport(menu).gain <= _allowed(menu, tolerance)


def _allowed(menu: Menu, tolerance: float) -> float:
    return tolerance * max(1.0, *(abs(item.reward) for item in menu.items))


def optimal_menu(contract: Contract) -> Menu:
    """Return the publisher's best menu: individually rational, incentive compatible, and within its expected budget.

    With rewards that bind the local downward constraints, the publisher maximises, for a multiplier λ ≥ 0,
    Σ p_n·w·ln(A − b_n / f_n) − (l + λ)·μ·Σ g_n·E(f_n) over ascending frequencies. Each summand is strictly concave in
    f_n, so that pooling adjacent violators ("ironing") is exact.

    Raises
    ------
    ConfigError
        If the budget does not pay for the slowest frequencies.
    """
    return _menu_within(contract, _ironed)


def relaxed_menu(contract: Contract) -> Menu:
    """Return the menu of the relaxed problem, which leaves out that frequencies must ascend.

    It is what a publisher gets that forgets to iron, and is incentive compatible only if the frequencies ascend of
    themselves. It exists so that whoever checks menus can be shown one to reject.

    Raises
    ------
    ConfigError
        If the budget does not pay for the slowest frequencies.
    """
    return _menu_within(contract, _relaxed)


def tight_menu(contract: Contract) -> Menu:
    """Return the best menu's frequencies with rewards that leave no type anything, as the paper prints them.

    R_n = μ·((ψ / θ_n)·E(f_n) + E_com): a higher type then gains by taking a lower type's item. It exists so that
    whoever checks menus can be shown one to reject.

    Raises
    ------
    ConfigError
        If the budget does not pay for the slowest frequencies.
    """
    best = optimal_menu(contract)
    items = [
        Item(item.frequency, item.reward - contract.worker_utility(worker_type, item))
        for worker_type, item in enumerate(best.items)
    ]
    return Menu(contract, tuple(items), best.multiplier)


def integer_menu(menu: Menu, scale: int) -> list[tuple[int, int]]:
    """Return effort and pay of each type in whole numbers of 1 / ``scale``, rational and compatible to the unit.

    Efforts are rounded. Pays follow anew by the recursion of the local downward constraints, each rounded up. Where no
    whole pay separates two types, so that the lower one would gain by the higher one's item, both get the lower one's.
    Everything is computed in rational numbers. Rounding up may exceed the budget by less than N times the number of
    types, in units.

    Parameters
    ----------
    menu
        A menu whose frequencies ascend.
    scale
        How many units of effort a unit of frequency has, and units of pay a unit of reward.

    Raises
    ------
    ConfigError
        If the scale is out of bounds, or frequencies do not ascend.
    """
    scale = whole("scale", scale, 1, 10**12)
    contract, frequencies = menu.contract, [item.frequency for item in menu.items]
    if any(low > high for low, high in pairwise(frequencies)):
        raise ConfigError("The menu's frequencies do not ascend.", "Iron them: take the optimal menu.")
    price = Fraction(contract.energy_price)
    unit = price * Fraction(contract.capacitance) * Fraction(contract.cycles) * Fraction(contract.examples) / scale
    costs = [unit * Fraction(count) for count in contract.iterations]
    effort = max(1, round(frequencies[0] * scale))
    pay = ceil(price * Fraction(contract.upload_energy) * scale + costs[0] * effort**2)
    items = [(effort, pay)]
    for (lower, own), frequency in zip(pairwise(costs), frequencies[1:], strict=True):
        higher = max(effort, round(frequency * scale))
        more = higher**2 - effort**2
        if ceil(own * more) <= lower * more:
            effort, pay = higher, pay + ceil(own * more)
        items.append((effort, pay))
    return items


Frequencies = Callable[[Contract, float], list[float]]
"""Frequencies of each type, for what a unit of reward weighs, l + λ."""


def _ironed(contract: Contract, weight: float) -> list[float]:
    return pool_adjacent_violators(len(contract.accuracies), _Blocks(contract, weight).optimum)


def _relaxed(contract: Contract, weight: float) -> list[float]:
    optimum = _Blocks(contract, weight).optimum
    return [optimum(place, place + 1) for place in range(len(contract.accuracies))]


class _Blocks:
    """The optimal common frequency of neighbouring types, where a unit of reward weighs ``weight``."""

    def __init__(self, contract: Contract, weight: float) -> None:
        self._gains = [p * contract.worth * work for p, work in zip(contract.probabilities, contract.work, strict=True)]
        self._work, self._left = contract.work, contract.time_left
        slope = 2 * weight * contract.energy_price * contract.energy(1.0)
        self._slopes = [slope * pay for pay in contract.pay_weights()]

    def optimum(self, first: int, end: int) -> float:
        """Return the root above b / A of Σ p·w·b / (A·f² − b·f) = 2·(l + λ)·μ·ζ·c·s·f·Σ g."""
        gains, works, slope = self._gains[first:end], self._work[first:end], fsum(self._slopes[first:end])
        left = self._left

        def derivative(f: float) -> float:
            return sum(gain / (f * (left * f - work)) for gain, work in zip(gains, works, strict=True)) - slope * f

        low = works[0] / left * (1 + EDGE)
        if derivative(low) <= 0:
            return low
        high = 2 * low
        while derivative(high) > 0:
            high *= 2
        return float(brentq(derivative, low, high, xtol=1e-15 * high, rtol=1e-14))


def _menu_within(contract: Contract, frequencies: Frequencies) -> Menu:
    """Return the menu of the least multiplier with which the expected rewards are within the budget."""

    def menu(multiplier: float) -> Menu:
        found = frequencies(contract, contract.reward_weight + multiplier)
        return Menu(contract, _items(contract, found), multiplier)

    free = menu(0.0)
    budget = contract.budget
    if budget is None or free.expected_pay <= budget:
        return free
    high = 1.0
    while menu(high).expected_pay > budget:
        high *= 2
        if high > _MOST_LAMBDA:
            least = menu(high).expected_pay
            raise ConfigError(
                f"A budget of {budget:g} does not pay for the slowest frequencies.", f"Give more than {least:g}."
            )
    multiplier = float(brentq(lambda each: menu(each).expected_pay - budget, 0.0, high, xtol=1e-13, rtol=1e-14))
    above = 1e-13
    while (found := menu(multiplier)).expected_pay > budget:
        multiplier, above = multiplier + above, 2 * above
    return found


def _items(contract: Contract, frequencies: Sequence[float]) -> tuple[Item, ...]:
    """Return items whose rewards bind the first type's rationality and the local downward constraints.

    R_n = μ·(E_com + (ψ/θ_1)·E_1 + Σ_{k=2..n} (ψ/θ_k)·(E_k − E_{k−1})).
    """
    energies = [contract.energy(frequency) for frequency in frequencies]
    steps = [high - low for low, high in pairwise([0.0, *energies])]
    spent = accumulate(count * step for count, step in zip(contract.iterations, steps, strict=True))
    rewards = [contract.energy_price * (contract.upload_energy + each) for each in spent]
    return tuple(Item(frequency, reward) for frequency, reward in zip(frequencies, rewards, strict=True))
