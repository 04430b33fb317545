"""Commands that post, push on and finish tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, err, out, print_result
from fedledger.platform.cli.context import KeyOptions, LedgerOptions, SealOptions, SignerOptions
from fedledger.platform.cli.options import (
    MOST_SEED,
    NOBODY,
    RoleOption,
    SeedOption,
    StoreFolderOption,
    StoreOption,
    TaskOption,
    expand_options,
    read_address,
)
from fedledger.platform.cli.participation import open_task
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from fedledger.platform.experiment.config import LedgerConfig
    from fedledger.platform.experiment.task_config import OpenedTask
    from fedledger.platform.experiment.task_price import TaskPrice

task_app = typer.Typer(no_args_is_help=True, help="Tasks.")


TaskArgument = Annotated[
    Path, typer.Argument(help="TOML file of a task, made by `fedledger task draft`, or of an experiment")
]


@task_app.command("draft")
@expand_options
def task_draft(
    data: Annotated[Path, typer.Option(help="your own table: a CSV file with a header, or a folder of such")],
    label: Annotated[str, typer.Option(help="the column to predict")],
    threshold: Annotated[
        float | None, typer.Option(help="make two classes of a label's numbers: at most this, and above it")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="what separates cells")] = ",",
    missing: Annotated[
        list[str] | None, typer.Option(help="a cell that stands for a missing value; repeatable (default: ?)")
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(help="share of the rows that become validation.csv; the others become training.csv"),
    ] = None,
    draw: Annotated[
        int, typer.Option("--hold-out-seed", min=0, max=MOST_SEED, help="decides which rows are held out")
    ] = 0,
    output: Annotated[Path, typer.Option(help="file to write")] = Path("task.toml"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Draft a task from your own table, for you to edit: columns, types, categories, scaling, and usual terms.

    The draft holds means, deviations and medians of columns, rounded, and the names of categories that several rows
    have. It holds no row, and no extreme value.
    """
    from fedledger.learning.schemas.columns import Reading
    from fedledger.learning.schemas.draft import draft_schema
    from fedledger.learning.sources.tables import read_tables
    from fedledger.platform.experiment.task_draft import OwnTable, draft_text, hold_out_rows

    marks = frozenset(missing or ("?",))
    tables = read_tables(data, delimiter)
    draft = draft_schema(tables, Reading(marks), label, threshold)
    if output.exists():
        raise ConfigError(f"{output} exists already.", "Give another file with --output.")
    validation = data
    if hold_out is not None:
        validation, _ = hold_out_rows(tables, hold_out, draw, output.parent)
    own = OwnTable(os.path.relpath(validation, output.parent), "," if hold_out else delimiter, tuple(sorted(marks)))
    output.write_text(draft_text(draft, output, own), encoding="utf-8")
    rows = sum(len(table.rows) for table in tables)
    document = {"file": str(output), "rows": rows, "columns": len(draft.schema.columns), "notes": draft.notes}
    lines = [f"{name or 'a column without a name'}: {note}" for name, note in draft.notes.items()]
    print_result(
        format_,
        document,
        f"{output} has {len(draft.schema.columns)} columns of {data}, drafted from {rows:,} rows. Edit it, then: "
        f"fedledger task check {output} --rpc URL",
        *lines,
    )


@task_app.command("statistics")
@expand_options
def task_statistics(
    config: Annotated[Path, typer.Argument(help="TOML file of a task with a data schema of tables")],
    output: Annotated[Path, typer.Option(help="file to write")] = Path("statistics.toml"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Draft a task that finds out the constants of a task's data schema from its participants, without any row.

    Each number needs the bounds that it cannot leave: least and most. After the rounds of that task, `task constants`
    writes what they found into CONFIG.
    """
    from fedledger.platform.experiment.statistics_draft import statistics_text
    from fedledger.platform.experiment.task_config import read_task_config

    if output.exists():
        raise ConfigError(f"{output} exists already.", "Give another file with --output.")
    text, left_out = statistics_text(read_task_config(config), config)
    output.write_text(text, encoding="utf-8")
    lines = [f"{name}: left out, as it has not both least and most" for name in left_out]
    line = (
        f"{output} is a task that finds out the constants of {config}. Post it: fedledger task post {output} --rpc URL"
    )
    print_result(format_, {"file": str(output), "left_out": left_out}, line, *lines)


@task_app.command("constants")
@expand_options
def task_constants(
    config: Annotated[Path, typer.Argument(help="TOML file of a task with a data schema of tables")],
    at: LedgerOptions,
    task: TaskOption = 1,
    store: StoreOption = "local",
    store_dir: StoreFolderOption = Path("store"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write the constants that a task of statistics found by its last settled round into the data schema of CONFIG.

    Means and deviations have three digits. Categories that most participants do not have are left out. Everybody can
    check them: `fedledger audit` replays the rounds.
    """
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.experiment.posted_task import found_constants
    from fedledger.platform.experiment.statistics_draft import described_table, text_with
    from fedledger.platform.experiment.task_config import read_task_config
    from fedledger.storage.durable_files import write_atomically
    from fedledger.storage.foreign_files import read_text
    from fedledger.storage.open import open_store

    before = read_task_config(config)
    history = History(at.open()).update()
    draft = found_constants(history, open_store(store, store_dir), task, described_table(before, config))
    write_atomically(config, text_with(read_text(config), before, draft, config).encode())
    columns = {column.name: column.model_dump(exclude={"name", "kind", "unit"}) for column in draft.schema.columns}
    lines = [f"{name}: {note}" for name, note in draft.notes.items()]
    settled, rounds = len(history.task(task).counted), history.task(task).params.rounds
    line = (
        f"{config} has the constants of task {task} after {settled:,} of {rounds:,} rounds: {len(columns):,} columns, "
        f"{draft.schema.width:,} inputs"
    )
    document = {"file": str(config), "settled": settled, "rounds": rounds, "columns": columns, "notes": draft.notes}
    print_result(format_, document, line, *lines)


@task_app.command("check")
@expand_options
def task_check(
    config: TaskArgument, at: LedgerOptions, seed: SeedOption = None, format_: FormatOption = Format.TEXT
) -> None:
    """Look whether a task can be posted, and say what it costs whom and how long it takes; nothing is posted."""
    from fedledger.platform.experiment.deployment_terms import require_deployed, require_terms
    from fedledger.platform.experiment.task_price import TaskPrice, validation_counts, validation_lines
    from fedledger.protocol.encoding.cid import ContentRef

    ledger, opened = at.open(), open_task(config, seed)
    task = opened.experiment
    params, settings = task.task_params(ContentRef.of(task.spec.encode())), ledger.settings()
    require_deployed(task.config.ledger, settings)
    require_terms(params, settings, task.config.ledger.standbys)
    price = TaskPrice.of(task.spec, params, ledger.chain.sender.price())
    document = {"spec": params.spec.cid, "validation": validation_counts(opened), "price": price.document()}
    print_result(format_, document, *validation_lines(opened), *price.lines())


@dataclass(frozen=True)
class PostingOptions:
    """Whom a publisher names, and on which terms the task is posted."""

    aggregator: Annotated[
        str | None,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="address of the aggregator (default, on development chains: the experiment's)",
        ),
    ] = None
    standby: Annotated[
        list[str] | None,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="address of a standby aggregator; repeatable (default, on development chains: the experiment's own)",
        ),
    ] = None
    token: Annotated[
        str,
        typer.Option(
            parser=read_address,
            metavar="ADDRESS",
            help="ERC-20 token of the budget (default: the chain's coin)",
            show_default=False,
        ),
    ] = NOBODY
    court: Annotated[
        bool,
        typer.Option(
            help="refuse a task without challenge_window or penalty_gwei, in which nobody can dispute a lie, or nobody "
            "pays for one; on development chains such tasks are always posted"
        ),
    ] = True
    validation_file: Annotated[
        Path | None,
        typer.Option(help="file to write a validation set to that is opened in blocks, for your aggregators"),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", help="post without asking; nobody is asked on development chains")] = (
        False
    )

    def require_strangers_terms(self, terms: LedgerConfig) -> None:
        """Raise ConfigError if a task on a chain that is none for development is not one for strangers."""
        if self.court and not (terms.challenge_window and terms.penalty_gwei):
            raise ConfigError(
                "The task has no challenge_window, or no penalty_gwei: nobody could dispute a lie, or would pay for "
                "one.",
                "Set both under [ledger], or give --no-court if that is what you want.",
            )
        if self.aggregator is None:
            raise ConfigError("No aggregator was named.", "Give the address of the one who aggregates: --aggregator.")
        if terms.standbys and not self.standby:
            raise ConfigError(
                f"standbys under [ledger] is {terms.standbys}, and the keys of the experiment's own are anybody's.",
                "Give the address of each with --standby, or leave standbys out.",
            )


@task_app.command("post")
@expand_options
def task_post(
    config: TaskArgument,
    at: LedgerOptions,
    key: KeyOptions,
    seal: SealOptions,
    posting: PostingOptions,
    seed: SeedOption = None,
    store: StoreOption = "local",
    store_dir: StoreFolderOption = Path("store"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Post a task: say what it costs, store its spec, model and validation set, and put its budget in escrow.

    With a validation set that is sealed, or opened in blocks, --seal-key names the file of its key, which is made if it
    is not there. Give it to your aggregators and to nobody who takes part.
    """
    from dataclasses import replace

    from fedledger.aggregator.reputation.base import require_others
    from fedledger.platform.experiment.accounts import PUBLISHER
    from fedledger.platform.experiment.checked_data import require_named_auditors
    from fedledger.platform.experiment.deployment_terms import require_deployed, require_terms
    from fedledger.platform.experiment.task_price import TaskPrice, validation_lines
    from fedledger.protocol.encoding.cid import ContentRef
    from fedledger.storage.open import open_store

    ledger = at.open()
    opened = open_task(config, seed)
    made = seal.made(opened.experiment, ledger.chain)
    if not ledger.chain.development:
        posting.require_strangers_terms(made.config.ledger)
        require_named_auditors(made.config)
    standbys = posting.standby or made.standbys()
    params = made.task_params(ContentRef.of(made.spec.encode()))
    params = replace(params, aggregator=posting.aggregator or params.aggregator, token=posting.token)
    settings = ledger.settings()
    require_deployed(made.config.ledger, settings)
    require_terms(params, settings, len(standbys))
    price = TaskPrice.of(made.spec, params, ledger.chain.sender.price())
    if not ledger.chain.development:
        _require_consent([*validation_lines(opened), *price.lines()], posting.yes)
    if posting.validation_file is not None:
        posting.validation_file.write_bytes(made.validation.whole)
    funds = params.budget + params.seal_deposit + 10**18
    account = key.account(ledger.chain, made.config.seed, PUBLISHER, funds)
    require_others(made.spec, account.address)
    made.publish(open_store(store, store_dir))
    _print_posted(format_, ledger.post_task(account, params, standbys), opened, price)


def _print_posted(format_: Format, number: int, task: OpenedTask, price: TaskPrice) -> None:
    from fedledger.platform.experiment.task_price import validation_counts, validation_lines

    spec, code = price.params.spec.cid, task.experiment.spec.code
    document = {
        "task": number,
        "spec": spec,
        "code": None if code is None else code.cid,
        "budget": str(price.params.budget),
        "validation": validation_counts(task),
        "price": price.document(),
    }
    program = "scorer" if price.params.scorers and price.params.verifiers_score else "verifier"
    lines = [f"Task {number} posted; spec {spec}", *validation_lines(task), *price.lines()]
    if code is not None:
        lines.append("The task brings code of its own. Read it before you let it run.")
        lines.append(f"A node with data of its own needs trust_code in its configuration; a {program} needs:")
    print_result(format_, document, *lines)
    if code is not None and format_ is Format.TEXT:
        # In one piece, to be copied.
        out.print(f"fedledger {program} start --trust-code {code.cid} …", markup=False, highlight=False, soft_wrap=True)


def _require_consent(terms: Sequence[str], yes: bool) -> None:
    """Ask whether a task is to be posted on its terms, unless that was said."""
    if yes:
        return
    for line in terms:
        err.print(line, markup=False, highlight=False)
    if not sys.stdin.isatty():
        raise ConfigError("The task was not posted: nobody is there to be asked.", "Give --yes if the terms are right.")
    typer.confirm("Post the task?", abort=True, err=True)


@task_app.command("finish")
@expand_options
def task_finish(at: SignerOptions, task: TaskOption = 1, format_: FormatOption = Format.TEXT) -> None:
    """Finish a task that is complete, stopped or idle; its unspent budget returns to its publisher."""
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.experiment.accounts import PUBLISHER
    from fedledger.protocol.units import in_gwei

    ledger = at.open()
    ledger.task(task)
    ledger.finish_task(at.account(ledger, PUBLISHER), task)
    refund = History(ledger).update().task(task).refund
    line = f"Task {task} is finished; its publisher can collect {in_gwei(refund or 0)} with `fedledger withdraw`"
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
    from fedledger.protocol.units import in_gwei

    ledger = at.open()
    pushed = push_on(ledger, at.account(ledger, role), task)
    document = {"task": task, "done": pushed.done, "round": pushed.round, "earned": str(pushed.earned)}
    if pushed.round:
        line = f"Round {pushed.round} of task {task} {pushed.done}; {in_gwei(pushed.earned)} earned"
    elif pushed.done is Push.FORFEITED:
        line = f"The seal of task {task} was not opened in time; its deposit is burned"
    else:
        line = f"Task {task} is {ledger.phase(task).name.lower()}: there is nothing to push on"
    print_result(format_, document, line)
