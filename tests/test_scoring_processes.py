"""Separate programs with tables of their own score each other's updates on a chain on which time passes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import start_chain
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.ledger_tools.deploy import Deployment
from support.consortium import Consortium, Member, write_tables
from support.odd_scorer import SILENT, SLANDER
from support.rows import rows_elsewhere
from support.scored import owed_by

OWNERS, SLANDERER, SILENT_ONE = 6, 4, 5
TERMS = {
    "rounds": 2,
    "max_participants": OWNERS,
    "min_participants": OWNERS,
    "batched": "true",
    "scorers": OWNERS,
    "score_period": 14,
    "grace_period": 4,
    "enrol_period": 6,
    "commit_period": 20,
    "reveal_period": 20,
    "propose_period": 12,
    "challenge_window": 0,
    "penalty_gwei": 0,
    "standbys": 1,
}
SEED = ("--experiment-seed", 0)
LIAR = [sys.executable, str(Path(__file__).parent / "support" / "odd_scorer.py")]


@contextmanager
def scored(folder: Path) -> Iterator[tuple[Consortium, Member]]:
    """Make folders, a chain and a posted task for a publisher, two aggregators and some owners; programs are killed."""
    names = ["publisher", "aggregator", "standby", *(f"owner{number}" for number in range(OWNERS))]
    for name in [*names, "store"]:
        (folder / name).mkdir()
    write_tables([folder / name for name in names if name.startswith(("publisher", "owner"))])
    chain = start_chain("anvil", block_time=1)
    place = ["--rpc", chain.url, "--deployment", "deployment.json", "--store-dir", str(folder / "store")]
    members = {name: Member(folder / name, place) for name in names}
    try:
        publisher = members["publisher"]
        publisher.cli("deploy", "--rpc", chain.url, *SEED, where=False)
        for member in [*members.values()][1:]:
            shutil.copy(publisher.folder / "deployment.json", member.folder)
        first, second, standby, *owners = members.values()
        made = Consortium(chain.url, first, second, owners, folder, {"standby": standby})
        made.draft(**TERMS)
        publisher.json("task", "post", "task.toml")
        yield made, standby
    finally:
        for member in members.values():
            if member.program is not None and member.program.poll() is None:
                member.kill()
        chain.stop()


def wait_for(history: History, index: int, is_so: object, seconds: float = 180.0) -> RoundHistory:
    """Wait until something is so of a round."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        current = history.update().task(1).rounds.get(index)
        if current is not None and is_so(current):  # type: ignore[operator]
            return current
        time.sleep(0.2)
    raise AssertionError(f"round {index} does not get there")


@pytest.mark.long
def test_programs_score_whoever_is_killed_silent_or_lies(tmp_path: Path) -> None:
    with scored(tmp_path) as (made, standby):
        for number, owner in enumerate(made.owners):
            owner.take_part(*SEED, "--participant", number)
            lie = {SLANDERER: SLANDER, SILENT_ONE: SILENT}.get(number)
            if lie is not None:
                owner.kill()
                owner.command = [*LIAR, lie, *owner.command[len([sys.executable, "-m", "x"]) :]]
                owner.start()
        made.aggregator.start("aggregator", "start", *SEED, "--poll", 0.1)
        standby.start("aggregator", "start", *SEED, "--standby", 0, "--poll", 0.1)
        chain = Chain(made.url)
        ledger = Deployment.read(made.publisher.folder / "deployment.json").open(chain)
        history = History(ledger)

        # The silent one never commits, so nobody reveals before the end of the commit period: time to kill a scorer.
        wait_for(history, 1, lambda r: r.scoring is not None and len(r.scoring.commitments) == OWNERS - 1)
        made.owners[0].kill()
        made.owners[0].start()
        first = wait_for(history, 1, lambda r: r.scoring is not None and r.scoring.tallied)
        owners = {history.owners[i]: i for i in history.owners}
        ids = [owners[account] for account in accounts(made)]
        assert first.scoring is not None
        assert set(first.scoring.scores) == set(first.scoring.commitments) and len(first.scoring.scores) == OWNERS - 1
        assert first.scoring.silent == (ids[SILENT_ONE],) and ids[SLANDERER] in first.scoring.far
        assert not first.scoring.outvoted

        # In the second round the aggregator dies once it has called the scorers.
        wait_for(history, 2, lambda r: r.scoring is not None)
        made.aggregator.kill()
        second = wait_for(history, 2, lambda r: r.proposal is not None)
        assert second.proposer == history.task(1).seats[1]
        assert second.scoring is not None and second.scoring.tallied_at is not None
        for owner in made.owners:
            owner.ended(180)
        assert history.update().task(1).finished
        assert chain.balance(ledger.address) == owed_by(ledger, history, 1)
        found = made.publisher.json("audit")
        assert found["reproduced"] is True
    for number, owner in enumerate(made.owners):
        assert not rows_elsewhere(tmp_path, owner.folder), number


def accounts(made: Consortium) -> list[str]:
    """Return the owners' accounts."""
    from fedledger.platform.experiment.accounts import experiment_address, participant_role

    return [experiment_address(0, participant_role(number)) for number in range(len(made.owners))]
