// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CurrencyLibrary} from "../src/Currency.sol";
import {Evidence, Verdicts} from "../src/Evidence.sol";
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
        accounts.deposit{value: 3 ether}(COIN, 3 ether);
        vm.prank(OUTSIDER);
        accounts.withdraw(COIN, payout(9));
        eq(payout(9).balance, 3 ether, "paid");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NothingToWithdraw.selector, OUTSIDER));
        accounts.withdraw(COIN, payout(9));
    }

    function test_withdraw_refusingReceiver_hurtsOnlyItself() public {
        address refuser = address(new Refuser());
        vm.prank(OUTSIDER);
        accounts.deposit{value: 3 ether}(COIN, 3 ether);
        refused(OUTSIDER, abi.encodeWithSelector(CurrencyLibrary.TransferFailed.selector, refuser, 3 ether));
        accounts.withdraw(COIN, refuser);
        eq(free(OUTSIDER), 3 ether, "balance");
    }

    function test_withdraw_reentered_paysOnce() public {
        Greedy greedy = new Greedy(accounts);
        greedy.deposit{value: 1 ether}();
        greedy.withdraw();
        eq(address(greedy).balance, 1 ether, "paid");
        eq(greedy.successes(), 0, "successes");
        eq(greedy.attempts(), 2, "attempts");
    }

    function test_register_secondTime_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyRegistered.selector, owner(0)));
        accounts.register{value: STAKE}(signer(7), payout(0), STAKE);
    }

    function test_register_takenSigner_isRefused() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SignerTaken.selector, signer(1)));
        accounts.register{value: STAKE}(signer(1), payout(0), STAKE);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.SignerTaken.selector, signer(1)));
        accounts.rotateSigner(signer(1));
    }

    function test_register_smallStakeOrZeroAddress_isRefused() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE - 1, STAKE));
        accounts.register{value: STAKE - 1}(signer(7), payout(7), STAKE - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.register{value: STAKE}(address(0), payout(7), STAKE);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.register{value: STAKE}(signer(7), address(0), STAKE);
    }

    function test_exit_completed_returnsStakeAfterTheDelayOnce() public {
        vm.prank(owner(0));
        accounts.requestExit();
        eq(accounts.participant(0).stake, 0, "stake that backs something");
        eq(accounts.participant(0).unbonding, STAKE, "stake that still pays");
        pass(EXIT_DELAY - 1);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ExitNotDue.selector, START + EXIT_DELAY));
        accounts.completeExit();
        pass(1);
        vm.prank(owner(0));
        accounts.completeExit();
        eq(free(owner(0)), STAKE, "stake");
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, owner(0)));
        accounts.completeExit();
        vm.prank(owner(0));
        eq(accounts.register{value: STAKE}(signer(0), payout(0), STAKE), 0, "same id");
        eq(accounts.participantCount(), 2, "count");
    }

    function test_exit_requestedTwiceOrCancelled_followsTheRecord() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        accounts.completeExit();
        vm.prank(owner(0));
        accounts.requestExit();
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyExiting.selector, 0));
        accounts.requestExit();
        vm.prank(owner(0));
        accounts.cancelExit();
        eq(accounts.participant(0).stake, STAKE, "stake");
        eq(accounts.participant(0).unbonding, 0, "unbonding");
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        accounts.cancelExit();
    }

    /// @dev A signer serves one participant for ever, so nobody may name one that did not agree to it.
    function test_rotateSigner_toWhoDidNotAgree_isRefusedAndBarsNobody() public {
        address other = address(0xF00D);
        vm.deal(other, STAKE);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.SignerUnwilling.selector, other));
        accounts.rotateSigner(other);
        agree(other, owner(1));
        refused(owner(0), abi.encodeWithSelector(IFedLedger.SignerUnwilling.selector, other));
        accounts.rotateSigner(other);
        vm.deal(OUTSIDER, STAKE);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SignerUnwilling.selector, other));
        accounts.register{value: STAKE}(other, payout(0), STAKE);
        vm.prank(other);
        uint32 id = accounts.register{value: STAKE}(other, other, STAKE);
        eq(uint160(accounts.participant(id).signer), uint160(other), "its own signer");
    }

    function test_rotateSigner_oldSigner_speaksNoMore() public {
        agree(signer(5), owner(0));
        vm.prank(owner(0));
        accounts.rotateSigner(signer(5));
        eq(accounts.idOfSigner(signer(5)), 0, "id");
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        accounts.idOfSigner(signer(0));
    }

    function test_addStake_byOwner_growsTheStake() public {
        vm.prank(owner(1));
        accounts.addStake{value: 2 ether}(2 ether);
        eq(accounts.participant(1).stake, 3 ether, "stake");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        accounts.addStake{value: 1}(1);
    }
}

contract TaskTest is Fixture {
    function setUp() public {
        setUpLedger();
        register(4);
    }

    function test_postTask_budget_comesFromFreeBalanceAndValue() public {
        IFedLedger.TaskParams memory p = defaults(4);
        uint256 value = budget(p);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, PUBLISHER, value - 1, value));
        accounts.postTask{value: value - 1}(p, NO_STANDBYS);
        vm.prank(PUBLISHER);
        accounts.deposit{value: 400}(COIN, 400);
        vm.prank(PUBLISHER);
        accounts.postTask{value: value - 300}(p, NO_STANDBYS);
        eq(free(PUBLISHER), 100, "rest");
    }

    function test_postTask_badParameter_isRefusedByName() public {
        for (uint256 i = 0; i < 21; ++i) {
            IFedLedger.TaskParams memory p = defaults(4);
            string memory name = _spoil(p, i);
            refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32(bytes(name))));
            accounts.postTask(p, NO_STANDBYS);
        }
    }

    function test_postTask_noAggregator_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.aggregator = address(0);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    function test_enrol_lateTwiceOrFull_isRefused() public {
        uint256 task = post(defaults(2));
        vm.prank(signer(0));
        opinions.enrol(task);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.AlreadyEnrolled.selector, task, 0));
        opinions.enrol(task);
        vm.prank(owner(3));
        opinions.enrol(task);
        eq(accounts.enrolledWord(task, 0), 9, "enrolled");
        refused(signer(1), abi.encodeWithSelector(IFedLedger.TaskFull.selector, task));
        opinions.enrol(task);
        task = post(defaults(3));
        enrol(task, 1);
        vm.prank(owner(3));
        opinions.enrol(task);
        pass(100);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.EnrolmentClosed.selector, task));
        opinions.enrol(task);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 77));
        opinions.enrol(77);
    }

    function test_enrol_notEntitled_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.minStake = STAKE + 1;
        uint256 task = post(p);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE, STAKE + 1));
        opinions.enrol(task);
        p = defaults(4);
        p.minReputation = 500_001;
        task = post(p);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.ReputationTooLow.selector, 500_000, 500_001));
        opinions.enrol(task);
        vm.prank(owner(0));
        accounts.requestExit();
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotActive.selector, 0));
        opinions.enrol(task);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        opinions.enrol(task);
    }

    function test_enrol_ownerNamedAsSignerByAStranger_enrolsItsOwnParticipant() public {
        agree(owner(0), OUTSIDER);
        vm.prank(OUTSIDER);
        accounts.register{value: STAKE}(owner(0), OUTSIDER, STAKE);
        uint256 task = post(defaults(4));
        vm.prank(owner(0));
        opinions.enrol(task);
        eq(accounts.enrolledWord(task, 0), 1, "enrolled");
    }

    function test_openRound_badSelection_isRefused() public {
        uint256 task = post(defaults(4));
        enrol(task, 3);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 7);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.EnrolmentOpen.selector, task));
        ledger.openRound(task, 1, indices, words);
        pass(100);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        ledger.openRound(task, 1, indices, words);
        words[0] = 15;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotEnrolled.selector, 0));
        ledger.openRound(task, 1, indices, words);
        words[0] = 4;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 1, 2));
        ledger.openRound(task, 1, indices, words);
        words[0] = 0;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector));
        ledger.openRound(task, 1, indices, words);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        ledger.openRound(task, 1, indices, new uint256[](0));
        indices = new uint32[](2);
        words = new uint256[](2);
        words[0] = words[1] = 3;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WordsNotAscending.selector));
        ledger.openRound(task, 1, indices, words);
    }

    function test_openRound_tooFewEnrolled_isRefused() public {
        uint256 task = post(defaults(4));
        enrol(task, 1);
        pass(100);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, 1, 2));
        ledger.openRound(task, 1, indices, words);
    }

    function test_finishTask_tooFewEnrolled_endsByPublisherThenByAnyone() public {
        uint256 task = post(defaults(4));
        uint256 other = post(defaults(4));
        pass(99);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, task));
        accounts.finishTask(task);
        pass(1);
        vm.prank(PUBLISHER);
        accounts.finishTask(task);
        eq(free(PUBLISHER), budget(defaults(4)), "refund");
        pass(110);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, other));
        accounts.finishTask(other);
        pass(1);
        vm.prank(OUTSIDER);
        accounts.finishTask(other);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, task));
        accounts.finishTask(task);
        eq(free(PUBLISHER), 2 * budget(defaults(4)), "refunds");
    }

    function _spoil(IFedLedger.TaskParams memory p, uint256 which) private pure returns (string memory) {
        if (which < 2) {
            (which == 0 ? p.spec : p.model).digest = 0;
            return which == 0 ? "spec" : "model";
        }
        if (which < 4) {
            p.rounds = which == 2 ? 0 : 65_536;
            return "rounds";
        }
        if (which < 6) {
            p.quorum = which == 4 ? 0 : 1025;
            return "quorum";
        }
        if (which == 6) {
            p.minParticipants = 1;
            return "minParticipants";
        }
        if (which < 9) {
            p.maxParticipants = which == 7 ? 1 : 4097;
            return "maxParticipants";
        }
        if (which < 11) {
            p.maxUnfinal = which == 9 ? 0 : 9;
            return "maxUnfinal";
        }
        if (which < 13) {
            p.unitsPerRound = which == 11 ? 0 : type(uint32).max / 3 + 1;
            return "unitsPerRound";
        }
        if (which == 13) {
            p.randomness = 2;
            return "randomness";
        }
        if (which == 14) {
            p.minReputation = 1_000_001;
            return "minReputation";
        }
        if (which == 15) {
            p.creditUnit = 0;
            return "creditUnit";
        }
        if (which == 16) {
            p.enrolPeriod = 0;
            return "enrolPeriod";
        }
        if (which == 17) {
            p.commitPeriod = 0;
            return "commitPeriod";
        }
        if (which == 18) {
            p.revealPeriod = 0;
            return "revealPeriod";
        }
        if (which == 19) {
            p.proposePeriod = 0;
            return "proposePeriod";
        }
        p.maxStaleness = 65;
        return "maxStaleness";
    }
}

contract RoundTest is Fixture {
    uint256 private _task;

    function setUp() public {
        setUpLedger();
        register(4);
        _task = post(defaults(4));
        enrol(_task, 4);
    }

    function test_round_everybodyActs_paysAndRemembers() public {
        _untilProposed(1, 4, accepted(4, 250));
        pass(5);
        settle(_task, 1, accepted(4, 250));
        eq(accounts.seats(_task)[0].deposit, 1 ether, "deposit, which answers for the next round, too");
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 3);
        eq(positive, 240, "positive");
        eq(negative + missed, 0, "other evidence");
        // 480 of 720 parts unknown, rounded up; the rest is belief.
        (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 held) = opinions.opinion(PUBLISHER, 3);
        eq(uncertainty, 666_667, "uncertainty");
        eq(belief, 333_333, "belief");
        eq(disbelief, 0, "disbelief");
        eq(held, 666_666, "reputation");
        eq(opinions.reputation(OUTSIDER, 3), 500_000, "reputation with another publisher");
        eq(accounts.creditOf(_task, 3), 250, "credit");
        accounts.withdrawCredit(_task, 3);
        eq(payout(3).balance, 250 gwei, "paid");
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.NoCredit.selector, _task, 3));
        accounts.withdrawCredit(_task, 3);
        eq(accounts.creditOf(_task, 2), 250, "neighbour's credit");
    }

    function test_phase_overARound_followsTimeAndDeeds() public {
        _inPhase(IFedLedger.Phase.Enrolling);
        open(_task, 15);
        _inPhase(IFedLedger.Phase.Committing);
        for (uint256 i = 0; i < 4; ++i) {
            commit(_task, 1, i);
        }
        _inPhase(IFedLedger.Phase.Revealing);
        for (uint256 i = 0; i < 4; ++i) {
            reveal(_task, 1, i);
        }
        _inPhase(IFedLedger.Phase.Revealing);
        pass(10);
        _inPhase(IFedLedger.Phase.Proposing);
        propose(_task, 1, accepted(4, 0));
        _inPhase(IFedLedger.Phase.Challenging);
        pass(5);
        _inPhase(IFedLedger.Phase.Settleable);
        settle(_task, 1, accepted(4, 0));
        _inPhase(IFedLedger.Phase.Idle);
        open(_task, 15);
        pass(9);
        _inPhase(IFedLedger.Phase.Committing);
        pass(1);
        _inPhase(IFedLedger.Phase.Overdue);
        pass(1000);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 2);
        pass(111);
        vm.prank(PUBLISHER);
        accounts.finishTask(_task);
        _inPhase(IFedLedger.Phase.Finished);
    }

    function test_commitUpdate_notEntitled_isRefused() public {
        open(_task, 7);
        bytes32 some = keccak256("some");
        refused(signer(3), abi.encodeWithSelector(IFedLedger.NotSelected.selector, 3));
        ledger.commitUpdate(_task, 1, some);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        ledger.commitUpdate(_task, 1, some);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, owner(0)));
        ledger.commitUpdate(_task, 1, some);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.EmptyCommitment.selector));
        ledger.commitUpdate(_task, 1, 0);
        commit(_task, 1, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.AlreadyCommitted.selector, 0));
        ledger.commitUpdate(_task, 1, some);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 2));
        ledger.commitUpdate(_task, 2, some);
        vm.prank(owner(1));
        accounts.requestExit();
        refused(signer(1), abi.encodeWithSelector(IFedLedger.NotActive.selector, 1));
        ledger.commitUpdate(_task, 1, some);
        pass(10);
        refused(signer(2), abi.encodeWithSelector(IFedLedger.CommitsAreClosed.selector));
        ledger.commitUpdate(_task, 1, some);
    }

    function test_revealUpdate_outOfItsPhase_isRefused() public {
        open(_task, 7);
        commit(_task, 1, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        ledger.revealUpdate(_task, 1, update(0), SALT, NO_PROOF);
        commit(_task, 1, 1);
        commit(_task, 1, 2);
        refused(signer(3), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 3));
        ledger.revealUpdate(_task, 1, update(3), SALT, NO_PROOF);
        reveal(_task, 1, 0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.AlreadyRevealed.selector, 0));
        ledger.revealUpdate(_task, 1, update(0), SALT, NO_PROOF);
        pass(10);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.RevealsAreClosed.selector));
        ledger.revealUpdate(_task, 1, update(1), SALT, NO_PROOF);
    }

    function test_revealUpdate_copiedCommitment_cannotBeOpened() public {
        open(_task, 7);
        bytes32 honest = commitment(_task, 1, 0);
        commit(_task, 1, 0);
        vm.prank(signer(1));
        ledger.commitUpdate(_task, 1, honest);
        commit(_task, 1, 2);
        reveal(_task, 1, 0);
        bytes32 found = ledger.commitmentOf(_task, 1, signer(1), MODEL, update(0), SALT);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.WrongReveal.selector, kept(honest), found));
        ledger.revealUpdate(_task, 1, update(0), SALT, NO_PROOF);
        reveal(_task, 1, 2);
        // The copier goes unpaid and the victim unharmed.
        pass(10);
        propose(_task, 1, _outcome([uint256(1), 3, 1, 0], 300));
    }

    function test_revealUpdate_commitmentOfAnEarlierRound_cannotBeOpened() public {
        open(_task, 3);
        bytes32 first = commitment(_task, 1, 0);
        commitAndReveal(_task, 1, 2);
        propose(_task, 1, accepted(2, 1));
        pass(5);
        settle(_task, 1, accepted(2, 1));
        open(_task, 3);
        bytes32 base = accounts.baseModel(_task, 2);
        eq(base, accepted(2, 1).proposal.model.digest, "base model");
        vm.prank(signer(0));
        ledger.commitUpdate(_task, 2, first);
        pass(10);
        bytes32 found = ledger.commitmentOf(_task, 2, signer(0), base, update(0), SALT);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.WrongReveal.selector, kept(first), found));
        ledger.revealUpdate(_task, 2, update(0), SALT, NO_PROOF);
    }

    /// @dev The commitment names the address that made it, so that address can open it, and no other.
    function test_rotateSigner_betweenCommitAndReveal_leavesTheRevealToTheOldSigner() public {
        open(_task, 7);
        for (uint256 i = 0; i < 3; ++i) {
            commit(_task, 1, i);
        }
        agree(signer(9), owner(2));
        vm.prank(owner(2));
        accounts.rotateSigner(signer(9));
        refused(signer(9), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 2));
        ledger.revealUpdate(_task, 1, update(2), SALT, NO_PROOF);
        for (uint256 i = 0; i < 3; ++i) {
            reveal(_task, 1, i);
        }
        propose(_task, 1, accepted(3, 300));
    }

    function test_proposeRound_outOfItsPhaseOrByAStranger_isRefused() public {
        open(_task, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        _send(_outcome([uint256(2), 2, 0, 0], 0));
        commit(_task, 1, 0);
        commit(_task, 1, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RevealsAreOpen.selector));
        _send(_outcome([uint256(3), 3, 0, 0], 0));
        reveal(_task, 1, 0);
        reveal(_task, 1, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        _send(accepted(2, 1));
        pass(20);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.ProposalOverdue.selector));
        _send(accepted(2, 1));
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 2));
        ledger.proposeRound(_task, 2, accepted(2, 1).proposal, new uint256[](0), new uint256[](0), NO_UPDATES);
    }

    function test_voidRound_tooFewCommitted_costsNobody() public {
        open(_task, 3);
        commit(_task, 1, 0);
        pass(10);
        reveal(_task, 1, 0);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.ProposalOverdue.selector));
        _send(_outcome([uint256(1), 2, 0, 0], 0));
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 1);
        eq(positive + negative + missed, 0, "evidence");
        eq(accounts.seats(_task)[0].deposit, 1 ether, "deposit");
        open(_task, 15);
        eq(accounts.baseModel(_task, 2), MODEL, "base model");
    }

    /// @dev Who withholds its update is called late for it; the aggregator need not be silent.
    function test_proposeRound_belowQuorum_keepsTheModelPaysNobodyAndCountsAsVoid() public {
        open(_task, 3);
        commit(_task, 1, 0);
        commit(_task, 1, 1);
        reveal(_task, 1, 0);
        pass(10);
        Outcome memory o = _outcome([uint256(1), 3, 0, 0], 0);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.BelowQuorum.selector, 1, 2));
        _send(o);
        o.proposal.model.digest = MODEL;
        o.shareWords[0] = 1;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.PayOverBudget.selector, 1, 0));
        _send(o);
        o.shareWords[0] = 0;
        propose(_task, 1, o);
        pass(5);
        settle(_task, 1, o);
        (,, uint256 missed) = opinions.evidence(PUBLISHER, 1);
        eq(missed, 15, "late");
        eq(accounts.task(_task).settledRounds, 0, "settled rounds");
        eq(accounts.task(_task).consecutiveVoids, 1, "voids");
        open(_task, 3);
        eq(accounts.baseModel(_task, 2), MODEL, "base model");
    }

    function test_openRound_bond_comesFromTheFreeBalance() public {
        IFedLedger.TaskParams memory p = defaults(4);
        vm.prank(PUBLISHER);
        _task = accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
        enrol(_task, 4);
        vm.prank(AGGREGATOR);
        accounts.deposit{value: 1 ether - 1}(COIN, 1 ether - 1);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 3);
        bytes memory reason =
            abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, AGGREGATOR, 1 ether - 1, 1 ether);
        refused(AGGREGATOR, reason);
        ledger.openRound(_task, 1, indices, words);
        vm.prank(AGGREGATOR);
        accounts.deposit{value: 3}(COIN, 3);
        open(_task, 3);
        eq(free(AGGREGATOR), 2, "rest");
        eq(accounts.seats(_task)[0].deposit, 1 ether, "deposit");
    }

    function test_proposeRound_badWords_areRefused() public {
        open(_task, 15);
        commit(_task, 1, 0);
        commit(_task, 1, 1);
        commit(_task, 1, 2);
        pass(10);
        reveal(_task, 1, 0);
        reveal(_task, 1, 1);
        pass(10);
        // Participant 2 was late, 3 missed. Each line: verdicts of 0 to 4, and who is wrong.
        _wrongVerdict([uint256(0), 1, 3, 2, 0], 0);
        _wrongVerdict([uint256(2), 1, 3, 2, 0], 0);
        _wrongVerdict([uint256(3), 1, 3, 2, 0], 0);
        _wrongVerdict([uint256(1), 4, 3, 2, 0], 1);
        _wrongVerdict([uint256(1), 15, 3, 2, 0], 1);
        _wrongVerdict([uint256(1), 1, 1, 2, 0], 2);
        _wrongVerdict([uint256(1), 1, 2, 2, 0], 2);
        _wrongVerdict([uint256(1), 1, 16, 2, 0], 2);
        _wrongVerdict([uint256(1), 1, 3, 0, 0], 3);
        _wrongVerdict([uint256(1), 1, 3, 1, 0], 3);
        _wrongVerdict([uint256(1), 1, 3, 3, 0], 3);
        _wrongVerdict([uint256(1), 1, 3, 2, 2], 4);
        _badWords(_outcome([uint256(1), 16, 3, 2], 501), abi.encode(IFedLedger.PayWithoutAcceptance.selector, 1));
        Outcome memory o = _outcome([uint256(1), 1, 3, 2], 500);
        o.shareWords[0] += 1;
        _badWords(o, abi.encode(IFedLedger.PayOverBudget.selector, 1001, 1000));
        o = _outcome([uint256(1), 1, 3, 2], 1);
        o.shareWords[0] |= uint256(1) << 224;
        _badWords(o, abi.encode(IFedLedger.PayWithoutAcceptance.selector, 7));
        o.shareWords = new uint256[](2);
        _badWords(o, abi.encode(IFedLedger.LengthMismatch.selector));
        o.verdictWords = new uint256[](2);
        _badWords(o, abi.encode(IFedLedger.WrongVerdict.selector, 0, 0));
        o.verdictWords[0] = o.verdictWords[1] = 0x02030101;
        _badWords(o, abi.encode(IFedLedger.SlotsNotAscending.selector));
        o.verdictWords = o.shareWords = new uint256[](0);
        _badWords(o, abi.encode(IFedLedger.NotEverybodyJudged.selector, 0, 4));
        o.verdictWords = o.shareWords = new uint256[](1);
        o.verdictWords[0] = uint256(1) << 93;
        _badWords(o, abi.encode(IFedLedger.SlotsNotAscending.selector));
        propose(_task, 1, _outcome([uint256(1), 255, 3, 2], 0));
    }

    function test_settleRound_earlyTwiceOrAltered_isRefused() public {
        Outcome memory o = accepted(2, 500);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 1));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        _untilProposed(1, 2, o);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WindowOpen.selector, START + 5));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        pass(5);
        bytes32 expected = keccak256(abi.encode(o.proposal, o.verdictWords, o.shareWords));
        o.shareWords[0] += 1;
        bytes32 found = keccak256(abi.encode(o.proposal, o.verdictWords, o.shareWords));
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongProposal.selector, expected, found));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        o.shareWords[0] -= 1;
        settle(_task, 1, o);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 1));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        eq(accounts.creditOf(_task, 0), 500, "credit");
        eq(accounts.task(_task).spentUnits, 1000, "spent");
    }

    function test_voidRound_beforeItsTime_isRefused() public {
        open(_task, 3);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotOverdue.selector, _task, 1));
        ledger.voidRound(_task, 1);
        commitAndReveal(_task, 1, 2);
        pass(19);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotOverdue.selector, _task, 1));
        ledger.voidRound(_task, 1);
        propose(_task, 1, accepted(2, 1));
        pass(1000);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 1));
        ledger.voidRound(_task, 1);
    }

    function test_finishTask_afterThreeVoids_isThePublishersRight() public {
        for (uint32 round = 1; round <= 3; ++round) {
            refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
            accounts.finishTask(_task);
            open(_task, 15);
            pass(10);
            ledger.voidRound(_task, round);
        }
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
        vm.prank(PUBLISHER);
        accounts.finishTask(_task);
        eq(free(PUBLISHER), budget(defaults(4)), "refund");
    }

    function test_finishTask_withEarnedPay_refundsOnlyTheRest() public {
        _untilProposed(1, 2, accepted(2, 500));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
        pass(1000);
        // Even an aggregator and a publisher that say nothing for ever cannot hold the pay back.
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
        settle(_task, 1, accepted(2, 500));
        pass(111);
        vm.prank(OUTSIDER);
        accounts.finishTask(_task);
        eq(free(PUBLISHER), 2000 gwei, "refund");
        accounts.withdrawCredit(_task, 0);
        accounts.withdrawCredit(_task, 1);
        eq(payout(0).balance + payout(1).balance, 1000 gwei, "pay");
    }

    function test_settleRound_stop_endsTheTask() public {
        Outcome memory o = accepted(2, 500);
        o.proposal.stop = true;
        _untilProposed(1, 2, o);
        pass(5);
        settle(_task, 1, o);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundsExhausted.selector, _task));
        ledger.openRound(_task, 2, indices, words);
        vm.prank(OUTSIDER);
        accounts.finishTask(_task);
        eq(free(PUBLISHER), 2000 gwei, "refund");
    }

    function test_openRound_unfinalRounds_areBoundedAndSettleInOrder() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.maxUnfinal, p.rounds) = (2, 2);
        _task = post(p);
        enrol(_task, 4);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 3);
        open(_task, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.PreviousRoundOpen.selector, _task, 1));
        ledger.openRound(_task, 2, indices, words);
        commitAndReveal(_task, 1, 2);
        propose(_task, 1, accepted(2, 1));
        _untilProposed(2, 2, accepted(2, 2));
        eq(accounts.baseModel(_task, 2), accepted(2, 1).proposal.model.digest, "base model");
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManyUnfinal.selector, _task));
        ledger.openRound(_task, 3, indices, words);
        pass(5);
        Outcome memory o = accepted(2, 2);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongRound.selector, 2, 1));
        ledger.settleRound(_task, 2, o.proposal, o.verdictWords, o.shareWords, ALL);
        settle(_task, 1, accepted(2, 1));
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundsExhausted.selector, _task));
        ledger.openRound(_task, 3, indices, words);
        settle(_task, 2, o);
        vm.prank(OUTSIDER);
        accounts.finishTask(_task);
    }

    function test_withdrawCredit_refusingPayout_canBeReplaced() public {
        address refuser = address(new Refuser());
        vm.prank(owner(0));
        accounts.setPayout(refuser);
        _untilSettled(accepted(2, 500));
        vm.expectRevert(abi.encodeWithSelector(CurrencyLibrary.TransferFailed.selector, refuser, 500 gwei));
        accounts.withdrawCredit(_task, 0);
        accounts.withdrawCredit(_task, 1);
        eq(payout(1).balance, 500 gwei, "the other's pay");
        vm.prank(owner(0));
        accounts.setPayout(payout(0));
        accounts.withdrawCredit(_task, 0);
        eq(payout(0).balance, 500 gwei, "pay");
    }

    function test_withdrawCredit_reentered_paysOnce() public {
        Greedy greedy = new Greedy(accounts);
        greedy.deposit{value: 1 ether}();
        vm.prank(owner(0));
        accounts.setPayout(address(greedy));
        _untilSettled(accepted(2, 500));
        accounts.withdrawCredit(_task, 0);
        eq(address(greedy).balance, 500 gwei, "pay");
        eq(greedy.successes(), 0, "successes");
        eq(greedy.attempts(), 6, "attempts");
        eq(accounts.creditOf(_task, 1), 500, "the other's credit");
    }

    function test_beacon_afterEachRound_chainsTheRevealedSalts() public {
        eq(accounts.beacon(_task), 0, "no beacon by default");
        IFedLedger.TaskParams memory p = defaults(4);
        p.randomness = 1;
        _task = post(p);
        enrol(_task, 4);
        _untilSettled(accepted(2, 1));
        bytes32 salts = keccak256(abi.encode(uint32(0), SALT)) ^ keccak256(abi.encode(uint32(1), SALT));
        bytes32 expected = keccak256(abi.encode(bytes32(0), salts));
        eq(accounts.beacon(_task), expected, "beacon");
        open(_task, 15);
        pass(10);
        ledger.voidRound(_task, 2);
        eq(accounts.beacon(_task), keccak256(abi.encode(expected, bytes32(0))), "beacon after a void");
    }

    function testFuzz_commitmentOf_anyChange_changesIt(bytes32 other, uint64 length, uint32 round) public view {
        bytes32 base = ledger.commitmentOf(1, 1, signer(0), MODEL, update(0), SALT);
        address sender = address(bytes20(other));
        uint256 task = uint256(other);
        _differ(base, ledger.commitmentOf(task, 1, signer(0), MODEL, update(0), SALT), task != 1);
        _differ(base, ledger.commitmentOf(1, round, signer(0), MODEL, update(0), SALT), round != 1);
        _differ(base, ledger.commitmentOf(1, 1, sender, MODEL, update(0), SALT), sender != signer(0));
        _differ(base, ledger.commitmentOf(1, 1, signer(0), other, update(0), SALT), other != MODEL);
        _differ(base, ledger.commitmentOf(1, 1, signer(0), MODEL, update(0), other), other != SALT);
        IFedLedger.ContentRef memory changed = IFedLedger.ContentRef(update(0).digest, length);
        _differ(base, ledger.commitmentOf(1, 1, signer(0), MODEL, changed, SALT), length != 100);
        changed = IFedLedger.ContentRef(other, 100);
        _differ(base, ledger.commitmentOf(1, 1, signer(0), MODEL, changed, SALT), other != update(0).digest);
    }

    /// @dev Anybody may be absent, late, refused or accepted with any pay: what comes in goes out again, to the wei.
    function testFuzz_round_anyOutcome_conservesMoney(uint256 seed) public {
        open(_task, 15);
        uint256[] memory verdicts = new uint256[](4);
        uint256[] memory shares = new uint256[](4);
        uint256 spent;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 draw = (seed >> (64 * i)) & type(uint64).max;
            // Two always deliver, so that the round reaches its quorum.
            uint256 deed = i < 2 ? 2 + draw % 2 : draw % 4;
            verdicts[i] = deed == 0 ? 2 : deed == 1 ? 3 : deed == 2 ? 1 : bound(draw >> 8, 16, 255);
            // By scorers, of whom this task has none.
            if (verdicts[i] == Verdicts.OUTVOTED) ++verdicts[i];
            if (deed == 2) shares[i] = (draw >> 16) % 251;
            spent += shares[i];
            if (deed > 0) commit(_task, 1, i);
        }
        if (ledger.phase(_task) == IFedLedger.Phase.Committing) pass(10);
        for (uint256 i = 0; i < 4; ++i) {
            if (verdicts[i] == 1 || verdicts[i] > 3) reveal(_task, 1, i);
        }
        if (ledger.phase(_task) == IFedLedger.Phase.Revealing) pass(10);
        Outcome memory o = outcome(verdicts, shares);
        propose(_task, 1, o);
        pass(5);
        settle(_task, 1, o);
        pass(111);
        accounts.finishTask(_task);
        for (uint32 i = 0; i < 4; ++i) {
            if (shares[i] != 0) accounts.withdrawCredit(_task, i);
            eq(payout(i).balance, shares[i] * 1 gwei, "pay");
            eq(uint256(opinions.evidenceWord(PUBLISHER, 0) >> (32 * i)) & type(uint32).max, _first(verdicts[i]), "lane");
        }
        eq(free(PUBLISHER), (3000 - spent) * 1 gwei, "refund");
        eq(free(AGGREGATOR), 1 ether, "bond");
        vm.prank(PUBLISHER);
        accounts.withdraw(COIN, PUBLISHER);
        vm.prank(AGGREGATOR);
        accounts.withdraw(COIN, AGGREGATOR);
        eq(address(ledger).balance, 4 * uint256(STAKE), "only stakes are left");
    }

    function _first(uint256 verdict) private pure returns (uint256) {
        if (verdict == 1) return 240;
        return verdict < 4 ? 15 << 24 : 240 << 12;
    }

    function _differ(bytes32 a, bytes32 b, bool expected) private pure {
        eq(a != b ? 1 : 0, expected ? 1 : 0, "differ");
    }

    function _inPhase(IFedLedger.Phase expected) private view {
        eq(uint256(ledger.phase(_task)), uint256(expected), "phase");
    }

    function _untilProposed(uint32 round, uint256 count, Outcome memory o) private {
        open(_task, (1 << count) - 1);
        commitAndReveal(_task, round, count);
        propose(_task, round, o);
    }

    function _untilSettled(Outcome memory o) private {
        _untilProposed(1, 2, o);
        pass(5);
        settle(_task, 1, o);
    }

    function _send(Outcome memory o) private {
        ledger.proposeRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
    }

    /// @dev The same share for each of the first two.
    function _outcome(uint256[4] memory four, uint256 share) private pure returns (Outcome memory) {
        uint256[] memory verdicts = new uint256[](4);
        uint256[] memory shares = new uint256[](4);
        for (uint256 i = 0; i < 4; ++i) {
            verdicts[i] = four[i];
        }
        shares[0] = share;
        if (four[1] != 3) shares[1] = share;
        return outcome(verdicts, shares);
    }

    function _wrongVerdict(uint256[5] memory five, uint256 culprit) private {
        uint256[] memory verdicts = new uint256[](5);
        for (uint256 i = 0; i < 5; ++i) {
            verdicts[i] = five[i];
        }
        Outcome memory o = outcome(verdicts, new uint256[](5));
        _badWords(o, abi.encode(IFedLedger.WrongVerdict.selector, culprit, five[culprit]));
    }

    /// @param encoded The error's selector and arguments as `abi.encode` gives them: the selector fills a word.
    function _badWords(Outcome memory o, bytes memory encoded) private {
        bytes memory reason = new bytes(encoded.length - 28);
        for (uint256 i = 0; i < reason.length; ++i) {
            reason[i] = encoded[i < 4 ? i : i + 28];
        }
        refused(AGGREGATOR, reason);
        _send(o);
    }
}

contract ManyTest is Fixture {
    function test_round_manyParticipants_crossesWordsAndBounds() public {
        setUpLedger();
        register(1025);
        IFedLedger.TaskParams memory p = defaults(1025);
        p.unitsPerRound = type(uint32).max / 3;
        uint256 task = post(p);
        enrol(task, 1025);
        uint32[] memory indices = new uint32[](5);
        uint256[] memory words = new uint256[](5);
        for (uint32 i = 0; i < 5; ++i) {
            (indices[i], words[i]) = (i, i < 4 ? type(uint256).max : 1);
        }
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManySelected.selector, 1025));
        ledger.openRound(task, 1, indices, words);
        // Twenty on both sides of a word's end: 246 to 265, in slots 30 to 33.
        indices = new uint32[](2);
        words = new uint256[](2);
        (words[0], indices[1], words[1]) = (uint256(0x3ff) << 246, 1, 0x3ff);
        vm.prank(AGGREGATOR);
        ledger.openRound(task, 1, indices, words);
        for (uint256 i = 246; i < 266; ++i) {
            commit(task, 1, i);
        }
        for (uint256 i = 246; i < 266; ++i) {
            reveal(task, 1, i);
        }
        Outcome memory o;
        o.proposal.model = p.model;
        o.verdictWords = new uint256[](4);
        o.shareWords = new uint256[](4);
        for (uint256 i = 246; i < 266; ++i) {
            o.verdictWords[i / 8 - 30] |= ((i / 8) << 64) | (1 << (8 * (i % 8)));
        }
        o.shareWords[1] = p.unitsPerRound;
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
        eq(accounts.task(task).spentUnits, p.unitsPerRound, "spent");
        eq(accounts.creditOf(task, 248), p.unitsPerRound, "credit");
        eq(accounts.creditOf(task, 249), 0, "neighbour's credit");
        for (uint32 i = 245; i < 267; ++i) {
            (uint256 positive,,) = opinions.evidence(PUBLISHER, i);
            eq(positive, i > 245 && i < 266 ? 240 : 0, "positive");
        }
    }
}

contract EvidenceTest is Fixture {
    function test_afterVerdict_handCheckedCases() public pure {
        // 160 = 10 · 16 loses 10, 161 loses 11.
        eq(Evidence.afterVerdict(160, 1), 390, "accepted");
        eq(Evidence.afterVerdict(161, 1), 390, "accepted, decay rounded up");
        eq(Evidence.afterVerdict(161 | (161 << 12) | (17 << 24), 16), 150 | (391 << 12) | (16 << 24), "refused");
        eq(Evidence.afterVerdict(161 | (161 << 12) | (17 << 24), 2), 150 | (161 << 12) | (31 << 24), "missed");
        eq(Evidence.afterVerdict(161 | (161 << 12) | (17 << 24), 3), 150 | (161 << 12) | (31 << 24), "late");
        eq(Evidence.afterVerdict(4095, 1), 4079, "saturated");
        eq(Evidence.afterVerdict(255 << 24, 2), 255 << 24, "missed saturated");
    }

    /// @dev The decay is one sixteenth, and neither count leaves its bits, whatever the lane and the verdict.
    function testFuzz_afterVerdict_staysInItsLane(uint32 lane, uint8 verdict) public pure {
        uint256 code = verdict < 4 ? 1 + verdict % 3 : bound(verdict, 16, 255);
        (uint256 p, uint256 n, uint256 m) = Evidence.unpack(lane);
        uint256 next = Evidence.afterVerdict(lane, code);
        eq(next >> 32, 0, "overflow");
        (uint256 p2, uint256 n2, uint256 m2) = Evidence.unpack(next);
        uint256 kept = (p * 15) / 16;
        eq(p2, code == 1 ? (kept + 240 > 4095 ? 4095 : kept + 240) : kept, "positive");
        uint256 left = n - n / 16;
        eq(n2, code == 1 ? left : code < 4 ? n : (left + 240 > 4095 ? 4095 : left + 240), "negative");
        left = m - m / 16;
        eq(m2, code == 2 || code == 3 ? (left + 15 > 255 ? 255 : left + 15) : left, "missed");
    }

    function testFuzz_opinion_sumsToOneAndRewardsOnlyAcceptance(uint32 lane) public pure {
        (uint256 belief, uint256 disbelief, uint256 uncertainty, uint256 held) = Evidence.opinion(lane);
        eq(belief + disbelief + uncertainty, 1_000_000, "sum");
        (,,, uint256 refusedNext) = Evidence.opinion(Evidence.afterVerdict(lane, 16));
        (,,, uint256 acceptedNext) = Evidence.opinion(Evidence.afterVerdict(lane, 1));
        (,,, uint256 missedNext) = Evidence.opinion(Evidence.afterVerdict(lane, 2));
        eq(held <= 1_000_000 ? 1 : 0, 1, "range");
        eq(refusedNext < acceptedNext ? 1 : 0, 1, "refused below accepted");
        eq(missedNext < acceptedNext ? 1 : 0, 1, "missed below accepted");
    }
}
