"""Commands that post and end tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, out
from fedledger.platform.cli.context import (
    open_account,
    open_content,
    open_experiment,
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
    SeedOption,
    StoreOption,
    TaskOption,
)

task_app = typer.Typer(no_args_is_help=True, help="Tasks.")


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

    ledger = open_ledger(rpc, deployment)
    setting = open_experiment(config, seed)
    account = open_account(ledger.chain, keystore, password_file, setting.config.seed, PUBLISHER)
    params = setting.task_params(setting.publish(open_content(store, Path("store"))))
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

    ledger = open_ledger(rpc, deployment)
    ledger.finish_task(open_account(ledger.chain, keystore, password_file, experiment_seed, PUBLISHER), task)
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

    ledger = open_ledger(rpc, deployment)
    account = open_account(ledger.chain, keystore, password_file, experiment_seed, role)
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
