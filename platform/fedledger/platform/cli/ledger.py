"""Commands that deploy a ledger, read it, audit it and withdraw from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedledger.platform.cli.console import (
    Format,
    FormatOption,
    TableFormat,
    TableFormatOption,
    counts,
    err,
    number,
    out,
    print_frame,
    print_result,
    print_rows,
    progress_bar,
    reputation,
)
from fedledger.platform.cli.context import KeyOptions, LedgerOptions, SignerOptions, open_ledger
from fedledger.platform.cli.options import (
    NOBODY,
    DeploymentOption,
    ExperimentSeedOption,
    OutputOption,
    RoleOption,
    RpcOption,
    StoreFolderOption,
    StoreOption,
    TaskOption,
    expand_options,
    read_address,
)
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.units import MOST_GWEI, MOST_SECONDS, YEAR

if TYPE_CHECKING:
    import pandas as pd

    from fedledger.contracts.ledger.records import Settings
    from fedledger.ledger_tools.report.task_view import TaskView
    from fedledger.storage.base import ContentStore

ledger_app = typer.Typer()

FIRST_WITH_POOLS = 5
"""The first version of the ledger in which verifiers serve tasks."""
TOLD_CHECKS = 5
"""Open checks of a task that ``status`` tells of one by one."""

ExportedRunArgument = Annotated[
    Path | None, typer.Argument(help="folder of a run, whose exported ledger is executed again")
]
LiveRpcOption = Annotated[
    str | None, typer.Option(help="URL of the chain's JSON-RPC endpoint, to read a live ledger instead")
]


@dataclass(frozen=True)
class SettingsOptions:
    """Settings of a new ledger."""

    min_stake_gwei: Annotated[int, typer.Option(min=0, max=MOST_GWEI, help="minimum stake of a participant")] = (
        1_000_000
    )
    exit_delay: Annotated[
        int, typer.Option(min=0, max=MOST_SECONDS, help="seconds between an exit request and the return of the stake")
    ] = 86_400
    min_verifier_stake_gwei: Annotated[int, typer.Option(min=0, max=MOST_GWEI, help="minimum stake of a verifier")] = (
        1_000_000
    )
    juror_penalty_gwei: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_GWEI, help="what a juror loses for staying silent, or for voting against the final verdict"
        ),
    ] = 100_000
    dispute_period: Annotated[int, typer.Option(min=1, max=YEAR, help="seconds allowed for each step of a dispute")] = (
        3600
    )
    jury_size: Annotated[
        int,
        typer.Option(
            min=3, max=15, help="seats of a first jury, an odd number; each appeal doubles the seats and adds one"
        ),
    ] = 3
    appeals: Annotated[int, typer.Option(min=0, max=2, help="appeals after the first jury")] = 2
    least_pool: Annotated[
        int | None,
        typer.Option(
            min=3,
            max=64,
            help="verifiers that have to serve a task for juries and penalties (default: 5, on development chains 3, "
            "and at least the first jury's seats)",
            show_default=False,
        ),
    ] = None
    verifier_age: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_SECONDS,
            help="seconds for which a verifier must be enlisted before it is drawn (default: a day, on development "
            "chains 0)",
            show_default=False,
        ),
    ] = None
    least_window: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=YEAR,
            help="least challenge window, in seconds, of a task with penalties (default: 600, on development chains 0)",
            show_default=False,
        ),
    ] = None
    least_window_blocks: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="the same in blocks (default: 20, on development chains 0)",
            show_default=False,
        ),
    ] = None
    most_penalty_gwei: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_GWEI,
            help="highest penalty of a task (default: a quarter of the minimum stake, on development chains all of it)",
            show_default=False,
        ),
    ] = None
    stake_token: Annotated[
        str,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="ERC-20 token for stakes and bonds (default: the chain's coin)",
            show_default=False,
        ),
    ] = NOBODY
    guardian: Annotated[
        str,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="account that may pause the posting of tasks (default: nobody)",
            show_default=False,
        ),
    ] = NOBODY
    predecessor: Annotated[
        str,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="ledger whose reputations participants may import (default: none)",
            show_default=False,
        ),
    ] = NOBODY

    def settings(self, development: bool) -> Settings:
        """Return the settings as the ledger takes them.

        Parameters
        ----------
        development
            Whether the chain is a development chain, where nobody has to wait.
        """
        from fedledger.contracts.ledger.records import Settings
        from fedledger.protocol.units import GWEI

        return Settings(
            min_stake=self.min_stake_gwei * GWEI,
            exit_delay=self.exit_delay,
            min_verifier_stake=self.min_verifier_stake_gwei * GWEI,
            juror_penalty=self.juror_penalty_gwei * GWEI,
            dispute_period=self.dispute_period,
            jury_size=self.jury_size,
            appeals=self.appeals,
            least_pool=_usual(self.least_pool, max(3 if development else 5, self.jury_size)),
            verifier_age=_usual(self.verifier_age, 0 if development else 86_400),
            least_window=_usual(self.least_window, 0 if development else 600),
            least_window_blocks=_usual(self.least_window_blocks, 0 if development else 20),
            most_penalty=_usual(self.most_penalty_gwei, self.min_stake_gwei // (1 if development else 4)) * GWEI,
            stake_currency=self.stake_token,
            guardian=self.guardian,
            predecessor=self.predecessor,
        )


def _usual(given: int | None, usual: int) -> int:
    return usual if given is None else given


@ledger_app.command()
@expand_options
def deploy(
    rpc: RpcOption,
    key: KeyOptions,
    options: SettingsOptions,
    experiment_seed: ExperimentSeedOption = None,
    output: Annotated[Path, typer.Option(help="file to write the deployment record to")] = Path("deployment.json"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Deploy a ledger and write a record of it: address, block, code hash and settings."""
    from fedledger.contracts.chain.chain import Chain
    from fedledger.ledger_tools.deploy import deploy as deploy_ledger
    from fedledger.platform.experiment.accounts import DEPLOYER
    from fedledger.platform.experiment.deployment_terms import court_cautions, court_needs, require_court

    key.require_one(experiment_seed)
    if output.exists():
        raise ConfigError(
            f"{output} exists already, and may be the only record of another ledger.",
            "Give another file with --output, or move it away.",
        )
    chain = Chain(rpc)
    settings = options.settings(chain.development)
    require_court(settings)
    for caution in court_cautions(settings):
        err.print(f"Warning: {caution}", markup=False, highlight=False)
    account = key.account(chain, experiment_seed, DEPLOYER, funds=10**18)
    _, record = deploy_ledger(chain, account, settings)
    record.write(output)
    if format_ is Format.JSON:
        out.print(output.read_text(), markup=False, highlight=False, soft_wrap=True)
        return
    out.print(f"Deployed at {record.address} in block {record.block}; record: {output}", markup=False)
    for line in court_needs(settings):
        out.print(line, markup=False, highlight=False)


@ledger_app.command()
@expand_options
def status(at: LedgerOptions, format_: FormatOption = Format.TEXT) -> None:
    """Show the chain, the ledger, and the state of each task."""
    from fedledger.ledger_tools.audit.check_view import told_open
    from fedledger.ledger_tools.report.tables import task_cells, task_status_rows

    ledger = at.open()
    tasks = task_status_rows(ledger)
    chain = ledger.chain
    document = {
        "chain": chain.capabilities.client,
        "chain_id": chain.chain_id,
        "block": chain.block_number(),
        "ledger": ledger.address,
        "participants": ledger.participant_count(),
        "tasks": tasks,
    }
    line = f"{document['chain']}, chain {chain.chain_id}, block {document['block']}, ledger {ledger.address}"
    print_result(format_, document, line)
    if format_ is Format.TEXT:
        print_rows([task_cells(row) for row in tasks], "Tasks")
        for row in tasks:
            if row["phase"] == "finished":
                out.print(f"Task {row['task']} has ended.", markup=False, highlight=False)
            else:
                out.print(f"Task {row['task']} waits for {row['waits']}.", markup=False, highlight=False)
                out.print(f"Task {row['task']}: {row['court']}.", markup=False, highlight=False)
            waiting = [] if row["checks"] is None else row["checks"]["open"]
            for check in waiting[:TOLD_CHECKS]:
                out.print(told_open(check), markup=False, highlight=False)
            if len(waiting) > TOLD_CHECKS:
                more = f"{len(waiting) - TOLD_CHECKS:,} more checks of task {row['task']} are open"
                out.print(f"{more}; `history --checks` lists them.", markup=False, highlight=False)


@ledger_app.command()
def history(
    run_dir: ExportedRunArgument = None,
    rpc: LiveRpcOption = None,
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    participants: Annotated[bool, typer.Option(help="one row per participant instead of one per round")] = False,
    refusals: Annotated[
        bool, typer.Option(help="one row per update that was not accepted, with the reason and what it rests on")
    ] = False,
    contributions: Annotated[
        bool, typer.Option(help="one row per update that counted, with its score, its pay and what it was worth")
    ] = False,
    checks: Annotated[
        bool, typer.Option(help="one row per spot check, with the auditor, what came of it, and what it cost")
    ] = False,
    scores: Annotated[
        bool, typer.Option(help="one row per scored round, with who was drawn, outvoted, silent or far from the others")
    ] = False,
    store: StoreOption = "local",
    store_dir: StoreFolderOption = Path("store"),
    output: OutputOption = None,
    format_: TableFormatOption = TableFormat.TEXT,
) -> None:
    """Show a task's rounds, participants, updates, spot checks or scores as a table, CSV, Parquet or JSON."""
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.audit.audit import STORE_FOLDER
    from fedledger.ledger_tools.audit.check_view import known_auditors
    from fedledger.ledger_tools.audit.clock import Clock
    from fedledger.ledger_tools.report.task_view import TaskView, read_export, readable_spec
    from fedledger.storage.foreign_folder import inner_folder
    from fedledger.storage.open import open_store

    kinds = {"participants": participants, "refusals": refusals, "contributions": contributions}
    kinds |= {"checks": checks, "scores": scores}
    asked = [kind for kind, is_asked in kinds.items() if is_asked]
    if len(asked) > 1:
        raise ConfigError(
            "A table has one row per participant, update, check or scored round.", "Give one of the options."
        )

    if rpc is not None:
        ledger = open_ledger(rpc, deployment, reading=True)
        read, clock = History(ledger).update(), Clock.of(ledger)
    elif run_dir is not None:
        with progress_bar("reading") as watch:
            read, clock = read_export(run_dir, lambda done, of: watch("executing blocks", done, of))
    else:
        raise ConfigError("No ledger was given.", "Give a run's folder, or --rpc and --deployment.")
    settings = _settings_of(rpc, deployment, run_dir)
    least_pool = None if settings is None else settings.least_pool
    folder = store_dir if run_dir is None else inner_folder(run_dir, STORE_FOLDER)
    content = open_store(store, folder, reading=True) if asked else None
    auditors = () if content is None else known_auditors(read.task(task), content)
    spec = None if content is None or not participants else readable_spec(read.task(task), content)
    view = TaskView.of(read, task, clock, auditors, spec)
    kind = asked[0] if asked else "rounds"
    frame = _history_frame(kind, view, content, least_pool)
    if format_ is TableFormat.TEXT:
        frame = _in_words(frame, kind)
    told = f", {view.reputation_name}" if view.reputation_model else ""
    print_frame(frame, format_, output, f"Task {task}{told}")


def _in_words(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return a table of one of the kinds of rows as a person reads it."""
    from fedledger.ledger_tools.report.tables import NAMED
    from fedledger.ledger_tools.report.task_view import losses
    from fedledger.protocol.units import in_gwei

    words: dict[str, Callable[[Any], str]] = {}
    if kind == "participants":
        words |= {"refused": counts, "slashed": losses, "checks": counts}
        words |= {"reputation": reputation, "credit": number, "earned": number}
    if kind == "checks":
        words |= {"answered": lambda answered: "yes" if answered else "no", "cost": lambda wei: in_gwei(int(wei))}
        # The state in words says it, and the seed is for programs.
        frame = frame.drop(columns=["outcome", "seed"])
    if kind == "scores":
        words |= dict.fromkeys(NAMED, lambda addresses: ", ".join(address[:8] + "…" for address in addresses))
    if kind == "refusals":
        # The detail says in words what the verdict rests on.
        frame = frame.drop(columns=["signal", "value", "threshold"])
    return frame.assign(**{column: frame[column].map(told) for column, told in words.items()}) if len(frame) else frame


def _settings_of(rpc: str | None, deployment: Path, run_dir: Path | None) -> Settings | None:
    """Return what a ledger was deployed with, by its record; None for ledgers and runs that do not tell."""
    from fedledger.ledger_tools.deploy import Deployment
    from fedledger.storage.foreign_folder import inner_file

    try:
        record = Deployment.read(deployment if run_dir is None or rpc else inner_file(run_dir, "deployment.json"))
    except ConfigError:
        return None
    # Earlier ones knew no pools.
    return record if record.ledger_version >= FIRST_WITH_POOLS else None


def _history_frame(kind: str, view: TaskView, store: ContentStore | None, least_pool: int | None) -> pd.DataFrame:
    """Return a table of a task's rounds, participants, checks or scores, or of updates by the reports in a store."""
    from fedledger.ledger_tools.report.tables import (
        checks_frame,
        contributions_frame,
        participants_frame,
        refusals_frame,
        rounds_frame,
        scores_frame,
    )

    if kind == "refusals" and store is not None:
        return refusals_frame(view.refusals(store))
    if kind == "contributions" and store is not None:
        return contributions_frame(view.contributions(store))
    if kind == "checks":
        return checks_frame(view.checks)
    if kind == "scores":
        return scores_frame(view.scores)
    return participants_frame(view) if kind == "participants" else rounds_frame(view, least_pool)


@ledger_app.command()
def devices(
    run_dir: Annotated[Path, typer.Argument(help="folder of a run whose task has a schedule")],
    rounds: Annotated[
        bool, typer.Option(help="one row per participant and round instead of one per participant")
    ] = False,
    output: OutputOption = None,
    format_: TableFormatOption = TableFormat.TEXT,
) -> None:
    """Show what the participants' devices did in a run: time, energy, bytes, and lost updates."""
    import pandas as pd

    from fedledger.ledger_tools.report.device_tables import by_participant, read_devices

    rows = read_devices(run_dir)
    print_frame(pd.DataFrame(rows if rounds else by_participant(rows)), format_, output, "Devices")


@ledger_app.command()
@expand_options
def withdraw(
    at: SignerOptions,
    role: RoleOption = "participant 0",
    to: Annotated[
        str | None,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="address for the free balance (default: the account itself)",
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Withdraw all that an account is owed.

    Credits go to the participant's payout address, the free balance to the address given with --to.
    """
    from fedledger.ledger_tools.upkeep import withdraw_all
    from fedledger.protocol.units import in_gwei

    ledger = at.open()
    account = at.account(ledger, role)
    paid = withdraw_all(ledger, account, to)
    document = {
        "account": account.address,
        "credits": [{"task": task, "wei": str(wei)} for task, wei in paid.credits.items()],
        "balance": str(paid.balance),
    }
    lines = [f"Task {task}: {in_gwei(wei)} of credit paid to {paid.payout}" for task, wei in paid.credits.items()]
    if paid.balance:
        lines.append(f"{in_gwei(paid.balance)} of free balance paid to {to or account.address}")
    elif not lines:
        lines.append(f"Nothing waits for {account.address}. A stake comes back by `fedledger node exit`.")
    print_result(format_, document, *lines)
