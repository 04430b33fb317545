// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice What a participant of direct rounds pays. In a whole round: its commitment, its reveal, and its part of the
/// transaction that proposes, settles and opens the next.
contract DirectGasTest is Fixture {
    uint256 private constant COUNT = 100;
    uint256 private constant ROUNDS = 4;
    uint256 private constant LIMIT = 80_000;
    uint256 private constant WITHDRAWAL_LIMIT = 60_000;

    function setUp() public {
        setUpLedger();
        register(COUNT);
    }

    /// @dev To an account that there is already.
    function test_gas_withdrawCredit() public {
        vm.deal(payout(0), 1);
        uint256 task = post(defaults(2));
        enrol(task, 2);
        open(task, 3);
        commitAndReveal(task, 1, 2);
        propose(task, 1, accepted(2, 400));
        pass(5);
        settle(task, 1, accepted(2, 400));
        vm.cool(payout(0));
        uint256 gas = transact(OUTSIDER, abi.encodeCall(accounts.withdrawCredit, (task, 0)));
        eq(payout(0).balance, 400 gwei + 1, "paid");
        vm.snapshotValue("FedLedger", "withdrawCredit, whole transaction", gas);
        if (gas > WITHDRAWAL_LIMIT) revert Differs("gas of a withdrawal", gas, WITHDRAWAL_LIMIT);
    }

    function test_gas_directRound_100() public {
        IFedLedger.TaskParams memory p = defaults(uint16(COUNT));
        (p.unitsPerRound, p.challengeWindow, p.rounds) = (1_000_000, 0, uint32(ROUNDS));
        uint256 task = post(p);
        enrol(task, COUNT);
        bytes[] memory calls = new bytes[](3);
        transact(AGGREGATOR, _opening(task, 1));
        (uint256 first, uint256 warm) = (0, 0);
        for (uint32 round = 1; round < ROUNDS; ++round) {
            Outcome memory o = everybody(COUNT, 9_500);
            calls[0] = abi.encodeCall(
                ledger.proposeRound, (task, round, o.proposal, o.verdictWords, o.shareWords, NO_UPDATES)
            );
            calls[1] = abi.encodeCall(ledger.settleRound, (task, round, o.proposal, o.verdictWords, o.shareWords, ALL));
            calls[2] = _opening(task, round + 1);
            warm = _commitAndReveal(task, round);
            warm += transact(AGGREGATOR, abi.encodeCall(ledger.multicall, (calls)));
            if (round == 1) first = warm;
        }
        (first, warm) = (first / COUNT, warm / COUNT);
        vm.snapshotValue("FedLedger", "direct round of 100, a participant, first", first);
        vm.snapshotValue("FedLedger", "direct round of 100, a participant", warm);
        if (warm > LIMIT) revert Differs("gas of a direct round", warm, LIMIT);
    }

    function _opening(uint256 task, uint32 round) private view returns (bytes memory) {
        return abi.encodeCall(ledger.openRound, (task, round, new uint32[](0), new uint256[](0)));
    }

    function _commitAndReveal(uint256 task, uint32 round) private returns (uint256 gas) {
        for (uint256 i = 0; i < COUNT; ++i) {
            gas += transact(signer(i), abi.encodeCall(ledger.commitUpdate, (task, round, commitment(task, round, i))));
        }
        for (uint256 i = 0; i < COUNT; ++i) {
            gas += transact(signer(i), abi.encodeCall(ledger.revealUpdate, (task, round, update(i), SALT, NO_PROOF)));
        }
    }
}
