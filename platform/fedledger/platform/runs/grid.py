"""The runs of a sweep: a configuration, the values that its keys take, and seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedledger.learning.code_bundle import read_code
from fedledger.platform.experiment.config import ExperimentConfig, checked, load_config
from fedledger.platform.experiment.provenance import provenance
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError

SEEDS = 100_000
_LABEL_LENGTH = 60


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Parameters
    ----------
    label
        The point of the grid in words; empty without a grid.
    settings
        The point: values by dotted path.
    config
        The configuration, seed included.
    name
        Of the run's folder. It ends with a digest of all that the result follows from, save the data's files.
    """

    label: str
    settings: Mapping[str, Any]
    config: ExperimentConfig
    name: str


def plan_runs(path: Path, sets: Sequence[str], seeds: str | None, ledger: bool) -> list[PlannedRun]:
    """Return the runs of a sweep, point by point and for each its seeds.

    Parameters
    ----------
    path
        The configuration.
    sets
        Texts ``path=value,value``; every combination of values is a point.
    seeds
        As in :func:`parse_seeds`; the configuration's own unless given.
    ledger
        Whether the runs have a ledger.

    Raises
    ------
    ConfigError
        If anything is malformed, or the configuration has no such key or rejects a value.
    """
    config = load_config(path)
    base = config.model_dump(mode="json")
    axes = dict(parse_set(text) for text in sets)
    if len(axes) < len(sets):
        raise ConfigError("Two --set options have the same key.", "Give all its values in one --set.")
    if "seed" in axes:
        raise ConfigError(
            "The seed cannot be set with --set.", "Use --seeds, so that results are summarised over seeds."
        )
    code = None if config.code is None else ContentRef.of(read_code(path.parent / config.code)).cid
    names = short_names(list(axes))
    runs = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        document = json.loads(json.dumps(base))
        for key, value in settings.items():
            assign(document, key, value)
        label = ", ".join(f"{names[key]}={_shown(value)}" for key, value in settings.items())
        where = f"{path} with {label}" if label else str(path)
        for seed in [config.seed] if seeds is None else parse_seeds(seeds):
            run = checked({**document, "seed": seed}, where)
            made_from = canonical.encode({**provenance(run), "code": code, "ledger": ledger})
            digest = hashlib.sha256(made_from).hexdigest()[:10]
            place = re.sub(r"[^\w.=@+-]+", "_", label)[:_LABEL_LENGTH]
            runs.append(PlannedRun(label, settings, run, "-".join(filter(None, (place, f"seed={seed}", digest)))))
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(f"The sweep contains the run {twice[0]} twice.", "Give every value and every seed once.")
    return runs


def parse_set(text: str) -> tuple[str, list[Any]]:
    """Return path and values of ``path=value,value``.

    Values are parsed as TOML; anything else is taken as a string, so that ``mean@1`` needs no quotes.

    Raises
    ------
    ConfigError
        If there is no path or no value.
    """
    path, equals, listed = text.partition("=")
    path = path.strip()
    if not path or not equals or not listed.strip():
        raise ConfigError(f"{text!r} sets nothing.", "Write it as path=value,value: training.rounds=10,20.")
    try:
        return path, tomllib.loads(f"values = [{listed}]")["values"]
    except (ValueError, RecursionError):
        return path, [_value(part.strip()) for part in listed.split(",")]


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a list like ``0..9`` (both included) or ``1,5,7..9``.

    Raises
    ------
    ConfigError
        If it is not such a list, or has more than ``SEEDS``.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,15})\s*(?:\.\.\s*([0-9]{1,15})\s*)?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not 0 <= last - first < SEEDS - len(seeds):
            raise ConfigError(f"{text!r} is not a list of seeds.", "Write them as 0..9, or 1,5,7..9.")
        seeds += range(first, last + 1)
    return seeds


def assign(document: Any, path: str, value: Any) -> None:
    """Set a leaf of nested tables and lists by its dotted path; tables that are not there are made.

    Raises
    ------
    ConfigError
        If the path leads through something else, or past the end of a list.
    """
    *outer, last = path.split(".")
    place = document
    for part in outer:
        if isinstance(place, list):
            place = place[_index(place, part, path)]
        else:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, dict | list):
            raise ConfigError(f"There is nothing below {part!r} of {path!r}.", "See `fedledger config schema`.")
    place[_index(place, last, path) if isinstance(place, list) else last] = value


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return for each path its shortest end that no other has; of a method, what it is chosen for."""
    parts = {path: path.removesuffix(".method").split(".") for path in paths}
    ends = Counter(".".join(split[-n:]) for split in parts.values() for n in range(1, len(split) + 1))
    return {
        path: next((end for n in range(1, len(split)) if ends[end := ".".join(split[-n:])] == 1), ".".join(split))
        for path, split in parts.items()
    }


def _index(place: list[Any], part: str, path: str) -> int:
    if not (part.isascii() and part.isdigit()) or int(part) >= len(place):
        raise ConfigError(f"{path!r} has no element {part!r}.", f"There are {len(place)}, from 0.")
    return int(part)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
