"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NOBODY = "0x" + "00" * 20


ChainOption = Annotated[str, typer.Option(help="auto, embedded, anvil, ganache, or the URL of a development chain")]
StoreOption = Annotated[str, typer.Option(help="local, or the multiaddr or URL of an IPFS daemon")]
RpcOption = Annotated[str, typer.Option(help="URL of the chain")]
DeploymentOption = Annotated[Path, typer.Option(help="deployment record, written by `fedledger deploy`")]
TaskOption = Annotated[int, typer.Option("--task", help="the task's id")]
SeedOption = Annotated[int | None, typer.Option(help="replaces the configuration's seed")]
ExperimentSeedOption = Annotated[
    int | None, typer.Option(help="use the experiment's account of this seed (development chains)")
]
RoleOption = Annotated[
    str,
    typer.Option(help="the experiment's account: publisher, aggregator, 'standby N', 'participant N', …"),
]
KeystoreOption = Annotated[Path | None, typer.Option(help="encrypted key, made by `fedledger keys new`")]
PasswordOption = Annotated[
    Path | None, typer.Option(help="file with the key's password; else FEDLEDGER_PASSWORD, else a prompt")
]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", help="show the rounds to tensorboard or mlflow as well; repeatable")
]
TrustOption = Annotated[list[str] | None, typer.Option("--trust-code", help="CID of a task.py that may be run")]
