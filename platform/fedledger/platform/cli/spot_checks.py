"""Commands about spot checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, err, number, out, print_json, print_rows
from fedledger.platform.cli.options import expand_options
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.units import MOST_GWEI

if TYPE_CHECKING:
    from fedledger.platform.spot_checks.plan import CheckPlan

spot_check_app = typer.Typer(no_args_is_help=True, help="Spot checks of training.")

MOST_ROUNDS = 65_535


@dataclass(frozen=True)
class PayOptions:
    """What a round pays a participant at most; what is not given is a configuration's."""

    pay: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_GWEI,
            metavar="GWEI",
            help="the most that one round pays a participant (default: what a round pays, over --participants)",
        ),
    ] = None
    participants: Annotated[
        int | None,
        typer.Option(min=1, help="who share the pay of the smallest round that counts (default: the quorum)"),
    ] = None
    participants_that_ride: Annotated[
        int, typer.Option(min=1, help="of them, who help each other: all but one send what is refused and not paid")
    ] = 1


@dataclass(frozen=True)
class CheckOptions:
    """How often updates are checked, what a failed check takes, and how much is replayed."""

    rate: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=PPM,
            metavar="PPM",
            help="accepted updates of a million that are checked (default: what suits --penalty, or else 50,000)",
        ),
    ] = None
    penalty: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_GWEI, metavar="GWEI", help="what one failed check takes (default: what suits --rate)"
        ),
    ] = None
    undecided: Annotated[
        int | None,
        typer.Option(
            min=1, help="rounds that are played before a check of the first of them is decided (default: all)"
        ),
    ] = None
    windows: Annotated[
        int | None, typer.Option(min=1, help="windows of a trajectory (default: whole updates are replayed)")
    ] = None
    windows_drawn: Annotated[int, typer.Option(min=1, help="of them, how many a check replays")] = 1


@spot_check_app.command("plan")
@expand_options
def spot_check_plan(
    paid: PayOptions,
    checks: CheckOptions,
    config: Annotated[
        Path | None, typer.Argument(help="TOML file of an experiment or a task (default: the demonstration's)")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=MOST_ROUNDS, help="of the task (default: the configuration's)")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say how often updates have to be checked, and what a failed check has to take, so that riding loses money.

    With v for the most that one round pays a participant and P for what one failed check takes, riding loses if more
    than v / P of the accepted updates are checked. What is not given follows, with room for twice as much pay: see
    docs/replayable.md.
    """
    from fedledger.platform.experiment.config import DEMO
    from fedledger.platform.experiment.task_config import read_terms
    from fedledger.platform.spot_checks.plan import CheckPlan, Windows, most_pay

    terms = read_terms(config or DEMO)
    pot = terms.ledger.units_per_round * terms.ledger.credit_unit_gwei
    pay = paid.pay or most_pay(pot, paid.participants or terms.quorum, paid.participants_that_ride)
    windows = None if checks.windows is None else Windows(checks.windows, checks.windows_drawn)
    plan = CheckPlan.of(pay, rounds or terms.training.rounds, checks.rate, checks.penalty, checks.undecided, windows)
    told = plan.warnings(terms.ledger.stake_gwei)
    if format_ is Format.JSON:
        others = [each.document() for each in plan.others()]
        print_json({**plan.document(), "other_rates": others, "warnings": told})
        return
    for line in plan.lines():
        out.print(line, markup=False)
    print_rows([_cells(each) for each in plan.others()], "Other rates, with the same room")
    for line in told:
        err.print(f"[bold yellow]Warning:[/bold yellow] {line}")


def _cells(plan: CheckPlan) -> dict[str, object]:
    from fedledger.platform.spot_checks.plan import SURE, rounds_until

    return {
        "check_rate": number(plan.rate),
        "check_penalty_gwei": number(plan.penalty),
        "stake_gwei": number(plan.stake),
        f"rounds until {100 * SURE:g} % are drawn": rounds_until(SURE, plan.rate),
        "training replayed": f"{100 * plan.replayed:.3g} %",
        "gas of answers a round": number(round(plan.answer_gas)),
    }
