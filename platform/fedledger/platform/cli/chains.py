"""Commands for development chains and for keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.console import Format, FormatOption, out, print_result
from fedledger.platform.cli.options import PasswordOption
from fedledger.protocol.errors import ChainError, ConfigError

chain_app = typer.Typer(no_args_is_help=True, help="Development chains.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys of accounts.")


@chain_app.command("up")
def chain_up(
    kind: Annotated[str, typer.Argument(help="anvil or ganache")] = "anvil",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port")] = 8545,
    host: Annotated[
        str,
        typer.Option(help="address on which it listens; whoever reaches it can do with the chain what they like"),
    ] = "127.0.0.1",
    state: Annotated[Path | None, typer.Option(help="where the chain keeps its state between starts")] = None,
    block_time: Annotated[
        int,
        typer.Option(
            min=0,
            max=3600,
            help="seconds between blocks, so that the chain's time passes; 0: only transactions make blocks",
        ),
    ] = 1,
) -> None:
    """Start a development chain and keep it running until it is interrupted or terminated."""
    from fedledger.contracts.chain.development import start_chain
    from fedledger.contracts.ledger.actor import stop_signals

    if kind not in ("anvil", "ganache"):
        raise ConfigError(f"There is no chain {kind!r}.", "Give anvil or ganache.")
    with stop_signals() as stop:
        process = start_chain(kind, port, state, block_time=block_time, host=host)  # type: ignore[arg-type]
        try:
            out.print(f"{kind} listens at {process.url}; press Ctrl-C to stop it")
            while not stop.asked and process.process.poll() is None:
                stop.pause(1.0)
        finally:
            process.stop()
    if not stop.asked:
        raise ChainError(
            f"{kind} has ended by itself.",
            f"Look whether port {port} is in use: --port names another one. Else start it again.",
        )


@keys_app.command("new")
def keys_new(
    path: Annotated[Path, typer.Argument(help="file for the encrypted key")],
    password_file: PasswordOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Generate a key and write it encrypted; the password comes from a file, FEDLEDGER_PASSWORD or a prompt."""
    from fedledger.platform.experiment.key_store import new_key

    address = new_key(path, password_file)
    print_result(format_, {"address": address, "keystore": str(path)}, f"{address} in {path}")
