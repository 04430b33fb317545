"""How participants leave: a task, or the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import SignerOptions
from fedledger.platform.cli.options import TaskOption, expand_options, read_role
from fedledger.platform.cli.programs import MOST_INDEX
from fedledger.protocol.errors import ChainError

leaving_app = typer.Typer()

ParticipantOption = Annotated[
    int, typer.Option(min=0, max=MOST_INDEX, help="index of the experiment's participant (from 0)")
]


@leaving_app.command("leave")
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
    last = leave_task(ledger, account, task)
    line = f"{account.address} has left task {task}"
    line += f"; round {last} still asks it, so let its node run until that is final" if last else ""
    print_result(format_, {"task": task, "address": account.address, "last_round": last}, line)


@leaving_app.command("exit")
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
