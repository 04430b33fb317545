// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice Whom a deposit answers to while there are disputes about its seat. A liar that is found out would rather lose it
/// to a friend: the friend proves a fault that the liar planted, or stands in the way of who challenged.
contract HeldTest is CourtFixture {
    address private constant FRIEND = STANDBY;
    uint32 private constant WINDOW = 44;
    uint256 private constant PROVED = BOND / 8;
    uint256 private constant WON = BOND - PROVED;
    uint256 private _task;

    function setUp() public {
        setUpCourt(9);
        IFedLedger.TaskParams memory p = batched(4);
        (p.maxUnfinal, p.challengeWindow, p.rounds) = (3, WINDOW, 6);
        _task = post(p);
        enrol(_task, WORKERS);
    }

    function test_hold_movesTheDeposit_andUpheldReturnsItToTheSeat() public {
        _planted(1);
        vm.expectEmit(address(ledger));
        emit IFedLedger.DepositHeld(_task, 0, BOND);
        uint256 dispute = challenge(_task, 1);
        _seatHas(0, BOND);
        eq(juries.heldOf(_task, 0).first, dispute + 1, "first");
        conserved();
        decided(dispute, true);
        pass(DISPUTE);
        vm.expectEmit(address(ledger));
        emit IFedLedger.DepositReturned(_task, 0, BOND);
        juries.closeDispute(dispute);
        _seatHas(BOND, 0);
        eq(free(AGGREGATOR), BOND / 2, "half of the challenger's bond");
        conserved();
    }

    /// @dev Whoever has its deposit held goes on with another one. Then what was held is the holder's own again.
    function test_held_returnsToTheHolder_ifTheSeatHasAnotherDeposit() public {
        _planted(1);
        uint256 dispute = challenge(_task, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, AGGREGATOR, 0, BOND));
        ledger.openRound(_task, 2, new uint32[](0), new uint256[](0));
        takeSeat(_task, AGGREGATOR);
        _planted(2);
        _seatHas(BOND, BOND);
        decided(dispute, true);
        closeLate(dispute);
        _seatHas(BOND, 0);
        eq(free(AGGREGATOR), BOND + BOND / 2, "holder");
        conserved();
    }

    /// @dev A task can be finished over a dispute whose round is void; what is held comes to the holder later.
    function test_held_returnsToTheHolder_ifTheTaskIsFinished() public {
        _planted(1);
        uint256 demand = _demand(1);
        uint256 dispute = challenge(_task, 1);
        _undecided(dispute);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        pass(500);
        accounts.finishTask(_task);
        _seatHas(0, BOND);
        eq(free(AGGREGATOR), 0, "not yet");
        juries.closeDispute(demand);
        _seatHas(0, 0);
        eq(free(AGGREGATOR), BOND, "deposit");
        eq(free(CHALLENGER), 2 * BOND, "bonds");
        conserved();
    }

    /// @dev What is held is neither forfeited for silence nor paid as a bounty.
    function test_held_isNotTakenForSilence() public {
        _planted(1);
        openAll(_task);
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        pass(30);
        vm.prank(FRIEND);
        ledger.voidRound(_task, 2);
        eq(free(FRIEND), 0, "nothing for the friend");
        juries.closeDispute(dispute);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    function test_held_paysNoBounty() public {
        _planted(1);
        _planted(2);
        challenge(_task, 2);
        pass(WINDOW + 10);
        vm.prank(FRIEND);
        ledger.settleRound(_task, 1, _outcome(1).proposal, _outcome(1).verdictWords, _outcome(1).shareWords, ALL);
        eq(free(FRIEND), 0, "bounty");
        _seatHas(0, BOND);
    }

    function test_refuted_sameRound_paysTheChallengerAndItsJurors() public {
        _planted(1);
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        commitVote(dispute, members[0], false, TRANSCRIPT);
        commitVote(dispute, members[1], false, TRANSCRIPT);
        _refute(1);
        eq(free(FRIEND), PROVED, "friend");
        _seatHas(0, 0);
        eq(juries.disputeRecord(dispute).won, WON, "won");
        conserved();
        juries.closeDispute(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Moot);
        eq(free(CHALLENGER), BOND + WON / 2, "challenger");
        eq(free(owner(members[0])), WON / 4 / 2, "juror");
        eq(free(owner(members[1])), WON / 4 / 2, "juror");
        eq(free(owner(members[2])) + VERIFIER_STAKE - stakeOf(members[2]), 0, "who had not voted yet");
        eq(burned(), WON - WON / 2 - WON / 4 / 2 * 2, "burned");
        conserved();
    }

    function test_refuted_sameRound_beforeAnyVote_paysTheChallenger() public {
        _planted(1);
        uint256 dispute = challenge(_task, 1);
        _refute(1);
        juries.closeDispute(dispute);
        eq(free(CHALLENGER), BOND + WON / 2, "challenger");
        eq(burned(), WON - WON / 2, "burned");
        conserved();
    }

    /// @dev The round that is challenged falls with an earlier one: all that its challenger would have won is not lost.
    function test_refuted_earlierRound_paysTheFirstDispute() public {
        _planted(1);
        _planted(2);
        uint256 dispute = challenge(_task, 2);
        uint32[] memory members = draw(dispute);
        commitVote(dispute, members[0], false, TRANSCRIPT);
        _refute(1);
        eq(free(FRIEND), PROVED, "friend");
        _seatHas(0, 0);
        juries.closeDispute(dispute);
        eq(free(CHALLENGER), BOND + WON / 2, "challenger");
        eq(free(owner(members[0])), WON / 4, "juror");
        conserved();
    }

    /// @dev The deposit is lost, but the first dispute has the first claim on it.
    function test_refuted_laterRound_leavesTheFirstDisputeItsClaim() public {
        _planted(1);
        _planted(2);
        uint256 dispute = challenge(_task, 1);
        uint32[] memory members = draw(dispute);
        _refute(2);
        eq(free(FRIEND), 0, "friend");
        eq(juries.heldOf(_task, 0).condemned ? 1 : 0, 1, "condemned");
        vote(dispute, members, 0, 3);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        eq(free(owner(members[0])), BOND / 4 / 3, "juror");
        _seatHas(0, 0);
        conserved();
    }

    function test_refuted_laterRound_burnsWhatTheFirstDisputeDoesNotNeed() public {
        _planted(1);
        _planted(2);
        uint256 dispute = challenge(_task, 1);
        _refute(2);
        decided(dispute, true);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        eq(free(AGGREGATOR), BOND / 2, "half of the challenger's bond, and no deposit");
        _seatHas(0, 0);
        conserved();
    }

    function test_overturned_laterRound_takesNothingFromTheFirstDispute() public {
        _planted(1);
        _planted(2);
        uint256 first = challenge(_task, 1);
        vm.prank(FRIEND);
        uint256 second = juries.challengeRound{value: BOND}(_task, 2);
        decided(first, false);
        decided(second, false);
        pass(DISPUTE);
        juries.closeDispute(second);
        statusIs(second, IFedLedger.DisputeStatus.Overturned);
        eq(free(FRIEND), BOND, "its bond");
        juries.closeDispute(first);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    /// @dev A friend's own dispute comes first, and ends: then the oldest one that is left comes first.
    function test_claim_passesToTheOldestDisputeThatIsLeft() public {
        (uint256 sham, uint256 honest) = _shamFirst();
        eq(juries.heldOf(_task, 0).first, honest + 1, "first");
        _refute(3);
        eq(free(FRIEND), 0, "nothing for the friend");
        juries.closeDispute(honest);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        statusIs(sham, IFedLedger.DisputeStatus.Upheld);
        _seatHas(0, 0);
        conserved();
    }

    /// @dev The deposit is condemned while the friend's dispute comes first: the next one has its claim before it is burned.
    function test_condemned_isBurnedOnlyIfNobodyElseHasAClaim() public {
        _planted(1);
        uint256 demand = _demandBy(FRIEND, 1);
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        _planted2();
        _refute(2);
        eq(juries.heldOf(_task, 0).condemned ? 1 : 0, 1, "condemned");
        _shown(demand);
        juries.closeDispute(dispute);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    /// @dev What was condemned and then taken is paid: what the seat deposits afterwards is not lost for it.
    function test_condemned_andTaken_doesNotCostTheNextDeposit() public {
        _planted(1);
        uint256 demand = _demandBy(FRIEND, 1);
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        _planted2();
        _refute(2);
        pass(DISPUTE);
        juries.closeDispute(dispute);
        takeSeat(_task, AGGREGATOR);
        _planted(4);
        uint256 next = challenge(_task, 4);
        juries.closeDispute(demand);
        decided(next, true);
        closeLate(next);
        statusIs(next, IFedLedger.DisputeStatus.Upheld);
        _seatHas(BOND, 0);
        conserved();
    }

    /// @dev Nor does it help the friend to be the first one with another round, by a demand or by a challenge.
    function test_refuted_behindAFriendsDemand_leavesTheChallengeItsClaim() public {
        _three();
        _demandBy(FRIEND, 3);
        _refutedBetween();
    }

    function test_refuted_behindAFriendsChallenge_leavesTheChallengeItsClaim() public {
        _three();
        vm.prank(FRIEND);
        juries.challengeRound{value: BOND}(_task, 3);
        _refutedBetween();
    }

    function test_refuted_earlierRound_behindAFriendsDemand_paysTheChallenger() public {
        _three();
        _demandBy(FRIEND, 2);
        uint256 dispute = challenge(_task, 2);
        _refute(1);
        juries.closeDispute(dispute);
        eq(free(CHALLENGER), BOND + WON / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    /// @dev Who comes later has no claim on what was won before it, though it challenges an earlier round.
    function test_overturned_laterRound_beforeALaterChallenge_isPaid() public {
        _three();
        uint256 honest = challenge(_task, 2);
        decided(honest, false);
        vm.prank(FRIEND);
        uint256 sham = juries.challengeRound{value: BOND}(_task, 1);
        pass(DISPUTE);
        juries.closeDispute(honest);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        pass(DISPUTE);
        juries.decide(sham);
        conserved();
    }

    /// @dev A seat that has lost its deposit makes another one: that is lost as well, though old disputes are still open.
    function test_refuted_overAForgottenDispute_losesTheNewDeposit() public {
        _planted(1);
        _planted(2);
        uint256 dispute = challenge(_task, 1);
        uint256 forgotten = challenge(_task, 2);
        decided(dispute, false);
        closeLate(dispute);
        takeSeat(_task, AGGREGATOR);
        _planted(3);
        _refute(3);
        eq(free(FRIEND), PROVED, "prover");
        _seatHas(0, 0);
        juries.closeDispute(forgotten);
        statusIs(forgotten, IFedLedger.DisputeStatus.Moot);
        conserved();
    }

    /// @dev Two false proposals by two deposits cost both.
    function test_refuted_bySecondDeposit_losesThatOne() public {
        _planted(1);
        uint256 dispute = challenge(_task, 1);
        takeSeat(_task, AGGREGATOR);
        _planted(2);
        _refute(2);
        eq(free(FRIEND), PROVED, "prover");
        decided(dispute, false);
        closeLate(dispute);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    /// forge-config: default.fuzz.runs = 64
    /// @dev Whatever rounds are challenged, refuted and judged, in any order: no wei is lost, nothing stays held, and who
    /// lied has no deposit left.
    function testFuzz_disputesInAnyOrder_keepNothingHeld(uint256 seed) public {
        _three();
        bool lied = false;
        uint256 count = 0;
        for (uint256 step = 0; step < 8; ++step) {
            uint256 way = (seed >> (16 * step)) % 16;
            uint32 round = uint32(1 + (seed >> (16 * step + 4)) % 3);
            if (accounts.round(_task, round).status != IFedLedger.RoundStatus.Proposed) continue;
            if (way < 6 && juries.disputeCount() < 3) _tryChallenge(round);
            else if (way < 8) _demandBy(FRIEND, round);
            else if (way < 10) lied = _tryRefute(round) || lied;
            else if (juries.disputeCount() != 0) lied = _judge(seed % juries.disputeCount(), way < 14) || lied;
            conserved();
        }
        count = juries.disputeCount();
        for (uint256 id = count; id > 0; --id) {
            uint256 at = seed % 2 == 0 ? id - 1 : count - id;
            lied = _finish(at, (seed >> at) & 1 == 0) || lied;
            conserved();
        }
        eq(juries.heldOf(_task, 0).amount, 0, "held");
        eq(juries.heldOf(_task, 0).disputes, 0, "disputes");
        eq(accounts.seats(_task)[0].deposit, lied ? 0 : BOND, "deposit");
    }

    function _tryChallenge(uint32 round) private {
        vm.prank(CHALLENGER);
        (bool done,) = address(ledger).call{value: BOND}(abi.encodeCall(juries.challengeRound, (_task, round)));
        done;
    }

    function _tryRefute(uint32 round) private returns (bool) {
        _refute(round);
        return accounts.round(_task, round).status == IFedLedger.RoundStatus.Voided;
    }

    /// @dev The jury of a level agrees, if there is one that can be drawn.
    function _judge(uint256 id, bool yes) private returns (bool lied) {
        IFedLedger.Dispute memory d = juries.disputeRecord(id);
        bool open_ = d.status == IFedLedger.DisputeStatus.Open && d.kind == IFedLedger.DisputeKind.Replay;
        if (!open_ || accounts.round(_task, d.round).status != IFedLedger.RoundStatus.Proposed) return false;
        if (juries.juryOf(id, d.level).decided || juries.juryOf(id, d.level).drawUntil <= vm.getBlockTimestamp()) {
            return false;
        }
        decided(id, yes);
        return false;
    }

    /// @dev Ends a dispute: a replay by what was found, or by nothing; a demand by silence.
    function _finish(uint256 id, bool yes) private returns (bool lied) {
        _judge(id, yes);
        for (uint256 step = 0; juries.disputeRecord(id).status == IFedLedger.DisputeStatus.Open; ++step) {
            pass(2 * DISPUTE);
            (bool done,) = address(ledger).call(abi.encodeCall(juries.decide, (id)));
            (done,) = address(ledger).call(abi.encodeCall(juries.closeDispute, (id)));
            eq(step > 6 ? 1 : 0, 0, "steps to the end");
        }
        return juries.disputeRecord(id).status == IFedLedger.DisputeStatus.Overturned;
    }

    /// @dev A friend challenges the first round, which is right, and the second one is challenged in earnest.
    function _shamFirst() private returns (uint256 sham, uint256 honest) {
        _three();
        vm.prank(FRIEND);
        sham = juries.challengeRound{value: BOND}(_task, 1);
        decided(sham, true);
        honest = challenge(_task, 2);
        decided(honest, false);
        closeLate(sham);
        _seatHas(0, BOND);
    }

    function _three() private {
        for (uint32 round = 1; round <= 3; ++round) {
            _planted(round);
        }
    }

    /// @dev The first round is challenged, and the second one refuted.
    function _refutedBetween() private {
        uint256 dispute = challenge(_task, 1);
        decided(dispute, false);
        _refute(2);
        eq(free(FRIEND), 0, "nothing for the friend");
        closeLate(dispute);
        eq(free(CHALLENGER), BOND + BOND / 2, "challenger");
        _seatHas(0, 0);
        conserved();
    }

    function _undecided(uint256 dispute) private {
        for (uint256 l = 0; l < 3; ++l) {
            pass(DISPUTE);
            juries.decide(dispute);
        }
        juries.closeDispute(dispute);
    }

    function _seatHas(uint256 deposit, uint256 held) private view {
        eq(accounts.seats(_task)[0].deposit, deposit, "deposit");
        eq(juries.heldOf(_task, 0).amount, held, "held");
    }

    function _outcome(uint32 round) private pure returns (Outcome memory o) {
        o = accepted(4, round);
        bind(o, updatesOf(4));
    }

    /// @dev A round with two commitments of participant 0 in its root, whose proposal is of everybody.
    function _planted(uint32 round) private {
        openAll(_task);
        (bytes32 one, bytes32 other) = (_leafOf("one"), _leafOf("other"));
        close(_task, round, keccak256(one < other ? bytes.concat(one, other) : bytes.concat(other, one)), 4);
        proposeBatch(_task, round, _outcome(round), updatesOf(4));
    }

    /// @dev A second round on another deposit that is spent before.
    function _planted2() private {
        takeSeat(_task, AGGREGATOR);
        _planted(2);
        // A friend takes the turn over, and with it half of the new deposit.
        openAll(_task);
        pass(20);
        vm.prank(FRIEND);
        ledger.voidRound(_task, 3);
        eq(free(FRIEND), BOND / 8, "for the void");
    }

    function _leafOf(string memory name) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(uint32(0), keccak256(bytes(name))))));
    }

    function _refute(uint32 round) private {
        LedgerCourt.Claim memory a;
        LedgerCourt.Claim memory b;
        (a.commitment, b.commitment) = (keccak256("one"), keccak256("other"));
        (a.proof, b.proof) = (new bytes32[](1), new bytes32[](1));
        (a.proof[0], b.proof[0]) = (_leafOf("other"), _leafOf("one"));
        vm.prank(FRIEND);
        court.refuteDuplicate(_task, round, 0, a, b);
    }

    function _demand(uint32 round) private returns (uint256) {
        return _demandBy(CHALLENGER, round);
    }

    function _demandBy(address by, uint32 round) private returns (uint256) {
        IFedLedger.Posted memory nothing;
        vm.prank(by);
        return court.demandCommitment{value: BOND}(_task, round, 0, nothing);
    }

    /// @dev The commitment that the root has of participant 0 is shown: it signed it.
    function _shown(uint256 demand) private {
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leafOf("other");
        court.showCommitment(demand, signedAs(_task, 1, 0, keccak256("one"), proof));
    }
}
