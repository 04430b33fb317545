// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice Gas of a participant in a whole batched round: opening with the settlement before, root, proposal.
/// @dev Counted as a chain does: 21,000 a transaction, 16 a calldata byte or 4 if it is zero, and execution from cold
/// storage.
contract BatchedGasTest is BatchedFixture {
    /// @dev The last one is warm in every way.
    uint256 private constant ROUNDS = 4;

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

    function _rounds(uint256 count) private returns (uint256 first, uint256 warm) {
        register(count);
        IFedLedger.TaskParams memory p = batched(uint16(count));
        (p.unitsPerRound, p.challengeWindow, p.rounds) = (1_000_000, 0, uint32(ROUNDS));
        uint256 task = post(p);
        enrol(task, count);
        bytes memory open_ = abi.encodeCall(ledger.openRound, (task, new uint32[](0), new uint256[](0)));
        bytes[] memory both = new bytes[](2);
        both[1] = open_;
        _send(open_);
        for (uint32 round = 1; round < ROUNDS; ++round) {
            warm = _send(abi.encodeCall(ledger.closeCommits, (task, round, keccak256("root"), uint16(count), BATCH)));
            (warm, both[0]) = _propose(task, round, count, warm);
            // A round settles in the transaction that opens the next.
            warm += _send(abi.encodeCall(ledger.multicall, (both)));
            if (round == 1) first = warm;
        }
        (first, warm) = (first / count, warm / count);
    }

    function _propose(uint256 task, uint32 round, uint256 count, uint256 before)
        private
        returns (uint256 gas, bytes memory settlement)
    {
        Outcome memory o = _everybody(count);
        IFedLedger.Updates memory u = updatesOf(count);
        bind(o, u);
        bytes memory call_ =
            abi.encodeCall(ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, u));
        gas = before + _send(call_);
        settlement = abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, ALL));
    }

    /// @dev Shares as they come: three bytes or less.
    function _everybody(uint256 count) private pure returns (Outcome memory o) {
        uint256 slots = (count + 7) / 8;
        (o.verdictWords, o.shareWords) = (new uint256[](slots), new uint256[](slots));
        for (uint256 i = 0; i < count; ++i) {
            o.verdictWords[i / 8] |= ((i / 8) << 64) * (i % 8 == 0 ? 1 : 0) | (1 << (8 * (i % 8)));
            o.shareWords[i / 8] |= (500 + i % 500) << (32 * (i % 8));
        }
        o.proposal.model = IFedLedger.ContentRef(keccak256(abi.encode(count)), 20_000);
        o.proposal.state = IFedLedger.ContentRef(keccak256("state"), 40_000);
        o.proposal.report = IFedLedger.ContentRef(keccak256("report"), 300_000);
    }

    function _send(bytes memory data) private returns (uint256 gas) {
        cool();
        vm.prank(AGGREGATOR, AGGREGATOR);
        (bool done,) = address(ledger).call(data);
        if (!done) revert Differs("call", 0, 0);
        gas = vm.lastCallGas().gasTotalUsed;
        gas += 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            gas += data[i] == 0 ? 4 : 16;
        }
    }
}
