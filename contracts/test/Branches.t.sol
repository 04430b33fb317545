// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {BatchedFixture} from "./Batched.t.sol";
import {vm} from "./Vm.sol";

/// @notice What no story of the other tests passes by.
contract BranchesTest is BatchedFixture {
    function setUp() public {
        setUpLedger();
        register(1);
    }

    function test_withdraw_toNobody_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.withdraw(COIN, address(0));
    }

    function test_rotateSignerAndSetPayout_toNobody_areRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.rotateSigner(address(0));
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        accounts.setPayout(address(0));
    }

    function test_participant_neverRegistered_isUnknown() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownParticipant.selector, 1));
        accounts.participant(1);
    }

    function test_completeExit_notRequested_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        accounts.completeExit();
    }

    /// @dev 96 bits hold every stake there can be; one wei more is refused, not truncated.
    function test_addStake_beyond96Bits_isRefused() public {
        uint96 most = type(uint96).max;
        vm.deal(owner(0), 2 * uint256(most));
        vm.prank(owner(0));
        accounts.addStake{value: most - STAKE}(most - STAKE);
        eq(accounts.participant(0).stake, most, "stake");
        refused(owner(0), abi.encodeWithSignature("Panic(uint256)", 0x11));
        accounts.addStake{value: 1}(1);
    }

    function test_announce_emits() public {
        vm.expectEmit(address(ledger));
        emit IFedLedger.EndpointAnnounced(AGGREGATOR, "https://example.org");
        vm.prank(AGGREGATOR);
        accounts.announce("https://example.org");
    }

    function test_propose_whileSomebodyMayCommit_isRefused() public {
        uint256 task = _batchedRound();
        Outcome memory o = accepted(4, 1);
        IFedLedger.Updates memory u = updatesOf(4);
        bind(o, u);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.CommitsAreOpen.selector));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, u);
        pass(10);
        close(task, 1, keccak256("root"), 3);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.StillAdmitting.selector, START + 10 + GRACE));
        vm.prank(AGGREGATOR, AGGREGATOR);
        ledger.proposeRound(task, 1, o.proposal, o.verdictWords, o.shareWords, u);
    }

    function test_void_whileTheRootMayCome_isRefused() public {
        uint256 task = _batchedRound();
        pass(19);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.NotOverdue.selector, task, 1));
        ledger.voidRound(task, 1);
    }

    function _batchedRound() private returns (uint256 task) {
        for (uint256 i = 1; i < 4; ++i) {
            vm.deal(owner(i), 10 ether);
            vm.prank(owner(i));
            accounts.register{value: STAKE}(signer(i), payout(i), STAKE);
        }
        task = post(batched(4));
        enrol(task, 4);
        openAll(task);
    }
}
