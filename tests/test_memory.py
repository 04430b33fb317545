"""Memory of long runs: bounded by what a round needs, however many rounds and participants there are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fedledger.platform.bench.scale import make_experiment
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.storage.process_memory import measurable

_RUN = """
import json, os, sys
from pathlib import Path
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.storage.process_memory import ProcessTree
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
# Pages of files count more as soon as another program that has them, too, ends.
def own(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
given = make_experiment(ExperimentConfig.model_validate(json.loads(sys.argv[1])), Path())
tree, sizes = ProcessTree(os.getpid()), []
with Pool(given, 2) as pool:
    for done in play(MemoryRecord(given), pool):
        if done.index % 100 == 0:
            sizes.append(sum(map(own, tree.members())))
print(json.dumps(sizes))
"""
_SCALE = ["bench", "scale", "--selected", "5", "--rounds", "4", "--format", "json", "--participants"]
MB = 2**20


@pytest.mark.long
@pytest.mark.skipif(not measurable(), reason="only Linux tells proportional set sizes")
def test_memory_does_not_grow_with_the_rounds() -> None:
    config = {
        "name": "memory",
        "participants": 50,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [32], "classes": 10}},
        "data": {"partition": {"method": "iid@1"}},
        "training": {"pipeline": "plain", "rounds": 400, "selection": {"method": "uniform@1", "params": {"count": 10}}},
        "ledger": {"quorum": 10},
    }
    done = subprocess.run([sys.executable, "-c", _RUN, json.dumps(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    # A model has 10 kB and a round's updates 100 kB: what was kept of each round would be 30 MB by now.
    assert len(sizes) == 4
    assert max(sizes) - sizes[0] < 15 * MB


@pytest.mark.parametrize("options", [["500"], ["6", "--ledger"]])
def test_rounds_of_many_participants_can_be_measured(options: list[str]) -> None:
    command = [sys.executable, "-m", "fedledger.platform.cli.app", *_SCALE, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["round"] for row in document["rows"]] == [1, 2, 3, 4]
    assert document["most_memory_mb"] == max(row["memory_mb"] for row in document["rows"]) > 50


def test_more_participants_than_a_ledger_takes_are_refused_before_anything_is_spent() -> None:
    experiment = make_experiment(5000, 10, 1)
    with pytest.raises(ConfigError, match="--no-ledger"):
        experiment.task_params(ContentRef.of(b""))
