"""A run's folder: its configuration, how its data are divided, and a record that others can read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console
from scipy.stats import entropy

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.history import History
from fedledger.learning.data import Dataset, Parts
from fedledger.learning.label_counts import MAX_LISTED, LabelCounts
from fedledger.ledger_tools.report import page
from fedledger.ledger_tools.report.task_view import TaskView, exported_history
from fedledger.platform.cli import progress
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, load_config
from fedledger.platform.experiment.provenance import flat
from fedledger.platform.experiment.run_files import CONFIG_FILE, PARTITION_FILE, PARTITION_PAGE
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.run_folder import RunRecord, begin_run
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.storage.local import LocalStore
from support.small import run_small, write_config

COUNTS = arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.integers(0, 50))


@given(COUNTS)
def test_figures_are_those_of_scipy_and_pandas(counts: np.ndarray) -> None:
    labels = LabelCounts(counts)
    filled = counts[counts.sum(axis=1) > 0]
    assert labels.entropies[counts.sum(axis=1) > 0] == pytest.approx(entropy(filled, base=2, axis=1))
    assert (labels.entropies[counts.sum(axis=1) == 0] == 0).all()
    assert (labels.effective_classes <= labels.classes + 1e-9).all()
    document = labels.document()
    frame = pd.DataFrame(document["each"])
    assert frame["examples"].tolist() == counts.sum(axis=1).tolist()
    assert frame["counts"].tolist() == counts.tolist()
    assert document["size_quantiles"] == pytest.approx(frame["examples"].quantile(document["quantiles"]).tolist())


def test_parts_count_their_labels() -> None:
    dataset = Dataset.of(np.zeros((6, 1)), [0, 1, 2, 0, 1, 0], classes=4)
    parts = Parts(dataset, [np.array([0, 3, 5]), np.array([], np.int64), np.array([1, 2, 4])])
    assert LabelCounts.of(parts).counts.tolist() == [[3, 0, 0, 0], [0, 0, 0, 0], [0, 2, 1, 0]]


def test_of_many_participants_the_largest_the_smallest_and_quantiles_are_shown() -> None:
    sizes = np.random.default_rng(0).permutation(5_001)
    labels = LabelCounts(np.stack([sizes, np.zeros_like(sizes)], axis=1))
    assert labels.sizes[labels.sample(5)].tolist() == [5_000, 3_750, 2_500, 1_250, 0]
    assert "each" not in labels.document() and labels.participants > MAX_LISTED
    markup = page.heat_map(labels)
    assert markup.count("<td style") == 2 * page.MAX_PARTICIPANTS
    assert "40 of 5,001 participants" in markup
    assert progress.heat_map(labels) is None


def test_of_many_classes_the_most_frequent_are_shown() -> None:
    counts = np.arange(150)[None]
    markup = page.heat_map(LabelCounts(counts))
    titles = re.findall(r"class (\d+): (\d+)", markup)
    assert [(int(c), int(n)) for c, n in titles] == [(c, c) for c in range(50, 150)]


def test_a_map_for_the_terminal_has_every_count() -> None:
    labels = LabelCounts(np.array([[5, 0, 17], [0, 8, 0]]))
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(progress.heat_map(labels))
    rows = [[float(number) for number in re.findall(r"[\d.]+", line)] for line in captured.get().splitlines()[2:]]
    assert rows == [[0, 5, 0, 17, 22, pytest.approx(1.71, abs=0.01)], [1, 0, 8, 0, 8, 1.0]]


def test_both_kinds_of_run_leave_a_record_that_can_be_read(tmp_path: Path) -> None:
    with_ledger, without_ledger = tmp_path / "with", tmp_path / "without"
    for folder in (with_ledger, without_ledger):
        folder.mkdir()
    small = run_small(with_ledger, Chain(), rounds=1)
    begin_run(small.experiment, with_ledger)
    config = load_config(write_config(without_ledger, rounds=1)).model_dump()
    config["training"]["detection"] = []
    experiment = make_experiment(ExperimentConfig.model_validate(config), without_ledger)
    document = run_without_ledger(experiment, without_ledger, "serial")
    records = [RunRecord.read(folder) for folder in (with_ledger, without_ledger)]
    assert records[1].summary == document
    assert [record.summary["name"] for record in records] == ["small", "small"]
    assert [len(record.scores) for record in records] == [1, 1]
    first, second = (record.settings for record in records)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert {key.split(".")[1] for key in differing} == {"detection"}
    for folder, made in ((with_ledger, small.experiment), (without_ledger, experiment)):
        written = canonical.decode((folder / CONFIG_FILE).read_bytes())
        assert ExperimentConfig.model_validate(written["config"]) == made.config
        assert written["fedledger"]
        listed = json.loads((folder / PARTITION_FILE).read_text())["each"]
        assert [row["examples"] for row in listed] == [len(part) for part in made.parts]
        assert (folder / PARTITION_PAGE).read_text().count("<td style") == 4 * 10
    assert "Examples by participant and class" in (with_ledger / "report.html").read_text()


def test_the_map_is_there_before_the_first_round_and_without_an_end_there_is_no_record(tmp_path: Path) -> None:
    experiment = make_experiment(load_config(write_config(tmp_path, rounds=1)), tmp_path)

    def interrupt(row: object) -> None:
        assert (tmp_path / PARTITION_PAGE).exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_without_ledger(experiment, tmp_path, "serial", watch=interrupt)
    with pytest.raises(ConfigError, match="not the folder of a run that has ended"):
        RunRecord.read(tmp_path)


def test_a_task_looks_the_same_on_its_ledger_and_in_the_folder_of_its_run(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), rounds=2)
    live = TaskView.of(History(small.run.ledger).update(), 1)
    read = TaskView.of(exported_history(tmp_path), 1)
    assert read == live
    assert [(r.index, r.accepted, r.refused) for r in read.settled] == [
        (row["round"], row["accepted"], row["refused"]) for row in RunRecord.read(tmp_path).metrics
    ]
    assert [participant.credit for participant in read.participants] == [
        row["credit"] for row in small.summary["participants"]
    ]
    refusals = read.refusals(LocalStore(tmp_path / "store"))
    absent_or_refused = sum(sum(participant.refused.values()) for participant in read.participants)
    assert len(refusals) == absent_or_refused == len(pd.read_csv(tmp_path / "refusals.csv"))


def test_leaves_of_nested_documents() -> None:
    assert flat({"a": {"b": 1, "c": []}, "d": [{"e": None}, 2], "f": {}}) == {
        "a.b": 1,
        "a.c": [],
        "d.0.e": None,
        "d.1": 2,
        "f": {},
    }
    assert flat({}) == {}
