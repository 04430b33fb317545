// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Currency} from "../src/Currency.sol";
import {IFedLedger} from "../src/IFedLedger.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {vm} from "./Vm.sol";

/// @notice The seal of a task's validation set: who opens it when, and what becomes of its deposit.
contract SealsTest is CourtFixture {
    bytes32 private constant KEY = keccak256("key");
    uint96 private constant DEPOSIT = 0.3 ether + 1;
    uint32 private constant PERIOD = 50;
    uint256 private _task;

    function setUp() public {
        setUpCourt(0);
        _task = post(_sealed());
    }

    function test_postTask_takesTheDeposit() public {
        eq(court.sealOf(_task).deposit, DEPOSIT, "held");
        eq(accounts.task(_task).params.seal, keccak256(abi.encode(KEY)), "seal");
        eq(free(PUBLISHER), 0, "free");
        conserved();
        IFedLedger.TaskParams memory p = _sealed();
        bytes memory reason =
            abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, PUBLISHER, DEPOSIT - 1, DEPOSIT);
        refused(PUBLISHER, reason);
        accounts.postTask{value: budget(p) + DEPOSIT - 1}(p, NO_STANDBYS);
    }

    function test_openSeal_afterTheEnd_byAnyone_returnsTheDeposit() public {
        _finish();
        uint256 before = free(PUBLISHER);
        vm.expectEmit(address(ledger));
        emit IFedLedger.SealOpened(_task, KEY);
        vm.prank(OUTSIDER);
        court.openSeal(_task, KEY);
        eq(free(PUBLISHER) - before, DEPOSIT, "returned to the publisher");
        eq(free(OUTSIDER), 0, "and not to who opened it");
        eq(court.sealOf(_task).opened ? 1 : 0, 1, "opened");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SealAlreadyOpen.selector, _task));
        court.openSeal(_task, KEY);
        pass(PERIOD);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SealAlreadyOpen.selector, _task));
        court.forfeitSeal(_task);
        conserved();
    }

    function test_openSeal_beforeTheEnd_byThePublisherAlone() public {
        refused(AGGREGATOR, abi.encodeWithSelector(IFedLedger.TaskNotFinished.selector, _task));
        court.openSeal(_task, KEY);
        vm.prank(PUBLISHER);
        court.openSeal(_task, KEY);
        eq(free(PUBLISHER), DEPOSIT, "returned");
        _finish();
        conserved();
    }

    function testFuzz_openSeal_withAnotherKey_isRefused(bytes32 key) public {
        if (key == KEY) return;
        _finish();
        bytes32 seal = keccak256(abi.encode(KEY));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.WrongKey.selector, seal, keccak256(abi.encode(key))));
        court.openSeal(_task, key);
    }

    function test_openSeal_ofATaskWithoutOne_isRefused() public {
        uint256 task = post(defaults(4));
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NotSealed.selector, task));
        court.openSeal(task, KEY);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.NotSealed.selector, task));
        court.forfeitSeal(task);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.UnknownTask.selector, 99));
        court.openSeal(99, KEY);
    }

    function test_forfeitSeal_burnsTheDeposit_notBeforeThePeriodIsOver() public {
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.TaskNotFinished.selector, _task));
        court.forfeitSeal(_task);
        _finish();
        uint256 until = vm.getBlockTimestamp() + PERIOD;
        pass(PERIOD - 1);
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SealPeriodOpen.selector, until));
        court.forfeitSeal(_task);
        pass(1);
        uint256 before = free(PUBLISHER);
        vm.expectEmit(address(ledger));
        emit IFedLedger.SealForfeited(_task, DEPOSIT);
        vm.prank(OUTSIDER);
        court.forfeitSeal(_task);
        eq(burned(), DEPOSIT, "burned");
        eq(free(PUBLISHER), before, "nothing returned");
        refused(OUTSIDER, abi.encodeWithSelector(IFedLedger.SealAlreadyForfeited.selector, _task));
        court.forfeitSeal(_task);
        conserved();
    }

    /// @dev Late is better than never, and returns nothing.
    function test_openSeal_afterItWasForfeited_returnsNothing() public {
        _finish();
        pass(PERIOD);
        court.forfeitSeal(_task);
        uint256 before = free(PUBLISHER);
        vm.prank(PUBLISHER);
        court.openSeal(_task, KEY);
        IFedLedger.Seal memory s = court.sealOf(_task);
        eq(free(PUBLISHER), before, "nothing returned");
        eq(s.opened && s.forfeited ? 1 : 0, 1, "both");
        conserved();
    }

    function test_openSeal_lateButBeforeItIsForfeited_returnsTheDeposit() public {
        _finish();
        pass(2 * PERIOD);
        uint256 before = free(PUBLISHER);
        court.openSeal(_task, KEY);
        eq(free(PUBLISHER) - before, DEPOSIT, "returned");
    }

    function test_seal_withoutADeposit_canBeOpenedAndForfeited() public {
        IFedLedger.TaskParams memory p = _sealed();
        p.sealDeposit = 0;
        _task = post(p);
        _finish();
        pass(PERIOD);
        vm.expectEmit(address(ledger));
        emit IFedLedger.SealForfeited(_task, 0);
        court.forfeitSeal(_task);
        court.openSeal(_task, KEY);
        eq(burned(), 0, "burned");
    }

    function test_postTask_badSeal_isRefusedByName() public {
        IFedLedger.TaskParams memory p = _sealed();
        p.sealPeriod = 0;
        _refusedParameter(p, "sealPeriod");
        p.sealPeriod = 365 days + 1;
        _refusedParameter(p, "sealPeriod");
        (p.seal, p.sealPeriod) = (0, 0);
        _refusedParameter(p, "sealDeposit");
        (p.sealDeposit, p.sealPeriod) = (0, 1);
        _refusedParameter(p, "sealPeriod");
    }

    /// @dev The deposit is in the currency of stakes, whatever the task pays in.
    function test_postTask_paidInAToken_takesTheDepositInStakes() public {
        IFedLedger.TaskParams memory p = _sealed();
        p.token = Currency.wrap(address(0x70CE));
        uint256 wanted = budget(p);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InsufficientBalance.selector, PUBLISHER, 0, wanted));
        accounts.postTask{value: DEPOSIT}(p, NO_STANDBYS);
    }

    function _sealed() private pure returns (IFedLedger.TaskParams memory p) {
        p = defaults(4);
        (p.seal, p.sealDeposit, p.sealPeriod) = (keccak256(abi.encode(KEY)), DEPOSIT, PERIOD);
    }

    /// @dev It lies idle until anybody may end it.
    function _finish() private {
        pass(300);
        accounts.finishTask(_task);
    }

    function _refusedParameter(IFedLedger.TaskParams memory p, bytes32 name) private {
        vm.deal(PUBLISHER, PUBLISHER.balance + budget(p) + p.sealDeposit);
        refused(PUBLISHER, abi.encodeWithSelector(IFedLedger.InvalidParameter.selector, name));
        accounts.postTask{value: budget(p) + p.sealDeposit}(p, NO_STANDBYS);
    }
}
