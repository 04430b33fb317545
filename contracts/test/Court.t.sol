// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

contract VerifiersTest is CourtFixture {
    function setUp() public {
        setUpCourt(3);
    }

    function test_enlist_needsTheStakeAndIsDoneOnce() public {
        eq(court.verifierCount(), 3, "verifiers");
        eq(court.isServing(4) ? 1 : 0, 1, "serving");
        refused(signer(4), abi.encodeWithSelector(IFedLedger.AlreadyServing.selector, 4));
        court.enlist();
        refused(signer(0), abi.encodeWithSelector(IFedLedger.StakeTooSmall.selector, STAKE, VERIFIER_STAKE));
        court.enlist();
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRegistered.selector, OUTSIDER));
        court.enlist();
    }

    function test_retire_endsTheServiceOnce() public {
        vm.expectEmit(address(ledger));
        emit IFedLedger.VerifierRetired(5);
        vm.prank(owner(5));
        court.retire();
        eq(court.isServing(5) ? 1 : 0, 0, "serving");
        eq(court.verifierCount(), 2, "verifiers");
        refused(owner(5), abi.encodeWithSelector(IFedLedger.NotServing.selector, 5));
        court.retire();
        refused(owner(5), abi.encodeWithSelector(IFedLedger.TooEarlyToEnlist.selector, START + DISPUTE));
        court.enlist();
        pass(DISPUTE);
        vm.expectEmit(address(ledger));
        emit IFedLedger.VerifierEnlisted(5);
        vm.prank(owner(5));
        court.enlist();
        IFedLedger.Verifier memory v = court.verifier(5);
        eq(v.since, START + DISPUTE, "since");
        eq(v.left, 0, "left");
    }

    function test_requestExit_endsTheService_andCancellingDoesNotBringItBack() public {
        vm.expectEmit(address(ledger));
        emit IFedLedger.VerifierRetired(4);
        vm.prank(owner(4));
        accounts.requestExit();
        vm.prank(owner(4));
        accounts.cancelExit();
        eq(court.isServing(4) ? 1 : 0, 0, "serving");
        eq(court.verifierCount(), 2, "verifiers");
    }

    /// @dev However they come and go, the pool holds who serves the task, each once, and a jury is of them.
    function testFuzz_verifiers_comingAndGoing_areListedOnce(uint256 seed) public {
        uint256 task = proposedRound();
        uint256 serving = 3;
        for (uint256 step = 0; step < 24; ++step) {
            uint32 i = uint32(WORKERS + (seed >> (8 * step)) % 3);
            bool was = _listed(task, i);
            vm.prank(owner(i));
            if (was) court.quit(task);
            else court.serve(task);
            serving = was ? serving - 1 : serving + 1;
            eq(court.pool(task, 0, 64).length, serving, "pool");
            eq(_listed(task, i) ? 1 : 0, was ? 0 : 1, "listed");
        }
        nextBlock();
        eq(court.hasJudges(task, 1) ? 1 : 0, serving / 3, "judges");
        if (serving < 3) {
            refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, serving, 3));
            juries.challengeRound{value: BOND}(task, 1);
            return;
        }
        uint32[] memory members = draw(challenge(task, 1));
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 7 << WORKERS, "members");
    }

    function test_serve_isForVerifiersOfATaskThatCanBeChallenged_once() public {
        uint256 task = post(defaults(4));
        refused(owner(4), abi.encodeWithSelector(IFedLedger.AlreadyServing.selector, 4));
        court.serve(task);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotServing.selector, 0));
        court.serve(task);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 9));
        court.serve(9);
        IFedLedger.TaskParams memory p = defaults(4);
        p.challengeWindow = 0;
        uint256 unchallenged = post(p);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32("challengeWindow")));
        court.serve(unchallenged);
        pass(250);
        accounts.finishTask(task);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.TaskAlreadyFinished.selector, task));
        court.serve(task);
    }

    function test_quit_andServeAgain_isTold() public {
        uint256 task = post(defaults(4));
        vm.expectEmit(address(ledger));
        emit IFedLedger.ServiceEnded(task, 4);
        vm.prank(owner(4));
        court.quit(task);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.NotServing.selector, 4));
        court.quit(task);
        uint32[] memory left = court.pool(task, 0, 64);
        eq(left[0], 6, "the last takes the place");
        eq(left[1], 5, "of the first");
        vm.expectEmit(address(ledger));
        emit IFedLedger.ServiceBegun(task, 4);
        serve(task, 4);
        eq(court.pool(task, 1, 1)[0], 5, "second");
        eq(court.pool(task, 2, 9)[0], 4, "third");
        eq(court.pool(task, 3, 1).length, 0, "no more");
    }

    /// @dev Only who serves no more is taken out, and by anybody; whoever else is named is passed over.
    function test_strike_onlyOfTheDead() public {
        uint256 task = post(defaults(4));
        uint32[] memory ids = new uint32[](4);
        (ids[0], ids[1], ids[2], ids[3]) = (0, 5, 4, 4);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NobodyStruck.selector, task));
        court.strike(task, ids);
        eq(court.lapsed(task, 0, 64).length, 0, "nobody");
        vm.prank(owner(4));
        court.retire();
        uint32[] memory lapsed = court.lapsed(task, 0, 64);
        eq(lapsed.length, 1, "one");
        eq(lapsed[0], 4, "who left");
        eq(court.lapsed(task, 1, 64).length + court.lapsed(task, 9, 64).length, 0, "no other");
        vm.expectEmit(address(ledger));
        emit IFedLedger.ServiceEnded(task, 4);
        vm.prank(OUTSIDER);
        court.strike(task, ids);
        eq(court.pool(task, 0, 64).length, 2, "pool");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NobodyStruck.selector, task));
        court.strike(task, ids);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NobodyStruck.selector, task));
        court.strike(task, new uint32[](0));
    }

    function _listed(uint256 task, uint32 id) private view returns (bool) {
        uint32[] memory all = court.pool(task, 0, 64);
        for (uint256 i = 0; i < all.length; ++i) {
            if (all[i] == id) return true;
        }
        return false;
    }
}

contract ChallengeTest is CourtFixture {
    uint256 private _task;
    uint256 private _first;
    uint256 private _second;
    uint256 private _seen;

    function setUp() public {
        setUpCourt(3);
        _task = proposedRound();
    }

    function test_challenge_outOfTheWindow_isRefused() public {
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 9));
        juries.challengeRound{value: BOND}(9, 1);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotChallengeable.selector, _task, 2));
        juries.challengeRound{value: BOND}(_task, 2);
        pass(5);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotChallengeable.selector, _task, 1));
        juries.challengeRound{value: BOND}(_task, 1);
    }

    function test_challenge_bond_comesFromFreeBalanceAndValue() public {
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, CHALLENGER, BOND - 1, BOND));
        juries.challengeRound{value: BOND - 1}(_task, 1);
        vm.prank(CHALLENGER);
        accounts.deposit{value: 0.3 ether}(COIN, 0.3 ether);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Challenged(_task, 1, 0, IFedLedger.DisputeKind.Replay, 0, CHALLENGER, BOND);
        vm.prank(CHALLENGER);
        juries.challengeRound{value: 0.8 ether}(_task, 1);
        eq(free(CHALLENGER), 0.1 ether, "rest");
        conserved();
    }

    function test_challenge_twice_isRefused() public {
        challenge(_task, 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.AlreadyChallenged.selector, _task, 1));
        juries.challengeRound{value: BOND}(_task, 1);
    }

    function test_challenge_tooFewVerifiers_isRefused() public {
        vm.prank(owner(4));
        court.retire();
        // In the block in which it leaves it still counts, and may be drawn.
        nextBlock();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 2, 3));
        juries.challengeRound{value: BOND}(_task, 1);
    }

    function test_challenge_holdsTheSettlementBack() public {
        challenge(_task, 1);
        phaseIs(_task, IFedLedger.Phase.Disputed, "phase");
        pass(5);
        Outcome memory o = accepted(4, 250);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DisputesOpen.selector, 1));
        ledger.settleRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, ALL);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, _task));
        accounts.finishTask(_task);
    }

    function test_draw_beforeTheNextBlock_tooLate_orTwice_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        uint256 number = vm.getBlockNumber();
        uint256 until = START + DISPUTE;
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, number + 1, until));
        juries.drawJury(dispute);
        nextBlock();
        uint256 state = vm.snapshotState();
        pass(DISPUTE);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, number + 1, until));
        juries.drawJury(dispute);
        vm.revertToState(state);
        juries.drawJury(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until));
        juries.drawJury(dispute);
    }

    function test_draw_afterTheChainForgotTheBlock_callsTheJuryAgain() public {
        uint256 dispute = challenge(_task, 1);
        uint256 number = vm.getBlockNumber();
        vm.roll(number + 257);
        vm.expectEmit(address(ledger));
        emit IFedLedger.JuryCalled(dispute, 0, uint64(number + 258));
        juries.drawJury(dispute);
        eq(juries.juryOf(dispute, 0).members.length, 0, "members");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, number + 259, START + DISPUTE));
        juries.drawJury(dispute);
        vm.roll(number + 259);
        juries.drawJury(dispute);
        eq(juries.juryOf(dispute, 0).members.length, 3, "members");
    }

    function test_draw_lastBlockThatIsRemembered_stillCounts() public {
        uint256 dispute = challenge(_task, 1);
        vm.roll(vm.getBlockNumber() + 256);
        juries.drawJury(dispute);
        eq(juries.juryOf(dispute, 0).members.length, 3, "members");
    }

    /// @dev Whoever comes when the block of the draw may be known comes too late for that jury; who goes then stays on it.
    function test_draw_whoServesOrLeavesSince_changesNothing() public {
        for (uint256 i = 0; i < 4; ++i) {
            enlist(i);
        }
        pass(AGE);
        _task = _again();
        uint256 dispute = challenge(_task, 1);
        for (uint256 i = 4; i < 7; ++i) {
            vm.prank(owner(i));
            court.retire();
        }
        nextBlock();
        for (uint256 i = 0; i < 4; ++i) {
            serve(_task, i);
        }
        uint32[] memory members = draw(dispute);
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 7 << WORKERS, "members");
    }

    /// @dev The seed is known before the draw: whoever quits, retires or leaves for good then is drawn all the same, cannot
    /// come back to another place, and pays if it says nothing.
    function test_draw_whoLeftSince_isDrawnAndPays() public {
        uint256 dispute = challenge(_task, 1);
        vm.prank(owner(4));
        court.quit(_task);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.AlreadyServing.selector, 4));
        court.serve(_task);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.NotServing.selector, 4));
        court.quit(_task);
        vm.prank(owner(5));
        court.retire();
        refused(owner(5), abi.encodeWithSelector(IFedLedger.TooEarlyToEnlist.selector, START + DISPUTE));
        court.enlist();
        vm.prank(owner(6));
        accounts.requestExit();
        uint32[] memory ids = new uint32[](1);
        ids[0] = 5;
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.JuryNotDrawn.selector, _task));
        court.strike(_task, ids);
        eq(draw(dispute).length, 3, "members");
        pass(2 * DISPUTE);
        juries.decide(dispute);
        juries.closeDispute(dispute);
        for (uint256 i = 4; i < 7; ++i) {
            eq(stakeOf(i), VERIFIER_STAKE - JUROR_PENALTY, "stake");
        }
        eq(court.pool(_task, 0, 64).length, 3, "places");
        ids = new uint32[](3);
        (ids[0], ids[1], ids[2]) = (4, 5, 6);
        court.strike(_task, ids);
        eq(court.pool(_task, 0, 64).length, 0, "places");
        conserved();
    }

    /// @dev Who left in an earlier block than that of the call is on no jury, though its place is still there.
    function test_draw_whoLeftBefore_isNotDrawn() public {
        registerFrom(7, 1);
        enlist(7);
        pass(AGE);
        uint256 task = _again();
        serve(task, 7);
        vm.prank(owner(4));
        court.retire();
        nextBlock();
        uint256 dispute = challenge(task, 1);
        uint32[] memory members = draw(dispute);
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 0xe << WORKERS, "members");
    }

    /// @dev Who enlists again serves no task until it is old enough again.
    function test_serve_youngVerifiers_mayNot() public {
        uint256 from = comeBack(4);
        eq(from, vm.getBlockTimestamp() + AGE, "from");
        uint256 task = _again();
        eq(court.pool(task, 0, 64).length, 2, "places");
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 2, 3));
        juries.challengeRound{value: BOND}(task, 1);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.TooEarlyToServe.selector, from));
        court.serve(task);
        vm.warp(from - 1);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.TooEarlyToServe.selector, from));
        court.serve(task);
        eq(court.hasJudges(task, 0) ? 1 : 0, 0, "judges");
        vm.warp(from);
        serve(task, 4);
        eq(court.hasJudges(task, 0) ? 1 : 0, 1, "judges");
    }

    /// @dev A place that is older than its holder's enlistment counts for nothing: who comes back has to quit it, or is
    /// struck off, and serves anew.
    function test_place_olderThanTheEnlistment_countsForNothing() public {
        pass(5);
        settle(_task, 1, accepted(WORKERS, 250));
        comeBack(4);
        vm.warp(comeBack(5));
        proposeNext(_task, 2, 100);
        eq(court.pool(_task, 0, 64).length, 3, "places");
        eq(court.isServing(4) && court.isServing(5) ? 1 : 0, 1, "verifiers");
        eq(court.hasJudges(_task, 0) ? 1 : 0, 0, "judges");
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 1, 3));
        juries.challengeRound{value: BOND}(_task, 2);
        refused(owner(4), abi.encodeWithSelector(IFedLedger.AlreadyServing.selector, 4));
        court.serve(_task);
        vm.prank(owner(4));
        court.quit(_task);
        uint32[] memory ids = new uint32[](1);
        ids[0] = 5;
        vm.prank(OUTSIDER);
        court.strike(_task, ids);
        serve(_task, 4);
        serve(_task, 5);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NobodyStruck.selector, _task));
        court.strike(_task, ids);
        nextBlock();
        eq(draw(challenge(_task, 2)).length, 3, "members");
    }

    /// @dev A draw skips such a place, and takes it out.
    function test_draw_skipsAPlaceOlderThanTheEnlistment() public {
        setUpCourt(4);
        _task = proposedRound();
        pass(5);
        settle(_task, 1, accepted(WORKERS, 250));
        comeBack(4);
        proposeNext(_task, 2, 100);
        nextBlock();
        uint32[] memory members = draw(challenge(_task, 2));
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 0xe << WORKERS, "members");
        // It may not have been looked at.
        eq(court.pool(_task, 0, 64).length <= 4 ? 1 : 0, 1, "places");
    }

    /// @dev Whoever sees a challenge coming cannot join its jury in the same block.
    function test_challenge_whoServesSinceThisBlock_doesNotCount() public {
        vm.prank(owner(4));
        court.quit(_task);
        serve(_task, 4);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 2, 3));
        juries.challengeRound{value: BOND}(_task, 1);
        nextBlock();
        challenge(_task, 1);
    }

    /// @dev Whoever joins when the round has been opened neither counts nor is drawn, as the liar may have sent it.
    function test_challenge_whoServesSinceTheOpening_neitherCountsNorJudges() public {
        vm.prank(owner(4));
        court.quit(_task);
        pass(1);
        serve(_task, 4);
        nextBlock();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 2, 3));
        juries.challengeRound{value: BOND}(_task, 1);
        setUpCourt(4);
        uint256 task = proposedRound();
        vm.prank(owner(4));
        court.quit(task);
        pass(1);
        serve(task, 4);
        nextBlock();
        uint32[] memory members = draw(challenge(task, 1));
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 0xe << WORKERS, "members");
        eq(court.pool(task, 0, 64).length, 4, "it stays in the pool");
    }

    function test_draw_whoHasLostItsStake_isStruckOff() public {
        _fine(4);
        eq(court.isServing(4) ? 1 : 0, 0, "serving");
        eq(court.pool(_task, 0, 64).length, 3, "listed");
        nextBlock();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooFewVerifiers.selector, 2, 3));
        juries.challengeRound{value: BOND}(_task, 1);
        registerFrom(7, 1);
        enlist(7);
        pass(AGE);
        uint256 task = _again();
        serve(task, 7);
        _fine(5);
        vm.prank(owner(4));
        accounts.addStake{value: VERIFIER_STAKE}(VERIFIER_STAKE);
        serve(task, 4);
        nextBlock();
        uint256 dispute = challenge(task, 1);
        uint32[] memory members = draw(dispute);
        eq((1 << members[0]) | (1 << members[1]) | (1 << members[2]), 0xd << WORKERS, "members");
        eq(court.pool(task, 0, 64).length, 3, "listed no more");
    }

    function test_vote_byAStranger_emptyOrTwice_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        bytes32 some = keccak256("vote");
        refused(signer(0), abi.encodeWithSelector(IFedLedger.NotJuror.selector, dispute, 0));
        juries.commitVote(dispute, some);
        refused(signer(members[0]), abi.encodeWithSelector(IFedLedger.EmptyCommitment.selector));
        juries.commitVote(dispute, 0);
        vm.prank(signer(members[0]));
        juries.commitVote(dispute, some);
        refused(signer(members[0]), abi.encodeWithSelector(IFedLedger.AlreadyVoted.selector, members[0]));
        juries.commitVote(dispute, some);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.UnknownDispute.selector, 7));
        juries.commitVote(7, some);
    }

    function test_vote_outOfItsTime_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        refused(signer(4), abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, 0));
        juries.commitVote(dispute, keccak256("vote"));
        uint32[] memory members = draw(dispute);
        uint256 until = START + DISPUTE;
        commitVote(dispute, members[0], true, TRANSCRIPT);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.NotInTime.selector, until, until + DISPUTE);
        refused(signer(members[0]), reason);
        juries.revealVote(dispute, valid(true), atLevel(TRANSCRIPT, 0), SALT);
        pass(DISPUTE);
        refused(signer(members[1]), abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until));
        juries.commitVote(dispute, keccak256("vote"));
        revealVote(dispute, members[0], true, TRANSCRIPT);
        pass(DISPUTE);
        refused(signer(members[1]), reason);
        juries.revealVote(dispute, valid(true), atLevel(TRANSCRIPT, 0), SALT);
    }

    function test_reveal_mustOpenTheCommitment_once() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            commitVote(dispute, members[i], true, TRANSCRIPT);
        }
        bytes32 expected = juries.voteOf(dispute, 0, members[0], valid(true), atLevel(TRANSCRIPT, 0), SALT);
        bytes32 found = juries.voteOf(dispute, 0, members[0], valid(false), atLevel(TRANSCRIPT, 0), SALT);
        refused(signer(members[0]), abi.encodeWithSelector(IFedLedger.WrongVote.selector, expected, found));
        juries.revealVote(dispute, valid(false), atLevel(TRANSCRIPT, 0), SALT);
        revealVote(dispute, members[0], true, TRANSCRIPT);
        IFedLedger.Vote memory found_ = juries.voteBy(dispute, 0, members[0]);
        eq(found_.commitment, expected, "commitment");
        eq(uint8(found_.finding), uint8(valid(true)), "finding");
        eq(found_.transcript, atLevel(TRANSCRIPT, 0), "transcript");
        refused(signer(members[0]), abi.encodeWithSelector(IFedLedger.AlreadyVoted.selector, members[0]));
        juries.revealVote(dispute, valid(true), atLevel(TRANSCRIPT, 0), SALT);
    }

    /// @dev Who copies another juror's commitment cannot open it.
    function test_reveal_copiedVote_cannotBeOpened() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        bytes32 copied = juries.voteOf(dispute, 0, members[0], valid(true), atLevel(TRANSCRIPT, 0), SALT);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(signer(members[i]));
            juries.commitVote(dispute, copied);
        }
        bytes32 found = juries.voteOf(dispute, 0, members[1], valid(true), atLevel(TRANSCRIPT, 0), SALT);
        refused(signer(members[1]), abi.encodeWithSelector(IFedLedger.WrongVote.selector, copied, found));
        juries.revealVote(dispute, valid(true), atLevel(TRANSCRIPT, 0), SALT);
    }

    function test_decide_beforeTheVotesAreIn_orTwice_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        bytes memory early = abi.encodeWithSelector(IFedLedger.NotInTime.selector, START + DISPUTE, ALL);
        refused(OUTSIDER, early);
        juries.decide(dispute);
        uint32[] memory members = draw(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, START + 2 * DISPUTE, ALL));
        juries.decide(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, ALL));
        juries.closeDispute(dispute);
        vote(dispute, members, 3, 0);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, START + 2 * DISPUTE));
        juries.decide(dispute);
    }

    function test_close_twice_orUnknown_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, true);
        juries.closeDispute(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DisputeIsClosed.selector, dispute));
        juries.closeDispute(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownDispute.selector, 1));
        juries.closeDispute(1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownDispute.selector, 1));
        juries.disputeRecord(1);
    }

    function test_close_upheld_letsTheRoundSettle() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, true);
        vm.expectEmit(address(ledger));
        emit IFedLedger.DisputeClosed(dispute, IFedLedger.DisputeStatus.Upheld);
        juries.closeDispute(dispute);
        pass(5);
        settle(_task, 1, accepted(4, 250));
        roundIs(_task, 1, IFedLedger.RoundStatus.Settled);
        eq(accounts.creditOf(_task, 0), 250, "credit");
        conserved();
    }

    function test_juror_cannotLeaveBeforeItsDisputeIsClosed() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vm.prank(owner(members[0]));
        accounts.requestExit();
        pass(EXIT_DELAY);
        refused(owner(members[0]), abi.encodeWithSelector(IFedLedger.StakeLocked.selector, members[0], 1));
        accounts.completeExit();
        juries.decide(dispute);
        juries.closeDispute(dispute);
        vm.prank(owner(members[0]));
        accounts.completeExit();
        eq(free(owner(members[0])), VERIFIER_STAKE - JUROR_PENALTY, "what silence left of the stake");
        conserved();
    }

    function test_juror_thatIsLeaving_votesAllTheSame() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vm.prank(owner(members[0]));
        accounts.requestExit();
        vote(dispute, members, 3, 0);
        eq(juries.juryOf(dispute, 0).decided ? 1 : 0, 1, "decided");
    }

    function test_voteOf_isTheDocumentedHash() public view {
        bytes memory fields = abi.encode(block.chainid, address(ledger), uint256(5), uint256(1), uint256(7));
        bytes memory rest = abi.encode(uint256(1), TRANSCRIPT, SALT);
        bytes32 found = juries.voteOf(5, 1, 7, valid(true), TRANSCRIPT, SALT);
        eq(found, keccak256(bytes.concat(fields, rest)), "vote");
    }

    /// forge-config: default.fuzz.runs = 64
    /// @dev Neither challenger nor proposer sits on the jury, not as owner and not as signer; nobody twice, and nobody who was
    /// silent on the one before.
    function testFuzz_draw_neverRepeatsAndNeverPicksAParty(uint256 blocks, uint256 verifiers, uint256 round) public {
        verifiers = bound(verifiers, 3, 40);
        setUpCourt(verifiers);
        _makeParties(verifiers);
        vm.roll(bound(blocks, 2000, 1 << 40));
        uint256 task = proposedRound();
        uint256 dispute = challenge(task, 1);
        for (uint256 l = 0; l < 1 + round % 3; ++l) {
            uint32[] memory members = draw(dispute);
            uint256 size = l == 0 ? 3 : l == 1 ? 7 : 15;
            uint256 silent = l == 0 ? 0 : l == 1 ? _first : _first + _second;
            uint256 eligible = verifiers - (verifiers > 4 ? 2 : 0);
            eligible = eligible > silent ? eligible - silent : 0;
            eq(members.length, size < eligible ? size : eligible, "size");
            _distinct(members, verifiers);
            (_first, _second) = l == 0 ? (members.length, 0) : (_first, members.length);
            if (juries.juryOf(dispute, uint8(l)).pool <= members.length || l == 2) return;
            pass(2 * DISPUTE);
            juries.decide(dispute);
        }
    }

    /// @dev Every eligible verifier is drawn sometimes.
    function test_draw_reachesEverybody() public {
        setUpCourt(12);
        uint256 seen = 0;
        for (uint256 i = 0; i < 60; ++i) {
            vm.roll(vm.getBlockNumber() + 1);
            uint256 task = proposedRound();
            uint32[] memory members = draw(challenge(task, 1));
            for (uint256 k = 0; k < members.length; ++k) {
                seen |= 1 << members[k];
            }
        }
        eq(seen, ((1 << 12) - 1) << WORKERS, "drawn");
    }

    function _makeParties(uint256 verifiers) private {
        if (verifiers <= 4) return;
        agree(CHALLENGER, owner(4));
        vm.prank(owner(4));
        accounts.rotateSigner(CHALLENGER);
        agree(AGGREGATOR, owner(verifiers));
        vm.prank(owner(verifiers));
        accounts.rotateSigner(AGGREGATOR);
    }

    function _distinct(uint32[] memory members, uint256 verifiers) private {
        for (uint256 i = 0; i < members.length; ++i) {
            eq((_seen >> members[i]) & 1, 0, "twice");
            _seen |= 1 << members[i];
            eq(members[i] >= WORKERS && members[i] < WORKERS + verifiers ? 1 : 0, 1, "a verifier");
            address by = accounts.participant(members[i]).signer;
            eq(by == CHALLENGER || by == AGGREGATOR ? 1 : 0, 0, "a party");
        }
    }

    /// @dev Another task whose first round is proposed.
    function _again() private returns (uint256) {
        return proposedRound();
    }

    function _enrolOwner(uint256 task, uint256 i) private {
        vm.prank(owner(i));
        opinions.enrol(task);
    }

    /// @dev A participant of another task, in which it equivocates.
    function _fine(uint256 i) private {
        IFedLedger.TaskParams memory p = defaults(4);
        (p.penalty, p.minStake) = (STAKE, STAKE);
        uint256 task = post(p);
        for (uint256 k = 0; k < 4; ++k) {
            if (k != 1) _enrolOwner(task, k);
        }
        _enrolOwner(task, i);
        openAll(task);
        court.reportEquivocation(
            task,
            1,
            uint32(i),
            signedAs(task, 1, i, keccak256("one"), NO_PROOF),
            signedAs(task, 1, i, keccak256("other"), NO_PROOF)
        );
    }
}

/// @notice What a dispute costs and pays, to the last wei.
contract JuryMoneyTest is CourtFixture {
    uint96 private constant FINED = VERIFIER_STAKE - JUROR_PENALTY;
    uint256 private _task;
    uint256 private _challengerHad;

    function setUp() public {
        setUpCourt(3);
        _task = proposedRound();
    }

    function test_upheld_challengerPaysProposerAndJurors() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = decided(dispute, true);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        roundIs(_task, 1, IFedLedger.RoundStatus.Proposed);
        eq(free(CHALLENGER), 0, "challenger");
        eq(free(AGGREGATOR), BOND / 2, "proposer");
        _paid(members, BOND / 4 / 3);
        eq(burned(), BOND - BOND / 2 - BOND / 4 / 3 * 3, "burned");
        eq(accounts.seats(_task)[0].deposit, BOND, "deposit");
        conserved();
    }

    /// @dev Else whoever posts tasks with a bond of nothing could make verifiers work for nothing.
    function test_firstJury_atTheLeastBond_earnsWhatSilenceWouldCost() public {
        IFedLedger.TaskParams memory p = defaults(4);
        p.bond = 50 * JUROR_PENALTY;
        eq(accounts.seatsOnAllLevels(), 25, "seats");
        uint256 task = post(p);
        enrol(task, WORKERS);
        proposeNext(task, 1, 250);
        vm.prank(CHALLENGER);
        uint256 dispute = juries.challengeRound{value: p.bond}(task, 1);
        uint32[] memory members = decided(dispute, true);
        juries.closeDispute(dispute);
        // A quarter is more than a seat's worth each.
        _paid(members, p.bond / 4 / 3);
        conserved();
    }

    function test_overturned_proposerPaysChallengerAndJurors() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = decided(dispute, false);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        eq(free(AGGREGATOR), 0, "proposer");
        eq(accounts.seats(_task)[0].deposit, 0, "deposit");
        _paid(members, BOND / 4 / 3);
        eq(burned(), BOND - BOND / 2 - BOND / 4 / 3 * 3, "burned");
        conserved();
    }

    function test_minority_pays_andTheMajorityShares() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 1, 2);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(stakeOf(members[0]), FINED, "minority");
        eq(free(owner(members[0])), 0, "minority's reward");
        eq(free(owner(members[1])), BOND / 8, "majority");
        eq(stakeOf(members[1]), VERIFIER_STAKE, "majority's stake");
        eq(burned(), BOND / 4 + JUROR_PENALTY, "burned");
        conserved();
    }

    /// @dev The same finding for another reason is another outcome.
    function test_sameFindingByAnotherTranscript_isMinority() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            commitVote(dispute, members[i], false, i == 0 ? OTHER : TRANSCRIPT);
        }
        for (uint256 i = 0; i < 3; ++i) {
            revealVote(dispute, members[i], false, i == 0 ? OTHER : TRANSCRIPT);
        }
        juries.decide(dispute);
        juries.closeDispute(dispute);
        eq(stakeOf(members[0]), FINED, "minority");
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
    }

    function test_silence_pays_committedOrNot() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            commitVote(dispute, members[i], true, TRANSCRIPT);
        }
        revealVote(dispute, members[0], true, TRANSCRIPT);
        revealVote(dispute, members[1], true, TRANSCRIPT);
        pass(2 * DISPUTE);
        juries.decide(dispute);
        juries.closeDispute(dispute);
        eq(stakeOf(members[2]), FINED, "silent");
        eq(free(owner(members[0])), BOND / 8, "the others");
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        conserved();
    }

    function test_undecided_voidsTheRound_andReturnsAllBonds() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 1, 1);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Undecided);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND, "challenger");
        eq(stakeOf(members[0]), VERIFIER_STAKE, "nobody is a minority");
        eq(stakeOf(members[1]), VERIFIER_STAKE, "nobody is a minority");
        eq(stakeOf(members[2]), FINED, "silent");
        eq(accounts.seats(_task)[0].deposit, BOND, "deposit");
        eq(burned(), JUROR_PENALTY, "burned");
        conserved();
    }

    function test_neverDrawn_isUndecided() public {
        uint256 dispute = challenge(_task, 1);
        for (uint256 l = 0; l < 3; ++l) {
            pass(DISPUTE);
            juries.decide(dispute);
        }
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Undecided);
        eq(free(CHALLENGER), BOND, "challenger");
        eq(burned(), 0, "burned");
        conserved();
    }

    /// @dev No party has a reason to wait for a last word: the penalty takes what there is.
    function test_fine_beyondTheStake_takesWhatThereIs() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        IFedLedger.TaskParams memory p = defaults(4);
        // With the reporter's eighth it takes all but one wei.
        (p.penalty, p.minStake) = (1_777_777_777_777_777_777, 2 * STAKE);
        uint256 task = post(p);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            accounts.addStake{value: STAKE}(STAKE);
            vm.prank(owner(i));
            opinions.enrol(task);
        }
        vm.prank(owner(members[0]));
        opinions.enrol(task);
        vm.prank(owner(members[0]));
        accounts.requestExit();
        openAll(task);
        court.reportEquivocation(
            task,
            1,
            members[0],
            signedAs(task, 1, members[0], keccak256("one"), NO_PROOF),
            signedAs(task, 1, members[0], keccak256("other"), NO_PROOF)
        );
        eq(stakeOf(members[0]), 1, "one wei is left");
        pass(2 * DISPUTE);
        juries.decide(dispute);
        juries.closeDispute(dispute);
        eq(stakeOf(members[0]), 0, "stake");
        eq(stakeOf(members[1]), FINED, "another's stake");
    }

    function _paid(uint32[] memory members, uint256 reward) private view {
        for (uint256 i = 0; i < members.length; ++i) {
            eq(free(owner(members[i])), reward, "juror");
            eq(stakeOf(members[i]), VERIFIER_STAKE, "stake");
        }
    }
}

/// @notice Appeals: thirty verifiers, juries of 3, 7 and 15.
contract AppealTest is CourtFixture {
    uint256 private _task;

    function setUp() public {
        setUpCourt(30);
        _task = proposedRound();
    }

    function test_appeal_outOfItsTime_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, 0));
        juries.appeal{value: 2 * BOND}(dispute);
        decided(dispute, true);
        uint256 until = START + DISPUTE;
        bytes memory reason =
            abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, APPELLANT, 2 * BOND - 1, 2 * BOND);
        refused(APPELLANT, reason);
        juries.appeal{value: 2 * BOND - 1}(dispute);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, until, ALL));
        juries.closeDispute(dispute);
        pass(DISPUTE);
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, until));
        juries.appeal{value: 2 * BOND}(dispute);
        juries.closeDispute(dispute);
    }

    function test_appeal_emitsAndCallsALargerJury() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, true);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Appealed(dispute, 0, APPELLANT, 2 * BOND);
        appeal(dispute, 2 * BOND);
        eq(level(dispute), 1, "level");
        eq(draw(dispute).length, 7, "jury");
        conserved();
    }

    function test_appeal_afterTheLastJury_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, true);
        appeal(dispute, 2 * BOND);
        decided(dispute, true);
        appeal(dispute, 4 * BOND);
        eq(decided(dispute, true).length, 15, "jury");
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NoHigherJury.selector));
        juries.appeal{value: 8 * BOND}(dispute);
        juries.closeDispute(dispute);
    }

    function test_appeal_noMoreVerifiersThanJurors_isRefused() public {
        setUpCourt(3);
        uint256 dispute = challenge(proposedRound(), 1);
        decided(dispute, true);
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NoHigherJury.selector));
        juries.appeal{value: 2 * BOND}(dispute);
    }

    function test_appeal_lost_addsToThePot() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = decided(dispute, true);
        appeal(dispute, 2 * BOND);
        uint32[] memory upper = decided(dispute, true);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        uint256 pot = 3 * uint256(BOND);
        eq(free(APPELLANT), 0, "appellant");
        eq(free(CHALLENGER), 0, "challenger");
        eq(free(AGGREGATOR), pot / 2, "proposer");
        _rewarded(lower, upper, pot / 4 / 10);
        eq(burned(), pot - pot / 2 - pot / 4 / 10 * 10, "burned");
        conserved();
    }

    function test_appeal_won_turnsTheFindingAround() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = decided(dispute, true);
        appeal(dispute, 2 * BOND);
        uint32[] memory upper = decided(dispute, false);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(free(APPELLANT), 2 * BOND, "appellant");
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        eq(accounts.seats(_task)[0].deposit, 0, "deposit");
        for (uint256 i = 0; i < 3; ++i) {
            if (!_among(lower[i], upper)) eq(stakeOf(lower[i]), VERIFIER_STAKE - JUROR_PENALTY, "overruled");
        }
        eq(burned(), BOND - BOND / 2 - BOND / 4 / 7 * 7 + 3 * uint256(JUROR_PENALTY), "burned");
        conserved();
    }

    /// @dev Down, up, down: whoever appealed against what stood in the end has lost its bond, the other has it back.
    function test_appeal_twice_onlyTheOneWhoWasWrongPays() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        appeal(dispute, 2 * BOND);
        decided(dispute, true);
        vm.prank(CHALLENGER);
        juries.appeal{value: 4 * BOND}(dispute);
        decided(dispute, false);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(free(APPELLANT), 0, "appellant");
        eq(free(CHALLENGER), 4 * BOND + BOND + (2 * BOND + BOND) / 2, "challenger");
        conserved();
    }

    function test_undecided_callsTheNextJuryForFree() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = draw(dispute);
        vote(dispute, lower, 1, 1);
        eq(level(dispute), 1, "level");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, ALL));
        juries.closeDispute(dispute);
        uint32[] memory upper = decided(dispute, false);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        // The first found it valid, the second not, the third said nothing.
        if (!_among(lower[0], upper)) eq(stakeOf(lower[0]), VERIFIER_STAKE - JUROR_PENALTY, "overruled");
        if (!_among(lower[1], upper)) eq(free(owner(lower[1])), BOND / 4 / 8, "confirmed");
        if (!_among(lower[2], upper)) eq(stakeOf(lower[2]), VERIFIER_STAKE - JUROR_PENALTY, "silent");
        conserved();
    }

    function test_undecidedToTheEnd_returnsTheAppeals() public {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        appeal(dispute, 2 * BOND);
        vote(dispute, draw(dispute), 3, 3);
        vote(dispute, draw(dispute), 7, 7);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Undecided);
        eq(free(APPELLANT), 2 * BOND, "appellant");
        eq(free(CHALLENGER), BOND, "challenger");
        eq(burned(), 2 * uint256(JUROR_PENALTY), "burned");
        conserved();
    }

    function test_moot_returnsAllBondsAndFinesNobody() public {
        (uint256 task, uint256 first) = _stacked();
        uint256 dispute = challenge(task, 2);
        decided(dispute, true);
        appeal(dispute, 2 * BOND);
        uint32[] memory upper = draw(dispute);
        commitVote(dispute, upper[0], true, TRANSCRIPT);
        decided(first, false);
        closeLate(first);
        refused(signer(upper[1]), abi.encodeWithSelector(IFedLedger.NotProposed.selector, task, 2));
        juries.commitVote(dispute, keccak256("vote"));
        uint256 before = burned();
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Moot);
        eq(free(APPELLANT), 2 * BOND, "appellant");
        eq(free(CHALLENGER), 2 * BOND + BOND / 2, "both bonds and half of the deposit");
        eq(burned(), before, "burned");
        for (uint256 i = 0; i < upper.length; ++i) {
            eq(stakeOf(upper[i]), VERIFIER_STAKE, "stake");
            eq(accounts.participant(upper[i]).locks, 0, "locks");
        }
        conserved();
    }

    /// forge-config: default.fuzz.runs = 128
    /// @dev Any way that votes can fall at three levels conserves money, releases every juror and ends the dispute.
    function testFuzz_dispute_anyVotes_conserveMoney(uint256 seed) public {
        uint256 dispute = challenge(_task, 1);
        for (uint256 l = 0; l < 3 && juries.disputeRecord(dispute).level == l; ++l) {
            _voteAnyhow(dispute, draw(dispute), uint256(keccak256(abi.encode(seed, l))));
            conserved();
            IFedLedger.Finding by = juries.juryOf(dispute, uint8(l)).finding;
            bool found = by == valid(true) || by == valid(false);
            if (l < 2 && found && (seed >> l) & 1 != 0) appeal(dispute, 2 * BOND << l);
        }
        pass(DISPUTE);
        juries.closeDispute(dispute);
        conserved();
        eq(accounts.round(_task, 1).disputes, 0, "disputes");
        for (uint32 i = 0; i < accounts.participantCount(); ++i) {
            eq(accounts.participant(i).locks, 0, "locks");
        }
    }

    function _voteAnyhow(uint256 dispute, uint32[] memory members, uint256 seed) private {
        // Two outcomes are likelier than a third, and than silence.
        for (uint256 i = 0; i < members.length; ++i) {
            uint256 way = (seed >> (4 * i)) % 16;
            if (way < 15) commitVote(dispute, members[i], way < 9, way < 13 ? TRANSCRIPT : OTHER);
        }
        pass(DISPUTE);
        for (uint256 i = 0; i < members.length; ++i) {
            uint256 way = (seed >> (4 * i)) % 16;
            if (way < 14) revealVote(dispute, members[i], way < 9, way < 13 ? TRANSCRIPT : OTHER);
        }
        pass(DISPUTE);
        juries.decide(dispute);
    }

    /// @dev Two proposed rounds, the first of which is challenged.
    function _stacked() private returns (uint256 task, uint256 dispute) {
        IFedLedger.TaskParams memory p = defaults(uint16(WORKERS));
        p.maxUnfinal = 2;
        task = post(p);
        enrol(task, WORKERS);
        proposeNext(task, 1, 100);
        dispute = challenge(task, 1);
        // The first deposit is held for the dispute, so that going on takes another.
        takeSeat(task, AGGREGATOR);
        proposeNext(task, 2, 200);
    }

    function _among(uint32 id, uint32[] memory members) private pure returns (bool) {
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] == id) return true;
        }
        return false;
    }

    /// @dev Who sat on both juries is paid twice.
    function _rewarded(uint32[] memory lower, uint32[] memory upper, uint256 reward) private view {
        for (uint256 i = 0; i < lower.length; ++i) {
            eq(free(owner(lower[i])), _among(lower[i], upper) ? 2 * reward : reward, "lower juror");
        }
        for (uint256 i = 0; i < upper.length; ++i) {
            eq(free(owner(upper[i])), _among(upper[i], lower) ? 2 * reward : reward, "upper juror");
        }
    }
}
