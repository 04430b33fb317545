"""Options that several commands share."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from fedledger.protocol.units import YEAR

NOBODY = "0x" + "00" * 20
MOST_TASKS = 2**63 - 1
"""A number of a task that no ledger reaches."""
MOST_SEED = 2**53 - 1
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ROLE = re.compile(r"publisher|aggregator|deployer|(?:standby|participant|verifier) (?:0|[1-9][0-9]{0,8})")


def read_address(text: str) -> str:
    """Return the address of an option, in its mixed-case form.

    Raises
    ------
    typer.BadParameter
        If it is no address, or letters of both cases do not make up the checksum of EIP-55.
    """
    if text == NOBODY:
        return text
    if not _ADDRESS.fullmatch(text):
        raise typer.BadParameter(f"{text!a} is not an address. Give 0x and 40 hexadecimal digits.")
    from fedledger.contracts.abi import checksum_address

    address = str(checksum_address(text))
    if text != address and len({letter.isupper() for letter in text[2:] if letter.isalpha()}) > 1:
        raise typer.BadParameter(f"{text} has a wrong checksum (EIP-55). Is a character mistyped?")
    return address


def read_seconds(text: str | float) -> float:
    """Return the seconds of an option; raises typer.BadParameter unless they are a number from 0 to a year's."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= YEAR:
        raise typer.BadParameter(f"{text!a} is not a time. Give seconds, from 0 to {YEAR:,}.")
    return seconds


def read_role(text: str) -> str:
    """Return the role of an experiment's account.

    Raises
    ------
    typer.BadParameter
        If no experiment has such an account.
    """
    if not _ROLE.fullmatch(text):
        raise typer.BadParameter(
            f"An experiment has no {text!a}. Give publisher, aggregator, deployer, 'standby N', 'participant N' or "
            "'verifier N', with N from 0."
        )
    return text


def read_cid(text: str) -> str:
    """Return the CID of an option.

    Raises
    ------
    typer.BadParameter
        If it is none.
    """
    from fedledger.protocol.encoding.cid import cid_bytes
    from fedledger.protocol.errors import StoreError

    try:
        cid_bytes(text)
    except StoreError as error:
        raise typer.BadParameter(f"{text!a} is not a CID. {error.remedy}") from error
    return text


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
TaskOption = Annotated[int, typer.Option("--task", min=1, max=MOST_TASKS, help="id of the task")]
SeedOption = Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="override the configuration's seed")]
ExperimentSeedOption = Annotated[
    int | None,
    typer.Option(
        min=0, max=MOST_SEED, help="use the experiment's account derived from this seed (development chains only)"
    ),
]
RoleOption = Annotated[
    str,
    typer.Option(
        parser=read_role,
        metavar="ROLE",
        help="which account of the experiment: publisher, aggregator, deployer, 'standby N', 'participant N' or "
        "'verifier N', with N from 0",
    ),
]
KeystoreOption = Annotated[Path | None, typer.Option(help="encrypted key made by `fedledger keys new`")]
PasswordOption = Annotated[
    Path | None, typer.Option(help="file with the key's password (default: FEDLEDGER_PASSWORD, or else a prompt)")
]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", help="also log rounds to tensorboard or mlflow; repeatable")
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-code", parser=read_cid, metavar="CID", help="CID of a task.py that may be executed; repeatable"
    ),
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
PollOption = Annotated[
    float, typer.Option(parser=read_seconds, metavar="SECONDS", help="seconds between two looks at the ledger")
]
PatienceOption = Annotated[
    float,
    typer.Option(
        parser=read_seconds, metavar="SECONDS", help="seconds to wait for content that the store does not have yet"
    ),
]


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
