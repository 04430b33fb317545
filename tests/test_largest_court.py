"""The largest court that a deployment may have fits into the gas that programs give, on slots that nobody touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedledger.contracts.chain.records import MAX_GAS, Receipt
from fedledger.contracts.ledger.court import level_transcript
from fedledger.contracts.ledger.records import DisputeStatus, Finding
from fedledger.ledger_tools.verifier.striking import MOST_STRUCK
from fedledger.protocol.encoding.keccak import keccak
from support import world as worlds
from support.world import World, world

SEATS = 15, 31, 63
LOOKS = 64
SALT = bytes(32)


def seat_judges(w: World, count: int) -> None:
    """Let accounts serve the task, and play a round up to its proposal."""
    accounts = [w.purse(f"judge {number}") for number in range(count)]
    w.ledger.register_all(accounts, w.ledger.settings().min_verifier_stake)
    for account in accounts:
        w.ledger.enlist(account)
        w.ledger.serve(account, w.number)
    w.play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
    w.ledger.deposit(w.purse("challenger"), 1)


def next_block(w: World) -> None:
    w.chain.connection.ask("evm_mine", [])


def hear(w: World, level: int, votes: list[tuple[Finding, bytes]]) -> Receipt:
    """Draw a jury, and let its members find this, in the order of their seats; return the receipt of the count."""
    ledger, pusher = w.ledger, w.accounts["challenger"]
    next_block(w)
    ledger.draw_jury(pusher, 0)
    members = ledger.jury(0, level).members
    assert len(members) == SEATS[level] == len(votes)
    owners = {
        w.history.update().ids[account.address]: account for role, account in w.accounts.items() if "judge" in role
    }
    told = dict(zip(members, votes, strict=True))
    for juror, (finding, transcript) in told.items():
        ledger.commit_vote(owners[juror], 0, ledger.vote_of(0, level, juror, finding, transcript, SALT))
    for juror, (finding, transcript) in told.items():
        ledger.reveal_vote(owners[juror], 0, finding, transcript, SALT)
    return ledger.decide(pusher, 0)


@pytest.mark.parametrize("agreeing", [0, 32], ids=["all differ", "few more than half agree"])
def test_the_highest_jury_is_drawn_counted_and_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agreeing: int
) -> None:
    monkeypatch.setattr(worlds, "LEDGER", worlds.LEDGER + "jury_size = 15\nleast_pool = 15\nbond_gwei = 30000000\n")
    with world(tmp_path, participants=2, rounds=1, verifiers=0) as w:
        w.join()
        seat_judges(w, SEATS[-1] + 3)
        ledger, pusher, bond = w.ledger, w.accounts["challenger"], w.params.bond
        ledger.challenge_round(pusher, w.number, 1)
        for level in (0, 1):
            hear(w, level, [(Finding.VALID, level_transcript(SALT, level))] * SEATS[level])
            ledger.appeal(pusher, 0, bond << (level + 1))
        others = [(Finding.VALID, keccak(b"%d" % number)) for number in range(SEATS[2] - agreeing)]
        counted = hear(w, 2, others + [(Finding.INVALID, SALT)] * agreeing)
        w.chain.advance(worlds.PERIOD)
        closed = ledger.close_dispute(pusher, 0)
        expected = DisputeStatus.OVERTURNED if agreeing else DisputeStatus.UNDECIDED
        assert w.statuses() == [expected]
        assert max(counted.gas, closed.gas) < MAX_GAS
        w.check_money()


def test_a_pool_of_those_who_left_can_be_drawn_from_and_struck(tmp_path: Path) -> None:
    """A small jury is drawn among as many dead places as a draw looks at; as many as one call strikes are struck."""
    with world(tmp_path, participants=2, rounds=1, verifiers=0) as w:
        w.join()
        seat_judges(w, LOOKS + 2 * MOST_STRUCK)
        ledger, pusher = w.ledger, w.accounts["challenger"]
        dead = [w.accounts[f"judge {number}"] for number in range(3, LOOKS + 2 * MOST_STRUCK)]
        for account in dead:
            ledger.retire(account)
        next_block(w)
        ledger.challenge_round(pusher, w.number, 1)
        next_block(w)
        ledger.draw_jury(pusher, 0)
        lapsed = ledger.lapsed(w.number)
        assert len(lapsed) < len(dead) and len(lapsed) >= MOST_STRUCK
        ledger.strike(pusher, w.number, lapsed[:MOST_STRUCK])
        assert len(ledger.lapsed(w.number)) == len(lapsed) - MOST_STRUCK
