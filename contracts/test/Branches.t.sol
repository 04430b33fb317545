// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFedLedger} from "../src/IFedLedger.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice Refusals of the registry that no story of the other tests passes by.
contract BranchesTest is Fixture {
    function setUp() public {
        setUpLedger();
        register(1);
    }

    function test_withdraw_toNobody_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.withdraw(address(0));
    }

    function test_rotateSignerAndSetPayout_toNobody_areRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.rotateSigner(address(0));
        refused(owner(0), abi.encodeWithSelector(IFedLedger.ZeroAddress.selector));
        ledger.setPayout(address(0));
    }

    function test_participant_neverRegistered_isUnknown() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.UnknownParticipant.selector, 1));
        ledger.participant(1);
    }

    function test_completeExit_notRequested_isRefused() public {
        refused(owner(0), abi.encodeWithSelector(IFedLedger.NotExiting.selector, 0));
        ledger.completeExit();
    }

    /// @dev 96 bits hold every stake there can be; one wei more is refused, not truncated.
    function test_addStake_beyond96Bits_isRefused() public {
        uint256 most = type(uint96).max;
        vm.deal(owner(0), most + 1);
        refused(owner(0), abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, "stake"));
        ledger.addStake{value: most - STAKE + 1}();
        vm.prank(owner(0));
        ledger.addStake{value: most - STAKE}();
        eq(ledger.participant(0).stake, most, "stake");
    }
}
