"""Memory of long runs: bounded by what a round needs, however many rounds and participants there are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fedledger.platform.memory import measurable

_RUN = """
import json, os, sys
from pathlib import Path
from fedledger.platform.backends.pool import Pool
from fedledger.platform.config import ExperimentConfig
from fedledger.platform.memory import ProcessTree
from fedledger.platform.setting import make_setting
from fedledger.platform.simulation import Simulation
given = make_setting(ExperimentConfig.model_validate(json.loads(sys.argv[1])), Path())
tree, sizes = ProcessTree(os.getpid()), []
with Pool(given, 2) as pool:
    for done in Simulation(given, pool).rounds():
        if done.index % 100 == 0:
            sizes.append(tree.pss())
print(json.dumps(sizes))
"""
MB = 2**20


@pytest.mark.skipif(not measurable(), reason="only Linux tells proportional set sizes")
def test_memory_does_not_grow_with_the_rounds() -> None:
    config = {
        "name": "memory",
        "participants": 50,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [32], "classes": 10}},
        "data": {"partition": {"method": "iid@1"}},
        "training": {"rounds": 400, "selection": {"method": "uniform@1", "params": {"count": 10}}},
        "ledger": {"quorum": 10},
    }
    done = subprocess.run([sys.executable, "-c", _RUN, json.dumps(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    # A model has 10 kB and a round's updates 100 kB: what was kept of each round would be 30 MB by now.
    assert len(sizes) == 4
    assert max(sizes) - sizes[0] < 15 * MB
