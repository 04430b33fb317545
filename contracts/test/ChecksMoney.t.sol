// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {ChecksFixture} from "./ChecksFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What a failed check takes and from whom, also where some of those who take part are in league.
contract ChecksMoneyTest is ChecksFixture {
    /// @dev Of the ledger's storage; what is read there is compared with its views.
    uint256 private constant PARTICIPANTS_SLOT = 2;
    uint256 private constant EVIDENCE_SLOT = 23;

    function setUp() public {
        setUpCourt(POOL);
        _task = proposedChecks(checked());
    }

    function testFuzz_fail_changesItsOwnLaneAlone(uint256 who, uint256 word) public {
        who = bound(who, 0, WORKERS - 1);
        summon(1, one(who));
        pass(2 * PERIOD);
        settleFirst();
        // What other rounds left there.
        vm.store(
            address(ledger), keccak256(abi.encode(0, keccak256(abi.encode(PUBLISHER, EVIDENCE_SLOT)))), bytes32(word)
        );
        eq(opinions.evidenceWord(PUBLISHER, 0), word, "slot");
        end(who);
        uint256 mask = uint256(type(uint32).max) << (32 * who);
        eq(opinions.evidenceWord(PUBLISHER, 0) & ~mask, word & ~mask, "neighbours");
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, uint32(who));
        uint256 before = (word & mask) >> (32 * who);
        eq(positive, 0, "positive");
        uint256 counted = ((before >> 12) & 0xfff) + 240;
        eq(negative, counted < 4095 ? counted : 4095, "negative");
        eq(missed, before >> 24, "missed");
    }

    /// @dev It takes what there is, also of what is about to leave, and never more.
    function testFuzz_fail_takesWhatIsLeft(uint96 lost, bool leaves) public {
        lost = uint96(bound(lost, 0, STAKE));
        summon(1, one(0));
        if (leaves) {
            vm.prank(owner(0));
            accounts.requestExit();
        }
        _takeFrom(0, lost, leaves);
        pass(2 * PERIOD);
        settleFirst();
        uint256 left = STAKE - lost;
        uint256 taken = left < PENALTY ? left : PENALTY;
        vm.expectEmit(address(ledger));
        emit IFedLedger.Slashed(0, _task, 1, IFedLedger.Offence.FailedCheck, taken);
        end(0);
        eq(stakeOf(0), left - taken, "stake");
        eq(burned(), taken, "burned");
    }

    /// @dev As long as checks may last where no deadline could be longer: the stake of who asked to leave right after its
    /// commitment is there until the last check can have been ended.
    function test_requestExit_rightAfterACommitment_comesTooLateForItsCheck() public {
        IFedLedger.TaskParams memory p = checked();
        uint256 seats = 1;
        uint256 before = uint256(p.commitPeriod) + p.revealPeriod + 2 * seats * p.proposePeriod;
        uint256 judged = p.challengeWindow + 4 * 3 * DISPUTE;
        p.revealPeriod += uint32(EXIT_DELAY - before - judged - 6 * PERIOD);
        _task = post(p);
        enrol(_task, WORKERS);
        p.revealPeriod += 1;
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.ExitDelayTooShort.selector, EXIT_DELAY, EXIT_DELAY + 1));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
        _checkOfWhoLeaves(p.commitPeriod + p.revealPeriod - 1 + p.proposePeriod - 1);
        eq(stakeOf(0), STAKE - PENALTY, "stake");
        uint40 due = accounts.participant(0).exitAt;
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ExitNotDue.selector, due));
        accounts.completeExit();
        pass(EXIT_DELAY);
        vm.prank(owner(0));
        accounts.completeExit();
        eq(free(owner(0)), STAKE - PENALTY, "the rest");
        conserved();
    }

    /// @dev Whoever is in league with its auditor gains nothing that it had not.
    function test_participantAndAuditorInLeague_gainNothing() public {
        uint256 before = _wealth(0) + _wealth(auditor(placeOf(0)));
        summonAndAnswer(0);
        judge(0, true);
        pass(5);
        settleFirst();
        eq(_wealth(0) + _wealth(auditor(placeOf(0))), before, "wealth");
        eq(accounts.creditOf(_task, 0), 250, "pay");
        conserved();
    }

    /// @dev The participant, the auditor that fails it and the one that clears it: what goes round comes back.
    function test_participantAndBothAuditorsInLeague_gainNothing() public {
        uint256 place = _assigned(0);
        uint256 before = _wealth(0) + _wealth(auditor(place)) + _wealth(auditor((place + 1) % AUDITORS));
        appealed(0);
        judge(0, false);
        pass(5);
        settleFirst();
        end(0);
        uint256 later = _wealth(0) + _wealth(auditor(place)) + _wealth(auditor((place + 1) % AUDITORS));
        eq(before + bondOfAppeal() - later, PENALTY + bondOfAppeal() - bondOfAppeal() / 2, "what they lose together");
        conserved();
    }

    /// @dev The most that two auditors get who fail somebody falsely: half of a bond, and nothing if it does not appeal.
    function test_twoAuditorsInLeague_getHalfABond_andNothingWithoutAnAppeal() public {
        uint256 before = _auditorsWealth();
        appealed(0);
        judge(0, false);
        summonAndAnswer(1);
        judge(1, false);
        pass(4 * PERIOD);
        settleFirst();
        end(0);
        eq(_auditorsWealth() - before, bondOfAppeal() / 2, "of who appealed");
        end(1);
        eq(_auditorsWealth() - before, bondOfAppeal() / 2, "of who did not");
        eq(burned(), 2 * uint256(PENALTY) + bondOfAppeal() - bondOfAppeal() / 2, "burned");
        conserved();
    }

    /// @dev A publisher that checks its own task, alone under both names, gets no more, and pays all the same.
    function test_publisherAsAuditors_getsHalfABondAtMost() public {
        IFedLedger.TaskParams memory p = checked();
        address[] memory both = new address[](2);
        (both[0], both[1]) = (PUBLISHER, PUBLISHER);
        (p.auditorCount, p.auditors) = (2, keccak256(abi.encode(both)));
        _task = proposedChecks(p);
        summonAndAnswer(0);
        _sayAs(both, 0);
        appealOf(0);
        _sayAs(both, 0);
        pass(5);
        settleFirst();
        uint256 before = free(PUBLISHER);
        vm.prank(PUBLISHER);
        court.endChecks(_task, 1, one(0), both);
        eq(free(PUBLISHER) - before, bondOfAppeal() / 2, "gain");
        eq(accounts.creditOf(_task, 0), 250, "the pay stays");
        conserved();
    }

    function test_fail_takesNoPay_andTouchesNoModel() public {
        summon(1, one(0));
        pass(2 * PERIOD);
        settleFirst();
        bytes32 model = accounts.round(_task, 1).modelDigest;
        end(0);
        eq(accounts.creditOf(_task, 0), 250, "pay");
        eq(accounts.round(_task, 1).modelDigest, model, "model");
        roundIs(_task, 1, IFedLedger.RoundStatus.Settled);
    }

    function test_postTask_badChecks_areRefusedByName() public {
        IFedLedger.TaskParams memory p = checked();
        p.checkRate = 1_000_001;
        _refusedParameter(p, "checkRate");
        (p.checkRate, p.checkPeriod) = (1, 0);
        _refusedParameter(p, "checkPeriod");
        p.checkPeriod = 365 days + 1;
        _refusedParameter(p, "checkPeriod");
        (p.checkPeriod, p.auditorCount) = (PERIOD, 1);
        _refusedParameter(p, "auditors");
        p.auditorCount = 17;
        _refusedParameter(p, "auditors");
        (p.auditorCount, p.auditors) = (16, 0);
        _refusedParameter(p, "auditors");
        (p.auditors, p.checkPenalty) = (SALT, 0);
        _refusedParameter(p, "checkPenalty");
        p.checkPenalty = STAKE + 1;
        _refusedParameter(p, "checkPenalty");
        (p.checkPenalty, p.minStake) = (MOST_PENALTY + 1, MOST_PENALTY + 1);
        _refusedParameter(p, "checkPenalty");
        (p.checkPenalty, p.challengeWindow) = (STAKE, 4);
        _refusedParameter(p, "challengeWindow");
        p.challengeWindow = 0;
        _refusedParameter(p, "challengeWindow");
    }

    function test_postTask_withPartsOfChecksButNoRate_isRefusedByName() public {
        IFedLedger.TaskParams memory p = checked();
        p.checkRate = 0;
        _refusedParameter(p, "checkPeriod");
        p.checkPeriod = 0;
        _refusedParameter(p, "auditors");
        p.auditorCount = 0;
        _refusedParameter(p, "auditors");
        p.auditors = 0;
        _refusedParameter(p, "checkPenalty");
        p.checkPenalty = 0;
        post(p);
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    /// @dev Participant 0 commits at once and asks to leave; the proposal and each step of its check come as late as can be.
    function _checkOfWhoLeaves(uint256 proposal) private {
        open(_task, 15);
        commit(_task, 1, 0);
        vm.prank(owner(0));
        accounts.requestExit();
        pass(9);
        commit(_task, 1, 1);
        pass(1);
        reveal(_task, 1, 0);
        reveal(_task, 1, 1);
        pass(proposal - 10);
        Outcome memory o = outcome(verdicts(1, 1, 2, 2), new uint256[](4));
        propose(_task, 1, o);
        nextBlock();
        pass(PERIOD - 1);
        court.summon(_task, 1, one(0), posted(o));
        pass(PERIOD);
        answer(0);
        pass(PERIOD);
        judge(0, false);
        pass(PERIOD);
        appealOf(0);
        pass(PERIOD);
        judge(0, false);
        settle(_task, 1, o);
        // Whoever ends it has one period more.
        pass(PERIOD);
        end(0);
    }

    /// @dev A slash of another kind, as far as the stake is concerned.
    function _takeFrom(uint256 i, uint96 lost, bool leaves) private {
        IFedLedger.Participant memory before = accounts.participant(uint32(i));
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(i, PARTICIPANTS_SLOT))) + (leaves ? 1 : 0));
        uint256 known = uint256(vm.load(address(ledger), slot));
        uint256 stake = leaves ? before.unbonding : before.stake;
        eq(known >> 160, stake, "slot");
        vm.store(address(ledger), slot, bytes32((known & type(uint160).max) | ((stake - lost) << 160)));
    }

    function _assigned(uint256 i) private view returns (uint256) {
        bytes32 seed = blockhash(vm.getBlockNumber() - 1);
        return (uint256(keccak256(abi.encode(seed, _task, 1, i))) >> 128) % AUDITORS;
    }

    function _sayAs(address[] memory both, uint256 i) private {
        (uint256 place, IFedLedger.Findings[] memory all) = (placeOf(i), found(1, i, false));
        vm.prank(PUBLISHER);
        court.postFindings(_task, both, place, new IFedLedger.Findings[](0), 0, hashOf(place, all));
        vm.prank(PUBLISHER);
        court.postFindings(_task, both, place, all, SECRET, 0);
    }

    function _auditorsWealth() private view returns (uint256 sum) {
        for (uint256 place = 0; place < AUDITORS; ++place) {
            sum += _wealth(auditor(place));
        }
    }

    function _wealth(uint256 i) private view returns (uint256) {
        return stakeOf(i) + _wealth(owner(i));
    }

    function _wealth(address account) private view returns (uint256) {
        return account.balance + free(account);
    }
}
