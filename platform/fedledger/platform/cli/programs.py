"""Programs that run until a task ends: nodes, aggregators and verifiers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_json, print_result, print_rows
from fedledger.platform.cli.context import (
    KeyOptions,
    LedgerOptions,
    NetworkOptions,
    SealOptions,
    SignerOptions,
    StoreOptions,
)
from fedledger.platform.cli.options import (
    MOST_TASKS,
    ExperimentSeedOption,
    NodeArgument,
    PatienceOption,
    PollOption,
    SeedOption,
    TaskOption,
    TrustOption,
    expand_options,
)
from fedledger.platform.cli.participation import AggregationOptions, TrackOptions, experiment_part, read_node_config
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.units import MOST_GWEI

if TYPE_CHECKING:
    from fedledger.aggregator.mailbox.mailbox import Mailbox
    from fedledger.contracts.ledger.client import Ledger
    from fedledger.contracts.ledger.history import History
    from fedledger.node.training import Trainer
    from fedledger.protocol.records.spec import TaskSpec
    from fedledger.storage.addresses import Networks
    from fedledger.storage.base import ContentStore

node_app = typer.Typer(no_args_is_help=True, help="A participant's program.")
aggregator_app = typer.Typer(no_args_is_help=True, help="An aggregator's program.")
verifier_app = typer.Typer(no_args_is_help=True, help="A verifier's program, and disputes.")

MOST_SPECS = 16
"""Watched tasks up to which the store is asked for their specs when a verifier starts."""
MOST_INDEX = 999_999
"""The highest index of an experiment's account."""

VerifierOption = Annotated[int, typer.Option(min=0, max=MOST_INDEX, help="index of the experiment's verifier (from 0)")]


@dataclass(frozen=True)
class MailboxOptions:
    """Where a batched task's mailbox is, to which nodes send signed commitments and updates."""

    listen: Annotated[
        str, typer.Option(help="HOST:PORT on which a batched task's mailbox listens; port 0 picks a free one")
    ] = "127.0.0.1:0"
    public_url: Annotated[
        str | None, typer.Option(help="URL at which nodes reach the mailbox (default: that of --listen)")
    ] = None
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="IP address of a reverse proxy before the mailbox, which has to limit clients; repeatable"),
    ] = None
    mailbox_dir: Annotated[
        Path, typer.Option("--mailbox", help="folder in which the mailbox keeps what nodes send")
    ] = Path("mailbox")

    @contextmanager
    def serving(self, mailbox: Mailbox, networks: Networks) -> Iterator[str]:
        """Serve a mailbox, and give the URL at which nodes reach it; raises ConfigError if they may not."""
        from fedledger.storage.addresses import read_url

        with _listening(mailbox, self.listen, self.proxy or ()) as listening:
            url = self.public_url or listening
            networks.require(read_url(url))
            logging.getLogger("fedledger.aggregator").info("the mailbox is at %s", url)
            yield url


@dataclass(frozen=True)
class VerifierOptions:
    """What a verifier watches and how far it goes."""

    task: Annotated[
        list[int] | None,
        typer.Option("--task", min=1, max=MOST_TASKS, help="id of a task to watch; repeatable (default: all tasks)"),
    ] = None
    verifier: VerifierOption = 0
    trust_code: TrustOption = None
    journal: Annotated[Path, typer.Option(help="folder that keeps votes until they are revealed")] = Path("votes")
    stake_gwei: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_GWEI, help="stake to register with (default: the minimum plus one juror penalty)"),
    ] = None
    jobs: Annotated[int, typer.Option(min=1, max=64, help="rounds to replay at once, each in a process of its own")] = 2
    memory_mb: Annotated[
        int | None,
        typer.Option(min=64, max=2**24, help="MiB of memory for each (default: 3/4 of the machine's, shared)"),
    ] = None
    challenge: Annotated[
        bool, typer.Option("--challenge/--no-challenge", help="dispute wrong proposals, which takes a bond")
    ] = True
    appeal: Annotated[
        bool, typer.Option("--appeal/--no-appeal", help="appeal against wrong juries, which takes a bond")
    ] = True


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
    poll: PollOption = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take part in a task until it ends, or until `node leave`. A node that is restarted continues where it stopped.

    CONFIG says where the node's own data are; everything else comes from the ledger and the store. It may instead be an
    experiment's configuration: then the node has the data of the experiment's --participant. At the end the node says
    what it earned, what was refused and why, and how to collect the money.
    """
    from dataclasses import asdict

    from fedledger.aggregator.selection.planner import RoundPlanner
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.report.own_account import OwnAccount
    from fedledger.node.mailbox_client import HttpMailboxClient
    from fedledger.node.participant import Participant
    from fedledger.platform.experiment.accounts import participant_role
    from fedledger.platform.experiment.posted_task import read_spec
    from fedledger.storage.locks import only_copy

    key.require_one(experiment_seed)
    ledger, store = at.open(), content.open()
    spec = read_spec(ledger, store, task)
    given = experiment_part(config, seed, participant)
    if given is None:
        trainer, seed = _own_trainer(config, spec, store), experiment_seed
    else:
        trainer, seed = given.trainer(ledger, store, task), given.seed
    funds = ledger.task(task).params.min_stake + 2 * 10**18
    account = key.account(ledger.chain, seed, participant_role(participant), funds)
    history = History(ledger)
    access = TaskAccess(ledger, history, account, store, task, spec)
    mailbox = HttpMailboxClient(history, task, network.open(ledger.chain, at.rpc, content.store))
    base_of = RoundPlanner(store).base_of(history, task, spec, account.address)
    with only_copy(journal / account.address, "-".join(map(str, access.place)), "node"):
        node = Participant(access, journal / account.address, trainer, mailbox, base_of, rejoins=rejoin)
        ended = tracker.run(node, access, poll, "node")
    own = OwnAccount.of(history.update(), store, task, account.address)
    if own is not None:
        lines = own.lines() if ended else own.lines()[:2]
        print_result(format_, {"task": task, "ended": ended, **asdict(own)}, *lines)


def _own_trainer(path: Path, spec: TaskSpec, store: ContentStore) -> Trainer:
    """Return what trains on the data that a node's configuration names, once they were seen to fit the task."""
    from fedledger.learning.posted_model import PostedModel
    from fedledger.node.own_data import fit_own_data
    from fedledger.node.own_training import own_trainer
    from fedledger.platform.experiment.posted_task import read_data_schema

    config = read_node_config(path)
    fit = fit_own_data(config.data, path.parent, read_data_schema(spec, store))
    log = logging.getLogger("fedledger.node")
    for misfit in fit.misfits:
        if not misfit.is_serious:
            log.warning("%s", misfit)
    examples, posted = fit.required(), PostedModel.read(spec, store, frozenset(config.trust_code))
    log.info("%s has %s examples", path, f"{len(examples):,}")
    return own_trainer(posted, posted.objective.prepared(examples), config.device)


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

    What does not fit is listed, first of all what keeps the node from taking part; then the exit code is 3.
    """
    from fedledger.learning.posted_model import PostedModel
    from fedledger.node.own_data import fit_own_data
    from fedledger.node.own_training import own_trainer
    from fedledger.platform.experiment.posted_task import read_data_schema, read_spec

    ledger, store = at.open(), content.open()
    spec, own = read_spec(ledger, store, task), read_node_config(config)
    fit = fit_own_data(own.data, config.parent, read_data_schema(spec, store))
    if fit.examples is not None:
        posted = PostedModel.read(spec, store, frozenset(own.trust_code))
        own_trainer(posted, posted.objective.prepared(fit.examples), own.device)
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
        print_json({"task": task, "fits": fit.examples is not None, "examples": fit.count, "findings": rows})
    else:
        if rows:
            print_rows(rows, f"What does not fit, or looks wrong, in {config}")
        state = "fit" if fit.examples is not None else "do not fit"
        print_result(format_, {}, f"{fit.count:,} examples, which {state} the task.")
    if fit.examples is None:
        raise typer.Exit(ExitCode.CONFIG)


@aggregator_app.command("start")
@expand_options
def aggregator_start(
    at: LedgerOptions,
    content: StoreOptions,
    key: KeyOptions,
    post: MailboxOptions,
    network: NetworkOptions,
    seal: SealOptions,
    given: AggregationOptions,
    tracker: TrackOptions,
    task: TaskOption = 1,
    standby: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_INDEX, help="act as the experiment's standby aggregator of this index (from 0)"),
    ] = None,
    poll: PollOption = 0.2,
    patience: PatienceOption = 60.0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Aggregate a task until it ends. An aggregator that is restarted continues where it stopped.

    It needs nobody's training data: spec, model and validation set come from the ledger and the store. A standby runs
    the same program: it deposits its bond, collects what nodes send, and acts when it is its turn. Where the task's
    validation set is sealed, the aggregator has its key, and opens it when the task has ended.
    """
    from fedledger.aggregator.driver import Aggregator
    from fedledger.aggregator.mailbox.mailbox import Mailbox
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.upkeep import open_seal
    from fedledger.platform.experiment.accounts import AGGREGATOR, standby_role
    from fedledger.platform.experiment.posted_task import read_spec
    from fedledger.storage.locks import only_copy

    key.require_one(given.experiment_seed)
    ledger, store = at.open(), content.open()
    spec = read_spec(ledger, store, task)
    aggregation = given.open(ledger, store, spec, seal)
    role = AGGREGATOR if standby is None else standby_role(standby)
    funds = ledger.task(task).params.bond + 10 * 10**18
    account = key.account(ledger.chain, aggregation.seed, role, funds)
    history = History(ledger)
    access = TaskAccess(ledger, history, account, store, task, spec)
    with ExitStack() as stack:
        name = "-".join(map(str, (*access.place, account.address)))
        stack.enter_context(only_copy(post.mailbox_dir, name, "aggregator"))
        box, url = None, None
        if history.update().task(task).batched:
            # Nodes are answered in another thread, so the mailbox has a history and a store of its own.
            box = Mailbox(ledger, History(ledger).update(), task, post.mailbox_dir, content.open())
            url = stack.enter_context(post.serving(box, network.open(ledger.chain)))
        posted = aggregation.posted
        aggregator = Aggregator(access, posted.measurer(), box, patience, url, posted.trusted_update)
        ended = tracker.run(aggregator, access, poll, "aggregator")
    if ended and aggregation.seal_key is not None and any(spec.seal_digest):
        open_seal(ledger, account, task, aggregation.seal_key)
    record = history.update().task(task)
    rounds, final = len(record.settled), record.model.cid if ended else None
    line = f"Task {task} ended after {rounds} rounds; final model {final}"
    if not ended:
        line = f"Task {task} has not ended; {rounds} rounds are settled"
    print_result(format_, {"task": task, "ended": ended, "rounds": rounds, "final_model": final}, line)


@verifier_app.command("start")
@expand_options
def verifier_start(
    at: SignerOptions,
    content: StoreOptions,
    options: VerifierOptions,
    patience: PatienceOption = 60.0,
    poll: PollOption = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay proposals, dispute those that do not follow, and serve on juries, until all watched tasks have ended.

    The verifier registers and enlists itself if need be; when restarted, it continues where it stopped. It serves the
    watched tasks that it can judge, on whose juries it may be drawn, and logs why it does not serve others.
    """
    from fedledger.contracts.ledger.access import Access
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.verifier.context import Service
    from fedledger.ledger_tools.verifier.verifier import Verifier
    from fedledger.platform.cli.watcher import run_program
    from fedledger.platform.experiment.accounts import verifier_role
    from fedledger.protocol.encoding.cid import MIB
    from fedledger.protocol.units import GWEI
    from fedledger.storage.locks import only_copy

    ledger = at.open()
    watched = options.task or []
    for number in watched:
        ledger.task(number)
    stake = None if options.stake_gwei is None else options.stake_gwei * GWEI
    needed = _least_stake(ledger) if stake is None else stake
    account = at.account(ledger, verifier_role(options.verifier), needed + 10 * 10**18)
    history, store = History(ledger), content.open()
    _require_specs(history, store, watched)
    service = Service(
        tasks=frozenset(watched) or None,
        trusted=frozenset(options.trust_code or ()),
        stake=stake,
        challenge=options.challenge,
        appeal=options.appeal,
        patience=patience,
        jobs=options.jobs,
        memory=None if options.memory_mb is None else options.memory_mb * MIB,
    )
    log = logging.getLogger("fedledger.verifier")
    log.info("%s watches %s", account.address, ", ".join(f"task {number}" for number in watched) or "all tasks")
    name = f"{ledger.chain.chain_id}-{ledger.address}-{account.address}"
    with only_copy(options.journal, name, "verifier"):
        program = Verifier(Access(ledger, history, account, store), service, options.journal)
        try:
            ended, counts = run_program(program, poll, "verifier")
        finally:
            program.close()
    actions = ", ".join(f"{name} {count}" for name, count in counts.items()) or "There was nothing to do."
    state = "All watched tasks have ended." if ended else "Not all watched tasks have ended."
    print_result(format_, {"account": account.address, "ended": ended, "done": counts}, f"{state} {actions}")


def _least_stake(ledger: Ledger) -> int:
    """Return the least stake, in wei, with which a verifier can serve on a jury."""
    settings = ledger.settings()
    return max(settings.min_stake, settings.min_verifier_stake) + settings.juror_penalty


def _require_specs(history: History, store: ContentStore, watched: Sequence[int]) -> None:
    """Raise ConfigError if the store has the spec of none of the watched tasks; with none named, all are watched."""
    specs = [known.spec for number, known in history.update().tasks.items() if not watched or number in watched]
    if not 0 < len(specs) <= MOST_SPECS:
        return
    # At the same time, as a stranger's may not come at all.
    with ThreadPoolExecutor(len(specs)) as pool:
        if not any(pool.map(store.has, specs)):
            raise ConfigError(
                "The store has the spec of none of the watched tasks.",
                "Give the --store or --store-dir of an aggregator.",
            )


@verifier_app.command("status")
@expand_options
def verifier_status(at: LedgerOptions, format_: FormatOption = Format.TEXT) -> None:
    """Show who serves as a verifier, and every dispute: its state, level, juries, votes and bonds."""
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.report.tables import dispute_cells, dispute_rows, jury_rows, verifier_rows
    from fedledger.protocol.units import in_gwei

    ledger = at.open()
    known = History(ledger).update()
    verifiers, disputes = verifier_rows(ledger, known), dispute_rows(ledger, known)
    if format_ is Format.JSON:
        print_json({"verifiers": verifiers, "disputes": disputes})
        return
    print_rows([row | {"stake": in_gwei(int(row["stake"]))} for row in verifiers], "Verifiers")
    print_rows([dispute_cells(row) for row in disputes], "Disputes")
    print_rows(jury_rows(disputes), "Juries")


@verifier_app.command("retire")
@expand_options
def verifier_retire(at: SignerOptions, verifier: VerifierOption = 0, format_: FormatOption = Format.TEXT) -> None:
    """Serve no task any more. Keep the verifier running until the juries that were called by now have decided."""
    from fedledger.ledger_tools.upkeep import own_record
    from fedledger.platform.experiment.accounts import verifier_role

    ledger = at.open()
    account = at.account(ledger, verifier_role(verifier))
    record = own_record(ledger, account)
    ledger.retire(account)
    left = f"It still has to vote on {record.locks} juries." if record.locks else "It is on no jury."
    document = {"participant": record.id, "juries": record.locks}
    print_result(format_, document, f"{record.owner} has retired. {left}")


@contextmanager
def _listening(mailbox: Mailbox, where: str, proxies: Sequence[str]) -> Iterator[str]:
    from fedledger.aggregator.mailbox.connections import Connections, client_of
    from fedledger.aggregator.mailbox.http_server import serving

    host, _, port = where.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise ConfigError(f"{where!a} is not an address to listen on.", "Give HOST:PORT, for example 0.0.0.0:8700.")
    connections = Connections(proxies=frozenset(map(client_of, proxies)))
    with serving(mailbox, host.strip("[]"), int(port), connections) as number:
        yield f"http://{host}:{number}"
