"""A run on the embedded chain whose process is killed as soon as somebody was slashed.

Run PYTHONPATH=tests python -m support.stopped CONFIG FOLDER. It prints what the run's history was by then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.history import History
from fedledger.ledger_tools.audit.export import DEPLOYMENT_FILE
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.engine.with_ledger import TASK, RoundMetrics
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.ledger_run import open_chain, run_with_ledger
from fedledger.storage.local import LocalStore


def told(chain: Chain, folder: Path) -> list[str]:
    """Return the number of blocks of a run, its draws, its checks, and its slashes, if any."""
    task = History(Deployment.read(folder / DEPLOYMENT_FILE).open(chain)).update().task(TASK)
    seeds = [(index, bytes(current.check_seed).hex()) for index, current in task.rounds.items() if current.settled]
    checks = [(check.round, check.participant, check.auditor) for check in task.checks]
    return [str(chain.block_number()), str(seeds), str(checks), *map(str, task.slashes)]


def main(config: Path, folder: Path) -> None:
    """Run, and end this process by SIGKILL."""
    with open_chain("embedded", folder) as chain:

        def watch(metrics: RoundMetrics) -> None:
            history = told(chain, folder)
            if "FAILED_CHECK" in history[-1]:
                print("\n".join(history), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

        experiment = make_experiment(load_config(config), config.parent)
        run_with_ledger(experiment, config.parent, folder, chain, LocalStore(folder / "store"), watch)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
