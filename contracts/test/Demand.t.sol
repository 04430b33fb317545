// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice What an aggregator of a batched round must show, and what shows that it was wrong.
contract DemandTest is CourtFixture {
    uint256 private _task;
    bytes32[] private _of0;
    bytes32[] private _of1;

    function setUp() public {
        setUpCourt(3);
        _task = post(batched(4));
        enrol(_task, 4);
        openAll(_task);
    }

    function test_demand_ofADirectTask_isRefused() public {
        uint256 task = proposedRound();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotBatched.selector, task));
        court.demandCommitment{value: BOND}(task, 1, 0, posted(accepted(4, 250)));
    }

    function test_demand_outOfTheWindow_orOfAStranger_isRefused() public {
        Outcome memory o = _proposed();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotSelected.selector, 4));
        court.demandCommitment{value: BOND}(_task, 1, 4, posted(o));
        pass(5);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotChallengeable.selector, _task, 1));
        court.demandCommitment{value: BOND}(_task, 1, 0, posted(o));
    }

    function test_demand_ofWhoWasCalledMissing_isRefused() public {
        Outcome memory o = _proposed();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.demandCommitment{value: BOND}(_task, 1, 3, posted(o));
    }

    function test_demand_withAnotherProposal_isRefused() public {
        Outcome memory o = _proposed();
        bytes32 expected = keccak256(abi.encode(o.proposal, o.verdictWords, o.shareWords));
        o.verdictWords[0] ^= 3;
        bytes32 found = keccak256(abi.encode(o.proposal, o.verdictWords, o.shareWords));
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.WrongProposal.selector, expected, found));
        court.demandCommitment{value: BOND}(_task, 1, 0, posted(o));
    }

    function test_demand_shown_paysTheAggregatorHalfTheBond() public {
        Outcome memory o = _proposed();
        uint256 dispute = _demand(o, 0);
        phaseIs(_task, IFedLedger.Phase.Disputed, "phase");
        conserved();
        LedgerCourt.Claim memory claim = signed(_task, 1, 0, _of0);
        vm.expectEmit(address(ledger));
        emit IFedLedger.CommitmentShown(dispute, claim.commitment, claim.signature);
        vm.prank(OUTSIDER);
        court.showCommitment(dispute, claim);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        eq(free(AGGREGATOR), BOND / 2, "aggregator");
        eq(burned(), BOND / 2, "burned");
        conserved();
        pass(5);
        settle(_task, 1, o);
    }

    function test_demand_shownByAnOldSignature_isAnswered() public {
        uint256 dispute = _demand(_proposed(), 1);
        agree(address(0x999), owner(1));
        vm.prank(owner(1));
        accounts.rotateSigner(address(0x999));
        court.showCommitment(dispute, signed(_task, 1, 1, _of1));
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
    }

    function test_show_wrongSigner_placeOrSignature_isRefused() public {
        uint256 dispute = _demand(_proposed(), 0);
        LedgerCourt.Claim memory claim = signed(_task, 1, 0, _of0);
        claim.signature = signature(key(1), _task, 1, 0, claim.commitment);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongSignature.selector, signer(1)));
        court.showCommitment(dispute, claim);
        LedgerCourt.Claim memory other = signed(_task, 1, 0, _of1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.showCommitment(dispute, other);
        other = signedAs(_task, 1, 0, keccak256("other"), _of0);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.showCommitment(dispute, other);
        claim.signature = new bytes(64);
        refused(AGGREGATOR, abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 64));
        court.showCommitment(dispute, claim);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.UnknownDispute.selector, 5));
        court.showCommitment(5, claim);
    }

    function test_demand_unanswered_overturnsTheRound() public {
        uint256 dispute = _demand(_proposed(), 2);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotInTime.selector, vm.getBlockTimestamp() + DISPUTE, ALL));
        juries.closeDispute(dispute);
        closeLate(dispute);
        statusIs(dispute, IFedLedger.DisputeStatus.Overturned);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND + BOND / 8, "challenger");
        eq(accounts.seats(_task)[0].deposit, 0, "deposit");
        eq(burned(), BOND - BOND / 8, "burned");
        conserved();
    }

    /// @dev As long as nobody has closed the dispute, an answer is not too late.
    function test_demand_answeredAfterTheDeadline_stillCounts() public {
        uint256 dispute = _demand(_proposed(), 0);
        pass(100);
        LedgerCourt.Claim memory claim = signed(_task, 1, 0, _of0);
        court.showCommitment(dispute, claim);
        statusIs(dispute, IFedLedger.DisputeStatus.Upheld);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.DisputeIsClosed.selector, dispute));
        court.showCommitment(dispute, claim);
    }

    /// @dev Whoever says that nobody is missing must hold everybody's commitment, also of who is called missing.
    function test_demand_completeRoot_mayBeOfAnybodySelected() public {
        close(_task, 1, keccak256("nobody's root"), 4);
        Outcome memory o = outcome(verdicts(1, 1, 2, 2), new uint256[](4));
        pass(10);
        proposeBatch(_task, 1, o, updatesOf(2));
        IFedLedger.Posted memory empty;
        vm.prank(CHALLENGER);
        uint256 dispute = court.demandCommitment{value: BOND}(_task, 1, 3, empty);
        closeLate(dispute);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
    }

    /// @dev Who committed on chain cannot make the aggregator answer for a signature that there never was: not now, and not
    /// after it has committed in the next round.
    function test_demand_ofWhoCommittedOnChain_isRefusedForEver() public {
        IFedLedger.TaskParams memory p = batched(4);
        (p.maxUnfinal, p.challengeWindow) = (2, 20);
        _task = post(p);
        enrol(_task, 4);
        openAll(_task);
        Outcome memory o = _forcedAndProposed(1);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.demandCommitment{value: BOND}(_task, 1, 2, posted(o));
        openAll(_task);
        _forcedAndProposed(2);
        eq(accounts.hasCommitted(_task, 1, 2) ? 1 : 0, 1, "still known");
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.demandCommitment{value: BOND}(_task, 1, 2, posted(o));
    }

    /// @dev What was sent to the chain in one round is revealed there after another one was sent in the next.
    function test_reveal_ofAnEarlierCommitmentOnChain_isTakenInItsWindow() public {
        IFedLedger.TaskParams memory p = batched(4);
        (p.maxUnfinal, p.challengeWindow) = (2, 20);
        _task = post(p);
        enrol(_task, 4);
        openAll(_task);
        _forcedAndProposed(1);
        openAll(_task);
        _forcedAndProposed(2);
        reveal(_task, 1, 2);
        eq(accounts.revealedWord(_task, 1, 0), 4, "revealed");
    }

    /// @dev Two hundred demands leave room for a replay.
    function test_challenge_isPossibleHoweverManyDemandsThereAre() public {
        Outcome memory o = _proposed();
        for (uint256 i = 0; i < 200; ++i) {
            _demand(o, 0);
        }
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.TooManyDisputes.selector));
        court.demandCommitment{value: BOND}(_task, 1, 0, posted(o));
        uint256 dispute = challenge(_task, 1);
        eq(accounts.round(_task, 1).disputes, 201, "disputes");
        decided(dispute, false);
        juries.closeDispute(dispute);
        juries.closeDispute(0);
        statusIs(0, IFedLedger.DisputeStatus.Moot);
        conserved();
    }

    function test_functionsOfTheOtherKind_areRefused() public {
        Outcome memory o = _proposed();
        uint256 demand = _demand(o, 0);
        uint256 replay = challenge(_task, 1);
        bytes memory wrong = abi.encodeWithSelector(IFedLedger.WrongKind.selector, demand);
        refused(OUTSIDER, wrong);
        juries.drawJury(demand);
        refused(OUTSIDER, wrong);
        juries.commitVote(demand, SALT);
        refused(OUTSIDER, wrong);
        juries.revealVote(demand, valid(true), SALT, SALT);
        refused(OUTSIDER, wrong);
        juries.decide(demand);
        refused(OUTSIDER, wrong);
        juries.appeal(demand);
        LedgerCourt.Claim memory claim = signed(_task, 1, 0, _of0);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.WrongKind.selector, replay));
        court.showCommitment(replay, claim);
    }

    function test_refuteMissed_whoIsInTheRoot_overturnsAtOnce() public {
        _close();
        Outcome memory o = outcome(verdicts(1, 2, 1, 2), new uint256[](4));
        proposeBatch(_task, 1, o, updatesOf(2));
        LedgerCourt.Claim memory claim = signed(_task, 1, 1, _of1);
        claim.signature = "";
        vm.expectEmit(address(ledger));
        emit IFedLedger.ProposalRefuted(_task, 1, 1, CHALLENGER);
        vm.prank(CHALLENGER);
        court.refuteMissed(_task, 1, 1, claim, posted(o));
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND / 8, "reward");
        eq(burned(), BOND - BOND / 8, "burned");
        conserved();
    }

    function test_refuteMissed_whatIsNotSo_isRefused() public {
        Outcome memory o = _proposed();
        LedgerCourt.Claim memory claim = signed(_task, 1, 0, _of0);
        bytes memory reason = abi.encodeWithSelector(IFedLedger.NotRefuted.selector);
        refused(CHALLENGER, reason);
        court.refuteMissed(_task, 1, 0, claim, posted(o));
        refused(CHALLENGER, reason);
        court.refuteMissed(_task, 1, 3, claim, posted(o));
        pass(5);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotChallengeable.selector, _task, 1));
        court.refuteMissed(_task, 1, 0, claim, posted(o));
        uint256 direct = proposedRound();
        refused(CHALLENGER, reason);
        court.refuteMissed(direct, 1, 0, claim, posted(accepted(4, 250)));
    }

    /// @dev Who was not selected has no verdict that could be wrong, whatever the root holds.
    function test_refuteMissed_whoWasNotSelected_isRefused() public {
        bytes32 value = keccak256("one");
        close(_task, 1, keccak256(bytes.concat(keccak256(abi.encode(uint32(20), value)))), 4);
        Outcome memory o = accepted(4, 1);
        proposeBatch(_task, 1, o, updatesOf(4));
        LedgerCourt.Claim memory claim = LedgerCourt.Claim(value, "", NO_PROOF);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.refuteMissed(_task, 1, 20, claim, posted(o));
    }

    function test_refuteDuplicate_twoOfOneInTheRoot_overturnsAtOnce() public {
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _twice();
        proposeBatch(_task, 1, accepted(4, 1), updatesOf(4));
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.refuteDuplicate(_task, 1, 0, a, a);
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.refuteDuplicate(_task, 1, 1, a, b);
        vm.prank(CHALLENGER);
        court.refuteDuplicate(_task, 1, 0, a, b);
        roundIs(_task, 1, IFedLedger.RoundStatus.Voided);
        eq(free(CHALLENGER), BOND / 8, "reward");
        conserved();
    }

    function test_refuteDuplicate_ofADirectTask_isRefused() public {
        (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) = _twice();
        uint256 direct = proposedRound();
        refused(CHALLENGER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.refuteDuplicate(direct, 1, 0, a, b);
    }

    /// @dev A leaf of somebody who was not selected is nobody's commitment.
    function test_reveal_notSelectedButInTheRoot_isRefused() public {
        bytes32 value = ledger.commitmentOf(_task, 1, signer(5), MODEL, update(5), SALT);
        bytes32 root = keccak256(bytes.concat(keccak256(abi.encode(uint32(5), value))));
        close(_task, 1, root, 4);
        refused(signer(5), abi.encodeWithSelector(IFedLedger.NotSelected.selector, 5));
        ledger.revealUpdate(_task, 1, update(5), SALT, NO_PROOF);
    }

    /// @dev 0 and 1 are in the root, 2 commits on chain, 3 does not.
    function _forcedAndProposed(uint32 round) private returns (Outcome memory o) {
        (bytes32 root,,) = pair(_task, round);
        pass(10);
        close(_task, round, root, 2);
        commit(_task, round, 2);
        pass(GRACE);
        o = outcome(verdicts(1, 1, 1, 2), new uint256[](4));
        proposeBatch(_task, round, o, updatesOf(3));
    }

    function _demand(Outcome memory o, uint32 id) private returns (uint256) {
        vm.prank(CHALLENGER);
        return court.demandCommitment{value: BOND}(_task, 1, id, posted(o));
    }

    /// @dev A root of participants 0 and 1, and a count of three.
    function _close() private {
        (bytes32 root, bytes32[] memory of0, bytes32[] memory of1) = pair(_task, 1);
        (_of0, _of1) = (of0, of1);
        pass(10);
        close(_task, 1, root, 3);
        pass(GRACE + 10);
    }

    /// @dev Participant 2 is judged by an update, too, though the root does not have it.
    function _proposed() private returns (Outcome memory o) {
        _close();
        o = outcome(verdicts(1, 1, 1, 2), new uint256[](4));
        proposeBatch(_task, 1, o, updatesOf(3));
    }

    /// @dev A root of two commitments of participant 0.
    function _twice() private returns (LedgerCourt.Claim memory a, LedgerCourt.Claim memory b) {
        (a.commitment, b.commitment) = (keccak256("one"), keccak256("other"));
        bytes32 one = keccak256(bytes.concat(keccak256(abi.encode(uint32(0), a.commitment))));
        bytes32 other = keccak256(bytes.concat(keccak256(abi.encode(uint32(0), b.commitment))));
        (a.proof, b.proof) = (new bytes32[](1), new bytes32[](1));
        (a.proof[0], b.proof[0]) = (other, one);
        close(_task, 1, keccak256(one < other ? bytes.concat(one, other) : bytes.concat(other, one)), 4);
    }
}
