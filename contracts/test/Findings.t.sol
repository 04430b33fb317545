// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What juries find, and what each vote earns or costs: thirty verifiers, juries of 3, 7 and 15.
contract FindingsTest is CourtFixture {
    uint96 private constant FINED = VERIFIER_STAKE - JUROR_PENALTY;
    uint256 private _task;

    function setUp() public {
        setUpCourt(30);
        _task = proposedRound();
    }

    function test_unable_twoJuries_voidTheRoundAtTheChallengersCost() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = draw(dispute);
        vm.recordLogs();
        vote(dispute, lower, 0, 0, 3);
        eq(level(dispute), 1, "the next jury is called at once");
        uint32[] memory upper = draw(dispute);
        vote(dispute, upper, 0, 0, 7);
        eq(level(dispute), 1, "but no third one");
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NotInTime.selector, 0, vm.getBlockTimestamp()));
        juries.appeal{value: 4 * BOND}(dispute);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Unjudged);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND - 2 * JUROR_PENALTY, "challenger");
        eq(accounts.seats(_task)[0].deposit, BOND, "deposit");
        eq(burned(), 2 * JUROR_PENALTY, "burned");
        _unharmed(lower);
        _unharmed(upper);
        conserved();
    }

    /// @dev Of three verifiers there is no larger jury.
    function test_unable_theOnlyJury_voidsTheRoundAtTheChallengersCost() public {
        setUpCourt(3);
        _task = proposedRound();
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 0, 0, 2);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Unjudged);
        eq(free(CHALLENGER), BOND - JUROR_PENALTY, "challenger");
        eq(stakeOf(members[0]), VERIFIER_STAKE, "who said so");
        eq(stakeOf(members[2]), FINED, "who said nothing");
        conserved();
    }

    function test_unable_alone_pays() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 2, 0, 1);
        pass(DISPUTE);
        vm.expectEmit(address(ledger));
        emit IFedLedger.Slashed(members[2], _task, 1, IFedLedger.Offence.CannotJudge, JUROR_PENALTY);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        eq(stakeOf(members[2]), FINED, "unable");
        eq(free(owner(members[0])), BOND / 4 / 2, "right");
        conserved();
    }

    /// @dev Whose own jury cannot judge the round pays nothing when a larger one can; the one who alone could is paid.
    function test_unable_withItsJury_thenJudged_costsNothing() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = draw(dispute);
        vote(dispute, lower, 1, 0, 2);
        uint32[] memory upper = draw(dispute);
        vote(dispute, upper, 6, 0, 1);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        uint256 share = BOND / 4 / 7;
        uint256 fines = 0;
        for (uint256 i = 0; i < 3; ++i) {
            bool again = lower[i] == upper[6];
            if (again) ++fines;
            eq(stakeOf(lower[i]), again ? FINED : VERIFIER_STAKE, "lower");
        }
        eq(stakeOf(upper[6]), FINED, "alone unable");
        eq(free(owner(lower[0])) >= share || lower[0] == upper[6] ? 1 : 0, 1, "alone able");
        eq(burned(), BOND - BOND / 2 - 7 * share + JUROR_PENALTY, "burned");
        conserved();
    }

    function test_unable_inADisputeThatEndsOpen_costsNothing() public {
        setUpCourt(3);
        _task = proposedRound();
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 1, 1, 1);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Undecided);
        _unharmed(members);
        eq(free(CHALLENGER), BOND, "challenger");
        eq(burned(), 0, "burned");
        conserved();
    }

    /// @dev Unable, open and unable again is two as well; unable once and open in the end says so, too.
    function test_unable_notInARow() public {
        uint256 dispute = challenge(_task, 1);
        vote(dispute, draw(dispute), 0, 0, 3);
        vote(dispute, draw(dispute), 3, 3, 1);
        eq(level(dispute), 2, "level");
        uint256 state = vm.snapshotState();
        vote(dispute, draw(dispute), 0, 0, 15);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Unjudged);
        eq(free(CHALLENGER), BOND - 3 * JUROR_PENALTY, "a seat's worth for each jury");
        conserved();
        vm.revertToState(state);
        vote(dispute, draw(dispute), 7, 7, 1);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Unjudged);
        eq(free(CHALLENGER), BOND - 3 * JUROR_PENALTY, "the same");
        conserved();
    }

    function test_reveal_nothing_orATranscriptOfWhatCannotBeJudged_isRefused() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            commitVote(dispute, members[i], i == 0 ? IFedLedger.Finding.None : IFedLedger.Finding.Unable, OTHER);
        }
        refused(owner(members[0]), abi.encodeWithSelector(IFedLedger.NoFinding.selector));
        juries.revealVote(dispute, IFedLedger.Finding.None, OTHER, SALT);
        refused(owner(members[1]), abi.encodeWithSelector(IFedLedger.NoFinding.selector));
        juries.revealVote(dispute, IFedLedger.Finding.Unable, OTHER, SALT);
    }

    /// @dev One voter of three is no majority, whatever it says; nor are three of seven.
    function test_decide_withoutMoreThanHalfOfTheJury_findsNothing() public {
        uint256 dispute = challenge(_task, 1);
        vote(dispute, draw(dispute), 1, 0);
        _found(dispute, 0, IFedLedger.Finding.None);
        vote(dispute, draw(dispute), 3, 0);
        _found(dispute, 1, IFedLedger.Finding.None);
        vote(dispute, draw(dispute), 5, 3);
        _found(dispute, 2, IFedLedger.Finding.Valid);
    }

    /// @dev One silent juror keeps the two others from nothing.
    function test_decide_oneSilentOfThree_isDecided() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        vote(dispute, members, 0, 2);
        _found(dispute, 0, IFedLedger.Finding.Invalid);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(stakeOf(members[2]), FINED, "silent");
        eq(free(owner(members[0])), BOND / 8, "right");
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        conserved();
    }

    /// @dev Two of a jury of two must vote; one alone decides nothing even if nobody else is there.
    function test_decide_byOneAlone_findsNothing() public {
        setUpCourt(3);
        agree(CHALLENGER, owner(4));
        vm.prank(owner(4));
        accounts.rotateSigner(CHALLENGER);
        _task = proposedRound();
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        eq(members.length, 2, "without the challenger");
        vote(dispute, members, 1, 0);
        eq(level(dispute), 1, "level");
        members = draw(dispute);
        eq(members.length, 1, "who voted");
        vote(dispute, members, 1, 0);
        _found(dispute, 1, IFedLedger.Finding.None);
    }

    /// @dev Silent jurors pay, and are on none of the next juries of the dispute.
    function test_silent_areLeftOutOfTheNextDraws() public {
        setUpCourt(7);
        _task = proposedRound();
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = draw(dispute);
        vote(dispute, lower, 1, 0);
        uint32[] memory upper = draw(dispute);
        eq(upper.length, 5, "all but two");
        eq(_among(lower[0], upper) ? 1 : 0, 1, "who voted");
        eq(_among(lower[1], upper) || _among(lower[2], upper) ? 1 : 0, 0, "who did not");
        vote(dispute, upper, 0, 5);
        closeLate(dispute);
        eq(stakeOf(lower[1]) + stakeOf(lower[2]), 2 * FINED, "silent");
        conserved();
    }

    /// @dev A transcript that was not hashed as often as its level asks is another one.
    function test_transcript_ofAnotherLevel_isNotTheSame() public {
        uint256 dispute = challenge(_task, 1);
        uint32[] memory lower = draw(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            commitVote(dispute, lower[i], valid(true), TRANSCRIPT);
        }
        for (uint256 i = 0; i < 3; ++i) {
            revealVote(dispute, lower[i], valid(true), TRANSCRIPT);
        }
        juries.decide(dispute);
        appeal(dispute, 2 * BOND);
        uint32[] memory upper = decided(dispute, true);
        closeLate(dispute);
        for (uint256 i = 0; i < 3; ++i) {
            eq(stakeOf(lower[i]), FINED, "minority");
            if (!_among(lower[i], upper)) eq(free(owner(lower[i])), 0, "reward");
        }
        conserved();
    }

    /// @dev Jurors of all levels who were right have a seat's worth each, where a quarter of the pot would be less.
    function test_reward_ofManyJurors_isASeatsWorthEach() public {
        uint256 dispute = challenge(_task, 1);
        // A majority needs more than half of the votes: four of seven is one, two of four is none.
        uint32[] memory first = draw(dispute);
        vote(dispute, first, 1, 0, 1);
        uint32[] memory second = draw(dispute);
        vote(dispute, second, 3, 0, 3);
        uint32[] memory third = draw(dispute);
        vote(dispute, third, 15, 0, 0);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        uint256 right = 1 + 3 + 15;
        eq(_paid(), right * JUROR_PENALTY, "jurors");
        eq(burned(), BOND / 2 - right * JUROR_PENALTY + (1 + 1 + 1 + 3) * uint256(JUROR_PENALTY), "burned");
        conserved();
    }

    /// forge-config: default.fuzz.runs = 48
    /// @dev Any sizes that a deployment may have: juries are as large as they should be, and money is conserved.
    function testFuzz_sizes_ofAnyDeployment(uint256 seed) public {
        _deployWith(uint8(3 + 2 * (seed % 7)), uint8((seed >> 8) % 3));
        uint256 dispute = challenge(_task, 1);
        uint256 size = 3 + 2 * (seed % 7);
        for (uint256 l = 0; l <= (seed >> 8) % 3; ++l) {
            uint32[] memory members = draw(dispute);
            eq(members.length, ((size + 1) << l) - 1, "seats");
            if (l == (seed >> 8) % 3) vote(dispute, members, 0, members.length);
            else if (l == 0) vote(dispute, members, 0, 0, members.length);
            else vote(dispute, members, members.length / 2, members.length / 2, 1);
            if (l == 0 && juries.disputeRecord(dispute).level == 0) break;
        }
        pass(DISPUTE);
        (bool done,) = address(ledger).call(abi.encodeCall(juries.decide, (dispute)));
        done;
        juries.closeDispute(dispute);
        conserved();
    }

    function test_sizes_ofElevenWithThreeLevels() public {
        _deployWith(5, 2);
        uint256 dispute = challenge(_task, 1);
        eq(decided(dispute, true).length, 5, "first");
        appeal(dispute, 2 * BOND);
        eq(decided(dispute, false).length, 11, "second");
        appeal(dispute, 4 * BOND);
        eq(decided(dispute, true).length, 23, "third");
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NoHigherJury.selector));
        juries.appeal{value: 8 * BOND}(dispute);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        eq(free(APPELLANT), 4 * BOND, "the appeal that was right");
        conserved();
    }

    function test_sizes_withoutAppeals_endAtOnce() public {
        _deployWith(3, 0);
        eq(accounts.seatsOnAllLevels(), 3, "seats");
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = decided(dispute, false);
        refused(APPELLANT, abi.encodeWithSelector(IFedLedger.NoHigherJury.selector));
        juries.appeal{value: 2 * BOND}(dispute);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(free(owner(members[0])), BOND / 4 / 3, "juror");
        conserved();
    }

    function test_sizes_withoutAppeals_undecidedOrUnable_endAtOnce() public {
        _deployWith(3, 0);
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        uint256 state = vm.snapshotState();
        vote(dispute, members, 1, 1, 1);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Undecided);
        vm.revertToState(state);
        vote(dispute, members, 0, 1, 2);
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Unjudged);
        eq(free(CHALLENGER), BOND - 0.004 ether, "challenger");
        conserved();
    }

    /// @dev Another ledger with juries of that size, 64 verifiers at most and a bond that pays all seats.
    function _deployWith(uint8 size, uint8 appeals) private {
        setUpLedger();
        IFedLedger.Settings memory s = settings();
        (s.jurySize, s.appeals, s.leastPool, s.jurorPenalty) = (size, appeals, size, 0.004 ether);
        (s.verifierAge, s.minVerifierStake) = (0, STAKE);
        use(deploy(s));
        burnedBefore();
        register(WORKERS + 70);
        IFedLedger.TaskParams memory p = defaults(uint16(WORKERS));
        setUpVerifiers(0);
        _task = post(p);
        for (uint256 i = WORKERS; i < WORKERS + 70; ++i) {
            vm.prank(owner(i));
            court.enlist();
            serve(_task, i);
        }
        enrol(_task, WORKERS);
        nextBlock();
        proposeNext(_task, 1, 250);
    }

    function _found(uint256 dispute, uint8 level_, IFedLedger.Finding expected) private view {
        eq(uint8(juries.juryOf(dispute, level_).finding), uint8(expected), "finding");
    }

    function _paid() private view returns (uint256 sum) {
        for (uint256 i = WORKERS; i < WORKERS + 30; ++i) {
            sum += free(owner(i));
        }
    }

    function _unharmed(uint32[] memory members) private view {
        for (uint256 i = 0; i < members.length; ++i) {
            eq(stakeOf(members[i]), VERIFIER_STAKE, "stake");
            eq(accounts.participant(members[i]).locks, 0, "locks");
        }
    }

    function _among(uint32 id, uint32[] memory members) private pure returns (bool) {
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] == id) return true;
        }
        return false;
    }
}
