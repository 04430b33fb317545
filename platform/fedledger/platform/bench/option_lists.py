"""Options that list values, separated by commas."""

from __future__ import annotations

import re

from fedledger.protocol.errors import ConfigError


def listed(text: str, option: str) -> list[str]:
    """Return the values that an option lists.

    Parameters
    ----------
    text
        The values, separated by commas; what stands in parentheses belongs to one value.
    option
        The option's name, such as ``--seeds``, for messages.

    Raises
    ------
    ConfigError
        If there is none.
    """
    values = [value.strip() for value in re.split(r",(?![^()]*\))", text) if value.strip()]
    if not values:
        raise ConfigError(f"{option} is empty.", "Give at least one value, or leave the option out.")
    return values
