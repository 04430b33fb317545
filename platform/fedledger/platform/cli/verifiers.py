"""A verifier's program, and disputes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_json, print_result, print_rows
from fedledger.platform.cli.context import (
    LedgerOptions,
    SignerOptions,
    StoreOptions,
)
from fedledger.platform.cli.options import (
    MOST_INDEX,
    MOST_TASKS,
    PatienceOption,
    PollOption,
    TrustOption,
    expand_options,
)
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.units import GWEI, MOST_GWEI

if TYPE_CHECKING:
    from fedledger.contracts.ledger.client import Ledger
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.verifier.context import Service
    from fedledger.storage.base import ContentStore

verifier_app = typer.Typer(no_args_is_help=True, help="A verifier's program, and disputes.")

MOST_SPECS = 16
"""Watched tasks up to which the store is asked for their specs when a verifier starts."""

VerifierOption = Annotated[int, typer.Option(min=0, max=MOST_INDEX, help="index of the experiment's verifier (from 0)")]


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

    @property
    def stake(self) -> int | None:
        """The stake to register with, in wei, if one was given."""
        return None if self.stake_gwei is None else self.stake_gwei * GWEI

    def service(self, watched: Sequence[int], patience: float) -> Service:
        """Return what a verifier serves for, and how, given the tasks that it watches; none: all."""
        from fedledger.ledger_tools.verifier.context import Service
        from fedledger.protocol.encoding.cid import MIB

        return Service(
            tasks=frozenset(watched) or None,
            trusted=frozenset(self.trust_code or ()),
            stake=self.stake,
            challenge=self.challenge,
            appeal=self.appeal,
            patience=patience,
            jobs=self.jobs,
            memory=None if self.memory_mb is None else self.memory_mb * MIB,
        )


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
    from fedledger.ledger_tools.verifier.verifier import Verifier
    from fedledger.platform.cli.watcher import run_program
    from fedledger.platform.experiment.accounts import verifier_role
    from fedledger.storage.locks import only_copy

    ledger = at.open()
    watched = options.task or []
    for number in watched:
        ledger.task(number)
    needed = least_stake(ledger) if options.stake is None else options.stake
    account = at.account(ledger, verifier_role(options.verifier), needed + 10 * 10**18)
    history, store = History(ledger), content.open()
    _require_specs(history, store, watched)
    service = options.service(watched, patience)
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


def least_stake(ledger: Ledger) -> int:
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
