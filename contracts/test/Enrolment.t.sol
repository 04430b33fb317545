// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice People come late, leave, and come back.
contract EnrolmentTest is BatchedFixture {
    function setUp() public {
        setUpLedger();
        register(6);
    }

    function test_enrol_tooFewAtTheDeadline_goesOnUntilThereAreEnough() public {
        uint256 task = post(defaults(4));
        enrol(task, 1);
        pass(170);
        _phaseIs(task, IFedLedger.Phase.Enrolling);
        _enrolOne(task, 1);
        _phaseIs(task, IFedLedger.Phase.Idle);
        refused(signer(2), abi.encodeWithSelector(IFedLedger.EnrolmentClosed.selector, task));
        opinions.enrol(task);
        eq(accounts.task(task).enrolDeadline, START + 170, "its time begins when there are enough");
        openAll(task);
        eq(accounts.round(task, 1).selected, 2, "selected");
    }

    /// @dev Nobody may end a task, nor take an aggregator's turn, because people came late.
    function test_enrol_late_leavesTimeToOpen() public {
        address[] memory standbys = new address[](1);
        standbys[0] = OUTSIDER;
        uint256 task = post(defaults(4), standbys);
        enrol(task, 1);
        pass(500);
        _enrolOne(task, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, task));
        accounts.finishTask(task);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotYourTurn.selector, START + 510));
        ledger.openRound(task, 1, new uint32[](0), new uint256[](0));
        pass(121);
        vm.prank(OUTSIDER);
        accounts.finishTask(task);
    }

    function test_finishTask_tooFewAtTheDeadline_returnsTheBudget() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 task = post(p);
        enrol(task, 1);
        pass(100);
        uint256 before = free(PUBLISHER);
        vm.prank(PUBLISHER);
        accounts.finishTask(task);
        eq(free(PUBLISHER) - before, budget(p), "refund");
        refused(signer(1), abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, task));
        opinions.enrol(task);
    }

    function test_leaveTask_ofAFixedTask_isRefused() public {
        uint256 task = post(defaults(4));
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotInTask.selector, task, 0));
        opinions.leaveTask(task, 0);
        enrol(task, 2);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.EnrolmentClosed.selector, task));
        opinions.leaveTask(task, 0);
    }

    function test_open_roundForEverybody_needsWords() public {
        uint256 task = _open(1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 0, 2));
        ledger.openRound(task, 1, new uint32[](0), new uint256[](0));
    }

    /// @dev Who comes and who goes between two rounds, in one that is open, and in one that is proposed and not yet final.
    function test_joinAndLeave_actFromTheNextOpenedRound() public {
        uint256 task = _open(2);
        open(task, 7);
        _enrolOne(task, 3);
        _leave(task, 0);
        refused(signer(3), abi.encodeWithSelector(IFedLedger.NotSelected.selector, 3));
        ledger.commitUpdate(task, 1, bytes32(uint256(1)));
        commitAndReveal(task, 1, 3);
        Outcome memory first = accepted(3, 300);
        propose(task, 1, first);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotEnrolled.selector, 0));
        ledger.openRound(task, 2, indices, words);
        open(task, 14);
        eq(accounts.selectedWord(task, 1, 0), 7, "the first round keeps its set");
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotSelected.selector, 0));
        ledger.commitUpdate(task, 2, bytes32(uint256(1)));
        _leave(task, 1);
        pass(5);
        settle(task, 1, first);
        eq(accounts.creditOf(task, 0), 300, "who left is paid for its round");
        for (uint256 i = 1; i < 4; ++i) {
            commit(task, 2, i);
        }
        for (uint256 i = 1; i < 4; ++i) {
            reveal(task, 2, i);
        }
        Outcome memory second = _outcome(14, 100);
        propose(task, 2, second);
        pass(5);
        settle(task, 2, second);
        eq(accounts.creditOf(task, 1), 400, "and so is who left while it was open");
        vm.prank(payout(0));
        accounts.withdrawCredit(task, 0);
        eq(payout(0).balance, 300 gwei, "paid");
    }

    /// @dev A round without words would ask who is enrolled when it is asked.
    function test_joinAndLeave_batched_keepTheSet() public {
        IFedLedger.TaskParams memory p = batched(6);
        p.openEnrolment = true;
        uint256 task = post(p);
        enrol(task, 2);
        pass(100);
        open(task, 3);
        (bytes32 root,, bytes32[] memory of1) = pair(task, 1);
        _leave(task, 1);
        _enrolOne(task, 2);
        close(task, 1, root, 2);
        eq(accounts.selectedWord(task, 1, 0), 3, "selected");
        vm.prank(signer(1));
        ledger.revealUpdate(task, 1, update(1), SALT, of1);
        eq(accounts.revealedWord(task, 1, 0), 2, "revealed");
    }

    function test_leaveTask_comingBack_takesARound() public {
        uint256 task = _open(1);
        _leave(task, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotInTask.selector, task, 0));
        opinions.leaveTask(task, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooEarlyToReturn.selector, 0, 1));
        opinions.enrol(task);
        open(task, 6);
        _enrolOne(task, 0);
        _leave(task, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.TooEarlyToReturn.selector, 0, 2));
        opinions.enrol(task);
        eq(accounts.task(task).enrolled, 2, "enrolled");
    }

    function test_openRound_tooFewAreLeft_waitsForMore() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.openEnrolment, p.minParticipants) = (true, 3);
        uint256 task = post(p);
        enrol(task, 3);
        pass(100);
        _leave(task, 2);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 2, 3));
        ledger.openRound(task, 1, indices, words);
        pass(500);
        _phaseIs(task, IFedLedger.Phase.Enrolling);
        _enrolOne(task, 3);
        open(task, 11);
        commit(task, 1, 0);
        commit(task, 1, 1);
        pass(10);
        reveal(task, 1, 0);
        reveal(task, 1, 1);
        Outcome memory o = _outcome(3, 100);
        o.verdictWords[0] |= 2 << 24;
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
        _leave(task, 0);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 2, 3));
        ledger.openRound(task, 2, indices, words);
        pass(109);
        _enrolOne(task, 4);
        pass(2);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, task));
        accounts.finishTask(task);
        pass(120);
        vm.prank(OUTSIDER);
        accounts.finishTask(task);
    }

    /// @dev Without who left the task could not go on, so it need not wait for a round that nobody can open.
    function test_leaveTask_tooFewAreLeft_comesBackAtOnce() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.openEnrolment, p.minParticipants) = (true, 3);
        uint256 task = post(p);
        enrol(task, 3);
        pass(100);
        _leave(task, 2);
        _enrolOne(task, 2);
        open(task, 7);
        eq(accounts.round(task, 1).selected, 3, "selected");
    }

    /// @dev Who comes and goes does not keep a task from being ended.
    function test_enrol_againAndAgain_gainsTimeOncePerRound() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.openEnrolment = true;
        uint256 task = post(p);
        enrol(task, 1);
        for (uint256 i = 0; i < 3; ++i) {
            pass(109);
            _enrolOne(task, 1);
            _leave(task, 1);
        }
        vm.prank(OUTSIDER);
        accounts.finishTask(task);
    }

    function test_leaveTask_ofOthers_takesOutWhoLacksStake() public {
        uint256 task = _open(1);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.StillEntitled.selector, 1));
        opinions.leaveTask(task, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        opinions.leaveTask(task, 1);
        vm.prank(owner(1));
        accounts.requestExit();
        vm.prank(OUTSIDER);
        opinions.leaveTask(task, 1);
        eq(accounts.enrolledWord(task, 0), 5, "enrolled");
        IFedLedger.TaskParams memory p = defaults(6);
        (p.openEnrolment, p.minStake) = (true, 2 * STAKE);
        task = post(p);
        vm.prank(owner(2));
        accounts.addStake{value: STAKE}(STAKE);
        _enrolOne(task, 2);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        opinions.leaveTask(task, 2);
    }

    function test_requireEnrolled_undoesWhatWasMeantForOthers() public {
        uint256 task = _open(1);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 7);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(ledger.requireEnrolled, (task, indices, words));
        calls[1] = abi.encodeCall(ledger.openRound, (task, 1, indices, words));
        uint256 state = vm.snapshotState();
        _enrolOne(task, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.EnrolmentChanged.selector, task));
        ledger.multicall(calls);
        _leave(task, 0);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.EnrolmentChanged.selector, task));
        ledger.multicall(calls);
        vm.revertToState(state);
        vm.prank(AGGREGATOR);
        ledger.multicall(calls);
        eq(accounts.round(task, 1).selected, 3, "selected");
    }

    /// @dev Also of those in words that are not named.
    function test_requireEnrolled_namesEverybody() public {
        uint256 task = _open(1);
        registerFrom(6, 251);
        _enrolOne(task, 256);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 7);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.EnrolmentChanged.selector, task));
        ledger.requireEnrolled(task, indices, words);
        (indices, words) = (new uint32[](2), new uint256[](2));
        (indices[1], words[0], words[1]) = (1, 7, 1);
        ledger.requireEnrolled(task, indices, words);
        (indices[1], words[1]) = (0, 7);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector));
        ledger.requireEnrolled(task, indices, words);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        ledger.requireEnrolled(task, new uint32[](1), words);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 77));
        ledger.requireEnrolled(77, new uint32[](0), new uint256[](0));
    }

    /// @dev Three participants of a task that others may join and leave.
    function _open(uint8 unfinal) private returns (uint256 task) {
        IFedLedger.TaskParams memory p = defaults(6);
        (p.openEnrolment, p.maxUnfinal) = (true, unfinal);
        task = post(p);
        enrol(task, 3);
        pass(100);
    }

    function _enrolOne(uint256 task, uint256 i) private {
        vm.prank(signer(i));
        opinions.enrol(task);
    }

    function _leave(uint256 task, uint256 i) private {
        vm.prank(owner(i));
        opinions.leaveTask(task, uint32(i));
    }

    function _phaseIs(uint256 task, IFedLedger.Phase phase) private view {
        eq(uint256(ledger.phase(task)), uint256(phase), "phase");
    }

    /// @dev Those in the mask accepted, `share` units each.
    function _outcome(uint256 mask, uint256 share) private pure returns (Outcome memory) {
        uint256[] memory verdicts = new uint256[](8);
        uint256[] memory shares = new uint256[](8);
        for (uint256 i = 0; i < 8; ++i) {
            if ((mask >> i) & 1 != 0) (verdicts[i], shares[i]) = (1, share);
        }
        return outcome(verdicts, shares);
    }
}
