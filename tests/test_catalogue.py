"""The catalogue of methods: every kind, every method, every parameter; and that adding one takes one file."""

from __future__ import annotations

import inspect

import pytest

from fedledger.platform.experiment.config import TrainingConfig
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Methods, kinds
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


def test_a_parameter_out_of_bounds_is_refused_with_its_bound() -> None:
    rules = registry_of(kinds()["rules"])
    with pytest.raises(ConfigError, match=r"f is -1\. Give a whole number from 0 to 4,096"):
        build(rules, "trimmed_mean@1", {"f": -1})
    with pytest.raises(ConfigError, match="It takes f"):
        build(rules, "trimmed_mean@1", {"g": 1})
    models = registry_of(kinds()["models"])
    with pytest.raises(ConfigError, match="hidden is 7"):
        build(models, "mlp@1", {"inputs": 2, "hidden": 7, "classes": 2})
