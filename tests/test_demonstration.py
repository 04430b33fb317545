"""The demonstration on a real chain keeps its promises; benchmarks/demonstration.py plays all ten seeds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.report.tables import pay_frame, reputations_frame
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.platform.engine.detection_alone import pay_beside_honest, shares_by_detection_alone
from fedledger.platform.engine.plain_mean import mean_scores
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import DEMO, load_config
from fedledger.platform.experiment.experiment import HONEST
from fedledger.platform.runs.results import write_results
from fedledger.storage.local import LocalStore


def test_attackers_are_found_remembered_and_not_paid(tmp_path: Path) -> None:
    config = load_config(DEMO)
    experiment, store = make_experiment(config, DEMO.parent), LocalStore(tmp_path / "store")
    with running_chain("anvil") as process:
        finished = run(experiment, Chain(process.url), store, tmp_path)
        plain_mean = mean_scores(config, DEMO.parent)
        summary = write_results(finished, experiment, store, tmp_path, plain_mean)
        task = TaskView.of(finished.history, 1)
        reputations, pay = reputations_frame(task), pay_frame(task)
    assert summary["rounds"] == 20
    assert summary["accuracy"] >= 0.92
    assert summary["accuracy"] > plain_mean[-1]
    honest = [row["address"] for row in summary["participants"] if row["behaviour"] == HONEST]
    attackers = [row["address"] for row in summary["participants"] if row["behaviour"] != HONEST]
    assert len(attackers) == 3
    assert reputations.loc[10, attackers].max() < reputations.loc[10, honest].min()
    late = pay.loc[11:].reindex(columns=honest + attackers, fill_value=0).sum()
    assert late[attackers].max() < 0.05 * median(late[honest])
    behaviours = [row["behaviour"] for row in summary["participants"]]
    earned = pay_beside_honest([row["credit"] for row in summary["participants"]], behaviours)
    alone = [sum(shares.get(n, 0) for shares in shares_by_detection_alone(config, DEMO.parent)) for n in range(10)]
    # Detection alone lets the attacker through whose updates it refuses only now and then; reputation does not.
    assert pay_beside_honest(alone, experiment.behaviours)["intermittent"] > 0.5
    assert earned["intermittent"] < 0.15
    assert {refusal.address for refusal in task.refusals(store)} >= set(attackers)

    result = audit_run(tmp_path)
    assert result.reproduced and result.rounds == 20
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["round"] for row in metrics] == list(range(1, 21))
    assert metrics[-1]["gas"] <= summary["gas"]


@pytest.mark.long
def test_nobody_honest_is_refused_where_nobody_attacks(tmp_path: Path) -> None:
    config = load_config(DEMO, attackers=[], seed=4)
    experiment, store = make_experiment(config, DEMO.parent), LocalStore(tmp_path / "store")
    with running_chain("anvil") as process:
        finished = run(experiment, Chain(process.url), store, tmp_path)
        assert len(TaskView.of(finished.history, 1).refusals(store)) <= 0.02 * 10 * 20
