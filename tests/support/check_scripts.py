"""Short histories of committed data and checks, each of which turns on some of their rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from fedledger.contracts.ledger.checks import RoundFindings, findings_hash
from fedledger.contracts.ledger.records import CheckState, DisputeStatus, RoundStatus, Settings
from fedledger.protocol.records.signatures import data_message, sign
from fedledger.protocol.records.verdicts import Verdict
from support.court_scripts import ALL, DIRECT, LONG, SLOW, YOUNG, Court, script
from support.ledger_check_rules import BOX, CLAIM, OPENING, SECRET
from support.ledger_checks import appeal_bond
from support.ledger_machine import AUDITORS, EVERYBODY, INSPECTORS, KEYS, OWNERS, PAYOUTS, SIGNERS, STAKE, STRANGER
from support.ledger_records import ZERO, Check, Found, Posted, Task

PERIOD = 10
THREE = next(key for key, accounts in AUDITORS.items() if accounts == tuple(INSPECTORS))
WORD = int.from_bytes(keccak(b"root"), "big") | 1
CHECKED: dict[str, Any] = {
    "check_rate": 1_000_000,
    "check_period": PERIOD,
    "check_penalty": 403,
    "auditor_count": 3,
    "auditors": THREE,
    "challenge_window": 5,
}


class Inspection:
    """A round of a task with checks, whose steps a script takes one by one."""

    def __init__(self, c: Court, ledger: Settings = YOUNG, play: dict[str, Any] | None = None, **terms: Any) -> None:
        self.c = c
        c.start(ledger, **(CHECKED | terms))
        self.number = c.play(**(play or {}))

    @property
    def task(self) -> Task:
        return self.c.model.tasks[DIRECT - 1]

    def check(self, i: int) -> Check:
        return self.task.rounds[self.number - 1].checks[i]

    def at(self, periods: int, early: int = 0) -> None:
        """Let time pass until so many periods after the proposal."""
        until = self.task.rounds[self.number - 1].proposed + periods * self.task.params.check_period
        self.c.wait(max(0, until - early - self.c.model.now))

    def summon(self, *ids: int) -> bool:
        outcome = self.task.rounds[self.number - 1].outcome
        assert outcome is not None
        return self.c.do("summon", STRANGER, DIRECT, self.number, ids, Posted(outcome))

    def answer(self, i: int) -> bool:
        return self.c.do("answerCheck", OWNERS[i], DIRECT, self.number, BOX, OPENING, CLAIM)

    def findings(self, i: int, passes: bool) -> Found:
        transcripts = (keccak(bytes([i])),) * passes
        return Found((RoundFindings(self.number, (i,) * passes, (i,) * (not passes), transcripts),))

    def promise(self, place: int, found: Found) -> bool:
        value = findings_hash(DIRECT, place, found.rounds, SECRET)
        return self.post(place, Found(), ZERO, value)

    def post(self, place: int, found: Found, salt: bytes = SECRET, following: bytes = ZERO, by: str = "") -> bool:
        sender = by or INSPECTORS[place]
        return self.c.do("postFindings", sender, DIRECT, tuple(INSPECTORS), place, found, salt, following)

    def judge(self, i: int, passes: bool) -> bool:
        place, found = self.check(i).auditor, self.findings(i, passes)
        assert self.promise(place, found)
        return self.post(place, found)

    def appeal(self, i: int, by: str = "", value: int | None = None) -> bool:
        due = appeal_bond(self.task) if value is None else value
        return self.c.do("appealCheck", by or OWNERS[i], DIRECT, self.number, BOX, OPENING, CLAIM, value=due)

    def end(self, *ids: int) -> bool:
        return self.c.end_all(DIRECT, self.number, ids, tuple(INSPECTORS))

    def are(self, state: CheckState, ids: Iterable[int]) -> None:
        assert {self.check(i).state for i in ids} == {state}
        self.c.every_view_agrees()


@script
def data(c: Court) -> None:
    """Of nothing, by strangers, and signed by others or for another round."""
    c.start()
    assert not c.do("commitData", OWNERS[0], DIRECT, WORD >> 32 << 32)
    assert c.do("commitData", OWNERS[0], DIRECT, WORD)
    c.agree(SIGNERS[9], 9)
    assert c.do("register", OWNERS[9], SIGNERS[9], PAYOUTS[0], STAKE, value=STAKE)
    assert not c.do("commitData", OWNERS[9], DIRECT, WORD)
    c.play()
    place = c.model.chain_id, to_checksum_address(c.model.address), DIRECT

    def signed(number: int, i: int, by: int) -> bool:
        signature = sign(data_message(place, number, i, WORD), KEYS[c.signer(by)])
        return c.do("commitDataOf", STRANGER, DIRECT, (i,), (WORD,), (signature,))

    assert not signed(1, 0, 0) and not signed(2, 0, 1) and signed(2, 0, 0)


@script
def draws(c: Court) -> None:
    """Two of five are drawn, on an average."""
    round_ = Inspection(c, check_rate=400_000)
    assert not round_.summon(0)
    c.wait(0)
    drawn = [i for i in ALL if round_.summon(i)]
    assert 0 < len(drawn) < len(ALL)
    round_.are(CheckState.SUMMONED, drawn)


@script
def draws_of_the_accepted(c: Court) -> None:
    round_ = Inspection(c, play={"refusals": [Verdict.NORM] * 2 + [None] * 7})
    c.wait(0)
    assert not round_.summon(0) and not round_.summon(1) and round_.summon(2)


@script
def draws_of_an_old_block(c: Court) -> None:
    round_ = Inspection(c, SLOW, check_period=200)
    c.wait(0, LONG)
    assert not round_.summon(0)


@script
def draws_by_another_round(c: Court) -> None:
    """Two rounds below quorum are proposed alike; the second one takes the first one's place."""
    few = {"silent": EVERYBODY ^ 0b11}
    round_ = Inspection(c, SLOW, few, check_period=200, max_unfinal=1, quorum=3, min_participants=3)
    assert c.play(**few) == 2
    c.wait(0)
    first, second = (r.outcome for r in round_.task.rounds)
    assert first == second and not round_.summon(0)


@script
def late_steps(c: Court) -> None:
    """Each step of a check is tried when it is too late for it, and each end when it is too early."""
    round_ = Inspection(c)
    c.wait(0)
    assert round_.summon(*range(8))
    c.wait(5)
    c.push(DIRECT)
    for i in range(6):
        assert round_.answer(i)
    round_.at(1)
    assert not round_.summon(8)
    round_.at(2, early=1)
    assert not round_.end(7)
    round_.at(2)
    assert not round_.answer(6) and round_.end(7)
    for i in range(4):
        assert round_.judge(i, False)
    round_.at(3)
    assert not round_.judge(4, False)
    for i in range(2):
        assert round_.appeal(i)
    round_.at(4, early=1)
    assert not round_.end(2)
    round_.at(4)
    assert not round_.appeal(2) and round_.end(2)
    round_.at(5, early=1)
    assert not round_.end(0)
    round_.at(5)
    assert not round_.judge(0, False) and round_.end(0, 1, 3, 6)
    round_.are(CheckState.ENDED, [2, 3, 6, 7])
    round_.are(CheckState.PASSED, [0, 1])


@script
def appeals_of_checks(c: Court) -> None:
    """One is granted and one refused; signers, strangers and other auditors have no say."""
    round_ = Inspection(c)
    c.wait(0)
    assert round_.summon(0, 1, 2)
    for i in range(3):
        assert round_.answer(i)
    place, found = round_.check(0).auditor, round_.findings(0, False)
    other = (place + 1) % 3
    assert not round_.post(place, found)
    assert round_.promise(place, found) and round_.promise(other, found)
    assert not round_.post(other, found) and not round_.post(place, found, by=STRANGER)
    assert not round_.post(place, found, salt=ZERO) and round_.post(place, found)
    c.every_view_agrees()
    assert not round_.post(place, found)
    bare = Found((replace(round_.findings(2, True).rounds[0], transcripts=()),))
    assert round_.promise(round_.check(2).auditor, bare) and not round_.post(round_.check(2).auditor, bare)
    assert round_.judge(1, False)
    assert not round_.appeal(0, by=c.signer(0)) and not round_.appeal(0, value=appeal_bond(round_.task) - 1)
    assert round_.appeal(0) and round_.appeal(1)
    assert round_.promise(place, found) and not round_.post(place, found)
    assert round_.judge(0, True) and round_.judge(1, False)
    assert not round_.end(0)
    c.wait(5)
    c.push(DIRECT)
    assert round_.end(0, 1) and not round_.end(2)
    round_.are(CheckState.PASSED, [0])
    round_.are(CheckState.ENDED, [1])


@script
def fallen_checks(c: Court) -> None:
    """A jury finds the proposal invalid: whatever came of its checks, nobody has lost by them."""
    round_ = Inspection(c, challenge_window=30)
    c.wait(0)
    assert round_.summon(*range(4))
    for i in range(2):
        assert round_.answer(i) and round_.judge(i, False)
    assert round_.appeal(1) and round_.judge(1, False)
    dispute = c.object(round_.number)
    c.jury(dispute, "nnn")
    round_.at(2)
    assert not round_.end(2)
    c.finish(dispute, DisputeStatus.OVERTURNED)
    assert c.round_of(DIRECT, round_.number) is RoundStatus.VOIDED
    assert round_.end(*range(4))
    round_.are(CheckState.PASSED, range(4))


@script
def answers_in_a_fallen_round(c: Court) -> None:
    round_ = Inspection(c, challenge_window=30)
    c.wait(0)
    assert round_.summon(0)
    dispute = c.object(round_.number)
    c.jury(dispute, "nnn")
    c.finish(dispute, DisputeStatus.OVERTURNED)
    assert not round_.answer(0)


@script
def checks_wait_for_blocks(c: Court) -> None:
    """Also without other penalties."""
    round_ = Inspection(c, replace(YOUNG, least_window_blocks=9), penalty=0)
    c.wait(5)
    c.push(DIRECT)
    assert c.round_of(DIRECT, round_.number) is RoundStatus.PROPOSED
    c.wait(0, 8)
    c.push(DIRECT)
    assert c.round_of(DIRECT, round_.number) is RoundStatus.SETTLED
