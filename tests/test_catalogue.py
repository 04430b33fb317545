"""The catalogue of methods: every kind, every method, every parameter; and that adding one takes one file."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedledger.platform.experiment.config import TrainingConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods import catalogue
from fedledger.protocol.methods.catalogue import Methods, kinds
from fedledger.protocol.methods.description import described
from fedledger.protocol.methods.parameters import build, parameters_of
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.spec import TaskSpec

WRONG = [float("inf"), float("nan"), -(10**400), 10**400, "x" * 100_000, ["x"] * 100_000, {1: 2}, b"", object(), True]
METHODS = [(plural, key) for plural, kind in kinds().items() for key in registry_of(kind)]


def test_each_kind_has_methods_and_a_registry_of_its_own() -> None:
    assert {plural for plural, _ in METHODS} == set(kinds())
    assert len({id(registry_of(kind)) for kind in kinds().values()}) == len(kinds())


def test_what_a_spec_names_a_configuration_names_too() -> None:
    assert set(Methods.model_fields) <= set(TaskSpec.model_fields) & set(TrainingConfig.model_fields)


@pytest.mark.parametrize(("plural", "key"), METHODS)
def test_a_method_lies_in_the_file_of_its_name(plural: str, key: str) -> None:
    kind = kinds()[plural]
    method = registry_of(kind).get(key)
    assert method.__module__ == f"fedledger.{kind.package}.{key.partition('@')[0]}"


@pytest.mark.parametrize(("plural", "key"), METHODS)
def test_each_parameter_is_bounded_above_and_below_and_its_default_is_within(plural: str, key: str) -> None:
    kind = kinds()[plural]
    for parameter in parameters_of(registry_of(kind).get(key)):
        if parameter.name in kind.supplied:
            continue
        assert parameter.bound is not None, parameter.name
        if not parameter.is_required:
            parameter.check(parameter.default)
        for wrong in (
            float("inf"),
            float("nan"),
            -(10**400),
            10**400,
            "x" * 100_000,
            ["x"] * 100_000,
            {},
            b"",
            object(),
        ):
            if isinstance(wrong, dict) and "table" in str(parameter.bound):
                continue
            with pytest.raises(ConfigError, match=f"{parameter.name} is"):
                parameter.check(wrong)


@pytest.mark.parametrize(("plural", "key"), METHODS)
def test_a_method_tells_what_it_is_and_what_its_parameters_are(plural: str, key: str) -> None:
    method = registry_of(kinds()[plural]).get(key)
    assert inspect.getdoc(method)
    (own,) = (each for each in described(kinds()[plural]) if each.method == key)
    for text in (own.summary, *(parameter.plain_meaning for parameter in own.parameters)):
        assert not re.search(r"`|:\w+:`|\bNone\b", text), text


def test_a_parameter_out_of_bounds_is_refused_with_its_bound() -> None:
    rules = registry_of(kinds()["rules"])
    with pytest.raises(ConfigError, match=r"f is -1\. Give a whole number from 0 to 4,096"):
        build(rules, "trimmed_mean@1", {"f": -1})
    with pytest.raises(ConfigError, match="It takes f"):
        build(rules, "trimmed_mean@1", {"g": 1})
    models = registry_of(kinds()["models"])
    with pytest.raises(ConfigError, match="hidden is 7"):
        build(models, "mlp@1", {"inputs": 2, "hidden": 7, "classes": 2})


PLUGIN = """
from dataclasses import dataclass
from typing import Annotated
from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.methods.registry import registry_of

@registry_of(kinds()[{plural!r}]).register("added@1")
@dataclass(frozen=True)
class Added(Checked):
    \"\"\"Do what a new method does (Nobody 2026).\"\"\"
    size: Annotated[int, Whole(1, 9)] = 3
"""


def in_a_process_of_its_own(root: Path, code: str) -> object:
    """What a fresh interpreter that also finds sources below ``root`` prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_a_method_of_every_kind_takes_one_file(tmp_path: Path) -> None:
    for plural, kind in kinds().items():
        file = tmp_path / "fedledger" / Path(*kind.package.split(".")) / "added.py"
        file.parent.mkdir(parents=True)
        file.write_text(PLUGIN.format(plural=plural))
    code = """
import json
from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.description import described
print(json.dumps({k: next(([p.values for p in m.parameters], m.paper) for m in described(v) if m.method == "added@1")
                  for k, v in kinds().items()}))
"""
    found = in_a_process_of_its_own(tmp_path, code)
    assert found == {plural: [["a whole number from 1 to 9"], "Nobody 2026"] for plural in kinds()}


def test_a_line_and_a_folder_make_a_new_kind(tmp_path: Path) -> None:
    source = Path(catalogue.__file__).read_text()
    kind = 'Kind("wager", "wagers", "aggregator.wagers", replayed=True)'
    line = f"    wager: Annotated[Method | None, LATER, {kind}] = None\n"
    place = source.index("    def named(self)")
    changed = tmp_path / "fedledger" / "protocol" / "methods" / "catalogue.py"
    changed.parent.mkdir(parents=True)
    changed.write_text(source[:place] + line + "\n" + source[place:])
    folder = tmp_path / "fedledger" / "aggregator" / "wagers"
    folder.mkdir(parents=True)
    (folder / "base.py").write_text(
        "from fedledger.protocol.methods.catalogue import kind_of\n"
        "from fedledger.protocol.methods.registry import Registry\n"
        'WAGERS: Registry[object] = Registry(kind_of("wager"))\n'
    )
    (folder / "added.py").write_text(PLUGIN.format(plural="wagers"))
    code = """
import json
from fedledger.ledger_tools.audit.replay import require_methods
from fedledger.platform.experiment.config import ExperimentConfig, TrainingConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import TaskSpec
ref = {"cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "length": 0}
plain = TaskSpec(name="a", rounds=1, initial_model=ref, validation=ref)
spec = TaskSpec(name="a", rounds=1, initial_model=ref, validation=ref, wager={"method": "added@1"})
require_methods(spec)
try:
    require_methods(TaskSpec(name="a", rounds=1, initial_model=ref, validation=ref, wager={"method": "gone@1"}))
    missing = ""
except ConfigError as error:
    missing = str(error)
print(json.dumps({
    "methods": list(registry_of(kinds()["wagers"])), "missing": missing,
    "pinned": "wager" in json.loads(plain.encode()), "named": "wager" in json.loads(spec.encode()),
    "config": "wager" in TrainingConfig.model_fields,
    "schema": "wager" in json.dumps(ExperimentConfig.model_json_schema()),
}))
"""
    assert in_a_process_of_its_own(tmp_path, code) == {
        "methods": ["added@1"],
        "missing": "There is no wager 'gone@1'. There are: added@1.",
        "pinned": False,
        "named": True,
        "config": True,
        "schema": True,
    }
