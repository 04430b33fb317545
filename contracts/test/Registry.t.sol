// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CurrencyLibrary} from "../src/Currency.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {LedgerTest} from "./support/LedgerTest.sol";
import {Refuser} from "./support/Receivers.sol";
import {vm} from "./support/Vm.sol";

contract RegistryTest is LedgerTest {
    function test_register_first_givesAscendingIdsAndRecord() public {
        _register(0);
        _register(1);
        IFedLedger.Participant memory p = ledger.participant(1);
        assertEq(p.owner, _owner(1), "owner");
        assertEq(p.signer, _signer(1), "signer");
        assertEq(p.payout, _payout(1), "payout");
        assertEq(p.stake, MIN_STAKE, "stake");
        assertEq(p.registeredAt, _now(), "registered");
        assertEq(ledger.participantCount(), 2, "count");
        assertEq(ledger.idOfOwner(_owner(1)), 1, "by owner");
        assertEq(ledger.idOfSigner(_signer(1)), 1, "by signer");
        assertTrue(ledger.isActive(1), "active");
    }

    function test_register_twice_reverts() public {
        _register(0);
        _expect(IFedLedger.AlreadyRegistered.selector, _owner(0));
        vm.prank(_owner(0));
        ledger.register{value: MIN_STAKE}(_signer(1), _payout(1));
    }

    function test_register_zeroSignerOrPayout_reverts() public {
        _expect(IFedLedger.ZeroAddress.selector);
        ledger.register{value: MIN_STAKE}(address(0), _payout(0));
        _expect(IFedLedger.ZeroAddress.selector);
        ledger.register{value: MIN_STAKE}(_signer(0), address(0));
    }

    function test_register_belowLeastStake_reverts() public {
        _expect(IFedLedger.StakeTooSmall.selector, MIN_STAKE - 1, MIN_STAKE);
        ledger.register{value: MIN_STAKE - 1}(_signer(0), _payout(0));
    }

    function test_register_signerOfAnother_reverts() public {
        _register(0);
        vm.deal(_owner(1), 1 ether);
        _expect(IFedLedger.SignerTaken.selector, _signer(0));
        vm.prank(_owner(1));
        ledger.register{value: MIN_STAKE}(_signer(0), _payout(1));
    }

    function test_addStake_owner_adds() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.addStake{value: 3}();
        assertEq(ledger.participant(0).stake, MIN_STAKE + 3, "stake");
    }

    function test_addStake_stranger_reverts() public {
        _expect(IFedLedger.NotRegistered.selector, address(this));
        ledger.addStake{value: 3}();
    }

    function test_addStake_over96Bits_reverts() public {
        _register(0);
        vm.deal(_owner(0), 1 << 96);
        vm.expectRevert(abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, "stake"));
        vm.prank(_owner(0));
        ledger.addStake{value: (1 << 96) - MIN_STAKE}();
    }

    function test_rotateSigner_owner_freesTheOldOne() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.rotateSigner(_signer(9));
        assertEq(ledger.idOfSigner(_signer(9)), 0, "new signer");
        _expect(IFedLedger.NotRegistered.selector, _signer(0));
        ledger.idOfSigner(_signer(0));
        vm.deal(_owner(1), 1 ether);
        vm.prank(_owner(1));
        ledger.register{value: MIN_STAKE}(_signer(0), _payout(1));
        assertEq(ledger.idOfSigner(_signer(0)), 1, "old signer, new participant");
    }

    function test_rotateSigner_takenOrZeroOrStranger_reverts() public {
        _register(0);
        _register(1);
        _expect(IFedLedger.SignerTaken.selector, _signer(1));
        vm.prank(_owner(0));
        ledger.rotateSigner(_signer(1));
        _expect(IFedLedger.ZeroAddress.selector);
        vm.prank(_owner(0));
        ledger.rotateSigner(address(0));
        _expect(IFedLedger.NotRegistered.selector, _signer(0));
        vm.prank(_signer(0));
        ledger.rotateSigner(_signer(5));
    }

    function test_setPayout_owner_replaces() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.setPayout(_payout(9));
        assertEq(ledger.participant(0).payout, _payout(9), "payout");
        _expect(IFedLedger.ZeroAddress.selector);
        vm.prank(_owner(0));
        ledger.setPayout(address(0));
    }

    function test_completeExit_beforeDelay_reverts() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.requestExit();
        assertTrue(!ledger.isActive(0), "inactive at once");
        _skip(EXIT_DELAY - 1);
        _expect(IFedLedger.ExitNotDue.selector, _now() + 1);
        vm.prank(_owner(0));
        ledger.completeExit();
    }

    function test_completeExit_afterDelay_returnsWholeStakeByPull() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.addStake{value: 5}();
        _exit(0);
        assertEq(ledger.balanceOf(_owner(0)), MIN_STAKE + 5, "free balance");
        vm.prank(_owner(0));
        ledger.withdraw(_payout(7));
        assertEq(_payout(7).balance, MIN_STAKE + 5, "paid");
        assertEq(address(ledger).balance, 0, "ledger");
    }

    function test_completeExit_twice_reverts() public {
        _register(0);
        _exit(0);
        _expect(IFedLedger.NotRegistered.selector, _owner(0));
        vm.prank(_owner(0));
        ledger.completeExit();
    }

    function test_exit_cancelled_mustBeAskedAnew() public {
        _register(0);
        vm.prank(_owner(0));
        ledger.requestExit();
        _expect(IFedLedger.AlreadyExiting.selector, 0);
        vm.prank(_owner(0));
        ledger.requestExit();
        vm.prank(_owner(0));
        ledger.cancelExit();
        assertTrue(ledger.isActive(0), "active again");
        _skip(EXIT_DELAY);
        _expect(IFedLedger.NotExiting.selector, 0);
        vm.prank(_owner(0));
        ledger.completeExit();
        _expect(IFedLedger.NotExiting.selector, 0);
        vm.prank(_owner(0));
        ledger.cancelExit();
    }

    function test_register_afterExit_keepsIdAndFreesSigner() public {
        _register(0);
        _register(1);
        _exit(0);
        _expect(IFedLedger.NotRegistered.selector, _signer(0));
        ledger.idOfSigner(_signer(0));
        vm.prank(_owner(0));
        uint32 id = ledger.register{value: MIN_STAKE}(_signer(5), _payout(5));
        assertEq(id, 0, "same id");
        assertEq(ledger.participantCount(), 2, "no new id");
        assertTrue(ledger.isActive(0), "active");
    }

    function test_participant_unknown_reverts() public {
        _expect(IFedLedger.UnknownParticipant.selector, 0);
        ledger.participant(0);
    }

    function test_withdraw_nothing_reverts() public {
        _expect(IFedLedger.NothingToWithdraw.selector, address(this));
        ledger.withdraw(address(this));
    }

    function test_withdraw_toZero_reverts() public {
        ledger.deposit{value: 1}();
        _expect(IFedLedger.ZeroAddress.selector);
        ledger.withdraw(address(0));
    }

    function test_withdraw_receiverRefuses_hurtsOnlyItself() public {
        Refuser refuser = new Refuser();
        vm.deal(address(refuser), 5);
        vm.prank(address(refuser));
        ledger.deposit{value: 5}();
        vm.expectRevert(abi.encodeWithSelector(CurrencyLibrary.TransferFailed.selector, address(refuser), 5));
        refuser.withdraw(ledger);
        assertEq(ledger.balanceOf(address(refuser)), 5, "still there");
    }

    function test_transfer_plain_isRefused() public {
        (bool sent,) = address(ledger).call{value: 1 ether}("");
        assertTrue(!sent, "refused");
    }

    function testFuzz_deposits_allComeBack(uint96[8] memory amounts) public {
        uint256 total = 0;
        for (uint256 i = 0; i < 8; ++i) {
            vm.deal(_owner(i % 3), amounts[i]);
            vm.prank(_owner(i % 3));
            ledger.deposit{value: amounts[i]}();
            total += amounts[i];
        }
        uint256 before = _payout(0).balance;
        for (uint256 i = 0; i < 3; ++i) {
            if (ledger.balanceOf(_owner(i)) == 0) continue;
            vm.prank(_owner(i));
            ledger.withdraw(_payout(0));
            assertEq(ledger.balanceOf(_owner(i)), 0, "emptied");
        }
        assertEq(_payout(0).balance - before, total, "all came back");
        assertEq(address(ledger).balance, 0, "nothing left");
    }

    function _exit(uint256 i) private {
        vm.prank(_owner(i));
        ledger.requestExit();
        _skip(EXIT_DELAY);
        vm.prank(_owner(i));
        ledger.completeExit();
    }
}
