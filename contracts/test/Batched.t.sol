// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CurrencyLibrary} from "../src/Currency.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {Lanes} from "../src/Lanes.sol";
import {Evidence} from "../src/Evidence.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice Passes proposals on, so that a ledger sees a contract for a sender.
contract Relay {
    function pass(address to, bytes calldata data) external {
        (bool done, bytes memory reason) = to.call(data);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
    }
}

/// @notice Rounds whose commitments are signed, collected and posted as one root.
abstract contract BatchedFixture is Fixture {
    uint32 internal constant GRACE = 7;

    function batched(uint16 participants) internal pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(participants);
        p.batched = true;
        p.gracePeriod = GRACE;
    }

    function openAll(uint256 task) internal {
        uint32 next = accounts.task(task).currentRound + 1;
        vm.prank(AGGREGATOR);
        ledger.openRound(task, next, new uint32[](0), new uint256[](0));
    }

    function leaf(uint256 task, uint32 round, uint256 i) internal view returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(uint32(i), commitment(task, round, i)))));
    }

    /// @notice Root of participants 0 and 1, and the proof of either.
    function pair(uint256 task, uint32 round)
        internal
        view
        returns (bytes32 root, bytes32[] memory of0, bytes32[] memory of1)
    {
        (bytes32 a, bytes32 b) = (leaf(task, round, 0), leaf(task, round, 1));
        root = a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
        (of0, of1) = (new bytes32[](1), new bytes32[](1));
        (of0[0], of1[0]) = (b, a);
    }

    function close(uint256 task, uint32 round, bytes32 root, uint16 count) internal {
        vm.prank(AGGREGATOR);
        ledger.closeCommits(task, round, root, count, BATCH);
    }

    function updatesOf(uint256 count) internal pure returns (IFedLedger.Updates memory u) {
        u.digests = new bytes32[](count);
        u.lengthWords = new uint256[]((count + 7) / 8);
        for (uint256 i = 0; i < count; ++i) {
            u.digests[i] = update(i).digest;
            u.lengthWords[i / 8] |= uint256(update(i).length) << (32 * (i % 8));
        }
    }

    function bind(Outcome memory o, IFedLedger.Updates memory u) internal pure {
        o.proposal.updates = keccak256(abi.encodePacked(u.digests, u.lengthWords));
    }

    function proposeBatch(uint256 task, uint32 round, Outcome memory o, IFedLedger.Updates memory u) internal {
        bind(o, u);
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, round, o.proposal, o.verdictWords, o.shareWords, u);
    }

    function verdicts(uint256 a, uint256 b, uint256 c, uint256 d) internal pure returns (uint256[] memory all) {
        all = new uint256[](4);
        (all[0], all[1], all[2], all[3]) = (a, b, c, d);
    }

    function phaseIs(uint256 task, IFedLedger.Phase expected, string memory what) internal view {
        eq(uint256(ledger.phase(task)), uint256(expected), what);
    }
}

contract BatchedTest is BatchedFixture {
    uint256 private _task;

    function setUp() public {
        setUpLedger();
        register(5);
        _task = post(batched(4));
        enrol(_task, 4);
        openAll(_task);
    }

    function test_round_everybodySigned_needsNoGraceAndPays() public {
        phaseIs(_task, IFedLedger.Phase.Committing, "open");
        close(_task, 1, keccak256("root"), 4);
        phaseIs(_task, IFedLedger.Phase.Revealing, "closed early, as nobody is missing");
        Outcome memory o = accepted(4, 250);
        proposeBatch(_task, 1, o, updatesOf(4));
        phaseIs(_task, IFedLedger.Phase.Challenging, "all is there before the reveal deadline");
        pass(5);
        settle(_task, 1, o);
        for (uint32 i = 0; i < 4; ++i) {
            eq(accounts.creditOf(_task, i), 250, "credit");
            (uint256 positive,,) = opinions.evidence(PUBLISHER, i);
            eq(positive, 240, "evidence");
        }
    }

    function test_round_withoutWords_isForEverybodyEnrolled() public view {
        eq(accounts.selectedWord(_task, 1, 0), 15, "the enrolled, not all who are registered");
        eq(accounts.round(_task, 1).selected, 4, "count");
    }

    function test_closeCommits_onlyByTheAggregatorAndInTime() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotAggregator.selector, OUTSIDER));
        ledger.closeCommits(_task, 1, keccak256("root"), 4, BATCH);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        ledger.closeCommits(_task, 1, keccak256("root"), 3, BATCH);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 5, 4));
        ledger.closeCommits(_task, 1, keccak256("root"), 5, BATCH);
        pass(10);
        phaseIs(_task, IFedLedger.Phase.Closing, "deadline over");
        close(_task, 1, keccak256("root"), 3);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotClosing.selector));
        ledger.closeCommits(_task, 1, keccak256("other root"), 4, BATCH);
        eq(accounts.commitsRoot(_task, 1), keccak256("root"), "root");
    }

    function test_closeCommits_directTask_isRefused() public {
        uint256 task = post(defaults(4));
        enrol(task, 4);
        openAll(task);
        pass(10);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotBatched.selector, task));
        ledger.closeCommits(task, 1, keccak256("root"), 4, BATCH);
    }

    function test_round_neverClosed_isVoidedAndCostsTheAggregatorAlone() public {
        pass(20);
        phaseIs(_task, IFedLedger.Phase.Overdue, "no root came");
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotClosing.selector));
        ledger.closeCommits(_task, 1, keccak256("root"), 4, BATCH);
        vm.prank(OUTSIDER);
        ledger.voidRound(_task, 1);
        (uint256 positive, uint256 negative, uint256 missed) = opinions.evidence(PUBLISHER, 0);
        eq(positive + negative + missed, 0, "evidence");
        eq(accounts.seats(_task)[0].deposit, 0, "deposit");
        eq(free(OUTSIDER), 0.125 ether, "reward");
    }

    /// @dev Commitments are signed, not sent, until the root is there; then only for the grace period.
    function test_omittedSigner_forcesItselfIn_andMustBeJudged() public {
        bytes32 mine = commitment(_task, 1, 2);
        refused(signer(2), abi.encodeWithSelector(IFedLedger.NotAdmitting.selector));
        ledger.commitUpdate(_task, 1, mine);
        (bytes32 root, bytes32[] memory of0,) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        phaseIs(_task, IFedLedger.Phase.Admitting, "grace");
        refused(signer(0), abi.encodeWithSelector(IFedLedger.StillAdmitting.selector, START + 10 + GRACE));
        ledger.revealUpdate(_task, 1, update(0), SALT, of0);
        commit(_task, 1, 2);
        pass(GRACE - 1);
        commit(_task, 1, 3);
        pass(1);
        phaseIs(_task, IFedLedger.Phase.Revealing, "grace over");
        // Participant 2 reveals on chain, too: nobody may call it missing or late.
        vm.prank(signer(2));
        ledger.revealUpdate(_task, 1, update(2), SALT, NO_PROOF);
        pass(10);
        _refusedWords(verdicts(1, 1, 2, 3), 2, 2);
        _refusedWords(verdicts(1, 1, 3, 3), 2, 3);
        _refusedWords(verdicts(1, 1, 1, 2), 3, 2);
        proposeBatch(_task, 1, outcome(verdicts(1, 1, 1, 3), new uint256[](4)), updatesOf(3));
    }

    /// @dev Who is in the root and commits on chain as well holds nobody up.
    function test_propose_whoCommittedTwiceTheSame_isNotWaitedForTwice() public {
        pass(10);
        (bytes32 root,,) = pair(_task, 1);
        close(_task, 1, root, 2);
        commit(_task, 1, 0);
        pass(GRACE);
        phaseIs(_task, IFedLedger.Phase.Revealing, "revealing");
        Outcome memory o = outcome(verdicts(1, 3, 2, 2), new uint256[](4));
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.RevealsAreOpen.selector));
        proposeBatch(_task, 1, o, updatesOf(1));
        proposeBatch(_task, 1, outcome(verdicts(1, 1, 2, 2), new uint256[](4)), updatesOf(2));
        phaseIs(_task, IFedLedger.Phase.Challenging, "proposed");
    }

    function test_reveal_byProof_bindsSenderAndUpdate() public {
        (bytes32 root, bytes32[] memory of0, bytes32[] memory of1) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        pass(GRACE);
        refused(signer(2), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 2));
        ledger.revealUpdate(_task, 1, update(0), SALT, of0);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 1));
        ledger.revealUpdate(_task, 1, update(0), SALT, of1);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.NotCommitted.selector, 1));
        ledger.revealUpdate(_task, 1, update(1), SALT, of0);
        vm.prank(signer(1));
        ledger.revealUpdate(_task, 1, update(1), SALT, of1);
        refused(signer(1), abi.encodeWithSelector(IFedLedger.AlreadyRevealed.selector, 1));
        ledger.revealUpdate(_task, 1, update(1), SALT, of1);
        vm.prank(signer(0));
        ledger.revealUpdate(_task, 1, update(0), SALT, of0);
        phaseIs(_task, IFedLedger.Phase.Revealing, "the proposal may come all the same");
        proposeBatch(_task, 1, outcome(verdicts(1, 1, 2, 2), new uint256[](4)), updatesOf(2));
    }

    /// @dev Who is reported as late shows in the window that it had something to reveal.
    function test_reveal_afterTheProposal_isRecordedUntilTheWindowEnds() public {
        (bytes32 root,, bytes32[] memory of1) = pair(_task, 1);
        pass(10);
        close(_task, 1, root, 2);
        pass(GRACE + 10);
        IFedLedger.Updates memory few = updatesOf(1);
        Outcome memory below = outcome(verdicts(1, 3, 2, 2), new uint256[](4));
        bind(below, few);
        _refusedProposal(below, few, abi.encodeWithSelector(IFedLedger.BelowQuorum.selector, 1, 2));
        Outcome memory o = outcome(verdicts(1, 1, 2, 2), new uint256[](4));
        proposeBatch(_task, 1, o, updatesOf(2));
        vm.prank(signer(1));
        ledger.revealUpdate(_task, 1, update(1), SALT, of1);
        eq(accounts.revealedWord(_task, 1, 0), 2, "recorded");
        pass(5);
        refused(signer(0), abi.encodeWithSelector(IFedLedger.RevealsAreClosed.selector));
        ledger.revealUpdate(_task, 1, update(0), SALT, of1);
        settle(_task, 1, o);
    }

    function test_propose_updatesMustBeBoundCountedAndReadable() public {
        close(_task, 1, keccak256("root"), 4);
        Outcome memory o = accepted(4, 1);
        IFedLedger.Updates memory u = updatesOf(4);
        bind(o, u);
        bytes memory data = abi.encodeCall(ledger.proposeRound, (_task, 1, o.proposal, o.verdictWords, o.shareWords, u));
        Relay relay = new Relay();
        refused(address(relay), abi.encodeWithSelector(IFedLedger.NotAggregator.selector, address(relay)));
        relay.pass(address(ledger), data);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.ThroughContract.selector, AGGREGATOR));
        vm.prank(AGGREGATOR, OUTSIDER);
        ledger.proposeRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, u);
        u.digests[2] = keccak256("another");
        bytes32 found = keccak256(abi.encodePacked(u.digests, u.lengthWords));
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.WrongUpdates.selector, o.proposal.updates, found));
        u.lengthWords = new uint256[](2);
        bind(o, u);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.LengthMismatch.selector));
        u = updatesOf(5);
        bind(o, u);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 5, 4));
        u = updatesOf(3);
        bind(o, u);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.WrongCount.selector, 3, 4));
        o = outcome(verdicts(1, 1, 1, 3), new uint256[](4));
        bind(o, u);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.RevealsAreOpen.selector));
        pass(20);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.ProposalOverdue.selector));
    }

    function test_propose_directTask_takesNoUpdates() public {
        uint256 task = post(defaults(4));
        enrol(task, 4);
        openAll(task);
        commitAndReveal(task, 1, 4);
        Outcome memory o = accepted(4, 1);
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongUpdates.selector, bytes32(0), bytes32(0)));
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, updatesOf(4));
        o.proposal.updates = keccak256("more");
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.WrongUpdates.selector, o.proposal.updates, bytes32(0)));
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES);
    }

    function test_postTask_batchedWithBeacon_isRefused() public {
        IFedLedger.TaskParams memory p = batched(4);
        p.randomness = 1;
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32("randomness")));
        accounts.postTask(p, NO_STANDBYS);
    }

    function test_multicall_isAllOrNothing_andBearsNoValue() public {
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(ledger.closeCommits, (_task, 1, keccak256("root"), 4, BATCH));
        calls[1] = abi.encodeCall(ledger.closeCommits, (_task, 1, keccak256("root"), 4, BATCH));
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.NotClosing.selector));
        ledger.multicall(calls);
        calls[1] = abi.encodeCall(accounts.deposit, (COIN, 1));
        refused(AGGREGATOR, abi.encodeWithSelector(CurrencyLibrary.WrongValue.selector, 1, 0));
        ledger.multicall(calls);
        calls[1] = abi.encodeCall(juries.closeDispute, (0));
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.UnknownDispute.selector, 0));
        ledger.multicall(calls);
        calls[1] = abi.encodeCall(accounts.announce, ("https://example.org"));
        vm.prank(AGGREGATOR);
        ledger.multicall(calls);
        eq(accounts.commitsRoot(_task, 1), keccak256("root"), "root");
    }

    function _refusedWords(uint256[] memory judged, uint32 participant, uint256 verdict) private {
        uint256 count;
        for (uint256 i = 0; i < 4; ++i) {
            if (judged[i] == 1) ++count;
        }
        Outcome memory o = outcome(judged, new uint256[](4));
        IFedLedger.Updates memory u = updatesOf(count);
        bind(o, u);
        _refusedProposal(o, u, abi.encodeWithSelector(IFedLedger.WrongVerdict.selector, participant, verdict));
    }

    function _refusedProposal(Outcome memory o, IFedLedger.Updates memory u, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(_task, 1, o.proposal, o.verdictWords, o.shareWords, u);
    }
}

/// @notice Arithmetic on eight lanes at once against the same lane by lane.
contract LanesTest is Fixture {
    function testFuzz_flags(uint64 bytes_, uint8 bits, uint256 lanes) public pure {
        uint256 set;
        uint256 total;
        for (uint256 i = 0; i < 8; ++i) {
            uint256 byte_ = (bytes_ >> (8 * i)) & 0xff;
            uint256 lane = (lanes >> (32 * i)) & type(uint32).max;
            eq((Lanes.spread(bits) >> (8 * i)) & 0xff, (bits >> i) & 1, "spread");
            eq((Lanes.equal(bytes_, byte_) >> (8 * i)) & 0xff, 1, "equal");
            eq((Lanes.equal(bytes_, byte_ ^ 1) >> (8 * i)) & 0xff, 0, "unequal");
            eq((Lanes.atLeastSixteen(bytes_) >> (8 * i)) & 0xff, byte_ >= 16 ? 1 : 0, "at least sixteen");
            eq((Lanes.occupied(lanes) >> (8 * i)) & 0xff, lane != 0 ? 1 : 0, "occupied");
            eq(
                (Lanes.widen(Lanes.spread(bits)) >> (32 * i)) & type(uint32).max,
                (bits >> i) & 1 != 0 ? type(uint32).max : 0,
                "widen"
            );
            set += (bits >> i) & 1;
            total += lane;
        }
        eq(Lanes.count(Lanes.spread(bits)), set, "count");
        eq(Lanes.sum(lanes), total, "sum");
        eq(Lanes.first(Lanes.spread(bits)), bits == 0 ? 8 : _lowest(bits), "first");
    }

    function testFuzz_popcount(uint256 word) public pure {
        uint256 set;
        for (uint256 i = 0; i < 256; ++i) {
            set += (word >> i) & 1;
        }
        eq(Lanes.popcount(word), set, "popcount");
    }

    function test_popcount_extremes() public pure {
        eq(Lanes.popcount(type(uint256).max), 256, "all");
        eq(Lanes.popcount(0), 0, "none");
        eq(Lanes.sum(type(uint256).max), 8 * uint256(type(uint32).max), "greatest sum");
    }

    function testFuzz_afterAcceptance_equalsTheSingleLane(uint256 lanes) public pure {
        uint256 next = Evidence.afterAcceptance(lanes);
        for (uint256 i = 0; i < 8; ++i) {
            uint256 lane = (lanes >> (32 * i)) & type(uint32).max;
            eq((next >> (32 * i)) & type(uint32).max, Evidence.afterVerdict(lane, 1), "lane");
        }
    }

    function _lowest(uint8 bits) private pure returns (uint256 place) {
        while ((bits >> place) & 1 == 0) ++place;
    }
}
