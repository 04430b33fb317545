"""What a task has come to: its model, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import LedgerOptions, StoreOptions
from fedledger.platform.cli.options import TaskOption, TrustOption, expand_options
from fedledger.protocol.errors import ConfigError

results_app = typer.Typer()


@results_app.command("model")
@expand_options
def task_model(
    at: LedgerOptions,
    content: StoreOptions,
    task: TaskOption = 1,
    trust_code: TrustOption = None,
    output: Annotated[
        Path | None, typer.Option(help="file to write the model to, as tensors that a module of its kind loads")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show a task's newest settled model and how good its report says that it is, and write it to a file.

    `safetensors.torch.load_file` reads the file, and `load_state_dict` of the task's model takes what it holds. A task
    with code of its own needs --trust-code CID to be written.
    """
    from fedledger.contracts.ledger.history import History
    from fedledger.ledger_tools.report.quality import shown_quality
    from fedledger.platform.experiment.posted_result import model_state
    from fedledger.platform.experiment.posted_task import read_spec

    ledger, store = at.open(), content.open()
    spec, known = read_spec(ledger, store, task), History(ledger).update().task(task)
    settled = known.settled
    if not settled or settled[-1].proposal is None:
        raise ConfigError(f"Task {task} has no settled round yet.", "Wait for one; `fedledger status` says for what.")
    last = settled[-1]
    model, quality = settled[-1].proposal.model, shown_quality(last, store, spec)
    if output is not None:
        if output.exists():
            raise ConfigError(f"{output} exists already.", "Give another file with --output.")
        output.write_bytes(model_state(spec, store, model, frozenset(trust_code or ())))
    document = {"task": task, "round": last.index, "rounds": len(settled), "model": model.cid, **(quality or {})}
    line = f"Round {last.index} of task {task} made the model {model.cid}"
    lines = [line if output is None else f"{line}, written to {output}"]
    if quality is not None:
        lines.append(f"On the validation set: loss {quality['loss']}, {spec.score_key} {quality['score']}.")
    print_result(format_, document | {"file": None if output is None else str(output)}, *lines)
