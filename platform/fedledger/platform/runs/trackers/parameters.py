"""What trackers show of a configuration."""

from __future__ import annotations

from typing import Any

from fedledger.platform.experiment.provenance import Described, flat, provenance
from fedledger.protocol.errors import ConfigError


def parameters(config: Described) -> dict[str, Any]:
    """Return a run's configuration as flat keys and values, and the version that runs it."""
    made_from = provenance(config)
    return {"fedledger": made_from["fedledger"], **flat(made_from["config"])}


def not_installed(extra: str) -> ConfigError:
    """Return the error of a tracker whose package is not installed."""
    return ConfigError(f"{extra} is not installed.", f"pip install 'fedledger[{extra}]'")
