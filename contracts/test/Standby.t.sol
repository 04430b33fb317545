// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice An aggregator, two that stand by, and what each has to lose.
contract StandbyTest is CourtFixture {
    uint256 private _task;

    function setUp() public {
        setUpCourt(0);
        _task = _post(defaults(4));
    }

    function test_postTask_badStandbys_areRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        address[] memory many = new address[](4);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32("standbys"));
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p)}(p, many);
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p)}(p, _list(STANDBY, STANDBY));
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p)}(p, _list(STANDBY, AGGREGATOR));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.postTask{value: budget(p)}(p, _list(STANDBY, address(0)));
    }

    function test_seats_areNamedInOrderAndHoldWhatWasDeposited() public {
        IFedLedger.Seat[] memory seats = accounts.seats(_task);
        eq(seats.length, 3, "seats");
        eq(uint160(seats[0].holder), uint160(AGGREGATOR), "first");
        eq(uint160(seats[1].holder), uint160(STANDBY), "second");
        eq(uint160(seats[2].holder), uint160(RESERVE), "third");
        eq(seats[0].deposit, BOND, "first's deposit");
        eq(uint256(seats[1].deposit) + seats[2].deposit, 0, "the others'");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 9));
        accounts.seats(9);
    }

    function test_takeSeat_depositsTheBondOnce() public {
        vm.expectEmit(address(ledger));
        emit IFedLedger.SeatTaken(_task, 1, STANDBY, BOND);
        vm.prank(STANDBY);
        accounts.takeSeat{value: BOND + 5}(_task);
        vm.prank(STANDBY);
        accounts.takeSeat{value: 2}(_task);
        eq(accounts.seats(_task)[1].deposit, BOND, "deposit");
        eq(free(STANDBY), 7, "rest");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        accounts.takeSeat{value: BOND}(_task);
        refused(RESERVE, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, RESERVE, BOND - 1, BOND));
        accounts.takeSeat{value: BOND - 1}(_task);
        conserved();
    }

    function test_finishTask_returnsAllDeposits() public {
        takeSeat(_task, STANDBY);
        pass(230);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
        pass(1);
        accounts.finishTask(_task);
        eq(free(AGGREGATOR), BOND, "aggregator");
        eq(free(STANDBY), BOND, "standby");
        eq(free(RESERVE), 0, "who never came");
        refused(STANDBY, abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, _task));
        accounts.takeSeat{value: BOND}(_task);
        conserved();
    }

    function test_opening_isTakenOverOneProposePeriodAfterItWasDue() public {
        takeSeat(_task, STANDBY);
        takeSeat(_task, RESERVE);
        pass(109);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(STANDBY, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 110));
        ledger.openRound(_task, 1, indices, words);
        refused(RESERVE, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 120));
        ledger.openRound(_task, 1, indices, words);
        eq(ledger.mayAct(_task, STANDBY) ? 1 : 0, 0, "may act");
        pass(1);
        eq(ledger.mayAct(_task, STANDBY) ? 1 : 0, 1, "may act");
        eq(ledger.mayAct(_task, RESERVE) ? 1 : 0, 0, "may act");
        vm.expectEmit(address(ledger));
        emit IFedLedger.TurnTaken(_task, 1, STANDBY);
        openBy(STANDBY, _task, 15);
        eq(accounts.task(_task).active, 1, "active");
        eq(accounts.seats(_task)[0].deposit, BOND, "opening late costs no deposit");
        // From now on the one that was active comes last.
        commitAndReveal(_task, 1, 4);
        Outcome memory o = accepted(4, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 110 + 10 + 20));
        ledger.proposeRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        proposeBy(STANDBY, _task, 1, o);
        eq(accounts.round(_task, 1).seat, 1, "seat");
    }

    function test_opening_byWhoHasNoDeposit_takesItFromTheFreeBalance() public {
        pass(110);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(STANDBY, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, STANDBY, 0, BOND));
        ledger.openRound(_task, 1, indices, words);
        vm.prank(STANDBY);
        accounts.deposit{value: BOND}(COIN, BOND);
        openBy(STANDBY, _task, 15);
        eq(accounts.seats(_task)[1].deposit, BOND, "deposit");
    }

    function test_proposing_isTakenOverAndTheSilentPay() public {
        takeSeat(_task, STANDBY);
        takeSeat(_task, RESERVE);
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        Outcome memory o = accepted(4, 1);
        pass(29);
        refused(RESERVE, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 30));
        ledger.proposeRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
        pass(1);
        vm.expectEmit(address(ledger));
        emit IFedLedger.TurnTaken(_task, 2, RESERVE);
        emit IFedLedger.SeatCharged(_task, 0, AGGREGATOR, BOND);
        emit IFedLedger.SeatCharged(_task, 1, STANDBY, BOND);
        proposeBy(RESERVE, _task, 1, o);
        eq(free(RESERVE), BOND, "half of two deposits");
        eq(burned(), BOND, "the other half");
        eq(accounts.seats(_task)[0].deposit, 0, "aggregator's deposit");
        eq(accounts.seats(_task)[1].deposit, 0, "standby's deposit");
        eq(accounts.seats(_task)[2].deposit, BOND, "who took over");
        conserved();
        pass(5);
        settle(_task, 1, o);
        // Who lost its deposit makes another before it acts again.
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        pass(10);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, AGGREGATOR, 0, BOND));
        ledger.openRound(_task, 2, indices, words);
    }

    function test_proposing_byTheActiveOneAtTheLastSecond_costsNothing() public {
        takeSeat(_task, STANDBY);
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        pass(39);
        propose(_task, 1, accepted(4, 1));
        eq(accounts.task(_task).active, 0, "active");
        eq(accounts.seats(_task)[0].deposit, BOND, "deposit");
        eq(burned(), 0, "burned");
    }

    function test_closing_isTakenOverAndTheSilentPays() public {
        uint256 task = _post(batched(4));
        takeSeat(task, STANDBY);
        openAll(task);
        pass(19);
        refused(STANDBY, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 20));
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
        pass(1);
        vm.prank(STANDBY);
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
        eq(free(STANDBY), BOND / 2, "reward");
        eq(burned(), BOND / 2, "burned");
        eq(accounts.task(task).active, 1, "active");
        conserved();
    }

    function test_closing_everySeatHasItsTurn() public {
        uint256 task = _post(batched(4));
        openAll(task);
        vm.prank(RESERVE);
        accounts.deposit{value: BOND}(COIN, BOND);
        pass(39);
        vm.prank(RESERVE);
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
        eq(accounts.task(task).active, 2, "active");
    }

    function test_closing_afterAllTurns_isRefused() public {
        uint256 task = _post(batched(4));
        openAll(task);
        pass(40);
        phaseIs(task, IFedLedger.Phase.Overdue, "phase");
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotClosing.selector));
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
    }

    function test_void_directRoundThatNobodyProposed_costsEverySeat() public {
        takeSeat(_task, STANDBY);
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        pass(39);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotOverdue.selector, _task, 1));
        ledger.voidRound(_task, 1);
        pass(1);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        eq(free(OUTSIDER), 2 * BOND / 8, "reward");
        eq(burned(), 2 * BOND - 2 * BOND / 8, "burned");
        eq(accounts.task(_task).consecutiveVoids, 1, "voids");
        conserved();
    }

    function test_void_batchedRoundThatNobodyClosed_costsEverySeat() public {
        uint256 task = _post(batched(4));
        takeSeat(task, STANDBY);
        openAll(task);
        pass(40);
        vm.prank(OUTSIDER);
        ledger.voidRound(task, 1);
        eq(accounts.seats(task)[1].deposit, 0, "standby's deposit");
        conserved();
    }

    /// @dev A root may be of commitments that only its author holds: whoever did not post it need not stand for it.
    function test_void_batchedRoundThatWasClosed_costsWhoClosedIt() public {
        uint256 task = _post(batched(4));
        takeSeat(task, STANDBY);
        openAll(task);
        close(task, 1, keccak256("nobody's root"), 4);
        pass(40);
        vm.prank(OUTSIDER);
        ledger.voidRound(task, 1);
        eq(accounts.seats(task)[0].deposit, 0, "its author's deposit");
        eq(accounts.seats(task)[1].deposit, BOND, "standby's deposit");
        eq(free(OUTSIDER), BOND / 8, "reward");
        conserved();
    }

    function test_void_batchedRoundThatAStandbyClosed_costsTheStandby() public {
        uint256 task = _post(batched(4));
        takeSeat(task, STANDBY);
        openAll(task);
        pass(20);
        vm.prank(STANDBY);
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
        takeSeat(task, AGGREGATOR);
        pass(40);
        vm.prank(OUTSIDER);
        ledger.voidRound(task, 1);
        eq(accounts.seats(task)[0].deposit, BOND, "who had no part in it");
        eq(accounts.seats(task)[1].deposit, 0, "standby's deposit");
        conserved();
    }

    function test_settle_late_paysABountyFromTheActiveSeat() public {
        Outcome memory o = _proposed();
        pass(5 + 9);
        uint256 state = vm.snapshotState();
        settle(_task, 1, o);
        eq(free(OUTSIDER), 0, "too early for a bounty");
        vm.revertToState(state);
        pass(1);
        settle(_task, 1, o);
        eq(free(OUTSIDER), BOND / 64, "bounty");
        eq(accounts.seats(_task)[0].deposit, BOND - BOND / 64, "deposit");
        conserved();
        // The next step asks for the whole bond again.
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, AGGREGATOR, 0, BOND / 64));
        ledger.openRound(_task, 2, indices, words);
        takeSeat(_task, AGGREGATOR);
        open(_task, 15);
    }

    function test_settle_late_byTheActiveOne_paysNothing() public {
        Outcome memory o = _proposed();
        pass(100);
        vm.prank(AGGREGATOR);
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        eq(free(AGGREGATOR), 0, "bounty");
        eq(accounts.seats(_task)[0].deposit, BOND, "deposit");
    }

    function test_settle_inParts_paysOneBounty() public {
        Outcome memory o = _proposed();
        pass(100);
        settle(_task, 1, o, 0);
        settle(_task, 1, o, 0);
        eq(free(OUTSIDER), 0, "nothing is done yet");
        settle(_task, 1, o);
        eq(free(OUTSIDER), BOND / 64, "bounty");
    }

    function test_bounty_whereThereIsNoDeposit_isNothing() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.maxUnfinal = 2;
        _task = _post(p);
        Outcome memory o = _proposed();
        open(_task, 15);
        commitAndReveal(_task, 2, 4);
        pass(40);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 2);
        eq(free(OUTSIDER), BOND / 8, "reward for the void");
        settle(_task, 1, o);
        eq(free(OUTSIDER), BOND / 8, "no bounty");
        eq(accounts.task(_task).finalizedRound, 2, "the voided round is final with the one before it");
        conserved();
    }

    function test_void_tooFewCommitted_late_paysABounty() public {
        open(_task, 15);
        commit(_task, 1, 0);
        pass(10 + 10 + 9);
        uint256 state = vm.snapshotState();
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        eq(free(OUTSIDER), 0, "too early for a bounty");
        vm.revertToState(state);
        pass(1);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        eq(free(OUTSIDER), BOND / 64, "bounty");
        conserved();
    }

    /// @dev A bond of nothing is taken, kept and returned like any other.
    function test_seats_withoutBond_cycle() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.bond, p.challengeWindow) = (0, 0);
        uint256 task = _post(p);
        open(task, 15);
        commitAndReveal(task, 1, 4);
        pass(20);
        proposeBy(STANDBY, task, 1, accepted(4, 1));
        settle(task, 1, accepted(4, 1));
        pass(201);
        accounts.finishTask(task);
        conserved();
    }

    /// @dev Whenever a seat acts: at or after its turn it may, before it may not.
    function testFuzz_turns_beginOneAfterTheOther(uint256 late, uint256 who) public {
        takeSeat(_task, STANDBY);
        takeSeat(_task, RESERVE);
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        late = bound(late, 0, 39);
        who = who % 3;
        pass(late);
        address[3] memory seats = [AGGREGATOR, STANDBY, RESERVE];
        Outcome memory o = accepted(4, 1);
        bool may = who == 0 || late >= 10 + 10 * who;
        eq(ledger.mayAct(_task, seats[who]) ? 1 : 0, may ? 1 : 0, "may act");
        if (!may) vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 10 + 10 * who));
        proposeBy(seats[who], _task, 1, o);
        conserved();
    }

    function _post(IFedLedger.TaskParams memory p) private returns (uint256 task) {
        task = post(p, _list(STANDBY, RESERVE));
        enrol(task, 4);
    }

    function _proposed() private returns (Outcome memory o) {
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        o = accepted(4, 1);
        propose(_task, 1, o);
    }

    function _list(address a, address b) private pure returns (address[] memory all) {
        all = new address[](2);
        (all[0], all[1]) = (a, b);
    }

    /// @dev An aggregator that lets no round reach its quorum, or says so, is not asked for the next one.
    function test_void_belowQuorum_passesTheTurn() public {
        takeSeat(_task, STANDBY);
        open(_task, 15);
        pass(10);
        vm.expectEmit(address(ledger));
        emit IFedLedger.TurnTaken(_task, 1, STANDBY);
        vm.prank(AGGREGATOR);
        ledger.voidRound(_task, 1);
        eq(accounts.task(_task).active, 1, "active");
        eq(ledger.mayAct(_task, STANDBY) ? 1 : 0, 1, "the standby's turn");
        eq(ledger.mayAct(_task, AGGREGATOR) ? 1 : 0, 0, "not the aggregator's");
        conserved();
    }
}
