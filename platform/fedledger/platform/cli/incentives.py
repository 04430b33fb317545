"""The group of commands about incentives."""

from __future__ import annotations

import typer

incentives_app = typer.Typer(no_args_is_help=True, help="What participants are paid for, and what is best for them.")
