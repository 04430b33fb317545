// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {ChecksFixture} from "./ChecksFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Who is drawn for a check, how it goes on, and whom it costs what.
contract ChecksTest is ChecksFixture {
    function setUp() public {
        setUpCourt(POOL);
        _task = proposedChecks(checked());
    }

    // Who is drawn.

    function test_summon_inTheBlockOfTheProposal_isRefused() public {
        vm.roll(vm.getBlockNumber() - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DrawUnknown.selector, _task, 1));
        court.summon(_task, 1, one(0), posted(outcomeOf()));
    }

    function test_summon_afterTheChainForgotTheBlock_isRefused() public {
        vm.roll(vm.getBlockNumber() - 1 + 256);
        summon(1, one(0));
        nextBlock();
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DrawUnknown.selector, _task, 1));
        court.summon(_task, 1, one(1), posted(outcomeOf()));
    }

    function testFuzz_summon_drawsByTheHashOfTheBlock(bytes32 seed, uint24 rate) public {
        vm.assume(seed != 0);
        IFedLedger.TaskParams memory p = checked();
        p.checkRate = uint24(bound(rate, 1, 1_000_000));
        _task = proposedChecks(p);
        vm.setBlockhash(vm.getBlockNumber() - 1, seed);
        for (uint32 i = 0; i < WORKERS; ++i) {
            uint256 value = uint256(keccak256(abi.encode(seed, _task, uint256(1), uint256(i))));
            if (value % 1_000_000 >= p.checkRate) {
                refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotDrawn.selector, i));
                court.summon(_task, 1, one(i), posted(outcomeOf()));
                stateIs(i, IFedLedger.CheckState.None);
                continue;
            }
            vm.expectEmit(address(ledger));
            emit IFedLedger.Summoned(_task, 1, seed, one(i));
            summon(1, one(i));
            stateIs(i, IFedLedger.CheckState.Summoned);
            eq(placeOf(i), (value >> 128) % AUDITORS, "auditor");
        }
    }

    /// @dev Also where all others are drawn.
    function test_summon_ofWhoWasNotAccepted_isRefused() public {
        _task = post(checked());
        enrol(_task, WORKERS);
        open(_task, 15);
        for (uint256 i = 0; i < 3; ++i) {
            commit(_task, 1, i);
        }
        pass(10);
        for (uint256 i = 0; i < 3; ++i) {
            reveal(_task, 1, i);
        }
        Outcome memory o = outcome(verdicts(1, 1, 16, 2), new uint256[](4));
        propose(_task, 1, o);
        nextBlock();
        for (uint32 i = 2; i < 9; ++i) {
            refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotDrawn.selector, i));
            court.summon(_task, 1, one(i), posted(o));
        }
        court.summon(_task, 1, one(1), posted(o));
    }

    function test_summon_twice_isRefused() public {
        summon(1, one(1));
        refused(OUTSIDER, wrongCheck(1, IFedLedger.CheckState.Summoned));
        court.summon(_task, 1, workers(), posted(outcomeOf()));
        stateIs(0, IFedLedger.CheckState.None);
    }

    function test_summon_untilOnePeriodIsOver_andAfterTheRoundIsSettled() public {
        pass(PERIOD - 1);
        settleFirst();
        summon(1, one(0));
        pass(1);
        refused(OUTSIDER, tooLate(1));
        court.summon(_task, 1, one(1), posted(outcomeOf()));
    }

    function test_summon_byOtherWords_isRefused() public {
        Outcome memory other = accepted(WORKERS, 249);
        bytes32 posted_ = keccak256(abi.encode(outcomeOf().proposal, outcomeOf().verdictWords, outcomeOf().shareWords));
        bytes32 given = keccak256(abi.encode(other.proposal, other.verdictWords, other.shareWords));
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongProposal.selector, posted_, given));
        court.summon(_task, 1, one(0), posted(other));
    }

    function test_summon_ofARoundThatIsNotProposedOrVoided_isRefused() public {
        bytes memory reason = abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 2);
        refused(OUTSIDER, reason);
        court.summon(_task, 2, one(0), posted(outcomeOf()));
        _voidFirst();
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 1));
        court.summon(_task, 1, one(0), posted(outcomeOf()));
    }

    function test_summon_inATaskWithoutChecks_isRefused() public {
        _task = proposedRound();
        nextBlock();
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until(0)));
        court.summon(_task, 1, new uint32[](0), posted(outcomeOf()));
    }

    /// @dev A later round with the very same words and models draws from its own block, and for nobody but its own.
    function test_summon_afterAProposalAlikeTookTheRoundsPlace_isRefused() public {
        pass(5);
        settleFirst();
        proposeNext(_task, 2, 250);
        nextBlock();
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DrawUnknown.selector, _task, 1));
        court.summon(_task, 1, one(0), posted(outcomeOf()));
        summon(2, one(0));
        stateIs(0, IFedLedger.CheckState.None);
    }

    // Answers.

    function test_answerCheck_byOwnerOrSigner_untilTwoPeriodsAreOver() public {
        summon(1, workers());
        pass(2 * PERIOD - 1);
        vm.expectEmit(address(ledger));
        emit IFedLedger.CheckAnswered(_task, 1, 0, BOX, OPENING, CLAIM);
        answer(0);
        vm.prank(owner(1));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
        stateIs(1, IFedLedger.CheckState.Answered);
        refused(signer(0), wrongCheck(0, IFedLedger.CheckState.Answered));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
        pass(1);
        refused(signer(2), tooLate(2));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
    }

    function test_answerCheck_byWhoWasNotSummoned_isRefused() public {
        summon(1, one(0));
        refused(signer(1), wrongCheck(1, IFedLedger.CheckState.None));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
    }

    // Findings.

    function test_postFindings_commitsThenReveals() public {
        summonAndAnswer(0);
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(0), found(1, 0, true));
        bytes32 value = hashOf(place, all);
        vm.expectEmit(address(ledger));
        emit IFedLedger.FindingsCommitted(_task, place, value);
        commitFindings(place, value);
        eq(court.findingsOf(_task, place), value, "committed");
        vm.expectEmit(address(ledger));
        emit IFedLedger.FindingsRevealed(_task, place, all, SECRET);
        revealFindings(place, all);
        eq(court.findingsOf(_task, place), 0, "revealed");
        stateIs(0, IFedLedger.CheckState.Passed);
        refused(auditor(place), abi.encodeWithSelector(IFedLedger.WrongFindings.selector, bytes32(0), value));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
    }

    function test_postFindings_notCommittedTo_isRefused() public {
        summonAndAnswer(0);
        uint256 place = placeOf(0);
        bytes32 value = hashOf(place, found(1, 0, true));
        commitFindings(place, value);
        bytes32 other = hashOf(place, found(1, 0, false));
        refused(auditor(place), abi.encodeWithSelector(IFedLedger.WrongFindings.selector, value, other));
        court.postFindings(_task, auditors(), place, found(1, 0, false), SECRET, 0);
        other = keccak256(abi.encode(_task, place, found(1, 0, true), SALT));
        refused(auditor(place), abi.encodeWithSelector(IFedLedger.WrongFindings.selector, value, other));
        court.postFindings(_task, auditors(), place, found(1, 0, true), SALT, 0);
    }

    function test_postFindings_byNoAuditorOfTheTask_isRefused() public {
        address[] memory all = auditors();
        bytes memory reason = abi.encodeWithSelector(IFedLedger.NotAuditor.selector, OUTSIDER);
        refused(OUTSIDER, reason);
        court.postFindings(_task, all, 0, new IFedLedger.Findings[](0), 0, SECRET);
        refused(OUTSIDER, reason);
        court.postFindings(_task, all, AUDITORS, new IFedLedger.Findings[](0), 0, SECRET);
        all[0] = OUTSIDER;
        refused(OUTSIDER, reason);
        court.postFindings(_task, all, 0, new IFedLedger.Findings[](0), 0, SECRET);
    }

    function test_postFindings_byAnotherAuditor_isRefused() public {
        summonAndAnswer(0);
        uint256 other = (placeOf(0) + 1) % AUDITORS;
        IFedLedger.Findings[] memory all = found(1, 0, false);
        commitFindings(other, hashOf(other, all));
        refused(auditor(other), abi.encodeWithSelector(IFedLedger.NotAuditor.selector, auditor(other)));
        court.postFindings(_task, auditors(), other, all, SECRET, 0);
    }

    function test_postFindings_untilThreePeriodsAreOver() public {
        summonAndAnswer(0);
        summonAndAnswer(1);
        pass(3 * PERIOD - 1);
        judge(0, true);
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(1), found(1, 1, false));
        commitFindings(place, hashOf(place, all));
        pass(1);
        refused(auditor(place), tooLate(3));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
    }

    /// @dev Of a check that is not answered, or was decided, nothing can be said.
    function test_postFindings_outOfTurn_isRefused() public {
        summon(1, one(0));
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(0), found(1, 0, false));
        commitFindings(place, hashOf(place, all));
        refused(auditor(place), wrongCheck(0, IFedLedger.CheckState.Summoned));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
        answer(0);
        revealFindings(place, all);
        commitFindings(place, hashOf(place, all));
        refused(auditor(place), wrongCheck(0, IFedLedger.CheckState.Failed));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
    }

    function test_postFindings_withoutATranscriptForEachThatPassed_isRefused() public {
        summonAndAnswer(0);
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(0), found(1, 0, true));
        for (uint256 count = 0; count < 3; count += 2) {
            all[0].transcripts = new bytes32[](count);
            commitFindings(place, hashOf(place, all));
            refused(auditor(place), abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
            court.postFindings(_task, auditors(), place, all, SECRET, 0);
        }
    }

    /// @dev A batch that names one check wrongly says nothing, and can be committed to anew.
    function test_postFindings_ofSeveralRounds_togetherOrNotAtAll() public {
        IFedLedger.TaskParams memory p = checked();
        p.maxUnfinal = 2;
        p.checkPeriod = 20;
        _task = proposedChecks(p);
        proposeNext(_task, 2, 250);
        nextBlock();
        (uint256 place, IFedLedger.Findings[] memory all) = (_bothRoundsOf(0), new IFedLedger.Findings[](2));
        (all[0], all[1]) = (found(1, 0, true)[0], found(3, 0, false)[0]);
        commitFindings(place, hashOf(place, all));
        refused(auditor(place), abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 3));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
        stateIs(0, IFedLedger.CheckState.Answered);
        all[1].round = 2;
        post(place, all);
        stateIs(0, IFedLedger.CheckState.Passed);
        (IFedLedger.CheckState second,) = court.checkOf(_task, 2, 0);
        eq(uint8(second), uint8(IFedLedger.CheckState.Failed), "second round");
    }

    // Who says nothing.

    function test_endChecks_ofWhoDidNotAnswer_failsItOnceItIsOver() public {
        summon(1, one(2));
        settleAfter(2 * PERIOD - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, until(2), type(uint256).max));
        court.endChecks(_task, 1, one(2), auditors());
        pass(1);
        vm.expectEmit(address(ledger));
        emit IFedLedger.CheckEnded(_task, 1, 2, true);
        end(2);
        eq(stakeOf(2), STAKE - PENALTY, "stake");
        eq(burned(), PENALTY, "burned");
        stateIs(2, IFedLedger.CheckState.Ended);
        refused(OUTSIDER, wrongCheck(2, IFedLedger.CheckState.Ended));
        court.endChecks(_task, 1, one(2), auditors());
        conserved();
    }

    function test_endChecks_ofWhomNobodyFailed_isRefusedForEver() public {
        summonAndAnswer(0);
        summonAndAnswer(1);
        judge(1, true);
        settleAfter(50 * PERIOD);
        refused(OUTSIDER, wrongCheck(0, IFedLedger.CheckState.Answered));
        court.endChecks(_task, 1, one(0), auditors());
        refused(OUTSIDER, wrongCheck(1, IFedLedger.CheckState.Passed));
        court.endChecks(_task, 1, one(1), auditors());
        refused(OUTSIDER, wrongCheck(3, IFedLedger.CheckState.None));
        court.endChecks(_task, 1, one(3), auditors());
        eq(stakeOf(0) + stakeOf(1) + stakeOf(3), 3 * uint256(STAKE), "stakes");
        conserved();
    }

    function test_endChecks_beforeTheRoundIsSettled_isRefused() public {
        summon(1, one(0));
        pass(9 * PERIOD);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, 0));
        court.endChecks(_task, 1, one(0), auditors());
        settleFirst();
        end(0);
        stateIs(0, IFedLedger.CheckState.Ended);
    }

    function test_endChecks_byOtherAuditors_isRefused() public {
        summon(1, one(0));
        settleAfter(9 * PERIOD);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAuditor.selector, OUTSIDER));
        court.endChecks(_task, 1, one(0), new address[](AUDITORS));
    }

    /// @dev A check of a round that fell costs nobody anything, wherever it was.
    function test_endChecks_ofAVoidedRound_failsNobody() public {
        summon(1, one(0));
        summonAndAnswer(1);
        judge(1, false);
        appealed(2);
        appealed(3);
        judge(3, false);
        stateIs(3, IFedLedger.CheckState.Confirmed);
        _voidFirst();
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotProposed.selector, _task, 1));
        court.answerCheck(_task, 1, BOX, OPENING, CLAIM);
        for (uint256 i = 0; i < WORKERS; ++i) {
            vm.expectEmit(address(ledger));
            emit IFedLedger.CheckEnded(_task, 1, uint32(i), false);
            end(i);
            stateIs(i, IFedLedger.CheckState.Passed);
            eq(stakeOf(i), STAKE, "stake");
            eq(free(owner(i)), i < 2 ? 0 : bondOfAppeal(), "bond");
            eq(lane(i), 0, "evidence");
        }
        conserved();
    }

    // Appeals.

    function test_appealCheck_byTheOwnerForItsBond_untilFourPeriodsAreOver() public {
        summonAndAnswer(0);
        summonAndAnswer(1);
        judge(0, false);
        judge(1, false);
        uint256 place = placeOf(0);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotRegistered.selector, signer(0)));
        court.appealCheck(_task, 1, BOX, OPENING, CLAIM);
        uint256 bond = (uint256(PENALTY) + 3) / 4;
        eq(bondOfAppeal(), bond, "bond");
        bytes memory reason = abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, owner(0), bond - 1, bond);
        refused(owner(0), reason);
        court.appealCheck{value: bond - 1}(_task, 1, BOX, OPENING, CLAIM);
        pass(4 * PERIOD - 1);
        vm.prank(owner(0));
        accounts.deposit{value: 1}(COIN, 1);
        vm.expectEmit(address(ledger));
        emit IFedLedger.CheckAppealed(_task, 1, 0, BOX, OPENING, CLAIM);
        vm.prank(owner(0));
        court.appealCheck{value: bond - 1}(_task, 1, BOX, OPENING, CLAIM);
        eq(free(owner(0)), 0, "all of it");
        eq(placeOf(0), (place + 1) % AUDITORS, "the next auditor");
        conserved();
        refused(owner(0), wrongCheck(0, IFedLedger.CheckState.Appealed));
        court.appealCheck{value: bond}(_task, 1, BOX, OPENING, CLAIM);
        pass(1);
        refused(owner(1), tooLate(4));
        court.appealCheck{value: bond}(_task, 1, BOX, OPENING, CLAIM);
    }

    function test_appealCheck_ofACheckThatDidNotFail_isRefused() public {
        summonAndAnswer(0);
        refused(owner(0), wrongCheck(0, IFedLedger.CheckState.Answered));
        court.appealCheck{value: 1 ether}(_task, 1, BOX, OPENING, CLAIM);
        refused(owner(1), wrongCheck(1, IFedLedger.CheckState.None));
        court.appealCheck{value: 1 ether}(_task, 1, BOX, OPENING, CLAIM);
    }

    function test_appeal_againstWhichTheSecondAuditorSaysNothing_succeeds() public {
        appealed(0);
        settleAfter(5 * PERIOD - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, until(5), type(uint256).max));
        court.endChecks(_task, 1, one(0), auditors());
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(0), found(1, 0, false));
        commitFindings(place, hashOf(place, all));
        pass(1);
        refused(auditor(place), tooLate(5));
        court.postFindings(_task, auditors(), place, all, SECRET, 0);
        end(0);
        eq(free(owner(0)), bondOfAppeal(), "bond");
        eq(stakeOf(0), STAKE, "stake");
        eq(lane(0), 240, "evidence");
        conserved();
    }

    function test_appeal_thatTheSecondAuditorGrants_endsAtOnce() public {
        appealed(0);
        uint256 place = placeOf(0);
        uint256 first = (place + AUDITORS - 1) % AUDITORS;
        IFedLedger.Findings[] memory all = found(1, 0, false);
        commitFindings(first, hashOf(first, all));
        refused(auditor(first), abi.encodeWithSelector(IFedLedger.NotAuditor.selector, auditor(first)));
        court.postFindings(_task, auditors(), first, all, SECRET, 0);
        judge(0, true);
        stateIs(0, IFedLedger.CheckState.Cleared);
        settleAfter(5);
        end(0);
        stateIs(0, IFedLedger.CheckState.Passed);
        eq(free(owner(0)), bondOfAppeal(), "bond");
        eq(stakeOf(0), STAKE, "stake");
        conserved();
    }

    function test_appeal_thatTheSecondAuditorRefuses_paysItHalfOfTheBond() public {
        appealed(0);
        (uint256 second, uint256 bond) = (placeOf(0), bondOfAppeal());
        judge(0, false);
        settleAfter(5);
        end(0);
        eq(free(owner(0)), 0, "the owner");
        eq(free(auditor(second)), bond / 2, "the second auditor");
        eq(free(auditor((second + AUDITORS - 1) % AUDITORS)), 0, "the first one");
        eq(stakeOf(0), STAKE - PENALTY, "stake");
        eq(burned(), PENALTY + bond - bond / 2, "burned");
        conserved();
    }

    function test_endChecks_ofAFailureAgainstWhichNobodyAppealed_onceItIsTooLateTo() public {
        summonAndAnswer(0);
        judge(0, false);
        settleAfter(4 * PERIOD - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, until(4), type(uint256).max));
        court.endChecks(_task, 1, one(0), auditors());
        pass(1);
        end(0);
        stateIs(0, IFedLedger.CheckState.Ended);
        conserved();
    }

    function settleAfter(uint256 duration) private {
        pass(duration);
        settleFirst();
    }

    function _voidFirst() private {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        closeLate(dispute);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
    }

    /// @dev Summons and answers of a participant in two rounds whose auditor is the same.
    function _bothRoundsOf(uint256 i) private returns (uint256 place) {
        uint256 block_ = vm.getBlockNumber();
        bytes32 seed = keccak256("seed");
        vm.setBlockhash(block_ - 2, seed);
        uint256 first = (uint256(keccak256(abi.encode(seed, _task, 1, i))) >> 128) % AUDITORS;
        place = AUDITORS;
        while (place != first) {
            seed = keccak256(abi.encode(seed));
            place = (uint256(keccak256(abi.encode(seed, _task, 2, i))) >> 128) % AUDITORS;
        }
        vm.setBlockhash(block_ - 1, seed);
        for (uint32 round = 1; round < 3; ++round) {
            summon(round, one(i));
            vm.prank(signer(i));
            court.answerCheck(_task, round, BOX, OPENING, CLAIM);
        }
        eq(placeOf(i), place, "the same auditor");
    }
}
