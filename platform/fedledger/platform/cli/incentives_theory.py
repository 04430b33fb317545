"""Commands that print closed forms of incentive mechanisms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedledger.platform.cli.console import BenchFormat, BenchFormatOption, out, print_json, print_rows
from fedledger.platform.cli.options import expand_options
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from fedledger.platform.incentives.theory.contract_theory import Contract, Deviation, Menu


class MenuForm(StrEnum):
    """Which menu is made."""

    OPTIMAL = "optimal"
    RELAXED = "relaxed"
    TIGHT = "tight"


@dataclass(frozen=True)
class ContractOptions:
    """What publisher and workers know in common; the defaults are Kang's."""

    types: Annotated[
        int, typer.Option(min=1, max=1000, help="number of types, whose accuracies are equally spaced")
    ] = 10
    first: Annotated[float, typer.Option(help="local accuracy of the lowest type, above 0 and below 1")] = 0.2
    last: Annotated[float, typer.Option(help="local accuracy of the highest type, above 0 and below 1")] = 0.92
    accuracies: Annotated[str | None, typer.Option(help="local accuracies instead, ascending, separated by commas")] = (
        None
    )
    shares: Annotated[
        str | None, typer.Option(help="probability of each type, separated by commas (default: all equally likely)")
    ] = None
    workers: Annotated[int, typer.Option(help="number of workers")] = 100
    cycles: Annotated[float, typer.Option(help="CPU cycles for an example, c")] = 5.0
    examples: Annotated[float, typer.Option(help="examples of a worker, s")] = 20.0
    capacitance: Annotated[float, typer.Option(help="coefficient of the energy of an iteration, zeta")] = 2.0
    upload_time: Annotated[float, typer.Option(help="time of an upload, T_com")] = 10.0
    upload_energy: Annotated[float, typer.Option(help="energy of an upload, E_com")] = 20.0
    longest: Annotated[float, typer.Option(help="time that the publisher tolerates, T_max")] = 600.0
    worth: Annotated[float, typer.Option(help="what the logarithm of the time left is worth to the publisher, w")] = (
        800.0
    )
    reward_weight: Annotated[float, typer.Option(help="what a unit of reward weighs for the publisher, l")] = 1.0
    energy_price: Annotated[float, typer.Option(help="what a unit of energy costs a worker, mu")] = 1.0
    budget: Annotated[float, typer.Option(help="expected rewards of all workers together at most, R_max")] = 1e4
    unlimited: Annotated[bool, typer.Option("--unlimited", help="have no budget")] = False

    def contract(self) -> Contract:
        """Return the contract's parameters, or raise ConfigError if one is out of bounds."""
        from fedledger.platform.incentives.theory.contract_theory import Contract, even_accuracies

        given = even_accuracies(self.types, self.first, self.last)
        return Contract(
            accuracies=given if self.accuracies is None else _numbers(self.accuracies, "--accuracies"),
            shares=None if self.shares is None else _numbers(self.shares, "--shares"),
            workers=self.workers,
            cycles=self.cycles,
            examples=self.examples,
            capacitance=self.capacitance,
            upload_time=self.upload_time,
            upload_energy=self.upload_energy,
            longest=self.longest,
            worth=self.worth,
            reward_weight=self.reward_weight,
            energy_price=self.energy_price,
            budget=None if self.unlimited else self.budget,
        )


@expand_options
def incentives_menu(
    given: ContractOptions,
    form: Annotated[
        MenuForm,
        typer.Option(
            "--menu",
            help="optimal; relaxed: without ironing; tight: rewards leave no type anything. The last two are for "
            "comparison: types may gain by another's item",
        ),
    ] = MenuForm.OPTIMAL,
    integers: Annotated[
        int | None,
        typer.Option(
            "--integers",
            metavar="SCALE",
            min=1,
            max=10**12,
            help="print the items in whole numbers of 1 / SCALE, as a spec has them",
        ),
    ] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Print Kang's menu of frequencies and rewards, from which each type of worker picks the item meant for it.

    Below it stand the publisher's expected profit, and what a type gains at most by staying away or by taking
    another's item. See docs/incentive-theory.md.
    """
    from fedledger.platform.incentives.theory import contract_theory as theory

    made: dict[MenuForm, Callable[[Contract], Menu]] = {
        MenuForm.OPTIMAL: theory.optimal_menu,
        MenuForm.RELAXED: theory.relaxed_menu,
        MenuForm.TIGHT: theory.tight_menu,
    }
    menu = made[form](given.contract())
    if integers is not None:
        items = list(dict.fromkeys(theory.integer_menu(menu, integers)))
        if format_ is BenchFormat.JSON:
            print_json({"scale": integers, "items": items})
        else:
            out.print(f"items = {[list(item) for item in items]}", markup=False, highlight=False)
        return
    refusal, misreport = theory.best_refusal(menu), theory.best_misreport(menu)
    if format_ is BenchFormat.JSON:
        print_json(_document(menu, refusal, misreport))
        return
    print_rows([{name: _short(value) for name, value in row.items()} for row in _rows(menu)], f"The {form.value} menu")
    for line in (
        f"The publisher's expected profit: {menu.profit:,.3f}",
        f"Expected rewards of all: {menu.expected_pay:,.3f}; a unit of the budget is worth {menu.multiplier:.3f}",
        f"Type {refusal.worker_type + 1} gains most by staying away: {refusal.gain:.3g}",
        f"Type {misreport.worker_type + 1} gains most by another's item: {misreport.gain:.3g}",
    ):
        out.print(line, markup=False)


def incentives_equilibrium(
    costs: Annotated[str, typer.Option(help="what a unit costs each follower, separated by commas")] = "1.5,4",
    valuation: Annotated[float, typer.Option(help="what contributions X are worth: this times ln(1 + X)")] = 10.0,
    reward: Annotated[
        float | None, typer.Option(help="total reward that the leader posts (default: its optimum)")
    ] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Print the equilibrium of Zhan's game, in which followers share a reward in proportion to their contributions.

    See docs/incentive-theory.md.
    """
    from fedledger.platform.incentives.theory.zhan import Game

    game = Game(_numbers(costs, "--costs"), valuation)
    posted = game.optimal_reward() if reward is None else reward
    contributions = game.equilibrium(posted)
    profit = game.leader_profit(sum(contributions), posted)
    rows = [
        {
            "follower": place + 1,
            "cost": game.costs[place],
            "contribution": contribution,
            "utility": game.follower_utility(place, contributions, posted),
        }
        for place, contribution in enumerate(contributions)
    ]
    if format_ is BenchFormat.JSON:
        print_json({"reward": posted, "optimal_reward": game.optimal_reward(), "profit": profit, "followers": rows})
        return
    print_rows([{name: _short(value) for name, value in row.items()} for row in rows], "Equilibrium")
    out.print(f"Reward: {posted:.6g}; the leader's optimum: {game.optimal_reward():.6g}; its profit: {profit:.6g}")


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{option} is {text[:80]!r}, which is no list of numbers.", f"Give for example {option} 0.2,0.5."
        ) from error


def _rows(menu: Menu) -> list[dict[str, Any]]:
    contract = menu.contract
    return [
        {
            "type": place + 1,
            "accuracy": contract.accuracies[place],
            "theta": contract.types[place],
            "iterations": contract.iterations[place],
            "share": contract.probabilities[place],
            "frequency": item.frequency,
            "reward": item.reward,
            "utility": contract.worker_utility(place, item),
        }
        for place, item in enumerate(menu.items)
    ]


def _document(menu: Menu, refusal: Deviation, misreport: Deviation) -> dict[str, object]:
    return {
        "profit": menu.profit,
        "expected_pay": menu.expected_pay,
        "multiplier": menu.multiplier,
        "refusal": vars(refusal),
        "misreport": vars(misreport),
        "items": _rows(menu),
    }


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
