"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

NOBODY = "0x" + "00" * 20

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")]
NodeArgument = Annotated[
    Path, typer.Argument(help="TOML file that says where the node's own data are; see docs/participate.md")
]
ChainOption = Annotated[
    str, typer.Option(help="chain to use: auto, embedded, anvil, ganache, or the URL of a development chain")
]
StoreOption = Annotated[str, typer.Option(help="content store: local, or the multiaddr or URL of an IPFS daemon")]
StoreFolderOption = Annotated[Path, typer.Option(help="folder of the local content store")]
RpcOption = Annotated[str, typer.Option(help="URL of the chain's JSON-RPC endpoint")]
DeploymentOption = Annotated[Path, typer.Option(help="deployment record written by `fedledger deploy`")]
TaskOption = Annotated[int, typer.Option("--task", help="id of the task")]
SeedOption = Annotated[int | None, typer.Option(help="override the configuration's seed")]
ExperimentSeedOption = Annotated[
    int | None, typer.Option(help="use the experiment's account derived from this seed (development chains only)")
]
RoleOption = Annotated[
    str,
    typer.Option(help="which account of the experiment: publisher, aggregator, 'standby N', 'participant N', …"),
]
KeystoreOption = Annotated[Path | None, typer.Option(help="encrypted key made by `fedledger keys new`")]
PasswordOption = Annotated[
    Path | None, typer.Option(help="file with the key's password (default: FEDLEDGER_PASSWORD, or else a prompt)")
]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", help="also log rounds to tensorboard or mlflow; repeatable")
]
TrustOption = Annotated[
    list[str] | None, typer.Option("--trust-code", help="CID of a task.py that may be executed; repeatable")
]
SealKeyOption = Annotated[
    Path | None, typer.Option("--seal-key", help="file with the key of the task's validation set")
]
AllowNetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-network",
        help="network besides the public internet in which mailboxes may be, such as 10.0.0.0/8; repeatable "
        "(default: none; on a development chain this machine and private networks)",
    ),
]
OutputOption = Annotated[Path | None, typer.Option(help="file to write the table to; required for Parquet")]
PollOption = Annotated[float, typer.Option(help="seconds between two looks at the ledger")]
PatienceOption = Annotated[float, typer.Option(help="seconds to wait for content that the store does not have yet")]


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options.

    Each field of such a dataclass, annotated as typer wants it, becomes an option of the command.

    Parameters
    ----------
    command
        A function, some of whose parameters are annotated with dataclasses.

    Returns
    -------
    Callable
        The same command with a flat signature.
    """
    groups = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if not is_dataclass(group) or not isinstance(group, type):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            kind = inspect.Parameter.KEYWORD_ONLY
            flat.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))

    @wraps(command)
    def expanded(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    expanded.__dict__["__signature__"] = inspect.Signature(flat)
    return expanded
