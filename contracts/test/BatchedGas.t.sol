// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Lanes} from "../src/Lanes.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice Gas of a participant in a whole batched round: opening with the settlement before, root, proposal.
contract BatchedGasTest is BatchedFixture {
    /// @dev The last one is warm in every way.
    uint256 private constant ROUNDS = 4;
    /// @dev After so many rounds nearly all slots were written.
    uint256 private constant SPARSE_ROUNDS = 7;
    /// @dev Verdict words that one transaction settles where each writes new slots.
    uint256 private constant PART = 256;
    uint256 private constant TRANSACTION_LIMIT = 16_000_000;

    function setUp() public {
        setUpLedger();
    }

    function test_gas_batchedRound_1000() public {
        (uint256 first, uint256 warm) = _rounds(1000);
        vm.snapshotValue("FedLedger", "batched round of 1000, a participant, first", first);
        vm.snapshotValue("FedLedger", "batched round of 1000, a participant", warm);
        if (first > 7_000 || warm > 2_500) revert Differs("gas of 1000", first, warm);
    }

    function test_gas_batchedRound_100() public {
        (uint256 first, uint256 warm) = _rounds(100);
        vm.snapshotValue("FedLedger", "batched round of 100, a participant, first", first);
        vm.snapshotValue("FedLedger", "batched round of 100, a participant", warm);
        if (warm > 5_000) revert Differs("gas of 100", first, warm);
    }

    /// @dev Bids write no evidence and no credit: a round of them is cheaper than one that trains.
    function test_gas_biddingRound_100() public {
        uint256 count = 100;
        register(count);
        IFedLedger.TaskParams memory p = batched(uint16(count));
        (p.unitsPerRound, p.challengeWindow, p.biddingEvery) = (1_000_000, 0, 2);
        uint256 task = post(p);
        enrol(task, count);
        uint256 warm = 0;
        for (uint32 round = 1; round <= 5; ++round) {
            uint256 spent = _send(_opening(task, round));
            spent += _send(abi.encodeCall(ledger.closeCommits, (task, round, keccak256("root"), uint16(count), BATCH)));
            spent += _bidOrTrain(task, round, count, round % 2 == 1);
            if (round % 2 == 1) warm = spent / count;
        }
        vm.snapshotValue("FedLedger", "batched round of 100 for bids, a participant", warm);
        if (warm > 4_500) revert Differs("gas of bids", warm, 4_500);
    }

    function _bidOrTrain(uint256 task, uint32 round, uint256 count, bool bids) private returns (uint256 gas) {
        Outcome memory o = everybody(count, 500);
        for (uint256 i = 0; bids && i < o.verdictWords.length; ++i) {
            // Four times a verdict of one is one of four.
            o.verdictWords[i] = (o.verdictWords[i] >> 64 << 64) | ((o.verdictWords[i] & type(uint64).max) * 4);
            o.shareWords[i] = 0;
        }
        if (bids) o.proposal.model.digest = accounts.baseModel(task, round);
        IFedLedger.Updates memory u = updatesOf(count);
        bind(o, u);
        gas = _send(abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, u)));
        gas += _send(abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, ALL)));
    }

    /// @dev A thousand of 4,096 at random, others in every round; no transaction above what a block takes. Nine tenths of
    /// all slots of eight have one, and each slot's evidence and credits cost 10,000.
    function test_gas_batchedRound_sparse() public {
        (uint256 first, uint256 warm) = _sparseRounds(1000, 4096);
        vm.snapshotValue("FedLedger", "batched round of 1000 of 4096, a participant, first", first);
        vm.snapshotValue("FedLedger", "batched round of 1000 of 4096, a participant", warm);
        if (warm > 7_600) revert Differs("gas of 1000 of 4096", first, warm);
    }

    /// @dev As many as there may be: 1,024 of 4,096, and not one more of either.
    function test_gas_batchedRound_atTheLimits() public {
        _sparseRounds(1024, 4096);
        (uint32[] memory indices, uint256[] memory words) = _some(9, 1025, 4096);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.TooManySelected.selector, 1025));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.openRound(1, uint32(SPARSE_ROUNDS), indices, words);
        IFedLedger.TaskParams memory p = batched(4097);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, bytes32("maxParticipants")));
        vm.prank(PUBLISHER);
        accounts.postTask(p, NO_STANDBYS);
    }

    function _sparseRounds(uint256 count, uint256 among) private returns (uint256 first, uint256 warm) {
        register(among);
        IFedLedger.TaskParams memory p = batched(uint16(among));
        (p.unitsPerRound, p.challengeWindow, p.rounds) = (1_000_000, 0, uint32(SPARSE_ROUNDS));
        uint256 task = post(p);
        enrol(task, among);
        pass(100);
        for (uint32 round = 1; round < SPARSE_ROUNDS; ++round) {
            (uint32[] memory indices, uint256[] memory words) = _some(round, count, among);
            warm = _send(abi.encodeCall(ledger.openRound, (task, round, indices, words)));
            warm += _send(abi.encodeCall(ledger.closeCommits, (task, round, keccak256("root"), uint16(count), BATCH)));
            warm += _proposeAndSettle(task, round, count, words);
            if (round == 1) first = warm;
        }
        (first, warm) = (first / count, warm / count);
    }

    function _proposeAndSettle(uint256 task, uint32 round, uint256 count, uint256[] memory words)
        private
        returns (uint256 gas)
    {
        Outcome memory o = _selected(words);
        IFedLedger.Updates memory u = updatesOf(count);
        bind(o, u);
        gas = _send(abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, u)));
        // Where the first round writes new slots, later ones change them: those settle at once.
        bytes memory settle_ = abi.encodeCall(
            ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, round == 1 ? PART : ALL)
        );
        while (accounts.round(task, round).status == IFedLedger.RoundStatus.Proposed) {
            gas += _send(settle_);
        }
    }

    /// @dev `count` of the first `among`, drawn without replacement.
    function _some(uint256 seed, uint256 count, uint256 among)
        private
        pure
        returns (uint32[] memory indices, uint256[] memory words)
    {
        (indices, words) = (new uint32[](among / 256), new uint256[](among / 256));
        for (uint32 i = 0; i < indices.length; ++i) {
            indices[i] = i;
        }
        for (uint256 draw = 0; count > 0; ++draw) {
            uint256 id = uint256(keccak256(abi.encode(seed, draw))) % among;
            if ((words[id / 256] >> (id % 256)) & 1 != 0) continue;
            words[id / 256] |= 1 << (id % 256);
            --count;
        }
    }

    /// @dev All who were selected accepted, with pay of three bytes or less.
    function _selected(uint256[] memory words) private pure returns (Outcome memory o) {
        o = everybody(256 * words.length, 500);
        uint256 kept = 0;
        for (uint256 slot = 0; slot < o.verdictWords.length; ++slot) {
            uint256 bits = (words[slot / 32] >> (8 * (slot % 32))) & 0xff;
            if (bits == 0) continue;
            uint256 lanes = Lanes.spread(bits);
            o.verdictWords[kept] = (slot << 64) | lanes;
            o.shareWords[kept++] = o.shareWords[slot] & Lanes.widen(lanes);
        }
        (uint256[] memory verdictWords, uint256[] memory shareWords) = (o.verdictWords, o.shareWords);
        assembly ("memory-safe") {
            mstore(verdictWords, kept)
            mstore(shareWords, kept)
        }
    }

    function _rounds(uint256 count) private returns (uint256 first, uint256 warm) {
        register(count);
        IFedLedger.TaskParams memory p = batched(uint16(count));
        (p.unitsPerRound, p.challengeWindow, p.rounds) = (1_000_000, 0, uint32(ROUNDS));
        uint256 task = post(p);
        enrol(task, count);
        bytes[] memory both = new bytes[](2);
        _send(_opening(task, 1));
        for (uint32 round = 1; round < ROUNDS; ++round) {
            warm = _send(abi.encodeCall(ledger.closeCommits, (task, round, keccak256("root"), uint16(count), BATCH)));
            (warm, both[0]) = _propose(task, round, count, warm);
            // A round settles in the transaction that opens the next.
            both[1] = _opening(task, round + 1);
            warm += _send(abi.encodeCall(ledger.multicall, (both)));
            if (round == 1) first = warm;
        }
        (first, warm) = (first / count, warm / count);
    }

    function _opening(uint256 task, uint32 round) private view returns (bytes memory) {
        return abi.encodeCall(ledger.openRound, (task, round, new uint32[](0), new uint256[](0)));
    }

    function _propose(uint256 task, uint32 round, uint256 count, uint256 before)
        private
        returns (uint256 gas, bytes memory settlement)
    {
        Outcome memory o = everybody(count, 500);
        IFedLedger.Updates memory u = updatesOf(count);
        bind(o, u);
        bytes memory call_ =
            abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, u));
        gas = before + _send(call_);
        settlement = abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, ALL));
    }

    function _send(bytes memory data) private returns (uint256 gas) {
        gas = transact(AGGREGATOR, data);
        if (gas > TRANSACTION_LIMIT) revert Differs("gas of a transaction", gas, TRANSACTION_LIMIT);
    }
}
