// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerCourt} from "../src/LedgerCourt.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice Commitments on chain in batched rounds of which a second one opens before the first is final.
contract PledgesTest is BatchedFixture {
    uint256 private _task;

    function setUp() public {
        setUpLedger();
        register(3);
        IFedLedger.TaskParams memory p = batched(3);
        (p.maxUnfinal, p.challengeWindow) = (2, 50);
        _task = post(p);
        enrol(_task, 3);
        _commitOnChain(1);
    }

    /// @dev Else who commits on chain again could demand what the aggregator never held, and win its deposit.
    function test_demandCommitment_committedOnChainInALaterRoundToo_isRefused() public {
        Outcome memory o = _proposeAfterReveals(3);
        _commitOnChain(2);
        eq(accounts.hasCommitted(_task, 1, 0) ? 1 : 0, 1, "committed in the first round");
        IFedLedger.Posted memory posted = IFedLedger.Posted(o.proposal, o.verdictWords, o.shareWords);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotRefuted.selector));
        court.demandCommitment{value: 1 ether}(_task, 1, 0, posted);
    }

    /// @dev Who is called late can say that it was not, whatever it does in the next round.
    function test_revealUpdate_calledLateAndCommittedInALaterRoundToo_isRecorded() public {
        _proposeAfterReveals(2);
        _commitOnChain(2);
        reveal(_task, 1, 2);
        eq(accounts.revealedWord(_task, 1, 0), 7, "revealed");
    }

    function _commitOnChain(uint32 round) private {
        openAll(_task);
        pass(10);
        close(_task, round, bytes32(0), 0);
        for (uint256 i = 0; i < 3; ++i) {
            commit(_task, round, i);
        }
    }

    /// @dev Those who do not reveal are called late.
    function _proposeAfterReveals(uint256 count) private returns (Outcome memory o) {
        pass(GRACE);
        uint256[] memory judged = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            judged[i] = i < count ? 1 : 3;
            if (i < count) reveal(_task, 1, i);
        }
        pass(10);
        o = outcome(judged, new uint256[](3));
        proposeBatch(_task, 1, o, updatesOf(count));
    }
}
