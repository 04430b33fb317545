"""An aggregator's program, with its mailbox."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import (
    KeyOptions,
    LedgerOptions,
    NetworkOptions,
    SealOptions,
    StoreOptions,
)
from fedledger.platform.cli.options import (
    MOST_INDEX,
    PatienceOption,
    PollOption,
    TaskOption,
    expand_options,
)
from fedledger.platform.cli.participation import AggregationOptions, TrackOptions
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from fedledger.aggregator.mailbox.mailbox import Mailbox
    from fedledger.storage.addresses import Networks

aggregator_app = typer.Typer(no_args_is_help=True, help="An aggregator's program.")


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
