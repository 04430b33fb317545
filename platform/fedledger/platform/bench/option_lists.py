"""Options that list values, separated by commas."""

from __future__ import annotations

from fedledger.protocol.errors import ConfigError


def listed(text: str, option: str) -> list[str]:
    """Return the values that an option lists.

    Parameters
    ----------
    text
        The values, separated by commas.
    option
        The option's name, such as ``--seeds``, for messages.

    Raises
    ------
    ConfigError
        If there is none.
    """
    values = [value.strip() for value in text.split(",") if value.strip()]
    if not values:
        raise ConfigError(f"{option} is empty.", "Give at least one value, or leave the option out.")
    return values
