"""Runs, comparisons, sweeps and audits tell how fair a task was; rules that need claims get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.fairness import Fairness, told_figures
from fedledger.node.training import TrainingContext
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.compare import Comparison
from fedledger.platform.runs.fairness import own_scores, told
from fedledger.platform.runs.grid import plan_runs
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.run_folder import RunRecord
from fedledger.platform.runs.sweep import SweepOptions, run_sweep
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.update import START_LOSS
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.small import run_small, write_config

Q_FFL = 'aggregation = { method = "q_ffl@1", params = { q = 1.0, learning_rate = 1.0 } }'
AGNOSTIC = 'aggregation = { method = "agnostic@1" }'
FEDMGDA = 'aggregation = { method = "fedmgda@1" }'
UNKNOWN = dict.fromkeys(["variance", "worst_tenth", "jain", "jain_pay", "jain_pay_per_example"])


def small(folder: Path, extra: str, **config: Any) -> Experiment:
    folder.mkdir(exist_ok=True)
    return make_experiment(load_config(write_config(folder, extra=extra, **config)), folder)


# -- figures -----------------------------------------------------------------------------------------------------


@examples(100)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40), st.booleans())
def test_figures_are_those_of_numpy(values: list[float], lower_is_better: bool) -> None:
    found, n = Fairness.of(values, lower_is_better), len(values)
    ordered = np.sort(values)[:: -1 if lower_is_better else 1]
    assert found.n == n and found.mean == pytest.approx(np.mean(values))
    assert found.variance == pytest.approx(np.var(values), rel=1e-6, abs=1e-9 * max(values) ** 2)
    assert found.worst_tenth == pytest.approx(ordered[: -(-n // 10)].mean())
    if not any(values):
        assert found.jain is None
        return
    assert found.jain is not None and 1 / n - 1e-9 <= found.jain <= 1 + 1e-9
    largest = max(values)
    assert found.jain == pytest.approx(
        np.sum(np.array(values) / largest) ** 2 / n / np.sum(np.square(np.array(values) / largest))
    )


def test_figures_by_hand() -> None:
    assert Fairness.of([4.0, 0.0, 0.0, 0.0]) == Fairness(4, 1.0, 3.0, 0.0, 0.25)
    assert Fairness.of([2.0] * 20) == Fairness(20, 2.0, 0.0, 2.0, 1.0)
    assert Fairness.of(range(20)).worst_tenth == 0.5 and Fairness.of(range(20), True).worst_tenth == 18.5
    nobody = Fairness(0, None, None, None, None)
    assert Fairness.of([]) == Fairness.of([float("nan"), float("inf")]) == nobody
    assert told_figures(nobody.document()) == "of no participant known"
    assert told_figures(Fairness.of([0.0, 0.0]).document()).endswith("Jain index – of 2 participants")


# -- runs --------------------------------------------------------------------------------------------------------


def test_a_run_tells_what_its_model_is_worth_to_each_honest_participant(tmp_path: Path) -> None:
    attackers = '[[attackers]]\nattack = { method = "label_flip@1" }'
    experiment = small(tmp_path, attackers, participants=5)
    document = run_without_ledger(experiment, tmp_path, "serial")
    model = RunRecord.read(tmp_path)
    honest = [number for number, behaviour in enumerate(experiment.behaviours) if behaviour == "honest"]
    module = experiment.make_model()
    module.load_state_dict(load_file(tmp_path / "model.safetensors"))
    accuracies = []
    for number in honest:
        own = experiment.parts[number]
        with torch.no_grad():
            predicted = module(torch.from_numpy(np.array(own.inputs))).argmax(1).numpy()
        accuracies.append(float((predicted == own.targets).mean()))
    figures = document["fairness"]["score"]
    assert len(honest) == figures["n"] == 4 and set(document["fairness"]) == {"score"}
    assert figures["mean"] == pytest.approx(np.mean(accuracies))
    assert figures["variance"] == pytest.approx(np.var(accuracies))
    assert figures["worst_tenth"] == pytest.approx(min(accuracies))
    assert model.fairness == UNKNOWN | {key: figures[key] for key in ("variance", "worst_tenth", "jain")}
    assert told("accuracy", document["fairness"]) == [
        f"Fairness of accuracy on own examples over the honest: {told_figures(figures)}"
    ]


def test_a_ledger_tells_an_auditor_how_fair_pay_was(tmp_path: Path) -> None:
    made = run_small(tmp_path, Chain(EMBEDDED), participants=4, rounds=2, extra=AGNOSTIC)
    found = json.loads((tmp_path / "run.json").read_text())["fairness"]
    earned = [row["credit"] for row in made.summary["participants"]]
    sizes = {made.experiment.address(number): made.experiment.examples(number) for number in range(4)}
    each = [row["credit"] / sizes[row["address"]] for row in made.summary["participants"]]
    assert found["pay"]["mean"] == pytest.approx(np.mean(earned)) and found["pay"]["n"] == 4
    assert found["pay_per_example"]["jain"] == pytest.approx(sum(each) ** 2 / 4 / np.square(each).sum())
    result = audit_run(tmp_path)
    # What is remembered of multipliers, and claims, follow from the ledger and its content.
    assert result.reproduced and result.document()["fairness"] == {"pay": found["pay"]}
    assert "fairness of pay, credit units" in (tmp_path / "report.html").read_text()


def test_comparisons_and_sweeps_show_it_and_older_folders_stay_readable(tmp_path: Path) -> None:
    config = write_config(tmp_path, rounds=2)
    runs = plan_runs(config, ['training.aggregation={method="mean@1"},{method="fedmgda@1"}'], "0..1", False)
    sweep = run_sweep(runs, tmp_path, tmp_path / "sweep", SweepOptions(jobs=1))
    point = sweep.points()[1]["fairness"]
    records = [record for run, record in sweep.done if run.label == sweep.points()[1]["point"]]
    assert point["jain"]["mean"] == pytest.approx(np.mean([record.fairness["jain"] for record in records]))
    assert point["jain_pay"] == {"n": 0, "mean": None, "sd": None, "se": None}
    row = sweep.table()[1]
    assert row["Jain of pay"] == "–" and row["worst tenth"].startswith(f"{point['worst_tenth']['mean']:.4f} ± ")
    assert sweep.document()["runs"][2]["worst_tenth"] == records[0].fairness["worst_tenth"]
    folder = records[0].folder
    summary = json.loads((folder / "run.json").read_text())
    del summary["fairness"]
    (folder / "run.json").write_text(json.dumps(summary))
    comparison = Comparison.read([folder, records[1].folder])
    old, new = (run["fairness"] for run in comparison.document()["runs"])
    assert old == UNKNOWN and new == records[1].fairness
    assert [row["Jain"] for row in comparison.table()] == ["–", f"{new['jain']:.4f}"]
    summary["fairness"] = {"score": {"jain": "<b>"}}
    (folder / "run.json").write_text(json.dumps(summary))
    with pytest.raises(ConfigError, match="not the folder of a run"):
        RunRecord.read(folder)


def test_who_has_no_example_to_measure_on_is_left_out(tmp_path: Path) -> None:
    experiment = small(tmp_path, "")
    nothing = experiment.parts.kept(np.zeros(len(experiment.parts.whole), np.bool_))
    without = Experiment(**{**experiment.__getstate__(), "parts": nothing})
    assert own_scores(without, experiment.initial, range(4)) == []
    assert len(own_scores(experiment, experiment.initial, range(4))) == 4


# -- claims ------------------------------------------------------------------------------------------------------


def test_an_update_tells_the_loss_that_it_starts_from(tmp_path: Path) -> None:
    experiment = small(tmp_path, Q_FFL)
    spec, base = experiment.spec, experiment.initial
    assert spec.vectors == [START_LOSS] and spec.payload[1].length == 1
    plain = small(tmp_path / "plain", "")
    for number in range(2):
        made = experiment.trainer(number)(TrainingContext(spec, 1, experiment.address(number), base, None))
        module, own = experiment.make_model(), experiment.parts[number]
        experiment.evaluated.load(base.vector)
        module.load_state_dict(experiment.evaluated.module.state_dict())
        with torch.no_grad():
            outputs = module(torch.from_numpy(np.array(own.inputs)))
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(np.array(own.targets)))
        assert made.vectors[START_LOSS].tolist() == pytest.approx([float(loss)], rel=1e-5)
        # To tell it does not change training: the random stream is where it was.
        other = plain.trainer(number)(TrainingContext(spec, 1, experiment.address(number), base, None))
        assert (spec.fixed.to_float32(spec.fixed.quantise(other.delta)) == made.delta).all()


def test_a_loss_beyond_the_bound_is_told_as_the_bound(tmp_path: Path) -> None:
    experiment = small(tmp_path, Q_FFL + "\nfixed_point = { bound = 1.0 }")
    made = experiment.trainer(0)(TrainingContext(experiment.spec, 1, experiment.address(0), experiment.initial, None))
    assert made.vectors[START_LOSS].tolist() == [1.0]


@pytest.mark.parametrize("extra", [Q_FFL, AGNOSTIC, FEDMGDA])
def test_the_backends_make_one_model(extra: str, tmp_path: Path) -> None:
    models = set()
    for backend in ("serial", "batched", "pool"):
        folder = tmp_path / backend
        document = run_without_ledger(small(folder, extra), folder, backend, 2)
        models.add(document["final_model"])
        assert document["score"] > 0.15
    assert len(models) == 1


def test_claims_travel_beside_what_a_solver_sends_and_any_codec(tmp_path: Path) -> None:
    solver = 'solver = { method = "scaffold@1", params = { learning_rate = 0.1, local_epochs = 1 } }'
    experiment = small(tmp_path, f"{Q_FFL}\n{solver}")
    assert experiment.spec.vectors == ["control", START_LOSS]
    assert run_without_ledger(experiment, tmp_path, "serial")["rounds"] == 3
    payload = 'payload = [{ name = "delta", codec = { method = "top_k@1", params = { k = 200 } } }, '
    folder = tmp_path / "coded"
    coded = small(folder, f'{Q_FFL}\n{payload}{{ name = "start_loss", length = 1 }}]')
    assert run_without_ledger(coded, folder, "serial")["rounds"] == 3
    with pytest.raises(ConfigError, match="an update has"):
        small(folder, f"{Q_FFL}\n{payload}]")


@pytest.mark.parametrize(("extra", "most"), [(Q_FFL, 2 / (2 + 2)), (AGNOSTIC, 2 / 5)])
def test_a_lie_about_ones_loss_is_worth_little(extra: str, most: float, tmp_path: Path) -> None:
    """Its sender's share of the sum, round by round; examples do not count, so all weigh the same."""
    judged = '\njudgement = { losses = "median" }\n[[attackers]]\nattack = { method = "loss_claim@1" }'
    made = run_small(tmp_path, Chain(EMBEDDED), participants=5, rounds=4, extra=extra + judged)
    store, liar = (
        LocalStore(tmp_path / "store"),
        made.experiment.address(made.experiment.behaviours.index("loss_claim")),
    )
    place = sorted(map(made.experiment.address, range(5)), key=str.lower).index(liar)
    shares = []
    for index in range(1, 5):
        told_of = canonical.decode(store.get(made.run.task.rounds[index].proposal.report))["aggregation"]
        if len(told_of["rows"]) == 5:
            shares.append(told_of["coefficients"][place] / sum(told_of["coefficients"]))
    assert shares and 1 / 5 < max(shares) <= most + 1e-6
    assert audit_run(tmp_path).reproduced
