"""The pipelines that the bench plays by name: those of a configuration, rules as papers compare them, and files.

A rule is written ``rule``, or with a normalisation or a mixing in front: ``median_clip+nnm+trimmed_mean``. Each of
them may have a version, the newest one unless given, and parameters: ``trimmed_mean@1(f=2)``. What is not given follows
from the number of participants and of attackers. Such a pipeline detects nothing, gives each update the same weight,
and pays as the pipeline ``plain`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.rules.base import RULES
from fedledger.platform.bench.option_lists import METHOD, newest, parameter_values
from fedledger.platform.experiment.config import read_document
from fedledger.platform.experiment.pipelines import PIPELINES, PLAIN
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Parameter, parameters_of
from fedledger.protocol.methods.registry import Registry

EVERY_RULE = "rules"
"""Stands for the newest version of each aggregation rule."""
SHORT_NAMES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "krum": ("multi_krum", {"m": 1}),
    "nnm": ("nearest_neighbour_mixing", {}),
}
"""What is usually called otherwise than its method, and the parameters that make it so."""
LENGTH = 1.0
"""A length that suits updates of the bench: what an honest one is away from their mean halfway through a run."""

_TABLES = ("training", "data")
_BY_OPTION = (
    ("training", "rounds", "--rounds"),
    ("data", "source", "--data"),
    ("data", "partition", "--dirichlet"),
)
"""What no pipeline says, as an option does."""
_SLOTS: Mapping[str, Registry[Any]] = {"normalisation": NORMALISATIONS, "mixing": MIXINGS, "aggregation": RULES}
"""The keys of a configuration's training that parts are methods for, in the order in which these are written."""
_BY_POPULATION: Mapping[str, Callable[[int, int], float]] = {
    "f": lambda participants, hostile: hostile,
    "share": lambda participants, hostile: hostile / participants,
    "hostile": lambda participants, hostile: hostile / participants,
    # Buckets are pairs, unless most of them could have a hostile row then (Karimireddy et al. 2022).
    "s": lambda participants, hostile: 2 if participants >= 4 * hostile else 1,
}
"""Parameters that follow from the number of participants and of attackers."""
_ORDER = "Give at most one normalisation, then at most one mixing, then the rule, such as median_clip+nnm+median."
_LENGTHS = ("tau", "radius", "norm", "bound")
"""Parameters that are lengths of updates."""


@dataclass(frozen=True)
class Part:
    """A method of a rule's pipeline.

    Parameters
    ----------
    slot
        The key of a configuration's training that it is a method for.
    key
        The method's name and version.
    given
        Those of its parameters that are given.
    """

    slot: str
    key: str
    given: Mapping[str, Any]

    def require(self) -> None:
        """Raise ConfigError if it does not take what is given, or nothing says what else it needs."""
        known = {parameter.name: parameter for parameter in self._parameters()}
        for name, value in self.given.items():
            if name not in known:
                raise ConfigError(f"{self.key} has no parameter {name}.", f"It has: {', '.join(known) or 'none'}.")
            known[name].check(value)
        for name, parameter in known.items():
            if parameter.is_required and name not in self.given and not self._lacks(parameter):
                raise ConfigError(
                    f"{self.key} needs {name}, which follows from nothing.",
                    f"Give it, for example {self.key}({name}=1).",
                )

    @property
    def by_population(self) -> list[str]:
        """The parameters that follow from the number of participants and of attackers."""
        return [each.name for each in self._parameters() if self._lacks(each) and each.name in _BY_POPULATION]

    def method(self, participants: int, hostile: int) -> dict[str, Any]:
        """Return the method as a configuration names it, with parameters that suit a population."""
        params = dict(self.given)
        for parameter in self._parameters():
            if self._lacks(parameter):
                suiting = _BY_POPULATION.get(parameter.name)
                params[parameter.name] = LENGTH if suiting is None else suiting(participants, hostile)
        return {"method": self.key, "params": params}

    def _lacks(self, parameter: Parameter) -> bool:
        """Return whether a parameter is to be chosen here; a length keeps a default of its own."""
        chosen = parameter.name in _BY_POPULATION or (parameter.name in _LENGTHS and parameter.is_required)
        return chosen and parameter.name not in self.given

    def _parameters(self) -> tuple[Parameter, ...]:
        return parameters_of(_SLOTS[self.slot].get(self.key))


@dataclass(frozen=True)
class RulePipeline:
    """An aggregation rule with what stands in front of it.

    Parameters
    ----------
    parts
        Its methods; the last one is the rule.
    """

    parts: tuple[Part, ...]

    @property
    def expects_attackers(self) -> bool:
        """Whether it is told how many attackers there are."""
        return any(part.by_population for part in self.parts)

    def training(self, participants: int, hostile: int) -> dict[str, Any]:
        """Return what a configuration says of training with this pipeline."""
        methods = {part.slot: part.method(participants, hostile) for part in self.parts}
        # With judgement no claim counts: each update has the same weight.
        return {"pipeline": PLAIN, "judgement": {}, **methods}


@lru_cache(maxsize=1024)
def rule_pipeline(text: str) -> RulePipeline | None:
    """Return the rule's pipeline of a name; None for one of a configuration, or a file.

    Raises
    ------
    ConfigError
        If there is no such method or parameter, or the parts have another order.
    """
    if text.endswith(".toml") or text in PIPELINES:
        return None
    *front, rule = re.split(r"\+(?![^()]*\))", text)
    parts = (*(_part(each, text, ("normalisation", "mixing")) for each in front), _part(rule, text, ("aggregation",)))
    order = [list(_SLOTS).index(part.slot) for part in parts]
    if order != sorted(set(order)):
        raise ConfigError(
            f"{text!r} has its parts in an order that no round has.",
            _ORDER,
        )
    for part in parts:
        part.require()
    return RulePipeline(parts)


def expanded(text: str) -> list[str]:
    """Return the pipelines that a name stands for: each rule if it ends in ``rules``, else itself."""
    front, plus, last = text.rpartition("+")
    return [f"{front}{plus}{rule}" for rule in _every_rule()] if last == EVERY_RULE else [text]


def pipeline_tables(pipeline: str, participants: int, hostile: int) -> dict[str, dict[str, Any]]:
    """Return what the tables ``training`` and ``data`` of a configuration say for a pipeline.

    Parameters
    ----------
    pipeline
        The name of one that a configuration may choose, a rule, or a file in TOML with these tables.
    participants, hostile
        All participants, and how many attackers a rule is told of.

    Raises
    ------
    ConfigError
        If there is no such pipeline, or its file says what an option of the bench says.
    """
    if pipeline.endswith(".toml"):
        return _of_file(pipeline)
    rule = rule_pipeline(pipeline)
    training = {"pipeline": pipeline} if rule is None else rule.training(participants, hostile)
    return {"training": training, "data": {}}


def _of_file(pipeline: str) -> dict[str, dict[str, Any]]:
    given = read_document(Path(pipeline))
    strange = [key for key in given if key not in _TABLES or not isinstance(given[key], dict)]
    if strange:
        raise ConfigError(
            f"{pipeline} names {', '.join(strange)}, and a pipeline has tables [training] and [data] alone.",
            "Leave it out: options say who takes part and who attacks.",
        )
    tables: dict[str, dict[str, Any]] = {table: given.get(table, {}) for table in _TABLES}
    for table, key, option in _BY_OPTION:
        if key in tables[table]:
            raise ConfigError(f"{pipeline} sets {key} under [{table}].", f"Leave it out, and give {option}.")
    return tables


def _part(text: str, whole: str, slots: tuple[str, ...]) -> Part:
    found = METHOD.fullmatch(text.strip())
    if found is not None:
        name, version, given = found[1], found[2] or "", found[3]
        method, preset = SHORT_NAMES.get(name, (name, {}))
        for slot in slots:
            key = method + (version or newest(_SLOTS[slot], method))
            if "@" in key and key in list(_SLOTS[slot]):
                return Part(slot, key, {**preset, **parameter_values(given or "", text)})
        _require_no_other(slots, name, whole)
    kinds = " or ".join(_SLOTS[slot].kind.name for slot in slots)
    of = "" if text == whole else f", of which {whole!r} is to have one"
    raise ConfigError(
        f"There is no pipeline or {kinds} {text!r}{of}.",
        f"There are: {', '.join(PIPELINES)}; {EVERY_RULE}, or one of {', '.join(_every_rule())}, perhaps with a mixing "
        "in front, such as nnm+median; or name a file in TOML with tables [training] and [data].",
    )


def _require_no_other(slots: tuple[str, ...], name: str, whole: str) -> None:
    """Raise ConfigError if a name is that of a method for another slot."""
    for slot in _SLOTS:
        if slot not in slots and newest(_SLOTS[slot], SHORT_NAMES.get(name, (name, {}))[0]):
            raise ConfigError(f"The {_SLOTS[slot].kind.name} {name!r} has another place than in {whole!r}.", _ORDER)


def _every_rule() -> Iterator[str]:
    """Yield the names of the aggregation rules that need no more parameters than are known here, each method once."""
    seen: list[object] = []
    for name in dict.fromkeys(key.partition("@")[0] for key in RULES):
        part = Part("aggregation", name + newest(RULES, name), {})
        method = RULES.get(part.key)
        try:
            part.require()
        except ConfigError:
            continue
        # A class with nothing of its own is another one's second name.
        has_own = "__call__" in vars(method) or any(not key.startswith("_") for key in vars(method))
        if method not in seen and has_own:
            seen.append(method)
            yield name
