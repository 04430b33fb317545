"""An auditor's program, and the key to which what it has to see is sealed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, out, print_json, print_result
from fedledger.platform.cli.context import SignerOptions, StoreOptions
from fedledger.platform.cli.options import (
    MOST_INDEX,
    ExperimentSeedOption,
    KeystoreOption,
    PasswordOption,
    PollOption,
    TaskOption,
    TrustOption,
    expand_options,
)
from fedledger.protocol.errors import ConfigError

auditor_app = typer.Typer(no_args_is_help=True, help="An auditor's program: spot checks of updates.")

AuditorOption = Annotated[int, typer.Option(min=0, max=MOST_INDEX, help="index of the experiment's auditor (from 0)")]


@auditor_app.command("start")
@expand_options
def auditor_start(
    at: SignerOptions,
    content: StoreOptions,
    auditor: AuditorOption = 0,
    task: TaskOption = 1,
    trust_code: TrustOption = None,
    journal: Annotated[Path, typer.Option(help="folder that keeps findings until they are revealed")] = Path("audits"),
    poll: PollOption = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check the updates that are drawn in a task, until it has ended and its last checks are over.

    The account is one of those that the task names as auditors. Participants whose updates are drawn for it show it
    their data, which it keeps nowhere; it trains again as they should have, and says on the ledger what it found. An
    auditor that is restarted goes on where it stopped.
    """
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.history import History
    from fedledger.platform.cli.watcher import run_program
    from fedledger.platform.experiment.accounts import auditor_role
    from fedledger.platform.experiment.posted_task import read_spec
    from fedledger.platform.spot_checks.auditor import Auditor, place_of_auditor
    from fedledger.platform.spot_checks.judge import TaskJudge
    from fedledger.storage.locks import only_copy

    ledger, store = at.open(), content.open()
    spec = read_spec(ledger, store, task)
    account = at.account(ledger, auditor_role(auditor), 10**18)
    access = TaskAccess(ledger, History(ledger), account, store, task, spec)
    place_of_auditor(access)
    judge = TaskJudge(access, frozenset(trust_code or ()))
    logging.getLogger("fedledger.auditor").info("%s checks updates of task %d", account.address, task)
    with only_copy(journal, "-".join(map(str, (*access.place, account.address))), "auditor"):
        ended, counts = run_program(Auditor(access, judge, journal), poll, "auditor")
    actions = ", ".join(f"{name} {count}" for name, count in counts.items()) or "There was nothing to do."
    state = "The task and its checks have ended." if ended else "Not all checks of the task have ended."
    print_result(format_, {"account": account.address, "ended": ended, "done": counts}, f"{state} {actions}")


@auditor_app.command("key")
@expand_options
def auditor_key(
    keystore: KeystoreOption = None,
    password_file: PasswordOption = None,
    experiment_seed: ExperimentSeedOption = None,
    auditor: AuditorOption = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Print what a publisher writes into a task so that this account is one of its auditors.

    The key is public: data are sealed to it, and only the account's own key opens them.
    """
    from fedledger.platform.experiment.accounts import auditor_of_key, experiment_auditor
    from fedledger.platform.experiment.key_store import read_key

    if (keystore is None) == (experiment_seed is None):
        raise ConfigError("Name one account.", "Give --keystore, or --experiment-seed for an experiment's auditor.")
    if keystore is not None:
        found = auditor_of_key(bytes(read_key(keystore, password_file).key))
    else:
        found = experiment_auditor(experiment_seed or 0, auditor)
    line = f'{{ account = "{found.account}", key = "{found.key}", signature = "{found.signature}" }}'
    if format_ is Format.JSON:
        print_json(found.model_dump())
    else:
        # In one piece, to be copied: TOML takes no line breaks within it.
        out.print(line, markup=False, highlight=False, soft_wrap=True)
