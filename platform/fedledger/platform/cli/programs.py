"""Programs that run until a task ends: nodes, aggregators and verifiers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fedledger.platform.cli.console import Format, FormatOption, out, print_rows
from fedledger.platform.cli.context import (
    checked_spec,
    open_account,
    open_content,
    open_experiment,
    open_ledger,
    own_record,
)
from fedledger.platform.cli.options import (
    DeploymentOption,
    ExperimentSeedOption,
    KeystoreOption,
    PasswordOption,
    RpcOption,
    SeedOption,
    StoreOption,
    TaskOption,
    TrustOption,
)
from fedledger.protocol.errors import ConfigError

node_app = typer.Typer(no_args_is_help=True, help="A participant's program.")
aggregator_app = typer.Typer(no_args_is_help=True, help="An aggregator's program.")
verifier_app = typer.Typer(no_args_is_help=True, help="A verifier's program, and disputes.")


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

    ledger = open_ledger(rpc, deployment)
    content = open_content(store, store_dir)
    setting = open_experiment(config, seed)
    spec = checked_spec(ledger, content, task, setting)
    account = open_account(ledger.chain, keystore, password_file, setting.config.seed, participant_role(participant))
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

    ledger = open_ledger(rpc, deployment)
    account = open_account(ledger.chain, keystore, password_file, experiment_seed, participant_role(participant))
    record = own_record(ledger, account)
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

    ledger = open_ledger(rpc, deployment)
    content = open_content(store, store_dir)
    setting = open_experiment(config, seed)
    spec = checked_spec(ledger, content, task, setting)
    role = AGGREGATOR if standby is None else standby_role(standby)
    account = open_account(ledger.chain, keystore, password_file, setting.config.seed, role)
    if ledger.chain.development:
        ledger.chain.fund(account.address, setting.config.ledger.bond_gwei * 10**9 + 10 * 10**18)
    history = History(ledger)
    log = logging.getLogger("fedledger.aggregator")
    with ExitStack() as stack:
        mailbox, url = None, None
        if history.update().task(task).batched:
            # Nodes are answered in another thread, so the mailbox has a history and a store of its own.
            mailbox = Mailbox(ledger, History(ledger), task, mailbox_dir, open_content(store, store_dir))
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

    ledger = open_ledger(rpc, deployment)
    for number in task or ():
        ledger.task(number)
    account = open_account(ledger.chain, keystore, password_file, experiment_seed, verifier_role(verifier))
    stake = None if stake_gwei is None else stake_gwei * GWEI
    history, content = History(ledger), open_content(store, store_dir)
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

    ledger = open_ledger(rpc, deployment)
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

    ledger = open_ledger(rpc, deployment)
    account = open_account(ledger.chain, keystore, password_file, experiment_seed, verifier_role(verifier))
    record = own_record(ledger, account)
    ledger.retire(account)
    if format_ is Format.JSON:
        print(json.dumps({"participant": record.id, "juries": record.locks}))
    else:
        left = f"It still has to vote on {record.locks} juries." if record.locks else "It was on no jury."
        out.print(f"{record.owner} has retired. {left}")


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
