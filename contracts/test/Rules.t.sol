// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What a deployment may be made with.
contract SettingsTest is CourtFixture {
    function setUp() public {
        setUpCourt(0);
    }

    function test_settings_thatMakeNoSense_areRefused() public {
        IFedLedger.Settings memory s = settings();
        s.jurySize = 1;
        _refusedSetting(s, "jurySize");
        s.jurySize = 4;
        _refusedSetting(s, "jurySize");
        s.jurySize = 17;
        _refusedSetting(s, "jurySize");
        (s.jurySize, s.leastPool) = (5, 4);
        _refusedSetting(s, "leastPool");
        s.leastPool = 65;
        _refusedSetting(s, "leastPool");
        (s.leastPool, s.appeals) = (64, 3);
        _refusedSetting(s, "appeals");
        (s.appeals, s.minVerifierStake) = (0, s.jurorPenalty - 1);
        _refusedSetting(s, "minVerifierStake");
        (s.minVerifierStake, s.disputePeriod) = (s.jurorPenalty, 0);
        _refusedSetting(s, "disputePeriod");
        s.disputePeriod = 1;
        use(deploy(s));
        eq(accounts.seatsOnAllLevels(), 5, "seats");
        (s.jurySize, s.leastPool, s.appeals) = (15, 15, 2);
        use(deploy(s));
        eq(accounts.seatsOnAllLevels(), 15 + 31 + 63, "seats");
    }

    function test_postTask_penaltyBeyondTheMost_orWindowTooShort_isRefused() public {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.penalty, p.minStake) = (MOST_PENALTY + 1, MOST_PENALTY + 1);
        _refusedParameter(p, "penalty");
        p.penalty = MOST_PENALTY;
        post(p);
        p.challengeWindow = 4;
        _refusedParameter(p, "challengeWindow");
        p.challengeWindow = 1;
        _refusedParameter(p, "challengeWindow");
        p.penalty = 0;
        post(p);
    }

    /// @dev A call that is sent twice opens one round, however fast the first one passes.
    function test_openRound_sentTwice_opensOne() public {
        uint256 task = post(defaults(4));
        enrol(task, 4);
        bytes memory sent = abi.encodeCall(ledger.openRound, (task, 1, new uint32[](0), new uint256[](0)));
        vm.prank(AGGREGATOR);
        (bool done,) = address(ledger).call(sent);
        eq(done ? 1 : 0, 1, "opened");
        pass(10);
        ledger.voidRound(task, 1);
        vm.prank(AGGREGATOR);
        (done,) = address(ledger).call(sent);
        eq(done ? 1 : 0, 0, "not again");
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongRound.selector, 1, 2));
        ledger.openRound(task, 1, new uint32[](0), new uint256[](0));
        openAll(task);
        eq(accounts.task(task).currentRound, 2, "rounds");
    }

    function _refusedSetting(IFedLedger.Settings memory s, bytes32 name) private {
        bytes memory bytecode = bytes.concat(code("LedgerJuries"), abi.encode(s));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.InvalidSetting.selector, name));
        assembly ("memory-safe") {
            pop(create(0, add(bytecode, 32), mload(bytecode)))
        }
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }
}

/// @notice Where too few can judge, nobody is punished; and a window that is over in time only is not over.
contract SparedTest is CourtFixture {
    uint96 private constant PENALTY = 0.4 ether;

    function setUp() public {
        setUpCourt(POOL);
    }

    function test_settle_withEnoughVerifiers_punishes() public {
        uint256 task = _post();
        _settled(task);
        _punished();
    }

    /// @dev One that leaves, even in the block of the settlement, is one too few.
    function test_settle_oneVerifierLeft_sparesEverybody() public {
        uint256 task = _post();
        uint256 state = vm.snapshotState();
        vm.prank(owner(4));
        court.quit(task);
        _settled(task);
        _spared();
        vm.revertToState(state);
        vm.prank(owner(4));
        court.retire();
        _settled(task);
        _spared();
        vm.revertToState(state);
        vm.prank(owner(4));
        accounts.requestExit();
        _settled(task);
        _spared();
    }

    function test_settle_oneThatServesSinceTheProposal_sparesEverybody() public {
        uint256 task = _post();
        vm.prank(owner(4));
        court.quit(task);
        Outcome memory o = _proposed(task);
        pass(1);
        serve(task, 4);
        pass(4);
        settle(task, 1, o);
        _spared();
    }

    /// @dev The pool is who served the task when the round was opened.
    function test_settle_oneThatServesSinceTheOpening_sparesEverybody() public {
        uint256 task = _post();
        vm.prank(owner(4));
        court.quit(task);
        open(task, 15);
        uint256 state = vm.snapshotState();
        for (uint256 later = 0; later < 2; ++later) {
            pass(later);
            serve(task, 4);
            nextBlock();
            Outcome memory o = _made(task);
            eq(court.hasJudges(task, 0) ? 1 : 0, 1, "now");
            eq(court.hasJudges(task, 1) ? 1 : 0, 1 - later, "since the opening");
            pass(5);
            settle(task, 1, o);
            if (later == 0) _punished();
            else _spared();
            vm.revertToState(state);
        }
    }

    /// @dev Who came back serves nothing while it is young; from then on it counts.
    function test_settle_oneThatIsYoung_sparesEverybody() public {
        uint256 from = comeBack(4);
        vm.warp(from - 1);
        uint256 state = vm.snapshotState();
        _settled(_post());
        _spared();
        vm.revertToState(state);
        vm.warp(from);
        _settled(_post());
        _punished();
    }

    /// @dev However old they are by the time it is settled: since before the proposal they must have served.
    function test_settle_oneThatBecameOldInTheWindow_sparesEverybody() public {
        uint256 from = comeBack(4);
        uint256 task = _post();
        Outcome memory o = _proposed(task);
        vm.warp(from);
        serve(task, 4);
        nextBlock();
        eq(court.hasJudges(task, 0) ? 1 : 0, 1, "judges");
        settle(task, 1, o);
        _spared();
    }

    /// @dev The place that it had before it left does not count again.
    function test_settle_oneThatCameBack_sparesEverybody() public {
        uint256 task = _post();
        vm.warp(comeBack(4));
        _settled(task);
        _spared();
    }

    /// @dev Sixty-four places whose holders left keep a jury from being called, until anybody has struck them off.
    function test_challenge_deadPlaces_areInTheWayUntilStruck() public {
        registerFrom(7, 64);
        for (uint256 i = 4; i < 7; ++i) {
            vm.prank(owner(i));
            court.retire();
        }
        for (uint256 i = 7; i < 71; ++i) {
            enlist(i);
        }
        pass(DISPUTE);
        for (uint256 i = 4; i < 7; ++i) {
            vm.prank(owner(i));
            court.enlist();
        }
        pass(AGE);
        setUpVerifiers(0);
        uint256 task = _post();
        for (uint256 i = 7; i < 71; ++i) {
            serve(task, i);
        }
        for (uint256 i = 4; i < 7; ++i) {
            serve(task, i);
        }
        for (uint256 i = 7; i < 71; ++i) {
            vm.prank(owner(i));
            court.retire();
        }
        _proposed(task);
        nextBlock();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 0, 3));
        juries.challengeRound{value: BOND}(task, 1);
        uint32[] memory ids = new uint32[](64);
        for (uint32 i = 0; i < 64; ++i) {
            ids[i] = 7 + i;
        }
        vm.prank(OUTSIDER);
        court.strike(task, ids);
        uint32[] memory members = draw(challenge(task, 1));
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 7 << WORKERS, "members");
    }

    /// @dev Sixty-four young verifiers cannot take the first places: they serve when they are old, and so may judge at once.
    function test_challenge_youngVerifiers_areInNobodysWay() public {
        setUpCourt(0);
        registerFrom(WORKERS, 64 + POOL);
        for (uint256 i = WORKERS + 64; i < WORKERS + 64 + POOL; ++i) {
            enlist(i);
        }
        pass(AGE);
        uint256 task = _post();
        uint256 from = vm.getBlockTimestamp() + AGE;
        for (uint256 i = WORKERS; i < WORKERS + 64; ++i) {
            enlist(i);
            refused(owner(i), abi.encodeWithSelector(IFedLedger.TooEarlyToServe.selector, from));
            court.serve(task);
        }
        for (uint256 i = WORKERS + 64; i < WORKERS + 64 + POOL; ++i) {
            serve(task, i);
        }
        nextBlock();
        Outcome memory o = _proposed(task);
        uint256 state = vm.snapshotState();
        pass(5);
        settle(task, 1, o);
        _punished();
        vm.revertToState(state);
        uint32[] memory members = draw(challenge(task, 1));
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 7 << (WORKERS + 64), "members");
    }

    /// @dev Dead places that are among those a draw looks at are skipped, and gone after it.
    function test_draw_skipsDeadPlaces_andTakesThemOut() public {
        registerFrom(7, 3);
        for (uint256 i = 7; i < 10; ++i) {
            enlist(i);
        }
        pass(AGE);
        uint256 task = _post();
        for (uint256 i = 7; i < 10; ++i) {
            serve(task, i);
        }
        for (uint256 i = 7; i < 10; ++i) {
            vm.prank(owner(i));
            court.retire();
        }
        nextBlock();
        _proposed(task);
        uint256 dispute = challenge(task, 1);
        uint256 length = court.pool(task, 0, 64).length;
        uint32[] memory members = draw(dispute);
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 7 << WORKERS, "members");
        eq(court.pool(task, 0, 64).length < length ? 1 : 0, 1, "fewer places");
        vote(dispute, members, 3, 0);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
    }

    /// @dev While another jury of the task is to be drawn, its places stay where they are.
    function test_draw_whileAnotherJuryIsToBeDrawn_takesNoPlaceOut() public {
        setUpCourt(5);
        IFedLedger.TaskParams memory p = defaults(uint16(WORKERS));
        p.maxUnfinal = 2;
        uint256 task = post(p);
        enrol(task, WORKERS);
        vm.prank(owner(4));
        court.retire();
        nextBlock();
        proposeNext(task, 1, 1);
        proposeNext(task, 2, 2);
        uint256 first = challenge(task, 1);
        uint256 second = challenge(task, 2);
        draw(first);
        eq(court.pool(task, 0, 64).length, 5, "as before");
        draw(second);
        eq(court.pool(task, 0, 64).length <= 5 ? 1 : 0, 1, "free to go");
        vm.prank(owner(5));
        court.quit(task);
        eq(court.pool(task, 0, 64).length <= 4 ? 1 : 0, 1, "at once");
    }

    function test_window_inBlocks_holdsWhenItsTimeHasPassed() public {
        _slowChain();
        uint256 task = _post();
        Outcome memory o = _proposed(task);
        uint256 from = vm.getBlockNumber();
        pass(100);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.WindowOpen.selector, START + 15);
        refused(OUTSIDER, reason);
        ledger.settleRound(task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        phaseIs(task, IFedLedger.Phase.Challenging, "phase");
        eq(ledger.settleable(task), 0, "settleable");
        vm.roll(from + 19);
        uint256 state = vm.snapshotState();
        challenge(task, 1);
        vm.revertToState(state);
        vm.roll(from + 20);
        phaseIs(task, IFedLedger.Phase.Settleable, "phase");
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotChallengeable.selector, task, 1));
        juries.challengeRound{value: BOND}(task, 1);
        // Nobody could settle before this block, so nobody is late with it.
        settle(task, 1, o);
        eq(free(OUTSIDER), 0, "bounty");
        eq(accounts.seats(task)[0].deposit, BOND, "deposit");
        _punished();
    }

    function test_window_inBlocks_longOver_paysTheBounty() public {
        _slowChain();
        uint256 task = _post();
        Outcome memory o = _proposed(task);
        pass(100);
        vm.roll(vm.getBlockNumber() + 40);
        settle(task, 1, o);
        eq(free(OUTSIDER), BOND / 64, "bounty");
    }

    /// @dev Without a penalty nothing is at stake but the round, and time alone counts.
    function test_window_inBlocks_isForTasksWithAPenalty() public {
        _slowChain();
        uint256 task = proposedRound();
        pass(5);
        settle(task, 1, accepted(4, 250));
    }

    function _slowChain() private {
        setUpLedger();
        IFedLedger.Settings memory s = settings();
        (s.leastWindowBlocks, s.verifierAge) = (20, 0);
        use(deploy(s));
        burnedBefore();
        register(WORKERS + POOL);
        for (uint256 i = WORKERS; i < WORKERS + POOL; ++i) {
            enlist(i);
        }
    }

    function _post() private returns (uint256 task) {
        IFedLedger.TaskParams memory p = defaults(uint16(WORKERS));
        (p.penalty, p.minStake, p.freeRefusals) = (PENALTY, 0.1 ether + PENALTY, 1);
        (p.garbageShare, p.neverRevealedShare) = (1e6, 5e5);
        task = post(p);
        enrol(task, WORKERS);
    }

    /// @dev The second is late, the third sent garbage.
    function _proposed(uint256 task) private returns (Outcome memory o) {
        open(task, 15);
        return _made(task);
    }

    /// @dev A round that was opened, up to its proposal.
    function _made(uint256 task) private returns (Outcome memory o) {
        for (uint256 i = 0; i < WORKERS; ++i) {
            commit(task, 1, i);
        }
        for (uint256 i = 0; i < WORKERS; ++i) {
            if (i != 1) reveal(task, 1, i);
        }
        pass(10);
        o = outcome(verdicts(1, 3, 16, 1), new uint256[](4));
        propose(task, 1, o);
    }

    function _settled(uint256 task) private {
        Outcome memory o = _proposed(task);
        pass(5);
        settle(task, 1, o);
    }

    function _punished() private {
        eq(stakeOf(1), STAKE - PENALTY / 2, "late");
        eq(stakeOf(2), STAKE - PENALTY, "garbage");
        eq(burned(), PENALTY + PENALTY / 2, "burned");
        conserved();
    }

    function _spared() private {
        eq(stakeOf(1), STAKE, "late");
        eq(stakeOf(2), STAKE, "garbage");
        (, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 2);
        eq(negative, 240, "remembered all the same");
        (,, missed) = opinions.evidence(PUBLISHER, 1);
        eq(missed, 15, "remembered all the same");
        conserved();
    }
}

/// @notice Whose key signed what, and when.
contract KeysTest is CourtFixture {
    uint96 private constant PENALTY = 0.6 ether;
    uint256 private constant NEW = 99;
    uint256 private _task;

    function setUp() public {
        setUpCourt(0);
        IFedLedger.TaskParams memory p = batched(uint16(WORKERS));
        (p.penalty, p.minStake) = (PENALTY, PENALTY);
        _task = post(p);
        enrol(_task, 3);
        pass(100);
    }

    function test_report_aKeyReplacedBeforeTheRound_isRefused() public {
        _rotate(NEW);
        pass(1);
        openAll(_task);
        _refusedKey(0);
        _reported(NEW);
    }

    function test_report_aKeyReplacedInTheRound_isPunished() public {
        openAll(_task);
        pass(1);
        _rotate(NEW);
        uint256 state = vm.snapshotState();
        _reported(0);
        vm.revertToState(state);
        _reported(NEW);
    }

    function test_report_aKeyNamedAfterTheCommitments_isRefused() public {
        openAll(_task);
        pass(11);
        uint256 state = vm.snapshotState();
        _rotate(NEW);
        _refusedKey(NEW);
        _reported(0);
        vm.revertToState(state);
        // As long as somebody may commit on chain, it is not closed.
        close(_task, 1, keccak256("root"), 2);
        _rotate(NEW);
        _reported(NEW);
    }

    /// @dev Naming another key and then the old one again washes nothing.
    function test_report_aKeyNamedAgain_isPunished() public {
        openAll(_task);
        pass(50);
        _rotate(NEW);
        pass(1);
        _rotate(0);
        _reported(0);
    }

    function test_report_ofARoundThatNeverWas_orOfWhoWasNotSelected_isRefused() public {
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 0);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.RoundNotOpen.selector, _task, 1));
        court.reportEquivocation(_task, 1, 0, a, b);
        openAll(_task);
        (a, b) = _two(3, 3);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotSelected.selector, 3));
        court.reportEquivocation(_task, 1, 3, a, b);
        (a, b) = _two(3, 0);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongSignature.selector, signer(3)));
        court.reportEquivocation(_task, 1, 0, a, b);
    }

    /// @dev Who reports itself, or lets a friend do it, has lost the whole penalty all the same.
    function test_report_ofOneself_losesTheWholePenalty() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 0);
        vm.prank(owner(0));
        court.reportEquivocation(_task, 1, 0, a, b);
        eq(stakeOf(0) + free(owner(0)), STAKE - PENALTY, "what is left");
        eq(burned(), PENALTY, "burned");
        conserved();
    }

    /// @dev What is left of a stake is burned first.
    function test_report_ofWhoHasLittleLeft_burnsThatFirst() public {
        openAll(_task);
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(0, 0);
        vm.prank(OUTSIDER);
        court.reportEquivocation(_task, 1, 0, a, b);
        pass(40);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        takeSeat(_task, AGGREGATOR);
        openAll(_task);
        uint256 had = free(OUTSIDER);
        vm.prank(OUTSIDER);
        court.reportEquivocation(_task, 2, 0, _sign(2, 0, 0, "one"), _sign(2, 0, 0, "other"));
        eq(free(OUTSIDER), had, "reporter");
        eq(stakeOf(0), 0, "stake");
        conserved();
    }

    function _rotate(uint256 to) private {
        agree(signer(to), owner(0));
        vm.prank(owner(0));
        accounts.rotateSigner(signer(to));
    }

    function _two(uint256 by, uint256 id) private view returns (LedgerCourt.Claim memory, LedgerCourt.Claim memory) {
        return (_sign(1, by, id, "one"), _sign(1, by, id, "other"));
    }

    function _sign(uint32 round, uint256 by, uint256 id, string memory what)
        private
        view
        returns (LedgerCourt.Claim memory)
    {
        bytes32 value = keccak256(bytes(what));
        return LedgerCourt.Claim(value, signature(key(by), _task, round, id, value), NO_PROOF);
    }

    function _refusedKey(uint256 by) private {
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(by, 0);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongSignature.selector, signer(by)));
        court.reportEquivocation(_task, 1, 0, a, b);
    }

    function _reported(uint256 by) private {
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _two(by, 0);
        vm.prank(OUTSIDER);
        court.reportEquivocation(_task, 1, 0, a, b);
        eq(stakeOf(0), STAKE - PENALTY - PENALTY / 8, "stake");
        eq(free(OUTSIDER), PENALTY / 8, "reporter");
        conserved();
    }
}
