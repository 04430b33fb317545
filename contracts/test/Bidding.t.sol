// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {Offences} from "../src/Offences.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Tasks some of whose rounds ask for bids alone. Participants 0 to 3 train; each round is judged with four verdicts.
abstract contract BiddingFixture is CourtFixture {
    uint256 internal constant HEARD = 4;
    uint8 internal constant BIDDING = 128;
    uint8 internal constant EMPTY = 16;
    uint8 internal constant SCORED = 64;

    function bidding(uint8 every) internal pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(uint16(WORKERS));
        (p.biddingEvery, p.rounds) = (every, 6);
    }

    function begin(IFedLedger.TaskParams memory p) internal returns (uint256 task) {
        task = post(p);
        enrol(task, WORKERS);
        if (p.openEnrolment) pass(p.enrolPeriod);
    }

    /// @notice An outcome that leaves the model as it is, and pays nobody.
    function idle(uint256 task, uint32 round, uint256[] memory said) internal view returns (Outcome memory o) {
        o = outcome(said, new uint256[](said.length));
        o.proposal.model = IFedLedger.ContentRef(accounts.baseModel(task, round), 1000);
    }

    function heard(uint256 task, uint32 round) internal view returns (Outcome memory) {
        return idle(task, round, verdicts(HEARD, HEARD, HEARD, HEARD));
    }

    /// @notice Opens the next round; everybody commits, and those in the mask reveal.
    function opened(uint256 task, uint256 mask) internal returns (uint32 round) {
        round = accounts.task(task).currentRound + 1;
        open(task, 15);
        for (uint256 i = 0; i < WORKERS; ++i) {
            commit(task, round, i);
        }
        for (uint256 i = 0; i < WORKERS; ++i) {
            if ((mask >> i) & 1 != 0) reveal(task, round, i);
        }
    }

    function ended(uint256 task, uint32 round, Outcome memory o) internal {
        propose(task, round, o);
        pass(5);
        settle(task, round, o);
    }

    function bid(uint256 task) internal returns (uint32 round) {
        round = opened(task, 15);
        ended(task, round, heard(task, round));
    }

    function train(uint256 task, uint256 share) internal returns (uint32 round) {
        round = opened(task, 15);
        ended(task, round, accepted(WORKERS, share));
    }

    /// @notice A round that nobody commits to.
    function voided(uint256 task) internal {
        open(task, 15);
        pass(10);
        ledger.voidRound(task, accounts.task(task).currentRound);
    }

    function isFor(uint256 task, uint32 round, bool bids) internal view {
        eq(accounts.round(task, round).flags & BIDDING, bids ? BIDDING : 0, "for bids");
    }

    function refusedProposal(uint256 task, uint32 round, Outcome memory o, bytes memory reason) internal {
        refused(AGGREGATOR, reason);
        ledger.proposeRound(task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
    }

    function wrong(uint32 id, uint256 verdict) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IFedLedger.WrongVerdict.selector, id, verdict);
    }
}

contract BiddingTest is BiddingFixture {
    uint96 private constant PENALTY = 0.1 ether;

    function setUp() public {
        setUpCourt(POOL);
    }

    /// @dev The first round, and each that comes so many after the last one that was heard.
    function testFuzz_openRound_asksForBidsEverySoOften(uint8 every) public {
        every = uint8(bound(every, 2, 5));
        uint256 task = begin(bidding(every));
        uint256 trained = 0;
        for (uint32 round = 1; trained < 6; ++round) {
            bool bids = (round - 1) % every == 0;
            if (bids) {
                eq(bid(task), round, "bids");
                eq(accounts.task(task).lastBidding, round, "last");
            } else {
                eq(train(task, 10), round, "trained");
                ++trained;
            }
            isFor(task, round, bids);
            eq(accounts.task(task).settledRounds, trained, "of the task's rounds");
        }
        eq(accounts.task(task).spentUnits, 6 * 40, "units");
        uint32 next = accounts.task(task).currentRound + 1;
        (uint32[] memory indices, uint256[] memory words) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.RoundsExhausted.selector, task));
        ledger.openRound(task, next, indices, words);
        accounts.finishTask(task);
        conserved();
    }

    function test_withoutBidding_nothingIsHeard() public {
        uint256 task = begin(defaults(uint16(WORKERS)));
        uint32 round = opened(task, 15);
        isFor(task, round, false);
        refusedProposal(task, round, heard(task, round), wrong(0, HEARD));
        Outcome memory o = outcome(verdicts(1, 1, HEARD, 1), new uint256[](4));
        refusedProposal(task, round, o, wrong(2, HEARD));
        ended(task, round, accepted(WORKERS, 1));
    }

    function test_bids_areNotAcceptedAndNotPaid() public {
        uint256 task = begin(bidding(3));
        uint32 round = opened(task, 15);
        refusedProposal(task, round, idle(task, round, verdicts(1, 1, 1, 1)), wrong(0, 1));
        refusedProposal(task, round, idle(task, round, verdicts(HEARD, HEARD, 1, HEARD)), wrong(2, 1));
        refusedProposal(task, round, idle(task, round, verdicts(HEARD, HEARD, 2, HEARD)), wrong(2, 2));
        refusedProposal(task, round, idle(task, round, verdicts(HEARD, 38, HEARD, HEARD)), wrong(1, 38));
        Outcome memory o = heard(task, round);
        o.shareWords[0] = 1 << 32;
        refusedProposal(task, round, o, abi.encodeWithSelector(IFedLedger.PayWithoutAcceptance.selector, uint32(1)));
        o = heard(task, round);
        o.proposal.model.digest = keccak256("another model");
        refusedProposal(task, round, o, abi.encodeWithSelector(IFedLedger.BelowQuorum.selector, WORKERS, uint256(2)));
        ended(task, round, heard(task, round));
        eq(accounts.baseModel(task, 2), MODEL, "the model stays");
    }

    function test_bids_ofWhoWasAbsent_areNotHeard() public {
        uint256 task = begin(bidding(3));
        uint32 round = opened(task, 7);
        pass(10);
        refusedProposal(task, round, heard(task, round), wrong(3, HEARD));
        ended(task, round, idle(task, round, verdicts(HEARD, HEARD, HEARD, 3)));
    }

    /// @dev Neither evidence nor its age; who is silent has missed, as in any round.
    function test_bids_areNoEvidence() public {
        uint256 task = begin(bidding(2));
        bid(task);
        for (uint32 id = 0; id < 4; ++id) {
            (, uint256 age) = opinions.reputationOf(PUBLISHER, id);
            eq(age, type(uint256).max, "never judged");
        }
        eq(opinions.evidenceWord(PUBLISHER, 0), 0, "no evidence");
        train(task, 10);
        pass(2 days);
        uint256 before = opinions.evidenceWord(PUBLISHER, 0);
        uint32 round = opened(task, 7);
        pass(10);
        ended(task, round, idle(task, round, verdicts(HEARD, HEARD, HEARD, 3)));
        uint256 later = opinions.evidenceWord(PUBLISHER, 0);
        eq(later & ((1 << 96) - 1), before & ((1 << 96) - 1), "as it was");
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 3);
        eq(positive, 225, "the silent one's");
        eq(negative, 0, "is not bad");
        eq(missed, 15, "has missed");
        (, uint256 old) = opinions.reputationOf(PUBLISHER, 0);
        (, uint256 young) = opinions.reputationOf(PUBLISHER, 3);
        eq(old, 2, "of who was heard");
        eq(young, 0, "of who was silent");
    }

    function test_bids_thatAreGarbageOrLate_costWhatUpdatesDo() public {
        IFedLedger.TaskParams memory p = bidding(3);
        (p.penalty, p.minStake) = (PENALTY, PENALTY);
        uint256 task = begin(p);
        uint32 round = opened(task, 7);
        pass(10);
        ended(task, round, idle(task, round, verdicts(HEARD, HEARD, 16, 3)));
        eq(stakeOf(0), STAKE, "heard");
        eq(stakeOf(2), STAKE - Offences.part(PENALTY, p.garbageShare), "garbage");
        eq(stakeOf(3), STAKE - Offences.part(PENALTY, p.neverRevealedShare), "late");
        eq(accounts.task(task).settledRounds, 0, "no round of the task");
        conserved();
    }

    /// @dev Nobody signs two bids.
    function test_twoBids_areEquivocation() public {
        IFedLedger.TaskParams memory p = bidding(3);
        (p.penalty, p.minStake, p.batched, p.gracePeriod) = (PENALTY, PENALTY, true, GRACE);
        uint256 task = begin(p);
        openAll(task);
        LedgerCourt.Claim memory one = signed(task, 1, 2, NO_PROOF);
        LedgerCourt.Claim memory other = signedAs(task, 1, 2, keccak256("another bid"), NO_PROOF);
        vm.prank(OUTSIDER);
        court.reportEquivocation(task, 1, 2, one, other);
        eq(stakeOf(2), STAKE - PENALTY - PENALTY / 8, "stake");
        conserved();
    }

    function test_batchedBids_areHeardByTheAggregator() public {
        IFedLedger.TaskParams memory p = bidding(3);
        (p.batched, p.gracePeriod) = (true, GRACE);
        uint256 task = begin(p);
        openAll(task);
        isFor(task, 1, true);
        close(task, 1, keccak256("root"), uint16(WORKERS));
        IFedLedger.Updates memory u = updatesOf(WORKERS);
        Outcome memory o = accepted(WORKERS, 0);
        o.proposal.model.digest = MODEL;
        bind(o, u);
        vm.expectRevert(wrong(0, 1));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, u);
        o = heard(task, 1);
        proposeBatch(task, 1, o, u);
        pass(5);
        settle(task, 1, o);
        openAll(task);
        isFor(task, 2, false);
        close(task, 2, keccak256("root"), uint16(WORKERS));
        o = idle(task, 2, verdicts(1, HEARD, 1, 1));
        bind(o, u);
        vm.expectRevert(wrong(1, HEARD));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 2, o.proposal, o.verdictWords, o.shareWords, u);
        o = accepted(WORKERS, 250);
        proposeBatch(task, 2, o, u);
        pass(5);
        settle(task, 2, o);
        eq(accounts.task(task).settledRounds, 1, "of the task's rounds");
    }

    /// @dev Bids that too few made, or that were never proposed, are asked for again at once.
    function test_bidsThatDoNotStand_areAskedForAgain() public {
        uint256 task = begin(bidding(5));
        voided(task);
        isFor(task, 1, true);
        uint32 round = opened(task, 1);
        isFor(task, round, true);
        pass(10);
        ended(task, round, idle(task, round, verdicts(HEARD, 3, 3, 3)));
        eq(accounts.round(task, round).flags & EMPTY, EMPTY, "below quorum");
        eq(accounts.task(task).consecutiveVoids, 2, "both were void");
        isFor(task, bid(task), true);
        isFor(task, train(task, 10), false);
    }

    /// @dev A proposal of bids can be challenged like any other; what falls is asked for again.
    function test_bidsThatAreOverturned_areAskedForAgain() public {
        uint256 task = begin(bidding(5));
        uint32 round = opened(task, 15);
        propose(task, round, heard(task, round));
        uint256 dispute = challenge(task, round);
        decided(dispute, false);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        roundIs(task, round, IFedLedger.RoundStatus.Voided);
        eq(accounts.task(task).settledRounds, 0, "not settled");
        takeSeat(task, AGGREGATOR);
        isFor(task, bid(task), true);
        isFor(task, train(task, 10), false);
        conserved();
    }

    /// @dev A round that builds on bids falls with them, and no more are in flight than may be.
    function test_stackedRounds_fallWithTheBids() public {
        IFedLedger.TaskParams memory p = bidding(5);
        p.maxUnfinal = 3;
        uint256 task = begin(p);
        uint32 round = opened(task, 15);
        propose(task, round, heard(task, round));
        uint256 dispute = challenge(task, round);
        // What it has deposited is held for the dispute.
        takeSeat(task, AGGREGATOR);
        proposeNext(task, 2, 10);
        isFor(task, 2, false);
        decided(dispute, false);
        closeLate(dispute);
        roundIs(task, 2, IFedLedger.RoundStatus.Voided);
        eq(accounts.task(task).latestRound, 0, "the first model");
        isFor(task, bid(task), true);
    }

    /// @dev Who bids and never trains keeps no task from being ended.
    function test_bidsBetweenVoids_doNotResetThem() public {
        uint256 task = begin(bidding(2));
        for (uint256 i = 0; i < 3; ++i) {
            eq(accounts.task(task).consecutiveVoids, i, "voids");
            if (i != 0) {
                refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.TaskNotFinishable.selector, task));
                accounts.finishTask(task);
            }
            bid(task);
            voided(task);
        }
        vm.prank(PUBLISHER);
        accounts.finishTask(task);
        conserved();
    }

    function test_training_endsARowOfVoids() public {
        uint256 task = begin(bidding(3));
        bid(task);
        voided(task);
        eq(accounts.task(task).consecutiveVoids, 1, "void");
        voided(task);
        bid(task);
        train(task, 1);
        eq(accounts.task(task).consecutiveVoids, 0, "trained");
    }

    /// @dev Nobody is left out of a round for bids: neither in a list of some, nor by who enrols meanwhile.
    function test_openRound_forBids_asksEverybody() public {
        IFedLedger.TaskParams memory p = bidding(3);
        (p.openEnrolment, p.maxParticipants) = (true, 5);
        uint256 task = post(p);
        enrol(task, 3);
        pass(p.enrolPeriod);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, uint256(2), uint256(3)));
        ledger.openRound(task, 1, indices, words);
        vm.prank(signer(3));
        opinions.enrol(task);
        words[0] = 7;
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooFewParticipants.selector, uint256(3), uint256(4)));
        ledger.openRound(task, 1, indices, words);
        bid(task);
        // A round that trains may leave some out.
        open(task, 3);
        isFor(task, 2, false);
    }

    function test_rounds_forBids_haveNoScorers() public {
        IFedLedger.TaskParams memory p = bidding(2);
        (p.scorers, p.scorePeriod, p.scoreSpread, p.scoreFloor) = (3, 20, 12, 400);
        uint256 task = begin(p);
        uint32 round = opened(task, 15);
        eq(accounts.round(task, round).flags & SCORED, 0, "not scored");
        (uint32[] memory indices,) = selection(0, 15);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotScored.selector, task));
        opinions.callScorers(task, round, indices, new uint256[](0), NO_UPDATES);
        ended(task, round, heard(task, round));
        round = opened(task, 15);
        eq(accounts.round(task, round).flags & SCORED, SCORED, "scored");
        refusedProposal(
            task, round, accepted(WORKERS, 1), abi.encodeWithSelector(IFedLedger.NotTallied.selector, task, round)
        );
    }

    function test_postTask_badBidding_isRefusedByName() public {
        IFedLedger.TaskParams memory p = bidding(1);
        _refusedParameter(p, "biddingEvery");
        // A round selects no more.
        (p.biddingEvery, p.maxParticipants) = (2, 1025);
        _refusedParameter(p, "maxParticipants");
        (p.maxParticipants, p.poolsPay, p.maxUnfinal) = (1024, true, 2);
        _refusedParameter(p, "poolsPay");
        p.maxUnfinal = 1;
        post(p);
        (p.biddingEvery, p.maxParticipants, p.poolsPay, p.maxUnfinal) = (0, 4096, false, 8);
        post(p);
        (p.biddingEvery, p.maxParticipants) = (255, 1024);
        post(p);
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p)}(p, NO_STANDBYS);
    }
}

/// @notice Tasks in which a round may pay what earlier ones have left.
contract PooledPayTest is BiddingFixture {
    uint256 private constant UNITS = 1000;

    function setUp() public {
        setUpCourt(POOL);
    }

    /// @dev Rounds do what they like, in any order; at every time no more is paid than was released, a unit more is refused,
    /// and every wei has one owner.
    function testFuzz_pooledPay_isNeverMoreThanReleased(uint256 seed, bool bids) public {
        IFedLedger.TaskParams memory p = bidding(bids ? 3 : 0);
        p.poolsPay = true;
        uint256 task = begin(p);
        (uint256 released, uint256 paid) = (0, 0);
        for (uint256 step = 0; step < 12 && released < p.rounds * UNITS; ++step) {
            uint256 chance = uint256(keccak256(abi.encode(seed, step)));
            if (chance % 8 == 0) {
                voided(task);
                continue;
            }
            bool few = chance % 8 == 1;
            uint32 round = opened(task, few ? 1 : 15);
            if (few) pass(10);
            bool asks = accounts.round(task, round).flags & BIDDING != 0;
            if (few || asks) {
                uint256 one = asks ? HEARD : 1;
                uint256 other = few ? 3 : one;
                ended(task, round, idle(task, round, verdicts(one, other, other, other)));
                continue;
            }
            uint256 left = released + UNITS - paid;
            uint256 given = chance % 8 == 2 ? 0 : chance % 8 == 3 ? left : (chance >> 8) % (left + 1);
            Outcome memory o = accepted(WORKERS, 0);
            o.shareWords[0] = (left + 1) << 32;
            refusedProposal(task, round, o, abi.encodeWithSelector(IFedLedger.PayOverBudget.selector, left + 1, left));
            o.shareWords[0] = given << 32;
            propose(task, round, o);
            if (chance % 8 == 4) {
                // What falls has paid nothing, and is left for later ones.
                uint256 dispute = challenge(task, round);
                decided(dispute, false);
                closeLate(dispute);
                takeSeat(task, AGGREGATOR);
            } else {
                pass(5);
                settle(task, round, o);
                (released, paid) = (released + UNITS, paid + given);
            }
            eq(accounts.task(task).spentUnits, paid, "spent");
            eq(accounts.creditOf(task, 1), paid, "credit");
            eq(paid <= released ? 1 : 0, 1, "no more than released");
            conserved();
        }
        pass(1 days);
        accounts.finishTask(task);
        eq(free(PUBLISHER), (p.rounds * UNITS - paid) * p.creditUnit, "refund");
        conserved();
    }

    function test_notPooled_roundsPayTheirOwnAlone() public {
        uint256 task = begin(bidding(0));
        train(task, 0);
        uint32 round = opened(task, 15);
        refusedProposal(
            task,
            round,
            accepted(WORKERS, 251),
            abi.encodeWithSelector(IFedLedger.PayOverBudget.selector, uint256(1004), UNITS)
        );
        ended(task, round, accepted(WORKERS, 250));
    }

    /// @dev Half settled, a round has paid some of it; nothing can be opened on it.
    function test_pooledPay_ofARoundThatIsHalfSettled() public {
        IFedLedger.TaskParams memory p = defaults(16);
        (p.poolsPay, p.rounds) = (true, 3);
        registerFrom(WORKERS + POOL, 16 - WORKERS - POOL);
        uint256 task = post(p);
        enrol(task, 16);
        Outcome memory o = everybody(16, 20);
        open(task, 0xffff);
        commitAndReveal(task, 1, 16);
        propose(task, 1, o);
        pass(5);
        settle(task, 1, o, 1);
        (uint32[] memory indices, uint256[] memory words) = selection(0, 0xffff);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TooManyUnfinal.selector, task));
        ledger.openRound(task, 2, indices, words);
        settle(task, 1, o, 1);
        // 16 times 20, and 0 to 15.
        eq(accounts.task(task).spentUnits, 440, "spent");
        conserved();
    }
}
