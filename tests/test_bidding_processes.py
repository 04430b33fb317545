"""Separate programs with tables of their own bid for work, and are chosen and paid by an auction."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.history import History
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.experiment.accounts import experiment_address, participant_role
from fedledger.protocol.records.verdicts import Verdict
from support.consortium import consortium

OWNERS = 4
SEED = ("--experiment-seed", 0)
COSTS = (40, 25, 90, 60)
TERMS = {
    "rounds": 2,
    "max_participants": OWNERS,
    "min_participants": OWNERS,
    "quorum": 2,
    "units_per_round": 300,
    "enrol_period": 6,
    "challenge_window": 0,
    "penalty_gwei": 0,
}
MECHANISM = """
[training]
mechanism = { method = "vcg@1", params = { winners = 2 } }
report = [{ name = "cost", most = 1000 }]
bidding = 2"""


@pytest.mark.long
def test_programs_bid_and_the_two_who_ask_least_work_and_are_paid_what_the_third_asked(tmp_path: Path) -> None:
    with consortium(tmp_path, OWNERS) as made:
        made.draft(**TERMS)
        task = made.publisher.folder / "task.toml"
        task.write_text(task.read_text().replace("\n[training]", MECHANISM))
        made.publisher.json("task", "post", "task.toml")
        for number, owner in enumerate(made.owners):
            owner.take_part(*SEED, "--participant", number, "--bid", f"cost={COSTS[number]}")
        # One that is killed bids the same again.
        made.owners[1].kill()
        made.owners[1].take_part(*SEED, "--participant", 1, "--bid", f"cost={COSTS[1]}")
        made.aggregator.start("aggregator", "start", *SEED, "--poll", 0.1)
        for owner in made.owners:
            owner.ended(180)
        ledger = Deployment.read(made.publisher.folder / "deployment.json").open(Chain(made.url))
        history = History(ledger).update()
        found, owners = history.task(1), {address: i for i, address in history.owners.items()}
        ids = [owners[experiment_address(0, participant_role(number))] for number in range(OWNERS)]
        assert [r.bidding for r in found.settled] == [True, False, True, False]
        for settled in found.settled:
            assert settled.proposal is not None
            if settled.bidding:
                assert settled.verdicts == dict.fromkeys(ids, Verdict.HEARD)
            else:
                assert set(settled.selected) == {ids[0], ids[1]}
                assert {i: units for i, units in settled.proposal.shares.items() if units} == {ids[0]: 60, ids[1]: 60}
        assert made.publisher.json("audit")["reproduced"] is True
        rows = made.publisher.json("history")
        assert "heard" in str(rows)
