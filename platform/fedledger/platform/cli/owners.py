"""What owners of data give to a task besides their updates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, print_result
from fedledger.platform.cli.context import StoreOptions, open_ledger
from fedledger.platform.cli.options import DeploymentOption, NodeArgument, TaskOption, expand_options
from fedledger.platform.cli.participation import read_node_config
from fedledger.protocol.errors import ConfigError

if TYPE_CHECKING:
    from fedledger.protocol.records.data_schema import DataSchema


owners_app = typer.Typer()


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


@owners_app.command("offer")
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
