"""The committed ledger against a plain model of it, over random histories of legal and illegal transactions."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from fedledger.protocol.records.verdicts import Verdict
from support.evm import Evm
from support.ledger_juries import QUIET, LedgerMachine
from support.ledger_machine import (
    AGGREGATORS,
    EVERYBODY,
    PARTICIPANTS,
    PUBLISHERS,
    SCHEDULES,
    SEAL,
    SENDERS,
    SMALLEST_BOND,
    STRANGER,
    TERMS,
    WRONG_TERMS,
)
from support.ledger_records import ZERO, Params

FEW = 20
# Ninety histories take less than a minute; more are for who has changed the ledger.
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "90"))
TRIES = 12

# An eighth or less of what a hundred histories usually reach.
OFTEN = {
    "settleRound": 100,
    "SettlementAdvanced": 3,
    "voidRound": 60,
    "finishTask": 40,
    "withdrawCredit": 60,
    "closeCommits": 80,
    "commitUpdate": 200,
    "proposeRound direct": 25,
    "proposeRound batched": 40,
    "proposeRound direct below quorum": 10,
    "proposeRound batched below quorum": 15,
    "openRound by a standby": 8,
    "closeCommits by a standby": 1,
    "proposeRound by a standby": 5,
    "openRound on 1 unsettled": 15,
    "revealUpdate by proof": 40,
    "revealUpdate committed on chain in the window": 10,
    "revealStaleUpdate by proof": 25,
    "revealStaleUpdate committed on chain": 60,
    "revealStaleUpdate: TooStale": 5,
    "revealStaleUpdate: WrongReveal": 5,
    "revealStaleUpdate: NotCommitted": 5,
    "NeverRevealed": 8,
    "leaveTask": 20,
    "enrol: TooEarlyToReturn": 1,
    "leaveTask: StillEntitled": 2,
    "multicall: EnrolmentChanged": 3,
    "openSeal: WrongKey": 15,
    "forfeitSeal": 15,
    "Silence": 15,
    "Minority": 20,
    "Equivocation": 1,
    "reportEquivocation of who leaves": 1,
    "ProposalRefuted": 1,
    "Appealed": 15,
    "register: SignerUnwilling": 50,
    "rotateSigner: SignerTaken": 2,
    "TurnTaken": 10,
    "proposeRound while others may reveal": 1,
    "quit while a jury is to be drawn": 10,
    "drawJury draws who left": 8,
    "DepositReturned": 15,
    "a deposit is condemned": 2,
    "a claim passes on": 1,
    "refuteMissed costs what was deposited since": 2,
    "a challenge gains by an earlier round's fall": 7,
    "serve: TooEarlyToServe": 22,
    "drawJury takes out who left": 2,
    "drawJury too late": 3,
    "closeDispute COMMITMENT OVERTURNED": 2,
    "closeDispute REPLAY UPHELD": 8,
    "closeDispute REPLAY OVERTURNED": 3,
    "closeDispute REPLAY UNDECIDED": 2,
    "closeDispute REPLAY UNJUDGED": 1,
    "closeDispute REPLAY MOOT won": 1,
    "summon": 15,
    "answerCheck": 50,
    "postFindings revealed": 25,
    "FailedCheck": 10,
    "CheckAppealed": 10,
    "endChecks SUMMONED SETTLED": 2,
    "endChecks CLEARED SETTLED": 2,
    "endChecks CONFIRMED SETTLED": 2,
    "endChecks: NotInTime": 5,
    "callScorers direct": 10,
    "callScorers batched": 10,
    "callScorers direct early": 1,
    "callScorers batched early": 1,
    "callScorers by a standby": 1,
    "callScorers below quorum": 1,
    "drawScorers finds nobody": 1,
    "drawScorers finds who had failed": 1,
    "listScores": 8,
    "commitScore": 60,
    "revealScore": 20,
    "revealScore: WrongReveal": 2,
    "tallyScores excludes": 10,
    "tallyScores excludes nobody": 10,
    "tallyScores of the silent": 5,
    "tallyScores by a standby": 1,
    "tallyScores: NotInTime": 5,
    "tallyScores: MissingScores": 1,
    "proposeRound: NotTallied": 5,
    "enrolRecommended": 20,
    "proposeRound direct of bids": 5,
    "proposeRound batched of bids": 5,
    "proposeRound pays what was left": 1,
    "bids are heard": 10,
    "openRound for bids again": 3,
    "openRound: TooFewParticipants": 1,
}


def test_terms_that_the_model_refuses_are_refused() -> None:
    machine, ref = LedgerMachine(), (keccak(b"any"), 1)
    machine.deploy()
    for wrong in WRONG_TERMS:
        terms = replace(Params(ref, ref, AGGREGATORS[0], min_participants=5, min_stake=2000), **wrong)
        assert not machine.do("postTask", PUBLISHERS[0], terms, (), value=terms.due), wrong


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("batched", [False, True])
def test_refusals_by_statistics_cost_what_the_model_says(schedule: dict[str, int], batched: bool) -> None:
    """The first is refused in every round, the next in every second one, and so on; the last after garbage."""
    LedgerMachine.reached.clear()
    machine, ref = LedgerMachine(), (keccak(b"any"), 1)
    bonded = {"challenge_window": 20, "bond": SMALLEST_BOND, "min_stake": 1000, "penalty": 97}
    terms = replace(Params(ref, ref, AGGREGATORS[0], rounds=9, batched=batched), **bonded, **schedule)
    machine.begin(first=terms, second=terms, mask=1, helpers=(), past=[], judges=EVERYBODY)
    for number in range(9):
        refusals = [Verdict.NORM if number % (i + 1) == 0 else None for i in range(PARTICIPANTS)]
        refusals[8] = Verdict.MALFORMED if number < 4 else Verdict(255 - 220 * (number % 2))
        machine.whole_round(1, QUIET | {"refusals": refusals})
        machine.every_view_agrees()
        machine.every_wei_has_one_owner()
    machine.teardown()
    reached, costs = LedgerMachine.reached, schedule["statistical_share"] > 0
    assert reached["RoundSettled"] >= 9
    assert (
        reached["RepeatedRefusal"] >= 8 if costs and schedule["free_refusals"] < 255 else not reached["RepeatedRefusal"]
    )
    assert bool(reached["Garbage"]) == (schedule["garbage_share"] > 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"jury_size": 1},
        {"jury_size": 4, "least_pool": 5},
        {"jury_size": 17, "least_pool": 17},
        {"appeals": 3},
        {"least_pool": 2},
        {"least_pool": 65},
        {"dispute_period": 0},
        {"min_verifier_stake": 100},
    ],
)
def test_settings_of_no_court_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RuntimeError, match="Revert"):
        Evm(0, 0, SENDERS, replace(TERMS, **wrong))


DEEDS = {
    "openSeal": [("key", "publisher"), ("key", STRANGER)],
    "openSeal: SealAlreadyOpen": [("key", "publisher"), ("key", STRANGER), ("forfeit", STRANGER)],
    "openSeal: TaskNotFinished": [("key", STRANGER), ("other key", AGGREGATORS[0])],
    "openSeal: WrongKey": [("other key", "publisher"), ("key", STRANGER)],
    "forfeitSeal: SealPeriodOpen": [("at once", "publisher"), ("early", STRANGER), ("key", STRANGER)],
    "forfeitSeal: SealAlreadyForfeited": [("forfeit", STRANGER), ("forfeit", STRANGER), ("key", STRANGER)],
    "forfeitSeal: SealAlreadyOpen": [("early", STRANGER), ("key", STRANGER), ("forfeit", STRANGER)],
}


@pytest.mark.parametrize("reached", DEEDS)
@pytest.mark.parametrize("deposit", [0, 77])
def test_seals_are_opened_and_forfeited_as_the_model_says(reached: str, deposit: int) -> None:
    LedgerMachine.reached.clear()
    machine, ref = LedgerMachine(), (keccak(b"any"), 1)
    terms = Params(ref, ref, AGGREGATORS[0], seal=SEAL, seal_deposit=deposit, seal_period=60)
    machine.begin(
        first=terms, second=replace(terms, seal=ZERO, seal_deposit=0, seal_period=0), mask=0, helpers=(), past=[]
    )
    machine.whole_round(1, QUIET | {"refusals": [None] * PARTICIPANTS})
    machine.deal_with_the_seal(1, not reached.endswith("NotFinished"), DEEDS[reached])
    machine.deal_with_the_seal(2, True, DEEDS[reached])
    machine.every_view_agrees()
    machine.every_wei_has_one_owner()
    machine.teardown()
    assert LedgerMachine.reached[reached]


def play_histories(count: int, machine: type[LedgerMachine] = LedgerMachine) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=20,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.hypothesis
def test_random_histories_agree_with_the_model() -> None:
    play_histories(FEW)


@pytest.mark.long
@pytest.mark.hypothesis
def test_more_random_histories_agree_with_the_model_and_reach_all_of_the_ledger() -> None:
    """What histories are played depends on the modules that are loaded; what is rare comes in some of them."""
    LedgerMachine.reached.clear()
    seldom: dict[str, int] = {}
    for number in range(TRIES):
        play_histories(EXAMPLES, seed(number)(type("Seeded", (LedgerMachine,), {})))
        reached = LedgerMachine.reached
        seldom = {name: reached[name] for name, least in OFTEN.items() if reached[name] < least * EXAMPLES // 100}
        if not seldom:
            return
    pytest.fail(f"{TRIES} times {EXAMPLES} histories reached seldom or never: {seldom}")
