"""The command line: every group of commands, and an exit code for each kind of failure."""

from __future__ import annotations

import logging
import sys
import traceback

import typer
from rich.logging import RichHandler
from rich.markup import escape

from fedledger.platform.cli.aggregators import aggregator_app
from fedledger.platform.cli.auditing import audit_app
from fedledger.platform.cli.auditors import auditor_app
from fedledger.platform.cli.bench import bench_app
from fedledger.platform.cli.bench_contributions import bench_contributions
from fedledger.platform.cli.bench_reputation import bench_reputation
from fedledger.platform.cli.bench_robustness import bench_robustness
from fedledger.platform.cli.bench_rules import bench_rules
from fedledger.platform.cli.chains import chain_app, keys_app
from fedledger.platform.cli.console import err
from fedledger.platform.cli.experiments import config_app, experiments_app
from fedledger.platform.cli.incentives import incentives_app
from fedledger.platform.cli.incentives_audit import incentives_audit
from fedledger.platform.cli.incentives_pnl import incentives_pnl
from fedledger.platform.cli.incentives_run import incentives_market, incentives_run
from fedledger.platform.cli.incentives_theory import incentives_equilibrium, incentives_menu
from fedledger.platform.cli.ledger import ledger_app
from fedledger.platform.cli.methods import methods_app
from fedledger.platform.cli.nodes import node_app
from fedledger.platform.cli.reputations import reputations_app
from fedledger.platform.cli.results import results_app
from fedledger.platform.cli.scorers import scorer_app
from fedledger.platform.cli.spot_checks import spot_check_app
from fedledger.platform.cli.tasks import task_app
from fedledger.platform.cli.verifiers import verifier_app
from fedledger.protocol.errors import ExitCode, FedledgerError
from fedledger.protocol.text import shown
from fedledger.storage.machine import keep_freed_memory

app = typer.Typer(
    name="fedledger",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated learning that anyone can check.\n\nExit codes: 0 success · 1 failure · 2 usage · 3 configuration · "
    "4 chain · 5 store · 6 not reproduced · 7 round · 8 untrusted code · 9 keys.",
)
app.add_typer(experiments_app)
app.add_typer(audit_app)
app.add_typer(ledger_app)
app.add_typer(reputations_app)
app.add_typer(methods_app)
task_app.add_typer(results_app)
bench_app.command("contributions")(bench_contributions)
bench_app.command("reputation")(bench_reputation)
bench_app.command("robustness")(bench_robustness)
bench_app.command("rules")(bench_rules)
incentives_app.command("audit")(incentives_audit)
incentives_app.command("equilibrium")(incentives_equilibrium)
incentives_app.command("market")(incentives_market)
incentives_app.command("menu")(incentives_menu)
incentives_app.command("run")(incentives_run)
incentives_app.command("pnl")(incentives_pnl)
for name, group in (
    ("chain", chain_app),
    ("keys", keys_app),
    ("task", task_app),
    ("node", node_app),
    ("aggregator", aggregator_app),
    ("verifier", verifier_app),
    ("scorer", scorer_app),
    ("auditor", auditor_app),
    ("spot-check", spot_check_app),
    ("config", config_app),
    ("bench", bench_app),
    ("incentives", incentives_app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; an error that the user can fix ends it with one sentence and an exit code of its own."""
    handler = RichHandler(console=err, show_path=False)
    handler.addFilter(shows_arguments)
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler])
    logging.getLogger("web3").setLevel(logging.WARNING)
    logging.getLogger("eth").setLevel(logging.WARNING)
    keep_freed_memory()
    try:
        app()
    except FedledgerError as error:
        err.print(f"[bold red]Error:[/bold red] {escape(shown(error))}", highlight=False)
        sys.exit(int(error.exit_code))
    except (OSError, MemoryError) as error:
        # What the machine refuses is nobody's error in the program.
        err.print(f"[bold red]Error:[/bold red] {escape(shown(_refused(error)))}", highlight=False)
        sys.exit(int(ExitCode.FAILURE))
    except Exception:
        err.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        sys.exit(int(ExitCode.FAILURE))


def _refused(error: OSError | MemoryError) -> str:
    """Say in one sentence what the machine refused."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or make the task smaller."
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror or error}. Check the path, its permissions and the space that is left."


class _Shown:
    """What a line of the log says of something: its text as it may be shown."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shown(self._value)

    def __repr__(self) -> str:
        return shown(repr(self._value))


def shows_arguments(record: logging.LogRecord) -> bool:
    """Let a line of the log say what it is about on one line, whoever named that."""
    if isinstance(record.args, tuple):
        record.args = tuple(each if isinstance(each, int | float) else _Shown(each) for each in record.args)
    return True


if __name__ == "__main__":
    main()
