"""Commands about spot checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.bench import FiguresOption, bench_app, write_figures
from fedledger.platform.cli.console import (
    BenchFormat,
    BenchFormatOption,
    Format,
    FormatOption,
    err,
    number,
    out,
    print_json,
    print_rows,
    progress_bar,
)
from fedledger.platform.cli.options import expand_options
from fedledger.protocol.errors import ExitCode
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.units import MOST_GWEI
from fedledger.storage.machine import processors

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
            help="accepted updates of a million that are checked (default: what suits --penalty; without it the "
            "configuration's, or else 50,000)",
        ),
    ] = None
    penalty: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_GWEI,
            metavar="GWEI",
            help="what one failed check takes (default: the configuration's unless --rate is given, or else what suits "
            "the rate)",
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
    docs/replayable.md. Windows are those of --windows alone: how many a configuration's have depends on each
    participant's number of steps, which nobody knows before.
    """
    from fedledger.platform.experiment.config import DEMO
    from fedledger.platform.experiment.task_config import read_terms
    from fedledger.platform.spot_checks.plan import CheckPlan, Windows, most_pay

    terms = read_terms(config or DEMO)
    pot = terms.ledger.units_per_round * terms.ledger.credit_unit_gwei
    pay = paid.pay or most_pay(pot, paid.participants or terms.quorum, paid.participants_that_ride)
    windows = None if checks.windows is None else Windows(checks.windows, checks.windows_drawn)
    rate, penalty = checks.rate, checks.penalty
    if rate is None and penalty is None and terms.ledger.check_rate:
        rate, penalty = terms.ledger.check_rate, terms.ledger.check_penalty_gwei
    plan = CheckPlan.of(pay, rounds or terms.training.rounds, rate, penalty, checks.undecided, windows)
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


@dataclass(frozen=True)
class StudiedOptions:
    """Which runs are played."""

    tasks: Annotated[str, typer.Option(help="digits, new, or both: what `fedledger new` makes")] = "digits,new"
    strategies: Annotated[
        str | None, typer.Option(help="which, separated by commas (default: honest work and those without training)")
    ] = None
    seeds: Annotated[str, typer.Option(help="FIRST..LAST, or numbers separated by commas")] = "1..100"
    dirichlet: Annotated[
        str, typer.Option(help="concentrations of the classes' division, or iid, separated by commas")
    ] = ".5"
    populations: Annotated[str, typer.Option(help="PARTICIPANTS-HOSTILE, separated by commas")] = "10-1"
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of each run (default: the task's own)")] = None
    by_examples: Annotated[
        bool, typer.Option("--by-examples", help="pay by committed examples, up to a round's median number")
    ] = False


@bench_app.command("spot-checks")
@expand_options
def bench_spot_checks(
    studied: StudiedOptions,
    rate: Annotated[
        int, typer.Option(min=1, max=PPM, metavar="PPM", help="accepted updates of a million that are checked")
    ] = PPM // 20,
    gas_price: Annotated[float, typer.Option(min=0, max=1e9, metavar="GWEI", help="of a unit of gas")] = 1.0,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Play strategies that do not train on what they committed to, and show what they earn where updates are checked.

    Rounds are played without a ledger, with the pay of the default pipeline. Penalties are those of `spot-check plan`;
    a stake holds what it says, and no check is decided before the last round. A line below the table explains it.
    """
    from fedledger.platform.bench.option_lists import listed
    from fedledger.platform.bench.robustness import DIGITS, conditions
    from fedledger.platform.bench.robustness_options import dirichlets_of, populations_of, seeds_of
    from fedledger.platform.bench.spot_check_runs import STUDY, cases
    from fedledger.platform.bench.spot_checks import COLUMNS, StudyOptions, study, table_cells

    populations, seeds = populations_of(studied.populations), seeds_of(studied.seeds)
    given = conditions(DIGITS, dirichlets_of(studied.dirichlet), populations, seeds)
    strategies = list(STUDY) if studied.strategies is None else listed(studied.strategies, "--strategies")
    chosen = cases(listed(studied.tasks, "--tasks"), strategies, given, studied.by_examples)
    options = StudyOptions(rate, gas_price, studied.rounds, workers or processors())
    with progress_bar("playing") as watch:
        profits = study(chosen, options, watch)
    document = {"rate": rate, "gas_price": gas_price, "seeds": seeds, "rows": [asdict(each) for each in profits]}
    if write_figures(document, output, format_):
        return
    print_rows(table_cells(profits), "What strategies earn")
    out.print(COLUMNS, markup=False)


@bench_app.command("honest-checks")
def bench_honest_checks(
    checks: Annotated[int, typer.Option(min=1, help="how many updates are checked, at least")] = 10_000,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Check updates of honest participants, with models and training that vary, and show whether any fails.

    Each is opened and judged as on a ledger. The exit code is 1 if one fails.
    """
    from fedledger.platform.bench.honest_checks import check_honest, honest_cells

    with progress_bar("checking") as watch:
        runs = check_honest(checks, workers or processors(), watch)
    rows = honest_cells(runs)
    if not write_figures({"rows": rows}, output, format_):
        print_rows(rows, "Checks of honest participants")
    if any(run.failed for run in runs):
        raise typer.Exit(ExitCode.FAILURE)


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
