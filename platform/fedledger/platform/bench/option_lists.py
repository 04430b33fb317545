"""Options that list values, separated by commas."""

from __future__ import annotations

import json
import re
from typing import Any

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.registry import Registry

METHOD = re.compile(r"([a-z][a-z0-9_]{0,63})(@[0-9]{1,9})?(?:\((.{0,200})\))?", re.DOTALL)
"""A method as an option names it: its name, perhaps its version, and perhaps parameters in parentheses."""


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


def parameter_values(text: str, part: str) -> dict[str, Any]:
    """Return the parameters in parentheses: numbers and texts as in JSON, or bare words.

    Parameters
    ----------
    text
        What stands in the parentheses.
    part
        What they belong to, for messages.

    Raises
    ------
    ConfigError
        If one of them is not a name with a value, or is given twice.
    """
    values: dict[str, Any] = {}
    for each in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (word.strip() for word in each.partition("="))
        if not (equals and name and value) or name in values:
            raise ConfigError(f"{part!r}: {each!r} is not one parameter.", "Give for example trimmed_mean(f=2).")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def newest(registry: Registry[Any], name: str) -> str:
    """Return the newest version of a method as ``@version``; nothing if there is no such method."""
    versions = [int(key.partition("@")[2]) for key in registry if key.partition("@")[0] == name]
    return f"@{max(versions)}" if versions else ""
