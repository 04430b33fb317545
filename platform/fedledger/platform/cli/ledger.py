"""Commands that read a ledger, check it and withdraw from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from fedledger.platform.cli.console import Format, FormatOption, TableFormat, out, print_frame, print_rows, progress
from fedledger.platform.cli.context import (
    open_account,
    open_content,
    open_ledger,
)
from fedledger.platform.cli.options import (
    NOBODY,
    DeploymentOption,
    ExperimentSeedOption,
    KeystoreOption,
    PasswordOption,
    RoleOption,
    RpcOption,
    StoreOption,
    TaskOption,
    TrustOption,
)
from fedledger.protocol.errors import ConfigError, ExitCode

ledger_app = typer.Typer()


@ledger_app.command()
def audit(
    run_dir: Annotated[
        Path | None, typer.Argument(help="folder of a run; its exported ledger is executed again")
    ] = None,
    rpc: Annotated[str | None, typer.Option(help="URL of the chain, to audit a live ledger instead")] = None,
    deployment: Annotated[Path | None, typer.Option(help="deployment record of the live ledger")] = None,
    task: TaskOption = 1,
    store: StoreOption = "local",
    trust_code: TrustOption = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="processes that replay rounds; one for each processor unless given")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay a whole training history and name the first thing that does not follow.

    Exit code 0 only if everything is reproduced, 6 if not. A task's own code is run only with --trust-code CID;
    without it the exact layer alone is checked, and the output says so.
    """
    from fedledger.ledger_tools.audit.audit import audit_chain
    from fedledger.storage.machine import processors

    trusted = frozenset(trust_code or ())
    if rpc is not None:
        if deployment is None:
            raise ConfigError("An audit over --rpc needs --deployment.", "Give the deployment record.")
        ledger = open_ledger(rpc, deployment, reading=True)
        with progress("auditing") as watch:
            result = audit_chain(ledger, open_content(store, Path("store")), task, trusted, watch, jobs or processors())
        show_audit(result, format_)
    elif run_dir is not None:
        result = audit_folder(run_dir, store, trusted, task, format_, jobs)
    else:
        raise ConfigError("Nothing to audit.", "Give a run's folder, or --rpc and --deployment.")
    if format_ is Format.JSON:
        print(json.dumps(result.document()))
    if not result.reproduced:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@ledger_app.command()
def deploy(
    rpc: RpcOption,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    min_stake_gwei: Annotated[int, typer.Option(help="least stake of a participant")] = 1_000_000,
    exit_delay: Annotated[int, typer.Option(help="seconds between leaving and the stake's return")] = 86_400,
    min_verifier_stake_gwei: Annotated[int, typer.Option(help="least stake of a verifier")] = 1_000_000,
    juror_penalty_gwei: Annotated[
        int, typer.Option(help="what a juror loses that is silent, or finds what the last jury does not")
    ] = 100_000,
    dispute_period: Annotated[int, typer.Option(help="seconds for each step of a dispute")] = 3600,
    stake_token: Annotated[str, typer.Option(help="ERC-20 token of stakes and bonds; else the chain's coin")] = NOBODY,
    guardian: Annotated[str, typer.Option(help="account that may pause new tasks; else nobody")] = NOBODY,
    predecessor: Annotated[str, typer.Option(help="ledger from which reputations may be taken over")] = NOBODY,
    output: Annotated[Path, typer.Option(help="where the record is written")] = Path("deployment.json"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Deploy the ledger and write a record of it: address, block, code hash, settings."""
    from fedledger.contracts.chain.chain import Chain
    from fedledger.contracts.ledger.records import Settings
    from fedledger.ledger_tools.deploy import deploy as deploy_ledger
    from fedledger.platform.experiment.config import GWEI

    chain = Chain(rpc)
    account = open_account(chain, keystore, password_file, experiment_seed, "deployer")
    if chain.development:
        chain.fund(account.address, 10**18)
    settings = Settings(
        min_stake=min_stake_gwei * GWEI,
        exit_delay=exit_delay,
        min_verifier_stake=min_verifier_stake_gwei * GWEI,
        juror_penalty=juror_penalty_gwei * GWEI,
        dispute_period=dispute_period,
        stake_currency=stake_token,
        guardian=guardian,
        predecessor=predecessor,
    )
    _, record = deploy_ledger(chain, account, settings)
    record.write(output)
    if format_ is Format.JSON:
        print(output.read_text())
    else:
        out.print(f"Deployed at {record.address} in block {record.block}; record: {output}")


@ledger_app.command()
def status(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say what the chain is, and where each task on the ledger stands."""
    ledger = open_ledger(rpc, deployment)
    tasks = []
    for task in range(1, ledger.task_count() + 1):
        record = ledger.task(task)
        tasks.append(
            {
                "task": task,
                "phase": ledger.phase(task).name.lower(),
                "round": record.current_round,
                "settled": record.settled_rounds,
                "rounds": record.params.rounds,
                "enrolled": record.enrolled,
                "spent_units": record.spent_units,
            }
        )
    chain = ledger.chain
    document = {
        "chain": chain.capabilities.client,
        "chain_id": chain.chain_id,
        "block": chain.block_number(),
        "ledger": ledger.address,
        "participants": ledger.participant_count(),
        "tasks": tasks,
    }
    if format_ is Format.JSON:
        print(json.dumps(document))
        return
    out.print(f"{document['chain']}, chain {chain.chain_id}, block {document['block']}, ledger {ledger.address}")
    print_rows(tasks, "Tasks")


@ledger_app.command()
def history(
    run_dir: Annotated[
        Path | None, typer.Argument(help="folder of a run; its exported ledger is executed again")
    ] = None,
    rpc: Annotated[str | None, typer.Option(help="URL of the chain, to read a live ledger instead")] = None,
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    participants: Annotated[bool, typer.Option(help="one row a participant instead of one a round")] = False,
    output: Annotated[Path | None, typer.Option(help="file; needed for parquet")] = None,
    format_: Annotated[TableFormat, typer.Option("--format", help="how the table is written")] = TableFormat.TEXT,
) -> None:
    """Show a task's rounds or participants as a table, CSV, Parquet or JSON."""
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.audit.execute import execute
    from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
    from fedledger.ledger_tools.report.tables import participants_frame, rounds_frame

    if rpc is not None:
        read = History(open_ledger(rpc, deployment, reading=True)).update()
    elif run_dir is not None:
        with progress("reading") as watch:
            export = LedgerExport.read(run_dir / LEDGER_FILE)
            read = History().extend(execute(export, lambda done, of: watch("executing blocks", done, of)))
    else:
        raise ConfigError("No ledger was given.", "Give a run's folder, or --rpc and --deployment.")
    frame = (participants_frame if participants else rounds_frame)(read, task)
    print_frame(frame, format_, output, f"Task {task}")


@ledger_app.command()
def devices(
    run_dir: Annotated[Path, typer.Argument(help="folder of a run whose task has a schedule")],
    rounds: Annotated[bool, typer.Option(help="one row a participant and round instead of one a participant")] = False,
    output: Annotated[Path | None, typer.Option(help="file; needed for parquet")] = None,
    format_: Annotated[TableFormat, typer.Option("--format", help="how the table is written")] = TableFormat.TEXT,
) -> None:
    """Show what the participants' devices did in a run: time, energy and bytes, and what was lost."""
    import pandas as pd

    from fedledger.ledger_tools.report.device_tables import by_participant, read_devices

    rows = read_devices(run_dir)
    print_frame(pd.DataFrame(rows if rounds else by_participant(rows)), format_, output, "Devices")


@ledger_app.command()
def withdraw(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    role: RoleOption = "participant 0",
    to: Annotated[str | None, typer.Option(help="address for the free balance; else the account itself")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Withdraw all that an account is owed: its credits go to its payout address, its free balance where --to says."""
    ledger = open_ledger(rpc, deployment)
    account = open_account(ledger.chain, keystore, password_file, experiment_seed, role)
    participant = ledger.participant_id(account.address)
    credits = {}
    for task in range(1, ledger.task_count() + 1) if participant is not None else ():
        units = ledger.credit(task, participant)
        if units:
            credits[task] = units * ledger.task(task).params.credit_unit
            ledger.withdraw_credit(account, task, participant)
    balance = ledger.free_balance(account.address)
    if balance:
        ledger.withdraw(account, to or account.address)
    if format_ is Format.JSON:
        paid = [{"task": task, "wei": str(wei)} for task, wei in credits.items()]
        print(json.dumps({"account": account.address, "credits": paid, "balance": str(balance)}))
    else:
        for task, wei in credits.items():
            out.print(f"Task {task}: {wei} wei of credit paid to {ledger.participant(participant).payout}")
        out.print(f"{balance} wei of free balance paid to {to or account.address}")


def audit_folder(
    folder: Path, store: str, trusted: frozenset[str], task: int, format_: Format, jobs: int | None = None
) -> Any:
    """Audit the run in a folder and show the result."""
    from fedledger.ledger_tools.audit.audit import audit_run
    from fedledger.storage.machine import processors

    with progress("auditing") as watch:
        result = audit_run(folder, open_content(store, folder / "store"), trusted, task, watch, jobs or processors())
    show_audit(result, format_)
    return result


def show_audit(result: Any, format_: Format) -> None:
    """Print the result of an audit as text."""
    if format_ is Format.JSON:
        return
    verdict = "[bold green]reproduced[/bold green]" if result.reproduced else "[bold red]NOT reproduced[/bold red]"
    out.print(f"Audit of task {result.task} ({escape(result.source)}): {result.rounds} rounds, {verdict}")
    if result.head is not None:
        out.print(f"Newest block: {result.head}; compare it with the chain's own, or with what others were given")
    if result.measured and result.measurements:
        m = result.measurements
        out.print(
            f"Measurements: largest deviation {m['largest_loss']} micro-nats and {m['largest_correct']} examples "
            f"(tolerance {m['tolerance_loss']} and {m['tolerance_correct']})"
        )
    for note in result.notes:
        out.print(note, markup=False)
    if result.first_divergence is not None:
        out.print(f"First divergence: {result.first_divergence}", highlight=False, markup=False)
