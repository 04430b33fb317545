// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice Three rounds may be under way at once; each builds on the proposal before it.
contract OptimisticTest is CourtFixture {
    uint32 private constant WINDOW = 30;
    uint256 private _task;

    function setUp() public {
        setUpCourt(3);
        _task = _post(0);
    }

    function test_rounds_buildOnProposals() public {
        _stack();
        eq(accounts.baseModel(_task, 1), MODEL, "first base");
        eq(accounts.baseModel(_task, 2), _model(1), "second base");
        eq(accounts.baseModel(_task, 3), _model(2), "third base");
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManyUnfinal.selector, _task));
        ledger.openRound(_task, 4, indices, words);
    }

    function test_overturned_inTheMiddle_takesItsDescendantsAndNoMore() public {
        _stack();
        uint256 dispute = challenge(_task, 2);
        decided(dispute, false);
        vm.expectEmit(address(ledger));
        emit IFedLedger.RoundVoided(_task, 2);
        vm.expectEmit(address(ledger));
        emit IFedLedger.RoundVoided(_task, 3);
        juries.closeDispute(dispute);
        roundIs(_task, 1, IFedLedger.RoundStatus.Proposed);
        roundIs(_task, 2, IFedLedger.RoundStatus.Voided);
        roundIs(_task, 3, IFedLedger.RoundStatus.Voided);
        eq(accounts.task(_task).finalizedRound, 0, "nothing is final before the first is");
        eq(accounts.task(_task).latestRound, 1, "latest");
        pass(WINDOW);
        settle(_task, 1, _outcome(1));
        eq(accounts.task(_task).finalizedRound, 3, "now all are");
        eq(accounts.creditOf(_task, 0), 101, "credit of the first alone");
        takeSeat(_task, AGGREGATOR);
        _next(4);
        eq(accounts.baseModel(_task, 4), _model(1), "base");
        pass(WINDOW);
        settle(_task, 4, _outcome(4));
        eq(accounts.creditOf(_task, 0), 101 + 104, "credit");
        conserved();
    }

    function test_overturned_first_returnsToTheFirstModel() public {
        _stack();
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        juries.closeDispute(dispute);
        eq(accounts.task(_task).finalizedRound, 3, "all are void, so all are final");
        eq(accounts.task(_task).latestRound, 0, "latest");
        takeSeat(_task, AGGREGATOR);
        open(_task, 15);
        eq(accounts.baseModel(_task, 4), MODEL, "base");
        conserved();
    }

    /// @dev An open round falls with the proposal that it builds on.
    function test_overturned_underAnOpenRound_voidsIt() public {
        _next(1);
        open(_task, 15);
        commit(_task, 2, 0);
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        juries.closeDispute(dispute);
        roundIs(_task, 2, IFedLedger.RoundStatus.Voided);
        bytes32 value = keccak256("late");
        refused(signer(1), abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 2));
        ledger.commitUpdate(_task, 2, value);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 2));
        ledger.voidRound(_task, 2);
    }

    /// @dev Overturning costs no participant its stake, its record or a paid round.
    function test_overturned_leavesNoTraceOnParticipants() public {
        _stack();
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        juries.closeDispute(dispute);
        eq(opinions.evidenceWord(PUBLISHER, 0), 0, "evidence");
        eq(accounts.creditWord(_task, 0), 0, "credits");
        eq(accounts.task(_task).settledRounds, 0, "settled rounds");
        eq(accounts.task(_task).consecutiveVoids, 0, "voids");
        for (uint256 i = 0; i < 4; ++i) {
            eq(stakeOf(i), STAKE, "stake");
        }
    }

    function test_settled_onlyInOrder_andNotOverADispute() public {
        _stack();
        challenge(_task, 1);
        pass(WINDOW);
        Outcome memory o = _outcome(2);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongRound.selector, 2, 1));
        ledger.settleRound(_task, 2, o.proposal, o.verdictWords, o.shareWords, ALL);
        o = _outcome(1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DisputesOpen.selector, 1));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
    }

    function test_settleable_namesTheRoundThatCanBeSettled() public {
        _stack();
        eq(ledger.settleable(_task), 0, "window");
        pass(WINDOW);
        eq(ledger.settleable(_task), 1, "first");
        settle(_task, 1, _outcome(1));
        eq(ledger.settleable(_task), 2, "second");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 9));
        ledger.settleable(9);
    }

    /// @dev A dispute about a descendant is moot once its round fell with another, and whoever closes it is right.
    function test_disputesOnSeveralRounds_theFirstToFallTakesTheOthers() public {
        _stack();
        uint256 first = challenge(_task, 1);
        uint256 third = challenge(_task, 3);
        decided(third, true);
        decided(first, false);
        juries.closeDispute(first);
        juries.closeDispute(third);
        statusIs(third, IFedLedger.DisputeStatus.Moot);
        eq(accounts.round(_task, 3).disputes, 0, "disputes");
        eq(free(CHALLENGER), 2 * BOND + BOND / 2, "both bonds and half of the deposit");
        conserved();
    }

    /// @dev A round that was voided for silence, between others, is final with the one before it.
    function test_void_betweenProposedRounds_waitsForTheOneBefore() public {
        _next(1);
        open(_task, 15);
        pass(10);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 2);
        eq(accounts.task(_task).finalizedRound, 0, "final");
        _next(3);
        eq(accounts.baseModel(_task, 3), _model(1), "base");
        pass(WINDOW);
        settle(_task, 1, _outcome(1));
        eq(accounts.task(_task).finalizedRound, 2, "final");
        settle(_task, 3, _outcome(3));
        eq(accounts.task(_task).finalizedRound, 3, "final");
        conserved();
    }

    function test_overturned_aboveAVoidedRound_voidsEachOnce() public {
        _next(1);
        open(_task, 15);
        pass(10);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 2);
        _next(3);
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        vm.recordLogs();
        juries.closeDispute(dispute);
        eq(_count(IFedLedger.RoundVoided.selector), 2, "the first and the third");
        eq(accounts.task(_task).finalizedRound, 3, "final");
    }

    function _count(bytes32 kind) private returns (uint256 count) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == kind) ++count;
        }
    }

    /// @dev No more rounds are opened than the budget pays, however many are under way.
    function test_open_beyondTheBudget_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.maxUnfinal, p.challengeWindow, p.rounds) = (3, WINDOW, 2);
        _task = post(p);
        enrol(_task, 4);
        _next(1);
        _next(2);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundsExhausted.selector, _task));
        ledger.openRound(_task, 3, indices, words);
        // A round that falls makes room for another.
        uint256 dispute = challenge(_task, 2);
        decided(dispute, false);
        juries.closeDispute(dispute);
        pass(WINDOW);
        settle(_task, 1, _outcome(1));
        takeSeat(_task, AGGREGATOR);
        _next(3);
    }

    /// @dev The task stops with the round that says so; those proposed on top of it settle all the same.
    function test_stop_underProposedRounds_letsThemSettle() public {
        open(_task, 15);
        commitAndReveal(_task, 1, 4);
        Outcome memory o = _outcome(1);
        o.proposal.stop = true;
        propose(_task, 1, o);
        _next(2);
        pass(WINDOW);
        settle(_task, 1, o);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundsExhausted.selector, _task));
        ledger.openRound(_task, 3, indices, words);
        settle(_task, 2, _outcome(2));
        eq(accounts.task(_task).stopSettled ? 1 : 0, 1, "stopped");
        accounts.finishTask(_task);
        conserved();
    }

    /// @dev The beacon takes rounds in their order, also those that fell.
    function test_beacon_ofOverturnedRounds_isChainedInOrder() public {
        _task = _post(1);
        _stack();
        bytes32 salts = 0;
        for (uint32 i = 0; i < 4; ++i) {
            salts ^= keccak256(abi.encode(i, SALT));
        }
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        juries.closeDispute(dispute);
        bytes32 expected = 0;
        for (uint256 round = 0; round < 3; ++round) {
            expected = keccak256(abi.encode(expected, salts));
        }
        eq(accounts.beacon(_task), expected, "beacon");
    }

    function _post(uint8 randomness) private returns (uint256 task) {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.maxUnfinal, p.challengeWindow, p.rounds, p.randomness) = (3, WINDOW, 5, randomness);
        task = post(p);
        enrol(task, 4);
    }

    function _outcome(uint32 round) private pure returns (Outcome memory) {
        return accepted(4, 100 + round);
    }

    function _model(uint32 round) private pure returns (bytes32) {
        return _outcome(round).proposal.model.digest;
    }

    function _next(uint32 round) private {
        open(_task, 15);
        commitAndReveal(_task, round, 4);
        propose(_task, round, _outcome(round));
    }

    function _stack() private {
        for (uint32 round = 1; round <= 3; ++round) {
            _next(round);
        }
    }

    /// @dev Nobody is late with what a dispute kept it from, so there is no bounty for it at once.
    function test_settle_afterADispute_isNotLateAtOnce() public {
        _stack();
        uint256 dispute = challenge(_task, 1);
        decided(dispute, true);
        pass(WINDOW + 10);
        juries.closeDispute(dispute);
        uint256 before = free(OUTSIDER);
        settle(_task, 1, _outcome(1));
        settle(_task, 2, _outcome(2));
        eq(free(OUTSIDER) - before, 0, "bounty");
        pass(10);
        settle(_task, 3, _outcome(3));
        eq(free(OUTSIDER) - before, BOND / 64, "bounty a propose period later");
        conserved();
    }
}
