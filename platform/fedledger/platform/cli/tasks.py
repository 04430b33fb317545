"""Commands that post, push on and finish tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import ExperimentOptions, KeyOptions, LedgerOptions, SealOptions, SignerOptions
from fedledger.platform.cli.options import NOBODY, RoleOption, StoreOption, TaskOption, expand_options
from fedledger.protocol.errors import ConfigError

task_app = typer.Typer(no_args_is_help=True, help="Tasks.")


@task_app.command("post")
@expand_options
def task_post(
    source: ExperimentOptions,
    at: LedgerOptions,
    key: KeyOptions,
    seal: SealOptions,
    store: StoreOption = "local",
    aggregator: Annotated[
        str | None, typer.Option(help="address of the aggregator (default: the experiment's own)")
    ] = None,
    standby: Annotated[
        list[str] | None,
        typer.Option(help="address of a standby aggregator; repeatable (default: the experiment's own)"),
    ] = None,
    token: Annotated[
        str, typer.Option(help="ERC-20 token of the budget (default: the chain's coin)", show_default=False)
    ] = NOBODY,
    court: Annotated[
        bool,
        typer.Option(
            help="refuse a task without challenge_window or penalty_gwei, in which nobody can dispute a lie, or nobody "
            "pays for one; on development chains such tasks are always posted"
        ),
    ] = True,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Post a task: store its spec, initial model and validation set, and put its budget in escrow.

    With a validation set that is sealed, or opened in blocks, --seal-key names the file of its key, which is made if it
    is not there. Give it to your aggregators and to nobody who takes part.
    """
    from dataclasses import replace
    from pathlib import Path

    from fedledger.platform.experiment.accounts import PUBLISHER
    from fedledger.storage.open import open_store

    ledger = at.open()
    experiment = seal.made(source.open(), ledger.chain)
    terms = experiment.config.ledger
    if court and not ledger.chain.development and not (terms.challenge_window and terms.penalty_gwei):
        raise ConfigError(
            "The task has no challenge_window, or no penalty_gwei: nobody could dispute a lie, or would pay for one.",
            "Set both under [ledger], or give --no-court if that is what you want.",
        )
    params = experiment.task_params(experiment.publish(open_store(store, Path("store"))))
    params = replace(params, aggregator=aggregator or params.aggregator, token=token)
    funds = params.budget + params.seal_deposit + 10**18
    account = key.account(ledger.chain, experiment.config.seed, PUBLISHER, funds)
    task = ledger.post_task(account, params, experiment.standbys() if standby is None else standby)
    document = {"task": task, "spec": params.spec.cid, "budget": str(params.budget)}
    print_result(format_, document, f"Task {task} posted; spec {params.spec.cid}")


@task_app.command("finish")
@expand_options
def task_finish(at: SignerOptions, task: TaskOption = 1, format_: FormatOption = Format.TEXT) -> None:
    """Finish a task that is complete, stopped or idle; its unspent budget returns to its publisher."""
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.experiment.accounts import PUBLISHER

    ledger = at.open()
    ledger.finish_task(at.account(ledger, PUBLISHER), task)
    refund = History(ledger).update().task(task).refund
    line = f"Task {task} is finished; its publisher can collect {refund} wei with `fedledger withdraw`"
    print_result(format_, {"task": task, "refund": str(refund)}, line)


@task_app.command("open")
@expand_options
def task_open(
    at: SignerOptions,
    seal: SealOptions,
    task: TaskOption = 1,
    role: RoleOption = "publisher",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Open the sealed validation set of a task that has ended, so that everybody can check its measurements.

    The publisher does this within the task's seal period, or loses the seal's deposit; anyone with the key may do it
    instead. The publisher alone may do it earlier.
    """
    from fedledger.ledger_tools.upkeep import open_seal
    from fedledger.platform.experiment.kept_validation import experiment_seal_key

    key = seal.read()
    if key is None and at.experiment_seed is not None:
        key = experiment_seal_key(at.experiment_seed)
    if key is None:
        raise ConfigError("No key of the validation set was given.", "Give --seal-key FILE.")
    ledger = at.open()
    done = open_seal(ledger, at.account(ledger, role), task, key)
    line = f"The validation set of task {task} is open{'' if done else '; it was before'}"
    print_result(format_, {"task": task, "opened": done}, line)


@task_app.command("push")
@expand_options
def task_push(
    at: SignerOptions, task: TaskOption = 1, role: RoleOption = "participant 0", format_: FormatOption = Format.TEXT
) -> None:
    """Push on a task whose aggregators are idle: settle a final proposal, or void an overdue round.

    In a task that has ended, the deposit of a seal that was not opened in time is burned. Anyone may do this. Whoever
    does an aggregator's work one propose period after it was due earns a small part of the aggregator's bond.
    """
    from fedledger.ledger_tools.upkeep import Push, push_on

    ledger = at.open()
    pushed = push_on(ledger, at.account(ledger, role), task)
    document = {"task": task, "done": pushed.done, "round": pushed.round, "earned": str(pushed.earned)}
    if pushed.round:
        line = f"Round {pushed.round} of task {task} {pushed.done}; {pushed.earned} wei earned"
    elif pushed.done is Push.FORFEITED:
        line = f"The seal of task {task} was not opened in time; its deposit is burned"
    else:
        line = f"Task {task} is {ledger.phase(task).name.lower()}: there is nothing to push on"
    print_result(format_, document, line)
