"""The program of a verifier that has data of its own, and scores the updates of a task whose verifiers do that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import KeyOptions, SignerOptions, StoreOptions
from fedledger.platform.cli.options import NodeArgument, PatienceOption, PollOption, SeedOption, expand_options
from fedledger.platform.cli.participation import OwnPart, experiment_part
from fedledger.platform.cli.verifiers import VerifierOptions, least_stake
from fedledger.protocol.errors import ConfigError, TrustError

if TYPE_CHECKING:
    from fedledger.node.scoring import Scorer
    from fedledger.protocol.records.spec import TaskSpec

scorer_app = typer.Typer(no_args_is_help=True, help="The program of a verifier that scores updates on its own data.")


@scorer_app.command("start")
@expand_options
def scorer_start(
    config: NodeArgument,
    at: SignerOptions,
    content: StoreOptions,
    options: VerifierOptions,
    seed: SeedOption = None,
    patience: PatienceOption = 60.0,
    poll: PollOption = 0.5,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Serve a task as a verifier, and score its updates on your own data whenever the verifier is drawn for it.

    CONFIG says where the data are, as with `node start`; they never leave this machine, only a number for each update
    does. It may instead be an experiment's configuration: then the verifier has its share of the validation examples.
    The program does all that `verifier start` does for its one --task: run no other one with the same account.
    """
    from fedledger.contracts.ledger.access import TaskAccess
    from fedledger.contracts.ledger.actor import Situation, Step
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.verifier.verifier import Verifier
    from fedledger.node.duties.scoring import Scoring
    from fedledger.platform.cli.watcher import run_program
    from fedledger.platform.engine.scoring import judges_needed
    from fedledger.platform.experiment.accounts import verifier_role
    from fedledger.platform.experiment.posted_task import posted_spec, read_spec
    from fedledger.platform.experiment.scorers import VerifierScorer
    from fedledger.storage.locks import only_copy

    task = _one_task(options)
    ledger, store = at.open(), content.open()
    spec, params = read_spec(ledger, store, task), ledger.task(task).params
    if not params.verifiers_score:
        raise ConfigError(
            f"Task {task} does not draw its scorers among verifiers.",
            "Its participants score by themselves, if anybody does; serve it with `fedledger verifier start`.",
        )
    _require_trusted(spec, options)
    part = experiment_part(config, seed, options.verifier)
    needed = least_stake(ledger) if options.stake is None else options.stake
    key, account_seed = KeyOptions(at.keystore, at.password_file), at.experiment_seed if part is None else part.seed
    key.require_one(at.experiment_seed)
    account = key.account(ledger.chain, account_seed, verifier_role(options.verifier), needed + 10 * 10**18)
    if part is None:
        scorer: Scorer = OwnPart.read(config, spec, store, account_seed, "scorer").scorer(bytes(account.key))
    else:
        posted_spec(ledger, store, task, part.experiment, holds_key=False)
        count = judges_needed(ledger, params)
        scorer = VerifierScorer(part.experiment, options.verifier, count, bytes(account.key))
    access = TaskAccess(ledger, History(ledger), account, store, task, spec)
    scoring = Scoring(access, scorer, options.journal / "scores" / account.address)

    def score(history: History) -> Step | None:
        return scoring(Situation(history.task(task), ledger.phase(task)))

    logging.getLogger("fedledger.scorer").info("%s serves task %d, and scores its updates", account.address, task)
    name = f"{ledger.chain.chain_id}-{ledger.address}-{account.address}"
    with only_copy(options.journal, name, "verifier"):
        program = Verifier(access, options.service([task], patience), options.journal)
        program.also(score)
        try:
            ended, counts = run_program(program, poll, "scorer")
        finally:
            program.close()
    actions = ", ".join(f"{name} {count}" for name, count in counts.items()) or "There was nothing to do."
    state = f"Task {task} has ended." if ended else f"Task {task} has not ended."
    print_result(format_, {"account": account.address, "ended": ended, "done": counts}, f"{state} {actions}")


def _require_trusted(spec: TaskSpec, options: VerifierOptions) -> None:
    """Raise TrustError, before anything is staked, if the task's own code may not run here."""
    if spec.code is not None and spec.code.cid not in (options.trust_code or ()):
        raise TrustError(
            f"The task brings its own code, {spec.code.cid}, and it is not trusted.",
            f"Give --trust-code {spec.code.cid} once you have read it.",
        )


def _one_task(options: VerifierOptions) -> int:
    """Return the task whose updates are scored, the first one unless named; raises ConfigError if several are."""
    tasks = options.task or [1]
    if len(tasks) != 1:
        raise ConfigError("A scorer scores the updates of one task.", "Give --task once; start another for each.")
    return tasks[0]
