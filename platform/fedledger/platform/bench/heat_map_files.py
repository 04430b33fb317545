"""The files into which heat maps of the bench are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fedledger.platform.bench.heat_map import HeatMap
from fedledger.platform.bench.heat_map_html import write_html
from fedledger.platform.bench.heat_map_png import write_png
from fedledger.protocol.errors import ConfigError

FORMATS: Mapping[str, Callable[[Path, HeatMap], None]] = {".png": write_png, ".html": write_html}
"""What draws a file of an ending."""


def require_picture(path: Path) -> None:
    """Raise ConfigError unless a heat map can be written to a file of this name."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path} is no {' or '.join(FORMATS)} file.", "Give for example --heat-map robustness.png.")
    if not path.parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent} for {path.name}.", "Make it first.")


def write_heat_map(path: Path, shown_map: HeatMap) -> None:
    """Draw a heat map into a file, whose ending says in which format.

    Raises
    ------
    ConfigError
        If there is no such format, or no folder for the file.
    """
    require_picture(path)
    FORMATS[path.suffix](path, shown_map)
