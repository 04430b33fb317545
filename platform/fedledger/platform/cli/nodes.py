"""A participant's program, and what a participant does besides: it offers rows, leaves a task or the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_json, print_result, print_rows
from fedledger.platform.cli.context import (
    KeyOptions,
    LedgerOptions,
    NetworkOptions,
    SignerOptions,
    StoreOptions,
    open_ledger,
)
from fedledger.platform.cli.options import (
    MOST_INDEX,
    DeploymentOption,
    ExperimentSeedOption,
    NodeArgument,
    PollOption,
    SeedOption,
    TaskOption,
    expand_options,
    read_role,
)
from fedledger.platform.cli.participation import OwnPart, TrackOptions, experiment_part, read_node_config
from fedledger.protocol.errors import ChainError, ConfigError, ExitCode
from fedledger.protocol.units import MOST_GWEI

if TYPE_CHECKING:
    from fedledger.protocol.records.data_schema import DataSchema

node_app = typer.Typer(no_args_is_help=True, help="A participant's program.")

ParticipantOption = Annotated[
    int, typer.Option(min=0, max=MOST_INDEX, help="index of the experiment's participant (from 0)")
]


BidOption = Annotated[
    list[str] | None,
    typer.Option(help="NAME=NUMBER, what it reports in bidding rounds; once for each name; before those of CONFIG"),
]


@node_app.command("start")
@expand_options
def node_start(
    config: NodeArgument,
    at: LedgerOptions,
    content: StoreOptions,
    key: KeyOptions,
    network: NetworkOptions,
    tracker: TrackOptions,
    participant: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_INDEX,
            help="index of the experiment's participant (from 0), whose part and account this node has",
        ),
    ] = 0,
    seed: SeedOption = None,
    experiment_seed: ExperimentSeedOption = None,
    task: TaskOption = 1,
    journal: Annotated[Path, typer.Option(help="folder that keeps updates until they are revealed")] = Path("journal"),
    rejoin: Annotated[
        bool, typer.Option("--rejoin", help="enrol again in a task of open enrolment that this participant has left")
    ] = False,
    bid: BidOption = None,
    poll: PollOption = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take part in a task until it ends, or until `node leave`. A node that is restarted continues where it stopped.

    CONFIG says where the node's own data are; everything else comes from the ledger and the store. It may instead be an
    experiment's configuration: then the node has the data of the experiment's --participant. At the end the node says
    what it earned, what was refused and why, and how to collect the money.
    """
    from fedledger.aggregator.selection.planner import RoundPlanner
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.report.own_account import OwnAccount
    from fedledger.node.mailbox_client import HttpMailboxClient
    from fedledger.node.own_examples import asked_by_checks
    from fedledger.node.participant import Participant
    from fedledger.platform.experiment.accounts import participant_role
    from fedledger.platform.experiment.posted_task import read_spec
    from fedledger.storage.locks import only_copy

    key.require_one(experiment_seed)
    bids = _bids(bid or ())
    ledger, store = at.open(), content.open()
    spec = read_spec(ledger, store, task)
    part = experiment_part(config, seed, participant) or OwnPart.read(config, spec, store, experiment_seed, "node")
    trainer = part.trainer(ledger, store, task)
    params = ledger.task(task).params
    if (asked := asked_by_checks(spec, params)) is not None:
        logging.getLogger("fedledger.node").warning("%s", asked)
    account = key.account(ledger.chain, part.seed, participant_role(participant), params.min_stake + 2 * 10**18)
    history = History(ledger)
    access = TaskAccess(ledger, history, account, store, task, spec)
    mailbox = HttpMailboxClient(history, task, network.open(ledger.chain, at.rpc, content.store))
    base_of = RoundPlanner(store).base_of(history, task, spec, account.address)
    with only_copy(journal / account.address, "-".join(map(str, access.place)), "node"):
        node = Participant(access, journal / account.address, trainer, mailbox, base_of, rejoins=rejoin)
        node.updates.bidder = part.bidder(spec, bids)
        if params.scorers and not params.verifiers_score:
            node.score_with(part.scorer(bytes(account.key)))
        ended = tracker.run(node, access, poll, "node")
    if (own := OwnAccount.of(history.update(), store, task, account.address, ledger)) is not None:
        lines = own.lines() if ended else own.lines()[:2]
        print_result(format_, {"task": task, "ended": ended, **asdict(own)}, *lines)


def _bids(given: Sequence[str]) -> dict[str, int]:
    """Return what --bid gives, by name."""
    told = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            told[name] = int(number)
        except ValueError as error:
            raise ConfigError(f"--bid {each!r:.60} is no NAME=NUMBER.", "For example: --bid cost=12.") from error
    return told


@node_app.command("check")
@expand_options
def node_check(
    config: NodeArgument,
    at: LedgerOptions,
    content: StoreOptions,
    task: TaskOption = 1,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Look how a node's own data fit a task, before any stake is at risk; nothing leaves this machine.

    What does not fit is listed, first of all what keeps the node from taking part; then the exit code is 3. With spot
    checks it says who sees what, what a failed one costs (as JSON `check_penalty`, in wei), and how soon a node has to
    answer (`answer_within`, in seconds).
    """
    from fedledger.node.bidding import asked_by_reports
    from fedledger.node.own_examples import asked_by_checks, own_examples, seen_by_auditors
    from fedledger.platform.experiment.posted_task import read_data_schema, read_spec

    ledger, store = at.open(), content.open()
    spec, own = read_spec(ledger, store, task), read_node_config(config)
    params = ledger.task(task).params
    found = own_examples(own, config.parent, read_data_schema(spec, store), spec, store)
    fit = found.fit
    if fit.examples is not None:
        found.trainer(own.device)
    rows = [
        {
            "column": misfit.column,
            "serious": misfit.is_serious,
            "problem": misfit.problem,
            "remedy": misfit.remedy,
        }
        for misfit in sorted(fit.misfits, key=lambda each: not each.is_serious)
    ]
    if format_ is Format.JSON:
        told = {
            "fits": fit.examples is not None,
            "examples": fit.count,
            "held_out": found.left_out,
            "published": found.published,
            "seen_by_auditors": seen_by_auditors(spec),
            "check_penalty": str(params.check_penalty),
            "answer_within": 2 * params.check_period,
            "report": [number.model_dump() for number in spec.report],
        }
        print_json({"task": task, **told, "findings": rows})
    else:
        if rows:
            print_rows(rows, f"What does not fit, or looks wrong, in {config}")
        state = "fit" if fit.examples is not None else "do not fit"
        asked = asked_by_checks(spec, params), asked_by_reports(spec, own.bids)
        told_of = " ".join(filter(None, (found.published, *asked)))
        print_result(format_, {}, f"{fit.count:,} examples, which {state} the task. {told_of}".rstrip())
    if fit.examples is None:
        raise typer.Exit(ExitCode.CONFIG)


@dataclass(frozen=True)
class SchemaOptions:
    """A task's data schema: that of a file, or of a posted task."""

    draft: Annotated[
        Path | None, typer.Option(help="TOML file of a task that is not posted yet, from its publisher")
    ] = None
    rpc: Annotated[str | None, typer.Option(help="URL of the chain's JSON-RPC endpoint, for a posted task")] = None
    deployment: DeploymentOption = Path("deployment.json")
    task: TaskOption = 1

    def read(self, content: StoreOptions) -> DataSchema | None:
        """Return the schema, if the task has one; raises ConfigError unless one task was named."""
        from fedledger.platform.experiment.posted_task import read_data_schema, read_spec
        from fedledger.platform.experiment.task_config import read_task_config

        if (self.draft is None) == (self.rpc is None):
            raise ConfigError("Name one task.", "Give --draft TASK.toml of a drafted one, or --rpc and --task.")
        if self.draft is not None:
            return read_task_config(self.draft).data_schema
        ledger, store = open_ledger(self.rpc or "", self.deployment), content.open()
        return read_data_schema(read_spec(ledger, store, self.task), store)


@node_app.command("offer")
@expand_options
def node_offer(
    config: NodeArgument,
    examples: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many rows to offer")],
    named: SchemaOptions,
    content: StoreOptions,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write rows of your own table that you offer for a task's validation set, which everybody may be able to read.

    They are drawn at random, of each class its share, and written to a new file in the folder `offered` beside CONFIG,
    in the task's names of columns. Give the file to the publisher, and leave it where it is: this node does not train
    on its rows.
    """
    from fedledger.node.own_examples import offer_rows
    from fedledger.platform.experiment.task_validation import class_counts, told_classes

    path, offered = offer_rows(read_node_config(config), config.parent, named.read(content), examples)
    counts = class_counts(offered.targets)
    line = f"{path} has {len(offered):,} rows{told_classes(counts)}. Give it to the publisher, and leave it there."
    print_result(format_, {"file": str(path), "examples": len(offered), "classes": counts}, line)


@node_app.command("leave")
@expand_options
def node_leave(
    at: SignerOptions,
    participant: ParticipantOption = 0,
    task: TaskOption = 1,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Leave a task of open enrolment. Later rounds do not ask the participant any more.

    Rounds that are open still do: leave the node running until it ends by itself.
    """
    from fedledger.ledger_tools.upkeep import leave_task
    from fedledger.platform.experiment.accounts import participant_role

    ledger = at.open()
    account = at.account(ledger, participant_role(participant))
    left = leave_task(ledger, account, task)
    lines = [f"{account.address} has left task {task}."]
    if left.last_round:
        lines.append(f"Round {left.last_round} still asks it: let its node run until that is final.")
    if left.enrolled < left.least:
        lines.append(
            f"The task has {left.enrolled} of the {left.least} participants that each round needs: it waits for "
            "others, and ends if nobody comes."
        )
    print_result(format_, {"task": task, "address": account.address, **asdict(left)}, *lines)


@node_app.command("stake")
@expand_options
def node_stake(
    at: SignerOptions,
    add_gwei: Annotated[int, typer.Option(min=1, max=MOST_GWEI, help="how much to add to the stake")],
    participant: ParticipantOption = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Add to the stake of a participant, such as after a penalty; it is taken from the account.

    As JSON the stake is wei, in text, as with `node exit`.
    """
    from fedledger.ledger_tools.upkeep import own_record
    from fedledger.platform.experiment.accounts import participant_role
    from fedledger.protocol.units import GWEI, in_gwei

    ledger = at.open()
    account = at.account(ledger, participant_role(participant), add_gwei * GWEI + 10**18)
    own_record(ledger, account)
    ledger.add_stake(account, add_gwei * GWEI)
    record = own_record(ledger, account)
    line = f"{record.owner} has a stake of {in_gwei(record.stake)}"
    print_result(format_, {"participant": record.id, "stake": str(record.stake)}, line)


@node_app.command("exit")
@expand_options
def node_exit(
    at: SignerOptions,
    participant: ParticipantOption = 0,
    role: Annotated[
        str | None,
        typer.Option(
            parser=read_role,
            metavar="ROLE",
            help="another account of the experiment that leaves, such as 'verifier 0'; instead of --participant",
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Leave the ledger.

    The first call requests the exit; one made after the exit delay returns the stake to the account's free balance.
    """
    from fedledger.ledger_tools.upkeep import own_record
    from fedledger.platform.experiment.accounts import participant_role
    from fedledger.protocol.units import in_gwei, shown_time

    ledger = at.open()
    account = at.account(ledger, participant_role(participant) if role is None else role)
    record = own_record(ledger, account)
    if not record.exit_at:
        ledger.request_exit(account)
        record = ledger.participant(record.id)
        done = False
    else:
        if ledger.chain.now() < record.exit_at:
            raise ChainError(
                f"{record.owner} is leaving already, and gets its stake back from {shown_time(record.exit_at)} on.",
                "Run this again then; the chain's time counts.",
            )
        ledger.complete_exit(account)
        done = True
    stake = record.stake + record.unbonding
    due = datetime.fromtimestamp(record.exit_at, UTC).isoformat()
    if done:
        line = f"{record.owner} has left; {in_gwei(stake)} can be collected with `fedledger withdraw`"
    else:
        line = f"{record.owner} is leaving; run this again after {due} to get {in_gwei(stake)} back"
    print_result(format_, {"participant": record.id, "left": done, "due": due, "stake": str(stake)}, line)
