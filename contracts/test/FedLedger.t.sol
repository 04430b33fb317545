// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency, CurrencyLibrary} from "../src/Currency.sol";
import {Evidence} from "../src/Evidence.sol";
import {FedLedger} from "../src/FedLedger.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture, Greedy, Refuser} from "./Fixture.sol";
import {vm} from "./Vm.sol";

contract MoneyAndRegistryTest is Fixture {
    function setUp() public {
        setUpLedger();
        register(2);
    }

    function test_receive_plainTransfer_isRefused() public {
        (bool sent,) = address(ledger).call{value: 1}("");
        eq(sent ? 1 : 0, 0, "sent");
    }

    function test_withdraw_twice_paysOnce() public {
        vm.prank(OUTSIDER);
        ledger.deposit{value: 3 ether}();
        vm.prank(OUTSIDER);
        ledger.withdraw(payout(9));
        eq(payout(9).balance, 3 ether, "paid");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NothingToWithdraw.selector, OUTSIDER));
        ledger.withdraw(payout(9));
    }

    function test_withdraw_refusingReceiver_hurtsOnlyItself() public {
        address refuser = address(new Refuser());
        vm.prank(OUTSIDER);
        ledger.deposit{value: 3 ether}();
        refused(OUTSIDER, abi.encodeWithSelector(CurrencyLibrary.TransferFailed.selector, refuser, 3 ether));
        ledger.withdraw(refuser);
        eq(ledger.balanceOf(OUTSIDER), 3 ether, "balance");
    }

    function test_withdraw_reentered_paysOnce() public {
        Greedy greedy = new Greedy(ledger);
        greedy.deposit{value: 1 ether}();
        greedy.withdraw();
        eq(address(greedy).balance, 1 ether, "paid");
        eq(greedy.successes(), 0, "successes");
        eq(greedy.attempts(), 1, "attempts");
    }

    function test_register_secondTime_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyRegistered.selector, owner(0)));
        ledger.register{value: STAKE}(signer(7), payout(0));
    }

    function test_register_takenSigner_isRefused() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SignerTaken.selector, signer(1)));
        ledger.register{value: STAKE}(signer(1), payout(0));
        refused(owner(0), abi.encodeWithSelector(IFedLedger.SignerTaken.selector, signer(1)));
        ledger.rotateSigner(signer(1));
    }

    function test_register_smallStakeOrZeroAddress_isRefused() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE - 1, STAKE));
        ledger.register{value: STAKE - 1}(signer(7), payout(7));
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.register{value: STAKE}(address(0), payout(7));
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.register{value: STAKE}(signer(7), address(0));
    }

    function test_exit_completed_returnsStakeAfterTheDelayOnce() public {
        vm.prank(owner(0));
        ledger.requestExit();
        eq(ledger.isActive(0) ? 1 : 0, 0, "active");
        pass(EXIT_DELAY - 1);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ExitNotDue.selector, START + EXIT_DELAY));
        ledger.completeExit();
        pass(1);
        vm.prank(owner(0));
        ledger.completeExit();
        eq(ledger.balanceOf(owner(0)), STAKE, "stake");
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, owner(0)));
        ledger.completeExit();
        vm.prank(owner(0));
        eq(ledger.register{value: STAKE}(signer(0), payout(0)), 0, "same id");
        eq(ledger.participantCount(), 2, "count");
    }

    function test_exit_requestedTwiceOrCancelled_followsTheRecord() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        ledger.completeExit();
        vm.prank(owner(0));
        ledger.requestExit();
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyExiting.selector, 0));
        ledger.requestExit();
        vm.prank(owner(0));
        ledger.cancelExit();
        eq(ledger.isActive(0) ? 1 : 0, 1, "active");
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        ledger.cancelExit();
    }

    function test_rotateSigner_oldSigner_speaksNoMore() public {
        vm.prank(owner(0));
        ledger.rotateSigner(signer(5));
        eq(ledger.idOfSigner(signer(5)), 0, "id");
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        ledger.idOfSigner(signer(0));
    }

    function test_addStake_byOwner_growsTheStake() public {
        vm.prank(owner(1));
        ledger.addStake{value: 2 ether}();
        eq(ledger.participant(1).stake, 3 ether, "stake");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        ledger.addStake{value: 1}();
    }
}

contract TaskTest is Fixture {
    function setUp() public {
        setUpLedger();
        register(4);
    }

    function test_postTask_wrongValue_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 value = budget(p);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.WrongBudget.selector, value, value - 1));
        ledger.postTask{value: value - 1}(p);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.WrongBudget.selector, value, value + 1));
        ledger.postTask{value: value + 1}(p);
    }

    function test_postTask_badParameter_isRefusedByName() public {
        for (uint256 i = 0; i < 19; ++i) {
            IFedLedger.TaskParams memory p = defaults(4);
            string memory name = _spoil(p, i);
            refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
            ledger.postTask(p);
        }
    }

    function test_postTask_unsupportedTokenStalenessOrAggregator_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.maxStaleness = 1;
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.UnsupportedStaleness.selector, 1));
        ledger.postTask(p);
        p = defaults(4);
        p.token = Currency.wrap(OUTSIDER);
        refused(PUBLISHER, abi.encodeWithSelector(CurrencyLibrary.UnsupportedCurrency.selector, OUTSIDER));
        ledger.postTask(p);
        p = defaults(4);
        p.aggregator = address(0);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.postTask(p);
    }

    function test_enrol_lateTwiceOrFull_isRefused() public {
        uint256 task = post(defaults(2));
        vm.prank(signer(0));
        ledger.enrol(task);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyEnrolled.selector, task, 0));
        ledger.enrol(task);
        vm.prank(owner(3));
        ledger.enrol(task);
        eq(ledger.enrolledWord(task, 0), 9, "enrolled");
        refused(signer(1), abi.encodeWithSelector(IFedLedger.TaskFull.selector, task));
        ledger.enrol(task);
        task = post(defaults(2));
        pass(100);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.EnrolmentClosed.selector, task));
        ledger.enrol(task);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 77));
        ledger.enrol(77);
    }

    function test_enrol_notEntitled_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.minStake = STAKE + 1;
        uint256 task = post(p);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE, STAKE + 1));
        ledger.enrol(task);
        p = defaults(4);
        p.minReputation = 500_001;
        task = post(p);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.ReputationTooLow.selector, 500_000, 500_001));
        ledger.enrol(task);
        vm.prank(owner(0));
        ledger.requestExit();
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotActive.selector, 0));
        ledger.enrol(task);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        ledger.enrol(task);
    }

    function test_enrol_ownerNamedAsSignerByAStranger_enrolsItsOwnParticipant() public {
        vm.prank(OUTSIDER);
        ledger.register{value: STAKE}(owner(0), OUTSIDER);
        uint256 task = post(defaults(4));
        vm.prank(owner(0));
        ledger.enrol(task);
        eq(ledger.enrolledWord(task, 0), 1, "enrolled");
    }

    function test_openRound_badSelection_isRefused() public {
        uint256 task = post(defaults(4));
        enrol(task, 3);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 7);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.EnrolmentOpen.selector, task));
        ledger.openRound(task, indices, words);
        pass(100);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        ledger.openRound(task, indices, words);
        words[0] = 15;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotEnrolled.selector, 0));
        ledger.openRound(task, indices, words);
        words[0] = 4;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 1, 2));
        ledger.openRound(task, indices, words);
        words[0] = 0;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector));
        ledger.openRound(task, indices, words);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        ledger.openRound(task, indices, new uint256[](0));
        indices = new uint32[](2);
        words = new uint256[](2);
        words[0] = words[1] = 3;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector));
        ledger.openRound(task, indices, words);
    }

    function test_openRound_tooFewEnrolled_isRefused() public {
        uint256 task = post(defaults(4));
        enrol(task, 1);
        pass(100);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 1, 2));
        ledger.openRound(task, indices, words);
    }

    function test_finishTask_tooFewEnrolled_endsByPublisherThenByAnyone() public {
        uint256 task = post(defaults(4));
        uint256 other = post(defaults(4));
        pass(99);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, task));
        ledger.finishTask(task);
        pass(1);
        vm.prank(PUBLISHER);
        ledger.finishTask(task);
        eq(ledger.balanceOf(PUBLISHER), budget(defaults(4)), "refund");
        pass(100);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, other));
        ledger.finishTask(other);
        pass(1);
        vm.prank(OUTSIDER);
        ledger.finishTask(other);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, task));
        ledger.finishTask(task);
        eq(ledger.balanceOf(PUBLISHER), 2 * budget(defaults(4)), "refunds");
    }

    function _spoil(IFedLedger.TaskParams memory p, uint256 which) private pure returns (string memory) {
        if (which == 0) return (p.spec.digest = 0, "spec").1;
        return "";
    }
}
