"""Pipelines: one name in a configuration for the methods that it does not name, and none in a spec."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from fedledger.platform.bench.robustness import Case, Condition, configuration
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, TrainingConfig, load_config
from fedledger.platform.experiment.pipelines import DEFAULT, FILLED, PIPELINES, Pipeline, with_pipeline
from fedledger.platform.runs.run_folder import begin_run
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.spec import TaskSpec
from support.small import write_config

MEDIAN = {"method": "median@1", "params": {}}


def described(**training: Any) -> dict[str, Any]:
    return {
        "name": "piped",
        "participants": 3,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [4], "classes": 10}},
        "training": training,
    }


def test_the_table_has_every_name_and_fills_in_nothing_else() -> None:
    assert set(PIPELINES) == set(get_args(Pipeline))
    assert DEFAULT in PIPELINES
    assert all(set(filling) <= set(FILLED) for filling in PIPELINES.values())


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipelines_methods_exist_and_take_their_parameters(name: str) -> None:
    for kind, named in TrainingConfig.model_validate({"pipeline": name}).named():
        if kind.plural in ("detectors", "mixings", "normalisations", "rules", "contributions"):
            build(registry_of(kind), named.method, named.params)


@pytest.mark.parametrize("name", PIPELINES)
def test_what_a_configuration_names_stands_and_the_rest_is_filled_in(name: str) -> None:
    filled = TrainingConfig.model_validate({"pipeline": name}).model_dump()
    by_hand = TrainingConfig.model_validate({"pipeline": "plain", **PIPELINES[name]}).model_dump()
    assert all(filled[key] == by_hand[key] for key in PIPELINES[name])
    given = TrainingConfig.model_validate({"pipeline": name, "aggregation": MEDIAN, "detection": []})
    assert (given.aggregation, given.detection) == (Method(**MEDIAN), [])
    rest = set(filled) - {"aggregation", "detection"}
    assert given.model_dump(include=rest) == {key: filled[key] for key in rest}


def test_version_0_1_0_judged_by_four_detectors_and_a_plain_mean_judges_nobody() -> None:
    old, plain = (TrainingConfig(pipeline=name) for name in ("0.1.0", "plain"))
    assert [each.method for each in old.detection] == ["norm@1", "near_duplicate@1", "held_out@1", "cosine@1"]
    assert (old.aggregation.method, old.contribution.method) == ("mean@1", "alignment@1")
    assert (plain.aggregation.method, plain.detection, plain.mixing, plain.normalisation) == ("mean@1", [], None, None)


def test_who_names_none_gets_the_default() -> None:
    assert TrainingConfig() == TrainingConfig(pipeline=DEFAULT)
    assert validated(ExperimentConfig, {"name": "a"}, "here").training == TrainingConfig()


def test_a_spec_has_the_methods_and_not_the_name() -> None:
    assert "pipeline" not in TaskSpec.model_fields
    by_name = make_experiment(ExperimentConfig.model_validate(described(pipeline="0.1.0")), Path()).spec
    by_hand = with_pipeline({"pipeline": "0.1.0"}) | {"pipeline": "plain"}
    assert make_experiment(ExperimentConfig.model_validate(described(**by_hand)), Path()).spec.digest == by_name.digest


@pytest.mark.parametrize("name", ["defualt", "0.1", "", None, 1, ["plain"], {"plain": 1}])
def test_another_name_is_refused_with_those_that_there_are(name: object) -> None:
    with pytest.raises(ConfigError, match=r"training\.pipeline: Input should be 'default', 'plain' or '0\.1\.0'"):
        validated(ExperimentConfig, described(pipeline=name), "here")


def test_the_schema_tells_the_names_and_what_they_fill_in() -> None:
    keys = TrainingConfig.model_json_schema()["properties"]
    told = {name for name, key in keys.items() if "from the pipeline unless given" in key.get("description", "")}
    assert told == {*FILLED} and not any("default" in keys[name] for name in FILLED)
    key = keys["pipeline"]
    assert set(key["enum"]) == set(PIPELINES)
    assert all(field in key["description"] for field in FILLED)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_bench_plays_what_a_configuration_of_that_name_has(name: str) -> None:
    played = configuration(Case(name, "none", Condition("digits", 0.5, 5, 0, 1))).training
    assert played.model_dump(include=set(FILLED)) == TrainingConfig(pipeline=name).model_dump(include=set(FILLED))


def test_a_run_is_resumed_by_its_methods_whichever_name_they_have(tmp_path: Path) -> None:
    """A run of a version that knew no pipelines had none but the methods that its record names."""
    path = write_config(tmp_path, rounds=1)
    experiment = make_experiment(load_config(path), tmp_path)
    begin_run(experiment, tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["training"].pop("pipeline") == "plain"
    (tmp_path / "config.json").write_text(json.dumps(record))
    begin_run(experiment, tmp_path)
    mixing = "nearest_neighbour_mixing@2"
    renamed = f'pipeline = "0.1.0"\nmixing = {{ method = "{mixing}", params = {{ f = 1 }} }}'
    path.write_text(path.read_text().replace('pipeline = "plain"', renamed))
    with pytest.raises(ConfigError, match=r"began with training\.mixing"):
        begin_run(replace(experiment, config=load_config(path)), tmp_path)
    path.write_text(path.read_text().replace(renamed, 'pipeline = "0.1.0"'))
    begin_run(replace(experiment, config=load_config(path)), tmp_path)
