// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency, CurrencyLibrary} from "../src/Currency.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerTest} from "./support/LedgerTest.sol";
import {vm} from "./support/Vm.sol";

contract TaskTest is LedgerTest {
    function test_postTask_valid_holdsTheBudget() public {
        IFedLedger.TaskParams memory p = _params();
        uint256 id = _post(p);
        assertEq(id, 1, "first id");
        assertEq(ledger.taskCount(), 1, "count");
        assertEq(address(ledger).balance, _budget(p), "escrow");
        IFedLedger.Task memory t = ledger.task(id);
        assertEq(t.publisher, PUBLISHER, "publisher");
        assertEq(keccak256(abi.encode(t.params)), keccak256(abi.encode(p)), "params");
        assertEq(t.enrolDeadline, _now() + p.enrolPeriod, "deadline");
        assertEq(t.latestModel, p.model.digest, "model");
        assertPhase(id, IFedLedger.Phase.Enrolling);
        _skip(p.enrolPeriod);
        assertPhase(id, IFedLedger.Phase.Idle);
    }

    function testFuzz_postTask_wrongBudget_reverts(uint96 sent) public {
        IFedLedger.TaskParams memory p = _params();
        vm.assume(sent != _budget(p));
        vm.deal(address(this), sent);
        _expect(IFedLedger.WrongBudget.selector, _budget(p), sent);
        ledger.postTask{value: sent}(p);
    }

    function test_postTask_invalidParameter_revertsByName() public {
        IFedLedger.TaskParams memory p = _params();
        p.spec.digest = 0;
        _refused(p, "spec");
        p = _params();
        p.model.digest = 0;
        _refused(p, "model");
        p = _params();
        p.rounds = 0;
        _refused(p, "rounds");
        p = _params();
        p.rounds = 65_536;
        _refused(p, "rounds");
        p = _params();
        p.quorum = 0;
        _refused(p, "quorum");
        p = _params();
        (p.quorum, p.minParticipants) = (1025, 1025);
        _refused(p, "quorum");
        p = _params();
        p.minParticipants = 1;
        _refused(p, "minParticipants");
        p = _params();
        p.maxParticipants = 1;
        _refused(p, "maxParticipants");
        p = _params();
        p.maxParticipants = 4097;
        _refused(p, "maxParticipants");
        p = _params();
        p.enrolPeriod = 0;
        _refused(p, "enrolPeriod");
        p = _params();
        p.commitPeriod = 0;
        _refused(p, "commitPeriod");
        p = _params();
        p.revealPeriod = 0;
        _refused(p, "revealPeriod");
        p = _params();
        p.proposePeriod = 0;
        _refused(p, "proposePeriod");
        p = _params();
        p.maxUnfinal = 0;
        _refused(p, "maxUnfinal");
        p = _params();
        p.maxUnfinal = 9;
        _refused(p, "maxUnfinal");
        p = _params();
        p.randomness = 2;
        _refused(p, "randomness");
        p = _params();
        p.minReputation = 1_000_001;
        _refused(p, "minReputation");
        p = _params();
        p.creditUnit = 0;
        _refused(p, "creditUnit");
        p = _params();
        p.unitsPerRound = 0;
        _refused(p, "unitsPerRound");
        p = _params();
        (p.rounds, p.unitsPerRound) = (2, 1 << 31);
        _refused(p, "unitsPerRound");
    }

    function test_postTask_unsupported_reverts() public {
        IFedLedger.TaskParams memory p = _params();
        p.token = Currency.wrap(address(5));
        _expect(CurrencyLibrary.UnsupportedCurrency.selector, address(5));
        ledger.postTask(p);
        p = _params();
        p.maxStaleness = 1;
        _expect(IFedLedger.UnsupportedStaleness.selector, 1);
        ledger.postTask(p);
        p = _params();
        p.aggregator = address(0);
        _expect(IFedLedger.ZeroAddress.selector);
        ledger.postTask(p);
    }

    function test_enrol_signerOrOwner_setsTheBit() public {
        uint256 task = _post(_params());
        _register(0);
        _register(1);
        vm.prank(_signer(0));
        ledger.enrol(task);
        vm.prank(_owner(1));
        ledger.enrol(task);
        assertEq(ledger.enrolledWord(task, 0), 3, "bits");
        assertEq(ledger.task(task).enrolled, 2, "count");
    }

    /// @dev Naming somebody else's address as one's signer must not make its owner enrol the wrong participant.
    function test_enrol_ownerNamedAsSignerByAnother_enrolsItsOwnParticipant() public {
        uint256 task = _post(_params());
        _register(0);
        _register(1);
        vm.prank(_owner(1));
        ledger.rotateSigner(_owner(0));
        vm.prank(_owner(0));
        ledger.enrol(task);
        assertEq(ledger.enrolledWord(task, 0), 1, "participant 0");
    }

    function test_enrol_twice_reverts() public {
        uint256 task = _post(_params());
        _register(0);
        vm.prank(_owner(0));
        ledger.enrol(task);
        _expect(IFedLedger.AlreadyEnrolled.selector, task, 0);
        vm.prank(_signer(0));
        ledger.enrol(task);
    }

    function test_enrol_strangerOrUnknownTask_reverts() public {
        _expect(IFedLedger.UnknownTask.selector, 1);
        ledger.enrol(1);
        uint256 task = _post(_params());
        _expect(IFedLedger.NotRegistered.selector, address(this));
        ledger.enrol(task);
    }

    function test_enrol_leaving_reverts() public {
        uint256 task = _post(_params());
        _register(0);
        vm.prank(_owner(0));
        ledger.requestExit();
        _expect(IFedLedger.NotActive.selector, 0);
        vm.prank(_owner(0));
        ledger.enrol(task);
    }

    function test_enrol_stakeBelowTasks_reverts() public {
        IFedLedger.TaskParams memory p = _params();
        p.minStake = 2 ether;
        uint256 task = _post(p);
        _register(0);
        _expect(IFedLedger.StakeTooSmall.selector, 1 ether, 2 ether);
        vm.prank(_owner(0));
        ledger.enrol(task);
        vm.prank(_owner(0));
        ledger.addStake{value: 1 ether}();
        vm.prank(_owner(0));
        ledger.enrol(task);
        assertEq(ledger.task(task).enrolled, 1, "enrolled");
    }

    function test_enrol_newcomerBelowReputation_reverts() public {
        IFedLedger.TaskParams memory p = _params();
        p.minReputation = 500_001;
        uint256 task = _post(p);
        _register(0);
        _expect(IFedLedger.ReputationTooLow.selector, 500_000, 500_001);
        vm.prank(_owner(0));
        ledger.enrol(task);
    }

    function test_enrol_fullOrLate_reverts() public {
        IFedLedger.TaskParams memory p = _params();
        p.maxParticipants = 2;
        uint256 task = _started(p, 2);
        uint256 other = _post(p);
        _register(2);
        _expect(IFedLedger.EnrolmentClosed.selector, task);
        vm.prank(_owner(2));
        ledger.enrol(task);
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(_owner(i));
            ledger.enrol(other);
        }
        _expect(IFedLedger.TaskFull.selector, other);
        vm.prank(_owner(2));
        ledger.enrol(other);
    }

    function test_openRound_fullTask_needNotWait() public {
        IFedLedger.TaskParams memory p = _params();
        p.maxParticipants = 2;
        uint256 task = _post(p);
        for (uint256 i = 0; i < 2; ++i) {
            _register(i);
            vm.prank(_owner(i));
            ledger.enrol(task);
        }
        _open(task, 2);
        assertPhase(task, IFedLedger.Phase.Committing);
        IFedLedger.Round memory r = ledger.round(task, 1);
        assertEq(r.selected, 2, "selected");
        assertEq(r.openedAt, _now(), "opened");
        assertEq(r.baseModel, p.model.digest, "base");
        assertEq(ledger.selectedWord(task, 1, 0), 3, "bits");
    }

    function test_openRound_duringEnrolment_reverts() public {
        uint256 task = _post(_params());
        for (uint256 i = 0; i < 2; ++i) {
            _register(i);
            vm.prank(_owner(i));
            ledger.enrol(task);
        }
        _expect(IFedLedger.EnrolmentOpen.selector, task);
        _open(task, 2);
    }

    function test_openRound_strangerOrPublisher_reverts() public {
        uint256 task = _started(_params(), 2);
        (uint32[] memory indices, uint256[] memory words) = _firstOnes(2);
        _expect(IFedLedger.NotAggregator.selector, PUBLISHER);
        vm.prank(PUBLISHER);
        ledger.openRound(task, indices, words);
    }

    function test_openRound_tooFewEnrolled_reverts() public {
        uint256 task = _started(_params(), 1);
        _expect(IFedLedger.TooFewParticipants.selector, 1, 2);
        _open(task, 1);
    }

    function test_openRound_selectionBelowQuorum_reverts() public {
        uint256 task = _started(_params(), 3);
        _expect(IFedLedger.TooFewParticipants.selector, 1, 2);
        _openWord(task, 4);
        (uint32[] memory indices, uint256[] memory words) = _firstOnes(0);
        _expect(IFedLedger.TooFewParticipants.selector, 0, 2);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, indices, words);
    }

    function test_openRound_notEnrolled_reverts() public {
        uint256 task = _started(_params(), 3);
        _register(3);
        _expect(IFedLedger.NotEnrolled.selector, 0);
        _openWord(task, 15);
    }

    function test_openRound_badWords_reverts() public {
        uint256 task = _started(_params(), 3);
        _expect(IFedLedger.WordsNotAscending.selector);
        _openWord(task, 0);
        (uint32[] memory indices, uint256[] memory words) = (new uint32[](2), new uint256[](2));
        (words[0], words[1]) = (3, 4);
        _expect(IFedLedger.WordsNotAscending.selector);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, indices, words);
        _expect(IFedLedger.LengthMismatch.selector);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, new uint32[](1), words);
    }

    function test_openRound_whileOpen_reverts() public {
        uint256 task = _started(_params(), 2);
        _open(task, 2);
        _expect(IFedLedger.PreviousRoundOpen.selector, task, 1);
        _open(task, 2);
    }

    function test_openRound_beyondUnfinalLimit_reverts() public {
        uint256 task = _started(_params(), 2);
        _open(task, 2);
        _delivered(task, 1, 2);
        _propose(task, 1, _uniform(1, 2, 1, 0));
        _expect(IFedLedger.TooManyUnfinal.selector, task);
        _open(task, 2);
    }

    /// @dev Unsettled rounds count too: two rounds of budget never carry three rounds of pay.
    function test_openRound_beyondBudget_reverts() public {
        IFedLedger.TaskParams memory p = _params();
        (p.rounds, p.maxUnfinal) = (2, 8);
        uint256 task = _started(p, 2);
        for (uint32 r = 1; r <= 2; ++r) {
            _open(task, 2);
            _delivered(task, r, 2);
            _propose(task, r, _uniform(r, 2, 1, 500));
        }
        _expect(IFedLedger.RoundsExhausted.selector, task);
        _open(task, 2);
    }

    function test_openRound_optimistic_buildsOnTheProposedModel() public {
        IFedLedger.TaskParams memory p = _params();
        p.maxUnfinal = 2;
        uint256 task = _started(p, 2);
        _open(task, 2);
        _delivered(task, 1, 2);
        Outcome memory o = _uniform(1, 2, 1, 500);
        _propose(task, 1, o);
        _open(task, 2);
        assertEq(ledger.round(task, 2).baseModel, o.proposal.model.digest, "base");
    }

    function test_finishTask_complete_refundsTheRest() public {
        IFedLedger.TaskParams memory p = _params();
        uint256 task = _started(p, 2);
        for (uint32 r = 1; r <= p.rounds; ++r) {
            _expect(IFedLedger.TaskNotFinishable.selector, task);
            ledger.finishTask(task);
            _round(task, r, 2, 300);
        }
        vm.prank(OUTSIDER);
        ledger.finishTask(task);
        assertEq(ledger.balanceOf(PUBLISHER), uint256(p.rounds) * (1000 - 600) * p.creditUnit, "refund");
        assertPhase(task, IFedLedger.Phase.Finished);
        ledger.withdrawCredit(task, 0);
        assertEq(_payout(0).balance, uint256(p.rounds) * 300 * p.creditUnit, "credits stay");
    }

    function test_finishTask_twice_reverts() public {
        uint256 task = _post(_params());
        _skip(10_000);
        ledger.finishTask(task);
        _expect(IFedLedger.TaskAlreadyFinished.selector, task);
        ledger.finishTask(task);
        _expect(IFedLedger.TaskAlreadyFinished.selector, task);
        ledger.enrol(task);
    }

    function test_finishTask_stopped_endsEarly() public {
        uint256 task = _started(_params(), 2);
        _open(task, 2);
        _delivered(task, 1, 2);
        Outcome memory o = _uniform(1, 2, 1, 100);
        o.proposal.stop = true;
        _propose(task, 1, o);
        _skip(50);
        _settle(task, 1, o);
        _expect(IFedLedger.RoundsExhausted.selector, task);
        _open(task, 2);
        ledger.finishTask(task);
        assertTrue(ledger.task(task).finished, "finished");
    }

    function test_finishTask_roundInFlight_reverts() public {
        uint256 task = _started(_params(), 2);
        _open(task, 2);
        _skip(1_000_000);
        _expect(IFedLedger.TaskNotFinishable.selector, task);
        vm.prank(PUBLISHER);
        ledger.finishTask(task);
        ledger.voidRound(task, 1);
        _skip(1001);
        ledger.finishTask(task);
        assertEq(ledger.balanceOf(PUBLISHER), _budget(_params()), "refund");
    }

    function test_finishTask_idleAggregator_endsAfterGrace() public {
        uint256 task = _started(_params(), 2);
        _round(task, 1, 2, 500);
        _skip(1000);
        _expect(IFedLedger.TaskNotFinishable.selector, task);
        ledger.finishTask(task);
        _skip(1);
        ledger.finishTask(task);
        assertEq(ledger.balanceOf(PUBLISHER), 2 * 1000 * uint256(1 gwei), "two rounds unspent");
    }

    function test_finishTask_neverStarted_strangerWaitsLonger() public {
        uint256 task = _started(_params(), 1);
        _expect(IFedLedger.TaskNotFinishable.selector, task);
        vm.prank(OUTSIDER);
        ledger.finishTask(task);
        vm.prank(PUBLISHER);
        ledger.finishTask(task);
        assertTrue(ledger.task(task).finished, "finished");
    }

    function test_finishTask_publisherMayNotLeaveAStartableTask() public {
        uint256 task = _started(_params(), 2);
        _expect(IFedLedger.TaskNotFinishable.selector, task);
        vm.prank(PUBLISHER);
        ledger.finishTask(task);
    }

    function test_finishTask_threeVoids_publisherMayEnd() public {
        uint256 task = _started(_params(), 2);
        for (uint32 r = 1; r <= 3; ++r) {
            _expect(IFedLedger.TaskNotFinishable.selector, task);
            vm.prank(PUBLISHER);
            ledger.finishTask(task);
            _open(task, 2);
            _skip(100);
            ledger.voidRound(task, r);
        }
        _expect(IFedLedger.TaskNotFinishable.selector, task);
        vm.prank(OUTSIDER);
        ledger.finishTask(task);
        vm.prank(PUBLISHER);
        ledger.finishTask(task);
        assertEq(ledger.balanceOf(PUBLISHER), _budget(_params()), "refund");
    }

    function _refused(IFedLedger.TaskParams memory p, string memory name) private {
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        ledger.postTask(p);
    }
}
