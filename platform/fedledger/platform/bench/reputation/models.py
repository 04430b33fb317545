"""The models of reputation that the bench plays by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedledger.aggregator.reputation.base import REPUTATION_MODELS
from fedledger.platform.bench.option_lists import METHOD, listed, newest, parameter_values
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import parameters_of, require_parameters

LEDGER = "ledger"
"""Stands for no model: the ledger's own evidence with the task's publisher."""
EVERY_MODEL = "models"
"""Stands for that, and for each model."""


def models_of(text: str) -> list[str]:
    """Return the models that a text names, separated by commas; ``models`` stands for each of them.

    Raises
    ------
    ConfigError
        If it names none.
    """
    every = [LEDGER, *dict.fromkeys(key.partition("@")[0] for key in REPUTATION_MODELS)]
    named = listed(text, "--models")
    return list(dict.fromkeys(one for each in named for one in (every if each == EVERY_MODEL else [each])))


def model_of(text: str) -> Method | None:
    """Return a model that an option names, such as ``beta`` or ``beta@1(loss=6)``; None for ``ledger``.

    Raises
    ------
    ConfigError
        If there is no such model, or it has no such parameters.
    """
    if text == LEDGER:
        return None
    found = METHOD.fullmatch(text)
    key = "" if found is None else found[1] + (found[2] or newest(REPUTATION_MODELS, found[1]))
    if found is None or key not in list(REPUTATION_MODELS):
        known: Sequence[str] = models_of(EVERY_MODEL)
        raise ConfigError(f"There is no reputation model {text!r}.", f"There are: {', '.join(known)}.")
    params = parameter_values(found[3] or "", text)
    require_parameters(REPUTATION_MODELS, key, params)
    return Method(method=key, params=params)


def described(text: str) -> list[Any]:
    """Return a model's method and all of its parameters, also those with defaults; raises as :func:`model_of`."""
    model = model_of(text)
    if model is None:
        return [LEDGER]
    usual = {each.name: each.default for each in parameters_of(REPUTATION_MODELS.get(model.method))}
    return [model.method, {**usual, **model.params}]
