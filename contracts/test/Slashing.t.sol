// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {Verdicts} from "../src/Evidence.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What offences cost a participant, and what they do not.
contract SlashingTest is CourtFixture {
    uint96 private constant PENALTY = 0.1 ether + 3;
    uint256 private _task;

    function setUp() public {
        setUpCourt(POOL);
        _task = _post(batched(4));
    }

    function test_settle_neverRevealed_costsAQuarter() public {
        Outcome memory o = _settledDirect([uint256(1), 1, 3, 2]);
        eq(stakeOf(2), STAKE - (uint256(PENALTY) + 3) / 4, "late");
        eq(stakeOf(3), STAKE, "missing");
        eq(stakeOf(0), STAKE, "accepted");
        eq(burned(), STAKE - stakeOf(2), "burned");
        eq(o.shareWords[0], 0, "nobody is paid here");
        conserved();
    }

    function test_settle_garbage_costsHalf_andAFairRefusalNothing() public {
        uint256 task = _post(defaults(4));
        open(task, 15);
        commitAndReveal(task, 1, 4);
        Outcome memory o = outcome(_four(1, 16, 24, 25), new uint256[](4));
        propose(task, 1, o);
        pass(5);
        _expectSlash(1, task, IFedLedger.Offence.Garbage, (PENALTY + 1) / 2);
        settle(task, 1, o);
        eq(stakeOf(1), STAKE - (PENALTY + 1) / 2, "first kind of garbage");
        eq(stakeOf(2), STAKE - (PENALTY + 1) / 2, "last kind of garbage");
        eq(stakeOf(3), STAKE, "refused for what nobody can check before");
        conserved();
    }

    /// @dev Who is called late and shows by revealing on chain that it was not keeps its stake; its evidence says that it was
    /// absent, and no more.
    function test_settle_calledLateButRevealedOnChain_isAbsentAndUnpunished() public {
        openAll(_task);
        (bytes32 root,, bytes32[] memory of1) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        commit(_task, 1, 2);
        pass(GRACE + 10);
        Outcome memory o = outcome(_four(1, 3, 1, 2), new uint256[](4));
        proposeBatch(_task, 1, o, updatesOf(2));
        vm.prank(signer(1));
        ledger.revealUpdate(_task, 1, update(1), SALT, of1);
        pass(5);
        settle(_task, 1, o);
        eq(stakeOf(1), STAKE, "stake");
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 1);
        eq(positive + negative, 0, "evidence");
        eq(missed, 15, "absent");
        eq(burned(), 0, "burned");
    }

    function test_settle_withoutPenalty_slashesNobody() public {
        uint256 task = post(defaults(4));
        enrol(task, 4);
        open(task, 15);
        commitAndReveal(task, 1, 4);
        Outcome memory o = outcome(_four(1, 16, 24, 1), new uint256[](4));
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
        eq(stakeOf(1) + stakeOf(2), 2 * STAKE, "stakes");
    }

    /// @dev An offender that is leaving pays out of what it unbonds, and one that has nothing left stops nobody.
    function test_settle_offenderLeaving_paysAllTheSame() public {
        uint256 task = _post(defaults(4));
        open(task, 15);
        commitAndReveal(task, 1, 4);
        vm.prank(owner(1));
        accounts.requestExit();
        Outcome memory o = outcome(_four(1, 16, 1, 1), new uint256[](4));
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
        eq(accounts.participant(1).unbonding, STAKE - (PENALTY + 1) / 2, "unbonding");
        pass(EXIT_DELAY);
        vm.prank(owner(1));
        accounts.completeExit();
        eq(free(owner(1)), STAKE - (PENALTY + 1) / 2, "returned");
        conserved();
    }

    function test_settle_offenderGone_stopsNobody() public {
        uint256 task = _post(defaults(4));
        open(task, 15);
        commitAndReveal(task, 1, 4);
        vm.prank(owner(1));
        accounts.requestExit();
        Outcome memory o = outcome(_four(1, 16, 1, 1), new uint256[](4));
        propose(task, 1, o);
        pass(EXIT_DELAY);
        vm.prank(owner(1));
        accounts.completeExit();
        _expectSlash(1, task, IFedLedger.Offence.Garbage, 0);
        settle(task, 1, o);
        eq(free(owner(1)), STAKE, "nobody settled for so long");
        conserved();
    }

    /// @dev Slashed below the ledger's least stake, a participant commits no more until it adds to it.
    function test_commit_afterBeingSlashed_needsTheStakeAgain() public {
        uint256 task = _post(defaults(4));
        open(task, 15);
        commitAndReveal(task, 1, 4);
        Outcome memory o = outcome(_four(1, 16, 1, 1), new uint256[](4));
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
        open(task, 15);
        bytes32 value = commitment(task, 2, 1);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.NotActive.selector, 1));
        ledger.commitUpdate(task, 2, value);
        vm.prank(owner(1));
        accounts.addStake{value: PENALTY}(PENALTY);
        commit(task, 2, 1);
    }

    /// @dev In however many parts a round is settled: each offence is punished once.
    function testFuzz_settle_inParts_isTheSameAsAtOnce(uint256 seed, uint8 limit) public {
        registerFrom(WORKERS + POOL, 24 - WORKERS - POOL);
        // Verifiers that train lose what they need not have to judge.
        for (uint256 i = WORKERS; i < WORKERS + POOL; ++i) {
            vm.prank(owner(i));
            accounts.addStake{value: STAKE}(STAKE);
        }
        uint256 task = _post(24);
        open(task, (1 << 24) - 1);
        for (uint256 i = 0; i < 24; ++i) {
            commit(task, 1, i);
        }
        Outcome memory o = _anyhow(task, seed);
        propose(task, 1, o);
        pass(5);
        uint256 state = vm.snapshotState();
        settle(task, 1, o);
        bytes32 atOnce = _digest(task);
        vm.revertToState(state);
        vm.getRecordedLogs();
        settle(task, 1, o, 0);
        eq(accounts.round(task, 1).settledWords, 0, "nothing yet");
        uint256 parts = 0;
        while (accounts.round(task, 1).status == IFedLedger.RoundStatus.Proposed) {
            settle(task, 1, o, 1 + limit % 3);
            ++parts;
        }
        eq(parts, limit % 3 == 0 ? 3 : limit % 3 == 1 ? 2 : 1, "parts");
        eq(_digest(task), atOnce, "the same");
        conserved();
    }

    function test_settle_inParts_saysHowFarItIs() public {
        setUpCourt(5);
        uint256 task = post(defaults(9));
        enrol(task, 9);
        open(task, 511);
        commitAndReveal(task, 1, 9);
        Outcome memory o;
        (o.verdictWords, o.shareWords) = (new uint256[](2), new uint256[](2));
        (o.verdictWords[0], o.verdictWords[1]) = (0x0101010101010101, (1 << 64) | 1);
        o.shareWords[1] = 7;
        propose(task, 1, o);
        pass(5);
        vm.expectEmit(address(ledger));
        emit IFedLedger.SettlementAdvanced(task, 1, 1);
        settle(task, 1, o, 1);
        eq(accounts.task(task).finalizedRound, 0, "final");
        vm.expectEmit(address(ledger));
        emit IFedLedger.RoundSettled(task, 1, 7);
        settle(task, 1, o, 1);
        eq(accounts.task(task).finalizedRound, 1, "final");
        eq(accounts.creditOf(task, 8), 7, "credit");
    }

    /// @dev A word that judges nobody would only lengthen the settlement.
    function test_propose_wordThatJudgesNobody_isRefused() public {
        uint256 task = _post(defaults(4));
        open(task, 15);
        commitAndReveal(task, 1, 4);
        Outcome memory o = accepted(4, 1);
        (uint256 verdictWord, uint256 shareWord) = (o.verdictWords[0], o.shareWords[0]);
        (o.verdictWords, o.shareWords) = (new uint256[](2), new uint256[](2));
        (o.verdictWords[0], o.shareWords[0], o.verdictWords[1]) = (verdictWord, shareWord, 5 << 64);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongVerdict.selector, 40, 0));
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
    }

    function test_equivocation_twoSignatures_costTheWholePenalty() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        _expectSlash(0, _task, IFedLedger.Offence.Equivocation, PENALTY + PENALTY / 8);
        vm.prank(OUTSIDER);
        court.reportEquivocation(_task, 1, 0, a, b);
        eq(stakeOf(0), STAKE - PENALTY - PENALTY / 8, "stake");
        eq(free(OUTSIDER), PENALTY / 8, "reporter");
        eq(burned(), PENALTY, "burned");
        conserved();
        refused(OUTSIDER, _punished(1, 0));
        court.reportEquivocation(_task, 1, 0, b, a);
    }

    function test_equivocation_inAnotherRound_isAnotherOffence() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        court.reportEquivocation(_task, 1, 0, a, b);
        pass(30);
        ledger.voidRound(_task, 1);
        takeSeat(_task, AGGREGATOR);
        openAll(_task);
        (a, b) = _two(0, 2);
        court.reportEquivocation(_task, 2, 0, a, b);
        eq(stakeOf(0), STAKE - 2 * (PENALTY + PENALTY / 8), "stake");
    }

    function test_equivocation_sameCommitmentOrWrongSigner_isRefused() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.reportEquivocation(_task, 1, 0, a, a);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 99));
        court.reportEquivocation(99, 1, 0, a, b);
        b.signature = signature(key(1), _task, 1, 0, b.commitment);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongSignature.selector, signer(1)));
        court.reportEquivocation(_task, 1, 0, a, b);
        pass(30);
        ledger.voidRound(_task, 1);
        takeSeat(_task, AGGREGATOR);
        openAll(_task);
        refused(OUTSIDER, _notSignedFor(2, a));
        court.reportEquivocation(_task, 2, 0, a, b);
    }

    /// @dev A signature of another ledger, or of another chain, proves nothing here.
    function test_equivocation_signedForAnotherChain_isRefused() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        uint256 here = block.chainid;
        vm.chainId(here + 1);
        (bool done,) = address(ledger).call(abi.encodeCall(court.reportEquivocation, (_task, 1, 0, a, b)));
        eq(done ? 1 : 0, 0, "done");
        vm.chainId(here);
        court.reportEquivocation(_task, 1, 0, a, b);
    }

    /// @dev Whose key it was when it signed, it stays.
    function test_equivocation_byARotatedSigner_isPunished() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        pass(1);
        agree(address(0x999), owner(0));
        vm.prank(owner(0));
        accounts.rotateSigner(address(0x999));
        b.signature = signature(key(0), _task, 1, 0, b.commitment);
        court.reportEquivocation(_task, 1, 0, a, b);
        eq(stakeOf(0), STAKE - PENALTY - PENALTY / 8, "stake");
    }

    /// @dev One commitment signed for the root and another sent to the chain leave a choice, too.
    function test_equivocation_signedAndSentAnother_isPunished() public {
        LedgerCourt.Claim memory sent = _forced();
        (LedgerCourt.Claim memory other,) = _two(2, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 1));
        court.reportEquivocation(_task, 1, 1, sent, other);
        court.reportEquivocation(_task, 1, 2, sent, other);
        eq(stakeOf(2), STAKE - PENALTY - PENALTY / 8, "stake");
    }

    function test_equivocation_signedAndSentTheSame_isNone() public {
        LedgerCourt.Claim memory sent = _forced();
        LedgerCourt.Claim memory same = signed(_task, 1, 2, NO_PROOF);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.reportEquivocation(_task, 1, 2, sent, same);
        sent.commitment = 0;
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 2));
        court.reportEquivocation(_task, 1, 2, sent, same);
        sent.commitment = keccak256("never sent");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 2));
        court.reportEquivocation(_task, 1, 2, sent, same);
        LedgerCourt.Claim memory nothing;
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 3));
        court.reportEquivocation(_task, 1, 3, nothing, same);
    }

    function test_equivocation_afterTheExit_costsNothingAndStopsNobody() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 1);
        vm.prank(owner(0));
        accounts.requestExit();
        pass(EXIT_DELAY);
        vm.prank(owner(0));
        accounts.completeExit();
        court.reportEquivocation(_task, 1, 0, a, b);
        eq(free(owner(0)), STAKE, "stake");
        conserved();
    }

    function test_isGarbage_isSixteenToTwentyFour() public pure {
        for (uint256 code = 0; code < 256; ++code) {
            eq(Verdicts.isGarbage(code) ? 1 : 0, code >= 16 && code <= 24 ? 1 : 0, "garbage");
            eq(Verdicts.isStatistical(code) ? 1 : 0, code >= 32 ? 1 : 0, "statistical");
        }
    }

    /// @dev The first task that is refused is one in which an offender could be gone before it is found out.
    function test_postTask_exitDelayShorterThanADispute_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        // 10 + 7 + 10 for a round, 2 · 2 · 10 for its aggregators, 3 · 38 for its windows and 12 · 10 for its dispute.
        (p.gracePeriod, p.maxUnfinal, p.challengeWindow) = (7, 3, 38);
        address[] memory standbys = new address[](1);
        standbys[0] = STANDBY;
        bytes memory reason = abi.encodeWithSelector(IFedLedger.ExitDelayTooShort.selector, EXIT_DELAY, 301);
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p)}(p, standbys);
        p.challengeWindow = 37;
        vm.prank(PUBLISHER);
        accounts.postTask{value: budget(p)}(p, standbys);
        // Where nothing can be found out, nothing need wait.
        (p.challengeWindow, p.commitPeriod) = (0, 365 days);
        vm.prank(PUBLISHER);
        accounts.postTask{value: budget(p)}(p, standbys);
    }

    function test_postTask_badPenaltyOrBond_isRefusedByName() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.penalty = 1;
        _refusedParameter(p, "penalty");
        (p.penalty, p.minStake, p.challengeWindow) = (1, 1, 0);
        _refusedParameter(p, "penalty");
        p = defaults(4);
        p.bond = 50 * JUROR_PENALTY - 1;
        _refusedParameter(p, "bond");
        IFedLedger.Settings memory s = settings();
        s.jurorPenalty = 0;
        use(deploy(s));
        p.bond = 0;
        _refusedParameter(p, "bond");
        p.bond = type(uint96).max / 8 + 1;
        _refusedParameter(p, "bond");
    }

    function test_postTask_periodBeyondAYear_isRefusedByName() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.enrolPeriod = 365 days + 1;
        _refusedParameter(p, "enrolPeriod");
        (p.enrolPeriod, p.commitPeriod) = (1, 365 days + 1);
        _refusedParameter(p, "commitPeriod");
        (p.commitPeriod, p.revealPeriod) = (1, 365 days + 1);
        _refusedParameter(p, "revealPeriod");
        (p.revealPeriod, p.proposePeriod) = (1, 365 days + 1);
        _refusedParameter(p, "proposePeriod");
        (p.proposePeriod, p.gracePeriod) = (1, 365 days + 1);
        _refusedParameter(p, "gracePeriod");
        (p.gracePeriod, p.challengeWindow) = (1, 365 days + 1);
        _refusedParameter(p, "challengeWindow");
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }

    function _post(IFedLedger.TaskParams memory p) private returns (uint256 task) {
        (p.penalty, p.minStake) = (PENALTY, PENALTY);
        task = post(p);
        enrol(task, p.maxParticipants);
    }

    function _post(uint16 count) private returns (uint256) {
        return _post(defaults(count));
    }

    function _four(uint256 a, uint256 b, uint256 c, uint256 d) private pure returns (uint256[] memory) {
        return verdicts(a, b, c, d);
    }

    /// @dev Who is accepted here reveals; who is late commits only.
    function _settledDirect(uint256[4] memory judged) private returns (Outcome memory o) {
        uint256 task = _post(defaults(4));
        open(task, 15);
        for (uint256 i = 0; i < 4; ++i) {
            if (judged[i] != 2) commit(task, 1, i);
        }
        pass(10);
        for (uint256 i = 0; i < 4; ++i) {
            if (judged[i] == 1) reveal(task, 1, i);
        }
        pass(10);
        o = outcome(_four(judged[0], judged[1], judged[2], judged[3]), new uint256[](4));
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o);
    }

    /// @dev Each of 24 reveals or not, and is judged by chance.
    function _anyhow(uint256 task, uint256 seed) private returns (Outcome memory o) {
        (o.verdictWords, o.shareWords) = (new uint256[](3), new uint256[](3));
        for (uint256 i = 0; i < 24; ++i) {
            uint256 way = (seed >> (8 * i)) % 256;
            // Two always deliver.
            uint256 verdict = i < 2 || way % 4 > 1 ? 1 : way % 4 == 0 ? 3 : 16 + way / 4 % 16;
            if (verdict != 3) reveal(task, 1, i);
            o.verdictWords[i / 8] |= ((i / 8) << 64) * (i % 8 == 0 ? 1 : 0) | (verdict << (8 * (i % 8)));
            if (verdict == 1) o.shareWords[i / 8] |= (way % 40) << (32 * (i % 8));
        }
        pass(10);
    }

    /// @dev All that a settlement writes.
    function _digest(uint256 task) private view returns (bytes32 found) {
        IFedLedger.Task memory t = accounts.task(task);
        found = keccak256(abi.encode(t.spentUnits, t.settledRounds, t.finalizedRound, t.consecutiveVoids));
        for (uint256 slot = 0; slot < 3; ++slot) {
            found =
                keccak256(abi.encode(found, opinions.evidenceWord(PUBLISHER, slot), accounts.creditWord(task, slot)));
        }
        for (uint256 i = 0; i < 24; ++i) {
            found = keccak256(abi.encode(found, stakeOf(i)));
        }
    }

    function _two(uint256 i, uint32 round)
        private
        view
        returns (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b)
    {
        a = signedAs(_task, round, i, keccak256("one"), NO_PROOF);
        b = signedAs(_task, round, i, keccak256("other"), NO_PROOF);
    }

    /// @dev Participant 2 was left out of the root and sent its commitment to the chain.
    function _forced() private returns (LedgerCourt.Claim memory sent) {
        openAll(_task);
        (bytes32 root,,) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        commit(_task, 1, 2);
        sent.commitment = commitment(_task, 1, 2);
    }

    function _expectSlash(uint32 id, uint256 task, IFedLedger.Offence offence, uint256 amount) private {
        vm.expectEmit(address(ledger));
        emit IFedLedger.Slashed(id, task, 1, offence, amount);
    }

    function _punished(uint32 round, uint32 id) private view returns (bytes memory) {
        bytes32 offence = keccak256(abi.encode(IFedLedger.Offence.Equivocation, _task, round, id));
        return abi.encodeWithSelector(IFedLedger.AlreadyPunished.selector, offence);
    }

    /// @dev Whoever it is that a signature for another round recovers to.
    function _notSignedFor(uint32 round, LedgerCourt.Claim memory claim) private view returns (bytes memory) {
        (bytes32 r, bytes32 s, uint8 v) = _parts(claim.signature);
        address recovered = ecrecover(digest(_task, round, 0, claim.commitment), v, r, s);
        return abi.encodeWithSelector(IFedLedger.WrongSignature.selector, recovered);
    }

    function _parts(bytes memory packed) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly ("memory-safe") {
            r := mload(add(packed, 32))
            s := mload(add(packed, 64))
            v := byte(0, mload(add(packed, 96)))
        }
    }
}
