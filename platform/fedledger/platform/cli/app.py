"""The command line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from fedledger.platform.cli.bench import bench_app
from fedledger.platform.cli.console import Format, FormatOption, err, out, print_rows, progress
from fedledger.protocol.errors import ConfigError, ExitCode, FedledgerError
from fedledger.storage.machine import keep_freed_memory

app = typer.Typer(
    name="fedledger",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated learning that anyone can check.\n\nExit codes: 0 done · 1 failure · 2 usage · 3 configuration · "
    "4 chain · 5 store · 6 not reproduced · 7 round · 8 code that is not trusted · 9 keys.",
)
chain_app = typer.Typer(no_args_is_help=True, help="Development chains.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys of accounts.")
task_app = typer.Typer(no_args_is_help=True, help="Tasks.")
node_app = typer.Typer(no_args_is_help=True, help="A participant's program.")
aggregator_app = typer.Typer(no_args_is_help=True, help="An aggregator's program.")
verifier_app = typer.Typer(no_args_is_help=True, help="A verifier's program, and disputes.")
config_app = typer.Typer(no_args_is_help=True, help="Configurations of experiments.")
for name, group in (
    ("chain", chain_app),
    ("keys", keys_app),
    ("task", task_app),
    ("node", node_app),
    ("aggregator", aggregator_app),
    ("verifier", verifier_app),
    ("config", config_app),
    ("bench", bench_app),
):
    app.add_typer(group, name=name)

MAX_SHOWN = 12
NOBODY = "0x" + "00" * 20


class TableFormat(StrEnum):
    """How tables are printed or written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


ChainOption = Annotated[str, typer.Option(help="auto, embedded, anvil, ganache, or the URL of a development chain")]
StoreOption = Annotated[str, typer.Option(help="local, or the multiaddr or URL of an IPFS daemon")]
RpcOption = Annotated[str, typer.Option(help="URL of the chain")]
DeploymentOption = Annotated[Path, typer.Option(help="deployment record, written by `fedledger deploy`")]
TaskOption = Annotated[int, typer.Option("--task", help="the task's id")]
SeedOption = Annotated[int | None, typer.Option(help="replaces the configuration's seed")]
ExperimentSeedOption = Annotated[
    int | None, typer.Option(help="use the experiment's account of this seed (development chains)")
]
RoleOption = Annotated[
    str,
    typer.Option(help="the experiment's account: publisher, aggregator, 'standby N', 'participant N', …"),
]
KeystoreOption = Annotated[Path | None, typer.Option(help="encrypted key, made by `fedledger keys new`")]
PasswordOption = Annotated[
    Path | None, typer.Option(help="file with the key's password; else FEDLEDGER_PASSWORD, else a prompt")
]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", help="show the rounds to tensorboard or mlflow as well; repeatable")
]
TrustOption = Annotated[list[str] | None, typer.Option("--trust-code", help="CID of a task.py that may be run")]


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")],
    chain: ChainOption = "auto",
    store: StoreOption = "local",
    seed: SeedOption = None,
    out_dir: Annotated[Path, typer.Option("--out", help="folder in which the run's folder is made")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="folder of a run that was interrupted")] = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="train only: the same final model, nothing that could be audited")
    ] = False,
    backend: Annotated[str, typer.Option(help="where participants train: pool, serial, batched or ray")] = "pool",
    workers: Annotated[int | None, typer.Option(min=1, help="processes that train; else one a processor")] = None,
    track: TrackOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run an experiment: participants train, commit, reveal; the aggregator judges, pays and remembers.

    The run's folder gets the final model, metrics, the content store, the exported ledger and report.html; without a
    ledger the final model and metrics.
    """
    if no_ledger:
        _without_ledger(config, seed, out_dir, resume, backend, workers, format_, track or ())
        return
    document, _ = _experiment(config, chain, store, seed, out_dir, resume, format_, backend, workers, track or ())
    if format_ is Format.JSON:
        print(json.dumps(document))


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=value,value: every combination is run; training.rounds=10,20", metavar="SET"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="0..9 or 1,5,7: each combination is run with each of them")] = None,
    ledger: Annotated[bool, typer.Option("--ledger/--no-ledger", help="each run with a ledger of its own")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="runs at once; as many as processors unless given")] = None,
    target: Annotated[
        float | None, typer.Option(min=0, max=1, help="also tell the first round with this accuracy")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="folder of the sweep; runs/NAME-sweep unless given")
    ] = None,
    track: TrackOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run a configuration over a grid and seeds, side by side; what its folder has already is not run again.

    The folder gets each run's folder, a table (sweep.json, sweep.csv) and a plot with bands over seeds (sweep.html).
    Killed and started again, it goes on with what is missing. Runs that fail end no other; the exit code is then 1.
    """
    from fedledger.platform.cli.progress import sweeping
    from fedledger.platform.runs.grid import plan_runs
    from fedledger.platform.runs.sweep import run_sweep

    runs = plan_runs(config, sets or [], seeds, ledger)
    where = folder or Path("runs") / f"{runs[0].config.name}-sweep"
    with sweeping(err, len(runs)) as watch:
        result = run_sweep(runs, config.parent, where, ledger, jobs, target, watch, track or ())
    if format_ is Format.JSON:
        print(json.dumps(result.document()))
    else:
        print_rows(result.table(), f"{len(result.done)} runs, {result.found} of them found in {where}")
        out.print(f"Plot: {where / 'sweep.html'}")
    for failure in result.failures:
        text = f"Failed: {failure.run.name}: {failure.reason}"
        err.print(text if failure.details is None else f"{text} ({failure.details})", highlight=False, markup=False)
    if result.failures:
        raise typer.Exit(ExitCode.FAILURE)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs")],
    page: Annotated[Path | None, typer.Option("--out", help="HTML file for table and plot")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put runs beside each other: what differs between their configurations, and what they came to."""
    from fedledger.platform.runs.compare import Comparison

    comparison = Comparison.read(runs)
    if page is not None:
        comparison.write_page(page)
    if format_ is Format.JSON:
        print(json.dumps(comparison.document()))
        return
    print_rows(comparison.table(), f"{len(runs)} runs")
    if page is not None:
        out.print(f"Plot: {page}")


@app.command()
def demo(
    chain: ChainOption = "auto",
    store: StoreOption = "local",
    seed: SeedOption = None,
    out_dir: Annotated[Path, typer.Option("--out", help="folder in which the run's folder is made")] = Path("runs"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run the built-in demonstration, then audit it: ten nodes, three of which attack, learn to read digits."""
    from fedledger.platform.experiment.config import DEMO

    document, folder = _experiment(DEMO, chain, store, seed, out_dir, None, format_)
    result = _audit_folder(folder, store, frozenset(), 1, format_)
    if format_ is Format.JSON:
        print(json.dumps({**document, "audit": result.document()}))
    else:
        out.print(f"Report: [bold]{folder / 'report.html'}[/bold]   Audit again: fedledger audit {folder}")
    if not result.reproduced:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@app.command()
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
        ledger = _open_ledger(rpc, deployment, reading=True)
        with progress("auditing") as watch:
            result = audit_chain(ledger, _open_store(store, Path("store")), task, trusted, watch, jobs or processors())
        _show_audit(result, format_)
    elif run_dir is not None:
        result = _audit_folder(run_dir, store, trusted, task, format_, jobs)
    else:
        raise ConfigError("Nothing to audit.", "Give a run's folder, or --rpc and --deployment.")
    if format_ is Format.JSON:
        print(json.dumps(result.document()))
    if not result.reproduced:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@app.command()
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
    account = _account(chain, keystore, password_file, experiment_seed, "deployer")
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


@task_app.command("post")
def task_post(
    config: Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")],
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    store: StoreOption = "local",
    seed: SeedOption = None,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    aggregator: Annotated[str | None, typer.Option(help="address of the aggregator; else the experiment's")] = None,
    standby: Annotated[
        list[str] | None, typer.Option(help="address of an aggregator that stands by; else the experiment's")
    ] = None,
    token: Annotated[str, typer.Option(help="ERC-20 token of the budget; else the chain's coin")] = NOBODY,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Post a task: store its spec, initial model and validation set, and put its budget in escrow."""
    from dataclasses import replace

    from fedledger.platform.experiment.accounts import PUBLISHER

    ledger = _open_ledger(rpc, deployment)
    setting = _setting(config, seed)
    account = _account(ledger.chain, keystore, password_file, setting.config.seed, PUBLISHER)
    params = setting.task_params(setting.publish(_open_store(store, Path("store"))))
    if aggregator is not None:
        params = replace(params, aggregator=aggregator)
    params = replace(params, token=token)
    if ledger.chain.development:
        ledger.chain.fund(account.address, params.budget + 10**18)
    task = ledger.post_task(account, params, setting.standbys() if standby is None else standby)
    if format_ is Format.JSON:
        print(json.dumps({"task": task, "spec": params.spec.cid, "budget": str(params.budget)}))
    else:
        out.print(f"Task {task} posted; spec {params.spec.cid}")


@node_app.command("start")
def node_start(
    config: Annotated[Path, typer.Argument(help="TOML file that says where this node's data is")],
    rpc: RpcOption,
    participant: Annotated[int, typer.Option(help="number of the part of the data that is this node's, from 0")],
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    store: StoreOption = "local",
    store_dir: Annotated[Path, typer.Option(help="folder of a local store")] = Path("store"),
    journal: Annotated[Path, typer.Option(help="folder in which updates wait to be revealed")] = Path("journal"),
    seed: SeedOption = None,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    poll: Annotated[float, typer.Option(help="seconds between two looks at the ledger")] = 0.5,
) -> None:
    """Take part in a task until it ends. Started again after a crash, a node goes on where it was."""
    from fedledger.aggregator.selection.planner import RoundPlanner
    from fedledger.contracts.ledger.history import History
    from fedledger.node.mailbox_client import HttpMailboxClient
    from fedledger.node.participant import Deed, Participant
    from fedledger.platform.experiment.accounts import participant_role
    from fedledger.storage.base import outlast

    ledger = _open_ledger(rpc, deployment)
    content = _open_store(store, store_dir)
    setting = _setting(config, seed)
    spec = _checked_spec(ledger, content, task, setting)
    account = _account(ledger.chain, keystore, password_file, setting.config.seed, participant_role(participant))
    if ledger.chain.development:
        ledger.chain.fund(account.address, setting.config.ledger.stake_gwei * 10**9 + 2 * 10**18)
    trainer = setting.trainer(participant)
    history = History(ledger)
    post = HttpMailboxClient(history, task)
    base_of = RoundPlanner(content).base_of(history, task, spec, account.address)
    node = Participant(ledger, history, account, task, content, journal / account.address, spec, trainer, post, base_of)
    log = logging.getLogger("fedledger.node")
    while (deed := outlast(node.step)) is not Deed.DONE:
        if deed is Deed.WAITED:
            time.sleep(poll)
        else:
            log.info("%s %s", account.address, deed.value)


@node_app.command("exit")
def node_exit(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    participant: Annotated[int, typer.Option(help="number of the experiment's participant")] = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Leave the ledger: the first call announces it, a later one returns the stake to the account's free balance."""
    from fedledger.platform.experiment.accounts import participant_role

    ledger = _open_ledger(rpc, deployment)
    account = _account(ledger.chain, keystore, password_file, experiment_seed, participant_role(participant))
    record = _own_record(ledger, account)
    if not record.exit_at:
        ledger.request_exit(account)
        record = ledger.participant(record.id)
        done = False
    else:
        ledger.complete_exit(account)
        done = True
    stake = record.stake + record.unbonding
    due = datetime.fromtimestamp(record.exit_at, UTC).isoformat()
    if format_ is Format.JSON:
        print(json.dumps({"participant": record.id, "left": done, "due": due, "stake": str(stake)}))
    elif done:
        out.print(f"{record.owner} has left; {stake} wei wait for `fedledger withdraw`")
    else:
        out.print(f"{record.owner} leaves; call this again from {due} on to get {stake} wei back")


@aggregator_app.command("start")
def aggregator_start(
    config: Annotated[Path, typer.Argument(help="TOML file of the task")],
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    store: StoreOption = "local",
    store_dir: Annotated[Path, typer.Option(help="folder of a local store")] = Path("store"),
    seed: SeedOption = None,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    poll: Annotated[float, typer.Option(help="seconds between two looks at the ledger")] = 0.2,
    patience: Annotated[float, typer.Option(help="seconds to wait for a revealed update that cannot be had")] = 60.0,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT of a batched task's mailbox, for nodes; port 0 picks a free one")
    ] = "127.0.0.1:0",
    public_url: Annotated[
        str | None, typer.Option(help="URL of the mailbox as nodes see it; else from --listen")
    ] = None,
    mailbox_dir: Annotated[Path, typer.Option("--mailbox", help="folder of what nodes left")] = Path("mailbox"),
    standby: Annotated[
        int | None, typer.Option(help="number of the experiment's standby aggregator to be, from 0")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Aggregate a task until it ends. Started again after a crash, an aggregator goes on where it was.

    A standby runs the same program: it deposits its bond, collects what nodes send, and acts when it is its turn.
    """
    from fedledger.aggregator.driver import Act, Aggregator
    from fedledger.aggregator.mailbox.mailbox import Mailbox
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.experiment.accounts import AGGREGATOR, standby_role
    from fedledger.storage.base import outlast

    ledger = _open_ledger(rpc, deployment)
    content = _open_store(store, store_dir)
    setting = _setting(config, seed)
    spec = _checked_spec(ledger, content, task, setting)
    role = AGGREGATOR if standby is None else standby_role(standby)
    account = _account(ledger.chain, keystore, password_file, setting.config.seed, role)
    if ledger.chain.development:
        ledger.chain.fund(account.address, setting.config.ledger.bond_gwei * 10**9 + 10 * 10**18)
    history = History(ledger)
    log = logging.getLogger("fedledger.aggregator")
    with ExitStack() as stack:
        mailbox, url = None, None
        if history.update().task(task).batched:
            # Nodes are answered in another thread, so the mailbox has a history and a store of its own.
            mailbox = Mailbox(ledger, History(ledger), task, mailbox_dir, _open_store(store, store_dir))
            listening = stack.enter_context(_listening(mailbox, listen))
            url = public_url or listening
            log.info("the mailbox is at %s", url)
        measurer = setting.measurer()
        aggregator = Aggregator(ledger, history, account, task, content, spec, measurer, mailbox, patience, url)
        while (step := outlast(aggregator.step)).act is not Act.DONE:
            if step.act is Act.WAITED:
                time.sleep(poll)
            else:
                log.info("%s", step)
    record = history.update().task(task)
    if format_ is Format.JSON:
        print(json.dumps({"task": task, "rounds": len(record.settled), "final_model": record.model.cid}))
    else:
        out.print(f"Task {task} ended after {len(record.settled)} rounds; final model {record.model.cid}")


@verifier_app.command("start")
def verifier_start(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    task: Annotated[
        list[int] | None, typer.Option("--task", help="a task to watch, may be given several times; else all of them")
    ] = None,
    store: StoreOption = "local",
    store_dir: Annotated[Path, typer.Option(help="folder of a local store")] = Path("store"),
    journal: Annotated[Path, typer.Option(help="folder in which votes wait to be revealed")] = Path("votes"),
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    verifier: Annotated[int, typer.Option(help="number of the experiment's verifier")] = 0,
    trust_code: TrustOption = None,
    stake_gwei: Annotated[
        int | None, typer.Option(help="stake to register with; else the least and one juror's penalty")
    ] = None,
    challenge: Annotated[
        bool, typer.Option("--challenge/--no-challenge", help="object to proposals that do not follow, under a bond")
    ] = True,
    appeal: Annotated[
        bool, typer.Option("--appeal/--no-appeal", help="appeal against juries that are wrong, under a bond")
    ] = True,
    patience: Annotated[float, typer.Option(help="seconds to wait for content that cannot be had")] = 60.0,
    poll: Annotated[float, typer.Option(help="seconds between two looks at the ledger")] = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay proposals, object to those that do not follow, and serve on juries, until all watched tasks have ended.

    It registers and enlists if need be. Started again after a crash, it goes on where it was. On juries it serves for
    every task of the ledger; where it cannot measure it abstains, says why, and pays the juror's penalty.
    """
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.verifier.verifier import Duty, Verifier
    from fedledger.platform.experiment.accounts import verifier_role
    from fedledger.platform.experiment.config import GWEI
    from fedledger.storage.base import outlast

    ledger = _open_ledger(rpc, deployment)
    for number in task or ():
        ledger.task(number)
    account = _account(ledger.chain, keystore, password_file, experiment_seed, verifier_role(verifier))
    stake = None if stake_gwei is None else stake_gwei * GWEI
    history, content = History(ledger), _open_store(store, store_dir)
    specs = [known.spec for number, known in history.update().tasks.items() if not task or number in task]
    if specs and not any(map(content.has, specs)):
        raise ConfigError(
            "The store has the spec of no task that is watched.", "Give the --store or --store-dir of its aggregator."
        )
    if ledger.chain.development:
        settings = ledger.settings()
        least = max(settings.min_stake, settings.min_verifier_stake) + settings.juror_penalty
        ledger.chain.fund(account.address, (least if stake is None else stake) + 10 * 10**18)
    program = Verifier(
        ledger=ledger,
        history=history,
        account=account,
        store=content,
        journal=journal,
        tasks=None if not task else frozenset(task),
        trusted=frozenset(trust_code or ()),
        stake=stake,
        challenge=challenge,
        appeal=appeal,
        patience=patience,
    )
    log = logging.getLogger("fedledger.verifier")
    log.info("%s watches %s", account.address, ", ".join(f"task {number}" for number in task or ()) or "all tasks")
    done = dict.fromkeys(Duty, 0)
    while (step := outlast(program.step)).duty is not Duty.DONE:
        done[step.duty] += 1
        if step.duty is Duty.WAITED:
            time.sleep(poll)
        else:
            log.info("%s", step)
    counts = {duty.value: count for duty, count in done.items() if count and duty is not Duty.WAITED}
    if format_ is Format.JSON:
        print(json.dumps({"account": account.address, "done": counts}))
    else:
        out.print(
            f"All watched tasks have ended. {', '.join(f'{k} {n}' for k, n in counts.items()) or 'Nothing to do.'}"
        )


@verifier_app.command("status")
def verifier_status(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show who serves as a verifier, and every dispute: its state, level, juries, votes and bonds."""
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.report.tables import dispute_rows, verifier_rows

    ledger = _open_ledger(rpc, deployment)
    known = History(ledger).update()
    verifiers, disputes = verifier_rows(ledger, known), dispute_rows(ledger, known)
    if format_ is Format.JSON:
        print(json.dumps({"verifiers": verifiers, "disputes": disputes}))
        return
    print_rows(verifiers, "Verifiers")
    print_rows([{k: v for k, v in row.items() if k != "juries"} for row in disputes], "Disputes")
    juries = [{"dispute": row["dispute"], **jury} for row in disputes for jury in row["juries"]]
    for jury in juries:
        for name in ("members", "committed"):
            jury[name] = len(jury[name])
        jury["revealed"] = ", ".join("valid" if vote["valid"] else "invalid" for vote in jury["revealed"])
    print_rows(juries, "Juries")


@verifier_app.command("retire")
def verifier_retire(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    verifier: Annotated[int, typer.Option(help="number of the experiment's verifier")] = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Serve on no more juries; on those that were drawn a verifier still has to vote, so let it run until they end."""
    from fedledger.platform.experiment.accounts import verifier_role

    ledger = _open_ledger(rpc, deployment)
    account = _account(ledger.chain, keystore, password_file, experiment_seed, verifier_role(verifier))
    record = _own_record(ledger, account)
    ledger.retire(account)
    if format_ is Format.JSON:
        print(json.dumps({"participant": record.id, "juries": record.locks}))
    else:
        left = f"It still has to vote on {record.locks} juries." if record.locks else "It was on no jury."
        out.print(f"{record.owner} has retired. {left}")


@task_app.command("finish")
def task_finish(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End a task that is complete, was stopped or lies idle; what it did not spend goes back to its publisher."""
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.experiment.accounts import PUBLISHER

    ledger = _open_ledger(rpc, deployment)
    ledger.finish_task(_account(ledger.chain, keystore, password_file, experiment_seed, PUBLISHER), task)
    refund = History(ledger).update().task(task).refund
    if format_ is Format.JSON:
        print(json.dumps({"task": task, "refund": str(refund)}))
    else:
        out.print(f"Task {task} ended; {refund} wei wait for its publisher's `fedledger withdraw`")


@task_app.command("push")
def task_push(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    task: TaskOption = 1,
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    role: RoleOption = "participant 0",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Push on a task whose aggregators let it lie: settle what is final, or void a round that is overdue.

    Anyone may. Who does an aggregator's work a propose period after it was due earns a small part of its bond.
    """
    from fedledger.contracts.ledger.history import History
    from fedledger.contracts.ledger.records import Phase

    ledger = _open_ledger(rpc, deployment)
    account = _account(ledger.chain, keystore, password_file, experiment_seed, role)
    known = History(ledger).update().task(task)
    before, done, index = ledger.free_balance(account.address, ledger.stake_currency()), "nothing", 0
    due = ledger.settleable(task)
    proposal = known.rounds[due].proposal if due else None
    if proposal is not None:
        done, index, words = "settled", due, known.rounds[due].applied
        while words < len(proposal.verdict_words):
            words = ledger.settle_round(account, task, due, proposal, words)
    elif ledger.phase(task) is Phase.OVERDUE:
        done, index = "voided", max(known.rounds)
        ledger.void_round(account, task, index)
    earned = ledger.free_balance(account.address, ledger.stake_currency()) - before
    if format_ is Format.JSON:
        print(json.dumps({"task": task, "done": done, "round": index, "earned": str(earned)}))
    elif index:
        out.print(f"Round {index} of task {task} {done}; {earned} wei earned")
    else:
        out.print(f"Task {task} is {ledger.phase(task).name.lower()}: there is nothing to push on")


@app.command()
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
    ledger = _open_ledger(rpc, deployment)
    account = _account(ledger.chain, keystore, password_file, experiment_seed, role)
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


@app.command()
def status(
    rpc: RpcOption,
    deployment: DeploymentOption = Path("deployment.json"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say what the chain is, and where each task on the ledger stands."""
    ledger = _open_ledger(rpc, deployment)
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


@app.command()
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
        read = History(_open_ledger(rpc, deployment, reading=True)).update()
    elif run_dir is not None:
        with progress("reading") as watch:
            export = LedgerExport.read(run_dir / LEDGER_FILE)
            read = History().extend(execute(export, lambda done, of: watch("executing blocks", done, of)))
    else:
        raise ConfigError("No ledger was given.", "Give a run's folder, or --rpc and --deployment.")
    frame = (participants_frame if participants else rounds_frame)(read, task)
    _show_frame(frame, format_, output, f"Task {task}")


@app.command()
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
    _show_frame(pd.DataFrame(rows if rounds else by_participant(rows)), format_, output, "Devices")


@chain_app.command("up")
def chain_up(
    kind: Annotated[str, typer.Argument(help="anvil or ganache")] = "anvil",
    port: Annotated[int, typer.Option(help="TCP port on the loopback address")] = 8545,
    state: Annotated[Path | None, typer.Option(help="where the chain keeps its state between starts")] = None,
) -> None:
    """Start a development chain and keep it running until it is interrupted."""
    from fedledger.contracts.chain.development import start_chain

    if kind not in ("anvil", "ganache"):
        raise ConfigError(f"There is no chain {kind!r}.", "Give anvil or ganache.")
    process = start_chain(kind, port, state)  # type: ignore[arg-type]
    out.print(f"{kind} answers at {process.url}; Ctrl-C stops it")
    try:
        process.process.wait()
    except KeyboardInterrupt:
        process.stop()


@keys_app.command("new")
def keys_new(
    path: Annotated[Path, typer.Argument(help="file for the encrypted key")],
    password_file: PasswordOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a key and write it encrypted; the password comes from a file, FEDLEDGER_PASSWORD, or a prompt."""
    from fedledger.platform.experiment.key_store import new_key

    address = new_key(path, password_file)
    if format_ is Format.JSON:
        print(json.dumps({"address": address, "keystore": str(path)}))
    else:
        out.print(f"{address} in {path}")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of configurations."""
    from fedledger.platform.experiment.config import ExperimentConfig

    print(json.dumps(ExperimentConfig.model_json_schema(), indent=1))


@app.command()
def new(name: Annotated[str, typer.Argument(help="folder to make")]) -> None:
    """Write a small project (configuration, task.py with model and data) that runs as it is."""
    from fedledger.platform.experiment.template import new_project

    folder = new_project(Path(name))
    out.print(f"Made {folder}. Run it: fedledger run {folder / 'config.toml'}")


def main() -> None:
    """Run the command line; errors that a user can mend end it with one sentence and their exit code."""
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler(console=err, show_path=False)])
    logging.getLogger("web3").setLevel(logging.WARNING)
    logging.getLogger("eth").setLevel(logging.WARNING)
    keep_freed_memory()
    try:
        app()
    except FedledgerError as error:
        err.print(f"[bold red]Error:[/bold red] {escape(str(error))}", highlight=False)
        sys.exit(int(error.exit_code))


def _experiment(
    path: Path,
    chain: str,
    store: str,
    seed: int | None,
    out_dir: Path,
    resume: Path | None,
    format_: Format,
    backend: str = "pool",
    workers: int | None = None,
    track: Sequence[str] = (),
) -> tuple[dict[str, Any], Path]:
    from fedledger.platform.engine.backends.choose import open_backend
    from fedledger.platform.runs.ledger_run import open_chain, run_with_ledger
    from fedledger.platform.runs.trackers.base import tracking

    setting = _setting(path, seed)
    folder = _run_folder(setting, out_dir, resume, ledger=True)
    with ExitStack() as stack:
        # First: forked processes get none of the threads that come now.
        trains = stack.enter_context(open_backend(backend, setting, workers))
        opened = stack.enter_context(open_chain(chain, folder))
        tracked = stack.enter_context(tracking(track, setting.config, folder))
        content = _open_store(store, folder / "store")
        err.print(f"[bold]{setting.config.name}[/bold] on {opened.capabilities.client} (chain {opened.chain_id})")
        _show_partition(setting, format_)
        with _live() as watch:
            shown = _both(watch, tracked.show)
            document = run_with_ledger(setting, path.parent, folder, opened, content, shown, trains)
        tracked.summary = document
    if format_ is Format.TEXT:
        print_rows(
            [
                {
                    "participant": p["address"],
                    "behaviour": p["behaviour"],
                    "accepted": p["accepted"],
                    "refused": ", ".join(f"{n} {reason}" for reason, n in p["refused"].items()),
                    "reputation": f"{p['reputation'] / 1e6:.3f}",
                    "credit": f"{p['credit']:,}",
                }
                for p in document["participants"]
            ],
            f"{document['rounds']} rounds, test accuracy {document['accuracy']:.1%}",
        )
        if not document["challenge_window"]:
            out.print("No challenge window: this record is of an experiment.")
        out.print(f"Final model {document['final_model']}   gas {document['gas']:,}   {document['seconds']:.1f} s")
        out.print(f"Folder: {folder}")
    return document, folder


def _without_ledger(
    path: Path,
    seed: int | None,
    out_dir: Path,
    resume: Path | None,
    backend: str,
    workers: int | None,
    format_: Format,
    track: Sequence[str],
) -> None:
    from fedledger.platform.runs.plain_run import run_without_ledger
    from fedledger.platform.runs.trackers.base import tracking

    setting = _setting(path, seed)
    folder = _run_folder(setting, out_dir, resume, ledger=False)
    _show_partition(setting, format_)
    rounds = setting.spec.rounds
    with tracking(track, setting.config, folder) as tracked, progress("training") as watch:
        shown = _both(lambda row: watch(f"{row['accuracy']:.1%}", row["round"], rounds), tracked.log)
        document = run_without_ledger(setting, folder, backend, workers, shown)
        tracked.summary = document
    if format_ is Format.JSON:
        print(json.dumps(document))
    else:
        out.print(f"{document['rounds']} rounds, test accuracy {document['accuracy']:.1%}, {document['seconds']:.1f} s")
        out.print(f"Final model {document['final_model']}   folder {folder}")


def _run_folder(setting: Any, out_dir: Path, resume: Path | None, ledger: bool) -> Path:
    from fedledger.platform.experiment.run_files import CHAIN_FILE, CHECKPOINT_FILE

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = resume or out_dir / f"{setting.config.name}-{setting.config.seed}-{stamp}"
    if resume is not None and not resume.is_dir():
        raise ConfigError(f"{resume} is no run's folder.", "Give a folder that `fedledger run` made.")
    if resume is not None and (resume / (CHECKPOINT_FILE if ledger else CHAIN_FILE)).exists():
        other, remedy = ("without", "Add") if ledger else ("with", "Leave out")
        raise ConfigError(f"{resume} is of a run {other} a ledger.", f"{remedy} --no-ledger.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _setting(path: Path, seed: int | None) -> Any:
    from fedledger.platform.experiment.config import load_config
    from fedledger.platform.experiment.experiment import make_experiment

    return make_experiment(load_config(path, seed=seed), path.parent)


def _both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what shows the same to both."""

    def show(what: Any) -> None:
        first(what)
        second(what)

    return show


def _show_partition(setting: Any, format_: Format) -> None:
    from fedledger.platform.cli.progress import heat_map

    table = heat_map(setting.label_counts)
    if format_ is Format.TEXT and table is not None:
        err.print(table)


def _checked_spec(ledger: Any, store: Any, task: int, setting: Any) -> Any:
    from fedledger.protocol.records.spec import MAX_SPEC_BYTES, TaskSpec

    params = ledger.task(task).params
    spec = TaskSpec.decode(store.get(params.spec, MAX_SPEC_BYTES))
    if (params.rounds, params.randomness) != (spec.rounds, int(spec.randomness == "beacon")):
        raise ConfigError(
            f"Task {task} was posted with other rounds or another randomness than its spec has.",
            "Do not take part: no history of it can pass an audit.",
        )
    if spec != setting.spec:
        raise ConfigError(
            f"Task {task} has another spec than this configuration makes.",
            "Use the configuration and seed that the task was posted with.",
        )
    return spec


def _audit_folder(
    folder: Path, store: str, trusted: frozenset[str], task: int, format_: Format, jobs: int | None = None
) -> Any:
    from fedledger.ledger_tools.audit.audit import audit_run
    from fedledger.storage.machine import processors

    with progress("auditing") as watch:
        result = audit_run(folder, _open_store(store, folder / "store"), trusted, task, watch, jobs or processors())
    _show_audit(result, format_)
    return result


def _show_audit(result: Any, format_: Format) -> None:
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


@contextmanager
def _listening(mailbox: Any, where: str) -> Iterator[str]:
    from fedledger.aggregator.mailbox.http_server import serving
    from fedledger.contracts.chain.development import free_port

    host, _, port = where.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{where!r} is no address to listen on.", "Give HOST:PORT, for example 0.0.0.0:8700.")
    number = int(port) or free_port()
    with serving(mailbox, host, number):
        yield f"http://{host}:{number}"


def _open_ledger(rpc: str, deployment: Path, reading: bool = False) -> Any:
    from fedledger.contracts.chain.chain import Chain
    from fedledger.ledger_tools.deploy import Deployment

    return Deployment.read(deployment).open(Chain(rpc), reading)


def _own_record(ledger: Any, account: Any) -> Any:
    participant = ledger.participant_id(account.address)
    if participant is None:
        raise ConfigError(f"{account.address} is no participant of this ledger.", "Give the key of its owner.")
    return ledger.participant(participant)


def _open_store(where: str, folder: Path) -> Any:
    from fedledger.storage.open import open_store

    return open_store(where, folder)


def _account(chain: Any, keystore: Path | None, password_file: Path | None, seed: int | None, role: str) -> Any:
    from fedledger.platform.experiment.accounts import experiment_account
    from fedledger.platform.experiment.key_store import read_key

    if keystore is not None:
        return read_key(keystore, password_file)
    if seed is None:
        raise ConfigError("No account was given.", "Give --keystore, or --experiment-seed on a development chain.")
    return experiment_account(seed, role, chain)


@contextmanager
def _live() -> Iterator[Any]:
    """Show the rounds as they come: live on a terminal, a line each otherwise."""
    columns = ("round", "accuracy", "accepted", "refused", "least to greatest reputation", "gas")
    table = Table(*columns, box=None)

    def row(p: Any) -> list[str]:
        shown = sorted(p.reputations)
        if len(shown) > MAX_SHOWN:
            # The deciles say as much as a line can.
            shown = [shown[round(tenth * (len(shown) - 1) / 10)] for tenth in range(11)]
        reputations = " ".join(f"{reputation / 1e6:.2f}" for reputation in shown)
        return [
            f"{p.round}/{p.rounds}",
            f"{p.accuracy:.3f}",
            str(p.accepted),
            str(p.refused),
            reputations,
            f"{p.gas:,}",
        ]

    if not err.is_terminal:
        err.print(", ".join(columns), highlight=False)
        yield lambda p: err.print("  ".join(row(p)), highlight=False, soft_wrap=True)
        return
    with Live(table, console=err, refresh_per_second=8):
        yield lambda p: table.add_row(*row(p))


def _short(value: Any) -> Any:
    """Shorten a CID so that a table fits a screen."""
    return f"{value[:8]}…{value[-6:]}" if isinstance(value, str) and len(value) > 50 else value


def _show_frame(frame: Any, format_: TableFormat, output: Path | None, title: str) -> None:
    if format_ is TableFormat.PARQUET:
        if output is None:
            raise ConfigError("Parquet cannot be printed.", "Give --output FILE.")
        frame.to_parquet(output)
    elif format_ is TableFormat.TEXT:
        rows = frame.drop(columns="base", errors="ignore").to_dict("records")
        print_rows([{str(key): _short(value) for key, value in row.items()} for row in rows], title)
    else:
        text = frame.to_csv(index=False) if format_ is TableFormat.CSV else frame.to_json(orient="records")
        if output is None:
            print(text)
        else:
            output.write_text(str(text), encoding="utf-8")


if __name__ == "__main__":
    main()
